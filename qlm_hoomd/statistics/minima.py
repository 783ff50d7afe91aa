"""theta' and alpha': how the distributions of gamma_min and omega_min themselves vanish at zero (App. G).

Equation numbers and appendices refer to Ji et al., PRE 99, 023003 (2019).

Array suffixes: ``_rs`` realisations and their strain points, ``_r`` realisations, ``_i`` minima, ``_w`` minima within the
window, ``_b`` bins, ``_k`` resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from qlm_hoomd.base.display import Displayed, Result, in_words
from qlm_hoomd.base.errors import InsufficientStatistics
from qlm_hoomd.statistics import weibull
from qlm_hoomd.statistics.errors import RESAMPLES, SEED, Floats, poisson_interval
from qlm_hoomd.statistics.exponent import Exponent, new_axes
from qlm_hoomd.statistics.exponents import MIN_REALISATIONS, POOR_FIT
from qlm_hoomd.statistics.samples import ordered_samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIN_WINDOW = 20
"""Realisations with a minimum inside the window. The exponent plus one is then known to 22 %."""
WINDOW_POWER = 0.6
"""The window holds the smallest n^0.6 of n minima. The error of counting falls with the size of the window and the bias from
what ends the power law grows with it; at n^(2/3) the two fall together, below it the bias is the smaller one. For Weibull
minima it is
then a sixth of the error with 200 minima and a tenth with 4000."""
MAX_CENSORED = 0.5
"""Share of minima at any size that lie beyond what was looked at; the median, which sets the scale, is unknown beyond it."""
BINS_PER_DECADE = 5


@dataclass(frozen=True, repr=False)
class MinimaHistogram(Displayed):
    """Density of the minima over their median, in logarithmic bins.

    Args:
        edges: ((B + 1,) tuple) of the bins.
        counts: ((B,) tuple) minima in each bin.
        density: ((B,) tuple) probability density.
        low, high: ((B,) tuples) 68 % interval of counting (Garwood). Where several points belong to one realisation, a bin
            holds fewer independent ones: the variance is that of a sum of independent clusters.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    density: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def _headline(self) -> str:
        return f"{sum(self.counts)} minima in {len(self.counts)} bins"


