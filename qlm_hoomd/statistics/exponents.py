"""Exponents from extreme values: theta from the strain to the next instability, alpha from the softest quasi-localised mode.

Equation numbers and appendices refer to Ji et al., PRE 99, 023003 (2019).

Three estimators stand side by side. The quoted one is the slope of the log means with a symmetric studentised bootstrap over
realisations; the paper's least squares has the same slope where all sizes have equally many realisations, and an interval that
knows only the scatter of the means about the line; maximum likelihood takes all minima for Weibull variables whose scale falls
with N. ``tests/physics/coverage_theta.py`` measures how often each interval holds the truth.

Array suffixes: ``_s`` system sizes, ``_r`` realisations, ``_rs`` realisations and their strain points, ``_i`` minima.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from qlm_hoomd.base.display import Result, in_words
from qlm_hoomd.base.errors import InsufficientStatistics
from qlm_hoomd.statistics import weibull
from qlm_hoomd.statistics.errors import Floats, log_mean_contrast, mean_and_standard_error, ordinary_least_squares
from qlm_hoomd.statistics.exponent import Exponent, new_axes
from qlm_hoomd.statistics.samples import THEORY, independent_values, leverage, ordered_samples, weibull_scatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIN_SIZES = 3
"""Two sizes always lie on a line, so that nothing tells whether it is a power law."""
MIN_SIZE_RATIO = 3.0
"""Largest over smallest size. Over less, drifts that vanish with N cannot be told from the exponent."""
MIN_REALISATIONS = 20
"""Per size. A single mean is then known to 15 % (the scatter of the minimum is about 0.7 of its mean), and the quoted interval
covers the truth in 94 to 96 % of synthetic ensembles, whether the minima are Weibull variables, recurrence times or
log-normal."""
MAX_SLOPE_ERROR = {"theta": 0.08, "alpha": 0.024}
"""Largest standard error of the slope, by the design, with which an exponent is quoted: 12 % of the slope that the theory expects, 2/3 for theta = 1/2 and 1/5 for alpha = 4, whatever slope came out. An exponent 1 / slope - 1 has a short interval
where the slope came out too steep, so that a gate on the exponent's own interval lets through what is short by chance."""
FOUND_BEYOND = 1.25
"""The standard error that is found may be this many times as large: the design decides. Where the found one decides, those few sets are quoted whose error is small by chance, and of intervals that are short by chance too few hold the truth: 79 % in a case
where 95 % of all do, and 94 % with this factor; of alpha 94 to 96 % (``docs/coverage.md``)."""
MAX_CENSORED = 0.02
"""Share of realisations, at any size, whose minimum lies beyond what was looked at; the limit stands in for it."""
POOR_FIT = 0.01
"""p-value below which the means are said not to follow a power law, and the minima not a Weibull law."""
DISAGREEMENT = 0.01
"""Two estimators disagree where the same realisations would set them further apart in less than this share of cases. They share
their data, so that their difference has an error of its own, much smaller than theirs (Hausman 1978)."""


