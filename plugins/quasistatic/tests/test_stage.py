"""Stage `shear` on a folder: the tables and frames that the format promises, and the same bytes again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from qlm_quasistatic.stage import ShearStage

from qlm_hoomd import gsdio
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.errors import InputError
from qlm_hoomd.preparation import random_start
from qlm_hoomd.protocol import Preparation
from qlm_hoomd.stages import StageContext
from qlm_hoomd.testing import StageConformance

if TYPE_CHECKING:
    from pathlib import Path

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

PROVENANCE = {"protocol_hash": "a" * 16}
STEP_COLUMNS = ["strain", "increment", "stress_xy", "energy", "q", "max_force", "force_evaluations"]
EVENT_COLUMNS = ["strain_before", "strain_after", "strain_c", "gamma_min", "q", "stress_drop", "energy_drop", "detector"]
RUN = ShearStage.model_validate({"strain_max": 0.12, "increment": 2e-4, "frames": [0.0123456, 0.12, 0.02]})


class TestShearStage(StageConformance):
    protocol = {  # noqa: RUF012
        "name": "small",
        "seed": 1,
        "ensemble": {
            "n_particles": [100],
            "preparations": {"quick": {"quench": "rapid", "equilibration_time": 1.0}},
            "realisations": 1,
        },
        "stages": [{"kind": "prepare"}, {"kind": "shear", "strain_max": 0.004, "increment": 1e-3, "frames": [0.002]}],
    }


@pytest.fixture(scope="module")
def small_glass(model: GlassModel) -> Glass:
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(12)
    liquid, _ = engine.run(random_start(model, 150, rng), duration=1.0, temperature=model.T0, rng=rng)
    return engine.descend(liquid)[0]


def _context(directory: Path, model: GlassModel, glass: Glass) -> StageContext:
    directory.mkdir(exist_ok=True)
    engine = CPUEngineSettings().build(model)
    gsdio.write_glasses(directory / "quenched.gsd", [(glass, engine.measure(glass))], PROVENANCE)
    return StageContext(
        directory=directory,
        statepoint={"n_particles": 150, "preparation": "rapid", "realisation": 0, "seed": 1, "protocol_hash": "a" * 16},
        model=model,
        preparation=Preparation(quench="rapid"),
        engine=CPUEngineSettings().build(model),
        provenance=PROVENANCE,
        progress=lambda _: None,
    )


@pytest.fixture(scope="module")
def sheared(tmp_path_factory: pytest.TempPathFactory, model: GlassModel, small_glass: Glass) -> StageContext:
    context = _context(tmp_path_factory.mktemp("sheared"), model, small_glass)
    RUN.run(context)
    return context


def test_products_are_there_and_nothing_else(sheared: StageContext) -> None:
    assert RUN.requires() == ("quenched.gsd",)
    assert sorted(path.name for path in sheared.directory.iterdir()) == sorted((*RUN.requires(), *RUN.products()))
    for name in ("steps.parquet", "events.parquet"):
        metadata = pl.read_parquet_metadata(sheared.path(name))
        assert json.loads(metadata["qlm_hoomd"]) == PROVENANCE


def test_steps_table(sheared: StageContext, small_glass: Glass) -> None:
    steps = pl.read_parquet(sheared.path("steps.parquet"))
    assert steps.columns == STEP_COLUMNS
    assert steps["force_evaluations"].dtype == pl.Int64
    assert steps.null_count().sum_horizontal().item() == 0
    first = steps.row(0, named=True)
    seen = sheared.engine.measure(small_glass)
    assert (first["strain"], first["increment"], first["q"], first["force_evaluations"]) == (0.0, 0.0, 0.0, 0)
    assert first["stress_xy"] == pytest.approx(seen.stress_xy, rel=1e-10)
    strain, increment = steps["strain"].to_numpy(), steps["increment"].to_numpy()
    assert (np.diff(strain) > 0.0).all()
    np.testing.assert_array_equal(np.diff(strain), increment[1:])
    assert strain[-1] == RUN.strain_max
    assert set(RUN.frames) <= set(strain.tolist())
    assert steps["max_force"].max() < 2e-10
    assert steps["q"][1:].min() > 0.0


def test_elastic_work_is_energy(sheared: StageContext) -> None:
    """Between instabilities dU = V stress dgamma; the trapezoid errs by the curvature of a coarse step."""
    steps = pl.read_parquet(sheared.path("steps.parquet"))
    stress, increment, energy = (steps[name].to_numpy() for name in ("stress_xy", "increment", "energy"))
    volume_per_particle = 1.0 / 0.82
    work = 0.5 * (stress[1:] + stress[:-1]) * increment[1:] * volume_per_particle
    elastic = steps["q"].to_numpy()[1:] < 20.0
    np.testing.assert_allclose(np.diff(energy)[elastic], work[elastic], atol=1e-6)


def test_events_table(sheared: StageContext) -> None:
    events = pl.read_parquet(sheared.path("events.parquet"))
    steps = pl.read_parquet(sheared.path("steps.parquet"))
    assert events.columns == EVENT_COLUMNS
    assert events.height > 0
    assert set(events["detector"]) == {"threshold"}
    before, after, middle = (events[name].to_numpy() for name in ("strain_before", "strain_after", "strain_c"))
    assert ((before < middle) & (middle < after)).all()
    assert (after - before).max() <= 1.0000001e-6
    assert (before[1:] >= after[:-1]).all()
    # Strain travelled since the last event, or since the start: it adds up.
    np.testing.assert_allclose(np.cumsum(events["gamma_min"].to_numpy()), middle, rtol=1e-12)
    for event in events.iter_rows(named=True):
        row = steps.filter(pl.col("strain") == event["strain_after"]).row(0, named=True)
        last = steps.filter(pl.col("strain") == event["strain_before"]).row(0, named=True)
        assert event["q"] == row["q"] > 100.0
        assert event["stress_drop"] == last["stress_xy"] - row["stress_xy"]
        assert event["energy_drop"] == last["energy"] - row["energy"] > 0.0


def test_frames_are_at_the_strains_asked_for(sheared: StageContext) -> None:
    frames = gsdio.read_glasses(sheared.path("sheared.gsd"))
    assert [frame.glass.strain for frame in frames] == sorted(RUN.frames)
    steps = pl.read_parquet(sheared.path("steps.parquet"))
    for frame in frames:
        row = steps.filter(pl.col("strain") == frame.glass.strain).row(0, named=True)
        assert frame.log["stress_xy"] == row["stress_xy"]
        assert frame.log["energy"] == row["energy"]
        assert sheared.engine.measure(frame.glass).max_force < 2e-10


def test_the_same_bytes_again(sheared: StageContext, tmp_path: Path, model: GlassModel, small_glass: Glass) -> None:
    context = _context(tmp_path / "again", model, small_glass)
    RUN.run(context)
    for name in RUN.products():
        assert context.path(name).read_bytes() == sheared.path(name).read_bytes(), name


def test_a_run_ends_after_max_events(tmp_path: Path, sheared: StageContext, model: GlassModel, small_glass: Glass) -> None:
    context = _context(tmp_path, model, small_glass)
    RUN.model_copy(update={"max_events": 1}).run(context)
    one, every = (pl.read_parquet(where.path("events.parquet")) for where in (context, sheared))
    assert one.equals(every.head(1))
    steps = pl.read_parquet(context.path("steps.parquet"))
    assert steps["strain"][-1] == one["strain_after"][0]


def test_without_a_detector_there_are_steps_and_no_events(tmp_path: Path, model: GlassModel, small_glass: Glass) -> None:
    context = _context(tmp_path, model, small_glass)
    stage = ShearStage.model_validate({"strain_max": 0.01, "increment": 1e-3, "detector": None})
    assert stage.products() == ("steps.parquet", "events.parquet")
    stage.run(context)
    assert pl.read_parquet(context.path("steps.parquet"))["strain"].to_list() == [count / 1000 for count in range(11)]
    events = pl.read_parquet(context.path("events.parquet"))
    assert events.height == 0
    assert events.columns == EVENT_COLUMNS
    assert events["detector"].dtype == pl.String


def test_a_glass_that_is_not_at_rest_is_refused(tmp_path: Path, model: GlassModel, small_glass: Glass) -> None:
    context = _context(tmp_path, model, small_glass.sheared(0.01))
    with pytest.raises(InputError, match="Relax it first"):
        RUN.run(replace(context))
    assert not context.path("steps.parquet").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"increment": 0.06}, "increment = 0.06 is larger than strain_max = 0.05"),
        ({"frames": [0.01, 0.06]}, r"frames \[0.06\] lie beyond strain_max = 0.05"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str, model: GlassModel) -> None:
    with pytest.raises(ValueError, match=message):
        ShearStage.model_validate({"strain_max": 0.05} | settings).check(model, [500])


@pytest.mark.parametrize(
    "settings",
    [
        {"increment": 0.0},
        {"increment": -1e-4},
        {"strain_max": 0.0},
        {"frames": [0.0]},
        {"max_events": 0},
        {"tolerance": 1.0},
        {"tolerance": 1e-14},
        {"detector": "no_such_detector"},
        {"steps": 3},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ShearStage.model_validate({"strain_max": 0.05} | settings)
