"""The state: a value that shears, wraps and flips without losing what it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlm_hoomd.box import Box
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.model import GlassModel

POTENTIAL = GlassModel().potential
N_PARTICLES = 125
LENGTH = 5.3

increments = st.floats(-1.5, 1.5)


def _glass(strain: float = 0.0) -> Glass:
    """Particles scattered about a grid: disordered, and none on top of another."""
    rng = np.random.default_rng(0)
    grid_nc = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    box = Box.at_strain(LENGTH, strain)
    fractional_nc = (grid_nc + rng.uniform(0.3, 0.7, size=grid_nc.shape)) / 5.0 - 0.5
    return Glass(fractional_nc @ box.matrix, np.arange(N_PARTICLES) % 2, box, strain, {"seed": 0})


def _energy(glass: Glass) -> float:
    return bonds_of(glass, POTENTIAL, 0).energy


def test_a_glass_is_a_value() -> None:
    positions_nc, typeid_n = np.zeros((4, 3)), np.zeros(4, dtype=int)
    glass = Glass(positions_nc, typeid_n, Box(3.0))
    positions_nc[0, 0] = 1.0
    typeid_n[0] = 1
    assert glass.positions[0, 0] == 0.0
    assert glass.typeid[0] == 0
    for array in (glass.positions, glass.typeid, glass.sheared(0.1).positions, glass.moved(np.ones((4, 3))).positions):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        glass.strain = 1.0  # type: ignore[misc]
    assert glass.positions.dtype == np.float64
    assert glass.n_particles == 4


@given(increments, increments)
def test_shears_add_up(first: float, second: float) -> None:
    glass = _glass()
    twice, once = glass.sheared(first).sheared(second), glass.sheared(first + second)
    assert twice.strain == pytest.approx(once.strain, abs=1e-12)
    assert twice.box.length == once.box.length
    # Where the two tilts sit at the two ends of the flip they are one lattice all the same.
    assert math.remainder(twice.box.xy - once.box.xy, 1.0) == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(once.box.minimum_image(twice.positions - once.positions), 0.0, atol=1e-11)


@given(increments)
def test_shearing_there_and_back_changes_nothing(increment: float) -> None:
    glass = _glass()
    back = glass.sheared(increment).sheared(-increment)
    np.testing.assert_allclose(glass.box.minimum_image(back.positions - glass.positions), 0.0, atol=1e-11)


@given(increments)
def test_shear_is_affine_modulo_the_lattice(increment: float) -> None:
    glass = _glass()
    sheared = glass.sheared(increment)
    affine_nc = glass.positions + increment * glass.positions[:, 1:2] * np.array([1.0, 0.0, 0.0])
    counts_nc = (sheared.positions - affine_nc) @ np.linalg.inv(sheared.box.matrix)
    np.testing.assert_allclose(counts_nc, np.rint(counts_nc), atol=1e-10)
    assert sheared.strain == pytest.approx(increment)
    assert abs(sheared.box.xy) <= 0.5
    assert sheared.provenance == glass.provenance


@given(st.floats(-2.0, 2.0))
def test_the_mirror_image_is_another_glass_of_the_same_energy(strain: float) -> None:
    glass = _glass().at_strain(strain)
    mirrored = glass.mirrored()
    np.testing.assert_array_equal(mirrored.positions, glass.positions * [1.0, -1.0, 1.0])
    assert (mirrored.strain, mirrored.box.xy) == (-glass.strain, -glass.box.xy)
    assert _energy(mirrored) == pytest.approx(_energy(glass), rel=1e-12)
    np.testing.assert_array_equal(mirrored.mirrored().positions, glass.positions)
    assert bonds_of(mirrored, POTENTIAL, 1).stress_xy == pytest.approx(-bonds_of(glass, POTENTIAL, 1).stress_xy, rel=1e-9)


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_turning_exchanges_the_axes(axes: tuple[int, int, int]) -> None:
    glass, turned = _glass(), _glass().turned(axes)
    np.testing.assert_array_equal(turned.positions, glass.positions[:, axes])
    assert _energy(turned) == pytest.approx(_energy(glass), rel=1e-13)
    virial = bonds_of(glass, POTENTIAL, 1).virial
    np.testing.assert_allclose(bonds_of(turned, POTENTIAL, 1).virial, virial[np.ix_(axes, axes)], rtol=1e-10, atol=1e-9)


def test_what_cannot_be_turned_is_refused() -> None:
    with pytest.raises(InputError, match=r"axes = \(0, 0, 1\); expected 0, 1 and 2"):
        _glass().turned((0, 0, 1))
    with pytest.raises(InputError, match="at strain 1 of the plane xy; expected strain 0"):
        _glass().at_strain(1.0).turned((0, 2, 1))
    assert _glass().at_strain(0.3).turned((0, 1, 2)).strain == 0.3


@given(st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
def test_affine_shear_has_no_nonaffine_displacement(start: float, end: float) -> None:
    glass = _glass(strain=start)
    np.testing.assert_allclose(glass.at_strain(end).nonaffine_displacement(glass), 0.0, atol=1e-11)


@given(st.floats(-1.2, 1.2), st.integers(0, 2**32 - 1))
def test_nonaffine_displacement_is_what_came_on_top(increment: float, seed: int) -> None:
    glass = _glass()
    extra_nc = np.random.default_rng(seed).normal(scale=0.1, size=glass.positions.shape)
    sheared = glass.sheared(increment)
    moved = sheared.moved(sheared.box.wrap(sheared.positions + extra_nc))
    np.testing.assert_allclose(moved.nonaffine_displacement(glass), extra_nc, atol=1e-11)


@pytest.mark.parametrize("strain", [0.5, -0.5, 1.5])
def test_energy_is_the_same_on_both_sides_of_a_flip(strain: float) -> None:
    glass = _glass().at_strain(strain)
    flipped = Glass(glass.positions, glass.typeid, Box(LENGTH, -glass.box.xy), strain - 2.0 * glass.box.xy)
    wrapped = flipped.moved(flipped.box.wrap(flipped.positions))
    assert _energy(flipped) == pytest.approx(_energy(glass), rel=1e-12)
    assert _energy(wrapped) == pytest.approx(_energy(glass), rel=1e-12)


def test_crossing_a_flip_step_by_step_keeps_the_coordinates_small() -> None:
    glass = _glass()
    for _ in range(30):
        glass = glass.sheared(0.1)
    assert glass.strain == pytest.approx(3.0)
    assert np.abs(glass.positions).max() < 2.0 * LENGTH
    assert _energy(glass) == pytest.approx(_energy(_glass().sheared(3.0)), rel=1e-9)


_GOOD: dict[str, Any] = {"positions": np.zeros((3, 3)), "typeid": np.zeros(3, dtype=int), "box": Box(3.0, 0.1), "strain": 0.1}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"positions": np.zeros((3, 2))}, r"positions.shape = \(3, 2\)"),
        ({"positions": np.zeros(3)}, r"positions.shape = \(3,\)"),
        ({"typeid": np.zeros(2, dtype=int)}, r"typeid.shape = \(2,\)"),
        ({"typeid": np.array([0, -1, 0])}, "typeid goes down to -1"),
        ({"positions": np.array([[0, 0, 0], [math.nan, 0, 0], [0, 0, math.inf]])}, "2 of 3 positions are not finite"),
        ({"strain": 0.2}, "modulo 1"),
        ({"strain": math.nan}, "strain = nan"),
        ({"strain": math.inf}, "strain = inf"),
    ],
)
def test_wrong_states_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Glass(**(_GOOD | wrong))


def test_strain_and_tilt_may_differ_by_whole_turns() -> None:
    assert Glass(**(_GOOD | {"strain": -4.9})).box.xy == 0.1


@pytest.mark.parametrize("strain", [math.nan, math.inf])
def test_shear_to_nowhere_is_refused(strain: float) -> None:
    with pytest.raises(InputError, match="finite"):
        Glass(**_GOOD).at_strain(strain)
