"""How realisations are put together for a scheduler: chunks that take about the same time."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from qlm_hoomd.ensemble.costs import Costs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qlm_hoomd.ensemble.realisation import Realisation
    from qlm_hoomd.ensemble.workspace import Workspace

GUESSED_SECONDS_PER_PARTICLE = 0.05
"""Of a realisation of which nothing is known, all stages together [s]: the paper's glass at N = 4000, sheared to 0.08, took half of that."""


def seconds_of(workspace: Workspace, realisations: Iterable[Realisation]) -> list[tuple[str, float]]:
    """What each realisation will take [s], by its id, in the order given.

    From the processor time of finished stages at the same or the nearest size, of those stages alone that are missing; where
    nothing is known of a stage, :data:`GUESSED_SECONDS_PER_PARTICLE` shared by the stages.
    """
    costs = Costs.of(workspace.realisations)
    stages = workspace.protocol.stages
    expected = cache(costs.expected)
    found = []
    for realisation in realisations:
        guess = GUESSED_SECONDS_PER_PARTICLE * realisation.n_particles / len(stages)
        preparation = str(realisation.statepoint["preparation"])
        seconds = 0.0
        for stage, state in zip(stages, realisation.stage_states(stages), strict=True):
            if state != "done":
                known = expected(stage.kind, preparation, realisation.n_particles)
                seconds += guess if known is None else known
        found.append((realisation.id, seconds))
    return found


def chunks(seconds: Sequence[tuple[str, float]], workers: int, target: float) -> list[list[str]]:
    """Put realisations together, in the order given, until a chunk keeps ``workers`` processes busy for about ``target`` seconds.

    One that takes longer has a chunk of its own, but for those that share its task's processes.

    Args:
        seconds: id and time [s] of each realisation.
        workers: processes of a task.
        target: wall time that a chunk is meant to take [s].
    """
    made: list[list[str]] = []
    filled = 0.0
    for job_id, time in seconds:
        if not made or (filled + time > target * workers and len(made[-1]) >= workers):
            made.append([])
            filled = 0.0
        made[-1].append(job_id)
        filled += time
    return made
