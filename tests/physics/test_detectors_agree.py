"""Both detectors on the same glasses: what the paper's one finds the exact one finds, what it misses lies in its blind spot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qlm_quasistatic.detector import Instability
from qlm_quasistatic.stepper import Stepper
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import FoldDetector, ThresholdDetector

from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.minimize.surface import max_norm
from qlm_hoomd.model import GlassModel, Preparation
from qlm_hoomd.preparation import equilibrate, quench, random_start

if TYPE_CHECKING:
    from qlm_quasistatic.detector import Detector

    from qlm_hoomd.glass import Glass

pytestmark = pytest.mark.physics

MODEL = GlassModel()
INCREMENT = 1e-4
# Both runs stop at these strains too, where their states are compared.
PROBE = 2.5e-3
BRACKET_ERROR = 2e-9


@dataclass
class Run:
    """What a detector found in one glass: its events, and the energy at every probe."""

    events: list[Instability] = field(default_factory=list)
    energy: dict[float, float] = field(default_factory=dict)


@dataclass
class Comparison:
    """Both detectors on one glass, up to the strain at which their states differ.

    Args:
        common: strain up to which the states at the probes agree.
        found: folds inside a bracket of the threshold detector.
        missed: folds without a bracket, whose jump is in the blind spot, less than Q_c L dgamma.
        explained: folds without a bracket for another reason of the paper's rule: another event within two coarse steps.
        unexplained: folds without a bracket and without such a reason.
        unmatched: brackets without a fold. There must be none.
    """

    common: float = 0.0
    found: list[float] = field(default_factory=list)
    missed: list[float] = field(default_factory=list)
    explained: list[float] = field(default_factory=list)
    unexplained: list[float] = field(default_factory=list)
    unmatched: list[float] = field(default_factory=list)


def run(detector: Detector, glass: Glass, strain_max: float, increment: float = INCREMENT) -> Run:
    """Shear ``glass`` to ``strain_max``."""
    stepper = Stepper(CPUEngineSettings().build(MODEL), 1e-10)
    stops = tuple(round(PROBE * k, 12) for k in range(1, round(strain_max / PROBE) + 1))
    result = Run()
    for item in detector.follow(stepper, stepper.start(glass), StrainGrid(increment, strain_max, stops)):
        if isinstance(item, Instability):
            result.events.append(item)
        elif item.after.strain in stops:
            result.energy[item.after.strain] = item.after.observables.energy
    return result


def compare(threshold: Run, fold: Run, q_c: float = 100.0) -> Comparison:
    """Match the events of both runs as far as both are in the same state."""
    result = Comparison()
    for strain, energy in threshold.energy.items():
        if strain not in fold.energy or abs(energy - fold.energy[strain]) > 1e-9:
            break
        result.common = strain
    brackets = [(e.step.before.strain, e.step.after.strain) for e in threshold.events if e.step.after.strain <= result.common]
    strains = [e.strain_c for e in fold.events]
    for low, high in brackets:
        if not any(low - BRACKET_ERROR <= strain <= high + BRACKET_ERROR for strain in strains):
            result.unmatched.append(low)
    for event in fold.events:
        strain = event.strain_c
        if strain > result.common:
            break
        jump = max_norm(event.displacement)
        length = event.step.after.glass.box.length
        close = sorted(abs(other - strain) for other in strains)[1:2]
        if any(low - BRACKET_ERROR <= strain <= high + BRACKET_ERROR for low, high in brackets):
            result.found.append(strain)
        elif jump < q_c * length * INCREMENT:
            result.missed.append(strain)
        elif close and close[0] < 3 * INCREMENT:
            result.explained.append(strain)
        else:
            result.unexplained.append(strain)
    return result


@pytest.mark.parametrize(("kind", "n_particles", "count"), [("rapid", 500, 6), ("rapid", 1000, 3), ("slow", 500, 4)])
def test_every_event_of_the_threshold_is_a_fold(kind: str, n_particles: int, count: int, ledger: Any) -> None:
    found = missed = 0
    for seed in range(count):
        glass = _glass(kind, n_particles, seed)
        result = compare(run(ThresholdDetector(), glass, 0.05), run(FoldDetector(), glass, 0.05))
        assert not result.unmatched
        assert not result.unexplained
        found += len(result.found)
        missed += len(result.missed)
    assert found
    ledger.note(f"{kind}, N = {n_particles}: {found} events found by both detectors, {missed} in the threshold's blind spot")


def test_shorter_steps_find_no_further_fold() -> None:
    for seed in range(4):
        glass = _glass("rapid", 500, seed)
        coarse = run(FoldDetector(), glass, 0.04)
        fine = run(FoldDetector(max_increment=1e-4), glass, 0.04, increment=1e-5)
        np.testing.assert_allclose([e.strain_c for e in fine.events], [e.strain_c for e in coarse.events], rtol=0, atol=1e-9)


def _glass(kind: str, n_particles: int, seed: int) -> Glass:
    rng = np.random.default_rng([seed, n_particles, len(kind)])
    engine, settings = CPUEngineSettings().build(MODEL), Preparation(quench=kind)
    liquid, _ = equilibrate(engine, random_start(MODEL, n_particles, rng), MODEL, settings, rng)
    return quench(engine, liquid, MODEL, settings, rng)[0]
