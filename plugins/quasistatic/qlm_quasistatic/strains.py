"""The strains at which a shear run stops: a regular grid, and the strains that the user asked for."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StrainGrid:
    """Multiples of an increment up to the largest strain, and stops in between that must be hit exactly.

    Args:
        increment: the coarse strain increment.
        largest: strain at which the run ends.
        stops: strains to be hit exactly.

    Strains of either sign, where a run begins too; strain rises along the grid.

    A detector learns of the end and of the stops from the methods: where a run may go on when its end is raised is known from
    what was asked (:class:`WatchedGrid`).
    """

    increment: float
    largest: float
    stops: tuple[float, ...] = ()

    def next_strain(self, strain: float, increment: float | None = None) -> float:
        """The strain of the next step from ``strain``.

        Without ``increment`` it is the next point of the grid, so that a run returns to it after an instability; the step
        there is at least a thousandth of the grid's increment. With a finer ``increment`` it is one such increment on.
        Stops and the end of the run cut a step short. Beyond the end, where detectors try a step, there is nothing to stop at.
        """
        on_grid = self._multiple(math.floor(strain / self.increment + 1e-3) + 1)
        target = on_grid if increment is None else strain + increment
        limits = [*sorted((*self.stops, self.largest)), math.inf]
        # A step that would end just short of a stop goes there at once, else one of length zero would follow.
        limit = limits[bisect_right(limits, strain)]
        return limit if target > limit - 1e-3 * (increment or self.increment) else target

    def done(self, strain: float) -> bool:
        """Whether the run has reached its end."""
        return strain >= self.largest

    def beyond(self, strain: float) -> bool:
        """Whether ``strain`` lies beyond the end of the run."""
        return strain > self.largest

    def _multiple(self, count: int) -> float:
        # count * 1e-4 rounds to odd digits; dividing by the integer inverse gives the strain that the user would write.
        inverse = round(1.0 / self.increment)
        return count / inverse if abs(inverse * self.increment - 1.0) < 1e-12 else count * self.increment


@dataclass
class Reach:
    """How far the answers of a grid are those of every grid that has the same stops up to there.

    Args:
        strain: a stop at a higher strain would have changed none of the answers.
        met_end: whether an answer depended on where the run ends.
    """

    strain: float = -math.inf
    met_end: bool = False


@dataclass(frozen=True)
class WatchedGrid(StrainGrid):
    """A grid that notes how far it was asked.

    Args:
        end: the stop at which the run is to end; the grid goes beyond it where the run looks for the next instability.
        reach: where that is noted.
    """

    end: float = math.inf
    reach: Reach = field(default_factory=Reach)

    def next_strain(self, strain: float, increment: float | None = None) -> float:
        """See :meth:`StrainGrid.next_strain`."""
        target = super().next_strain(strain, increment)
        # What the step would have been cut short by; twice, for rounding.
        self.reach.strain = max(self.reach.strain, target + 2e-3 * (increment or self.increment))
        self.reach.met_end |= target >= self.end
        return target

    def done(self, strain: float) -> bool:
        """See :meth:`StrainGrid.done`."""
        done = super().done(strain)
        self.reach.met_end |= done
        return done

    def beyond(self, strain: float) -> bool:
        """See :meth:`StrainGrid.beyond`."""
        beyond = super().beyond(strain)
        self.reach.met_end |= beyond
        return beyond
