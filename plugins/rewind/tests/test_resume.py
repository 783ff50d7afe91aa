"""Stage `shear`, interrupted and gone on with: the bytes of all products are those of an undisturbed run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from qlm_quasistatic.stage import ShearStage

from qlm_hoomd import gsdio
from qlm_hoomd.base.interrupt import Interrupted
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.model import Preparation
from qlm_hoomd.preparation import random_start
from qlm_hoomd.stages import StageContext
from qlm_hoomd.testing.checkpoints import StoppingCheckpoint

if TYPE_CHECKING:
    from pathlib import Path

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

PRODUCTS = ("steps.parquet", "events.parquet", "trials.parquet", "sheared.gsd")
STATEPOINT = {"n_particles": 100, "preparation": "rapid", "realisation": 0, "seed": 1, "protocol_hash": "a" * 16}


@pytest.fixture(scope="module")
def small_glass(model: GlassModel) -> Glass:
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(12)
    liquid, _ = engine.run(random_start(model, 100, rng), duration=1.0, temperature=model.T0, rng=rng)
    return engine.descend(liquid)[0]


@pytest.mark.parametrize("detector", [None, "threshold", {"kind": "fold", "overlaps": [0.1]}], ids=str)
def test_interrupted_anywhere_it_ends_in_the_same_bytes(
    detector: Any, tmp_path: Path, model: GlassModel, small_glass: Glass
) -> None:
    """There and back, with instabilities, frames and trials; each time gone on with by a new engine, from the file."""
    stage = ShearStage.model_validate(
        {"path": [0.0, 0.075, 0.06], "increment": 1e-3, "frames": [0.07], "detector": detector, "trials": "always"}
    )

    def attempt(directory: Path, stop_at: int) -> StoppingCheckpoint:
        engine = CPUEngineSettings().build(model)
        if not directory.exists():
            directory.mkdir()
            gsdio.write_glasses(directory / "quenched.gsd", [(small_glass, engine.measure(small_glass))], {})
        checkpoint = StoppingCheckpoint(directory / ".shear.checkpoint", stop_at)
        stage.run(
            StageContext(
                directory=directory,
                statepoint=STATEPOINT,
                model=model,
                preparation=Preparation(quench="rapid"),
                engine=CPUEngineSettings().build(model),
                provenance={},
                progress=lambda _: None,
                checkpoint=checkpoint,
            )
        )
        return checkpoint

    n_waypoints = attempt(tmp_path / "quiet", 0).passed
    events = pl.read_parquet(tmp_path / "quiet" / "events.parquet")
    assert events.height >= (0 if detector is None else 1)
    rng, n_stops = np.random.default_rng(events.height), 0
    while True:
        try:
            # An attempt begins with the waypoint that the last one stopped at.
            attempt(tmp_path / "disturbed", int(rng.integers(2, 12)))
            break
        except Interrupted:
            n_stops += 1
    assert n_stops > n_waypoints // 12
    for name in PRODUCTS:
        assert (tmp_path / "disturbed" / name).read_bytes() == (tmp_path / "quiet" / name).read_bytes(), name
