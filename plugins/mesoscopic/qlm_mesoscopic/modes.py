"""The mean field of mode blocks as an equation: the density of modes over (lambda, kappa) without sampling, down to any lambda.

Infinitely many :class:`~qlm_mesoscopic.kinds.ModeBlocks` under constant stress noise and drift are independent of each other,
and a block keeps its phi until its mode is replaced. So for every phi there is one linear equation along its stress, like that
of :mod:`master`:

* phi > 0: on each of the two branches a distance x to the minimum's loss; what crosses it is on the other branch, at the same
  stress;
* phi < 0: one branch;
* beyond the stress at which lambda reaches lambda_min the mode leaves, and a new one enters with phi from P_0.

The drift v is the one at which a block fails once per unit of activity. P(lambda) then follows by integration over kappa, eq.
(5), and near x = 0 the grid is as fine as the smallest lambda asks for: x = lambda^2 / (2 sqrt(phi)).
"""

# Array names carry their axes: c cells, f faces of cells, k values of phi, b the two branches (the one that the load drives to
# failure first), d the two ways in (driven in by rising stress first), q points of quadrature, l values of lambda. A suffix
# twice: matrices.

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite, log, sqrt

import numpy as np
from numpy.typing import ArrayLike

from qlm_mesoscopic import block, theory
from qlm_mesoscopic.block import Floats, Replacement
from qlm_mesoscopic.brief import Brief
from qlm_mesoscopic.errors import ModelError
from qlm_mesoscopic.master import Flight, drift_rates, root

_SHEAR_NODES, _PASSIVE_NODES = 12, 8
_CELLS_OF_PASSIVE = 100
_QUADRATURE = 600
_SMALLEST_PHI = 1e4  # as the r = |kappa| / sqrt(phi) - 1 at which the integral ends; the rest is 1e-8 of it
_EDGE = 6  # cells at an edge that are less exact than those after them
_TINY = 1e-300


