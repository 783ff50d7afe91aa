"""For HOOMD scripts: quasi-static shear of the user's own ``hoomd.Simulation``, and shear at a finite rate inside its runs.

    shear = qlm_quasistatic.hoomd.AthermalQuasistatic(simulation, forces=[ipl], increment=1e-4, detector=ThresholdDetector())
    logger.add(shear, quantities=["strain", "stress_xy", "energy", "q", "position", "box"])
    simulation.operations.writers.append(hoomd.write.GSD(shear.on_accept, "aqs.gsd", logger=logger))
    shear.run(strain=0.1)

Importing this module raises :class:`~qlm_hoomd.errors.InputError` where HOOMD-blue is not installed.
"""

# One file: the driver, the engine it is to a detector, and what it keeps to rewind.
# Array names carry their axes: n particles, c Cartesian components.
# HOOMD ships no types.
# mypy: disable-error-code="misc, metaclass, untyped-decorator"

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from pydantic import ValidationError

from qlm_hoomd.box import Box, as_written
from qlm_hoomd.display import Displayed, counted, in_words
from qlm_hoomd.engines.hoomd import GlassSimulation, HOOMDEngine, HOOMDEngineSettings
from qlm_hoomd.errors import InputError
from qlm_hoomd.forces import potential_of
from qlm_hoomd.glass import Glass
from qlm_hoomd.model import PARAMETERS
from qlm_quasistatic.detector import Detector, Instability, follow, missed
from qlm_quasistatic.directions import ALL_DIRECTIONS, Direction, as_table, first_instability, plane_of
from qlm_quasistatic.hoomd_checks import law_of, usable_box, usable_fall, usable_terms
from qlm_quasistatic.hoomd_rate import ShearRate as ShearRate  # noqa: PLC0414  (scripts take it from here)
from qlm_quasistatic.path import PATH_EVENT_COLUMNS, Leg, axes_of
from qlm_quasistatic.stepper import ShearState, Stepper

# After qlm_hoomd.pair, which says what to do where HOOMD-blue is missing.
import hoomd  # isort: skip
import hoomd.md  # isort: skip

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.engines.base import AfterEvent, Observables
    from qlm_hoomd.minimize.report import MinimizeReport
    from qlm_hoomd.potentials import PairPotential


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Checkpoint(Displayed):
    """An accepted state of a simulation, to the last bit. A plain value: keeping one is the rewind.

    Args:
        state: glass and observables.
        image_nc: ((N, 3) ndarray of int32) HOOMD's image flags by tag.
        q: Q of the step that led here; 0 at the start.
        increment: strain increment of that step; 0 at the start.
        leg: the stretch without a turn that led here, its beginning and this state; None at the start.
        seen: ``state`` as the detector of that leg sees it.
        events: rows of the instabilities on the way here.
    """

    state: ShearState
    image_nc: NDArray[np.int32]
    q: float = 0.0
    increment: float = 0.0
    leg: Leg | None = None
    seen: ShearState | None = None
    events: tuple[dict[str, Any], ...] = ()

    def _headline(self) -> str:
        return f"{in_words(self.state)}, {counted(len(self.events), 'event')} so far"

    @property
    def travelled(self) -> float:
        """Strain travelled since the start, the sum of all abs(dgamma)."""
        return 0.0 if self.leg is None else self.leg.travelled_at(self.leg.end)

    @property
    def positions(self) -> NDArray[np.float64]:
        """((N, 3) ndarray) positions by tag as HOOMD has them, in its cell [length]."""
        return self.state.glass.box.wrap(self.state.glass.positions)


class OnAccept(hoomd.trigger.Trigger):
    """Fires in the one time step that follows each accepted state, in which nothing moves."""

    def __init__(self) -> None:
        super().__init__()
        self.timestep = -1

    def compute(self, timestep: int) -> bool:
        """Whether ``timestep`` is the one."""
        return timestep == self.timestep


