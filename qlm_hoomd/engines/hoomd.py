"""HOOMD-blue behind the engine interface, on a CPU or a GPU.

Two of HOOMD's habits would give silently wrong answers here and are worked around wherever a state is set from outside a run:
forces are cached by time step, and the check of the neighbour list looks at distances and not at the tilt of the box.
"""

# One file: the engine and the simulation that it drives share the care for stale forces and tilted lists.
# Array names carry their axes: n particles, c Cartesian components, f force objects.

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field

from qlm_hoomd.base.errors import BasinLost, BlowUpError, ConvergenceError, InputError
from qlm_hoomd.base.interrupt import stop_if_overdue
from qlm_hoomd.engines.base import (
    DynamicsReport,
    DynamicsState,
    Engine,
    EngineSettings,
    Observables,
    check_after_event,
    checked_ramp,
)
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.minimize import descent
from qlm_hoomd.minimize.report import MinimizeReport
from qlm_hoomd.minimize.surface import max_norm, without_drift
from qlm_hoomd.potentials import InversePowerLaw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from qlm_hoomd.base.checkpoint import Waypoint
    from qlm_hoomd.engines.base import AfterEvent
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

# Buffers measured best for this potential: small at rest, where lists are rebuilt by force, larger in a hot liquid.
_BUFFER_AT_REST = 0.12
_BUFFER_IN_MOTION = 0.35
# HOOMD's FIRE stops on the root mean square of a force component; the largest force is 10 to 25 times that.
_LARGEST_OVER_RMS = 30.0
_FIRE_STEPS = 50_000
# Between two looks at whether FIRE has converged: what it goes on beyond that is for nothing.
_FIRE_CHUNK = 200
_SAMPLING_PERIOD = 20
_STEPS_BETWEEN_WAYPOINTS = 500
_SKIN_IN_DESCENT = 0.3
_NO_EFFECT = "no effect any more: descents follow the overdamped path to a stated accuracy, see accuracy"


_log = logging.getLogger(__name__)

_Motion: TypeAlias = "tuple[int, NDArray[np.float64], NDArray[np.float64], tuple[float, ...]]"


class HOOMDEngineSettings(EngineSettings):
    """Settings of the HOOMD-blue engine."""

    kind: Literal["hoomd"] = "hoomd"
    device: Literal["cpu", "gpu"] = Field(default="cpu", description="where HOOMD runs; gpu pays from about N = 16000")
    pair: Literal["auto", "component", "mie", "table"] = Field(
        default="auto",
        description="pair force: compiled component, exact sum of Mie terms, or table; auto takes the best at hand",
    )
    thermostat: Literal["bussi", "mttk", "langevin"] = Field(default="bussi", description="thermostat of molecular dynamics")
    dt: Annotated[float, Field(gt=0, le=0.02)] = Field(default=0.005, description="time step of molecular dynamics [t_c]")
    tau: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=0.5, description="time constant of the thermostat; langevin: inverse friction [t_c]"
    )
    fire_dt: Annotated[float, Field(gt=0, lt=0.059)] = Field(default=0.04, description="largest time step of FIRE [t_c]")
    # They steered HOOMD's own overdamped dynamics, which ended in other minima. They stay because protocols are known by their
    # hash.
    descent_dt: Annotated[float, Field(gt=0, lt=1.7e-3)] = Field(
        default=1e-3, description=_NO_EFFECT, json_schema_extra={"deprecated": True}
    )
    descent_time: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=50.0, description=_NO_EFFECT, json_schema_extra={"deprecated": True}
    )
    switch_force: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1e-2, description=_NO_EFFECT, json_schema_extra={"deprecated": True}
    )
    reach: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.05, description="displacement beyond which the end of FIRE counts as another basin [length]"
    )
    accuracy: Annotated[float, Field(gt=0, le=0.1)] = Field(
        default=3e-4,
        description="largest local error of a position in one step of overdamped descent, of the quench or behind an "
        "instability [length]",
    )

    @property
    def wants_gpu(self) -> bool:
        """See :attr:`EngineSettings.wants_gpu`."""
        return self.device == "gpu"

    def build(self, model: GlassModel) -> HOOMDEngine:
        """The engine for this model.

        Raises:
            InputError: if HOOMD-blue or the GPU is not there, or the potential is none that HOOMD can be given.
        """
        hoomd = _import_hoomd()
        if self.wants_gpu and not hoomd.device.GPU.is_available():
            reasons = "; ".join(hoomd.device.GPU.get_unavailable_device_reasons()) or "this build has no GPU support"
            raise InputError(f"engine hoomd asks for a GPU and there is none ({reasons}). Use `device: cpu`, or `engine: cpu`.")
        if not isinstance(model.potential, InversePowerLaw):
            raise InputError(
                f"engine hoomd knows the potential inverse_power_law, not {type(model.potential).__name__}. Use `engine: cpu`, "
                "which takes any."
            )
        # By value: a protocol that was stored names every setting.
        fields = type(self).model_fields
        without_effect = ("descent_dt", "descent_time", "switch_force")
        unused = [name for name in without_effect if getattr(self, name) != fields[name].default]
        if unused:
            _log.warning("engine hoomd: %s: %s.", ", ".join(unused), _NO_EFFECT)
        return HOOMDEngine(model.potential, self)


