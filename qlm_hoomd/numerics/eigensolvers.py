"""The lowest eigenpairs of a Hessian by block Lanczos on a Chebyshev filter, shift-invert or LAPACK; proofs that none is missed.

A solver takes the interacting pairs of a glass and returns orthonormal vectors; what the eigenvalues and the residuals are is
found from those in one place, :func:`rayleigh_ritz`.
"""

# Array names carry their axes: n particles, c Cartesian components, d = 3N degrees of freedom, m modes or basis vectors,
# b vectors of one block, p pairs, k the six entries of a symmetric 3x3 matrix, r runs of the half list of pairs.

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg as spl

from qlm_hoomd.base.errors import ConvergenceError
from qlm_hoomd.numerics.jit import Floats
from qlm_hoomd.numerics.lanes import BlockHessian, Chebyshev
from qlm_hoomd.numerics.simd import LANES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qlm_hoomd.numerics.bonds import Bonds

# A Ritz vector of the filter counts as converged when it is off by this angle; its residual is then far below 1e-8 lambda_max.
_ANGLE = 1e-10
# How many times more modes than asked for are expected below the cut.
_ROOM = 2.0
# Blocks that a fresh random start is given to show a mode that was missed (its share is then off by less than 1e-4).
_BLOCKS_OF_PROOF = 3
# How independent rows must be for the first round of their orthonormalisation to leave the second a small correction.
_INDEPENDENT = 1e-5
# Residual over the largest eigenvalue at which extrapolated modes are good enough.
_NEAR_ENOUGH = 2e-9
_SHIFT = 1e-3
# Eigenvalues closer than this, relative to the largest one of the window, are taken for one degenerate level.
_SAME_LEVEL = 1e-6
# And those below this part of the largest eigenvalue of the Hessian are zero to rounding.
_ZERO_LEVEL = 1e-12


def _orthonormal(basis_md: Floats, block_md: Floats) -> tuple[Floats, Floats]:
    """The block's rows made orthonormal to the basis and to each other, and R with block = R . rows + (part in the basis)."""
    factor_bb = np.eye(len(block_md))
    # Once is not enough where the block lies nearly in the span of the basis; twice is.
    for _ in range(2):
        block_md = block_md - (block_md @ basis_md.T) @ basis_md
        block_md, lower_bb = _orthonormal_rows(block_md)
        factor_bb = factor_bb @ lower_bb
    return block_md, factor_bb


def _orthonormal_rows(block_md: Floats) -> tuple[Floats, Floats]:
    """Orthonormal rows Q and L with block = L . Q; after Cholesky where that is accurate, which is much quicker."""
    lower_bb, failed = scipy.linalg.lapack.dpotrf(block_md @ block_md.T, lower=True, clean=True)
    diagonal_b = np.abs(np.diagonal(lower_bb))
    if failed == 0 and diagonal_b.min() > _INDEPENDENT * diagonal_b.max():
        return scipy.linalg.inv(lower_bb) @ block_md, lower_bb
    columns, upper_bb = scipy.linalg.qr(block_md.T, mode="economic", overwrite_a=True, check_finite=False)
    return np.ascontiguousarray(columns.T), np.asarray(upper_bb.T, dtype=np.float64)


