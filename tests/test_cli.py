"""The command line: exit codes, messages, and no traceback for anything that a user can type."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import qlm_hoomd
from qlm_hoomd.cli import app
from qlm_hoomd.ensemble.runner import run_realisation
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.registry import EXECUTORS
from qlm_hoomd.testing.tiny import TINY_STAGES, installed

PROTOCOL = """\
name: t
seed: 5
ensemble: {n_particles: [100], preparations: [rapid], realisations: 3}
stages:
  - kind: walk
    fail: FAIL
  - kind: tally
"""

HERE = """
from qlm_hoomd.ensemble.executor import Executor
from qlm_hoomd.ensemble.runner import run_realisation

class Here(Executor):
    def run(self, directory, ids, finished):
        for job_id in ids:
            finished(run_realisation(directory, job_id))

class Never(Executor):
    def run(self, directory, ids, finished): ...

class Impatient(Executor):
    def run(self, directory, ids, finished):
        raise KeyboardInterrupt
"""


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tiny stages, and executors that need no second process."""
    folder = tmp_path / "site"
    executors = {name.lower(): f"tiny_executors:{name}" for name in ("Here", "Never", "Impatient")}
    monkeypatch.chdir(tmp_path)
    with installed(folder, TINY_STAGES | {EXECUTORS.name: executors}):
        (folder / "tiny_executors.py").write_text(HERE)
        yield folder


def qlm(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def protocol_file(tmp_path: Path, fail: str = "[]") -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(PROTOCOL.replace("FAIL", fail))
    return path


def test_run_ends_in_a_report_and_running_again_changes_nothing(tmp_path: Path) -> None:
    path = protocol_file(tmp_path)
    result = qlm("run", path, "--executor", "here")
    assert result.exit_code == 0, result.output
    report = Path("runs/t/results/report.html")
    assert result.stdout == f"report: {report}\n"
    assert report.stat().st_size > 1000
    before = {path: path.read_bytes() for path in Path("runs/t/workspace").glob("*/*")}
    result = qlm("run", path, "--executor", "here")
    assert result.exit_code == 0
    assert result.stderr == f"3 realisations in {Path('runs/t')}, all of them done already\n"
    assert {path: path.read_bytes() for path in Path("runs/t/workspace").glob("*/*")} == before


def test_failed_realisations_are_named_and_the_rest_is_reported(tmp_path: Path) -> None:
    result = qlm("run", protocol_file(tmp_path, "[1]"), "--out", "x", "--executor", "here")
    assert result.exit_code == 1
    assert result.stdout == f"report: {Path('x/results/report.html')}\n"
    assert (
        "qlm: 1 of 3 realisations failed; the same command tries them again. By reason, with an example each:" in result.stderr
    )
    assert "  1 x N=100 rapid #1, stage walk: ConvergenceError: realisation 1 does not converge" in result.stderr
    record = result.stderr.rpartition("(")[2].partition(")")[0]
    assert json.loads(Path(record).read_text())["stage"] == "walk"


def test_without_any_finished_realisation_there_is_no_report(tmp_path: Path) -> None:
    result = qlm("run", protocol_file(tmp_path, "[0, 1, 2]"), "--out", "x", "--executor", "here")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert not Path("x/results").exists()


def test_executor_that_works_elsewhere_leaves_realisations_pending(tmp_path: Path) -> None:
    result = qlm("run", protocol_file(tmp_path), "--out", "x", "--executor", "never")
    assert result.exit_code == 0
    assert "3 of 3 realisations are not done yet: see `qlm status x`." in result.stdout


def test_failures_are_grouped_by_reason_with_an_example_each(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    failing = PROTOCOL.replace("realisations: 3", "realisations: 30").replace("FAIL", str(list(range(2, 30))))
    path.write_text(failing.replace("  - kind: tally", "    forget: [0, 1]\n  - kind: tally"))
    result = qlm("run", path, "--out", "x", "--executor", "here")
    assert result.stderr.count("failed: N=100") == 2  # while it runs, too, each reason is told once
    assert "30 of 30 realisations failed" in result.stderr
    first, second = result.stderr.splitlines()[-2:]
    assert first.startswith("  28 x N=100 rapid #2, stage walk: ConvergenceError: realisation 2 does not converge")
    assert second.startswith("  2 x N=100 rapid #0, stage walk: PluginError: stage 'walk' ended without writing")
    assert qlm("status", "x").stderr.splitlines()[-2:] == [first, second]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "qlm: nowhere.yaml: cannot be read (No such file or directory); expected a YAML protocol file."),
        (["run", "p.yaml", "--executor", "slarm"], "qlm: unknown executor 'slarm'; installed: here, impatient, local, never, row, slurm."),
        (["run", "p.yaml", "--slurm", "time=3"], "qlm: settings time=3; expected none, as LocalExecutor has no settings."),
        (["work", "site", "--ids", "1,2"], "qlm: site holds no readable protocol.json"),
        (["verify", "site"], "qlm: site holds no readable protocol.json"),
        (["export", "site"], "qlm: site holds no readable protocol.json"),
        (["import", "p.yaml", "y"], "qlm: p.yaml is no whole ZIP file (BadZipFile); expected an archive of `qlm export`."),
        (["run", "p.yaml", "--out", "p.yaml"], "qlm: p.yaml cannot be written to"),
        (["run", "bad.yaml"], "qlm: bad.yaml, line 5: stages[0].kind: unknown stage 'wolk'"),
        (["run", "p.yaml", "--workers", "0"], "Invalid value for '--workers'"),
        (["run"], "Missing argument 'PROTOCOL'"),
        (["status", "site"], "qlm: site holds no readable protocol.json; expected a folder that `qlm run` made."),
        (["report", "site"], "qlm: site holds no protocol.json"),
        (["modes", "nowhere.gsd"], "qlm: nowhere.gsd"),
        (["modes", "p.yaml"], "qlm: p.yaml: not a readable GSD file"),
        (["modes", "p.yaml", "--potential", "bad.yaml"], "qlm: bad.yaml, line 5"),
        (["dance"], "No such command 'dance'"),
    ],
)  # fmt: skip
def test_bad_input_exits_with_2_and_one_message(tmp_path: Path, arguments: list[str], message: str) -> None:
    protocol_file(tmp_path)
    (tmp_path / "bad.yaml").write_text(PROTOCOL.replace("kind: walk", "kind: wolk").replace("FAIL", "[]"))
    result = qlm(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    if message.startswith("qlm:"):
        assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr


def test_interruption_exits_with_130_and_one_line(tmp_path: Path) -> None:
    result = qlm("run", protocol_file(tmp_path), "--out", "x", "--executor", "impatient")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[1:] == [
        "qlm: interrupted. What is finished is kept; the same command goes on from there."
    ]


def test_status_counts_by_stage(tmp_path: Path) -> None:
    path = protocol_file(tmp_path, "[1]")
    qlm("run", path, "--out", "x", "--executor", "here")
    workspace = Workspace.open(Path("x"))
    (workspace.realisations[0].directory / "tally.json").unlink()
    for realisation in workspace.realisations:
        for stage, seconds in zip(workspace.protocol.stages, (20.0, 180.0), strict=True):
            realisation.record_cost(stage, seconds, seconds)
    workspace.running_directory.mkdir(exist_ok=True)
    (workspace.running_directory / workspace.realisations[0].id).write_text("N=100 rapid #0 tally: started (process 7)\n")
    claim = workspace.claims.take(workspace.realisations[0].id)
    assert claim is not None
    with claim:
        result = qlm("status", "x")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"t in x (protocol {workspace.protocol.hash})",
        "N    preparation  walk                          tally                           core time left",
        "100  rapid        2 done (20 s each), 1 failed  1 done (3 min each), 2 pending  6 min",
        "at work: N=100 rapid #0 tally: started (process 7)",
    ]
    assert "1 of 3 realisations failed" in result.stderr