def _import_hoomd() -> Any:
    try:
        import hoomd
        import hoomd.md
    except ImportError as error:
        raise InputError(
            f"engine hoomd asked for, and HOOMD-blue cannot be imported ({error}). Install it from conda-forge "
            "(conda install -c conda-forge hoomd), or use `engine: cpu`, which does the same job."
        ) from None
    return hoomd


class HOOMDEngine(Engine):
    """HOOMD-blue as an engine.

    Dynamics, forces and the minimisation inside a basin (FIRE) are HOOMD's. HOOMD-blue has no overdamped dynamics of controlled
    error, nor one that crosses the slow stretch behind an instability in bearable time. So every descent, of the quench and of
    a fall, is that of the embedded engine (:func:`qlm_hoomd.minimize.descent`): the same kernels on the same potential, on the
    CPU.

    Args:
        potential: the smoothed inverse power law.
        settings: device, pair force, thermostat, time steps.
    """

    name: ClassVar[str] = "hoomd"

    def __init__(self, potential: InversePowerLaw, settings: HOOMDEngineSettings | None = None) -> None:
        super().__init__(potential)
        self._power_law = potential
        self.settings = settings or HOOMDEngineSettings()
        self._hoomd = _import_hoomd()
        self._at_rest: GlassSimulation | None = None

    def __repr__(self) -> str:
        return f"HOOMDEngine({self.potential!r}, {self.settings!r})"

    def describe(self) -> dict[str, Any]:
        """Name, version and settings, and which pair force ``auto`` means here."""
        from qlm_hoomd.pair import InversePowerLaw as Pair

        pair = Pair.from_potential(
            self._power_law, self._hoomd.md.nlist.Cell(buffer=_BUFFER_AT_REST), backend=self.settings.pair
        )
        return self.settings.model_dump() | {"hoomd": self._hoomd.version.version, "pair_force": pair.provenance}

    def _simulation_at_rest(self, glass: Glass) -> GlassSimulation:
        _refuse_sizes(glass)
        if self._at_rest is None or not np.array_equal(self._at_rest.typeid, glass.typeid):
            self._at_rest = self._simulation_of(glass, _BUFFER_AT_REST)
        return self._at_rest

    def _simulation_in_motion(self, glass: Glass, seed: int = 0) -> GlassSimulation:
        return self._simulation_of(glass, _BUFFER_IN_MOTION, seed)

    def _simulation_of(self, glass: Glass, buffer: float, seed: int = 0) -> GlassSimulation:
        from qlm_hoomd.pair import InversePowerLaw as Pair

        hoomd = self._hoomd
        device = hoomd.device.CPU() if self.settings.device == "cpu" else hoomd.device.GPU()
        simulation = hoomd.Simulation(device=device, seed=seed)
        simulation.create_state_from_snapshot(snapshot_of(glass))
        # Sorting permutes the arrays and forces a new list; systems of this size are in cache anyway.
        simulation.operations.tuners.clear()
        nlist = hoomd.md.nlist.Cell(buffer=buffer, deterministic=True)
        pair = Pair.from_potential(self._power_law, nlist, backend=self.settings.pair)
        return GlassSimulation(simulation, pair.terms, self.settings)

    def measure(self, glass: Glass) -> Observables:
        """See :meth:`Engine.measure`; evaluated by HOOMD's pair force."""
        simulation = self._simulation_at_rest(glass)
        simulation.place(glass.positions, glass)
        return simulation.measure()

    def relax(
        self,
        glass: Glass,
        *,
        tolerance: float = 1e-10,
        guess: NDArray[np.float64] | None = None,
        after_event: AfterEvent | None = "descent",
    ) -> tuple[Glass, MinimizeReport]:
        """See :meth:`Engine.relax`; FIRE, from the guess if there is one.

        FIRE always ends somewhere. Where that is farther than ``reach`` from ``glass`` the basin counts as lost: the answer is
        thrown away, and the state falls from ``glass``.
        """
        check_after_event(after_event)
        simulation = self._simulation_at_rest(glass)
        minimum, report = self._fire_from(simulation, glass if guess is None else glass.moved(guess), tolerance)
        distance = max_norm(without_drift(minimum.nonaffine_displacement(glass)))
        if distance < self.settings.reach:
            return minimum, report
        lost = f"fire ended {distance:.3g} from the start: the basin is lost"
        report = replace(report, notes=(*report.notes, lost), fallbacks=report.fallbacks + 1)
        if after_event is None:
            raise BasinLost(
                f"no minimum within {self.settings.reach:g} of the glass at strain {glass.strain:.10g} (FIRE ended "
                f"{distance:.3g} away); expected one in its basin. Take a smaller step, or let it fall (after_event).",
                report,
            )
        if after_event == "descent":
            minimum, fall = self._descended(simulation, glass, tolerance)
            report = _after(report, fall)
        elif guess is not None:
            # Without a guess FIRE has fallen from the state itself already.
            minimum, fall = self._fire_from(simulation, glass, tolerance)
            report = _after(report, fall)
        return minimum, replace(report, left_basin=True)

    def descend(self, glass: Glass, *, tolerance: float = 1e-10) -> tuple[Glass, MinimizeReport]:
        """See :meth:`Engine.descend`; the result is wrapped into the box."""
        return self._descended(self._simulation_at_rest(glass), glass, tolerance)

    def _descended(self, simulation: GlassSimulation, glass: Glass, tolerance: float) -> tuple[Glass, MinimizeReport]:
        """The end of the overdamped path from ``glass``, at rest by the forces of ``simulation`` too."""
        mechanics = Mechanics(self.potential, glass.typeid, _SKIN_IN_DESCENT, glass.sizes)
        end, path = descent(mechanics, glass, tolerance=tolerance, accuracy=self.settings.accuracy)
        simulation.place(end.positions, glass)
        observables = simulation.measure()
        if observables.max_force < tolerance:
            energy = observables.energy * glass.n_particles
            return glass.moved(simulation.positions()), replace(path, max_force=observables.max_force, energy=energy)
        # HOOMD's sums round otherwise, and its table is another potential by 1e-9: the bottom of the basin lies a little off.
        minimum, polish = self._fire_from(simulation, end, tolerance)
        distance = max_norm(without_drift(minimum.nonaffine_displacement(end)))
        report = replace(_after(path, polish), method=f"{path.method}+fire")
        if not distance < self.settings.reach:
            raise ConvergenceError(
                f"FIRE of HOOMD-blue left the minimum at the end of a descent by {distance:.3g}; expected less than "
                f"{self.settings.reach:g}. The pair force of HOOMD-blue and the potential are not the same.",
                report,
            )
        return minimum, report

    def _fire_from(self, simulation: GlassSimulation, start: Glass, tolerance: float) -> tuple[Glass, MinimizeReport]:
        n_steps, notes = simulation.fire(start.positions, start, tolerance)
        return self._minimum(simulation, start, tolerance, n_steps, notes)

    def _minimum(
        self, simulation: GlassSimulation, glass: Glass, tolerance: float, n_steps: int, notes: tuple[str, ...]
    ) -> tuple[Glass, MinimizeReport]:
        observables = simulation.measure()
        met = observables.max_force < tolerance
        report = MinimizeReport(
            method="fire",
            criterion=f"max_force < {tolerance:g}" if met else "none",
            iterations=n_steps,
            force_evaluations=n_steps,
            hessian_products=0,
            max_force=observables.max_force,
            energy=observables.energy * glass.n_particles,
            notes=notes,
            fallbacks=len(notes),
        )
        if not met:
            raise ConvergenceError(
                f"FIRE of HOOMD-blue stopped at max|F| = {observables.max_force:.3g}; expected less than {tolerance:g}.",
                report,
            )
        return glass.moved(simulation.positions()), report

    def run(
        self,
        glass: Glass,
        *,
        duration: float,
        temperature: float,
        final_temperature: float | None = None,
        rng: np.random.Generator,
        resume: DynamicsState | None = None,
        waypoint: Waypoint | None = None,
    ) -> tuple[Glass, DynamicsReport]:
        """See :meth:`Engine.run`; velocity Verlet with the thermostat of the settings.

        A run that goes on from one of its own states has its positions, velocities, time and averages. It does not end in the
        same bytes: noise comes from a new seed, an MTTK thermostat begins at rest, and forces are summed in another order.
        """
        end = checked_ramp(duration, temperature, final_temperature)
        if resume is not None:
            rng.bit_generator.state = resume.rng
        simulation = self._simulation_in_motion(glass, seed=int(rng.integers(2**16)))
        n_steps = max(1, round(duration / self.settings.dt))
        told = None if waypoint is None else partial(_tell, waypoint, rng)
        report = simulation.dynamics(n_steps, temperature, end, glass, resume, told)
        return glass.moved(simulation.positions()), report