def _window(hessian: BlockHessian, k: int, top: float, rng: np.random.Generator) -> tuple[float, float]:
    """A bound of the spectrum from below, 0 at a minimum, and a cut with somewhat more than ``k`` modes below it.

    Both come from the density of states by the kernel polynomial method, with Jackson's kernel. Source: Weisse, Wellein,
    Alvermann, Fehske, Rev. Mod. Phys. 78, 275 (2006).
    """
    share = min(0.5, (_ROOM * k + 4.0) / hessian.freedom)
    # Debye's count of modes says what resolution is needed; the density itself is measured.
    degree = max(8, round(3.0 * np.pi / share ** (1.0 / hessian.bonds.dimensions)))
    low = 0.0
    while True:
        centre, half = 0.5 * (top + low), 0.5 * (top - low)
        trace_m = hessian.moments(Chebyshev(degree, centre, half), rng)
        # No polynomial exceeds 1 within the bounds: where a trace does, there are eigenvalues below, the state is a saddle.
        if (np.abs(trace_m) <= 1.001 * trace_m[0]).all():
            break
        if low <= -hessian.bound:
            raise ConvergenceError("the largest eigenvalue was not found; use the solver 'dense'.")
        low = max(min(4.0 * low, -1e-3 * top), -hessian.bound)
    count = len(trace_m)
    m = np.arange(1, count)
    step = np.pi / (count + 1)
    jackson_m = ((count - m + 1) * np.cos(step * m) + np.sin(step * m) / np.tan(step)) / (count + 1)
    theta_g = np.linspace(np.pi, 0.0, 2000)
    below_g = trace_m[0] * (1.0 - theta_g / np.pi) - (2.0 / np.pi) * np.sin(np.outer(theta_g, m)) @ (
        jackson_m * trace_m[1:] / m
    )
    return low, float(centre + half * np.cos(theta_g[int(np.argmax(below_g >= share * hessian.freedom))]))


class _Krylov:
    """Orthonormal vectors that grow by blocks, and the filter's matrix within them."""

    def __init__(self, hessian: BlockHessian, polynomial: Chebyshev, k: int) -> None:
        self._hessian, self._polynomial = hessian, polynomial
        self._basis_md = np.empty((3 * k + 20 * LANES, hessian.size))
        self._matrix_mm = np.zeros((0, 0))
        # Where each sequence of blocks ends, and what of the filter's image of that block lies outside the basis.
        self._ends: list[tuple[int, Floats]] = []
        self._next_bd: Floats | None = None

    @property
    def basis_md(self) -> Floats:
        return self._basis_md[: len(self._matrix_mm)]

    def start(self, block_bd: Floats) -> None:
        """Begin a new sequence with a block of vectors."""
        self._next_bd = _orthonormal(self.basis_md, block_bd)[0]
        self._ends.append((0, np.empty((0, 0))))

    def extend(self) -> None:
        """Add the next block of the sequence."""
        assert self._next_bd is not None
        old = len(self._matrix_mm)
        new = old + LANES
        if new > self._hessian.freedom:
            raise ConvergenceError("the block Lanczos solver ran out of dimensions; use the solver 'dense'.")
        if new > len(self._basis_md):
            self._basis_md = np.concatenate([self._basis_md, np.empty_like(self._basis_md)])
        self._basis_md[old:new] = self._next_bd
        image_bd = self._hessian.filtered(self._next_bd, self._polynomial)
        matrix_mm = np.zeros((new, new))
        matrix_mm[:old, :old] = self._matrix_mm
        matrix_mm[:, old:] = self._basis_md[:new] @ image_bd.T
        matrix_mm[old:, :old] = matrix_mm[:old, old:].T
        self._matrix_mm = matrix_mm
        self._next_bd, rest_bb = _orthonormal(self.basis_md, image_bd)
        self._ends[-1] = new, rest_bb

    def largest(self, k: int) -> tuple[Floats, Floats, Floats]:
        """The filter's k largest Ritz values (descending), their coordinates ((M, k) ndarray) and angles of error."""
        size = len(self._matrix_mm)
        value_m, rotation_mm = scipy.linalg.eigh(self._matrix_mm, subset_by_index=[size - k, size - 1], check_finite=False)
        value_m, rotation_mm = value_m[::-1], rotation_mm[:, ::-1]
        square_m = sum(((rest.T @ rotation_mm[end - LANES : end]) ** 2).sum(axis=0) for end, rest in self._ends)
        return value_m, rotation_mm, np.sqrt(square_m) / np.abs(value_m)


