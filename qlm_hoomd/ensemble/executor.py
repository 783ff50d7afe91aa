"""What spreads realisations over processors. Plugins register executors under the entry point group ``qlm_hoomd.executors``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from qlm_hoomd.ensemble.workspace import Outcome


class Executor(ABC):
    """Calls :func:`~qlm_hoomd.ensemble.runner.run_realisation` for many realisations, wherever that is.

    All truth is on disk, so that an executor keeps no books: what it loses is done by the next run.

    Args:
        workers: realisations at work at the same time; None for what the executor finds best.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers

    @abstractmethod
    def run(self, directory: Path, ids: Sequence[str], finished: Callable[[Outcome], None]) -> None:
        """Run the realisations, in the order given as far as possible.

        One that fails, or whose process dies, must not keep the others from running.

        Args:
            directory: folder of the run.
            ids: ids of the realisations in it.
            finished: called in this thread for every realisation that ends while this method runs.
        """
