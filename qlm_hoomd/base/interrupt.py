"""Signals that ask a process to stop: the stage at work saves its state first, and the same command goes on from there.

SIGTERM (schedulers, `kill`), SIGUSR1 (a scheduler's warning before the wall time is over), SIGHUP (the terminal was closed) and
Ctrl-C are taken note of by :func:`listening` and answered at the next place from which the work can go on
(:meth:`qlm_hoomd.base.checkpoint.Checkpoint.waypoint`), or where none comes within some seconds, at the next step of a long
loop (:func:`stop_if_overdue`). A process that ends so has the exit code 128 + number of the signal: 143 after SIGTERM, 138
after SIGUSR1, 129 after SIGHUP, 130 after Ctrl-C.

A handler that raises while a compiled function is called makes a SystemError of it, raised by whoever made the call; it is
turned back here.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Not every platform knows all of them.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
_requested: int | None = None
_requested_at = 0.0
# Whoever saves a state is given so long to come to the place where it can [s]; schedulers kill after 30, and save and end too.
_PATIENCE_S = 3.0


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop. No failure of what it was at, and like Ctrl-C nothing that ``except Exception`` sees.

    Args:
        signum: number of the signal.
    """

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(f"interrupted by {signal.Signals(signum).name}")

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int]]:
        return Interrupted, (self.signum,)

    @property
    def exit_code(self) -> int:
        """What the process ends with, by the shells' convention."""
        return 128 + self.signum


def request_stop(signum: int) -> None:
    """Ask for what a signal asks for."""
    global _requested, _requested_at  # noqa: PLW0603  (signals are the process's, and so is the memory of one)
    if _requested is None:
        _requested_at = time.monotonic()
    _requested = signum


def stop_requested() -> int | None:
    """Number of the signal that asked this process to stop, or None."""
    return _requested


def stop_if_requested() -> None:
    """End here if that was asked for.

    Raises:
        Interrupted: if a signal came.
    """
    if _requested is not None:
        raise Interrupted(_requested)


def stop_if_overdue() -> None:
    """End here if that was asked for some seconds ago: for loops from which the work cannot go on. Costs next to nothing.

    Raises:
        Interrupted: if a signal came, and nobody has answered it since.
    """
    if _requested is not None and time.monotonic() - _requested_at >= _PATIENCE_S:
        raise Interrupted(_requested)


@contextmanager
def listening() -> Iterator[None]:
    """Take note of signals within the block instead of dying of them; a second Ctrl-C ends it at once.

    Outside a process's main thread, where signals never arrive, it does nothing. A signal that is ignored stays ignored.
    """
    global _requested  # noqa: PLW0603

    def note(signum: int, _: Any) -> None:
        if signum == signal.SIGINT and _requested is not None:
            raise KeyboardInterrupt
        request_stop(signum)

    with _handling(note):
        try:
            yield
        except SystemError:
            if _requested is None:
                raise
            raise Interrupted(_requested) from None
        finally:
            _requested = None


@contextmanager
def interruptible(signals: Sequence[int] = _SIGNALS) -> Iterator[None]:
    """End the block by :class:`Interrupted` as soon as one of ``signals`` comes: for a process that only waits for others."""
    came: list[int] = []

    def interrupt(signum: int, _: Any) -> None:
        came.append(signum)
        raise Interrupted(signum)

    with _handling(interrupt, signals):
        try:
            yield
        except SystemError:
            if not came:
                raise
            raise Interrupted(came[-1]) from None


@contextmanager
def blocked() -> Iterator[None]:
    """Keep these signals from this thread within the block, and for ever from processes that are started in it.

    One that another thread of the process takes would be answered in the main thread all the same: it waits for the end too.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    came: list[int] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        with _handling(lambda signum, _: came.append(signum)):
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for signum in came:
            signal.raise_signal(signum)


@contextmanager
def _handling(handler: Callable[[int, Any], None], signals: Sequence[int] = _SIGNALS) -> Iterator[None]:
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {signum: signal.getsignal(signum) for signum in signals}
    handled = [signum for signum, old in before.items() if old is not signal.SIG_IGN]
    for signum in handled:
        signal.signal(signum, handler)
    try:
        yield
    finally:
        for signum in handled:
            signal.signal(signum, before[signum])
