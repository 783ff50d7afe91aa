from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qlm_mesoscopic import theory
from qlm_mesoscopic.errors import ModelError

# The slope d ln P / d ln lambda at lambda = 1e-2, 1e-3, 1e-4, 1e-8, and the fraction of shear transformations at 1e-3, from an
# independent two-dimensional quadrature with three digits (at 1e-8 it is good to 0.005).
CROSSOVER = [
    (0.10, (1.186, 1.191, 1.196, 1.199), 0.89),
    (0.20, (1.320, 1.344, 1.360, 1.388), 0.77),
    (0.25, (1.370, 1.399, 1.418, 1.457), 0.69),
    (0.30, (1.408, 1.438, 1.457, 1.488), 0.62),
    (0.35, (1.437, 1.464, 1.479, 1.498), 0.55),
    (0.50, (1.481, 1.494, 1.504, 1.502), 0.40),
]


@pytest.mark.parametrize(("theta", "slopes", "fraction"), CROSSOVER)
def test_finite_frequency_crossover_agrees_with_an_independent_quadrature(
    theta: float, slopes: tuple[float, ...], fraction: float
) -> None:
    computed = theory.spectrum_slope([1e-2, 1e-3, 1e-4, 1e-8], theta)
    assert computed[:2] == pytest.approx(slopes[:2], abs=6e-4)
    assert computed[2:] == pytest.approx(slopes[2:], abs=6.5e-3)
    shear, passive = theory.spectrum(1e-3, theta)
    assert float(shear / (shear + passive)) == pytest.approx(fraction, abs=6e-3)


@pytest.mark.parametrize("theta", [0.0, 0.1, 0.25, 0.4, 1.0])
@pytest.mark.parametrize("lam", [1e-6, 1e-3, 0.1, 1.0])
def test_spectrum_is_the_integral_of_the_joint_density(theta: float, lam: float) -> None:
    # Piecewise, because the density has kinks at phi = 0 and where x reaches x*, and a power law at the top.
    edges = [0.0, np.sqrt(2 * lam), np.sqrt(8 * lam / 3), np.sqrt(1 + 2 * lam)]
    node, weight = np.polynomial.legendre.leggauss(200)
    parts = []
    for low, high in pairwise(edges):
        if high <= low:
            continue
        t = 0.5 * (1 + node)
        kappa = high * t if low == 0 else low * (high / low) ** t
        measure = high if low == 0 else kappa * np.log(high / low)
        parts.append(2 * np.sum(0.5 * weight * measure * theory.joint_density(lam, kappa, theta)))
    shear, passive = theory.spectrum(lam, theta)
    assert float(passive) == pytest.approx(parts[0], rel=1e-10)
    if lam <= 0.375:
        assert float(shear) == pytest.approx(parts[1] + parts[2], rel=1e-7)


@given(theta=st.floats(0.0, 1.5), exponent=st.floats(-10, -1), against=st.floats(0.0, 1.0))
def test_slope_is_the_derivative_of_the_spectrum(theta: float, exponent: float, against: float) -> None:
    lam, step = 10.0**exponent, 1e-4
    up, down = (sum(theory.spectrum(lam * np.exp(sign * step), theta, against=against)) for sign in (1, -1))
    numerical = float(np.log(up / down)) / (2 * step)
    assert float(theory.spectrum_slope(lam, theta, against=against)) == pytest.approx(numerical, abs=1e-6)


@pytest.mark.parametrize("theta", [0.05, 0.25, 0.5])
def test_a_narrow_window_sees_the_local_slope_and_a_wide_one_something_in_between(theta: float) -> None:
    narrow = theory.alpha_in_window(theta, (0.00999, 0.01001))
    assert narrow == pytest.approx(float(theory.alpha_at(0.1, theta)), abs=1e-4)
    low, top = sorted(float(theory.alpha_at(np.sqrt(lam), theta)) for lam in (0.001, 0.1))
    assert low < theory.alpha_in_window(theta, (0.001, 0.1)) < top


