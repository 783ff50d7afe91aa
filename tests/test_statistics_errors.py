"""Error bars against cases that are known exactly, and against repetition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qlm_hoomd.statistics import bootstrap_interval, mean_and_standard_error, ordinary_least_squares, poisson_interval


def mean(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.asarray(x.mean(axis=axis))


def test_mean_and_standard_error() -> None:
    assert mean_and_standard_error([1.0, 3.0]) == (2.0, 1.0)
    assert np.isnan(mean_and_standard_error([1.0])[1])
    assert np.isnan(mean_and_standard_error([])).all()


def test_least_squares_interval_is_students() -> None:
    """Anscombe's first data set, whose regression every textbook prints: slope 0.500, standard error 0.118, 9 degrees of freedom."""
    x = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
    y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]
    line = ordinary_least_squares(x, y)
    assert line.slope == pytest.approx(0.5001, abs=5e-5)
    assert line.intercept == pytest.approx(3.0001, abs=5e-5)
    assert line.high - line.slope == pytest.approx(0.1179 * 2.262, abs=2e-4)


def test_two_points_give_no_interval() -> None:
    line = ordinary_least_squares([0, 1], [1, 3])
    assert (line.slope, line.low, line.high) == (pytest.approx(2.0), -np.inf, np.inf)
    with pytest.raises(ValueError, match="1 different x; a line needs at least 2"):
        ordinary_least_squares([1, 1, 1], [1, 2, 3])


@given(st.integers(0, 500))
def test_poisson_interval_is_garwoods(count: int) -> None:
    """At the ends of the interval the tail that reaches the observed count holds just what the interval leaves out."""
    low, high = poisson_interval(count, 0.95)
    assert stats.poisson.cdf(count, high) == pytest.approx(0.025)
    if count:
        assert stats.poisson.sf(count - 1, low) == pytest.approx(0.025)
    else:
        assert low == 0.0


def test_bootstrap_is_deterministic_and_brackets_the_mean() -> None:
    sample = np.random.default_rng(0).exponential(size=200)
    low, high, method = bootstrap_interval([sample], mean)
    assert method == "BCa"
    assert (low, high, method) == bootstrap_interval([sample], mean)
    assert low < sample.mean() < high
    # The bootstrap of a mean of many values is close to the normal interval.
    assert high - low == pytest.approx(2 * 1.96 * sample.std() / np.sqrt(200), rel=0.1)


def test_bootstrap_admits_what_it_cannot_do() -> None:
    assert bootstrap_interval([np.array([1.0])], mean) == (-np.inf, np.inf, "none")
    # All values equal: there is no jackknife to correct with, but the interval is known.
    assert bootstrap_interval([np.ones(5)], mean) == (1.0, 1.0, "percentile")


def test_paired_samples_stay_paired() -> None:
    """The ratio of a quantity to its double is 1/2 in every resample only if both are drawn together."""
    sample = np.random.default_rng(0).exponential(size=50)

    def ratio(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(x.sum(axis=axis) / y.sum(axis=axis))

    low, high, _ = bootstrap_interval([sample, 2 * sample], ratio, paired=True)
    assert (low, high) == (pytest.approx(0.5), pytest.approx(0.5))
    low, high, _ = bootstrap_interval([sample, 2 * sample], ratio, paired=False)
    assert high - low > 0.1
