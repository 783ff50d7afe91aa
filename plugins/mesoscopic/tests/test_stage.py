from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qlm_hoomd")
import polars as pl
from qlm_mesoscopic import theory
from qlm_mesoscopic.section import _pool, mesoscopic
from qlm_mesoscopic.stage import MODES, SPECTRA, STEADY, MesoscopicStage

from qlm_hoomd.base.interrupt import Interrupted
from qlm_hoomd.checkpoint import Checkpoint
from qlm_hoomd.ensemble.runner import run_realisation
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.errors import ProtocolError
from qlm_hoomd.files import read_table
from qlm_hoomd.planning import benchmark
from qlm_hoomd.protocol import build_protocol, load_protocol
from qlm_hoomd.report.results import Results
from qlm_hoomd.stages import StageContext
from qlm_hoomd.testing import ReportSectionConformance, StageConformance
from qlm_hoomd.testing.checkpoints import StoppingCheckpoint

TEMPLATE = Path(__file__).parents[3] / "protocols" / "mesoscopic.yaml"
SMALL: dict[str, Any] = {
    "kind": "mesoscopic",
    "amplitudes": [0.05, 0.15],
    "activity": 1.0,
    "skip": 0.5,
    "loading_amplitude": 0.15,
    "loading_strain": 0.5,
    "mode_amplitudes": [0.1],
    "mode_activity": 0.2,
    "witnesses": 6400,
}


def protocol(**changes: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "seed": 3,
        "ensemble": {"n_particles": [1000], "preparations": ["rapid", "slow"], "realisations": 1},
        "stages": [SMALL | changes],
    }


class TestStage(StageConformance):
    protocol = protocol()


class TestSection(ReportSectionConformance):
    name = "mesoscopic"
    stages = (SMALL,)

    @pytest.fixture(autouse=True)
    def _finished(self, finished: Path) -> None:
        type(self).directory = finished


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    workspace = Workspace.create(build_protocol(protocol()), directory)
    for realisation in workspace.realisations:
        assert run_realisation(directory, realisation.directory.name).failure is None
    return directory


def test_tables_of_all_systems_are_in_the_results(finished: Path) -> None:
    results = Results.load(finished)
    for name in (STEADY, SPECTRA):
        gathered = pl.read_parquet(finished / "results" / name)
        assert gathered.equals(results.tables[name.removesuffix(".parquet")])
        own = [read_table(realisation.directory / name) for realisation in results.realisations]
        assert gathered.drop("preparation", "n_particles", "realisation").equals(pl.concat(own))


def test_the_section_of_a_run_has_all_figures(finished: Path) -> None:
    section = mesoscopic(Results.load(finished))
    assert section is not None
    drawn = [figure.name.removeprefix("mesoscopic_") for figure in section.figures]
    assert drawn == ["flow", "theta", "loading", "alpha", "plane", "spectrum"]
    assert "0.05" in section.tables
    # Master equation, sampled steady states and the formula stand in one figure.
    legend = section.figures[1].figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.texts][1:] == ["master equation", "sampled"]
    # Soft modes beside the limit, and the equation for modes.
    axes = section.figures[3].figure.axes[0]
    labels = [text.get_text() for text in axes.get_legend().texts]
    assert any(label.startswith("witnesses") for label in labels)
    assert "equation for modes" in labels


def test_witnesses_see_the_limit_of_alpha(finished: Path) -> None:
    results = Results.load(finished)
    for realisation in results.realisations:
        (row,) = read_table(realisation.directory / SPECTRA).iter_rows(named=True)
        theta = float(theory.theta_mean_field(row["noise_over_drift"], 1.0))
        assert row["soft_alpha"] == pytest.approx(float(theory.alpha(theta)), abs=0.15)
        assert 0.0 < row["soft_alpha_error"] < 0.15


@pytest.mark.parametrize("changes", [{"witnesses": 0}, {"mu": 1.5}, {"phi": [0.01, 0.6]}])
@pytest.mark.filterwarnings("ignore:P_0 lives on")
def test_where_there_are_no_witnesses_the_rest_is_as_before(tmp_path: Path, changes: dict[str, Any]) -> None:
    small = {"amplitudes": [0.05], "activity": 0.2, "skip": 0.1, "loading_strain": 0.1}
    workspace = Workspace.create(build_protocol(protocol(**small, **changes)), tmp_path)
    realisation = workspace.realisations[0]
    assert run_realisation(tmp_path, realisation.directory.name).failure is None
    (row,) = read_table(realisation.directory / SPECTRA).iter_rows(named=True)
    assert row["soft_alpha"] is None
    assert row["drift"] > 0.0
    assert mesoscopic(Results.load(tmp_path)) is not None


