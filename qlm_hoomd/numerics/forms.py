"""Compiled loops over pairs for modes: homogeneous forms of a displacement field, their gradients.

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

from qlm_hoomd.numerics.jit import Floats, Ints, compiled, index


@compiled
def quartic_contraction(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, c1_p: Floats, c2_p: Floats, c3_p: Floats, z_nc: Floats,
    out_nc: Floats,
) -> None:  # fmt: skip
    """out = gradient of F4 over 4."""
    out_nc[:] = 0.0
    for r in range(len(owner_r)):
        i = index(owner_r[r])
        z0, z1, z2 = z_nc[i, 0], z_nc[i, 1], z_nc[i, 2]
        s0 = s1 = s2 = 0.0
        for p in range(index(first_r[r]), index(first_r[r + 1])):
            j = index(j_p[p])
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


@compiled
def cubic_contraction(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, c1_p: Floats, c2_p: Floats, z_nc: Floats, out_nc: Floats,
) -> None:  # fmt: skip
    """out = gradient of F3 over 3."""
    out_nc[:] = 0.0
    for r in range(len(owner_r)):
        i = index(owner_r[r])
        z0, z1, z2 = z_nc[i, 0], z_nc[i, 1], z_nc[i, 2]
        s0 = s1 = s2 = 0.0
        for p in range(index(first_r[r]), index(first_r[r + 1])):
            j = index(j_p[p])
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


@compiled
def quartic_along_line(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, c1_p: Floats, c2_p: Floats, c3_p: Floats, z_nc: Floats,
    e_nc: Floats, out: Floats,
) -> None:  # fmt: skip
    """out = the five coefficients of the polynomial F4(z + s e) in s, constant first."""
    f0 = f1 = f2 = f3 = f4 = 0.0
    for r in range(len(owner_r)):
        i = index(owner_r[r])
        for p in range(index(first_r[r]), index(first_r[r + 1])):
            j = index(j_p[p])
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


@compiled
def cubic_along_line(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, c1_p: Floats, c2_p: Floats, z_nc: Floats, e_nc: Floats,
    out: Floats,
) -> None:  # fmt: skip
    """out = the four coefficients of the polynomial F3(z + s e) in s, constant first."""
    f0 = f1 = f2 = f3 = 0.0
    for r in range(len(owner_r)):
        i = index(owner_r[r])
        for p in range(index(first_r[r]), index(first_r[r + 1])):
            j = index(j_p[p])
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
