"""Elasticity of a glass at rest: moduli with their non-affine part, the softest direction of shear, the non-affine velocity.

In two dimensions there is one plane of shear, two directions of it, and moduli are energies per area.

Conventions: strains deform r -> exp(epsilon) r, so that every traceless epsilon keeps the volume; a shear strain gamma in the
plane xy is epsilon_xy = epsilon_yx = gamma / 2. Stress is dU/depsilon / V, positive when it resists.
"""

# Array names carry their axes: n particles, c Cartesian components, p pairs, s the directions of shear, five in three
# dimensions.

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd.base.display import Displayed
from qlm_hoomd.hessian import solve
from qlm_hoomd.mechanics import DILATION, SHEAR_XY, SHEAR_XZ, SHEAR_YZ, Bonds
from qlm_hoomd.minimize.surface import without_drift

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.potentials import PairPotential

# A basis of the traceless symmetric strains, each as large as a simple shear by gamma = 1: xy, xz, yz, and two of unequal axes.
_SHEARS_SCC = np.array(
    [
        0.5 * (SHEAR_XY + SHEAR_XY.T),
        0.5 * (SHEAR_XZ + SHEAR_XZ.T),
        0.5 * (SHEAR_YZ + SHEAR_YZ.T),
        np.diag([0.5, -0.5, 0.0]),
        np.diag([0.5, 0.5, -1.0]) / np.sqrt(3.0),
    ]
)
_SHEARS_OF_PLANE_SCC = _SHEARS_SCC[[0, 3]]


@dataclass(frozen=True, slots=True, repr=False)
class ElasticModuli(Displayed):
    """Elastic moduli of a glass at rest, with their non-affine part [energy / length^3; energy / length^2 in two dimensions].

    Args:
        shear_modulus: G for the shear x += gamma y, the slope of the stress-strain curve.
        shear_modulus_mean: mean of G over the planes xy, xz, yz; in two dimensions there is one.
        born_shear_modulus: affine part of G, mean over these planes.
        bulk_modulus: K = -V dp/dV.
        softest_shear_modulus: smallest G over all directions of shear. Negative: in some direction the glass gains energy
            by shearing, and stands only because the walls of its box do not move.
        dimensions: d, 2 or 3.
    """

    shear_modulus: float
    shear_modulus_mean: float
    born_shear_modulus: float
    bulk_modulus: float
    softest_shear_modulus: float
    dimensions: int = 3

    @property
    def poisson_ratio(self) -> float:
        """Poisson ratio (d K - 2 G) / (d (d - 1) K + 2 G) of the isotropic solid with the mean G."""
        bulk, shear, d = self.bulk_modulus, self.shear_modulus_mean, float(self.dimensions)
        return (d * bulk - 2.0 * shear) / (d * (d - 1.0) * bulk + 2.0 * shear)

    @property
    def shear_stable(self) -> bool:
        """Whether the energy grows under a small shear of every direction (Krishnan, Ramola, Karmakar, arXiv:2104.09181)."""
        return self.softest_shear_modulus > 0.0

    def row(self) -> dict[str, float]:
        """All moduli and the Poisson ratio, by name."""
        return {name: getattr(self, name) for name in _MODULI} | {"poisson_ratio": self.poisson_ratio}

    def sound_speeds(self, density: float) -> tuple[float, float]:
        """Transverse and longitudinal speed sqrt(G / rho), sqrt((K + (2 - 2/d) G) / rho) [length / t_c], for unit mass."""
        shear = max(self.shear_modulus_mean, 0.0)
        longitudinal = self.bulk_modulus + (4.0 * shear / 3.0 if self.dimensions == 3 else shear)
        return float(np.sqrt(shear / density)), float(np.sqrt(longitudinal / density))


_MODULI = tuple(modulus.name for modulus in fields(ElasticModuli) if modulus.name != "dimensions")


def elastic_moduli(bonds: Bonds) -> ElasticModuli:
    """Moduli at fixed strain: affine curvature less Xi . H^-1 . Xi (Maloney and Lemaitre, PRE 74, 016118 (2006), eq. 24).

    For a dilation r -> (1 + epsilon) r, K = U'' / (d^2 V) + (1 - 1/d) p, where U'' is the relaxed second derivative. A simple shear
    by gamma differs from the pure one by a rotation and by normal strains of order gamma^2, hence the difference of normal
    stresses between G here and the diagonal of the tensor of which the softest modulus is the smallest eigenvalue.

    Where the force jumps at the cut-off these are slopes up to the strain at which the first pair crosses it, which is small
    in a large glass: see :func:`moduli_row`.

    Raises:
        ConvergenceError: if the glass is not at a minimum.
    """
    volume, d = bonds.volume, bonds.dimensions
    shears_scc = _SHEARS_OF_PLANE_SCC if bonds.flat else _SHEARS_SCC
    planes = (SHEAR_XY,) if bonds.flat else (SHEAR_XY, SHEAR_XZ, SHEAR_YZ)
    xi_snc = [without_drift(bonds.mixed_derivative(shear_cc)) for shear_cc in shears_scc]
    response_snc = [solve(bonds, xi_nc) for xi_nc in xi_snc]
    relaxation_ss = np.array([[np.vdot(xi_nc, response_nc) for response_nc in response_snc] for xi_nc in xi_snc])
    tensor_ss = (_affine_curvatures(bonds, shears_scc) - 0.5 * (relaxation_ss + relaxation_ss.T)) / volume
    # Where no force acts a rotation has no mixed derivative, so simple and pure shear relax alike.
    born = [bonds.affine_curvature(plane_cc) / volume for plane_cc in planes]
    shear = [born[s] - relaxation_ss[s, s] / volume for s in range(len(planes))]
    xi_nc = without_drift(bonds.mixed_derivative(DILATION))
    dilation = bonds.affine_curvature(DILATION) - float(np.vdot(xi_nc, solve(bonds, xi_nc)))
    return ElasticModuli(
        shear_modulus=float(shear[0]),
        shear_modulus_mean=float(np.mean(shear)),
        born_shear_modulus=float(np.mean(born)),
        bulk_modulus=dilation / (d**2 * volume) + (d - 1.0) * bonds.pressure / d,
        softest_shear_modulus=float(np.linalg.eigvalsh(tensor_ss)[0]),
        dimensions=d,
    )


