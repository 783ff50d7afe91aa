"""Running ensembles: what is on disk afterwards, whatever happened on the way."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from qlm_hoomd.base import processes
from qlm_hoomd.ensemble import local
from qlm_hoomd.ensemble.integrity import CHECKSUMS
from qlm_hoomd.ensemble.local import LocalExecutor
from qlm_hoomd.ensemble.realisation import COSTS, Realisation
from qlm_hoomd.ensemble.runner import Outcome, run_protocol, run_realisation
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.errors import InputError, QlmError
from qlm_hoomd.protocol import Ensemble, Preparation, Protocol, build_protocol
from qlm_hoomd.testing.tiny import HereExecutor, installed

# Starting a worker costs seconds of imports: tests that need none run realisations in this process.
QLM = Path(sys.executable).with_name("qlm")


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path) -> Any:
    with installed(tmp_path / "site") as folder:
        yield folder


def make_protocol(*, sizes: Any = (100,), realisations: Any = 3, preparations: Any = ("rapid",), **walk: Any) -> Protocol:
    return build_protocol(
        {
            "name": "t",
            "seed": 5,
            "ensemble": {"n_particles": list(sizes), "preparations": list(preparations), "realisations": realisations},
            "stages": [{"kind": "walk", **walk}, {"kind": "tally"}],
        }
    )


def products(workspace: Workspace) -> dict[str, bytes]:
    return {
        f"{realisation.id}/{path.name}": path.read_bytes()
        for realisation in workspace.realisations
        for path in sorted(realisation.directory.iterdir())
        if path.is_file() and path.name != COSTS  # which differs from run to run
    }


def undisturbed(protocol: Protocol, directory: Path) -> dict[str, bytes]:
    return products(run_protocol(protocol, directory, HereExecutor()))


def states(workspace: Workspace) -> list[str]:
    return [realisation.state(workspace.protocol) for realisation in workspace.realisations]


def wait_for(condition: Any, seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


# ---- one process ----


def test_products_layout_and_provenance(tmp_path: Path) -> None:
    protocol = make_protocol(sizes=(100, 120), realisations={100: 2, 120: 1}, preparations=("rapid", "slow"))
    workspace = run_protocol(protocol, tmp_path / "run", HereExecutor())
    assert states(workspace) == ["done"] * 6
    assert len(list((tmp_path / "run" / "workspace").iterdir())) == 6
    for realisation in workspace.realisations:
        names = {path.name for path in realisation.directory.iterdir()}
        assert names == {"signac_statepoint.json", "walk.parquet", "tally.json", COSTS, CHECKSUMS}
        assert json.loads((realisation.directory / "signac_statepoint.json").read_text()) == realisation.statepoint
        carried = json.loads(pl.read_parquet_metadata(realisation.directory / "walk.parquet")["qlm_hoomd"])
        assert carried["protocol_hash"] == protocol.hash
        assert carried["engine"]["kind"] == "cpu"
        assert "numpy" in carried["versions"]
    tables = [pl.read_parquet(realisation.directory / "walk.parquet") for realisation in workspace.realisations]
    assert all(not one.equals(other) for at, one in enumerate(tables) for other in tables[:at])


def test_stored_protocol_reads_back(tmp_path: Path) -> None:
    protocol = make_protocol()
    run_protocol(protocol, tmp_path / "run", HereExecutor())
    opened = Workspace.open(tmp_path / "run")
    assert opened.protocol == protocol
    assert states(opened) == ["done"] * 3


def test_largest_systems_first_and_none_twice(tmp_path: Path) -> None:
    asked: list[str] = []

    class Recorder(HereExecutor):
        def run(self, directory: Path, ids: Any, finished: Any) -> None:
            asked.extend(ids)
            super().run(directory, ids, finished)

    protocol = make_protocol(sizes=(100, 300, 200), realisations=2)
    workspace = run_protocol(protocol, tmp_path / "run", Recorder())
    size = {realisation.id: realisation.n_particles for realisation in workspace.realisations}
    assert [size[job_id] for job_id in asked] == [300, 300, 200, 200, 100, 100]
    before = products(workspace)
    asked.clear()
    assert products(run_protocol(protocol, tmp_path / "run", Recorder())) == before
    assert not asked


def test_more_realisations_later_leave_the_first_untouched(tmp_path: Path) -> None:
    before = undisturbed(make_protocol(realisations=2), tmp_path / "run")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "workspace").glob("*/*")}
    after = undisturbed(make_protocol(realisations=4, sizes=(100, 150)), tmp_path / "run")
    assert len(after) == 4 * len(before)
    assert before.items() <= after.items()
    assert all(path.stat().st_mtime_ns == at for path, at in times.items())


def test_two_protocols_share_a_folder_on_demand_and_the_last_is_shown(tmp_path: Path) -> None:
    first = run_protocol(make_protocol(steps=3), tmp_path / "run", HereExecutor())
    before = products(first)
    with pytest.raises(InputError, match=r"other physics: stages\.walk\.steps was 3 and is 4\. .*--alongside"):
        run_protocol(make_protocol(steps=4), tmp_path / "run", HereExecutor())
    assert Workspace.open(tmp_path / "run").protocol == first.protocol
    assert len(list((tmp_path / "run" / "workspace").iterdir())) == 3
    second = run_protocol(make_protocol(steps=4), tmp_path / "run", HereExecutor(), alongside=True)
    assert Workspace.open(tmp_path / "run").protocol == second.protocol
    assert len(list((tmp_path / "run" / "workspace").iterdir())) == 6
    assert states(first) == states(second) == ["done"] * 3
    assert products(first) == before
    with pytest.raises(InputError, match=f"belongs to protocol {first.protocol.hash}; expected {second.protocol.hash}"):
        run_realisation(tmp_path / "run", first.realisations[0].id)


# What a change of a key does in a folder that holds glasses already: it grows, is refused, or is free as it changes none.
# (key, the change, what comes of it); every key of a protocol stands here.
CHANGES: list[tuple[str, dict[str, Any], str]] = [
    ("name", {"name": "other"}, "free"),
    ("seed", {"seed": 6}, "seed was 5 and is 6"),
    ("model", {"model": {"T0": 0.9}}, r"other physics: model\.T0 was 1\.0 and is 0\.9"),
    ("engine", {"engine": {"kind": "cpu", "dt": 0.004}}, r"other physics: engine\.dt was 0\.005 and is 0\.004"),
    ("stages", {"stages": [{"kind": "walk", "steps": 5}, {"kind": "tally"}]}, r"other physics: stages\.walk\.steps"),
    ("analysis", {"analysis": {"confidence": 0.9}}, "free"),
    ("ensemble.n_particles", {"n_particles": [100, 120, 150]}, "grows"),
    ("ensemble.n_particles", {"n_particles": [100]}, r"holds 2 realisations that .*: ensemble\.n_particles was \[100, 120\] and"),
    ("ensemble.realisations", {"realisations": 3}, "grows"),
    ("ensemble.realisations", {"realisations": 1}, r"holds 2 realisations that .*: ensemble\.realisations was 2 and is 1"),
    ("ensemble.preparations", {"preparations": {"rapid": {"quench": "rapid"}, "slow": {"quench": "slow"}}}, "grows"),
    ("ensemble.preparations", {"preparations": {"quick": {"quench": "rapid"}}}, r"ensemble\.preparations\.rapid is gone; .*quick is new"),
    ("ensemble.preparations.quench", {"preparations": {"rapid": {"quench": "slow"}}}, r"rapid\.quench was \"rapid\" and is \"slow\""),
    *(
        (f"ensemble.preparations.{key}", {"preparations": {"rapid": {"quench": "rapid", key: 0.5}}}, rf"rapid\.{key} was .* and is 0\.5")
        for key in ("equilibration_time", "cooling_rate", "final_temperature")
    ),
]  # fmt: skip


def _changed(change: dict[str, Any]) -> Protocol:
    ensemble = {"n_particles": [100, 120], "preparations": {"rapid": {"quench": "rapid"}}, "realisations": 2}
    settings = {"name": "t", "seed": 5, "stages": [{"kind": "walk", "steps": 3}, {"kind": "tally"}]}
    own = {key: value for key, value in change.items() if key in ensemble}
    return build_protocol(settings | {"ensemble": ensemble | own} | {key: change[key] for key in change if key not in ensemble})


def test_every_key_of_a_protocol_is_classified() -> None:
    keys = {*Protocol.model_fields, *(f"ensemble.{key}" for key in Ensemble.model_fields)} - {"ensemble"}
    keys |= {f"ensemble.preparations.{key}" for key in Preparation.model_fields}
    assert {key for key, _, _ in CHANGES} == keys


@pytest.mark.parametrize(
    ("change", "comes"), [case[1:] for case in CHANGES], ids=[f"{key}, {comes[:5]}" for key, _, comes in CHANGES]
)
def test_a_change_in_the_folder_of_a_run_grows_or_is_refused(tmp_path: Path, change: dict[str, Any], comes: str) -> None:
    first = run_protocol(_changed({}), tmp_path / "run", HereExecutor())
    before = products(first)
    later = _changed(change)
    if comes in ("grows", "free"):
        after = products(run_protocol(later, tmp_path / "run", HereExecutor()))
        assert before.items() <= after.items()
        assert (len(after) > len(before)) == (comes == "grows")
        return
    with pytest.raises(InputError, match=rf"{comes}.*\. Expected .*--out.*--alongside"):
        run_protocol(later, tmp_path / "run", HereExecutor())
    assert Workspace.open(tmp_path / "run").protocol == first.protocol
    both = run_protocol(later, tmp_path / "run", HereExecutor(), alongside=True)
    assert states(both) == ["done"] * len(both.realisations)
    assert products(first) == before


def test_glasses_that_nobody_has_begun_may_be_left_out(tmp_path: Path) -> None:
    Workspace.create(make_protocol(realisations=3), tmp_path / "run")
    assert states(run_protocol(make_protocol(realisations=1), tmp_path / "run", HereExecutor())) == ["done"]


def test_failure_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    workspace = run_protocol(make_protocol(realisations=4, fail=[1], forget=[2]), tmp_path / "run", HereExecutor())
    assert states(workspace) == ["done", "failed", "failed", "done"]
    (_, first), (_, second) = workspace.failures()
    assert (first.stage, first.error) == ("walk", "ConvergenceError")
    assert "realisation 1 does not converge" in first.message
    assert "in run" in first.traceback
    assert (second.error, second.message) == ("PluginError", "stage 'walk' ended without writing walk.parquet.")
    record = json.loads((workspace.realisations[1].directory / "failed" / "walk.json").read_text())
    assert set(record) == {"stage", "error", "message", "traceback"}
    assert workspace.counts()[100, "rapid"] == {
        "walk": {"done": 2, "failed": 2, "pending": 0},
        "tally": {"done": 2, "failed": 0, "pending": 2},
    }


def test_failure_is_forgotten_when_a_later_run_succeeds(tmp_path: Path) -> None:
    protocol = make_protocol(realisations=1)
    workspace = Workspace.create(protocol, tmp_path / "run")
    folder = workspace.realisations[0].directory
    obstacle = folder / "tally.json"
    obstacle.mkdir()
    assert states(run_protocol(protocol, tmp_path / "run", HereExecutor())) == ["failed"]
    assert (folder / "failed" / "tally.json").is_file()
    obstacle.rmdir()
    assert states(run_protocol(protocol, tmp_path / "run", HereExecutor())) == ["done"]
    assert not (folder / "failed").exists()
    assert {path.name for path in folder.iterdir()} == {
        "signac_statepoint.json",
        "walk.parquet",
        "tally.json",
        COSTS,
        CHECKSUMS,
    }


def test_any_lost_product_is_made_again_with_the_same_bytes(tmp_path: Path) -> None:
    protocol = make_protocol(realisations=2)
    expected = undisturbed(protocol, tmp_path / "run")
    for name in expected:
        path = tmp_path / "run" / "workspace" / name
        path.unlink()
        if path.name != "signac_statepoint.json":  # what a process leaves that was killed while it wrote a product
            (path.parent / f".{path.name}.99999.tmp").write_bytes(b"half")
        assert undisturbed(protocol, tmp_path / "run") == expected


def test_truncated_state_point_is_repaired(tmp_path: Path) -> None:
    protocol = make_protocol(realisations=1)
    expected = undisturbed(protocol, tmp_path / "run")
    (statepoint,) = (tmp_path / "run" / "workspace").glob("*/signac_statepoint.json")
    statepoint.write_bytes(statepoint.read_bytes()[:20])
    (statepoint.parent / "tally.json").unlink()
    assert undisturbed(protocol, tmp_path / "run") == expected


def test_empty_signac_configuration_is_repaired_and_a_foreign_one_is_refused(tmp_path: Path) -> None:
    configuration = tmp_path / "run" / ".signac" / "config"
    configuration.parent.mkdir(parents=True)
    configuration.touch()
    assert states(run_protocol(make_protocol(), tmp_path / "run", HereExecutor())) == ["done"] * 3
    for content in (b"schema_version = 99\n", b"[[[", b"\xff\xfe\x00"):
        configuration.write_bytes(content)
        with pytest.raises(InputError, match="is no signac project of ours"):
            run_protocol(make_protocol(), tmp_path / "run", HereExecutor())
        assert configuration.read_bytes() == content


def test_state_point_is_signacs(tmp_path: Path) -> None:
    import signac

    workspace = run_protocol(make_protocol(), tmp_path / "run", HereExecutor())
    jobs = signac.get_project(str(tmp_path / "run")).find_jobs({"n_particles": 100, "realisation": 2})
    assert [job.id for job in jobs] == [workspace.realisations[2].id]


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InputError, match="cannot be written to"):
        run_protocol(make_protocol(), tmp_path / "run", HereExecutor())
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("content", [None, "{", "[1]", "{}"])
def test_folder_without_a_run_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "protocol.json").write_text(content)
    with pytest.raises(InputError, match=r"protocol\.json"):
        Workspace.open(tmp_path)


def test_log_messages_and_warnings_go_to_the_realisation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = run_protocol(make_protocol(warn=[1]), tmp_path / "run", HereExecutor())
    logs = [realisation.directory / "log.txt" for realisation in workspace.realisations]
    assert [log.exists() for log in logs] == [False, True, False]
    lines = logs[1].read_text()
    assert "WARNING py.warnings: " in lines
    assert "realisation 1 is odd" in lines
    assert "WARNING qlm_hoomd.testing.tiny: realisation 1 stumbles\n" in lines
    assert "odd" not in capsys.readouterr().err


def test_unreadable_record_of_a_failure_is_still_a_failure(tmp_path: Path) -> None:
    workspace = run_protocol(make_protocol(realisations=1, fail=[0]), tmp_path / "run", HereExecutor())
    (workspace.realisations[0].directory / "failed" / "walk.json").write_text("{")
    ((_, failure),) = workspace.failures()
    assert "cannot be read" in failure.message


def test_plain_progress_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_protocol(make_protocol(fail=[1]), tmp_path / "run", HereExecutor())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"3 realisations in {tmp_path / 'run'}"
    assert lines[1].startswith("failed: N=100 rapid #1, stage walk: ConvergenceError: realisation 1 does not converge")
    assert lines[-1].startswith("3/3 (1 failed), ")
    assert lines[-1].endswith(" an hour")
    run_protocol(make_protocol(fail=[1]), tmp_path / "run", HereExecutor())
    assert capsys.readouterr().err.splitlines()[0].endswith(", 2 of them done already")


# ---- many processes ----


def test_pool_gives_the_bytes_of_one_process_and_survives_deaths(tmp_path: Path) -> None:
    protocol = make_protocol(sizes=(100, 120), fail=[1], crash=[2])
    workspace = run_protocol(protocol, tmp_path / "pool", LocalExecutor(2))
    assert states(workspace) == ["done", "failed", "failed"] * 2
    deaths = [failure for _, failure in workspace.failures() if failure.error == "ProcessDied"]
    assert len(deaths) == 2
    assert all(death.stage == "walk" and "2 times" in death.message and "SIGKILL" in death.message for death in deaths)
    assert not workspace.running()
    alone = run_protocol(make_protocol(sizes=(100, 120), fail=[1, 2]), tmp_path / "alone", HereExecutor())
    for one, other in zip(workspace.realisations[::3], alone.realisations[::3], strict=True):
        # The setting `crash` is in the hash, and the hash in the provenance: only the numbers can be compared.
        table, expected = (pl.read_parquet(each.directory / "walk.parquet") for each in (one, other))
        assert table.equals(expected)


def worker_pid(line: str) -> int:
    return int(line.partition("(process ")[2].partition(")")[0])


def test_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    protocol = make_protocol(realisations=4, steps=10, pause=0.05)
    killed: list[int] = []

    def assassin() -> None:
        lines = wait_for(lambda: Workspace(tmp_path / "run", protocol).running())
        killed.append(worker_pid(next(iter(lines.values()))))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=assassin)
    thread.start()
    workspace = run_protocol(protocol, tmp_path / "run", LocalExecutor(2))
    thread.join()
    assert killed
    assert killed[0] != os.getpid()
    assert states(workspace) == ["done"] * 4
    assert products(workspace) == undisturbed(protocol, tmp_path / "quiet")


def test_workers_that_cannot_start_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local, "start_worker", functools.partial(os._exit, 3))
    with pytest.raises(QlmError, match="worker processes die before they start to work"):
        run_protocol(make_protocol(), tmp_path / "run", LocalExecutor(2))
    capfd.readouterr()


def test_failure_that_cannot_be_recorded_ends_the_run(tmp_path: Path) -> None:
    protocol = make_protocol(realisations=1, fail=[0])
    workspace = Workspace.create(protocol, tmp_path / "run")
    (workspace.realisations[0].directory / "failed").write_text("in the way")
    with pytest.raises(QlmError, match="cannot be run"):
        run_protocol(protocol, tmp_path / "run", LocalExecutor(1))


def test_environment_limits_threads_only_while_workers_run() -> None:
    before = dict(os.environ)
    with processes.one_thread_each():
        assert {os.environ[name] for name in processes._THREADS} == {"1"}
    assert dict(os.environ) == before


def test_number_of_workers_must_be_positive() -> None:
    with pytest.raises(InputError, match="workers = 0; expected at least 1"):
        LocalExecutor(0)


# ---- the whole program, killed and interrupted ----

YAML = """\
name: t
seed: 5
ensemble: {n_particles: [100], preparations: [rapid], realisations: 4}
stages:
  - {kind: walk, steps: 12, pause: 0.05}
  - {kind: tally}
