"""Is this sample a glass? Pair correlations, structure factor, local order, and the verdict: crystallised, demixed, or a glass.

freud does the work, in single precision, which is plenty for counting neighbours and never enters energies or forces.
"""

# Array names carry their axes: n particles, c Cartesian components, p bonds (pairs of neighbours), v wavevectors, b bins.

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qlm_hoomd.base.display import Computation
from qlm_hoomd.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from qlm_hoomd.glass import Glass

# Demixing must stand this many standard errors above random mixing before it counts: one false alarm in about 700 samples.
_STANDARD_ERRORS = 3.0
# Wavevectors times particles that are held in memory at once.
_BLOCK = 4_000_000

_Curve = NDArray[np.float64]


@dataclass(repr=False)
class RadialDistribution(Computation):
    """The radial distribution function g(r), of all particles and of every pair of types.

    Normalised to 1 for an ideal gas at any N. The total is the sum of the partials weighted by their concentrations.

    Args:
        r_max: largest distance [length]; never more than half the box.
        bin_width: width of a bin [length].
    """

    r_max: float = 5.0
    bin_width: float = 0.02
    _result: tuple[_Curve, _Curve, dict[str, _Curve]] = field(init=False, repr=False, compare=False)

    def compute(self, glass: Glass) -> RadialDistribution:
        """Measure ``glass``.

        Raises:
            InputError: if half the box holds no bin.
        """
        import freud

        n_bins = math.floor(min(self.r_max, 0.499 * glass.box.nearest_plane_distance) / self.bin_width)
        if n_bins < 1:
            raise InputError(
                f"bin_width = {self.bin_width:g}; expected less than r_max = {self.r_max:g} and than half the box, "
                f"{0.5 * glass.box.nearest_plane_distance:g}."
            )
        r_max = n_bins * self.bin_width
        box, points_nc = _freud_system(glass)
        types = np.unique(glass.typeid)
        points = {kind: points_nc[glass.typeid == kind] for kind in types}
        queries = {kind: freud.locality.AABBQuery(box, points[kind]) for kind in types}
        partials: dict[str, _Curve] = {}
        total_b = np.zeros(n_bins)
        for first, second in combinations_with_replacement(types, 2):
            n_first, n_second = len(points[first]), len(points[second])
            g_b = np.zeros(n_bins)
            if first != second or n_first > 1:
                histogram = freud.density.RDF(n_bins, r_max)
                neighbors = {"r_max": r_max, "exclude_ii": bool(first == second)}
                histogram.compute(queries[second], query_points=points[first], neighbors=neighbors)
                g_b = np.asarray(histogram.rdf, dtype=np.float64)
            if first == second and n_first > 1:
                # freud counts N neighbours where a particle has N - 1 of its own type.
                g_b *= n_first / (n_first - 1)
            partials[_letter(first) + _letter(second)] = g_b
            total_b += (1 if first == second else 2) * n_first * n_second / glass.n_particles**2 * g_b
        r_b = (np.arange(n_bins, dtype=np.float64) + 0.5) * self.bin_width
        self._result = r_b, total_b, partials
        return self

    @property
    def r(self) -> NDArray[np.float64]:
        """((B,) ndarray) centres of the bins [length]."""
        return self._result[0]

    def _headline(self) -> str:
        if not hasattr(self, "_result"):
            return ""
        peak = int(self.total.argmax())
        return f"largest g = {self.total[peak]:.3g} at r = {self.r[peak]:.3g}; pairs {', '.join(self.partials)}"

    @property
    def total(self) -> NDArray[np.float64]:
        """((B,) ndarray) g(r) of all particles."""
        return self._result[1]

    @property
    def partials(self) -> dict[str, NDArray[np.float64]]:
        """((B,) ndarrays) the partial g(r) by type pair, "AA", "AB", "BB", ...; A is type 0."""
        return self._result[2]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the total and the partial functions on ``ax``, or on a new figure, and return the axes."""
        ax = _axes(ax)
        ax.plot(self.r, self.total, color="black", label="all")
        for name, g_b in self.partials.items():
            ax.plot(self.r, g_b, linewidth=1, label=name)
        ax.set(xlabel="distance r", ylabel="g(r)")
        ax.legend()
        return ax


@dataclass(repr=False)
class StructureFactor(Computation):
    """The static structure factor S(q) = |sum_j exp(-i q r_j)|^2 / N, averaged over wavevectors of like length.

    Only the wavevectors that fit the periodic box are used. The sum is our own: freud's exact one draws its wavevectors from
    an unseeded generator, so that the same glass would not give the same numbers twice.

    Args:
        q_max: largest wavenumber [1 / length].
        bin_width: width of a bin [1 / length].
        vectors_per_bin: where more wavevectors than this fall into a bin, this many are taken, evenly spread.
    """

    q_max: float = 15.0
    bin_width: float = 0.15
    vectors_per_bin: int = 64
    _result: tuple[_Curve, _Curve] = field(init=False, repr=False, compare=False)

    def compute(self, glass: Glass) -> StructureFactor:
        """Measure ``glass``.

        Raises:
            InputError: if no wavevector of the box is as short as ``q_max``.
        """
        miller_vc, q_v = self._wavevectors(glass)
        if not len(q_v):
            shortest = 2 * np.pi / max(glass.box.faces_apart)
            raise InputError(f"q_max = {self.q_max:g}; expected more than {shortest:g}, what fits the box.")
        fractional_nc = glass.box.fractional(glass.positions)
        intensity_v = np.empty(len(q_v))
        step = max(1, _BLOCK // glass.n_particles)
        for start in range(0, len(q_v), step):
            turns_nv = fractional_nc @ miller_vc[start : start + step].T
            # After whole turns are taken off in double precision, single precision does for the sines.
            phase_nv = (2 * np.pi * (turns_nv - np.rint(turns_nv))).astype(np.float32)
            real_v = np.cos(phase_nv).sum(axis=0, dtype=np.float64)
            imaginary_v = np.sin(phase_nv).sum(axis=0, dtype=np.float64)
            intensity_v[start : start + step] = (real_v**2 + imaginary_v**2) / glass.n_particles
        bin_v = (q_v / self.bin_width).astype(np.int64)
        counts_b = np.bincount(bin_v)
        filled = counts_b > 0
        mean_q_b = np.bincount(bin_v, q_v)[filled] / counts_b[filled]
        mean_s_b = np.bincount(bin_v, intensity_v)[filled] / counts_b[filled]
        self._result = mean_q_b, mean_s_b
        return self

    def _wavevectors(self, glass: Glass) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """((V, 3) ndarray) integer coordinates of the wavevectors and ((V,) ndarray) their lengths [1 / length]."""
        matrix = glass.box.matrix
        h_max, k_max, l_max = np.floor(self.q_max * np.linalg.norm(matrix, axis=1) / (2 * np.pi))
        # q and -q scatter alike: half the space is enough.
        ranges = [np.arange(low, high + 1, dtype=np.float32) for low, high in ((-h_max, h_max), (-k_max, k_max), (0.0, l_max))]
        miller_vc = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
        h_v, k_v, l_v = miller_vc.T
        miller_vc = miller_vc[(l_v > 0) | ((l_v == 0) & ((k_v > 0) | ((k_v == 0) & (h_v > 0))))]
        # In two dimensions there is no wavevector along z, whatever the third lattice vector.
        matrix[2, 2] = matrix[2, 2] or 1.0
        q_v = np.linalg.norm(miller_vc @ (2 * np.pi * np.linalg.inv(matrix)).T, axis=1)
        inside = q_v < self.q_max
        miller_vc, q_v = miller_vc[inside], q_v[inside]
        bin_v = (q_v / self.bin_width).astype(np.int64)
        order = np.argsort(bin_v, kind="stable")
        counts_b = np.bincount(bin_v)
        bin_v = bin_v[order]
        rank_v = np.arange(len(order)) - (np.cumsum(counts_b) - counts_b)[bin_v]
        count_v = counts_b[bin_v]
        wanted_v = np.minimum(count_v, self.vectors_per_bin)
        taken = order[(rank_v + 1) * wanted_v // count_v > rank_v * wanted_v // count_v]
        return miller_vc[taken].astype(np.float64), q_v[taken]

    def _headline(self) -> str:
        if not hasattr(self, "_result"):
            return ""
        q_b, s_b = self._result
        peak = int(s_b.argmax())
        return f"largest S = {s_b[peak]:.3g} at q = {q_b[peak]:.3g}"

    @property
    def q(self) -> NDArray[np.float64]:
        """((B,) ndarray) mean wavenumber of each bin that holds a wavevector [1 / length]."""
        return self._result[0]

    @property
    def s(self) -> NDArray[np.float64]:
        """((B,) ndarray) S(q)."""
        return self._result[1]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw S(q) on ``ax``, or on a new figure, and return the axes."""
        ax = _axes(ax)
        ax.plot(self.q, self.s, color="black")
        ax.set(xlabel="wavenumber q", ylabel="S(q)")
        return ax


