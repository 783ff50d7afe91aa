"""Polynomials that bring a power law and its derivatives to zero at the cut-off, and integer powers in compiled loops."""

# Array names carry their axes: p pairs, k order of the derivative, l power of w in the smoothing, t particle types
# (one t: pairs of types in the order of pairtype).

from __future__ import annotations

from functools import lru_cache
from math import factorial
from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd.numerics.jit import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Smoothing polynomials are padded to this many coefficients, so that the compiled loop has a fixed length.
MAX_COEFFICIENTS = 9


# Cached by value and outside the model, whose comparison and copies must see nothing but its fields.
@lru_cache(maxsize=32)
def smoothing(n: int, q: int, x_c: float) -> NDArray[np.float64]:
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


def falling(n: int, order: int) -> float:
    """Factor of the derivative of w^(-n/2): (-1)^k n/2 (n/2 + 1) ... (n/2 + k - 1)."""
    return (-1) ** order * float(np.prod([0.5 * n + step for step in range(order)], initial=1.0))


def differentiated(coefficients_l: NDArray[np.float64], order: int) -> list[float]:
    """Coefficients of the ``order``-th derivative of a polynomial."""
    return [coefficients_l[power] * factorial(power) / factorial(power - order) for power in range(order, len(coefficients_l))]


def _double_factorial(number: int) -> float:
    return float(np.prod(np.arange(number, 0, -2, dtype=np.float64)))


@compiled
def power_of(inverse: float, n: int) -> float:
    """w^(-n/2) from 1/w."""
    power = np.sqrt(inverse) if n % 2 else 1.0
    for _ in range(n // 2):
        power *= inverse
    return power
