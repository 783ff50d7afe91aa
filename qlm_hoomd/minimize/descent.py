"""Fully overdamped dynamics dr/dt = F(r), the paper's way from a liquid to its glass (Appendix E).

The equation is stiff (fast modes have omega^2 about 1100, soft ones below 1), so it is integrated by the stabilised explicit
method of Sommeijer, Shampine and Verwer, J. Comput. Appl. Math. 88, 315 (1998) (Runge-Kutta-Chebyshev, second order): s force
evaluations advance by a step that grows as s^2. The local error of each step is kept below a stated accuracy, so the path,
and with it the basin that is reached, is that of steepest descent. Inside the basin truncated Newton takes over.
"""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd import kernels
from qlm_hoomd.errors import BlowUpError, ConvergenceError
from qlm_hoomd.minimize.newton import newton
from qlm_hoomd.minimize.surface import EnergySurface, max_norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.mechanics import Mechanics
    from qlm_hoomd.minimize.report import MinimizeReport

# Just beyond an instability the state lingers for thousands of time units before it falls; long steps cross that stretch.
_MAX_STAGES = 1000
_STEPS_BETWEEN_SPECTRA = 20


def descent(
    mechanics: Mechanics,
    glass: Glass,
    *,
    tolerance: float = 1e-10,
    accuracy: float = 3e-4,
    switch_force: float = 1e-2,
    max_steps: int = 20_000,
) -> tuple[Glass, MinimizeReport]:
    """The minimum in which the overdamped dynamics started at ``glass`` ends.

    Newton is tried once max|F| < ``switch_force``; it must reach the minimum with positive curvature all the way and
    without moving a particle by more than a tenth of a diameter, else the descent goes on from where it was to a tenth of
    that force, and so on.

    Args:
        mechanics: evaluates the potential.
        glass: where to start.
        tolerance: stop at max|F| below it [energy / length].
        accuracy: largest local error of a particle's position in one step [length].
        switch_force: largest force at which Newton is first tried [energy / length].
        max_steps: give up after so many time steps.

    Raises:
        ConvergenceError: if the tolerance is not reached.
    """
    surface = EnergySurface(mechanics, glass)
    path = _OverdampedPath(surface, glass.positions, accuracy)
    notes: list[str] = []
    wanted = switch_force
    while True:
        while not path.max_force < max(wanted, tolerance):
            if path.n_steps >= max_steps or not math.isfinite(path.energy):
                return glass, surface.report("descent", tolerance, path.n_steps, path.max_force, path.energy)
            path.advance()
            if path.max_force > switch_force:
                # Past the point where Newton was refused the state fell on; the next quiet place is a new chance.
                wanted = switch_force
        reached = glass.moved(path.positions_nc)
        if path.max_force < tolerance:
            return reached, surface.report("descent", tolerance, path.n_steps, path.max_force, path.energy, tuple(notes))
        try:
            minimum, polish = newton(mechanics, reached, tolerance=tolerance)
        except ConvergenceError as error:
            surface.force_evaluations += error.report.force_evaluations
            surface.hessian_products += error.report.hessian_products
            if error.report.max_force < 1e-3 * path.max_force:
                # Newton came close to a minimum and stalled: rounding, which descent cannot beat.
                raise
            notes.append(
                f"newton refused at max|F| = {path.max_force:.1e}: {error.report.notes[-1] if error.report.notes else error}"
            )
            wanted = 0.1 * path.max_force
            continue
        notes.append(f"overdamped to max|F| = {path.max_force:.1e} at t = {path.time:.4g}, then newton")
        return minimum, replace(
            polish,
            method="descent+newton",
            iterations=path.n_steps + polish.iterations,
            force_evaluations=surface.force_evaluations + polish.force_evaluations,
            hessian_products=surface.hessian_products + polish.hessian_products,
            notes=tuple(notes),
        )


