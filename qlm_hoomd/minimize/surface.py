"""The energy surface of one glass at fixed box, as every minimiser sees it."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd.base.errors import ConvergenceError
from qlm_hoomd.base.interrupt import stop_if_overdue
from qlm_hoomd.mechanics import Bonds, Mechanics
from qlm_hoomd.minimize.report import MinimizeReport
from qlm_hoomd.numerics import vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.numerics.steps import Coefficients


class EnergySurface:
    """Energy, forces and second derivatives as functions of the positions, with a count of what was evaluated.

    Args:
        mechanics: evaluates the potential.
        glass: gives the box and the starting positions.
    """

    def __init__(self, mechanics: Mechanics, glass: Glass) -> None:
        self._mechanics = mechanics
        self._box = glass.box
        self.force_evaluations = 0
        self.hessian_products = 0

    def energy_forces(self, positions_nc: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Energy U and forces ((N, 3) ndarray) at these positions."""
        stop_if_overdue()
        self.force_evaluations += 1
        return self._mechanics.energy_forces(positions_nc, self._box)

    def chebyshev_step(
        self, start_nc: NDArray[np.float64], force_nc: NDArray[np.float64], coefficients: Coefficients, step: float
    ) -> NDArray[np.float64]:
        """See :meth:`qlm_hoomd.mechanics.Mechanics.chebyshev_step`; each stage but the first evaluates the force."""
        self.force_evaluations += len(coefficients.mu_j) - 2
        return self._mechanics.chebyshev_step(start_nc, force_nc, self._box, coefficients, step)

    def evaluate(self, positions_nc: NDArray[np.float64]) -> Bonds:
        """Energy, forces and second derivatives at these positions, counted as one evaluation of the force."""
        stop_if_overdue()
        self.force_evaluations += 1
        self._mechanics.force_evaluations += 1
        return self._mechanics.bonds(positions_nc, self._box, 2)

    def bonds(self, positions_nc: NDArray[np.float64]) -> Bonds:
        """The interacting pairs at these positions, to second order."""
        return self._mechanics.bonds(positions_nc, self._box, 2)

    def report(
        self, method: str, tolerance: float, iterations: int, max_force: float, energy: float, notes: tuple[str, ...] = ()
    ) -> MinimizeReport:
        """The report of a minimisation that ends here.

        Raises:
            ConvergenceError: if ``max_force`` is not below ``tolerance``; it carries the report.
        """
        met = max_force < tolerance
        report = MinimizeReport(
            method=method,
            criterion=f"max_force < {tolerance:g}" if met else "none",
            iterations=iterations,
            force_evaluations=self.force_evaluations,
            hessian_products=self.hessian_products,
            max_force=max_force,
            energy=energy,
            notes=notes,
        )
        if not met:
            raise ConvergenceError(
                f"{method} stopped after {iterations} iterations at max|F| = {max_force:.3g}; expected less than {tolerance:g}."
                + (f" {notes[-1]}." if notes else ""),
                report,
            )
        return report


def max_norm(vector_nc: NDArray[np.float64]) -> float:
    """Largest length of a particle's vector ((N, 3) ndarray), e.g. max|F|; NaN if any component is NaN."""
    return float(vectors.largest_norm(vector_nc))


def without_drift(vector_nc: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vector ((N, 3) ndarray) less its mean: translations cost no energy and must not be moved along."""
    return np.asarray(vector_nc - vector_nc.mean(axis=0))
