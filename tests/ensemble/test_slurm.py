"""A real SLURM of one node: arrays, and everything that befalls their tasks. The daemons live in a folder of their own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.testing.tiny import installed

QLM = Path(sys.executable).with_name("qlm")
DAEMONS = {
    name: shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/usr/local/sbin") for name in ("munged", "slurmctld", "slurmd")
}
MISSING = [name for name, path in DAEMONS.items() if path is None]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed (Debian: apt install slurm-wlm munge)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd takes other jobs than its own user's as root alone"),
]

CONFIGURATION = """\
ClusterName=qlm
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldPort={port}
SlurmdPort={slurmd_port}
MaxArraySize=5
MessageTimeout=2
KillWait=5
SchedulerParameters=batch_sched_delay=1,sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=3 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def wait_for(condition: Any, seconds: float = 300.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Slurm:
    """The daemons. munge refuses sockets in folders that others can write to, and long paths: a folder below /tmp it is."""

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="qlm-slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        self.configuration = self.folder / "slurm.conf"
        self.configuration.write_text(
            CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0], folder=self.folder, port=free_port(), slurmd_port=free_port()
            )
        )

    def start(self, daemon: str) -> None:
        options = ["-f", str(self.configuration)]
        if daemon == "munged":
            names = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "log-file": "munged.log"}
            options = ["--force", *(f"--{option}={self.folder / name}" for option, name in names.items())]
            options.append(f"--seed-file={self.folder / 'munge.seed'}")
        path = DAEMONS[daemon]
        assert path is not None
        subprocess.run([path, *options], check=True, timeout=60)

    def stop(self, daemon: str) -> None:
        path = self.folder / f"{daemon}.pid"
        if path.is_file():
            pid = int(path.read_text())
            with_proc = Path(f"/proc/{pid}")
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.kill(pid, number)
                    wait_for(lambda: not with_proc.exists(), seconds=15)
                except (ProcessLookupError, AssertionError):
                    continue

    def __call__(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module")
def slurm() -> Any:
    cluster = Slurm()
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(cluster.configuration)
    try:
        for daemon in DAEMONS:
            cluster.start(daemon)

        def is_up() -> bool:
            listing = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False).stdout
            return listing.strip() == "idle"

        wait_for(is_up, 120)
        yield cluster
    finally:
        subprocess.run(["scancel", "--user=root"], check=False, capture_output=True, timeout=60)
        for daemon in ("slurmd", "slurmctld", "munged"):
            cluster.stop(daemon)
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(cluster.folder, ignore_errors=True)


class Run:
    """A run in a folder of its own, on SLURM, its executor given the settings as they are."""

    def __init__(self, folder: Path, site: Path, realisations: int, steps: int, pause: float) -> None:
        self.directory = folder / "run"
        self.protocol = folder / "p.yaml"
        self.environment = os.environ | {"PYTHONPATH": str(site)}
        self.protocol.write_text(
            f"name: t\nseed: 5\nensemble: {{n_particles: [100], preparations: [rapid], realisations: {realisations}}}\n"
            f"stages:\n  - {{kind: walk, steps: {steps}, pause: {pause}}}\n  - {{kind: tally}}\n"
        )

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([QLM, *arguments], env=self.environment, capture_output=True, text=True, timeout=300, check=False)

    def submit(self, *settings: str) -> str:
        command = ["run", str(self.protocol), "--out", str(self.directory), "--executor", "slurm"]
        done = self(*command, *(part for setting in settings for part in ("--slurm", setting)))
        assert done.returncode == 0, done.stderr
        return done.stderr

    def status(self) -> str:
        done = self("status", str(self.directory))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def states(self) -> list[str]:
        workspace = Workspace.open(self.directory)
        return [realisation.state(workspace.protocol) for realisation in workspace.realisations]

    def at_work(self) -> dict[str, dict[str, Any]]:
        return Workspace.open(self.directory).claims.live()

    def logs(self) -> str:
        return "".join(path.read_text() for path in sorted(self.directory.glob(".slurm/qlm-*/*.log")))

    def task_of(self, job_id: str) -> str:
        """SLURM's name of the task that has this realisation."""
        for path in self.directory.glob(".slurm/qlm-*/*.ids"):
            if job_id in path.read_text().split():
                return f"{(path.parent / 'job').read_text().strip()}_{path.stem}"
        raise AssertionError(job_id)


@pytest.fixture
def make_run(tmp_path: Path) -> Any:
    with installed(tmp_path / "site") as site:
        yield lambda realisations, steps=1, pause=0.0: Run(tmp_path, site, realisations, steps, pause)


def empty_queue(slurm: Slurm) -> bool:
    return not slurm("squeue", "--noheader").strip()


