"""The mean field as an equation: dP/dgamma = v dP/dx + integral of A |x - y|^(-1 - mu) [P(y) - P(x)] dy + delta(x - 1).

P(x) is the density of blocks at stress distance x from instability, the width of the stable region is 2 (failure at x = 0 under
rising stress, at x = 2 under falling stress), a failed block comes back at x = 1, and gamma is the activity: failures per
block. Nothing is sampled: the flow of probability between the cells of a graded grid is a matrix, with the singular kernel
integrated exactly beyond the neighbouring cells and by its first two moments within them.

* steady state: v such that a block lives for one unit of gamma, so that every failure is followed by one other on average;
* quench: blocks that start unstable come back at x = 1, and their kicks and those of who fails of them follow at v = 0 until
  none is left;
* loading: v(gamma) such that failures follow each other one per unit of gamma: the quasi-static limit of infinitely many
  blocks.
"""

# Array names carry their axes: c cells, f faces of cells (one more), t steps of strain, cc from cell (second) to cell (first).

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import erf, inf, isfinite, log, sqrt

import numpy as np

from qlm_mesoscopic import theory
from qlm_mesoscopic.block import Floats
from qlm_mesoscopic.brief import Brief
from qlm_mesoscopic.errors import ModelError, enough, positive

_WIDTH = 2.0
_RETURN = 1.0
_SDIRK = 1.0 - 1.0 / sqrt(2.0)
_NEWTON = 50
_TOLERANCE = 1e-11
_MIN_CELLS_OF_FIT = 5


@dataclass(frozen=True)
class Flight:
    """Kicks with the density A |zeta|^(-1 - mu) per unit of activity, and what they do to a density on cells.

    Args:
        amplitude: A.
        mu: index, from 1 to 2.
        lower_cutoff: kicks below it are left out.
        upper_cutoff: kicks above it are left out.
    """

    amplitude: float
    mu: float = 1.0
    lower_cutoff: float = 0.0
    upper_cutoff: float = inf

    def beyond(self, reach: Floats) -> Floats:
        """Rate of kicks in one direction that are longer than ``reach`` > 0."""
        inner = np.clip(reach, self.lower_cutoff, self.upper_cutoff)
        return self.amplitude / self.mu * (inner**-self.mu - self.upper_cutoff**-self.mu)

    def rates(self, x_f: Floats) -> tuple[Floats, Floats, Floats]:
        """Rates from cell (second) to cell (first), and out of each cell below the first face and above the last one.

        Kicks beyond the two neighbours are integrated exactly; those within them are jumps to their centres with the right mean
        and mean square. The diagonal takes what goes elsewhere: with what leaves, every column sums to zero.

        Args:
            x_f: faces, ascending from 0.
        """
        x_c, width_c = 0.5 * (x_f[1:] + x_f[:-1]), np.diff(x_f)
        n = len(x_c)
        reach_fc = x_f[:, None] - x_c[None, :]
        passing_fc = np.sign(reach_fc) * self.beyond(np.abs(reach_fc))
        rate_cc = passing_fc[:-1] - passing_fc[1:]
        cell = np.arange(n)
        rate_cc[np.abs(cell[:, None] - cell[None, :]) < 2] = 0.0
        ghost = np.concatenate([width_c[:1], width_c, width_c[-1:]])
        step_up, step_down = 0.5 * (ghost[1:-1] + ghost[2:]), 0.5 * (ghost[1:-1] + ghost[:-2])
        far_up, far_down = 0.5 * ghost[1:-1] + ghost[2:], 0.5 * ghost[1:-1] + ghost[:-2]
        mean = self._moment(1, far_up) - self._moment(1, far_down)
        square = self._moment(2, far_up) + self._moment(2, far_down)
        up = (square + mean * step_down) / (step_up * (step_up + step_down))
        down = (square - mean * step_up) / (step_down * (step_up + step_down))
        rate_cc[cell[1:], cell[:-1]] = up[:-1]
        rate_cc[cell[:-1], cell[1:]] = down[1:]
        below_c, above_c = self.beyond(x_c), self.beyond(x_f[-1] - x_c)
        below_c[0] = down[0] + self.beyond(far_down[:1])[0]
        above_c[-1] = up[-1] + self.beyond(far_up[-1:])[0]
        rate_cc[cell, cell] = -(rate_cc.sum(axis=0) + below_c + above_c)
        return rate_cc, below_c, above_c

    def _moment(self, order: int, reach: Floats) -> Floats:
        """Integral of A zeta^(order - 1 - mu) up to ``reach``.

        For order 1 and lower_cutoff 0 only differences mean anything.
        """
        inner = np.clip(reach, self.lower_cutoff, self.upper_cutoff)
        power = order - self.mu
        if power == 0.0:
            return self.amplitude * np.log(inner / self.lower_cutoff if order == 2 else inner)
        offset = self.lower_cutoff**power if order == 2 else 0.0
        return self.amplitude * (inner**power - offset) / power


