"""The strain grid: stops are hit to the bit, and no step is empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qlm_quasistatic.strains import StrainGrid

increments = st.one_of(st.sampled_from([1e-4, 2e-4, 1e-3, 3e-4]), st.floats(1e-5, 1e-2))


def _walk(grid: StrainGrid, strain: float = 0.0, increment: float | None = None) -> list[float]:
    strains = [strain]
    while not grid.done(strains[-1]):
        strains.append(grid.next_strain(strains[-1], increment))
        assert len(strains) < 20_000
    return strains


starts = st.one_of(st.sampled_from([0.0, -0.1, -0.05, 1.0, 2.0, -3.0]), st.floats(-4.0, 4.0))


@given(increments, starts, st.floats(1e-3, 0.05), st.lists(st.integers(1, 999), max_size=4))
def test_stops_are_hit_exactly_and_no_step_is_empty(
    increment: float, start: float, length: float, thousandths: list[int]
) -> None:
    """From any strain, negative, odd or many turns of the box away."""
    stops = tuple(start + 1e-3 * thousandth * length for thousandth in thousandths)
    largest = start + length
    strains = _walk(StrainGrid(increment, largest, stops), start)
    assert set(stops) <= set(strains)
    assert strains[-1] == largest
    steps = np.diff(strains)
    assert steps.min() > 1e-10
    assert steps.max() <= increment * 1.0011
    # Every point of the grid on the way is visited, but for those next to a stop.
    inside = [strain for strain in strains[1:-1] if strain not in stops]
    multiples = np.array(inside) / increment
    np.testing.assert_allclose(multiples, np.rint(multiples), atol=1e-6)


@given(st.floats(1e-6, 1e-4), st.lists(st.floats(0.001, 1.0), max_size=3), st.floats(0.0, 0.9))
def test_finer_steps_hit_the_stops_too(fine: float, fractions: list[float], start: float) -> None:
    largest = 0.003
    stops = tuple(fraction * largest for fraction in fractions)
    strains = _walk(StrainGrid(1e-3, largest, stops), start * largest, fine)
    assert {stop for stop in stops if stop > strains[0]} <= set(strains)
    assert strains[-1] == largest
    assert np.diff(strains).min() > 0.0
    assert np.diff(strains).max() <= fine * 1.0011


@pytest.mark.parametrize("increment", [1e-4, 1e-3, 2e-5])
def test_grid_points_are_what_a_user_would_write(increment: float) -> None:
    inverse = round(1 / increment)
    strains = _walk(StrainGrid(increment, 0.01))
    assert strains == [count / inverse for count in range(round(0.01 * inverse) + 1)]


def test_a_run_returns_to_the_grid() -> None:
    grid = StrainGrid(1e-4, 0.1)
    assert grid.next_strain(0.00123) == 0.0013
    # What is a grid point but for rounding counts as one.
    assert grid.next_strain(np.nextafter(0.0013, 0.0)) == 0.0014
    assert grid.next_strain(np.nextafter(0.0013, 1.0)) == 0.0014


@given(st.sampled_from([1e-4, 1e-3, 2e-5, 0.01]), st.integers(-400, 400))
def test_grids_of_both_directions_are_the_same_points(increment: float, count: int) -> None:
    inverse = round(1 / increment)
    grid, here = StrainGrid(increment, 1e6), count / inverse
    assert grid.next_strain(here) == (count + 1) / inverse
    # The step back, seen in the mirror: from -here on to the next larger strain.
    assert -grid.next_strain(-here) == (count - 1) / inverse


def test_beyond_the_end_steps_go_on() -> None:
    """A detector's trial step beyond the end is refined like any other."""
    grid = StrainGrid(1e-4, 0.01)
    assert grid.next_strain(0.01, 1e-5) == 0.01 + 1e-5
    assert grid.next_strain(0.01003) == 0.0101


def test_an_end_within_the_first_step() -> None:
    assert _walk(StrainGrid(1e-3, 4e-4)) == [0.0, 4e-4]
