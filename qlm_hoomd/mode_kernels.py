"""Compiled loops over pairs for modes: homogeneous forms of a displacement field, their gradients, and projected solves.

Every form here is a sum over the interacting pairs of products of a = r_ij . z_ij and b = z_ij . z_ij:

    quartic  F4 = sum c1 b^2 + c2 a^2 b + c3 a^4        U'''' : zzzz has c = (12 phi'', 48 phi''', 16 phi''''),
                                                         the norm of pseudo-harmonic modes c = (1, 0, 0)
    cubic    F3 = sum c1 a b + c2 a^3                    U''' : zzz has c = (12 phi'', 8 phi''')

with phi', phi'', ... derivatives with respect to w = r^2. The contraction D of a form of degree n is its gradient over n, so
that z . D = F.
"""

# Array names carry their axes: n particles, r runs of the half list, p pairs, c Cartesian components.

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qlm_hoomd import kernels
from qlm_hoomd.kernels import Floats, Ints, _index, _njit, inner_product


@_njit
def quartic_contraction(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, c1_p: Floats, c2_p: Floats, c3_p: Floats, z_nc: Floats,
    out_nc: Floats,
) -> None:  # fmt: skip
    """out = gradient of F4 over 4."""
    out_nc[:] = 0.0
    for r in range(len(owner_r)):
        i = _index(owner_r[r])
        z0, z1, z2 = z_nc[i, 0], z_nc[i, 1], z_nc[i, 2]
        s0 = s1 = s2 = 0.0
        for p in range(_index(first_r[r]), _index(first_r[r + 1])):
            j = _index(j_p[p])
            d0, d1, d2 = z_nc[j, 0] - z0, z_nc[j, 1] - z1, z_nc[j, 2] - z2
            a = r_pc[p, 0] * d0 + r_pc[p, 1] * d1 + r_pc[p, 2] * d2
            b = d0 * d0 + d1 * d1 + d2 * d2
            along = a * (0.5 * c2_p[p] * b + c3_p[p] * a * a)
            across = c1_p[p] * b + 0.5 * c2_p[p] * a * a
            g0 = along * r_pc[p, 0] + across * d0
            g1 = along * r_pc[p, 1] + across * d1
            g2 = along * r_pc[p, 2] + across * d2
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
def cubic_contraction(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, c1_p: Floats, c2_p: Floats, z_nc: Floats, out_nc: Floats,
) -> None:  # fmt: skip
    """out = gradient of F3 over 3."""
    out_nc[:] = 0.0
    for r in range(len(owner_r)):
        i = _index(owner_r[r])
        z0, z1, z2 = z_nc[i, 0], z_nc[i, 1], z_nc[i, 2]
        s0 = s1 = s2 = 0.0
        for p in range(_index(first_r[r]), _index(first_r[r + 1])):
            j = _index(j_p[p])
            d0, d1, d2 = z_nc[j, 0] - z0, z_nc[j, 1] - z1, z_nc[j, 2] - z2
            a = r_pc[p, 0] * d0 + r_pc[p, 1] * d1 + r_pc[p, 2] * d2
            b = d0 * d0 + d1 * d1 + d2 * d2
            along = (1.0 / 3.0) * c1_p[p] * b + c2_p[p] * a * a
            across = (2.0 / 3.0) * c1_p[p] * a
            g0 = along * r_pc[p, 0] + across * d0
            g1 = along * r_pc[p, 1] + across * d1
            g2 = along * r_pc[p, 2] + across * d2
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
def quartic_along_line(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, c1_p: Floats, c2_p: Floats, c3_p: Floats, z_nc: Floats,
    e_nc: Floats, out: Floats,
) -> None:  # fmt: skip
    """out = the five coefficients of the polynomial F4(z + s e) in s, constant first."""
    f0 = f1 = f2 = f3 = f4 = 0.0
    for r in range(len(owner_r)):
        i = _index(owner_r[r])
        for p in range(_index(first_r[r]), _index(first_r[r + 1])):
            j = _index(j_p[p])
            a0 = a1 = b0 = b1 = b2 = 0.0
            for c in range(3):
                z, e = z_nc[j, c] - z_nc[i, c], e_nc[j, c] - e_nc[i, c]
                a0 += r_pc[p, c] * z
                a1 += r_pc[p, c] * e
                b0 += z * z
                b1 += 2.0 * z * e
                b2 += e * e
            q0, q1, q2 = a0 * a0, 2.0 * a0 * a1, a1 * a1
            # F4 = b x + q y with x = c1 b + c2 q, y = c3 q and q = a^2.
            x0, x1, x2 = c1_p[p] * b0 + c2_p[p] * q0, c1_p[p] * b1 + c2_p[p] * q1, c1_p[p] * b2 + c2_p[p] * q2
            y0, y1, y2 = c3_p[p] * q0, c3_p[p] * q1, c3_p[p] * q2
            f0 += b0 * x0 + q0 * y0
            f1 += b0 * x1 + b1 * x0 + q0 * y1 + q1 * y0
            f2 += b0 * x2 + b1 * x1 + b2 * x0 + q0 * y2 + q1 * y1 + q2 * y0
            f3 += b1 * x2 + b2 * x1 + q1 * y2 + q2 * y1
            f4 += b2 * x2 + q2 * y2
    out[0], out[1], out[2], out[3], out[4] = f0, f1, f2, f3, f4