def drift_rates(width_c: Floats) -> Floats:
    """Rates of a unit drift towards the first face, to second order (Fromm): P at a face is extrapolated from the cell above it.

    What a column lacks to sum zero leaves through the first face; nothing comes in through the last.

    Args:
        width_c: widths of the cells.
    """
    n = len(width_c)
    face_fc = np.zeros((n + 1, n))
    cell = np.arange(n)
    above, below = np.minimum(cell + 1, n - 1), np.maximum(cell - 1, 0)
    # Half a width over the distance between the centres on both sides (at an end: between the cell's own and the next one's).
    apart = 0.5 * (width_c + width_c[above]) * (above > cell) + 0.5 * (width_c + width_c[below]) * (below < cell)
    slope = 0.5 * width_c / apart
    face_fc[cell, cell] = 1.0
    face_fc[cell, above] -= slope
    face_fc[cell, below] += slope
    face_fc /= width_c
    return face_fc[1:] - face_fc[:-1]


def root(excess: Callable[[float], float], low: float, high: float, excess_low: float) -> float:
    """Where a monotonic function vanishes between ``low`` and ``high``: regula falsi with the Illinois rule."""
    excess_high = excess(high)
    middle = high
    for _ in range(_NEWTON):
        middle = high - excess_high * (high - low) / (excess_high - excess_low)
        found = excess(middle)
        if abs(found) < _TOLERANCE:
            break
        if found * excess_high < 0.0:
            low, excess_low = high, excess_high
        else:
            excess_low *= 0.5
        high, excess_high = middle, found
    return middle


@dataclass(frozen=True, repr=False)
class Density(Brief):
    """P(x) on a grid.

    Args:
        x_c: centres of the cells, ascending.
        density_c: P in them, blocks per unit of x; its integral is the fraction of blocks that are stable.
        mass_c: P times width of the cell.
        drift: v at this moment [stress per activity].
        theta: arctan(pi A / v) / pi of this drift, or mu / 2; what the slope tends to as x vanishes.
    """

    x_c: Floats
    density_c: Floats
    mass_c: Floats
    drift: float
    theta: float

    @property
    def stress(self) -> float:
        """Mean stress <1 - x> of the stable blocks."""
        return float(np.sum(self.mass_c * (_RETURN - self.x_c)) / np.sum(self.mass_c))

    @property
    def lifetime(self) -> float:
        """Integral of P: in a steady state the mean number of failures per block between two of its own."""
        return float(np.sum(self.mass_c))

    def fitted_theta(self, low: float = 1e-5, high: float = 1e-3) -> float:
        """Slope of ln P against ln x by least squares over the cells in ``low`` < x < ``high``.

        Raises:
            NotEnoughDataError: if fewer than five cells lie there.
            ModelError: if P is not positive there.
        """
        inside = (self.x_c > low) & (self.x_c < high)
        advice = "Widen the window or refine the grid (`finest`, `cells_per_decade`)."
        enough(f"cells between x = {low:g} and {high:g}", int(inside.sum()), _MIN_CELLS_OF_FIT, advice)
        if not np.all(self.density_c[inside] > 0.0):
            raise ModelError(f"P(x) is not positive between x = {low:g} and {high:g}; expected a power law. Fit at larger x.")
        return float(np.polyfit(np.log(self.x_c[inside]), np.log(self.density_c[inside]), 1)[0])


