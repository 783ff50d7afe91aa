"""theta' and alpha' from densities that are known, windows, refusals, and what must not matter."""

from __future__ import annotations

import json

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qlm_hoomd.errors import InsufficientStatistics
from qlm_hoomd.statistics import Exponent, MinimaDistribution, minima_exponent, poisson_interval, predicted_alpha_prime
from qlm_hoomd.statistics.minima import _drift

mpl.use("Agg")

SIZES = (500, 1000, 2000, 4000)


def minima(rng: np.random.Generator, exponent: float, n: int) -> dict[int, np.ndarray]:
    """Weibull minima: density ~ x^exponent, with another scale at each size."""
    return {size: size ** (-1 / (1 + exponent)) * rng.weibull(1 + exponent, n) for size in SIZES}


def recurrence(rng: np.random.Generator, n: int) -> dict[int, np.ndarray]:
    """Time left of Weibull intervals that a given strain has hit: flat at 0, whatever the intervals are like."""
    return {size: rng.random(n) * rng.gamma(1 + 1 / 1.5, size=n) ** (1 / 1.5) / size for size in SIZES}


# ---- estimates ----


@pytest.mark.parametrize(("name", "exponent"), [("theta_prime", 0.4), ("alpha_prime", 3.4)])
def test_many_realisations_recover_the_exponent(name: str, exponent: float) -> None:
    result = minima_exponent(minima(np.random.default_rng(1), exponent, 4000), name=name)
    assert result.exponent.name == result.weibull.name == name
    assert result.exponent.low < exponent < result.exponent.high
    assert result.exponent.half_width < 0.2 * (1 + exponent)
    assert result.weibull.low < exponent < result.weibull.high
    assert result.weibull.half_width < 0.2 * result.exponent.half_width
    assert result.weibull_p > 0.01
    assert result.n_window == round(16000**0.6)
    assert result.drift_p > 0.01


def test_samples_at_a_given_strain_have_a_flat_density() -> None:
    result = minima_exponent(recurrence(np.random.default_rng(2), 2000), name="theta_prime")
    assert result.exponent.low < 0.0 < result.exponent.high
    assert result.exponent.half_width < 0.25
    # All minima together are no Weibull law, so that its shape misses, and says so.
    assert result.weibull_p < 0.01
    assert result.weibull.low > 0.0
    assert any("do not follow a Weibull law" in warning for warning in result.weibull.warnings)


def test_exact_power_law_is_hills_estimate() -> None:
    """x_i = (i / n)^2 has the density x^(-1/2); the window holds the smallest n^0.6, and Hill's sum is known."""
    n = 4000
    x = (np.arange(1, n + 1) / n) ** 2
    result = minima_exponent({1000: x}, name="theta_prime")
    count = round(n**0.6)
    assert result.n_window == count
    assert result.window == (pytest.approx(x[0] / np.median(x)), pytest.approx(x[count] / np.median(x)))
    expected = (count - 1) / np.sum(2 * np.log((count + 1) / np.arange(1, count + 1))) - 1
    assert result.exponent.value == pytest.approx(expected)
    assert result.exponent.value == pytest.approx(-0.5, abs=0.02)
    assert result.scales == (pytest.approx(np.median(x)),)
    # The curve holds the share of the minima that lies in the window.
    grid = np.linspace(0, result.window[1], 20001)[1:]
    assert np.sum(result.curve(grid)) * grid[0] == pytest.approx(count / n, rel=0.01)


