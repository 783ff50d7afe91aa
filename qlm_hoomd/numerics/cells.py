"""The search for neighbours: particles sorted into cells, distances tested eight at a time.

The box is divided into cells at least as wide as the reach of the search, so that whoever is within reach of a particle lives
in its cell or in one of the 26 around it. Cells at the faces have periodic images around them, whose particles are copied;
where the box is narrower than three cells, several images of one cell. All particles of a cell share one list of candidates:
those within reach of the block that they span. A flat box has one layer of cells, and nothing above or below it.
"""

# Array names carry their axes: n particles, s particles in cell order, e particles in cell order and then images, k cells by
# type, c Cartesian components or sides of the box, t types or pairs of types, q candidates of one cell, r runs of the half
# list, g groups of eight particles, m entries of lists, a cells around a cell, i images.

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qlm_hoomd.numerics.jit import Bytes, Floats, Ints, compiled, index
from qlm_hoomd.numerics.laws import OwnReach, Sizes, mixed
from qlm_hoomd.numerics.simd import LANES, append_lanes, beyond, bits, load, magnitude, splat, transpose_numbers

if TYPE_CHECKING:
    from qlm_hoomd.box import Box

# All periodic images of a cell around itself, in the order of their code.
IMAGES = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], dtype=np.float64)
# Farther than anything is from anything.
FAR = 1e9
_N_AROUND = 27
_MOST_CELLS = 256
_NO_SHIFT = 13
# Lists are made for so many particles at a time, and sorted by their length among those.
STRETCH = 64


def own_reach(sizes: Sizes | None, cutoff: float, skin: float, order_s: Ints, owner_i: Ints, x_ce: Floats) -> OwnReach | None:
    """The reach of particles of sizes of their own, laid out as their positions; None where types say it all."""
    if sizes is None:
        return None
    n_places = x_ce.shape[1] - LANES - len(owner_i)
    # At places that are nobody's any size does.
    size_e = np.ones(x_ce.shape[1])
    size_e[: len(order_s)] = sizes.size_n[order_s]
    size_e[n_places : n_places + len(owner_i)] = size_e[owner_i]
    return OwnReach(size_e, sizes.mixing, cutoff, skin)


class Lattice(NamedTuple):
    """A box as the loops take it, and its lattice vectors by the code of an image.

    ``edges`` are Lx, Ly, Lz, ``tilts`` xy, xz, yz, ``faces_apart`` the distances between opposite faces. A ``flat`` box has two
    dimensions; it gets an Lz of 1 to divide by, its lattice vector along z stays zero.
    """

    edges: tuple[float, float, float]
    tilts: tuple[float, float, float]
    faces_apart: tuple[float, float, float]
    shift_ic: Floats
    flat: bool


def lattice_of(box: Box) -> Lattice:
    """The box as the loops take it."""
    flat = box.dimensions == 2
    edges = float(box.lx), float(box.ly), 1.0 if flat else float(box.lz)
    tilts = float(box.xy), float(box.xz), float(box.yz)
    first, second, third = box.faces_apart
    return Lattice(edges, tilts, (float(first), float(second), float(third)), image_shifts(box), flat)


def cells_per_side(lattice: Lattice, reach: float) -> NDArray[np.int64]:
    """((3,) ndarray of int) how many cells wider than ``reach`` fit between opposite faces of the box, at least one."""
    # Wider by more than rounding may put a particle into the wrong cell.
    return np.clip(np.array(lattice.faces_apart) / ((1.0 + 1e-9) * reach), 1, _MOST_CELLS).astype(np.int64)


