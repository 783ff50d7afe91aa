"""The embedded engine: float64 on one CPU thread, nothing but pip needed."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from qlm_hoomd.base.errors import BasinLost, ConvergenceError, InputError
from qlm_hoomd.engines.base import (
    DynamicsReport,
    DynamicsState,
    Engine,
    EngineSettings,
    Observables,
    check_after_event,
    checked_ramp,
)
from qlm_hoomd.engines.verlet import Noise, motion
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.minimize import MinimizeReport, descent, fire, newton
from qlm_hoomd.minimize.fall import rounding_force
from qlm_hoomd.minimize.surface import max_norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.base.checkpoint import Waypoint
    from qlm_hoomd.engines.base import AfterEvent
    from qlm_hoomd.engines.verlet import Motion
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel
    from qlm_hoomd.potentials import PairPotential

_SKIN_AT_REST = 0.12
_SKIN_IN_DESCENT = 0.3
_STEPS_BETWEEN_PRESSURES = 20
# A fraction of a second up to N = 64000.
_STEPS_BETWEEN_WAYPOINTS = 20
# FIRE carries a velocity through quiet places; where it is this quiet it has come to rest.
_FIRE_SWITCH_FORCE = 1e-4


class CPUEngineSettings(EngineSettings):
    """Settings of the embedded CPU engine."""

    kind: Literal["cpu"] = "cpu"
    dt: Annotated[float, Field(gt=0, le=0.02)] = Field(default=0.005, description="time step of molecular dynamics [t_c]")
    tau: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=0.5, description="time constant of the stochastic velocity rescaling thermostat [t_c]"
    )
    accuracy: Annotated[float, Field(gt=0, le=0.1)] = Field(
        default=3e-4, description="largest local error of a position in one step of overdamped descent [length]"
    )
    reach: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.05, description="displacement beyond which Newton hands a relaxation over to overdamped descent [length]"
    )

    def build(self, model: GlassModel) -> CPUEngine:
        """The engine for this model."""
        return CPUEngine(model.potential, self)


class CPUEngine(Engine):
    """Numba kernels behind the engine interface.

    Args:
        potential: the pair potential.
        settings: time step, thermostat, accuracy.
    """

    name: ClassVar[str] = "cpu"

    def __init__(self, potential: PairPotential, settings: CPUEngineSettings | None = None) -> None:
        super().__init__(potential)
        self.settings = settings or CPUEngineSettings()
        self._at_rest: tuple[NDArray[np.int32], NDArray[np.float64] | None, Mechanics] | None = None

    def __repr__(self) -> str:
        return f"CPUEngine({self.potential!r}, {self.settings!r})"

    def describe(self) -> dict[str, Any]:
        """The settings; the version is that of qlm_hoomd."""
        return self.settings.model_dump()

    def _mechanics_of(self, glass: Glass) -> Mechanics:
        # Neighbour candidates live on between the small steps of quasi-static shear.
        at_rest = self._at_rest
        if at_rest is None or not (_same(at_rest[0], glass.typeid) and _same(at_rest[1], glass.sizes)):
            at_rest = self._at_rest = self._resting(glass.typeid, glass.sizes)
        return at_rest[2]

    def _resting(
        self, typeid_n: NDArray[np.int32], size_n: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.int32], NDArray[np.float64] | None, Mechanics]:
        return typeid_n, size_n, Mechanics(self.potential, typeid_n, _SKIN_AT_REST, size_n)

    @property
    def memory(self) -> Any:
        """See :attr:`Engine.memory`: types of the particles, for what their neighbours were found, and sizes if there are any."""
        if self._at_rest is None:
            return None
        typeid_n, size_n, mechanics = self._at_rest
        return (typeid_n, mechanics.memory) if size_n is None else (typeid_n, mechanics.memory, size_n)

    def recall(self, memory: Any) -> None:
        """See :meth:`Engine.recall`."""
        self._at_rest = None
        if memory is not None:
            typeid_n, of_mechanics, size_n = (*memory, None)[:3]
            self._at_rest = self._resting(typeid_n, size_n)
            self._at_rest[2].recall(of_mechanics)

    def measure(self, glass: Glass) -> Observables:
        """See :meth:`Engine.measure`."""
        bonds = self._mechanics_of(glass).bonds(glass.positions, glass.box, 1)
        return Observables(
            energy=bonds.energy / glass.n_particles,
            stress_xy=bonds.stress_xy,
            pressure=bonds.pressure,
            max_force=max_norm(bonds.forces),
        )

    def relax(
        self,
        glass: Glass,
        *,
        tolerance: float = 1e-10,
        guess: NDArray[np.float64] | None = None,
        after_event: AfterEvent | None = "descent",
    ) -> tuple[Glass, MinimizeReport]:
        """See :meth:`Engine.relax`: truncated Newton in the basin, from the guess and then from ``glass``.

        A fall where both refuse.

        A refusal is negative curvature, a particle that moves by more than ``reach``, or a step that no longer leads down.
        """
        check_after_event(after_event)
        mechanics = self._mechanics_of(glass)
        starts = [glass]
        bill = _Bill()
        if guess is not None:
            # A guess is a shortcut inside the basin; one from farther away could sit in another.
            if max_norm(guess - glass.positions) < 2.0 * self.settings.reach:
                starts.insert(0, glass.moved(guess))
            else:
                bill.add_fallback(f"guess not within {2.0 * self.settings.reach:g} of the start")
        for start in starts:
            try:
                minimum, report = newton(mechanics, start, tolerance=tolerance, reach=self.settings.reach)
            except ConvergenceError as error:
                refusal = error
                bill.add(error.report, f"newton: {error.report.notes[-1] if error.report.notes else 'not converged'}")
                continue
            return minimum, bill.on(report)
        rounding = rounding_force(mechanics.bonds(glass.positions, glass.box))
        if refusal.report.max_force < rounding or tolerance < 0.01 * rounding:
            # The basin is there; what is out of reach is the tolerance.
            raise ConvergenceError(str(refusal), bill.on(refusal.report))
        if after_event is None:
            raise BasinLost(
                f"no minimum within {self.settings.reach:g} of the glass at strain {glass.strain:.10g} (newton stopped at "
                f"max|F| = {refusal.report.max_force:.3g}); expected one in its basin. Take a smaller step, or let it fall "
                "(after_event).",
                bill.on(refusal.report),
            ) from refusal
        # The basin is gone: only the path from the state itself says where it falls.
        try:
            if after_event == "descent":
                minimum, report = descent(mechanics, glass, tolerance=tolerance, accuracy=self.settings.accuracy)
            else:
                minimum, report = fire(mechanics, glass, tolerance=tolerance, switch_force=_FIRE_SWITCH_FORCE)
        except ConvergenceError as error:
            error.report = replace(bill.on(error.report), left_basin=True)
            raise
        return minimum, replace(bill.on(report), left_basin=True)

    def descend(self, glass: Glass, *, tolerance: float = 1e-10) -> tuple[Glass, MinimizeReport]:
        """See :meth:`Engine.descend`; the result is wrapped into the box."""
        mechanics = Mechanics(self.potential, glass.typeid, _SKIN_IN_DESCENT, glass.sizes)
        minimum, report = descent(mechanics, glass, tolerance=tolerance, accuracy=self.settings.accuracy)
        return minimum.moved(minimum.box.wrap(minimum.positions)), report

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
        """Velocity Verlet with stochastic velocity rescaling: Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007).

        A run that goes on from one of its own states ends in the same bytes.
        """
        end = checked_ramp(duration, temperature, final_temperature)
        if glass.n_particles < 2:
            raise InputError(f"N = {glass.n_particles}; expected at least two particles.")
        dt = self.settings.dt
        n_steps = max(1, round(duration / dt))
        d = glass.box.dimensions
        n_free = d * glass.n_particles - d
        if resume is None:
            positions_nc, memory = glass.positions, None
            velocities_nc = rng.normal(scale=math.sqrt(temperature), size=positions_nc.shape)
            velocities_nc[:, d:] = 0.0
            velocities_nc -= velocities_nc.mean(axis=0)
        else:
            positions_nc, velocities_nc, memory = resume.positions, resume.velocities, resume.memory
            rng.bit_generator.state = resume.rng
        done, averages = (0, _Averages(glass)) if resume is None else (resume.step, _Averages(glass, resume.sums))
        particles = motion(
            self.potential, glass, positions_nc, velocities_nc, memory,
            temperature=temperature, dt=dt, keep=math.exp(-dt / self.settings.tau),
        )  # fmt: skip
        while done < n_steps:
            # Always to the next multiple: how a run is divided must not show in its last digits.
            step_k = np.arange(done + 1, min(done - done % _STEPS_BETWEEN_WAYPOINTS + _STEPS_BETWEEN_WAYPOINTS, n_steps) + 1)
            noise = Noise.drawn(temperature + (end - temperature) * step_k / n_steps, n_free, rng)
            counts_k = 2 * step_k > n_steps
            pressure_k = counts_k & ((step_k % _STEPS_BETWEEN_PRESSURES == 0) | (step_k == n_steps))
            seen = particles.advance(noise, counts_k, pressure_k)
            for k in np.flatnonzero(counts_k):
                averages.add(seen.energy_k[k], seen.square_k[k] / n_free)
                if pressure_k[k]:
                    averages.add_pressure(-seen.virial_k[k] / (d * glass.box.volume))
            done = int(step_k[-1])
            if waypoint is not None and done < n_steps:
                waypoint(partial(_state, done, particles, averages, rng))
        energy, (positions_nc, _, _) = seen.energy_k[-1], particles.state()
        if not (math.isfinite(energy) and np.isfinite(positions_nc).all()):
            raise ConvergenceError(f"molecular dynamics blew up (energy = {energy}). Use a smaller dt than {dt:g}.")
        return glass.moved(glass.box.wrap(positions_nc)), averages.report(n_steps)


def _same(mine: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    return mine is other or (mine is not None and other is not None and np.array_equal(mine, other))


def _state(step: int, particles: Motion, averages: _Averages, rng: np.random.Generator) -> DynamicsState:
    positions_nc, velocities_nc, memory = particles.state()
    return DynamicsState(step, positions_nc, velocities_nc, averages.sums, dict(rng.bit_generator.state), memory)


class _Bill:
    """What the attempts cost that came to nothing, and how many there were."""

    def __init__(self) -> None:
        self._force_evaluations = self._hessian_products = 0
        self._notes: list[str] = []

    def add_fallback(self, note: str) -> None:
        self._notes.append(note)

    def add(self, wasted: MinimizeReport, note: str) -> None:
        self._force_evaluations += wasted.force_evaluations
        self._hessian_products += wasted.hessian_products
        self.add_fallback(note)

    def on(self, report: MinimizeReport) -> MinimizeReport:
        """The report with all that came before it."""
        return replace(
            report,
            force_evaluations=report.force_evaluations + self._force_evaluations,
            hessian_products=report.hessian_products + self._hessian_products,
            notes=(*self._notes, *report.notes),
            fallbacks=report.fallbacks + len(self._notes),
        )


class _Averages:
    """Running means over the second half of a run."""

    def __init__(self, glass: Glass, sums: tuple[float, ...] = (0.0, 0.0, 0, 0.0, 0)) -> None:
        self._n_particles = glass.n_particles
        self._volume = glass.box.volume
        self._energy, self._temperature, self._n, self._virial_pressure, self._n_pressures = sums

    @property
    def sums(self) -> tuple[float, ...]:
        """What the constructor takes after the glass."""
        return self._energy, self._temperature, self._n, self._virial_pressure, self._n_pressures

    def add(self, energy: float, temperature: float) -> None:
        self._energy += float(energy)
        self._temperature += float(temperature)
        self._n += 1

    def add_pressure(self, virial_pressure: float) -> None:
        self._virial_pressure += float(virial_pressure)
        self._n_pressures += 1

    def report(self, n_steps: int) -> DynamicsReport:
        temperature = self._temperature / self._n
        kinetic = temperature * self._n_particles / self._volume
        return DynamicsReport(
            n_steps=n_steps,
            temperature=temperature,
            energy=self._energy / self._n / self._n_particles,
            pressure=self._virial_pressure / self._n_pressures + kinetic,
        )