@hoomd.logging.modify_namespace(("qlm",))
class AthermalQuasistatic(metaclass=hoomd.logging.Loggable):
    """Athermal quasi-static simple shear of a ``hoomd.Simulation``, driven from outside its run loop.

    Every step is an affine shear of box and particles, a forced rebuild of the neighbour lists, and a relaxation by FIRE. After
    each accepted state :attr:`on_accept` fires once, the state that a run starts from included: writers with that trigger find
    the state at rest, with the forces that belong to it. Steps that a detector takes back are never seen.

    The integrator of the simulation is the driver's; the one that it leaves moves nothing. HOOMD's particle sorter changes the
    order of sums every 200 time steps; ``simulation.operations.tuners.clear()`` makes runs quicker, and repeatable to the last
    bit.

    Args:
        simulation: the simulation; it has a state, and no integrator that holds forces.
        forces: HOOMD forces whose sum is relaxed, at least one of them a pair force; energies, virials and neighbour lists are
            theirs.
        increment: coarse strain increment.
        detector: finds and refines instabilities; None for none.
        tolerance: largest force of a state at rest [energy / length].
        fire_dt: largest time step of FIRE [time].
        after_event: how the sample falls from an instability: along the overdamped path (``descent``), which needs forces whose
            law :func:`qlm_hoomd.forces.potential_of` knows, or by FIRE (``fire``). Default: descent where it can be and no
            force jumps at its cut-off.
        strain: accumulated strain of the state as it is; default: the box tilt.

    Loggable quantities: ``strain``, ``travelled``, ``stress_xy``, ``energy``, ``max_force``, ``q``, ``increment`` (scalars),
    ``box`` (sequence), ``position`` (particle), those of the last accepted state in float64. In a GSD file
    :func:`qlm_hoomd.gsdio.read_glass` reads them as exact.

    Raises:
        InputError: if the simulation runs on several MPI ranks, has no state, masses other than 1, a box that is no cube under
            xy shear or one too small for the cut-off, if there is no pair force, a force is in use elsewhere, descent or the
            detector is asked of other forces than it knows, or a number is out of range.
    """

    def __init__(
        self,
        simulation: hoomd.Simulation,
        forces: Sequence[hoomd.md.force.Force],
        increment: float = PARAMETERS["increment"].value,
        detector: Detector | None = None,
        tolerance: float = 1e-10,
        fire_dt: float = 0.04,
        strain: float | None = None,
        after_event: AfterEvent | None = None,
    ) -> None:
        for name, value in (("increment", increment), ("tolerance", tolerance)):
            if not (math.isfinite(value) and value > 0.0):
                raise InputError(f"{name} = {value}; expected a positive number.")
        try:
            settings = HOOMDEngineSettings.model_validate({"fire_dt": fire_dt})
        except ValidationError as error:
            raise InputError(f"fire_dt = {fire_dt}: {error.errors()[0]['msg']}.") from None
        box = usable_box(simulation)
        terms = usable_terms(simulation, forces)
        self._user = simulation
        self._forces = list(forces)
        self._terms = terms
        self._increment = increment
        self._detector = detector
        self._tolerance = tolerance
        types = list(simulation.state.particle_types)
        law = law_of(forces, types)
        self._after_event = usable_fall(forces, law, after_event)
        if detector is not None:
            try:
                detector.check(law)
            except ValueError as error:
                raise InputError(f"forces = {list(forces)!r}: {error}.") from None
        self._settings = settings
        self._simulation = GlassSimulation(simulation, terms, settings)
        self._types = types
        self._engine = _Engine(self._simulation, self._forces, types, settings)
        self._on_accept = OnAccept()
        self._strain = as_written(box.xy) if strain is None else strain
        self._last: Checkpoint | None = None
        self._announced = False
        self._read(self._strain)

    def __repr__(self) -> str:
        return (
            f"<AthermalQuasistatic strain={self._strain:g} increment={self._increment:g} detector={self._detector!r} "
            f"tolerance={self._tolerance:g} forces={self._forces!r}>"
        )

    @property
    def on_accept(self) -> hoomd.trigger.Trigger:
        """The trigger that fires once for each accepted state, for any number of operations."""
        return self._on_accept

    @property
    def events(self) -> pl.DataFrame:
        """The instabilities on the way to the present state, with the columns of ``events.parquet``."""
        rows = () if self._last is None else self._last.events
        return pl.DataFrame(list(rows), schema=PATH_EVENT_COLUMNS, orient="row")

    @property
    def checkpoint(self) -> Checkpoint:
        """The last accepted state; :meth:`restore` returns to it.

        Raises:
            hoomd.error.DataAccessError: before the first :meth:`run` or :meth:`relax`.
        """
        return self._accepted("checkpoint")

    def relax(self) -> MinimizeReport:
        """Relax the simulation as it stands, at its strain.

        Outside any basin it falls as behind an instability (``after_event``).

        If that fails, it stays as it was.

        Raises:
            ConvergenceError: if FIRE does not reach the tolerance.
        """
        self._take_over()
        glass, image_nc = self._read(self._present_strain())
        try:
            relaxed, report = self._engine.relax(glass, tolerance=self._tolerance, after_event=self._after_event)
            observables = self._engine.measure(relaxed)
        except BaseException:
            self._simulation.place(glass.positions, glass, image_nc)
            raise
        self._adopt(Checkpoint(ShearState(relaxed, observables), _images(glass, image_nc, relaxed)))
        self._show(self.checkpoint)
        return report

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put the simulation back to ``checkpoint``: positions, image flags, box, strain and :attr:`events`.

        Raises:
            InputError: if it is a checkpoint of other particles.
        """
        self._take_over()
        if not np.array_equal(checkpoint.state.glass.typeid, self._simulation.typeid):
            raise InputError("the checkpoint has other particles than the simulation; expected one of the same simulation.")
        self._last, self._strain, self._announced = checkpoint, checkpoint.state.strain, True
        self._show(checkpoint)

    def run(self, *, strain: float, allow_large_strain: bool = False) -> None:
        """Shear to the accumulated ``strain``, up or down, from the last accepted state, or from what the user made of it since.

        However it ends, by an interrupt too, the simulation then holds the last accepted state, and another run goes on there.
        Where a run turns back, gamma_min of the next instability counts from the turning point.

        Args:
            strain: accumulated strain at the end; 0.1 is 10 %.
            allow_large_strain: whether it may go more than 1 farther than the run starts.

        Raises:
            InputError: if the state is not at a minimum, ``strain`` is not finite or that far away, or a box on the way is too
                small for the forces.
            ConvergenceError: if a relaxation fails.
        """
        if not math.isfinite(strain):
            raise InputError(f"strain = {strain}; expected a finite number, the accumulated strain at which the run ends.")
        self._take_over()
        start = self._start()
        if abs(strain - start.state.strain) > 1.0 and not allow_large_strain:
            raise InputError(
                f"strain = {strain:g}, and the simulation is at {start.state.strain:g}; expected at most 1 farther. Strain "
                "is no percentage and no number of steps: 0.1 is 10 %. Set allow_large_strain=True if you mean it."
            )
        leg = Leg(start.state.strain, strain, start.travelled)
        length = start.state.glass.box.mean_edge
        if self._detector is not None and self._detector.blind_below(self._increment, length) != 0.0:
            self._user.device.notice(self._detector.cannot_see(self._increment, length))
        # Several runs in one direction are one leg.
        whole = start.leg if start.leg is not None and start.leg.falls == leg.falls else leg
        try:
            if not self._announced:
                self._accept(start)
                self._announced = True
            stepper = Stepper(
                _Engine(self._simulation, self._forces, self._types, self._settings, leg), self._tolerance, self._after_event
            )
            steps = [_step_row(start, left_basin=False)]
            seen = start.seen if start.seen is not None and whole is not leg else _through(leg, start.state)
            for item in follow(self._detector, stepper, seen, leg.grid(self._increment)):
                last = self.checkpoint
                if isinstance(item, Instability):
                    since = max(last.events[-1]["travelled"] if last.events else 0.0, whole.travelled)
                    self._last = replace(last, events=(*last.events, leg.event_row(item, since, self._detector)))
                else:
                    state = _through(leg, item.after)
                    image_nc = _images(last.state.glass, last.image_nc, state.glass)
                    so_far = replace(whole, end=state.strain)
                    increment = state.strain - last.state.strain
                    self._accept(Checkpoint(state, image_nc, item.q, increment, so_far, item.after, last.events))
                    steps.append(_step_row(self.checkpoint, left_basin=item.left_basin))
        finally:
            # A detector may have tried steps beyond the last one that stands.
            self._show(self.checkpoint)
        glass, detector = start.state.glass, self._detector
        if detector is not None:
            warning = missed(pl.DataFrame(steps), self.events, glass.n_particles, glass.box.volume, detector)
            if warning is not None:
                _log.warning(warning)

    def first_instabilities(self, directions: Literal["all"] | Sequence[Direction] = "all") -> pl.DataFrame:
        """The first instability in each direction from the simulation as it stands, without the fall behind it.

        The simulation is as before afterwards. Where it is strained, only the directions in its plane, +xy and -xy, can be had.

        Args:
            directions: some of ``+xy``, ``-xy``, ``+xz``, ``-xz``, ``+yz``, ``-yz``, or all.

        Returns:
            the columns of ``directions.parquet``; a row for each direction.

        Raises:
            InputError: if the driver has no detector or forces whose law is not known, which a turn of the axes may change; if
                the state is not at a minimum, a direction is unknown, or lies out of the plane of strain.
            ConvergenceError: if a relaxation fails, or a branch ends without an instability.
        """
        wanted = ALL_DIRECTIONS if directions == "all" else tuple(directions)
        unknown = [direction for direction in wanted if direction not in ALL_DIRECTIONS]
        if unknown:
            raise InputError(f"directions = {unknown}; expected some of {', '.join(ALL_DIRECTIONS)}, or 'all'.")
        if self._detector is None:
            raise InputError("the driver has no detector; expected one that finds instabilities, e.g. detector=FoldDetector().")
        if law_of(self._forces, self._types) is None:
            raise InputError(
                f"forces = {self._forces!r}; expected forces whose law qlm_hoomd.forces.potential_of knows, which no turn of "
                "the axes changes."
            )
        self._take_over()
        start = self._start()
        rows = []
        try:
            for direction in wanted:
                glass = start.state.glass.turned(axes_of(plane_of(direction)))
                found = first_instability(
                    self._engine, glass, direction, self._detector, increment=self._increment, tolerance=self._tolerance
                )
                rows.append(found)
        finally:
            self._show(self.checkpoint)
        return as_table(rows)

    def _start(self) -> Checkpoint:
        """The last accepted state if the simulation still holds it, else the state that it holds."""
        glass, image_nc = self._read(self._present_strain())
        last = self._last
        if last is None or glass.box != last.state.glass.box or not np.array_equal(glass.positions, last.positions):
            observables = self._engine.measure(glass)
            # Ten times the tolerance: the same state evaluated by another engine or another build rounds differently.
            if not observables.max_force < 10.0 * self._tolerance:
                self._simulation.place(glass.positions, glass, image_nc)
                raise InputError(
                    f"the simulation at strain {glass.strain:g} has max|F| = {observables.max_force:.3g}; expected less than "
                    f"{10.0 * self._tolerance:g}, a minimum. Call relax() of this driver first."
                )
            self._adopt(Checkpoint(ShearState(glass, observables), image_nc))
        return self.checkpoint

    def _adopt(self, start: Checkpoint) -> None:
        """Begin anew from a state that no strain step led to."""
        self._last, self._announced = start, False
        self._strain = start.state.strain

    def _accept(self, checkpoint: Checkpoint) -> None:
        before = self._last, self._strain
        # Loggers ask for it while the step runs.
        self._last, self._strain = checkpoint, checkpoint.state.strain
        try:
            self._show(checkpoint)
            self._on_accept.timestep = self._user.timestep + 1
            self._user.run(1)
        except BaseException:
            self._last, self._strain = before
            raise

    def _show(self, checkpoint: Checkpoint) -> None:
        """Bring the simulation to ``checkpoint``, with the forces that belong to it."""
        self._simulation.hold()
        self._simulation.place(checkpoint.positions, checkpoint.state.glass, checkpoint.image_nc)
        self._user.run(0)

    def _read(self, strain: float) -> tuple[Glass, NDArray[np.int32]]:
        """The simulation as it stands, and its image flags."""
        snapshot = self._user.state.get_snapshot()
        box = Box.from_gsd(snapshot.configuration.box)
        image_nc = np.array(snapshot.particles.image, dtype=np.int32)
        return Glass(snapshot.particles.position, self._simulation.typeid, box, strain), image_nc

    def _present_strain(self) -> float:
        """The accumulated strain of the box as it is: of those that belong to its tilt the one nearest to the last known."""
        tilt = usable_box(self._user).xy
        turns = round(self._strain - tilt)
        # A state from a GSD file has the tilt in single precision.
        return self._strain if abs(tilt + turns - self._strain) < 5e-8 else tilt + turns

    def _take_over(self) -> None:
        """Hand the forces to an integrator of the driver's, unless the simulation has others."""
        integrator = self._user.operations.integrator
        held = [] if integrator is None else list(integrator.forces)
        if not all(any(force is term for term in self._terms) for force in held):
            raise InputError(
                f"the integrator of the simulation holds forces that are not the driver's: {held!r}. Take them out "
                "(simulation.operations.integrator.forces.clear()), or make a driver with all of them."
            )
        self._simulation.hold()

    def _accepted(self, name: str) -> Checkpoint:
        if self._last is None:
            raise hoomd.error.DataAccessError(name)
        return self._last

    @hoomd.logging.log
    def strain(self) -> float:
        """Accumulated strain."""
        return self._accepted("strain").state.strain

    @hoomd.logging.log
    def travelled(self) -> float:
        """Strain travelled since the start, the sum of all abs(dgamma)."""
        return self._accepted("travelled").travelled

    @hoomd.logging.log
    def stress_xy(self) -> float:
        """Shear stress dU/dgamma / V [energy / length^3]."""
        return self._accepted("stress_xy").state.observables.stress_xy

    @hoomd.logging.log
    def energy(self) -> float:
        """Potential energy per particle [energy]."""
        return self._accepted("energy").state.observables.energy

    @hoomd.logging.log
    def max_force(self) -> float:
        """Largest force on one particle [energy / length]."""
        return self._accepted("max_force").state.observables.max_force

    @hoomd.logging.log
    def q(self) -> float:
        """Q = max|dr'| / (L dgamma) of the last step; 0 at the start (the paper, App. F)."""
        return self._accepted("q").q

    @hoomd.logging.log
    def increment(self) -> float:
        """Strain increment of the last step; 0 at the start."""
        return self._accepted("increment").increment

    @hoomd.logging.log(category="sequence")
    def box(self) -> NDArray[np.float64]:
        """((6,) ndarray) Lx, Ly, Lz [length], xy, xz, yz."""
        return self._accepted("box").state.glass.box.to_gsd()

    @hoomd.logging.log(category="particle")
    def position(self) -> NDArray[np.float64]:
        """((N, 3) ndarray) positions by tag [length], bit for bit those of HOOMD."""
        return self._accepted("position").positions


