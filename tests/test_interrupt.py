"""Signals ask; they do not kill."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from qlm_hoomd.base.interrupt import Interrupted, interruptible, listening, stop_if_requested, stop_requested

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


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


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening(), interruptible():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


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
