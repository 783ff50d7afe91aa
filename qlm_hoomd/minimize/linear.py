"""The linear system of a Newton step, H . x = b, for the Hessian of one configuration."""

# Array names carry their axes: n particles, s particles in the order of the rows, c Cartesian components, k numbers of a block.

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qlm_hoomd.numerics import solve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.mechanics import Bonds


class Solution(NamedTuple):
    """What :meth:`LinearSystem.solve` found.

    Args:
        x_nc: ((N, 3) ndarray) the solution.
        n_products: Hessian products that it took; an iteration, two triangular sweeps, counts as one.
        negative: whether the Hessian is not positive definite; ``x_nc`` is then what was reached before that showed.
    """

    x_nc: NDArray[np.float64]
    n_products: int
    negative: bool


class LinearSystem:
    """The Hessian of one configuration, ready to be solved with: conjugate gradients under symmetric block Gauss-Seidel.

    Rows follow the runs of the half list, so that what is close in space is close in memory.

    Args:
        bonds: the interacting pairs, to second order.
    """

    def __init__(self, bonds: Bonds) -> None:
        self._order_s = bonds.owner_r
        self._triangle = solve.upper_triangle(
            bonds.owner_r, bonds.first_r, bonds.j_p, bonds.r_pc, bonds.phi_kp[1], bonds.phi_kp[2]
        )
        self._diagonal_sk = np.empty((bonds.n_particles, 6))
        self._inverse_sk = np.empty((bonds.n_particles, 6))
        self._negative = bool(solve.diagonal_of_triangle(*self._triangle, 0.0, bonds.flat, self._diagonal_sk, self._inverse_sk))

    def solve(self, right_nc: NDArray[np.float64], target: float, max_products: int) -> Solution:
        """X with H . x = right.

        Args:
            right_nc: ((N, 3) ndarray) right-hand side, without a mean: translations cost no energy.
            target: largest length of a particle's residual at the end, in units of ``right_nc``.
            max_products: give up the accuracy after so many.
        """
        return self._solved(right_nc, target, max_products)

    def solve_lifted(
        self, mode_nc: NDArray[np.float64], lift: float, right_nc: NDArray[np.float64], target: float, max_products: int
    ) -> Solution:
        """X with (H + lift mode mode^T) . x = right, to a residual norm of ``target``.

        With one direction made stiff this is positive definite where H has a soft or a negative eigenvalue along the mode, and
        on the complement of the mode the solutions are those of H there.
        """
        return self._solved(right_nc, target, max_products, mode_nc[self._order_s], lift)

    def _solved(
        self, right_nc: NDArray[np.float64], target: float, max_products: int, *lifted: NDArray[np.float64] | float
    ) -> Solution:
        if self._negative:
            return Solution(np.zeros_like(right_nc), 0, negative=True)
        x_sc, n_products, negative = solve.gauss_seidel_gradient(
            *self._triangle, self._diagonal_sk, self._inverse_sk, right_nc[self._order_s], target, max_products, *lifted
        )
        x_nc = np.empty_like(right_nc)
        x_nc[self._order_s] = x_sc
        return Solution(x_nc, int(n_products), bool(negative))

    def preconditioned(self, vector_nc: NDArray[np.float64]) -> NDArray[np.float64]:
        """((N, 3) ndarray) one symmetric Gauss-Seidel sweep towards H^-1 . vector, as a positive definite matrix would do it."""
        out_nc = np.empty_like(vector_nc)
        solve.gauss_seidel(*self._triangle, self._diagonal_sk, self._inverse_sk, self._order_s, vector_nc, out_nc)
        return out_nc
