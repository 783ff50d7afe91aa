"""How far a run is: a live bar on a terminal, plain lines elsewhere. Both go to standard error."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qlm_hoomd.ensemble.workspace import Outcome, Realisation, Workspace

_SECONDS_BETWEEN_LINES = 2.0


class Progress:
    """Shows the progress of a run while it is entered.

    Args:
        workspace: the folder of the run.
        unfinished: the realisations that this run is to finish.
    """

    def __init__(self, workspace: Workspace, unfinished: Sequence[Realisation]) -> None:
        self.workspace = workspace
        self.waiting = {realisation.id: realisation for realisation in unfinished}
        self.n_total = len(workspace.realisations)
        self.n_failed = 0
        self.work_total = sum(realisation.n_particles for realisation in unfinished)
        self.work_done = 0
        self.start = self.last_line = time.monotonic()
        self.console = Console(stderr=True, highlight=False)
        self.live: Live | None = None
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self.task = self.bar.add_task("realisations", total=self.n_total, completed=self.n_total - len(unfinished), left="")

    def __enter__(self) -> Self:
        n_done = self.n_total - len(self.waiting)
        already = f", {n_done if self.waiting else 'all'} of them done already" if n_done else ""
        self._print(f"{self.n_total} realisations in {self.workspace.directory}{already}")
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self.live = Live(get_renderable=self._render, console=self.console, refresh_per_second=4, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def finished(self, outcome: Outcome) -> None:
        """Take note of a realisation that ended."""
        realisation = self.waiting.pop(outcome.id)
        self.work_done += realisation.n_particles
        n_ended = self.n_total - len(self.waiting)
        left = self._left()
        self.bar.update(self.task, completed=n_ended, left=left)
        if outcome.failure is not None:
            self.n_failed += 1
            failure = outcome.failure
            self._print(f"failed: {realisation.label}, stage {failure.stage}: {failure.error}: {failure.message}")
        now = time.monotonic()
        if self.live is None and (not self.waiting or now - self.last_line >= _SECONDS_BETWEEN_LINES):
            self.last_line = now
            failed = f" ({self.n_failed} failed)" if self.n_failed else ""
            self._print(
                f"{n_ended}/{self.n_total}{failed} {realisation.label} took {outcome.seconds:.1f} s{left and ', '}{left}"
            )

    def _left(self) -> str:
        # The cost of a realisation grows with its size, so that the sizes are the measure of work.
        if not self.waiting:
            return ""
        seconds = (time.monotonic() - self.start) * (self.work_total - self.work_done) / self.work_done
        return f"about {_duration(seconds)} left"

    def _render(self) -> Group:
        lines = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in self.workspace.running().values()]
        return Group(self.bar, *lines)

    def _print(self, line: str) -> None:
        if self.console.is_terminal:
            self.console.print(line, markup=False)
        else:  # rich would break long lines at 80 columns
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