def by_filter(bonds: Bonds, k: int) -> tuple[Floats, float]:
    """Block Lanczos on a Chebyshev polynomial of the Hessian. Memory and time for one product grow as N.

    The polynomial is large below a cut, which the measured density of states places above the window, and of order one over the
    rest of the spectrum. When the window has converged, a fresh random block, made orthogonal to all that was found, starts a
    second sequence: a mode that the first one missed, such as the ninth of a degenerate level, would show up in it.

    Returns:
        orthonormal vectors ((k, N, 3) ndarray), and a bound of the largest eigenvalue, or a scale of it [energy / length^2].

    Raises:
        ConvergenceError: if the window was not found, or is too large a part of the spectrum.
    """
    hessian = BlockHessian(bonds)
    zero_mnc = hessian.rigid_clusters(k)
    if hessian.freedom == 0:
        return zero_mnc, 1.0
    # Where nothing is stiff, what is soft on the scale of the bonds must not count as the top.
    top = max(1.05 * bonds.largest_eigenvalue(), 1e-3 * hessian.bound)
    # Exact zero modes are part of the window, unless a saddle fills it with negative ones.
    wanted = max(1, k - len(zero_mnc))
    vector_md, eigenvalue_m = _found_by_filter(hessian, wanted, top)
    if wanted < k and eigenvalue_m[-1] < 0.0:
        vector_md, eigenvalue_m = _found_by_filter(hessian, k, top)
    vector_mnc = np.concatenate([hessian.embedded(vector_md), zero_mnc])
    order = np.argsort(np.concatenate([eigenvalue_m, np.zeros(len(zero_mnc))]), kind="stable")
    return vector_mnc[order[:k]], top


def by_warm_start(bonds: Bonds, k: int, former: Sequence[Floats]) -> tuple[Floats, float] | None:
    """The window from those of nearby states, such as the last two or three along a strain branch.

    They are extrapolated; if the residuals are then small enough, a fresh random block must find no further mode. Where they
    are not, what is missing lies close above the window, and taking it out costs as much as a cold start (tried).

    Args:
        bonds: the interacting pairs.
        k: number of modes.
        former: k or more modes ((M, N, 3) ndarray) of each state, the nearest last.

    Returns:
        as :func:`by_filter`; None if the start is too far away, or if a mode outside its span came down into the window.
    """
    hessian = BlockHessian(bonds)
    if min(len(vector_mnc) for vector_mnc in former) < k or hessian.n_particles < bonds.n_particles or hessian.freedom < 8 * k:
        return None
    top = 1.05 * bonds.largest_eigenvalue()
    basis_md = _extrapolated(hessian, [hessian.ordered(vector_mnc[:k]) for vector_mnc in former])
    product_md = hessian.product(basis_md)
    value_m, rotation_mm = scipy.linalg.eigh(basis_md @ product_md.T)
    vector_md = rotation_mm.T @ basis_md
    residual_m = np.linalg.norm(rotation_mm.T @ product_md - value_m[:, None] * vector_md, axis=1)
    if residual_m.max() > _NEAR_ENOUGH * top or not _nothing_below(hessian, vector_md, value_m, top):
        return None
    return hessian.embedded(vector_md), top


def _extrapolated(hessian: BlockHessian, former: Sequence[Floats]) -> Floats:
    """Orthonormal vectors ((k, 3N) ndarray) near the window: that of the last state, and its way there continued.

    The windows X_i are written X_0 + D_i with D_i orthogonal to X_0, which is smooth along a branch whatever modes turn into
    each other; the weights of the D_i are those that make the residual of X_0 + sum c_i D_i, to first order in D, smallest.
    """
    last_md = former[-1]
    ways = [np.linalg.pinv(vector_md @ last_md.T) @ vector_md - last_md for vector_md in former[:-1]]
    if ways:
        # Two or three weights are known well enough from some of the modes.
        some = np.unique(np.linspace(0, len(last_md) - 1, LANES).astype(int))
        image_sd = hessian.product(last_md[some])
        small_sm = image_sd @ last_md.T
        right_sd = image_sd - small_sm @ last_md
        columns = []
        for way_md in ways:
            image_sd = hessian.product(way_md[some])
            columns.append((image_sd - (image_sd @ last_md.T) @ last_md - small_sm @ way_md).ravel())
        weights, *_ = np.linalg.lstsq(np.stack(columns, axis=1), -right_sd.ravel(), rcond=None)
        last_md = last_md + sum(weight * way_md for weight, way_md in zip(weights, ways, strict=True))
    return _orthonormal(np.empty((0, hessian.size)), last_md)[0]


