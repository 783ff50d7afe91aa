"""Location of the saddle-node at which an elastic branch ends, by Newton's method on the extended system.

The unknowns are the configuration r, the strain gamma and the critical mode psi; the equations F(r, gamma) = 0, H psi = 0,
|psi| = 1 (Moore and Spence, SIAM J. Numer. Anal. 17, 567 (1980)). The Hessian H is singular at the solution, but not on the
complement of psi. So every linear system is solved there by conjugate gradients on P H P, P = 1 - psi psi^T, whose condition
does not depend on how close the fold is; what is left along psi are two scalar equations for the displacement s along psi and
the strain:

    lambda + kappa s = 0,    f = lambda s + kappa s^2 / 2 + C dgamma + ...

with lambda = psi.H.psi, kappa = U''':psi psi psi, C = psi.Xi and f = psi.F. In s the branch is smooth and turns around at the
fold, where its strain is largest (Lyapunov and Schmidt's reduction to the soft coordinate).
"""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qlm_quasistatic.events import Fold

from qlm_hoomd.engines.base import Observables
from qlm_hoomd.errors import ConvergenceError
from qlm_hoomd.minimize.linear import LinearSystem
from qlm_hoomd.minimize.surface import max_norm, without_drift

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.mechanics import Bonds, Mechanics

# Longest displacement of a particle along psi in one iteration [length]: the cubic expansion holds about so far.
_LONGEST_MOVE = 0.03
# A residual force beyond this is no neighbourhood of the branch [energy / length].
_LARGEST_FORCE = 5.0
# Longest displacement of a particle in one iteration with all that follows psi [length], and largest change of the strain.
_LONGEST_STEP = 0.3
_LONGEST_RISE = 0.05
_MAX_ITERATIONS = 25
# Eigenvalue that the lift adds to the soft direction [energy / length^2]: well above that of any soft mode.
_LIFT = 50.0
_MAX_PRODUCTS = 4000


class SoftMode:
    """One soft direction of a configuration, and solutions of linear systems on its complement.

    Args:
        bonds: pairs of the configuration, to third order.
        mode_nc: ((N, 3) ndarray) direction, of any length and sign.
    """

    def __init__(self, bonds: Bonds, mode_nc: NDArray[np.float64]) -> None:
        self.bonds = bonds
        self.force_nc = bonds.forces
        self.xi_nc = bonds.mixed_derivative()
        self.products = 0
        self._system: LinearSystem | None = None
        self.turn(mode_nc)

    def turn(self, mode_nc: NDArray[np.float64]) -> None:
        """Take another direction in the same configuration. Its sign is chosen so that the coupling is positive."""
        mode_nc = without_drift(mode_nc)
        mode_nc /= math.copysign(float(np.linalg.norm(mode_nc)), float(np.vdot(self.xi_nc, mode_nc)))
        self.mode_nc = mode_nc
        product_nc = self.bonds.product(mode_nc)
        self.products += 1
        self.eigenvalue = float(np.vdot(mode_nc, product_nc))
        self.residual_nc = product_nc - self.eigenvalue * mode_nc
        self.coupling = float(np.vdot(mode_nc, self.xi_nc))
        self.third_nc = self.bonds.third_contraction(mode_nc)
        self.kappa = float(np.vdot(mode_nc, self.third_nc))

    @property
    def distance(self) -> float:
        """Strain to the fold by the normal form, lambda^2 / (2 kappa C); negative if the fold lies behind."""
        return self.eigenvalue**2 / (2.0 * self.kappa * self.coupling)

    def solve(self, right_nc: NDArray[np.float64], accuracy: float, floor: float = 0.0) -> NDArray[np.float64]:
        """((N, 3) ndarray) x orthogonal to the mode with P H P x = P right, to the larger of a relative and an absolute residual.

        Raises:
            ConvergenceError: on negative curvature, i.e. a second unstable direction, or without convergence.
        """
        if self._system is None:
            self._system = LinearSystem(self.bonds)
        right_nc = right_nc - float(np.vdot(self.mode_nc, right_nc)) * self.mode_nc
        target = max(accuracy * float(np.linalg.norm(right_nc)), floor)
        solution_nc, n_products, negative = self._system.solve_lifted(self.mode_nc, _LIFT, right_nc, target, _MAX_PRODUCTS)
        self.products += n_products
        if negative or n_products >= _MAX_PRODUCTS:
            raise ConvergenceError(
                "a second unstable direction besides the critical mode" if negative
                else f"a linear system is not solved after {n_products} Hessian products"
            )  # fmt: skip
        solution_nc = without_drift(solution_nc)
        return solution_nc - float(np.vdot(self.mode_nc, solution_nc)) * self.mode_nc