def moduli_row(bonds: Bonds, potential: PairPotential) -> tuple[dict[str, float | None], str]:
    """The moduli and the Poisson ratio by name, and why they are withheld, in a sentence; empty where they are not.

    They are where the force jumps at the cut-off. Each pair that crosses it adds a jump of the stress, an impulse of the second
    derivatives that no second derivative has (Xu, Wittmer, Polinska, Baschnagel, PRE 86, 046705 (2012)). Few pairs of a glass
    at rest are so close to the cut-off that a small strain brings them across, so the slope falls with the strain, and no
    single number is the modulus. Smeared over shells of 0.5 to 8 % of the cut-off, the impulses gave 2 to 7 %
    less than a strain of 1e-3 did, in two glasses of N = 1000.

    Raises:
        ConvergenceError: if the glass is not at a minimum.
    """
    moduli = elastic_moduli(bonds)
    if not potential.jumps_at_cutoff(1):
        return dict(moduli.row()), ""
    return dict.fromkeys(moduli.row()), (
        f"no elastic moduli: the force of {type(potential).__name__} jumps at the cut-off, and they depend on how far is "
        f"strained. Up to the first pair that crosses it G = {moduli.shear_modulus:.5g} and K = {moduli.bulk_modulus:.5g}, "
        "less beyond. A force that is continuous (q: 1 or more) has moduli"
    )


def nonaffine_velocity(bonds: Bonds, gradient_cc: NDArray[np.float64] = SHEAR_XY) -> NDArray[np.float64]:
    """((N, 3) ndarray) dr'/dgamma = -H^-1 . Xi, how the particles move beyond the affine shear [length].

    Source: Maloney and Lemaitre, PRE 74, 016118 (2006), eq. 14.

    Raises:
        ConvergenceError: if the glass is not at a minimum.
    """
    return -solve(bonds, without_drift(bonds.mixed_derivative(gradient_cc)))


def residual_shear_stress(bonds: Bonds) -> float:
    """Size of the deviatoric stress, s = sqrt(s_ij s_ij / 2) [energy / length^3]: abs(sigma_xy) for a stress sigma_xy alone."""
    stress_cc = bonds.virial / bonds.volume
    d = bonds.dimensions
    deviator_cc = stress_cc[:d, :d] - np.trace(stress_cc) / d * np.eye(d)
    return float(np.sqrt(0.5 * (deviator_cc**2).sum()))


def stress_row(bonds: Bonds) -> dict[str, float]:
    """Pressure, energy per particle, shear stress and residual shear stress, by name."""
    return {
        "pressure": bonds.pressure,
        "energy": bonds.energy / bonds.n_particles,
        "stress_xy": bonds.stress_xy,
        "residual_shear_stress": residual_shear_stress(bonds),
    }


STATE_COLUMNS = (
    *_MODULI, "poisson_ratio", "pressure", "energy", "stress_xy", "residual_shear_stress",
)  # fmt: skip
"""Columns that the tables have for the state of a glass: those of :meth:`ElasticModuli.row` and of :func:`stress_row`."""


def _affine_curvatures(bonds: Bonds, shears_scc: NDArray[np.float64]) -> NDArray[np.float64]:
    """((S, S) ndarray) d2U / depsilon depsilon for r -> exp(epsilon) r at fixed non-affine positions [energy].

    w = r . exp(2 epsilon) . r has the derivatives 2 r.S.r and 4 (S.r) . (S'.r) for two symmetric strains S, S'.
    """
    sheared_spc = np.einsum("sij,pj->spi", shears_scc, bonds.r_pc)
    first_sp = 2.0 * np.einsum("spi,pi->sp", sheared_spc, bonds.r_pc)
    weighted_spc = 4.0 * bonds.phi_kp[1][None, :, None] * sheared_spc
    return np.asarray((first_sp * bonds.phi_kp[2]) @ first_sp.T + np.einsum("spi,tpi->st", weighted_spc, sheared_spc))
