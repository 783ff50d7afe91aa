"""What every engine must do."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from qlm_hoomd.base.checkpoint import packed, unpacked
from qlm_hoomd.base.errors import BasinLost, ConvergenceError, InputError, QlmError
from qlm_hoomd.base.registry import ENGINES
from qlm_hoomd.box import Box
from qlm_hoomd.engines.base import DynamicsState
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.minimize import descent, newton
from qlm_hoomd.minimize.surface import max_norm, without_drift
from qlm_hoomd.model import GlassModel
from qlm_hoomd.preparation import random_start
from qlm_hoomd.testing.settings import SettingsConformance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from pydantic import BaseModel

    from qlm_hoomd.base.checkpoint import Waypoint
    from qlm_hoomd.engines.base import AfterEvent, DynamicsReport, Engine, EngineSettings
    from qlm_hoomd.glass import Glass


# A particle that moves by no more may have stayed in its basin [length].
_SMALLEST_FALL = 0.05


class EngineConformance(SettingsConformance):
    """Suite for engines. It makes glasses of a few hundred particles, seconds of work for an engine on one core.

    Attributes:
        settings: settings of the engine to test.
        model: the glass.
        n_particles: size of the test glass.
        tolerance: max|F| to relax to.
        accuracy: relative accuracy of measured quantities against numerical derivatives of the energy.
        bitwise: whether two runs with the same seed give the same bits; else they must agree to ``accuracy``.
        resumes_bitwise: whether a run that goes on from a waypoint gives the bits of one that was not interrupted.
        n_falls: how many instabilities the engine falls from.
    """

    group = ENGINES
    settings: ClassVar[EngineSettings]
    model: ClassVar[GlassModel] = GlassModel()
    n_particles: ClassVar[int] = 200
    tolerance: ClassVar[float] = 1e-10
    accuracy: ClassVar[float] = 1e-6
    bitwise: ClassVar[bool] = True
    resumes_bitwise: ClassVar[bool] = False
    n_falls: ClassVar[int] = 20

    def settings_under_test(self) -> BaseModel:
        """The engine's settings."""
        return self.settings

    @cached_property
    def engine(self) -> Engine:
        """A fresh engine for each test."""
        return self.settings.build(self.model)

    @cached_property
    def start(self) -> Glass:
        """A strained configuration that is not at rest."""
        return random_start(self.model, self.n_particles, np.random.default_rng(7)).at_strain(0.3)

    def test_describes_itself_in_json(self) -> None:
        """What goes into the provenance of products can be stored."""
        assert json.loads(json.dumps(self.engine.describe())), "expected name, version and settings"

    def test_relax_reaches_a_minimum(self) -> None:
        """`relax` ends below the tolerance, by its own report and by `measure`."""
        glass, report = self.engine.relax(self.start, tolerance=self.tolerance)
        self._assert_at_rest(glass, report.max_force)

    def test_descend_reaches_a_minimum(self) -> None:
        """`descend` ends below the tolerance, by its own report and by `measure`."""
        glass, report = self.engine.descend(self.start, tolerance=self.tolerance)
        self._assert_at_rest(glass, report.max_force)

    def test_relax_of_a_minimum_stays_there(self) -> None:
        """A glass at rest is left where it is."""
        glass, _ = self.engine.relax(self.start, tolerance=self.tolerance)
        again, _ = self.engine.relax(glass, tolerance=self.tolerance)
        moved = float(np.abs(again.nonaffine_displacement(glass)).max())
        assert moved < 1e-6, f"a particle of a glass at rest moved by {moved:.3g}"

    def test_relax_inside_the_basin_says_that_it_stayed(self) -> None:
        """A small strain of a glass at rest is no event, whatever is to be done after one, and for a bad guess too."""
        glass, _ = self.engine.relax(self.start, tolerance=self.tolerance)
        strained = glass.sheared(1e-5)
        expected, _ = self.engine.relax(strained, tolerance=self.tolerance)
        guess_nc = strained.positions + np.random.default_rng(1).normal(scale=1e-3, size=strained.positions.shape)
        for after_event in ("descent", "fire", None):
            end, report = self.engine.relax(strained, tolerance=self.tolerance, guess=guess_nc, after_event=after_event)
            assert not report.left_basin, f"after_event = {after_event}: expected left_basin False in a basin"
            moved_nc = end.nonaffine_displacement(expected)
            moved = float(np.abs(moved_nc - moved_nc.mean(axis=0)).max())
            assert moved < 1e-6, f"after_event = {after_event}: a particle is {moved:.3g} from the minimum of its basin"

    def test_relax_falls_as_it_is_told(self) -> None:
        """Outside any basin the state falls by descent or FIRE to rest, and the report says so."""
        ways: tuple[AfterEvent, ...] = ("descent", "fire")
        for way in ways:
            glass, report = self.engine.relax(self.start, tolerance=self.tolerance, after_event=way)
            self._assert_at_rest(glass, report.max_force)
            assert report.left_basin, f"after_event = {way}: expected left_basin True for a start in no basin"
            assert report.fallbacks > 0, f"after_event = {way}: expected the safeguard that fired to be counted"

    def test_falls_and_descents_end_where_small_steps_do(self) -> None:
        """From beyond an instability both go along the overdamped path, on every engine: to the minimum of small steps."""
        for number, (beyond, expected) in enumerate(self._instabilities(), start=1):
            fallen, report = self.engine.relax(beyond, tolerance=self.tolerance)
            # The smallest rearrangements are as small as what an engine takes for a step within a basin.
            far = max_norm(without_drift(fallen.nonaffine_displacement(beyond))) > _SMALLEST_FALL
            assert report.left_basin or not far, f"instability {number}: expected left_basin True beyond the end of the basin"
            descended, _ = self.engine.descend(beyond, tolerance=self.tolerance)
            for name, end in (("relax", fallen), ("descend", descended)):
                moved = max_norm(without_drift(end.nonaffine_displacement(expected)))
                assert moved < 1e-5, f"{name} from instability {number} ends {moved:.3g} from the minimum of small steps"

    def _instabilities(self) -> Iterator[tuple[Glass, Glass]]:
        """States at most 1e-4 in strain beyond an instability, and the minimum into which each of them falls by small steps."""
        mechanics = Mechanics(self.model.potential, self.start.typeid, 0.12, self.start.sizes)
        state, _ = descent(mechanics, self.start, tolerance=self.tolerance)
        for _ in range(self.n_falls):
            increment = 1e-3
            while True:
                beyond = state.sheared(increment)
                try:
                    state, _ = newton(mechanics, beyond, tolerance=self.tolerance, reach=0.05)
                except ConvergenceError:
                    if increment < 2e-4:
                        break
                    increment *= 0.1
            state, _ = descent(mechanics, beyond, tolerance=self.tolerance, accuracy=2e-5)
            yield beyond, state

    def test_relax_does_not_fall_unless_told(self) -> None:
        """Without a way to fall a lost basin is an error that carries its report, and the engine is none the worse for it."""
        error = self._refusal(self.start, None)
        assert isinstance(error, BasinLost), f"{error!r}; expected BasinLost for a start in no basin"
        assert error.report.fallbacks > 0, "expected the safeguard that fired to be counted"
        self.test_relax_reaches_a_minimum()

    def test_refuses_a_way_to_fall_that_it_does_not_know(self) -> None:
        """A wrong choice is named, before any work is done."""
        error = self._refusal(self.start, cast("AfterEvent", "sideways"))
        assert isinstance(error, InputError), f"{error!r}; expected InputError for after_event = 'sideways'"
        assert "sideways" in str(error), "expected the message to name the choice"

    def test_forces_are_the_gradient_of_the_energy(self) -> None:
        """The largest force is that of the numerical gradient, around a displaced particle."""
        glass, _ = self.engine.relax(self.start, tolerance=self.tolerance)
        positions_nc = glass.positions.copy()
        positions_nc[0] += (0.02, -0.01, 0.015)
        glass = glass.moved(positions_nc)
        distance_n = np.linalg.norm(glass.box.minimum_image(positions_nc - positions_nc[0]), axis=1)
        near = np.flatnonzero(distance_n < self.model.largest_cutoff + 0.1)
        step = 1e-5
        force_nc = np.zeros((len(near), 3))
        for row, particle in enumerate(near):
            for axis in range(3):
                shift_nc = np.zeros_like(positions_nc)
                shift_nc[particle, axis] = step
                difference = self._energy(glass, positions_nc + shift_nc) - self._energy(glass, positions_nc - shift_nc)
                force_nc[row, axis] = -difference / (2 * step)
        largest = float(np.linalg.norm(force_nc, axis=1).max())
        self._assert_close("max_force", self.engine.measure(glass).max_force, largest)

    def test_stress_is_the_strain_derivative_of_the_energy(self) -> None:
        """stress_xy = dU/dgamma / V."""
        step = 1e-6
        up, down = (self._total_energy(self.start.sheared(sign * step)) for sign in (1, -1))
        expected = (up - down) / (2 * step) / self.start.box.volume
        self._assert_close("stress_xy", self.engine.measure(self.start).stress_xy, expected)

    def test_pressure_is_the_volume_derivative_of_the_energy(self) -> None:
        """pressure = -dU/dV."""
        step = 1e-6
        up, down = (self._total_energy(_scaled(self.start, 1 + sign * step)) for sign in (1, -1))
        # V = L^3: dU/dV = (dU/ds) / (3 V) for a scale factor s.
        expected = -(up - down) / (2 * step) / (3 * self.start.box.volume)
        self._assert_close("pressure", self.engine.measure(self.start).pressure, expected)

    def test_measures_the_same_after_a_flip_of_the_box(self) -> None:
        """Simple shear by a whole box length maps the lattice of images on itself."""
        here = self.engine.measure(self.start)
        there = self.engine.measure(replace(self.start, strain=self.start.strain - 1.0))
        for name in ("energy", "stress_xy", "pressure", "max_force"):
            self._assert_close(name, getattr(there, name), getattr(here, name))

    def test_leaves_the_glass_alone(self) -> None:
        """A glass is a value: no call changes it, and types and strain stay what they are."""
        before_nc, strain = self.start.positions.copy(), self.start.strain
        rng = np.random.default_rng(3)
        self.engine.measure(self.start)
        glass, _ = self.engine.relax(self.start, tolerance=self.tolerance)
        self.engine.run(self.start, duration=0.1, temperature=self.model.T0, rng=rng)
        assert np.array_equal(self.start.positions, before_nc)
        assert self.start.strain == strain
        assert glass.strain == strain
        assert np.array_equal(glass.typeid, self.start.typeid)

    def test_same_seed_same_run(self) -> None:
        """The generator is the only source of randomness."""
        ends = [self._run(seed) for seed in (11, 11, 12)]
        if self.bitwise:
            assert np.array_equal(ends[0].positions, ends[1].positions), "two runs with the same seed differ"
        else:
            moved = float(np.abs(ends[0].nonaffine_displacement(ends[1])).max())
            assert moved < self.accuracy, f"two runs with the same seed differ by {moved:.3g}"
        assert not np.allclose(ends[0].positions, ends[2].positions), "the seed has no effect"

    def test_run_goes_on_from_any_waypoint(self) -> None:
        """Another engine goes on from a state that went through a file, and ends where the run would have ended."""
        states: list[bytes] = []

        def run(resume: DynamicsState | None = None, waypoint: Waypoint | None = None) -> tuple[Glass, DynamicsReport]:
            return self.settings.build(self.model).run(
                self.start,
                duration=0.5,
                temperature=self.model.T0,
                final_temperature=0.5 * self.model.T0,
                rng=np.random.default_rng(4),
                resume=resume,
                waypoint=waypoint,
            )

        whole, report = run(waypoint=lambda state: states.append(packed(state())))
        assert states, "the run passed no waypoint; expected some"
        for state in states:
            end, resumed = run(resume=unpacked(state, (DynamicsState, Box)))
            assert resumed.n_steps == report.n_steps
            if self.resumes_bitwise:
                assert np.array_equal(end.positions, whole.positions), "a run that goes on from a waypoint ends elsewhere"
                assert resumed == report
            else:
                # Chaos has no time to tell two runs of a few hundred steps far apart.
                assert abs(resumed.temperature / report.temperature - 1.0) < 0.3
                assert abs(resumed.energy / report.energy - 1.0) < 0.1

    def test_history_of_the_engine_does_not_matter(self) -> None:
        """A realisation must not depend on what the same engine did before it."""
        fresh_engine = self.settings.build(self.model)
        fresh, _ = fresh_engine.relax(self.start, tolerance=self.tolerance)
        self._run(5)
        used, _ = self.engine.relax(self.start, tolerance=self.tolerance)
        if self.bitwise:
            assert np.array_equal(used.positions, fresh.positions)
        else:
            assert float(np.abs(used.nonaffine_displacement(fresh)).max()) < self.accuracy

    def _refusal(self, glass: Glass, after_event: AfterEvent | None) -> QlmError | None:
        try:
            self.engine.relax(glass, tolerance=self.tolerance, after_event=after_event)
        except QlmError as error:
            return error
        return None

    def _run(self, seed: int) -> Glass:
        rng = np.random.default_rng(seed)
        glass, _ = self.engine.run(self.start, duration=0.5, temperature=self.model.T0, rng=rng)
        return glass

    def _total_energy(self, glass: Glass) -> float:
        return self.engine.measure(glass).energy * glass.n_particles

    def _energy(self, glass: Glass, positions_nc: NDArray[np.float64]) -> float:
        return self._total_energy(glass.moved(positions_nc))

    def _assert_at_rest(self, glass: Glass, reported: float) -> None:
        measured = self.engine.measure(glass).max_force
        assert measured < self.tolerance, f"max|F| = {measured:.3g}; expected less than {self.tolerance:g}"
        assert reported < self.tolerance, f"the report says max|F| = {reported:.3g}"

    def _assert_close(self, name: str, value: float, expected: float) -> None:
        assert abs(value - expected) <= self.accuracy * abs(expected), f"{name} = {value:.12g}; expected {expected:.12g}"


def _scaled(glass: Glass, factor: float) -> Glass:
    box = Box.at_strain(factor * glass.box.length, glass.strain)
    return replace(glass, positions=factor * glass.positions, box=box)
