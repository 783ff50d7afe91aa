"""FIRE: Bitzek, Koskinen, Gaehler, Moseler, Gumbsch, PRL 97, 170201 (2006)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd import kernels
from qlm_hoomd.minimize.surface import EnergySurface, max_norm

if TYPE_CHECKING:
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.mechanics import Mechanics
    from qlm_hoomd.minimize.report import MinimizeReport


def fire(
    mechanics: Mechanics, glass: Glass, *, tolerance: float = 1e-10, step: float = 0.04, max_iterations: int = 200_000
) -> tuple[Glass, MinimizeReport]:
    """Minimise by damped inertial dynamics with an adaptive time step, the parameters being those of the paper cited above.

    Args:
        mechanics: evaluates the potential.
        glass: where to start.
        tolerance: stop at max|F| below it [energy / length].
        step: largest time step [t_c]; stability needs less than 2 / sqrt(lambda_max), about 0.059 for the default glass.
        max_iterations: give up after so many steps.

    Raises:
        ConvergenceError: if the tolerance is not reached.
    """
    surface = EnergySurface(mechanics, glass)
    positions_nc = glass.positions.copy()
    velocities_nc = np.zeros_like(positions_nc)
    energy, force_nc = surface.energy_forces(positions_nc)
    dt, alpha, uphill_free = 0.1 * step, 0.1, 0
    largest = max_norm(force_nc)
    iteration = 0
    while largest >= tolerance and iteration < max_iterations:
        iteration += 1
        kernels.kick_and_drift(positions_nc, velocities_nc, force_nc, 0.5 * dt, dt)
        energy, force_nc = surface.energy_forces(positions_nc)
        kernels.kick(velocities_nc, force_nc, 0.5 * dt)
        largest = max_norm(force_nc)
        if np.vdot(velocities_nc, force_nc) > 0.0:
            kernels.fire_mix(velocities_nc, force_nc, alpha)
            uphill_free += 1
            if uphill_free > 5:
                dt = min(1.1 * dt, step)
                alpha *= 0.99
        else:
            velocities_nc[:] = 0.0
            dt, alpha, uphill_free = 0.5 * dt, 0.1, 0
    return glass.moved(positions_nc), surface.report("fire", tolerance, iteration, largest, energy)
