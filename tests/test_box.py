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
boxes = st.builds(Box.at_strain, lengths, strains)
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
    matrix = box.matrix
    assert box.volume == pytest.approx(np.linalg.det(matrix), rel=1e-12)
    # The distance between opposite faces is volume over the area of the face.
    areas = [np.linalg.norm(np.cross(matrix[a], matrix[b])) for a, b in ((1, 2), (2, 0), (0, 1))]
    assert box.nearest_plane_distance == pytest.approx(min(box.volume / area for area in areas), rel=1e-12)


@given(boxes, vectors)
def test_wrapped_positions_are_in_the_cell_and_equivalent(box: Box, fractional: np.ndarray) -> None:
    position = fractional @ box.matrix
    wrapped = box.wrap(position)
    assert np.abs(wrapped @ np.linalg.inv(box.matrix)).max() <= 0.5 + 1e-9
    counts = (position - wrapped) @ np.linalg.inv(box.matrix)
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)


@given(boxes, vectors)
def test_wrapping_twice_is_wrapping_once(box: Box, fractional: np.ndarray) -> None:
    # On a face itself rounding decides between two equivalent images.
    assume((np.abs(np.abs(fractional - np.rint(fractional)) - 0.5) > 1e-9).all())
    wrapped = box.wrap(fractional @ box.matrix)
    np.testing.assert_array_equal(box.wrap(wrapped), wrapped)


@given(boxes, vectors, lattice_counts)
def test_minimum_image_finds_the_short_vector(box: Box, direction: np.ndarray, counts: np.ndarray) -> None:
    norm = np.linalg.norm(direction)
    assume(norm > 0.0)
    short = direction * (0.4999 * box.nearest_plane_distance * (norm % 1.0) / norm)
    np.testing.assert_allclose(box.minimum_image(short + counts @ box.matrix), short, atol=1e-11 * box.length)


@given(boxes, vectors)
def test_minimum_image_against_all_images(box: Box, fractional: np.ndarray) -> None:
    wrapped = box.wrap(fractional @ box.matrix)
    shortest = np.linalg.norm(wrapped + IMAGES @ box.matrix, axis=1).min()
    found = np.linalg.norm(box.minimum_image(fractional @ box.matrix))
    if shortest < 0.4999 * box.nearest_plane_distance:
        assert found == pytest.approx(shortest, rel=1e-9, abs=1e-11 * box.length)
    assert found >= shortest - 1e-11 * box.length


def test_minimum_image_leaves_its_argument_alone() -> None:
    vector = np.array([[7.0, 7.0, 7.0]])
    Box(4.0, 0.25).minimum_image(vector)
    assert (vector == 7.0).all()


@given(boxes)
def test_gsd_box_round_trip(box: Box) -> None:
    assert Box.from_gsd(box.to_gsd()) == box


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
    "gsd_box", [[8, 8, 9, 0, 0, 0], [8, 8, 0, 0, 0, 0], [8, 8, 8, 0, 0.1, 0], [8, 8, 8, 0, 0, -0.1], [8, 9, 8, 0.1, 0, 0]]
)
def test_other_boxes_are_refused(gsd_box: list[float]) -> None:
    with pytest.raises(InputError, match=r"cube under xy shear.* are not there yet\.$"):
        Box.from_gsd(gsd_box)


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
