"""Truncated Newton: quadratic convergence inside a basin, and a plain refusal outside it."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

from typing import TYPE_CHECKING

from qlm_hoomd.minimize.linear import LinearSystem
from qlm_hoomd.minimize.surface import EnergySurface, max_norm, without_drift
from qlm_hoomd.numerics import vectors

if TYPE_CHECKING:
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.mechanics import Mechanics
    from qlm_hoomd.minimize.report import MinimizeReport

# Where a step aims, in units of the tolerance: what is left of the force is for the terms that Newton leaves out.
_AIM = 0.5
# What those terms leave of a force F is about this times F^2; solving to less would be for nothing. Nor is there anything
# to gain from a step far from the minimum, or from rounding.
_SECOND_ORDER, _LOOSEST, _TIGHTEST = 3.0, 0.1, 1e-8


def newton(
    mechanics: Mechanics,
    glass: Glass,
    *,
    tolerance: float = 1e-10,
    reach: float = 0.1,
    max_iterations: int = 60,
    max_products: int = 5000,
) -> tuple[Glass, MinimizeReport]:
    """Minimise by Newton steps, each solved by conjugate gradients to the accuracy that it can use (Dembo and Steihaug, 1983).

    It stays in the basin where it starts or says that it cannot: negative curvature, a displacement beyond ``reach``, or a
    step that increases both energy and force end in a :class:`~qlm_hoomd.base.errors.ConvergenceError`.

    Args:
        mechanics: evaluates the potential.
        glass: where to start; close to a minimum.
        tolerance: stop at max|F| below it [energy / length].
        reach: largest displacement of a particle from its start [length].
        max_iterations: Newton steps before giving up.
        max_products: Hessian products of one Newton step before giving up on its accuracy.

    Raises:
        ConvergenceError: if the tolerance is not reached inside the basin.
    """
    surface = EnergySurface(mechanics, glass)
    start_nc = glass.positions.copy()
    positions_nc = start_nc
    bonds = surface.evaluate(positions_nc)
    largest = max_norm(bonds.forces)
    iteration = 0
    note = ""
    while not largest < tolerance and iteration < max_iterations and not note:
        iteration += 1
        forcing = min(_LOOSEST, max(_TIGHTEST, _SECOND_ORDER * largest))
        target = max(_AIM * tolerance, forcing * largest)
        step_nc, n_products, negative = LinearSystem(bonds).solve(bonds.forces, target, max_products)
        surface.hessian_products += n_products
        if negative:
            note = "negative curvature: not in a basin"
            break
        step_nc = without_drift(step_nc)
        scale = 1.0
        while True:
            trial_nc = positions_nc + scale * step_nc
            if not vectors.largest_nonaffine_square(trial_nc, start_nc, 0.0) < reach**2:
                note = f"displacement beyond {reach:g}"
                break
            trial = surface.evaluate(trial_nc)
            trial_largest = max_norm(trial.forces)
            # Close to the minimum the energy is flat to rounding and the force decides; far from it the energy does.
            enough = 1e-4 * scale * vectors.inner_product(step_nc, bonds.forces)
            if trial.energy < bonds.energy - enough or trial_largest < 0.9 * largest:
                positions_nc, bonds, largest = trial_nc, trial, trial_largest
                break
            scale *= 0.5
            if scale < 1e-3:
                note = "no step along the Newton direction decreases energy or force"
                break
    if note and not largest < tolerance:
        return glass, surface.report("newton", tolerance, iteration, largest, bonds.energy, (note,))
    return glass.moved(positions_nc), surface.report("newton", tolerance, iteration, largest, bonds.energy)
