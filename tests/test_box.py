"""The sheared periodic box against brute force over lattice vectors."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qlm_hoomd.box import Box, reduced
from qlm_hoomd.errors import InputError

IMAGES = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)

lengths = st.floats(0.5, 40.0)
strains = st.floats(-5.0, 5.0)
cubes = st.builds(Box.at_strain, lengths, strains)


def _leaning(lx: float, shape: tuple[float, float], tilts: tuple[float, float, float]) -> Box:
    """A box of other edges, tilted by these parts of an edge."""
    ly, lz = lx * shape[0], lx * shape[1]
    if lz == 0.0:
        return Box(lx=lx, ly=ly, lz=lz, xy=tilts[0] * lx / ly)
    return Box(lx=lx, ly=ly, lz=lz, xy=tilts[0] * lx / ly, xz=tilts[1] * lx / lz, yz=tilts[2] * ly / lz)


factors, leanings = st.floats(0.5, 2.0), st.floats(-0.5, 0.5)
triclinics = st.builds(_leaning, lengths, st.tuples(factors, factors), st.tuples(leanings, leanings, leanings))
flats = st.builds(_leaning, lengths, st.tuples(factors, st.just(0.0)), st.tuples(leanings, leanings, leanings))
boxes = st.one_of(cubes, triclinics, flats)
vectors = st.tuples(*[st.floats(-4.0, 4.0)] * 3).map(np.array)
lattice_counts = st.tuples(*[st.integers(-3, 3)] * 3).map(np.array)


@given(lengths, strains)
def test_tilt_is_the_strain_modulo_one(length: float, strain: float) -> None:
    box = Box.at_strain(length, strain)
    assert abs(box.xy) <= 0.5
    assert strain - box.xy == pytest.approx(round(strain - box.xy), abs=1e-12)


@pytest.mark.parametrize(
    ("strain", "xy"), [(0.5, 0.5), (-0.5, -0.5), (0.5 + 1e-9, -0.5 + 1e-9), (-0.5 - 1e-9, 0.5 - 1e-9), (1.5, 0.5), (2.0, 0.0)]
)
def test_box_flips_only_beyond_one_half(strain: float, xy: float) -> None:
    assert Box.at_strain(10.0, strain).xy == pytest.approx(xy, abs=1e-12)


@given(boxes)
def test_geometry_is_that_of_the_lattice_vectors(box: Box) -> None:
    matrix = _matrix(box)
    assert box.volume == pytest.approx(np.linalg.det(matrix), rel=1e-12)
    # The distance between opposite faces is volume over the area of the face.
    areas = [np.linalg.norm(np.cross(matrix[a], matrix[b])) for a, b in ((1, 2), (2, 0), (0, 1))][: box.dimensions]
    assert box.nearest_plane_distance == pytest.approx(min(box.volume / area for area in areas), rel=1e-12)


@given(boxes, vectors)
def test_wrapped_positions_are_in_the_cell_and_equivalent(box: Box, fractional: np.ndarray) -> None:
    position = fractional @ box.matrix
    wrapped = box.wrap(position)
    inverse = np.linalg.inv(_matrix(box))
    assert np.abs(wrapped @ inverse).max() <= 0.5 + 1e-9
    np.testing.assert_allclose(box.fractional(position), position @ inverse, atol=1e-9)
    counts = (position - wrapped) @ inverse
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)


@given(boxes, vectors)
def test_wrapping_twice_is_wrapping_once(box: Box, fractional: np.ndarray) -> None:
    # On a face itself rounding decides between two equivalent images.
    assume((np.abs(np.abs(fractional - np.rint(fractional)) - 0.5) > 1e-9).all())
    wrapped = box.wrap(fractional @ box.matrix)
    np.testing.assert_array_equal(box.wrap(wrapped), wrapped)


@given(boxes, vectors, lattice_counts)
def test_minimum_image_finds_the_short_vector(box: Box, direction: np.ndarray, counts: np.ndarray) -> None:
    direction = direction * (np.arange(3) < box.dimensions)
    norm = np.linalg.norm(direction)
    assume(norm > 0.0)
    short = direction * (0.4999 * box.nearest_plane_distance * (norm % 1.0) / norm)
    np.testing.assert_allclose(box.minimum_image(short + counts @ box.matrix), short, atol=1e-11 * max(box.to_gsd()))


@given(boxes, vectors)
def test_minimum_image_against_all_images(box: Box, fractional: np.ndarray) -> None:
    wrapped = box.wrap(fractional @ box.matrix)
    shortest = np.linalg.norm(wrapped + IMAGES @ box.matrix, axis=1).min()
    found = np.linalg.norm(box.minimum_image(fractional @ box.matrix))
    if shortest < 0.4999 * box.nearest_plane_distance:
        assert found == pytest.approx(shortest, rel=1e-9, abs=1e-11 * max(box.to_gsd()))
    assert found >= shortest - 1e-11 * max(box.to_gsd())


def test_minimum_image_leaves_its_argument_alone() -> None:
    vector = np.array([[7.0, 7.0, 7.0]])
    Box(4.0, 0.25).minimum_image(vector)
    assert (vector == 7.0).all()


@given(boxes)
def test_gsd_box_round_trip(box: Box) -> None:
    again = Box.from_gsd(box.to_gsd())
    # What is a part in a million off a cube is one that went through single precision.
    assert again == box or np.allclose(again.to_gsd(), box.to_gsd(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("length", [0.0, -1.0, math.nan, math.inf])
def test_bad_length_is_refused(length: float) -> None:
    with pytest.raises(InputError, match=r"box length.*expected"):
        Box(length)


@pytest.mark.parametrize("xy", [math.nan, math.inf])
def test_bad_tilt_is_refused(xy: float) -> None:
    with pytest.raises(InputError, match=r"xy.*expected"):
        Box(1.0, xy)


@pytest.mark.parametrize("strain", [math.nan, math.inf, -math.inf])
def test_bad_strain_is_refused(strain: float) -> None:
    with pytest.raises(InputError, match="expected"):
        Box.at_strain(1.0, strain)


@pytest.mark.parametrize(
    "gsd_box",
    [[8, 8, -9, 0, 0, 0], [8, 0, 0, 0, 0, 0], [0, 8, 8, 0, 0.1, 0], [8, 8, math.nan, 0, 0, 0], [8, 8, 8, math.inf, 0, 0]],
)
def test_what_is_no_box_is_refused(gsd_box: list[float]) -> None:
    with pytest.raises(InputError, match=r"box .* expected"):
        Box.from_gsd(gsd_box)


def test_a_box_shows_how_it_is_made() -> None:
    for box in (Box(8.0, 0.25), Box(lx=8.0, ly=7.0, lz=0.0, xy=0.1), Box(8.0, xz=0.1, yz=-0.2)):
        assert eval(repr(box), {"Box": Box}) == box


def test_tilts_out_of_the_plane_are_refused_in_two_dimensions() -> None:
    with pytest.raises(InputError, match="two dimensions"):
        Box(8.0, lz=0.0, xz=0.1)


def test_there_is_no_length_where_edges_differ() -> None:
    assert Box(8.0, 0.1, lz=0.0).length == 8.0
    with pytest.raises(InputError, match=r"Lx = 8, Ly = 7, Lz = 8; expected a cube"):
        _ = Box(8.0, ly=7.0).length


@given(boxes, st.integers(0, 2**32 - 1), st.booleans())
def test_any_cell_is_a_rotated_or_reflected_box(box: Box, seed: int, left_handed: bool) -> None:
    """Distances between all images of two points are the same in the cell and in the box made of it."""
    rng = np.random.default_rng(seed)
    d = box.dimensions
    turn_cc = np.linalg.qr(rng.normal(size=(d, d)))[0]
    if (np.linalg.det(turn_cc) < 0.0) != left_handed:
        turn_cc[:, 0] *= -1.0
    # Other vectors of the same lattice: each a sum of two, in another order.
    other_cc = np.roll(box.matrix[:d, :d], 1, axis=0)
    other_cc[0] += other_cc[1]
    cell_cc = other_cc @ turn_cc.T
    found, rotation_cc = Box.from_vectors(cell_cc)
    np.testing.assert_allclose(rotation_cc @ rotation_cc.T, np.eye(3), atol=1e-12)
    assert found.dimensions == d
    assert found.volume == pytest.approx(box.volume, rel=1e-5)
    # The cell's vectors, turned, are lattice vectors of the box.
    turned = cell_cc @ rotation_cc[:d, :d].T
    counts = turned @ np.linalg.inv(found.matrix[:d, :d])
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)
    assert abs(np.linalg.det(counts)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    "cell",
    [np.ones((3, 3)), np.diag([1.0, 2.0, 0.0]), np.full((2, 2), np.nan), np.ones((3, 2)), np.array([[1.0, 2.0], [2.0, 4.0]])],
)
def test_dependent_cell_vectors_are_refused(cell: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"cell vectors .* expected"):
        Box.from_vectors(cell)


edges = st.floats(0.5, 40.0)
tilts = st.floats(-3.0, 3.0)


@given(st.tuples(edges, edges, edges, tilts, tilts, tilts))
def test_a_reduced_box_has_the_same_lattice_and_small_tilts(gsd_box: tuple[float, ...]) -> None:
    small = reduced(gsd_box)
    old, new = _lattice(np.array(gsd_box)), _lattice(small)
    counts = new @ np.linalg.inv(old)
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)
    assert abs(np.linalg.det(counts)) == pytest.approx(1.0)
    lx, ly, lz, xy, xz, yz = small
    assert max(abs(xy) * ly / lx, abs(xz) * lz / lx, abs(yz) * lz / ly) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    "gsd_box", [(0.0, 1, 1, 0, 0, 0), (1, 1, 1, math.nan, 0, 0), (1, 1, 1, math.inf, 0, 0), (4, 4, 0, 0.2, 0, 0)]
)
def test_what_is_no_box_is_left_to_those_who_refuse_it(gsd_box: tuple[float, ...]) -> None:
    np.testing.assert_array_equal(reduced(gsd_box), np.array(gsd_box, dtype=float))


def _lattice(gsd_box: np.ndarray) -> np.ndarray:
    lx, ly, lz, xy, xz, yz = gsd_box
    return np.array([[lx, 0.0, 0.0], [xy * ly, ly, 0.0], [xz * lz, yz * lz, lz]])


def _matrix(box: Box) -> np.ndarray:
    """Lattice vectors as rows; in two dimensions the third is one long."""
    return box.matrix + np.diag([0.0, 0.0, float(box.lz == 0.0)])
