"""Fully overdamped dynamics dr/dt = F(r), the paper's way from a liquid to its glass (Appendix E), and from one glass to the next.

The equation is stiff (fast modes have omega^2 about 1100, soft ones below 1). Where the state moves fast it is integrated by
the stabilised explicit method of Sommeijer, Shampine and Verwer, J. Comput. Appl. Math. 88, 315 (1998) (Runge-Kutta-Chebyshev,
second order): s force evaluations advance by a step that grows as s^2. A hair beyond an instability it lingers for thousands of
time units in the ghost of the minimum that is gone, every other mode at rest; that stretch is crossed by the linearly implicit
method RODAS3 of Sandu et al., Atmos. Environ. 31, 3459 (1997) (Rosenbrock type, third order, stiffly accurate), with steps
bound by the accuracy alone. Each step is made by the method that is cheaper. The local error of every step is kept below a
stated accuracy, so the path, and with it the basin that is reached, is that of steepest descent; inside it truncated Newton
takes over.

Measured on plastic events of 14 sheared glasses of N = 500, in which particles jump by 0.03 to 1.5, from states 1e-5 (69
events) and 1e-7 (52) in strain beyond the instability: every fall at the default accuracy ended in the minimum of the path
followed by explicit steps to an accuracy of 1e-5, and, where that was tried, of explicit Euler steps of 2e-4 (19 events) and
5e-4 (7). So did every fall at an accuracy of 1e-2. FIRE from the same states ended elsewhere in 11 of 121.
"""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd.base.errors import BlowUpError
from qlm_hoomd.minimize.fall import follow
from qlm_hoomd.minimize.surface import EnergySurface, max_norm
from qlm_hoomd.numerics import solve
from qlm_hoomd.numerics.steps import Coefficients

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.mechanics import Bonds, Mechanics
    from qlm_hoomd.minimize.report import MinimizeReport

# Where implicit steps do not pay: the longest stretch that one explicit step may cross.
_MAX_STAGES = 1000
_STEPS_BETWEEN_SPECTRA = 20
# An explicit step of so few stages is always the cheaper one.
_FEWEST_STAGES = 40
_EXPECTED_COST_RATIO = 0.5
# Costs in units of a force evaluation in a stage of the explicit method: an iteration of the solver, and the pairs with their
# second derivatives, laid out for it.
_PRODUCT_COST = 2.2
_BONDS_COST = 9.0
_MAX_PRODUCTS = 2000
# Below this the estimated error is the noise of the solver, and no guide for the next step.
_SMALLEST_ERROR = 0.01
# An explicit step with an error beyond this may have been unstable: the largest eigenvalue has grown.
_UNSTABLE_ERROR = 10.0
# Share of the accuracy that each linear solve may use up.
_SOLVER_ERROR = 0.03


def descent(
    mechanics: Mechanics,
    glass: Glass,
    *,
    tolerance: float = 1e-10,
    accuracy: float = 3e-4,
    switch_force: float = 1e-2,
    max_steps: int = 20_000,
    max_evaluations: int = 2_000_000,
    falling: Callable[[int, float], None] | None = None,
) -> tuple[Glass, MinimizeReport]:
    """The minimum in which the overdamped dynamics started at ``glass`` ends.

    Newton is tried where max|F| has sunk to a tenth of what it was, and below ``switch_force``; it must reach the minimum with
    positive curvature all the way and without moving a particle by more than a tenth of a diameter, else the descent goes on
    from where it was to a tenth of that force, and so on.

    Args:
        mechanics: evaluates the potential.
        glass: where to start.
        tolerance: stop at max|F| below it [energy / length].
        accuracy: largest local error of a particle's position in one step [length].
        switch_force: largest force at which Newton is first tried [energy / length].
        max_steps: give up after so many time steps.
        max_evaluations: give up after so many force evaluations and Hessian products.
        falling: is told steps and max|F|, before the first step and after each; what it raises ends the descent.

    Raises:
        ConvergenceError: if the tolerance is not reached; it carries the report.
    """
    surface = EnergySurface(mechanics, glass)
    path = _OverdampedPath(surface, glass.positions, accuracy)
    return follow(
        path,
        surface,
        mechanics,
        glass,
        method="descent",
        tolerance=tolerance,
        switch_force=switch_force,
        max_steps=max_steps,
        max_evaluations=max_evaluations,
        falling=falling,
    )


