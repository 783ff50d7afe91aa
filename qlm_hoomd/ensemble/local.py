"""The local executor: a pool of processes on this machine, each on one thread, and on one GPU where the engine wants GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for_futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import resource_tracker
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from pebble import ProcessExpired

from qlm_hoomd.base.errors import QlmError, StorageFull
from qlm_hoomd.base.interrupt import Interrupted, blocked, interruptible
from qlm_hoomd.base.processes import n_cores, start_worker, worker_pool
from qlm_hoomd.ensemble.claims import HEARTBEAT_S, place
from qlm_hoomd.ensemble.executor import Executor
from qlm_hoomd.ensemble.runner import record_death, run_realisation
from qlm_hoomd.ensemble.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from qlm_hoomd.ensemble.realisation import Outcome

# A process that dies is tried once more: it may have been the out-of-memory killer's choice by chance.
_ATTEMPTS = 2


# Time that realisations have to save their state when the run is stopped [s]; schedulers warn two minutes before the end.
_GRACE_S = 90.0


class LocalExecutor(Executor):
    """Runs realisations in a pool of processes of this machine.

    A process that dies costs its realisation alone, which is tried once more and then recorded as failed. When the run is
    stopped, by Ctrl-C or a signal, the realisations at work are told to save their state.

    Args:
        workers: number of processes, one thread each; None for one per core, or one per GPU where the engine wants GPUs.
        settings: none.
        checkpoint_interval: see :class:`Executor`.
    """

    def run(self, directory: Path, ids: Sequence[str], finished: Callable[[Outcome], None]) -> None:
        """See :meth:`Executor.run`.

        Raises:
            QlmError: if workers cannot start, or a realisation can neither be run nor its failure be recorded.
            StorageFull: if the disk is full, or a quota is reached.
        """
        workspace = Workspace.open(directory)
        gpus = gpus_at_hand() if workspace.protocol.engine.wants_gpu else ()
        waiting = deque((job_id, 1) for job_id in ids)
        pools_that_broke = 0
        with blocked():  # all processes of a group get some signals, and multiprocessing's own helper would die of them
            resource_tracker.ensure_running()
        with interruptible():
            while waiting:
                n_waiting = len(waiting)
                if self._drain(workspace, waiting, gpus, finished):
                    pools_that_broke = 0 if len(waiting) < n_waiting else pools_that_broke + 1
                    if pools_that_broke == _ATTEMPTS:
                        raise QlmError(
                            "worker processes die before they start to work; see their messages above, and `qlm doctor`."
                        )

    def _drain(
        self,
        workspace: Workspace,
        waiting: deque[tuple[str, int]],
        gpus: Sequence[str],
        finished: Callable[[Outcome], None],
    ) -> bool:
        """Run what is waiting, until nothing is or the pool breaks (True); what was at work then waits again."""
        directory = workspace.directory
        n_workers = min(self.workers or len(gpus) or n_cores(), len(waiting))
        ended: SimpleQueue[Future[Outcome]] = SimpleQueue()
        at_work: dict[Future[Outcome], tuple[str, int, int]] = {}
        slots = list(range(n_workers))
        next_beat = time.monotonic() + HEARTBEAT_S
        # A process never gives back the GPU that it chose first, nor all of the GPU's memory.
        with worker_pool(n_workers, start_worker, max_tasks=1 if gpus else 0) as pool:
            try:
                while waiting or at_work:
                    # No more than the workers can take: what is not handed out yet cannot be lost with a pool that breaks.
                    while waiting and slots and pool.active:
                        job_id, attempt = waiting.popleft()
                        slot = slots.pop(0)
                        gpu = gpus[slot % len(gpus)] if gpus else None
                        future = pool.schedule(_run, args=(directory, job_id, gpu, self.checkpoint_interval))
                        at_work[future] = (job_id, attempt, slot)
                        future.add_done_callback(ended.put)
                    if time.monotonic() >= next_beat:
                        next_beat = time.monotonic() + HEARTBEAT_S
                        workspace.claims.beat()
                    try:
                        over = ended.get(timeout=1.0)
                    except Empty:
                        if not pool.active:
                            raise BrokenProcessPool from None
                        continue
                    job_id, attempt, slot = at_work[over]
                    outcome = _outcome(over, directory, job_id, last=attempt == _ATTEMPTS)
                    del at_work[over]
                    slots.append(slot)
                    if outcome is None:
                        waiting.appendleft((job_id, attempt + 1))
                    else:
                        finished(outcome)
            except BrokenProcessPool:
                waiting.extendleft((job_id, attempt) for job_id, attempt, _ in reversed(at_work.values()))
                return True
            except KeyboardInterrupt:
                _let_save(workspace, {future: job_id for future, (job_id, *_) in at_work.items()})
                raise
        return False


def _run(directory: Path, job_id: str, gpu: str | None, checkpoint_interval: float | None = None) -> Outcome:
    """Run a realisation in this worker, which sees only that GPU."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    return run_realisation(directory, job_id, checkpoint_interval)


def _let_save(workspace: Workspace, at_work: dict[Future[Outcome], str]) -> None:
    """Tell the realisations at work to save their state, and wait until they have; Ctrl-C ends the wait."""
    holders = workspace.claims.live()
    for future, job_id in at_work.items():
        holder = holders.get(job_id, {})
        if holder.get("place") == place():
            with suppress(OSError, KeyError):
                os.kill(holder["pid"], signal.SIGTERM)
        else:  # it has not begun
            future.cancel()
    end = time.monotonic() + _GRACE_S
    waiting = True
    while waiting:
        try:
            wait_for_futures(at_work, timeout=max(0.0, end - time.monotonic()))
            waiting = False
        except Interrupted as again:  # schedulers repeat themselves
            waiting = again.signum != signal.SIGINT


def gpus_at_hand() -> tuple[str, ...]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return tuple(name.strip() for name in allowed.split(",") if name.strip())
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True).stdout  # noqa: S607
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(str(index) for index, line in enumerate(line for line in listing.splitlines() if line.startswith("GPU ")))


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
    except StorageFull:
        raise
    except Exception as error:
        # Not even a failure could be recorded, e.g. on a full disk: the others would fare no better.
        raise QlmError(f"realisation {job_id} cannot be run: {type(error).__name__}: {error}") from error


def _cause(exitcode: int) -> str:
    if exitcode == -signal.SIGKILL:
        return "killed by SIGKILL (out of memory? try fewer workers)"
    return f"killed by signal {-exitcode}" if exitcode < 0 else f"with exit code {exitcode}"
