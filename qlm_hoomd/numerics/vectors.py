"""Compiled norms and products of fields over the particles."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import numpy as np

from qlm_hoomd.numerics.jit import Floats, compiled


@compiled
def largest_nonaffine_square(positions_nc: Floats, reference_nc: Floats, shear: float) -> float:
    """Largest squared displacement since ``reference`` beyond the affine simple shear; NaN if any position is NaN."""
    largest = 0.0
    for n in range(len(positions_nc)):
        d0 = positions_nc[n, 0] - reference_nc[n, 0] - shear * reference_nc[n, 1]
        d1 = positions_nc[n, 1] - reference_nc[n, 1]
        d2 = positions_nc[n, 2] - reference_nc[n, 2]
        square = d0 * d0 + d1 * d1 + d2 * d2
        if not square <= largest:
            largest = square
            if np.isnan(square):
                return square
    return largest


@compiled
def largest_norm(vectors_nc: Floats) -> float:
    """Largest length of a vector; NaN if any component is NaN."""
    largest = 0.0
    for n in range(len(vectors_nc)):
        square = vectors_nc[n, 0] ** 2 + vectors_nc[n, 1] ** 2 + vectors_nc[n, 2] ** 2
        if not square <= largest:
            largest = square
            if np.isnan(square):
                return square
    return np.sqrt(largest)


@compiled
def inner_product(a_nc: Floats, b_nc: Floats) -> float:
    """Sum of a . b over the particles; unlike a BLAS it never wakes other threads."""
    a, b = a_nc.reshape(-1), b_nc.reshape(-1)
    total = 0.0
    for d in range(len(a)):
        total += a[d] * b[d]
    return total
