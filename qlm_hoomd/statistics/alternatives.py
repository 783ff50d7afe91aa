"""Is <x_min>(N) a power law? The alternatives: a plateau of P(x) at small x, and a crossover from one to the other.

Ruscher & Rottler (2019) and Ferrero & Jagla (2020) find that after some loading the density of distances to instability does
not vanish at x -> 0 but levels off. The typical smallest of N distances solves N int_0^x P = 1:

* power law, P = (1 + theta) a x^theta:             x ~ N^(-1 / (1 + theta))
* plateau, P = p0:                                   x ~ N^-1
* crossover, P = p0 + (1 + theta) a x^theta:         N (p0 x + a x^(1 + theta)) = 1, a power law that turns into a plateau near
  N_x, where the two terms are equal

The minima of one size scatter about it like a Weibull variable whose shape is free and common to all sizes, for what the shape
says of theta depends on where along the strain the samples sit (App. G of Ji et al., PRE 99, 023003 (2019)).

Array suffixes: ``_s`` system sizes, ``_i`` minima, ``_r`` realisations, ``_g`` points of a grid of crossovers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from qlm_hoomd.base.display import Result
from qlm_hoomd.base.errors import InsufficientStatistics
from qlm_hoomd.statistics import weibull
from qlm_hoomd.statistics.errors import Floats
from qlm_hoomd.statistics.exponent import new_axes, outside_theory
from qlm_hoomd.statistics.exponents import MIN_REALISATIONS, MIN_SIZE_RATIO, MIN_SIZES
from qlm_hoomd.statistics.samples import ordered_samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DISFAVOURED = 0.05
"""p-value below which a scaling is said to be disfavoured against a more general one; nobody is convinced by it alone."""
EXCLUDED = 0.001
"""p-value below which it is said to be excluded."""
POOR_FIT = 0.01
"""p-value below which a scaling is said not to describe the minima."""
CAVEAT = (
    "A plateau whose height itself falls with a power of N gives a power law in N: no finite-size scaling tells it from a "
    "pseudo-gap, only the density of the distances themselves."
)
"""What the comparison cannot see."""

_LARGEST_THETA = 5.0
_REACH = 100.0  # crossovers are looked for up to this factor beyond the sizes


@dataclass(frozen=True)
class Scaling(Result):
    """One law for the scale of the minima against N.

    Args:
        name: ``power law``, ``plateau`` or ``crossover``.
        theta: exponent of P(x); 0 for the plateau.
        n_cross: the size N_x of the crossover; None for the others.
        scales: fitted scale of the minima at each size.
        deviance: twice the logarithm of the likelihood ratio to a free scale at each size, over ``dispersion``.
        aicc: Akaike's criterion with the correction for few realisations, relative to the best of the three.
        p_value: probability that minima of this law fit as badly as these, NaN where the law has as many parameters as there
            are sizes.
    """

    name: str
    theta: float
    n_cross: float | None
    scales: tuple[float, ...]
    deviance: float
    aicc: float
    p_value: float


@dataclass(frozen=True, repr=False)
class ScalingAlternatives(Result):
    """Power law, plateau and crossover, fitted to the same minima.

    Args:
        power_law, plateau, crossover: the three fits.
        p_plateau: probability that a plateau's minima favour the power law as much as these.
        p_power_law: probability that a power law's minima favour the crossover as much as these.
        n_cross_low, n_cross_high: sizes N_x between which the likelihood cannot exclude a crossover (at ``confidence``); 0
            where a plateau at all sizes is possible, infinite where a power law at all sizes is.
        theta_low, theta_high: interval of the power law's theta.
        confidence: of the intervals.
        verdict: what follows, in a sentence or two.
        caveat: what no finite-size scaling can see.
        sizes: particle numbers N, ascending.
        n_realisations: realisations at each size.
        scales: scale of the minima at each size, free.
        scale_errors: their standard errors.
        shape: of the Weibull law.
        dispersion: variance of the residuals over that of a Weibull law; the likelihood counts for so much less.
    """

    power_law: Scaling
    plateau: Scaling
    crossover: Scaling
    p_plateau: float
    p_power_law: float
    n_cross_low: float
    n_cross_high: float
    theta_low: float
    theta_high: float
    confidence: float
    verdict: str
    caveat: str
    sizes: tuple[int, ...]
    n_realisations: tuple[int, ...]
    scales: tuple[float, ...]
    scale_errors: tuple[float, ...]
    shape: float
    dispersion: float

    def _headline(self) -> str:
        return self.verdict

    @property
    def scalings(self) -> tuple[Scaling, ...]:
        """The three, the simplest first."""
        return self.plateau, self.power_law, self.crossover

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw the free scales with their standard errors and the three laws through them.

        Args:
            ax: where to draw; a new figure by default.
            style: passed to ``Axes.errorbar`` (``color``, ``marker``, ``label``, ...).

        Returns:
            The axes.
        """
        ax = new_axes() if ax is None else ax
        style = {"fmt": "o", "capsize": 2.5, **style}
        color = ax.errorbar(self.sizes, self.scales, yerr=self.scale_errors, **style)[0].get_color()
        n_curve = np.geomspace(self.sizes[0], self.sizes[-1], 32)
        laws = {"plateau": ":", "power law": "-", "crossover": "--"}
        for scaling in self.scalings:
            shape_s = _log_law(
                np.concatenate([np.array(self.sizes, dtype=np.float64), n_curve]), scaling.theta, scaling.n_cross
            )
            level = np.mean(np.log(scaling.scales) - shape_s[: len(self.sizes)])  # the law knows its form, the fit its height
            ax.plot(
                n_curve,
                np.exp(level + shape_s[len(self.sizes) :]),
                linestyle=laws[scaling.name],
                color=color,
                linewidth=1,
                label=f"{scaling.name} (AICc + {scaling.aicc:.1f})",
            )
        ax.set(xscale="log", yscale="log", xlabel="number of particles $N$", ylabel="scale of the minimum")
        return ax


