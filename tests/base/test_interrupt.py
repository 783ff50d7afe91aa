"""Signals ask; they do not kill."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from qlm_hoomd.base.interrupt import Interrupted, blocked, interruptible, listening, stop_if_requested, stop_requested

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = [signal.getsignal(signum) for signum in SIGNALS]
    yield
    assert [signal.getsignal(signum) for signum in SIGNALS] == before
    assert stop_requested() is None


@pytest.mark.parametrize("signum", SIGNALS)
def test_signal_is_noted_and_answered_where_it_suits(signum: int) -> None:
    with listening():
        stop_if_requested()
        os.kill(os.getpid(), signum)
        assert stop_requested() == signum
        with pytest.raises(Interrupted) as caught:
            stop_if_requested()
    assert caught.value.exit_code == 128 + signum
    assert not isinstance(caught.value, Exception)
    stop_if_requested()


def test_second_ctrl_c_ends_at_once_and_a_second_sigterm_does_not() -> None:
    with listening():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt) as caught:
            os.kill(os.getpid(), signal.SIGINT)
    assert not isinstance(caught.value, Interrupted)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])  # a job in the background of a script; nohup
def test_ignored_signals_stay_ignored(signum: int) -> None:
    before = signal.signal(signum, signal.SIG_IGN)
    try:
        with listening(), interruptible():
            os.kill(os.getpid(), signum)
        assert signal.getsignal(signum) is signal.SIG_IGN
    finally:
        signal.signal(signum, before)


def test_blocked_signals_never_reach_a_process_that_is_started_then() -> None:
    with blocked():
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    for signum in SIGNALS:
        process.send_signal(signum)
    process.communicate(b"\n")
    assert process.returncode == 0
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(SIGNALS)


def test_who_only_waits_is_interrupted_at_once() -> None:
    with pytest.raises(Interrupted, match="SIGTERM"), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)


def test_other_threads_are_left_alone() -> None:
    with listening():
        thread = threading.Thread(target=lambda: listening().__enter__())
        thread.start()
        thread.join()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_requested() == signal.SIGTERM


def test_it_crosses_processes() -> None:
    assert pickle.loads(pickle.dumps(Interrupted(signal.SIGUSR1))).signum == signal.SIGUSR1
