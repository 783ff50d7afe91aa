"""Mie and Lennard-Jones potentials, and the mixture of Kob and Andersen."""

# Array names carry their axes: p pairs, k order of the derivative, l power of w in the smoothing, t particle types
# (one t: pairs of types in the order of pairtype).

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from qlm_hoomd.numerics.jit import compiled
from qlm_hoomd.numerics.laws import Function, ScaledLaw
from qlm_hoomd.potentials.base import MAX_ORDER, Matrix, PairPotential
from qlm_hoomd.potentials.smoothing import MAX_COEFFICIENTS, differentiated, falling, power_of, smoothing

if TYPE_CHECKING:
    from numpy.typing import NDArray


class LennardJones(PairPotential):
    """Lennard-Jones and, with other exponents, Mie potentials, smoothed at the cut-off up to the q-th derivative.

    phi(r) = C epsilon [ S_n(r/sigma) - S_m(r/sigma) ] for r < x_c sigma, else 0, where S_k(x) = x^-k + sum_{l=0}^{q} c_{2l}
    x^{2l} is the smoothed power law of :class:`InversePowerLaw` and C = n/(n-m) (n/m)^(m/(n-m)) makes the well epsilon deep
    before smoothing: C = 4 for 12-6. Source: Mie, Ann. Phys. 316, 657 (1903). q = 0 is cut and shifted (HOOMD-blue's
    ``shift``), whose force jumps at the cut-off; q = 2 keeps the Hessian continuous, q = 4 chi too.
    """

    kind: Literal["lennard_jones"] = "lennard_jones"
    epsilon: Matrix = Field(description="symmetric matrix of well depths [energy]")
    sigma: Matrix = Field(description="symmetric matrix of the distances where the unsmoothed energy is zero [length]")
    x_c: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(default=2.5, description="cut-off in units of sigma")
    q: Annotated[int, Field(ge=0, lt=MAX_COEFFICIENTS)] = Field(
        description="highest derivative that vanishes at the cut-off; 0: cut and shifted"
    )
    n: Annotated[int, Field(ge=2, le=64)] = Field(default=12, description="exponent of the repulsion")
    m: Annotated[int, Field(ge=1, le=63)] = Field(default=6, description="exponent of the attraction")

    @model_validator(mode="after")
    def _consistent(self) -> LennardJones:
        if self.n <= self.m:
            raise ValueError(f"n = {self.n}, m = {self.m}; expected a repulsion steeper than the attraction, n > m")
        if len(self.epsilon) != len(self.sigma):
            raise ValueError(
                f"epsilon is for {len(self.epsilon)} particle types, sigma for {len(self.sigma)}; expected the same number"
            )
        return self

    def cutoffs(self) -> NDArray[np.float64]:
        """((T, T) ndarray) x_c times sigma [length]."""
        return self.x_c * np.array(self.sigma, dtype=np.float64)

    def diameters(self) -> NDArray[np.float64]:
        """((T,) ndarray) sigma of like particles [length]."""
        return np.diagonal(self.sigma).copy()

    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """See :meth:`PairPotential.derivatives`."""
        repulsion_k, attraction_k, polynomial_kl = _mie_tables(self.n, self.m, self.q, self.x_c)
        epsilon_t = np.array(self.epsilon, dtype=np.float64).ravel()
        inverse_sigma2_t = 1.0 / np.array(self.sigma, dtype=np.float64).ravel() ** 2
        out_kp = np.empty((order + 1, len(r2_p)))
        _mie_derivatives(
            r2_p, pairtype_p, epsilon_t, inverse_sigma2_t, self.x_c**2, self.n, self.m,
            repulsion_k, attraction_k, polynomial_kl, out_kp,
        )  # fmt: skip
        return out_kp

    def scaled_law(self) -> ScaledLaw:
        """See :meth:`PairPotential.scaled_law`."""
        repulsion_k, attraction_k, polynomial_kl = _mie_tables(self.n, self.m, self.q, self.x_c)
        powers = (self.n % 2, self.n // 2, self.m % 2, self.m // 2, *repulsion_k[:2], *attraction_k[:2])
        inverse_sigma2_t = 1.0 / np.array(self.sigma, dtype=np.float64).ravel() ** 2
        epsilon_t = np.array(self.epsilon, dtype=np.float64).ravel()
        constants = tuple(map(float, (*powers, *polynomial_kl[0], *polynomial_kl[1])))
        return ScaledLaw(Function(_mie_law), constants, inverse_sigma2_t, epsilon_t, self.x_c**2)


class KobAndersen(LennardJones):
    """The binary Lennard-Jones glass former of Kob and Andersen, PRE 51, 4626 (1995): 80 % A, 20 % B at density 1.2.

    Examples:
        >>> KobAndersen(q=2).largest_cutoff
        2.5
    """

    type_names: ClassVar[tuple[str, ...]] = ("A", "B")
    kind: Literal["kob_andersen"] = "kob_andersen"  # type: ignore[assignment]  # a kind of its own, by design of the registry
    epsilon: Matrix = Field(default=((1.0, 1.5), (1.5, 0.5)), description="symmetric matrix of well depths [energy]")
    sigma: Matrix = Field(
        default=((1.0, 0.8), (0.8, 0.88)),
        description="symmetric matrix of the distances where the unsmoothed energy is zero [length]",
    )


@lru_cache(maxsize=32)
def _mie_tables(n: int, m: int, q: int, x_c: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Factors of both powers and of the polynomial by order, in units of epsilon and sigma."""
    depth = n / (n - m) * (n / m) ** (m / (n - m))
    coefficients_l = depth * (smoothing(n, q, x_c) - smoothing(m, q, x_c))
    polynomial_kl = np.zeros((MAX_ORDER + 1, MAX_COEFFICIENTS))
    for order in range(MAX_ORDER + 1):
        polynomial_kl[order, : max(q + 1 - order, 0)] = differentiated(coefficients_l, order)
    orders = range(MAX_ORDER + 1)
    repulsion_k = depth * np.array([falling(n, order) for order in orders])
    attraction_k = -depth * np.array([falling(m, order) for order in orders])
    return repulsion_k, attraction_k, polynomial_kl


@compiled
def _mie_derivatives(
    r2_p: NDArray[np.float64],
    pairtype_p: NDArray[np.uint8],
    epsilon_t: NDArray[np.float64],
    inverse_sigma2_t: NDArray[np.float64],
    cutoff2: float,
    n: int,
    m: int,
    repulsion_k: NDArray[np.float64],
    attraction_k: NDArray[np.float64],
    polynomial_kl: NDArray[np.float64],
    out_kp: NDArray[np.float64],
) -> None:
    """d^k phi / dw^k of :class:`LennardJones`."""
    for pair in range(len(r2_p)):
        scale = inverse_sigma2_t[pairtype_p[pair]]
        w = r2_p[pair] * scale
        inverse = 1.0 / w
        attraction = power_of(inverse, m)
        repulsion = power_of(inverse, n)
        factor = epsilon_t[pairtype_p[pair]]
        for order in range(len(out_kp)):
            polynomial = polynomial_kl[order, MAX_COEFFICIENTS - 1]
            for index in range(MAX_COEFFICIENTS - 2, -1, -1):
                polynomial = polynomial * w + polynomial_kl[order, index]
            value = repulsion_k[order] * repulsion + attraction_k[order] * attraction + polynomial
            out_kp[order, pair] = factor * value if w < cutoff2 else 0.0
            repulsion *= inverse
            attraction *= inverse
            factor *= scale


def _mie_law(w: Any, c: tuple[float, ...]) -> tuple[Any, Any]:
    """f and df/dw of :class:`LennardJones`."""
    inverse = 1.0 / w
    root = np.sqrt(inverse)
    repulsion = root if c[0] > 0.0 else 0.0 * w + 1.0
    for _ in range(int(c[1])):
        repulsion = repulsion * inverse
    attraction = root if c[2] > 0.0 else 0.0 * w + 1.0
    for _ in range(int(c[3])):
        attraction = attraction * inverse
    energy, slope = 0.0 * w, 0.0 * w
    for index in range(MAX_COEFFICIENTS):
        energy = energy * w + c[7 + MAX_COEFFICIENTS - index]
        slope = slope * w + c[7 + 2 * MAX_COEFFICIENTS - index]
    energy = c[4] * repulsion + c[6] * attraction + energy
    return energy, (c[5] * repulsion + c[7] * attraction) * inverse + slope
