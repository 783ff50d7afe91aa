"""Error bars against cases that are known exactly, and against repetition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qlm_hoomd.statistics import bootstrap_interval, mean_and_standard_error, ordinary_least_squares, poisson_interval
from qlm_hoomd.statistics.errors import log_mean_contrast

if TYPE_CHECKING:
    import random


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
    low, high, method = bootstrap_interval([np.array([1.0, 2.0])], mean)
    assert (low, high, method) == (1.0, 2.0, method) != (low, high, "none")  # of two values a quarter of all resamples is one
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


# ---- slope on logarithms of means ----


def groups(n: int, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.weibull(1.2, n) for _ in range(3)]


def test_contrast_agrees_with_scipys_bca_and_with_linearisation() -> None:
    samples, lever = groups(60), np.array([-0.7, 0.1, 0.6])

    def statistic(*resampled: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(np.tensordot(lever, np.log([x.mean(axis=axis) for x in resampled]), axes=1))

    found = log_mean_contrast(samples, lever)
    assert found.value == pytest.approx(float(statistic(*samples)))
    relative = [x.std(ddof=1) / x.mean() / np.sqrt(x.size) for x in samples]
    assert found.standard_error == pytest.approx(np.linalg.norm(lever * relative))
    low, high, method = bootstrap_interval(samples, statistic)
    assert method == "BCa"
    assert (found.bca_low, found.bca_high) == (pytest.approx(low, abs=0.015), pytest.approx(high, abs=0.015))
    # Symmetric, and a little wider than the normal interval, for the standard error is uncertain too.
    assert found.value - found.low == pytest.approx(found.high - found.value)
    assert 1.96 < (found.high - found.value) / found.standard_error < 2.2


def test_contrast_knows_that_few_realisations_know_their_scatter_badly() -> None:
    reach = [(c.high - c.value) / c.standard_error for c in (log_mean_contrast(groups(n), [-1, 0, 1]) for n in (200, 20, 5))]
    assert reach[0] == pytest.approx(1.96, abs=0.1)
    assert reach[0] < reach[1] < reach[2]
    assert reach[2] > 2.5


def test_contrast_without_end() -> None:
    alone = log_mean_contrast([np.ones(1), np.array([1.0, 2.0])], [-1, 1])
    assert alone.value == pytest.approx(np.log(1.5))
    assert (alone.low, alone.high, alone.bca_low, alone.bca_high) == (-np.inf, np.inf, -np.inf, np.inf)
    assert np.isnan(alone.standard_error)
    sure = log_mean_contrast([np.ones(5), np.full(5, 2.0)], [-1, 1])
    assert (sure.low, sure.value, sure.high, sure.standard_error) == (*[pytest.approx(np.log(2))] * 3, 0.0)


@given(st.randoms(use_true_random=False))
def test_contrast_does_not_know_the_order(random: random.Random) -> None:
    samples = [x.tolist() for x in groups(25)]
    first = log_mean_contrast([np.array(x) for x in samples], [-1, 0, 1], n_resamples=199)
    for x in samples:
        random.shuffle(x)
    assert log_mean_contrast([np.array(x) for x in samples], [-1, 0, 1], n_resamples=199) == first
