"""Compiled steps of dynamics and of descents, particle by particle."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import numpy as np

from qlm_hoomd.numerics.jit import Floats, compiled


@compiled
def kick_and_drift(positions_nc: Floats, velocities_nc: Floats, force_nc: Floats, half_step: float, step: float) -> None:
    """First half of velocity Verlet: v += F dt/2, r += v dt (unit mass)."""
    for n in range(len(positions_nc)):
        for c in range(3):
            velocities_nc[n, c] += half_step * force_nc[n, c]
            positions_nc[n, c] += step * velocities_nc[n, c]


@compiled
def kick(velocities_nc: Floats, force_nc: Floats, half_step: float) -> float:
    """Second half of velocity Verlet; returns sum v^2."""
    total = 0.0
    for n in range(len(velocities_nc)):
        for c in range(3):
            velocities_nc[n, c] += half_step * force_nc[n, c]
            total += velocities_nc[n, c] ** 2
    return total


@compiled
def chebyshev_stage(
    start_nc: Floats, last_nc: Floats, before_nc: Floats, force_nc: Floats, start_force_nc: Floats, mu: float, nu: float,
    mu_h: float, gamma_h: float, out_nc: Floats,
) -> None:  # fmt: skip
    """One internal stage of the Runge-Kutta-Chebyshev method."""
    rest = 1.0 - mu - nu
    for n in range(len(start_nc)):
        for c in range(3):
            out_nc[n, c] = (
                rest * start_nc[n, c]
                + mu * last_nc[n, c]
                + nu * before_nc[n, c]
                + mu_h * force_nc[n, c]
                + gamma_h * start_force_nc[n, c]
            )


@compiled
def fire_mix(velocities_nc: Floats, force_nc: Floats, alpha: float) -> None:
    """v <- (1 - alpha) v + alpha |v| F / |F|."""
    vv = ff = 0.0
    for n in range(len(velocities_nc)):
        for c in range(3):
            vv += velocities_nc[n, c] ** 2
            ff += force_nc[n, c] ** 2
    scale = alpha * np.sqrt(vv / ff) if ff > 0.0 else 0.0
    for n in range(len(velocities_nc)):
        for c in range(3):
            velocities_nc[n, c] = (1.0 - alpha) * velocities_nc[n, c] + scale * force_nc[n, c]
