"""Real processes at real stages, stopped by signals or killed: the next run goes on from the checkpoint, to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qlm_hoomd.checkpoint import INTERVAL_VARIABLE
from qlm_hoomd.ensemble.runner import run_protocol
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.protocol import load_protocol
from qlm_hoomd.testing.tiny import HereExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


YAML = """\
name: t
seed: 5
ensemble:
  n_particles: [100]
  preparations: {slow: {quench: slow, equilibration_time: 2.0, cooling_rate: 0.5}}
  realisations: 2
stages:
  - {kind: prepare}
  - {kind: shear, strain_max: 0.06, increment: 2.5e-4, detector: {kind: fold, max_increment: 2.5e-4, overlaps: []}}
"""


def products(directory: Path) -> dict[str, bytes]:
    workspace = Workspace.open(directory)
    names = [name for stage in workspace.protocol.stages for name in stage.products()]
    return {f"{each.id}/{name}": (each.directory / name).read_bytes() for each in workspace.realisations for name in names}


@pytest.fixture(scope="module")
def protocol_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("protocol") / "p.yaml"
    path.write_text(YAML)
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, protocol_file: Path) -> dict[str, bytes]:
    directory = tmp_path_factory.mktemp("quiet") / "run"
    run_protocol(load_protocol(protocol_file), directory, HereExecutor())
    # Nothing is left of checkpoints where all is done.
    assert not list(directory.glob("workspace/*/.*.checkpoint"))
    return products(directory)


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120.0
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        assert process.poll() is None, f"the run ended too early: {process.communicate()}"
        time.sleep(0.005)


def start(command: Sequence[Any], interval: float) -> subprocess.Popen[str]:
    environment = os.environ | {INTERVAL_VARIABLE: str(interval)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize(("signum", "send"), [(signal.SIGTERM, os.kill), (signal.SIGUSR1, os.killpg)])
def test_run_that_is_asked_to_stop_saves_and_goes_on(
    signum: int, send: Callable[[int, int], None], tmp_path: Path, protocol_file: Path, undisturbed: dict[str, bytes]
) -> None:
    """One process is told, as by `kill`, or all of them, as schedulers do it."""
    run = tmp_path / "run"
    command = [Path(sys.executable).with_name("qlm"), "run", protocol_file, "--out", run, "--checkpoint-interval", "0.1"]
    process = start(command, interval=600.0)
    wait_for(lambda: list(run.glob("workspace/*/.shear.checkpoint")), process)
    send(process.pid, signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signum, errors
    assert "Traceback" not in errors, errors
    workspace = Workspace.open(run)
    assert not workspace.failures()
    assert not workspace.running()
    saved = list(run.glob("workspace/*/.shear.checkpoint"))
    assert saved
    # One of them is damaged: that realisation begins its stage anew, and says so.
    damaged = bytearray(saved[0].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    saved[0].write_bytes(damaged)
    run_protocol(workspace.protocol, run, HereExecutor())
    assert products(run) == undisturbed
    assert ".shear.checkpoint cannot be read (ValueError: its checksum is wrong)" in (saved[0].parent / "log.txt").read_text()
    assert not list(run.glob("workspace/*/.*.checkpoint"))


def test_process_that_is_killed_loses_no_more_than_an_interval(
    tmp_path: Path, protocol_file: Path, undisturbed: dict[str, bytes]
) -> None:
    """Killed again and again, as soon as it has saved something new; the checkpoint of another realisation is not taken."""
    workspace = Workspace.create(load_protocol(protocol_file), tmp_path)
    first, second = workspace.realisations
    work = "import sys, pathlib; from qlm_hoomd.ensemble.runner import run_realisation as run; run(pathlib.Path(sys.argv[1]), sys.argv[2])"
    for stage in ("prepare", "shear"):
        path = first.directory / f".{stage}.checkpoint"
        process = start([sys.executable, "-c", work, tmp_path, first.id], interval=0.05)
        wait_for(path.exists, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        (second.directory / path.name).write_bytes(path.read_bytes())
    run_protocol(workspace.protocol, tmp_path, HereExecutor())
    assert products(tmp_path) == undisturbed
    assert not (first.directory / "log.txt").exists()
    log = (second.directory / "log.txt").read_text()
    assert ".prepare.checkpoint is the checkpoint of another run (statepoint differ)" in log
    assert ".shear.checkpoint is the checkpoint of another run (inputs, statepoint differ)" in log
