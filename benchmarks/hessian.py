"""The sparse Hessian of a glass at rest, neighbour search included, against matscipy.

Usage: python benchmarks/hessian.py [N ...] [--turns 30] [--cache DIR]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import numpy as np
import scipy.sparse as sp
from _common import LAW, Contestant, arguments, ended, gathered, glass_of, introduce, matscipy_atoms, matscipy_law, report

from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import bonds_of

_TOLERANCE = 1e-10  # of an entry, relative to the largest; round-off


def assembled(glass: Glass) -> sp.bsr_array:
    """Our Hessian, from bare positions."""
    return bonds_of(glass, LAW, 2).hessian()


def _matscipy(glass: Glass) -> Iterator[Contestant]:
    from matscipy.calculators.polydisperse import Polydisperse

    atoms, peer = matscipy_atoms(glass), Polydisperse(matscipy_law())
    peer.atoms = atoms

    def run(count: int) -> None:
        for _ in range(count):
            peer.get_hessian(atoms, format="sparse")

    ours, theirs = assembled(glass).tocsr(), peer.get_hessian(atoms, format="sparse").tocsr()
    deviation = float(np.abs((ours - theirs).data).max() / np.abs(ours.data).max())
    yield Contestant("matscipy", run, deviation, _TOLERANCE)


def main() -> bool:
    """Run the benchmark; whether all answers agree."""
    options = arguments(__doc__, (2000, 16000))
    introduce(("matscipy", "vesin"))
    agreed = True
    for n_particles in options.sizes:
        glass = glass_of(n_particles, options.cache)

        def run(count: int, glass: Glass = glass) -> None:
            for _ in range(count):
                assembled(glass)

        peers = gathered([("matscipy", partial(_matscipy, glass))])
        agreed &= report("hessian", n_particles, Contestant("qlm_hoomd", run), peers, options.turns)
    return agreed


if __name__ == "__main__":
    sys.exit(ended(main))
