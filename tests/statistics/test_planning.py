"""The planner's arithmetic: against simulation, against brute force, and its laws."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qlm_hoomd.statistics import finite_size_scaling
from qlm_hoomd.statistics.planning import (
    ACROSS,
    OPPOSITE,
    Scatter,
    assumed_scatter,
    cheapest_numbers,
    equal_numbers,
    leverage,
    measured_scatter,
    needed_modes,
    relative_variance_of_squared_scatter,
    weibull_scatter,
)

SIZES = (500, 1000, 2000, 4000)
COSTS = (1.0, 2.8, 8.0, 23.0)
MOST = 1_000_000

size_lists = st.lists(st.integers(100, 100_000), min_size=3, max_size=5, unique=True).map(sorted)


def minima(rng: np.random.Generator, exponent: float, counts: dict[int, int]) -> dict[int, np.ndarray]:
    return {size: size ** (-1 / (1 + exponent)) * rng.weibull(1 + exponent, n) for size, n in counts.items()}


# ---- against simulation ----


@pytest.mark.parametrize(
    ("name", "exponent", "target"), [("theta", 0.5, 0.1), ("theta", 0.2, 0.15), ("alpha", 4.0, 0.5), ("alpha", 3.0, 0.4)]
)
@pytest.mark.parametrize("way", ["cheapest", "equal"])
def test_planned_numbers_give_the_promised_half_width(name: str, exponent: float, target: float, way: str) -> None:
    """The interval of the estimator that is quoted, on minima of known exponent, with the scatter known."""
    needed = Scatter(exponent, weibull_scatter(1 + exponent)).needed_leverage(target)
    least = [20] * 4
    numbers = (
        cheapest_numbers(SIZES, COSTS, needed, at_least=least, at_most=MOST)
        if way == "cheapest"
        else equal_numbers(SIZES, needed, at_least=least, at_most=MOST)
    )
    counts = dict(zip(SIZES, numbers.tolist(), strict=True))
    rng = np.random.default_rng(1)
    widths = [finite_size_scaling(minima(rng, exponent, counts), name=name).exponent.half_width for _ in range(8)]
    assert np.mean(widths) == pytest.approx(target, rel=0.15)


def test_plan_from_a_pilot_run_gives_the_promised_half_width_within_the_range_that_it_states() -> None:
    """Scatter and exponent from a pilot: the true need is within the stated factor of the estimate in about 95 % of cases."""
    rng, exponent, target = np.random.default_rng(2), 0.4, 0.1
    truth = Scatter(exponent, weibull_scatter(1 + exponent)).needed_leverage(target)
    hits = 0
    for _ in range(1000):
        x_sr = np.array(list(minima(rng, exponent, dict.fromkeys(SIZES, 60)).values()))
        mean_s, error_s = x_sr.mean(axis=1), x_sr.std(axis=1, ddof=1) / 60**0.5
        slope = -np.polyfit(np.log(SIZES), np.log(mean_s), 1)[0]
        found = measured_scatter(assumed_scatter("theta"), SIZES, [60] * 4, mean_s, error_s, slope)
        assert found.slope_error is not None
        factor = found.uncertainty(target)
        hits += 1 / factor <= found.needed_leverage(target) / truth <= factor
    assert 0.92 <= hits / 1000 <= 0.975


def test_variance_of_the_scatter_is_that_of_simulated_samples() -> None:
    rng = np.random.default_rng(3)
    for shape in (1.5, 5.0):
        x_kr = rng.weibull(shape, (4000, 400))
        log_squared_k = 2 * np.log(x_kr.std(axis=1, ddof=1) / x_kr.mean(axis=1))
        expected = relative_variance_of_squared_scatter(weibull_scatter(shape)) / 400
        assert np.var(log_squared_k) == pytest.approx(expected, rel=0.12)


def test_needed_modes_are_those_of_the_likelihood() -> None:
    """alpha from n independent modes: omega is a power of a uniform number, so that ln omega is exponential."""
    rng, alpha = np.random.default_rng(4), 3.5
    n = round(needed_modes(alpha, 0.3))
    estimates = n / rng.exponential(1 / (1 + alpha), (4000, n)).sum(axis=1) - 1
    assert 1.96 * np.std(estimates) == pytest.approx(0.3, rel=0.05)


# ---- scatter ----


@given(st.floats(0.4, 50))
def test_weibull_scatter_is_scipys(shape: float) -> None:
    assert weibull_scatter(shape) == pytest.approx(stats.weibull_min.std(shape) / stats.weibull_min.mean(shape), rel=1e-6)


@given(st.floats(-0.3, 6), st.floats(0.05, 1.5), st.floats(1e-3, 5))
def test_needed_leverage_and_half_width_are_inverse(exponent: float, relative: float, target: float) -> None:
    scatter = Scatter(exponent, relative)
    assert scatter.half_width(scatter.needed_leverage(target)) == pytest.approx(target, rel=1e-6)


def test_half_width_is_that_of_the_mapped_ends() -> None:
    scatter, sigma = Scatter(0.5, 0.68), 1.959964 * 0.68 / 100**0.5
    assert scatter.half_width(100.0) == pytest.approx((1 / (2 / 3 - sigma) - 1 / (2 / 3 + sigma)) / 2)
    assert scatter.half_width(1.0) == scatter.half_width(0.0) == np.inf


def test_scatter_of_a_pilot_is_pooled_over_sizes() -> None:
    found = measured_scatter(
        assumed_scatter("theta"), (500, 1000, 2000), (40, 20, 1), (2.0, 1.0, 0.5), (0.2, 0.15, np.nan), 0.8
    )
    assert found.relative**2 == pytest.approx((39 * 40 * 0.1**2 + 19 * 20 * 0.15**2) / 58)
    assert (found.exponent, found.slope_error, found.n_minima) == (0.5, None, 61)


def test_too_few_minima_leave_the_theory() -> None:
    assert measured_scatter(assumed_scatter("theta"), SIZES, (6, 6, 6, 5), (4, 3, 2, 1), (0.1,) * 4, 0.6) == assumed_scatter(
        "theta"
    )
    assert assumed_scatter("theta").exponent == 0.5
    assert assumed_scatter("alpha").relative == pytest.approx(weibull_scatter(5.0))
    assert assumed_scatter("theta").uncertainty(0.1) == 1.0


def test_directions_of_a_glass_count_as_what_they_are_worth() -> None:
    """The variance of the mean of six normal variables with the correlations that are assumed."""
    six = ("+xy", "-xy", "+xz", "-xz", "+yz", "-yz")
    matrix = np.full((6, 6), ACROSS)
    for plane in (0, 2, 4):
        matrix[plane : plane + 2, plane : plane + 2] = [[1.0, OPPOSITE], [OPPOSITE, 1.0]]
    means = np.random.default_rng(4).multivariate_normal(np.zeros(6), matrix, 20000).mean(axis=1)
    single = assumed_scatter("theta")
    assert assumed_scatter("theta", six).relative == pytest.approx(single.relative * means.std(), rel=0.02)
    assert assumed_scatter("theta", ("+xz",)) == single
    assert assumed_scatter("theta", six).exponent == single.exponent


@pytest.mark.parametrize("slope", [None, -0.1, 0.0, 0.3])
def test_slope_that_is_not_known_leaves_the_theorys_exponent(slope: float | None) -> None:
    mean_s = np.array([4.0, 3.0, 2.0, 1.0])
    found = measured_scatter(assumed_scatter("theta"), SIZES, (10,) * 4, mean_s, 0.7 * mean_s / 10**0.5, slope)
    assert (found.exponent, found.slope_error, found.n_minima) == (0.5, None, 40)
    assert found.relative == pytest.approx(0.7)


def test_more_data_make_the_range_narrower() -> None:
    mean_s = np.array([4.0, 2.4, 1.5, 1.0])
    factors = [
        measured_scatter(assumed_scatter("theta"), SIZES, (n,) * 4, mean_s, 0.7 * mean_s / n**0.5, 0.667).uncertainty(0.1)
        for n in (30, 100, 1000)
    ]
    assert 4 > factors[0] > factors[1] > factors[2] > 1.0


# ---- allocation ----


def test_leverage_is_that_of_the_weighted_fit() -> None:
    n_s, x_s = np.array([50, 20, 30, 10]), np.log(SIZES)
    _, covariance = np.polyfit(x_s, x_s, 1, w=np.sqrt(n_s), cov="unscaled")
    assert leverage(SIZES, n_s) == pytest.approx(1 / covariance[0, 0])
    assert leverage(SIZES, [0] * 4) == leverage(SIZES, [9, 0, 0, 0]) == 0.0


@pytest.mark.parametrize(("costs", "at_least"), [((1, 3, 9), (2, 2, 2)), ((1, 1, 1), (2, 9, 2)), ((1, 2, 30), (12, 2, 2))])
def test_cheapest_numbers_are_those_of_brute_force(costs: tuple[int, ...], at_least: tuple[int, ...]) -> None:
    sizes, needed = (500, 1000, 4000), 22.0
    best = min(
        np.dot(costs, numbers)
        for numbers in product(*(range(low, 40) for low in at_least))
        if leverage(sizes, numbers) >= needed
    )
    found = cheapest_numbers(sizes, costs, needed, at_least=at_least, at_most=MOST)
    assert leverage(sizes, found) >= needed * (1 - 1e-5)
    assert best <= np.dot(costs, found) <= best + sum(costs)  # rounded up


@given(
    sizes=size_lists,
    power=st.floats(0.3, 3.0),
    there=st.lists(st.integers(0, 300), min_size=5, max_size=5),
    target=st.floats(0.05, 1.0),
    tighter=st.floats(0.2, 1.0),
)
def test_tighter_targets_never_need_fewer(
    sizes: list[int], power: float, there: list[int], target: float, tighter: float
) -> None:
    sizes[-1] = max(sizes[-1], 3 * sizes[0])
    costs, at_least = np.array(sizes) ** power, np.maximum(20, there[: len(sizes)])
    scatter = assumed_scatter("theta")
    loose, tight = (scatter.needed_leverage(t) for t in (target, tighter * target))
    limits = {"at_least": at_least, "at_most": MOST}
    few, many = (equal_numbers(sizes, s, **limits) for s in (loose, tight))
    assert np.all(few <= many)
    cheap, dear = (cheapest_numbers(sizes, costs, s, **limits) for s in (loose, tight))
    assert np.dot(costs, cheap) <= np.dot(costs, dear) + costs.sum()  # each is rounded up
    for numbers, needed in ((few, loose), (many, tight), (cheap, loose), (dear, tight)):
        assert np.all(numbers >= at_least)
        assert leverage(sizes, numbers) >= needed * (1 - 1e-5)
    assert np.dot(costs, dear) <= np.dot(costs, many) + costs.sum()


def test_what_is_there_is_kept_and_counts() -> None:
    alone = cheapest_numbers(SIZES, COSTS, 1000.0, at_least=[20] * 4, at_most=MOST)
    helped = cheapest_numbers(SIZES, COSTS, 1000.0, at_least=[20, 20, 20, 300], at_most=MOST)
    assert helped[3] == 300
    assert helped[0] < alone[0]


def test_no_number_reaches_the_target() -> None:
    with pytest.raises(ValueError, match="100 realisations of each size reach 240"):
        cheapest_numbers(SIZES, COSTS, 1e4, at_least=[20] * 4, at_most=100)
    with pytest.raises(ValueError, match="100 realisations of each size"):
        equal_numbers(SIZES, 1e4, at_least=[20] * 4, at_most=100)
