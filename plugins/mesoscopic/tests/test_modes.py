"""The equation for modes: what is known in closed form, what sampled modes show, and the exponent alpha itself."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from qlm_mesoscopic import observables, theory
from qlm_mesoscopic.block import Replacement, UniformInvariants
from qlm_mesoscopic.errors import ModelError
from qlm_mesoscopic.kinds import ModeBlocks
from qlm_mesoscopic.meanfield import MeanField
from qlm_mesoscopic.modes import ModeEquation


def test_without_kicks_the_density_is_known() -> None:
    """Every mode climbs at one pace from its way in to its way out, so that P(sigma, phi) is constant where modes are.

    These are kappa from -sqrt(high + 2 lambda) up to the fall, and what came back on kappa^2 = 8 lambda / 3 and above it.
    """
    density = ModeEquation(0.0).steady()
    rules = Replacement()
    low, high = rules.p0.support
    phi = np.linspace(low, high, 200_001)
    entry = np.sqrt(phi + 2.0 * (1.0 - rules.inset))
    travel = np.mean(rules.swap_stress(phi) + entry * (entry**2 - 3.0 * phi) / 6.0)
    assert density.drift == pytest.approx(travel * (high - low) / high, rel=2e-3)
    lam = np.array([1e-8, 1e-4, 0.01, 0.1, 0.3])
    expected = 2.0 * lam / ((high - low) * travel) * (np.sqrt(high + 2.0 * lam) + np.sqrt(8.0 * lam / 3.0))
    np.testing.assert_allclose(density.total(lam), expected, rtol=3e-3)


def test_no_mode_is_lost_and_none_prefers_a_side_without_load() -> None:
    for line in ModeEquation(0.3)._lines:
        # Mirror images: one way in leaves upwards as often as the other one downwards.
        assert line.solve(0.0).up_d.sum() == pytest.approx(1.0, abs=1e-6)
        assert np.all(np.diag(line.kicks_cc) < 0.0)


@pytest.mark.parametrize("amplitude", [0.05, 0.2, 0.4, 0.48])
def test_pseudo_gaps_of_both_branches(amplitude: float) -> None:
    """theta where the load drives to failure, 1 - theta where it drives away from it, for the largest phi and the smallest."""
    density = ModeEquation(amplitude).steady()
    assert density.theta == pytest.approx(np.arctan(np.pi * amplitude / density.drift) / np.pi)
    for _, ratio_c, density_bc in (density.shear[0], density.shear[-1]):
        near = (ratio_c > 1e-9) & (ratio_c < 1e-6)
        with_load, against = (np.polyfit(np.log(ratio_c[near]), np.log(density_c[near]), 1)[0] for density_c in density_bc)
        assert with_load == pytest.approx(density.theta, abs=3e-3)
        assert against == pytest.approx(1.0 - density.theta, abs=6e-3)


@pytest.mark.parametrize("amplitude", [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.42, 0.45, 0.48])
def test_alpha_is_min_of_four_and_three_plus_four_theta(amplitude: float) -> None:
    density = ModeEquation(amplitude).steady()
    assert abs(density.theta - theory.CROSSOVER) > 0.04
    assert density.alpha([1e-3, 1e-4, 1e-6, 1e-8]) == pytest.approx(float(theory.alpha(density.theta)), abs=0.1)
    # Nearer and nearer, down to the smallest lambda.
    assert density.alpha(1e-8) == pytest.approx(float(theory.alpha(density.theta)), abs=0.035)


def test_other_noise_has_alpha_four() -> None:
    density = ModeEquation(0.05, mu=1.5).steady()
    assert density.theta == 0.75
    assert density.alpha(1e-8) == pytest.approx(4.0, abs=0.01)


def test_the_grid_does_not_matter() -> None:
    coarse, fine = (ModeEquation(0.3, cells_per_decade=cells).steady() for cells in (8, 14))
    assert coarse.drift == pytest.approx(fine.drift, rel=1e-3)
    lam = [1e-8, 1e-3, 0.1]
    np.testing.assert_allclose(coarse.alpha(lam), fine.alpha(lam), atol=5e-3)
    np.testing.assert_allclose(coarse.total(lam), fine.total(lam), rtol=0.02)


def test_sampled_modes_are_distributed_like_that() -> None:
    """Both parts of P(lambda), absolutely: nothing is fitted."""
    run = MeanField(4000, 0.2, blocks=ModeBlocks(), seed=5).steady_state(2.0, skip=0.6, every=0.05)
    density = ModeEquation(0.2).steady()
    assert run.drift == pytest.approx(density.drift, rel=0.06)
    assert run.swaps / run.failures == pytest.approx(density.swaps, rel=0.04)
    edges = np.array([0.1, 0.2, 0.4, 0.6, 0.75])
    seen_shear_b, seen_passive_b = observables.curvature(run.snapshots, edges)
    for bin_, (low, high) in enumerate(pairwise(edges)):
        shear, passive = (np.mean(part) for part in density.curvature(np.linspace(low, high, 21)))
        assert seen_shear_b[bin_] == pytest.approx(shear, rel=0.1)
        assert seen_passive_b[bin_] == pytest.approx(passive, rel=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ModeEquation(-0.1), "amplitude A = -0.1"),
        (lambda: ModeEquation(0.1, mu=2.0), "mu below 2"),
        (lambda: ModeEquation(0.1, mu=0.9), "expected 1 <= mu <= 2"),
        (lambda: ModeEquation(0.1, finest=0.1), "finest = 0.1"),
        (
            lambda: ModeEquation(0.1, replacement=Replacement(p0=UniformInvariants(-1.0, 0.7))),
            "expected it to end below 2/3 lambda_min",
        ),
        (lambda: ModeEquation(0.1, replacement=Replacement(overshoot="carry")), "overshoot = 'drop'"),
        (lambda: ModeEquation(0.6).steady(), "avalanches run away"),
        (lambda: ModeEquation(0.1).steady().total([0.5, 1.5]), "below lambda_min"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ModelError, match=message):
        call()
