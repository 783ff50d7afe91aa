"""The density of quasi-localised modes D_L(omega), the exponent alpha of its low-frequency tail, and the phonons beside it.

Frequencies are in units of sqrt(epsilon / m) / length. Equations and appendices are those of Ji et al., PRE 99, 023003 (2019).

Array suffixes: ``_r`` realisations, ``_m`` modes, ``_b`` bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from qlm_hoomd.base.display import Result, counted, in_words
from qlm_hoomd.base.errors import InsufficientStatistics
from qlm_hoomd.statistics.errors import RESAMPLES, SEED, Floats, ordinary_least_squares, poisson_interval
from qlm_hoomd.statistics.exponent import Exponent, new_axes
from qlm_hoomd.statistics.exponents import MIN_REALISATIONS
from qlm_hoomd.statistics.plane_waves import PLANE_WAVE
from qlm_hoomd.statistics.power_law import alpha_of, inside, log_length, power_integral, standard_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIN_MODES = 50
"""Modes in the fit window: the error of alpha is (1 + alpha) / sqrt(n), 0.7 at 50 modes."""
PAPER_PARTICIPATION_NUMBER = 2000.0
"""N e_c of the paper: e_c = 0.125 at N = 16000 and 0.0625 at N = 32000."""
OMEGA_MAX = 1.0
"""Default upper end of the fit window: the apparent prefactor of omega^4 in this glass falls when it is raised beyond 1."""
BINS_PER_DECADE = 12
"""Logarithmic bins of the paper's estimator."""
LEAST_SQUARES_COUNT = 5
"""Modes that a bin must hold to take part in the paper's estimator."""
DEPENDENT_MODES = 1.5
"""The interval over realisations is said to contradict independent modes where it is this many times as long as theirs."""
_BATCH_DRAWS = 4_000_000  # realisations drawn at once by the bootstrap: 32 MB


@dataclass(frozen=True, repr=False)
class DensityOfStates(Result):
    """Density of modes per frequency, normalised to one over all 3 N modes of a glass.

    Args:
        edges: ((B + 1,) tuple) bin edges.
        counts: ((B,) tuple) modes in each bin, over all realisations.
        density: counts / (3 N realisations width).
        low, high: Poisson (one standard deviation) interval of the density.
        n_particles: N.
        n_realisations: realisations that were counted.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    density: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n_particles: int
    n_realisations: int

    def _headline(self) -> str:
        modes, realisations = counted(sum(self.counts), "mode"), counted(self.n_realisations, "realisation")
        return f"{modes} of {realisations} of N = {self.n_particles}, omega {self.edges[0]:.4g} to {self.edges[-1]:.4g}"

    @property
    def centres(self) -> Floats:
        """((B,) ndarray) geometric centres of the bins."""
        edges_b = np.asarray(self.edges)
        return np.asarray(np.sqrt(edges_b[1:] * edges_b[:-1]))

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw the occupied bins with their counting errors on logarithmic axes.

        Args:
            ax: where to draw; a new figure by default.
            style: passed to ``Axes.errorbar``.

        Returns:
            The axes.
        """
        ax = new_axes() if ax is None else ax
        # A difference of densities may be negative, which no logarithmic axis shows.
        occupied_b = (np.asarray(self.counts) > 0) & (np.asarray(self.density) > 0)
        density, low, high = (np.asarray(values)[occupied_b] for values in (self.density, self.low, self.high))
        style = {"fmt": "o", **style}
        ax.errorbar(self.centres[occupied_b], density, yerr=(density - np.maximum(low, 0.0), high - density), **style)
        ax.set(xscale="log", yscale="log", xlabel=r"frequency $\omega$", ylabel=r"$D_L(\omega)$")
        return ax


