"""Molecular dynamics: both ways make the steps that a plain velocity Verlet makes, and go on from any of their states."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qlm_hoomd.box import Box
from qlm_hoomd.engines.cpu import CPUEngine, CPUEngineSettings
from qlm_hoomd.errors import InputError, QlmError
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.potentials import Hertzian, LennardJones, PairPotential
from tests.stand_ins import without_law

if TYPE_CHECKING:
    from qlm_hoomd.engines.base import DynamicsState
    from qlm_hoomd.model import GlassModel

THREE = ((1.0, 1.1, 1.2), (1.1, 1.2, 1.3), (1.2, 1.3, 1.4))


def _plain(
    glass: Glass,
    potential: PairPotential,
    settings: CPUEngineSettings,
    n_steps: int,
    temperatures: tuple[float, float],
    seed: int,
) -> tuple[np.ndarray, float]:
    """Velocity Verlet and Bussi's rescaling, written down as in their papers: the end, and the mean energy of the second half."""
    rng = np.random.default_rng(seed)
    mechanics = Mechanics(potential, glass.typeid, 0.0)
    x, v = glass.positions.copy(), rng.normal(scale=math.sqrt(temperatures[0]), size=glass.positions.shape)
    v -= v.mean(axis=0)
    n_free, dt, c = v.size - 3, settings.dt, math.exp(-settings.dt / settings.tau)
    force, energies = mechanics.bonds(x, glass.box, 1).forces, []
    for step in range(1, n_steps + 1):
        v = v + 0.5 * dt * force
        x = x + dt * v
        # By another way than the engine's: from the pairs, one by one.
        bonds = mechanics.bonds(x, glass.box, 1)
        energy, force = bonds.energy, bonds.forces
        v = v + 0.5 * dt * force
        target = temperatures[0] + (temperatures[1] - temperatures[0]) * step / n_steps
        kinetic, mean = 0.5 * (v**2).sum(), 0.5 * n_free * target
        r1, rest = rng.standard_normal(), rng.chisquare(n_free - 1)
        share = mean / (n_free * kinetic)
        alpha2 = c + share * (1 - c) * (r1**2 + rest) + 2 * r1 * math.sqrt(c * (1 - c) * share)
        v = v * math.copysign(math.sqrt(alpha2), r1 + math.sqrt(c / ((1 - c) * share)))
        if 2 * step > n_steps:
            energies.append(energy)
    return glass.box.wrap(x), float(np.mean(energies)) / glass.n_particles


@pytest.mark.parametrize("strain", [0.0, 0.37], ids=["cube", "sheared"])
@pytest.mark.parametrize("law", [True, False], ids=["compiled law", "derivatives"])
def test_steps_are_those_of_plain_velocity_verlet(law: bool, strain: float, model: GlassModel, liquid: Glass) -> None:
    """Fifty steps on a ramp of the temperature, several lists long: to 1e-10, where chaos has blown up rounding."""
    glass = liquid.at_strain(strain)
    potential = model.potential if law else without_law(model.potential)
    settings = CPUEngineSettings(tau=0.1)
    end, report = CPUEngine(potential, settings).run(
        glass, duration=50 * settings.dt, temperature=1.0, final_temperature=0.5, rng=np.random.default_rng(7)
    )
    expected_nc, energy = _plain(glass, model.potential, settings, 50, (1.0, 0.5), 7)
    assert np.abs(glass.box.minimum_image(end.positions - expected_nc)).max() < 1e-10
    assert report.energy == pytest.approx(energy, rel=1e-12)
    # The test would be empty if nobody had left the place where the first list was made.
    assert np.abs(glass.box.minimum_image(end.positions - glass.positions)).max() > 0.4


@pytest.mark.parametrize(
    "potential",
    [
        Hertzian(sigma=((1.1, 1.3), (1.3, 1.5)), epsilon=200.0),
        LennardJones(epsilon=((1.0, 0.9, 0.8), (0.9, 1.2, 1.0), (0.8, 1.0, 1.5)), sigma=THREE, q=2, x_c=1.6, n=9, m=5),
    ],
    ids=["one energy for two types", "an energy for each pair of three types"],
)
def test_other_laws_make_the_steps_that_their_derivatives_make(potential: PairPotential, liquid: Glass) -> None:
    typeid_n = np.random.default_rng(0).integers(0, potential.n_types, liquid.n_particles)
    glass = Glass(liquid.positions, typeid_n, liquid.box)
    settings = CPUEngineSettings(dt=0.002)
    end, report = CPUEngine(potential, settings).run(glass, duration=0.06, temperature=1.0, rng=np.random.default_rng(3))
    expected_nc, energy = _plain(glass, potential, settings, 30, (1.0, 1.0), 3)
    assert np.abs(glass.box.minimum_image(end.positions - expected_nc)).max() < 1e-10
    assert report.energy == pytest.approx(energy, rel=1e-11)


