"""Energy, forces, stress and their derivatives of a pair-potential glass. Float64 throughout.

Conventions: w = r^2; r_ij = r_j - r_i; phi', phi'', ... are derivatives with respect to w. Stress is dU/dgamma / V, positive
when it resists positive strain. Formulas in w: notes of the project, section 2.1, verified by finite differences in the tests.
"""

# Array names carry their axes: n particles, p pairs, c Cartesian components, k derivative order, b blocks of the Hessian.

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd.numerics import pairs, steps
from qlm_hoomd.numerics.bonds import DILATION, SHEAR_XY, SHEAR_XZ, SHEAR_YZ, Bonds
from qlm_hoomd.numerics.fused import FusedForces
from qlm_hoomd.numerics.neighbors import NeighborCandidates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.box import Box
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.numerics.steps import Coefficients
    from qlm_hoomd.potentials import PairPotential


__all__ = ["DILATION", "SHEAR_XY", "SHEAR_XZ", "SHEAR_YZ", "Bonds", "Mechanics", "bonds_of"]


class Mechanics:
    """Evaluates one pair potential for one set of particles, keeping the neighbour candidates between calls.

    Args:
        potential: the pair potential.
        typeid: ((N,) ndarray of int) type of each particle.
        skin: Verlet skin [length]; small (0.1) near a minimum, larger (0.3) in a liquid.
        sizes: ((N,) ndarray) size of each particle, as the glass has them; None where it has none [length].

    Raises:
        InputError: if there are types that the potential does not know, sizes that it does not know, or no sizes for one that
            makes lengths of them.
    """

    def __init__(
        self,
        potential: PairPotential,
        typeid: NDArray[np.int32],
        skin: float = 0.15,
        sizes: NDArray[np.float64] | None = None,
    ) -> None:
        self.potential = potential
        cutoffs_tt = potential.cutoffs()
        self.neighbors = NeighborCandidates(cutoffs_tt, typeid, skin, potential.sizes_of(sizes, len(typeid)))
        law = potential.scaled_law()
        self._fused = None if law is None else FusedForces(law, len(cutoffs_tt), self.neighbors)
        self._cutoff2_t = cutoffs_tt.ravel() ** 2
        self.force_evaluations = 0
        self._kept: tuple[NDArray[np.float64], Box, int, Bonds] | None = None

    @property
    def memory(self) -> tuple[NDArray[np.float64], Box] | None:
        """All that sums remember of earlier calls: for which positions and box the neighbour candidates were found."""
        return self.neighbors.reference

    def recall(self, memory: tuple[NDArray[np.float64], Box] | None) -> None:
        """Go on as the object that had this :attr:`memory`, to the last bit."""
        if memory is not None:
            self.neighbors.update(*memory)

    def energy_forces(self, positions_nc: NDArray[np.float64], box: Box) -> tuple[float, NDArray[np.float64]]:
        """Energy U [energy] and forces -dU/dr ((N, 3) ndarray [energy / length])."""
        self.force_evaluations += 1
        positions_nc = _writeable(positions_nc)
        if self._fused is not None:
            return self._fused.energy_forces(positions_nc, box)
        neighbors = self.neighbors
        neighbors.update(positions_nc, box)
        r_pc, r2_p = neighbors.pair_vectors(positions_nc, box)
        scale_p = neighbors.inverse_length2_p
        phi_kp = self._derivatives(r2_p if scale_p is None else r2_p * scale_p, neighbors.pairtype_p, scale_p, 1)
        force_nc = np.zeros_like(positions_nc)
        pairs.add_forces(neighbors.owner_r, neighbors.first_r, neighbors.partner_p, r_pc, phi_kp[1], force_nc)
        return float(phi_kp[0].sum()), force_nc

    def chebyshev_step(
        self, start_nc: NDArray[np.float64], force_nc: NDArray[np.float64], box: Box, coefficients: Coefficients, step: float
    ) -> NDArray[np.float64]:
        """Where the overdamped dynamics dr/dt = F leads in one step of the Runge-Kutta-Chebyshev method.

        Args:
            start_nc: ((N, 3) ndarray) positions at the start [length].
            force_nc: ((N, 3) ndarray) forces there [energy / length].
            box: the box.
            coefficients: of the stages.
            step: time step.
        """
        if self._fused is not None:
            self.force_evaluations += len(coefficients.mu_j) - 2
            return self._fused.chebyshev_step(_writeable(start_nc), force_nc, box, coefficients, step)
        return steps.chebyshev_step(
            lambda there_nc: self.energy_forces(there_nc, box)[1], start_nc, force_nc, coefficients, step
        )

    def bonds(self, positions_nc: NDArray[np.float64], box: Box, order: int = 2) -> Bonds:
        """The interacting pairs with derivatives up to ``order`` (2: Hessian, 3: kappa, 4: chi), or more if they are at hand.

        The last answer is kept: whoever asks again for the state at which a minimiser stopped gets it for nothing.
        """
        if self._kept is not None:
            kept_nc, kept_box, kept_build, kept = self._kept
            # Another list would sum in another order: what is kept must be what would be computed now, to the last bit.
            same = box == kept_box and kept_build == self.neighbors.n_builds and order < len(kept.phi_kp)
            if same and np.array_equal(positions_nc, kept_nc):
                return kept
        neighbors = self.neighbors
        writeable_nc = _writeable(positions_nc)
        neighbors.update(writeable_nc, box)
        r_pc, r2_p = neighbors.pair_vectors(writeable_nc, box)
        w_p = r2_p if neighbors.inverse_length2_p is None else r2_p * neighbors.inverse_length2_p
        owner_r, first_r, i_p, j_p, pairtype_p, r_pc, w_p = pairs.keep_interacting(
            neighbors.owner_r, neighbors.first_r, neighbors.partner_p, neighbors.pairtype_p, r_pc, w_p, self._cutoff2_t
        )
        scale_p = None if neighbors.sizes is None else neighbors.sizes.inverse_length2(i_p, j_p)
        phi_kp = self._derivatives(w_p, pairtype_p, scale_p, order)
        bonds = Bonds(i_p, j_p, owner_r, first_r, r_pc, phi_kp, len(positions_nc), box.volume, box.dimensions)
        self._kept = positions_nc.copy(), box, neighbors.n_builds, bonds
        return bonds

    def _derivatives(
        self, w_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], scale_p: NDArray[np.float64] | None, order: int
    ) -> NDArray[np.float64]:
        """d^k phi / d(r^2)^k of pairs, ((order + 1, P) ndarray).

        ``scale`` is 1 / l^2 of pairs whose sizes make their length, and w = r^2 / l^2; without it w = r^2.
        """
        phi_kp = self.potential.derivatives(w_p, pairtype_p, order)
        if scale_p is not None:
            for k in range(1, order + 1):
                phi_kp[k:] *= scale_p
        return phi_kp


def _writeable(positions_nc: NDArray[np.float64]) -> NDArray[np.float64]:
    # Numba compiles every kernel anew for read-only arrays, which is what a Glass holds; a copy costs microseconds.
    return positions_nc if positions_nc.flags.writeable else positions_nc.copy()


def bonds_of(glass: Glass, potential: PairPotential, order: int = 2) -> Bonds:
    """The interacting pairs of one glass, for a single look; no skin, so that no pair is searched in vain."""
    return Mechanics(potential, glass.typeid, skin=0.0, sizes=glass.sizes).bonds(glass.positions, glass.box, order)