@pytest.mark.parametrize("mode_activity", [0.01, 0.5])
def test_a_system_as_small_as_that_of_a_dry_run_has_no_theta_and_does_not_fail(tmp_path: Path, mode_activity: float) -> None:
    """`qlm run --dry-run` of the shipped protocol begins with N = 100, of which 30 blocks are no tail of P(x)."""
    small = protocol(amplitudes=[0.3], mode_amplitudes=[0.46], mode_activity=mode_activity, witnesses=0)
    small["ensemble"] = {"n_particles": [100], "preparations": ["rapid"], "realisations": 1}
    workspace = Workspace.create(build_protocol(small), tmp_path)
    (realisation,) = workspace.realisations
    assert run_realisation(tmp_path, realisation.id).failure is None
    (row,) = read_table(realisation.directory / STEADY).iter_rows(named=True)
    assert (row["theta"], row["theta_error"]) == (None, None)
    assert row["failures"] >= 100
    assert 50 < read_table(realisation.directory / MODES).height <= 100


def test_long_avalanches_of_small_systems_are_no_runaways() -> None:
    """At A = 0.3 one steady state in 60 of 100 blocks has an avalanche of more than 10 failures per block, the model's own limit."""
    run = MesoscopicStage()._system(100, lambda: None, 0.3, seed=29).steady_state(3.5, skip=0.0)
    assert run.size_a.max() > 1000
    assert MesoscopicStage()._system(10_000, lambda: None, 0.3, seed=29).largest_avalanche == 10.0


