"""Exponents and densities from samples whose answer is known."""

# Array names carry their axes: n blocks, b bins.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from qlm_mesoscopic import observables
from qlm_mesoscopic.errors import ModelError, NotEnoughDataError
from qlm_mesoscopic.kinds import ModeSnapshot


def _power_sample(rng: np.random.Generator, theta: float, n: int) -> np.ndarray:
    """From p(x) ~ x^theta on (0, 1)."""
    return rng.random(n) ** (1 / (1 + theta))


def _bent_sample(rng: np.random.Generator, theta: float, n: int) -> np.ndarray:
    """From p(x) ~ x^theta (1 + x) on (0, 1), by rejection."""
    x_n = _power_sample(rng, theta, 2 * n)
    return x_n[rng.random(2 * n) < (1 + x_n) / 2]


class TestTheta:
    @pytest.mark.parametrize("theta", [-0.3, 0.0, 0.2, 0.5])
    @pytest.mark.parametrize("sampler", [_power_sample, _bent_sample])
    def test_is_found_whatever_the_bend(self, theta: float, sampler: Callable[..., np.ndarray]) -> None:
        rng = np.random.default_rng(1)
        found = observables.theta_from_distances([sampler(rng, theta, 20_000) for _ in range(16)])
        assert found.value == pytest.approx(theta, abs=2 * found.error)
        assert 0.001 < found.error < 0.08
        assert found.window[1] == 0.3

    def test_intervals_hold_the_truth_as_often_as_they_say(self) -> None:
        rng = np.random.default_rng(2)
        inside = 0
        for _ in range(80):
            found = observables.theta_from_distances(
                [_power_sample(rng, 0.3, 300) for _ in range(16)], window=(0.01, 0.9), order=0
            )
            inside += abs(found.value - 0.3) <= found.scatter
        assert 69 <= inside <= 80

    def test_the_window_begins_where_the_rank_says(self) -> None:
        rng = np.random.default_rng(3)
        series = [_power_sample(rng, 0.0, 10_000) for _ in range(10)]
        found = observables.theta_from_distances(series, rank=50.0)
        assert found.window[0] == pytest.approx(50 / 10_000, rel=0.2)

    def test_a_plateau_at_small_x_shows_in_the_error(self) -> None:
        rng = np.random.default_rng(4)
        series = [np.concatenate((_power_sample(rng, 0.5, 20_000), 0.01 * rng.random(100))) for _ in range(16)]
        found = observables.theta_from_distances(series, window=(0.005, 0.9), order=0)
        assert abs(found.shift) > found.scatter
        assert found.agrees(found.value + 0.99 * found.error)
        assert not found.agrees(found.value + 1.01 * found.error)

    def test_order_zero_of_a_bent_density_is_what_exponent_of_says(self) -> None:
        rng = np.random.default_rng(5)
        found = observables.theta_from_distances(
            [_bent_sample(rng, 0.2, 40_000) for _ in range(16)], window=(0.05, 1.0), order=0
        )
        expected = observables.exponent_of(lambda x: x**0.2 * (1 + x), (0.05, 1.0))
        assert expected > 0.4
        assert found.value == pytest.approx(expected, abs=found.scatter)
        assert observables.exponent_of(lambda x: x**0.2 * np.exp(x), (0.05, 1.0), order=1) == pytest.approx(0.2, abs=1e-6)

    def test_infinite_and_negative_distances_are_left_out(self) -> None:
        rng = np.random.default_rng(6)
        series = [_power_sample(rng, 0.2, 5000) for _ in range(8)]
        dirty = [np.concatenate((values, [np.inf, np.nan, -0.1, 0.0])) for values in series]
        assert observables.theta_from_distances(dirty) == observables.theta_from_distances(series)

    def test_from_minima(self) -> None:
        rng = np.random.default_rng(7)
        sizes = [250, 500, 1000, 2000, 4000]
        minima = [[_power_sample(rng, 0.4, n).min() for _ in range(400)] for n in sizes]
        found = observables.theta_from_minima(sizes, minima)
        assert found.value == pytest.approx(0.4, abs=1.5 * found.error)
        assert 0.01 < found.error < 0.15
        assert found.count == 2000


def test_alpha_is_twice_the_slope_plus_one() -> None:
    rng = np.random.default_rng(8)
    series = [0.1 * _power_sample(rng, 1.2, 4000) for _ in range(16)]
    found = observables.alpha_from_curvatures(series, rank=5, upper=0.08)
    assert found.value == pytest.approx(3.4, abs=found.error)
    assert found.error < 0.3