def test_weibull_shape_has_no_bias_from_unknown_scales() -> None:
    """Twenty minima at each of four sizes: plain maximum likelihood of shape and four scales is 7 % too high."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(60):
        with pytest.raises(InsufficientStatistics) as refusal:
            minima_exponent(minima(rng, 0.5, 20), name="theta_prime")
        found.append(refusal.value.estimate.weibull.value)
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)


def test_window_shrinks_to_where_the_power_law_holds() -> None:
    """Of 10000 minima the smallest 80 follow x^1, the rest starts with a gap and a pile."""
    rng = np.random.default_rng(4)
    tail = 0.1 * np.sqrt(rng.random(80))
    result = minima_exponent(
        {1000: np.concatenate([tail, 0.1 + 0.002 * rng.random(220), 1 + rng.random(9700)])}, name="theta_prime"
    )
    assert result.n_window < 100
    assert result.exponent.low < 1.0 < result.exponent.high
    assert result.drift_p > 0.01


def test_drift_is_exact_for_a_power_law() -> None:
    rng = np.random.default_rng(5)
    p_values = [_drift(np.sort(np.log(rng.random(41)) / 1.3), 1) for _ in range(2000)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.015)
    assert _drift(np.log([1.0, 1.0, 1.0, 2.0]), 1) == 0.0


# ---- counting ----


def test_histogram_counts_and_its_errors_are_poissons() -> None:
    samples = minima(np.random.default_rng(6), 0.5, 100)
    histogram = minima_exponent(samples, name="theta_prime").histogram
    scaled = np.concatenate([x / np.median(x) for x in samples.values()])
    assert np.histogram(scaled, bins=histogram.edges)[0].tolist() == list(histogram.counts)
    assert np.sum(np.array(histogram.density) * np.diff(histogram.edges)) == pytest.approx(1.0)
    low, high = poisson_interval(histogram.counts)
    width = 400 * np.diff(histogram.edges)
    assert histogram.low == pytest.approx(low / width)
    assert histogram.high == pytest.approx(high / width)


def test_points_of_one_realisation_are_no_independent_counts() -> None:
    samples = minima(np.random.default_rng(7), 0.5, 100)
    one = minima_exponent(samples, name="theta_prime")
    thrice = minima_exponent({size: np.stack([x, x, x], axis=1) for size, x in samples.items()}, name="theta_prime")
    assert thrice.histogram.counts == tuple(3 * n for n in one.histogram.counts)
    assert thrice.histogram.low == pytest.approx(one.histogram.low)
    assert thrice.histogram.high == pytest.approx(one.histogram.high)
    assert thrice.weibull.half_width == pytest.approx(one.weibull.half_width)


# ---- refusals ----


def test_weak_statistics_are_refused_with_the_estimate_inside() -> None:
    with pytest.raises(InsufficientStatistics, match="19 realisations at N = 4000 where at least 20 are needed") as refusal:
        minima_exponent(minima(np.random.default_rng(8), 0.5, 60) | {4000: np.linspace(0.1, 1, 19)}, name="theta_prime")
    assert isinstance(refusal.value.estimate, MinimaDistribution)
    with pytest.raises(
        InsufficientStatistics, match="15 realisations with a minimum in the window where at least 20 are needed"
    ):
        minima_exponent(minima(np.random.default_rng(8), 0.5, 24), name="theta_prime")
    with pytest.raises(InsufficientStatistics, match="no minima"):
        minima_exponent({}, name="theta_prime")


def test_censored_minima() -> None:
    samples = minima(np.random.default_rng(9), 0.5, 100)
    cut = {size: x > np.quantile(x, 0.9) for size, x in samples.items()}
    result = minima_exponent(samples, name="theta_prime", censored=cut)
    assert "40 of 400 minima are lower limits" in result.exponent.warnings
    # Limits lie above the window, which does not see them.
    assert result.exponent.value == minima_exponent(samples, name="theta_prime").exponent.value
    with pytest.raises(InsufficientStatistics, match="50 of 100 at N = 500: not even the median is known"):
        minima_exponent(samples, name="theta_prime", censored={500: np.arange(100) < 50})


def test_window_ends_before_the_first_limit() -> None:
    samples = {1000: np.arange(1, 501) / 500}
    result = minima_exponent(samples, name="theta_prime", censored={1000: np.arange(500) == 30})
    assert result.n_window == 30


def test_drifting_and_unresolved_densities_are_refused() -> None:
    with pytest.raises(InsufficientStatistics, match="the local exponent drifts within every window tried"):
        minima_exponent({1000: np.exp(-0.001 * (800 / np.arange(1, 801)) ** 2)}, name="theta_prime")
    with pytest.raises(InsufficientStatistics, match="the 300 smallest minima are all equal"):
        minima_exponent({1000: np.concatenate([np.full(300, 0.1), np.linspace(1, 2, 300)])}, name="theta_prime")


# ---- prediction ----


def test_prediction_of_alpha_prime_has_no_kink() -> None:
    predicted = predicted_alpha_prime(Exponent("theta_prime", 0.5, -0.1, 1.0, 0.95, "test", 100, window=(0.1, 0.2)))
    assert (predicted.name, predicted.window) == ("alpha_prime", None)
    assert (predicted.low, predicted.value, predicted.high) == (pytest.approx(2.6), 5.0, 7.0)


# ---- what must not matter ----


@settings(max_examples=10)
@given(st.permutations(range(60)), st.integers(1, 2))
def test_order_of_the_realisations_does_not_change_a_byte(order: list[int], n_points: int) -> None:
    rng = np.random.default_rng(10)
    samples = {size: rng.weibull(1.4, (60, n_points)) / size for size in SIZES}
    first = json.dumps(minima_exponent(samples, name="theta_prime").to_dict(), allow_nan=False)
    turned = {size: samples[size][order] for size in reversed(SIZES)}
    assert json.dumps(minima_exponent(turned, name="theta_prime").to_dict(), allow_nan=False) == first


@settings(max_examples=10)
@given(st.floats(1e-6, 1e6))
def test_the_unit_does_not_matter(unit: float) -> None:
    samples = minima(np.random.default_rng(11), 0.3, 60)
    one, other = (minima_exponent({size: f * x for size, x in samples.items()}, name="alpha_prime") for f in (1.0, unit))
    for a, b in ((one.exponent, other.exponent), (one.weibull, other.weibull)):
        assert (b.value, b.low, b.high) == tuple(pytest.approx(end, rel=1e-6, abs=1e-6) for end in (a.value, a.low, a.high))
    assert other.scales == pytest.approx([unit * scale for scale in one.scales])


def test_plot_draws_histogram_and_power_law() -> None:
    result = minima_exponent(minima(np.random.default_rng(12), 0.5, 60), name="theta_prime")
    ax = result.plot(color="black")
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.lines[-1].get_xdata()[-1] == pytest.approx(result.window[1])
    assert result.plot(ax) is ax


# ---- degrees of freedom ----


def test_points_of_one_realisation_halve_the_freedom_of_the_drift() -> None:
    """Two minima of each realisation that go up and down together: the p-value is that of half as many."""
    rng = np.random.default_rng(7)
    p_values = []
    for _ in range(2000):
        spacing = np.repeat(rng.exponential(size=20), 2) / np.arange(1, 41)
        p_values.append(_drift(np.concatenate([[0.0], np.cumsum(spacing)]), 2))
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.015)


def _weibull_reach(samples: dict[int, np.ndarray], confidence: float) -> tuple[float, float]:
    """log of the shape, and half the width of its interval."""
    with pytest.raises(InsufficientStatistics) as refusal:
        minima_exponent(samples, name="theta_prime", confidence=confidence)
    found = refusal.value.estimate.weibull
    return float(np.log1p(found.value)), 0.5 * float(np.log1p(found.high) - np.log1p(found.low))


def test_the_interval_of_the_shape_has_students_tails() -> None:
    """How much wider 95 % is than 50 % says with how many degrees of freedom: a quarter of the realisations."""
    samples = minima(np.random.default_rng(8), 0.5, 5)
    wide, narrow = _weibull_reach(samples, 0.95)[1], _weibull_reach(samples, 0.5)[1]
    assert wide / narrow == pytest.approx(stats.t.ppf(0.975, 5) / stats.t.ppf(0.75, 5), rel=1e-9)


def test_the_error_of_the_shape_is_its_scatter() -> None:
    """Four sizes of five realisations each: one scale for each size and the shape take five of twenty degrees of freedom."""
    rng = np.random.default_rng(9)
    found = np.array([_weibull_reach(minima(rng, 0.5, 5), 0.5) for _ in range(400)])
    error = found[:, 1] / stats.t.ppf(0.75, 5)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(found[:, 0].std(), rel=0.08)
