"""Compiled solvers for the Hessian: its triangle in spatial order, conjugate gradients under Gauss-Seidel and under blocks."""

# Array names carry their axes: n particles, r runs of the half list, p pairs, c Cartesian components, k components
# of a symmetric block or of a bond, s places in the spatial order. d1_p, d2_p are derivatives of phi with respect to r^2.

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qlm_hoomd.numerics.jit import Floats, Ints, compiled, index
from qlm_hoomd.numerics.pairs import hessian_product
from qlm_hoomd.numerics.vectors import inner_product, largest_norm

# When conjugate gradients look at their true residual, and how often.
_NEAR, _ITERATIONS_PER_LOOK = 10.0, 3


@compiled
def inverse_diagonal_blocks(
    n_particles: int, i_p: Ints, j_p: Ints, r_pc: Floats, d1_p: Floats, d2_p: Floats, flat: bool, out_ncc: Floats
) -> None:
    """Inverse of the 3x3 diagonal block of each particle; the identity over the trace where it is not positive definite.

    In a flat box the third component, in which nothing moves, gets the mean stiffness of the others.
    """
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
        if flat:
            f = 0.5 * (a + d)
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


@compiled
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
        for p in range(index(first_r[s]), index(first_r[s + 1])):
            first_s[index(min(s, place_n[j_p[p]]) + 1)] += 1
    for s in range(n_particles):
        first_s[s + 1] += first_s[s]
    filled_s = first_s[:n_particles].copy()
    t_p = np.empty(len(j_p), np.int32)
    bond_pk = np.empty((len(j_p), 5))
    for s in range(n_particles):
        for p in range(index(first_r[s]), index(first_r[s + 1])):
            t = place_n[index(j_p[p])]
            row = index(min(s, t))
            slot = index(filled_s[row])
            filled_s[row] += 1
            t_p[slot] = max(s, t)
            bond_pk[slot, 0] = r_pc[p, 0]
            bond_pk[slot, 1] = r_pc[p, 1]
            bond_pk[slot, 2] = r_pc[p, 2]
            bond_pk[slot, 3] = 4.0 * d2_p[p]
            bond_pk[slot, 4] = 2.0 * d1_p[p]
    return first_s, t_p, bond_pk


@compiled
def diagonal_of_triangle(
    first_s: NDArray[np.int64], t_p: Ints, bond_pk: Floats, shift: float, flat: bool, diagonal_sk: Floats, inverse_sk: Floats
) -> bool:  # fmt: skip
    """The diagonal blocks of H + shift and their inverses, each as (xx, xy, xz, yy, yz, zz).

    A rattler, whose block is empty without a shift, gets the identity. Returns whether another block is not positive definite,
    which the matrix then is not either. In a flat box the third component, in which nothing moves, gets the mean stiffness of
    the others.
    """
    n_particles = len(first_s) - 1
    for s in range(n_particles):
        for k in range(6):
            diagonal_sk[s, k] = shift if k in (0, 3, 5) else 0.0
    for s in range(n_particles):
        for p in range(index(first_s[s]), index(first_s[s + 1])):
            t = index(t_p[p])
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
        if flat:
            diagonal_sk[s, 5] = 0.5 * (diagonal_sk[s, 0] + diagonal_sk[s, 3])
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


@compiled
def _backward_sweep(
    first_s: NDArray[np.int64], t_p: Ints, bond_pk: Floats, diagonal_sk: Floats, inverse_sk: Floats, residual_sc: Floats,
    beta: float, direction_sc: Floats, move_sc: Floats, rest_sc: Floats,
) -> None:  # fmt: skip
    """direction <- D residual + beta direction; move = (D + L^T)^-1 direction; rest = direction - D move."""
    n_particles = len(first_s) - 1
    for step in range(n_particles):
        s = index(n_particles - 1 - step)
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
        for p in range(index(first_s[s]), index(first_s[s + index(1)])):
            t = index(t_p[p])
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


@compiled
def _forward_sweep(
    first_s: NDArray[np.int64], t_p: Ints, bond_pk: Floats, inverse_sk: Floats, rest_sc: Floats, out_sc: Floats
) -> None:
    """out = (D + L)^-1 rest; ``rest`` is used up."""
    for s in range(index(len(first_s) - 1)):
        y0, y1, y2 = rest_sc[s, 0], rest_sc[s, 1], rest_sc[s, 2]
        i01, i02, i12 = inverse_sk[s, 1], inverse_sk[s, 2], inverse_sk[s, 4]
        z0 = inverse_sk[s, 0] * y0 + i01 * y1 + i02 * y2
        z1 = i01 * y0 + inverse_sk[s, 3] * y1 + i12 * y2
        z2 = i02 * y0 + i12 * y1 + inverse_sk[s, 5] * y2
        out_sc[s, 0] = z0
        out_sc[s, 1] = z1
        out_sc[s, 2] = z2
        for p in range(index(first_s[s]), index(first_s[s + index(1)])):
            t = index(t_p[p])
            b0, b1, b2, across = bond_pk[p, 0], bond_pk[p, 1], bond_pk[p, 2], bond_pk[p, 4]
            along = bond_pk[p, 3] * (b0 * z0 + b1 * z1 + b2 * z2)
            rest_sc[t, 0] += along * b0 + across * z0
            rest_sc[t, 1] += along * b1 + across * z1
            rest_sc[t, 2] += along * b2 + across * z2


