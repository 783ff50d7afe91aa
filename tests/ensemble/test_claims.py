"""Claims: one process at a time, whatever dies, hangs, or sets its clock."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from qlm_hoomd.ensemble import claims as module
from qlm_hoomd.ensemble.claims import CONFIRM_S, HEARTBEAT_S, STALE_S, Claims, place

ELSEWHERE = {"place": "another machine", "host": "node7", "pid": 1, "started": "1"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The monotonic clock of this process, which the test sets."""

    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

        time = staticmethod(time.time)

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def foreign_claim(folder: Path, name: str = "a", age: float = 0.0) -> Path:
    """A claim of a process on another machine, whose heart beat ``age`` seconds ago."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.1"
    path.write_text(json.dumps(ELSEWHERE))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_claim_is_held_once_and_free_when_it_is_released(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "c")
    claim = claims.take("a")
    assert claim is not None
    with claim:
        assert Claims(tmp_path / "c").take("a") is None
        assert claims.take("b") is not None
        assert claims.states()["a"] == "alive"
        assert claims.live()["a"]["pid"] == os.getpid()
        assert not claim.lost
    again = Claims(tmp_path / "c").take("a")
    assert again is not None
    again.release()
    assert claims.left() == {"b"}
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["b.1"]


def _grab(arguments: tuple[Path, int]) -> list[str]:
    folder, rounds = arguments
    return [f"n{number}" for number in range(rounds) if Claims(folder).take(f"n{number}") is not None]


def test_many_processes_at_once_win_each_claim_once(tmp_path: Path) -> None:
    # The claims are held to the end: processes of the pool live until it is closed.
    with multiprocessing.get_context("fork").Pool(4) as pool:
        won = [name for names in pool.map(_grab, [(tmp_path / "c", 60)] * 4, chunksize=1) for name in names]
    assert sorted(won) == sorted(f"n{number}" for number in range(60))


def test_claim_of_a_dead_process_of_this_machine_is_void_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from qlm_hoomd.ensemble.claims import Claims\n"
        f"claim = Claims(Path({str(tmp_path / 'c')!r})).take('a'); print('taken', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        assert Claims(tmp_path / "c").take("a") is None
        process.send_signal(signal.SIGKILL)
    claims = Claims(tmp_path / "c")
    assert claims.states() == {"a": "void"}
    assert not claims.live()
    claim = claims.take("a")
    assert claim is not None
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"a.1", "a.2"}
    claim.release()
    assert not claims.left()


def test_number_of_a_dead_process_that_another_has_now_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "a.1").write_text(json.dumps({"place": place(), "host": "h", "pid": os.getpid(), "started": "1"}))
    assert Claims(tmp_path).states() == {"a": "void"}


def test_silent_claim_of_another_machine_is_void_only_after_it_was_watched(tmp_path: Path, clock: Any) -> None:
    foreign_claim(tmp_path, age=STALE_S + 60)
    claims = Claims(tmp_path)
    assert claims.take("a") is None
    assert not claims.live()
    clock.now += CONFIRM_S - 1
    assert claims.states() == {"a": "unknown"}
    assert claims.take("a") is None
    clock.now += 2
    assert claims.states() == {"a": "void"}
    assert claims.take("a") is not None


def test_beating_claim_of_another_machine_stays(tmp_path: Path, clock: Any) -> None:
    path = foreign_claim(tmp_path, age=10)
    claims = Claims(tmp_path)
    assert claims.states() == {"a": "unknown"}
    for age in (8, 6, 4):
        clock.now += 1000  # a watcher that was suspended between two looks
        os.utime(path, (time.time() - age,) * 2)
        assert claims.states() == {"a": "alive"}
        assert claims.take("a") is None


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_clock_that_is_set_voids_no_claim_whose_heart_beats(tmp_path: Path, clock: Any, jump: float) -> None:
    path = foreign_claim(tmp_path, age=-jump)  # written before the clock was set by that much
    claims = Claims(tmp_path)
    for _ in range(3):
        assert claims.take("a") is None
        clock.now += CONFIRM_S + 1
        os.utime(path)  # the next beat, by the clock as it is now
    assert claims.states() == {"a": "alive"}
    # One that never beats again is void, though its time is in the future.
    os.utime(path, (time.time() - jump,) * 2)
    assert claims.states() == {"a": "alive"}
    clock.now += CONFIRM_S + 1
    assert claims.states() == {"a": "void"}


@pytest.mark.parametrize(("ahead", "state"), [(0.3 * HEARTBEAT_S, "unknown"), (3.0 * HEARTBEAT_S, "void")])
def test_a_beat_somewhat_ahead_of_the_file_system_s_clock_is_no_sign_of_death(
    tmp_path: Path, clock: Any, ahead: float, state: str
) -> None:
    """Servers round times, and beats come while a claim is looked at; what is further ahead is no beat of this clock."""
    foreign_claim(tmp_path, age=-ahead)
    claims = Claims(tmp_path)
    assert claims.states() == {"a": "unknown"}
    clock.now += CONFIRM_S + 1
    assert claims.states() == {"a": state}


def test_only_one_of_those_who_find_a_claim_void_gets_it(tmp_path: Path, clock: Any) -> None:
    foreign_claim(tmp_path, age=STALE_S + 60)
    watchers = [Claims(tmp_path) for _ in range(3)]
    assert all(claims.states() == {"a": "unknown"} for claims in watchers)
    clock.now += CONFIRM_S + 1
    assert all(claims.states() == {"a": "void"} for claims in watchers)
    taken = [claims.take("a") for claims in watchers]
    assert [claim is None for claim in taken] == [False, True, True]


def test_holder_that_was_taken_for_dead_notices(tmp_path: Path, clock: Any) -> None:
    claim = Claims(tmp_path).take("a")
    assert claim is not None
    claim.path.write_text(json.dumps(ELSEWHERE))  # as the others see it
    os.utime(claim.path, (time.time() - STALE_S - 60,) * 2)
    other = Claims(tmp_path)
    assert other.take("a") is None
    clock.now += CONFIRM_S + 1
    successor = other.take("a")
    assert successor is not None
    assert claim.lost
    assert not successor.lost
    claim.release()  # only what is its own
    assert Claims(tmp_path).take("a") is None


def test_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    claim = Claims(tmp_path).take("a")
    assert claim is not None
    os.utime(claim.path, (0, 0))
    with claim:
        end = time.monotonic() + 10
        while not claim.path.stat().st_mtime:
            assert time.monotonic() < end
            time.sleep(0.01)
    claim = Claims(tmp_path).take("a")
    assert claim is not None
    os.utime(claim.path, (0, 0))
    Claims(tmp_path).beat()  # anybody on this machine may do it
    assert claim.path.stat().st_mtime


@pytest.mark.parametrize("content", ["", "{", "[]", '{"place": 3, "pid": "x"}', "\x00"])
def test_unreadable_claim_is_judged_by_its_heartbeat(tmp_path: Path, clock: Any, content: str) -> None:
    path = tmp_path / "a.1"
    path.write_text(content)
    claims = Claims(tmp_path)
    assert claims.take("a") is None
    os.utime(path, (time.time() - STALE_S - 60,) * 2)
    assert claims.take("a") is None
    clock.now += CONFIRM_S + 1
    assert claims.take("a") is not None


def test_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert Claims(tmp_path).take("a") is not None
    assert Claims(tmp_path).take("a") is None
    assert Claims(tmp_path).live()["a"]["pid"] == os.getpid()


def test_two_that_claim_under_different_numbers_do_not_both_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One saw a void claim; before it acts, another has taken that over, come to its end and released it, and a third begun."""
    dead = {"place": place(), "host": "h", "pid": 2**22 + 1, "started": "1"}
    (tmp_path / "a.1").write_text(json.dumps(dead))
    create = Claims._create

    def late(self: Claims, path: Path) -> bool:
        monkeypatch.undo()
        (tmp_path / "a.1").unlink()
        assert Claims(tmp_path).take("a") is not None
        return create(self, path)

    monkeypatch.setattr(Claims, "_create", late)
    assert Claims(tmp_path).take("a") is None
    assert [path.name for path in tmp_path.iterdir()] == ["a.1"]


def test_what_is_left_of_a_claim_that_was_never_made_is_swept_away(tmp_path: Path) -> None:
    host = socket.gethostname()
    left = [tmp_path / f".{host}.{2**22 + 1}.7.{kind}" for kind in ("tmp", "now")]
    kept = [
        tmp_path / f".{host}.{os.getpid()}.7.tmp",
        tmp_path / ".node7.4194305.7.tmp",
        tmp_path / "a.1",
        tmp_path / f".{host}.x.tmp",
    ]
    for path in (*left, *kept):
        path.write_text("{}")
    Claims(tmp_path).sweep()
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    Claims(tmp_path / "nowhere").sweep()
