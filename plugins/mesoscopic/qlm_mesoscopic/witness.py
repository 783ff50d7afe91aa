"""Sampled modes at curvatures that no count of blocks reaches: witnesses, which feel the noise and the drift but kick nobody.

Among N blocks distances below a few 1 / N are discrete, and of P(lambda) ~ lambda^(1 to 1.5) little is left at small lambda. A
witness lives in the limit of many blocks instead, at the A and v of any run, and is watched from its entry until its mode is
replaced. Where it is close to an instability it is followed in steps as small as that distance, and small phi, which make alpha
= 4, are drawn more often than P_0 has them and weigh less. Nothing comes from an equation: P(lambda) is the time that witnesses
spend at lambda, and v is right if a witness fails once per unit of activity.

A step ends with the next kick longer than a fraction of the distance to whatever is near; every such kick is drawn. The drift
and the shorter kicks, as a Gaussian of their variance, act until then.
"""

# Array names carry their axes: w witnesses, g groups of them, d the two ways in (driven in by rising stress first), k kinds
# (passive, shear transformations), b bins of lambda, s those witnesses that are soft at the moment.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qlm_mesoscopic import block
from qlm_mesoscopic.block import Floats, Replacement
from qlm_mesoscopic.brief import Brief
from qlm_mesoscopic.errors import ModelError, enough, positive
from qlm_mesoscopic.observables import Exponent, jackknife_95

_GROUPS = 16
_TOGETHER = 100_000  # witnesses that are moved at once: what the cache holds
FEWEST = 3200
"""Witnesses below which groups of them say nothing."""

_BINS_PER_DECADE = 20
_STEP = 0.1
_SMALLEST = 1e-7
_FLOOR = 0.03  # part of the distance that belongs to the smallest lambda; below it nothing is told apart
_STRATA = (0.15, 0.2, 0.65)  # chances of |phi| below 0.3 of the smallest lambda, of phi < 0 beyond, of phi > 0 beyond
_MOST_STEPS = 1_000_000


@dataclass(frozen=True, repr=False)
class Sightings(Brief):
    """What witnesses saw, for each of 16 groups of them.

    Args:
        amplitude: A of their noise.
        drift: v that they were given.
        edges: of the bins of lambda, shape (b + 1,).
        time_gkb: time that a passive mode and a shear transformation spends in a bin, per mode of either kind and unit of
            lambda, (g, 2, b).
        life_g: life time of a mode in units of activity, (g,).
        failures_g: failures of a mode, (g,).
        steps: how many were followed.
    """

    amplitude: float
    drift: float
    edges: Floats
    time_gkb: Floats
    life_g: Floats
    failures_g: Floats
    steps: int

    @property
    def failure_rate(self) -> tuple[float, float]:
        """Failures per unit of activity, and half of their 95 % interval: 1 if the drift is that of the steady state."""
        rate_g = np.array([_others(self.failures_g, g) / _others(self.life_g, g) for g in range(_GROUPS)])
        return float(self.failures_g.mean() / self.life_g.mean()), jackknife_95(rate_g)

    def curvature(self) -> tuple[Floats, Floats]:
        """P(lambda) per block in each bin, the part of shear transformations and that of passive modes.

        Two arrays of shape (b,).
        """
        passive_b, shear_b = self.time_gkb.mean(axis=0) / self.life_g.mean()
        return shear_b, passive_b

    def alpha(self) -> Exponent:
        """The exponent of D_L(omega) ~ omega^alpha: a straight line through ln P(lambda), each bin counting the same.

        Returns:
            alpha with its scatter between groups and its shift when the lower end of the window is doubled; ``count`` is the
            number of steps.

        Raises:
            NotEnoughDataError: if a group saw no witness in some bin.
        """
        time_gb = self.time_gkb.sum(axis=1)
        seen = int(np.count_nonzero(time_gb, axis=0).min())
        enough("groups saw a witness in the emptiest bin of lambda", seen, _GROUPS, "Take more witnesses.")
        value = self.alpha_of(time_gb.mean(axis=0))
        scatter = jackknife_95(np.array([self.alpha_of(_others(time_gb, g)) for g in range(_GROUPS)]))
        upper_b = self.centres > 2.0 * self.edges[0]
        shift = 2.0 * _slope(self.centres[upper_b], time_gb.mean(axis=0)[upper_b]) + 1.0 - value
        return Exponent(value, hypot(scatter, shift), scatter, shift, (float(self.edges[0]), float(self.edges[-1])), self.steps)

    def alpha_of(self, density_b: ArrayLike) -> float:
        """alpha that :meth:`alpha` would find with endless statistics, if this were P(lambda) at the centres of the bins, shape (b,)."""
        return 2.0 * _slope(self.centres, np.asarray(density_b, dtype=np.float64)) + 1.0

    @property
    def centres(self) -> Floats:
        """Geometric centres of the bins, shape (b,)."""
        return np.sqrt(self.edges[1:] * self.edges[:-1])


