"""The command line: exit codes, messages, and no traceback for anything that a user can type."""

from __future__ import annotations

import json
import os
import re
import shutil
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
        (["modes", "p.yaml"], "qlm: p.yaml: of no format that is known here"),
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


def test_interrupted_dry_run_promises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qlm_hoomd.planning.forecast.make_forecast", stop)
    result = qlm("run", protocol_file(tmp_path), "--out", "x", "--dry-run")
    assert (result.exit_code, result.stderr) == (130, "qlm: interrupted.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    program = Path(sys.executable).with_name("qlm")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([program, "plugins"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("qlm: the output cannot be written (No space left on device); ")
    assert len(done.stderr.splitlines()) == 1


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
    assert result.stderr.splitlines()[1:] == ["frame 0: at rest"]
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["frame", "strain", "relaxation"]
    assert lines[2].split()[:3] == ["index", "omega", "e"]
    assert len(lines) == 2 + 5 + 5
    files = {"modes.parquet", "moduli.parquet", "modes.gsd", "mode-1.png", "mode-1.html"}
    assert {path.name for path in Path("modes").iterdir()} == files
    assert {line.removeprefix("wrote modes/") for line in lines[-5:]} == files
    assert qlm("modes", realisation.directory / "quenched.gsd", "--frames", 9).exit_code == 2


HEAVY = ("freud", "gsd", "matplotlib", "numba", "numpy", "polars", "pydantic", "ruamel", "scipy", "signac", "vesin")


@pytest.mark.parametrize(
    "code",
    [
        "import qlm_hoomd",
        "import qlm_hoomd.cli",
        "from qlm_hoomd.cli import app; app(['--version'], standalone_mode=False)",
        "from qlm_hoomd.cli import app; app(['--help'], standalone_mode=False)",
        "from qlm_hoomd.cli import app; app(['run', '--help'], standalone_mode=False)",
    ],
)
def test_what_must_be_quick_loads_no_numerical_libraries(code: str) -> None:
    program = f"import sys; {code}; print('loaded:', sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # Typer asks pydantic about the arguments of a command.
    assert done.stdout.splitlines()[-1].replace("'pydantic'", "" if "'run'" in code else "'pydantic'") == "loaded: []"


def test_help_leads_through_the_first_steps_with_an_example_for_each_command() -> None:
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", qlm("--help").stdout).split())
    steps = ["qlm doctor", "qlm new quickstart", "qlm run quickstart.yaml --dry-run", "qlm run quickstart.yaml", "qlm status"]
    places = [text.index(f"$ {step} ") for step in steps]
    assert places == sorted(places)
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    headings = [
        "Make glasses and analyse them",
        "Analyse what you have",
        "Plan, keep and share a run",
        "About this installation",
    ]
    listed = text[text.index(headings[0]) :]
    assert all(heading in listed for heading in headings)
    for name in names:
        assert f"$ qlm {name}" in listed
        assert f"$ qlm {name}" in qlm(name, "--help").stdout


def test_examples_of_the_help_are_accepted() -> None:
    """As far as the command line goes: every option and argument of them exists."""
    examples = {
        line for command in app.registered_commands for line in (command.help or "").splitlines() if line.startswith("$ qlm ")
    }
    assert len(examples) == len(app.registered_commands)
    for example in examples:
        arguments = example.removeprefix("$ qlm ").partition(" > ")[0].split()
        result = qlm(*arguments)
        assert "Usage:" not in result.stderr, f"{example}: {result.stderr}"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["stauts", "x"], "Did you mean 'status'?"),
        (["run", "p.yaml", "--exectuor", "local"], "--executor"),
        (["run", "p.yaml", "--executor", "loacl"], "Did you mean 'local'?"),
        (["run", "key.yaml"], "Did you mean 'realisations'?"),
        (["run", "stage.yaml"], "Did you mean 'walk'?"),
        (["modes", "p.yaml", "--potential", "kob_anderson"], "Did you mean 'kob_andersen'?"),
        (["new", "quikstart"], "Did you mean 'quickstart'?"),
    ],
)
def test_a_slip_of_the_finger_is_answered_by_the_nearest_name(tmp_path: Path, arguments: list[str], hint: str) -> None:
    text = protocol_file(tmp_path).read_text()
    (tmp_path / "key.yaml").write_text(text.replace("realisations:", "realizations:"))
    (tmp_path / "stage.yaml").write_text(text.replace("kind: walk", "kind: wakl"))
    result = qlm(*arguments)
    assert result.exit_code == 2
    assert hint in " ".join(result.stderr.split())
    assert result.stderr.count("Did you mean") <= 1
    assert "?." not in result.stderr


