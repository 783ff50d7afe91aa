"""Several at work in one folder: each realisation is computed once, and everybody ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from qlm_hoomd.base.processes import results_of
from qlm_hoomd.ensemble import claims as claims_module
from qlm_hoomd.ensemble import runner
from qlm_hoomd.ensemble.local import LocalExecutor, _run, gpus_at_hand
from qlm_hoomd.ensemble.realisation import Outcome
from qlm_hoomd.ensemble.runner import run_chunk, run_protocol, run_realisation, work_through
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.errors import InputError, QlmError
from qlm_hoomd.planning.forecast import make_forecast
from qlm_hoomd.protocol import Protocol, build_protocol
from qlm_hoomd.registry import EXECUTORS
from qlm_hoomd.testing.tiny import HereExecutor, WalkStage, installed
from tests.stand_ins import fake_slurm

QLM = Path(sys.executable).with_name("qlm")


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path) -> Any:
    with installed(tmp_path / "site") as folder:
        yield folder


def make_protocol(realisations: int = 3, **walk: Any) -> Protocol:
    return build_protocol(
        {
            "name": "t",
            "seed": 5,
            "ensemble": {"n_particles": [100], "preparations": ["rapid"], "realisations": realisations},
            "stages": [{"kind": "walk", **walk}, {"kind": "tally"}],
        }
    )


def states(workspace: Workspace) -> list[str]:
    return [realisation.state(workspace.protocol) for realisation in workspace.realisations]


def foreign_claim(workspace: Workspace, job_id: str, age: float = 0.0) -> Path:
    path = workspace.claims.directory / f"{job_id}.1"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"place": "another machine", "host": "node7", "pid": 1, "started": "1"}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_two_runs_at_once_compute_each_realisation_once(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "name: t\nseed: 5\nensemble: {n_particles: [100], preparations: [rapid], realisations: 8}\n"
        "stages:\n  - {kind: walk, steps: 5, pause: 0.1, warn: [0, 1, 2, 3, 4, 5, 6, 7]}\n  - {kind: tally}\n"
    )
    code = (
        "import sys; from pathlib import Path; from qlm_hoomd.protocol import load_protocol\n"
        "from qlm_hoomd.ensemble.runner import run_protocol; from qlm_hoomd.ensemble.local import LocalExecutor\n"
        "if __name__ == '__main__':\n"
        "    workspace = run_protocol(load_protocol(Path('p.yaml')), Path('run'), LocalExecutor(2))\n"
        "    print([r.state(workspace.protocol) for r in workspace.realisations] == ['done'] * 8)\n"
    )
    (tmp_path / "both.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(tiny)}
    both = [
        subprocess.Popen(
            [sys.executable, "both.py"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        output, errors = process.communicate(timeout=120)
        assert output == "True\n", errors
    workspace = Workspace.open(tmp_path / "run")
    # Each attempt leaves a line in the log of its realisation.
    logs = [(realisation.directory / "log.txt").read_text() for realisation in workspace.realisations]
    assert [log.count("stumbles") for log in logs] == [1] * 8
    assert not workspace.claims.left()
    assert not list(workspace.running_directory.iterdir())


def test_what_is_at_work_elsewhere_is_waited_for_and_run_when_it_is_given_up(tmp_path: Path) -> None:
    protocol = make_protocol(realisations=2)
    workspace = Workspace.create(protocol, tmp_path / "run")
    (first, second) = [realisation.id for realisation in workspace.realisations]
    path = foreign_claim(workspace, first)
    ended: list[Outcome] = []
    thread = threading.Thread(target=work_through, args=(workspace, [first, second], HereExecutor(), ended.append))
    thread.start()
    end = time.monotonic() + 20
    while not ended:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert [outcome.id for outcome in ended] == [second]
    path.unlink()  # the other gave it up undone
    thread.join(timeout=20)
    assert [outcome.id for outcome in ended] == [second, first]
    assert states(workspace) == ["done"] * 2


def test_failure_of_another_run_is_taken_over_and_not_tried_again(tmp_path: Path) -> None:
    protocol = make_protocol(realisations=1, fail=[0])
    workspace = Workspace.create(protocol, tmp_path / "run")
    (job_id,) = [realisation.id for realisation in workspace.realisations]
    path = foreign_claim(workspace, job_id)
    ended: list[Outcome] = []
    thread = threading.Thread(target=work_through, args=(workspace, [job_id], HereExecutor(), ended.append))
    thread.start()
    time.sleep(0.3)
    assert not ended
    path.unlink()
    run_realisation(tmp_path / "run", job_id)  # may come before or after the other's look
    thread.join(timeout=20)
    (outcome,) = ended
    assert outcome.failure is not None
    assert outcome.failure.error == "ConvergenceError"


def test_what_a_dead_machine_held_is_run_after_it_was_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "CONFIRM_S", 0.2)
    monkeypatch.setattr(runner, "_SECONDS_BETWEEN_LOOKS", 0.1)
    workspace = Workspace.create(make_protocol(realisations=1), tmp_path / "run")
    (job_id,) = [realisation.id for realisation in workspace.realisations]
    foreign_claim(workspace, job_id, age=1e4)
    assert not workspace.running()
    ended: list[Outcome] = []
    work_through(workspace, [job_id], HereExecutor(), ended.append, wait=False)
    assert [outcome.id for outcome in ended] == [job_id]
    assert states(workspace) == ["done"]
    assert not workspace.claims.left()


def test_a_chunk_leaves_alone_what_lives_elsewhere(tmp_path: Path) -> None:
    workspace = Workspace.create(make_protocol(realisations=2), tmp_path / "run")
    (first, second) = [realisation.id for realisation in workspace.realisations]
    claim = workspace.claims.take(first)
    assert claim is not None
    said: list[str] = []
    with claim:
        assert run_chunk(tmp_path / "run", [first, second, first], LocalExecutor(1), said.append) == 0
    assert said[0].startswith("done: N=100 rapid #1 in ")
    assert said[1:] == ["left alone, as another process is at work at it: N=100 rapid #0"]
    with pytest.raises(InputError, match="is no id of a realisation"):
        run_chunk(tmp_path / "run", ["../../etc"], LocalExecutor(1), said.append)
    with pytest.raises(InputError, match="no readable state point"):
        run_chunk(tmp_path / "run", ["0" * 32], LocalExecutor(1), said.append)


def test_realisation_that_others_took_over_is_left_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace.create(make_protocol(realisations=1), tmp_path / "run")
    (realisation,) = workspace.realisations
    taken = workspace.claims.take(realisation.id)
    assert taken is not None
    (workspace.claims.directory / f"{realisation.id}.2").write_text("{}")
    monkeypatch.setattr(claims_module.Claims, "take", lambda *_: taken)
    outcome = run_realisation(tmp_path / "run", realisation.id)
    assert outcome.elsewhere
    assert not realisation.is_done(workspace.protocol.stages[0])


def test_realisation_that_was_killed_at_its_end_is_brought_to_it(tmp_path: Path) -> None:
    protocol = make_protocol(realisations=2)
    workspace = run_protocol(protocol, tmp_path / "run", HereExecutor())
    expected = [(realisation.directory / "checksums.json").read_bytes() for realisation in workspace.realisations]
    folder = workspace.realisations[0].directory
    # Killed after the last product and before its checksum: a claim is left, and a record without it.
    record = json.loads((folder / "checksums.json").read_text())
    del record["tally.json"]
    (folder / "checksums.json").write_text(json.dumps(record))
    (workspace.claims.directory / f"{folder.name}.1").write_text(
        json.dumps({"place": claims_module.place(), "host": "h", "pid": 2**22 + 1, "started": "1"})
    )
    run_protocol(protocol, tmp_path / "run", HereExecutor())
    assert [(realisation.directory / "checksums.json").read_bytes() for realisation in workspace.realisations] == expected
    assert not workspace.claims.left()


def test_each_worker_sees_its_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-77")
    assert gpus_at_hand() == ("2", "GPU-77")
    workspace = run_protocol(make_protocol(realisations=1), tmp_path / "run", HereExecutor())
    _run(tmp_path / "run", workspace.realisations[0].id, "GPU-77")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-77"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus_at_hand() == ()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus_at_hand() == ()
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho '  MIG 1g'\necho 'GPU 1: A (UUID: y)'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert gpus_at_hand() == ("0", "1")


def test_local_takes_no_settings() -> None:
    with pytest.raises(InputError, match="LocalExecutor has no settings"):
        LocalExecutor(1, ("time=3",))


def test_larger_protocol_is_refused_while_others_are_at_work_for_the_smaller_one(tmp_path: Path) -> None:
    workspace = run_protocol(make_protocol(), tmp_path / "run", HereExecutor())
    stored = (tmp_path / "run" / "protocol.json").read_bytes()
    grown = build_protocol(json.loads(workspace.protocol.canonical()) | {"stages": [{"kind": "walk"}]})
    claim = workspace.claims.take(workspace.realisations[1].id)
    assert claim is not None
    with claim:
        for alongside in (False, True):
            with pytest.raises(
                InputError, match=rf"others are at work in it .*1 realisations, e\.g\. process {os.getpid()} on"
            ):
                run_protocol(grown, tmp_path / "run", HereExecutor(), alongside=alongside)
        assert (tmp_path / "run" / "protocol.json").read_bytes() == stored
        make_forecast(make_protocol(4), tmp_path / "run", HereExecutor(), limit_s=0)  # the same physics: nobody is in the way
    assert states(run_protocol(grown, tmp_path / "run", HereExecutor(), alongside=True)) == ["done"] * 3


def test_what_killed_workers_left_is_removed_by_the_next_run_and_nothing_else(tmp_path: Path) -> None:
    workspace = run_protocol(make_protocol(2), tmp_path / "run", HereExecutor())
    process = subprocess.Popen(["true"])
    process.wait()
    host = socket.gethostname()
    folder = workspace.realisations[0].directory
    (folder / "failed").mkdir()
    left = [folder / f".costs.json.{host}.{process.pid}.tmp", folder / "failed" / f".walk.json.{host}.{process.pid}.tmp"]
    left.append(tmp_path / "run" / f".protocol.json.{host}.{process.pid}.tmp")
    others = [folder / f".costs.json.{host}.{os.getpid()}.tmp", folder / f".costs.json.another.{process.pid}.tmp"]
    for path in (*left, *others):
        path.touch()
    run_protocol(make_protocol(2), tmp_path / "run", HereExecutor())
    assert [path.exists() for path in (*left, *others)] == [False] * 3 + [True] * 2


def test_folder_whose_name_is_no_utf_8_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff"))
    for refused in (
        lambda: run_protocol(make_protocol(), folder, HereExecutor()),
        lambda: make_forecast(make_protocol(), folder, HereExecutor()),
    ):
        with pytest.raises(InputError, match="its name is no UTF-8") as error:
            refused()
        assert str(error.value).encode()
    assert not folder.exists()


def test_semaphores_that_cannot_be_made_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("multiprocessing.synchronize._multiprocessing.SemLock", refuse)
    with pytest.raises(
        QlmError, match=r"worker processes cannot start \(Read-only file system\); expected room for semaphores"
    ):
        run_protocol(make_protocol(), tmp_path / "run", LocalExecutor(1))
    with pytest.raises(QlmError, match="expected room for semaphores"):
        next(results_of(print, [1, 2], 2, print))  # type: ignore[arg-type]  # it is never called


# ---- what row and slurm are given ----


def test_row_gets_one_action_for_each_size_and_the_products_decide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tomllib

    settings = make_protocol().model_dump(mode="json")
    settings["ensemble"] |= {"n_particles": [100, 64000], "realisations": 3}
    protocol = build_protocol(settings)
    workspace = run_protocol(protocol, tmp_path / "run", EXECUTORS.load("row")(workers=4))
    assert states(workspace) == ["pending"] * 6
    assert f"cd {tmp_path / 'run'} && row show status && row submit" in capsys.readouterr().err
    content = tomllib.loads((tmp_path / "run" / "workflow.toml").read_text())
    assert content["workspace"] == {"value_file": "signac_statepoint.json"}
    assert content["default"]["action"]["products"] == ["tally.json", "walk.parquet"]
    large, small = content["action"]
    assert [action["group"]["include"][0]["all"][1] for action in (large, small)] == [
        ["/n_particles", "==", 64000],
        ["/n_particles", "==", 100],
    ]
    assert large["resources"]["threads_per_process"] == 4
    # The command, as row fills it in, does the work.
    command = content["default"]["action"]["command"].replace(
        "{directories}", " ".join(r.id for r in workspace.realisations[:2])
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    assert command.endswith(" --workers 4")
    done = subprocess.run(
        command, shell=True, cwd=tmp_path / "run", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done: ") == 2
    assert states(workspace) == ["done"] * 2 + ["pending"] * 4


@pytest.mark.parametrize("name", ["local", "slurm", "row"])
def test_executors_hand_the_checkpoint_interval_to_where_the_work_is_done(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("QLM_CHECKPOINT_INTERVAL", "not looked at")
    run_protocol(make_protocol(realisations=1), tmp_path / "run", EXECUTORS.load(name)(workers=1, checkpoint_interval=7.5))
    if name == "local":
        assert states(Workspace.open(tmp_path / "run")) == ["done"]
    else:
        (path,) = (tmp_path / "run").glob("workflow.toml" if name == "row" else ".slurm/qlm-*/script.sh")
        assert "--workers 1 --checkpoint-interval 7.5" in path.read_text()
    with pytest.raises(InputError, match="checkpoint_interval = nan; expected a number of seconds, 0 or more"):
        EXECUTORS.load(name)(checkpoint_interval=float("nan"))


def test_a_stage_gets_the_checkpoint_interval_that_was_asked_for_else_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intervals: list[float] = []
    monkeypatch.setattr(WalkStage, "run", lambda _, context: intervals.append(context.checkpoint._interval))
    workspace = Workspace.create(make_protocol(realisations=1), tmp_path / "run")
    run_realisation(tmp_path / "run", workspace.realisations[0].id, 7.5)
    monkeypatch.setenv("QLM_CHECKPOINT_INTERVAL", "9")
    run_realisation(tmp_path / "run", workspace.realisations[0].id)
    assert intervals == [7.5, 9.0]


def test_chunks_keep_the_order_and_take_about_the_time() -> None:
    from qlm_hoomd.ensemble.slurm import chunks

    seconds = {"a": 100.0, "b": 40.0, "c": 10.0, "d": 10.0, "e": 10.0, "f": 10.0, "g": 10.0}
    assert chunks(seconds, 1, 30.0) == [["a"], ["b"], ["c", "d", "e"], ["f", "g"]]
    # Two processes share what a task has: never less than two, and twice the time.
    assert chunks(seconds, 2, 30.0) == [["a", "b"], ["c", "d", "e", "f", "g"]]
    assert chunks({}, 2, 30.0) == []


def test_times_come_from_what_has_ended_and_from_a_stated_guess(tmp_path: Path) -> None:
    from qlm_hoomd.ensemble.costs import GUESSED_SECONDS_PER_PARTICLE, seconds_left

    workspace = Workspace.create(make_protocol(realisations=2), tmp_path / "run")
    first, second = workspace.realisations
    assert seconds_left(workspace, [second]) == {second.id: pytest.approx(100 * GUESSED_SECONDS_PER_PARTICLE)}
    walk, tally = workspace.protocol.stages
    first.record_cost(walk, 30.0, 60.0)
    first.record_cost(tally, 5.0, 5.0)
    assert seconds_left(workspace, [second]) == {second.id: 35.0}
    (second.directory / "walk.parquet").touch()
    assert seconds_left(workspace, [second]) == {second.id: 5.0}


def test_slurm_settings_are_checked_kept_and_written_into_the_script(tmp_path: Path) -> None:
    from qlm_hoomd.ensemble.slurm import SlurmExecutor, SlurmSettings, script

    (tmp_path / "s.yaml").write_text(
        "partition: long\ntime: 1-12:00:00\nsetup: [module load gcc, ulimit -c 0]\ngpus_per_node: 2\n"
    )
    executor = SlurmExecutor(None, (str(tmp_path / "s.yaml"), "partition=short", "extra=--constraint=avx2", "max_running=7"))
    settings = SlurmSettings.model_validate(executor._given)
    assert (settings.partition, settings.seconds, settings.extra) == ("short", 129600.0, ("--constraint=avx2",))
    text = script(tmp_path / "a run", tmp_path / "a run" / ".slurm" / "q", 12, settings, 6)
    for line in (
        "#SBATCH --array=0-11%7",
        "#SBATCH --partition=short",
        "#SBATCH --gpus-per-node=2",
        "#SBATCH --constraint=avx2",
        "#SBATCH --signal=B:USR1@120",
        "#SBATCH --requeue",
        "module load gcc",
    ):
        assert line in text.splitlines()
    assert f"'{tmp_path / 'a run'}'" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    for time_text, seconds in (("90", 5400.0), ("3:30", 210.0), ("1:00:00", 3600.0), ("2-3", 183600.0), ("1-2:30", 95400.0)):
        assert SlurmSettings(time=time_text).seconds == seconds


def test_what_has_left_the_queue_undone_is_lost_whatever_the_accounting_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qlm_hoomd.ensemble.slurm import describe

    fake_slurm(tmp_path / "bin", monkeypatch)
    workspace = run_protocol(make_protocol(), tmp_path / "run", EXECUTORS.load("slurm")(settings=("hours=1e-9",)))
    (array,) = (tmp_path / "run" / ".slurm").glob("qlm-*")
    queued = [f"{array.name}|0|PENDING|Resources", f"{array.name}|1|RUNNING|None", f"{array.name}|2|PENDING|AssocGrpCPU"]
    fake_slurm(tmp_path / "bin", monkeypatch, squeue="\n".join(["cat <<X", *queued, "X"]))
    assert describe(workspace) == [
        "slurm tasks: 2 pending, 1 running; unfinished realisations in them: 2 queued, 1 running",
        "slurm: 1 tasks wait for: AssocGrpCPU",
    ]
    # One is done, and all tasks are over: accounting gives the reasons where there is one.
    run_realisation(tmp_path / "run", workspace.realisations[0].id)
    for accounting, why in (("exit 1", ""), ("printf 'COMPLETED\\nTIMEOUT\\nCANCELLED by 7\\n'", " (1 timeout, 1 cancelled)")):
        fake_slurm(tmp_path / "bin", monkeypatch, sacct=accounting)
        assert describe(workspace) == [
            "slurm tasks: none in the queue; unfinished realisations in them: 0 queued, 0 running",
            (
                f"slurm lost 2 realisations: their tasks are over, and they are neither done nor failed{why}; "
                "`qlm run --executor slurm` submits them again"
            ),
        ]


GPU_PROTOCOL = {
    "name": "t",
    "seed": 5,
    "engine": {"kind": "hoomd", "device": "gpu"},
    "ensemble": {"n_particles": [100], "preparations": ["rapid"], "realisations": 3},
    "stages": [{"kind": "walk"}, {"kind": "tally"}],
}


def test_workers_share_the_gpus_that_a_task_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch)
    protocol = build_protocol(GPU_PROTOCOL)
    run_protocol(protocol, tmp_path / "none", EXECUTORS.load("slurm")())
    assert "the engine runs on a GPU, and the tasks ask for none" in capsys.readouterr().err
    settings = ("gpus_per_node=2", "workers_per_gpu=4")
    run_protocol(protocol, tmp_path / "run", EXECUTORS.load("slurm")(settings=settings))
    said = capsys.readouterr().err
    assert "ask for none" not in said
    assert "submitted job 77: 1 tasks for 3 realisations" in said
    (path,) = (tmp_path / "run" / ".slurm").glob("qlm-*/script.sh")
    text = path.read_text()
    for option in ("--gpus-per-node=2", "--nodes=1", "--ntasks=1", "--cpus-per-task=8"):
        assert f"#SBATCH {option}\n" in text
    assert "--workers 8 &" in text
    # What SLURM gives to the task is what its eight workers share, four to a GPU.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    gpus = gpus_at_hand()
    assert [gpus[slot % len(gpus)] for slot in range(8)] == ["3", "5"] * 4


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tine=3", "tine: Extra inputs are not permitted. The settings are: partition, account"),
        ("tine=3", "Did you mean 'time'?"),
        ("time=soon", "time 'soon'; expected a form that sbatch takes"),
        ("time=2", "expected more than 180 seconds"),
        ("hours=-1", "hours: Input should be greater than 0"),
        ("gpus_per_node=x", "gpus_per_node: Input should be a valid integer"),
        ("partition=a\n#SBATCH --wrap=x", "a line break in an option"),
        ("nowhere.yaml", "nowhere.yaml: cannot be read"),
        ("A=b", "expected key=value or a YAML file"),
    ],
)
def test_wrong_slurm_settings_are_refused(setting: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        EXECUTORS.load("slurm")(workers=1, settings=(setting,))
    assert message in str(error.value)


def test_slurm_without_slurm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="sbatch is not here"):
        run_protocol(make_protocol(), tmp_path / "run", EXECUTORS.load("slurm")())
