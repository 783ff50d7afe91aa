"""How many realisations an exponent needs, and where they are cheapest.

A minimum x of N particles scatters by the same fraction v = sd / mean at every N, so that in <x>(N) ~ N^-s, with sizes
weighted by their numbers n, var(s) = v^2 / S with the leverage S = sum_s n_s (ln N_s - m)^2 about the weighted mean m of the
ln N_s. With u = z v / sqrt(S), z the normal quantile, the interval of s is s -+ u, and that of the exponent 1 / s - 1 has the
half-width h = u / (s^2 - u^2). S is all that the numbers matter by; it is concave in them.

Array suffixes: ``_s`` system sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from qlm_hoomd.statistics.errors import Floats
from qlm_hoomd.statistics.exponents import MIN_REALISATIONS
from qlm_hoomd.statistics.samples import THEORY, leverage, weibull_scatter

CONFIDENCE = 0.95
"""Content of the interval whose half-width is the target."""
SHAPES = {name: 1.0 + exponent for name, exponent in THEORY.items()}
"""Weibull shape 1 + exponent of the smallest of many x with p(x) ~ x^exponent, for the theory's exponents."""
OPPOSITE, ACROSS = 0.0, 0.25
"""Correlation of gamma_min of one glass in two directions of shear, + and - of one plane or in two planes, by which a design is
judged before anything has run. Measured on 180 rapidly quenched glasses of N = 500 to 2000: 0.09 +- 0.06, and 0.25 +- 0.03."""
KNOWN = 1 / 3
"""The slope is taken from the data once the half-width of its interval is at most this part of it."""

_SLACK = 1e-6
_SHAPE_RANGE = 0.3, 100.0
_Z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))


@dataclass(frozen=True)
class Scatter:
    """What the error of an exponent follows from.

    Args:
        exponent: its value.
        relative: standard deviation of the minimum over its mean, the same at every size.
        n_minima: minima behind ``relative``; 0 where it is the theory's.
        slope_error: relative standard error of the slope 1 / (1 + exponent); None where ``exponent`` is the theory's.
    """

    exponent: float
    relative: float
    n_minima: int = 0
    slope_error: float | None = None

    @property
    def slope(self) -> float:
        """s in <min> ~ N^-s."""
        return 1.0 / (1.0 + self.exponent)

    def needed_leverage(self, half_width: float) -> float:
        """The leverage S at which the 95 % interval of the exponent has this half-width."""
        return (_Z * self.relative / self._reach(half_width)) ** 2

    def half_width(self, leverage: float) -> float:
        """Half-width of the 95 % interval of the exponent at leverage S; infinite where the slope may be zero."""
        u = _Z * self.relative / np.sqrt(leverage) if leverage > 0 else np.inf
        return float(u / (self.slope**2 - u**2)) if u < self.slope else np.inf

    def uncertainty(self, half_width: float) -> float:
        """Factor by which :meth:`needed_leverage` may be larger or smaller, at 95 %, for all that is measured is uncertain.

        ln S has the variance of ln v^2 and, through h, that of ln s. What is assumed has no error, so that the factor is 1
        where all is.
        """
        variance = relative_variance_of_squared_scatter(self.relative) / self.n_minima if self.n_minima else 0.0
        if self.slope_error is not None:
            u = self._reach(half_width)
            power = 2 * half_width * self.slope**2 / (u * (1 + 2 * half_width * u))  # d ln u / d ln s
            variance += (2 * power * self.slope_error) ** 2
        return float(np.exp(_Z * np.sqrt(variance)))

    def _reach(self, half_width: float) -> float:
        # The positive root u of half_width (s^2 - u^2) = u, in a form that stays exact for small half_width.
        return float(2 * half_width * self.slope**2 / (1 + np.sqrt(1 + (2 * half_width * self.slope) ** 2)))


def relative_variance_of_squared_scatter(relative: float) -> float:
    """n times the variance of ln v^2, as n minima give v, for the Weibull distribution that has this v.

    Delta method: (kurtosis - 1) - 4 skewness v + 4 v^2. A v beyond what shapes of 0.3 to 100 have is taken for theirs.
    """
    relative = float(np.clip(relative, weibull_scatter(_SHAPE_RANGE[1]), weibull_scatter(_SHAPE_RANGE[0])))
    shape = float(optimize.brentq(lambda k: weibull_scatter(k) - relative, *_SHAPE_RANGE))
    raw = special.gamma(1 + np.arange(5) / shape) / special.gamma(1 + 1 / shape) ** np.arange(5)
    third = raw[3] - 3 * raw[2] + 2
    fourth = raw[4] - 4 * raw[3] + 6 * raw[2] - 3
    return float(fourth / relative**4 - 1 - 4 * third / relative**2 + 4 * relative**2)


def assumed_scatter(name: str, directions: Sequence[str] = ()) -> Scatter:
    """The theory's, for ``theta`` or ``alpha``: where nothing has run.

    Args:
        name: of the exponent.
        directions: of shear in which each glass has a minimum, such as ``+xy`` and ``-yz``; it counts with their mean.
    """
    alike = [
        1.0 if one == other else OPPOSITE if one[1:] == other[1:] else ACROSS for one in directions for other in directions
    ]
    return Scatter(SHAPES[name] - 1, weibull_scatter(SHAPES[name]) * float(np.sqrt(np.mean(alike or [1.0]))))


