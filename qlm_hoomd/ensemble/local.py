"""The local executor: a pool of processes on this machine, each on one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from pebble import ProcessExpired, ProcessPool

from qlm_hoomd.ensemble.executor import Executor
from qlm_hoomd.ensemble.runner import record_death, run_realisation
from qlm_hoomd.errors import InputError, QlmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from qlm_hoomd.ensemble.workspace import Outcome

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# A process that dies is tried once more: it may have been the out-of-memory killer's choice by chance.
_ATTEMPTS = 2


class LocalExecutor(Executor):
    """Runs realisations in a pool of processes of this machine.

    A process that dies costs its realisation alone, which is tried once more and then recorded as failed.

    Args:
        workers: number of processes, one thread each; None for one per core.
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise InputError(f"workers = {workers}; expected at least 1.")
        super().__init__(workers)

    def run(self, directory: Path, ids: Sequence[str], finished: Callable[[Outcome], None]) -> None:
        """See :meth:`Executor.run`.

        Raises:
            QlmError: if workers cannot start, or a realisation can neither be run nor its failure be recorded.
        """
        waiting = deque((job_id, 1) for job_id in ids)
        pools_that_broke = 0
        while waiting:
            n_waiting = len(waiting)
            if self._drain(directory, waiting, finished):
                pools_that_broke = 0 if len(waiting) < n_waiting else pools_that_broke + 1
                if pools_that_broke == _ATTEMPTS:
                    raise QlmError(
                        "worker processes die before they start to work; see their messages above, and `qlm doctor`."
                    )

    def _drain(self, directory: Path, waiting: deque[tuple[str, int]], finished: Callable[[Outcome], None]) -> bool:
        """Run what is waiting, until nothing is or the pool breaks (True); what was at work then waits again."""
        n_workers = min(self.workers or n_cores(), len(waiting))
        ended: SimpleQueue[Future[Outcome]] = SimpleQueue()
        at_work: dict[Future[Outcome], tuple[str, int]] = {}
        with _one_thread_each():
            pool = ProcessPool(n_workers, initializer=_start_worker, context=multiprocessing.get_context("spawn"))
            try:
                while waiting or at_work:
                    # No more than the workers can take: what is not handed out yet cannot be lost with a pool that breaks.
                    while waiting and len(at_work) < n_workers and pool.active:
                        job_id, attempt = waiting.popleft()
                        future = pool.schedule(run_realisation, args=(directory, job_id))
                        at_work[future] = (job_id, attempt)
                        future.add_done_callback(ended.put)
                    try:
                        over = ended.get(timeout=1.0)
                    except Empty:
                        if not pool.active:
                            raise BrokenProcessPool from None
                        continue
                    job_id, attempt = at_work[over]
                    outcome = _outcome(over, directory, job_id, last=attempt == _ATTEMPTS)
                    del at_work[over]
                    if outcome is None:
                        waiting.appendleft((job_id, attempt + 1))
                    else:
                        finished(outcome)
            except BrokenProcessPool:
                waiting.extendleft(reversed(at_work.values()))
                return True
            finally:
                pool.stop()  # type: ignore[no-untyped-call]  # pebble leaves it untyped
                pool.join()
        return False


def _outcome(future: Future[Outcome], directory: Path, job_id: str, *, last: bool) -> Outcome | None:
    """How a realisation ended; None if its process died and this was not the ``last`` attempt."""
    try:
        return future.result()
    except ProcessExpired as death:
        if not last:
            return None
        return record_death(directory, job_id, f"its process died {_ATTEMPTS} times, {_cause(death.exitcode)}")
    except (BrokenProcessPool, CancelledError):
        raise BrokenProcessPool from None
    except Exception as error:
        # Not even a failure could be recorded, e.g. on a full disk: the others would fare no better.
        raise QlmError(f"realisation {job_id} cannot be run: {type(error).__name__}: {error}") from error


def n_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> None:
    """Make this process end with the one that started it, and work on one thread."""
    from threadpoolctl import threadpool_limits

    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    threadpool_limits(1)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
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


def _cause(exitcode: int) -> str:
    if exitcode == -signal.SIGKILL:
        return "killed by SIGKILL (out of memory? try fewer workers)"
    return f"killed by signal {-exitcode}" if exitcode < 0 else f"with exit code {exitcode}"
