"""Compiled loops over pairs and particles. Private to mechanics, minimisers and the CPU engine; nothing here allocates state.

Pairs come as a half list grouped by their first particle: ``owner_r`` names the first particle of each run r, and the run's
pairs are ``first_r[r]`` to ``first_r[r + 1]``. Runs follow a spatial order, so that neighbouring pairs share cache lines, and
within short stretches of it their length, so that the processor foresees where the loop over a run ends.
"""

# Array names carry their axes: n particles, r runs of the half list, p pairs, c Cartesian components, k derivative order,
# s periodic shifts or places in the spatial order, b block rows of the Hessian. d1_p, d2_p, ... are derivatives of phi with
# respect to r^2.

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qlm_hoomd.numerics.jit import Bytes, Floats, Ints, compiled, index

_STRETCH = 64


@compiled
def fold_images(positions_nc: Floats, images_nc: Floats, matrix_cc: Floats, out_nc: Floats) -> None:
    """positions - images . matrix, for a lower triangular matrix."""
    for n in range(len(positions_nc)):
        i0, i1, i2 = images_nc[n, 0], images_nc[n, 1], images_nc[n, 2]
        out_nc[n, 0] = positions_nc[n, 0] - (i0 * matrix_cc[0, 0] + i1 * matrix_cc[1, 0] + i2 * matrix_cc[2, 0])
        out_nc[n, 1] = positions_nc[n, 1] - (i1 * matrix_cc[1, 1] + i2 * matrix_cc[2, 1])
        out_nc[n, 2] = positions_nc[n, 2] - i2 * matrix_cc[2, 2]


@compiled
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


@compiled
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


@compiled
def pair_vectors(
    positions_nc: Floats, owner_r: Ints, first_r: NDArray[np.int64], partner_p: Ints, code_p: Bytes, shifts_sc: Floats,
    r_pc: Floats, r2_p: Floats,
) -> None:  # fmt: skip
    """Vector from the first to the second particle of each pair, and its square."""
    for r in range(len(owner_r)):
        i = index(owner_r[r])
        x0, x1, x2 = positions_nc[i, 0], positions_nc[i, 1], positions_nc[i, 2]
        for p in range(index(first_r[r]), index(first_r[r + 1])):
            j, s = index(partner_p[p]), code_p[p]
            d0 = positions_nc[j, 0] - x0 + shifts_sc[s, 0]
            d1 = positions_nc[j, 1] - x1 + shifts_sc[s, 1]
            d2 = positions_nc[j, 2] - x2 + shifts_sc[s, 2]
            r_pc[p, 0] = d0
            r_pc[p, 1] = d1
            r_pc[p, 2] = d2
            r2_p[p] = d0 * d0 + d1 * d1 + d2 * d2


@compiled
def add_forces(
    owner_r: Ints, first_r: NDArray[np.int64], partner_p: Ints, r_pc: Floats, d1_p: Floats, force_nc: Floats
) -> None:
    """Force -dU/dr of every particle: 2 phi' r towards the partner for the first, the opposite for the second."""
    for r in range(len(owner_r)):
        f0 = f1 = f2 = 0.0
        for p in range(index(first_r[r]), index(first_r[r + 1])):
            scale = 2.0 * d1_p[p]
            j = index(partner_p[p])
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


@compiled
def keep_interacting(
    owner_r: Ints, first_r: NDArray[np.int64], partner_p: Ints, pairtype_p: Bytes, r_pc: Floats, r2_p: Floats, cutoff2_t: Floats,
) -> tuple[Ints, NDArray[np.int64], Ints, Ints, Bytes, Floats, Floats]:  # fmt: skip
    """The pairs inside their cut-off: owner_r, first_r, i_p, j_p, pairtype_p, r_pc, r2_p."""
    count_r = np.zeros(len(owner_r), np.int64)
    for r in range(len(owner_r)):
        for p in range(index(first_r[r]), index(first_r[r + 1])):
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
        for p in range(index(first_r[run]), index(first_r[run + 1])):
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


@compiled
def hessian_product(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, d1_p: Floats, d2_p: Floats, v_nc: Floats, out_nc: Floats,
) -> None:  # fmt: skip
    """out = H . v with the pair block 2 phi' 1 + 4 phi'' r r, pre-stress term included."""
    out_nc[:] = 0.0
    for r in range(len(owner_r)):
        i = index(owner_r[r])
        v0, v1, v2 = v_nc[i, 0], v_nc[i, 1], v_nc[i, 2]
        s0 = s1 = s2 = 0.0
        for p in range(index(first_r[r]), index(first_r[r + 1])):
            j = index(j_p[p])
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


@compiled
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
            b = index(filled_n[column])
            filled_n[column] += 1
            row_b[b] = row
            pair_b[b] = p
    column_b = np.empty(rows_n[n_particles], np.int32)
    source_b = np.empty(rows_n[n_particles], np.int32)
    filled_n[:] = rows_n[:n_particles]
    for n in range(n_particles):
        for b in range(index(rows_n[n]), index(rows_n[n + 1])):
            slot = index(filled_n[row_b[b]])
            filled_n[row_b[b]] += 1
            column_b[slot] = n
            source_b[slot] = pair_b[b]
    return column_b, rows_n, source_b


@compiled
def hessian_blocks(rows_n: Ints, source_b: Ints, r_pc: Floats, d1_p: Floats, d2_p: Floats, blocks_bcc: Floats) -> None:
    """The blocks of the Hessian, -(2 phi' 1 + 4 phi'' r r) off the diagonal, minus the sum of their row on it."""
    for n in range(len(rows_n) - 1):
        diagonal = index(0)
        d00 = d01 = d02 = d11 = d12 = d22 = 0.0
        for b in range(index(rows_n[n]), index(rows_n[n + 1])):
            if source_b[b] < 0:
                diagonal = b
                continue
            p = index(source_b[b])
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


@compiled
def mixed_derivative(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, d1_p: Floats, d2_p: Floats, gradient_cc: Floats,
    out_nc: Floats,
) -> None:  # fmt: skip
    """out = d2U / (dr dgamma) for the deformation dr = gamma E . r, from each pair 4 phi'' (r.E.r) r + 2 phi' E.r."""
    out_nc[:] = 0.0
    for r in range(len(owner_r)):
        s0 = s1 = s2 = 0.0
        for p in range(index(first_r[r]), index(first_r[r + 1])):
            j = index(j_p[p])
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
        i = index(owner_r[r])
        out_nc[i, 0] -= s0
        out_nc[i, 1] -= s1
        out_nc[i, 2] -= s2
