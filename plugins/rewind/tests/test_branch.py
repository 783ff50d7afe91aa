"""The balance of energy along a branch, on branches whose energy is known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qlm_quasistatic import Stepper
from qlm_rewind.branch import Balance, ElasticBranch, _weights

from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.minimize.surface import max_norm, without_drift

if TYPE_CHECKING:
    from collections.abc import Callable

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel


@given(
    st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=4, unique_by=lambda x: round(x, 1)),
    st.lists(st.floats(-3.0, 3.0), min_size=8, max_size=8),
)
def test_rules_are_exact_for_polynomials(nodes: list[float], coefficients: list[float]) -> None:
    """Value at the origin and integral over [-1, 0] of a polynomial, from its values and slopes at the nodes."""
    x_k = np.array(nodes)
    polynomial = np.polynomial.Polynomial(coefficients[: 2 * len(x_k)])
    order = np.arange(2 * len(x_k))
    for functional, expected in (
        (np.eye(2 * len(x_k))[0], polynomial(0.0)),
        ((-1.0) ** order / (order + 1.0), -polynomial.integ()(-1.0) + polynomial.integ()(0.0)),
    ):
        value_k, slope_k = _weights(x_k, functional)
        found = value_k @ polynomial(x_k) + slope_k @ polynomial.deriv()(x_k)
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-4)


class Scripted(ElasticBranch):
    """A branch whose states are numbers: U(gamma) and its derivatives."""

    def __init__(self, energy: Callable[[float], tuple[float, float, float]], strains: list[float]) -> None:
        self._energy = energy
        self._recent: list[Any] = [self.at(strain) for strain in strains[-4:]]

    def at(self, strain: float) -> Any:
        energy, rate, stiffness = self._energy(strain)
        return SimpleNamespace(strain=strain, energy=energy, work_rate=rate, stiffness=stiffness)


def soft_energy(strain: float) -> tuple[float, float, float]:
    """U, dU/dgamma and d2U/dgamma2 of a branch that ends in a fold at 0.01, with a regular part."""
    left = 0.01 - strain
    return (
        3e4 * strain**2 - 40.0 * left**1.5 + math.sin(30.0 * strain),
        6e4 * strain + 60.0 * math.sqrt(left) + 30.0 * math.cos(30.0 * strain),
        6e4 - 30.0 / math.sqrt(left) - 900.0 * math.sin(30.0 * strain),
    )


@given(st.floats(1e-5, 4e-4), st.floats(1e-6, 1e-2))
def test_an_event_shows_as_dissipated_energy(step: float, drop: float) -> None:
    branch = Scripted(soft_energy, [0.001, 0.001 + step, 0.001 + 2.0 * step])
    after = branch.at(0.001 + 3.0 * step)
    elastic = branch.balance(after)
    assert abs(elastic.dissipated) < 1e-8
    assert abs(elastic.dissipated) <= elastic.error + 1e-10
    assert elastic.holds(1e-7)
    after.energy -= drop
    fallen = branch.balance(after)
    assert fallen.dissipated == pytest.approx(drop, abs=1e-8)
    assert not fallen.holds(1e-7)
    assert fallen.broken(1e-7)


def test_close_to_a_fold_the_square_root_is_the_variable() -> None:
    """The plain rule fails up to the fold; with the fold as a node there is nothing singular left."""
    energy, rate, _ = soft_energy(math.nextafter(0.01, 0.0))
    fold: Any = SimpleNamespace(
        strain_c=0.01,
        glass=SimpleNamespace(n_particles=1, box=SimpleNamespace(volume=1.0)),
        observables=SimpleNamespace(energy=energy, stress_xy=rate),
    )
    branch = Scripted(soft_energy, [0.008, 0.009])
    assert abs(branch.balance_to(fold).dissipated) < 1e-7
    fold.observables.energy -= 1e-6
    assert branch.balance_to(fold).dissipated == pytest.approx(1e-6, rel=0.1)
    after = branch.at(0.0099)
    assert abs(branch.balance(after, fold).dissipated) < 1e-7
    assert abs(branch.balance(after).dissipated) > 1e-5


def test_steps_grow_with_what_the_balance_allows() -> None:
    bound = 1e-7
    assert Balance(1e-12, 1e-12).growth(bound) > Balance(1e-9, 1e-9).growth(bound) > 1.0
    assert Balance(-bound, 0.0).growth(bound) < 1.0
    assert not Balance(0.0, 20.0 * bound).holds(bound)
    assert not Balance(-1.0, 0.1).broken(bound)


def test_response_and_extrapolation_on_a_glass(quenched: Glass, model: GlassModel) -> None:
    """Velocity and slope of the stress against finite differences; positions ahead against those found there."""
    stepper = Stepper(CPUEngineSettings().build(model))
    branch = ElasticBranch(stepper.start(quenched), Mechanics(model.potential, quenched.typeid))
    for strain in (1e-4, 2e-4, 3e-4):
        branch.extend(branch.node(stepper.step(branch.last.state, strain).after))
    before, node = branch._recent[-2:]
    ahead = stepper.step(node.state, 4e-4).after
    moved_nc = without_drift(ahead.glass.nonaffine_displacement(before.state.glass))
    assert max_norm(moved_nc / 2e-4 - node.velocity) < 1e-3 * max_norm(node.velocity)
    volume = quenched.box.volume
    slope = volume * (ahead.observables.stress_xy - before.state.observables.stress_xy) / 2e-4
    assert node.stiffness == pytest.approx(slope, rel=1e-4)
    assert node.work_rate == pytest.approx(volume * node.state.observables.stress_xy, rel=1e-12)
    errors = [max_norm(without_drift(guess_nc - ahead.glass.positions)) for guess_nc in branch.extrapolated(4e-4)]
    assert len(errors) == 3
    assert errors[1] < 0.1 * errors[0]
    assert min(errors) < 1e-7


def test_states_are_kept_in_geometric_progression(quenched: Glass, model: GlassModel) -> None:
    stepper = Stepper(CPUEngineSettings().build(model))
    branch = ElasticBranch(stepper.start(quenched), Mechanics(model.potential, quenched.typeid))
    for index in range(1, 41):
        branch.extend(branch.node(stepper.step(branch.last.state, index * 2e-5).after))
    strains = [node.strain for node in branch.nodes]
    assert strains[0] == 0.0
    assert strains[-1] == 8e-4
    assert len(strains) < 25
    assert strains == sorted(set(strains))
    assert max(np.diff(strains)) <= 0.2 * 8e-4
