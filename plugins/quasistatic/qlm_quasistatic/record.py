"""What a shear run leaves behind: rows, frames, remains of a failure, and the states from which it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import polars as pl

from qlm_hoomd import gsdio
from qlm_hoomd.stages import StageContext
from qlm_quasistatic.detector import Detector, Instability
from qlm_quasistatic.path import PATH_EVENT_COLUMNS, Leg, Plane, axes_of
from qlm_quasistatic.stepper import ShearState, ShearStep
from qlm_quasistatic.strains import Reach

if TYPE_CHECKING:
    from qlm_hoomd.engines.base import Observables
    from qlm_hoomd.glass import Glass

_STEP_COLUMNS = {
    "strain": pl.Float64,
    "increment": pl.Float64,
    "stress_xy": pl.Float64,
    "energy": pl.Float64,
    "q": pl.Float64,
    "max_force": pl.Float64,
    "force_evaluations": pl.Int64,
    "hessian_products": pl.Int64,
    "left_basin": pl.Boolean,
    "fallbacks": pl.Int64,
    "travelled": pl.Float64,
}

REMAINS = ("failed/shear.gsd", "failed/shear_steps.parquet", "failed/shear_events.parquet")
"""What a run that fails leaves behind: its last state at rest, and its tables so far."""


@dataclass(frozen=True)
class _RecordMemory:
    """A :class:`Record` as plain values: its tables, its last state, and the strain travelled up to the last instability."""

    tables: dict[str, list[Any]]
    state: ShearState
    since: float


@dataclass(frozen=True)
class _Ends:
    """The settings that say how far a run goes, and where it stops on its way."""

    strain_max: float | None
    frames: tuple[float, ...]
    max_events: int | None


@dataclass(frozen=True)
class _Station:
    """A place of which nothing before depended on the end of the run: a longer one comes by in the same state.

    Args:
        rows: number of rows of each table of the record.
        state: its last state.
        since: strain travelled up to the last instability.
        engine: what the engine remembered.
        detector: what the detector remembered.
        reach: strain up to which the stops must be the same.
        cost: processor and wall time up to here [s].
    """

    rows: dict[str, int]
    state: ShearState
    since: float
    engine: Any
    detector: Any
    reach: float
    cost: tuple[float, float]


@dataclass(frozen=True)
class _Progress:
    """How far a run is.

    Args:
        leg: index of the leg that it is on.
        record: what its record remembers.
        engine: what its engine remembers.
        detector: what its detector remembers.
        reach: how far it has asked for the strains of its leg.
        ends: which run it is.
        station: the last place at which a longer one may go on.
    """

    leg: int
    record: _RecordMemory
    engine: Any
    detector: Any
    reach: Reach
    ends: _Ends
    station: _Station | None


@dataclass
class Record:
    """What a run has come by, in the frame of the sample.

    Args:
        wanted: strains whose configurations are kept.
        detector: of instabilities, or None.
        plane: of the shear.
    """

    wanted: tuple[float, ...]
    detector: Detector | None
    plane: Plane
    steps: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    frames: list[tuple[Glass, Observables]] = field(default_factory=list)
    frames_travelled: list[float] = field(default_factory=list)
    trials: list[dict[str, Any]] = field(default_factory=list)
    state: ShearState = field(init=False)

    def begin(self, leg: Leg, start: ShearState) -> None:
        """Begin a leg of the path."""
        self._leg, self.state = leg, start
        self._since = leg.travelled
        if not self.steps:
            nothing = {
                "increment": 0.0,
                "q": 0.0,
                "force_evaluations": 0,
                "hessian_products": 0,
                "left_basin": False,
                "fallbacks": 0,
            }
            self.steps.append(self._row(start, nothing))

    @property
    def memory(self) -> _RecordMemory:
        """All that is in it."""
        tables = {each.name: rows for each in fields(self) if isinstance(rows := getattr(self, each.name), list)}
        return _RecordMemory(tables, self.state, self._since)

    @property
    def marks(self) -> tuple[dict[str, int], ShearState, float]:
        """The numbers of rows of its tables, its last state, and the strain travelled up to the last instability."""
        memory = self.memory
        return {name: len(rows) for name, rows in memory.tables.items()}, memory.state, memory.since

    def recall(self, leg: Leg, memory: _RecordMemory) -> None:
        """Go on as the record on this leg that had this memory; the tables stay the lists that they are."""
        for name, rows in memory.tables.items():
            getattr(self, name)[:] = rows
        self._leg, self.state, self._since = leg, memory.state, memory.since

    @property
    def last(self) -> tuple[Glass, Observables]:
        """The last state at rest."""
        return self._leg.glass(self.state.glass), self._leg.observables(self.state.observables)

    def add_step(self, step: ShearStep) -> None:
        """An accepted step, and its configuration where that is wanted."""
        self.state = step.after
        names = ("increment", "q", "force_evaluations", "hessian_products", "left_basin", "fallbacks")
        self.steps.append(self._row(step.after, {name: getattr(step, name) for name in names}))
        strain = self.steps[-1]["strain"]
        if strain in self.wanted and self._leg.passes(strain):
            self.frames.append(self.last)
            self.frames_travelled.append(self.steps[-1]["travelled"])

    def add_trial(self, before: ShearState, strain: float, step: ShearStep | None) -> None:
        """A step that was tried; None where it did not converge."""
        row = {
            "strain_before": before.strain,
            "strain_after": strain,
            # Where the basin is lost and nothing fell, there is no displacement to speak of.
            "q": None if step is None else step.q,
            "left_basin": step is None or step.left_basin,
        }
        self.trials.append(self._leg.row(row) | {"travelled": self._leg.travelled_at(self._leg.strain(strain))})

    def add_event(self, event: Instability) -> None:
        """An instability."""
        self.events.append(self._leg.event_row(event, self._since, self.detector))
        self._since = self.events[-1]["travelled"]

    def _row(self, state: ShearState, measures: dict[str, Any]) -> dict[str, Any]:
        seen = state.observables
        row = {"strain": state.strain, "stress_xy": seen.stress_xy, "energy": seen.energy, "max_force": seen.max_force}
        row = self._leg.row(row | measures)
        return row | {"travelled": self._leg.travelled_at(row["strain"])}

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Steps and events so far."""
        steps = pl.DataFrame(self.steps, schema=_STEP_COLUMNS, orient="row")
        return steps, pl.DataFrame(self.events, schema=PATH_EVENT_COLUMNS, orient="row")

    def write_tables(self, context: StageContext, steps: str, events: str) -> None:
        """Write the tables under these names."""
        for name, table in zip((steps, events), self.tables(), strict=True):
            context.write_table(name, table)

    def write_frames(self, context: StageContext, name: str) -> None:
        """Write the configurations that were wanted."""
        gsdio.write_glasses(
            context.path(name),
            self.frames,
            context.provenance,
            axes=axes_of(self.plane),
            travelled=self.frames_travelled,
            diameters=context.model.potential.diameters(),
        )

    def write_remains(self, context: StageContext) -> None:
        """Write what there is when the run fails: :data:`REMAINS`."""
        state, steps, events = REMAINS
        context.path(state).parent.mkdir(exist_ok=True)
        self.frames, self.frames_travelled = [self.last], [self.steps[-1]["travelled"]]
        self.write_frames(context, state)
        self.write_tables(context, steps, events)