class _OverdampedPath:
    """A point on the path dr/dt = F, advanced by steps of controlled local error, explicit or implicit, whichever is cheaper."""

    def __init__(self, surface: EnergySurface, positions_nc: NDArray[np.float64], accuracy: float) -> None:
        self._surface = surface
        self._accuracy = accuracy
        self.positions_nc = positions_nc.copy()
        self.energy, self._force_nc = surface.energy_forces(self.positions_nc)
        self.max_force = max_norm(self._force_nc)
        self.time = 0.0
        self.n_steps = 0
        self._velocity_nc = self._force_nc
        self._spectral_radius = 0.0
        self._age = _STEPS_BETWEEN_SPECTRA
        self._step = 0.0
        self._last_error = 0.0
        self._last_step = 0.0
        self._last_implicit = False
        self._longest_implicit = math.inf
        # Cost of an implicit step over that of an explicit one of the same length.
        self._cost_ratio = _EXPECTED_COST_RATIO

    def advance(self) -> None:
        """Make one accepted step."""
        if self._age >= _STEPS_BETWEEN_SPECTRA:
            self._estimate_spectral_radius()
        if self._step == 0.0:
            self._step = min(0.25 / self._spectral_radius, math.sqrt(self._accuracy) / max(self.max_force, 1e-300))
        indefinite = False
        while True:
            step = min(self._step, self._longest_implicit)
            implicit = self._stages(step) > _FEWEST_STAGES and self._cost_ratio < 1.0
            if not implicit:
                # After an implicit step: the explicit method errs more at the same length.
                step = 0.5 * self._step if self._last_implicit else self._step
            stages = self._stages(step)
            if stages > _MAX_STAGES and not implicit:
                stages, step = _MAX_STAGES, ((_MAX_STAGES - 1) ** 2 - 1) / 1.54 / self._spectral_radius
            try:
                new_nc, error_nc = self._rosenbrock_step(step) if implicit else (self._chebyshev_step(step, stages), None)
                energy, force_nc = self._surface.energy_forces(new_nc)
                if error_nc is None:
                    error_nc = 0.8 * (self.positions_nc - new_nc) + 0.4 * step * (self._force_nc + force_nc)
                error = max_norm(error_nc) / self._accuracy
            except BlowUpError:
                energy, error, indefinite = math.nan, math.inf, implicit
            # Steepest descent never climbs: an increase is a step too long for a curvature that grew meanwhile.
            if error <= 1.0 and energy <= self.energy + 1e-12 * abs(self.energy):
                break
            if self._age and not implicit and not error < _UNSTABLE_ERROR:
                self._estimate_spectral_radius()
            shrink = 0.8 / error ** (1.0 / 3.0) if error > 1.0 and math.isfinite(error) else 0.3
            self._step = step * min(max(0.1, shrink), 0.7)
            if self._step < 1e-12:
                self.energy = math.nan
                return
        self._velocity_nc = (new_nc - self.positions_nc) / step
        # Along an unstable direction H + 2 / step stays positive for short steps only: a share of the time to the next
        # doubling.
        growth_rate = np.vdot(self._velocity_nc, force_nc - self._force_nc) / step
        square = np.vdot(self._velocity_nc, self._velocity_nc)
        self._longest_implicit = float(0.7 * square / growth_rate) if growth_rate > 0.0 else math.inf
        self.positions_nc, self.energy, self._force_nc = new_nc, energy, force_nc
        self.max_force = max_norm(force_nc)
        self.time += step
        self.n_steps += 1
        self._age += 1
        if not implicit:
            # Conditions change: what did not pay a while ago is tried again.
            self._cost_ratio += 0.1 * (_EXPECTED_COST_RATIO - self._cost_ratio)
        if implicit is not self._last_implicit:
            self._last_implicit, self._last_error = implicit, 0.0
        self._choose_next_step(step, max(error, _SMALLEST_ERROR), 1.0 if indefinite else 2.0 if implicit else 5.0)

    def _stages(self, step: float) -> int:
        """How many stages keep an explicit step of this length stable."""
        return max(2, 1 + math.ceil(math.sqrt(1.0 + 1.54 * step * self._spectral_radius)))

    def _rosenbrock_step(self, step: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where an implicit step leads, and its error.

        Raises:
            BlowUpError: if the step is longer than an unstable direction allows.
        """
        surface, accuracy = self._surface, self._accuracy
        products_before, forces_before = surface.hessian_products, surface.force_evaluations
        system = _ShiftedHessian(surface.bonds(self.positions_nc), 2.0 / step)

        def solve(right_nc: NDArray[np.float64], guess_nc: NDArray[np.float64] | None) -> NDArray[np.float64]:
            solution_nc, n_products, definite = system.solve(right_nc, guess_nc, _SOLVER_ERROR * accuracy)
            surface.hessian_products += n_products
            if not definite or n_products >= _MAX_PRODUCTS:
                raise BlowUpError("H + 2 / step is not positive definite, or hardly so: the step is too long.")
            return solution_nc

        try:
            k1_nc = solve(self._force_nc, 0.5 * step * self._velocity_nc)
            k2_nc = solve(self._force_nc + 4.0 / step * k1_nc, 3.0 * k1_nc)
            there_nc = self.positions_nc + 2.0 * k1_nc
            _, force_nc = surface.energy_forces(there_nc)
            k3_nc = solve(force_nc + (k1_nc - k2_nc) / step, None)
            _, force_nc = surface.energy_forces(there_nc + k3_nc)
            k4_nc = solve(force_nc + (k1_nc - k2_nc - 8.0 / 3.0 * k3_nc) / step, None)
            return there_nc + k3_nc + k4_nc, k4_nc
        finally:
            cost = _PRODUCT_COST * (surface.hessian_products - products_before)
            cost += surface.force_evaluations - forces_before + _BONDS_COST
            self._cost_ratio = cost / math.sqrt(1.0 + 1.54 * step * self._spectral_radius)

    def _choose_next_step(self, step: float, error: float, largest_growth: float) -> None:
        growth = 0.8 / error ** (1.0 / 3.0)
        if self._last_error > 0.0:
            predicted = growth * (step / self._last_step) * (self._last_error / error) ** (1.0 / 3.0)
            growth = min(growth, predicted)
        self._last_error, self._last_step = error, step
        self._step = step * min(largest_growth, max(0.1, growth))

    def _chebyshev_step(self, step: float, stages: int) -> NDArray[np.float64]:
        return self._surface.chebyshev_step(self.positions_nc, self._force_nc, _coefficients(stages), step)

    def _estimate_spectral_radius(self) -> None:
        """Largest eigenvalue of the Hessian, with 10 % on top for what it grows until the next estimate."""
        self._spectral_radius = max(1.1 * self._surface.bonds(self.positions_nc).largest_eigenvalue(), 1e-12)
        self._age = 0


class _ShiftedHessian:
    """H + shift at one configuration, to solve with: as :class:`~qlm_hoomd.minimize.linear.LinearSystem`, which has no shift."""

    def __init__(self, bonds: Bonds, shift: float) -> None:
        phi1_p, phi2_p = bonds.phi_kp[1], bonds.phi_kp[2]
        self._bonds, self._shift, self._order_s = bonds, shift, bonds.owner_r
        self._triangle = solve.upper_triangle(bonds.owner_r, bonds.first_r, bonds.j_p, bonds.r_pc, phi1_p, phi2_p)
        self._diagonal_sk, self._inverse_sk = np.empty((2, bonds.n_particles, 6))
        self._positive = not solve.diagonal_of_triangle(*self._triangle, shift, bonds.flat, self._diagonal_sk, self._inverse_sk)

    def solve(
        self, right_nc: NDArray[np.float64], guess_nc: NDArray[np.float64] | None, error: float
    ) -> tuple[NDArray[np.float64], int, bool]:
        """Solution to about an ``error`` of a particle, number of products, and whether the matrix seemed positive definite."""
        if not self._positive:
            return right_nc, 0, False
        rest_nc = right_nc
        if guess_nc is not None:
            rest_nc = right_nc - self._bonds.product(guess_nc) - self._shift * guess_nc
        # Where H is positive its inverse with the shift is at most 1 / shift, and a residual means that much of an error.
        x_sc, n_products, negative = solve.gauss_seidel_gradient(
            *self._triangle, self._diagonal_sk, self._inverse_sk, rest_nc[self._order_s], error * self._shift, _MAX_PRODUCTS
        )
        solution_nc = np.empty_like(x_sc)
        solution_nc[self._order_s] = x_sc
        if guess_nc is not None:
            solution_nc += guess_nc
        # Translations cost no energy: the mean of the solution is known, and what the iteration left of it would be a drift.
        solution_nc += right_nc.mean(axis=0) / self._shift - solution_nc.mean(axis=0)
        return solution_nc, int(n_products) + (guess_nc is not None), not negative


@cache
def _coefficients(stages: int) -> Coefficients:
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
    return Coefficients(mu_j, nu_j, mu_h_j, gamma_h_j)