@dataclass(frozen=True, repr=False)
class ModeDensity(Brief):
    """The steady state of the modes.

    Args:
        drift: v [stress per activity].
        theta: pseudo-gap exponent that belongs to it, arctan(pi A / v) / pi for mu = 1.
        swaps: modes replaced per block and unit of activity.
        replacement: lambda_min and P_0.
        shear: for each phi > 0, ascending: phi, x / x* at the centres of cells (c,), P(x, phi) there on both branches (2, c).
        passive: for each phi < 0, ascending: phi, stress at the centres of cells (c,), P(sigma, phi) there (c,).
    """

    drift: float
    theta: float
    swaps: float
    replacement: Replacement
    shear: tuple[tuple[float, Floats, Floats], ...]
    passive: tuple[tuple[float, Floats, Floats], ...]

    def curvature(self, lam: ArrayLike) -> tuple[Floats, Floats]:
        """P(lambda) per block, the part of shear transformations and that of passive modes (eq. 5).

        It is 2 lambda times the integral of P(x, phi) over kappa at this lambda. Where lambda is beyond 0.8 lambda_min, a few
        percent of it are lost in the interpolation between values of phi.

        Args:
            lam: lambda, between 0 and lambda_min; shape (l,) or a number.

        Returns:
            Two arrays of shape (l,).

        Raises:
            ModelError: if a lambda lies outside.
        """
        lam_l = np.atleast_1d(np.asarray(lam, dtype=np.float64))
        if not np.all((lam_l > 0.0) & (lam_l < self.replacement.lambda_min)):
            raise ModelError(f"lambda outside (0, {self.replacement.lambda_min:g}); expected values below lambda_min.")
        return np.array([self._shear_at(value) for value in lam_l]), np.array([self._passive_at(value) for value in lam_l])

    def total(self, lam: ArrayLike) -> Floats:
        """P(lambda) per block of all modes; arguments as for :meth:`curvature`."""
        return np.add(*self.curvature(lam))

    def alpha(self, lam: ArrayLike, *, factor: float = 2.0) -> Floats:
        """alpha = d ln D_L / d ln omega at omega = sqrt(lambda), from P(lambda) at lambda times and over ``factor``."""
        lam_l = np.atleast_1d(np.asarray(lam, dtype=np.float64))
        return np.log(self.total(lam_l * factor) / self.total(lam_l / factor)) / log(factor) + 1.0

    def _shear_at(self, lam: float) -> float:
        # With kappa = (1 + r) sqrt(phi) all of them lie between the r of the largest phi and infinity, where phi vanishes.
        first = float(block.excess_at(lam, self.replacement.p0.support[1]))
        log_q = np.linspace(log(first), log(_SMALLEST_PHI), _QUADRATURE)
        r_q = np.exp(log_q)
        log_ratio_q = np.log(0.25 * r_q * r_q * (3.0 + r_q))
        # P is a function of x / x* that changes slowly with phi, and below the smallest phi no more.
        table_kq = np.array(
            [
                np.sum([np.exp(_line(log_ratio_q, np.log(ratio_c), np.log(density_c))) for density_c in density_bc], axis=0)
                for _, ratio_c, density_bc in self.shear
            ]
        )
        phi_q = 2.0 * lam / (r_q * (2.0 + r_q))
        density_q = _between(np.log(phi_q), np.log([phi for phi, _, _ in self.shear]), table_kq)
        return (2.0 * lam) ** 1.5 * float(np.trapezoid(r_q * (r_q * (2.0 + r_q)) ** -1.5 * density_q, log_q))

    def _passive_at(self, lam: float) -> float:
        lowest = sqrt(max(0.0, 1.0 + self.replacement.p0.support[0] / (2.0 * lam)))
        share_q = lowest + (1.0 - lowest) * (np.arange(_QUADRATURE // 2) + 0.5) / (_QUADRATURE // 2)
        kappa_q = sqrt(2.0 * lam) * np.concatenate((-share_q, share_q))
        phi_q = block.invariant(lam, kappa_q)
        sigma_q = block.stress(kappa_q, phi_q)
        table_kq = np.array([np.interp(sigma_q, sigma_c, density_c) for _, sigma_c, density_c in self.passive])
        density_q = _between(phi_q, np.array([phi for phi, _, _ in self.passive]), table_kq)
        return 2.0 * (2.0 * lam) ** 1.5 * (1.0 - lowest) * float(density_q.mean())


@dataclass(frozen=True)
class ModeEquation:
    """The mean field of modes under stress control, with kicks of one strength, in the limit of many blocks.

    Args:
        amplitude: A, at least 0.
        mu: index of the kicks, from 1 to below 2.
        replacement: lambda_min and a uniform P_0 with phi on both sides of 0, none beyond 2/3 lambda_min (such a mode would be
            replaced the moment it fails); overshoot ``drop``.
        finest: width of the first cell beside an instability, in units of x*.
        cells_per_decade: how fast cells widen away from it.

    Raises:
        ModelError: for values outside these ranges.
    """

    amplitude: float
    mu: float = 1.0
    replacement: Replacement = field(default_factory=Replacement)
    finest: float = 1e-15
    cells_per_decade: int = 8

    def __post_init__(self) -> None:
        theory.check_mu(self.mu)
        if not (isfinite(self.amplitude) and self.amplitude >= 0.0 and self.mu < 2.0):
            raise ModelError(f"amplitude A = {self.amplitude}, mu = {self.mu}; expected A of at least 0 and mu below 2.")
        (_, high), lambda_min = self.replacement.uniform_support(), self.replacement.lambda_min
        if not high < 2.0 / 3.0 * lambda_min:
            raise ModelError(f"P_0 up to {high:g} with lambda_min = {lambda_min:g}; expected it to end below 2/3 lambda_min.")
        if not (1e-18 <= self.finest <= 1e-2 and 4 <= self.cells_per_decade <= 40):
            raise ModelError(
                f"finest = {self.finest:g}, cells_per_decade = {self.cells_per_decade}; expected 1e-18 to 1e-2 and 4 to 40."
            )

    def steady(self) -> ModeDensity:
        """The steady state.

        Raises:
            ModelError: if the kicks alone, without any drift, make a block fail more than once per unit of activity: avalanches
                run away.
        """
        at_rest = self._excess(0.0) if self.amplitude > 0.0 else -1.0
        if at_rest >= 0.0:
            raise ModelError(
                f"amplitude A = {self.amplitude:g} is beyond stability: without any drift a block fails {at_rest + 1.0:.3g} "
                "times per unit of activity, so that avalanches run away. Lower the amplitude."
            )
        high = 4.0
        while self._excess(high) <= 0.0:
            high *= 2.0
        drift = root(self._excess, 0.0, high, at_rest)
        solved, time, _ = self._solve(drift)
        low, top = self.replacement.p0.support
        shear, passive = [], []
        for one, mass_bc in zip(self._lines, solved, strict=True):
            density_bc = mass_bc / (time * (top - low) * np.diff(one.x_f))
            x_c = 0.5 * (one.x_f[1:] + one.x_f[:-1])
            if one.phi > 0.0:
                ratio_c = x_c[_EDGE:] / float(theory.x_star(one.phi))
                shear.append((one.phi, ratio_c, np.maximum(density_bc[:, _EDGE:], _TINY)))
            else:
                passive.append((one.phi, x_c - 0.5 * one.x_f[-1], density_bc[0]))
        theta = float(theory.theta_mean_field(self.amplitude, drift, self.mu))
        return ModeDensity(drift, theta, 1.0 / time, self.replacement, tuple(shear), tuple(passive))

    def _excess(self, drift: float) -> float:
        """Failures per unit of activity, less 1."""
        _, time, failures = self._solve(drift)
        return failures / time - 1.0

    def _solve(self, drift: float) -> tuple[list[Floats], float, float]:
        """Time that a new mode spends in each cell at each phi (b, c); its whole time, and its failures, averaged over P_0."""
        solved = [one.solve(drift) for one in self._lines]
        weight_k = np.array([one.weight for one in self._lines])
        time_kd, failures_kd, up_kd = (
            np.array([getattr(s, name) for s in solved]) for name in ("time_d", "failures_d", "up_d")
        )
        share_d = block.shares_of_ways(weight_k @ up_kd)
        masses = [np.tensordot(share_d, s.mass_dbc, 1) for s in solved]
        return masses, float(weight_k @ time_kd @ share_d), float(weight_k @ failures_kd @ share_d)

    @cached_property
    def _lines(self) -> tuple[_Line, ...]:
        rules, flight = self.replacement, Flight(self.amplitude, self.mu)
        low, high = rules.p0.support
        lines = []
        for end, power, count in ((low, 2, _PASSIVE_NODES), (high, 3, _SHEAR_NODES)):
            node_k, weight_k = np.polynomial.legendre.leggauss(count)
            u_k = 0.5 * (1.0 + node_k)
            share_k = 0.5 * weight_k * power * u_k ** (power - 1) * abs(end) / (high - low)
            order = np.argsort(end * u_k**power)
            for phi, share in zip((end * u_k**power)[order], share_k[order], strict=True):
                swap = float(rules.swap_stress(phi))
                entry = float(rules.entry_stress(phi))
                if phi > 0.0:
                    lines.append(self._shear_line(flight, float(phi), float(share), swap, entry))
                else:
                    lines.append(_passive_line(flight, float(phi), float(share), swap, entry))
        return tuple(lines)

    def _shear_line(self, flight: Flight, phi: float, weight: float, swap: float, entry: float) -> _Line:
        """phi > 0: x counts from the loss of the minimum on either branch; at x* the other branch's minimum is lost."""
        growth, x_star, limit = log(10.0) / self.cells_per_decade, float(theory.x_star(phi)), float(block.limit(phi))
        widest = 0.03 * (swap + limit)
        half_f = _graded(0.5 * x_star, self.finest * x_star, growth, widest)
        other_f = _graded(0.5 * x_star, 1e-3 * x_star, growth, widest)
        above_f = _graded(entry + limit - x_star, 1e-3 * x_star, growth, widest)
        last_f = np.linspace(entry + limit, swap + limit, 5)
        x_f = np.concatenate([half_f, x_star - other_f[-2::-1], x_star + above_f[1:], last_f[1:]])
        wall, way_in = len(half_f) + len(other_f) - 2, len(x_f) - len(last_f)
        x_c, width_c = 0.5 * (x_f[1:] + x_f[:-1]), np.diff(x_f)
        n = len(x_c)
        stay_cc, below_c, above_c = flight.rates(x_f)
        # What is kicked over the edge lands on the other branch at the same stress, x* and the overshoot away from its own
        # edge.
        passing_fc = flight.beyond(x_c[None, :] + (x_f[wall:, None] - x_star))
        cross_cc = np.zeros((n, n))
        cross_cc[wall:] = passing_fc[:-1] - passing_fc[1:]
        cross_cc[wall, 0] += below_c[0] - passing_fc[0, 0]
        through_c = passing_fc[-1]
        down_cc, up_cc = drift_rates(width_c), drift_rates(width_c[::-1])[::-1, ::-1]
        drifted_c = -down_cc.sum(axis=0)
        over_cc = np.zeros((n, n))
        over_cc[wall - 1 : wall + 1] = 0.5 * drifted_c
        source_dbc = np.zeros((2, 2, n))
        for way in (0, 1):
            source_dbc[way, way, way_in - 1 : way_in + 1] = 0.5
        zero_c = np.zeros(n)
        return _Line(
            phi, weight, x_f,
            np.block([[stay_cc, cross_cc], [cross_cc, stay_cc]]),
            np.block([[down_cc, np.zeros((n, n))], [over_cc, up_cc]]),
            source_dbc,
            np.concatenate([below_c, below_c]), np.concatenate([drifted_c, zero_c]),
            np.concatenate([through_c, above_c]), np.concatenate([zero_c, -up_cc.sum(axis=0)]),
        )  # fmt: skip


@dataclass(frozen=True)
class _Line:
    """All that a mode of one phi can do: rates between cells, and rates of failing and of leaving upwards, by kicks and per drift."""

    phi: float
    weight: float
    x_f: Floats
    kicks_cc: Floats
    drift_cc: Floats
    source_dbc: Floats
    fail_c: Floats
    drift_fail_c: Floats
    up_c: Floats
    drift_up_c: Floats

    def solve(self, drift: float) -> _Lived:
        n_ways, n_branches, n = self.source_dbc.shape
        source_cd = self.source_dbc.reshape(n_ways, -1).T
        mass_cd: Floats = np.asarray(np.linalg.solve(-(self.kicks_cc + drift * self.drift_cc), source_cd), dtype=np.float64)
        failures_d, up_d = (
            (a + drift * b) @ mass_cd for a, b in ((self.fail_c, self.drift_fail_c), (self.up_c, self.drift_up_c))
        )
        return _Lived(np.reshape(mass_cd.T, (n_ways, n_branches, n)), mass_cd.sum(axis=0), failures_d, up_d)


@dataclass(frozen=True)
class _Lived:
    """What becomes of one mode that comes in either way: time in each cell, whole time, failures, chance to leave upwards."""

    mass_dbc: Floats
    time_d: Floats
    failures_d: Floats
    up_d: Floats


def _passive_line(flight: Flight, phi: float, weight: float, swap: float, entry: float) -> _Line:
    """phi < 0: x is the stress above the lower end."""
    inset, last = swap - entry, 4
    x_f = np.concatenate(
        [
            np.linspace(0.0, inset, last + 1),
            np.linspace(inset, swap + entry, _CELLS_OF_PASSIVE + 1)[1:],
            np.linspace(swap + entry, 2.0 * swap, last + 1)[1:],
        ]
    )
    stay_cc, _, above_c = flight.rates(x_f)
    up_cc = drift_rates(np.diff(x_f)[::-1])[::-1, ::-1]
    n = len(above_c)
    source_dbc = np.zeros((2, 1, n))
    source_dbc[0, 0, last - 1 : last + 1] = source_dbc[1, 0, n - last - 1 : n - last + 1] = 0.5
    zero_c = np.zeros(n)
    return _Line(phi, weight, x_f, stay_cc, up_cc, source_dbc, zero_c, zero_c, above_c, -up_cc.sum(axis=0))


def _graded(length: float, first: float, growth: float, widest: float) -> Floats:
    """Faces from 0 to ``length``: cells as wide as ``first``, then wider by a constant factor up to ``widest``."""
    faces = [0.0]
    while faces[-1] < length:
        faces.append(faces[-1] + min(growth * (faces[-1] + first / growth), widest))
    return np.asarray(faces) * (length / faces[-1])


def _line(x_q: Floats, x_c: Floats, y_c: Floats) -> Floats:
    """Linear interpolation that goes on straight to the left of the first point."""
    slope = (y_c[1] - y_c[0]) / (x_c[1] - x_c[0])
    return np.where(x_q < x_c[0], y_c[0] + slope * (x_q - x_c[0]), np.interp(x_q, x_c, y_c))


def _between(x_q: Floats, x_k: Floats, table_kq: Floats) -> Floats:
    """Linear interpolation between the rows of a table, at its own place in each column.

    Constant beyond the first and last row.
    """
    place_q = np.interp(x_q, x_k, np.arange(len(x_k)))
    row_q = np.minimum(place_q.astype(np.intp), len(x_k) - 2)
    column_q = np.arange(len(x_q))
    return table_kq[row_q, column_q] + (place_q - row_q) * (table_kq[row_q + 1, column_q] - table_kq[row_q, column_q])
