"""Kicks: their distribution, their zero sum, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qlm_mesoscopic.errors import ModelError
from qlm_mesoscopic.noise import LevyKicks


def _kicks(n_blocks: int, amplitude: float, mu: float, n_failures: int, strength: float = 1.0) -> np.ndarray:
    kicks, rng, stress_n = LevyKicks(n_blocks, amplitude, mu), np.random.Generator(np.random.SFC64(1)), np.zeros(n_blocks)
    rows = []
    for _ in range(n_failures):
        stress_n[:] = 0.0
        kicks.add(rng, stress_n, 0, strength)
        rows.append(stress_n.copy())
    return np.array(rows)


@pytest.mark.parametrize("mu", [1.0, 1.3, 2.0])
def test_kicks_follow_the_power_law(mu: float) -> None:
    n_blocks, amplitude, n_failures = 10_000, 0.2, 100
    kicks = LevyKicks(n_blocks, amplitude, mu)
    sample = _kicks(n_blocks, amplitude, mu, n_failures)[:, 1:]
    size = np.abs(sample[sample != 0.0])
    assert size.min() >= kicks.lower_cutoff * (1 - 1e-9)
    # Everybody is kicked in every failure, but the source and its partner.
    assert np.count_nonzero(sample) == n_failures * (n_blocks - 2)
    for threshold in (1.5 * kicks.lower_cutoff, 10 * kicks.lower_cutoff, 100 * kicks.lower_cutoff):
        # Kicks beyond it per failure: N times the integral of (2 A / N) zeta^(-1 - mu).
        expected = n_failures * 2 * amplitude / mu * threshold**-mu
        # Partners have the same size, so only half of them are independent.
        assert np.count_nonzero(size > threshold) == pytest.approx(expected, abs=5 * np.sqrt(2 * expected) + 3)
    assert np.mean(sample > 0) == pytest.approx(0.5, abs=0.01)


def test_what_lies_beyond_the_upper_cutoff_is_put_on_it() -> None:
    rng, stress_n = np.random.Generator(np.random.SFC64(2)), np.zeros(1000)
    kicks = LevyKicks(1000, 0.3, 1.0, upper_cutoff=0.01)
    at_cutoff = 0
    for _ in range(200):
        stress_n[:] = 0.0
        kicks.add(rng, stress_n, 3)
        assert np.abs(stress_n).max() <= 0.01
        at_cutoff += np.count_nonzero(np.abs(stress_n) == 0.01)
    expected = 200 * 2 * 0.3 / 0.01
    assert at_cutoff == pytest.approx(expected, abs=5 * np.sqrt(2 * expected))


@given(
    half=st.integers(2, 300),
    mu=st.floats(1, 2),
    amplitude=st.just(0.0) | st.floats(1e-6, 2),
    source=st.integers(0, 10_000),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_the_sum_vanishes_and_the_source_is_left_alone(half: int, mu: float, amplitude: float, source: int, seed: int) -> None:
    rng = np.random.Generator(np.random.SFC64(seed))
    stress_n = np.zeros(2 * half)
    LevyKicks(2 * half, amplitude, mu, upper_cutoff=5.0).add(rng, stress_n, source % (2 * half))
    assert stress_n[source % (2 * half)] == 0.0
    # Every kick is there with both signs: the sorted sum vanishes exactly.
    np.testing.assert_array_equal(np.sort(stress_n), np.sort(-stress_n))
    assert np.count_nonzero(stress_n) == (2 * half - 2 if amplitude > 0 else 0)


def test_partners_change() -> None:
    """Whom block 5 is paired with is spread evenly over the other half."""
    partners = []
    for row_n in _kicks(40, 0.1, 1.0, 2000):
        (partner,) = np.flatnonzero(row_n == -row_n[5])
        partners.append(partner)
    found = np.bincount(partners, minlength=40)
    assert np.all(found[:20] == 0)
    assert found[20:].min() > 50


def test_neighbouring_kicks_are_independent() -> None:
    """Signs and sizes of neighbours in the array, in one failure and from one to the next, do not know of each other."""
    sample = _kicks(1000, 0.1, 1.0, 400)[:, 1:500]
    sample = sample[np.all(sample != 0.0, axis=1)]
    rank = np.sign(sample) * LevyKicks(1000, 0.1, 1.0).lower_cutoff / np.abs(sample)
    rank /= np.std(rank)
    bound = 5 / np.sqrt(rank[:, 1:].size)
    assert abs(np.mean(rank[:, 1:] * rank[:, :-1])) < bound
    assert abs(np.mean(rank[1:] * rank[:-1])) < bound
    assert abs(np.mean((np.abs(rank[:, 1:]) - 0.866) * (np.abs(rank[:, :-1]) - 0.866))) < bound


def test_strength_scales_the_kicks() -> None:
    np.testing.assert_allclose(_kicks(100, 0.01, 1.5, 3, strength=0.5), 0.5 * _kicks(100, 0.01, 1.5, 3), rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((101, 0.1), "101 blocks; expected an even number"),
        ((2, 0.1), "2 blocks; expected an even number, at least 4"),
        ((100, -0.1), "amplitude A = -0.1; expected"),
        ((100, float("nan")), "amplitude A = nan; expected"),
        ((100, 0.1, 0.9), "mu = 0.9; expected 1 <= mu <= 2"),
        ((100, 0.1, 2.1), "mu = 2.1; expected 1 <= mu <= 2"),
        ((100, 0.1, 1.0, 0.001), "upper cut-off 0.001; expected a finite number above"),
        ((100, 0.1, 1.0, float("inf")), "upper cut-off inf; expected a finite number above"),
    ],
)
def test_wrong_input_is_refused(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        LevyKicks(*arguments)  # type: ignore[arg-type]
