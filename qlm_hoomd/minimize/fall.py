"""What every fall has in common: it is followed until it is quiet, and then polished by Newton, within bounds."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from qlm_hoomd.base.errors import ConvergenceError
from qlm_hoomd.minimize.newton import newton

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.mechanics import Bonds, Mechanics
    from qlm_hoomd.minimize.report import MinimizeReport
    from qlm_hoomd.minimize.surface import EnergySurface

# In the ghost of a minimum the energy falls by less than rounding over some hundred steps; beyond that nothing moves any more.
_STEPS_WITHOUT_PROGRESS = 2000


class Path(Protocol):
    """A state on its way down."""

    positions_nc: NDArray[np.float64]
    energy: float
    max_force: float
    time: float
    n_steps: int

    def advance(self) -> None:
        """Make one step; an energy that is NaN afterwards says that there was none to make."""


def follow(
    path: Path,
    surface: EnergySurface,
    mechanics: Mechanics,
    glass: Glass,
    *,
    method: str,
    tolerance: float,
    switch_force: float | None,
    max_steps: int,
    max_evaluations: int,
    falling: Callable[[int, float], None] | None = None,
) -> tuple[Glass, MinimizeReport]:
    """Follow ``path`` down until it is at rest, or quiet enough for Newton.

    Newton is tried where max|F| has sunk to a tenth of what it was, and below ``switch_force``; it must reach the minimum with
    positive curvature all the way and without moving a particle by more than a tenth of a diameter. Else the path goes on from
    where it was to a tenth of that force, and so on.

    Args:
        path: what moves.
        surface: what the path moves on, and counts on.
        mechanics: evaluates the potential.
        glass: where the path started.
        method: name for the report.
        tolerance: stop at max|F| below it [energy / length].
        switch_force: largest force at which Newton is tried [energy / length]; None: never.
        max_steps: give up after so many steps.
        max_evaluations: give up after so many force evaluations and Hessian products.
        falling: is told steps and max|F|, before the first step and after each; what it raises ends the path.

    Raises:
        ConvergenceError: if the tolerance is not reached; it carries the report.
    """
    notes: list[str] = []
    refused = 0
    wanted = 0.0
    lowest, n_lowest = math.inf, 0
    why = ""
    while True:
        if falling is not None:
            falling(path.n_steps, path.max_force)
        if switch_force is not None:
            # The force rises again behind a ghost or a shoulder: a tenth of that is quiet enough for the next attempt.
            wanted = min(switch_force, max(wanted, 0.1 * path.max_force))
        if path.energy < lowest:
            lowest, n_lowest = path.energy, path.n_steps
        if not math.isfinite(path.energy + path.max_force):
            why = "no step was short enough: the state blew up, or its forces are not those of its energy"
        elif path.n_steps >= max_steps:
            why = f"still falling after {path.n_steps} steps"
        elif surface.force_evaluations + surface.hessian_products >= max_evaluations:
            why = f"still falling after {max_evaluations} evaluations"
        elif path.n_steps - n_lowest > _STEPS_WITHOUT_PROGRESS:
            why = f"no lower energy in {_STEPS_WITHOUT_PROGRESS} steps: the tolerance may be too small for rounding"
        if why or path.max_force < tolerance:
            report = surface.report(
                method, tolerance, path.n_steps, path.max_force, path.energy, (*notes, why) if why else tuple(notes)
            )
            return glass.moved(path.positions_nc), replace(report, fallbacks=refused)
        if not path.max_force < wanted:
            path.advance()
            continue
        reached = glass.moved(path.positions_nc)
        try:
            minimum, polish = newton(mechanics, reached, tolerance=tolerance)
        except ConvergenceError as error:
            surface.force_evaluations += error.report.force_evaluations
            surface.hessian_products += error.report.hessian_products
            if error.report.max_force < rounding_force(surface.bonds(path.positions_nc)):
                raise
            notes.append(
                f"newton refused at max|F| = {path.max_force:.1e}: {error.report.notes[-1] if error.report.notes else error}"
            )
            refused += 1
            wanted = 0.1 * path.max_force
            path.advance()
            continue
        notes.append(f"{method} to max|F| = {path.max_force:.1e} at t = {path.time:.4g}, then newton")
        return minimum, replace(
            polish,
            method=f"{method}+newton",
            iterations=path.n_steps + polish.iterations,
            force_evaluations=surface.force_evaluations + polish.force_evaluations,
            hessian_products=surface.hessian_products + polish.hessian_products,
            notes=(*notes, *polish.notes),
            fallbacks=refused + polish.fallbacks,
        )


def rounding_force(bonds: Bonds) -> float:
    """Largest max|F| [energy / length] that may be nothing but rounding: a part in 10^13 of the largest pair force."""
    return 1e-13 * float((2.0 * np.abs(bonds.phi_kp[1]) * np.sqrt(np.einsum("pc,pc->p", bonds.r_pc, bonds.r_pc))).max())
