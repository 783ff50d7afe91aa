"""The decisions of the threshold detector, on a scripted response that can be made to do anything."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from qlm_quasistatic.detector import Instability
from qlm_quasistatic.stepper import ShearState, ShearStep
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import ThresholdDetector

from qlm_hoomd.box import Box
from qlm_hoomd.engines.base import Observables
from qlm_hoomd.glass import Glass
from qlm_hoomd.testing import DetectorConformance

LENGTH = 10.0


class TestThresholdDetector(DetectorConformance):
    detector = ThresholdDetector()


@dataclass(frozen=True)
class Event:
    """A saddle-node bifurcation: displacement ``precursor`` sqrt(gamma_c - gamma) before it, and a jump at it."""

    strain: float
    jump: float = 0.5
    precursor: float = 0.0


@dataclass
class Script:
    """Stands in for the stepper: Q of every step follows from the events inside it."""

    events: tuple[Event, ...] = ()
    elastic_q: float = 5.0
    peaks: tuple[tuple[float, float], ...] = ()  # (strain, displacement): smooth humps of width 2e-6, no jump
    calls: list[tuple[float, float]] = field(default_factory=list)
    memories: list[Any] = field(default_factory=list)

    def waypoint(self, memory: Callable[[], Any]) -> None:
        self.memories.append(memory())

    def start(self) -> ShearState:
        return self._state(0.0)

    def step(self, state: ShearState, strain: float) -> ShearStep:
        increment = strain - state.strain
        assert increment > 0.0, f"a step of {increment} at strain {strain}"
        self.calls.append((state.strain, strain))
        displacement = self.elastic_q * LENGTH * increment
        for event in self.events:
            room = [math.sqrt(max(event.strain - gamma, 0.0)) for gamma in (state.strain, strain)]
            displacement += event.precursor * (room[0] - room[1])
            if state.strain < event.strain <= strain:
                displacement += event.jump
        for centre, size in self.peaks:
            displacement += size * (math.erf((strain - centre) / 2e-6) - math.erf((state.strain - centre) / 2e-6)) / 2.0
        return ShearStep(state, self._state(strain), displacement / (LENGTH * increment), 1)

    def _state(self, strain: float) -> ShearState:
        stress = 10.0 * strain - sum(event.jump for event in self.events if event.strain <= strain)
        glass = Glass(np.zeros((1, 3)), np.zeros(1, dtype=int), Box.at_strain(LENGTH, strain), strain)
        return ShearState(glass, Observables(energy=stress, stress_xy=stress, pressure=0.0, max_force=0.0))


def _follow(
    script: Script, detector: ThresholdDetector | None = None, largest: float = 0.01, increment: float = 1e-4, stops: Any = ()
) -> tuple[list[ShearStep], list[Instability]]:
    """Run the detector to the end, checking what must hold whatever happens."""
    grid = StrainGrid(increment, largest, tuple(stops))
    steps: list[ShearStep] = []
    events: list[Instability] = []
    for item in (detector or ThresholdDetector()).follow(script, script.start(), grid):  # type: ignore[arg-type]
        if isinstance(item, Instability):
            assert item.step is steps[-1], "an instability comes right after its step"
            events.append(item)
        else:
            steps.append(item)
    strains = [0.0, *(step.after.strain for step in steps)]
    assert [step.before.strain for step in steps] == strains[:-1], "steps are contiguous"
    assert (np.diff(strains) > 0.0).all()
    assert strains[-1] == largest
    assert set(stops) <= set(strains)
    increments = np.diff(strains)
    assert increments.max() < increment * 1.0011
    # Every gap between grid points, stops and events may be short, but none is a mere rounding error.
    assert increments.min() > 1e-10
    return steps, events


def _assert_found(events: list[Instability], expected: list[float], width: float = 1e-6) -> None:
    assert len(events) == len(expected), [event.strain_c for event in events]
    for event, strain in zip(events, expected, strict=True):
        assert event.step.before.strain < strain <= event.step.after.strain
        assert event.step.increment <= width * (1.0 + 1e-7)
        assert event.step.before.strain < event.strain_c < event.step.after.strain


@given(
    strains=st.lists(st.floats(2e-4, 9.8e-3), max_size=4),
    precursor=st.floats(0.0, 2.0),
    rule=st.sampled_from(["text", "figure"]),
    stop=st.floats(1e-3, 9e-3),
)
def test_every_waypoint_leads_to_the_same_end(strains: list[float], precursor: float, rule: Any, stop: float) -> None:
    script, grid = Script(tuple(Event(strain, precursor=precursor) for strain in strains)), StrainGrid(1e-4, 0.01, (stop,))
    detector = ThresholdDetector(rule=rule)

    def summary(items: Iterator[ShearStep | Instability]) -> list[tuple[str, float, float]]:
        return [
            ("event", item.step.q, item.strain_c) if isinstance(item, Instability) else ("step", item.q, item.after.strain)
            for item in items
        ]

    whole = summary(detector.follow(script, script.start(), grid))  # type: ignore[arg-type]
    for memory in (script.memories[0], *script.memories[:: max(1, len(script.memories) // 10)], script.memories[-1]):
        rest = summary(detector.resume(script, memory, grid))  # type: ignore[arg-type]
        # What came before was taken already: steps that wait for judgement were not.
        assert rest == whole[len(whole) - len(rest) :]
        taken = len(whole) - len(rest)
        before = 0.0 if taken == 0 else next(strain for kind, _, strain in whole[taken - 1 :: -1] if kind == "step")
        assert before == (memory.waiting[0].before.strain if memory.waiting else memory.state.strain)


def test_no_events_is_the_coarse_grid() -> None:
    script = Script()
    steps, events = _follow(script)
    assert not events
    assert [step.after.strain for step in steps] == [count / 10_000 for count in range(1, 101)]
    assert len(script.calls) == 100


def test_an_event_is_bracketed_by_three_refinements() -> None:
    script = Script((Event(0.0043217),))
    steps, events = _follow(script)
    _assert_found(events, [0.0043217])
    assert events[0].stress_drop == pytest.approx(0.5, abs=1e-4)
    assert events[0].energy_drop == events[0].stress_drop
    # Back to gamma_1, then tenths of the increment, twice; afterwards back on the grid.
    widths = [step.increment for step in steps]
    for width in (1e-4, 1e-5, 1e-6):
        assert sum(abs(value - width) < 1e-12 for value in widths) > 0
    assert steps[-1].increment == pytest.approx(1e-4)
    # Rewinding costs the coarse jump with its successor, and the same at 1e-5.
    assert len(script.calls) == len(steps) + 4


@pytest.mark.parametrize("strain", [1e-7, 0.9e-6, 1e-5, 5e-5, 9.99e-5])
def test_an_event_in_the_very_first_step(strain: float) -> None:
    _assert_found(_follow(Script((Event(strain),)))[1], [strain])


@pytest.mark.parametrize("before_end", [0.0, 1e-7, 1.5e-6, 9.5e-6, 1.05e-5, 5e-5, 9.95e-5])
def test_an_event_in_the_very_last_step(before_end: float) -> None:
    strain = 0.01 - before_end
    _assert_found(_follow(Script((Event(strain),)))[1], [strain])


def test_an_event_beyond_the_end_is_none() -> None:
    steps, events = _follow(Script((Event(0.01 + 1e-9),)))
    assert not events
    assert len(steps) == 100


def test_two_events_in_one_coarse_step_are_found_one_after_the_other() -> None:
    _assert_found(_follow(Script((Event(0.00432), Event(0.00437))))[1], [0.00432, 0.00437])


@pytest.mark.parametrize("rule", ["text", "figure"])
def test_events_in_successive_coarse_steps(rule: Any) -> None:
    """The text's rule wants Q_1 and Q_3 small, and sees neither of two neighbours; the figure's sees both."""
    events = _follow(Script((Event(0.00432, jump=0.6), Event(0.00447))), ThresholdDetector(rule=rule))[1]
    _assert_found(events, [] if rule == "text" else [0.00432, 0.00447])
    assert all(event.rule == rule for event in events)


def test_small_jumps_are_not_seen() -> None:
    """Q_c L dgamma = 0.1: the blind spot."""
    assert not _follow(Script((Event(0.0043, jump=0.09),)))[1]
    _assert_found(_follow(Script((Event(0.0043, jump=0.11),)))[1], [0.0043])
    _assert_found(_follow(Script((Event(0.0043, jump=0.09),)), ThresholdDetector(q_c=50.0))[1], [0.0043])


def test_a_strong_precursor_loses_the_text_s_rule_inside_the_bracket(caplog: pytest.LogCaptureFixture) -> None:
    """At 1e-6 the elastic Q just before the event passes Q_c itself; figure 4's rule takes over, and that is said."""
    with caplog.at_level(logging.WARNING):
        _, events = _follow(Script((Event(0.0043217, jump=0.5, precursor=4.0),)))
    _assert_found(events, [0.0043217])
    assert "figure 4's rule takes the largest" in caplog.text
    assert events[0].rule == "figure"
    (plain,) = _follow(Script((Event(0.0043217),)))[1]
    assert plain.rule == "text"