@compiled
def _largest_of_lower(
    first_s: NDArray[np.int64], t_p: Ints, bond_pk: Floats, diagonal_sk: Floats, vector_sc: Floats, out_sc: Floats
) -> float:
    """Largest length of a particle's vector in out = (D + L) vector."""
    out_sc[:] = 0.0
    square = 0.0
    for s in range(index(len(first_s) - 1)):
        z0, z1, z2 = vector_sc[s, 0], vector_sc[s, 1], vector_sc[s, 2]
        d01, d02, d12 = diagonal_sk[s, 1], diagonal_sk[s, 2], diagonal_sk[s, 4]
        x0 = out_sc[s, 0] + diagonal_sk[s, 0] * z0 + d01 * z1 + d02 * z2
        x1 = out_sc[s, 1] + d01 * z0 + diagonal_sk[s, 3] * z1 + d12 * z2
        x2 = out_sc[s, 2] + d02 * z0 + d12 * z1 + diagonal_sk[s, 5] * z2
        square = max(square, x0 * x0 + x1 * x1 + x2 * x2)
        for p in range(index(first_s[s]), index(first_s[s + index(1)])):
            t = index(t_p[p])
            b0, b1, b2, across = bond_pk[p, 0], bond_pk[p, 1], bond_pk[p, 2], bond_pk[p, 4]
            along = bond_pk[p, 3] * (b0 * z0 + b1 * z1 + b2 * z2)
            out_sc[t, 0] -= along * b0 + across * z0
            out_sc[t, 1] -= along * b1 + across * z1
            out_sc[t, 2] -= along * b2 + across * z2
    return np.sqrt(square)


@compiled
def gauss_seidel_gradient(
    first_s: NDArray[np.int64], t_p: Ints, bond_pk: Floats, diagonal_sk: Floats, inverse_sk: Floats, right_sc: Floats,
    target: float, max_iterations: int, mode_sc: Floats | None = None, lift: float = 0.0,
) -> tuple[Floats, int, bool]:  # fmt: skip
    """Solve H . x = right until no particle's residual is longer than ``target``.

    With a unit vector ``mode`` the matrix is H + lift mode mode^T, which is positive definite also where the eigenvalue of the
    mode vanishes or is negative, and the end is where the norm of the residual is about ``target``.

    Conjugate gradients preconditioned by symmetric block Gauss-Seidel, M = (D + L) D^-1 (D + L)^T for H = D + L + L^T, in the
    form of Eisenstat, SIAM J. Sci. Stat. Comput. 2, 1 (1981): iterating on (D + L)^-1 H (D + L)^-T costs the two sweeps and no
    product; the lift adds one with the vector (D + L)^-1 mode. Returns x, the number of iterations, and whether a direction of
    negative curvature was met; x is then the solution reached before, or zero.
    """
    solution_sc = np.zeros_like(right_sc)
    direction_sc = np.zeros_like(right_sc)
    move_sc = np.empty_like(right_sc)
    residual_sc = np.empty_like(right_sc)
    product_sc = np.empty_like(right_sc)
    # Flat views: the loops below run over memory without a thought for particles.
    solution, direction, move = solution_sc.reshape(-1), direction_sc.reshape(-1), move_sc.reshape(-1)
    residual, product = residual_sc.reshape(-1), product_sc.reshape(-1)
    rest_sc = np.empty_like(right_sc)
    # What depends on whether there is a mode is decided when this is compiled.
    if mode_sc is not None:
        lifted_sc = np.empty_like(right_sc)
        mode, lifted = mode_sc.reshape(-1), lifted_sc.reshape(-1)
        rest_sc[:] = mode_sc
        _forward_sweep(first_s, t_p, bond_pk, inverse_sk, rest_sc, lifted_sc)
    rest_sc[:] = right_sc
    _forward_sweep(first_s, t_p, bond_pk, inverse_sk, rest_sc, residual_sc)
    n_particles = len(right_sc)
    rz = 0.0
    for s in range(n_particles):
        rz += _square_by(diagonal_sk, residual_sc, s)
    # The iteration measures the residual in the norm of M^-1. For the norm that is scaled to that of the right-hand side. For
    # the longest residual it says when the end is near; what is left for one particle is then looked up now and then, at a
    # third of the price of an iteration.
    square = inner_product(right_sc, right_sc)
    stop = rz * target * target / square if square > 0.0 else 0.0
    scale = largest_norm(right_sc) / np.sqrt(rz) if rz > 0.0 else 0.0
    next_look = 0
    beta = 0.0
    for iteration in range(max_iterations):
        if mode_sc is not None:
            if not rz > stop:
                return solution_sc, iteration, False
        elif iteration >= next_look and not scale * np.sqrt(rz) > _NEAR * target:
            largest = _largest_of_lower(first_s, t_p, bond_pk, diagonal_sk, residual_sc, rest_sc)
            if not largest > target:
                return solution_sc, iteration, False
            scale = largest / np.sqrt(rz)
            next_look = iteration + (_ITERATIONS_PER_LOOK if largest > 2.0 * target else 1)
        _backward_sweep(
            first_s, t_p, bond_pk, diagonal_sk, inverse_sk, residual_sc, beta, direction_sc, move_sc, rest_sc
        )  # fmt: skip
        _forward_sweep(first_s, t_p, bond_pk, inverse_sk, rest_sc, product_sc)
        if mode_sc is not None:
            along = 0.0
            for d in range(len(move)):
                along += mode[d] * move[d]
            along *= lift
            for d in range(len(product)):
                product[d] += along * lifted[d]
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