@dataclass(frozen=True, repr=False)
class SpectrumFit(Result):
    """The exponent of D_L(omega) ~ omega^alpha within a window of frequencies.

    Args:
        exponent: maximum likelihood with the interval of the bootstrap over realisations: the one to quote.
        likelihood: the same estimate with the error of n independent modes, (1 + alpha) / sqrt(n) for a window from 0.
        least_squares: the paper's estimate: ordinary least squares on the logarithms of the density in logarithmic bins, with
            Student's t, from the upper end of the window down to where a bin holds fewer than 5 modes: the logarithm of a small
            count is biased, and that of none does not exist. A bin of 5 modes weighs as much as one of hundreds. None with
            fewer than three bins.
        n_modes: modes in the window.
        edges: ((B + 1,) tuple) edges of the bins, from the lower end of the window (or below the softest mode) to its upper
            one.
        counts: ((B,) tuple) modes in each bin, over all realisations.
    """

    _also: ClassVar[tuple[str, ...]] = ("disagreement",)

    exponent: Exponent
    likelihood: Exponent
    least_squares: Exponent | None
    n_modes: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def _headline(self) -> str:
        lower, upper = self._window
        return f"{in_words(self.exponent)} from {counted(self.n_modes, 'mode')}, omega {lower:.4g} to {upper:.4g}"

    @property
    def estimators(self) -> tuple[Exponent, ...]:
        """Every estimate of the exponent, the one to quote first."""
        return tuple(e for e in (self.exponent, self.least_squares, self.likelihood) if e is not None)

    @property
    def disagreement(self) -> str | None:
        """What the estimators disagree about, None where they agree.

        They disagree where neither the quoted interval holds the value of least squares nor the interval of least squares the
        quoted value, and where the interval of the bootstrap is more than 1.5 times as long as that of independent modes.
        """
        found = []
        squares, quoted = self.least_squares, self.exponent
        if squares is not None and not (
            quoted.low <= squares.value <= quoted.high or squares.low <= quoted.value <= squares.high
        ):
            found.append(
                f"maximum likelihood gives {quoted.value:.2f}, least squares on the binned density {squares.value:.2f}, each "
                "outside the interval of the other"
            )
        if DEPENDENT_MODES * self.likelihood.half_width < quoted.half_width < np.inf:
            found.append(
                f"the interval over realisations is {quoted.half_width / self.likelihood.half_width:.1f} times that of "
                "independent modes: the modes of one realisation depend on each other"
            )
        return "; ".join(found) or None

    def curve(self, omega: ArrayLike) -> Floats:
        """Fitted modes per realisation and unit of frequency at ``omega`` (array of any shape, positive).

        Divide by 3 N for D_L.
        """
        lower, upper = self._window
        alpha = self.exponent.value
        # The integral of (omega / upper)^alpha over the window, by the same logarithmic variable as the fit.
        holds = upper * power_integral(1.0 + alpha, lower / upper)
        return self.n_modes / (self._n_realisations * holds) * (np.asarray(omega, dtype=np.float64) / upper) ** alpha

    def plot(self, ax: Axes | None = None, *, n_particles: int | None = None, dimensions: int = 3, **style: Any) -> Axes:
        """Draw the binned density with its counting errors and the fitted power law.

        Args:
            ax: where to draw; a new figure by default.
            n_particles: N, by which the density becomes D_L; without it, it is that of modes per realisation.
            dimensions: d, for the d N modes that there are.
            style: passed to ``Axes.errorbar``.

        Returns:
            The axes.
        """
        ax = new_axes() if ax is None else ax
        edges_b, counts_b = np.asarray(self.edges), np.asarray(self.counts)
        states = 1.0 if n_particles is None else float(dimensions) * n_particles
        unit_b = states * self._n_realisations * np.diff(edges_b)
        low_b, high_b = poisson_interval(counts_b)
        seen_b = counts_b > 0
        density_b = (counts_b / unit_b)[seen_b]
        error = (density_b - (low_b / unit_b)[seen_b], (high_b / unit_b)[seen_b] - density_b)
        centre_b = np.sqrt(edges_b[1:] * edges_b[:-1])
        points = ax.errorbar(centre_b[seen_b], density_b, yerr=error, **{"fmt": "o", "capsize": 2.5, **style})
        omega = np.geomspace(edges_b[0], edges_b[-1], 64)
        ax.plot(omega, self.curve(omega) / states, color=points[0].get_color(), linewidth=1)
        ylabel = "modes per realisation and frequency" if n_particles is None else r"$D_L(\omega)$"
        ax.set(xscale="log", yscale="log", xlabel=r"frequency $\omega$", ylabel=ylabel)
        return ax

    @property
    def _window(self) -> tuple[float, float]:
        assert self.exponent.window is not None
        return self.exponent.window

    @property
    def _n_realisations(self) -> int:
        assert isinstance(self.exponent.n_realisations, int)
        return self.exponent.n_realisations


