"""States in and out of HOOMD-blue: keep one, return to it, shear it affinely.

Ours is what `qlm_quasistatic.hoomd` and the engine behind it do; the peers are what a script does with HOOMD-blue alone. Three
cases per size, `hoomd_save`, `hoomd_restore` and `hoomd_affine_step`; the last two end with new neighbour lists and forces.

Usage: python benchmarks/hoomd_states.py [N ...] [--turns 30] [--cache DIR]
"""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from _common import LAW, Contestant, arguments, ended, glass_of, introduce, note, report
from numpy.typing import NDArray

from qlm_hoomd.box import Box
from qlm_hoomd.engines.hoomd import GlassSimulation, HOOMDEngineSettings, snapshot_of
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import Mechanics

_SKIN = 0.12
_INCREMENT = 1e-4
# Energies relative to themselves, positions relative to the box: round-off.
_TOLERANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Seen:
    """A state of a simulation, for comparison.

    Args:
        exact: what must come back to the last bit: positions, image flags, velocities, box.
        energy: potential energy [energy].
    """

    exact: tuple[NDArray[Any], ...]
    energy: float

    def deviation(self, other: Seen) -> float:
        """Relative deviation of the energy, or infinity if anything exact differs."""
        same = all(np.array_equal(mine, theirs) for mine, theirs in zip(self.exact, other.exact, strict=True))
        return abs(other.energy / self.energy - 1.0) if same else float("inf")

    def deviation_of_step(self, other: Seen) -> float:
        """Largest deviation of the energy relative to itself, and of a position or the tilt relative to the box."""
        box = Box.from_gsd(self.exact[-1])
        apart_nc = box.minimum_image(other.exact[0] - self.exact[0])
        tilts = abs(other.exact[-1] - self.exact[-1]).max()
        return max(abs(other.energy / self.energy - 1.0), float(np.abs(apart_nc).max() / box.length), float(tilts))


class _Script:
    """HOOMD-blue alone, with global snapshots.

    Args:
        glass: the state to begin with.
    """

    name = "hoomd-snapshot"

    def __init__(self, glass: Glass) -> None:
        import hoomd
        import hoomd.md

        from qlm_hoomd.pair import InversePowerLaw

        self._resize = hoomd.update.BoxResize.update
        self.simulation = hoomd.Simulation(device=hoomd.device.CPU(), seed=1)
        self.simulation.create_state_from_snapshot(snapshot_of(glass))
        # Sorting particles along a curve breaks the order of a run; the engine switches it off as well.
        self.simulation.operations.tuners.clear()
        self.nlist = hoomd.md.nlist.Cell(buffer=_SKIN)
        self.pair = InversePowerLaw.from_potential(LAW, self.nlist)
        self._take_forces(glass)

    def _take_forces(self, glass: Glass) -> None:
        import hoomd.md

        self.simulation.operations.integrator = hoomd.md.Integrator(dt=0.005, forces=self.pair.terms)
        self.simulation.run(0)

    def save(self) -> Any:
        return self.simulation.state.get_snapshot()

    def saved_positions(self, saved: Any) -> NDArray[np.float64]:
        """((N, 3) ndarray) the positions by tag in what `save` returned [length]."""
        return np.array(saved.particles.position)

    def restore(self, saved: Any) -> None:
        self.simulation.state.set_snapshot(saved)
        self.nlist.buffer = self.nlist.buffer
        self.simulation.run(0)

    def shear(self, increment: float) -> None:
        box = self.simulation.state.box
        self._resize(self.simulation.state, [box.Lx, box.Ly, box.Lz, box.xy + increment, box.xz, box.yz])
        self.nlist.buffer = self.nlist.buffer
        # run(0) would keep the forces of this time step; without a method nothing moves.
        self.simulation.run(1)

    def disturb(self) -> None:
        """Change everything that `restore` has to bring back."""
        self._resize(self.simulation.state, Box(self.simulation.state.box.Lx, 0.01).to_gsd().tolist())
        snapshot = self.simulation.state.get_snapshot()
        box = Box.from_gsd(snapshot.configuration.box)
        noise_nc = np.random.default_rng(1).normal(scale=0.05, size=(snapshot.particles.N, 3))
        snapshot.particles.position[:] = box.wrap(snapshot.particles.position + noise_nc)
        snapshot.particles.image[:] += 1
        snapshot.particles.velocity[:] = noise_nc
        self.simulation.state.set_snapshot(snapshot)
        self.simulation.run(0)

    def seen(self) -> Seen:
        """The present state with the energy that the force has for it."""
        snapshot = self.simulation.state.get_snapshot()
        particles = snapshot.particles
        parts = (particles.position, particles.image, particles.velocity, snapshot.configuration.box)
        energy = sum(float(np.sum(term.energies)) for term in self.pair.terms)
        return Seen(tuple(np.array(part) for part in parts), energy)


class _LocalScript(_Script):
    """HOOMD-blue alone, with local snapshots, which are views of its own arrays, in its own order."""

    name = "hoomd-local-snapshot"

    def save(self) -> Any:
        with self.simulation.state.cpu_local_snapshot as local:
            rtag_n = np.array(local.particles.rtag)
            position_nc, image_nc = np.array(local.particles.position)[rtag_n], np.array(local.particles.image)[rtag_n]
        return position_nc, image_nc, self.simulation.state.box

    def saved_positions(self, saved: Any) -> NDArray[np.float64]:
        return np.asarray(saved[0])

    def restore(self, saved: Any) -> None:
        position_nc, image_nc, box = saved
        with self.simulation.state.cpu_local_snapshot as local:
            tag_n = np.array(local.particles.tag)
            local.particles.position[:] = position_nc[tag_n]
            local.particles.image[:] = image_nc[tag_n]
            local.particles.velocity[:] = 0.0
            local.particles.acceleration[:] = 0.0
        self.simulation.state.set_box(box)
        self.nlist.buffer = self.nlist.buffer
        # run(0) would keep the forces of this time step.
        self.simulation.run(1)


