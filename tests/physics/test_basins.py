"""The quench ends in the basin of steepest descent, as the paper's "fully overdamped dynamics" does, and FIRE does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.errors import ConvergenceError
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.minimize import fire, newton
from qlm_hoomd.minimize.surface import max_norm
from qlm_hoomd.model import GlassModel
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from qlm_hoomd.glass import Glass

pytestmark = pytest.mark.physics

MODEL = GlassModel()
N_LIQUIDS = 12
EULER_STEP = 3e-4


def _liquid(seed: int) -> Glass:
    rng = np.random.default_rng(seed)
    engine = CPUEngineSettings().build(MODEL)
    return engine.run(random_start(MODEL, 500, rng), duration=5.0, temperature=MODEL.T0, rng=rng)[0]


def _euler_minimum(liquid: Glass) -> Glass:
    """Explicit Euler with a small step until Newton finds itself inside a basin."""
    mechanics = Mechanics(MODEL.potential, liquid.typeid, 0.3)
    positions_nc, target = liquid.positions.copy(), 1e-3
    force_nc = mechanics.energy_forces(positions_nc, liquid.box)[1]
    while True:
        while max_norm(force_nc) > target:
            positions_nc += EULER_STEP * force_nc
            force_nc = mechanics.energy_forces(positions_nc, liquid.box)[1]
        try:
            return newton(mechanics, liquid.moved(positions_nc))[0]
        except ConvergenceError:
            target *= 0.1


def test_descent_ends_in_the_basin_of_steepest_descent(ledger: Any) -> None:
    same, same_fire = 0, 0
    for seed in range(N_LIQUIDS):
        liquid = _liquid(seed)
        reference = _euler_minimum(liquid)
        engine = CPUEngineSettings().build(MODEL)
        for name, minimum in (
            ("descent", engine.descend(liquid)[0]),
            ("fire", fire(Mechanics(MODEL.potential, liquid.typeid, 0.3), liquid)[0]),
        ):
            distance = np.linalg.norm(minimum.nonaffine_displacement(reference), axis=1).max()
            same += name == "descent" and distance < 1e-4
            same_fire += name == "fire" and distance < 1e-4
    ledger.note(f"same minimum as Euler steps of {EULER_STEP:g}: descent {same}, FIRE {same_fire} of {N_LIQUIDS}")
    # Close to the boundary between two basins the reference errs as well: no method agrees on all of them.
    assert same >= 0.75 * N_LIQUIDS
    # From a liquid inertia leads elsewhere; a descent that did the same would be no descent.
    assert same_fire <= 0.25 * N_LIQUIDS
