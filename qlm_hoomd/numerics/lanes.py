"""The Hessian times blocks of vectors, eight at once, and the polynomials of it that filter out its lowest modes."""

# Array names carry their axes: n particles, c Cartesian components, d = 3N degrees of freedom, m modes or basis vectors,
# b vectors of one block, p pairs, k the six entries of a symmetric 3x3 matrix, r runs of the half list of pairs, q clusters.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph as spg
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from qlm_hoomd.base.interrupt import stop_if_overdue
from qlm_hoomd.numerics.jit import FAST, Floats, Ints, compiled, index
from qlm_hoomd.numerics.simd import LANES, broadcast, vector_type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qlm_hoomd.numerics.bonds import Bonds

# What the filter makes of a zero mode. More: fewer vectors to keep orthogonal, more products; flat between 50 and 500.
_GROWTH = 200.0


def _codegen_add_run(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """The body of :func:`_add_run`: numba's own vectoriser gives up on loops of eight, which costs a factor of five."""
    partner_type, *_ = array_types = signature.args[3:]
    partner, block, x, out = (
        context.make_array(kind)(context, builder, value).data for kind, value in zip(array_types, args[3:], strict=True)
    )
    assert partner_type.dtype == types.int32
    word = ir.IntType(64)
    flags = tuple(FAST)

    def at(pointer: Any, base: Any, component: int) -> Any:
        return builder.bitcast(builder.gep(pointer, [builder.add(base, word(LANES * component))]), vector_type.as_pointer())

    own = builder.mul(args[0], word(3 * LANES))
    mine = [builder.load(at(x, own, c), align=8) for c in range(3)]
    sums: list[Any] = [cgutils.alloca_once_value(builder, builder.load(at(out, own, c), align=8)) for c in range(3)]  # type: ignore[no-untyped-call]
    with cgutils.for_range_slice(builder, args[1], args[2], word(1), word) as (p, _):
        j = builder.zext(builder.load(builder.gep(partner, [p])), word)
        other, entry = builder.mul(j, word(3 * LANES)), builder.mul(p, word(6))
        z = [builder.fsub(builder.load(at(x, other, c), align=8), mine[c], flags=flags) for c in range(3)]
        k = [broadcast(builder, builder.load(builder.gep(block, [builder.add(entry, word(i))]))) for i in range(6)]
        for c, row in enumerate(((0, 1, 2), (1, 3, 4), (2, 4, 5))):
            force = builder.fmul(k[row[0]], z[0], flags=flags)
            for i in (1, 2):
                force = builder.fadd(force, builder.fmul(k[row[i]], z[i], flags=flags), flags=flags)
            builder.store(builder.fsub(builder.load(sums[c]), force, flags=flags), sums[c])
            theirs = at(out, other, c)
            builder.store(builder.fadd(builder.load(theirs, align=8), force, flags=flags), theirs, align=8)
    for c in range(3):
        builder.store(builder.load(sums[c]), at(out, own, c), align=8)
    return context.get_dummy_value()


@intrinsic
def _add_run(_context: Any, _i: Any, _start: Any, _end: Any, j_p: Any, k_pk: Any, x_ncb: Any, out_ncb: Any) -> Any:
    """Add k . (x_j - x_i) to out_j, and take it from out_i, for the pairs start to end of particle i (i, start, end, ...)."""
    return types.void(types.uint64, types.uint64, types.uint64, j_p, k_pk, x_ncb, out_ncb), _codegen_add_run


@compiled
def _recurrence(
    owner_r: Ints, first_r: NDArray[np.int64], j_p: Ints, k_pk: Floats, centre: float, x_ncb: Floats, out_ncb: Floats
) -> None:  # fmt: skip
    """out = (K - centre) x - out for a block of vectors, K given by the 3x3 matrices of its pairs."""
    flat_x, flat_out = x_ncb.ravel(), out_ncb.ravel()
    for entry in range(len(flat_out)):
        flat_out[entry] = -centre * flat_x[entry] - flat_out[entry]
    for r in range(len(owner_r)):
        _add_run(index(owner_r[r]), index(first_r[r]), index(first_r[r + 1]), j_p, k_pk, x_ncb, out_ncb)  # type: ignore[call-arg]


class BlockHessian:
    """The Hessian of the particles that have neighbours, ready to be multiplied with blocks of vectors.

    In two dimensions vectors have z = 0, and keep it. Particles are sorted along the list of pairs, so that those close in
    space are close in memory. Each connected cluster has its d translations as exact zero modes; clusters of one particle
    (rattlers) have nothing else and are left out.

    Args:
        bonds: the interacting pairs.
    """

    def __init__(self, bonds: Bonds) -> None:
        n_all = bonds.n_particles
        graph = sp.coo_array((np.ones(bonds.n_pairs, np.int8), (bonds.i_p, bonds.j_p)), shape=(n_all, n_all))
        _, self.cluster_n = spg.connected_components(graph, directed=False)
        size_n = np.bincount(self.cluster_n)[self.cluster_n]
        spatial = bonds.owner_r[size_n[bonds.owner_r] > 1]
        self.order = spatial[np.argsort(self.cluster_n[spatial], kind="stable")]
        self.n_particles = len(self.order)
        place_n = np.zeros(n_all, np.int32)
        place_n[self.order] = np.arange(self.n_particles, dtype=np.int32)
        labels = self.cluster_n[self.order]
        self._first_of_cluster = np.flatnonzero(np.diff(labels, prepend=-1))
        self._n_of_cluster = np.diff(self._first_of_cluster, append=self.n_particles)
        self.bonds = bonds
        self.size = 3 * self.n_particles
        self.freedom = bonds.dimensions * (self.n_particles - len(self._first_of_cluster))
        self._owner_r = place_n[bonds.owner_r]
        self._j_p = place_n[bonds.j_p]
        self._k_pk = np.empty((bonds.n_pairs, 6))
        for entry, (row, column) in enumerate(((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))):
            self._k_pk[:, entry] = 4.0 * bonds.phi_kp[2] * bonds.r_pc[:, row] * bonds.r_pc[:, column]
            if row == column:
                self._k_pk[:, entry] += 2.0 * bonds.phi_kp[1]
        # No eigenvalue is larger than this in magnitude (Gershgorin's circles for 3x3 blocks).
        norm_p = np.sqrt((self._k_pk**2) @ [1.0, 2.0, 2.0, 1.0, 2.0, 1.0])
        ends = np.bincount(bonds.i_p, norm_p, n_all) + np.bincount(bonds.j_p, norm_p, n_all)
        self.bound = 2.0 * float(ends.max())
        self.n_products = 0

    def _apply(self, scale: float, centre: float, x_ncb: Floats, out_ncb: Floats, k_pk: Floats) -> None:
        stop_if_overdue()
        _recurrence(self._owner_r, self.bonds.first_r, self._j_p, k_pk, scale * centre, x_ncb, out_ncb)
        self.n_products += LANES

    def deflate(self, x_ncb: Floats) -> None:
        """Take the translations of every cluster out, in place."""
        mean = np.add.reduceat(x_ncb, self._first_of_cluster, axis=0) / self._n_of_cluster[:, None, None]
        x_ncb -= np.repeat(mean, self._n_of_cluster, axis=0) if len(mean) > 1 else mean

    def _blocks(self, vector_md: Floats) -> Iterable[tuple[slice, Floats]]:
        for start in range(0, len(vector_md), LANES):
            rows = slice(start, min(start + LANES, len(vector_md)))
            block = np.zeros((self.n_particles, 3, LANES))
            block.reshape(self.size, LANES)[:, : rows.stop - start] = vector_md[rows].T
            yield rows, block

    def product(self, vector_md: Floats) -> Floats:
        """((M, 3N) ndarray) Hessian times each of the vectors."""
        out_md = np.empty_like(vector_md)
        for rows, block in self._blocks(vector_md):
            out_ncb = np.zeros_like(block)
            self._apply(1.0, 0.0, block, out_ncb, self._k_pk)
            out_md[rows] = out_ncb.reshape(self.size, LANES)[:, : rows.stop - rows.start].T
        return out_md

    def filtered(self, vector_md: Floats, polynomial: Chebyshev) -> Floats:
        """((M, 3N) ndarray) the polynomial of the Hessian times each of the vectors, translations taken out."""
        out_md = np.empty_like(vector_md)
        scaled_pk = self._k_pk * (2.0 / polynomial.half)
        for rows, block in self._blocks(vector_md):
            last, new = block, np.zeros_like(block)
            self._apply(2.0 / polynomial.half, polynomial.centre, last, new, scaled_pk)
            new *= 0.5
            for _ in range(polynomial.degree - 1):
                self._apply(2.0 / polynomial.half, polynomial.centre, new, last, scaled_pk)
                last, new = new, last
            self.deflate(new)
            out_md[rows] = new.reshape(self.size, LANES)[:, : rows.stop - rows.start].T
        return out_md

    def random(self, count: int, rng: np.random.Generator) -> Floats:
        """((count, 3N) ndarray) normal random vectors without translations."""
        field_bnc = self.bonds.in_space(rng.normal(size=(count, self.n_particles, 3)))
        block = np.ascontiguousarray(field_bnc.transpose(1, 2, 0))
        self.deflate(block)
        return np.ascontiguousarray(block.reshape(self.size, count).T)

    def moments(self, polynomial: Chebyshev, rng: np.random.Generator) -> Floats:
        """((2 degree,) ndarray) estimated traces of T_0, T_1, ... of the Hessian, from one block of random vectors."""
        scale, scaled_pk = 2.0 / polynomial.half, self._k_pk * (2.0 / polynomial.half)
        last = np.ascontiguousarray(self.random(LANES, rng).T).reshape(self.n_particles, 3, LANES)
        new = np.zeros_like(last)
        self._apply(scale, polynomial.centre, last, new, scaled_pk)
        new *= 0.5
        trace_m = np.empty(2 * polynomial.degree)
        trace_m[:2] = np.vdot(last, last), np.vdot(new, last)
        for m in range(1, polynomial.degree):
            # T_2m = 2 T_m^2 - T_0 and T_2m+1 = 2 T_m+1 T_m - T_1: two moments for one product.
            trace_m[2 * m] = 2.0 * np.vdot(new, new) - trace_m[0]
            self._apply(scale, polynomial.centre, new, last, scaled_pk)
            last, new = new, last
            trace_m[2 * m + 1] = 2.0 * np.vdot(new, last) - trace_m[1]
        return trace_m / LANES

    def rigid_clusters(self, most: int) -> Floats:
        """((M, N, 3) ndarray) translations of clusters against each other: exact zero modes, at most so many of them."""
        size_q = np.bincount(self.cluster_n)
        by_size_q = np.argsort(-size_q, kind="stable")
        d = self.bonds.dimensions
        count = min(most, d * (len(size_q) - 1))
        out_mnc = np.zeros((count, len(self.cluster_n), 3))
        for m in range(count):
            # Each against all larger ones, so that the translation of a rattler is a rattler's.
            rank, component = 1 + m // d, m % d
            before_n = np.isin(self.cluster_n, by_size_q[:rank])
            out_mnc[m, self.cluster_n == by_size_q[rank], component] = 1.0 / size_q[by_size_q[rank]]
            out_mnc[m, before_n, component] = -1.0 / before_n.sum()
            out_mnc[m] /= np.linalg.norm(out_mnc[m])
        return out_mnc

    def ordered(self, vector_mnc: Floats) -> Floats:
        """((M, 3N) ndarray) vectors of all particles as this operator wants them, translations taken out."""
        block = np.ascontiguousarray(vector_mnc[:, self.order].transpose(1, 2, 0))
        self.deflate(block)
        return np.ascontiguousarray(block.reshape(self.size, -1).T)

    def embedded(self, vector_md: Floats) -> Floats:
        """((M, N, 3) ndarray) the vectors for all particles in their own order, rattlers at rest."""
        out_mnc = np.zeros((len(vector_md), self.bonds.n_particles, 3))
        out_mnc[:, self.order] = vector_md.reshape(len(vector_md), -1, 3)
        return out_mnc


@dataclass(frozen=True)
class Chebyshev:
    """T_degree((H - centre) / half): of order one within centre -+ half, growing fast outside."""

    degree: int
    centre: float
    half: float

    @classmethod
    def above(cls, low: float, cut: float, top: float) -> Chebyshev:
        """The one that is bounded between ``cut`` and ``top`` and makes ``low`` stand out by a fixed factor."""
        centre, half = 0.5 * (top + cut), 0.5 * (top - cut)
        # Even, so that low eigenvalues become large positive ones.
        return cls(2 * max(1, round(0.5 * np.arccosh(_GROWTH) / np.arccosh((centre - low) / half))), centre, half)