@compiled
def gauss_seidel(
    first_s: NDArray[np.int64], t_p: Ints, bond_pk: Floats, diagonal_sk: Floats, inverse_sk: Floats, order_s: Ints,
    vector_nc: Floats, out_nc: Floats,
) -> None:  # fmt: skip
    """out = M^-1 vector for the M of :func:`gauss_seidel_gradient`, particles in their own order; it is positive definite."""
    there_sc = vector_nc[order_s]
    back_sc = np.empty_like(there_sc)
    _forward_sweep(first_s, t_p, bond_pk, inverse_sk, there_sc, back_sc)
    zero_sc = np.zeros_like(there_sc)
    move_sc = np.empty_like(there_sc)
    _backward_sweep(first_s, t_p, bond_pk, diagonal_sk, inverse_sk, back_sc, 0.0, zero_sc, move_sc, there_sc)
    for s in range(len(order_s)):
        n = index(order_s[s])
        out_nc[n, 0], out_nc[n, 1], out_nc[n, 2] = move_sc[s, 0], move_sc[s, 1], move_sc[s, 2]


@compiled
def _square_by(matrix_sk: Floats, vector_sc: Floats, s: int) -> float:
    """Vector . matrix . vector of one particle."""
    v0, v1, v2 = vector_sc[s, 0], vector_sc[s, 1], vector_sc[s, 2]
    diagonal = matrix_sk[s, 0] * v0 * v0 + matrix_sk[s, 3] * v1 * v1 + matrix_sk[s, 5] * v2 * v2
    return diagonal + 2.0 * (v0 * (matrix_sk[s, 1] * v1 + matrix_sk[s, 2] * v2) + matrix_sk[s, 4] * v1 * v2)


@compiled
def apply_blocks(blocks_ncc: Floats, vector_nc: Floats, out_nc: Floats) -> None:
    """out = block-diagonal matrix times vector."""
    for n in range(len(vector_nc)):
        v0, v1, v2 = vector_nc[n, 0], vector_nc[n, 1], vector_nc[n, 2]
        for c in range(3):
            out_nc[n, c] = blocks_ncc[n, c, 0] * v0 + blocks_ncc[n, c, 1] * v1 + blocks_ncc[n, c, 2] * v2


@compiled
def _add(scale: float, v_nc: Floats, out_nc: Floats) -> None:
    for n in range(len(v_nc)):
        for c in range(3):
            out_nc[n, c] += scale * v_nc[n, c]


@compiled
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


@compiled
def projected_conjugate_gradient(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, r_pc: Floats, d1_p: Floats, d2_p: Floats, inverse_ncc: Floats,
    right_nc: Floats, z_nc: Floats, tolerance: float, max_products: int,
) -> tuple[Floats, int, bool, float]:  # fmt: skip
    """Solve P . H . P . y = right, P = 1 - z z, to a residual of tolerance * |right| by preconditioned conjugate gradients.

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
        hessian_product(owner_r, first_r, j_p, r_pc, d1_p, d2_p, direction_nc, product_nc)
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
