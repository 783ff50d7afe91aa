"""The predictor: exact on polynomials, modest where the branch is not smooth or its states are noisy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from qlm_quasistatic.predictor import Branch, pulled_back, pushed_forward

N = 5


def _branch(strains: list[float], position: object) -> Branch:
    """The branch through the positions in unsheared coordinates that a function of the strain gives."""
    branch = Branch((strains[0],))
    for before, after in itertools.pairwise(strains):
        branch = branch.extended(after, pushed_forward(position(after) - position(before), after))
    return branch


def _polynomial(degree: int, seed: int) -> np.polynomial.Polynomial:
    coefficients_knc = np.random.default_rng(seed).normal(size=(degree + 1, N, 3))
    return lambda strain: sum(c_nc * strain**k for k, c_nc in enumerate(coefficients_knc))


def test_coordinates_are_those_of_the_unsheared_glass() -> None:
    vector_nc = np.random.default_rng(0).normal(size=(N, 3))
    back_nc = pulled_back(vector_nc, 0.3)
    np.testing.assert_allclose(back_nc[:, 0], vector_nc[:, 0] - 0.3 * vector_nc[:, 1])
    np.testing.assert_array_equal(back_nc[:, 1:], vector_nc[:, 1:])
    np.testing.assert_allclose(pushed_forward(back_nc, 0.3), vector_nc, rtol=1e-14)


def test_without_a_past_nothing_is_predicted() -> None:
    branch = Branch((0.1,))
    assert branch.displacement(0.2) is None
    assert branch.velocity() is None


@given(
    degree=st.integers(1, 5),
    gaps=st.lists(st.floats(0.3, 1.0), min_size=7, max_size=7),
    ahead=st.floats(-1.0, 1.0),
    sign=st.sampled_from([-1, 1]),
)
def test_polynomials_are_predicted_whatever_the_increments(degree: int, gaps: list[float], ahead: float, sign: int) -> None:
    assume(abs(ahead) > 1e-3)
    position = _polynomial(degree, degree)
    strains = (0.2 + sign * np.cumsum([0.0, *gaps])).tolist()
    branch = _branch(strains, position)
    target = strains[-1] + ahead
    expected_nc = pushed_forward(position(target) - position(strains[-1]), target)
    size = np.abs(position(strains[-1])).max() + np.abs(expected_nc).max()
    np.testing.assert_allclose(branch.displacement(target), expected_nc, atol=1e-7 * size)


def test_velocity_is_the_slope_at_the_last_state() -> None:
    position = _polynomial(3, 1)
    branch = _branch([0.0, 0.1, 0.25, 0.3, 0.45, 0.5], position)
    slope_nc = (position(0.5 + 1e-6) - position(0.5 - 1e-6)) / 2e-6
    np.testing.assert_allclose(branch.velocity(), pushed_forward(slope_nc, 0.5), rtol=1e-6, atol=1e-8)


def test_a_smooth_branch_is_predicted_better_the_more_is_known() -> None:
    def position(strain: float) -> np.ndarray:
        return np.outer(np.arange(1, N + 1), [math.sin(strain), math.cos(2.0 * strain), math.exp(strain)])

    errors = []
    for n_known in (2, 3, 4, 5, 6):
        strains = [0.1 * k for k in range(n_known)]
        branch = _branch(strains, position)
        target = 0.1 * n_known
        expected_nc = pushed_forward(position(target) - position(strains[-1]), target)
        errors.append(np.abs(branch.displacement(target) - expected_nc).max())
    assert all(later < earlier for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < 1e-2 * errors[0]


def test_noise_is_not_amplified_much() -> None:
    """Straight lines with noise on them: high orders would amplify it by hundreds."""
    rng = np.random.default_rng(2)
    worst = []
    for _ in range(50):
        noise_knc = rng.normal(scale=1e-6, size=(9, N, 3))
        branch = _branch([0.1 * k for k in range(8)], lambda strain, noise=noise_knc: strain + noise[round(10 * strain)])
        expected_nc = pushed_forward(0.1 + noise_knc[8] - noise_knc[7], 0.8)
        worst.append(np.abs(branch.displacement(0.8) - expected_nc).max())
    assert np.median(worst) < 3e-5


def test_a_kink_brings_the_order_down() -> None:
    """After a jump of the slope, extrapolation goes on along the new slope and not along a polynomial through both."""
    kinked = _branch([0.1 * k for k in range(8)], lambda strain: np.full((N, 3), strain + 5.0 * max(0.0, strain - 0.55)))
    assert np.abs(kinked.displacement(0.8) - pushed_forward(np.full((N, 3), 0.6), 0.8)).max() < 1e-12


def test_a_long_past_is_forgotten() -> None:
    branch = _branch([0.1 * k for k in range(30)], _polynomial(2, 3))
    assert len(branch.strains) == len(branch.differences) + 1 == len(branch.sizes) + 1 < 12
    assert branch.strains[0] == pytest.approx(2.9)


def test_broken_numbers_are_not_extrapolated_further() -> None:
    branch = Branch((0.2, 0.1, 0.0), (np.ones((N, 3)), np.full((N, 3), np.nan)), (1.0, math.nan))
    np.testing.assert_allclose(branch.displacement(0.3), pushed_forward(np.full((N, 3), 0.1), 0.3))