def compare_scalings(
    samples: Mapping[int, ArrayLike], *, censored: Mapping[int, ArrayLike] | None = None, confidence: float = 0.95
) -> ScalingAlternatives:
    """Power law, plateau and crossover against each other, by the likelihood of all minima.

    The likelihood is divided by the scatter of the residuals over realisations, so that p-values and Akaike's criterion hold
    for minima that are no Weibull variables, and for several strain points of one realisation.

    Args:
        samples: for each N the minimum in each realisation ((R,) array, positive), or at S strains of each ((R, S) array).
        censored: for each N which minima are only lower limits (array of bool of the shape of the samples).
        confidence: probability content of the intervals.

    Raises:
        ValueError: if a minimum is not a positive finite number, or shapes do not fit.
        InsufficientStatistics: with the comparison inside where there is one: fewer than 3 sizes, sizes within a factor 3,
            fewer than 20 realisations at a size.
    """
    sizes, values_s, censored_s = ordered_samples(samples, censored)
    reasons = []
    if len(sizes) < MIN_SIZES:
        reasons.append(f"{len(sizes)} system sizes where at least {MIN_SIZES} are needed")
    elif sizes[-1] < MIN_SIZE_RATIO * sizes[0]:
        reasons.append(
            f"the largest size is {sizes[-1] / sizes[0]:.2g} times the smallest where a factor {MIN_SIZE_RATIO:g} is needed"
        )
    reasons += [
        f"{len(values_rs)} realisations at N = {size} where at least {MIN_REALISATIONS} are needed"
        for size, values_rs in zip(sizes, values_s, strict=True)
        if len(values_rs) < MIN_REALISATIONS
    ]
    result = _compare(sizes, weibull.gather(values_s, censored_s), confidence) if len(sizes) >= MIN_SIZES else None
    if result is None:
        reasons = reasons or ["minima without scatter"]
    if reasons:
        raise InsufficientStatistics("; ".join(reasons), result)
    assert result is not None
    return result


