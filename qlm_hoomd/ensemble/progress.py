"""How far a run is: a live bar on a terminal, a line a minute elsewhere. Both go to standard error."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from qlm_hoomd.ensemble.costs import Costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qlm_hoomd.ensemble.workspace import Failure, Outcome, Realisation, Workspace
    from qlm_hoomd.stages.base import Stage

_SECONDS_BETWEEN_LINES = 60.0


class Progress:
    """Shows the progress of a run while it is entered.

    Args:
        workspace: the folder of the run.
        unfinished: the realisations that this run is to finish.
    """

    def __init__(self, workspace: Workspace, unfinished: Sequence[Realisation]) -> None:
        self.workspace = workspace
        self.waiting = {realisation.id: realisation for realisation in unfinished}
        self.total = Counter(map(_group, workspace.realisations))
        self.n_total = len(workspace.realisations)
        self.n_failed = 0
        self.reasons: set[tuple[str, str, str]] = set()
        self.costs = Costs.of_folder(workspace.directory, workspace.protocol)
        stages = workspace.protocol.stages
        self.kinds = [stage.kind for stage in stages]
        self.missing = {
            realisation.id: tuple(
                stage for stage, state in zip(stages, realisation.stage_states(stages), strict=True) if state != "done"
            )
            for realisation in unfinished
        }
        self.start = time.monotonic()
        self.console = Console(stderr=True, highlight=False)
        self.live: Live | None = None
        self.over = threading.Event()
        self.speaker = threading.Thread(target=self._speak, daemon=True)
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
        elif self.waiting:
            self.speaker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        if self.live is not None:
            self.live.stop()
        elif self.speaker.is_alive():
            self.speaker.join()

    def finished(self, outcome: Outcome) -> None:
        """Take note of a realisation that ended."""
        realisation = self.waiting.pop(outcome.id)
        self.costs.add(realisation, self.kinds)
        if outcome.failure is not None:
            self.n_failed += 1
            if (reason := _reason(outcome.failure)) not in self.reasons:
                self.reasons.add(reason)
                self._print(f"failed: {_description(realisation, outcome.failure)}")
        if self.live is None and not self.waiting:
            self._print(self.summary())

    def summary(self) -> str:
        """One line: how many are done, how many more an hour, how far each size is, and the time left."""
        n_ended = self.n_total - len(self.waiting)
        hours = (time.monotonic() - self.start) / 3600
        parts = [f"{n_ended}/{self.n_total}{f' ({self.n_failed} failed)' if self.n_failed else ''}"]
        if n_here := len(self.missing) - len(self.waiting):
            rate = n_here / hours
            parts.append(f"{rate:.0f} an hour" if rate >= 10 else f"{rate:.2g} an hour")
        return ", ".join(part for part in (*parts, *self._groups(), self._left()) if part)

    def _groups(self) -> list[str]:
        waiting = Counter(map(_group, list(self.waiting.values())))
        lines = []
        for (n_particles, preparation), total in self.total.items():
            whole = [(stage, 1) for stage in self.workspace.protocol.stages]
            known = self.costs.total(whole, preparation, n_particles, "wall_s")
            each = "" if known is None else f" ({duration(known[0])} each)"
            if waiting[n_particles, preparation]:
                lines.append(f"N={n_particles} {preparation} {total - waiting[n_particles, preparation]}/{total}{each}")
        return lines

    def _left(self) -> str:
        """Wall time of all that is missing, shared by the realisations at work; empty while too little is known."""
        if not self.waiting:
            return ""
        missing: Counter[tuple[int, str, tuple[Stage, ...]]] = Counter(
            (*_group(realisation), self.missing[realisation.id]) for realisation in list(self.waiting.values())
        )
        seconds = 0.0
        for (n_particles, preparation, stages), number in missing.items():
            known = self.costs.total([(stage, number) for stage in stages], preparation, n_particles, "wall_s")
            if known is None:
                return ""
            seconds += known[0]
        return f"about {duration(seconds / max(1, len(self.workspace.running())))} left"

    def _speak(self) -> None:
        while not self.over.wait(_SECONDS_BETWEEN_LINES):
            self._print(self.summary())

    def _render(self) -> Group:
        # Here, a few times a second, and not for each of thousands that end.
        self.bar.update(self.task, completed=self.n_total - len(self.waiting), left=self._left())
        lines = [*self._groups(), *self.workspace.running().values()]
        return Group(self.bar, *(Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines))

    def _print(self, line: str) -> None:
        if self.console.is_terminal:
            self.console.print(line, markup=False)
        else:  # rich would break long lines at 80 columns
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


@dataclass(frozen=True)
class FailureGroup:
    """Realisations that failed for the same reason.

    Args:
        number: of them.
        realisation: the first of them.
        failure: what happened to it.
    """

    number: int
    realisation: Realisation
    failure: Failure

    def __str__(self) -> str:
        record = self.realisation.directory / "failed" / f"{self.failure.stage}.json"
        return f"{self.number} x {_description(self.realisation, self.failure)} ({record})"


def grouped_failures(workspace: Workspace) -> list[FailureGroup]:
    """The failures of a run by reason, the most frequent first: stage, class of the error, and its message but for numbers."""
    groups: dict[tuple[str, str, str], list[tuple[Realisation, Failure]]] = {}
    for realisation, failure in workspace.failures():
        groups.setdefault(_reason(failure), []).append((realisation, failure))
    return [FailureGroup(len(members), *members[0]) for members in sorted(groups.values(), key=len, reverse=True)]


def duration(seconds: float) -> str:
    """``seconds`` for people: 12 s, 40 min, 3.4 h, 12 years."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.2g} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 3.6e8 else f"{seconds / 3.156e7:.3g} years"


def _group(realisation: Realisation) -> tuple[int, str]:
    return realisation.n_particles, str(realisation.statepoint["preparation"])


def _reason(failure: Failure) -> tuple[str, str, str]:
    return failure.stage, failure.error, re.sub(r"\d[\d.e+-]*", "#", failure.message)


def _description(realisation: Realisation, failure: Failure) -> str:
    return f"{realisation.label}, stage {failure.stage}: {failure.error}: {failure.message}"
