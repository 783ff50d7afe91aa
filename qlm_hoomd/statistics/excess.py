"""D_G: the density of quasi-localised modes above the first phonon band, by the levels between the bands.

Equations and appendices are those of Ji et al., PRE 99, 023003 (2019). Array suffixes: ``_r`` realisations, ``_m`` modes,
``_b`` bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from qlm_hoomd.base.display import Result, in_words
from qlm_hoomd.base.errors import InsufficientStatistics
from qlm_hoomd.statistics.errors import Floats, poisson_interval
from qlm_hoomd.statistics.exponent import Exponent
from qlm_hoomd.statistics.exponents import MIN_REALISATIONS
from qlm_hoomd.statistics.plane_waves import PHONON_MARGIN, Phonons
from qlm_hoomd.statistics.spectra import DensityOfStates, density_of_states

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEVERAL_BANDS = 3
"""Phonon bands that a bin must hold for its plane waves to be those of a large solid."""
MIN_BINS, MAX_BINS = 3, 8
"""Bins for D_G: two parameters leave nothing to judge them by with fewer than 3."""


@dataclass(frozen=True, repr=False)
class ExcessFit(Result):
    """The exponent of D_G(omega) = D - D_Debye ~ omega^alpha, from bins above the first phonon band.

    Args:
        exponent: Poisson maximum likelihood on the bins: the one to quote. Its interval is that of the scatter of realisations
            (sandwich, Student's t) with the error of the moduli, and on either side twice the distance to ``counted``.
        likelihood: the same estimate with the error of counting alone.
        counted: the estimate with the plane waves of the bands in each bin, which are known by number, for the Debye level:
            what it differs by is the error of taking a box for a large solid.
        amplitude: A of D_G = A omega^alpha.
        density: D_G in the bins, no filter.
        bands: ((B,) tuple) phonon bands in each bin.
        p_value: of the counts about the fit, by Pearson's chi^2.
    """

    exponent: Exponent
    likelihood: Exponent
    counted: Exponent
    amplitude: float
    density: DensityOfStates
    bands: tuple[int, ...]
    p_value: float

    def _headline(self) -> str:
        return f"{in_words(self.exponent)} from {in_words(self.density)}"

    @property
    def estimators(self) -> tuple[Exponent, ...]:
        """Every estimate of the exponent, the one to quote first."""
        return (self.exponent, self.counted, self.likelihood)

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw D_G with its counting errors and the fitted power law.

        Args:
            ax: where to draw; a new figure by default.
            style: passed to ``Axes.errorbar``.

        Returns:
            The axes.
        """
        ax = self.density.plot(ax, **style)
        omega = np.geomspace(self.density.edges[0], self.density.edges[-1], 32)
        ax.plot(omega, self.amplitude * omega**self.exponent.value, color=ax.lines[0].get_color(), linewidth=1)
        ax.set(ylabel=r"$D_G(\omega)$")
        return ax


def excess_density(
    frequencies: ArrayLike,
    plane_waves: Phonons,
    *,
    n_particles: int,
    n_realisations: int,
    omega_max: float,
    bins_per_decade: int = 6,
) -> DensityOfStates:
    """D_G(omega) = D - D_Debye: modes beyond the plane waves, hybridised ones included, without any filter.

    Source: Lerner, Moriel, Bouchbinder, arXiv:2404.12735. The Debye level is that of a large solid; a bin should hold
    several bands of phonons (:meth:`Phonons.bands`), and below the first band D_G comes out too low by the Debye level. The
    intervals are those of counting; an error of the sound speeds, which enter as their d-th power, comes on top.

    Args:
        frequencies: all modes of all realisations together, phonons included.
        plane_waves: of the solid.
        n_particles: N.
        n_realisations: realisations the modes come from, those without a mode included.
        omega_max: up to where every realisation's modes are known.
        bins_per_decade: of the frequency.

    Raises:
        ValueError: if no mode is in the range.
    """
    everything = density_of_states(
        frequencies,
        n_particles=n_particles,
        n_realisations=n_realisations,
        omega_max=omega_max,
        bins_per_decade=bins_per_decade,
        dimensions=plane_waves.dimensions,
    )
    edges_b = np.asarray(everything.edges)
    debye_b = plane_waves.debye_share(edges_b) / np.diff(edges_b)
    return replace(
        everything,
        density=tuple((np.asarray(everything.density) - debye_b).tolist()),
        low=tuple((np.asarray(everything.low) - debye_b).tolist()),
        high=tuple((np.asarray(everything.high) - debye_b).tolist()),
    )


def alpha_from_excess(
    frequencies: Sequence[ArrayLike],
    plane_waves: Phonons,
    omega_max: float,
    *,
    n_particles: int,
    omega_min: float = 0.0,
    debye_error: float = 0.0,
    confidence: float = 0.95,
    warnings: Sequence[str] = (),
) -> ExcessFit:
    """The exponent of D_G = D - D_Debye, without any filter: bins of all modes against A omega^alpha plus the Debye level.

    Source of D_G: Lerner, Moriel, Bouchbinder, arXiv:2404.12735. The Debye level is that of a large solid, so that every bin
    must hold several bands; the bins end midway between bands. Below the first band there are no plane waves and D_G is D:
    there, :func:`alpha_from_spectrum` without a filter answers the same question.

    A box is no large solid: with 3 to 5 bands in a bin the Debye level puts alpha 0.06 to 0.2 too low, which no scatter shows.
    Hence the second fit to the plane waves that the bands have by number, and an interval that is longer by twice the
    difference: it then holds the truth in 98 to 100 % of synthetic ensembles (N = 64000 and 256000, 20 to 100 realisations,
    bands 3 % wide), and that of the scatter alone in 1 to 55 %.

    Args:
        frequencies: for each realisation all its modes, phonons included ((n,) array each).
        plane_waves: of the glass.
        omega_max: upper end, up to which every realisation's modes are known.
        n_particles: N.
        omega_min: bands below are left out, and the bins start midway between two bands; else at 0.9 of the first one.
        debye_error: relative standard error of the Debye level, which is d times that of the speed of sound.
        confidence: probability content of the intervals.
        warnings: to be carried by the result.

    Raises:
        InsufficientStatistics: with fewer than 3 bins of 3 bands each, or 20 realisations; where the Debye level leaves no
            excess. The estimate, if any, is inside.
    """
    n_realisations = len(frequencies)
    edges_b, bands_b, waves_b = _bins_of_bands(plane_waves, omega_min, omega_max)
    reasons = []
    if bands_b.size < MIN_BINS or bands_b.min() < SEVERAL_BANDS:
        reasons.append(
            f"{bands_b.sum()} phonon bands up to omega = {omega_max:.3g} where a Debye level needs at least {MIN_BINS} bins of "
            f"{SEVERAL_BANDS} bands each"
        )
    if n_realisations < MIN_REALISATIONS:
        reasons.append(f"{n_realisations} realisations where at least {MIN_REALISATIONS} are needed")
    if bands_b.size < MIN_BINS or n_realisations < 2:
        raise InsufficientStatistics("; ".join(reasons))
    states = float(plane_waves.dimensions) * n_particles
    count_rb = np.array([np.histogram(np.asarray(values), bins=edges_b)[0] for values in frequencies], dtype=np.float64)
    count_b = count_rb.sum(axis=0)
    debye_b = plane_waves.debye_share(edges_b)
    level = _fit_above_level(count_rb, edges_b, states * debye_b)
    if level is None:
        raise InsufficientStatistics("; ".join([*reasons, "the Debye level leaves no excess"]))
    counted = _fit_above_level(count_rb, edges_b, waves_b)
    if counted is None:
        raise InsufficientStatistics("; ".join([*reasons, "the plane waves of the bands leave no excess"]))
    quantile = float(stats.t.ppf(0.5 + confidence / 2, n_realisations - 1))
    reach = quantile * float(np.hypot(level.error, level.of_level * debye_error)) + 2.0 * abs(level.alpha - counted.alpha)
    exponent = Exponent(
        "alpha",
        level.alpha,
        level.alpha - reach,
        level.alpha + reach,
        confidence,
        f"Poisson maximum likelihood of A omega^alpha plus the Debye level on {int(count_b.sum())} modes in {count_b.size} "
        "bins, error over realisations and of the level",
        n_realisations,
        (float(edges_b[0]), float(edges_b[-1])),
        tuple(warnings),
    )
    counting = float(stats.norm.ppf(0.5 + confidence / 2)) * level.counting
    low_b, high_b = poisson_interval(count_b)
    unit_b, level_b = n_realisations * states * np.diff(edges_b), debye_b / np.diff(edges_b)
    result = ExcessFit(
        exponent=exponent,
        likelihood=replace(
            exponent,
            low=level.alpha - counting,
            high=level.alpha + counting,
            estimator=exponent.estimator.replace("error over realisations and of the level", "error of counting"),
            warnings=(),
        ),
        counted=replace(
            exponent,
            value=counted.alpha,
            low=counted.alpha - quantile * counted.error,
            high=counted.alpha + quantile * counted.error,
            estimator=exponent.estimator.replace("the Debye level", "the plane waves of the bands").removesuffix(
                " and of the level"
            ),
            warnings=(),
        ),
        amplitude=level.amplitude / states,
        density=DensityOfStates(
            edges=tuple(edges_b.tolist()),
            counts=tuple(count_b.astype(int).tolist()),
            density=tuple((count_b / unit_b - level_b).tolist()),
            low=tuple((low_b / unit_b - level_b).tolist()),
            high=tuple((high_b / unit_b - level_b).tolist()),
            n_particles=n_particles,
            n_realisations=n_realisations,
        ),
        bands=tuple(bands_b.tolist()),
        p_value=float(stats.chi2.sf(level.chi2, count_b.size - 2)),
    )
    if reasons:
        raise InsufficientStatistics("; ".join(reasons), result)
    return result


def _bins_of_bands(plane_waves: Phonons, lower: float, upper: float) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Edges of bins between bands of the undeformed cube, the bands in each, and the plane waves in each.

    8 bins at most, of 3 bands at least; a lower edge lies midway between two bands, or at 0.9 of the very first one.
    """
    bands = plane_waves.bands(1.5 * upper)  # beyond the end, for the gap that the last bin ends in
    place = np.array([band.frequency for band in bands])
    waves = np.array([band.degeneracy for band in bands], dtype=np.float64)
    gap = np.concatenate([[PHONON_MARGIN * plane_waves.first_frequency], 0.5 * (place[1:] + place[:-1])])
    first, last = np.searchsorted(gap, [lower, upper * (1.0 + 1e-12)])
    first, n_bands = int(first), max(int(last) - 1 - int(first), 0)
    size = max(SEVERAL_BANDS, -(-n_bands // MAX_BINS))
    starts = first + size * np.arange(max(n_bands // size, 1 if n_bands else 0))
    stops = np.append(starts[1:], first + n_bands) if starts.size else starts
    edges_b = gap[np.append(starts, stops[-1:])]
    return edges_b, stops - starts, np.array([waves[a:b].sum() for a, b in zip(starts, stops, strict=True)])


@dataclass(frozen=True)
class _LevelFit:
    """A omega^alpha plus a known level: alpha, A in modes per realisation, standard errors of alpha, and chi^2.

    ``error`` is over realisations, ``counting`` that of Poisson counts, ``of_level`` the shift of alpha per relative change of
    the level.
    """

    alpha: float
    amplitude: float
    error: float
    counting: float
    of_level: float
    chi2: float


def _fit_above_level(count_rb: Floats, edges_b: Floats, level_b: Floats) -> _LevelFit | None:
    """Poisson maximum likelihood of A omega^alpha plus ``level_b`` modes per realisation; None where no excess is left."""
    n, top = len(count_rb), float(edges_b[-1])
    count_b = count_rb.sum(axis=0)
    excess = count_b.sum() / n - level_b.sum()
    if not excess > 0.0:
        return None

    def holds(alpha: float) -> Floats:
        """Integral of (omega / top)^alpha over each bin."""
        return np.asarray(np.diff(top * (edges_b / top) ** (1.0 + alpha)) / (1.0 + alpha))

    def expected(parameters: Floats) -> Floats:
        """Modes per realisation at (ln A top^alpha, alpha)."""
        return np.exp(parameters[0]) * holds(float(parameters[1])) + level_b

    def cost(parameters: Floats) -> float:
        mean_b = n * expected(parameters)
        return float(np.sum(mean_b - count_b * np.log(mean_b)))

    start = np.array([np.log(excess / holds(4.0).sum()), 4.0])
    bounds = [(start[0] - 20.0, start[0] + 20.0), (-0.9, 20.0)]
    best = optimize.minimize(cost, start, method="Nelder-Mead", bounds=bounds, options={"xatol": 1e-8, "fatol": 1e-9}).x
    alpha, mean_b, step = float(best[1]), expected(best), 1e-5
    slope_bk = np.stack(
        [(np.log(expected(best + step * e)) - np.log(expected(best - step * e))) / (2.0 * step) for e in np.eye(2)], axis=1
    )
    covariance = np.linalg.inv(slope_bk.T @ (n * mean_b[:, None] * slope_bk))
    # The sandwich: what each realisation adds to the slope of the likelihood scatters by itself, whatever the counts do.
    score_rk = (count_rb - mean_b) @ slope_bk
    robust = covariance @ (score_rk.T @ score_rk * n / (n - 1.0)) @ covariance
    return _LevelFit(
        alpha=alpha,
        amplitude=float(np.exp(best[0]) * top**-alpha),
        error=float(np.sqrt(robust[1, 1])),
        counting=float(np.sqrt(covariance[1, 1])),
        of_level=float((covariance @ (slope_bk.T @ (n * level_b)))[1]),
        chi2=float(np.sum((count_b - n * mean_b) ** 2 / (n * mean_b))),
    )
