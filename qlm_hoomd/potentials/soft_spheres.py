"""Polydisperse soft spheres: the inverse power law for particles of sizes of their own."""

# Array names carry their axes: p pairs, k order of the derivative.

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from qlm_hoomd.numerics.laws import Function, Mixing, ScaledLaw
from qlm_hoomd.potentials.base import PairPotential
from qlm_hoomd.potentials.inverse_power_law import InversePowerLaw
from qlm_hoomd.potentials.smoothing import MAX_COEFFICIENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SoftSpheres(PairPotential):
    """Soft spheres of sizes of their own, the glass former of swap Monte Carlo.

    phi(r) = epsilon [ (l/r)^n + sum_{k=0}^{q} c_{2k} (r/l)^{2k} ] for r < x_c l, else 0, with the coefficients of
    :class:`InversePowerLaw` and l = (a + b)/2 (1 - nonadditivity abs(a - b)) for particles of sizes a and b.

    The defaults are those of Ninarello, Berthier, Coslovich, PRX 7, 021039 (2017). There q = 2: the third derivative jumps at
    the cut-off, and kappa of a mode with it wherever a pair crosses; theta, gamma_c and frequencies do not. q = 3 makes kappa
    continuous. With n = 10, q = 3 it is the family of Lerner, J. Non-Cryst. Solids 522, 119570 (2019).

    Examples:
        phi at r = 1 between two particles of size 1, and the length of a pair of two sizes:

        >>> law = SoftSpheres()
        >>> law.derivatives(np.array([1.0]), np.zeros(1, dtype=np.uint8), 0).round(6).item()
        0.59582
        >>> round(law.pair_length(0.9, 1.1), 12)
        0.96
    """

    kind: Literal["soft_spheres"] = "soft_spheres"
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(default=1.0, description="energy scale [energy]")
    n: Annotated[int, Field(ge=2, le=64, multiple_of=2)] = Field(default=12, description="exponent of the repulsion, even")
    q: Annotated[int, Field(ge=0, lt=MAX_COEFFICIENTS)] = Field(
        default=2, description="highest derivative that vanishes at the cut-off; 3 makes kappa continuous"
    )
    x_c: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1.25, description="cut-off in units of the pair length"
    )
    nonadditivity: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.2, description="how much shorter a pair of unlike particles is than the mean of their sizes [1 / length]"
    )

    @property
    def _unit(self) -> InversePowerLaw:
        """The law at unit length."""
        return _at_unit_length(self.epsilon, self.n, self.q, self.x_c)

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """((q + 1,) ndarray) the smoothing coefficients c_0, c_2, ..., c_2q."""
        return self._unit.coefficients

    def mixing(self) -> Mixing:
        """See :meth:`PairPotential.mixing`."""
        return Mixing(_NONADDITIVE, (self.nonadditivity,))

    def cutoffs(self) -> NDArray[np.float64]:
        """((1, 1) ndarray) x_c, in units of the length of a pair."""
        return self._unit.cutoffs()

    def diameters(self) -> NDArray[np.float64]:
        """((1,) ndarray) 1: particles are drawn at their own sizes."""
        return self._unit.diameters()

    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """See :meth:`PairPotential.derivatives`; at unit length."""
        return self._unit.derivatives(r2_p, pairtype_p, order)

    def scaled_law(self) -> ScaledLaw:
        """See :meth:`PairPotential.scaled_law`."""
        return self._unit.scaled_law()


@lru_cache(maxsize=32)
def _at_unit_length(epsilon: float, n: int, q: int, x_c: float) -> InversePowerLaw:
    return InversePowerLaw(epsilon=epsilon, n=n, q=q, x_c=x_c, lengths=((1.0,),))


def _nonadditive(a: Any, b: Any, c: tuple[float, ...]) -> Any:
    """The mean of two sizes, less where they differ."""
    return 0.5 * (a + b) * (1.0 - c[0] * abs(a - b))


_NONADDITIVE = Function(_nonadditive)