def default_participation_threshold(n_particles: int) -> float:
    """Participation ratio e_c above which a mode counts as a phonon, where the user sets none: min(2000 / N, 1 / 3).

    The paper's two thresholds are one participation number, N e_c = 2000. Below N = 6000 that would exceed half the
    participation ratio 2/3 of a standing plane wave, and soon filter nothing; there half of 2/3 separates the two kinds of
    modes. In rapidly quenched glasses of N = 500 to 2000 (124 samples) hardly a mode below omega = 1 exceeds 1/3 (1 of about
    140; at N = 500 one in six exceeds 1/4), while the middle half of those at the first phonon has 0.35 to 0.48. The paper
    found its results robust to changes of e_c by 20 %; the report repeats that check.
    """
    return min(PAPER_PARTICIPATION_NUMBER / n_particles, PLANE_WAVE / 2)


def density_of_states(
    frequencies: ArrayLike, *, n_particles: int, n_realisations: int, omega_max: float, bins_per_decade: int = 12,
    dimensions: int = 3,
) -> DensityOfStates:  # fmt: skip
    """D_L(omega) = counts / (d N realisations d omega) in logarithmic bins that end at ``omega_max``.

    Args:
        frequencies: ((n,) array) modes of all realisations together; those that are not in (0, ``omega_max``] are left out.
        n_particles: N.
        n_realisations: realisations the modes come from, those without a mode included.
        omega_max: up to where every realisation's modes are known.
        bins_per_decade: of the frequency.
        dimensions: d, for the d N modes that there are.

    Raises:
        ValueError: if no mode is in the range.
    """
    omega_m = np.asarray(frequencies, dtype=np.float64)
    omega_m = omega_m[(omega_m > 0) & (omega_m <= omega_max)]
    if omega_m.size == 0:
        raise ValueError(f"no mode in 0 < omega <= {omega_max:g}.")
    n_bins = int(np.floor(np.log10(omega_max / omega_m.min()) * bins_per_decade)) + 1
    edges_b = omega_max * 10.0 ** (np.arange(-n_bins, 1) / bins_per_decade)
    counts_b = np.histogram(omega_m, bins=edges_b)[0]
    states = float(dimensions) * n_particles * n_realisations * np.diff(edges_b)
    low_b, high_b = poisson_interval(counts_b)
    return DensityOfStates(
        edges=tuple(edges_b.tolist()),
        counts=tuple(counts_b.tolist()),
        density=tuple((counts_b / states).tolist()),
        low=tuple((low_b / states).tolist()),
        high=tuple((high_b / states).tolist()),
        n_particles=n_particles,
        n_realisations=n_realisations,
    )


