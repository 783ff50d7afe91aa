"""The closed forms of one block, against minimisation of the tilted potential and integration of the flow."""

# Array names carry their axes: n blocks.

from __future__ import annotations

import warnings
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from qlm_mesoscopic import block
from qlm_mesoscopic.block import Replacement, UniformInvariants
from qlm_mesoscopic.errors import ModelError

SIDES = (-1, 1)


def _descend(lam: float, kappa: float, dsigma: float) -> float:
    """Where s rolls to in the tilted potential, from 0: the first root of u'(s) = dsigma on the way down, by bisection and Newton."""

    def slope(s: float) -> float:
        return lam * s + kappa * s * s / 2 + s**3 / 6 - dsigma

    # A polynomial of third degree: downhill lies the sign of -slope(0); the first root that way is the minimum it rolls into.
    roots = np.roots([1 / 6, kappa / 2, lam, -dsigma])
    real = np.sort(roots[np.abs(roots.imag) < 1e-7 * (1 + np.abs(roots))].real)
    ahead = real[real * dsigma > 0]
    guess = ahead[np.argmin(np.abs(ahead))]
    for _ in range(50):
        s = guess - slope(guess) / (lam + kappa * guess + guess**2 / 2)
        if s == guess:
            break
        guess = s
    return float(guess)


