"""Exponents recovered from synthetic minima, coverage of their intervals, refusals, and eq. (9)."""

from __future__ import annotations

import json

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlm_hoomd.errors import InsufficientStatistics
from qlm_hoomd.statistics import (
    Exponent,
    FiniteSizeScaling,
    alpha_from_omega_min,
    finite_size_scaling,
    predicted_alpha,
    strain_to_next_event,
    theta_from_gamma_min,
)

mpl.use("Agg")

SIZES = (500, 1000, 2000, 4000)


def minima(rng: np.random.Generator, exponent: float, counts: dict[int, int]) -> dict[int, np.ndarray]:
    """The smallest of N independent x with p(x) ~ x^exponent: a Weibull variable of shape 1 + exponent."""
    return {size: size ** (-1 / (1 + exponent)) * rng.weibull(1 + exponent, n) for size, n in counts.items()}


def theta(value: float, low: float, high: float) -> Exponent:
    return Exponent("theta", value, low, high, 0.95, "test", 100)


# ---- estimates ----


@pytest.mark.parametrize(
    ("name", "fit", "exponent"), [("theta", theta_from_gamma_min, 0.35), ("alpha", alpha_from_omega_min, 4.0)]
)
def test_many_realisations_recover_the_exponent(name: str, fit: type, exponent: float) -> None:
    result = fit(minima(np.random.default_rng(1), exponent, dict.fromkeys(SIZES, 4000)))
    assert result.exponent.name == name
    assert result.exponent.low < exponent < result.exponent.high
    assert result.exponent.half_width < 0.1 * (1 + exponent)
    assert result.slope == pytest.approx(1 / (1 + result.exponent.value))
    assert result.p_value > 0.01
    assert result.p_plateau < 1e-6


def test_exact_power_law_is_recovered_exactly() -> None:
    """With the same relative scatter at every size, weighted and unweighted fits are the power law itself."""
    scatter = np.linspace(0.5, 1.5, 30)
    result = finite_size_scaling({size: 3.0 * size**-0.625 * scatter for size in SIZES}, name="theta")
    assert result.exponent.value == pytest.approx(0.6)
    assert result.prefactor == pytest.approx(3.0)
    assert result.curve(8000) == pytest.approx(3.0 * 8000**-0.625)
    assert result.local_exponents == pytest.approx((0.6, 0.6, 0.6))
    assert result.least_squares is not None
    assert (result.least_squares.low, result.least_squares.high) == (pytest.approx(0.6), pytest.approx(0.6))


def test_equal_counts_give_the_papers_estimate_and_unequal_ones_weigh() -> None:
    rng = np.random.default_rng(2)
    equal = theta_from_gamma_min(minima(rng, 0.5, dict.fromkeys(SIZES, 50)))
    assert equal.least_squares is not None
    assert equal.exponent.value == pytest.approx(equal.least_squares.value)
    samples = minima(rng, 0.5, {500: 5000, 1000: 5000, 2000: 5000, 4000: 20})
    samples[4000] = samples[4000] * 2.0  # a fluke of the few
    weighted = theta_from_gamma_min(samples)
    assert weighted.least_squares is not None
    assert weighted.exponent.value < weighted.least_squares.value - 0.5


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = [
        result.low < 0.35 < result.high
        for result in (theta_from_gamma_min(minima(rng, 0.35, dict.fromkeys(SIZES, 24))).exponent for _ in range(200))
    ]
    assert 0.88 <= np.mean(hits) <= 0.99


def test_confidence_sets_the_width() -> None:
    samples = minima(np.random.default_rng(4), 0.5, dict.fromkeys(SIZES, 100))
    wide, narrow = (theta_from_gamma_min(samples, confidence=level).exponent for level in (0.95, 0.683))
    assert narrow.half_width < 0.6 * wide.half_width


def test_means_off_the_power_law_are_reported() -> None:
    samples = minima(np.random.default_rng(5), 0.5, dict.fromkeys(SIZES, 500))
    samples[1000] = samples[1000] * 1.5
    result = theta_from_gamma_min(samples)
    assert result.p_value < 0.01
    assert any("scatter about the power law" in warning for warning in result.exponent.warnings)


# ---- refusals ----


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({500: 50, 2000: 50}, r"2 system sizes \(N = 500, 2000\) where at least 3 are needed"),
        ({500: 50, 700: 50, 1000: 50}, "largest size is 2 times the smallest where a factor 3 is needed"),
        ({500: 50, 1000: 19, 2000: 50}, "19 realisations at N = 1000 where at least 20 are needed"),
    ],
)
def test_weak_statistics_are_refused_with_the_estimate_inside(counts: dict[int, int], reason: str) -> None:
    with pytest.raises(InsufficientStatistics, match=reason) as refusal:
        theta_from_gamma_min(minima(np.random.default_rng(6), 0.5, counts))
    estimate = refusal.value.estimate
    assert isinstance(estimate, FiniteSizeScaling)
    assert -0.5 < estimate.exponent.value < 3