@dataclass(frozen=True)
class _Scales:
    """Free scale of the minima at each size, and all that fits of laws need of the minima."""

    n_s: Floats
    log_s: Floats
    count_s: Floats
    shape: float
    dispersion: float
    freedom: float

    def deviance(self, law_s: Floats) -> tuple[Floats, Floats]:
        """Deviance over the dispersion, and the best level, of laws ln scale = level + law_s ((..., S) array)."""
        # At a given shape the scales' likelihood is that of the mean of exponential variables, whose best level is known.
        power_s = self.shape * (self.log_s - law_s)
        top = power_s.max(axis=-1, keepdims=True)
        level = (top[..., 0] + np.log((self.count_s * np.exp(power_s - top)).sum(axis=-1) / self.count_s.sum())) / self.shape
        log_ratio_s = power_s - self.shape * level[..., None]
        return 2 * (self.count_s * (np.expm1(log_ratio_s) - log_ratio_s)).sum(axis=-1) / self.dispersion, level

    def p_value(self, deviance: float, n_parameters: int) -> float:
        """Probability of a larger deviance, for so many parameters."""
        return float(stats.f.sf(max(deviance, 0.0) / n_parameters, n_parameters, self.freedom)) if n_parameters else np.nan


def _compare(sizes: list[int], minima: weibull.Minima, confidence: float) -> ScalingAlternatives | None:
    fit = weibull.fit(minima, np.eye(len(sizes))[minima.group_i])
    if fit is None:
        return None
    n_realisations = minima.group_r.size
    excess_r = (fit.residuals_i - minima.observed_i).reshape(-1, minima.n_points).mean(axis=1)
    counted = float(np.mean(minima.observed_i))
    scales = _Scales(
        n_s=np.array(sizes, dtype=np.float64),
        log_s=fit.coefficients_p / fit.shape,
        count_s=np.asarray(np.bincount(minima.group_r) * counted, dtype=np.float64),
        shape=fit.shape,
        dispersion=float(np.sum(excess_r**2)) / ((n_realisations - len(sizes)) * counted),
        # The scatter of exponential residuals is known only as well as that of a quarter as many normal ones.
        freedom=n_realisations / 4,
    )
    largest = float(stats.f.ppf(confidence, 1, scales.freedom))

    def power(slope: float) -> float:
        return float(scales.deviance(-slope * np.log(scales.n_s))[0])

    lowest = optimize.minimize_scalar(power, bracket=(0.3, 1.0), tol=1e-10)
    slope, power_deviance = float(lowest.x), float(lowest.fun)
    slope_ends = [_crossing(power, slope, sign, power_deviance + largest) for sign in (-1.0, 1.0)]

    theta_g, n_cross_g = _grid(scales.n_s)
    deviance_g = scales.deviance(_log_law(scales.n_s, theta_g, n_cross_g))[0]
    best = np.unravel_index(np.argmin(deviance_g), deviance_g.shape)

    def crossover(parameters: Floats) -> float:
        theta, n_cross = np.exp(np.clip(parameters, *bounds))
        return float(scales.deviance(_log_law(scales.n_s, theta, n_cross))[0])

    bounds = np.log([[theta_g[0, 0], n_cross_g[0, 0]], [theta_g[-1, 0], n_cross_g[0, -1]]])
    start = np.log([theta_g[best[0], 0], n_cross_g[0, best[1]]])
    refined = optimize.minimize(crossover, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7})
    theta, n_cross = np.exp(np.clip(refined.x, *bounds))
    # The laws contain each other: at its far ends the crossover is the power law, or the plateau.
    plateau_deviance = power(1.0)
    crossover_deviance = min(float(refined.fun), plateau_deviance, power_deviance if slope <= 1.0 else np.inf)

    def profile(log_n_cross: float) -> float:
        """Deviance of the best crossover at a given N_x, above what the interval admits."""
        theta_range = bounds[0, 0], bounds[1, 0]
        best = optimize.minimize_scalar(lambda t: crossover(np.array([t, log_n_cross])), bounds=theta_range, method="bounded")
        return float(best.fun) - crossover_deviance - largest

    n_low, n_high = (
        limit
        if profile(end) <= 0 or profile(np.log(n_cross)) >= 0
        else float(np.exp(optimize.brentq(profile, end, np.log(n_cross), xtol=1e-3)))
        for end, limit in ((bounds[0, 1], 0.0), (bounds[1, 1], np.inf))
    )

    def scaling(name: str, law_s: Floats, deviance: float, n_parameters: int, theta: float, n_cross: float | None) -> Scaling:
        n_all = n_parameters + 1  # and the shape
        aicc = deviance + 2 * n_all + 2 * n_all * (n_all + 1) / max(n_realisations - n_all - 1, 1)
        with np.errstate(over="ignore"):  # of minima that scatter over hundreds of decades
            fitted_s = np.exp(scales.deviance(law_s)[1] + law_s)
        p_value = scales.p_value(deviance, max(len(sizes) - n_parameters, 0))
        return Scaling(name, theta, n_cross, tuple(fitted_s.tolist()), deviance, aicc, p_value)

    log_n_s = np.log(scales.n_s)
    fits = {
        "power_law": scaling("power law", -slope * log_n_s, power_deviance, 2, 1 / slope - 1 if slope > 0 else np.inf, None),
        "plateau": scaling("plateau", -log_n_s, plateau_deviance, 1, 0.0, None),
        "crossover": scaling(
            "crossover", _log_law(scales.n_s, theta, n_cross), crossover_deviance, 3, float(theta), float(n_cross)
        ),
    }
    # At its far ends the crossover has no parameters to spare.
    known = [law.p_value for law in fits.values() if np.isfinite(law.p_value)]
    fits["crossover"] = replace(fits["crossover"], p_value=max(known)) if len(sizes) > MIN_SIZES else fits["crossover"]
    lowest_aicc = min(law.aicc for law in fits.values())
    fits = {name: replace(law, aicc=law.aicc - lowest_aicc) for name, law in fits.items()}
    p_plateau = scales.p_value(plateau_deviance - power_deviance, 1)
    # A crossover bends one way only: half of all power laws would favour none.
    gain = power_deviance - crossover_deviance
    p_power_law = scales.p_value(gain, 1) / 2 if gain > 1e-6 else 1.0
    theta_low, theta_high = (1 / s - 1 if s > 0 else np.inf for s in reversed(slope_ends))
    result = ScalingAlternatives(
        **fits,
        p_plateau=p_plateau,
        p_power_law=p_power_law,
        n_cross_low=n_low,
        n_cross_high=n_high,
        theta_low=theta_low,
        theta_high=theta_high,
        confidence=confidence,
        verdict="",
        caveat=CAVEAT,
        sizes=tuple(sizes),
        n_realisations=tuple(np.bincount(minima.group_r).tolist()),
        scales=tuple(np.exp(scales.log_s).tolist()),
        scale_errors=tuple((np.exp(scales.log_s) * np.sqrt(scales.dispersion / scales.count_s) / scales.shape).tolist()),
        shape=scales.shape,
        dispersion=scales.dispersion,
    )
    return replace(result, verdict=_verdict(result))


