"""Signals ask; they do not kill."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from qlm_hoomd.base import interrupt
from qlm_hoomd.base.interrupt import (
    Interrupted,
    blocked,
    interruptible,
    listening,
    request_stop,
    stop_if_overdue,
    stop_if_requested,
    stop_requested,
)
from qlm_hoomd.elasticity import elastic_moduli
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.minimize import descent, fire, newton
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.nonlinear import CubicModes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.model import GlassModel

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


def test_a_blocked_signal_that_another_thread_takes_waits_too() -> None:
    """Else it comes amid the start of a worker, which then ends in a traceback of its own."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()  # before: threads have the mask of the one that starts them
    reached: list[bool] = []

    def start() -> None:
        with interruptible(), blocked():
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(100):
                time.sleep(0.001)
            reached.append(True)

    try:
        with pytest.raises(Interrupted, match="SIGTERM"):
            start()
    finally:
        end.set()
        thread.join()
    assert reached


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


def test_a_loop_gives_those_who_save_some_time_and_ends_then(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening():
        stop_if_overdue()
        request_stop(signal.SIGTERM)
        stop_if_overdue()
        monkeypatch.setattr(interrupt, "_PATIENCE_S", 0.0)
        with pytest.raises(Interrupted, match="SIGTERM"):
            stop_if_overdue()


LOOPS: dict[str, Callable[[GlassModel, Glass], object]] = {
    "descent": lambda model, glass: descent(Mechanics(model.potential, glass.typeid), glass),
    "fire": lambda model, glass: fire(Mechanics(model.potential, glass.typeid), glass),
    "newton": lambda model, glass: newton(Mechanics(model.potential, glass.typeid), glass),
    "engine": lambda model, glass: CPUEngine(model.potential).relax(glass),
    "moduli": lambda model, glass: elastic_moduli(Hessian(model.potential, force_tolerance=1e9).compute(glass).bonds),
    "filter": lambda model, glass: LowestModes(4, "filter").compute(Hessian(model.potential, force_tolerance=1e9).compute(glass)),
    "cubic": lambda model, glass: CubicModes(random=1).compute(Hessian(model.potential, order=4, force_tolerance=1e9).compute(glass)),
}  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS)
def test_every_long_loop_asks(loop: str, model: GlassModel, small_liquid: Glass, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "_PATIENCE_S", 0.0)
    with listening():
        request_stop(signal.SIGTERM)
        with pytest.raises(Interrupted):
            LOOPS[loop](model, small_liquid)


@pytest.mark.parametrize("block", [listening, interruptible])
def test_what_a_compiled_call_makes_of_a_signal_is_turned_back(block: Callable[[], Any]) -> None:
    """Numba calls the interpreter for types and reflected lists; an exception that comes up there is a SystemError outside."""

    def compiled_call() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.0)
        except KeyboardInterrupt as inside:
            raise SystemError("returned a result with an exception set") from inside
        raise SystemError("returned a result with an exception set")

    with pytest.raises(Interrupted, match="SIGTERM"), block():
        compiled_call()
    with pytest.raises(SystemError), block():
        raise SystemError("another one")
