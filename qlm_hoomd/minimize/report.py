"""What every minimisation ends in."""

from __future__ import annotations

from dataclasses import dataclass

from qlm_hoomd.base.display import Displayed


@dataclass(frozen=True, slots=True, repr=False)
class MinimizeReport(Displayed):
    """How a minimisation ended.

    Args:
        method: the algorithm (e.g. "newton", "fire", "descent", "descent+newton").
        criterion: the criterion that was met, e.g. "max_force < 1e-10".
        iterations: outer iterations.
        force_evaluations: evaluations of the force.
        hessian_products: products of the Hessian with a vector.
        max_force: largest force on one particle at the end [energy / length].
        energy: total potential energy at the end [energy].
        notes: fallbacks and other things the user should know, in order.
        left_basin: whether the basin of the start was given up and the state fell; False says that it was never left.
        fallbacks: how many safeguards fired on the way (a guess given up, a refused Newton, a repeated start).
    """

    method: str
    criterion: str
    iterations: int
    force_evaluations: int
    hessian_products: int
    max_force: float
    energy: float
    notes: tuple[str, ...] = ()
    left_basin: bool = False
    fallbacks: int = 0