"""


@pytest.fixture
def program(tmp_path: Path, tiny: Path) -> Any:
    (tmp_path / "p.yaml").write_text(YAML)
    command = [QLM, "run", tmp_path / "p.yaml", "--out", tmp_path / "run", "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(tiny)}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    return start


def wait_until_half_done(directory: Path) -> list[int]:
    """Wait until one realisation is done and others are at work; the processes of the latter."""
    wait_for(lambda: list(directory.glob("workspace/*/tally.json")))
    lines = wait_for(lambda: list(Workspace(directory, make_protocol()).running().values()))
    return [worker_pid(line) for line in lines if line]


def is_running(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_run_that_is_killed_and_run_again_ends_in_the_same_bytes(tmp_path: Path, program: Any) -> None:
    process = program()
    pids = wait_until_half_done(tmp_path / "run")
    process.kill()
    process.communicate()
    # The workers follow, so that nobody writes to the folder when the lock is free again.
    wait_for(lambda: not any(map(is_running, pids)))
    interrupted = Workspace.open(tmp_path / "run")
    assert "done" in states(interrupted)
    assert "pending" in states(interrupted)
    again = program()
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert states(interrupted) == ["done"] * 4
    assert products(interrupted) == undisturbed(interrupted.protocol, tmp_path / "quiet")


def test_interrupted_run_stops_with_one_line_and_keeps_what_is_done(tmp_path: Path, program: Any) -> None:
    process = program()
    pids = wait_until_half_done(tmp_path / "run")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "qlm: interrupted. What is finished is kept; the same command goes on from there."
    assert "Traceback" not in errors
    wait_for(lambda: not any(map(is_running, pids)))
    assert "done" in states(Workspace.open(tmp_path / "run"))


def test_realisation_has_a_name_for_people(tmp_path: Path) -> None:
    statepoint = {"n_particles": 500, "preparation": "slow", "realisation": 3}
    assert Realisation(tmp_path, statepoint).label == "N=500 slow #3"
    assert Outcome("x", 1.0).failure is None