def test_plugins_lists_broken_ones_too(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    with installed(folder, {"qlm_hoomd.stages": {"ruin": "no_such_module:Stage"}}, name="qlm_ruin"):
        lines = qlm("plugins").stdout.splitlines()
    assert lines[0].split() == ["group", "name", "object", "distribution", "state"]
    assert any(line.split()[:3] == ["qlm_hoomd.stages", "walk", "qlm_hoomd.testing.tiny:WalkStage"] for line in lines)
    (broken,) = [line for line in lines if "ruin" in line]
    assert "qlm_ruin 1.0" in broken
    assert "cannot be loaded: ModuleNotFoundError" in broken
    engines = {line.split()[1]: line.split()[-1] for line in lines if line.startswith("qlm_hoomd.engines")}
    assert engines == {"cpu": "ok", "hoomd": "ok"}


def test_schema_is_json() -> None:
    assert "WalkStage" in json.loads(qlm("schema").stdout)["$defs"]


def test_doctor_says_which_engine_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    with installed(folder, {"qlm_hoomd.engines": {"ruin": "no_such_module:Engine"}}, name="qlm_ruin"):
        result = qlm("doctor")
    assert result.exit_code == 0
    assert "ok   engine cpu: works; used unless the protocol says otherwise" in result.stdout
    assert "note engine ruin: plugin 'ruin'" in result.stdout
    assert f"qlm_hoomd {qlm_hoomd.__version__}" in result.stdout
    assert "HOOMD-blue: " in result.stdout
    assert "kernel cache: " in result.stdout


def test_version() -> None:
    result = qlm("--version")
    assert (result.exit_code, result.stdout) == (0, f"qlm_hoomd {qlm_hoomd.__version__}\n")


def test_modes_of_a_glass(tmp_path: Path) -> None:
    protocol = build_protocol(
        {
            "name": "glass",
            "seed": 1,
            "ensemble": {
                "n_particles": [100],
                "preparations": {"quick": {"quench": "rapid", "equilibration_time": 1.0}},
                "realisations": 1,
            },
            "stages": [{"kind": "prepare"}],
        }
    )
    workspace = Workspace.create(protocol, tmp_path / "run")
    (realisation,) = workspace.realisations
    assert run_realisation(tmp_path / "run", realisation.id).failure is None
    result = qlm("modes", realisation.directory / "quenched.gsd", "-k", 4, "--frames", 0, "--out", "modes", "--view", 1)
    assert result.exit_code == 0, result.output
    assert result.stderr == "frame 0: at rest\n"
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["frame", "strain", "relaxation"]
    assert lines[2].split()[:3] == ["index", "eigenvalue", "frequency"]
    assert len(lines) == 2 + 5 + 5
    files = {"modes.parquet", "moduli.parquet", "modes.gsd", "mode-1.png", "mode-1.html"}
    assert {path.name for path in Path("modes").iterdir()} == files
    assert {line.removeprefix("wrote modes/") for line in lines[-5:]} == files
    assert qlm("modes", realisation.directory / "quenched.gsd", "--frames", 9).exit_code == 2


def test_help_does_not_load_numerical_libraries() -> None:
    code = (
        "import sys; import qlm_hoomd.cli; print(sorted({'numpy', 'numba', 'polars', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
