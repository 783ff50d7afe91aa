"""What spreads realisations over processors. Plugins register executors under the entry point group ``qlm_hoomd.executors``."""

from __future__ import annotations

import shlex
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from qlm_hoomd.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qlm_hoomd.ensemble.workspace import Outcome


class Executor(ABC):
    """Calls :func:`~qlm_hoomd.ensemble.runner.run_realisation` for many realisations, wherever that is.

    All truth is on disk: the products of a realisation say whether it is done, and what an executor loses is done by the next
    run. Realisations are claimed where they run, so that several executors may be at work in one folder.

    Args:
        workers: realisations at work at the same time; None for what the executor finds best.
        settings: ``key=value`` texts and names of YAML files, for executors that have settings.
        checkpoint_interval: seconds between two checkpoints of a long stage, which :meth:`run` hands to where realisations run;
            None for what the environment says there (:func:`~qlm_hoomd.base.checkpoint.interval_from_environment`).

    Attributes:
        runs_here: whether realisations run on this machine, so that what they need has to be installed and at hand here.
    """

    runs_here: ClassVar[bool] = True

    def __init__(
        self, workers: int | None = None, settings: Sequence[str] = (), *, checkpoint_interval: float | None = None
    ) -> None:
        if workers is not None and workers < 1:
            raise InputError(f"workers = {workers}; expected at least 1.")
        if settings:
            raise InputError(f"settings {', '.join(settings)}; expected none, as {type(self).__name__} has no settings.")
        if checkpoint_interval is not None and not checkpoint_interval >= 0.0:
            raise InputError(f"checkpoint_interval = {checkpoint_interval}; expected a number of seconds, 0 or more.")
        self.workers = workers
        self.checkpoint_interval = checkpoint_interval

    @abstractmethod
    def run(self, directory: Path, ids: Sequence[str], finished: Callable[[Outcome], None]) -> None:
        """Run the realisations, in the order given as far as possible.

        One that fails, or whose process dies, must not keep the others from running.

        Args:
            directory: folder of the run.
            ids: ids of the realisations in it.
            finished: called in this thread for every realisation that ends while this method runs, or is found to be at work
                elsewhere.
        """


def work_command(realisations: str, workers: int, checkpoint_interval: float | None) -> str:
    """The command that does the work of a chunk, ``qlm work``, for a shell: with this program's own Python.

    Args:
        realisations: folder of the run and ids, as the shell takes them.
        workers: realisations at work at a time.
        checkpoint_interval: as in :class:`Executor`.
    """
    program = Path(sys.executable).with_name("qlm")
    qlm = shlex.quote(str(program if program.is_file() else sys.executable))
    if not program.is_file():
        qlm += " -c 'from qlm_hoomd.cli import main; main()'"
    interval = "" if checkpoint_interval is None else f" --checkpoint-interval {checkpoint_interval:g}"
    return f"{qlm} work {realisations} --workers {workers}{interval}"