@dataclass(frozen=True, repr=False)
class Loading(Brief):
    """Quasi-static loading, one entry per step.

    Args:
        activity_t: activity gamma, failures per block since loading began.
        drift_t: v there [stress per activity].
        theta_t: instantaneous theta, arctan(pi A / v) / pi (mu / 2 for mu > 1).
        stress_t: mean stress.
        final: P(x) at the end.
    """

    activity_t: Floats
    drift_t: Floats
    theta_t: Floats
    stress_t: Floats
    final: Density

    def at(self, activity: float) -> tuple[float, float, float]:
        """Drift, theta and stress at a activity, interpolated in its logarithm.

        Raises:
            ModelError: if it lies outside what was computed.
        """
        first, last = self.activity_t[0], self.activity_t[-1]
        if not first <= activity <= last:
            raise ModelError(f"activity {activity:g}; expected one between {first:g} and {last:g}, which were computed.")
        position, places = log(activity), np.log(self.activity_t)
        drift, theta, stress = (float(np.interp(position, places, y)) for y in (self.drift_t, self.theta_t, self.stress_t))
        return drift, theta, stress

    def strain(self, modulus: float = 1.0) -> Floats:
        """Total strain, stress / modulus + activity, of shape (t,)."""
        return self.stress_t / modulus + self.activity_t


