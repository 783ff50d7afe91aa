"""The interacting pairs of a configuration, from which every derivative of its energy follows.

Conventions: w = r^2; r_ij = r_j - r_i; phi', phi'', ... are derivatives with respect to w. Stress is dU/dgamma / V, positive
when it resists positive strain. Formulas in w: notes of the project, section 2.1, verified by finite differences in the tests.
"""

# Array names carry their axes: n particles, r runs of the half list, p pairs, c Cartesian components, d = 3N degrees of
# freedom, k derivative order, b blocks of the Hessian.

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from numpy.typing import NDArray

from qlm_hoomd.base.display import Displayed
from qlm_hoomd.numerics import forms, pairs

# Velocity gradient dr = E . r of the shear that the engine applies: x += gamma y.
SHEAR_XY = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
SHEAR_XZ = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
SHEAR_YZ = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
DILATION = np.eye(3)


@dataclass(frozen=True, eq=False, repr=False)
class Bonds(Displayed):
    """The interacting pairs of one configuration, with the pair potential's derivatives: every derivative of U follows.

    Args:
        i_p: ((P,) ndarray of int32) first particle of each pair; pairs with the same one are contiguous.
        j_p: ((P,) ndarray of int32) second particle.
        owner_r: ((R,) ndarray of int32) first particle of each run of pairs.
        first_r: ((R + 1,) ndarray of int64) where the runs begin.
        r_pc: ((P, 3) ndarray) vector from the first to the second particle [length].
        phi_kp: ((K + 1, P) ndarray) d^k phi / dw^k [energy / length^(2k)].
        n_particles: number of particles N.
        volume: volume of the box [length^3]; its area in two dimensions.
        dimensions: d, 2 or 3. In two, vectors stay (N, 3) arrays with z = 0, and so does every product with them.
    """

    i_p: NDArray[np.int32]
    j_p: NDArray[np.int32]
    owner_r: NDArray[np.int32]
    first_r: NDArray[np.int64]
    r_pc: NDArray[np.float64]
    phi_kp: NDArray[np.float64]
    n_particles: int
    volume: float
    dimensions: int = 3

    def _headline(self) -> str:
        return f"{len(self.i_p)} interacting pairs of {self.n_particles} particles, derivatives to order {len(self.phi_kp) - 1}"

    @property
    def n_pairs(self) -> int:
        """Number of interacting pairs P."""
        return len(self.i_p)

    @property
    def energy(self) -> float:
        """Potential energy U [energy]."""
        return float(self.phi_kp[0].sum())

    @cached_property
    def forces(self) -> NDArray[np.float64]:
        """((N, 3) ndarray) -dU/dr [energy / length]."""
        force_nc = np.zeros((self.n_particles, 3))
        pairs.add_forces(self.owner_r, self.first_r, self.j_p, self.r_pc, self.phi_kp[1], force_nc)
        return force_nc

    @cached_property
    def virial(self) -> NDArray[np.float64]:
        """((3, 3) ndarray) sum over pairs of 2 phi' r r = dU/dE for a small affine deformation dr = E . r [energy]."""
        virial_cc = np.empty((3, 3))
        pairs.virial(self.r_pc, self.phi_kp[1], virial_cc)
        return virial_cc

    @property
    def stress_xy(self) -> float:
        """Shear stress dU/dgamma / V [energy / length^3]."""
        return float(self.virial[0, 1] / self.volume)

    @property
    def pressure(self) -> float:
        """Virial pressure -dU/dV [energy / length^3]."""
        return float(-np.trace(self.virial) / (self.dimensions * self.volume))

    @property
    def flat(self) -> bool:
        """Whether there are two dimensions only."""
        return self.dimensions == 2

    def in_space(self, field_nc: NDArray[np.float64]) -> NDArray[np.float64]:
        """((..., 3) ndarray) the field itself; in two dimensions its components in the plane, which are all that there is."""
        if self.flat:
            field_nc = field_nc.copy()
            field_nc[..., 2] = 0.0
        return field_nc

    def hessian(self) -> sp.bsr_array:
        """((dN, dN) sparse array of dxd blocks) d2U/dr dr [energy / length^2], pre-stress term included.

        Off-diagonal blocks are -(2 phi' 1 + 4 phi'' r r), diagonal ones minus the sum of their row.
        """
        column_b, rows_n, source_b = pairs.hessian_structure(self.n_particles, self.i_p, self.j_p)
        blocks_bcc = np.empty((len(column_b), 3, 3))
        pairs.hessian_blocks(rows_n, source_b, self.r_pc, self.phi_kp[1], self.phi_kp[2], blocks_bcc)
        d = self.dimensions
        size = d * self.n_particles
        blocks_bcc = np.ascontiguousarray(blocks_bcc[:, :d, :d])
        return sp.bsr_array((blocks_bcc, column_b, rows_n), shape=(size, size))

    def product(self, vectors_nc: NDArray[np.float64]) -> NDArray[np.float64]:
        """((N, 3) ndarray) Hessian times a vector, without assembling it."""
        out_nc = np.empty((self.n_particles, 3))
        pairs.hessian_product(
            self.owner_r,
            self.first_r,
            self.j_p,
            self.r_pc,
            self.phi_kp[1],
            self.phi_kp[2],
            np.ascontiguousarray(vectors_nc),
            out_nc,
        )
        return out_nc

    def largest_eigenvalue(self, tolerance: float = 1e-2) -> float:
        """Largest eigenvalue of the Hessian [energy / length^2], by Lanczos to a relative ``tolerance``, from below."""
        if not self.phi_kp[1:3].any():
            return 0.0
        size = 3 * self.n_particles
        operator = spl.LinearOperator((size, size), matvec=lambda x: self.product(x.reshape(-1, 3)).ravel(), dtype=np.float64)
        # The same start every time: the same configuration gives the same bytes.
        start_d = self.in_space(np.random.default_rng(0).normal(size=size).reshape(-1, 3)).ravel()
        return float(spl.eigsh(operator, k=1, which="LA", v0=start_d, tol=tolerance, return_eigenvectors=False)[0])

    def mixed_derivative(self, gradient_cc: NDArray[np.float64] = SHEAR_XY) -> NDArray[np.float64]:
        """((N, 3) ndarray) Xi = d2U / (dr dgamma) for the deformation dr = gamma E . r [energy / length].

        Its negative is the affine force of Maloney and Lemaitre, PRE 74, 016118 (2006).
        """
        out_nc = np.empty((self.n_particles, 3))
        pairs.mixed_derivative(
            self.owner_r,
            self.first_r,
            self.j_p,
            self.r_pc,
            self.phi_kp[1],
            self.phi_kp[2],
            np.ascontiguousarray(gradient_cc),
            out_nc,
        )
        return out_nc

    def affine_curvature(self, gradient_cc: NDArray[np.float64] = SHEAR_XY) -> float:
        """d2U/dgamma2 at fixed non-affine positions for the deformation r -> (1 + gamma E) r [energy]."""
        er_pc = self.r_pc @ gradient_cc.T
        first_p = 2.0 * np.einsum("pc,pc->p", self.r_pc, er_pc)
        second_p = 2.0 * np.einsum("pc,pc->p", er_pc, er_pc)
        return float(self.phi_kp[2] @ first_p**2 + self.phi_kp[1] @ second_p)

    def _along(self, mode_nc: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        z_pc = mode_nc[self.j_p] - mode_nc[self.i_p]
        return np.einsum("pc,pc->p", self.r_pc, z_pc), np.einsum("pc,pc->p", z_pc, z_pc), z_pc

    def curvature(self, mode_nc: NDArray[np.float64]) -> float:
        """Lambda = U'' : z z along the mode z ((N, 3) ndarray) = sum of 2 phi' b + 4 phi'' a^2, a = r.z_ij, b = z_ij^2."""
        a_p, b_p, _ = self._along(mode_nc)
        return float(2.0 * self.phi_kp[1] @ b_p + 4.0 * self.phi_kp[2] @ a_p**2)

    def kappa(self, mode_nc: NDArray[np.float64]) -> float:
        """Kappa = U''' : z z z along the mode z ((N, 3) ndarray): 6 sum(2 phi'' a b + 4/3 phi''' a^3). Needs order 3.

        For q = 2 phi''' jumps at the cut-off, so that kappa jumps when a pair crosses it; q >= 3 makes it continuous.
        """
        a_p, b_p, _ = self._along(mode_nc)
        return float(6.0 * (2.0 * self.phi_kp[2] @ (a_p * b_p) + (4.0 / 3.0) * self.phi_kp[3] @ a_p**3))

    def chi(self, mode_nc: NDArray[np.float64]) -> float:
        """Chi = U'''' : z z z z along the frozen direction z ((N, 3) ndarray). Needs order 4.

        24 sum(phi'' b^2 / 2 + 2 phi''' a^2 b + 2/3 phi'''' a^4). For q = 3 phi'''' jumps at the cut-off, so that this chi jumps
        when a pair crosses it; q >= 4 makes it smooth.
        """
        a_p, b_p, _ = self._along(mode_nc)
        return float(
            24.0
            * (0.5 * self.phi_kp[2] @ b_p**2 + 2.0 * self.phi_kp[3] @ (a_p**2 * b_p) + (2.0 / 3.0) * self.phi_kp[4] @ a_p**4)
        )

    def third_contraction(self, mode_nc: NDArray[np.float64]) -> NDArray[np.float64]:
        """((N, 3) ndarray) U''' : z z, the gradient of kappa / 3; its product with z is kappa. Needs order 3."""
        out_nc = np.empty((self.n_particles, 3))
        forms.cubic_contraction(
            self.owner_r,
            self.first_r,
            self.j_p,
            self.r_pc,
            12.0 * self.phi_kp[2],
            8.0 * self.phi_kp[3],
            np.ascontiguousarray(mode_nc),
            out_nc,
        )
        return out_nc