class _Engine(HOOMDEngine):
    """The engine interface on the user's simulation, for the stepper and through it the detectors.

    Args:
        simulation: the simulation.
        forces: the user's forces.
        types: names of the particle types.
        settings: of FIRE.
        leg: what goes in and out is as seen on this leg, in the mirror where it falls. The simulation never is: forces of the
            user's may be other in a mirror.
    """

    def __init__(
        self,
        simulation: GlassSimulation,
        forces: Sequence[Any],
        types: Sequence[str],
        settings: HOOMDEngineSettings,
        leg: Leg | None = None,
    ) -> None:
        self.settings = settings
        self._given = simulation
        self._forces = forces
        self._types = types
        self._leg = leg if leg is not None else Leg(0.0, 0.0)

    def measure(self, glass: Glass) -> Observables:
        """See :meth:`Engine.measure`."""
        return self._leg.observables(super().measure(self._leg.glass(glass)))

    def relax(
        self,
        glass: Glass,
        *,
        tolerance: float = 1e-10,
        guess: NDArray[np.float64] | None = None,
        after_event: AfterEvent | None = "descent",
    ) -> tuple[Glass, MinimizeReport]:
        """See :meth:`Engine.relax`."""
        start_nc = None if guess is None else self._leg.glass(glass.moved(guess)).positions
        minimum, report = super().relax(self._leg.glass(glass), tolerance=tolerance, guess=start_nc, after_event=after_event)
        return self._leg.glass(minimum), report

    def descend(self, glass: Glass, *, tolerance: float = 1e-10) -> tuple[Glass, MinimizeReport]:
        """See :meth:`Engine.descend`."""
        minimum, report = super().descend(self._leg.glass(glass), tolerance=tolerance)
        return self._leg.glass(minimum), report

    @property
    def potential(self) -> PairPotential:  # type: ignore[override]  # only some of HOOMD's forces know one
        return potential_of(*self._forces, types=self._types)

    def describe(self) -> dict[str, Any]:
        """HOOMD's version and the forces."""
        return {"hoomd": hoomd.version.version, "forces": [repr(force) for force in self._forces]}

    def _simulation_at_rest(self, glass: Glass) -> GlassSimulation:
        return self._given

    def _simulation_in_motion(self, glass: Glass, seed: int = 0) -> GlassSimulation:
        return self._given