def _flow(lam: float, kappa: float, dsigma: float, n_steps: int = 3000) -> tuple[float, float]:
    """Equation (3) by the classical Runge-Kutta method of fourth order."""
    y = np.array([lam, kappa])

    def rate(y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([y[1] / y[0], 1 / y[0]])

    h = dsigma / n_steps
    for _ in range(n_steps):
        k1 = rate(y)
        k2 = rate(y + h / 2 * k1)
        k3 = rate(y + h / 2 * k2)
        k4 = rate(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return float(y[0]), float(y[1])


@pytest.mark.parametrize(
    ("lam", "kappa", "dsigma"),
    [
        (0.7, -0.5, 0.4),  # passive
        (0.7, -0.5, -0.4),
        (0.3, -1.2, 0.02),  # shear transformation, towards instability
        (0.3, -1.2, -0.5),  # away from it
        (0.3, 1.2, -0.02),  # and their mirror images
        (0.3, 1.2, 0.5),
        (0.5, 1.0, 0.3),  # phi = 0
        (0.5, 1.0, -0.1),
    ],
)
def test_tilt_is_the_integral_of_the_flow(lam: float, kappa: float, dsigma: float) -> None:
    tilted = block.tilt(lam, kappa, dsigma)
    assert not tilted.failed
    assert _flow(lam, kappa, dsigma) == pytest.approx((float(tilted.lam), float(tilted.kappa)), abs=1e-10)


def test_tilt_finds_the_minimum_of_the_tilted_potential() -> None:
    rng = np.random.default_rng(1)
    n = 2000
    kappa_n = rng.uniform(-2, 2, n)
    lam_n = rng.uniform(0.01, 2, n)
    dsigma_n = rng.normal(size=n) * 10.0 ** rng.uniform(-6, 0.5, n)
    tilted = block.tilt(lam_n, kappa_n, dsigma_n)
    x_n = np.abs(
        block.distance(block.stress(kappa_n, kappa_n**2 - 2 * lam_n) + dsigma_n, kappa_n**2 - 2 * lam_n, np.sign(kappa_n))
    )
    assert 50 < tilted.failed.sum() < n - 50
    for i in np.flatnonzero(x_n > 1e-4):
        s = _descend(lam_n[i], kappa_n[i], dsigma_n[i])
        # Conditioning: an error in stress moves the minimum by 1 / lambda.
        assert tilted.displacement[i] == pytest.approx(s, rel=1e-10, abs=1e-10 * 1e-3 / tilted.lam[i])
        # Appendix A: the expansion coefficients at the new minimum are the derivatives of u there.
        assert tilted.lam[i] == pytest.approx(lam_n[i] + kappa_n[i] * s + s * s / 2, abs=1e-10)
        assert tilted.kappa[i] == pytest.approx(kappa_n[i] + s, abs=1e-10)


def test_small_tilts_keep_their_digits() -> None:
    dsigma_n = np.array([1e-9, -1e-12, 1e-15])
    tilted = block.tilt(0.4, -0.9, dsigma_n)
    np.testing.assert_allclose(tilted.displacement, dsigma_n / 0.4, rtol=1e-8)


@pytest.mark.parametrize("n_kicks", [5000, pytest.param(100_000, marks=pytest.mark.physics)])
def test_phi_is_conserved_over_many_kicks(n_kicks: int) -> None:
    """A walk on the branch: a kick that would end it is turned around."""
    rng = np.random.default_rng(2)
    side_n = np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    lam_n, kappa_n = np.array([0.5, 0.5, 0.1, 0.5, 0.5, 0.1]), side_n * np.array([0.4, 0.9, 1.4, 0.4, 0.9, 1.4])
    phi_n = block.invariant(lam_n, kappa_n)
    sigma_n = block.stress(kappa_n, phi_n)
    end_n = np.where(phi_n > 0, -block.limit(phi_n) + 1e-3, -1.0)
    for kick_n in rng.normal(0.0, 0.1, (n_kicks, 6)):
        along_n = side_n * (sigma_n + kick_n)
        step_n = np.where((along_n > end_n) & (along_n < 2.0), kick_n, -kick_n)
        step_n = np.where((side_n * (sigma_n + step_n) > end_n) & (side_n * (sigma_n + step_n) < 2.0), step_n, 0.0)
        tilted = block.tilt(lam_n, kappa_n, step_n)
        assert not tilted.failed.any()
        lam_n, kappa_n = tilted.lam, tilted.kappa
        sigma_n = sigma_n + step_n
    np.testing.assert_allclose(block.invariant(lam_n, kappa_n), phi_n, atol=1e-12)
    np.testing.assert_allclose(block.stress(kappa_n, phi_n), sigma_n, atol=1e-11)


@given(
    phi=st.floats(-3, 3),
    size=st.floats(1e-6, 10),
    sign=st.sampled_from(SIDES),
    side=st.sampled_from(SIDES),
)
@settings(max_examples=300, deadline=None)
def test_kappa_inverts_stress_on_its_branch(phi: float, size: float, sign: int, side: int) -> None:
    sigma = sign * size
    kappa = float(block.kappa(sigma, phi, side))
    failed = phi > 0 and side * sigma < -float(block.limit(phi))
    assert np.isnan(kappa) == failed
    assume(not failed)
    assert float(block.stress(kappa, phi)) == pytest.approx(sigma, rel=1e-12, abs=1e-14)
    assert float(block.curvature(kappa, phi)) >= -1e-15 * (1 + abs(phi))
    if phi > 0:
        assert side * kappa >= np.sqrt(phi) * (1 - 1e-15)
    # Mirror.
    assert float(block.kappa(-sigma, phi, -side)) == -kappa


@pytest.mark.parametrize(
    ("kappa", "phi"),
    [("2", "1"), ("3/2", "1"), ("1", "1/4"), ("7/5", "1/1000000"), ("1/3", "-1"), ("5", "0"), ("1/1000", "-2"), ("30", "1/2")],
)
def test_kappa_is_exact_to_the_last_digits(kappa: str, phi: str) -> None:
    """From stresses that are exact in rationals."""
    exact, square = Fraction(kappa), Fraction(phi)
    sigma = float(exact**3 / 6 - square * exact / 2)
    assert float(block.kappa(sigma, float(square), 1)) == pytest.approx(float(exact), rel=1e-12)
    assert float(block.kappa(-sigma, float(square), -1)) == pytest.approx(-float(exact), rel=1e-12)


@pytest.mark.parametrize(
    ("sigma", "phi", "kappa"), [(4.5, -1e-200, 3.0), (4.5, 1e-200, 3.0), (0.0, 0.0, 0.0), (0.0, -1.0, 0.0)]
)
def test_kappa_at_the_edges_of_its_formulas(sigma: float, phi: float, kappa: float) -> None:
    assert float(block.kappa(sigma, phi, 1)) == pytest.approx(kappa, abs=1e-14)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("phi", [1e-4, 0.3, 2.0])
def test_fall_into_the_other_minimum(phi: float, side: int) -> None:
    """From D, kappa = -sqrt(phi), to B', kappa = 2 sqrt(phi), on kappa^2 = 8 lambda / 3, a jump of 3 sqrt(phi) (branch -1)."""
    sigma = -side * float(block.limit(phi))
    before, after = float(block.kappa(sigma, phi, side)), float(block.kappa(sigma, phi, -side))
    assert before == pytest.approx(side * np.sqrt(phi), rel=1e-7)
    assert after == pytest.approx(-side * 2 * np.sqrt(phi), rel=1e-12)
    lam = float(block.curvature(after, phi))
    assert after**2 == pytest.approx(8 * lam / 3, rel=1e-12)
    assert abs(after - before) == pytest.approx(float(block.jump(phi)), rel=1e-7)
    # There the distance to failing backwards is x* = kappa^3 / 12 = (2/3) phi^(3/2) (D3).
    x = float(block.distance(sigma, phi, -side, side))
    assert x == pytest.approx(2 / 3 * phi**1.5, rel=1e-12)
    assert x == pytest.approx(abs(after) ** 3 / 12, rel=1e-12)
    # A tilt that just crosses the saddle-node makes exactly this fall.
    start = block.kappa(0.0, phi, side)
    crossing = block.tilt(block.curvature(start, phi), start, sigma * (1 + 1e-9))
    assert crossing.failed
    assert float(crossing.kappa) == pytest.approx(after, rel=1e-8)
    staying = block.tilt(block.curvature(start, phi), start, sigma * (1 - 1e-9))
    assert not staying.failed
    assert float(staying.lam) == pytest.approx(np.sqrt(2 * 1e-9 * abs(sigma) * np.sqrt(phi)), rel=1e-3)


@pytest.mark.parametrize("direction", SIDES)
def test_distance_is_what_it_takes_to_fail(direction: int) -> None:
    phi_n = np.array([0.1, 0.5, 1.3])
    sigma_n = np.array([0.002, -0.03, 0.2])
    x_n = block.distance(sigma_n, phi_n, -direction, direction)
    kappa_n = block.kappa(sigma_n, phi_n, -direction)
    lam_n = block.curvature(kappa_n, phi_n)
    assert not block.tilt(lam_n, kappa_n, direction * x_n * (1 - 1e-9)).failed.any()
    assert block.tilt(lam_n, kappa_n, direction * x_n * (1 + 1e-9)).failed.all()
    # The paper's (D1), in size.
    d1_n = (lam_n * kappa_n - (kappa_n - np.sign(kappa_n) * np.sqrt(phi_n)) * phi_n) / 3
    np.testing.assert_allclose(x_n, np.abs(d1_n), rtol=1e-12)
    np.testing.assert_allclose(block.curvature_at(x_n, phi_n), lam_n, rtol=1e-12)
    # The other direction stabilises for ever, and passive modes never fail.
    assert np.all(np.isinf(block.distance(sigma_n, phi_n, direction, direction)))
    assert np.all(np.isinf(block.distance(sigma_n, -phi_n, -direction, direction)))


def test_curvature_near_instability_keeps_its_digits() -> None:
    phi, x_n = 0.5, np.array([1e-4, 1e-10, 1e-20])
    y_n = block.curvature_at(x_n, phi) / phi  # = y + y^2 / 2, and y^2 / 2 + y^3 / 6 = x / phi^(3/2)
    series_n = np.sqrt(2 * x_n / phi**1.5)
    np.testing.assert_allclose(y_n[1:], series_n[1:] * (1 + series_n[1:] / 3), rtol=1e-9)
    assert y_n[0] == pytest.approx(series_n[0] * (1 + series_n[0] / 3), rel=1e-3)


@given(exponent=st.floats(-15, 0), phi=st.floats(1e-3, 1.0))
def test_excess_of_kappa_at_a_curvature_keeps_its_digits(exponent: float, phi: float) -> None:
    """Against the root of r (2 + r) = 2 lambda / phi to 40 digits."""
    lam = 10.0**exponent * phi
    with localcontext(prec=40):
        exact = (1 + 2 * Decimal(lam) / Decimal(phi)).sqrt() - 1
    assert float(block.excess_at(lam, phi)) == pytest.approx(float(exact), rel=1e-15)


def test_a_million_blocks_at_once() -> None:
    rng = np.random.default_rng(3)
    phi_n = rng.uniform(-1, 0.6, 1_000_000)
    branch_n = rng.choice([-1, 1], phi_n.size)
    sigma_n = rng.uniform(-1, 1, phi_n.size)
    kappa_n = block.kappa(sigma_n, phi_n, branch_n)
    here_n = np.isfinite(kappa_n)
    assert np.array_equal(here_n, ~((phi_n > 0) & (branch_n * sigma_n < -block.limit(phi_n))))
    np.testing.assert_allclose(block.stress(kappa_n[here_n], phi_n[here_n]), sigma_n[here_n], atol=1e-14)


class TestReplacement:
    @pytest.mark.parametrize("side", SIDES)
    def test_bounds_are_failure_and_lambda_min(self, side: int) -> None:
        replacement = Replacement(lambda_min=0.8, p0=UniformInvariants(-1.0, 0.5))
        phi_n = np.array([-0.9, -0.1, 0.2, 0.5])
        low_n, high_n = replacement.bounds(phi_n, side)
        assert np.all(low_n < high_n)
        fails_above = (phi_n > 0) & (side < 0)
        fails_below = (phi_n > 0) & (side > 0)
        for bound_n, fails_n in ((low_n, fails_below), (high_n, fails_above)):
            lam_n = block.curvature(block.kappa(bound_n, phi_n, side), phi_n)
            np.testing.assert_allclose(lam_n, np.where(fails_n, 0.0, 0.8), atol=5e-8)

    @pytest.mark.parametrize("direction", SIDES)
    def test_the_new_mode_starts_inside_on_the_other_side(self, direction: int) -> None:
        replacement = Replacement(lambda_min=1.0, inset=0.05)
        n = 1000
        phi_n, sigma_n, branch_n = replacement.enter(np.random.default_rng(4), np.full(n, float(direction)), np.zeros(n))
        kappa_n = block.kappa(sigma_n, phi_n, branch_n)
        assert np.all(direction * kappa_n < 0)
        np.testing.assert_allclose(block.curvature(kappa_n, phi_n), 0.95, rtol=1e-10)
        low_n, high_n = replacement.bounds(phi_n, branch_n)
        assert np.all((low_n < sigma_n) & (sigma_n < high_n))
        assert -1.0 <= phi_n.min() < -0.9 < 0.5 < phi_n.max() <= 0.6

    def test_overshoot_is_dropped_or_carried(self) -> None:
        beyond_n = np.array([0.1, 0.2])
        stresses = [
            Replacement(overshoot=overshoot).enter(np.random.default_rng(5), np.array([1.0, -1.0]), beyond_n)[1]
            for overshoot in ("drop", "carry")
        ]
        np.testing.assert_allclose(stresses[1] - stresses[0], [0.1, -0.2], rtol=1e-12)

    def test_modes_above_two_thirds_of_lambda_min_are_swapped_at_once_after_failing(self) -> None:
        replacement = Replacement(lambda_min=1.0, p0=UniformInvariants(-1.0, 1.0))
        for phi, swapped in ((0.6, False), (0.7, True)):
            _, high = replacement.bounds(phi, 1)
            assert (float(block.limit(phi)) > float(high)) == swapped

    @pytest.mark.parametrize("support", [(0.1, 0.6), (-1.0, -0.1), (0.0, 0.6), (-1.0, 0.0)])
    def test_p0_without_weight_at_zero_is_warned_about(self, support: tuple[float, float]) -> None:
        with pytest.warns(UserWarning, match="without weight around phi = 0"):
            Replacement(p0=UniformInvariants(*support))

    def test_the_default_does_not_warn(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Replacement()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"lambda_min": 0.0}, "lambda_min = 0.0; expected a positive"),
            ({"lambda_min": float("nan")}, "expected a positive"),
            ({"inset": 0.0}, "inset = 0.0; expected a fraction"),
            ({"overshoot": "keep"}, "expected 'drop' or 'carry'"),
            ({"lambda_min": 0.4}, "P_0 reaches down to phi = -1"),
        ],
    )
    def test_wrong_input_is_refused(self, arguments: dict[str, object], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            Replacement(**arguments)  # type: ignore[arg-type]


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ModelError, match="a branch is neither"):
        block.kappa(0.1, 0.2, 0)
    with pytest.raises(ModelError, match="direction = 2; expected"):
        block.distance(0.1, 0.2, 1, 2)
    with pytest.raises(ModelError, match=r"lambda = -0\.1 is negative"):
        block.tilt(-0.1, 0.2, 0.1)
    with pytest.raises(ModelError, match="expected finite low < high"):
        UniformInvariants(1.0, -1.0)