@compiled
def sort_into_cells(
    wrapped_nc: Floats, typeid_n: Ints, n_types: int, lattice: Lattice, cells_c: NDArray[np.int64]
) -> tuple[Ints, NDArray[np.int64]]:
    """Particles by cell and in a cell by type and number: order_s, and where each cell's particles of each type begin.

    The positions lie in the cell of the lattice that is centred on the origin.
    """
    n_particles = len(wrapped_nc)
    lx, ly, lz = lattice.edges
    xy, xz, yz = lattice.tilts
    # In units of the edges.
    xy, xz, yz = xy * (ly / lx), xz * (lz / lx), yz * (lz / ly)
    first_k = np.zeros(cells_c[0] * cells_c[1] * cells_c[2] * n_types + 1, np.int64)
    key_n = np.empty(n_particles, np.int32)
    for n in range(n_particles):
        x, y, z = wrapped_nc[n, 0] / lx, wrapped_nc[n, 1] / ly, wrapped_nc[n, 2] / lz
        y -= yz * z
        c0 = min(max(np.int64((x - xy * y - xz * z + 0.5) * cells_c[0]), 0), cells_c[0] - 1)
        c1 = min(max(np.int64((y + 0.5) * cells_c[1]), 0), cells_c[1] - 1)
        c2 = min(max(np.int64((z + 0.5) * cells_c[2]), 0), cells_c[2] - 1)
        key = ((c2 * cells_c[1] + c1) * cells_c[0] + c0) * n_types + typeid_n[n]
        key_n[n] = key
        first_k[key + 1] += 1
    for key in range(len(first_k) - 1):
        first_k[key + 1] += first_k[key]
    order_s = np.empty(n_particles, np.int32)
    filled_k = first_k.copy()
    for n in range(n_particles):
        order_s[filled_k[key_n[n]]] = n
        filled_k[key_n[n]] += 1
    return order_s, first_k


def image_shifts(box: Box) -> Floats:
    """((27, 3) ndarray) lattice vectors by the code of an image, 9 (sx + 1) + 3 (sy + 1) + (sz + 1)."""
    shift_ic = IMAGES * np.array([box.lx, box.ly, box.lz])
    shift_ic[:, 0] += box.ly * box.xy * IMAGES[:, 1]
    if box.xz != 0.0 or box.yz != 0.0:
        shift_ic[:, 0] += box.lz * box.xz * IMAGES[:, 2]
        shift_ic[:, 1] += box.lz * box.yz * IMAGES[:, 2]
    return np.asarray(shift_ic)


@compiled
def _look_around(cell: int, cells_c: NDArray[np.int64], cell_a: NDArray[np.int64], code_a: NDArray[np.int64]) -> None:
    """The 27 cells around a cell, itself included, and the code of the image of each that is meant."""
    c0, c1, c2 = cell % cells_c[0], cell // cells_c[0] % cells_c[1], cell // (cells_c[0] * cells_c[1])
    place = 0
    for d2 in range(-1, 2):
        k2, s2 = _wrapped(c2 + d2, cells_c[2])
        for d1 in range(-1, 2):
            k1, s1 = _wrapped(c1 + d1, cells_c[1])
            for d0 in range(-1, 2):
                k0, s0 = _wrapped(c0 + d0, cells_c[0])
                cell_a[place] = (k2 * cells_c[1] + k1) * cells_c[0] + k0
                code_a[place] = 9 * (s0 + 1) + 3 * (s1 + 1) + s2 + 1
                place += 1


@compiled
def _wrapped(c: int, count: int) -> tuple[int, int]:
    if c < 0:
        return c + count, -1
    if c >= count:
        return c - count, 1
    return c, 0