def alpha_from_spectrum(
    frequencies: Sequence[ArrayLike],
    omega_max: float,
    *,
    omega_min: float = 0.0,
    confidence: float = 0.95,
    warnings: Sequence[str] = (),
) -> SpectrumFit:
    """The exponent of D_L(omega) ~ omega^alpha on ``omega_min`` < omega <= ``omega_max`` by maximum likelihood.

    The mean of ln(omega / omega_max) over the modes is all that the likelihood of a power law within a window knows of them.
    With ``omega_min`` = 0, alpha = -1 - n / sum ln(omega / omega_max); else alpha is where the expectation is that mean. No
    bins are involved. The order of the realisations does not matter.

    The interval is that of the studentised bootstrap over realisations, on the logit of the mean's place within the window (its
    logarithm, where the window starts at 0). In synthetic ensembles of 20 realisations with 4 to 5 independent modes each a
    95 % interval then covers in 95 %; the bias-corrected and accelerated bootstrap does in 91 to 92 %.

    Args:
        frequencies: for each realisation its quasi-localised modes ((n,) array each, empty where there are none).
        omega_max: upper end, up to which every realisation's modes are known.
        omega_min: lower end, 0 by default.
        confidence: probability content of the intervals.
        warnings: to be carried by the result.

    Raises:
        ValueError: unless 0 <= omega_min < omega_max.
        InsufficientStatistics: with fewer than 50 modes in the window or 20 realisations, or where the interval has no end; the
            estimate, if any, is inside.
    """
    if not 0.0 <= omega_min < omega_max < np.inf:
        raise ValueError(f"window from omega = {omega_min:g} to {omega_max:g}; expected 0 <= omega_min < omega_max.")
    inside_rm = [inside(values, omega_min, omega_max) for values in frequencies]
    count_r = np.array([omega_m.size for omega_m in inside_rm], dtype=np.float64)
    depth_r = np.array([-np.log(omega_m / omega_max).sum() for omega_m in inside_rm])
    order_r = np.lexsort((depth_r, count_r))  # a resample is a draw of places; the order of the realisations must not matter
    count_r, depth_r = count_r[order_r], depth_r[order_r]
    n_modes, n_realisations = int(count_r.sum()), len(inside_rm)
    where = f"below omega = {omega_max:.3g}" if omega_min == 0.0 else f"in {omega_min:.3g} < omega <= {omega_max:.3g}"
    reasons = []
    if n_modes < MIN_MODES:
        reasons.append(f"{n_modes} modes {where} where at least {MIN_MODES} are needed")
    if n_realisations < MIN_REALISATIONS:
        reasons.append(f"{n_realisations} realisations where at least {MIN_REALISATIONS} are needed")
    length = log_length(omega_min, omega_max)
    if n_modes < 2 or not 0.0 < depth_r.sum() < n_modes * length:
        raise InsufficientStatistics("; ".join(reasons) or f"all modes {where} lie at one end of it")

    alpha = float(alpha_of(depth_r.sum() / n_modes, length))
    shallow, deep = _studentised_interval(count_r, depth_r, length, confidence)
    low, high = (float(value) for value in alpha_of(np.array([deep, shallow]), length))
    reach = float(stats.norm.ppf(0.5 + confidence / 2)) * standard_error(alpha, length, n_modes)
    window = (float(omega_min), float(omega_max))
    edges_b = _edges(np.concatenate(inside_rm), omega_min, omega_max)
    counts_b = np.histogram(np.concatenate(inside_rm), bins=edges_b)[0]
    if not np.isfinite(high - low):
        reasons.append("the bootstrap over realisations finds no end of the interval")

    exponent = Exponent(
        "alpha",
        alpha,
        low,
        high,
        confidence,
        f"maximum likelihood on {n_modes} modes of the filtered spectrum, studentised bootstrap over realisations",
        n_realisations,
        window,
        tuple(warnings),
    )
    result = SpectrumFit(
        exponent=exponent,
        likelihood=replace(
            exponent,
            low=alpha - reach,
            high=alpha + reach,
            estimator=f"maximum likelihood on {n_modes} modes of the filtered spectrum taken as independent",
            warnings=(),
        ),
        least_squares=_least_squares(exponent, edges_b, counts_b),
        n_modes=n_modes,
        edges=tuple(edges_b.tolist()),
        counts=tuple(counts_b.tolist()),
    )
    if result.disagreement is not None:
        result = replace(result, exponent=replace(exponent, warnings=(*exponent.warnings, result.disagreement)))
    if reasons:
        raise InsufficientStatistics("; ".join(reasons), result)
    return result


