"""The threshold detector on a real glass, against brute force at its finest increment."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qlm_quasistatic import Instability, ShearState, ShearStep, Stepper
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import ThresholdDetector

from qlm_hoomd.engines.cpu import CPUEngineSettings

if TYPE_CHECKING:
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

GRID = StrainGrid(1e-4, 0.3)


@pytest.fixture(scope="module")
def stepper(model: GlassModel) -> Stepper:
    return Stepper(CPUEngineSettings().build(model))


@pytest.fixture(scope="module")
def run(stepper: Stepper, quenched: Glass) -> tuple[list[ShearStep], list[Instability]]:
    steps: list[ShearStep] = []
    events: list[Instability] = []
    for item in ThresholdDetector().follow(stepper, stepper.start(quenched), GRID):
        (events if isinstance(item, Instability) else steps).append(item)  # type: ignore[arg-type]
        # Two instabilities, and a stretch beyond them.
        if len(events) == 2 and steps[-1].after.strain > events[1].strain_c + 2e-3:
            break
    return steps, events


def test_steps_are_contiguous_from_the_start(run: tuple[list[ShearStep], list[Instability]], quenched: Glass) -> None:
    steps, _ = run
    assert steps[0].before.glass is quenched
    for one, other in itertools.pairwise(steps):
        assert one.after is other.before
        assert other.increment > 0.0
    assert len(steps) > 50


def test_every_bracket_is_as_fine_as_promised(run: tuple[list[ShearStep], list[Instability]]) -> None:
    steps, events = run
    for event in events:
        assert event.step in steps
        assert event.step.increment <= 1.0000001e-6
        assert event.step.q > 100.0
        assert event.stress_drop > 0.0
        assert event.energy_drop > 0.0
        # The paper's last condition, on the step that follows.
        after = steps[steps.index(event.step) + 1]
        assert 100.0 * after.q < event.step.q


def test_all_large_jumps_are_events(run: tuple[list[ShearStep], list[Instability]]) -> None:
    steps, events = run
    jumps = [step for step in steps if step.q > 100.0 and step.increment > 5e-5]
    assert not jumps
    assert [step for step in steps if step.q > 5e3] == [event.step for event in events if event.step.q > 5e3]


def test_brute_force_finds_the_jump_in_the_same_bracket(
    run: tuple[list[ShearStep], list[Instability]], model: GlassModel
) -> None:
    """From a state well before each event, steps of 1e-6 on another engine: one jump, and it is in the bracket."""
    steps, events = run
    for event in events:
        start = max(
            (step.after for step in steps if step.after.strain <= event.strain_c - 2e-5), key=lambda state: state.strain
        )
        brute, state = Stepper(CPUEngineSettings().build(model)), ShearState(start.glass, start.observables)
        jumps = []
        while state.strain < event.step.after.strain + 3e-6:
            step = brute.step(state, state.strain + 1e-6)
            if step.q > 0.5 * event.step.q:
                jumps.append(step)
            state = step.after
        (jump,) = jumps
        # The grids of 1e-6 are shifted against each other: the two brackets overlap.
        assert jump.before.strain < event.step.after.strain
        assert jump.after.strain > event.step.before.strain
        assert jump.before.observables.energy - jump.after.observables.energy == pytest.approx(event.energy_drop, rel=1e-2)


def test_the_elastic_branch_ends_as_a_saddle_node(run: tuple[list[ShearStep], list[Instability]], model: GlassModel) -> None:
    """The softest eigenvalue falls towards the event, about as the square root of what is left."""
    from qlm_hoomd.hessian import Hessian
    from qlm_hoomd.modes import LowestModes

    steps, events = run
    event = events[0]

    def softest(distance: float) -> tuple[float, float]:
        state = min((step.before for step in steps), key=lambda state: abs(event.strain_c - distance - state.strain))
        modes = LowestModes(1).compute(Hessian(model.potential).compute(state.glass))
        return event.strain_c - state.strain, float(modes.eigenvalues[0])

    (far, soft), (near, softer) = softest(1e-3), softest(1e-5)
    assert 0.0 < softer < soft
    slope = np.log(soft / softer) / np.log(far / near)
    assert 0.2 < slope < 0.7


def test_the_state_before_an_event_can_be_taken_up_again(
    run: tuple[list[ShearStep], list[Instability]], stepper: Stepper, model: GlassModel
) -> None:
    """A kept state is the rewind: the event happens again, bit for bit in engines with the same past."""
    event = run[1][0]
    before, after = event.step.before, event.step.after
    ends = [Stepper(CPUEngineSettings().build(model)).step(before, after.strain).after for _ in range(2)]
    assert ends[0].glass.positions.tobytes() == ends[1].glass.positions.tobytes()
    for end in (ends[0], stepper.step(before, after.strain).after):
        np.testing.assert_allclose(end.glass.nonaffine_displacement(after.glass), 0.0, atol=1e-8)
        assert end.observables.energy == pytest.approx(after.observables.energy, abs=1e-12)


def test_a_fresh_run_is_the_same(run: tuple[list[ShearStep], list[Instability]], quenched: Glass, model: GlassModel) -> None:
    stepper = Stepper(CPUEngineSettings().build(model))
    for index, item in enumerate(ThresholdDetector().follow(stepper, stepper.start(quenched), GRID)):
        if isinstance(item, Instability):
            assert item.strain_c == run[1][0].strain_c
            assert item.step.q == run[1][0].step.q
            break
        assert item.after.glass.positions.tobytes() == run[0][index].after.glass.positions.tobytes()