class GlassSimulation:
    """A hoomd.Simulation whose state is set and read by particle tag, without loss.

    Args:
        simulation: HOOMD's simulation, with a state.
        forces: HOOMD forces that no integrator has; their sum is what is relaxed and measured.
        settings: time steps and thermostat.
    """

    def __init__(self, simulation: Any, forces: Sequence[Any], settings: HOOMDEngineSettings) -> None:
        self._hoomd = _import_hoomd()
        self._simulation = simulation
        self._forces = list(forces)
        self._nlists = {nlist for force in forces if (nlist := getattr(force, "nlist", None)) is not None}
        self._settings = settings
        self.typeid: NDArray[np.int32] = np.array(simulation.state.get_snapshot().particles.typeid, dtype=np.int32)

    def place(
        self,
        positions_nc: NDArray[np.float64],
        glass: Glass,
        image_nc: NDArray[np.int32] | None = None,
        velocities_nc: NDArray[np.float64] | None = None,
    ) -> None:
        """Set positions ((N, 3) ndarray, any image), box, and image flags and velocities (default: zero).

        No cached force survives.

        Raises:
            InputError: if its particles have sizes of their own.
        """
        _refuse_sizes(glass)
        snapshot = self._simulation.state.get_snapshot()
        snapshot.configuration.box = [float(value) for value in glass.box.to_gsd()]
        snapshot.particles.position[:] = glass.box.wrap(positions_nc)
        snapshot.particles.image[:] = 0 if image_nc is None else image_nc
        snapshot.particles.velocity[:] = 0 if velocities_nc is None else velocities_nc
        snapshot.particles.acceleration[:] = 0
        self._simulation.state.set_snapshot(snapshot)
        self._rebuild_lists()

    def _rebuild_lists(self) -> None:
        # The list does not notice a change of the tilt by itself.
        for nlist in self._nlists:
            nlist.buffer = nlist.buffer

    def positions(self) -> NDArray[np.float64]:
        """((N, 3) ndarray) wrapped positions by tag, bit for bit those of HOOMD.

        Raises:
            ConvergenceError: if a particle has left the plane of two dimensions.
        """
        positions_nc = np.array(self._simulation.state.get_snapshot().particles.position, dtype=np.float64)
        if self._simulation.state.box.is2D and positions_nc[:, 2].any():
            raise ConvergenceError(
                f"particles of a two-dimensional box moved to z = {np.abs(positions_nc[:, 2]).max():.3g}; expected 0. HOOMD-blue "
                "before 7.1 lets them drift where it is given z or vz."
            )
        return positions_nc

    def measure(self) -> Observables:
        """Energy, stress, pressure and largest force at the present positions."""
        if self._simulation.operations.integrator is None:
            self.hold()
        simulation = self._simulation
        always = simulation.always_compute_pressure
        self._rebuild_lists()
        # Forces are cached by time step; asking for the pressure anew makes HOOMD compute them again.
        simulation.always_compute_pressure = False
        simulation.run(0)
        simulation.always_compute_pressure = True
        simulation.run(0)
        force_nc = np.sum([force.forces for force in self._forces], axis=0)
        virial_6 = np.sum([np.asarray(force.virials).sum(axis=0) for force in self._forces], axis=0)
        energy = sum(float(np.sum(force.energies)) for force in self._forces)
        simulation.always_compute_pressure = always
        volume = simulation.state.box.volume
        return Observables(
            energy=energy / len(force_nc),
            # HOOMD's virial is that of the pressure: xx, xy, xz, yy, yz, zz.
            stress_xy=float(-virial_6[1] / volume),
            pressure=float((virial_6[0] + virial_6[3] + virial_6[5]) / (simulation.state.box.dimensions * volume)),
            max_force=float(np.sqrt((force_nc**2).sum(axis=1).max())),
        )

    def fire(self, start_nc: NDArray[np.float64], glass: Glass, tolerance: float) -> tuple[int, tuple[str, ...]]:
        """Relax from ``start_nc`` by FIRE; once more with half the time step if it blows up. Returns steps and notes."""
        notes: tuple[str, ...] = ()
        for dt in (self._settings.fire_dt, 0.5 * self._settings.fire_dt):
            try:
                return self._fire(start_nc, glass, tolerance, dt), notes
            except RuntimeError as error:
                notes = (*notes, f"FIRE blew up at dt = {dt:g} ({_first_line(error)})")
        raise ConvergenceError(f"{'; '.join(notes)}. Start closer to a minimum, or set a smaller fire_dt.")

    def _fire(self, start_nc: NDArray[np.float64], glass: Glass, tolerance: float, dt: float) -> int:
        self._use(self._minimizer(dt, tolerance / _LARGEST_OVER_RMS))
        self.place(start_nc, glass)
        simulation = self._simulation
        simulation.run(0)
        n_steps = 0
        fire = simulation.operations.integrator
        # The ratio of the largest force to the mean is no law: the criterion is tightened until the largest force is met.
        for _ in range(4):
            fire.reset()
            end = n_steps + _FIRE_STEPS
            while n_steps < end and not fire.converged:
                stop_if_overdue()
                simulation.run(_FIRE_CHUNK)
                n_steps += _FIRE_CHUNK
            if not fire.converged or self.measure().max_force < tolerance:
                break
            fire.force_tol = 0.3 * fire.force_tol
        return n_steps

    def hold(self) -> None:
        """Hand the forces to an integrator that moves nothing."""
        self._use(self._hoomd.md.Integrator(dt=self._settings.dt))

    def _minimizer(self, dt: float, force_tol: float) -> Any:
        md = self._hoomd.md
        # energy_tol and angmom_tol are out of play: the energy flickers in its last digits, points have no spin.
        return md.minimize.FIRE(
            dt=dt,
            force_tol=force_tol,
            angmom_tol=1.0,
            energy_tol=1e300,
            methods=[md.methods.ConstantVolume(self._hoomd.filter.All())],
        )

    def dynamics(
        self,
        n_steps: int,
        temperature: float,
        end: float,
        glass: Glass,
        resume: DynamicsState | None = None,
        waypoint: Callable[[Callable[[], _Motion]], None] | None = None,
    ) -> DynamicsReport:
        """Thermostatted dynamics of ``n_steps`` steps on a linear ramp of the temperature; see :meth:`Engine.run`."""
        hoomd, settings, simulation = self._hoomd, self._settings, self._simulation
        everything = hoomd.filter.All()
        done = 0 if resume is None else resume.step
        now = temperature + (end - temperature) * done / n_steps
        kt = hoomd.variant.Ramp(A=now, B=end, t_start=simulation.timestep, t_ramp=n_steps - done)
        if settings.thermostat == "langevin":
            method = hoomd.md.methods.Langevin(everything, kT=kt, default_gamma=1.0 / settings.tau)
        else:
            thermostats = hoomd.md.methods.thermostats
            thermostat = thermostats.Bussi if settings.thermostat == "bussi" else thermostats.MTTK
            method = hoomd.md.methods.ConstantVolume(everything, thermostat=thermostat(kT=kt, tau=settings.tau))
        self._use(hoomd.md.Integrator(dt=settings.dt, methods=[method]))
        thermodynamics = hoomd.md.compute.ThermodynamicQuantities(everything)
        simulation.operations.computes.append(thermodynamics)
        if resume is None:
            simulation.state.thermalize_particle_momenta(filter=everything, kT=temperature)
        else:
            self.place(resume.positions, glass, velocities_nc=resume.velocities)
        half = n_steps // 2
        sums, n_samples = (np.zeros(3), 0) if resume is None else (np.array(resume.sums[:3]), int(resume.sums[3]))
        while done < n_steps:
            sampling = simulation.always_compute_pressure = done >= half
            chunk = min(_SAMPLING_PERIOD, n_steps - done) if sampling else min(_STEPS_BETWEEN_WAYPOINTS, half - done)
            self._run(chunk)
            done += chunk
            if sampling:
                sums += (thermodynamics.kinetic_temperature, thermodynamics.potential_energy, thermodynamics.pressure)
                n_samples += 1
            if waypoint is not None and done < n_steps:
                waypoint(partial(self._motion, done, (*sums, n_samples)))
        simulation.always_compute_pressure = False
        simulation.operations.computes.remove(thermodynamics)
        mean_temperature, energy, pressure = sums / n_samples
        if not np.isfinite(sums).all():
            raise BlowUpError(f"molecular dynamics blew up (energy = {energy}). Use a smaller dt than {settings.dt:g}.")
        return DynamicsReport(n_steps, float(mean_temperature), float(energy) / len(self.typeid), float(pressure))

    def _motion(self, step: int, sums: tuple[float, ...]) -> _Motion:
        particles = self._simulation.state.get_snapshot().particles
        positions_nc, velocities_nc = (np.array(each, dtype=np.float64) for each in (particles.position, particles.velocity))
        return step, positions_nc, velocities_nc, sums

    def _run(self, n_steps: int) -> None:
        try:
            self._simulation.run(n_steps)
        except RuntimeError as error:
            raise BlowUpError(
                f"HOOMD-blue stopped: {_first_line(error)}. The state blew up; use a smaller time step."
            ) from error

    def _use(self, integrator: Any) -> None:
        """Hand the pair forces over to another integrator."""
        old = self._simulation.operations.integrator
        if old is not None:
            while old.forces:
                old.forces.pop()
        integrator.forces.extend(self._forces)
        self._simulation.operations.integrator = integrator


