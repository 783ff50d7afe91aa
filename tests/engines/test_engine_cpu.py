"""The CPU engine: its thermostat, its reproducibility, and the minimum that belongs to a glass."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qlm_hoomd.engines import cpu
from qlm_hoomd.engines.cpu import CPUEngine, CPUEngineSettings
from qlm_hoomd.errors import BasinLost, ConvergenceError, InputError, QlmError
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.minimize import descent, fire
from qlm_hoomd.numerics import dynamics
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from collections.abc import Callable

    from qlm_hoomd.engines.base import AfterEvent
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel


@pytest.fixture
def engine(model: GlassModel) -> CPUEngine:
    return CPUEngineSettings().build(model)


class Recorder(cpu._Averages):
    """The engine's running means, with all that went into them."""

    energies: list[float]
    temperatures: list[float]

    def add(self, energy: float, temperature: float) -> None:
        super().add(energy, temperature)
        self.energies.append(energy)
        self.temperatures.append(temperature)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setattr(Recorder, "energies", [], raising=False)
    monkeypatch.setattr(Recorder, "temperatures", [], raising=False)
    monkeypatch.setattr(cpu, "_Averages", Recorder)
    return Recorder


def _error_of_mean(series: np.ndarray, n_blocks: int = 20) -> float:
    """Standard error from the means of blocks far longer than the correlation time."""
    blocks = series[: len(series) // n_blocks * n_blocks].reshape(n_blocks, -1).mean(axis=1)
    return float(blocks.std(ddof=1) / math.sqrt(n_blocks))


def test_thermostat_alone_makes_the_canonical_kinetic_energy() -> None:
    """For a handful of free particles sum v^2 / T must be chi-squared: mean N_f, variance 2 N_f, skewness sqrt(8 / N_f)."""
    rng = np.random.default_rng(3)
    n_free, temperature, square = 9, 0.7, 1.0
    samples = np.empty(100_000)
    for index in range(len(samples)):
        first, others = rng.standard_normal(), rng.chisquare(n_free - 1)
        square *= dynamics.rescaling(square, temperature, math.exp(-0.5), first, others) ** 2
        samples[index] = square / temperature
    for moment, expected in ((samples, n_free), ((samples - n_free) ** 2, 2 * n_free), ((samples - n_free) ** 3, 8 * n_free)):
        assert abs(moment.mean() - expected) < 4.0 * _error_of_mean(moment)
        assert _error_of_mean(moment) < 0.08 * expected


def test_thermostat_leaves_particles_at_rest_alone() -> None:
    assert dynamics.rescaling(0.0, 1.0, 0.5, 0.3, 2.0) == 1.0


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_run_keeps_the_temperature_and_its_fluctuations(
    temperature: float, model: GlassModel, small_liquid: Glass, recorder: type[Recorder]
) -> None:
    """Mean T, and variance 2 T^2 / N_f of the kinetic temperature, in an interacting liquid."""
    # A strong thermostat forgets sooner: more independent samples in the same time.
    engine = CPUEngineSettings(tau=0.1).build(model)
    _, report = engine.run(small_liquid, duration=120.0, temperature=temperature, rng=np.random.default_rng(4))
    kinetic = np.array(recorder.temperatures)
    assert len(kinetic) == report.n_steps // 2 == 12_000
    assert report.temperature == pytest.approx(kinetic.mean(), rel=1e-12)
    assert report.energy == pytest.approx(np.mean(recorder.energies) / small_liquid.n_particles, rel=1e-12)
    assert abs(kinetic.mean() - temperature) < 4.0 * _error_of_mean(kinetic)
    variance = (kinetic - temperature) ** 2
    n_free = 3 * small_liquid.n_particles - 3
    assert abs(variance.mean() - 2.0 * temperature**2 / n_free) < 4.0 * _error_of_mean(variance)
    assert _error_of_mean(variance) < 0.2 * variance.mean()


def test_pressure_is_virial_and_kinetic(engine: CPUEngine, small_liquid: Glass) -> None:
    """In a run of one step the report is the final state."""
    end, report = engine.run(small_liquid, duration=0.005, temperature=1.0, rng=np.random.default_rng(5))
    assert report.n_steps == 1
    density = end.n_particles / end.box.volume
    assert report.energy == pytest.approx(engine.measure(end).energy, rel=1e-12)
    assert report.pressure == pytest.approx(engine.measure(end).pressure + density * report.temperature, rel=1e-12)


def test_a_ramp_ends_at_the_final_temperature(model: GlassModel, small_liquid: Glass, recorder: type[Recorder]) -> None:
    """With a thermostat of no memory the kinetic temperature is the target, up to independent noise."""
    engine = CPUEngineSettings(tau=1e-4).build(model)
    _, report = engine.run(small_liquid, duration=20.0, temperature=1.0, final_temperature=0.2, rng=np.random.default_rng(6))
    kinetic = np.array(recorder.temperatures)
    # Recorded from half way on: from 0.6 down to 0.2, on a line.
    slope, start = np.polyfit(np.linspace(0.0, 0.5, len(kinetic)), kinetic, 1)
    assert slope == pytest.approx(-0.8, abs=0.05)
    assert start == pytest.approx(0.6, abs=0.02)
    assert kinetic[-100:].mean() == pytest.approx(0.2, abs=0.01)
    assert report.temperature == pytest.approx(0.4, abs=0.01)


def test_velocity_verlet_conserves_energy_without_a_thermostat(
    model: GlassModel, small_liquid: Glass, recorder: type[Recorder]
) -> None:
    """The drift and the noise of the total energy fall as dt^2."""
    n_free = 3 * small_liquid.n_particles - 3
    noise = []
    for dt in (0.004, 0.001):
        recorder.energies.clear()
        recorder.temperatures.clear()
        # A thermostat this slow does nothing.
        engine = CPUEngineSettings(dt=dt, tau=1e15).build(model)
        engine.run(small_liquid, duration=4.0, temperature=1.0, rng=np.random.default_rng(1))
        total = np.array(recorder.energies) + 0.5 * n_free * np.array(recorder.temperatures)
        noise.append(total.std())
    assert noise[0] / noise[1] == pytest.approx(16.0, rel=0.5)


def test_same_generator_same_bytes(model: GlassModel, small_liquid: Glass) -> None:
    ends = [
        CPUEngineSettings().build(model).run(small_liquid, duration=1.0, temperature=1.0, rng=np.random.default_rng(seed))[0]
        for seed in (1, 1, 2)
    ]
    assert ends[0].positions.tobytes() == ends[1].positions.tobytes()
    assert ends[0].positions.tobytes() != ends[2].positions.tobytes()


def test_no_call_changes_the_glass(engine: CPUEngine, small_liquid: Glass) -> None:
    before = small_liquid.positions.tobytes()
    engine.run(small_liquid, duration=0.1, temperature=1.0, rng=np.random.default_rng(1))
    engine.descend(small_liquid)
    engine.relax(small_liquid)
    engine.measure(small_liquid)
    assert small_liquid.positions.tobytes() == before


def test_run_works_in_a_sheared_box(engine: CPUEngine, small_liquid: Glass) -> None:
    sheared = small_liquid.at_strain(0.9)
    end, _ = engine.run(sheared, duration=0.5, temperature=1.0, rng=np.random.default_rng(1))
    assert end.strain == sheared.strain
    assert end.box == sheared.box
    assert np.abs(end.positions @ np.linalg.inv(end.box.matrix)).max() <= 0.5 + 1e-12


def test_a_time_step_too_long_is_reported(model: GlassModel) -> None:
    """From an unrelaxed start the longest time step blows up; that is said, and no garbage comes back."""
    engine = CPUEngineSettings(dt=0.02).build(model)
    rng = np.random.default_rng(0)
    start = random_start(model, 100, rng)
    with pytest.raises(QlmError, match="blew up"):
        engine.run(start, duration=50.0, temperature=400.0, rng=rng)


@pytest.mark.parametrize(
    "wrong",
    [
        {"duration": 0.0},
        {"duration": math.nan},
        {"temperature": -1.0},
        {"temperature": math.inf},
        {"final_temperature": 0.0},
        {"final_temperature": math.nan},
    ],
    ids=str,
)
def test_wrong_numbers_are_refused(wrong: dict[str, float], engine: CPUEngine, small_liquid: Glass) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))} = .*expected a positive number"):
        engine.run(small_liquid, **({"duration": 1.0, "temperature": 1.0} | wrong), rng=np.random.default_rng(0))