def _nothing_below(hessian: BlockHessian, vector_md: Floats, value_m: Floats, top: float) -> bool:
    """Whether a fresh random block, made orthogonal to eigenvectors, finds no eigenvalue below the largest of theirs."""
    low, last = min(0.0, float(value_m[0])), float(value_m[-1])
    # As far above the window as the cut would be for twice as many modes.
    polynomial = Chebyshev.above(low, low + _ROOM ** (2.0 / hessian.bonds.dimensions) * (last - low) + _SAME_LEVEL * top, top)
    found_md = vector_md
    new_md = _orthonormal(found_md, hessian.random(LANES, np.random.default_rng(20190219)))[0]
    for _ in range(_BLOCKS_OF_PROOF):
        new_md = _orthonormal(found_md, hessian.filtered(new_md, polynomial))[0]
        found_md = np.concatenate([found_md, new_md])
    _, others_m = _rotated(hessian, found_md[len(vector_md) :])
    return bool(others_m[0] > last - _SAME_LEVEL * abs(last))


def _found_by_filter(hessian: BlockHessian, k: int, top: float) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(20190218)
    low, cut = _window(hessian, k, top, rng)
    for _ in range(8):
        krylov = _Krylov(hessian, Chebyshev.above(low, cut, top), k)
        rotation_mm = _grown(krylov, hessian.random(LANES, rng), k)
        if rotation_mm is not None:
            rotation_mm = _grown(krylov, hessian.random(LANES, rng), k)
        if rotation_mm is not None:
            vector_md, eigenvalue_m = _rotated(hessian, rotation_mm.T @ krylov.basis_md)
            # Only below the cut does the filter keep the order of the eigenvalues; all k must be there.
            if eigenvalue_m[-1] < cut:
                return vector_md, eigenvalue_m
        cut = min(cut + 0.5 * (cut - low), low + 0.9 * (top - low))
    raise ConvergenceError(f"the Chebyshev filter found no window that holds {k} modes.")


