"""Strain steps on a real glass: elastic where they should be, the same by any route, and repeatable."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qlm_quasistatic import ShearState, Stepper
from qlm_quasistatic.predictor import Branch

from qlm_hoomd.elasticity import elastic_moduli
from qlm_hoomd.engines.cpu import CPUEngine, CPUEngineSettings
from qlm_hoomd.errors import BasinLost, InputError
from qlm_hoomd.hessian import Hessian, solve
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.minimize.surface import max_norm

if TYPE_CHECKING:
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel


def _shear(stepper: Stepper, state: ShearState, strains: np.ndarray) -> list[ShearState]:
    states = [state]
    for strain in strains.tolist():
        states.append(stepper.step(states[-1], strain).after)
    return states


def _difference(one: Glass, other: Glass) -> float:
    moved_nc = one.nonaffine_displacement(other)
    return float(np.abs(moved_nc - moved_nc.mean(axis=0)).max())


@pytest.fixture
def stepper(engine: CPUEngine) -> Stepper:
    return Stepper(engine)


def test_start_is_the_glass_as_it_is(stepper: Stepper, engine: CPUEngine, quenched: Glass) -> None:
    state = stepper.start(quenched)
    assert state.glass is quenched
    assert state.strain == 0.0
    assert state.velocity is None
    assert state.observables == engine.measure(quenched)


def test_start_refuses_a_glass_that_is_not_at_rest(stepper: Stepper, quenched: Glass) -> None:
    moved = quenched.moved(quenched.positions + np.random.default_rng(0).normal(scale=1e-6, size=quenched.positions.shape))
    with pytest.raises(InputError, match=r"max\|F\| = .*; expected less than 1e-09\. Relax it first"):
        stepper.start(moved)


def test_a_step_of_nothing_is_refused(stepper: Stepper, quenched: Glass) -> None:
    with pytest.raises(InputError, match="strain increment = 0"):
        stepper.step(stepper.start(quenched), 0.0)


def test_a_step_ends_at_rest_and_says_what_it_did(stepper: Stepper, engine: CPUEngine, quenched: Glass) -> None:
    state = stepper.start(quenched)
    step = stepper.step(state, 1e-4)
    assert step.before is state
    assert step.after.strain == step.increment == 1e-4
    assert step.after.observables == engine.measure(step.after.glass)
    assert step.after.observables.max_force < 1e-10
    assert not step.left_basin
    assert step.hessian_products > 0
    assert step.force_evaluations > 0
    displacement_nc = step.after.glass.nonaffine_displacement(quenched)
    displacement_nc -= displacement_nc.mean(axis=0)
    largest = np.linalg.norm(displacement_nc, axis=1).max()
    assert step.q == pytest.approx(largest / (quenched.box.length * 1e-4), rel=1e-12)


def test_elastic_response_is_that_of_the_hessian(stepper: Stepper, model: GlassModel, quenched: Glass) -> None:
    """Stress grows with G, and particles move with -H^-1 Xi."""
    bonds = Hessian(model.potential).compute(quenched).bonds
    step = stepper.step(stepper.start(quenched), 1e-7)
    slope = (step.after.observables.stress_xy - step.before.observables.stress_xy) / 1e-7
    assert slope == pytest.approx(elastic_moduli(bonds).shear_modulus, rel=1e-4)
    assert step.after.velocity is not None
    expected_nc = -solve(bonds, bonds.mixed_derivative(), tolerance=1e-10)
    np.testing.assert_allclose(step.after.velocity, expected_nc, atol=1e-3 * np.abs(expected_nc).max())
    # Of order one: a few particle diameters per unit strain, over the box length.
    assert 0.05 < step.q < 20.0
    # The work done is the energy gained.
    mean_stress = 0.5 * (step.after.observables.stress_xy + step.before.observables.stress_xy)
    gained = (step.after.observables.energy - step.before.observables.energy) * quenched.n_particles
    assert gained == pytest.approx(mean_stress * 1e-7 * quenched.box.volume, rel=1e-3)


def test_a_drift_of_the_whole_glass_means_nothing(stepper: Stepper, model: GlassModel, quenched: Glass) -> None:
    class Drifting(CPUEngine):
        def relax(self, glass: Glass, **options: Any) -> Any:
            minimum, report = super().relax(glass, **options)
            return minimum.moved(minimum.positions + 0.3), report

    drifting = Stepper(Drifting(model.potential))
    expected, step = (one.step(one.start(quenched), 1e-4) for one in (stepper, drifting))
    assert step.q == pytest.approx(expected.q, rel=1e-6)
    np.testing.assert_allclose(step.after.velocity, expected.after.velocity, atol=1e-6)


def test_the_elastic_branch_does_not_depend_on_the_steps(model: GlassModel, quenched: Glass) -> None:
    ends = []
    for n_steps in (40, 10, 1):
        stepper = Stepper(CPUEngineSettings().build(model))
        states = [stepper.start(quenched)]
        for strain in np.linspace(0.0, 1e-3, n_steps + 1)[1:].tolist():
            states.append(stepper.elastic_step(states[-1], strain).after)
        ends.append(states[-1])
        for state in states:
            assert max_norm(bonds_of(state.glass, model.potential).forces) < 1e-10
    for other in ends[1:]:
        assert _difference(ends[0].glass, other.glass) < 1e-8
        assert ends[0].observables.stress_xy == pytest.approx(other.observables.stress_xy, abs=1e-9)
    back = stepper.step(ends[0], 0.0).after
    assert _difference(back.glass, quenched) < 1e-8


def test_what_was_learnt_on_the_way_saves_work(stepper: Stepper, quenched: Glass) -> None:
    state, products = stepper.start(quenched), []
    for index in range(1, 11):
        step = stepper.step(state, index * 1e-4)
        products.append(step.hessian_products)
        state = step.after
    assert products[0] > products[1] > products[2]
    assert np.median(products[5:]) < 0.4 * products[0]
    # One evaluation at the guess, one at the end.
    assert step.force_evaluations == 2
    assert step.fallbacks == 0


def test_the_velocity_is_that_of_the_state_itself(stepper: Stepper, model: GlassModel, quenched: Glass) -> None:
    """Not of the middle of the last step: it agrees with the Hessian where a difference quotient does not."""
    state = _shear(stepper, stepper.start(quenched), np.arange(1, 9) * 1e-4)[-1]
    bonds = bonds_of(state.glass, model.potential)
    expected_nc = -solve(bonds, bonds.mixed_derivative(), tolerance=1e-10)
    assert state.velocity is not None
    np.testing.assert_allclose(state.velocity, expected_nc, atol=1e-5 * np.abs(expected_nc).max())


def _falsified(state: ShearState, factor: float) -> ShearState:
    branch = state.branch
    assert branch is not None
    wrong = Branch(branch.strains[:2], (factor * branch.differences[0],), (factor * branch.sizes[0],))
    return ShearState(state.glass, state.observables, wrong)


@pytest.mark.parametrize("factor", [-3.0, 5.0, 1e4, math.nan])
def test_a_wrong_guess_is_given_up_and_counted(factor: float, stepper: Stepper, quenched: Glass) -> None:
    state = _shear(stepper, stepper.start(quenched), np.arange(1, 4) * 1e-4)[-1]
    right = stepper.step(state, 4e-4)
    wrong = stepper.step(_falsified(state, factor), 4e-4)
    assert wrong.fallbacks >= 1
    assert not wrong.left_basin
    assert wrong.force_evaluations > right.force_evaluations
    assert _difference(wrong.after.glass, right.after.glass) < 1e-8


def test_an_instability_ends_the_branch(stepper: Stepper, model: GlassModel, quenched: Glass) -> None:
    state = stepper.start(quenched)
    while True:
        before = state
        try:
            state = stepper.elastic_step(before, before.strain + 5e-4).after
        except BasinLost as error:
            lost = error
            break
    assert f"{before.strain + 5e-4:.6g}" in str(lost)
    assert lost.report.fallbacks >= 2  # from the guess, and from the affine state
    fallen = stepper.step(before, before.strain + 5e-4)
    assert fallen.left_basin
    assert fallen.fallbacks >= 2
    assert (fallen.after.branch, fallen.after.velocity) == (None, None)
    assert fallen.after.observables.energy < before.observables.energy
    assert fallen.force_evaluations > 20
    # Where it falls is not for the guess to decide.
    bare = Stepper(CPUEngineSettings().build(model)).step(ShearState(before.glass, before.observables), before.strain + 5e-4)
    assert _difference(bare.after.glass, fallen.after.glass) < 1e-8
    by_fire = Stepper(CPUEngineSettings().build(model), after_event="fire").step(before, before.strain + 5e-4)
    assert by_fire.left_basin
    assert by_fire.after.observables.max_force < 1e-10
    # And from there it goes on.
    assert stepper.step(fallen.after, before.strain + 6e-4).after.observables.max_force < 1e-10


def test_a_state_found_elsewhere_is_taken_in(stepper: Stepper, engine: CPUEngine, quenched: Glass) -> None:
    before = _shear(stepper, stepper.start(quenched), np.arange(1, 4) * 1e-4)[-1]
    expected = stepper.step(before, 4e-4)
    glass, report = engine.relax(before.glass.at_strain(4e-4))
    step = stepper.arrived(before, glass, report)
    assert step.before is before
    assert step.q == pytest.approx(expected.q, rel=1e-6)
    assert step.after.observables.energy == pytest.approx(expected.after.observables.energy, rel=1e-12)
    np.testing.assert_allclose(step.after.velocity, expected.after.velocity, atol=1e-5)
    assert (step.force_evaluations, step.hessian_products) == (report.force_evaluations, report.hessian_products)
    fallen = stepper.arrived(before, glass, replace(report, left_basin=True, fallbacks=3))
    assert (fallen.left_basin, fallen.fallbacks, fallen.after.branch) == (True, 3, None)
    with pytest.raises(InputError, match="strain increment = 0"):
        stepper.arrived(before, before.glass, report)


def test_what_a_stepper_is_made_of(engine: CPUEngine) -> None:
    stepper = Stepper(engine, 1e-9, "fire")
    assert (stepper.engine, stepper.tolerance, stepper.after_event) == (engine, 1e-9, "fire")
    with pytest.raises(InputError, match="after_event = 'jump'"):
        Stepper(engine, after_event="jump")  # type: ignore[arg-type]


def test_the_guess_decides_nothing(stepper: Stepper, model: GlassModel, quenched: Glass) -> None:
    """A run through several instabilities: each step ends where it ends without extrapolation."""
    bare = Stepper(CPUEngineSettings().build(model))
    state, count, forgotten = stepper.start(quenched), 0, 0
    while count < 50 or not forgotten:
        count += 1
        step = stepper.step(state, count * 5e-4)
        without = bare.step(ShearState(state.glass, state.observables), count * 5e-4)
        assert _difference(step.after.glass, without.after.glass) < 1e-6, f"strain {step.after.strain}"
        # After an instability there is nothing to extrapolate.
        assert (step.after.velocity is None) == (step.q >= 100.0)
        forgotten += step.after.velocity is None
        state = step.after


def test_a_state_can_be_taken_up_again(stepper: Stepper, model: GlassModel, quenched: Glass) -> None:
    """Rewinding: the same bytes from engines without a past; one with a past adds up in another order, and no more."""
    states = _shear(stepper, stepper.start(quenched), np.arange(1, 21) * 1e-4)
    kept = states[5]
    fresh = [Stepper(CPUEngineSettings().build(model)).step(kept, 6e-4).after for _ in range(2)]
    assert fresh[0].glass.positions.tobytes() == fresh[1].glass.positions.tobytes()
    assert fresh[0].observables == fresh[1].observables
    for again in (fresh[0], stepper.step(kept, 6e-4).after):
        assert _difference(again.glass, states[6].glass) < 1e-12


def test_two_fresh_runs_are_the_same_bytes(model: GlassModel, quenched: Glass) -> None:
    ends = []
    for _ in range(2):
        stepper = Stepper(CPUEngineSettings().build(model))
        ends.append(_shear(stepper, stepper.start(quenched), np.arange(1, 31) * 1e-3)[-1].glass.positions.tobytes())
    assert ends[0] == ends[1]


def test_shear_across_the_flip_of_the_box(stepper: Stepper, model: GlassModel, quenched: Glass, engine: CPUEngine) -> None:
    """The step that flips the box is an elastic one like its neighbours."""
    near, _ = engine.relax(quenched.at_strain(0.499999))
    state = stepper.start(near)
    states = [state]
    qs = []
    for strain in (0.4999993, 0.4999996, 0.5000004, 0.5000007):
        step = stepper.step(states[-1], strain)
        states.append(step.after)
        qs.append(step.q)
    assert states[2].glass.box.xy == pytest.approx(0.4999996)
    assert states[3].glass.box.xy == pytest.approx(-0.4999996)
    assert max(qs) < 100.0
    slopes = [
        (after.observables.stress_xy - before.observables.stress_xy) / (after.strain - before.strain)
        for before, after in itertools.pairwise(states)
    ]
    modulus = elastic_moduli(bonds_of(states[0].glass, model.potential)).shear_modulus
    np.testing.assert_allclose(slopes, modulus, rtol=0.05)