@compiled
def with_images(
    wrapped_nc: Floats, order_s: Ints, first_k: NDArray[np.int64], cells_c: NDArray[np.int64], n_types: int, lattice: Lattice,
    n_places: int,
) -> tuple[Floats, Ints, Bytes, NDArray[np.int64]]:  # fmt: skip
    """Positions in cell order and, from ``n_places`` on, of all images that some cell has around it.

    Returns x_ce (far away at places that are nobody's), owner_i, code_i, and where each of the 27 cells around each cell
    begins, -1 for those above and below a flat box.
    """
    n_particles = len(order_s)
    n_cells = cells_c[0] * cells_c[1] * cells_c[2]
    cell_a, code_a = np.empty(_N_AROUND, np.int64), np.empty(_N_AROUND, np.int64)
    place_ki = np.full((n_cells, 27), -1, np.int64)
    begin_ka = np.empty((n_cells, _N_AROUND), np.int64)
    n_images = 0
    for cell in range(n_cells):
        _look_around(cell, cells_c, cell_a, code_a)
        for a in range(_N_AROUND):
            around, code = cell_a[a], code_a[a]
            if lattice.flat and code % 3 != 1:
                begin_ka[cell, a] = -1
                continue
            if place_ki[around, code] < 0:
                if code == _NO_SHIFT:
                    place_ki[around, code] = first_k[around * n_types]
                else:
                    place_ki[around, code] = n_places + n_images
                    n_images += first_k[(around + 1) * n_types] - first_k[around * n_types]
            begin_ka[cell, a] = place_ki[around, code]
    # A vector may be read from the last place.
    x_ce = np.full((3, n_places + n_images + LANES), FAR)
    owner_i = np.empty(n_images, np.int32)
    code_i = np.empty(n_images, np.uint8)
    for s in range(n_particles):
        n = order_s[s]
        x_ce[0, s], x_ce[1, s], x_ce[2, s] = wrapped_nc[n, 0], wrapped_nc[n, 1], wrapped_nc[n, 2]
    for cell in range(n_cells):
        for code in range(27):
            place = place_ki[cell, code]
            if place < n_places:
                continue
            shift_ic = lattice.shift_ic
            shift0, shift1, shift2 = shift_ic[code, 0], shift_ic[code, 1], shift_ic[code, 2]
            for s in range(index(first_k[cell * n_types]), index(first_k[(cell + 1) * n_types])):
                owner_i[place - n_places] = s
                code_i[place - n_places] = code
                x_ce[0, place] = x_ce[0, s] + shift0
                x_ce[1, place] = x_ce[1, s] + shift1
                x_ce[2, place] = x_ce[2, s] + shift2
                place += 1
    return x_ce, owner_i, code_i, begin_ka


@compiled
def _find_candidates(
    cell: int, first_k: NDArray[np.int64], n_types: int, x_e: Floats, size: int, reach_t: Floats,
    cell_a: NDArray[np.int64], begin_a: NDArray[np.int64], capacity: int,
    x_q: Floats, place_q: Ints, section_t: NDArray[np.int64], own_t: NDArray[np.int64],
) -> None:  # fmt: skip
    """All that may be within reach of the particles of a cell, by type: coordinates, and places among particles and images.

    Cells around that begin at a negative place are passed over. Sections begin at multiples of eight and are filled up with
    particles that nobody reaches. ``own_t`` says where the cell's own particles are. Coordinates are flat views of (3, size).
    """
    start, end = first_k[cell * n_types], first_k[(cell + 1) * n_types]
    low0 = low1 = low2 = np.inf
    high0 = high1 = high2 = -np.inf
    for s in range(index(start), index(end)):
        x0, x1, x2 = x_e[s], x_e[s + index(size)], x_e[s + index(2 * size)]
        low0, high0 = min(low0, x0), max(high0, x0)
        low1, high1 = min(low1, x1), max(high1, x1)
        low2, high2 = min(low2, x2), max(high2, x2)
    centre0, centre1, centre2 = splat(0.5 * (low0 + high0)), splat(0.5 * (low1 + high1)), splat(0.5 * (low2 + high2))
    half0, half1, half2 = splat(0.5 * (high0 - low0)), splat(0.5 * (high1 - low1)), splat(0.5 * (high2 - low2))
    q = index(0)
    for t in range(n_types):
        section_t[t] = q
        reach = 0.0
        for own in range(n_types):
            reach = max(reach, reach_t[own * n_types + t])
        # A little more: a block is where rounding puts it.
        square = splat(reach * reach * (1.0 + 1e-9))
        for a in range(len(cell_a)):
            begin = begin_a[a]
            if begin < 0:
                continue
            around = cell_a[a]
            if around == cell and begin == start:
                own_t[t] = q
            whole = first_k[around * n_types]
            place, stop = begin + first_k[around * n_types + t] - whole, begin + first_k[around * n_types + t + 1] - whole
            for e in range(index(place), index(stop), index(LANES)):
                d0 = beyond(magnitude(load(x_e, e) - centre0), half0)
                d1 = beyond(magnitude(load(x_e, e + index(size)) - centre1), half1)
                d2 = beyond(magnitude(load(x_e, e + index(2 * size)) - centre2), half2)
                inside = bits(d0 * d0 + d1 * d1 + d2 * d2 < square)
                if e + index(LANES) > index(stop):
                    inside &= (index(1) << (index(stop) - e)) - index(1)
                q += append_lanes(place_q, q, np.int32(e), inside)
        while q % index(LANES) != index(0):
            place_q[q] = -1
            q += index(1)
    section_t[n_types] = q
    for some in range(q):
        e = place_q[some]
        if e >= 0:
            x_q[some] = x_e[e]
            x_q[some + index(capacity)] = x_e[index(e) + index(size)]
            x_q[some + index(2 * capacity)] = x_e[index(e) + index(2 * size)]
        else:
            x_q[some] = FAR