@dataclass(frozen=True, repr=False)
class MinimaDistribution(Result):
    """How the density of a minimum vanishes at zero, P(x_min) ~ x_min^exponent.

    Args:
        exponent: maximum likelihood of a power law that is cut at the end of the window; interval by studentised bootstrap over
            realisations.
        weibull: shape - 1 of a Weibull law of all minima, with a scale of its own for each size: the likelihood of their
            ratios, from which the scales drop out. Precise, and right only for samples that sit just behind an event: what is
            left of a Weibull interval at a given strain looks much like a Weibull variable too, of a shape that is not its
            exponent at zero, and ``weibull_p`` needs thousands of minima to tell.
        weibull_p: probability that Weibull minima fit as badly as these.
        histogram: of all minima, each over the median of its size.
        window: smallest and largest minimum of the fit, over the median of its size.
        n_window: minima within the window.
        drift_p: probability that a power law's local exponent differs as much between the lower and the upper half of the
            window.
        sizes: particle numbers N, ascending.
        n_realisations: realisations at each size.
        n_points: strain points of each realisation.
        scales: medians at each size, in the units of the samples.
    """

    exponent: Exponent
    weibull: Exponent
    weibull_p: float
    histogram: MinimaHistogram
    window: tuple[float, float]
    n_window: int
    drift_p: float
    sizes: tuple[int, ...]
    n_realisations: tuple[int, ...]
    n_points: int
    scales: tuple[float, ...]

    def _headline(self) -> str:
        return f"{in_words(self.exponent)} from {self.n_window} minima in the window"

    def curve(self, x: ArrayLike) -> Floats:
        """The fitted power law's density at ``x`` (array, over the median), meant for x within the window."""
        total = sum(self.n_realisations) * self.n_points
        shape = 1.0 + self.exponent.value
        end = self.window[1]
        return self.n_window / total * shape / end * (np.asarray(x, dtype=np.float64) / end) ** (shape - 1.0)

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw the histogram with its errors of counting, and the power law over its window.

        Args:
            ax: where to draw; a new figure by default.
            style: passed to ``Axes.errorbar`` (``color``, ``marker``, ``label``, ...).

        Returns:
            The axes.
        """
        ax = new_axes() if ax is None else ax
        edges, density = np.array(self.histogram.edges), np.array(self.histogram.density)
        errors = np.array([density - self.histogram.low, self.histogram.high - density])
        seen = density > 0
        style = {"fmt": "o", "capsize": 2.5, **style}
        points = ax.errorbar(np.sqrt(edges[1:] * edges[:-1])[seen], density[seen], yerr=errors[:, seen], **style)
        x = np.geomspace(*self.window, 32)
        ax.plot(x, self.curve(x), color=points[0].get_color(), linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel="minimum / median", ylabel="probability density")
        return ax


def minima_exponent(
    samples: Mapping[int, ArrayLike],
    *,
    name: Literal["theta_prime", "alpha_prime"],
    censored: Mapping[int, ArrayLike] | None = None,
    confidence: float = 0.95,
    warnings: Sequence[str] = (),
) -> MinimaDistribution:
    """theta' of P(gamma_min) ~ gamma_min^theta', or alpha' of D_L(omega_min) ~ omega_min^alpha' (App. G).

    The minima of all sizes are pooled, each over the median of its size. The window starts at the smallest and holds the lowest
    n^0.6 of n minima; while the local exponent drifts from its lower to its upper half (p < 0.01), it is halved.

    Args:
        samples: for each N the minimum in each realisation ((R,) array, positive), or at S strains of each ((R, S) array).
        name: of the exponent.
        censored: for each N which minima are only lower limits (array of bool of the shape of the samples).
        confidence: probability content of the intervals.
        warnings: to be carried by the result.

    Raises:
        ValueError: if a minimum is not a positive finite number, or shapes do not fit.
        InsufficientStatistics: with the estimate inside where there is one: fewer than 20 realisations at a size or in the
            window, a drift that does not end, half of the minima censored.
    """
    sizes, values_s, censored_s = ordered_samples(samples, censored)
    if not sizes:
        raise InsufficientStatistics("no minima")
    cut = [
        f"{np.count_nonzero(cut_rs)} of {cut_rs.size} at N = {size}"
        for size, cut_rs in zip(sizes, censored_s, strict=True)
        if np.count_nonzero(cut_rs) >= MAX_CENSORED * cut_rs.size
    ]
    if cut:
        raise InsufficientStatistics(f"no minimum within what was looked at in {', '.join(cut)}: not even the median is known")
    scales = [float(np.median(values_rs)) for values_rs in values_s]
    values_s = [values_rs / scale for values_rs, scale in zip(values_s, scales, strict=True)]
    minima = weibull.gather(values_s, censored_s)
    if np.count_nonzero(minima.observed_i) < 4:
        raise InsufficientStatistics(
            f"{np.count_nonzero(minima.observed_i)} minima where {MIN_WINDOW} within the window are needed"
        )
    end, drift_p = _window(minima)
    within_i = minima.log_i < end
    if not np.any(within_i):
        raise InsufficientStatistics(
            f"the {np.count_nonzero(minima.log_i <= end)} smallest minima are all equal; a density at 0 needs them resolved"
        )
    notes = list(warnings)
    n_censored = int(np.count_nonzero(~minima.observed_i))
    if n_censored:
        notes.append(f"{n_censored} of {minima.observed_i.size} minima are lower limits")
    power_law = Exponent(
        name=name,
        value=np.nan,
        low=-np.inf,
        high=np.inf,
        confidence=confidence,
        estimator="truncated power law of the smallest minima, studentised bootstrap over realisations",
        n_realisations={size: len(values_rs) for size, values_rs in zip(sizes, values_s, strict=True)},
        window=(float(np.exp(minima.log_i[within_i].min())), float(np.exp(end))),
        warnings=tuple(notes),
    )
    value, low, high = _truncated_power_law(minima, end, confidence)
    all_minima, weibull_p = _weibull_shape(minima, replace(power_law, window=None), confidence)
    result = MinimaDistribution(
        exponent=replace(power_law, value=value, low=low, high=high),
        weibull=all_minima,
        weibull_p=weibull_p,
        histogram=_histogram(minima),
        window=(float(np.exp(minima.log_i[within_i].min())), float(np.exp(end))),
        n_window=int(np.count_nonzero(within_i)),
        drift_p=drift_p,
        sizes=tuple(sizes),
        n_realisations=tuple(len(values_rs) for values_rs in values_s),
        n_points=minima.n_points,
        scales=tuple(scales),
    )
    reasons = [
        f"{n} realisations at N = {size} where at least {MIN_REALISATIONS} are needed"
        for size, n in zip(result.sizes, result.n_realisations, strict=True)
        if n < MIN_REALISATIONS
    ]
    n_inside = np.unique(minima.realisation_i[within_i]).size
    if n_inside < MIN_WINDOW:
        reasons.append(f"{n_inside} realisations with a minimum in the window where at least {MIN_WINDOW} are needed")
    if drift_p < POOR_FIT:
        reasons.append(f"the local exponent drifts within every window tried (p = {drift_p:.2g})")
    if reasons:
        raise InsufficientStatistics("; ".join(reasons), result)
    return result


def predicted_alpha_prime(theta_prime: Exponent) -> Exponent:
    """App. G: alpha' = 4 theta' + 3, with the ends of the interval of theta'.

    A small omega_min belongs to a sample that happens to sit close to its instability, so that no passive mode interferes and
    the relation has no kink.
    """

    def alpha(value: float) -> float:
        return 4.0 * value + 3.0

    return replace(
        theta_prime,
        name="alpha_prime",
        value=alpha(theta_prime.value),
        low=alpha(theta_prime.low),
        high=alpha(theta_prime.high),
        estimator=f"4 theta' + 3 ({theta_prime.estimator})",
        window=None,
    )


def _window(minima: weibull.Minima) -> tuple[float, float]:
    """Logarithm of the end of the window, and the p-value of the drift within it."""
    log_i = np.sort(minima.log_i)
    # Beyond the first lower limit nobody knows which minima are missing.
    limits_i = minima.log_i[~minima.observed_i]
    n_known = int(np.searchsorted(log_i, limits_i.min())) if limits_i.size else log_i.size - 1
    count = max(2, min(round(log_i.size**WINDOW_POWER), n_known))
    while True:
        drift_p = _drift(log_i[: count + 1], minima.n_points)
        if drift_p >= POOR_FIT or count // 2 < MIN_WINDOW:
            return float(log_i[count]), drift_p
        count //= 2


def _drift(log_w: Floats, n_points: int) -> float:
    """p-value of equal exponents in the two halves of the window; ``log_w`` ascending, its last value the end of the window.

    In a power law the spacings of the logarithms, each times its rank, are independent exponential variables (Renyi), and the
    ratio of two of their means is Fisher's F. Points of one realisation count as one.
    """
    spacing_w = np.arange(1, log_w.size) * np.diff(log_w)
    half = spacing_w.size // 2
    lower, upper = float(np.mean(spacing_w[:half])), float(np.mean(spacing_w[half:]))
    if lower <= 0 or upper <= 0:
        return 0.0
    freedom = 2 * half / n_points, 2 * (spacing_w.size - half) / n_points
    below = float(stats.f.cdf(lower / upper, *freedom))
    return 2 * min(below, 1 - below)


def _truncated_power_law(minima: weibull.Minima, end: float, confidence: float) -> tuple[float, float, float]:
    """Exponent and interval from n / sum ln(end / x), Hill's estimate of exponent + 1, over the minima below the end of the window."""
    within_i = minima.log_i < end
    # (R, 2) count and sum of logarithms of each realisation: the estimate is a ratio of sums over realisations.
    sums_rc = (
        np.stack([within_i, np.where(within_i, end - minima.log_i, 0.0)], axis=-1).reshape(-1, minima.n_points, 2).sum(axis=1)
    )
    count, total = sums_rc.sum(axis=0)
    # (count - 1) / total has no bias in a power law.
    value = (count - 1) / total - 1.0
    scatter = float(np.sqrt(np.sum((sums_rc @ [1 / count, -1 / total]) ** 2)))
    rng = np.random.default_rng(SEED)
    sums_kc, squares_kcc = np.zeros((RESAMPLES, 2)), np.zeros((RESAMPLES, 2, 2))
    for group in range(minima.group_r.max() + 1):
        own_rc = sums_rc[minima.group_r == group]
        inside_rc = own_rc[own_rc[:, 0] > 0]
        if not inside_rc.size:
            continue
        # How often a resample of the group draws each realisation that has anything in the window.
        chances = np.append(np.full(len(inside_rc), 1 / len(own_rc)), 1 - len(inside_rc) / len(own_rc))
        times_kr = rng.multinomial(len(own_rc), chances, size=RESAMPLES)[:, :-1].astype(np.float64)
        sums_kc += times_kr @ inside_rc
        squares_kcc += (times_kr @ np.einsum("rc,rd->rcd", inside_rc, inside_rc).reshape(-1, 4)).reshape(-1, 2, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights_kc = np.stack([1 / sums_kc[:, 0], -1 / sums_kc[:, 1]], axis=1)
        error_k = np.sqrt(np.maximum(np.einsum("kc,kcd,kd->k", weights_kc, squares_kcc, weights_kc), 0.0))
        t_k = np.abs(np.log(sums_kc[:, 0] / sums_kc[:, 1]) - np.log(count / total)) / error_k
    reach = scatter * float(np.quantile(np.where(np.isnan(t_k), np.inf, t_k), confidence, method="higher"))
    if reach > 50.0:  # most resamples leave nothing in the window
        return float(value), -1.0, np.inf
    return float(value), float((value + 1) * np.exp(-reach) - 1), float((value + 1) * np.exp(reach) - 1)


def _weibull_shape(minima: weibull.Minima, blank: Exponent, confidence: float) -> tuple[Exponent, float]:
    """Shape - 1 of all minima, each size with a scale of its own, and the p-value of the law."""
    blank = replace(blank, estimator="shape - 1 of a Weibull law of all minima, likelihood of their ratios")
    group_i = minima.group_i
    design_ip = np.eye(minima.group_r.max() + 1)[group_i]
    fit = weibull.fit(minima, design_ip)
    n_realisations, n_groups = minima.group_r.size, design_ip.shape[1]
    observed_s = design_ip.T @ minima.observed_i / minima.n_points
    if fit is None or observed_s.sum() <= n_groups + 1:
        return blank, np.nan

    def slope(log_shape: float) -> float:
        shape = np.exp(log_shape)
        power_i = np.exp(shape * (minima.log_i - minima.log_i.max()))
        mean_s = (design_ip.T @ (power_i * minima.log_i)) / (design_ip.T @ power_i)
        known = np.sum(minima.log_i[minima.observed_i]) / minima.n_points
        return float((observed_s.sum() - n_groups) / shape + known - observed_s @ mean_s)

    # Integrated over the scales, each size has one observation less: without this the shape comes out some per cent too large.
    centre = np.log(fit.shape)
    shape = float(np.exp(optimize.brentq(slope, centre - 2.0, centre + 0.1)))
    influence_r = fit.influence_rp[:, 0] / fit.shape
    error = float(np.sqrt(np.sum(influence_r**2) * n_realisations / (n_realisations - n_groups - 1)))
    reach = error * float(stats.t.ppf(0.5 + confidence / 2, n_realisations / 4))
    p_value = weibull.goodness(minima, design_ip)
    notes = blank.warnings
    if p_value < POOR_FIT:
        notes = (
            *notes,
            f"the minima do not follow a Weibull law (p = {p_value:.2g}), so that its shape is not the exponent at zero",
        )
    ends = (shape * np.exp(-reach) - 1, shape * np.exp(reach) - 1)
    return replace(blank, value=shape - 1, low=float(ends[0]), high=float(ends[1]), warnings=notes), p_value


def _histogram(minima: weibull.Minima) -> MinimaHistogram:
    decades_i = minima.log_i / np.log(10.0)
    first, last = np.floor(BINS_PER_DECADE * decades_i.min()), np.floor(BINS_PER_DECADE * decades_i.max()) + 1
    edges = 10 ** (np.arange(first, last + 1) / BINS_PER_DECADE)
    bin_i: NDArray[np.intp] = np.floor(BINS_PER_DECADE * decades_i[minima.observed_i]).astype(np.intp) - int(first)
    shape = (edges.size - 1, minima.group_r.size)
    cell_i = np.ravel_multi_index((bin_i, minima.realisation_i[minima.observed_i]), shape)
    counts_br = np.bincount(cell_i, minlength=shape[0] * shape[1]).reshape(shape)
    counts_b = counts_br.sum(axis=1)
    cluster_b = np.where(counts_b > 0, (counts_br**2).sum(axis=1) / np.maximum(counts_b, 1), 1.0)
    low_b, high_b = poisson_interval(counts_b / cluster_b)
    to_density_b = 1 / (minima.log_i.size * np.diff(edges))
    return MinimaHistogram(
        edges=tuple(edges.tolist()),
        counts=tuple(counts_b.tolist()),
        density=tuple((counts_b * to_density_b).tolist()),
        low=tuple((low_b * cluster_b * to_density_b).tolist()),
        high=tuple((high_b * cluster_b * to_density_b).tolist()),
    )
