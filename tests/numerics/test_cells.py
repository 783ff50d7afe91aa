"""The search for neighbours finds the pairs that vesin finds, whatever the box."""

from __future__ import annotations

from collections import Counter

import numpy as np
import vesin
from hypothesis import given, settings
from hypothesis import strategies as st

from qlm_hoomd.box import Box
from qlm_hoomd.numerics import cells
from qlm_hoomd.numerics.laws import Sizes
from qlm_hoomd.potentials import SoftSpheres

# Images are named by a code in lists, and by three integers in vesin's.
SHIFTS = [tuple(shift) for shift in cells.IMAGES.astype(int).tolist()]


def _particles(
    n_particles: int, n_types: int, length: float, xy: float, shape: dict[str, float], clumped: bool, seed: int
) -> tuple[np.ndarray, np.ndarray, Box]:
    rng = np.random.default_rng(seed)
    others = {name: value * (length if name in ("ly", "lz") else 1.0) for name, value in shape.items()}
    box = Box(length, xy, **others)
    fractional_nc = rng.random((n_particles, 3)) ** (4 if clumped else 1) - 0.5
    # Some on the faces, where rounding decides.
    fractional_nc[rng.random((n_particles, 3)) < 0.02] = 0.5
    return box.wrap(fractional_nc @ box.matrix), rng.integers(0, n_types, n_particles).astype(np.int32), box


def _by_vesin(positions_nc: np.ndarray, typeid_n: np.ndarray, box: Box, reach_tt: np.ndarray, full: bool) -> Counter:
    # A flat box is one layer, far from its images.
    layers_cc = np.diag([0.0, 0.0, 10.0 * float(reach_tt.max())]) if box.dimensions == 2 else np.zeros((3, 3))
    i_p, j_p, shift_pc, distance_p = vesin.NeighborList(cutoff=float(reach_tt.max()), full_list=full).compute(
        positions_nc, box.matrix + layers_cc, periodic=True, quantities="ijSd"
    )
    inside = distance_p < reach_tt[typeid_n[i_p], typeid_n[j_p]]
    return Counter(_named(i_p[inside], j_p[inside], shift_pc[inside], full))


def _named(i_p: np.ndarray, j_p: np.ndarray, shift_pc: np.ndarray, full: bool) -> list[tuple[int, int, tuple[int, ...]]]:
    """Pairs with the image of the second; of half lists, with the smaller number first."""
    names = []
    for i, j, shift in zip(i_p.tolist(), j_p.tolist(), np.asarray(shift_pc, dtype=int).tolist(), strict=True):
        names.append((i, j, tuple(shift)) if full or i < j else (j, i, tuple(-s for s in shift)))
    return names


