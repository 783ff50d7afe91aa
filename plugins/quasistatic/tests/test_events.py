"""Measures of plastic events that need no glass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qlm_quasistatic.detector import Instability, event_row
from qlm_quasistatic.events import core
from qlm_quasistatic.stepper import ShearState, ShearStep

from qlm_hoomd.box import Box
from qlm_hoomd.engines.base import Observables
from qlm_hoomd.glass import Glass

LENGTH = 12.0


@given(
    st.tuples(*[st.floats(-6.0, 6.0)] * 3),
    st.floats(-0.5, 0.5),
    st.tuples(*[st.integers(-3, 3)] * 3),
    st.integers(0, 2**32 - 1),
)
def test_the_core_is_found_across_the_boundary(
    centre: tuple[float, float, float], tilt: float, image: tuple[int, int, int], seed: int
) -> None:
    """A localised field anywhere in any tilted box, in any image: its core is where it was put."""
    rng = np.random.default_rng(seed)
    box = Box(LENGTH, tilt)
    offset_nc = rng.uniform(-0.5, 0.5, size=(400, 3)) @ box.matrix
    # Symmetric about the centre, so that the weighted mean is the centre itself.
    offset_nc = np.concatenate([offset_nc, -offset_nc])
    weight_n = np.exp(-0.5 * np.einsum("nc,nc->n", offset_nc, offset_nc))
    positions_nc = box.wrap(np.array(centre) + offset_nc) + np.array(image) @ box.matrix
    displacement_nc = weight_n[:, None] * np.array([1.0, -2.0, 0.5])
    found_c = core(displacement_nc, positions_nc, box)
    np.testing.assert_allclose(box.minimum_image(found_c - np.array(centre)), 0.0, atol=0.05)
    np.testing.assert_allclose(found_c, box.wrap(found_c), atol=1e-12)


def test_a_row_measures_the_displacement() -> None:
    """One particle of four jumps by 0.3, in a bracket of 1e-6."""
    box = Box.at_strain(LENGTH, 0.1)
    positions_nc = np.array([[5.0, 5.5, -5.5], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [-3.0, 1.0, 2.0]])
    before = Glass(positions_nc, np.zeros(4, dtype=np.int32), box, 0.1)
    after = before.at_strain(0.1 + 1e-6)
    moved_nc = after.positions.copy()
    moved_nc[0, 2] += 0.3
    after = after.moved(moved_nc)
    states = [
        ShearState(glass, Observables(energy, stress, 0.0, 0.0))
        for glass, energy, stress in ((before, 2.0, 0.5), (after, 1.9, 0.2))
    ]
    event = Instability(ShearStep(*states, q=1.0, force_evaluations=3), 0.1 + 5e-7)
    row = event_row(event, 0.04, None)
    # The mean is taken out: translations mean nothing.
    np.testing.assert_allclose(event.displacement.mean(axis=0), 0.0, atol=1e-15)
    assert row["max_jump"] == pytest.approx(0.3 * 0.75, rel=1e-6)
    assert row["gamma_min"] == pytest.approx(0.06, abs=1e-6)
    assert row["strain_c_error"] == pytest.approx(5e-7, rel=1e-6)
    assert row["stress_drop"] == pytest.approx(0.3)
    assert row["avalanche_size"] == pytest.approx(0.3 * LENGTH**3)
    assert row["energy_drop"] == pytest.approx(0.1)
    # Squares 9 : 1 : 1 : 1.
    assert row["participation_ratio"] == pytest.approx(12.0**2 / (4.0 * 84.0), rel=1e-6)
    assert row["detector"] == "none"
    assert row["kappa"] is None