def _step_row(accepted: Checkpoint, *, left_basin: bool) -> dict[str, Any]:
    """What :func:`~qlm_quasistatic.detector.steps_without_event` asks of a step."""
    seen = accepted.state.observables
    return {
        "strain": accepted.state.strain,
        "increment": accepted.increment,
        "stress_xy": seen.stress_xy,
        "energy": seen.energy,
        "q": accepted.q,
        "left_basin": left_basin,
        "travelled": accepted.travelled,
    }


def _through(leg: Leg, state: ShearState) -> ShearState:
    """A state through the mirror of ``leg``; what its steps are predicted from stays behind."""
    return ShearState(leg.glass(state.glass), leg.observables(state.observables)) if leg.falls else state


def _images(before: Glass, image_nc: NDArray[np.int32], after: Glass) -> NDArray[np.int32]:
    """((N, 3) ndarray) image flags of ``after``, reached from ``before`` by affine flow and non-affine displacement."""
    increment = after.strain - before.strain
    reached_nc = before.box.wrap(before.positions)
    reached_nc[:, 0] += increment * reached_nc[:, 1]
    wrapped_nc = after.box.wrap(after.positions)
    reached_nc += after.box.minimum_image(wrapped_nc - reached_nc)
    image_nc = image_nc.copy()
    # A flip takes another cell of the same lattice: its second vector is shorter by so many of the first.
    image_nc[:, 0] += round(before.box.xy + increment - after.box.xy) * image_nc[:, 1]
    return image_nc + after.box.images(reached_nc - wrapped_nc).astype(np.int32)