def test_measure_is_what_the_bonds_say(engine: CPUEngine, model: GlassModel, small_liquid: Glass) -> None:
    seen, bonds = engine.measure(small_liquid), bonds_of(small_liquid, model.potential)
    assert seen.energy * small_liquid.n_particles == pytest.approx(bonds.energy, rel=1e-12)
    assert seen.stress_xy == pytest.approx(bonds.stress_xy, rel=1e-11)
    assert seen.pressure == pytest.approx(bonds.pressure, rel=1e-12)
    assert seen.max_force == pytest.approx(np.linalg.norm(bonds.forces, axis=1).max(), rel=1e-11)


def test_relax_inside_the_basin_is_newton(engine: CPUEngine, quenched: Glass) -> None:
    minimum, report = engine.relax(quenched.sheared(1e-5))
    assert report.method == "newton"
    assert report.notes == ()
    assert engine.measure(minimum).max_force < 2e-10


def test_relax_outside_any_basin_is_the_overdamped_descent(engine: CPUEngine, small_liquid: Glass) -> None:
    minimum, report = engine.relax(small_liquid)
    expected, _ = descent(engine._mechanics_of(small_liquid), small_liquid, accuracy=engine.settings.accuracy)
    assert report.method == "descent+newton"
    assert report.notes[0].startswith("newton: ")
    np.testing.assert_allclose(minimum.nonaffine_displacement(expected), 0.0, atol=1e-8)
    assert minimum.n_particles == small_liquid.n_particles
    # What the refused Newton cost is in the bill.
    assert report.force_evaluations > descent(engine._mechanics_of(small_liquid), small_liquid)[1].force_evaluations