def test_window_fit_is_that_of_a_sample() -> None:
    rng = np.random.default_rng(2)
    theta, low, top = 0.1, 0.01, 0.1
    lam = rng.uniform(low, top, 50_000)
    weight = np.add(*theory.spectrum(lam, theta))
    logarithm = np.log(lam[rng.random(lam.size) * weight.max() < weight] / low)
    slope, span = np.linspace(0.0, 3.0, 3001), np.log(top / low)
    likelihood = np.log((slope + 1) / np.expm1((slope + 1) * span)) + slope * logarithm.mean()
    expected = theory.alpha_in_window(theta, (low, top))
    assert 2 * slope[np.argmax(likelihood)] + 1 == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("theta", [0.0, 0.1, 0.15, 0.4, 0.5, 0.8])
def test_alpha_is_reached_as_the_frequency_vanishes(theta: float) -> None:
    assert float(theory.alpha_at(1e-30, theta)) == pytest.approx(float(theory.alpha(theta)), abs=1e-3)


def test_at_the_crossover_a_logarithm_remains() -> None:
    # P ~ lambda^(3/2) ln(1/lambda): the slope misses 3/2 by 1 / ln(1/lambda).
    logarithm = -np.log(1e-60)
    missing = 1.5 - float(theory.spectrum_slope(1e-60, 0.25))
    assert missing * logarithm == pytest.approx(1.0, abs=0.05)


@given(theta=st.floats(0.0, 0.499))
def test_noise_over_drift_inverts_theta(theta: float) -> None:
    assert float(theory.theta_mean_field(theory.noise_over_drift(theta), 1.0)) == pytest.approx(theta, abs=1e-12)


def test_limits_of_theta() -> None:
    assert float(theory.theta_mean_field(0.2, 0.0)) == 0.5
    assert float(theory.theta_mean_field(0.0, 1.0)) == 0.0
    assert float(theory.theta_mean_field(1 / np.pi, 1.0)) == pytest.approx(0.25)
    assert theory.theta_mean_field([0.0, 0.1], 1.0, mu=1.5) == pytest.approx([0.0, 0.75])
    assert float(theory.theta_mean_field(0.1, 1.0, mu=2.0)) == 1.0


def test_alpha_is_that_of_shear_transformations_up_to_the_crossover() -> None:
    assert theory.alpha([0.0, 0.1, 0.25, 0.6]) == pytest.approx([3.0, 3.4, 4.0, 4.0])


def test_critical_noise() -> None:
    assert theory.critical_noise() == pytest.approx(1 / np.pi)
    assert theory.critical_noise(2.0) == 0.0
    assert theory.critical_noise(1.999) < 2e-3


def test_x_star_is_the_width_of_the_bistable_window() -> None:
    assert theory.x_star([0.0, 1.0, 4.0]) == pytest.approx([0.0, 2 / 3, 16 / 3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.alpha(-0.1), "theta is negative"),
        (lambda: theory.alpha(float("nan")), "theta is negative or no number"),
        (lambda: theory.theta_mean_field(-0.1, 1.0), "amplitude A or drift v is negative"),
        (lambda: theory.theta_mean_field(0.0, 0.0), "nothing moves"),
        (lambda: theory.theta_mean_field(0.1, 1.0, mu=0.9), "expected 1 <= mu <= 2"),
        (lambda: theory.critical_noise(2.1), "expected 1 <= mu <= 2"),
        (lambda: theory.noise_over_drift(0.5), "theta < 1/2"),
        (lambda: theory.x_star(-1.0), "passive block"),
        (lambda: theory.spectrum(0.0, 0.1), "lambda outside"),
        (lambda: theory.spectrum(2.0, 0.1), "lambda outside"),
        (lambda: theory.spectrum(0.1, 0.1, passive=-1.0), "passive = -1"),
        (lambda: theory.spectrum(0.1, 0.1, against=2.0), "one between 0 and 1"),
        (lambda: theory.alpha_in_window(0.1, (0.1, 0.01)), "expected 0 < low < high"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ModelError, match=message):
        call()