@_njit
def cubic_along_line(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, c1_p: Floats, c2_p: Floats, z_nc: Floats, e_nc: Floats,
    out: Floats,
) -> None:  # fmt: skip
    """out = the four coefficients of the polynomial F3(z + s e) in s, constant first."""
    f0 = f1 = f2 = f3 = 0.0
    for r in range(len(owner_r)):
        i = _index(owner_r[r])
        for p in range(_index(first_r[r]), _index(first_r[r + 1])):
            j = _index(j_p[p])
            a0 = a1 = b0 = b1 = b2 = 0.0
            for c in range(3):
                z, e = z_nc[j, c] - z_nc[i, c], e_nc[j, c] - e_nc[i, c]
                a0 += r_pc[p, c] * z
                a1 += r_pc[p, c] * e
                b0 += z * z
                b1 += 2.0 * z * e
                b2 += e * e
            # F3 = a x with x = c1 b + c2 a^2.
            x0 = c1_p[p] * b0 + c2_p[p] * a0 * a0
            x1 = c1_p[p] * b1 + 2.0 * c2_p[p] * a0 * a1
            x2 = c1_p[p] * b2 + c2_p[p] * a1 * a1
            f0 += a0 * x0
            f1 += a0 * x1 + a1 * x0
            f2 += a0 * x2 + a1 * x1
            f3 += a1 * x2
    out[0], out[1], out[2], out[3] = f0, f1, f2, f3


@_njit
def apply_blocks(blocks_ncc: Floats, vector_nc: Floats, out_nc: Floats) -> None:
    """out = block-diagonal matrix times vector."""
    for n in range(len(vector_nc)):
        v0, v1, v2 = vector_nc[n, 0], vector_nc[n, 1], vector_nc[n, 2]
        for c in range(3):
            out_nc[n, c] = blocks_ncc[n, c, 0] * v0 + blocks_ncc[n, c, 1] * v1 + blocks_ncc[n, c, 2] * v2


@_njit
def _add(scale: float, v_nc: Floats, out_nc: Floats) -> None:
    for n in range(len(v_nc)):
        for c in range(3):
            out_nc[n, c] += scale * v_nc[n, c]


@_njit
def remove_drift(bonded_n: NDArray[np.bool_], field_nc: Floats) -> None:
    """Take the mean over the bonded particles out of their field, in place; the other particles come to rest."""
    for c in range(3):
        total = 0.0
        for n in range(len(field_nc)):
            if bonded_n[n]:
                total += field_nc[n, c]
        mean = total / bonded_n.sum()
        for n in range(len(field_nc)):
            field_nc[n, c] = field_nc[n, c] - mean if bonded_n[n] else 0.0


@_njit
def projected_conjugate_gradient(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, d1_p: Floats, d2_p: Floats, inverse_ncc: Floats,
    right_nc: Floats, z_nc: Floats, tolerance: float, max_products: int,
) -> tuple[Floats, int, bool, float]:  # fmt: skip
    """Solve P . H . P . y = right with P = 1 - z z, to a residual of tolerance * |right|, by preconditioned conjugate gradients.

    ``right`` is orthogonal to the unit vector z and to translations. The preconditioner M^-1 is followed by the projection
    along M^-1 z, which keeps y orthogonal to z however soft z is. Returns y, the number of Hessian products, whether a
    direction of negative curvature was met, and the relative residual that remains.
    """
    y_nc = np.zeros_like(right_nc)
    residual_nc = right_nc.copy()
    target = inner_product(right_nc, right_nc)
    if target == 0.0:
        return y_nc, 0, False, 0.0
    square = target
    mz_nc = np.empty_like(right_nc)
    apply_blocks(inverse_ncc, z_nc, mz_nc)
    zmz = inner_product(z_nc, mz_nc)
    step_nc = np.empty_like(right_nc)
    product_nc = np.empty_like(right_nc)
    apply_blocks(inverse_ncc, residual_nc, step_nc)
    _add(-inner_product(z_nc, step_nc) / zmz, mz_nc, step_nc)
    direction_nc = step_nc.copy()
    rs = inner_product(residual_nc, step_nc)
    for iteration in range(max_products):
        kernels.hessian_product(owner_r, first_r, j_p, r_pc, d1_p, d2_p, direction_nc, product_nc)
        _add(-inner_product(z_nc, product_nc), z_nc, product_nc)
        curvature = inner_product(direction_nc, product_nc)
        if not curvature > 1e-12 * inner_product(direction_nc, direction_nc):
            return y_nc, iteration + 1, True, np.sqrt(square / target)
        alpha = rs / curvature
        _add(alpha, direction_nc, y_nc)
        _add(-alpha, product_nc, residual_nc)
        square = inner_product(residual_nc, residual_nc)
        if square <= tolerance * tolerance * target:
            return y_nc, iteration + 1, False, np.sqrt(square / target)
        apply_blocks(inverse_ncc, residual_nc, step_nc)
        _add(-inner_product(z_nc, step_nc) / zmz, mz_nc, step_nc)
        new = inner_product(residual_nc, step_nc)
        for n in range(len(step_nc)):
            for c in range(3):
                direction_nc[n, c] = step_nc[n, c] + new / rs * direction_nc[n, c]
        rs = new
    return y_nc, max_products, False, np.sqrt(square / target)