@pytest.mark.parametrize("law", [True, False], ids=["compiled law", "derivatives"])
def test_a_run_goes_on_from_any_of_its_states_in_the_same_bytes(law: bool, model: GlassModel, small_liquid: Glass) -> None:
    glass = small_liquid.at_strain(0.3)
    engine = CPUEngine(model.potential if law else without_law(model.potential))
    what = {"duration": 0.55, "temperature": 1.0, "final_temperature": 0.6}
    states: list[DynamicsState] = []
    end, report = engine.run(glass, **what, rng=np.random.default_rng(9), waypoint=lambda state: states.append(state()))
    assert [state.step for state in states] == [20, 40, 60, 80, 100]
    # Nobody looking on changes nothing.
    alone, _ = engine.run(glass, **what, rng=np.random.default_rng(9))
    assert alone.positions.tobytes() == end.positions.tobytes()
    for state in states:
        rng = np.random.default_rng(0)
        again, same = engine.run(glass, **what, rng=rng, resume=state)
        assert again.positions.tobytes() == end.positions.tobytes(), f"from step {state.step}"
        assert same == report, f"from step {state.step}"


def test_a_state_holds_plain_values_in_the_order_of_the_particles(model: GlassModel, small_liquid: Glass) -> None:
    states: list[DynamicsState] = []
    CPUEngine(model.potential).run(
        small_liquid,
        duration=0.12,
        temperature=1.0,
        rng=np.random.default_rng(9),
        waypoint=lambda state: states.append(state()),
    )
    moved_nc = small_liquid.box.minimum_image(states[0].positions - small_liquid.positions)
    # A tenth of a time unit: nobody is elsewhere.
    assert np.abs(moved_nc).max() < 1.0
    reference_nc, skin = states[0].memory
    assert reference_nc.shape == small_liquid.positions.shape
    assert np.linalg.norm(reference_nc - states[0].positions, axis=1).max() <= 0.5 * skin


def test_systems_that_eight_does_not_divide_move_too(model: GlassModel, small_liquid: Glass) -> None:
    glass = Glass(small_liquid.positions[:93], small_liquid.typeid[:93], small_liquid.box)
    settings = CPUEngineSettings()
    end, _ = CPUEngine(model.potential, settings).run(glass, duration=0.1, temperature=1.0, rng=np.random.default_rng(5))
    expected_nc, _ = _plain(glass, model.potential, settings, 20, (1.0, 1.0), 5)
    assert np.abs(glass.box.minimum_image(end.positions - expected_nc)).max() < 1e-11


def test_particles_without_neighbours_fly_straight(model: GlassModel) -> None:
    """Two particles out of each other's reach, one across the face of the box."""
    glass = Glass(np.array([[0.0, 0.0, 0.0], [4.9, 4.9, 4.9]]), np.array([0, 1]), Box(10.0))
    settings = CPUEngineSettings(tau=1e15)
    end, report = CPUEngine(model.potential, settings).run(glass, duration=0.2, temperature=1.0, rng=np.random.default_rng(1))
    v = np.random.default_rng(1).normal(size=(2, 3))
    v -= v.mean(axis=0)
    np.testing.assert_allclose(glass.box.minimum_image(end.positions - glass.positions - 0.2 * v), 0.0, atol=1e-7)
    assert report.energy == 0.0


def test_what_mechanics_refuses_is_refused(model: GlassModel, small_liquid: Glass) -> None:
    engine, rng = CPUEngine(model.potential), np.random.default_rng(0)
    with pytest.raises(InputError, match="expected at least twice the cut-off"):
        engine.run(Glass(small_liquid.positions, small_liquid.typeid, Box(4.0)), duration=0.1, temperature=1.0, rng=rng)
    with pytest.raises(InputError, match="types that the potential knows"):
        engine.run(
            Glass(small_liquid.positions, small_liquid.typeid + 1, small_liquid.box), duration=0.1, temperature=1.0, rng=rng
        )


def test_two_particles_on_one_spot_blow_up_and_say_so(model: GlassModel, small_liquid: Glass) -> None:
    positions_nc = small_liquid.positions.copy()
    positions_nc[1] = positions_nc[0]
    with pytest.raises(QlmError, match="blew up"):
        CPUEngine(model.potential).run(
            small_liquid.moved(positions_nc), duration=0.5, temperature=1.0, rng=np.random.default_rng(0)
        )