def _grid(n_s: Floats) -> tuple[Floats, Floats]:
    """Crossovers to start from: theta ((A, 1) array) and N_x ((1, B) array)."""
    theta_g = np.geomspace(0.02, _LARGEST_THETA, 24)[:, None]
    n_cross_g = np.geomspace(n_s[0] / _REACH, n_s[-1] * _REACH, 96)[None, :]
    return theta_g, n_cross_g


def _log_law(n_s: Floats, theta: ArrayLike, n_cross: ArrayLike | None) -> Floats:
    """ln x up to a constant, where x solves N (p0 x + a x^(1 + theta)) = 1 and both terms are equal at ``n_cross``.

    Args:
        n_s: ((S,) array).
        theta: (array) exponent at small N.
        n_cross: (array) broadcast against ``theta``; None for the power law.

    Returns:
        Array of their shape and one more axis for the sizes.
    """
    theta = np.asarray(theta, dtype=np.float64)[..., None]
    if n_cross is None:
        return -np.log(n_s) / (1 + theta)
    target = np.log(np.asarray(n_cross, dtype=np.float64)[..., None] / n_s)
    # (u + u^(1 + theta)) / 2 = N_x / N for u = x / x(N_x); convex in ln u with a slope between 1 and 1 + theta: Newton cannot
    # miss.
    target, theta = np.broadcast_arrays(target, theta)
    log_u = np.maximum(target, target / (1 + theta))
    for _ in range(40):
        ratio = np.exp(np.clip(theta * log_u, -700, 700))
        step = (log_u + np.log1p(ratio) - np.log(2.0) - target) / (1 + theta * ratio / (1 + ratio))
        log_u = log_u - step
        if np.max(np.abs(step)) < 1e-12:
            break
    return np.asarray(log_u)