@dataclass(frozen=True)
class MasterEquation:
    """The mean-field master equation on a grid.

    Args:
        amplitude: A, strength of the kicks per unit of activity, at least 0.
        mu: index of the kicks' distribution, from 1 to 2.
        lower_cutoff: kicks below it are left out. 0 is the limit of infinitely many blocks; N blocks have (2 A / (mu
            N))^(1/mu). mu = 2 needs a positive one.
        upper_cutoff: kicks above it are left out; a lattice has about the kick between neighbours.
        finest: width of the cells at both ends.
        cells_per_decade: how fast cells widen away from them.
        widest: width of the widest cells.

    Raises:
        ModelError: for values outside these ranges.
    """

    amplitude: float
    mu: float = 1.0
    lower_cutoff: float = 0.0
    upper_cutoff: float = inf
    finest: float = 1e-6
    cells_per_decade: int = 20
    widest: float = 0.025

    def __post_init__(self) -> None:
        theory.check_mu(self.mu)
        if not (isfinite(self.amplitude) and self.amplitude >= 0.0):
            raise ModelError(f"amplitude A = {self.amplitude}; expected a finite number of at least 0.")
        if not 0.0 <= self.lower_cutoff < self.upper_cutoff:
            raise ModelError(
                f"kicks from {self.lower_cutoff:g} to {self.upper_cutoff:g}; expected 0 <= lower_cutoff < upper_cutoff."
            )
        if self.mu == 2.0 and self.lower_cutoff == 0.0 and self.amplitude > 0.0:
            raise ModelError("mu = 2 without lower_cutoff: small kicks add up to an infinite diffusivity. Give a positive one.")
        if not (1e-12 <= self.finest <= 1e-2 and 4 <= self.cells_per_decade <= 100 and 1e-3 <= self.widest <= 0.1):
            raise ModelError(
                f"grid with finest = {self.finest:g}, cells_per_decade = {self.cells_per_decade}, widest = {self.widest:g}; "
                "expected 1e-12 to 1e-2, 4 to 100, 1e-3 to 0.1."
            )

    @cached_property
    def x_f(self) -> Floats:
        """Faces of the cells: fine at 0 and 2, where P is a power law, and around 1, where blocks come back."""
        growth = log(10.0) / self.cells_per_decade
        faces = [0.0]
        while faces[-1] < _RETURN:
            x = faces[-1]
            faces.append(x + min(self.widest, growth * (x + self.finest), max(growth * (_RETURN - x), 0.1 * self.widest)))
        half_f = np.asarray(faces) / faces[-1] * _RETURN
        return np.concatenate([half_f, _WIDTH - half_f[-2::-1]])

    @property
    def x_c(self) -> Floats:
        """Centres of the cells."""
        return 0.5 * (self.x_f[1:] + self.x_f[:-1])

    @property
    def width_c(self) -> Floats:
        """Widths of the cells."""
        return np.diff(self.x_f)

    @cached_property
    def source_c(self) -> Floats:
        """Where failed blocks come back: half into each of the cells that meet at x = 1."""
        source_c = np.zeros(len(self.x_f) - 1)
        middle = int(np.argmin(np.abs(self.x_f - _RETURN)))
        source_c[middle - 1 : middle + 1] = 0.5
        return source_c

    @cached_property
    def kicks_cc(self) -> Floats:
        """Rates of kicks from cell to cell; what a column lacks to sum zero leaves the stable region."""
        flight = Flight(self.amplitude, self.mu, self.lower_cutoff, self.upper_cutoff)
        return flight.rates(self.x_f)[0]

    @cached_property
    def drift_cc(self) -> Floats:
        """Rates of a unit drift towards x = 0."""
        return drift_rates(self.width_c)

    def steady(self, drift: float | None = None) -> Density:
        """The steady state.

        Args:
            drift: v; None finds the one at which a block lives for one unit of activity. With a given drift P is not
                normalised: its integral is the lifetime.

        Raises:
            ModelError: if the kicks are so strong that avalanches run away without any drift, or the drift is negative, or both
                amplitude and drift are 0.
        """
        if drift is None:
            drift = self._drift_of_unit_lifetime()
        if not (isfinite(drift) and drift >= 0.0) or (drift == 0.0 and self.amplitude == 0.0):
            raise ModelError(
                f"drift v = {drift} with amplitude A = {self.amplitude}; expected drift >= 0, and > 0 without kicks."
            )
        return self._density(self._steady_mass(drift), drift)

    def quench(self, spread: float, *, longest: float = 100.0) -> Density:
        """The state after a quench: stresses start Gaussian around 0, and unstable blocks fail at v = 0 until none is left.

        As in :class:`~qlm_mesoscopic.meanfield.MeanField`, a block comes back at once where it has lost its stability, and its
        kicks wait for their turn: those of one failure after the other, one per block and unit of activity.

        Args:
            spread: standard deviation of the stress before the quench; the larger, the more blocks start unstable (1: about a
                third).
            longest: failures per block after which the avalanche counts as endless.

        Raises:
            ModelError: if the spread is not positive, or the avalanche does not end.
        """
        positive(spread=spread)
        cumulated_f = np.asarray([0.5 * (1.0 + erf((x - _RETURN) / (spread * sqrt(2.0)))) for x in self.x_f])
        mass_c = np.diff(cumulated_f)
        waiting, strain, step = 1.0 - float(mass_c.sum()), 0.0, 1e-6
        mass_c += waiting * self.source_c
        leaving_c = -self.kicks_cc.sum(axis=0)
        flow_cc = self.kicks_cc + np.outer(self.source_c, leaving_c)
        identity_cc = np.eye(len(mass_c))
        while waiting > 1e-12:
            if strain > longest:
                raise ModelError(
                    f"the quench has not come to rest after {longest:g} failures per block: the avalanche runs away at A = "
                    f"{self.amplitude:g}. Expected A below {theory.critical_noise(self.mu):.4g} for mu = {self.mu:g}; lower "
                    "the amplitude."
                )
            grown_c = _solve(identity_cc - step * flow_cc, mass_c)
            left = waiting + step * (float(leaving_c @ grown_c) - 1.0)
            if left < 0.0:
                # The last failure falls within this step; halving finds when.
                step *= 0.5
                if step < 1e-10:
                    break
                continue
            mass_c, waiting, strain = grown_c, left, strain + step
            step = min(1.1 * step, 0.05)
        return self._density(mass_c / mass_c.sum(), 0.0)

    def load(self, start: Density, activity: float = 1.5, *, first: float = 1e-5, steps: int = 120) -> Loading:
        """Load quasi-statically from ``start``, with geometric steps of activity.

        Each step is a second-order, L-stable Runge-Kutta step (SDIRK2) whose stages each find the drift that keeps all blocks
        stable.

        Args:
            start: P(x), from :meth:`quench` for example; its integral must be 1.
            activity: where to end.
            first: end of the first step.
            steps: number of steps.

        Raises:
            ModelError: if the strains are not ascending, or the state can only be loaded with a negative drift (runaway).
        """
        if not (0.0 < first < activity and isfinite(activity) and steps >= 2):
            raise ModelError(
                f"{steps} steps from activity {first:g} to {activity:g}; expected at least 2 steps and 0 < first < activity."
            )
        if start.mass_c.shape != self.x_c.shape or abs(start.lifetime - 1.0) > 1e-6:
            raise ModelError(
                "the start is not a normalised P(x) on this grid; expected one that `quench` of the same equation made."
            )
        strain_t = np.geomspace(first, activity, steps)
        mass_c, drift = start.mass_c, max(start.drift, 1.0)
        drifts, stresses = [], []
        for step in np.diff(strain_t, prepend=0.0):
            part = _SDIRK * float(step)
            stage_c, drift = self._stage(mass_c, part, drift)
            mass_c, drift = self._stage(mass_c + (1.0 - _SDIRK) / _SDIRK * (stage_c - mass_c), part, drift)
            drifts.append(drift)
            stresses.append(float(np.sum(mass_c * (_RETURN - self.x_c))))
        drift_t = np.asarray(drifts)
        theta_t = theory.theta_mean_field(self.amplitude, drift_t, self.mu)
        return Loading(strain_t, drift_t, theta_t, np.asarray(stresses), self._density(mass_c, drift))

    def _steady_mass(self, drift: float) -> Floats:
        return _solve(-(self.kicks_cc + drift * self.drift_cc), self.source_c)

    def _drift_of_unit_lifetime(self) -> float:
        if self.amplitude == 0.0:
            return 1.0
        excess_at_rest = self._excess(0.0)
        if excess_at_rest <= 0.0:
            raise ModelError(
                f"amplitude A = {self.amplitude:g} is beyond stability: without any drift a block lives only "
                f"{excess_at_rest + 1.0:.3g} < 1, so that avalanches run away. Expected A below "
                f"{theory.critical_noise(self.mu):.4g} for mu = {self.mu:g} without cut-offs."
            )
        # The lifetime falls monotonically with the drift.
        return root(self._excess, 0.0, 2.0, excess_at_rest)

    def _excess(self, drift: float) -> float:
        """Lifetime less 1."""
        return float(self._steady_mass(drift).sum()) - 1.0

    def _stage(self, mass_c: Floats, step: float, drift: float) -> tuple[Floats, float]:
        """Solve y = mass + step (kicks + v drift) y + step source for y and the v at which y sums to 1, by Newton in v."""
        identity_cc = np.eye(len(mass_c))
        known_c = mass_c + step * self.source_c
        for _ in range(_NEWTON):
            matrix_cc = identity_cc - step * (self.kicks_cc + drift * self.drift_cc)
            new_c = _solve(matrix_cc, known_c)
            excess = float(new_c.sum()) - 1.0
            if abs(excess) < _TOLERANCE:
                return new_c, drift
            slope = float(_solve(matrix_cc, step * (self.drift_cc @ new_c)).sum())
            drift = max(drift - excess / slope, drift / 3.0)
            if drift < 1e-9:
                raise ModelError(
                    f"at A = {self.amplitude:g} failures trigger more than one other without any drift: the avalanche runs "
                    f"away. Expected A below {theory.critical_noise(self.mu):.4g} for mu = {self.mu:g}; lower the amplitude."
                )
        raise ModelError(f"no drift found that keeps one failure per unit of activity (step {step:g}); take more steps.")

    def _density(self, mass_c: Floats, drift: float) -> Density:
        theta = float(theory.theta_mean_field(self.amplitude, drift, self.mu)) if self.amplitude > 0.0 else 0.0
        return Density(self.x_c, mass_c / self.width_c, mass_c, drift, theta)


def _solve(matrix_cc: Floats, known_c: Floats) -> Floats:
    solution_c: Floats = np.asarray(np.linalg.solve(matrix_cc, known_c), dtype=np.float64)
    return solution_c
