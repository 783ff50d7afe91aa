"""What realisations cost: the times that their stages took, by size and preparation, and a power law where none is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from qlm_hoomd.ensemble.realisation import Realisation, State
    from qlm_hoomd.stages.base import Stage

Clock = Literal["cpu_s", "wall_s"]

ASSUMED_POWER = 1.5
"""Power of N where one size only is known: a step costs about N, and the instabilities on the way grow as about the root of N."""


@dataclass
class Costs:
    """Times of stages [s], gathered from the ``costs.json`` of realisations; one thread may add while others read."""

    _seconds: dict[tuple[str, str, int], dict[str, dict[str, float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, realisations: Iterable[Realisation]) -> Self:
        """The costs of these."""
        costs = cls()
        for realisation in realisations:
            costs.add(realisation)
        return costs

    def add(self, realisation: Realisation, kinds: Container[str] | None = None) -> None:
        """Take note of what is known of ``realisation`` now; it may have been added before.

        Args:
            realisation: where it is known.
            kinds: of the stages that count; None for all.
        """
        for kind, seconds in realisation.costs().items():
            if kinds is None or kind in kinds:
                group = (kind, str(realisation.statepoint["preparation"]), realisation.n_particles)
                self._seconds.setdefault(group, {})[realisation.id] = seconds

    @property
    def any_known(self) -> bool:
        """Whether any stage has ended of which it is known."""
        return bool(self._seconds)

    def measured(self, kind: str, preparation: str, n_particles: int, clock: Clock = "cpu_s") -> float | None:
        """Mean time of the stage ``kind`` [s]; None where none has ended."""
        known = self._seconds.get((kind, preparation, n_particles))
        return float(np.mean([seconds[clock] for seconds in list(known.values())])) if known else None

    def number(self, kind: str, preparation: str, n_particles: int) -> int:
        """How many realisations :meth:`measured` is the mean of."""
        return len(self._seconds.get((kind, preparation, n_particles), ()))

    def sizes(self, kind: str, preparation: str) -> tuple[int, ...]:
        """The sizes at which the stage has ended, ascending."""
        return tuple(sorted(n for at, of, n in list(self._seconds) if (at, of) == (kind, preparation)))

    def power(self, kind: str, preparation: str, clock: Clock = "cpu_s") -> tuple[float, tuple[int, ...]]:
        """Power p of the law N^p through the means at the sizes that are known, and these sizes.

        With one size p is :data:`ASSUMED_POWER`; with none there are no sizes.
        """
        sizes = self.sizes(kind, preparation)
        if len(sizes) < 2:
            return ASSUMED_POWER, sizes
        means = [max(self.measured(kind, preparation, n, clock) or 0.0, _SHORTEST) for n in sizes]
        return float(np.polyfit(np.log(sizes), np.log(means), 1)[0]), sizes

    def expected(self, kind: str, preparation: str, n_particles: int, clock: Clock = "cpu_s") -> float | None:
        """:meth:`measured`, or else from the nearest size that is known by the power law; None where no size is known."""
        mean = self.measured(kind, preparation, n_particles, clock)
        power, sizes = self.power(kind, preparation, clock)
        if mean is not None or not sizes:
            return mean
        nearest = min(sizes, key=lambda n: abs(np.log(n / n_particles)))
        mean = self.measured(kind, preparation, nearest, clock)
        return None if mean is None else mean * (n_particles / nearest) ** power

    def of_stages(self, stages: Sequence[Stage], preparation: str, n_particles: int, clock: Clock = "cpu_s") -> float | None:
        """Sum of :meth:`expected` over ``stages``; None where that of one of them is unknown."""
        return _sum(self.expected(stage.kind, preparation, n_particles, clock) for stage in stages)

    def left(
        self, counts: Mapping[tuple[int, str], Mapping[str, Mapping[State, int]]], clock: Clock = "cpu_s"
    ) -> dict[tuple[int, str], float | None]:
        """What the stages that are not done will take [s], by (N, preparation); None where that is unknown.

        Args:
            counts: as ``Workspace.counts`` gives them.
            clock: whose time.
        """
        left: dict[tuple[int, str], float | None] = {}
        for (n_particles, preparation), stages in counts.items():
            missing = {kind: states["failed"] + states["pending"] for kind, states in stages.items()}
            each = {kind: self.expected(kind, preparation, n_particles, clock) for kind, number in missing.items() if number}
            left[n_particles, preparation] = _sum(None if t is None else missing[kind] * t for kind, t in each.items())
        return left


_SHORTEST = 1e-3  # what costs.json resolves; a stage that took no time at all has no logarithm


def _sum(parts: Iterable[float | None]) -> float | None:
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total
