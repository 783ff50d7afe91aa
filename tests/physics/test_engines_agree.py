"""Molecular dynamics of the two engines samples the same liquid: energies and pressures agree within their block averages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qlm_hoomd.engines.base import EngineSettings
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.engines.hoomd import HOOMDEngineSettings
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