def locate(
    mechanics: Mechanics, glass: Glass, mode_nc: NDArray[np.float64], *, tolerance: float = 1e-10, accuracy: float = 1e-11
) -> Fold:
    """The fold of the branch on which ``glass`` lies, approached along the soft direction ``mode``.

    Args:
        mechanics: evaluates the potential.
        glass: a minimum not far from the fold.
        mode_nc: ((N, 3) ndarray) guess of the critical mode, of any length and sign.
        tolerance: largest force at the fold [energy / length].
        accuracy: largest error of its strain.

    Raises:
        ConvergenceError: if there is no fold ahead in this direction, or the iteration does not get there.
    """
    start = glass.strain
    # Loose linear solves do where kappa is of order one. Close to a cusp, where it nearly vanishes, their errors are larger
    # than what decides, and the iteration wanders.
    for linear in (_Linear(), _ACCURATE):
        fold = _iterate(mechanics, glass, mode_nc, tolerance, accuracy, linear)
        if fold is not None:
            return fold
    raise ConvergenceError(f"no fold after {_MAX_ITERATIONS} iterations from strain {start:.9f}")


@dataclass(frozen=True, slots=True)
class _Linear:
    """Relative residuals of the linear systems of an iteration.

    Args:
        turn: of the correction of the mode, before the force is below the tolerance.
        relax: of the relaxation, at most; it becomes smaller with the force.
        drag: of the response to strain.
        bend: of the response to the mode.
        bend_from: part of the longest move below which the bend is left out.
    """

    turn: float = 0.03
    relax: float = 0.1
    drag: float = 0.01
    bend: float = 0.1
    bend_from: float = 0.1


_ACCURATE = _Linear(1e-4, 1e-4, 1e-4, 1e-4, 0.0)


def _iterate(
    mechanics: Mechanics, glass: Glass, mode_nc: NDArray[np.float64], tolerance: float, accuracy: float, linear: _Linear
) -> Fold | None:
    """Newton's iteration; None if it does not end."""
    drag_nc: NDArray[np.float64] | None = None
    products = 0
    for _ in range(_MAX_ITERATIONS):
        soft = SoftMode(mechanics.bonds(glass.positions, glass.box, 3), mode_nc)
        largest = max_norm(soft.force_nc)
        if not largest < _LARGEST_FORCE:
            raise ConvergenceError(f"the iteration left the branch: max|F| = {largest:.3g} at strain {glass.strain:.9f}")
        settled = largest < tolerance
        # Newton's correction of the eigenvector at eigenvalue zero; it converges quadratically as the eigenvalue vanishes.
        turned = soft.solve(-soft.residual_nc, min(1e-3, linear.turn) if settled else linear.turn, 1e-9)
        soft.turn(soft.mode_nc + turned)
        if soft.kappa <= 0.0:
            raise ConvergenceError(f"no fold ahead in this direction at strain {glass.strain:.9f}: kappa = {soft.kappa:.3g}")
        if settled and soft.distance < accuracy:
            break
        # What the branch does on the complement: relax the force, follow the strain, bend with the mode.
        relax_nc = soft.solve(
            soft.force_nc, max(min(linear.relax, math.sqrt(largest)), min(linear.relax, 1e-3)), 0.1 * tolerance
        )
        if drag_nc is None:
            drag_nc = soft.solve(-soft.xi_nc, linear.drag)
        move = -soft.eigenvalue / soft.kappa
        longest = _LONGEST_MOVE / max_norm(soft.mode_nc)
        move = min(max(move, -longest), longest)
        bend_nc = soft.solve(-soft.third_nc, linear.bend) if abs(move) > linear.bend_from * longest else np.zeros_like(drag_nc)
        rise = (
            float(np.vdot(soft.mode_nc, soft.force_nc))
            - move * (soft.eigenvalue + 0.5 * soft.kappa * move)
            - float(np.vdot(soft.residual_nc + move * soft.third_nc, relax_nc))
        ) / soft.coupling
        products += soft.products
        displacement_nc = relax_nc + move * soft.mode_nc + 0.5 * move**2 * bend_nc + rise * drag_nc
        # Not "is beyond": NaN ends it too.
        if not (abs(rise) < _LONGEST_RISE and max_norm(displacement_nc) < _LONGEST_STEP):
            raise ConvergenceError(f"the iteration left the branch: a step of {rise:.3g} from strain {glass.strain:.9f}")
        glass = glass.at_strain(glass.strain + rise)
        glass = glass.moved(glass.positions + displacement_nc)
        mode_nc = soft.mode_nc + move * bend_nc
    else:
        return None
    # Solved far enough to meet a second unstable direction if there is one.
    bend_nc = soft.solve(-soft.third_nc, 1e-4)
    products += soft.products
    bonds = soft.bonds
    return Fold(
        strain_c=glass.strain,
        error=soft.distance + float(np.linalg.norm(soft.force_nc)) / soft.coupling,
        glass=glass,
        observables=Observables(bonds.energy / glass.n_particles, bonds.stress_xy, bonds.pressure, largest),
        mode=soft.mode_nc,
        bend=bend_nc,
        kappa=soft.kappa,
        coupling=soft.coupling,
        eigenvalue=soft.eigenvalue,
        hessian_products=products,
    )
