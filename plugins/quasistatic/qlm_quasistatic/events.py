"""What is measured of a plastic event: the fold at which it begins, and the displacement that it makes."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd.display import Displayed
from qlm_hoomd.modes import participation_ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.box import Box
    from qlm_hoomd.engines.base import Observables
    from qlm_hoomd.glass import Glass


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Fold(Displayed):
    """The saddle-node at which an elastic branch ends: the minimum meets a saddle, and one eigenvalue of the Hessian vanishes.

    Along the branch lambda_min^2 = 2 kappa C (strain_c - gamma) to leading order, with kappa = U''' : psi psi psi and
    C = psi . Xi, Xi = d2U / (dr dgamma). The sign of psi is the one for which both are positive; the stable branch lies on the
    side of +psi, and the state falls along -psi.

    Args:
        strain_c: strain of the fold.
        error: estimate of the error of ``strain_c``.
        glass: the state at the fold, forces zero and one eigenvalue zero.
        observables: energy per particle, stress, pressure, largest force there.
        mode: ((N, 3) ndarray) critical mode psi, normalised.
        bend: ((N, 3) ndarray) d psi / ds for a displacement s along psi, the other modes relaxed [1 / length].
        kappa: cubic coefficient [energy / length^3].
        coupling: C, how strain drives the mode [energy / length].
        eigenvalue: lambda_min that is left [energy / length^2].
        hessian_products: Hessian products that the location took.
    """

    strain_c: float
    error: float
    glass: Glass
    observables: Observables
    mode: NDArray[np.float64]
    bend: NDArray[np.float64]
    kappa: float
    coupling: float
    eigenvalue: float
    hessian_products: int

    def _headline(self) -> str:
        located = f"at strain {self.strain_c:.10g} +- {self.error:.1g}, lambda_min {self.eigenvalue:.2g}"
        return f"{located}, participation ratio {self.participation_ratio:.3g}"

    @property
    def participation_ratio(self) -> float:
        """Participation ratio of the critical mode: 1 / N for one particle, 1 for all."""
        return float(participation_ratio(self.mode[None])[0])

    def distance(self, eigenvalue: float) -> float:
        """Strain left to the fold at a lowest ``eigenvalue`` [energy / length^2], from the normal form."""
        return eigenvalue**2 / (2.0 * self.kappa * self.coupling)


def core(displacement_nc: NDArray[np.float64], positions_nc: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """((3,) ndarray) centre of a displacement field [length], in the cell centred on the origin.

    The mean of the positions weighted by the squared displacements, in the periodic images closest to where most of it is: to
    the particle that moves most first, then to the mean itself until it stays.

    Args:
        displacement_nc: ((N, 3) ndarray) the field, of any unit.
        positions_nc: ((N, 3) ndarray) positions [length].
        box: the box of the positions.
    """
    weight_n = np.einsum("nc,nc->n", displacement_nc, displacement_nc)
    centre_c = positions_nc[int(weight_n.argmax())]
    for _ in range(50):
        shift_c = weight_n @ box.minimum_image(positions_nc - centre_c) / weight_n.sum()
        centre_c = centre_c + shift_c
        if np.abs(shift_c).max() < 1e-9 * box.mean_edge:
            break
    return box.wrap(centre_c)
