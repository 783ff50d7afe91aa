"""The way of a run through strain: legs between the points where it turns back, and the plane in which it shears."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from qlm_hoomd.errors import InputError
from qlm_quasistatic.detector import EVENT_COLUMNS, event_row
from qlm_quasistatic.strains import Reach, WatchedGrid

if TYPE_CHECKING:
    from qlm_hoomd.box import Box
    from qlm_hoomd.engines.base import Observables
    from qlm_hoomd.glass import Glass
    from qlm_quasistatic.detector import Detector, Instability

Plane = Literal["xy", "xz", "yx", "yz", "zx", "zy"]
"""Direction of the flow, then direction of its gradient."""

# What changes sign in the mirror y -> -y, among the columns of steps and events.
_ODD = frozenset({"strain", "increment", "stress_xy", "strain_before", "strain_after", "strain_c", "core_y"})

PATH_EVENT_COLUMNS: dict[str, Any] = EVENT_COLUMNS | {"travelled": pl.Float64}
"""Columns of ``events.parquet``: those of the detectors, and the strain travelled up to the instability."""


@dataclass(frozen=True, slots=True)
class Leg:
    """A stretch of a strain path on which the strain rises, or on which it falls.

    Detectors know rising strain only. What falls they see in a mirror, y -> -y: tilt, strain and shear stress change sign,
    energies and distances do not. Each method that takes a value through the mirror also takes it back; on a rising leg it
    changes nothing.

    Args:
        begin: strain at which the leg begins.
        end: strain at which it ends.
        travelled: strain travelled before it begins, the sum of all abs(dgamma).
    """

    begin: float
    end: float
    travelled: float = 0.0

    @property
    def falls(self) -> bool:
        """Whether the strain falls."""
        return self.end < self.begin

    def passes(self, strain: float) -> bool:
        """Whether ``strain`` is reached after the leg's beginning, its end included."""
        return self.strain(self.begin) < self.strain(strain) <= self.strain(self.end)

    def travelled_at(self, strain: float) -> float:
        """Strain travelled up to ``strain`` on this leg or beyond its end."""
        return self.travelled + abs(strain - self.begin)

    def strain(self, strain: float) -> float:
        """A strain through the mirror."""
        # Not -strain, which makes a negative zero that tables would show.
        return 0.0 - strain if self.falls else strain

    def glass(self, glass: Glass) -> Glass:
        """A glass through the mirror."""
        return glass.mirrored() if self.falls else glass

    def observables(self, observables: Observables) -> Observables:
        """What was measured, through the mirror."""
        return replace(observables, stress_xy=0.0 - observables.stress_xy) if self.falls else observables

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row of a table through the mirror: strains, their increment, the shear stress and the y of a core change sign."""
        if not self.falls:
            return row
        return {name: 0.0 - value if name in _ODD else value for name, value in row.items()}

    def grid(
        self, increment: float, stops: Sequence[float] = (), beyond: float = 0.0, reach: Reach | None = None
    ) -> WatchedGrid:
        """The strains of the leg as a detector sees them.

        Args:
            increment: coarse strain increment, positive.
            stops: strains to be hit exactly; those that the leg does not pass count for nothing.
            beyond: how far beyond its end the run may go.
            reach: how far the leg was asked before; None for a leg that begins.
        """
        end = self.strain(self.end)
        seen = tuple(self.strain(strain) for strain in stops if self.passes(strain))
        return WatchedGrid(increment, end + beyond, (*seen, end), end, reach or Reach())

    def event_row(self, event: Instability, since: float, detector: Detector | None) -> dict[str, Any]:
        """A row of ``events.parquet``: a drop of stress is positive where the stress that resists the shear falls.

        Args:
            event: as the detector saw it.
            since: strain travelled up to the last instability, or up to the beginning of the leg; gamma_min counts from there.
            detector: what found it.
        """
        last_event = self.strain(self.begin) + (since - self.travelled)
        travelled = self.travelled_at(self.strain(event.strain_c))
        return self.row(event_row(event, last_event, detector)) | {"travelled": travelled}


def legs_of(path: Sequence[float]) -> tuple[Leg, ...]:
    """The legs between the turning points ``path``, the strain of the start first.

    Raises:
        ValueError: if there are fewer than two points, one is not finite, a leg has no length or does not turn back.
    """
    shown = f"path = {[float(point) for point in path]}"
    if len(path) < 2 or not all(map(math.isfinite, path)):
        raise ValueError(f"{shown}; expected at least two strains, that of the start and that of the end")
    legs: list[Leg] = []
    travelled = 0.0
    for begin, end in pairwise(path):
        if end == begin:
            raise ValueError(f"{shown} has a leg of zero length at strain {begin:g}; expected neighbours that differ")
        leg = Leg(begin, end, travelled)
        if legs and leg.falls == legs[-1].falls:
            raise ValueError(
                f"{shown} does not turn back at strain {begin:g}; expected turning points only, with `frames` for strains "
                "between"
            )
        legs.append(leg)
        travelled += abs(end - begin)
    return tuple(legs)


def axes_of(plane: Plane) -> tuple[int, int, int]:
    """Which axes of the sample become x (flow), y (gradient) and z when ``plane`` is turned into the plane xy."""
    flow, gradient = ("xyz".index(axis) for axis in plane)
    return flow, gradient, 3 - flow - gradient


def check_room(box: Box, legs: Sequence[Leg], cutoff: float) -> None:
    """Refuse a box in which the cut-off has no room somewhere on the path, before a long run finds out.

    Args:
        box: the box at the start.
        legs: the path.
        cutoff: largest cut-off distance [length].

    Raises:
        InputError: if opposite faces come closer than twice the cut-off.
    """
    low, high = (bound(strain for leg in legs for strain in (leg.begin, leg.end)) for bound in (min, max))
    # The tilt is largest where the box flips, at 1/2 in a cube.
    flips = math.floor(high / box.flip - 0.5) >= math.ceil(low / box.flip - 0.5)
    strain = 0.5 * box.flip if flips else max((low, high), key=lambda strain: abs(math.remainder(strain, box.flip)))
    narrowest = box.sheared(strain, strain - box.xy)
    if narrowest.nearest_plane_distance < 2.0 * cutoff:
        raise InputError(
            f"on the way from strain {low:g} to {high:g} the tilt of the box reaches {abs(narrowest.xy):g}, where opposite "
            f"faces are {narrowest.nearest_plane_distance:.4g} apart; expected at least twice the cut-off, {2.0 * cutoff:.4g}. "
            "Use more particles, or smaller strains."
        )