class _Ours(_Script):
    """The driver for restoring, the engine below it for reading and shearing."""

    name = "qlm_hoomd"

    def _take_forces(self, glass: Glass) -> None:
        from qlm_quasistatic.hoomd import AthermalQuasistatic

        self._driver = AthermalQuasistatic(self.simulation, forces=[self.pair])
        self._driver.relax()
        self.glass = self._driver.checkpoint.state.glass
        # Both put the same forces into the same simulation.
        self._engine = GlassSimulation(self.simulation, self.pair.terms, HOOMDEngineSettings())

    def save(self) -> Any:
        self.glass = self.glass.moved(self._engine.positions())
        return self._driver.checkpoint

    def saved_positions(self, saved: Any) -> NDArray[np.float64]:
        return self.glass.positions

    def restore(self, saved: Any) -> None:
        self._driver.restore(saved)

    def shear(self, increment: float) -> None:
        self.glass = self.glass.sheared(increment)
        self._engine.place(self.glass.positions, self.glass)
        self.simulation.run(0)


def _repeated(job: Callable[[], object]) -> Callable[[int], None]:
    def run(count: int) -> None:
        for _ in range(count):
            job()

    return run


def _race(benchmark: str, n_particles: int, contestants: Sequence[Contestant], turns: int) -> bool:
    ours, *peers = contestants
    if not ours.agree <= ours.tolerance:
        note(f"{benchmark}, N = {n_particles}: ours is off by {ours.agree:.1e}; expected at most {ours.tolerance:.0e}")
        return False
    return report(benchmark, n_particles, ours, peers, turns)


def _save(systems: Sequence[_Script], glass: Glass, turns: int) -> bool:
    contestants = []
    reference_nc = glass.box.wrap(glass.positions)
    for system in systems:
        apart = float(np.abs(system.saved_positions(system.save()) - reference_nc).max())
        # All bits count: the tolerance is nought.
        contestants.append(Contestant(system.name, _repeated(system.save), apart))
    return _race("hoomd_save", glass.n_particles, contestants, turns)


def _restore(systems: Sequence[_Script], glass: Glass, turns: int) -> bool:
    contestants = []
    for system in systems:
        before, saved = system.seen(), system.save()
        system.disturb()
        system.restore(saved)
        job = _repeated(partial(system.restore, saved))
        contestants.append(Contestant(system.name, job, before.deviation(system.seen()), _TOLERANCE))
    return _race("hoomd_restore", glass.n_particles, contestants, turns)


def _affine_step(systems: Sequence[_Script], glass: Glass, turns: int) -> bool:
    mechanics = Mechanics(LAW, glass.typeid, skin=_SKIN)
    sheared = glass.sheared(_INCREMENT)
    energy = mechanics.energy_forces(sheared.positions, sheared.box)[0]
    expected = Seen((sheared.positions, sheared.box.to_gsd()), energy)
    contestants = []
    for system in systems:
        # Forth and back, so that all steps are alike.
        increments = itertools.cycle((_INCREMENT, -_INCREMENT))
        system.shear(next(increments))
        job = _repeated(partial(_next_step, system.shear, increments))
        contestants.append(Contestant(system.name, job, expected.deviation_of_step(system.seen()), _TOLERANCE))

    # The CPU engine is what the others are compared with.
    def on_cpu(engine: Callable[[], Mechanics], name: str, note: str) -> Contestant:
        present = sheared

        def shear(increment: float) -> None:
            nonlocal present
            present = present.sheared(increment)
            engine().energy_forces(present.positions, present.box)

        job = _repeated(partial(_next_step, shear, itertools.cycle((-_INCREMENT, _INCREMENT))))
        return Contestant(name, job, note=note)

    contestants += [
        on_cpu(lambda: mechanics, "qlm_hoomd-cpu", "our CPU engine: keeps its list as long as it is complete"),
        on_cpu(lambda: Mechanics(LAW, glass.typeid, skin=_SKIN), "qlm_hoomd-cpu-new-list", "our CPU engine with a new list"),
    ]
    return _race("hoomd_affine_step", glass.n_particles, contestants, turns)


def _next_step(shear: Callable[[float], None], increments: Iterator[float]) -> None:
    shear(next(increments))


def main() -> bool:
    """Run the benchmark; whether all answers agree."""
    options = arguments(__doc__, (2000, 16000))
    introduce(("qlm_hoomd_ipl",))
    try:
        import hoomd  # noqa: F401
    except ImportError as error:
        note(f"hoomd does not run here: {error}")
        return True
    agreed = True
    for n_particles in options.sizes:
        ours = _Ours(glass_of(n_particles, options.cache))
        # Everybody has the state as the driver has relaxed it.
        glass = ours.glass
        script, local = _Script(glass), _LocalScript(glass)
        agreed &= _save((ours, script, local), glass, options.turns)
        agreed &= _restore((ours, script, local), glass, options.turns)
        agreed &= _affine_step((ours, script), glass, options.turns)
    return agreed


if __name__ == "__main__":
    sys.exit(ended(main))