boxes = st.tuples(
    st.integers(1, 300),
    st.integers(1, 3),
    st.floats(1.0, 9.0),
    st.sampled_from([0.0, 0.0, 0.1, -0.37, 0.5, -0.5]),
    st.sampled_from(
        [{}, {"lz": 0.0}, {"ly": 0.6, "lz": 0.0}, {"ly": 1.7, "lz": 0.8}, {"ly": 0.9, "lz": 1.3, "xz": -0.4, "yz": 0.3}]
    ),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
# Of the distance between opposite faces: from one cell on a side to many.
reaches = st.floats(0.05, 0.999)


@settings(max_examples=60)
@given(boxes, reaches)
def test_half_lists_are_vesins_as_sets(box: tuple, share: float) -> None:
    positions_nc, typeid_n, cell = _particles(*box)
    n_types = box[1]
    rng = np.random.default_rng(box[-1])
    reach_tt = share * cell.nearest_plane_distance * rng.uniform(0.5, 1.0, (n_types, n_types))
    reach_tt = np.maximum(reach_tt, reach_tt.T)
    owner_r, first_r, partner_p, code_p, pairtype_p = cells.half_lists_of(
        positions_nc, typeid_n, n_types, cells.lattice_of(cell), reach_tt.ravel(), 0.0
    )
    i_p = np.repeat(owner_r, np.diff(first_r))
    assert sorted(owner_r.tolist()) == list(range(len(positions_nc)))
    np.testing.assert_array_equal(pairtype_p, n_types * typeid_n[i_p] + typeid_n[partner_p])
    ours = Counter(_named(i_p, partner_p, cells.IMAGES[code_p], full=False))
    assert ours == _by_vesin(positions_nc, typeid_n, cell, reach_tt, full=False)


@settings(max_examples=60)
@given(boxes, reaches)
def test_lists_by_eight_are_vesins_as_sets(box: tuple, share: float) -> None:
    positions_nc, typeid_n, cell = _particles(*box)
    n_types, n_particles = box[1], len(positions_nc)
    reach_tt = np.full((n_types, n_types), share * cell.nearest_plane_distance)
    lattice = cells.lattice_of(cell)
    cells_c = cells.cells_per_side(lattice, float(reach_tt.max()))
    order_s, first_k = cells.sort_into_cells(positions_nc, typeid_n, n_types, lattice, cells_c)
    filler = -(-n_particles // 8) * 8
    x_ce, owner_i, code_i, begin_ka = cells.with_images(positions_nc, order_s, first_k, cells_c, n_types, lattice, filler + 1)
    first_s, place_m = cells.find_neighbors(
        x_ce, typeid_n[order_s], owner_i, first_k, cells_c, begin_ka, n_types, reach_tt.ravel(), False, None
    )
    member_m, first_g, entry_m = cells.lists_by_eight(first_s, place_m, filler, 4)
    assert sorted(member_m.tolist()) == list(range(0, 4 * filler, 4))
    names = []
    n_fillers = 0
    for group in range(filler // 8):
        entries_ml = entry_m[8 * first_g[group] : 8 * first_g[group + 1]].reshape(-1, 8)
        for lane, member in enumerate(member_m[8 * group : 8 * group + 8] // 4):
            places = entries_ml[:, lane] // 4
            n_fillers += int((places == filler).sum())
            for place in places[places != filler]:
                image = place > filler
                s, code = (owner_i[place - filler - 1], code_i[place - filler - 1]) if image else (place, 13)
                names.append((int(order_s[member]), int(order_s[s]), SHIFTS[code]))
    assert Counter(names) == _by_vesin(positions_nc, typeid_n, cell, reach_tt, full=True)
    assert n_fillers + len(names) == 8 * first_g[-1]


@settings(max_examples=120)
@given(boxes, reaches, st.sampled_from([0.0, 0.2, 0.7]))
def test_lists_of_particles_of_all_sizes_are_vesins_as_sets(box: tuple, share: float, nonadditivity: float) -> None:
    """A pair is listed up to its own reach, and not that of the largest; half lists, and all neighbours of each."""
    positions_nc, _, cell = _particles(*box)
    size_n = np.random.default_rng(box[-1]).uniform(0.4, 1.3, len(positions_nc))
    sizes = Sizes(size_n, SoftSpheres(nonadditivity=nonadditivity).mixing())
    farthest = share * cell.nearest_plane_distance
    skin, cutoff = 0.2 * farthest, 0.8 * farthest / size_n.max()
    lattice, typeid_n = cells.lattice_of(cell), np.zeros(len(positions_nc), np.int32)
    owner_r, first_r, partner_p, code_p, pairtype_p = cells.half_lists_of(
        positions_nc, typeid_n, 1, lattice, np.array([cutoff]), skin, sizes
    )
    assert not pairtype_p.any()
    cells_c = cells.cells_per_side(lattice, farthest)
    order_s, first_k = cells.sort_into_cells(positions_nc, typeid_n, 1, lattice, cells_c)
    n_places = len(order_s) + 3
    x_ce, owner_i, code_i, begin_ka = cells.with_images(positions_nc, order_s, first_k, cells_c, 1, lattice, n_places)
    own = cells.own_reach(sizes, cutoff, skin, order_s, owner_i, x_ce)
    first_s, place_m = cells.find_neighbors(
        x_ce, typeid_n, owner_i, first_k, cells_c, begin_ka, 1, np.array([farthest]), False, own
    )
    place_m = place_m[: first_s[-1]]
    image_m = np.maximum(place_m - n_places, 0)
    there_m = np.where(place_m < n_places, np.append(order_s, [0] * 3)[np.minimum(place_m, n_places - 1)], -1)
    code_m = np.full(len(place_m), 13)
    if len(owner_i):
        there_m = np.where(there_m < 0, order_s[owner_i[image_m]], there_m)
        code_m = np.where(place_m < n_places, code_m, code_i[image_m])
    found = {
        False: Counter(_named(np.repeat(owner_r, np.diff(first_r)), partner_p, cells.IMAGES[code_p], full=False)),
        True: Counter(_named(np.repeat(order_s, np.diff(first_s)), there_m, cells.IMAGES[code_m], full=True)),
    }
    layers_cc = np.diag([0.0, 0.0, 10.0 * farthest]) if cell.dimensions == 2 else np.zeros((3, 3))
    for full, ours in found.items():
        i_p, j_p, shift_pc, distance_p = vesin.NeighborList(cutoff=farthest, full_list=full).compute(
            positions_nc, cell.matrix + layers_cc, periodic=True, quantities="ijSd"
        )
        a_p, b_p = size_n[i_p], size_n[j_p]
        inside = distance_p < cutoff * 0.5 * (a_p + b_p) * (1.0 - nonadditivity * np.abs(a_p - b_p)) + skin
        assert ours == Counter(_named(i_p[inside], j_p[inside], shift_pc[inside], full)), f"full = {full}"


def test_particles_on_one_spot_are_neighbours() -> None:
    positions_nc = np.zeros((3, 3))
    lattice = cells.lattice_of(Box(5.0))
    _, first_r, *_ = cells.half_lists_of(positions_nc, np.zeros(3, np.int32), 1, lattice, np.array([0.9]), 0.1)
    assert first_r[-1] == 3
