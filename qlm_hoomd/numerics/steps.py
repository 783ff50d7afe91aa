"""Compiled steps of dynamics and of descents, particle by particle."""

# Array names carry their axes: n particles, c Cartesian components, j stages of a step.

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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


class Coefficients(NamedTuple):
    """Those of the Runge-Kutta-Chebyshev method by the number of the stage, from 1 on: mu, nu, mu~, gamma~."""

    mu_j: Floats
    nu_j: Floats
    mu_h_j: Floats
    gamma_h_j: Floats


def chebyshev_step(
    force_at: Callable[[Floats], Floats], start_nc: Floats, start_force_nc: Floats, coefficients: Coefficients, step: float
) -> Floats:
    """Where dr/dt = F leads in one step of the Runge-Kutta-Chebyshev method; the force at the start is known."""
    mu_j, nu_j, mu_h_j, gamma_h_j = coefficients
    before_nc, last_nc = start_nc, start_nc + mu_h_j[1] * step * start_force_nc
    for j in range(2, len(mu_j)):
        new_nc = np.empty_like(last_nc)
        _chebyshev_stage(
            start_nc, last_nc, before_nc, force_at(last_nc), start_force_nc,
            mu_j[j], nu_j[j], mu_h_j[j] * step, gamma_h_j[j] * step, new_nc,
        )  # fmt: skip
        before_nc, last_nc = last_nc, new_nc
    return last_nc


@compiled
def _chebyshev_stage(
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