class TestRefusals:
    def test_too_few_blocks(self) -> None:
        with pytest.raises(NotEnoughDataError, match="400 blocks in the window; expected at least 500") as caught:
            observables.theta_from_distances([np.linspace(0.2, 0.4, 80)] * 5, window=(0.1, 0.5))
        assert (caught.value.found, caught.value.needed) == (400, 500)
        with pytest.raises(NotEnoughDataError, match=r"30 blocks below 0\.3; expected at least 500"):
            observables.theta_from_distances([np.linspace(0.1, 0.4, 10)] * 5)

    def test_systems_so_small_that_the_rank_lies_beyond_the_window(self) -> None:
        """100 blocks, of which the 30th smallest x is beyond 0.3: too few, no fault of an argument."""
        series = [np.linspace(0.011, 1.1, 100)] * 40
        with pytest.raises(NotEnoughDataError, match=r"1080 blocks below 0\.3; expected at least 1201"):
            observables.theta_from_distances(series)

    def test_too_few_snapshots(self) -> None:
        with pytest.raises(NotEnoughDataError, match="4 snapshots; expected at least 5"):
            observables.theta_from_distances([np.linspace(0.1, 0.4, 10_000)] * 4)

    def test_too_few_sizes_or_minima(self) -> None:
        with pytest.raises(NotEnoughDataError, match="2 different sizes; expected at least 3"):
            observables.theta_from_minima([10, 20, 10], [np.ones(30)] * 3)
        with pytest.raises(NotEnoughDataError, match="19 minima at the poorest size; expected at least 20"):
            observables.theta_from_minima([10, 20, 40], [np.ones(30), np.ones(19), np.ones(30)])
        with pytest.raises(ModelError, match="3 sizes and 2 sets of minima"):
            observables.theta_from_minima([10, 20, 40], [np.ones(30)] * 2)

    def test_too_few_avalanches_or_no_snapshot(self) -> None:
        with pytest.raises(NotEnoughDataError, match="2 avalanches; expected at least 100"):
            observables.avalanche_sizes([1, 2], [1, 2, 3])
        with pytest.raises(NotEnoughDataError, match="0 snapshots; expected at least 1"):
            observables.curvature([], [0, 1])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"window": (0.5, 0.1)}, "window from 0.5 to 0.1; expected"),
            ({"order": -1}, "order = -1; expected at least 0"),
        ],
    )
    def test_wrong_input(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            observables.theta_from_distances([np.linspace(0.1, 0.4, 1000)] * 5, **arguments)

    def test_wrong_edges_and_densities(self) -> None:
        for call in (
            lambda: observables.avalanche_sizes(np.ones(200), [1, 1]),
            lambda: observables.curvature([_snapshot()], [1, 0]),
        ):
            with pytest.raises(ModelError, match="bin edges do not rise"):
                call()
        with pytest.raises(ModelError, match="the density is not positive"):
            observables.exponent_of(lambda x: x - 0.5, (0.1, 1.0))


def _snapshot() -> ModeSnapshot:
    return ModeSnapshot(np.array([-0.5, 0.2, 0.2, 0.3]), np.array([0.1, 0.0, 0.0, 0.5]), np.array([-1.0, -1.0, 1.0, -1.0]))


def test_curvatures_of_both_kinds_of_modes() -> None:
    shear_b, passive_b = observables.curvature([_snapshot()] * 2, [0.0, 0.3, 0.35, 1.0])
    # lambda of the passive mode is near 0.32, that of the two shear transformations (3 phi - phi) / 2 = 0.2; the last has
    # failed.
    np.testing.assert_allclose(shear_b, [4 / 8 / 0.3, 0, 0])
    np.testing.assert_allclose(passive_b, [0, 2 / 8 / 0.05, 0])


def test_avalanche_sizes_are_a_density() -> None:
    sizes = np.repeat([1, 5], [150, 50])
    np.testing.assert_allclose(observables.avalanche_sizes(sizes, [0.5, 1.5, 9.5]), [0.75, 0.25 / 8])


@pytest.mark.parametrize(("freedom", "expected"), [(4, 2.776), (9, 2.262), (15, 2.131), (200, 1.972)])
def test_student(freedom: int, expected: float) -> None:
    assert observables.student_95(freedom) == pytest.approx(expected, abs=0.003)