def watch(
    amplitude: float,
    drift: float,
    n_witnesses: int,
    *,
    replacement: Replacement | None = None,
    window: tuple[float, float] = (1e-5, 1e-3),
    step: float = _STEP,
    seed: int = 0,
    callback: Callable[[], Any] | None = None,
) -> Sightings:
    """Follow modes from their entry to their replacement, under kicks with mu = 1.

    Args:
        amplitude: A of the noise, positive.
        drift: v, positive: that of a sampled run, or of :class:`qlm_mesoscopic.modes.ModeEquation`.
        n_witnesses: how many, at least 3200; 10^5 take a second or two.
        replacement: lambda_min and a uniform P_0 on both sides of phi = 0; overshoot ``drop``.
        window: lambda in which they are watched, between 1e-7 (rounding) and 0.1 of lambda_min.
        step: longest step as a fraction of the distance to what is near, up to 0.3.
        seed: the same seed gives the same bytes.
        callback: called before every step of at most 10^5 witnesses; what it raises ends the call.

    Raises:
        ModelError: for values outside these ranges.
    """
    rules = Replacement() if replacement is None else replacement
    positive(amplitude=amplitude, drift=drift)
    rules.uniform_support()
    if n_witnesses < FEWEST:
        raise ModelError(f"{n_witnesses} witnesses; expected at least {FEWEST}.")
    if not (_SMALLEST * rules.lambda_min <= window[0] < window[1] <= 0.1 * rules.lambda_min and 0.0 < step <= 0.3):
        raise ModelError(
            f"window = {window}, step = {step}; expected rising ends from 1e-7 to 0.1 of lambda_min, and a step up to 0.3."
        )
    edges = np.geomspace(*window, max(2, round(_BINS_PER_DECADE * float(np.log10(window[1] / window[0])))) + 1)
    rng = np.random.Generator(np.random.SFC64(seed))
    flocks = []
    for first in range(0, n_witnesses, _TOGETHER):
        flocks.append(_Flock(rng, min(_TOGETHER, n_witnesses - first), rules, edges, step))
        flocks[-1].fly(rng, float(amplitude), float(drift), callback)
    norm_gd, life_gd, failures_gd, up_gd, time_gdkb = (
        np.sum([getattr(flock, name) for flock in flocks], axis=0) for name in _Flock.SUMS
    )
    share_gd = block.shares_of_ways(up_gd.sum(axis=0) / norm_gd.sum(axis=0)) / norm_gd
    return Sightings(
        float(amplitude),
        float(drift),
        edges,
        np.einsum("gd,gdkb->gkb", share_gd, time_gdkb) / np.diff(edges),
        np.sum(share_gd * life_gd, axis=1),
        np.sum(share_gd * failures_gd, axis=1),
        sum(flock.steps for flock in flocks),
    )


