"""What realisations cost: one law for `qlm status`, `qlm plan`, `qlm run --dry-run`, the progress of a run and the schedulers.

A stage takes at a size what it took there on the mean. Where it has not ended at that size, the nearest one is carried over by
a power of N: the stage's own (``Stage.cost_power``), drawn towards the measured one the more, the more sizes and realisations
are known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from qlm_hoomd.base.files import read_json
from qlm_hoomd.ensemble import growth
from qlm_hoomd.ensemble.realisation import COSTS, Realisation
from qlm_hoomd.ensemble.workspace import former_protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from qlm_hoomd.ensemble.workspace import Workspace
    from qlm_hoomd.protocol import Protocol
    from qlm_hoomd.stages.base import Stage

Clock = Literal["cpu_s", "wall_s"]

GUESSED_SECONDS_PER_PARTICLE = 0.05
"""Of a realisation of which nothing is known, all stages together [s]: twice what the paper's glass, N = 4000, took to strain
0.08."""
_SCATTER = 0.3  # standard deviation over mean of the time of a stage from one realisation to the next
_POWER_ERROR = 0.2  # standard error of Stage.cost_power
_SHORTEST = 1e-3  # what costs.json resolves [s]; a stage that took no time at all has no logarithm


@dataclass
class Costs:
    """Times of stages [s], gathered from the ``costs.json`` of realisations; one thread may add while others read."""

    _seconds: dict[tuple[str, str, int], dict[str, Mapping[str, float]]] = field(default_factory=dict)

    @classmethod
    def of_folder(cls, directory: Path, protocol: Protocol) -> Self:
        """What is known in the folder of a run of the stages of ``protocol``.

        It is known of the realisations that ``protocol`` has or had, be they more than it asks for now, and where it grew out
        of the protocol that was run last, of the stages that stay what they were.
        """
        counting = {}
        former = former_protocol(directory)
        if former is not None:
            counting[former.hash] = {stage.kind for stage in growth.kept_stages(former, protocol)}
        counting[protocol.hash] = {stage.kind for stage in protocol.stages}
        settings = {name: each.model_dump(mode="json") for name, each in protocol.ensemble.preparations.items()}
        costs = cls()
        for path in sorted((directory / "workspace").glob(f"*/{COSTS}")):
            try:
                point = read_json(path.with_name("signac_statepoint.json"))
                if point["preparation_settings"] == settings.get(point["preparation"]):
                    costs.add(Realisation(path.parent, point), counting.get(point["protocol_hash"], ()))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return costs

    def add(self, realisation: Realisation, kinds: Iterable[str]) -> None:
        """Take note of what is known of these stages of ``realisation`` now; it may have been added before."""
        known = realisation.costs()
        for kind in known.keys() & set(kinds):
            self.note(kind, str(realisation.statepoint["preparation"]), realisation.n_particles, realisation.id, known[kind])

    def note(self, kind: str, preparation: str, n_particles: int, job_id: str, seconds: Mapping[str, float]) -> None:
        """Take note of what the stage ``kind`` took in one realisation, by the clock."""
        self._seconds.setdefault((kind, preparation, n_particles), {})[job_id] = seconds

    @property
    def any_known(self) -> bool:
        """Whether anything is known of any stage."""
        return bool(self._seconds)

    def measured(self, kind: str, preparation: str, n_particles: int, clock: Clock = "cpu_s") -> float | None:
        """Mean time of the stage ``kind`` [s]; None where none has ended."""
        known = self._seconds.get((kind, preparation, n_particles))
        return float(np.mean([seconds[clock] for seconds in list(known.values())])) if known else None

    def sizes(self, kind: str, preparation: str) -> tuple[int, ...]:
        """The sizes at which the stage has ended, ascending."""
        return tuple(sorted(n for at, of, n in list(self._seconds) if (at, of) == (kind, preparation)))

    def power(self, stage: Stage, preparation: str, clock: Clock = "cpu_s") -> tuple[float, float]:
        """Power of N by which the time of the stage grows, and its standard error.

        The least-squares slope of the logarithms of the means, where the stage's own power counts as one more measurement.
        """
        sizes = self.sizes(stage.kind, preparation)
        means = [self.measured(stage.kind, preparation, n, clock) for n in sizes]
        # (S,) arrays, S sizes: log N from its mean, log t, and the inverse variance of log t.
        weight = np.array([self._number(stage.kind, preparation, n) for n in sizes]) / _SCATTER**2
        log_n = np.log(sizes) - np.average(np.log(sizes), weights=weight) if sizes else np.zeros(0)
        log_t = np.log([max(mean or 0.0, _SHORTEST) for mean in means])
        own, found = _POWER_ERROR**-2, float(weight @ log_n**2)
        return (own * stage.cost_power + float(weight @ (log_n * log_t))) / (own + found), (own + found) ** -0.5

    def expected(self, stage: Stage, preparation: str, n_particles: int, clock: Clock = "cpu_s") -> tuple[float, float] | None:
        """What the stage takes in one realisation, and the standard error of that [s]; None where no size is known."""
        sizes = self.sizes(stage.kind, preparation)
        if not sizes:
            return None
        nearest = min(sizes, key=lambda n: abs(math.log(n / n_particles)))
        power, power_error = self.power(stage, preparation, clock)
        distance = math.log(n_particles / nearest)
        seconds = (self.measured(stage.kind, preparation, nearest, clock) or 0.0) * math.exp(power * distance)
        scatter = _SCATTER / math.sqrt(self._number(stage.kind, preparation, nearest))
        return seconds, seconds * math.hypot(scatter, power_error * distance)

    def total(
        self, numbers: Iterable[tuple[Stage, int]], preparation: str, n_particles: int, clock: Clock = "cpu_s"
    ) -> tuple[float, float] | None:
        """What so many runs of each stage take, and the standard error of that [s]; None where that of one of them is unknown.

        Errors add up: a mean or a power that is wrong is wrong for all.
        """
        seconds = error = 0.0
        for stage, number in numbers:
            each = self.expected(stage, preparation, n_particles, clock) if number else (0.0, 0.0)
            if each is None:
                return None
            seconds += number * each[0]
            error += number * each[1]
        return seconds, error

    def _number(self, kind: str, preparation: str, n_particles: int) -> int:
        return len(self._seconds.get((kind, preparation, n_particles), ()))


def seconds_left(workspace: Workspace, realisations: Iterable[Realisation]) -> dict[str, float]:
    """What is left to do of each realisation [s], by its id, in the order given.

    A stage of which nothing is known counts for its share of :data:`GUESSED_SECONDS_PER_PARTICLE`.
    """
    stages = workspace.protocol.stages
    costs = Costs.of_folder(workspace.directory, workspace.protocol)

    @cache
    def seconds(index: int, preparation: str, n_particles: int) -> float:
        known = costs.expected(stages[index], preparation, n_particles)
        return GUESSED_SECONDS_PER_PARTICLE * n_particles / len(stages) if known is None else known[0]

    return {
        each.id: sum(
            seconds(index, str(each.statepoint["preparation"]), each.n_particles)
            for index, state in enumerate(each.stage_states(stages))
            if state != "done"
        )
        for each in realisations
    }
