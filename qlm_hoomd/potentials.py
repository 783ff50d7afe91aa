"""Pair potentials and their derivatives with respect to the squared distance.

One object drives forces, Hessians and third and fourth derivatives, so that no parameter is typed twice. Another potential
is one subclass of :class:`PairPotential` registered under the entry point group ``qlm_hoomd.potentials``.
"""

# Array names carry their axes: p pairs, k order of the derivative, t particle types.

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from math import factorial
from typing import TYPE_CHECKING, Annotated, Literal

import numba
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ORDER = 4
# Smoothing polynomials are padded to this many coefficients, so that the compiled loop has a fixed length.
_MAX_COEFFICIENTS = 9


class PairPotential(BaseModel):
    """A pair potential phi(r; type pair), cut off at a finite distance.

    Subclasses are pydantic models with a literal ``kind`` (the name in protocols), :meth:`cutoffs` and :meth:`derivatives`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def cutoffs(self) -> NDArray[np.float64]:
        """((T, T) ndarray) symmetric matrix of cut-off distances [length] of the T particle types."""

    @abstractmethod
    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """Energy and its derivatives with respect to w = r^2.

        Args:
            r2_p: ((P,) ndarray) squared distances [length^2].
            pairtype_p: ((P,) ndarray of uint8) type of the first particle * T + type of the second.
            order: highest derivative, 0 to 4.

        Returns:
            ((order + 1, P) ndarray) d^k phi / dw^k [energy / length^(2k)]; zero beyond the cut-off.
        """

    @property
    def n_types(self) -> int:
        """Number of particle types T."""
        return len(self.cutoffs())

    @property
    def largest_cutoff(self) -> float:
        """Largest cut-off distance of all type pairs [length]."""
        return float(self.cutoffs().max())


class InversePowerLaw(PairPotential):
    """The inverse power law, smoothed at its cut-off up to the q-th derivative.

    phi(r) = epsilon [ (lambda/r)^n + sum_{l=0}^{q} c_{2l} (r/lambda)^{2l} ] for r < x_c lambda, else 0, with
    c_{2l} = (-1)^{l+1} / ((2q-2l)!! (2l)!!) (n+2q)!! / ((n-2)!! (n+2l)) x_c^{-(n+2l)}.
    Source: Lerner, J. Non-Cryst. Solids 522, 119570 (2019). For q = 3 the fourth derivative jumps at the cut-off.
    """

    kind: Literal["inverse_power_law"] = "inverse_power_law"
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(1.0, description="energy scale [energy]")
    n: Annotated[int, Field(ge=2, le=64)] = Field(description="exponent of the repulsion, even")
    q: Annotated[int, Field(ge=0, lt=_MAX_COEFFICIENTS)] = Field(description="highest derivative that vanishes at the cut-off")
    x_c: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="cut-off in units of the pair length")
    lengths: tuple[tuple[float, ...], ...] = Field(description="symmetric matrix of pair lengths lambda [length]")

    @field_validator("n")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"n = {value}; expected an even exponent (the kernels work in r^2)")
        return value

    @field_validator("lengths")
    @classmethod
    def _symmetric(cls, value: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        rows = {len(row) for row in value}
        if not value or rows != {len(value)}:
            raise ValueError("expected a square matrix of pair lengths")
        matrix_tt = np.array(value)
        if not (np.isfinite(matrix_tt).all() and (matrix_tt > 0).all()):
            raise ValueError("expected positive pair lengths")
        if not np.array_equal(matrix_tt, matrix_tt.T):
            raise ValueError("expected a symmetric matrix of pair lengths")
        return value

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """((q + 1,) ndarray) the smoothing coefficients c_0, c_2, ..., c_2q."""
        return _smoothing(self.n, self.q, self.x_c)

    def cutoffs(self) -> NDArray[np.float64]:
        """((T, T) ndarray) x_c times the pair lengths [length]."""
        return self.x_c * np.array(self.lengths, dtype=np.float64)

    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """See :meth:`PairPotential.derivatives`."""
        inverse_length2, power_k, polynomial_kl = _tables(self.epsilon, self.n, self.q, self.x_c, self.lengths)
        out_kp = np.empty((order + 1, len(r2_p)))
        if order == 1 and self.n == 10 and self.q <= 3:
            # What every force call of the paper's glass needs; the loop below it vectorises, the general one does not.
            _ipl10_force(r2_p, pairtype_p, inverse_length2, self.x_c**2, power_k, polynomial_kl, out_kp)
        else:
            _ipl_derivatives(r2_p, pairtype_p, inverse_length2, self.x_c**2, self.n // 2, power_k, polynomial_kl, out_kp)
        return out_kp


# Cached by value and outside the model, whose comparison and copies must see nothing but its fields.
@lru_cache(maxsize=32)
def _smoothing(n: int, q: int, x_c: float) -> NDArray[np.float64]:
    """The coefficients c_2l of :class:`InversePowerLaw`, read-only."""
    prefactor = _double_factorial(n + 2 * q) / _double_factorial(n - 2)
    coefficients = np.array(
        [
            (-1) ** (power + 1)
            / (_double_factorial(2 * q - 2 * power) * _double_factorial(2 * power))
            * prefactor
            / (n + 2 * power)
            * x_c ** -(n + 2 * power)
            for power in range(q + 1)
        ]
    )
    coefficients.flags.writeable = False
    return coefficients


@lru_cache(maxsize=32)
def _tables(
    epsilon: float, n: int, q: int, x_c: float, lengths: tuple[tuple[float, ...], ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Inverse squared pair lengths by pair type, factors of the power law and of the polynomial by order."""
    coefficients = _smoothing(n, q, x_c)
    inverse_length2 = 1.0 / np.array(lengths, dtype=np.float64).ravel() ** 2
    power_k = np.empty(MAX_ORDER + 1)
    polynomial_kl = np.zeros((MAX_ORDER + 1, _MAX_COEFFICIENTS))
    for order in range(MAX_ORDER + 1):
        power_k[order] = (-1) ** order * np.prod([n // 2 + step for step in range(order)], initial=1.0)
        for power in range(order, q + 1):
            polynomial_kl[order, power - order] = coefficients[power] * factorial(power) / factorial(power - order)
    return inverse_length2, epsilon * power_k, epsilon * polynomial_kl


def _double_factorial(number: int) -> float:
    return float(np.prod(np.arange(number, 0, -2, dtype=np.float64)))


_FAST = {"contract", "reassoc", "nsz", "arcp"}


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _ipl_derivatives(
    r2_p: NDArray[np.float64],
    pairtype_p: NDArray[np.uint8],
    inverse_length2: NDArray[np.float64],
    cutoff2: float,
    half_n: int,
    power_k: NDArray[np.float64],
    polynomial_kl: NDArray[np.float64],
    out_kp: NDArray[np.float64],
) -> None:
    """d^k phi / dw^k of the smoothed power law; see :class:`InversePowerLaw`."""
    for pair in range(len(r2_p)):
        scale = inverse_length2[pairtype_p[pair]]
        w = r2_p[pair] * scale
        inverse = 1.0 / w
        power = inverse
        for _ in range(half_n - 1):
            power *= inverse
        factor = 1.0
        for order in range(len(out_kp)):
            polynomial = polynomial_kl[order, _MAX_COEFFICIENTS - 1]
            for index in range(_MAX_COEFFICIENTS - 2, -1, -1):
                polynomial = polynomial * w + polynomial_kl[order, index]
            out_kp[order, pair] = factor * (power_k[order] * power + polynomial) if w < cutoff2 else 0.0
            power *= inverse
            factor *= scale


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
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