class _Flock:
    """Witnesses that move together, and sums over them, apart for each group and each way in.

    Attributes:
        norm_gd: weights of the witnesses; life_gd, failures_gd, up_gd: times these, their life times, failures, and whether
            they left upwards.
        time_gdkb: weighted time in each bin.
        steps: how many there were.
    """

    SUMS = ("norm_gd", "life_gd", "failures_gd", "up_gd", "time_gdkb")

    def __init__(self, rng: np.random.Generator, n: int, rules: Replacement, edges: Floats, step: float) -> None:
        self._edges, self._step = edges, step
        smallest = float(edges[0])
        self.phi_w, self.weight_w = _invariants(rng, n, rules.uniform_support(), 0.3 * smallest)
        # phi comes in order: dealt out in turn, each group and way in gets all of it.
        self.cell_w = np.arange(n) % (2 * _GROUPS)
        way_w = self.cell_w % 2
        direction_w = 1.0 - 2.0 * way_w
        self.sigma_w, self.branch_w = -direction_w * rules.entry_stress(self.phi_w), -direction_w
        self.swap_w = rules.swap_stress(self.phi_w)
        # Of passive modes the stress says what the distance does of others: how far it is to where they are softest.
        self.shear_w = self.phi_w > 0.0
        self.limit_w = np.where(self.shear_w, np.abs(self.phi_w) ** 1.5 / 3.0, 0.0)
        # The distance of the smallest lambda, limit r^2 (3 + r) / 2 with 2 lambda = phi r (2 + r); of passive modes about as
        # much as changes their lambda.
        r_w = block.excess_at(smallest, np.where(self.shear_w, self.phi_w, 1.0))
        self.near_w = _FLOOR * np.where(
            self.shear_w, 0.5 * self.limit_w * r_w**2 * (3.0 + r_w), 5.0 * np.maximum(smallest - self.phi_w, 0.0) ** 1.5
        )
        self.norm_gd = self._sum(np.ones(n))
        self.life_gd, self.failures_gd, self.up_gd = (np.zeros((_GROUPS, 2)) for _ in range(3))
        self.time_gdkb = np.zeros((_GROUPS, 2, 2, edges.size - 1))
        self.steps = 0

    def fly(self, rng: np.random.Generator, amplitude: float, drift: float, callback: Callable[[], Any] | None) -> None:
        """Move until all have left."""
        for _ in range(_MOST_STEPS):
            if callback is not None:
                callback()
            gone_w = self._move(rng, amplitude, drift)
            if gone_w.any():
                for name in (name for name in vars(self) if name.endswith("_w")):
                    setattr(self, name, getattr(self, name)[~gone_w])
            if not self.phi_w.size:
                return
        raise ModelError(f"witnesses still live after {_MOST_STEPS} steps; expected their replacement. Take longer steps.")

    def _move(self, rng: np.random.Generator, amplitude: float, drift: float) -> NDArray[np.bool_]:
        """One step of each; which ones have left."""
        n = self.phi_w.size
        self.steps += n
        x_w = self._distance(self.sigma_w)
        room_w = self.swap_w + self.limit_w - x_w
        scale_w = self._step * np.minimum(np.maximum(x_w, self.near_w), np.maximum(room_w, 1e-3 * self.swap_w))
        # Kicks longer than the scale come at the rate 2 A / scale; those below have the variance 2 A scale per unit of
        # activity.
        wait_w, most_w = rng.standard_exponential(n) * scale_w / (2.0 * amplitude), scale_w / drift
        kicked_w, time_w = wait_w < most_w, np.minimum(wait_w, most_w)
        shift_w = drift * time_w + np.sqrt(2.0 * amplitude * scale_w * time_w) * rng.standard_normal(n)
        self._look(self.sigma_w + 0.5 * shift_w, time_w)
        self.sigma_w += shift_w + np.where(kicked_w, scale_w / rng.uniform(-1.0, 1.0, n), 0.0)
        failed_w = self.shear_w & (self._distance(self.sigma_w) < 0.0)
        self.branch_w = np.where(failed_w, -self.branch_w, self.branch_w)
        # A kick may carry a mode through its failure and beyond the other branch at once: it has failed then, and leaves.
        gone_w = self._distance(self.sigma_w) > self.swap_w + self.limit_w
        self.life_gd += self._sum(time_w)
        self.failures_gd += self._sum(failed_w)
        self.up_gd += self._sum(gone_w & (self.sigma_w > 0.0))
        return gone_w

    def _sum(self, values_w: Floats | NDArray[np.bool_]) -> Floats:
        """Weighted sums over the witnesses of each group and way in, (g, d)."""
        return (
            np.bincount(self.cell_w, self.weight_w * values_w, 2 * _GROUPS).astype(np.float64, copy=False).reshape(_GROUPS, 2)
        )

    def _distance(self, sigma_w: Floats) -> Floats:
        """To the loss of the minimum; of passive modes the stress."""
        return np.where(self.shear_w, self.limit_w + self.branch_w * sigma_w, np.abs(sigma_w))

    def _look(self, sigma_w: Floats, time_w: Floats) -> None:
        """Count the time of a step at the lambda in its middle."""
        low, top = float(self._edges[0]), float(self._edges[-1])
        x_w = np.maximum(self._distance(sigma_w), 0.0)
        # kappa^2 = 2 lambda + phi bounds the stress of what can be in the window at all.
        soft_w = np.flatnonzero((self.phi_w > -2.0 * top) & (x_w < (np.abs(self.phi_w) + 2.0 * top) ** 1.5))
        phi_s, x_s, shear_s = self.phi_w[soft_w], x_w[soft_w], self.shear_w[soft_w]
        lam_s = np.empty(soft_w.size)
        lam_s[shear_s] = block.curvature_at(x_s[shear_s], phi_s[shear_s])
        calm_s = ~shear_s
        lam_s[calm_s] = block.curvature(block.kappa(x_s[calm_s], phi_s[calm_s], 1.0), phi_s[calm_s])
        inside_s = (lam_s >= low) & (lam_s < top)
        soft_w, lam_s, shear_s = soft_w[inside_s], lam_s[inside_s], shear_s[inside_s]
        bins = self._edges.size - 1
        bin_s = np.minimum((np.log(lam_s / low) * (bins / np.log(top / low))).astype(np.intp), bins - 1)
        place_s = (2 * self.cell_w[soft_w] + shear_s) * bins + bin_s
        times = np.bincount(place_s, self.weight_w[soft_w] * time_w[soft_w], self.time_gdkb.size)
        self.time_gdkb += times.reshape(self.time_gdkb.shape)


