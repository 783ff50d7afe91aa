"""Stage ``shear``: a quenched glass sheared quasi-statically, every accepted step and every instability recorded."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import polars as pl
from pydantic import BaseModel, Field, model_validator

from qlm_hoomd import gsdio
from qlm_hoomd.base.interrupt import stop_if_requested
from qlm_hoomd.engines.base import AfterEvent
from qlm_hoomd.errors import InputError
from qlm_hoomd.model import PARAMETERS
from qlm_hoomd.registry import DETECTORS
from qlm_hoomd.settings import Later, OfKind
from qlm_hoomd.stages import Stage, StageContext
from qlm_quasistatic.detector import STATE_CLASSES, Detector, Instability, follow, missed, resume
from qlm_quasistatic.directions import ALL_DIRECTIONS, Direction, as_table, first_instability, plane_of
from qlm_quasistatic.path import Leg, Plane, axes_of, check_room, legs_of
from qlm_quasistatic.record import REMAINS, Record, _Ends, _Progress, _RecordMemory, _Station
from qlm_quasistatic.stepper import Stepper
from qlm_quasistatic.strains import Reach

if TYPE_CHECKING:
    from collections.abc import Callable

    from qlm_hoomd.model import GlassModel

_log = logging.getLogger(__name__)
# How far beyond its end a run looks for the next instability; far beyond any distance between two of them.
_LARGEST_OVERTIME = 0.5
# Positions are at rest to 1e-10 or so: over a shorter step that is no small displacement per strain.
_SHORTEST_STEP = 1e-9
LARGEST_STRAIN = 10.0
"""Where a run may end: a hundred times the strain at which a glass yields, and 10^5 steps of the paper's increment."""
_Strain = Annotated[float, Field(allow_inf_nan=False)]
_TRIAL_COLUMNS = {
    "strain_before": pl.Float64,
    "strain_after": pl.Float64,
    "q": pl.Float64,
    "left_basin": pl.Boolean,
    "travelled": pl.Float64,
}


def _nothing() -> None:
    """What a detector remembers where a leg begins."""


