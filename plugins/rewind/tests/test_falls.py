"""Behind an instability the glass falls into the same minimum on every engine, whatever found the instability.

``data/fall_400.gsd`` is a rapidly quenched glass of the paper's law, N = 400. From the fold at strain 0.02025 overdamped paths
at accuracies of 3e-4 and 2e-5, from 1e-8 to 5e-4 in strain beyond it and from pushes of 1.5e-4 to 1.5e-2 along the critical
mode, all end at U/N = 5.785729, with a largest displacement of 0.9045; inertia leads to 5.785871 and 0.8967.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from qlm_quasistatic import Instability, Stepper
from qlm_quasistatic.detector import follow
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import FoldDetector, ThresholdDetector

from qlm_hoomd import gsdio
from qlm_hoomd.engines.cpu import CPUEngine, CPUEngineSettings
from qlm_hoomd.engines.hoomd import HOOMDEngineSettings, snapshot_of

if TYPE_CHECKING:
    from qlm_quasistatic.detector import Detector

    from qlm_hoomd.engines.base import Engine
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

STRAIN, STRAIN_C, ENERGY, LARGEST_JUMP = 0.021, 0.020249017, 5.785729, 0.9045


@pytest.fixture(scope="module")
def glass(model: GlassModel) -> Glass:
    """At rest again: the file holds what float32 left of it."""
    read = gsdio.read_glass(Path(__file__).parent / "data" / "fall_400.gsd").glass
    return CPUEngine(model.potential).relax(read)[0]


def _sheared(engine: Engine, glass: Glass, detector: Detector | None) -> tuple[float, list[Instability]]:
    """Energy per particle at the end, and the instabilities."""
    stepper, events = Stepper(engine), []
    state = stepper.start(glass)
    for item in follow(detector, stepper, state, StrainGrid(1e-3, STRAIN)):
        if isinstance(item, Instability):
            events.append(item)
        else:
            state = item.after
    return state.observables.energy, events


@pytest.mark.parametrize("detector", [FoldDetector(overlaps=()), None])
@pytest.mark.parametrize("settings", [CPUEngineSettings(), pytest.param(HOOMDEngineSettings(), marks=pytest.mark.hoomd)])
def test_an_engine_falls_along_the_overdamped_path(
    settings: Any, detector: Detector | None, glass: Glass, model: GlassModel
) -> None:
    if isinstance(settings, HOOMDEngineSettings):
        pytest.importorskip("hoomd")
    energy, events = _sheared(settings.build(model), glass, detector)
    assert energy == pytest.approx(ENERGY, abs=1e-6)
    if detector is not None:
        (event,) = events
        assert event.strain_c == pytest.approx(STRAIN_C, abs=1e-8)
        assert (event.displacement**2).sum(axis=1).max() ** 0.5 == pytest.approx(LARGEST_JUMP, abs=1e-4)


@pytest.mark.hoomd
@pytest.mark.parametrize("detector", [FoldDetector(overlaps=()), ThresholdDetector(q_c=50.0), None])
def test_the_driver_of_a_simulation_falls_along_the_overdamped_path(
    detector: Detector | None, glass: Glass, model: GlassModel
) -> None:
    hoomd = pytest.importorskip("hoomd")
    from qlm_quasistatic.hoomd import AthermalQuasistatic

    from qlm_hoomd.pair import InversePowerLaw

    simulation = hoomd.Simulation(device=hoomd.device.CPU(), seed=1)
    simulation.create_state_from_snapshot(snapshot_of(glass))
    force = InversePowerLaw.from_potential(model.potential, hoomd.md.nlist.Cell(buffer=0.12))
    shear = AthermalQuasistatic(simulation, [force], increment=1e-3, detector=detector)
    shear.run(strain=STRAIN)
    assert shear.energy == pytest.approx(ENERGY, abs=1e-6)
    if detector is not None:
        assert shear.events["strain_c"].to_list() == pytest.approx([STRAIN_C], abs=1e-6)
        assert shear.events["max_jump"].to_list() == pytest.approx([LARGEST_JUMP], abs=1e-3)
