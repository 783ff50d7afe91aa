"""Compiled loops over pairs and particles. Private to mechanics, minimisers and the CPU engine; nothing here allocates state.

Pairs come as a half list grouped by their first particle: ``owner_r`` names the first particle of each run r, and the run's
pairs are ``first_r[r]`` to ``first_r[r + 1]``. Runs follow a spatial order, so that neighbouring pairs share cache lines, and
within short stretches of it their length, so that the processor foresees where the loop over a run ends.
"""

# Array names carry their axes: n particles, r runs of the half list, p pairs, c Cartesian components, k derivative order,
# s periodic shifts or places in the spatial order, b block rows of the Hessian. d1_p, d2_p, ... are derivatives of phi with respect to r^2.

from __future__ import annotations

from typing import Any, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int32]
Bytes: TypeAlias = NDArray[np.uint8]

# Reassociation lets sums vectorise. NaN and infinity keep their meaning, so that a blown-up state is seen.
_FAST = {"contract", "reassoc", "nsz", "arcp"}
# Unsigned indices in the loops over pairs: a signed one is asked each time whether it counts from the end.
_index: Any = np.uint64
_STRETCH = 64
# When conjugate gradients look at their true residual, and how often.
_NEAR, _ITERATIONS_PER_LOOK = 10.0, 3


def _njit(function: Any) -> Any:
    return numba.njit(cache=True, fastmath=_FAST, error_model="numpy")(function)


@_njit
def fold_images(positions_nc: Floats, images_nc: Floats, matrix_cc: Floats, out_nc: Floats) -> None:
    """positions - images . matrix, for a lower triangular matrix."""
    for n in range(len(positions_nc)):
        i0, i1, i2 = images_nc[n, 0], images_nc[n, 1], images_nc[n, 2]
        out_nc[n, 0] = positions_nc[n, 0] - (i0 * matrix_cc[0, 0] + i1 * matrix_cc[1, 0] + i2 * matrix_cc[2, 0])
        out_nc[n, 1] = positions_nc[n, 1] - (i1 * matrix_cc[1, 1] + i2 * matrix_cc[2, 1])
        out_nc[n, 2] = positions_nc[n, 2] - i2 * matrix_cc[2, 2]


@_njit
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


@_njit
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


@_njit
def inner_product(a_nc: Floats, b_nc: Floats) -> float:
    """Sum of a . b over the particles; unlike a BLAS it never wakes other threads."""
    a, b = a_nc.reshape(-1), b_nc.reshape(-1)
    total = 0.0
    for d in range(len(a)):
        total += a[d] * b[d]
    return total


@_njit
def virial(r_pc: Floats, d1_p: Floats, out_cc: Floats) -> None:
    """Sum over the pairs of 2 phi' r r."""
    v00 = v01 = v02 = v11 = v12 = v22 = 0.0
    for p in range(len(d1_p)):
        scale = 2.0 * d1_p[p]
        r0, r1, r2 = r_pc[p, 0], r_pc[p, 1], r_pc[p, 2]
        v00 += scale * r0 * r0
        v01 += scale * r0 * r1
        v02 += scale * r0 * r2
        v11 += scale * r1 * r1
        v12 += scale * r1 * r2
        v22 += scale * r2 * r2
    out_cc[0, 0], out_cc[1, 1], out_cc[2, 2] = v00, v11, v22
    out_cc[0, 1] = out_cc[1, 0] = v01
    out_cc[0, 2] = out_cc[2, 0] = v02
    out_cc[1, 2] = out_cc[2, 1] = v12


