"""The inverse power law, smoothed at the cut-off."""

# Array names carry their axes: p pairs, k order of the derivative, l power of w in the smoothing, t particle types
# (one t: pairs of types in the order of pairtype).

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from qlm_hoomd.numerics.jit import compiled
from qlm_hoomd.numerics.laws import Function, ScaledLaw
from qlm_hoomd.potentials.base import MAX_ORDER, Matrix, PairPotential
from qlm_hoomd.potentials.smoothing import MAX_COEFFICIENTS, differentiated, falling, power_of, smoothing

if TYPE_CHECKING:
    from numpy.typing import NDArray


class InversePowerLaw(PairPotential):
    """The inverse power law, smoothed at its cut-off up to the q-th derivative.

    phi(r) = epsilon [ (lambda/r)^n + sum_{l=0}^{q} c_{2l} (r/lambda)^{2l} ] for r < x_c lambda, else 0, with
    c_{2l} = (-1)^{l+1} / ((2q-2l)!! (2l)!!) (n+2q)!! / ((n-2)!! (n+2l)) x_c^{-(n+2l)}.
    Source: Lerner, J. Non-Cryst. Solids 522, 119570 (2019). For q = 3 the fourth derivative jumps at the cut-off.

    Examples:
        phi and its first derivative with respect to w = r^2 at r = 1, and nothing beyond the cut-off:

        >>> law = InversePowerLaw(n=10, q=3, x_c=1.48, lengths=((1.0,),))
        >>> law.derivatives(np.array([1.0, 2.2]), np.zeros(2, dtype=np.uint8), 1).round(3)
        array([[ 0.727,  0.   ],
               [-4.526,  0.   ]])
    """

    kind: Literal["inverse_power_law"] = "inverse_power_law"
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(default=1.0, description="energy scale [energy]")
    n: Annotated[int, Field(ge=1, le=64)] = Field(description="exponent of the repulsion")
    q: Annotated[int, Field(ge=0, lt=MAX_COEFFICIENTS)] = Field(description="highest derivative that vanishes at the cut-off")
    x_c: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="cut-off in units of the pair length")
    lengths: Matrix = Field(description="symmetric matrix of pair lengths lambda [length]")

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """((q + 1,) ndarray) the smoothing coefficients c_0, c_2, ..., c_2q."""
        return smoothing(self.n, self.q, self.x_c)

    def cutoffs(self) -> NDArray[np.float64]:
        """((T, T) ndarray) x_c times the pair lengths [length]."""
        return self.x_c * np.array(self.lengths, dtype=np.float64)

    def diameters(self) -> NDArray[np.float64]:
        """((T,) ndarray) the pair lengths of like particles [length]."""
        return np.diagonal(self.lengths).copy()

    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """See :meth:`PairPotential.derivatives`."""
        inverse_length2, power_k, polynomial_kl = _tables(self.epsilon, self.n, self.q, self.x_c, self.lengths)
        out_kp = np.empty((order + 1, len(r2_p)))
        if order == 1 and self.n == 10 and self.q <= 3:
            # What every force call of the paper's glass needs; the loop below it vectorises, the general one does not.
            _ipl10_force(r2_p, pairtype_p, inverse_length2, self.x_c**2, power_k, polynomial_kl, out_kp)
        else:
            _ipl_derivatives(r2_p, pairtype_p, inverse_length2, self.x_c**2, self.n, power_k, polynomial_kl, out_kp)
        return out_kp

    def scaled_law(self) -> ScaledLaw:
        """See :meth:`PairPotential.scaled_law`."""
        inverse_length2, power_k, polynomial_kl = _tables(self.epsilon, self.n, self.q, self.x_c, self.lengths)
        short = self.n == 10 and self.q <= 3
        function = Function(_ipl10_law if short else _ipl_law)
        first = () if short else (self.n % 2, self.n // 2)
        constants = (*first, *power_k[:2], *polynomial_kl[0, : 4 if short else None], *polynomial_kl[1, : 3 if short else None])
        return ScaledLaw(function, tuple(map(float, constants)), inverse_length2, None, self.x_c**2)


@lru_cache(maxsize=32)
def _tables(
    epsilon: float, n: int, q: int, x_c: float, lengths: tuple[tuple[float, ...], ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Inverse squared pair lengths by pair type, factors of the power law and of the polynomial by order."""
    coefficients = smoothing(n, q, x_c)
    inverse_length2 = 1.0 / np.array(lengths, dtype=np.float64).ravel() ** 2
    power_k = np.empty(MAX_ORDER + 1)
    polynomial_kl = np.zeros((MAX_ORDER + 1, MAX_COEFFICIENTS))
    for order in range(MAX_ORDER + 1):
        power_k[order] = falling(n, order)
        polynomial_kl[order, : max(q + 1 - order, 0)] = differentiated(coefficients, order)
    return inverse_length2, epsilon * power_k, epsilon * polynomial_kl


@compiled
def _ipl_derivatives(
    r2_p: NDArray[np.float64],
    pairtype_p: NDArray[np.uint8],
    inverse_length2: NDArray[np.float64],
    cutoff2: float,
    n: int,
    power_k: NDArray[np.float64],
    polynomial_kl: NDArray[np.float64],
    out_kp: NDArray[np.float64],
) -> None:
    """d^k phi / dw^k of the smoothed power law; see :class:`InversePowerLaw`."""
    for pair in range(len(r2_p)):
        scale = inverse_length2[pairtype_p[pair]]
        w = r2_p[pair] * scale
        inverse = 1.0 / w
        power = power_of(inverse, n)
        factor = 1.0
        for order in range(len(out_kp)):
            polynomial = polynomial_kl[order, MAX_COEFFICIENTS - 1]
            for index in range(MAX_COEFFICIENTS - 2, -1, -1):
                polynomial = polynomial * w + polynomial_kl[order, index]
            out_kp[order, pair] = factor * (power_k[order] * power + polynomial) if w < cutoff2 else 0.0
            power *= inverse
            factor *= scale


@compiled
def _ipl10_force(
    r2_p: NDArray[np.float64],
    pairtype_p: NDArray[np.uint8],
    inverse_length2: NDArray[np.float64],
    cutoff2: float,
    power_k: NDArray[np.float64],
    polynomial_kl: NDArray[np.float64],
    out_kp: NDArray[np.float64],
) -> None:
    """phi and d phi / dw for n = 10 and q <= 3."""
    a0, a1, a2, a3 = polynomial_kl[0, 0], polynomial_kl[0, 1], polynomial_kl[0, 2], polynomial_kl[0, 3]
    b0, b1, b2 = polynomial_kl[1, 0], polynomial_kl[1, 1], polynomial_kl[1, 2]
    k0, k1 = power_k[0], power_k[1]
    energy_p, slope_p = out_kp[0], out_kp[1]
    # Two loops, because one that looks the length up does not vectorise; four times faster.
    for pair in range(len(r2_p)):
        slope_p[pair] = inverse_length2[pairtype_p[pair]]
    for pair in range(len(r2_p)):
        scale = slope_p[pair]
        w = r2_p[pair] * scale
        inverse = 1.0 / w
        square = inverse * inverse
        power = square * square * inverse
        energy = k0 * power + (((a3 * w + a2) * w + a1) * w + a0)
        slope = (k1 * power * inverse + ((b2 * w + b1) * w + b0)) * scale
        energy_p[pair] = energy if w < cutoff2 else 0.0
        slope_p[pair] = slope if w < cutoff2 else 0.0


def _ipl10_law(w: Any, c: tuple[float, ...]) -> tuple[Any, Any]:
    """f and df/dw of the smoothed power law for n = 10 and q <= 3."""
    inverse = 1.0 / w
    square = inverse * inverse
    power = square * square * inverse
    energy = c[0] * power + (((c[5] * w + c[4]) * w + c[3]) * w + c[2])
    return energy, c[1] * power * inverse + ((c[8] * w + c[7]) * w + c[6])


def _ipl_law(w: Any, c: tuple[float, ...]) -> tuple[Any, Any]:
    """f and df/dw of the smoothed power law, for any n and q."""
    inverse = 1.0 / w
    power = np.sqrt(inverse) if c[0] > 0.0 else 0.0 * w + 1.0
    for _ in range(int(c[1])):
        power = power * inverse
    energy, slope = 0.0 * w, 0.0 * w
    for index in range(MAX_COEFFICIENTS):
        energy = energy * w + c[3 + MAX_COEFFICIENTS - index]
        slope = slope * w + c[3 + 2 * MAX_COEFFICIENTS - index]
    return c[2] * power + energy, c[3] * power * inverse + slope
