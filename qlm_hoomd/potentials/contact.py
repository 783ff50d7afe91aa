"""Contact potentials: harmonic and Hertzian spheres."""

# Array names carry their axes: p pairs, k order of the derivative, l power of w in the smoothing, t particle types
# (one t: pairs of types in the order of pairtype).

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from qlm_hoomd.numerics.jit import compiled
from qlm_hoomd.numerics.laws import Function, ScaledLaw
from qlm_hoomd.potentials.base import MAX_ORDER, Matrix, PairPotential

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _SoftSphere(PairPotential):
    """Spheres that repel where they overlap: phi(r) = epsilon / alpha (1 - r/sigma)^alpha for r < sigma, else 0.

    Source: O'Hern, Silbert, Liu, Nagel, PRE 68, 011306 (2003).
    """

    alpha: ClassVar[float]
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(default=1.0, description="energy scale [energy]")
    sigma: Matrix = Field(description="symmetric matrix of contact distances [length]")

    def cutoffs(self) -> NDArray[np.float64]:
        """((T, T) ndarray) contact distances [length]."""
        return np.array(self.sigma, dtype=np.float64)

    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """See :meth:`PairPotential.derivatives`."""
        factor_k = np.empty(MAX_ORDER + 1)
        factor_k[0] = self.epsilon / self.alpha
        for step in range(MAX_ORDER):
            factor_k[step + 1] = factor_k[step] * (step - self.alpha)
        out_kp = np.empty((order + 1, len(r2_p)))
        _contact_derivatives(r2_p, pairtype_p, self.cutoffs().ravel(), self.alpha, factor_k, out_kp)
        return out_kp

    def scaled_law(self) -> ScaledLaw | None:
        """See :meth:`PairPotential.scaled_law`."""
        law = {2.0: _harmonic_law, 2.5: _hertzian_law}.get(self.alpha)
        return law and ScaledLaw(Function(law), (self.epsilon,), 1.0 / self.cutoffs().ravel() ** 2, None, 1.0)


class Harmonic(_SoftSphere):
    """Harmonic spheres, phi = epsilon/2 (1 - r/sigma)^2: what foams are modelled with. The Hessian jumps where contacts form."""

    kind: Literal["harmonic"] = "harmonic"
    alpha: ClassVar[float] = 2.0


class Hertzian(_SoftSphere):
    """Hertzian spheres, phi = 2 epsilon/5 (1 - r/sigma)^(5/2): elastic grains, microgels.

    The third derivative diverges at contact, and with it kappa and chi of a mode that moves two particles that barely touch.
    """

    kind: Literal["hertzian"] = "hertzian"
    alpha: ClassVar[float] = 2.5


def _harmonic_law(w: Any, c: tuple[float, ...]) -> tuple[Any, Any]:
    """f and df/dw of :class:`Harmonic`."""
    root = np.sqrt(w)
    overlap = 1.0 - root
    return 0.5 * c[0] * overlap * overlap, -0.5 * c[0] * overlap / root


def _hertzian_law(w: Any, c: tuple[float, ...]) -> tuple[Any, Any]:
    """f and df/dw of :class:`Hertzian`."""
    root = np.sqrt(w)
    overlap = 1.0 - root
    power = overlap * np.sqrt(overlap)
    return 0.4 * c[0] * power * overlap, -0.5 * c[0] * power / root


@compiled
def _contact_derivatives(
    r2_p: NDArray[np.float64],
    pairtype_p: NDArray[np.uint8],
    sigma_t: NDArray[np.float64],
    alpha: float,
    factor_k: NDArray[np.float64],
    out_kp: NDArray[np.float64],
) -> None:
    """d^k phi / dw^k of :class:`_SoftSphere`, from the derivatives g_k with respect to r by d/dw = 1/(2r) d/dr."""
    n_orders = len(out_kp)
    for pair in range(len(r2_p)):
        sigma = sigma_t[pairtype_p[pair]]
        r = np.sqrt(r2_p[pair])
        overlap = 1.0 - r / sigma
        if not overlap > 0.0:
            for order in range(n_orders):
                # A distance that is not a number stays one: a blown-up state must be seen.
                out_kp[order, pair] = 0.0 if overlap <= 0.0 else np.nan
            continue
        inverse = 1.0 / r
        power = overlap**alpha
        g0 = factor_k[0] * power
        power /= overlap * sigma
        g1 = factor_k[1] * power
        power /= overlap * sigma
        g2 = factor_k[2] * power
        out_kp[0, pair] = g0
        if n_orders > 1:
            out_kp[1, pair] = 0.5 * inverse * g1
        if n_orders > 2:
            out_kp[2, pair] = 0.25 * inverse**2 * (g2 - g1 * inverse)
        if n_orders > 3:
            power /= overlap * sigma
            g3 = factor_k[3] * power
            out_kp[3, pair] = 0.125 * inverse**3 * (g3 + 3.0 * inverse * (g1 * inverse - g2))
            if n_orders > 4:
                g4 = factor_k[4] * power / (overlap * sigma)
                bracket = g4 + inverse * (15.0 * inverse * (g2 - g1 * inverse) - 6.0 * g3)
                out_kp[4, pair] = 0.0625 * inverse**4 * bracket