@compiled
def _within_reach(
    x0: float, x1: float, x2: float, own_type: int, n_types: int, square_t: Floats, x_q: Floats, capacity: int,
    section_t: NDArray[np.int64], found_m: Ints,
) -> int:  # fmt: skip
    """Which candidates are within reach of one particle: their places among the candidates, and how many they are."""
    own0, own1, own2 = splat(x0), splat(x1), splat(x2)
    count = index(0)
    for t in range(n_types):
        limit = splat(square_t[own_type * n_types + t])
        for q in range(index(section_t[t]), index(section_t[t + 1]), index(LANES)):
            d0 = load(x_q, q) - own0
            d1 = load(x_q, q + index(capacity)) - own1
            d2 = load(x_q, q + index(2 * capacity)) - own2
            count += append_lanes(found_m, count, np.int32(q), bits(d0 * d0 + d1 * d1 + d2 * d2 < limit))
    return count


@compiled
def _within_own_reach(
    x0: float, x1: float, x2: float, size: float, x_q: Floats, size_q: Floats, capacity: int, n_candidates: int,
    own: OwnReach, found_m: Ints,
) -> int:  # fmt: skip
    """As :func:`_within_reach`, where the sizes of the two say how far they reach."""
    own0, own1, own2, own_size = splat(x0), splat(x1), splat(x2), splat(size)
    count = index(0)
    for q in range(index(0), index(n_candidates), index(LANES)):
        d0 = load(x_q, q) - own0
        d1 = load(x_q, q + index(capacity)) - own1
        d2 = load(x_q, q + index(2 * capacity)) - own2
        reach = own.cutoff * mixed(own.mixing.function, own_size, load(size_q, q), own.mixing.constants) + own.skin
        count += append_lanes(found_m, count, np.int32(q), bits(d0 * d0 + d1 * d1 + d2 * d2 < reach * reach))
    return count