@dataclass(frozen=True, repr=False)
class FiniteSizeScaling(Result):
    """The mean of a minimum against the system size, and the exponent from <min> ~ N^(-1 / (1 + exponent)).

    Args:
        sizes: particle numbers N, ascending.
        n_realisations: realisations at each size.
        n_censored: how many minima at each size lie beyond what was looked at and enter with the limit instead.
        means: <min> at each size.
        standard_errors: of the means, over realisations.
        slope: -d ln<min> / d ln N; sizes are weighted by their number of realisations.
        slope_low, slope_high: its interval, symmetric.
        slope_error: its standard error, from the scatter of the minima.
        promised_error: the standard error that numbers and sizes promise, whatever came out: with the scatter of a Weibull
            minimum of the theory's exponent, less what an average over strain points or directions takes off.
        prefactor: <min> = prefactor * N^-slope.
        exponent: 1 / slope - 1 with the symmetric studentised bootstrap over realisations: the one to quote.
        least_squares: the same from the paper's fit: ordinary least squares on the logarithms of the means, with Student's t
            for the few sizes. Its interval knows only the scatter of the means about the line: with four sizes it rests on two
            degrees of freedom, and is often far too narrow or far too wide. None with fewer than three sizes.
        local_exponents: the exponent between successive sizes; a drift shows that the scaling regime is not reached.
        p_value: probability of a scatter about the power law at least as large as this one.
        p_plateau: the same for exponent = 0 (slope 1), where a finite density at zero ends the power law.
        n_points: strain points, or directions of shear, of each realisation, averaged over before anything else.
        bca: the quoted estimate with the bias-corrected and accelerated bootstrap, whose interval is too short for few
            realisations.
        likelihood: the exponent from the maximum likelihood of x_min = s0 N^-slope y, where y is a Weibull variable of free
            shape, the same for all sizes; lower limits count with the probability of surviving them. Its interval comes from
            the scatter of the scores over realisations, so that it holds where the minima are no Weibull variables, and where
            several strain points belong to one realisation. (The curvature of the likelihood, which needs both, covers in 100 %
            of cases where ten correlated strain points are pooled.) None where the likelihood has no maximum.
        weibull_shape: of y. Not 1 + theta but for samples that sit just behind an event (App. G).
        weibull_p: probability that Weibull minima fit as badly as these.
        disagreement: which estimators lie further from the quoted one than their common data explain (:data:`DISAGREEMENT`);
            None where they agree.
    """

    sizes: tuple[int, ...]
    n_realisations: tuple[int, ...]
    n_censored: tuple[int, ...]
    means: tuple[float, ...]
    standard_errors: tuple[float, ...]
    slope: float
    prefactor: float
    exponent: Exponent
    least_squares: Exponent | None
    local_exponents: tuple[float, ...]
    p_value: float
    p_plateau: float
    n_points: int = 1
    bca: Exponent | None = None
    likelihood: Exponent | None = None
    weibull_shape: float = np.nan
    weibull_p: float = np.nan
    disagreement: str | None = None
    slope_low: float = -np.inf
    slope_high: float = np.inf
    slope_error: float = np.nan
    promised_error: float = np.nan

    def _headline(self) -> str:
        return f"{in_words(self.exponent)} from N = {', '.join(map(str, self.sizes))}"

    @property
    def estimators(self) -> tuple[Exponent, ...]:
        """The quoted exponent, the paper's least squares and maximum likelihood, as far as they exist."""
        return tuple(e for e in (self.exponent, self.least_squares, self.likelihood) if e is not None)

    def curve(self, n_particles: ArrayLike) -> Floats:
        """The fitted mean at ``n_particles`` (array of any shape)."""
        return self.prefactor * np.asarray(n_particles, dtype=np.float64) ** -self.slope

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw the means with their standard errors and the fitted power law.

        Args:
            ax: where to draw; a new figure by default.
            style: passed to ``Axes.errorbar`` (``color``, ``marker``, ``label``, ...).

        Returns:
            The axes.
        """
        ax = new_axes() if ax is None else ax
        style = {"fmt": "o", "capsize": 2.5, **style}
        points = ax.errorbar(self.sizes, self.means, yerr=self.standard_errors, **style)
        n_curve = np.geomspace(self.sizes[0], self.sizes[-1], 32)
        ax.plot(n_curve, self.curve(n_curve), color=points[0].get_color(), linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel="number of particles $N$", ylabel="mean of the minimum")
        return ax


def finite_size_scaling(
    samples: Mapping[int, ArrayLike],
    *,
    name: str,
    censored: Mapping[int, ArrayLike] | None = None,
    confidence: float = 0.95,
    warnings: Sequence[str] = (),
) -> FiniteSizeScaling:
    """The exponent of a density p(x) ~ x^exponent from the means of the smallest x of N: <x_min> ~ N^(-1 / (1 + exponent)).

    Sizes are weighted by their number of realisations, for the relative scatter of a minimum is the same at every size; with
    equal numbers the estimate is the paper's. The order of the realisations does not change a digit.

    Args:
        samples: for each N the minimum in each realisation ((R,) array, positive), or at S strains, or in S directions of
            shear, of each ((R, S) array): their average is then what scales, and a realisation still counts once.
        name: of the exponent.
        censored: for each N which minima are only lower limits (array of bool of the shape of the samples).
        confidence: probability content of the intervals.
        warnings: to be carried by the result.

    Raises:
        ValueError: if a minimum is not a positive finite number, or sizes differ in their number of strain points.
        InsufficientStatistics: with the estimate inside, where the data do not carry the exponent: fewer than 3 sizes, sizes
            within a factor 3, fewer than 20 realisations or more than 2 % censored at a size, or a slope whose standard error
            is above :data:`MAX_SLOPE_ERROR` by what the design promises, or above :data:`FOUND_BEYOND` times that as found.
    """
    sizes, values_s, censored_s = ordered_samples(samples, censored)
    if len(sizes) < 2:
        raise InsufficientStatistics(_few_sizes(sizes))
    n_points = values_s[0].shape[1]
    n_censored_s = [int(np.count_nonzero(cut_rs)) for cut_rs in censored_s]
    samples_sr = [values_rs.mean(axis=1) for values_rs in values_s]
    count_s = np.array([sample.size for sample in samples_sr])
    mean_s, error_s = np.array([mean_and_standard_error(sample) for sample in samples_sr]).T
    x_s, y_s = np.log(np.asarray(sizes, dtype=np.float64)), np.log(mean_s)

    x_centre = np.average(x_s, weights=count_s)
    lever_s = _lever(x_s, count_s)
    # The slope is close to normal where the exponent 1 / slope - 1 is not: resample the one, map the ends to the other.
    contrast = log_mean_contrast(samples_sr, lever_s, confidence=confidence)
    slope = contrast.value
    offset = float(np.average(y_s, weights=count_s)) + slope * x_centre
    line = ordinary_least_squares(x_s, y_s, confidence)
    p_value, p_plateau = _goodness(x_s, y_s, error_s / mean_s, count_s, slope)
    notes = list(warnings)
    if sum(n_censored_s):
        notes.append(f"{sum(n_censored_s)} of {n_points * count_s.sum()} minima are lower limits")
    if p_value < POOR_FIT:
        notes.append(f"the means scatter about the power law more than their errors allow (p = {p_value:.2g})")
    quoted = Exponent(
        name=name,
        value=_exponent(slope),
        low=_exponent(contrast.high),
        high=_exponent(contrast.low),
        confidence=confidence,
        estimator="finite-size scaling of the mean minimum, studentised bootstrap over realisations",
        n_realisations=dict(zip(sizes, count_s.tolist(), strict=True)),
        window=(float(sizes[0]), float(sizes[-1])),
    )
    bca = replace(
        quoted,
        low=_exponent(contrast.bca_high),
        high=_exponent(contrast.bca_low),
        estimator="finite-size scaling of the mean minimum, BCa bootstrap over realisations",
    )
    least_squares = replace(
        quoted,
        value=_exponent(-line.slope),
        low=_exponent(-line.low),
        high=_exponent(-line.high),
        estimator="ordinary least squares on the logarithms of the means, Student's t",
    )
    regression = _regression(weibull.gather(values_s, censored_s), x_s, confidence)
    influence_r = _influence(samples_sr, lever_s)
    other_r = _influence(samples_sr, _lever(x_s, np.ones_like(x_s)))
    apart = [_apart(least_squares, -line.slope - slope, other_r - influence_r, quoted)]
    likelihood = None
    if regression is not None:
        misfit = f"the minima do not follow a Weibull law with a scale that is a power of N (p = {regression.p_value:.2g})"
        likelihood = replace(
            quoted,
            value=_exponent(regression.slope),
            low=_exponent(regression.high),
            high=_exponent(regression.low),
            estimator="maximum likelihood, Weibull regression of all minima",
            warnings=(misfit,) if regression.p_value < POOR_FIT else (),
        )
        apart.append(_apart(likelihood, regression.slope - slope, regression.influence_r - influence_r, quoted))
    disagreement = "; ".join(sentence for sentence in apart if sentence is not None) or None
    if disagreement is not None:
        notes.append(disagreement)
    result = FiniteSizeScaling(
        sizes=tuple(sizes),
        n_realisations=tuple(count_s.tolist()),
        n_censored=tuple(n_censored_s),
        means=tuple(mean_s.tolist()),
        standard_errors=tuple(error_s.tolist()),
        slope=slope,
        prefactor=float(np.exp(offset)),
        exponent=replace(quoted, warnings=tuple(notes)),
        least_squares=least_squares if len(sizes) > 2 else None,
        local_exponents=tuple(_exponent(s) for s in (-np.diff(y_s) / np.diff(x_s)).tolist()),
        p_value=p_value,
        p_plateau=p_plateau,
        n_points=n_points,
        bca=bca,
        likelihood=likelihood,
        weibull_shape=regression.shape if regression is not None else np.nan,
        weibull_p=regression.p_value if regression is not None else np.nan,
        disagreement=disagreement,
        slope_low=contrast.low,
        slope_high=contrast.high,
        slope_error=contrast.standard_error,
        promised_error=_promised_error(name, sizes, values_s),
    )
    reasons = _weaknesses(result)
    if reasons:
        raise InsufficientStatistics("; ".join(reasons), result)
    return result


def theta_from_gamma_min(
    samples: Mapping[int, ArrayLike],
    *,
    censored: Mapping[int, ArrayLike] | None = None,
    confidence: float = 0.95,
    warnings: Sequence[str] = (),
) -> FiniteSizeScaling:
    """The pseudo-gap exponent theta from <gamma_min> ~ N^(-1 / (1 + theta)) (section III).

    Arguments, result and errors as :func:`finite_size_scaling`; the samples are strains to the next instability, as
    :func:`strain_to_next_event` gives them.

    Examples:
        Minima of a density p(x) ~ sqrt(x) are Weibull variables:

        >>> rng = np.random.default_rng(1)
        >>> minima = {n: n ** (-2 / 3) * rng.weibull(1.5, 200) for n in (500, 1000, 2000, 4000)}
        >>> theta_from_gamma_min(minima).exponent
        <Exponent: theta = 0.554 [0.416, 0.721] (95%)>
    """
    return finite_size_scaling(samples, name="theta", censored=censored, confidence=confidence, warnings=warnings)


def alpha_from_omega_min(
    samples: Mapping[int, ArrayLike],
    *,
    censored: Mapping[int, ArrayLike] | None = None,
    confidence: float = 0.95,
    warnings: Sequence[str] = (),
) -> FiniteSizeScaling:
    """The exponent alpha of D_L(omega) ~ omega^alpha from <omega_min> ~ N^(-1 / (1 + alpha)) (section III).

    Arguments, result and errors as :func:`finite_size_scaling`; the samples are frequencies of the softest filtered mode.
    """
    return finite_size_scaling(samples, name="alpha", censored=censored, confidence=confidence, warnings=warnings)


def predicted_alpha(theta: Exponent) -> Exponent:
    """Eq. (9): alpha = 3 + 4 theta below theta = 1/4, and 4 from there on.

    The map is monotonic, so that the ends of the interval of theta map to those of alpha, kink or not.

    Raises:
        InsufficientStatistics: where theta is negative, for the theory has no such theta, so that no alpha follows from it.
    """
    notes = list(theta.warnings)
    if theta.value < 0:
        raise InsufficientStatistics(
            f"theta = {theta.value:.2f} is outside the theory, which has theta >= 0: no alpha follows from it"
        )
    if theta.low < 0:
        notes.append(
            "the interval of theta reaches below 0, where there is no theory; that of alpha ends at 3, the theory's smallest"
        )
    if theta.low < 0.35 and theta.high > 0.1:
        notes.append(
            "near theta = 1/4 the theory itself puts the exponent that a spectrum shows at reachable frequencies 0.1 to 0.3 "
            "below its asymptotic value"
        )

    def alpha(value: float) -> float:
        return float(min(3.0 + 4.0 * max(value, 0.0), 4.0))

    return replace(
        theta,
        name="alpha",
        value=alpha(theta.value),
        low=alpha(theta.low),
        high=alpha(theta.high),
        estimator=f"eq. (9) from theta ({theta.estimator})",
        warnings=tuple(notes),
    )


def _exponent(slope: float) -> float:
    return 1.0 / slope - 1.0 if slope > 0 else np.inf


@dataclass(frozen=True)
class _Regression:
    """Weibull regression: slope with interval, shape, goodness, and by how much each realisation moves the slope."""

    slope: float
    low: float
    high: float
    shape: float
    p_value: float
    influence_r: Floats


def _regression(minima: weibull.Minima, x_s: Floats, confidence: float) -> _Regression | None:
    x_i = x_s[minima.group_i]
    design_ip = np.column_stack([np.ones_like(x_i), x_i - x_i.mean()])
    fit = weibull.fit(minima, design_ip)
    n_realisations = minima.group_r.size
    if fit is None or n_realisations < 4:
        return None
    slope = -float(fit.coefficients_p[1]) / fit.shape
    influence_r = fit.influence_rp @ np.array([-slope / fit.shape, 0.0, -1.0 / fit.shape])
    # The scatter of exponential residuals is known only as well as that of a quarter as many normal ones: their squares scatter
    # four times as much.
    error = float(np.sqrt(np.sum(influence_r**2) * n_realisations / (n_realisations - 3)))
    reach = error * float(stats.t.ppf(0.5 + confidence / 2, n_realisations / 4))
    return _Regression(slope, slope - reach, slope + reach, fit.shape, weibull.goodness(minima, design_ip), influence_r)


def _lever(x_s: Floats, weight_s: ArrayLike) -> Floats:
    """Factors of the y_s in minus the slope of the weighted least squares of y on x."""
    weight_s = np.asarray(weight_s, dtype=np.float64)
    offset_s = x_s - np.average(x_s, weights=weight_s)
    return np.asarray(-weight_s * offset_s / np.sum(weight_s * offset_s**2))


def _influence(samples_sr: Sequence[Floats], lever_s: Floats) -> Floats:
    """By how much each realisation moves sum_s lever_s ln mean_s ((R,) array over all sizes)."""
    return np.concatenate(
        [lever * (x_r / np.mean(x_r) - 1.0) / x_r.size for lever, x_r in zip(lever_s, samples_sr, strict=True)]
    )


def _apart(other: Exponent, difference: float, influence_r: Floats, quoted: Exponent) -> str | None:
    """A sentence if the slope of ``other`` differs from the quoted one by more than their common realisations explain."""
    error = float(np.sqrt(np.sum(influence_r**2)))
    if abs(difference) < 1e-9 or error == 0.0:
        return None
    p_value = 2 * float(stats.t.sf(abs(difference) / error, influence_r.size / 4))
    if p_value >= DISAGREEMENT:
        return None
    return (
        f"{other.estimator} gives {other.value:.2f} where the quoted estimate is {quoted.value:.2f}; the same minima set "
        f"the two that far apart with probability {p_value:.1g} only: the means do not follow one power law, or the "
        "distribution of the minimum changes its shape with N"
    )


def _goodness(
    x_s: Floats, y_s: Floats, relative_error_s: Floats, count_s: NDArray[np.int64], slope: float
) -> tuple[float, float]:
    """p-values of slope ``slope`` and of the plateau's slope 1; NaN where an error is unknown or no freedom is left."""
    freedom = x_s.size - 2
    if freedom == 0 or not np.all(relative_error_s > 0):
        return np.nan, np.nan

    def chi2(slope: float) -> float:
        level_s = y_s + slope * x_s
        return float(np.sum(((level_s - np.average(level_s, weights=count_s)) / relative_error_s) ** 2))

    return float(stats.chi2.sf(chi2(slope), freedom)), float(stats.chi2.sf(chi2(1.0), freedom + 1))