def _studentised_interval(count_r: Floats, depth_r: Floats, length: float, confidence: float) -> tuple[float, float]:
    """Interval of the mean depth sum(depth) / sum(count) under resampling of realisations: smaller and larger end.

    Bootstrap-t (Efron 1981) of y = ln(mean / (1 - mean / length)), whose error hardly depends on its value. Resamples without a
    mode, or without scatter, count as infinitely far on either side.
    """
    n = count_r.size
    if n < 2:
        return 0.0, length
    products_rk = np.stack([count_r, depth_r, depth_r**2, depth_r * count_r, count_r**2], axis=1)

    def of_sums(sums: Floats) -> tuple[Floats, Floats]:
        """y and its standard error."""
        count, depth, dd, dc, cc = sums.T
        mean = depth / count
        rest = 1.0 - mean / length
        square = np.maximum(dd - 2.0 * mean * dc + mean**2 * cc, 0.0)  # sum over realisations of (depth - mean count)^2
        return np.log(mean / rest), np.sqrt(square) / (count * mean * rest)

    rng = np.random.default_rng(SEED)
    batch = max(1, _BATCH_DRAWS // n)
    parts = []
    # An end beyond what exp can hold is an end at 0.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        y, error = of_sums(products_rk.sum(axis=0))
        for start in range(0, RESAMPLES, batch):
            rows = min(batch, RESAMPLES - start)
            drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
            weight = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
            y_b, error_b = of_sums(weight.astype(np.float64) @ products_rk)
            parts.append((y_b - y) / error_b)
        t_b = np.concatenate(parts)
        known = np.isfinite(t_b)
        place = round((RESAMPLES + 1) * (1.0 - confidence) / 2.0) - 1
        below, above = np.sort(np.where(known, t_b, -np.inf))[place], np.sort(np.where(known, t_b, np.inf))[-1 - place]
        small, large = 1.0 / (1.0 / length + np.exp([above * error - y, below * error - y]))
    return float(small), float(large)


def _edges(omega_m: Floats, lower: float, upper: float) -> Floats:
    """Edges of logarithmic bins, about 12 per decade, from ``lower``, or from below the softest mode, to ``upper``."""
    if lower > 0.0:
        n_bins = max(4, round(BINS_PER_DECADE * np.log10(upper / lower)))
        return np.geomspace(lower, upper, n_bins + 1)
    n_bins = int(np.floor(np.log10(upper / omega_m.min()) * BINS_PER_DECADE)) + 1
    return np.asarray(upper * 10.0 ** (np.arange(-n_bins, 1) / BINS_PER_DECADE))


def _least_squares(quoted: Exponent, edges_b: Floats, counts_b: NDArray[np.int64]) -> Exponent | None:
    """The paper's fit to the logarithms of the density, from the upper end down to where a bin holds fewer than 5 modes."""
    poor_b = np.flatnonzero(counts_b < LEAST_SQUARES_COUNT)
    first = int(poor_b[-1]) + 1 if poor_b.size else 0
    if counts_b.size - first < 3:
        return None
    centre_b, density_b = np.sqrt(edges_b[1:] * edges_b[:-1])[first:], (counts_b / np.diff(edges_b))[first:]
    line = ordinary_least_squares(np.log(centre_b), np.log(density_b), quoted.confidence)
    return replace(
        quoted,
        value=line.slope,
        low=line.low,
        high=line.high,
        estimator=f"ordinary least squares on the logarithms of the density in {centre_b.size} bins, Student's t",
        window=(float(edges_b[first]), float(edges_b[-1])),
        warnings=(),
    )