@compiled
def _most_candidates(first_k: NDArray[np.int64], n_types: int) -> int:
    """No cell has more candidates than this, fillers included."""
    most = 0
    for cell in range((len(first_k) - 1) // n_types):
        most = max(most, first_k[(cell + 1) * n_types] - first_k[cell * n_types])
    return _N_AROUND * most + LANES * (n_types + 1)


@compiled
def find_neighbors(
    x_ce: Floats, typeid_s: Ints, owner_i: Ints, first_k: NDArray[np.int64], cells_c: NDArray[np.int64],
    begin_ka: NDArray[np.int64], n_types: int, reach_t: Floats, half: bool, own: OwnReach | None,
) -> tuple[NDArray[np.int64], Ints]:  # fmt: skip
    """The neighbours of each particle in cell order, as places among particles and images: where each list begins, and the lists.

    All of them, or ``half``: of each pair the one that comes later in cell order. ``reach_t`` is how far each pair of types
    reaches; where there is an ``own`` reach of each pair of particles, it is that of the farthest.
    """
    n_particles = len(typeid_s)
    size = x_ce.shape[1]
    n_places = size - LANES - len(owner_i)
    x_e = x_ce.reshape(-1)
    capacity = _most_candidates(first_k, n_types)
    x_q = np.empty(3 * capacity)
    place_q = np.empty(capacity, np.int32)
    found_m = np.empty(capacity, np.int32)
    section_t, own_t = np.empty(n_types + 1, np.int64), np.empty(n_types, np.int64)
    cell_a, code_a, begin_a = np.empty((3, _N_AROUND), np.int64)
    square_t = reach_t * reach_t
    if own is not None:
        size_q = np.empty(capacity)
    first_s = np.zeros(n_particles + 1, np.int64)
    place_m = np.empty(max(1024, 32 * n_particles), np.int32)
    kept = index(0)
    for cell in range(len(begin_ka)):
        start, end = first_k[cell * n_types], first_k[(cell + 1) * n_types]
        if start == end:
            continue
        _look_around(cell, cells_c, cell_a, code_a)
        for a in range(_N_AROUND):
            begin_a[a] = -1 if half and cell_a[a] < cell else begin_ka[cell, a]
        _find_candidates(cell, first_k, n_types, x_e, size, reach_t, cell_a, begin_a, capacity, x_q, place_q, section_t, own_t)
        if kept + index(capacity * (end - start)) > index(len(place_m)):
            place_m = _grown(place_m, kept + index(capacity * (end - start)))
        if own is not None:
            for q in range(index(section_t[n_types])):
                size_q[q] = own.size_e[place_q[q]] if place_q[q] >= 0 else 1.0
        for s in range(index(start), index(end)):
            own_type = typeid_s[s]
            x0, x1, x2 = x_e[s], x_e[s + index(size)], x_e[s + index(2 * size)]
            if own is not None:
                n_found = _within_own_reach(x0, x1, x2, own.size_e[s], x_q, size_q, capacity, section_t[n_types], own, found_m)
            else:
                n_found = _within_reach(x0, x1, x2, own_type, n_types, square_t, x_q, capacity, section_t, found_m)
            if half:
                for m in range(index(n_found)):
                    place = place_q[found_m[m]]
                    place_m[kept] = place
                    partner = place if place < n_places else owner_i[place - n_places]
                    kept += index(index(partner) > s)
            else:
                myself = index(own_t[own_type]) + s - index(first_k[cell * n_types + own_type])
                for m in range(index(n_found)):
                    q = index(found_m[m])
                    place_m[kept] = place_q[q]
                    kept += index(q != myself)
            first_s[s + index(1)] = kept
    return first_s, place_m


@compiled
def lists_by_eight(first_s: NDArray[np.int64], place_m: Ints, filler: int, row: int) -> tuple[Ints, NDArray[np.int64], Ints]:
    """Lists of neighbours for eight particles at a time: member_m, first_g, entry_m.

    Group g has the members ``8 g`` to ``8 g + 7`` of member_m, particles with lists of about one length, and the entries
    ``first_g[g]`` to ``first_g[g + 1]``, each of eight numbers, one for each of its members. All are places among particles and
    images times ``row``; lists are filled up with the filler, members with the places that follow the particles.
    """
    n_particles = len(first_s) - 1
    n_groups = (n_particles + LANES - 1) // LANES
    start_l, by_count_l, count_l = np.empty(LANES, np.int64), np.empty(STRETCH, np.int64), np.empty(STRETCH, np.int64)
    member_m = np.empty(LANES * n_groups, np.int32)
    first_g = np.zeros(n_groups + 1, np.int64)
    entry_m = np.empty(first_s[n_particles] + first_s[n_particles] // 8 + 1024, np.int32)
    group = 0
    for begin in range(0, n_particles, STRETCH):
        n_slots = min(STRETCH, n_particles - begin)
        for slot in range(n_slots):
            count_l[slot] = first_s[begin + slot + 1] - first_s[begin + slot]
        n_empty = _sort_by_count(count_l, n_slots, by_count_l)
        for place in range(n_empty // LANES * LANES, STRETCH, LANES):
            most = count_l[by_count_l[place + LANES - 1]]
            done = first_g[group]
            first_g[group + 1] = done + most
            if LANES * (done + most + LANES) > len(entry_m):
                entry_m = _grown(entry_m, LANES * (done + most + LANES))
            for lane in range(LANES):
                s = begin + by_count_l[place + lane]
                member_m[LANES * group + lane] = row * s
                start_l[lane] = first_s[min(s, n_particles)]
            for m in range(0, most, LANES):
                transpose_numbers(entry_m, index(LANES * (done + m)), place_m, start_l, m)
            for lane in range(LANES):
                for m in range(count_l[by_count_l[place + lane]], most):
                    entry_m[LANES * (done + m) + lane] = filler
            for m in range(LANES * done, LANES * (done + most)):
                entry_m[m] *= row
            group += 1
    return member_m, first_g, entry_m


@compiled
def _half_lists(
    first_s: NDArray[np.int64], place_m: Ints, order_s: Ints, typeid_s: Ints, owner_i: Ints, code_i: Bytes, n_types: int
) -> tuple[Ints, NDArray[np.int64], Ints, Bytes, Bytes]:
    """Half lists as runs: owner_r, first_r, partner_p, the code of the partner's image, pair of types.

    Within a stretch runs are sorted by their length, so that the processor foresees where the loop over a run ends; loops over
    pairs are a third faster for it.
    """
    n_particles = len(order_s)
    n_pairs = first_s[n_particles]
    count_l, by_count_l = np.empty(STRETCH, np.int64), np.empty(STRETCH, np.int64)
    owner_r, first_r = np.empty(n_particles, np.int32), np.zeros(n_particles + 1, np.int64)
    partner_p = np.empty(n_pairs, np.int32)
    code_p, pairtype_p = np.empty(n_pairs, np.uint8), np.empty(n_pairs, np.uint8)
    p = index(0)
    for begin in range(0, n_particles, STRETCH):
        n_slots = min(STRETCH, n_particles - begin)
        for slot in range(n_slots):
            count_l[slot] = first_s[begin + slot + 1] - first_s[begin + slot]
        n_empty = _sort_by_count(count_l, n_slots, by_count_l)
        for slot in range(n_slots):
            s = begin + by_count_l[n_empty + slot]
            own_type = n_types * typeid_s[s]
            for m in range(index(first_s[s]), index(first_s[s + 1])):
                place, code = place_m[m], _NO_SHIFT
                if place >= n_particles:
                    place, code = owner_i[place - n_particles], code_i[place - n_particles]
                partner_p[p] = order_s[place]
                code_p[p] = code
                pairtype_p[p] = own_type + typeid_s[place]
                p += index(1)
            owner_r[begin + slot] = order_s[s]
            first_r[begin + slot + 1] = p
    return owner_r, first_r, partner_p, code_p, pairtype_p


@compiled
def _sort_by_count(count_l: NDArray[np.int64], n_slots: int, by_count_l: NDArray[np.int64]) -> int:
    """The first slots by their count, those of one count in order; before them, backwards, the rest, which are empty.

    How many these are.
    """
    n_empty = len(count_l) - n_slots
    most = 0
    for slot in range(n_slots):
        most = max(most, count_l[slot])
    first = np.zeros(most + 2, np.int64)
    for slot in range(n_slots):
        first[count_l[slot] + 1] += 1
    first[0] = n_empty
    for count in range(most + 1):
        first[count + 1] += first[count]
    for slot in range(n_slots):
        by_count_l[first[count_l[slot]]] = slot
        first[count_l[slot]] += 1
    for place in range(n_empty):
        slot = len(count_l) - 1 - place
        by_count_l[place] = slot
        count_l[slot] = 0
    return n_empty


@compiled
def _grown(array: NDArray[np.int32], needed: int) -> NDArray[np.int32]:
    larger = np.empty(needed + needed // 2, array.dtype)
    larger[: len(array)] = array
    return larger


def half_lists_of(
    wrapped_nc: Floats,
    typeid_n: Ints,
    n_types: int,
    lattice: Lattice,
    cutoff_t: Floats,
    skin: float,
    sizes: Sizes | None = None,
) -> tuple[Ints, NDArray[np.int64], Ints, Bytes, Bytes]:
    """Each pair of particles closer than its cut-off and a skin once; see :func:`_half_lists`.

    The positions lie in the cell of the lattice that is centred on the origin; no reach is longer than the box is wide. The
    cut-offs are those of the types; of particles with sizes, one in units of the length of a pair.
    """
    reach_t = cutoff_t * (1.0 if sizes is None else sizes.longest) + skin
    cells_c = cells_per_side(lattice, float(reach_t.max()))
    order_s, first_k = sort_into_cells(wrapped_nc, typeid_n, n_types, lattice, cells_c)
    x_ce, owner_i, code_i, begin_ka = with_images(wrapped_nc, order_s, first_k, cells_c, n_types, lattice, len(order_s))
    typeid_s = typeid_n[order_s]
    own = own_reach(sizes, float(cutoff_t.max()), skin, order_s, owner_i, x_ce)
    first_s, place_m = find_neighbors(x_ce, typeid_s, owner_i, first_k, cells_c, begin_ka, n_types, reach_t, True, own)
    return _half_lists(first_s, place_m, order_s, typeid_s, owner_i, code_i, n_types)