@dataclass(repr=False)
class LocalOrder(Computation):
    """Crystalline order and demixing around every particle, and the verdict on the sample.

    A bond between neighbours is solid-like where the normalised product of their complex q_6m vectors exceeds
    ``bond_threshold``; a particle with ``solid_bonds`` such bonds is solid-like (ten Wolde, Ruiz-Montero and Frenkel,
    J. Chem. Phys. 104, 9932 (1996); Filion et al., J. Chem. Phys. 133, 244115 (2010)). The sample has crystallised when the
    largest connected cluster of them holds more than ``crystal_limit`` of all particles.

    Demixing is the assortativity of the bonds, (f - e) / (1 - e): f is the fraction of bonds between like types, e what
    it would be if types were dealt at random to bond ends (Newman, Phys. Rev. E 67, 026126 (2003)). It is 0 for random
    mixing, 1 for full separation, negative where unlike types attract.

    In two dimensions the hexatic order psi_6 = <exp(6 i theta)> over a particle's neighbours takes the place of q_6m. A bond is
    solid-like where Re(psi_6 psi_6*) of its particles exceeds ``bond_threshold``; of ``neighbors`` and ``solid_bonds`` half
    count, as a crystal has six neighbours there instead of twelve.

    Neighbours are the ``neighbors`` nearest particles, whatever their distance: a cut-off distance that fits the small
    particles' crystal misses the large particles' one.

    Args:
        neighbors: number of neighbours of a particle.
        bond_threshold: q6 . q6 product above which a bond is solid-like.
        solid_bonds: solid-like bonds that make a solid-like particle.
        crystal_limit: largest harmless share of particles in one solid-like cluster.
        demixing_limit: largest harmless demixing.
    """

    neighbors: int = 12
    bond_threshold: float = 0.7
    solid_bonds: int = 7
    crystal_limit: float = 0.05
    demixing_limit: float = 0.1
    _result: _Order = field(init=False, repr=False, compare=False)

    def compute(self, glass: Glass) -> LocalOrder:
        """Measure ``glass``.

        Raises:
            InputError: if there are not enough particles to have that many neighbours.
        """
        import freud

        flat = glass.box.dimensions == 2
        neighbors = math.ceil(self.neighbors / 2) if flat else self.neighbors
        if glass.n_particles <= neighbors:
            raise InputError(f"{glass.n_particles} particles; expected more than the {neighbors} neighbours of each.")
        box, points_nc = _freud_system(glass)
        query = freud.locality.AABBQuery(box, points_nc)
        bonds = query.query(points_nc, {"num_neighbors": neighbors, "exclude_ii": True}).toNeighborList()
        if flat:
            self._result = self._hexatic(glass, query, bonds)
            return self
        q6_n = np.asarray(freud.order.Steinhardt(6).compute(query, neighbors=bonds).particle_order, dtype=np.float64)
        solid = freud.order.SolidLiquid(6, self.bond_threshold, self.solid_bonds).compute(query, neighbors=bonds)
        is_solid_n = np.asarray(solid.num_connections) >= self.solid_bonds
        # freud counts a lone liquid-like particle as a cluster of one.
        largest = int(solid.largest_cluster_size) if is_solid_n.any() else 0
        first_p, second_p = np.asarray(bonds.query_point_indices), np.asarray(bonds.point_indices)
        demixing, error = _demixing(glass.typeid, first_p, second_p)
        self._result = _Order(q6_n, np.asarray(solid.ql_ij, dtype=np.float64), is_solid_n, largest, demixing, error)
        return self

    def _hexatic(self, glass: Glass, query: Any, bonds: Any) -> _Order:
        """The order in two dimensions."""
        import freud
        import scipy.sparse as sp

        psi_n = np.asarray(freud.order.Hexatic(6).compute(query, neighbors=bonds).particle_order, dtype=np.complex128)
        first_p, second_p = np.asarray(bonds.query_point_indices), np.asarray(bonds.point_indices)
        products_p = (psi_n[first_p] * psi_n[second_p].conj()).real
        like_p = products_p > self.bond_threshold
        is_solid_n = np.bincount(first_p[like_p], minlength=len(psi_n)) >= math.ceil(self.solid_bonds / 2)
        held_p = like_p & is_solid_n[first_p] & is_solid_n[second_p]
        graph = sp.coo_array((np.ones(held_p.sum()), (first_p[held_p], second_p[held_p])), shape=(len(psi_n), len(psi_n)))
        labels_n = sp.csgraph.connected_components(graph, directed=False)[1]
        largest = int(np.bincount(labels_n[is_solid_n]).max(initial=0))
        return _Order(np.abs(psi_n), products_p, is_solid_n, largest, *_demixing(glass.typeid, first_p, second_p))

    def _headline(self) -> str:
        return (self.reason or "a glass") if hasattr(self, "_result") else ""

    def _facts(self) -> Mapping[str, Any]:
        results = ("crystal_fraction", "largest_cluster", "demixing", "demixing_error") if hasattr(self, "_result") else ()
        return {**self._settings(), **{name: getattr(self, name) for name in results}}

    @property
    def q6(self) -> NDArray[np.float64]:
        """((N,) ndarray) Steinhardt's q6 of each particle; abs(psi_6) in two dimensions."""
        return self._result.q6_n

    @property
    def is_solid(self) -> NDArray[np.bool_]:
        """((N,) ndarray of bool) which particles are solid-like."""
        return self._result.is_solid_n

    @property
    def crystal_fraction(self) -> float:
        """Share of solid-like particles."""
        return float(self.is_solid.mean())

    @property
    def largest_cluster(self) -> float:
        """Share of all particles in the largest connected cluster of solid-like ones."""
        return self._result.largest_cluster / len(self.is_solid)

    @property
    def demixing(self) -> float:
        """Assortativity of types, 0 for random mixing, 1 for full separation; NaN where there is only one type."""
        return self._result.demixing

    @property
    def demixing_error(self) -> float:
        """Standard error of :attr:`demixing` under random mixing."""
        return self._result.demixing_error

    @property
    def reason(self) -> str:
        """What is wrong with the sample, empty for a glass."""
        reasons = []
        if self.largest_cluster > self.crystal_limit:
            reasons.append(
                f"crystallised: {self.largest_cluster:.1%} of the particles in one solid-like cluster (limit "
                f"{self.crystal_limit:.1%})"
            )
        if self.demixing > max(self.demixing_limit, _STANDARD_ERRORS * self.demixing_error):
            reasons.append(f"demixed: {self.demixing:.2f} +- {self.demixing_error:.2f} (limit {self.demixing_limit:.2f})")
        return "; ".join(reasons)

    @property
    def is_glass(self) -> bool:
        """True for a sample that neither crystallised nor demixed."""
        return not self.reason

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the histogram of the bond products q6 . q6 with the threshold on ``ax``, or on a new figure; return the axes."""
        ax = _axes(ax)
        ax.hist(self._result.products_p, bins=100, range=(-1.0, 1.0), density=True, color="grey")
        ax.axvline(self.bond_threshold, color="black", linestyle="--", label="solid-like beyond")
        ax.set(xlabel="bond product q6 . q6", ylabel="probability density")
        ax.legend()
        return ax


@dataclass(frozen=True)
class _Order:
    """What :class:`LocalOrder` measured."""

    q6_n: NDArray[np.float64]
    products_p: NDArray[np.float64]
    is_solid_n: NDArray[np.bool_]
    largest_cluster: int
    demixing: float
    demixing_error: float


def _demixing(typeid_n: NDArray[np.int32], first_p: NDArray[np.int_], second_p: NDArray[np.int_]) -> tuple[float, float]:
    """Assortativity of the types over the undirected bonds (first, second), and its standard error under random mixing.

    With types dealt at random the contributions of different bonds are uncorrelated, so the variance is 1 / bonds.
    """
    n_particles = len(typeid_n)
    # A bond found from both its ends is one bond.
    codes_p = np.unique(np.minimum(first_p, second_p).astype(np.int64) * n_particles + np.maximum(first_p, second_p))
    a_p, b_p = typeid_n[codes_p // n_particles], typeid_n[codes_p % n_particles]
    ends_t = np.bincount(np.concatenate([a_p, b_p])) / (2 * len(codes_p))
    by_chance = float((ends_t**2).sum())
    error = 1.0 / math.sqrt(len(codes_p))
    if by_chance == 1.0:
        return math.nan, error
    return (float((a_p == b_p).mean()) - by_chance) / (1.0 - by_chance), error


def _freud_system(glass: Glass) -> tuple[Any, NDArray[np.float32]]:
    """freud's box, and the positions wrapped into it ((N, 3) ndarray of float32 [length])."""
    import freud

    box = freud.box.Box(*glass.box.to_gsd(), is2D=glass.box.dimensions == 2)
    return box, glass.box.wrap(glass.positions).astype(np.float32)


def _letter(typeid: int) -> str:
    """A for type 0, B for type 1, and so on."""
    return chr(ord("A") + int(typeid))


def _axes(ax: Axes | None) -> Axes:
    """``ax``, or the axes of a new figure."""
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots()[1]