def measured_scatter(
    assumed: Scatter, sizes: ArrayLike, counts: ArrayLike, means: ArrayLike, standard_errors: ArrayLike, slope: float | None
) -> Scatter:
    """The scatter so far, pooled over sizes; what too few minima leave open is the theory's.

    The variance is taken from the data once there are :data:`~qlm_hoomd.statistics.exponents.MIN_REALISATIONS` minima in all,
    beyond the one of each size that its mean takes; the exponent once its slope is :data:`KNOWN`.

    Args:
        assumed: the theory's scatter.
        sizes: ((S,) array) particle numbers.
        counts: ((S,) array) minima at each.
        means: ((S,) array) their mean.
        standard_errors: ((S,) array) of the mean; of any value where there is one minimum only.
        slope: s of the fit to them, None where there is none.
    """
    size_s, count_s, mean_s, error_s = (np.asarray(a, dtype=np.float64) for a in (sizes, counts, means, standard_errors))
    several_s = count_s > 1
    freedom_s = (count_s - 1)[several_s]
    if freedom_s.sum() < MIN_REALISATIONS:
        return assumed
    squared_s = count_s[several_s] * (error_s[several_s] / mean_s[several_s]) ** 2
    relative = float(np.sqrt(np.average(squared_s, weights=freedom_s)))
    now = leverage(size_s, count_s)
    if slope is None or not slope > 0 or not now > 0 or _Z * relative / np.sqrt(now) > KNOWN * slope:
        return Scatter(assumed.exponent, relative, int(count_s.sum()))
    return Scatter(1 / slope - 1, relative, int(count_s.sum()), float(relative / np.sqrt(now) / slope))


def needed_modes(alpha: float, half_width: float) -> float:
    """Modes in the window of a spectrum D_L ~ omega^alpha at which the interval of alpha has this half-width.

    By maximum likelihood from n independent modes its standard error is (1 + alpha) / sqrt(n).
    """
    return (_Z * (1 + alpha) / half_width) ** 2


def cheapest_numbers(
    sizes: Sequence[int], costs: ArrayLike, needed: float, *, at_least: ArrayLike, at_most: int
) -> NDArray[np.int64]:
    """The numbers of realisations that reach the leverage ``needed`` at the least total cost.

    S is the smallest, over m, of the linear sum n (ln N - m)^2. So the linear programme with one constraint for each m that
    an earlier solution violated ends in the optimum (cutting planes, Kelley 1960).

    Args:
        sizes: S particle numbers.
        costs: ((S,) array, positive) of one realisation at each size, in any unit.
        needed: leverage to reach.
        at_least: ((S,) array of int) numbers not to go below.
        at_most: number that no size goes beyond.

    Returns:
        (S,) array; above ``at_least`` it is rounded up, which costs at most one realisation of each size.

    Raises:
        ValueError: if ``at_most`` realisations of each size do not reach it.
    """
    _assert_reachable(sizes, needed, at_least, at_most)
    x_s, cost_s = np.log(np.asarray(sizes, dtype=np.float64)), np.asarray(costs, dtype=np.float64)
    bounds = [(low, max(low, at_most)) for low in np.asarray(at_least, dtype=np.float64).tolist()]
    numbers_s: Floats = np.asarray(at_least, dtype=np.float64)
    cuts_cs: list[Floats] = []
    while leverage(sizes, numbers_s) < needed:
        cuts_cs.append((x_s - np.average(x_s, weights=numbers_s)) ** 2 / needed)
        # A little more than needed, so that the sequence ends in spite of rounding.
        floor_c = np.full(len(cuts_cs), 1 + _SLACK)
        found = optimize.linprog(cost_s / cost_s.max(), A_ub=-np.array(cuts_cs), b_ub=-floor_c, bounds=bounds)
        numbers_s = np.asarray(found.x, dtype=np.float64)
    return np.ceil(numbers_s - _SLACK).astype(np.int64)


def equal_numbers(sizes: Sequence[int], needed: float, *, at_least: ArrayLike, at_most: int) -> NDArray[np.int64]:
    """The smallest number, the same for all sizes but those that have more already, that reaches the leverage ``needed``.

    Arguments, result and error as :func:`cheapest_numbers`.
    """
    _assert_reachable(sizes, needed, at_least, at_most)
    at_least_s = np.asarray(at_least, dtype=np.int64)
    low, high = 0, at_most
    while low < high:
        middle = (low + high) // 2
        if leverage(sizes, np.maximum(middle, at_least_s)) >= needed:
            high = middle
        else:
            low = middle + 1
    return np.maximum(low, at_least_s)


def _assert_reachable(sizes: Sequence[int], needed: float, at_least: ArrayLike, at_most: int) -> None:
    most = leverage(sizes, np.maximum(at_most, np.asarray(at_least)))
    if most < (1 + _SLACK) * needed:
        raise ValueError(f"leverage {needed:.3g}; {at_most} realisations of each size reach {most:.3g}")