def test_interrupted_anywhere_it_ends_in_the_same_bytes_and_keeps_finished_systems(tmp_path: Path) -> None:
    small = {"mode_amplitudes": [0.1], "activity": 0.3, "loading_strain": 0.1, "witnesses": 3200}
    settings = build_protocol(protocol(**small))
    (stage,) = settings.stages

    def attempt(directory: Path, stop_at: int) -> StoppingCheckpoint:
        directory.mkdir(exist_ok=True)
        checkpoint = StoppingCheckpoint(directory / ".mesoscopic.checkpoint", stop_at)
        context = StageContext(
            directory=directory,
            statepoint={"n_particles": 100, "preparation": "rapid", "realisation": 0, "seed": 1, "protocol_hash": "a" * 16},
            model=settings.model,
            preparation=settings.ensemble.preparations["rapid"],
            engine=settings.engine.build(settings.model),
            provenance={},
            progress=lambda _: None,
            checkpoint=checkpoint,
        )
        with suppress(Interrupted):
            stage.run(context)
        return checkpoint

    whole = attempt(tmp_path / "quiet", 0).passed
    steady = pl.read_parquet(tmp_path / "quiet" / STEADY)
    assert whole > steady["failures"].sum() >= 60
    for stop_at, finished in ((200, 1), (whole // 2, 2)):  # at the second steady state, and among the witnesses
        directory = tmp_path / str(stop_at)
        attempt(directory, stop_at)
        assert not list(directory.glob("*.parquet"))
        state = Checkpoint(directory / ".mesoscopic.checkpoint").load()
        assert len(state["steady"]) == finished
        # Only the system that was at work begins anew.
        assert attempt(directory, 0).passed < whole - steady["failures"][:finished].sum()
        for name in stage.products():
            assert (directory / name).read_bytes() == (tmp_path / "quiet" / name).read_bytes(), name


def test_a_run_that_is_told_to_end_by_sigterm_does_so(tmp_path: Path) -> None:
    """In the middle of a loading of years."""
    long = protocol(amplitudes=[0.05], skip=1e-3, activity=1e-3, loading_strain=1e9)
    long["ensemble"] |= {"preparations": ["rapid"]}
    (tmp_path / "p.yaml").write_text(json.dumps(long))
    command = [Path(sys.executable).with_name("qlm"), "run", tmp_path / "p.yaml", "--out", tmp_path / "run"]
    process = subprocess.Popen(
        [*command, "--checkpoint-interval", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 120.0
    while not (saved := list(tmp_path.glob("run/workspace/*/.mesoscopic.checkpoint"))):
        assert time.monotonic() < end, "waited in vain"
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("run/workspace/*/failed/*"))
    assert saved[0].is_file()


def test_products_hold_what_their_columns_say(finished: Path) -> None:
    paths = sorted((finished / "workspace").glob("*/mesoscopic_*.parquet"))
    assert len(paths) == 8
    tables = {path.stem: pl.read_parquet(path) for path in paths}
    assert tables["mesoscopic_steady"]["amplitude"].to_list() == [0.05, 0.15]
    ratio = tables["mesoscopic_steady"].select(pl.col("amplitude") / pl.col("drift")).to_series()
    assert ratio.to_list() == pytest.approx(tables["mesoscopic_steady"]["noise_over_drift"].to_list())
    loading = tables["mesoscopic_loading"]
    assert loading["strain"][-1] >= 0.5
    assert loading["activity"].is_sorted()
    modes = tables["mesoscopic_modes"]
    assert modes.select((pl.col("kappa") ** 2 - 2 * pl.col("lam") - pl.col("phi")).abs().max()).item() < 1e-6
    assert modes["lam"].min() >= 0
    assert modes["lam"].max() <= 1 + 1e-9


def test_slow_and_rapid_start_from_different_stresses(finished: Path) -> None:
    stress = {}
    for path in (finished / "workspace").glob("*/mesoscopic_loading.parquet"):
        point = (path.parent / "signac_statepoint.json").read_text()
        stress["slow" if '"slow"' in point else "rapid"] = pl.read_parquet(path)["stress"].max()
    assert stress["slow"] > stress["rapid"]


def test_pooling_weighs_with_the_errors() -> None:
    rows = pl.DataFrame(
        {
            "amplitude": [0.1, 0.1, 0.2],
            "noise_over_drift": [0.1, 0.1, 0.2],
            "theta": [0.0, 1.0, None],
            "theta_error": [0.1, 1e6, None],
        }
    )
    pooled = _pool(rows, "theta")
    assert pooled["amplitude"].to_list() == [0.1]
    assert pooled["theta"][0] == pytest.approx(0.0, abs=1e-9)
    assert pooled["systems"][0] == 2
    assert _pool(pl.DataFrame(), "theta").is_empty()


def test_the_shipped_protocol_is_valid_and_small_enough() -> None:
    shipped = load_protocol(Path(__file__).parents[3] / "protocols" / "mesoscopic.yaml")
    assert [stage.kind for stage in shipped.stages] == ["mesoscopic"]
    assert sum(1 for _ in shipped.statepoints()) <= 10


def test_the_section_is_left_out_of_other_runs(tmp_path: Path) -> None:
    other = protocol() | {"stages": [{"kind": "prepare"}]}
    Workspace.create(build_protocol(other), tmp_path)
    assert mesoscopic(Results.load(tmp_path)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amplitudes": [0.1, 0.4]}, "avalanches run away"),
        ({"amplitudes": [0.2, 0.1]}, "ascending order"),
        ({"amplitudes": [-0.1]}, "greater than 0"),
        ({"mu": 0.5}, "greater than or equal to 1"),
        ({"mu": 2.5}, "less than or equal to 2"),
        ({"phi": [0.6, -1.0]}, "expected finite low < high"),
        ({"phi": [-3.0, 0.6]}, "Raise lambda_min or cut P_0"),
        ({"mode_window": [0.1, 0.01]}, "the lower end first"),
        ({"witnesses": 10}, "10 witnesses; expected 0 or at least 3200"),
        ({"spread_rapid": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        build_protocol(protocol(**changes))


def test_odd_sizes_are_refused() -> None:
    wrong = protocol()
    wrong["ensemble"] = wrong["ensemble"] | {"n_particles": [1001]}
    with pytest.raises(ProtocolError, match="N even"):
        build_protocol(wrong)


def test_the_template_can_be_tried_on_a_small_system(tmp_path: Path) -> None:
    """As a dry run does: the smallest size, a small part of the work, every table in the end."""
    whole = load_protocol(TEMPLATE)
    took, all_of_it = benchmark._run(whole, "rapid", 100, 1.0, tmp_path)
    assert took > 0.0
    assert not all_of_it
    (run,) = tmp_path.iterdir()
    stage = whole.stages[0]
    short = Workspace.open(run).protocol.stages[0]
    preparation = whole.ensemble.preparations["rapid"]
    assert short.work(preparation) < 0.1 * stage.work(preparation)
    assert stage.shortened(2.0) is stage


def test_work_grows_with_all_that_is_asked_for() -> None:
    stage = MesoscopicStage()
    for change in (
        {"activity": 4.0},
        {"loading_strain": 2.0},
        {"mode_activity": 1.0},
        {"witnesses": 200_000},
        {"amplitudes": (0.1,) * 9},
    ):
        assert stage.model_copy(update=change).work(None) > stage.work(None), change  # type: ignore[arg-type]
    assert stage.shortened(0.3).work(None) > stage.shortened(0.1).work(None)  # type: ignore[arg-type]