def _grown(krylov: _Krylov, start_bd: Floats, k: int) -> Floats | None:
    """Grow a sequence until the window has converged; coordinates of its vectors, or None if the cut lies within the window."""
    krylov.start(start_bd)
    for blocks in range(1, 60 + k):
        krylov.extend()
        # Looking is not free when the basis is large.
        size = len(krylov.basis_md)
        if blocks >= _BLOCKS_OF_PROOF and size >= k + LANES and blocks % (1 + size // 150) == 0:
            value_m, rotation_mm, angle_m = krylov.largest(k)
            if angle_m.max() < _ANGLE:
                return rotation_mm
            # What the filter leaves at the size of all the rest lies beyond the cut.
            if value_m[-1] < 1.5 and size > 3 * k + 10 * LANES:
                return None
    return None


def _rotated(hessian: BlockHessian, basis_md: Floats) -> tuple[Floats, Floats]:
    """Eigenpairs of the Hessian within the span of orthonormal vectors."""
    small_mm = basis_md @ hessian.product(basis_md).T
    eigenvalue_m, rotation_mm = scipy.linalg.eigh(0.5 * (small_mm + small_mm.T))
    return rotation_mm.T @ basis_md, eigenvalue_m


def by_lapack(bonds: Bonds, k: int) -> tuple[Floats, float]:
    """The window from LAPACK on the full matrix, which finds every eigenvalue; returns as :func:`by_filter`."""
    matrix_dd = bonds.hessian().toarray()
    size, dimensions = len(matrix_dd), bonds.dimensions
    # Lift the translations out of the way instead of guessing which of the small eigenvalues they are.
    lift = np.abs(matrix_dd).sum(axis=1).max()
    for component in range(dimensions):
        translation_d = np.zeros(size)
        translation_d[component::dimensions] = 1.0 / np.sqrt(size / dimensions)
        matrix_dd += lift * np.outer(translation_d, translation_d)
    _, vector_dm = scipy.linalg.eigh(matrix_dd, subset_by_index=[0, k - 1])
    return _in_space(vector_dm, dimensions), float(lift)


def _in_space(vector_dm: Floats, dimensions: int) -> Floats:
    """((M, N, 3) ndarray) columns of a matrix as fields; in two dimensions with z = 0."""
    field_mnd = np.ascontiguousarray(vector_dm.T).reshape(vector_dm.shape[1], -1, dimensions)
    return field_mnd if dimensions == 3 else np.pad(field_mnd, ((0, 0), (0, 0), (0, 1)))


def by_factor(bonds: Bonds, k: int) -> tuple[Floats, float]:
    """The window from scipy's shift-invert Lanczos with SuperLU; returns as :func:`by_filter`.

    Raises:
        ConvergenceError: if Lanczos does not converge.
    """
    matrix = bonds.hessian().tocsc()
    size = matrix.shape[0]

    def free(vector_d: Floats) -> Floats:
        field_nd = vector_d.reshape(-1, bonds.dimensions)
        return (field_nd - field_nd.mean(axis=0)).ravel()

    start_d = free(np.random.default_rng(20190218).normal(size=size))
    shift = _SHIFT
    factor = _factored(matrix, -shift)
    if (factor.U.diagonal() < 0.0).any():
        # By Sylvester's law there are eigenvalues below -shift, a saddle; shift-invert finds the lowest from below alone.
        lowest = spl.eigsh(matrix, k=1, which="SA", v0=start_d, tol=1e-2, return_eigenvectors=False)[0]
        shift -= 1.1 * float(lowest)
        factor = _factored(matrix, -shift)
    inverse = spl.LinearOperator((size, size), matvec=lambda x: free(factor.solve(free(x.ravel()))), dtype=np.float64)
    try:
        _, vector_dm = spl.eigsh(
            matrix, k=k, sigma=-shift, OPinv=inverse, which="LM", v0=start_d, ncv=min(size - 1, max(2 * k + 1, k + 30))
        )
    except spl.ArpackError as error:
        raise ConvergenceError(f"shift-invert Lanczos did not converge: {error}") from None
    return _in_space(vector_dm, bonds.dimensions), bonds.largest_eigenvalue()


def _factored(matrix: sp.csc_array, shift: float) -> spl.SuperLU:
    """Sparse LU factors of the matrix less ``shift``, pivots on the diagonal.

    Raises:
        ConvergenceError: if it is singular.
    """
    try:
        return spl.splu(
            matrix - shift * sp.eye_array(matrix.shape[0], format="csc"),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
    except RuntimeError as error:
        raise ConvergenceError(
            f"the sparse factor at {shift:.6g} was not found ({error}); use another k or 'filter'."
        ) from None


def rayleigh_ritz(bonds: Bonds, guess_mnc: Floats) -> tuple[Floats, Floats, Floats]:
    """Best eigenpairs within the span of nearly orthonormal guesses, with the Hessian's own product and not a solver's.

    Returns:
        eigenvalues ((M,) ndarray, ascending [energy / length^2]), vectors ((M, N, 3) ndarray, orthonormal, the largest
        component positive), norms of the residuals H . v - lambda v ((M,) ndarray [energy / length^2]).
    """
    shape = guess_mnc.shape
    basis_md = (guess_mnc - guess_mnc.mean(axis=1, keepdims=True)).reshape(shape[0], -1)
    product_md = np.stack([bonds.product(row_d.reshape(-1, 3)).ravel() for row_d in basis_md])
    small_mm = basis_md @ product_md.T
    eigenvalue_m, rotation_mm = scipy.linalg.eigh(0.5 * (small_mm + small_mm.T), basis_md @ basis_md.T)
    vector_md = rotation_mm.T @ basis_md
    # The sign of an eigenvector is free; the largest component is made positive, so that files compare.
    sign_m = np.sign(vector_md[np.arange(len(vector_md)), np.abs(vector_md).argmax(axis=1)])
    vector_md *= sign_m[:, None]
    residual_md = (rotation_mm * sign_m).T @ product_md - eigenvalue_m[:, None] * vector_md
    return eigenvalue_m, vector_md.reshape(shape), np.linalg.norm(residual_md, axis=1)


def missed_by_inertia(bonds: Bonds, eigenvalue_m: Floats, residual: float) -> int:
    """How many eigenvalues lie below the window's end that are not in ``eigenvalue_m``, by Sylvester's law of inertia.

    H - s = L D L^T has as many negative pivots as H has eigenvalues below s. SuperLU is held to pivots on the diagonal; where
    it leaves it, or where the error of its factors could carry an eigenvalue across s, the count is refused. A level that the
    end of the window cuts through is left out: any of its vectors are as good as any others.

    Args:
        bonds: the interacting pairs.
        eigenvalue_m: ((M,) ndarray) the eigenvalues found, ascending, translations left out [energy / length^2].
        residual: the largest residual of these.

    Raises:
        ConvergenceError: if the factors do not allow to count.
    """
    last = eigenvalue_m[-1]
    # Zero modes, of rattlers say, are a level of which rounding leaves some eigenvalues above and some below zero.
    width = max(_SAME_LEVEL * abs(last), 2.0 * residual, _ZERO_LEVEL * bonds.largest_eigenvalue())
    lower_m = eigenvalue_m[eigenvalue_m < last - width]
    # With all in one level, nothing may lie below that level.
    shift = 0.5 * (lower_m[-1] + eigenvalue_m[len(lower_m)]) if len(lower_m) else eigenvalue_m[0] - width
    matrix = bonds.hessian().tocsc()
    factor = _factored(matrix, float(shift))
    room = min(float(np.abs(eigenvalue_m - shift).min()), abs(float(shift)))
    if not np.array_equal(factor.perm_r, factor.perm_c) or not _factor_error(matrix, float(shift), factor) < room:
        raise ConvergenceError(
            f"the sparse factor at {shift:.6g} is too inaccurate to count eigenvalues; use another k or 'filter'."
        )
    translations = bonds.dimensions if shift > 0.0 else 0
    return int((factor.U.diagonal() < 0.0).sum()) - translations - len(lower_m)


def _factor_error(matrix: sp.csc_array, shift: float, factor: spl.SuperLU) -> float:
    """Frobenius norm of P (H - s) P^T - L U, which bounds how far an eigenvalue moves; estimated with random vectors."""
    x_db = np.random.default_rng(20190220).normal(size=(matrix.shape[0], LANES))
    # Row i of the matrix is row perm[i] of the factors.
    placed_db = np.empty_like(x_db)
    placed_db[factor.perm_r] = x_db
    image_db = matrix @ x_db - shift * x_db
    difference_db = (factor.L @ (factor.U @ placed_db))[factor.perm_r] - image_db
    return float(np.linalg.norm(difference_db) / np.sqrt(LANES))


def missed_by_random_block(bonds: Bonds, vector_mnc: Floats, eigenvalue_m: Floats) -> bool:
    """Whether a fresh random block, made orthogonal to the eigenvectors found, shows an eigenvalue below the largest of theirs.

    A mode that was missed hides only if all of the block's eight random vectors are nearly orthogonal to it. That is unlikely,
    not impossible: a probability and no count, unlike the inertia. In the tests modes that were taken out on purpose came back.
    """
    hessian = BlockHessian(bonds)
    if hessian.freedom < len(vector_mnc) + _BLOCKS_OF_PROOF * LANES:
        return False
    # The translations of clusters against each other are not in the operator's space.
    vector_md = hessian.ordered(vector_mnc)
    kept = np.linalg.norm(vector_md, axis=1) > 0.5
    return not _nothing_below(hessian, vector_md[kept], eigenvalue_m, 1.05 * bonds.largest_eigenvalue())