# Chunks of one realisation: shorter than any takes.
ONE_EACH = "hours=1e-6"


def test_arrays_are_split_at_what_the_cluster_takes_and_all_gets_done(slurm: Slurm, make_run: Any) -> None:
    run = make_run(7, steps=20, pause=0.5)
    submitted = run.submit(ONE_EACH)
    assert [int(number) for number in re.findall(r"(\d+) tasks", submitted)] == [5, 2]
    assert (run.directory / ".slurm").stat().st_mode & 0o777 == 0o700
    # While they are queued or running, nothing is submitted twice.
    again = run.submit()
    assert "realisations are queued or at work already" in again
    assert "submitted" not in again
    assert "unfinished realisations in them" in run.status()
    wait_for(lambda: run.states() == ["done"] * 7)
    wait_for(lambda: empty_queue(slurm))
    status = run.status()
    assert "7 done" in status
    assert "lost" not in status
    assert run.logs().count("done: ") == 7
    assert "submitted" not in run.submit()
    proof = run("verify", str(run.directory))
    assert proof.returncode == 0, proof.stderr


def test_killed_and_cancelled_tasks_are_named_and_alone_submitted_again(slurm: Slurm, make_run: Any) -> None:
    run = make_run(4, steps=40, pause=0.2)
    run.submit(ONE_EACH)
    wait_for(lambda: len(run.at_work()) >= 2)
    (first, holder), (second, _), *_ = run.at_work().items()
    # Everything of one task is killed: the work and its worker. The other is cancelled by SLURM's own command.
    parent = int(Path(f"/proc/{holder['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    slurm("scancel", run.task_of(second))
    wait_for(lambda: sorted(run.states()) == ["done", "done", "pending", "pending"] and empty_queue(slurm))
    status = run.status()
    assert "slurm lost 2 realisations" in status
    workspace = Workspace.open(run.directory)
    before = {
        each.id: (each.directory / "walk.parquet").stat().st_mtime_ns
        for each in workspace.realisations
        if each.id not in (first, second)
    }
    assert "2 tasks for 2 realisations" in run.submit()
    wait_for(lambda: run.states() == ["done"] * 4)
    assert all((run.directory / "workspace" / each / "walk.parquet").stat().st_mtime_ns == at for each, at in before.items())
    wait_for(lambda: empty_queue(slurm))
    assert "lost" not in run.status()
    assert run("verify", str(run.directory)).returncode == 0


def test_task_at_its_wall_time_is_requeued_and_goes_on(slurm: Slurm, make_run: Any) -> None:
    run = make_run(16, steps=10, pause=0.5)
    # One chunk of 80 s; the warning comes a minute after the start.
    submitted = run.submit("time=4", "extra=--signal=B:USR1@180")
    assert "1 tasks for 16 realisations" in submitted
    wait_for(lambda: "requeued" in run.logs())
    assert 0 < run.states().count("done") < 16
    wait_for(lambda: run.states() == ["done"] * 16, 600)
    wait_for(lambda: empty_queue(slurm))
    # Never done again by a later life of the task. (What ends between warning and requeueing is not announced.)
    done = re.findall(r"done: (N=100 rapid #\d+) in", run.logs())
    assert len(done) == len(set(done)) >= 10
    assert run("verify", str(run.directory)).returncode == 0


def test_tasks_go_on_without_the_controller_and_nothing_is_submitted_blindly(slurm: Slurm, make_run: Any) -> None:
    run = make_run(2, steps=100, pause=0.6)
    run.submit(ONE_EACH)
    wait_for(lambda: len(run.at_work()) == 2)
    slurm.stop("slurmctld")
    try:
        assert "SLURM does not answer" in run.status()
        command = ["run", str(run.protocol), "--out", str(run.directory), "--executor", "slurm"]
        done = run(*command)
        assert done.returncode == 1
        assert "Nothing was submitted" in done.stderr
        assert "Traceback" not in done.stderr
        wait_for(lambda: run.states() == ["done"] * 2)
    finally:
        slurm.start("slurmctld")
    wait_for(lambda: "slurm tasks" in run.status())
    wait_for(lambda: empty_queue(slurm))
    assert "submitted" not in run.submit()


@pytest.mark.usefixtures("slurm")
def test_array_that_slurm_refuses_leaves_nothing_behind(make_run: Any) -> None:
    run = make_run(2)
    command = ["run", str(run.protocol), "--out", str(run.directory), "--executor", "slurm", "--slurm", "partition=nowhere"]
    done = run(*command)
    assert done.returncode == 1
    assert "sbatch failed" in done.stderr
    assert "partition" in done.stderr
    assert not list(run.directory.glob(".slurm/qlm-*"))
    assert "2 realisations" in run.submit("partition=main")
    wait_for(lambda: run.states() == ["done"] * 2)
