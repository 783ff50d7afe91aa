"""Processes that work for this one: each on one thread, and none that outlives it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for_futures
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from qlm_hoomd.base.errors import QlmError
from qlm_hoomd.base.interrupt import blocked, interruptible, listening, stop_if_requested

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

_Result = TypeVar("_Result")
_lines: Any = None

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def n_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker() -> None:
    """Make this process end with the one that started it, and work on one thread.

    Small systems take ten times as long on more.
    """
    from threadpoolctl import threadpool_limits

    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    threadpool_limits(1)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Environment in which libraries start one thread; they read it once, when a worker loads them."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def worker_pool(
    n_workers: int, initializer: Callable[..., None], *, initargs: Sequence[Any] = (), max_tasks: int = 0
) -> Iterator[ProcessPool]:
    """A pool of processes that end with the block, at once.

    Args:
        n_workers: number of processes.
        initializer: what each does first; it calls :func:`start_worker`, or is that.
        initargs: its arguments.
        max_tasks: tasks after which a process is replaced by a new one; 0 for none.

    Raises:
        QlmError: if processes cannot start.
    """
    with one_thread_each():
        with _room_for_semaphores():
            pool = ProcessPool(n_workers, max_tasks, initializer, initargs, multiprocessing.get_context("spawn"))
            _ = pool.active  # starts it
        try:
            yield pool
        finally:
            pool.stop()  # type: ignore[no-untyped-call]  # pebble leaves it untyped
            pool.join()


@contextmanager
def _room_for_semaphores() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise QlmError(
            f"worker processes cannot start ({error.strerror}); expected room for semaphores: a /dev/shm that can be "
            "written to, and a limit on open files that is not reached."
        ) from None


def results_of(
    task: Callable[[int, Callable[[str], None]], _Result], items: Sequence[int], workers: int, progress: Callable[[str], None]
) -> Generator[tuple[int, _Result | QlmError], None, None]:
    """What a task makes of each of some items, as they end; the error where it fails.

    To be closed where it is not read to its end.

    Args:
        task: takes an item, and what takes lines on how far it is; to be pickled where there are workers.
        items: the items.
        workers: items at work at a time, each in a process of its own where it is more than one.
        progress: takes the lines.

    Raises:
        Interrupted: if a signal asked this process to stop. Nothing is saved of what is at work.
    """
    if workers > 1 and len(items) > 1:
        yield from _results_of_workers(task, items, workers, progress)
        return
    with listening():
        for item in items:
            try:
                yield item, task(item, progress)
            except QlmError as error:
                yield item, error
            stop_if_requested()


def _results_of_workers(
    task: Callable[[int, Callable[[str], None]], _Result], items: Sequence[int], workers: int, progress: Callable[[str], None]
) -> Generator[tuple[int, _Result | QlmError], None, None]:
    with _room_for_semaphores():
        lines = multiprocessing.get_context("spawn").SimpleQueue()
    with interruptible(), ExitStack() as stack:
        # It is for this process to answer signals, and to end the others.
        with blocked():
            pool = stack.enter_context(worker_pool(min(workers, len(items)), _start, initargs=(lines,)))
        item_of: dict[Future[_Result], int] = {pool.schedule(_run, args=(task, item)): item for item in items}
        waiting = set(item_of)
        while waiting:
            ended, waiting = wait_for_futures(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            while not lines.empty():
                progress(lines.get())
            for future in ended:
                try:
                    yield item_of[future], future.result()
                except ProcessExpired as death:
                    yield item_of[future], QlmError(f"its process died with exit code {death.exitcode}; out of memory?")
                except QlmError as error:
                    yield item_of[future], error


def _start(lines: Any) -> None:
    global _lines  # noqa: PLW0603  (a worker's way back to who started it)
    _lines = lines
    start_worker()


def _run(task: Callable[[int, Callable[[str], None]], _Result], item: int) -> _Result:
    return task(item, _lines.put)