@_njit
def _runs_by_length(count_r: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order of the runs by their number of pairs within each stretch; loops over pairs are a third faster for it."""
    order_r = np.arange(len(count_r))
    for start in range(0, len(count_r), _STRETCH):
        for end in range(start + 1, min(start + _STRETCH, len(count_r))):
            slot = end
            while slot > start and count_r[order_r[slot - 1]] > count_r[end]:
                order_r[slot] = order_r[slot - 1]
                slot -= 1
            order_r[slot] = end
    return order_r


@_njit
def group_pairs(
    i_p: NDArray[np.uint64], j_p: NDArray[np.uint64], shift_pc: Ints, distance_p: Floats, typeid_s: Ints, n_types: int,
    reach_t: Floats, order_s: Ints,
) -> tuple[Ints, NDArray[np.int64], Ints, Bytes, Bytes]:  # fmt: skip
    """The candidate pairs within reach of their type pair, grouped by the particle that comes first in spatial order.

    ``i_p`` and ``j_p`` are places in the spatial order; ``order_s`` says which particle is there, ``typeid_s`` its type.
    Returns owner_r, first_r, partner_p, shift code, type pair. A shift code is 9 (sx + 1) + 3 (sy + 1) + (sz + 1).
    """
    n_particles = len(order_s)
    count_s = np.zeros(n_particles, np.int64)
    second_s = np.zeros(n_particles + 1, np.int64)
    found_p2 = np.empty((len(i_p), 2), np.int32)
    found_code_p = np.empty(len(i_p), np.uint8)
    n_pairs = 0
    for p in range(len(i_p)):
        i, j = i_p[p], j_p[p]
        code = 9 * (shift_pc[p, 0] + 1) + 3 * (shift_pc[p, 1] + 1) + shift_pc[p, 2] + 1
        first, second = min(i, j), max(i, j)
        found_p2[n_pairs, 0], found_p2[n_pairs, 1] = first, second
        found_code_p[n_pairs] = code if i < j else 26 - code
        # A sum instead of a branch: nobody can foresee which pairs are within reach.
        inside = distance_p[p] < reach_t[typeid_s[i] * n_types + typeid_s[j]]
        count_s[first] += inside
        second_s[second + _index(1)] += inside
        n_pairs += inside
    for s in range(n_particles):
        second_s[s + 1] += second_s[s]
    # Two counting sorts, by the second particle and then by the first: partners end up in spatial order.
    first_p = np.empty(n_pairs, np.int32)
    unsorted_code_p = np.empty(n_pairs, np.uint8)
    filled_s = second_s[:n_particles].copy()
    for p in range(n_pairs):
        slot = _index(filled_s[found_p2[p, 1]])
        filled_s[found_p2[p, 1]] += 1
        first_p[slot] = found_p2[p, 0]
        unsorted_code_p[slot] = found_code_p[p]
    partner_p = np.empty(n_pairs, np.int32)
    code_p = np.empty(n_pairs, np.uint8)
    pairtype_p = np.empty(n_pairs, np.uint8)
    first_r = np.zeros(n_particles + 1, np.int64)
    run_r = _runs_by_length(count_s)
    for r in range(n_particles):
        filled_s[run_r[r]] = first_r[r]
        first_r[r + 1] = first_r[r] + count_s[run_r[r]]
    for s in range(n_particles):
        for p in range(_index(second_s[s]), _index(second_s[s + 1])):
            first = _index(first_p[p])
            slot = _index(filled_s[first])
            filled_s[first] += 1
            partner_p[slot] = order_s[s]
            code_p[slot] = unsorted_code_p[p]
            pairtype_p[slot] = typeid_s[first] * n_types + typeid_s[s]
    return order_s[run_r], first_r, partner_p, code_p, pairtype_p


@_njit
def pair_vectors(
    positions_nc: Floats, owner_r: Ints, first_r: NDArray[np.int64], partner_p: Ints, code_p: Bytes, shifts_sc: Floats,
    r_pc: Floats, r2_p: Floats,
) -> None:  # fmt: skip
    """Vector from the first to the second particle of each pair, and its square."""
    for r in range(len(owner_r)):
        i = _index(owner_r[r])
        x0, x1, x2 = positions_nc[i, 0], positions_nc[i, 1], positions_nc[i, 2]
        for p in range(_index(first_r[r]), _index(first_r[r + 1])):
            j, s = _index(partner_p[p]), code_p[p]
            d0 = positions_nc[j, 0] - x0 + shifts_sc[s, 0]
            d1 = positions_nc[j, 1] - x1 + shifts_sc[s, 1]
            d2 = positions_nc[j, 2] - x2 + shifts_sc[s, 2]
            r_pc[p, 0] = d0
            r_pc[p, 1] = d1
            r_pc[p, 2] = d2
            r2_p[p] = d0 * d0 + d1 * d1 + d2 * d2


@_njit
def add_forces(
    owner_r: Ints, first_r: NDArray[np.int64], partner_p: Ints, r_pc: Floats, d1_p: Floats, force_nc: Floats
) -> None:
    """Force -dU/dr of every particle: 2 phi' r towards the partner for the first, the opposite for the second."""
    for r in range(len(owner_r)):
        f0 = f1 = f2 = 0.0
        for p in range(_index(first_r[r]), _index(first_r[r + 1])):
            scale = 2.0 * d1_p[p]
            j = _index(partner_p[p])
            g0, g1, g2 = scale * r_pc[p, 0], scale * r_pc[p, 1], scale * r_pc[p, 2]
            f0 += g0
            f1 += g1
            f2 += g2
            force_nc[j, 0] -= g0
            force_nc[j, 1] -= g1
            force_nc[j, 2] -= g2
        i = owner_r[r]
        force_nc[i, 0] += f0
        force_nc[i, 1] += f1
        force_nc[i, 2] += f2


@_njit
def keep_interacting(
    owner_r: Ints, first_r: NDArray[np.int64], partner_p: Ints, pairtype_p: Bytes, r_pc: Floats, r2_p: Floats, cutoff2_t: Floats,
) -> tuple[Ints, NDArray[np.int64], Ints, Ints, Bytes, Floats, Floats]:  # fmt: skip
    """The pairs inside their cut-off: owner_r, first_r, i_p, j_p, pairtype_p, r_pc, r2_p."""
    count_r = np.zeros(len(owner_r), np.int64)
    for r in range(len(owner_r)):
        for p in range(_index(first_r[r]), _index(first_r[r + 1])):
            count_r[r] += r2_p[p] < cutoff2_t[pairtype_p[p]]
    run_r = _runs_by_length(count_r)
    n_kept = count_r.sum()
    kept_first_r = np.empty_like(first_r)
    i_p = np.empty(n_kept, np.int32)
    j_p = np.empty(n_kept, np.int32)
    type_p = np.empty(n_kept, np.uint8)
    kept_r_pc = np.empty((n_kept, 3))
    kept_r2_p = np.empty(n_kept)
    kept = 0
    for r in range(len(owner_r)):
        kept_first_r[r] = kept
        run = run_r[r]
        for p in range(_index(first_r[run]), _index(first_r[run + 1])):
            if r2_p[p] < cutoff2_t[pairtype_p[p]]:
                i_p[kept] = owner_r[run]
                j_p[kept] = partner_p[p]
                type_p[kept] = pairtype_p[p]
                kept_r_pc[kept, 0] = r_pc[p, 0]
                kept_r_pc[kept, 1] = r_pc[p, 1]
                kept_r_pc[kept, 2] = r_pc[p, 2]
                kept_r2_p[kept] = r2_p[p]
                kept += 1
    kept_first_r[len(owner_r)] = kept
    return owner_r[run_r], kept_first_r, i_p, j_p, type_p, kept_r_pc, kept_r2_p


@_njit
def hessian_product(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, d1_p: Floats, d2_p: Floats, v_nc: Floats, out_nc: Floats,
) -> None:  # fmt: skip
    """out = H . v with the pair block 2 phi' 1 + 4 phi'' r r, pre-stress term included."""
    out_nc[:] = 0.0
    for r in range(len(owner_r)):
        i = _index(owner_r[r])
        v0, v1, v2 = v_nc[i, 0], v_nc[i, 1], v_nc[i, 2]
        s0 = s1 = s2 = 0.0
        for p in range(_index(first_r[r]), _index(first_r[r + 1])):
            j = _index(j_p[p])
            z0, z1, z2 = v_nc[j, 0] - v0, v_nc[j, 1] - v1, v_nc[j, 2] - v2
            along = 4.0 * d2_p[p] * (r_pc[p, 0] * z0 + r_pc[p, 1] * z1 + r_pc[p, 2] * z2)
            across = 2.0 * d1_p[p]
            g0 = along * r_pc[p, 0] + across * z0
            g1 = along * r_pc[p, 1] + across * z1
            g2 = along * r_pc[p, 2] + across * z2
            s0 += g0
            s1 += g1
            s2 += g2
            out_nc[j, 0] += g0
            out_nc[j, 1] += g1
            out_nc[j, 2] += g2
        out_nc[i, 0] -= s0
        out_nc[i, 1] -= s1
        out_nc[i, 2] -= s2


@_njit
def hessian_structure(n_particles: int, i_p: Ints, j_p: Ints) -> tuple[Ints, Ints, Ints]:
    """Block compressed rows of the Hessian: columns (ascending in each row), row pointers, pair of each block (-1: diagonal)."""
    rows_n = np.zeros(n_particles + 1, np.int32)
    for p in range(len(i_p)):
        rows_n[i_p[p] + 1] += 1
        rows_n[j_p[p] + 1] += 1
    for n in range(n_particles):
        rows_n[n + 1] += rows_n[n] + 1  # one more for the diagonal block
    # Two counting sorts, by column and then by row: columns end up ascending in every row.
    row_b = np.empty(rows_n[n_particles], np.int32)
    pair_b = np.empty(rows_n[n_particles], np.int32)
    filled_n = rows_n[:n_particles].copy()
    for n in range(n_particles):
        row_b[filled_n[n]] = n
        pair_b[filled_n[n]] = -1
        filled_n[n] += 1
    for p in range(len(i_p)):
        for row, column in ((i_p[p], j_p[p]), (j_p[p], i_p[p])):
            b = _index(filled_n[column])
            filled_n[column] += 1
            row_b[b] = row
            pair_b[b] = p
    column_b = np.empty(rows_n[n_particles], np.int32)
    source_b = np.empty(rows_n[n_particles], np.int32)
    filled_n[:] = rows_n[:n_particles]
    for n in range(n_particles):
        for b in range(_index(rows_n[n]), _index(rows_n[n + 1])):
            slot = _index(filled_n[row_b[b]])
            filled_n[row_b[b]] += 1
            column_b[slot] = n
            source_b[slot] = pair_b[b]
    return column_b, rows_n, source_b


@_njit
def hessian_blocks(rows_n: Ints, source_b: Ints, r_pc: Floats, d1_p: Floats, d2_p: Floats, blocks_bcc: Floats) -> None:
    """The blocks of the Hessian, -(2 phi' 1 + 4 phi'' r r) off the diagonal, minus the sum of their row on it."""
    for n in range(len(rows_n) - 1):
        diagonal = _index(0)
        d00 = d01 = d02 = d11 = d12 = d22 = 0.0
        for b in range(_index(rows_n[n]), _index(rows_n[n + 1])):
            if source_b[b] < 0:
                diagonal = b
                continue
            p = _index(source_b[b])
            across, along = 2.0 * d1_p[p], 4.0 * d2_p[p]
            r0, r1, r2 = r_pc[p, 0], r_pc[p, 1], r_pc[p, 2]
            k00, k01, k02 = across + along * r0 * r0, along * r0 * r1, along * r0 * r2
            k11, k12, k22 = across + along * r1 * r1, along * r1 * r2, across + along * r2 * r2
            blocks_bcc[b, 0, 0], blocks_bcc[b, 0, 1], blocks_bcc[b, 0, 2] = -k00, -k01, -k02
            blocks_bcc[b, 1, 0], blocks_bcc[b, 1, 1], blocks_bcc[b, 1, 2] = -k01, -k11, -k12
            blocks_bcc[b, 2, 0], blocks_bcc[b, 2, 1], blocks_bcc[b, 2, 2] = -k02, -k12, -k22
            d00 += k00
            d01 += k01
            d02 += k02
            d11 += k11
            d12 += k12
            d22 += k22
        b = diagonal
        blocks_bcc[b, 0, 0], blocks_bcc[b, 0, 1], blocks_bcc[b, 0, 2] = d00, d01, d02
        blocks_bcc[b, 1, 0], blocks_bcc[b, 1, 1], blocks_bcc[b, 1, 2] = d01, d11, d12
        blocks_bcc[b, 2, 0], blocks_bcc[b, 2, 1], blocks_bcc[b, 2, 2] = d02, d12, d22


@_njit
def inverse_diagonal_blocks(
    n_particles: int, i_p: Ints, j_p: Ints, r_pc: Floats, d1_p: Floats, d2_p: Floats, out_ncc: Floats
) -> None:
    """Inverse of the 3x3 diagonal block of each particle; the identity over the trace where it is not positive definite."""
    out_ncc[:] = 0.0
    for p in range(len(i_p)):
        across, along = 2.0 * d1_p[p], 4.0 * d2_p[p]
        for a in range(3):
            for b in range(3):
                term = along * r_pc[p, a] * r_pc[p, b]
                if a == b:
                    term += across
                out_ncc[i_p[p], a, b] += term
                out_ncc[j_p[p], a, b] += term
    for n in range(n_particles):
        a, b, c = out_ncc[n, 0, 0], out_ncc[n, 0, 1], out_ncc[n, 0, 2]
        d, e, f = out_ncc[n, 1, 1], out_ncc[n, 1, 2], out_ncc[n, 2, 2]
        m00, m01, m02 = d * f - e * e, c * e - b * f, b * e - c * d
        determinant = a * m00 + b * m01 + c * m02
        minor = a * d - b * b
        trace = abs(a) + abs(d) + abs(f)
        if a > 1e-6 * trace and minor > 1e-6 * trace**2 and determinant > 1e-6 * trace**3:
            inverse = 1.0 / determinant
            out_ncc[n, 0, 0] = m00 * inverse
            out_ncc[n, 0, 1] = out_ncc[n, 1, 0] = m01 * inverse
            out_ncc[n, 0, 2] = out_ncc[n, 2, 0] = m02 * inverse
            out_ncc[n, 1, 1] = (a * f - c * c) * inverse
            out_ncc[n, 1, 2] = out_ncc[n, 2, 1] = (b * c - a * e) * inverse
            out_ncc[n, 2, 2] = minor * inverse
        else:
            # A rattler has an empty block; one over a typical stiffness keeps it where it is.
            scale = 3.0 / trace if trace > 1e-3 else 1.0
            out_ncc[n] = scale * np.eye(3)


@_njit
def upper_triangle(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, d1_p: Floats, d2_p: Floats
) -> tuple[NDArray[np.int64], Ints, Floats]:
    """The half list as the upper triangle of the Hessian, its rows in the order of the runs.

    Returns first_s, the column t_p > s of each block of row s, and bond_pk = (r, 4 phi'', 2 phi') of each block.
    """
    n_particles = len(owner_r)
    place_n = np.empty(n_particles, np.int32)
    for s in range(n_particles):
        place_n[owner_r[s]] = s
    first_s = np.zeros(n_particles + 1, np.int64)
    for s in range(n_particles):
        for p in range(_index(first_r[s]), _index(first_r[s + 1])):
            first_s[_index(min(s, place_n[j_p[p]]) + 1)] += 1
    for s in range(n_particles):
        first_s[s + 1] += first_s[s]
    filled_s = first_s[:n_particles].copy()
    t_p = np.empty(len(j_p), np.int32)
    bond_pk = np.empty((len(j_p), 5))
    for s in range(n_particles):
        for p in range(_index(first_r[s]), _index(first_r[s + 1])):
            t = place_n[_index(j_p[p])]
            row = _index(min(s, t))
            slot = _index(filled_s[row])
            filled_s[row] += 1
            t_p[slot] = max(s, t)
            bond_pk[slot, 0] = r_pc[p, 0]
            bond_pk[slot, 1] = r_pc[p, 1]
            bond_pk[slot, 2] = r_pc[p, 2]
            bond_pk[slot, 3] = 4.0 * d2_p[p]
            bond_pk[slot, 4] = 2.0 * d1_p[p]
    return first_s, t_p, bond_pk


@_njit
def diagonal_of_triangle(
    first_s: NDArray[np.int64], t_p: Ints, bond_pk: Floats, shift: float, diagonal_sk: Floats, inverse_sk: Floats
) -> bool:  # fmt: skip
    """The diagonal blocks of H + shift and their inverses, each as (xx, xy, xz, yy, yz, zz).

    A rattler, whose block is empty without a shift, gets the identity. Returns whether another block is not positive definite,
    which the matrix then is not either.
    """
    n_particles = len(first_s) - 1
    for s in range(n_particles):
        for k in range(6):
            diagonal_sk[s, k] = shift if k in (0, 3, 5) else 0.0
    for s in range(n_particles):
        for p in range(_index(first_s[s]), _index(first_s[s + 1])):
            t = _index(t_p[p])
            r0, r1, r2, along, across = bond_pk[p, 0], bond_pk[p, 1], bond_pk[p, 2], bond_pk[p, 3], bond_pk[p, 4]
            a0, a1, a2 = along * r0, along * r1, along * r2
            k00, k01, k02 = a0 * r0 + across, a0 * r1, a0 * r2
            k11, k12, k22 = a1 * r1 + across, a1 * r2, a2 * r2 + across
            for k, value in enumerate((k00, k01, k02, k11, k12, k22)):
                diagonal_sk[s, k] += value
                diagonal_sk[t, k] += value
    negative = False
    for s in range(n_particles):
        a, b, c = diagonal_sk[s, 0], diagonal_sk[s, 1], diagonal_sk[s, 2]
        d, e, f = diagonal_sk[s, 3], diagonal_sk[s, 4], diagonal_sk[s, 5]
        m00, m01, m02 = d * f - e * e, c * e - b * f, b * e - c * d
        determinant = a * m00 + b * m01 + c * m02
        minor = a * d - b * b
        if a > 0.0 and minor > 0.0 and determinant > 0.0:
            inverse = 1.0 / determinant
            inverse_sk[s, 0] = m00 * inverse
            inverse_sk[s, 1] = m01 * inverse
            inverse_sk[s, 2] = m02 * inverse
            inverse_sk[s, 3] = (a * f - c * c) * inverse
            inverse_sk[s, 4] = (b * c - a * e) * inverse
            inverse_sk[s, 5] = minor * inverse
        else:
            # Barely touched is as good as not touched.
            negative |= shift > 0.0 or not abs(a) + abs(d) + abs(f) < 1e-3
            for k in range(6):
                diagonal_sk[s, k] = inverse_sk[s, k] = 1.0 if k in (0, 3, 5) else 0.0
    return negative


@_njit
def _backward_sweep(
    first_s: NDArray[np.int64], t_p: Ints, bond_pk: Floats, diagonal_sk: Floats, inverse_sk: Floats, residual_sc: Floats,
    beta: float, direction_sc: Floats, move_sc: Floats, rest_sc: Floats,
) -> None:  # fmt: skip
    """direction <- D residual + beta direction; move = (D + L^T)^-1 direction; rest = direction - D move."""
    n_particles = len(first_s) - 1
    for step in range(n_particles):
        s = _index(n_particles - 1 - step)
        r0, r1, r2 = residual_sc[s, 0], residual_sc[s, 1], residual_sc[s, 2]
        d01, d02, d12 = diagonal_sk[s, 1], diagonal_sk[s, 2], diagonal_sk[s, 4]
        p0 = diagonal_sk[s, 0] * r0 + d01 * r1 + d02 * r2 + beta * direction_sc[s, 0]
        p1 = d01 * r0 + diagonal_sk[s, 3] * r1 + d12 * r2 + beta * direction_sc[s, 1]
        p2 = d02 * r0 + d12 * r1 + diagonal_sk[s, 5] * r2 + beta * direction_sc[s, 2]
        direction_sc[s, 0] = p0
        direction_sc[s, 1] = p1
        direction_sc[s, 2] = p2
        # Two sums for each component: a single one would wait for itself at every pair.
        x0 = x1 = x2 = y0 = y1 = y2 = 0.0
        for p in range(_index(first_s[s]), _index(first_s[s + _index(1)])):
            t = _index(t_p[p])
            z0, z1, z2 = move_sc[t, 0], move_sc[t, 1], move_sc[t, 2]
            b0, b1, b2, across = bond_pk[p, 0], bond_pk[p, 1], bond_pk[p, 2], bond_pk[p, 4]
            along = bond_pk[p, 3] * (b0 * z0 + b1 * z1 + b2 * z2)
            x0 += along * b0
            x1 += along * b1
            x2 += along * b2
            y0 += across * z0
            y1 += across * z1
            y2 += across * z2
        x0 += y0
        x1 += y1
        x2 += y2
        rest_sc[s, 0] = -x0
        rest_sc[s, 1] = -x1
        rest_sc[s, 2] = -x2
        y0, y1, y2 = p0 + x0, p1 + x1, p2 + x2
        i01, i02, i12 = inverse_sk[s, 1], inverse_sk[s, 2], inverse_sk[s, 4]
        move_sc[s, 0] = inverse_sk[s, 0] * y0 + i01 * y1 + i02 * y2
        move_sc[s, 1] = i01 * y0 + inverse_sk[s, 3] * y1 + i12 * y2
        move_sc[s, 2] = i02 * y0 + i12 * y1 + inverse_sk[s, 5] * y2


@_njit
def _forward_sweep(
    first_s: NDArray[np.int64], t_p: Ints, bond_pk: Floats, inverse_sk: Floats, rest_sc: Floats, out_sc: Floats
) -> None:
    """out = (D + L)^-1 rest; ``rest`` is used up."""
    for s in range(_index(len(first_s) - 1)):
        y0, y1, y2 = rest_sc[s, 0], rest_sc[s, 1], rest_sc[s, 2]
        i01, i02, i12 = inverse_sk[s, 1], inverse_sk[s, 2], inverse_sk[s, 4]
        z0 = inverse_sk[s, 0] * y0 + i01 * y1 + i02 * y2
        z1 = i01 * y0 + inverse_sk[s, 3] * y1 + i12 * y2
        z2 = i02 * y0 + i12 * y1 + inverse_sk[s, 5] * y2
        out_sc[s, 0] = z0
        out_sc[s, 1] = z1
        out_sc[s, 2] = z2
        for p in range(_index(first_s[s]), _index(first_s[s + _index(1)])):
            t = _index(t_p[p])
            b0, b1, b2, across = bond_pk[p, 0], bond_pk[p, 1], bond_pk[p, 2], bond_pk[p, 4]
            along = bond_pk[p, 3] * (b0 * z0 + b1 * z1 + b2 * z2)
            rest_sc[t, 0] += along * b0 + across * z0
            rest_sc[t, 1] += along * b1 + across * z1
            rest_sc[t, 2] += along * b2 + across * z2


@_njit
def _largest_of_lower(
    first_s: NDArray[np.int64], t_p: Ints, bond_pk: Floats, diagonal_sk: Floats, vector_sc: Floats, out_sc: Floats
) -> float:
    """Largest length of a particle's vector in out = (D + L) vector."""
    out_sc[:] = 0.0
    square = 0.0
    for s in range(_index(len(first_s) - 1)):
        z0, z1, z2 = vector_sc[s, 0], vector_sc[s, 1], vector_sc[s, 2]
        d01, d02, d12 = diagonal_sk[s, 1], diagonal_sk[s, 2], diagonal_sk[s, 4]
        x0 = out_sc[s, 0] + diagonal_sk[s, 0] * z0 + d01 * z1 + d02 * z2
        x1 = out_sc[s, 1] + d01 * z0 + diagonal_sk[s, 3] * z1 + d12 * z2
        x2 = out_sc[s, 2] + d02 * z0 + d12 * z1 + diagonal_sk[s, 5] * z2
        square = max(square, x0 * x0 + x1 * x1 + x2 * x2)
        for p in range(_index(first_s[s]), _index(first_s[s + _index(1)])):
            t = _index(t_p[p])
            b0, b1, b2, across = bond_pk[p, 0], bond_pk[p, 1], bond_pk[p, 2], bond_pk[p, 4]
            along = bond_pk[p, 3] * (b0 * z0 + b1 * z1 + b2 * z2)
            out_sc[t, 0] -= along * b0 + across * z0
            out_sc[t, 1] -= along * b1 + across * z1
            out_sc[t, 2] -= along * b2 + across * z2
    return np.sqrt(square)


@_njit
def gauss_seidel_gradient(
    first_s: NDArray[np.int64], t_p: Ints, bond_pk: Floats, diagonal_sk: Floats, inverse_sk: Floats, right_sc: Floats,
    target: float, max_iterations: int,
) -> tuple[Floats, int, bool]:  # fmt: skip
    """Solve H . x = right until no particle's residual is longer than ``target``.

    Conjugate gradients preconditioned by symmetric block Gauss-Seidel, M = (D + L) D^-1 (D + L)^T for H = D + L + L^T, in the
    form of Eisenstat, SIAM J. Sci. Stat. Comput. 2, 1 (1981): iterating on (D + L)^-1 H (D + L)^-T costs the two sweeps and no
    product. Returns x, the number of iterations, and whether a direction of negative curvature was met; x is then the
    solution reached before, or zero.
    """
    solution_sc = np.zeros_like(right_sc)
    direction_sc = np.zeros_like(right_sc)
    move_sc = np.empty_like(right_sc)
    residual_sc = np.empty_like(right_sc)
    product_sc = np.empty_like(right_sc)
    # Flat views: the loops below run over memory without a thought for particles.
    solution, direction, move = solution_sc.reshape(-1), direction_sc.reshape(-1), move_sc.reshape(-1)
    residual, product = residual_sc.reshape(-1), product_sc.reshape(-1)
    rest_sc = right_sc.copy()
    _forward_sweep(first_s, t_p, bond_pk, inverse_sk, rest_sc, residual_sc)
    n_particles = len(right_sc)
    largest = largest_norm(right_sc)
    rz = 0.0
    for s in range(n_particles):
        rz += _square_by(diagonal_sk, residual_sc, s)
    # The iteration measures the residual in the norm of M^-1. Once that says that the end is near, what is left for one
    # particle is looked up now and then, at a third of the price of an iteration.
    scale = largest / np.sqrt(rz) if rz > 0.0 else 0.0
    next_look = 0
    beta = 0.0
    for iteration in range(max_iterations):
        if iteration >= next_look and not scale * np.sqrt(rz) > _NEAR * target:
            largest = _largest_of_lower(first_s, t_p, bond_pk, diagonal_sk, residual_sc, rest_sc)
            if not largest > target:
                return solution_sc, iteration, False
            scale = largest / np.sqrt(rz)
            next_look = iteration + (_ITERATIONS_PER_LOOK if largest > 2.0 * target else 1)
        _backward_sweep(
            first_s, t_p, bond_pk, diagonal_sk, inverse_sk, residual_sc, beta, direction_sc, move_sc, rest_sc
        )  # fmt: skip
        _forward_sweep(first_s, t_p, bond_pk, inverse_sk, rest_sc, product_sc)
        curvature = 0.0
        size = 0.0
        for d in range(len(direction)):
            product[d] += move[d]
            curvature += direction[d] * product[d]
            size += move[d] * move[d]
        if not curvature > 1e-12 * size:
            return solution_sc, iteration + 1, True
        alpha = rz / curvature
        for d in range(len(direction)):
            solution[d] += alpha * move[d]
            residual[d] -= alpha * product[d]
        new = 0.0
        for s in range(n_particles):
            new += _square_by(diagonal_sk, residual_sc, s)
        beta = new / rz
        rz = new
    return solution_sc, max_iterations, False


@_njit
def _square_by(matrix_sk: Floats, vector_sc: Floats, s: int) -> float:
    """Vector . matrix . vector of one particle."""
    v0, v1, v2 = vector_sc[s, 0], vector_sc[s, 1], vector_sc[s, 2]
    diagonal = matrix_sk[s, 0] * v0 * v0 + matrix_sk[s, 3] * v1 * v1 + matrix_sk[s, 5] * v2 * v2
    return diagonal + 2.0 * (v0 * (matrix_sk[s, 1] * v1 + matrix_sk[s, 2] * v2) + matrix_sk[s, 4] * v1 * v2)


@_njit
def kick_and_drift(positions_nc: Floats, velocities_nc: Floats, force_nc: Floats, half_step: float, step: float) -> None:
    """First half of velocity Verlet: v += F dt/2, r += v dt (unit mass)."""
    for n in range(len(positions_nc)):
        for c in range(3):
            velocities_nc[n, c] += half_step * force_nc[n, c]
            positions_nc[n, c] += step * velocities_nc[n, c]


@_njit
def kick(velocities_nc: Floats, force_nc: Floats, half_step: float) -> float:
    """Second half of velocity Verlet; returns sum v^2."""
    total = 0.0
    for n in range(len(velocities_nc)):
        for c in range(3):
            velocities_nc[n, c] += half_step * force_nc[n, c]
            total += velocities_nc[n, c] ** 2
    return total


@_njit
def chebyshev_stage(
    start_nc: Floats, last_nc: Floats, before_nc: Floats, force_nc: Floats, start_force_nc: Floats, mu: float, nu: float,
    mu_h: float, gamma_h: float, out_nc: Floats,
) -> None:  # fmt: skip
    """One internal stage of the Runge-Kutta-Chebyshev method."""
    rest = 1.0 - mu - nu
    for n in range(len(start_nc)):
        for c in range(3):
            out_nc[n, c] = (
                rest * start_nc[n, c]
                + mu * last_nc[n, c]
                + nu * before_nc[n, c]
                + mu_h * force_nc[n, c]
                + gamma_h * start_force_nc[n, c]
            )


@_njit
def fire_mix(velocities_nc: Floats, force_nc: Floats, alpha: float) -> None:
    """v <- (1 - alpha) v + alpha |v| F / |F|."""
    vv = ff = 0.0
    for n in range(len(velocities_nc)):
        for c in range(3):
            vv += velocities_nc[n, c] ** 2
            ff += force_nc[n, c] ** 2
    scale = alpha * np.sqrt(vv / ff) if ff > 0.0 else 0.0
    for n in range(len(velocities_nc)):
        for c in range(3):
            velocities_nc[n, c] = (1.0 - alpha) * velocities_nc[n, c] + scale * force_nc[n, c]


@_njit
def lifted_gauss_seidel_gradient(
    first_s: NDArray[np.int64], t_p: Ints, bond_pk: Floats, diagonal_sk: Floats, inverse_sk: Floats, mode_sc: Floats,
    lift: float, right_sc: Floats, target: float, max_iterations: int,
) -> tuple[Floats, int, bool]:  # fmt: skip
    """Solve (H + lift mode mode^T) . x = right, for a unit vector ``mode``, until the norm of the residual is about ``target``.

    As :func:`gauss_seidel_gradient`; the lift adds a product with one vector, (D + L)^-1 mode. Where the eigenvalue of the mode
    vanishes or is negative, the lifted matrix is still positive definite.
    """
    solution_sc = np.zeros_like(right_sc)
    direction_sc = np.zeros_like(right_sc)
    move_sc = np.empty_like(right_sc)
    residual_sc = np.empty_like(right_sc)
    product_sc = np.empty_like(right_sc)
    lifted_sc = np.empty_like(right_sc)
    solution, direction, move = solution_sc.reshape(-1), direction_sc.reshape(-1), move_sc.reshape(-1)
    residual, product, lifted = residual_sc.reshape(-1), product_sc.reshape(-1), lifted_sc.reshape(-1)
    rest_sc = mode_sc.copy()
    _forward_sweep(first_s, t_p, bond_pk, inverse_sk, rest_sc, lifted_sc)
    rest_sc[:] = right_sc
    _forward_sweep(first_s, t_p, bond_pk, inverse_sk, rest_sc, residual_sc)
    mode, right = mode_sc.reshape(-1), right_sc.reshape(-1)
    n_particles = len(right_sc)
    rz = 0.0
    for s in range(n_particles):
        rz += _square_by(diagonal_sk, residual_sc, s)
    square = 0.0
    for d in range(len(right)):
        square += right[d] * right[d]
    # The iteration measures the residual in the norm of M^-1, which is scaled to that of the right-hand side.
    stop = rz * target * target / square if square > 0.0 else 0.0
    beta = 0.0
    for iteration in range(max_iterations):
        if not rz > stop:
            return solution_sc, iteration, False
        _backward_sweep(
            first_s, t_p, bond_pk, diagonal_sk, inverse_sk, residual_sc, beta, direction_sc, move_sc, rest_sc
        )  # fmt: skip
        _forward_sweep(first_s, t_p, bond_pk, inverse_sk, rest_sc, product_sc)
        along = 0.0
        for d in range(len(direction)):
            along += mode[d] * move[d]
        along *= lift
        curvature = 0.0
        size = 0.0
        for d in range(len(direction)):
            product[d] += move[d] + along * lifted[d]
            curvature += direction[d] * product[d]
            size += move[d] * move[d]
        if not curvature > 1e-12 * size:
            return solution_sc, iteration + 1, True
        alpha = rz / curvature
        for d in range(len(direction)):
            solution[d] += alpha * move[d]
            residual[d] -= alpha * product[d]
        new = 0.0
        for s in range(n_particles):
            new += _square_by(diagonal_sk, residual_sc, s)
        beta = new / rz
        rz = new
    return solution_sc, max_iterations, False


@_njit
def mixed_derivative(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, d1_p: Floats, d2_p: Floats, gradient_cc: Floats,
    out_nc: Floats,
) -> None:  # fmt: skip
    """out = d2U / (dr dgamma) for the deformation dr = gamma E . r, from each pair 4 phi'' (r.E.r) r + 2 phi' E.r."""
    out_nc[:] = 0.0
    for r in range(len(owner_r)):
        s0 = s1 = s2 = 0.0
        for p in range(_index(first_r[r]), _index(first_r[r + 1])):
            j = _index(j_p[p])
            x, y, z = r_pc[p, 0], r_pc[p, 1], r_pc[p, 2]
            e0 = gradient_cc[0, 0] * x + gradient_cc[0, 1] * y + gradient_cc[0, 2] * z
            e1 = gradient_cc[1, 0] * x + gradient_cc[1, 1] * y + gradient_cc[1, 2] * z
            e2 = gradient_cc[2, 0] * x + gradient_cc[2, 1] * y + gradient_cc[2, 2] * z
            radial, along = 4.0 * d2_p[p] * (x * e0 + y * e1 + z * e2), 2.0 * d1_p[p]
            g0, g1, g2 = radial * x + along * e0, radial * y + along * e1, radial * z + along * e2
            s0 += g0
            s1 += g1
            s2 += g2
            out_nc[j, 0] += g0
            out_nc[j, 1] += g1
            out_nc[j, 2] += g2
        i = _index(owner_r[r])
        out_nc[i, 0] -= s0
        out_nc[i, 1] -= s1
        out_nc[i, 2] -= s2