def test_new_lists_templates_or_writes_one() -> None:
    result = qlm("new")
    assert result.exit_code == 0
    assert {line.split()[0] for line in result.stdout.splitlines()} >= {"template", "quickstart", "frames", "mesoscopic"}
    result = qlm("new", "quickstart", "--out", "mine.yaml")
    assert result.exit_code == 0
    assert result.stdout.startswith("wrote mine.yaml; `qlm run mine.yaml --dry-run`")
    before = Path("mine.yaml").read_bytes()
    result = qlm("new", "quickstart", "--out", "mine.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert Path("mine.yaml").read_bytes() == before
    assert qlm("new", "--out", "other.yaml").exit_code == 2
    assert not Path("other.yaml").exists()


def test_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qlm_hoomd.planning.benchmark.LIMIT_S", 300.0)  # the machine may be busy
    monkeypatch.setattr("qlm_hoomd.planning.benchmark._SHARE", 0.001)
    path = protocol_file(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = qlm("run", path, "--dry-run", "--workers", 3)
    assert result.exit_code == 0, result.output
    assert sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts) == before
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"t: 3 realisations in {Path('runs/t')} (a new folder)")
    header, row = (line.split("  ") for line in lines[2:4])
    assert [cell.strip() for cell in header if cell][:6] == ["N", "preparation", "realisations", "done", "walk", "tally"]
    assert [cell.strip() for cell in row if cell][:6] == ["100", "rapid", "3", "0", "3", "3"]
    assert re.search(r"To do: 3 realisations; .* of core time .* with 3 workers, .* of disk \(.* free\)\.", result.stdout)
    assert "Nothing was run in the folder" in result.stdout
    assert "benchmark of rapid" in result.stderr
    qlm("run", path, "--executor", "here")
    assert "Everything is done" in qlm("run", path, "--dry-run").stdout


