"""Detectors say what they cannot see, and a run says when something escaped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from qlm_quasistatic import Detector
from qlm_quasistatic.detector import steps_without_event
from qlm_quasistatic.stage import ShearStage
from qlm_rewind import FoldDetector, ThresholdDetector

from qlm_hoomd import gsdio
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.model import GlassModel, Preparation
from qlm_hoomd.stages import StageContext

if TYPE_CHECKING:
    from qlm_quasistatic import Instability, ShearState, ShearStep, Stepper
    from qlm_quasistatic.strains import StrainGrid


class _Silent(Detector):
    kind: str = "silent"

    def follow(self, stepper: Stepper, start: ShearState, grid: StrainGrid) -> Iterator[ShearStep | Instability]:
        yield from ()


def test_only_the_fold_detector_is_exact() -> None:
    assert (FoldDetector.exact, ThresholdDetector.exact, Detector.exact) == (True, False, False)


@pytest.mark.parametrize(("n_particles", "expected"), [(2000, 0.135), (16000, 0.269), (32000, 0.339), (64000, 0.427)])
def test_blind_limit_of_the_papers_detector(n_particles: int, expected: float) -> None:
    length = GlassModel().box_length(n_particles)
    assert ThresholdDetector().blind_below(1e-4, length) == pytest.approx(expected, abs=6e-4)
    assert f"more than {ThresholdDetector().blind_below(1e-4, length):.3g} diameters" in ThresholdDetector().cannot_see(
        1e-4, length
    )


def test_what_the_others_say() -> None:
    assert FoldDetector().blind_below(1e-4, 10.0) == 0.0
    assert "less than 1e-07 in energy" in FoldDetector().cannot_see(1e-4, 10.0)
    assert _Silent().blind_below(1e-4, 10.0) is None
    assert _Silent().cannot_see(1e-4, 10.0) == "The detector silent does not say which instabilities it cannot see."


def test_steps_that_lose_energy_and_no_event_explains() -> None:
    """V = 2, N = 4: the third step loses energy and has an event, the fourth loses 0.02 V and has none, the fifth left its basin."""
    steps = pl.DataFrame(
        {
            "increment": [0.0, 0.1, 0.1, 0.1, 0.1, 0.1],
            "stress_xy": [0.0, 1.0, 0.5, 0.5, 0.6, 0.7],
            "energy": 0.25 * np.cumsum([1.0, 0.1, -1.0, 0.1 - 0.02, 0.11, 0.13]),
            "left_basin": [False, False, True, False, True, False],
            "travelled": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5],
        }
    )
    assert steps_without_event(steps, pl.DataFrame({"travelled": [0.15]}), 4, 2.0)["travelled"].to_list() == [0.3, 0.4]
    # A detector that holds each step against the first law itself has seen what lost energy; a lost basin it should not have
    # left.
    assert steps_without_event(steps, pl.DataFrame({"travelled": [0.15]}), 4, 2.0, exact=True)["travelled"].to_list() == [0.4]
    # Down again, in the mirror: work is done against a negative stress.
    down = steps.with_columns(-pl.col("increment"), -pl.col("stress_xy"))
    assert steps_without_event(down, pl.DataFrame({"travelled": [0.15]}), 4, 2.0)["travelled"].to_list() == [0.3, 0.4]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"detector": "threshold", "increment": 2e-3}, ("more than 1.57 diameters", "1 step lost energy or left the basin")),
        ({"detector": "threshold", "increment": 1e-3}, ("more than 0.787 diameters",)),
        ({"detector": "fold", "increment": 2e-3}, ()),
        ({"detector": None, "increment": 2e-3}, ()),
    ],
)
def test_a_run_states_its_blind_limit_and_warns_of_what_escaped(
    settings: dict[str, object], said: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The glass of ``fall_400.gsd``, whose only event up to strain 0.022 moves a particle by 0.9045."""
    model = GlassModel()
    engine = CPUEngine(model.potential)
    glass, _ = engine.relax(gsdio.read_glass(Path(__file__).parent / "data" / "fall_400.gsd").glass)
    gsdio.write_glasses(tmp_path / "quenched.gsd", [(glass, engine.measure(glass))], {})
    context = StageContext(
        directory=tmp_path,
        statepoint={"n_particles": 400, "preparation": "rapid", "realisation": 0, "seed": 1, "protocol_hash": "a" * 16},
        model=model,
        preparation=Preparation(quench="rapid"),
        engine=CPUEngine(model.potential),
        provenance={},
        progress=lambda _: None,
    )
    with caplog.at_level(logging.WARNING):
        ShearStage.model_validate({"strain_max": 0.022, **settings}).run(context)
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) == len(said)
    assert all(part in message for part, message in zip(said, messages, strict=True))