def _crossing(function: Any, centre: float, sign: float, level: float) -> float:
    """Where ``function`` of the slope reaches ``level`` on one side of its minimum, infinite where it does not within 5."""
    if function(centre + 5 * sign) < level:
        return sign * np.inf
    return float(optimize.brentq(lambda s: function(s) - level, centre, centre + 5 * sign))


def _verdict(result: ScalingAlternatives) -> str:
    span = f"N = {result.sizes[0]} to {result.sizes[-1]}"
    law = f"theta = {result.power_law.theta:.2f} [{result.theta_low:.2f}, {result.theta_high:.2f}]"
    if (outside := outside_theory("theta", result.power_law.theta)) is not None:
        law += f", {outside},"
    plateau = f"a plateau at all sizes is {_judged(result.p_plateau)}"
    judged = [fit for fit in result.scalings if np.isfinite(fit.p_value)]
    if judged and all(fit.p_value < POOR_FIT for fit in judged):
        best = max(judged, key=lambda fit: fit.p_value)
        return f"None of the three describes the minima over {span} (the best, the {best.name}: p = {best.p_value:.2g})."
    if result.p_power_law < DISFAVOURED:
        most = f" to {result.n_cross_high:.0f}" if result.n_cross_high < np.inf else " or beyond"
        where = f"near N = {result.crossover.n_cross:.0f} (possible: {result.n_cross_low:.0f}{most})"
        power = f"a single power law is {_judged(result.p_power_law)}"
        if result.p_plateau < DISFAVOURED:
            return f"Over {span} the minima turn from a power law towards a plateau {where}: {power}, and {plateau}."
        return f"Over {span} {power}; the data cannot tell a plateau at all sizes from a crossover to one {where}."
    if result.p_plateau >= DISFAVOURED:
        return f"The data cannot tell a power law from a plateau over {span}: {law} includes 0, the plateau (p = {result.p_plateau:.2g})."
    if result.power_law.theta < 0:
        return (
            f"Over {span} the minima fall more steeply with N than a plateau of P(x) allows: {law}; {plateau}. No density "
            "of distances that is the same at every size does that."
        )
    later = f"at N = {result.n_cross_low:.0f} or beyond" if result.n_cross_low > 0 else "that is broad"
    return f"A power law with {law} describes the minima over {span}; {plateau}. A crossover to a plateau {later} is not."


def _judged(p_value: float) -> str:
    return f"{'excluded' if p_value < EXCLUDED else 'disfavoured'} (p = {p_value:.2g})"
