"""The HOOMD-blue engine on the real HOOMD-blue, against the contract of engines and against the CPU engine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qlm_hoomd.box import Box
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.engines.hoomd import HOOMDEngineSettings
from qlm_hoomd.errors import BasinLost, ConvergenceError, InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.model import GlassModel
from qlm_hoomd.potentials import InversePowerLaw, PairPotential, SoftSpheres
from qlm_hoomd.preparation import random_start
from qlm_hoomd.testing import EngineConformance

if TYPE_CHECKING:
    from collections.abc import Callable

    from qlm_hoomd.engines.base import Engine

pytestmark = pytest.mark.hoomd


class TestConformance(EngineConformance):
    # The exact sum of Mie terms: what every HOOMD-blue has, compiled component or not.
    settings = HOOMDEngineSettings(pair="mie")


@pytest.fixture
def engine(model: GlassModel) -> Engine:
    return HOOMDEngineSettings(pair="mie").build(model)


@pytest.mark.parametrize("strain", [0.0, 0.3, 0.4999, 0.5001, 1.2])
def test_measures_what_the_cpu_engine_measures(engine: Engine, model: GlassModel, strain: float) -> None:
    rng = np.random.default_rng(3)
    length = model.box_length(216)
    grid = (np.arange(6) + 0.5) / 6 * length
    positions_nc = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 3) + rng.normal(
        scale=0.05, size=(216, 3)
    )
    glass = Glass(positions_nc, rng.permutation(model.typeid(216)), Box(length)).at_strain(strain)
    ours, theirs = CPUEngine(model.potential).measure(glass), engine.measure(glass)
    for name in ("energy", "stress_xy", "pressure", "max_force"):
        assert getattr(theirs, name) == pytest.approx(getattr(ours, name), rel=1e-11, abs=1e-11), name


@pytest.mark.parametrize("strain", [0.0, 0.4999, 0.7])
def test_measures_dynamics_and_minima_in_two_dimensions(engine: Engine, model: GlassModel, strain: float) -> None:
    """Nothing leaves the plane, pressure and temperature count two dimensions."""
    flat = GlassModel(dimensions=2, density=0.86)
    rng = np.random.default_rng(3)
    start, cpu = random_start(flat, 200, rng).at_strain(strain), CPUEngine(model.potential)
    for name in ("energy", "stress_xy", "pressure", "max_force"):
        assert getattr(engine.measure(start), name) == pytest.approx(getattr(cpu.measure(start), name), rel=1e-11, abs=1e-11), (
            name
        )
    liquid, report = engine.run(start, duration=10.0, temperature=0.7, rng=rng)
    assert not liquid.positions[:, 2].any()
    assert report.temperature == pytest.approx(0.7, rel=0.1)
    assert report.pressure == pytest.approx(cpu.run(start, duration=10.0, temperature=0.7, rng=rng)[1].pressure, rel=0.05)
    glass, _ = engine.descend(liquid)
    ours, theirs = cpu.relax(glass.sheared(1e-4))[0], engine.relax(glass.sheared(1e-4))[0]
    assert np.abs(theirs.nonaffine_displacement(ours)).max() < 1e-8


def test_particles_of_sizes_of_their_own_are_refused(engine: Engine, model: GlassModel) -> None:
    """By the potential where a protocol is read, and by the glass, also where the same particles have been here without sizes."""
    with pytest.raises(InputError, match="engine hoomd knows the potential inverse_power_law, not SoftSpheres"):
        HOOMDEngineSettings().build(GlassModel(potential=SoftSpheres()))
    glass = _start(model)
    engine.measure(glass)
    sized = replace(glass, sizes=np.ones(glass.n_particles))
    for use in (
        engine.measure,
        engine.relax,
        engine.descend,
        lambda each: engine.run(each, duration=0.1, temperature=1.0, rng=np.random.default_rng(0)),
    ):
        with pytest.raises(InputError, match="sizes of their own, and the pair forces of HOOMD-blue know types alone"):
            use(sized)


def test_measure_is_never_stale(engine: Engine, model: GlassModel) -> None:
    """Forces are cached by time step in HOOMD, and its neighbour list is blind to the tilt."""
    cpu = CPUEngine(model.potential)
    glass, _ = cpu.descend(_start(model))
    for strain in (0.0, 0.05, 0.1, 0.15, 0.2, 0.0):
        here = glass.at_strain(strain)
        assert engine.measure(here).energy == pytest.approx(cpu.measure(here).energy, rel=1e-12)


def test_the_same_elastic_branch_as_the_cpu_engine(engine: Engine, model: GlassModel) -> None:
    cpu = CPUEngine(model.potential)
    glass, _ = cpu.descend(_start(model))
    ours = theirs = glass
    for _ in range(5):
        ours, _ = cpu.relax(ours.sheared(1e-4))
        theirs, _ = engine.relax(theirs.sheared(1e-4))
        assert np.abs(theirs.nonaffine_displacement(ours)).max() < 1e-8
        assert engine.measure(theirs).stress_xy == pytest.approx(cpu.measure(ours).stress_xy, abs=1e-8)


def test_behind_an_instability_both_engines_fall_into_the_same_minimum(
    engine: Engine, model: GlassModel, quenched: Glass, beyond_instability: Callable[[Glass, float], Glass]
) -> None:
    cpu = CPUEngine(model.potential)
    state = quenched
    for _ in range(2):
        start = beyond_instability(state, 1e-5)
        ours, _ = cpu.relax(start)
        guess_nc = start.positions + np.random.default_rng(5).normal(scale=1e-3, size=start.positions.shape)
        theirs, report = engine.relax(start, guess=guess_nc)
        assert report.left_basin
        assert report.method == "descent+newton"
        assert report.fallbacks >= 1
        assert "the basin is lost" in report.notes[0]
        assert engine.measure(theirs).energy == pytest.approx(cpu.measure(ours).energy, abs=1e-8 / start.n_particles)
        assert np.abs(theirs.nonaffine_displacement(ours)).max() < 1e-7
        state = ours


def test_behind_an_instability_fire_falls_from_the_state_itself(
    engine: Engine, quenched: Glass, beyond_instability: Callable[[Glass, float], Glass]
) -> None:
    start = beyond_instability(quenched, 1e-5)
    expected, plain = engine.relax(start, after_event="fire")
    guess_nc = start.positions + np.random.default_rng(5).normal(scale=1e-3, size=start.positions.shape)
    minimum, report = engine.relax(start, guess=guess_nc, after_event="fire")
    assert np.abs(minimum.nonaffine_displacement(expected)).max() < 1e-7
    assert plain.left_basin
    assert report.left_basin
    assert report.force_evaluations > plain.force_evaluations
    with pytest.raises(BasinLost, match=r"FIRE ended 0\.\d+ away") as caught:
        engine.relax(start, guess=guess_nc, after_event=None)
    assert caught.value.report.force_evaluations > 0


def test_a_blown_up_relaxation_is_tried_again_and_then_refused(engine: Engine, model: GlassModel) -> None:
    glass = _start(model)
    positions_nc = glass.positions.copy()
    positions_nc[1] = positions_nc[0] + (1e-3, 0.0, 0.0)
    with pytest.raises(ConvergenceError, match=r"dt = 0\.04 .*no longer in the simulation box.*dt = 0\.02"):
        engine.relax(glass.moved(positions_nc))
    # The engine is none the worse for it.
    assert engine.relax(glass)[1].max_force < 1e-10


def test_a_flip_of_the_box_changes_nothing(engine: Engine, model: GlassModel) -> None:
    glass, _ = engine.relax(_start(model).at_strain(0.4999))
    flipped = Glass(glass.positions, glass.typeid, Box(glass.box.length, glass.box.xy - 1.0), glass.strain)
    here, there = engine.measure(glass), engine.measure(flipped)
    assert there.energy == pytest.approx(here.energy, rel=1e-12)


@pytest.mark.parametrize("thermostat", ["bussi", "mttk", "langevin"])
def test_keeps_the_temperature(model: GlassModel, thermostat: str) -> None:
    engine = HOOMDEngineSettings(pair="mie", thermostat=thermostat).build(model)
    liquid, _ = engine.run(_start(model), duration=3.0, temperature=1.0, rng=np.random.default_rng(1))
    _, report = engine.run(liquid, duration=10.0, temperature=1.0, rng=np.random.default_rng(2))
    # sd of the kinetic temperature is sqrt(2 / 3N) = 0.06 at N = 200; 5 t_c hold some ten independent values of it.
    assert report.temperature == pytest.approx(1.0, abs=0.08)
    assert report.energy == pytest.approx(7.44, abs=0.25)


def test_a_ramp_cools(engine: Engine, model: GlassModel) -> None:
    liquid, _ = engine.run(_start(model), duration=3.0, temperature=1.0, rng=np.random.default_rng(4))
    _, report = engine.run(liquid, duration=20.0, temperature=1.0, final_temperature=0.2, rng=np.random.default_rng(5))
    # The mean of the second half of the ramp, 0.6 to 0.2; the glass gives off heat as it cools.
    assert report.temperature == pytest.approx(0.4, abs=0.1)


def test_refuses_a_potential_that_hoomd_does_not_have(model: GlassModel) -> None:
    class Another(PairPotential):
        kind: str = "another"

        def cutoffs(self) -> np.ndarray:
            return np.ones((2, 2))

        def derivatives(self, r2_p: np.ndarray, pairtype_p: np.ndarray, order: int) -> np.ndarray:
            return np.zeros((order + 1, len(r2_p)))

    with pytest.raises(InputError, match="engine: cpu"):
        HOOMDEngineSettings().build(GlassModel(potential=Another()))
    assert isinstance(model.potential, InversePowerLaw)


def test_settings_without_effect_are_named_where_they_were_changed(model: GlassModel, caplog: pytest.LogCaptureFixture) -> None:
    HOOMDEngineSettings.model_validate(HOOMDEngineSettings().model_dump()).build(model)
    assert not caplog.records
    HOOMDEngineSettings(descent_time=20.0).build(model)
    assert "descent_time: no effect any more" in caplog.text


def test_refuses_a_gpu_that_is_not_there(model: GlassModel) -> None:
    hoomd = pytest.importorskip("hoomd")
    if hoomd.device.GPU.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match="device: cpu"):
        HOOMDEngineSettings(device="gpu").build(model)


def _start(model: GlassModel) -> Glass:
    rng = np.random.default_rng(8)
    n_particles = 200
    length = model.box_length(n_particles)
    grid = (np.arange(6) + 0.5) / 6 * length
    sites_nc = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 3)
    positions_nc = sites_nc[rng.permutation(216)[:n_particles]] + rng.normal(scale=0.05, size=(n_particles, 3))
    return Glass(positions_nc, rng.permutation(model.typeid(n_particles)), Box(length))
