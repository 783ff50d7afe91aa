"""Scalings that are told apart where the data can, and are not where they cannot."""

from __future__ import annotations

import json

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from qlm_hoomd.errors import InsufficientStatistics
from qlm_hoomd.statistics import ScalingAlternatives, compare_scalings, theta_from_gamma_min
from qlm_hoomd.statistics.alternatives import _log_law

mpl.use("Agg")

SIZES = (500, 1000, 2000, 4000)


def minima(seed: int, theta: float, n_cross: float | None, n: int, sizes: tuple[int, ...] = SIZES) -> dict[int, np.ndarray]:
    """Minima of a shape that has nothing to do with theta, about the law's scale."""
    rng = np.random.default_rng(seed)
    law = np.exp(_log_law(np.array(sizes, dtype=float), theta, n_cross))
    return {size: scale * rng.weibull(1.1, n) for size, scale in zip(sizes, law, strict=True)}


# ---- the laws ----


@given(st.floats(0.02, 5.0), st.floats(1.0, 1e6))
def test_crossover_solves_its_equation(theta: float, n_cross: float) -> None:
    sizes = np.array([10.0, 500.0, 4000.0, 1e7])
    u = np.exp(_log_law(sizes, theta, n_cross))
    assert sizes * (u + u ** (1 + theta)) / 2 == pytest.approx(np.full(4, n_cross), rel=1e-9)


def test_crossover_has_the_two_others_at_its_ends() -> None:
    sizes = np.array([500.0, 4000.0])
    slope = lambda theta, n_cross: -np.diff(_log_law(sizes, theta, n_cross))[0] / np.log(8)  # noqa: E731
    assert slope(0.5, 1e9) == pytest.approx(1 / 1.5, abs=3e-3)
    assert slope(0.5, 1e-3) == pytest.approx(1.0, abs=3e-3)
    assert slope(0.5, None) == pytest.approx(1 / 1.5)
    assert 1 / 1.5 < slope(0.5, 1500.0) < 1.0


def test_power_law_is_the_maximum_of_the_likelihood() -> None:
    """Its deviance against a general optimiser, at the shape of the free scales."""
    samples = minima(1, 0.4, None, 60)
    result = compare_scalings(samples)
    k = result.shape

    def minus(slope: float, level: float) -> float:
        return sum(
            np.sum((x / (np.exp(level) * size**-slope)) ** k) + k * x.size * (level - slope * np.log(size))
            for size, x in samples.items()
        )

    free = sum(x.size * (1 + k * np.log(s)) for x, s in zip(samples.values(), result.scales, strict=True))
    best = optimize.minimize(lambda p: minus(*p), [0.7, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-9})
    assert 1 / (1 + result.power_law.theta) == pytest.approx(best.x[0], abs=1e-5)
    assert result.power_law.deviance * result.dispersion == pytest.approx(2 * (best.fun - free), abs=1e-5)


# ---- verdicts ----


def test_akaikes_criterion_is_that_of_hurvich_and_tsai() -> None:
    """Biometrika 76, 297: -2 ln L + 2 k + 2 k (k + 1) / (n - k - 1), with the shape of the minima among the k."""
    result = compare_scalings(minima(3, 0.4, None, 25, SIZES[:4]))
    n = 4 * 25
    laws = zip((result.plateau, result.power_law, result.crossover), (2, 3, 4), strict=True)
    rest = [law.aicc - law.deviance - 2 * k - 2 * k * (k + 1) / (n - k - 1) for law, k in laws]
    assert rest == pytest.approx([rest[0]] * 3, abs=1e-9)


def test_pseudo_gap_is_recognised_and_a_later_plateau_is_not_excluded() -> None:
    result = compare_scalings(minima(12, 0.5, None, 400))
    assert result.p_plateau < 1e-6
    assert result.p_power_law > 0.05
    assert result.theta_low < 0.5 < result.theta_high
    assert result.n_cross_high == np.inf
    assert 0 < result.n_cross_low < np.inf
    assert result.power_law.aicc == 0.0
    assert result.verdict.startswith("A power law with theta = 0.")
    assert "a plateau at all sizes is excluded" in result.verdict
    assert f"A crossover to a plateau at N = {result.n_cross_low:.0f} or beyond is not." in result.verdict
    fss = theta_from_gamma_min(minima(12, 0.5, None, 400))
    assert fss.likelihood is not None
    assert result.power_law.theta == pytest.approx(fss.likelihood.value, abs=0.02)
    assert (result.theta_low, result.theta_high) == (
        pytest.approx(fss.likelihood.low, abs=0.03),
        pytest.approx(fss.likelihood.high, abs=0.03),
    )