def _refuse_sizes(glass: Glass) -> None:
    if glass.sizes is not None:
        raise InputError(
            "the particles have sizes of their own, and the pair forces of HOOMD-blue know types alone; expected a glass "
            "without sizes. `engine: cpu` takes one with sizes."
        )


def snapshot_of(glass: Glass, types: Sequence[str] = ("A", "B")) -> Any:
    """The glass as a hoomd.Snapshot in double precision, for ``Simulation.create_state_from_snapshot``.

    Raises:
        InputError: if its particles have sizes of their own.
    """
    _refuse_sizes(glass)
    snapshot = _import_hoomd().Snapshot()
    snapshot.configuration.box = [float(value) for value in glass.box.to_gsd()]
    snapshot.particles.N = glass.n_particles
    snapshot.particles.types = list(types)
    snapshot.particles.typeid[:] = glass.typeid
    snapshot.particles.position[:] = glass.box.wrap(glass.positions)
    return snapshot


def _after(first: MinimizeReport, then: MinimizeReport) -> MinimizeReport:
    """The report of a minimisation that took over from another one."""
    return replace(
        then,
        iterations=first.iterations + then.iterations,
        force_evaluations=first.force_evaluations + then.force_evaluations,
        hessian_products=first.hessian_products + then.hessian_products,
        notes=first.notes + then.notes,
        fallbacks=first.fallbacks + then.fallbacks,
    )


def _tell(waypoint: Waypoint, rng: np.random.Generator, motion: Callable[[], _Motion]) -> None:
    waypoint(lambda: DynamicsState(*motion(), rng=dict(rng.bit_generator.state)))


def _first_line(error: RuntimeError) -> str:
    """The sentence of a HOOMD error; coordinates and boxes follow it."""
    return str(error).strip().partition("\n")[0].rstrip(".")