def test_json_of_status(tmp_path: Path) -> None:
    qlm("run", protocol_file(tmp_path, "[1]"), "--out", "x", "--executor", "here")
    result = qlm("status", "x", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    state = json.loads(result.stdout)
    assert set(state) == {
        "name", "directory", "protocol_hash", "imported", "missing", "n_realisations", "groups", "at_work", "scheduler", "failures",
    }  # fmt: skip
    assert (state["name"], state["directory"], state["n_realisations"], state["imported"]) == ("t", "x", 3, False)
    (group,) = state["groups"]
    assert set(group) == {"n_particles", "preparation", "stages", "core_seconds_left"}
    assert list(group["stages"]) == ["walk", "tally"]
    walk = group["stages"]["walk"]
    assert {key: walk[key] for key in ("done", "failed", "pending")} == {"done": 2, "failed": 1, "pending": 0}
    assert walk["core_seconds_each"] >= 0.0
    (failure,) = state["failures"]
    assert set(failure) == {
        "number", "n_particles", "preparation", "realisation", "stage", "error", "message", "record",
    }  # fmt: skip
    assert (failure["number"], failure["realisation"], failure["stage"]) == (1, 1, "walk")
    assert Path(failure["record"]).is_file()


def test_json_of_plugins(tmp_path: Path) -> None:
    with installed(tmp_path / "broken", {"qlm_hoomd.stages": {"ruin": "no_such_module:Stage"}}, name="qlm_ruin"):
        result = qlm("plugins", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = json.loads(result.stdout)
    assert all(set(row) == {"group", "name", "object", "distribution", "state", "error"} for row in rows)
    states = {(row["group"], row["name"]): row["state"] for row in rows}
    assert states["qlm_hoomd.engines", "cpu"] == "ok"
    assert states["qlm_hoomd.stages", "ruin"] == "broken"
    assert {row["error"] is None for row in rows if row["state"] == "ok"} == {True}


def test_json_of_doctor() -> None:
    result = qlm("doctor", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert set(found) == {"version", "well", "findings"}
    assert found["version"] == qlm_hoomd.__version__
    assert all(set(finding) == {"subject", "well", "fact"} for finding in found["findings"])
    assert found["well"] == all(finding["well"] for finding in found["findings"])
    assert "engine cpu" in {finding["subject"] for finding in found["findings"]}


def test_json_after_an_error_is_still_only_on_standard_error() -> None:
    result = qlm("status", "nowhere", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "qlm: nowhere holds no readable protocol.json" in result.stderr


def program() -> str:
    found = shutil.which("qlm", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    assert found is not None, "the command qlm is not installed"
    return found


def without_wishes() -> dict[str, str]:
    """The environment, but for variables that ask for colours or refuse them."""
    wishes = {"NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"}
    return {key: value for key, value in os.environ.items() if key not in wishes}


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What the command prints on a terminal."""
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    with subprocess.Popen(
        [program(), *arguments],
        stdout=slave,
        stderr=slave,
        stdin=slave,
        env=without_wishes() | {"TERM": "xterm-256color"} | environment,
    ) as process:
        os.close(slave)
        chunks = []
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # Linux's way of saying that the other end is closed
                break
            if not chunk:
                break
            chunks.append(chunk)
        process.wait(timeout=60)
    os.close(master)
    return b"".join(chunks).decode()


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)(?:;\d+)*m")


@pytest.mark.parametrize("arguments", [["--help"], ["status", "nowhere"], ["stauts"]], ids=["help", "error", "usage"])
def test_colours_are_for_terminals_that_want_them(arguments: list[str]) -> None:
    assert COLOUR.search(on_a_terminal(*arguments))
    assert not COLOUR.search(on_a_terminal(*arguments, NO_COLOR="1"))
    piped = subprocess.run([program(), *arguments], capture_output=True, text=True, check=False, env=without_wishes())
    assert "\x1b" not in piped.stdout + piped.stderr


BASH = """
eval "$(_QLM_COMPLETE=source_bash qlm)"
complete -p qlm | grep -q -- '-F _qlm_completion' || exit 1
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _qlm_completion qlm; echo "${COMPREPLY[*]}"; }
ask qlm st
ask qlm new paper_s
ask qlm run p.yaml --dry
ask qlm run p.yaml --executor l
ask qlm modes f.gsd --potential h
ask qlm run ""
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_options_and_names() -> None:
    path = f"{Path(program()).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH], capture_output=True, text=True, check=True, env=os.environ | {"PATH": path}
    )
    assert done.stdout.split("\n") == [
        "status", "paper_slow paper_slow_small", "--dry-run", "local", "harmonic hertzian", "", "",
    ]  # fmt: skip


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_commands_and_names() -> None:
    path = f"{Path(program()).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    script = 'env _QLM_COMPLETE=source_fish qlm | source; complete -C "qlm sta"; complete -C "qlm new paper_s"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True, env=os.environ | {"PATH": path}
    )
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == {"status", "paper_slow", "paper_slow_small"}


@pytest.mark.parametrize(("shell", "start"), [("zsh", "#compdef qlm"), ("fish", "complete --command qlm")])
def test_completion_of_other_shells_is_written(shell: str, start: str) -> None:
    done = subprocess.run(
        [program()], capture_output=True, text=True, check=False, env=os.environ | {"_QLM_COMPLETE": f"source_{shell}"}
    )
    assert done.stdout.strip().startswith(start)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_completion_is_installed_into_the_shell_s_own_file(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        ["bash", "--norc", "-c", f"'{program()}' --install-completion; true"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert "completion installed" in done.stdout, done.stderr
    assert "_qlm_completion" in next((tmp_path / "home/.bash_completions").iterdir()).read_text()
    assert "source" in (tmp_path / "home/.bashrc").read_text()
