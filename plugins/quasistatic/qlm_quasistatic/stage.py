"""Stage ``shear``: a quenched glass sheared quasi-statically, every accepted step and every instability recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import polars as pl
from pydantic import Field

from qlm_hoomd import gsdio
from qlm_hoomd.registry import DETECTORS
from qlm_hoomd.settings import OfKind
from qlm_hoomd.stages import Stage, StageContext
from qlm_quasistatic.detector import EVENT_COLUMNS, Detector, Instability, event_row, follow
from qlm_quasistatic.stepper import ShearState, ShearStep, Stepper
from qlm_quasistatic.strains import StrainGrid

if TYPE_CHECKING:
    from qlm_hoomd.engines.base import Observables
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

_STEP_COLUMNS = {
    "strain": pl.Float64,
    "increment": pl.Float64,
    "stress_xy": pl.Float64,
    "energy": pl.Float64,
    "q": pl.Float64,
    "max_force": pl.Float64,
    "force_evaluations": pl.Int64,
}
# How far beyond its end a run looks for the next instability; far beyond any distance between two of them.
_LARGEST_OVERTIME = 0.5
_Strain = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ShearStage(Stage):
    """Athermal quasi-static simple shear under Lees-Edwards boundaries: affine step, relax, record, detect instabilities."""

    kind: Literal["shear"] = "shear"
    strain_max: _Strain = Field(description="strain at which the run ends")
    increment: Annotated[float, Field(gt=0, le=0.1, allow_inf_nan=False)] = Field(
        1e-4, description="coarse strain increment; the paper: 1e-4"
    )
    frames: tuple[_Strain, ...] = Field((), description="strains at which sheared.gsd gets a frame, hit exactly")
    detector: Annotated[Detector, OfKind(DETECTORS, Detector, shorthand=True)] | None = Field(
        "threshold",
        validate_default=True,
        description="what finds and refines instabilities: a name, a mapping with kind and settings, or null for none",
    )
    to_next_event: bool = Field(
        False,
        description="go on beyond strain_max until the next instability, so that every strain up to it has its distance to one",
    )
    max_events: Annotated[int, Field(gt=0)] | None = Field(
        None, description="end the run after so many instabilities; null: shear to strain_max"
    )
    tolerance: Annotated[float, Field(ge=1e-11, le=1e-6)] = Field(1e-10, description="largest force at rest [energy/length]")

    def check(self, model: GlassModel, n_particles: list[int]) -> None:
        """Refuse frames beyond the end of the run, increments larger than it, and a wait for events that nobody detects."""
        if self.detector is None and (self.to_next_event or self.max_events is not None):
            raise ValueError("to_next_event and max_events need a detector; the detector is null")
        if self.increment > self.strain_max:
            raise ValueError(f"increment = {self.increment:g} is larger than strain_max = {self.strain_max:g}")
        beyond = [strain for strain in self.frames if strain > self.strain_max]
        if beyond:
            raise ValueError(f"frames {beyond} lie beyond strain_max = {self.strain_max:g}; expected strains up to it")

    def requires(self) -> tuple[str, ...]:
        """The quenched glass."""
        return ("quenched.gsd",)

    def products(self) -> tuple[str, ...]:
        """Tables of steps and instabilities, and the frames if any are asked for."""
        return ("sheared.gsd", "steps.parquet", "events.parquet") if self.frames else ("steps.parquet", "events.parquet")

    def run(self, context: StageContext) -> None:
        """Shear one glass."""
        stepper = Stepper(context.engine, self.tolerance)
        start = stepper.start(gsdio.read_glass(context.path("quenched.gsd")).glass)
        steps = [_start_row(start)]
        events: list[dict[str, Any]] = []
        frames: list[tuple[Glass, Observables]] = []
        last_event = start.strain
        wanted = set(self.frames)
        for item in self._items(stepper, start):
            if isinstance(item, Instability):
                events.append(event_row(item, last_event, self.detector))
                last_event = item.strain_c
                if len(events) == self.max_events or (self.to_next_event and item.strain_c > self.strain_max):
                    break
            else:
                steps.append(_step_row(item))
                if item.after.strain in wanted:
                    frames.append((item.after.glass, item.after.observables))
                if len(steps) % 50 == 0:
                    context.progress(f"strain {item.after.strain:.4f} of {self.strain_max:g}, {len(events)} instabilities")
        # The event table last: with it the stage is done.
        if self.frames:
            gsdio.write_glasses(context.path("sheared.gsd"), frames, context.provenance)
        context.write_table("steps.parquet", pl.DataFrame(steps, schema=_STEP_COLUMNS, orient="row"))
        context.write_table("events.parquet", pl.DataFrame(events, schema=EVENT_COLUMNS, orient="row"))

    def _items(self, stepper: Stepper, start: ShearState) -> Iterator[ShearStep | Instability]:
        end = self.strain_max + _LARGEST_OVERTIME if self.to_next_event else self.strain_max
        grid = StrainGrid(self.increment, end, (*self.frames, self.strain_max))
        return follow(self.detector, stepper, start, grid)


def _start_row(start: ShearState) -> dict[str, Any]:
    return _state_row(start) | {"increment": 0.0, "q": 0.0, "force_evaluations": 0}


def _step_row(step: ShearStep) -> dict[str, Any]:
    return _state_row(step.after) | {"increment": step.increment, "q": step.q, "force_evaluations": step.force_evaluations}


def _state_row(state: ShearState) -> dict[str, Any]:
    observables = state.observables
    return {
        "strain": state.strain,
        "stress_xy": observables.stress_xy,
        "energy": observables.energy,
        "max_force": observables.max_force,
    }