def _few_sizes(sizes: Sequence[int]) -> str:
    found = f" (N = {', '.join(map(str, sizes))})" if sizes else ""
    return f"{len(sizes)} system size{'' if len(sizes) == 1 else 's'}{found} where at least {MIN_SIZES} are needed"


def _weaknesses(result: FiniteSizeScaling) -> list[str]:
    reasons = []
    if len(result.sizes) < MIN_SIZES:
        reasons.append(_few_sizes(result.sizes))
    ratio = result.sizes[-1] / result.sizes[0]
    if ratio < MIN_SIZE_RATIO:
        reasons.append(f"the largest size is {ratio:.2g} times the smallest where a factor {MIN_SIZE_RATIO:g} is needed")
    few = [
        f"{n} realisations at N = {size}"
        for size, n in zip(result.sizes, result.n_realisations, strict=True)
        if n < MIN_REALISATIONS
    ]
    if few:
        reasons.append(f"{', '.join(few)} where at least {MIN_REALISATIONS} are needed")
    cut = [
        f"{c} of {n} at N = {size}"
        for size, n, c in zip(
            result.sizes, [n * result.n_points for n in result.n_realisations], result.n_censored, strict=True
        )
        if c > MAX_CENSORED * n
    ]
    if cut:
        reasons.append(
            f"no minimum within what was looked at in {', '.join(cut)} where at most {100 * MAX_CENSORED:g} % may lack one"
        )
    most = MAX_SLOPE_ERROR[result.exponent.name]
    excess = float(np.nanmax([result.promised_error / most, result.slope_error / (FOUND_BEYOND * most), 0.0]))
    if excess > 1.0:
        factor = excess**2
        counts = [
            f"{int(np.ceil(n * factor))} at N = {size}" for size, n in zip(result.sizes, result.n_realisations, strict=True)
        ]
        reasons.append(
            f"the slope of the log means is {result.slope:.2f} [{result.slope_low:.2f}, {result.slope_high:.2f}] with a "
            f"standard error of {result.slope_error:.2g} ({result.promised_error:.2g} by the numbers alone) where at most "
            f"{FOUND_BEYOND * most:g} ({most:g}) is allowed: about {factor:.2g} times as many realisations are needed, "
            f"{', '.join(counts)}"
        )
    elif not (np.isfinite(result.exponent.value) and np.isfinite(result.exponent.high)):
        reasons.append("the mean may not fall with the system size at all, so that the exponent has no upper limit")
    return reasons


def _promised_error(name: str, sizes: Sequence[int], values_s: Sequence[Floats]) -> float:
    """Standard error of the slope by the design: sizes, numbers, and how independent the points of a realisation are."""
    scatter = weibull_scatter(1.0 + THEORY[name])
    worth = independent_values(values_s) if values_s[0].shape[1] > 1 else 1.0
    if np.isfinite(worth):
        scatter /= float(np.sqrt(worth))
    spread = leverage(sizes, [len(values_rs) for values_rs in values_s])
    return scatter / float(np.sqrt(spread)) if spread > 0.0 else np.inf
