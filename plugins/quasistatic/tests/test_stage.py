"""Stage `shear` on a folder: the tables and frames that the format promises, and the same bytes again."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gsd.hoomd
import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from qlm_quasistatic.stage import REMAINS, ShearStage
from ruamel.yaml import YAML

from qlm_hoomd import gsdio
from qlm_hoomd.box import Box
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.ensemble.runner import run_realisation
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass
from qlm_hoomd.model import GlassModel, Preparation
from qlm_hoomd.preparation import random_start
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.stages import StageContext
from qlm_hoomd.testing import StageConformance

PROVENANCE = {"protocol_hash": "a" * 16}
STEP_COLUMNS = ["strain", "increment", "stress_xy", "energy", "q", "max_force", "force_evaluations"]
EVENT_COLUMNS = ["strain_before", "strain_after", "strain_c", "gamma_min", "q", "stress_drop", "energy_drop", "detector"]
# What came later stands behind them.
MORE_STEP_COLUMNS = ["hessian_products", "left_basin", "fallbacks", "travelled"]
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
    assert sorted(path.name for path in sheared.directory.iterdir()) == sorted(
        (*RUN.requires(), *RUN.products(), "trials.parquet")
    )
    for name in ("steps.parquet", "events.parquet"):
        metadata = pl.read_parquet_metadata(sheared.path(name))
        assert json.loads(metadata["qlm_hoomd"]) == PROVENANCE


def test_steps_table(sheared: StageContext, small_glass: Glass) -> None:
    steps = pl.read_parquet(sheared.path("steps.parquet"))
    assert steps.columns == STEP_COLUMNS + MORE_STEP_COLUMNS
    assert steps["force_evaluations"].dtype == steps["hessian_products"].dtype == pl.Int64
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
    np.testing.assert_array_equal(steps["travelled"], strain)
    assert steps["left_basin"].to_numpy()[steps["q"].to_numpy() > 1e4].all()
    assert not steps["left_basin"].to_numpy()[steps["q"].to_numpy() < 20.0].any()


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
    assert set(EVENT_COLUMNS) < set(events.columns)
    np.testing.assert_array_equal(events["travelled"], events["strain_c"])
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
    assert set(EVENT_COLUMNS) < set(events.columns)
    assert events["detector"].dtype == pl.String


def test_a_glass_that_is_not_at_rest_is_refused(tmp_path: Path, model: GlassModel, small_glass: Glass) -> None:
    context = _context(tmp_path, model, small_glass.sheared(0.01))
    with pytest.raises(InputError, match="Relax it first"):
        RUN.run(context)
    # Nothing to save: the state at fault is quenched.gsd.
    assert [path.name for path in tmp_path.iterdir()] == ["quenched.gsd"]


def test_positions_that_are_no_numbers_are_refused(tmp_path: Path, model: GlassModel, small_glass: Glass) -> None:
    context = _context(tmp_path, model, small_glass)
    with gsd.hoomd.open(str(context.path("quenched.gsd")), "r") as trajectory:
        frame = trajectory[0]
    frame.log["particles/qlm/position"][7, 1] = np.nan
    with gsd.hoomd.open(str(context.path("quenched.gsd")), "w") as trajectory:
        trajectory.append(frame)
    with pytest.raises(InputError, match="1 of 150 positions are not finite"):
        RUN.run(context)


def test_a_glass_beyond_the_end_is_refused(tmp_path: Path, model: GlassModel, small_glass: Glass) -> None:
    context = _context(tmp_path, model, small_glass.at_strain(0.12))
    with pytest.raises(InputError, match=r"at strain 0\.12; expected less than strain_max = 0\.12"):
        RUN.run(context)


def test_a_run_that_fails_leaves_its_last_state_and_its_tables(tmp_path: Path, model: GlassModel) -> None:
    """Real trouble in the middle: looking for an event that never comes, the box tilts until the cut-off has no room in it."""
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(3)
    start = random_start(model, 82, rng)
    # Squeezed to the size at which twice the cut-off fits in up to a tilt of 0.2.
    length = 2.0 * model.potential.largest_cutoff * np.sqrt(1.0 + 0.2**2)
    squeezed = Glass(start.positions * (length / start.box.length), start.typeid, Box(length))
    liquid, _ = engine.run(squeezed, duration=0.2, temperature=model.T0, rng=rng)
    context = _context(tmp_path, model, engine.descend(liquid)[0])
    settings = {"strain_max": 0.1, "increment": 0.01, "to_next_event": True, "frames": [0.05]}
    stage = ShearStage.model_validate(settings | {"detector": {"kind": "threshold", "q_c": 1e9}})
    with pytest.raises(InputError, match="expected at least twice the cut-off") as caught:
        stage.run(context)
    assert "failed/shear.gsd" in caught.value.__notes__[0]
    assert sorted(path.name for path in (tmp_path / "failed").iterdir()) == sorted(Path(name).name for name in REMAINS)
    assert not any(context.path(product).exists() for product in stage.products())
    frame = gsdio.read_glass(context.path(REMAINS[0]))
    steps = pl.read_parquet(context.path(REMAINS[1]))
    assert steps.height > 10
    assert frame.glass.strain == steps["strain"][-1] > 0.15
    assert frame.log["energy"] == steps["energy"][-1]
    assert engine.measure(frame.glass).max_force < 2e-10
    assert pl.read_parquet(context.path(REMAINS[2])).height == 0
    # Overcome, there is nothing left of it.
    stage.model_copy(update={"to_next_event": False}).run(context)
    assert not any(context.path(name).exists() for name in REMAINS)
    # A path that goes as far by itself is refused before it begins.
    far = ShearStage.model_validate({"path": [0.0, 0.1, -0.3], "increment": 0.01})
    with pytest.raises(InputError, match=r"from strain -0\.3 to 0\.1 the tilt of the box reaches 0\.3"):
        far.run(context)


def test_a_failure_is_recorded_beside_the_state(tmp_path: Path) -> None:
    """The last stage fails on a glass that somebody has put in place of the quenched one."""
    workspace = Workspace.create(build_protocol(TestShearStage.protocol), tmp_path)
    job = workspace.realisations[0]
    assert run_realisation(tmp_path, job.id).failure is None
    context = json.loads((job.directory / "signac_statepoint.json").read_text())
    assert context["n_particles"] == 100
    frame = gsdio.read_glass(job.directory / "quenched.gsd")
    seen = CPUEngineSettings().build(GlassModel()).measure(frame.glass)
    gsdio.write_glasses(job.directory / "quenched.gsd", [(frame.glass.sheared(1e-3), seen)], PROVENANCE)
    for product in ("steps.parquet", "events.parquet", "sheared.gsd"):
        (job.directory / product).unlink()
    failure = run_realisation(tmp_path, job.id).failure
    assert failure is not None
    assert failure.error == "InputError"
    assert json.loads((job.directory / "failed" / "shear.json").read_text())["message"] == failure.message
    assert "Relax it first" in failure.message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"increment": 0.06}, "increment = 0.06 is larger than strain_max = 0.05"),
        ({"frames": [0.01, 0.06]}, r"frames \[0.06\] lie off strain_max = 0.05"),
        ({"frames": [0.0]}, r"frames \[0.0\] lie off strain_max = 0.05"),
        ({"detector": None, "max_events": 1}, "need a detector"),
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
        {"strain_max": None},
        {"frames": [float("nan")]},
        {"plane": "xx"},
        {"plane": "-xy"},
        {"after_event": "newton"},
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


@pytest.mark.parametrize("detector", ["threshold", {"kind": "fold", "overlaps": []}])
def test_trials_hold_the_steps_that_stand_and_those_that_were_rewound(
    detector: Any, tmp_path: Path, model: GlassModel, small_glass: Glass
) -> None:
    # The steps that stand begin where the last one ended; what was tried in between and given up is in the trials alone.
    stage = ShearStage.model_validate({"strain_max": 0.06, "increment": 1e-3, "detector": detector})
    context = _context(tmp_path / "first", model, small_glass)
    stage.run(context)
    trials, steps = (pl.read_parquet(context.path(f"{name}.parquet")) for name in ("trials", "steps"))
    events = pl.read_parquet(context.path("events.parquet"))
    assert events.height > 0
    tried = set(zip(trials["strain_before"], trials["strain_after"], strict=True))
    stand = set(zip(steps["strain"][:-1], steps["strain"][1:], strict=True))
    assert stand <= tried
    assert len(tried) > len(stand)
    around = trials.filter((pl.col("strain_before") < events["strain_c"][0]) & (pl.col("strain_after") > events["strain_c"][0]))
    assert around["left_basin"].any()
    assert around.height >= (1 if isinstance(detector, dict) else 3)  # threshold comes back to it with each finer increment


def test_trials_are_written_for_the_first_realisation_only(tmp_path: Path, model: GlassModel, small_glass: Glass) -> None:
    stage = ShearStage.model_validate({"strain_max": 0.002, "increment": 1e-3})
    second = _context(tmp_path / "second", model, small_glass)
    second = replace(second, statepoint={**second.statepoint, "realisation": 1})
    stage.run(second)
    assert not second.path("trials.parquet").exists()
    assert second.path("events.parquet").exists()


def test_readme_protocol_is_valid() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)
    head = {"name": "readme", "seed": 1, "ensemble": {"n_particles": [500], "preparations": ["rapid"], "realisations": 1}}
    shear = build_protocol(head | YAML(typ="safe").load(text)).stages[1]
    assert isinstance(shear, ShearStage)
    assert shear.frames == (0.02, 0.05)


@pytest.mark.parametrize("settings", [{"strain_max": 1e300}, {"strain_max": 20}, {"path": [0, 0.1, -50]}])
def test_strains_are_no_percentages(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"expected at most 10\. Strain is no percentage: 0\.1 is 10 %"):
        ShearStage.model_validate(settings)