@pytest.mark.parametrize("sizes", [(), (1000,)])
def test_one_size_has_no_estimate(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InsufficientStatistics, match=r"system sizes? .*where at least 3 are needed") as refusal:
        theta_from_gamma_min(minima(np.random.default_rng(6), 0.5, dict.fromkeys(sizes, 50)))
    assert refusal.value.estimate is None


def test_two_per_cent_may_be_censored_and_no_more() -> None:
    samples = minima(np.random.default_rng(7), 0.5, dict.fromkeys(SIZES, 50))
    one, two = (np.arange(50) < n for n in (1, 2))
    result = theta_from_gamma_min(samples, censored={500: one})
    assert result.n_censored == (1, 0, 0, 0)
    assert "1 of 200 minima are lower limits" in result.exponent.warnings
    with pytest.raises(InsufficientStatistics, match="in 2 of 50 at N = 500 where at most 2 % may lack one"):
        theta_from_gamma_min(samples, censored={500: two})


def test_a_mean_that_does_not_fall_has_no_exponent() -> None:
    rng = np.random.default_rng(8)
    with pytest.raises(InsufficientStatistics, match="no upper limit"):
        theta_from_gamma_min({size: rng.weibull(1.5, 30) for size in SIZES})


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_impossible_minima_are_the_callers_error(bad: float) -> None:
    samples = minima(np.random.default_rng(9), 0.5, dict.fromkeys(SIZES, 30))
    samples[1000][3] = bad
    with pytest.raises(ValueError, match="N = 1000: 1 of 30 minima are not positive finite numbers"):
        theta_from_gamma_min(samples)


# ---- strain to the next event ----


def test_next_event() -> None:
    found = strain_to_next_event([[0.01, 0.03], [0.05, 0.02], [], [0.02]], 0.02, 0.1)
    assert found.distances == pytest.approx([0.01, 0.03, 0.08, 0.08])
    assert found.censored.tolist() == [False, False, True, True]


def test_next_event_with_ends_of_their_own() -> None:
    found = strain_to_next_event([[0.06], [0.06]], 0.0, [0.1, 0.05])
    assert found.distances == pytest.approx([0.06, 0.05])
    assert found.censored.tolist() == [False, True]
    with pytest.raises(ValueError, match=r"1 of 2 realisations end at or before strain 0\.05"):
        strain_to_next_event([[0.06], [0.06]], 0.05, [0.1, 0.05])


@given(st.lists(st.lists(st.floats(1e-6, 1.0)), min_size=1, max_size=8), st.floats(0.0, 0.5))
def test_next_event_agrees_with_the_definition(events: list[list[float]], strain: float) -> None:
    found = strain_to_next_event(events, strain, 0.75)
    for strains, distance, censored in zip(events, *found, strict=True):
        ahead = sorted(s for s in strains if strain < s <= 0.75)
        assert censored == (not ahead)
        assert distance == pytest.approx((ahead[0] if ahead else 0.75) - strain)


# ---- eq. (9) ----


@pytest.mark.parametrize(("value", "alpha"), [(0.0, 3.0), (0.1, 3.4), (0.25, 4.0), (0.5, 4.0), (-0.2, 3.0)])
def test_predicted_alpha(value: float, alpha: float) -> None:
    assert predicted_alpha(theta(value, value, value)).value == pytest.approx(alpha)


def test_prediction_maps_the_ends_of_the_interval() -> None:
    across = predicted_alpha(theta(0.3, 0.15, 0.5))
    assert (across.low, across.value, across.high) == (pytest.approx(3.6), 4.0, 4.0)
    below = predicted_alpha(theta(0.1, -0.1, 0.2))
    assert (below.low, below.value, below.high) == (3.0, pytest.approx(3.4), pytest.approx(3.8))
    assert predicted_alpha(theta(0.6, 0.4, np.inf)).high == 4.0


@given(st.floats(-1, 3), st.floats(0, 1), st.floats(0, 1))
def test_prediction_stays_within_the_theory(value: float, below: float, above: float) -> None:
    alpha = predicted_alpha(theta(value, value - below, value + above))
    assert 3.0 <= alpha.low <= alpha.value <= alpha.high <= 4.0


# ---- results as objects ----


def test_results_are_immutable_values() -> None:
    samples = minima(np.random.default_rng(10), 0.5, dict.fromkeys(SIZES, 30))
    result = theta_from_gamma_min(samples)
    assert eval(repr(result.exponent)) == result.exponent
    assert result == theta_from_gamma_min(samples)
    with pytest.raises(AttributeError):
        result.slope = 1.0  # type: ignore[misc]


def test_json_is_strict_also_for_infinite_ends() -> None:
    with pytest.raises(InsufficientStatistics) as refusal:
        theta_from_gamma_min({500: [1.0], 1000: [0.5]})
    plain = json.loads(json.dumps(refusal.value.estimate.to_dict(), allow_nan=False))
    assert plain["exponent"]["high"] is None
    assert plain["least_squares"] is None


def test_plot_draws_means_and_fit() -> None:
    result = theta_from_gamma_min(minima(np.random.default_rng(11), 0.5, dict.fromkeys(SIZES, 30)))
    ax = result.plot(color="black")
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert [len(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) in {4, 32}] == [4, 4, 4, 32]
    assert result.plot(ax) is ax
