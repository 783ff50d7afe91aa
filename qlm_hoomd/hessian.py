"""The Hessian of a glass at rest, and linear systems with it."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qlm_hoomd.base.display import Computation, in_words
from qlm_hoomd.base.errors import ConvergenceError, InputError
from qlm_hoomd.base.interrupt import stop_if_overdue
from qlm_hoomd.mechanics import Bonds, bonds_of
from qlm_hoomd.minimize.linear import LinearSystem
from qlm_hoomd.minimize.surface import max_norm, without_drift
from qlm_hoomd.potentials import PairPotential

if TYPE_CHECKING:
    from collections.abc import Mapping

    import scipy.sparse as sp
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass


class Hessian(Computation):
    """Second derivative of the energy of a glass at a minimum.

    Args:
        potential: the pair potential; the same object that made the glass.
        order: highest derivative of the potential kept in :attr:`bonds` (2 suffices for modes, 4 for kappa and chi).
        force_tolerance: refuse a glass with a larger force [energy / length]; a frame in float32 is off by about 2e-4.

    Raises:
        InputError: if the potential is none.

    After :meth:`compute`: ``bonds``, the interacting pairs with the potential's derivatives.
    """

    bonds: Bonds

    def __init__(self, potential: PairPotential, *, order: int = 2, force_tolerance: float = 1e-8) -> None:
        if not isinstance(potential, PairPotential):
            raise InputError(
                f"the potential is a {type(potential).__name__}; expected a PairPotential, as GlassModel.potential is one."
            )
        self.potential = potential
        self.order = order
        self.force_tolerance = force_tolerance

    def _settings(self) -> Mapping[str, Any]:
        return {"potential": self.potential, "order": self.order, "force_tolerance": self.force_tolerance}

    def _headline(self) -> str:
        return in_words(self.bonds) if hasattr(self, "bonds") else ""

    def compute(self, glass: Glass) -> Hessian:
        """Evaluate the interacting pairs of ``glass``.

        Raises:
            InputError: if the glass is not at a minimum.
        """
        bonds = bonds_of(glass, self.potential, self.order)
        largest = max_norm(bonds.forces)
        if not largest <= self.force_tolerance:
            raise InputError(
                f"the glass has max|F| = {largest:.3g}; expected at most {self.force_tolerance:g} for a Hessian. Relax it "
                "first, or raise force_tolerance if you know what the modes of a moving state mean."
            )
        self.bonds = bonds
        return self

    @property
    def matrix(self) -> sp.bsr_array:
        """((dN, dN) sparse array of dxd blocks, d dimensions) d2U/dr dr [energy / length^2]."""
        return self.bonds.hessian()


def solve(
    bonds: Bonds, right_nc: NDArray[np.float64], *, tolerance: float = 1e-8, max_products: int = 20_000
) -> NDArray[np.float64]:
    """((N, 3) ndarray) the solution of H . x = right, orthogonal to translations, by preconditioned conjugate gradients.

    Args:
        bonds: pairs of a glass at a minimum.
        right_nc: ((N, 3) ndarray) right-hand side; its mean is taken out.
        tolerance: longest residual of a particle, relative to the longest vector of ``right_nc``.
        max_products: Hessian products before giving up.

    Raises:
        ConvergenceError: on negative curvature (no minimum) or without convergence.
    """
    stop_if_overdue()
    right_nc = without_drift(right_nc)
    solution_nc, n_products, negative = LinearSystem(bonds).solve(right_nc, tolerance * max_norm(right_nc), max_products)
    if negative or n_products >= max_products:
        reason = "negative curvature, the state is a saddle" if negative else f"no convergence in {n_products} products"
        raise ConvergenceError(f"H . x = b not solved: {reason}.")
    return without_drift(solution_nc)
