"""Behind an instability the glass falls along the overdamped path: the minimum is that of small explicit steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qlm_quasistatic import Instability, Stepper
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import FoldDetector

from qlm_hoomd import gsdio
from qlm_hoomd.engines.cpu import CPUEngine, CPUEngineSettings
from qlm_hoomd.engines.hoomd import HOOMDEngineSettings, snapshot_of
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.minimize import descent, newton
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from collections.abc import Callable

    from qlm_hoomd.engines.base import Engine
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

pytestmark = pytest.mark.physics

N_GLASSES, N_EVENTS = 3, 3
EULER_STEP = 2e-4
# So far beyond the fold the glass lingers for some tens of time units, which small steps can bear.
BEYOND = 5e-4
N_FOLDS, N_EULER, STRAIN = 20, 5, 0.45
FALL_400 = Path(__file__).parents[2] / "plugins/rewind/tests/data/fall_400.gsd"


def _euler_minimum(mechanics: Mechanics, start: Glass, duration: float, step: float = EULER_STEP) -> Glass:
    positions_nc = start.positions.copy()
    for _ in range(round(duration / step)):
        positions_nc += step * mechanics.energy_forces(positions_nc, start.box)[1]
    return newton(mechanics, start.moved(positions_nc), reach=0.02)[0]


def _same(end: Glass, reference: Glass) -> bool:
    return bool(np.linalg.norm(end.nonaffine_displacement(reference), axis=1).max() < 1e-4)


def test_falls_end_where_small_euler_steps_end(
    ledger: Any, model: GlassModel, beyond_instability: Callable[[Glass, float], Glass]
) -> None:
    n_descent = n_fire = 0
    jumps = []
    for seed in range(N_GLASSES):
        rng = np.random.default_rng(seed)
        engine = CPUEngineSettings().build(model)
        liquid, _ = engine.run(random_start(model, 500, rng), duration=5.0, temperature=model.T0, rng=rng)
        state, _ = engine.descend(liquid)
        for _ in range(N_EVENTS):
            start = beyond_instability(state, BEYOND)
            mechanics = Mechanics(model.potential, start.typeid, 0.12)
            _, path = descent(mechanics, start)
            duration = float(path.notes[-1].split("t = ")[1].split(",")[0])
            reference = _euler_minimum(mechanics, start, 1.1 * duration + 5.0)
            fallen, report = engine.relax(start)
            assert report.left_basin
            n_descent += _same(fallen, reference)
            n_fire += _same(engine.relax(start, after_event="fire")[0], reference)
            jumps.append(float(np.linalg.norm(reference.nonaffine_displacement(start), axis=1).max()))
            state = fallen
    n_events = len(jumps)
    ledger.note(
        f"{n_events} events, largest displacement {min(jumps):.2g} to {max(jumps):.2g}; same minimum as Euler steps of "
        f"{EULER_STEP:g}: descent {n_descent}, FIRE {n_fire}"
    )
    assert n_descent == n_events


def _folds(engine: Engine, glass: Glass) -> list[Instability]:
    """Every instability of the glass up to ``STRAIN``."""
    stepper = Stepper(engine)
    items = FoldDetector(overlaps=()).follow(stepper, stepper.start(glass), StrainGrid(1e-3, STRAIN))
    return [item for item in items if isinstance(item, Instability)]


@pytest.fixture(scope="module")
def glass(model: GlassModel) -> Glass:
    return CPUEngine(model.potential).relax(gsdio.read_glass(FALL_400).glass)[0]


@pytest.fixture(scope="module")
def on_cpu(model: GlassModel, glass: Glass) -> list[Instability]:
    return _folds(CPUEngine(model.potential), glass)


def test_falls_from_twenty_folds_end_where_small_steps_end(ledger: Any, model: GlassModel, on_cpu: list[Instability]) -> None:
    """From half as far along the critical mode as the detector pushes, at a fifteenth of the error.

    Some by Euler's method too.
    """
    jumps = []
    for number, event in enumerate(on_cpu[:N_FOLDS]):
        assert event.fold is not None
        assert event.fallen is not None
        start = event.fold.glass.moved(event.fold.glass.positions - 2.5e-3 * event.fold.mode)
        mechanics = Mechanics(model.potential, start.typeid, 0.12)
        end, path = descent(mechanics, start, accuracy=2e-5)
        assert _same(event.fallen.glass, end)
        if number < N_EULER:
            duration = float(path.notes[-1].split("t = ")[1].split(",")[0])
            assert _same(event.fallen.glass, _euler_minimum(mechanics, start, 1.1 * duration + 5.0, 5e-4))
        jumps.append(float(np.linalg.norm(event.displacement, axis=1).max()))
    ledger.note(f"{len(jumps)} folds, largest displacement {min(jumps):.2g} to {max(jumps):.2g}")
    assert len(jumps) == N_FOLDS


@pytest.mark.hoomd
def test_the_hoomd_engine_falls_from_every_fold_as_the_cpu_engine(
    ledger: Any, model: GlassModel, glass: Glass, on_cpu: list[Instability]
) -> None:
    theirs = _folds(HOOMDEngineSettings().build(model), glass)
    assert len(theirs) == len(on_cpu) >= N_FOLDS
    ledger.note(f"{len(theirs)} folds up to strain {STRAIN}")
    for one, other in zip(theirs, on_cpu, strict=True):
        assert one.strain_c == pytest.approx(other.strain_c, abs=1e-8)
        assert one.energy_drop == pytest.approx(other.energy_drop, rel=1e-6)
        assert np.abs(one.displacement - other.displacement).max() < 1e-5


@pytest.mark.hoomd
def test_the_driver_falls_from_every_fold_as_the_cpu_engine(
    ledger: Any, model: GlassModel, glass: Glass, on_cpu: list[Instability]
) -> None:
    hoomd = pytest.importorskip("hoomd")
    from qlm_quasistatic.hoomd import AthermalQuasistatic

    from qlm_hoomd.pair import InversePowerLaw

    simulation = hoomd.Simulation(device=hoomd.device.CPU(), seed=1)
    simulation.create_state_from_snapshot(snapshot_of(glass))
    force = InversePowerLaw.from_potential(model.potential, hoomd.md.nlist.Cell(buffer=0.12))
    shear = AthermalQuasistatic(simulation, [force], increment=1e-3, detector=FoldDetector(overlaps=()))
    shear.run(strain=STRAIN)
    events = shear.events
    ledger.note(f"{events.height} folds up to strain {STRAIN}")
    assert events.height == len(on_cpu) >= N_FOLDS
    assert events["strain_c"].to_numpy() == pytest.approx(np.array([event.strain_c for event in on_cpu]), abs=1e-8)
    assert events["energy_drop"].to_numpy() == pytest.approx(np.array([event.energy_drop for event in on_cpu]), rel=1e-6)