def test_relax_with_a_guess_that_leads_nowhere(engine: CPUEngine, quenched: Glass) -> None:
    """The guess is a shortcut; the minimum is the one that belongs to the glass."""
    start = quenched.sheared(1e-4)
    expected, _ = engine.relax(start)
    rng = np.random.default_rng(2)
    for amplitude in (1e-3, 0.02, 0.1, 1.0):
        guess_nc = start.positions + rng.normal(scale=amplitude, size=start.positions.shape)
        minimum, _ = engine.relax(start, guess=guess_nc)
        moved_nc = minimum.nonaffine_displacement(expected)
        np.testing.assert_allclose(moved_nc - moved_nc.mean(axis=0), 0.0, atol=1e-7, err_msg=f"guess off by {amplitude}")


def test_relax_behind_an_instability_falls_as_it_is_told(
    engine: CPUEngine, quenched: Glass, beyond_instability: Callable[[Glass, float], Glass]
) -> None:
    start = beyond_instability(quenched, 1e-5)
    mechanics = engine._mechanics_of(start)
    for way, path in (("descent", descent(mechanics, start)), ("fire", fire(mechanics, start))):
        minimum, report = engine.relax(start, after_event=way)
        np.testing.assert_allclose(minimum.nonaffine_displacement(path[0]), 0.0, atol=1e-8)
        assert report.method == f"{way}+newton"
        assert report.left_basin
        assert report.notes[0].startswith("newton: ")
        assert report.fallbacks >= 1
    with pytest.raises(BasinLost, match=r"no minimum within 0\.05 .* Take a smaller step") as caught:
        engine.relax(start, after_event=None)
    assert caught.value.report.left_basin is False
    assert caught.value.report.force_evaluations > 0


def test_no_guess_decides_where_the_glass_falls(
    engine: CPUEngine, quenched: Glass, beyond_instability: Callable[[Glass, float], Glass]
) -> None:
    start = beyond_instability(quenched, 1e-5)
    expected, plain = engine.relax(start)
    rng = np.random.default_rng(3)
    for amplitude in (1e-4, 1e-2, 1.0):
        guess_nc = start.positions + rng.normal(scale=amplitude, size=start.positions.shape)
        minimum, report = engine.relax(start, guess=guess_nc)
        np.testing.assert_allclose(
            minimum.nonaffine_displacement(expected), 0.0, atol=1e-8, err_msg=f"guess off by {amplitude}"
        )
        assert report.left_basin
        # The guess given up is one fallback more than without one.
        assert report.fallbacks == plain.fallbacks + 1


def test_a_guess_that_is_no_number_is_left_alone(engine: CPUEngine, quenched: Glass) -> None:
    start = quenched.sheared(1e-5)
    minimum, report = engine.relax(start, guess=np.full_like(start.positions, np.nan))
    assert report.notes[0].startswith("guess not within")
    assert report.fallbacks == 1
    assert not report.left_basin
    assert engine.measure(minimum).max_force < 2e-10


@pytest.mark.parametrize("after_event", ["descent", "fire", None])
def test_a_tolerance_below_rounding_is_no_lost_basin(
    engine: CPUEngine, quenched: Glass, after_event: AfterEvent | None
) -> None:
    with pytest.raises(ConvergenceError, match="expected less than 1e-18") as caught:
        engine.relax(quenched.sheared(1e-5), tolerance=1e-18, after_event=after_event)
    assert not isinstance(caught.value, BasinLost)
    assert caught.value.report.max_force < 1e-6
    assert caught.value.report.force_evaluations < 1000


def test_descend_returns_wrapped_positions(engine: CPUEngine, small_liquid: Glass) -> None:
    end, _ = engine.descend(small_liquid.moved(small_liquid.positions + 20.0))
    assert np.abs(end.positions @ np.linalg.inv(end.box.matrix)).max() <= 0.5 + 1e-12


def test_what_the_engine_did_before_shows_in_the_last_digits_at_most(model: GlassModel, quenched: Glass) -> None:
    """The neighbour list that an engine keeps decides on the order of sums, and on nothing else."""
    start = quenched.sheared(2e-4)
    fresh, _ = CPUEngineSettings().build(model).relax(start)
    used = CPUEngineSettings().build(model)
    state = quenched.at_strain(-0.05)
    for _ in range(3):
        state, _ = used.relax(state.sheared(1e-2))
    again, _ = used.relax(start)
    np.testing.assert_allclose(again.nonaffine_displacement(fresh), 0.0, atol=1e-12)