def _invariants(rng: np.random.Generator, n: int, support: tuple[float, float], core: float) -> tuple[Floats, Floats]:
    """phi and its weight: uniform within +-core, uniform in ln |phi| on either side of that, by the chances of the strata."""
    low, high = support
    counts = np.diff(np.rint(n * np.cumsum((0.0, *_STRATA))).astype(np.intp))
    # Evenly spread within each stratum, one witness in each of as many intervals.
    even_w, passive_w, shear_w = ((np.arange(count) + rng.random(count)) / count for count in counts)
    phi, weight = [core * (2.0 * even_w - 1.0)], [np.full(even_w.size, 2.0 * core / _STRATA[0])]
    for uniform_w, end, chance in ((passive_w, low, _STRATA[1]), (shear_w, high, _STRATA[2])):
        span = np.log(abs(end) / core)
        phi.append(np.sign(end) * core * np.exp(span * uniform_w))
        weight.append(np.abs(phi[-1]) * span / chance)
    return np.concatenate(phi), np.concatenate(weight) / (high - low)


def _slope(lam_b: Floats, density_b: Floats) -> float:
    """d ln P / d ln lambda of the straight line."""
    return float(np.polyfit(np.log(lam_b), np.log(density_b), 1)[0])


def _others(values_g: Floats, group: int) -> Floats:
    """Mean over all groups but one."""
    return np.asarray(np.delete(values_g, group, axis=0).mean(axis=0), dtype=np.float64)