def test_plateau_is_not_told_from_a_small_theta() -> None:
    result = compare_scalings(minima(3, 0.0, None, 100))
    assert result.p_plateau > 0.05
    assert result.n_cross_low == 0.0
    assert result.verdict.startswith("The data cannot tell a power law from a plateau")
    assert "includes 0" in result.verdict


def test_crossover_is_seen_with_sizes_on_both_sides() -> None:
    sizes = tuple(125 * 2**i for i in range(8))
    result = compare_scalings(minima(4, 1.0, 1400.0, 1500, sizes))
    assert result.p_power_law < 0.001
    assert result.p_plateau < 0.001
    assert result.n_cross_low < 1400 < result.n_cross_high < np.inf
    assert result.crossover.aicc == 0.0
    assert "turn from a power law towards a plateau" in result.verdict
    assert result.crossover.p_value > 0.01


def test_steeper_than_a_plateau() -> None:
    assert "more steeply with N than a plateau" in compare_scalings(minima(5, -0.3, None, 300)).verdict


def test_none_of_the_three() -> None:
    samples = minima(6, 0.5, None, 400)
    samples[1000] = samples[1000] * 1.6
    result = compare_scalings(samples)
    assert result.verdict.startswith("None of the three describes the minima")


def test_correlated_points_weigh_no_more_than_realisations() -> None:
    samples = minima(7, 0.1, None, 100)
    one = compare_scalings(samples)
    thrice = compare_scalings({size: np.stack([x, x, x], axis=1) for size, x in samples.items()})
    assert thrice.p_plateau == pytest.approx(one.p_plateau)
    assert thrice.power_law.deviance == pytest.approx(one.power_law.deviance)
    assert thrice.scale_errors == pytest.approx(one.scale_errors)


# ---- refusals ----


def test_refusals() -> None:
    with pytest.raises(InsufficientStatistics, match="2 system sizes where at least 3 are needed"):
        compare_scalings(minima(8, 0.5, None, 50, (500, 2000)))
    with pytest.raises(InsufficientStatistics, match="largest size is 2 times the smallest"):
        compare_scalings(minima(8, 0.5, None, 50, (500, 700, 1000)))
    with pytest.raises(InsufficientStatistics, match="19 realisations at N = 500") as refusal:
        compare_scalings(minima(8, 0.5, None, 19))
    assert isinstance(refusal.value.estimate, ScalingAlternatives)
    with pytest.raises(InsufficientStatistics, match="minima without scatter"):
        compare_scalings({size: np.ones(30) / size for size in SIZES})


def test_three_sizes_leave_nothing_to_judge_the_crossover_by() -> None:
    result = compare_scalings(minima(9, 0.5, None, 100, SIZES[:3]))
    assert np.isnan(result.crossover.p_value)
    assert result.to_dict()["crossover"]["p_value"] is None


# ---- what must not matter ----


@settings(max_examples=10)
@given(st.permutations(range(25)), st.floats(1e-4, 1e4))
def test_order_changes_nothing_and_units_nothing_that_counts(order: list[int], unit: float) -> None:
    samples = minima(10, 0.4, None, 25)
    first = compare_scalings(samples)
    turned = compare_scalings({size: samples[size][order] for size in reversed(SIZES)})
    assert json.dumps(turned.to_dict(), allow_nan=False) == json.dumps(first.to_dict(), allow_nan=False)
    scaled = compare_scalings({size: unit * x for size, x in samples.items()})
    assert scaled.verdict == first.verdict
    assert scaled.p_plateau == pytest.approx(first.p_plateau)
    assert scaled.scales == pytest.approx([unit * s for s in first.scales])


def test_plot_draws_points_and_three_laws() -> None:
    result = compare_scalings(minima(11, 0.5, None, 50))
    ax = result.plot(color="black")
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert [line.get_label().split(" (")[0] for line in ax.lines if "AICc" in str(line.get_label())] == [
        "plateau",
        "power law",
        "crossover",
    ]
    fitted = next(line for line in ax.lines if str(line.get_label()).startswith("power law"))
    assert fitted.get_ydata()[[0, -1]] == pytest.approx(np.array(result.power_law.scales)[[0, -1]])
    assert result.plot(ax) is ax
