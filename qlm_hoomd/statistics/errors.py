"""Error bars.

Realisations are independent, the points of one realisation are not: everything here resamples realisations.

Array suffixes: ``_r`` realisations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

RESAMPLES = 4999
"""Bootstrap resamples: the ends of a 95 % interval then move by about 2 % of its width from seed to seed."""

SEED = 20190218
"""Seed of every bootstrap, so that the same data always give the same interval."""

_BATCH_VALUES = 4_000_000  # random numbers drawn at once: 32 MB


@dataclass(frozen=True)
class LineFit:
    """A straight line through points by ordinary least squares.

    Args:
        slope: its slope.
        intercept: its value at x = 0.
        low, high: confidence interval of the slope from Student's t, (-inf, inf) with two points.
    """

    slope: float
    intercept: float
    low: float
    high: float


def mean_and_standard_error(values_r: ArrayLike) -> tuple[float, float]:
    """Mean of ``values_r`` ((R,) array) and its standard error, NaN where there is one value only."""
    values_r = np.asarray(values_r, dtype=np.float64)
    if values_r.size == 0:
        return np.nan, np.nan
    error = float(np.std(values_r, ddof=1) / np.sqrt(values_r.size)) if values_r.size > 1 else np.nan
    return float(np.mean(values_r)), error


def ordinary_least_squares(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> LineFit:
    """Line through the points (``x``, ``y``), the paper's fit of a power law where both are logarithms.

    Args:
        x: ((n,) array) n >= 2, not all equal.
        y: ((n,) array).
        confidence: probability content of the interval.

    Raises:
        ValueError: with fewer than two different x.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if np.unique(x).size < 2:
        raise ValueError(f"{np.unique(x).size} different x; a line needs at least 2.")
    fit = stats.linregress(x, y)
    if x.size == 2:
        return LineFit(float(fit.slope), float(fit.intercept), -np.inf, np.inf)
    reach = float(stats.t.ppf(0.5 + confidence / 2, x.size - 2) * fit.stderr)
    return LineFit(float(fit.slope), float(fit.intercept), float(fit.slope) - reach, float(fit.slope) + reach)


def poisson_interval(counts: ArrayLike, confidence: float = 0.683) -> tuple[Floats, Floats]:
    """Exact (Garwood) interval of the mean of a Poisson variable that came out as ``counts``.

    Args:
        counts: (array) observed numbers.
        confidence: probability content, one standard deviation by default.

    Returns:
        (low, high), arrays of the shape of ``counts``; low is 0 where the count is 0.
    """
    counts = np.asarray(counts, dtype=np.float64)
    tail = (1 - confidence) / 2
    low = np.where(counts > 0, stats.chi2.ppf(tail, 2 * np.maximum(counts, 1)) / 2, 0.0)
    return low, np.asarray(stats.chi2.ppf(1 - tail, 2 * (counts + 1)) / 2)


def bootstrap_interval(
    samples: Sequence[Floats],
    statistic: Callable[..., Floats],
    *,
    paired: bool = False,
    confidence: float = 0.95,
    n_resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float, str]:
    """Confidence interval of ``statistic`` under resampling of realisations.

    Bias-corrected and accelerated (Efron 1987) where that exists, percentiles where it does not (it needs a jackknife and a
    bootstrap distribution that straddles the estimate).

    Args:
        samples: ((R,) arrays) one value per realisation each; independent groups, or with ``paired`` several quantities of the
            same realisations, which are then resampled together.
        statistic: of the samples, vectorised over leading axes; takes ``axis``.
        paired: whether the samples belong to the same realisations.
        confidence: probability content.
        n_resamples: number of resamples.
        seed: of the random stream.

    Returns:
        (low, high, method); (-inf, inf, "none") where a group has fewer than two realisations or the statistic is undefined on
        some resamples.
    """
    if any(sample.size < 2 for sample in samples):
        return -np.inf, np.inf, "none"
    batch = max(1, _BATCH_VALUES // max(sample.size for sample in samples))
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # scipy's DegenerateDataWarning; the result is judged by its value below
            interval = stats.bootstrap(
                samples,
                statistic,
                n_resamples=n_resamples,
                batch=batch,
                paired=paired,
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if np.isfinite(interval.low) and np.isfinite(interval.high):
            return float(interval.low), float(interval.high), method
    return -np.inf, np.inf, "none"
