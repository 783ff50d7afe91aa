"""Behind an instability the glass falls along the overdamped path: the minimum is that of small explicit steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.minimize import descent, newton
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from collections.abc import Callable

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

pytestmark = pytest.mark.physics

N_GLASSES, N_EVENTS = 3, 3
EULER_STEP = 2e-4
# So far beyond the fold the glass lingers for some tens of time units, which small steps can bear.
BEYOND = 5e-4


def _euler_minimum(mechanics: Mechanics, start: Glass, duration: float) -> Glass:
    positions_nc = start.positions.copy()
    for _ in range(round(duration / EULER_STEP)):
        positions_nc += EULER_STEP * mechanics.energy_forces(positions_nc, start.box)[1]
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
