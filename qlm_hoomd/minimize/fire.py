"""FIRE: Bitzek, Koskinen, Gaehler, Moseler, Gumbsch, PRL 97, 170201 (2006)."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd.base.errors import BlowUpError
from qlm_hoomd.minimize.fall import follow
from qlm_hoomd.minimize.surface import EnergySurface, max_norm
from qlm_hoomd.numerics import steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.mechanics import Mechanics
    from qlm_hoomd.minimize.report import MinimizeReport


def fire(
    mechanics: Mechanics,
    glass: Glass,
    *,
    tolerance: float = 1e-10,
    step: float = 0.04,
    max_iterations: int = 200_000,
    switch_force: float | None = None,
) -> tuple[Glass, MinimizeReport]:
    """Minimise by damped inertial dynamics with an adaptive time step, the parameters being those of the paper cited above.

    Args:
        mechanics: evaluates the potential.
        glass: where to start.
        tolerance: stop at max|F| below it [energy / length].
        step: largest time step [t_c]; stability needs less than 2 / sqrt(lambda_max), about 0.059 for the default glass.
        max_iterations: give up after so many steps.
        switch_force: largest force at which Newton is tried for the rest of the way, as in a descent [energy / length]; None:
            FIRE goes all the way.

    Raises:
        ConvergenceError: if the tolerance is not reached; it carries the report.
    """
    surface = EnergySurface(mechanics, glass)
    return follow(
        _InertialPath(surface, glass.positions, step),
        surface,
        mechanics,
        glass,
        method="fire",
        tolerance=tolerance,
        switch_force=switch_force,
        max_steps=max_iterations,
        # Newton's share is bounded by Newton: one attempt for each power of ten of the force.
        max_evaluations=10 * max_iterations,
    )


class _InertialPath:
    """A point that follows FIRE's dynamics."""

    def __init__(self, surface: EnergySurface, positions_nc: NDArray[np.float64], longest_step: float) -> None:
        self._surface = surface
        self._longest_step = longest_step
        self._velocities_nc = np.zeros_like(positions_nc)
        self._step, self._alpha, self._n_downhill = 0.1 * longest_step, 0.1, 0
        self.positions_nc = positions_nc.copy()
        self.energy, self._force_nc = surface.energy_forces(self.positions_nc)
        self.max_force = max_norm(self._force_nc)
        self.time = 0.0
        self.n_steps = 0

    def advance(self) -> None:
        """Make one step."""
        steps.kick_and_drift(self.positions_nc, self._velocities_nc, self._force_nc, 0.5 * self._step, self._step)
        try:
            self.energy, self._force_nc = self._surface.energy_forces(self.positions_nc)
        except BlowUpError:
            self.energy = np.nan
            return
        steps.kick(self._velocities_nc, self._force_nc, 0.5 * self._step)
        self.max_force = max_norm(self._force_nc)
        self.time += self._step
        self.n_steps += 1
        if np.vdot(self._velocities_nc, self._force_nc) > 0.0:
            steps.fire_mix(self._velocities_nc, self._force_nc, self._alpha)
            self._n_downhill += 1
            if self._n_downhill > 5:
                self._step = min(1.1 * self._step, self._longest_step)
                self._alpha *= 0.99
        else:
            self._velocities_nc[:] = 0.0
            self._step, self._alpha, self._n_downhill = 0.5 * self._step, 0.1, 0