class ShearStage(Stage):
    """Athermal quasi-static simple shear under Lees-Edwards boundaries: affine step, relax, record, detect instabilities."""

    growing: ClassVar[frozenset[str]] = frozenset({"strain_max", "frames", "max_events"})
    kind: Literal["shear"] = "shear"
    strain_max: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="strain at which the run ends; the short way to write path: [0, strain_max]"
    )
    path: tuple[_Strain, ...] | None = Field(
        default=None,
        description="in place of strain_max: the strains between which the run goes to and fro, e.g. [0, 0.1, -0.1, 0]",
    )
    plane: Plane = Field(default="xy", description="direction of the flow and direction of its gradient; the paper: xy")
    increment: Annotated[float, Field(ge=1e-8, le=0.1, allow_inf_nan=False)] = Field(
        default=PARAMETERS["increment"].value, description="coarse strain increment; the paper: 1e-4"
    )
    frames: tuple[_Strain, ...] = Field(
        default=(), description="strains at which sheared.gsd gets a frame, hit exactly, each time that the path passes them"
    )
    detector: Annotated[Detector, OfKind(DETECTORS, Detector, shorthand=True)] | None = Field(
        default="threshold",
        validate_default=True,
        description="what finds and refines instabilities: a name, a mapping with kind and settings, or null for none",
    )
    after_event: AfterEvent = Field(
        default="descent", description="how the glass falls from an instability: along the overdamped path, or by FIRE"
    )
    to_next_event: bool = Field(
        default=False,
        description="go on beyond the end until the next instability, so that every strain up to it has its distance to one",
    )
    max_events: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="end the run after so many instabilities; null: shear to the end"
    )
    trials: Literal["never", "first", "always"] = Field(
        default="first",
        description="write every step that is tried, rewound or not, to trials.parquet: in the first realisation of each "
        "size and preparation, never or always",
    )
    tolerance: Annotated[float, Field(ge=1e-11, le=1e-6)] = Field(
        default=1e-10, description="largest force at rest [energy/length]"
    )

    directions: Annotated[Literal["all"] | tuple[Direction, ...], Later()] = Field(
        default=(),
        description="directions of shear in which the quenched glass is taken to its first instability, without the fall "
        "behind it, for directions.parquet: a list of +xy, -xy, +xz, -xz, +yz, -yz, or all",
    )
    directions_at: Annotated[tuple[_Strain, ...], Later()] = Field(
        default=(),
        description="strains of frames from which the same is done, in those of the directions that lie in the plane of the "
        "run",
    )

    @model_validator(mode="after")
    def _has_one_way(self) -> ShearStage:
        if (self.strain_max is None) == (self.path is None):
            found = "neither" if self.path is None else "both"
            raise ValueError(
                f"{found} of strain_max and path; expected one of them, e.g. strain_max: 0.1 or path: [0, 0.1, -0.1]"
            )
        end = self.strain_max if self.path is None else max(map(abs, self.path), default=0.0)
        if end is not None and end > LARGEST_STRAIN:
            raise ValueError(
                f"the shear goes to strain {end:g}; expected at most {LARGEST_STRAIN:g}. Strain is no percentage: 0.1 is "
                "10 %, and a glass flows from there on"
            )
        if self.path is not None:
            legs_of(self.path)
            if self.path[0] != 0.0:
                raise ValueError(f"path begins at strain {self.path[0]:g}; expected 0, the strain of the quenched glass")
        return self

    def check(self, model: GlassModel, n_particles: list[int]) -> None:
        """Refuse frames off the path, increments larger than a leg of it, and a wait for events that nobody detects."""
        if self.detector is None and (self.to_next_event or self.max_events is not None):
            raise ValueError("to_next_event and max_events need a detector; the detector is null")
        if self.detector is not None:
            self.detector.check(model.potential)
        legs = self._legs(0.0)
        way = f"path = {list(self.path)}" if self.path is not None else f"strain_max = {self.strain_max:g}"
        if self.increment > min(abs(leg.end - leg.begin) for leg in legs):
            raise ValueError(f"increment = {self.increment:g} is larger than {'a leg of ' if self.path else ''}{way}")
        stops = sorted({*self.frames, *(point for leg in legs for point in (leg.begin, leg.end))})
        for one, next_one in pairwise(stops):
            if next_one - one < _SHORTEST_STEP:
                raise ValueError(
                    f"strains {one!r} and {next_one!r} are closer than {_SHORTEST_STEP:g}, too close to tell a step between "
                    "them from rounding; expected one of them"
                )
        self._check_directions()
        if model.dimensions == 2:
            out = [each for each in (self.plane, *self.wanted_directions) if "z" in each]
            if out:
                raise ValueError(f"shear in {', '.join(out)} in two dimensions; expected the plane xy (directions +xy, -xy)")
        off = [strain for strain in self.frames if not any(leg.passes(strain) for leg in legs)]
        if off:
            raise ValueError(f"frames {off} lie off {way}; expected strains that the run passes after its start")

    def reaches(self, strain: float) -> bool:
        """Whether a leg passes it, or the run starts there."""
        return strain == 0.0 or any(leg.passes(strain) for leg in self._legs(0.0))

    def work(self, preparation: BaseModel) -> float:
        """Strain travelled."""
        last = self._legs(0.0)[-1]
        return last.travelled_at(last.end)

    def shortened(self, strain: float) -> Self:
        """The first leg alone, to that strain in the positive direction."""
        last = self._legs(0.0)[-1]
        if last.travelled_at(last.end) <= strain or strain < 2.0 * self.increment:
            return self
        kept = tuple(each for each in self.frames if 0.0 < each <= strain)
        frames = kept if kept == self.frames else tuple(dict.fromkeys((*kept, strain)))
        at = tuple(each for each in self.directions_at if each in frames)
        shorter = {"strain_max": strain, "path": None, "frames": frames, "directions_at": at, "to_next_event": False}
        return self.model_copy(update=shorter)

    def _check_directions(self) -> None:
        wanted = self.wanted_directions
        if wanted and self.detector is None:
            raise ValueError("directions need a detector; the detector is null")
        if len(set(wanted)) < len(wanted):
            raise ValueError(f"directions = {list(wanted)} names one twice; expected each once")
        if not self.directions_at:
            return
        missing = [strain for strain in self.directions_at if strain not in self.frames]
        if 0.0 in missing:
            raise ValueError(
                "directions_at names strain 0, that of the quenched glass, for which directions alone is enough; expected "
                "strains of frames above it"
            )
        if missing and not self.frames:
            raise ValueError(f"directions_at = {missing}, and there are no frames; expected strains that frames names too")
        if missing:
            raise ValueError(
                f"directions_at = {missing} are no strains of frames; expected some of frames = {list(self.frames)}"
            )
        if self.path is not None:
            raise ValueError("directions_at goes with strain_max; a path that turns back may pass a strain several times")
        if not any(plane_of(direction) == self.plane for direction in wanted):
            raise ValueError(
                f"directions_at needs +{self.plane} or -{self.plane} among the directions: a box that is tilted in the "
                f"plane {self.plane} is sheared on in that plane only"
            )

    @property
    def wanted_directions(self) -> tuple[Direction, ...]:
        """The directions by name."""
        return ALL_DIRECTIONS if self.directions == "all" else self.directions

    def requires(self) -> tuple[str, ...]:
        """The quenched glass."""
        return ("quenched.gsd",)

    def products(self) -> tuple[str, ...]:
        """Tables of steps and instabilities; the frames, and the table of directions, if any are asked for.

        Written before them is ``shear.checkpoint``, where a run to a larger ``strain_max`` goes on.
        """
        frames = ("sheared.gsd",) if self.frames else ()
        directions = ("directions.parquet",) if self.directions else ()
        return (*frames, *directions, "steps.parquet", "events.parquet")

    def optional_products(self) -> tuple[str, ...]:
        """The steps that were tried."""
        return () if self.trials == "never" else ("trials.parquet",)

    def run(self, context: StageContext) -> None:
        """Shear one glass.

        If that fails, the last state at rest and the tables so far are left in ``failed/`` (:data:`REMAINS`).
        """
        for name in REMAINS:
            context.path(name).unlink(missing_ok=True)
        record = Record(self.frames, self.detector, self.plane)
        with_trials = self.trials == "always" or (self.trials == "first" and context.statepoint["realisation"] == 0)
        try:
            station = self._shear(context, record, with_trials=with_trials)
        except Exception as error:
            if record.steps:
                record.write_remains(context)
                error.add_note(f"The last state at rest, at strain {record.last[0].strain:.10g}, is in {REMAINS[0]}.")
            raise
        # The event table last: with it the stage is done.
        if self.frames:
            record.write_frames(context, "sheared.gsd")
        if with_trials:
            context.write_table("trials.parquet", pl.DataFrame(record.trials, schema=_TRIAL_COLUMNS, orient="row"))
        if self.directions:
            context.write_table("directions.parquet", as_table(self._first_instabilities(context, record)))
        if station is not None:
            context.checkpoint.keep(self._progress_at(station, record.memory), station.cost)
        if self.detector is not None:
            warning = missed(*record.tables(), context.n_particles, record.last[0].box.volume, self.detector)
            if warning is not None:
                _log.warning(warning)
        record.write_tables(context, "steps.parquet", "events.parquet")

    def _first_instabilities(self, context: StageContext, record: Record) -> list[dict[str, Any]]:
        """The rows of ``directions.parquet``, by strain and direction."""
        # What the engine did before must not show in the last digits.
        context.engine.recall(None)
        quenched = gsdio.read_glass(context.path("quenched.gsd")).glass
        starts = [(quenched.turned(axes_of(plane_of(direction))), direction) for direction in self.wanted_directions]
        for glass, _ in record.frames:
            if glass.strain in self.directions_at:
                starts += [(glass, direction) for direction in self.wanted_directions if plane_of(direction) == self.plane]
        assert self.detector is not None
        rows = []
        for glass, direction in starts:
            context.progress(f"first instability in the direction {direction} from strain {glass.strain:g}")
            rows.append(
                first_instability(
                    context.engine,
                    glass,
                    direction,
                    self.detector,
                    increment=self.increment,
                    tolerance=self.tolerance,
                    # A stop loses what was done since the shear was last saved.
                    on_waypoint=lambda _: stop_if_requested(),
                )
            )
        return rows

    def _legs(self, start: float) -> tuple[Leg, ...]:
        """The legs of a run that starts at the strain ``start``."""
        if self.path is not None:
            return legs_of(self.path)
        assert self.strain_max is not None
        return (Leg(start, self.strain_max),)

    def _shear(self, context: StageContext, record: Record, *, with_trials: bool) -> _Station | None:
        """Shear to the end; where a longer run may go on."""
        at, reach = 0, Reach()
        station: _Station | None = None

        def waypoint(of_detector: Callable[[], Any]) -> None:
            nonlocal station
            # After an instability there is little to remember: the past of a branch may be ten times as large as a state.
            fresh = station is None or not record.events or len(record.events) > station.rows["events"]
            if self.path is None and fresh and not reach.met_end:
                memory = context.engine.memory
                station = _Station(*record.marks, memory, of_detector(), reach.strain, context.checkpoint.cost)
            context.checkpoint.waypoint(
                lambda: _Progress(
                    at, record.memory, context.engine.memory, of_detector(), replace(reach), self._ends(), station
                )
            )

        on_trial = record.add_trial if with_trials else None
        stepper = Stepper(context.engine, self.tolerance, self.after_event, on_trial=on_trial, on_waypoint=waypoint)
        glass = gsdio.read_glass(context.path("quenched.gsd")).glass.turned(axes_of(self.plane))
        if self.path is not None and glass.strain != self.path[0]:
            raise InputError(f"the glass is at strain {glass.strain:g}; expected {self.path[0]:g}, where the path begins.")
        if self.strain_max is not None and glass.strain >= self.strain_max:
            raise InputError(f"the glass is at strain {glass.strain:g}; expected less than strain_max = {self.strain_max:g}.")
        legs = self._legs(glass.strain)
        check_room(glass.box, legs, context.engine.potential.reach(glass.sizes))
        length = legs[-1].travelled_at(legs[-1].end)
        saved = self._saved(context)
        if (
            saved is None
            and self.detector is not None
            and self.detector.blind_below(self.increment, glass.box.mean_edge) != 0.0
        ):
            _log.warning(self.detector.cannot_see(self.increment, glass.box.mean_edge))
        if saved is not None:
            reach, station = saved.reach, saved.station
        for at, leg in enumerate(legs):
            if saved is not None and at < saved.leg:
                continue
            overtime = _LARGEST_OVERTIME if at == len(legs) - 1 and self.to_next_event else 0.0
            if saved is None:
                reach = Reach()
                record.begin(leg, stepper.start(leg.glass(record.last[0] if record.steps else glass)))
            else:
                record.recall(leg, saved.record)
                context.engine.recall(saved.engine)
            grid = leg.grid(self.increment, self.frames, overtime, reach)
            if saved is not None and saved.detector is not None:
                items = resume(self.detector, stepper, saved.detector, grid)
            else:
                stepper.waypoint(_nothing)
                items = follow(self.detector, stepper, record.state, grid)
            saved = None
            for item in items:
                if isinstance(item, Instability):
                    record.add_event(item)
                    if len(record.events) == self.max_events or item.strain_c > leg.strain(leg.end):
                        return station
                else:
                    record.add_step(item)
                    if len(record.steps) % 50 == 0:
                        row = record.steps[-1]
                        context.progress(
                            f"strain {row['strain']:.4f}, {row['travelled']:.4f} of {length:g} travelled, "
                            f"{len(record.events)} instabilities"
                        )
        return station

    def _ends(self) -> _Ends:
        return _Ends(self.strain_max, self.frames, self.max_events)

    def _saved(self, context: StageContext) -> _Progress | None:
        """The progress that was saved, of this run or of one that was to end earlier and did nothing that this one would not do."""
        of_detector = () if self.detector is None else self.detector.memory_classes
        saved: _Progress | None = context.checkpoint.load(
            _Progress, _RecordMemory, _Station, _Ends, Reach, *STATE_CLASSES, *of_detector
        )
        if saved is None or saved.ends == self._ends():
            return saved
        new = {*self.frames, self.strain_max} - {*saved.ends.frames}
        if saved.reach.met_end and saved.station is not None:
            saved = self._progress_at(saved.station, saved.record)
        reached = len(saved.record.tables["events"])
        if (
            self.path is not None
            or saved.reach.met_end
            or any(stop is None or stop <= saved.reach.strain for stop in new)
            or (self.max_events is not None and self.max_events <= reached)
        ):
            _log.info(
                "the shear begins anew: strains were added below %.10g, which the earlier run reached.", saved.reach.strain
            )
            context.checkpoint.discard()
            return None
        return replace(saved, ends=self._ends())

    def _progress_at(self, station: _Station, memory: _RecordMemory) -> _Progress:
        """The progress at an earlier place of this run, whose tables have grown since."""
        tables = {name: rows[: station.rows[name]] for name, rows in memory.tables.items()}
        then = _RecordMemory(tables, station.state, station.since)
        return _Progress(0, then, station.engine, station.detector, Reach(station.reach), self._ends(), None)
