"""The first instability of one state in several directions of shear, without the fall behind it.

A glass at rest can be sheared in six directions, +-xy, +-xz and +-yz, each with an instability of its own: six distances
gamma_min from one quench. Those of one glass are correlated, so that what is resampled in their statistics is glasses.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import polars as pl

from qlm_hoomd.errors import InputError
from qlm_quasistatic.path import Leg
from qlm_quasistatic.stepper import Stepper

if TYPE_CHECKING:
    from collections.abc import Callable

    from qlm_hoomd.engines.base import Engine
    from qlm_hoomd.glass import Glass
    from qlm_quasistatic.detector import Detector

Direction = Literal["+xy", "-xy", "+xz", "-xz", "+yz", "-yz"]
"""Sign of the strain, direction of the flow, direction of its gradient."""
ALL_DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

DIRECTION_COLUMNS = {
    "strain": pl.Float64,
    "direction": pl.String,
    "gamma_min": pl.Float64,
    "strain_c": pl.Float64,
    "kappa": pl.Float64,
    "coupling": pl.Float64,
}
"""Columns of ``directions.parquet``."""

# How far an instability is looked for; far beyond any distance to one.
_FARTHEST = 0.5


def plane_of(direction: Direction) -> Literal["xy", "xz", "yz"]:
    """Flow and gradient of a direction."""
    plane: Any = direction[1:]
    return plane


def first_instability(
    engine: Engine,
    glass: Glass,
    direction: Direction,
    detector: Detector,
    *,
    increment: float,
    tolerance: float = 1e-10,
    on_waypoint: Callable[[Any], None] | None = None,
) -> dict[str, Any]:
    """A row of ``directions.parquet``: the first instability of ``glass`` in one direction.

    Args:
        engine: relaxes the sheared glass.
        glass: the state, at a minimum, with its axes turned so that the plane of the direction is xy.
        direction: of which the sign alone counts here.
        detector: finds the instability.
        increment: coarse strain increment.
        tolerance: largest force of a state at rest [energy / length].
        on_waypoint: is called every now and then, to end the search by an exception.

    Returns:
        strain: that of the glass; direction; gamma_min: strain from there to the instability, positive in every direction;
        strain_c: accumulated strain at which it lies, negative in a direction with a minus; kappa [energy / length^3] and
            coupling
        [energy / length] of the fold, null from a detector that does not locate it. gamma_min is null too if there is no
        instability within a strain of 0.5, or as far as the tilted box has room for the cut-off.

    Raises:
        InputError: if the glass is not at a minimum.
        ConvergenceError: if the elastic branch ends and no instability is found there.
    """
    sign = -1.0 if direction.startswith("-") else 1.0
    room = 0.5 * glass.box.lx / engine.potential.reach(glass.sizes)
    # Up to half a tilt of the flip it gets narrower.
    steepest = math.sqrt(max(room**2 - 1.0, 0.0))
    farthest = _FARTHEST if steepest >= 0.5 * glass.box.flip else min(_FARTHEST, steepest - sign * glass.box.xy)
    if farthest < increment:
        raise InputError(
            f"the box at strain {glass.strain:g} leaves no room for the cut-off in the direction {direction}. Use more "
            "particles."
        )
    leg = Leg(glass.strain, glass.strain + sign * farthest)
    stepper = Stepper(engine, tolerance, on_waypoint=on_waypoint)
    found = detector.first(stepper, stepper.start(leg.glass(glass)), leg.grid(increment))
    row: dict[str, Any] = {"strain": glass.strain, "direction": direction, "gamma_min": None, "strain_c": None}
    row |= {"kappa": None, "coupling": None}
    if found is not None:
        strain_c, fold = found
        row |= {"gamma_min": strain_c - leg.strain(glass.strain), "strain_c": leg.strain(strain_c)}
        if fold is not None:
            row |= {"kappa": fold.kappa, "coupling": fold.coupling}
    return row


def as_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows of :func:`first_instability` as a table."""
    return pl.DataFrame(rows, schema=DIRECTION_COLUMNS, orient="row")