class _OverdampedPath:
    """A point on the path dr/dt = F, advanced by Runge-Kutta-Chebyshev steps of controlled local error."""

    def __init__(self, surface: EnergySurface, positions_nc: NDArray[np.float64], accuracy: float) -> None:
        self._surface = surface
        self._accuracy = accuracy
        self.positions_nc = positions_nc.copy()
        self.energy, self._force_nc = surface.energy_forces(self.positions_nc)
        self.max_force = max_norm(self._force_nc)
        self.time = 0.0
        self.n_steps = 0
        self._spectral_radius = 0.0
        self._age = _STEPS_BETWEEN_SPECTRA
        self._step = 0.0
        self._last_error = 0.0
        self._last_step = 0.0

    def advance(self) -> None:
        """Make one accepted step."""
        if self._age >= _STEPS_BETWEEN_SPECTRA:
            self._estimate_spectral_radius()
        if self._step == 0.0:
            self._step = min(0.25 / self._spectral_radius, math.sqrt(self._accuracy) / max(self.max_force, 1e-300))
        while True:
            longest = ((_MAX_STAGES - 1) ** 2 - 1) / 1.54 / self._spectral_radius
            step = min(self._step, longest)
            stages = max(2, 1 + math.ceil(math.sqrt(1.0 + 1.54 * step * self._spectral_radius)))
            try:
                new_nc = self._chebyshev_step(step, stages)
                energy, force_nc = self._surface.energy_forces(new_nc)
                error_nc = 0.8 * (self.positions_nc - new_nc) + 0.4 * step * (self._force_nc + force_nc)
                error = max_norm(error_nc) / self._accuracy
            except BlowUpError:
                energy, error = math.nan, math.inf
            # Steepest descent never climbs: an increase is a step too long for a curvature that grew meanwhile.
            if error <= 1.0 and energy <= self.energy + 1e-12 * abs(self.energy):
                break
            if self._age:
                self._estimate_spectral_radius()
            shrink = 0.8 / error ** (1.0 / 3.0) if error > 1.0 and math.isfinite(error) else 0.3
            self._step = step * min(max(0.1, shrink), 0.7)
            if self._step < 1e-12:
                self.energy = math.nan
                return
        self.positions_nc, self.energy, self._force_nc = new_nc, energy, force_nc
        self.max_force = max_norm(force_nc)
        self.time += step
        self.n_steps += 1
        self._age += 1
        self._choose_next_step(step, max(error, 1e-10))

    def _choose_next_step(self, step: float, error: float) -> None:
        growth = 0.8 / error ** (1.0 / 3.0)
        if self._last_error > 0.0:
            predicted = growth * (step / self._last_step) * (self._last_error / error) ** (1.0 / 3.0)
            growth = min(growth, predicted)
        self._last_error, self._last_step = error, step
        self._step = step * min(5.0, max(0.1, growth))

    def _chebyshev_step(self, step: float, stages: int) -> NDArray[np.float64]:
        mu_j, nu_j, mu_h_j, gamma_h_j = _coefficients(stages)
        start_nc, start_force_nc = self.positions_nc, self._force_nc
        before_nc = start_nc
        last_nc = start_nc + mu_h_j[1] * step * start_force_nc
        for stage in range(2, stages + 1):
            _, force_nc = self._surface.energy_forces(last_nc)
            new_nc = np.empty_like(last_nc)
            kernels.chebyshev_stage(
                start_nc, last_nc, before_nc, force_nc, start_force_nc,
                mu_j[stage], nu_j[stage], mu_h_j[stage] * step, gamma_h_j[stage] * step, new_nc,
            )  # fmt: skip
            before_nc, last_nc = last_nc, new_nc
        return last_nc

    def _estimate_spectral_radius(self) -> None:
        """Largest eigenvalue of the Hessian, with 10 % on top for what it grows until the next estimate."""
        self._spectral_radius = 1.1 * self._surface.bonds(self.positions_nc).largest_eigenvalue()
        self._age = 0


@cache
def _coefficients(stages: int) -> tuple[NDArray[np.float64], ...]:
    """Coefficients mu, nu, mu~, gamma~ of the s-stage method (Sommeijer, Shampine, Verwer 1998, eqs. 2.4 to 2.7)."""
    w0 = 1.0 + 2.0 / 13.0 / stages**2
    chebyshev_j = np.zeros(stages + 1)
    first_j = np.zeros(stages + 1)
    second_j = np.zeros(stages + 1)
    chebyshev_j[:2] = 1.0, w0
    first_j[1] = 1.0
    for j in range(2, stages + 1):
        chebyshev_j[j] = 2.0 * w0 * chebyshev_j[j - 1] - chebyshev_j[j - 2]
        first_j[j] = 2.0 * chebyshev_j[j - 1] + 2.0 * w0 * first_j[j - 1] - first_j[j - 2]
        second_j[j] = 4.0 * first_j[j - 1] + 2.0 * w0 * second_j[j - 1] - second_j[j - 2]
    w1 = first_j[stages] / second_j[stages]
    b_j = np.empty(stages + 1)
    b_j[2:] = second_j[2:] / first_j[2:] ** 2
    b_j[:2] = b_j[2]
    a_j = 1.0 - b_j * chebyshev_j
    mu_j, nu_j, mu_h_j, gamma_h_j = (np.zeros(stages + 1) for _ in range(4))
    mu_h_j[1] = b_j[1] * w1
    for j in range(2, stages + 1):
        mu_j[j] = 2.0 * b_j[j] * w0 / b_j[j - 1]
        nu_j[j] = -b_j[j] / b_j[j - 2]
        mu_h_j[j] = 2.0 * b_j[j] * w1 / b_j[j - 1]
        gamma_h_j[j] = -a_j[j - 1] * mu_h_j[j]
    return mu_j, nu_j, mu_h_j, gamma_h_j
