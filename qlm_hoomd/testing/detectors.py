"""What every detector of instabilities must do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qlm_hoomd.base.registry import DETECTORS
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.model import GlassModel
from qlm_hoomd.preparation import random_start
from qlm_hoomd.testing.settings import SettingsConformance

if TYPE_CHECKING:
    from pydantic import BaseModel


class AskedGrid:
    """The strains of a run as a detector may know them: by the methods of ``qlm_quasistatic.strains.StrainGrid`` alone.

    Where a run may go on when its end is raised follows from what a detector asked. One that reads the end or the stops itself
    would depend on them unnoticed, so here they are not to be had.

    Args:
        grid: the grid behind it.
    """

    def __init__(self, grid: Any) -> None:
        self.increment: float = grid.increment
        self.next_strain, self.done, self.beyond = grid.next_strain, grid.done, grid.beyond

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the detector reads {name} of the grid; expected it to ask next_strain, done and beyond")


class DetectorConformance(SettingsConformance):
    """Suite for detectors of instabilities. It shears a glass of a hundred particles, seconds of work on one core.

    Attributes:
        detector: settings to test.
        strain: where the glass is sheared to; it has an instability before.
    """

    group = DETECTORS
    detector: ClassVar[BaseModel]
    strain: ClassVar[float] = 0.08

    def settings_under_test(self) -> BaseModel:
        """The detector."""
        return self.detector

    def test_says_what_it_cannot_see(self) -> None:
        """A limit that is no negative number, or None; and one sentence on it."""
        detector: Any = self.detector
        limit = detector.blind_below(1e-4, 10.0)
        assert limit is None or (math.isfinite(limit) and limit >= 0.0), f"blind_below = {limit}"
        said = detector.cannot_see(1e-4, 10.0)
        assert said.endswith("."), f"{said!r}; expected a sentence"

    def test_yields_steps_that_follow_each_other_and_asks_the_grid_by_its_methods(self) -> None:
        """Steps begin where the last one ended, each instability follows its step, and the run ends where the grid does."""
        from qlm_quasistatic import Instability, Stepper
        from qlm_quasistatic.strains import StrainGrid

        model = GlassModel()
        engine, detector = CPUEngine(model.potential), self.detector
        assert hasattr(detector, "follow")
        glass, _ = engine.descend(random_start(model, 100, np.random.default_rng(7)))
        stepper = Stepper(engine)
        state = start = stepper.start(glass)
        last = None
        for item in detector.follow(stepper, start, AskedGrid(StrainGrid(1e-3, self.strain, (0.01, self.strain)))):
            if isinstance(item, Instability):
                assert item.step is last, f"the instability at strain {item.strain_c:g} does not follow its step"
                inside = item.step.before.strain < item.strain_c < item.step.after.strain
                assert inside, f"the instability at strain {item.strain_c:g} lies outside its step"
                located = item.fold is not None
                exact = getattr(detector, "exact", None)
                assert located == exact, f"exact = {exact}, and an instability has {'a' if located else 'no'} fold"
                continue
            last = item
            assert item.before.strain == state.strain, f"a step begins at {item.before.strain}, not where the last one ended"
            state = item.after
        assert state.strain == self.strain, f"the run ends at strain {state.strain}; expected {self.strain}"
