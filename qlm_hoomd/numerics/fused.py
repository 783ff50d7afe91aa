"""Forces of a law that the loop of molecular dynamics holds, for one state after another: pair vectors are never stored.

The lists are those of :class:`~qlm_hoomd.numerics.neighbors.NeighborCandidates`, laid out eight particles at a time.
"""

# Array names carry their axes: n particles, c Cartesian components, s particles in cell order, j stages of a step. Arrays
# without axes are flat views of rows of four numbers, as in dynamics.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qlm_hoomd.numerics import dynamics
from qlm_hoomd.numerics.cells import Lattice, lattice_of
from qlm_hoomd.numerics.dynamics import Forces, Particles
from qlm_hoomd.numerics.jit import Floats, Ints, compiled, index, machine_code
from qlm_hoomd.numerics.laws import Mixing
from qlm_hoomd.numerics.simd import LANES, ROW, any_beyond, load, store, sums_of_rows
from qlm_hoomd.numerics.steps import Coefficients

if TYPE_CHECKING:
    from qlm_hoomd.box import Box
    from qlm_hoomd.numerics.laws import ScaledLaw
    from qlm_hoomd.numerics.neighbors import NeighborCandidates


class FusedForces:
    """Evaluates one scaled law on the lists of ``neighbors``.

    Args:
        law: the law.
        n_types: number of particle types T.
        neighbors: the neighbour candidates; brought up to date where a list does not hold any more.
    """

    def __init__(self, law: ScaledLaw, n_types: int, neighbors: NeighborCandidates) -> None:
        self._law = Forces(tuple(range(n_types)), law.inverse_length2, law.function, law.constants, law.cutoff2)
        self._energy_t = law.energy
        self._mixing = None if neighbors.sizes is None else neighbors.sizes.mixing
        self._neighbors = neighbors
        self._build = -1
        self._forces_at: Any = None
        self._stages: Any = None

    def energy_forces(self, positions_nc: Floats, box: Box) -> tuple[float, Floats]:
        """Energy U [energy] and forces -dU/dr ((N, 3) ndarray [energy / length])."""
        neighbors = self._neighbors
        neighbors.update(positions_nc, box)
        self._arrange()
        force_nc = np.empty_like(positions_nc)
        folded_nc = neighbors.folded(positions_nc, box)
        arguments = self._particles, lattice_of(box), self._law, self._energy_t, self._mixing, folded_nc, force_nc
        if self._forces_at is None:
            self._forces_at = machine_code(_forces_at, *arguments)
        return float(self._forces_at(*arguments)), force_nc

    def chebyshev_step(
        self, start_nc: Floats, start_force_nc: Floats, box: Box, coefficients: Coefficients, step: float
    ) -> Floats:
        """See :meth:`qlm_hoomd.mechanics.Mechanics.chebyshev_step`."""
        neighbors = self._neighbors
        last_nc = before_nc = start_nc
        stage = 1
        while True:
            # The loop knows how far its particles are from where the list was made, and nothing of a shear since then.
            if stage > 1 or neighbors.reference is None or neighbors.reference[1] != box:
                neighbors.rebuild(last_nc, box)
            else:
                neighbors.update(last_nc, box)
            self._arrange()
            particles = self._particles
            start, before, last = (
                _in_rows(particles.order_s, particles.reference, neighbors.folded(some_nc, box))
                for some_nc in (start_nc, before_nc, last_nc)
            )
            start_force = _in_rows(particles.order_s, np.zeros_like(particles.forces), start_force_nc)
            particles.rows[: len(last)] = last
            arguments = (
                particles, lattice_of(box), self._law, self._energy_t, self._mixing, stage, coefficients, step, start, before,
                start_force,
            )  # fmt: skip
            if self._stages is None:
                self._stages = machine_code(_chebyshev_stages, *arguments)
            stage = self._stages(*arguments)
            start_sc, before_nc, last_nc = (
                dynamics.in_own_order(particles.order_s, some) for some in (start, before, particles.rows)
            )
            before_nc, last_nc = start_nc + (before_nc - start_sc), start_nc + (last_nc - start_sc)
            if stage == len(coefficients.mu_j):
                return last_nc

    def _arrange(self) -> None:
        """Lay the lists out anew where there are new ones."""
        neighbors = self._neighbors
        if self._build == neighbors.n_builds:
            return
        wrapped_nc, box = neighbors.wrapped_reference
        self._particles: Particles = dynamics.arranged(
            wrapped_nc,
            neighbors.skin,
            wrapped_nc,
            np.zeros_like(wrapped_nc),
            neighbors.typeid,
            neighbors.cutoffs,
            lattice_of(box),
            neighbors.sizes,
        )
        self._build = neighbors.n_builds


@compiled
def _in_rows(order_s: Ints, like: Floats, field_nc: Floats) -> Floats:
    """A field over the particles as rows in cell order; all that is not of a particle as in ``like``."""
    rows = like.copy()
    for s in range(len(order_s)):
        for c in range(3):
            rows[ROW * s + c] = field_nc[order_s[s], c]
    return rows


@compiled
def _forces_at(
    particles: Particles, lattice: Lattice, law: Forces, energy_t: Floats | None, mixing: Mixing | None,
    folded_nc: Floats, force_nc: Floats,
) -> float:  # fmt: skip
    """The energy at these positions, in the images of the list; the forces in the order of the particles."""
    rows, forces, order_s = particles.rows, particles.forces, particles.order_s
    for s in range(len(order_s)):
        for c in range(3):
            rows[ROW * s + c] = folded_nc[order_s[s], c]
    energy, _ = dynamics.add_up_forces(particles, lattice, law, energy_t, mixing, True)
    for s in range(len(order_s)):
        for c in range(3):
            force_nc[order_s[s], c] = forces[ROW * s + c]
    return energy


@compiled
def _chebyshev_stages(
    particles: Particles, lattice: Lattice, law: Forces, energy_t: Floats | None, mixing: Mixing | None, stage: int,
    coefficients: Coefficients, step: float, start: Floats, before: Floats, start_force: Floats,
) -> int:  # fmt: skip
    """Stages from ``stage`` on; the rows of the particles hold the last one, ``before`` the one before it.

    Returns the stage to go on with: the number of coefficients, or one before which the lists do not hold any more.
    """
    rows, forces, reference = particles.rows, particles.forces, particles.reference
    limit = 0.25 * particles.skin * particles.skin
    for j in range(stage, len(coefficients.mu_j)):
        if j > 1:
            dynamics.add_up_forces(particles, lattice, law, energy_t, mixing, None)
        else:
            forces[:] = start_force
        mu, nu = coefficients.mu_j[j], coefficients.nu_j[j]
        mu_h, gamma_h = step * coefficients.mu_h_j[j], step * coefficients.gamma_h_j[j]
        left = False
        for d in range(index(0), index(len(forces)), index(LANES)):
            # Differences: the fourth number of a row, its type or size, comes out as it was.
            origin, last = load(start, d), load(rows, d)
            way = mu * (last - origin) + nu * (load(before, d) - origin)
            new = origin + (way + (mu_h * load(forces, d) + gamma_h * load(start_force, d)))
            store(before, d, last)
            store(rows, d, new)
            away = new - load(reference, d)
            left |= any_beyond(sums_of_rows(away * away), limit)
        if left and j + 1 < len(coefficients.mu_j):
            return j + 1
    return len(coefficients.mu_j)
