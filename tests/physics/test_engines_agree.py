"""The two engines sample the same liquid, and shear the same glass to the same first instability."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qlm_quasistatic import Instability, ShearStep, Stepper
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import ThresholdDetector

from qlm_hoomd.engines.base import EngineSettings
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.engines.hoomd import HOOMDEngineSettings
from qlm_hoomd.glass import Glass
from qlm_hoomd.model import GlassModel
from qlm_hoomd.preparation import random_start

pytestmark = [pytest.mark.physics, pytest.mark.hoomd]

MODEL = GlassModel()
N_PARTICLES = 500
N_BLOCKS = 20


def _blocks(settings: EngineSettings) -> np.ndarray:
    """((N_BLOCKS, 3) ndarray) temperature, energy per particle and pressure, each block averaged over 2.5 t_c at T0."""
    engine, rng = settings.build(MODEL), np.random.default_rng(17)
    # One start for all: what differs is the engine.
    glass = random_start(MODEL, N_PARTICLES, np.random.default_rng(1))
    glass, _ = engine.run(glass, duration=20.0, temperature=MODEL.T0, rng=rng)
    blocks = []
    for _ in range(N_BLOCKS):
        # The engine averages over the second half of a run; the first separates the blocks.
        glass, report = engine.run(glass, duration=5.0, temperature=MODEL.T0, rng=rng)
        blocks.append((report.temperature, report.energy, report.pressure))
    return np.array(blocks)


@pytest.mark.parametrize("thermostat", ["bussi", "mttk", "langevin"])
def test_dynamics_at_the_parent_temperature(ledger: Any, thermostat: str) -> None:
    ours, theirs = _blocks(CPUEngineSettings()), _blocks(HOOMDEngineSettings(thermostat=thermostat))
    for column, name in enumerate(("temperature", "energy", "pressure")):
        ledger.compare(
            f"{thermostat} {name}",
            theirs[:, column],
            ours[:, column].mean(),
            ours[:, column].std(ddof=1) / np.sqrt(N_BLOCKS),
        )
    assert not ledger.failures


def _to_the_first_instability(settings: EngineSettings, glass: Glass) -> tuple[dict[float, float], float]:
    """Stress by strain up to the first instability, and its strain."""
    stepper = Stepper(settings.build(MODEL))
    stress: dict[float, float] = {}
    for item in ThresholdDetector().follow(stepper, stepper.start(glass), StrainGrid(1e-4, 0.2)):
        if isinstance(item, Instability):
            # The step in which it happened is the last one yielded before it.
            del stress[item.step.after.strain]
            return stress, item.strain_c
        assert isinstance(item, ShearStep)
        stress[item.after.strain] = item.after.observables.stress_xy
    raise AssertionError("no instability up to strain 0.2")


def test_the_same_first_instability(ledger: Any) -> None:
    engine, rng = CPUEngineSettings().build(MODEL), np.random.default_rng(3)
    liquid, _ = engine.run(random_start(MODEL, N_PARTICLES, rng), duration=5.0, temperature=MODEL.T0, rng=rng)
    glass, _ = engine.descend(liquid)
    ours, ours_c = _to_the_first_instability(CPUEngineSettings(), glass)
    theirs, theirs_c = _to_the_first_instability(HOOMDEngineSettings(), glass)
    ledger.note(f"first instability at {ours_c:.7f} (cpu), {theirs_c:.7f} (hoomd), {len(ours)} states before it")
    assert theirs_c == pytest.approx(ours_c, abs=1e-6)
    # Refinement begins where a jump is seen; up to there both stand at the same strains.
    common = sorted(set(ours) & set(theirs))
    assert len(common) >= 0.9 * len(ours)
    assert max(abs(ours[strain] - theirs[strain]) for strain in common) < 1e-8
