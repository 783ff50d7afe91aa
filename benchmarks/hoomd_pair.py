"""Steps of FIRE: HOOMD-blue with each of its pair forces for our glass, and the embedded CPU engine.

Two cases per size: the compiled component against what HOOMD-blue does without it, and our own FIRE against HOOMD-blue's.

Usage: python benchmarks/hoomd_pair.py [N ...] [--turns 30] [--cache DIR]
"""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from _common import LAW, Contestant, arguments, gathered, glass_of, introduce, report
from numpy.typing import NDArray

from qlm_hoomd.errors import ConvergenceError
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.minimize.fire import fire
from qlm_hoomd.pair import Backend, InversePowerLaw

_SKIN = 0.12
_STEP = 0.04
STRAIN = 1e-4  # one step of quasi-static shear: what FIRE has to relax
# Relative to the largest force: round-off, and the interpolation of the table.
TOLERANCE: dict[Backend, float] = {"component": 1e-10, "mie": 1e-10, "table": 1e-4}


@dataclass(frozen=True, slots=True)
class Answer:
    """The forces that everybody must find in the sheared glass before the first step."""

    glass: Glass
    force_nc: NDArray[np.float64]

    def deviation(self, force_nc: NDArray[np.float64]) -> float:
        """Largest deviation of a force relative to the largest force."""
        return float(np.abs(force_nc - self.force_nc).max() / np.abs(self.force_nc).max())


def ours_of(glass: Glass) -> tuple[Contestant, Answer]:
    """Our FIRE, and the forces that others must find."""
    mechanics = Mechanics(LAW, glass.typeid, skin=_SKIN)

    def run(count: int) -> None:
        # No force is below zero: it takes all the steps it may, and then complains.
        with contextlib.suppress(ConvergenceError):
            fire(mechanics, glass, tolerance=0.0, step=_STEP, max_iterations=count)

    return Contestant("qlm_hoomd-fire", run), Answer(glass, mechanics.energy_forces(glass.positions.copy(), glass.box)[1])


def hoomd_fire(glass: Glass, backend: Backend, device: Any) -> tuple[Any, Any]:
    """A simulation of the glass in which a run is so many steps of FIRE, and its pair force."""
    import hoomd
    import hoomd.md

    simulation = hoomd.Simulation(device=device, seed=1)
    snapshot = hoomd.Snapshot()
    snapshot.configuration.box = glass.box.to_gsd()
    snapshot.particles.N = glass.n_particles
    snapshot.particles.types = ["A", "B"]
    snapshot.particles.position[:] = glass.box.wrap(glass.positions)
    snapshot.particles.typeid[:] = glass.typeid
    simulation.create_state_from_snapshot(snapshot)
    # Sorting particles along a curve breaks the order of a run; the engine switches it off as well.
    simulation.operations.tuners.clear()
    force = InversePowerLaw.from_potential(LAW, hoomd.md.nlist.Cell(buffer=_SKIN), backend=backend)
    simulation.operations.integrator = hoomd.md.minimize.FIRE(
        dt=_STEP,
        # Tolerances that cannot be met: it never stops.
        force_tol=1e-300,
        angmom_tol=1e-300,
        energy_tol=1e-300,
        forces=[force],
        methods=[hoomd.md.methods.ConstantVolume(hoomd.filter.All())],
    )
    simulation.run(0)
    return simulation, force


def _hoomd(backend: Backend, answer: Answer) -> Iterator[Contestant]:
    import hoomd

    simulation, force = hoomd_fire(answer.glass, backend, hoomd.device.CPU())
    yield Contestant(f"hoomd-{backend}", simulation.run, answer.deviation(force.forces), TOLERANCE[backend])


def main() -> int:
    """Run the benchmark."""
    options = arguments(__doc__, (2000, 16000))
    introduce(("qlm_hoomd_ipl",))
    agreed = True
    for n_particles in options.sizes:
        engine, answer = ours_of(glass_of(n_particles, options.cache).sheared(STRAIN))
        backends: tuple[Backend, ...] = ("component", "mie", "table")
        found = gathered((f"hoomd-{backend}", partial(_hoomd, backend, answer)) for backend in backends)
        component = next((contestant for contestant in found if contestant.name == "hoomd-component"), None)
        if component is not None:
            others = [contestant for contestant in found if contestant is not component]
            agreed &= report("hoomd_pair", n_particles, component, others, options.turns)
        agreed &= report("fire_step", n_particles, engine, found, options.turns)
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