def test_a_steep_but_smooth_response_is_no_instability(caplog: pytest.LogCaptureFixture) -> None:
    """The final condition: Q must fall a hundredfold right after."""
    with caplog.at_level(logging.WARNING):
        _, events = _follow(Script(peaks=((0.0043217, 0.3),)))
    assert not events
    assert "no discontinuity" in caplog.text


def test_the_discontinuity_condition_is_100_q3_below_q2() -> None:
    """Q_2 = 9e3 at the finest increment against Q_3 = 89 or 91."""
    jump = 9e3 * LENGTH * 1e-6 - 89.0 * LENGTH * 1e-6
    detector = ThresholdDetector(q_c=95.0)
    for elastic_q, counts in ((89.0, True), (91.0, False)):
        events = _follow(Script((Event(0.0043005, jump=jump),), elastic_q=elastic_q), detector, increment=1e-5)[1]
        assert bool(events) is counts


def test_a_bracketed_jump_that_refinement_does_not_find_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """A relaxation that falls elsewhere at another increment: the coarse jump is gone at the fine one."""

    class Fickle(Script):
        def step(self, state: ShearState, strain: float) -> ShearStep:
            step = super().step(state, strain)
            return step if step.increment > 5e-5 else ShearStep(step.before, step.after, 5.0, 1)

    with caplog.at_level(logging.WARNING):
        _, events = _follow(Fickle((Event(0.0043217),)))
    assert not events
    assert "is dropped" in caplog.text


