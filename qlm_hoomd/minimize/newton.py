"""Truncated Newton: quadratic convergence inside a basin, and a plain refusal outside it."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd import kernels
from qlm_hoomd.minimize.surface import EnergySurface, max_norm, without_drift

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.mechanics import Bonds, Mechanics
    from qlm_hoomd.minimize.report import MinimizeReport


def newton(
    mechanics: Mechanics,
    glass: Glass,
    *,
    tolerance: float = 1e-10,
    reach: float = 0.1,
    max_iterations: int = 60,
    max_products: int = 5000,
) -> tuple[Glass, MinimizeReport]:
    """Minimise by Newton steps, each solved by conjugate gradients on Hessian-vector products (Dembo and Steihaug, 1983).

    It stays in the basin where it starts or says that it cannot: negative curvature, a displacement beyond ``reach``, or a
    step that increases both energy and force end in a :class:`~qlm_hoomd.errors.ConvergenceError`.

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
    inverse_ncc = np.empty((glass.n_particles, 3, 3))
    energy, force_nc = surface.energy_forces(positions_nc)
    largest = max_norm(force_nc)
    iteration = 0
    note = ""
    while not largest < tolerance and iteration < max_iterations and not note:
        iteration += 1
        bonds = surface.bonds(positions_nc)
        forcing = max(min(0.1, math.sqrt(largest)), 0.1 * tolerance / largest)
        step_nc, n_products, negative = _newton_step(bonds, force_nc, inverse_ncc, forcing, max_products)
        surface.hessian_products += n_products
        if negative:
            note = "negative curvature: not in a basin"
            break
        scale = 1.0
        while True:
            trial_nc = positions_nc + scale * step_nc
            if not kernels.largest_nonaffine_square(trial_nc, start_nc, 0.0) < reach**2:
                note = f"displacement beyond {reach:g}"
                break
            trial_energy, trial_force_nc = surface.energy_forces(trial_nc)
            trial_largest = max_norm(trial_force_nc)
            # Close to the minimum the energy is flat to rounding and the force decides; far from it the energy does.
            if trial_energy < energy - 1e-4 * scale * np.vdot(step_nc, force_nc) or trial_largest < 0.9 * largest:
                positions_nc, energy, force_nc, largest = trial_nc, trial_energy, trial_force_nc, trial_largest
                break
            scale *= 0.5
            if scale < 1e-3:
                note = "no step along the Newton direction decreases energy or force"
                break
    if note and not largest < tolerance:
        return glass, surface.report("newton", tolerance, iteration, largest, energy, (note,))
    return glass.moved(positions_nc), surface.report("newton", tolerance, iteration, largest, energy)


def _newton_step(
    bonds: Bonds, force_nc: NDArray[np.float64], inverse_ncc: NDArray[np.float64], forcing: float, max_products: int
) -> tuple[NDArray[np.float64], int, bool]:
    phi1_p, phi2_p = bonds.phi_kp[1], bonds.phi_kp[2]
    kernels.inverse_diagonal_blocks(bonds.n_particles, bonds.i_p, bonds.j_p, bonds.r_pc, phi1_p, phi2_p, inverse_ncc)
    step_nc, n_products, negative = kernels.conjugate_gradient(
        bonds.owner_r, bonds.first_r, bonds.j_p, bonds.r_pc, phi1_p, phi2_p, inverse_ncc, force_nc, forcing, max_products
    )
    return without_drift(step_nc), int(n_products), bool(negative)