@pytest.mark.parametrize("increment", [1e-4, 2e-4, 5e-4, 1e-3, 3e-5, 1e-6, 5e-7])
def test_brackets_are_as_fine_as_promised_from_any_coarse_increment(increment: float) -> None:
    strain = 0.00432171
    events = _follow(Script((Event(strain, jump=2.0),)), increment=increment)[1]
    _assert_found(events, [strain])


@given(
    st.lists(st.integers(1, 9_999_999), max_size=5, unique=True),
    st.sampled_from([1e-4, 2e-4, 3.3e-4, 7e-5]),
    st.lists(st.sampled_from([0.002, 0.00432, 0.0043201, 0.0099]), max_size=2, unique=True),
    st.sampled_from([0.0, 1.0]),
)
def test_isolated_events_are_all_found(strains: list[int], increment: float, stops: list[float], precursor: float) -> None:
    places = sorted(strain * 1e-9 for strain in strains)
    assume(all(gap > 4 * increment for gap in np.diff(places)))
    script = Script(tuple(Event(place, precursor=precursor) for place in places))
    _assert_found(_follow(script, increment=increment, stops=stops)[1], places)


@given(
    st.lists(st.tuples(st.integers(1, 9_999_999), st.floats(0.01, 1.0), st.floats(0.0, 3.0)), max_size=12),
    st.sampled_from(["text", "figure"]),
    st.floats(1.0, 90.0),
)
def test_whatever_happens_steps_stay_in_order(events: list[tuple[int, float, float]], rule: Any, elastic_q: float) -> None:
    script = Script(tuple(Event(place * 1e-9, jump, precursor) for place, jump, precursor in events), elastic_q)
    steps, found = _follow(script, ThresholdDetector(rule=rule))
    for event in found:
        assert event.step in steps
        assert any(event.step.before.strain < place * 1e-9 <= event.step.after.strain for place, _, _ in events)


@pytest.mark.parametrize(
    "wrong", [{"q_c": 0.0}, {"refine": 1}, {"min_increment": 0.0}, {"discontinuity": 1.0}, {"rule": "both"}, {"q": 3}], ids=str
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ThresholdDetector.model_validate(wrong)


def test_defaults_are_the_paper_s() -> None:
    paper = ThresholdDetector()
    assert (paper.q_c, paper.refine, paper.min_increment, paper.discontinuity, paper.rule) == (100.0, 10, 1e-6, 100.0, "text")
