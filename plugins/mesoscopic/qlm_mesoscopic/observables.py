"""What one measures in the model: densities, avalanches, and the exponents theta and alpha with errors, or a refusal.

A snapshot is an array of distances x (:meth:`qlm_mesoscopic.meanfield.MeanField.distances`) or the modes of all blocks
(:class:`qlm_mesoscopic.kinds.ModeSnapshot`); several make a series in time, or one per independent sample.

How exponents are fitted. Near 0 the density of the model is a power of x times a power series in x, so
p(x) ~ x^theta exp(c_1 x + ... + c_K x^K) between a lower and an upper end, by maximum likelihood, with K = 1 by default: the
series takes up the bend at larger x, and leaves theta unbiased in a window that holds enough blocks. How little bias remains
was read off the exact density of the master equation (A = 0.02 to 0.30, lower end 0.002 to 0.005): -0.0002 to -0.0015 with the
defaults, against +0.0002 to +0.006 for K = 2 up to x = 0.5.
Window: below, the x under which there are ``rank`` blocks per snapshot on average, because with fewer than that the
discreteness of the failures shows; above, 0.3 of the distance at which failed blocks come back: 1 for threshold blocks, x* of
:mod:`~qlm_mesoscopic.theory` for modes of one phi.
Error: half-width of the 95 % interval, of two parts added in squares: the scatter (delete-one jackknife over at most 16 groups
of consecutive snapshots, so that the memory between snapshots is within the groups) and the shift of the exponent when the
lower end is doubled.
"""

# Array names carry their axes: n blocks, s snapshots, g groups, k powers of x, b bins, q points of quadrature, a avalanches, r
# runs.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from qlm_mesoscopic.block import Floats
from qlm_mesoscopic.brief import Brief
from qlm_mesoscopic.errors import ModelError, enough
from qlm_mesoscopic.kinds import ModeSnapshot

_FEWEST_IN_WINDOW = 500
_FEWEST_SNAPSHOTS = 5
_MOST_GROUPS = 16
_FEWEST_MINIMA = 20
_FEWEST_AVALANCHES = 100
_NODES = 2001
_NEWTON_STEPS = 60


@dataclass(frozen=True, slots=True, repr=False)
class Exponent(Brief):
    """A measured exponent.

    Args:
        value: the exponent.
        error: half-width of its 95 % interval.
        scatter: the part of it that comes from the scatter between groups of snapshots (or between minima).
        shift: change of the exponent when the lower end of the window is doubled (0 where there is no window).
        window: lower and upper end of what was fitted.
        count: blocks (or minima) in the window.
    """

    value: float
    error: float
    scatter: float
    shift: float
    window: tuple[float, float]
    count: int

    def agrees(self, expected: float) -> bool:
        """Whether the expected value lies within the 95 % interval."""
        return abs(self.value - expected) <= self.error


def theta_from_distances(
    snapshots: Sequence[ArrayLike],
    *,
    window: tuple[float, float] | None = None,
    rank: float = 30.0,
    upper: float = 0.3,
    order: int = 1,
) -> Exponent:
    """The exponent theta of P(x) ~ x^theta, from distances in several snapshots; see the top of this module for the rules.

    Args:
        snapshots: distances, one array each; values that are not positive (blocks about to fail) or not finite are left out.
        window: lower and upper end; by default from ``rank`` and ``upper``.
        rank: blocks per snapshot below the lower end.
        upper: upper end of the window.
        order: K, powers of x beside the power law; 0 is the plain power law.

    Raises:
        NotEnoughDataError: with fewer than 5 snapshots, or 500 blocks in the window.
        ModelError: if the window is empty, or the order negative.
    """
    series = [_positive(values) for values in snapshots]
    if window is None:
        enough("snapshots", len(series), _FEWEST_SNAPSHOTS)
        pooled_n = np.concatenate(series)
        pooled_n = pooled_n[pooled_n < upper]
        wanted = int(rank * len(series))
        enough(f"blocks below {upper:g}", pooled_n.size, max(wanted + 1, _FEWEST_IN_WINDOW))
        window = (float(np.partition(pooled_n, wanted)[wanted]), upper)
    return _fit(series, window, order)


def theta_from_minima(n_blocks_r: ArrayLike, minima: Sequence[ArrayLike]) -> Exponent:
    """The exponent theta from <x_min> ~ N^(-1 / (1 + theta)) over several N, by a weighted straight line through the logarithms.

    Args:
        n_blocks_r: the sizes N, shape (r,), at least three different ones.
        minima: for each size the observed x_min, such as ``Run.load_a``.

    Raises:
        NotEnoughDataError: with fewer than three sizes, or 20 minima at one of them.
        ModelError: if the arguments do not fit together.
    """
    n_r = np.asarray(n_blocks_r, dtype=np.float64)
    if n_r.ndim != 1 or n_r.size != len(minima) or np.any(n_r <= 0.0):
        raise ModelError(f"{n_r.size} sizes and {len(minima)} sets of minima; expected one set per size, sizes positive.")
    enough("different sizes", np.unique(n_r).size, 3)
    series = [_positive(values) for values in minima]
    enough("minima at the poorest size", min(values.size for values in series), _FEWEST_MINIMA)
    log_mean_r = np.log([values.mean() for values in series])
    variance_r = np.array([values.var(ddof=1) / values.size / values.mean() ** 2 for values in series])
    weight_r = 1.0 / np.maximum(variance_r, 1e-12)
    log_n_r = np.log(n_r)
    centred_r = log_n_r - np.average(log_n_r, weights=weight_r)
    spread = np.sum(weight_r * centred_r**2)
    slope = float(np.sum(weight_r * centred_r * log_mean_r) / spread)
    residual_r = log_mean_r - np.average(log_mean_r, weights=weight_r) - slope * centred_r
    # Where the points scatter about the line more than their errors allow, the errors are widened accordingly.
    misfit = max(1.0, float(np.sum(weight_r * residual_r**2)) / (n_r.size - 2))
    half_width = 1.96 * math.sqrt(misfit / spread) / slope**2
    return Exponent(
        -1.0 / slope - 1.0, half_width, half_width, 0.0, (float(n_r.min()), float(n_r.max())), sum(v.size for v in series)
    )


def alpha_from_curvatures(
    snapshots: Sequence[ArrayLike], *, window: tuple[float, float] | None = None, rank: float = 1.0, upper: float = 0.02
) -> Exponent:
    """The exponent alpha of D_L(omega) ~ omega^alpha, from lambda = omega^2: P(lambda) ~ lambda^s gives alpha = 2 s + 1.

    The plain power law is fitted: the theory's corrections go with lambda^(1/2 - 2 theta), which no power series takes up, and
    near theta = 1/4 they keep the exponent of any finite window low by 0.1 to 0.3.

    Args:
        snapshots: lambda of all blocks, one array each, such as ``ModeSnapshot.lam_n``; NaN (blocks about to fail) is left out.
        window: lower and upper end; by default from ``rank`` and ``upper``.
        rank: blocks per snapshot below the lower end.
        upper: upper end, in the units of lambda_min and P_0.

    Raises:
        NotEnoughDataError: with fewer than 5 snapshots, or 500 blocks in the window.
        ModelError: if the window is empty.
    """
    slope = theta_from_distances(snapshots, window=window, rank=rank, upper=upper, order=0)
    return Exponent(
        2.0 * slope.value + 1.0, 2.0 * slope.error, 2.0 * slope.scatter, 2.0 * slope.shift, slope.window, slope.count
    )


def exponent_of(density: Callable[[Floats], Floats], window: tuple[float, float], order: int = 0) -> float:
    """The exponent that a fit over this window would find with endless statistics, of a density that is known as a function.

    It is what a measured exponent of a finite window has to be compared with while the density is still crossing over.

    Args:
        density: takes x, shape (q,), and returns the density there, in any norm.
        window: lower and upper end.
        order: as in :func:`theta_from_distances`.

    Raises:
        ModelError: if the window is empty or the density is not positive in it.
    """
    lower, upper = window
    if not 0.0 < lower < upper:
        raise ModelError(f"window from {lower:g} to {upper:g}; expected 0 < lower < upper.")
    basis_kq, measure_q = _family(lower / upper, order)
    weight_q = np.asarray(density(upper * np.exp(basis_kq[0])), dtype=np.float64) * measure_q
    if not (np.all(np.isfinite(weight_q)) and np.all(weight_q > 0.0)):
        raise ModelError("the density is not positive and finite everywhere in the window; expected one that is.")
    return float(_maximum(basis_kq @ weight_q / weight_q.sum(), basis_kq, measure_q, np.zeros(1 + order))[0])


def curvature(snapshots: Sequence[ModeSnapshot], edges: ArrayLike) -> tuple[Floats, Floats]:
    """P(lambda) per block in each bin, the part of shear transformations (phi >= 0) and that of passive modes (eq. 5).

    It is what :meth:`qlm_mesoscopic.modes.ModeDensity.curvature` computes and witnesses see. D_L(omega) is 2 omega times this.

    Args:
        snapshots: modes, at least one set.
        edges: of the bins of lambda, shape (b + 1,).

    Returns:
        Two arrays of shape (b,).

    Raises:
        NotEnoughDataError: without any snapshot.
        ModelError: if the edges do not rise.
    """
    edges_b = _edges(edges)
    enough("snapshots", len(snapshots), 1)
    lam_n = np.concatenate([snapshot.lam_n for snapshot in snapshots])
    shear_n = np.concatenate([snapshot.phi_n >= 0.0 for snapshot in snapshots])
    shear_b, passive_b = (np.histogram(part, edges_b)[0] for part in (lam_n[shear_n], lam_n[~shear_n]))
    norm_b = lam_n.size * np.diff(edges_b)
    return shear_b / norm_b, passive_b / norm_b


def avalanche_sizes(size_a: ArrayLike, edges: ArrayLike) -> Floats:
    """P(S), the density of the number of failures per avalanche; bins without any avalanche have density 0.

    Args:
        size_a: failures of each avalanche, shape (a,): ``Run.size_a``, or ``failures_a`` of a lattice.
        edges: of the bins, shape (b + 1,).

    Returns:
        Array of shape (b,).

    Raises:
        NotEnoughDataError: with fewer than 100 avalanches.
        ModelError: if the edges do not rise.
    """
    sizes_a, edges_b = np.asarray(size_a, dtype=np.float64), _edges(edges)
    enough("avalanches", sizes_a.size, _FEWEST_AVALANCHES)
    return np.histogram(sizes_a, edges_b)[0] / (sizes_a.size * np.diff(edges_b))


def _fit(series: Sequence[Floats], window: tuple[float, float], order: int) -> Exponent:
    lower, upper = window
    if not 0.0 < lower < upper:
        raise ModelError(
            f"window from {lower:g} to {upper:g}; expected 0 < lower < upper. More blocks or snapshots move its lower end down."
        )
    if order < 0:
        raise ModelError(f"order = {order}; expected at least 0.")
    enough("snapshots", len(series), _FEWEST_SNAPSHOTS)
    value, scatter, count = _power_law(series, lower, upper, order)
    # A window too short to be cut is no reason to refuse: what remains says how far the exponent may be off.
    shifted = _power_law(series, min(2.0 * lower, math.sqrt(lower * upper)), upper, order)[0]
    shift = shifted - value
    return Exponent(value, math.hypot(scatter, shift), scatter, shift, (lower, upper), count)


def _power_law(series: Sequence[Floats], lower: float, upper: float, order: int) -> tuple[float, float, int]:
    """Maximum likelihood of x^theta exp(sum c_k x^k) on a window: theta, its jackknife half-width at 95 %, blocks in the window."""
    n_groups = min(_MOST_GROUPS, len(series))
    sums_gk, counts_g = np.zeros((n_groups, 1 + order)), np.zeros(n_groups)
    for position, values_n in enumerate(series):
        inside_n = values_n[(values_n > lower) & (values_n < upper)] / upper
        group = position * n_groups // len(series)
        sums_gk[group] += [np.sum(np.log(inside_n)), *(np.sum(inside_n**k) for k in range(1, order + 1))]
        counts_g[group] += inside_n.size
    count = int(counts_g.sum())
    enough("blocks in the window", count, _FEWEST_IN_WINDOW)
    total_k = sums_gk.sum(axis=0)
    basis_kq, measure_q = _family(lower / upper, order)
    best_k = _maximum(total_k / count, basis_kq, measure_q, np.zeros(1 + order))
    left_g = np.array(
        [
            _maximum((total_k - sums_gk[group]) / (count - counts_g[group]), basis_kq, measure_q, best_k)[0]
            for group in range(n_groups)
        ]
    )
    return float(best_k[0]), jackknife_95(left_g), count


def _family(lower: float, order: int) -> tuple[Floats, Floats]:
    """ln x and the powers of x, shape (1 + order, q), between ``lower`` and 1, and the measure dx of trapezoids in ln x."""
    log_q = np.linspace(math.log(lower), 0.0, _NODES)
    x_q = np.exp(log_q)
    measure_q = x_q.copy()
    measure_q[[0, -1]] *= 0.5
    return np.array([log_q, *(x_q**k for k in range(1, order + 1))]), measure_q


def _maximum(mean_k: Floats, basis_kq: Floats, measure_q: Floats, start_k: Floats) -> Floats:
    """Parameters at which the exponential family has these means: Newton's iteration on a convex function, with halving."""

    def objective(parameter_k: Floats) -> float:
        exponent_q = parameter_k @ basis_kq
        top = exponent_q.max()
        return float(top + math.log(np.sum(np.exp(exponent_q - top) * measure_q)) - parameter_k @ mean_k)

    current_k = start_k
    value = objective(current_k)
    for _ in range(_NEWTON_STEPS):
        exponent_q = current_k @ basis_kq
        weight_q = np.exp(exponent_q - exponent_q.max()) * measure_q
        weight_q /= weight_q.sum()
        model_k = basis_kq @ weight_q
        centred_kq = basis_kq - model_k[:, None]
        step_k = np.linalg.solve((centred_kq * weight_q) @ centred_kq.T, mean_k - model_k)
        factor = 1.0
        while objective(current_k + factor * step_k) > value + 1e-13 * abs(value) and factor > 1e-6:
            factor *= 0.5
        current_k = current_k + factor * step_k
        value = objective(current_k)
        if np.max(np.abs(step_k)) < 1e-9:
            break
    return current_k


def jackknife_95(left_g: Floats) -> float:
    """Half of the 95 % interval of an estimate, from its values with one group of the data left out each."""
    n_groups = left_g.size
    return student_95(n_groups - 1) * math.sqrt((n_groups - 1) / n_groups * np.sum((left_g - left_g.mean()) ** 2))


def student_95(freedom: int) -> float:
    """97.5 % point of Student's t for at least 4 degrees of freedom, by its expansion about the normal one (to 0.002)."""
    z = 1.959963984540054
    corrections = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0,
    )
    return z + sum(term / freedom**power for power, term in enumerate(corrections, start=1))


def _positive(values: ArrayLike) -> Floats:
    array_n = np.asarray(values, dtype=np.float64).ravel()
    return array_n[np.isfinite(array_n) & (array_n > 0.0)]


def _edges(edges: ArrayLike) -> Floats:
    edges_b = np.asarray(edges, dtype=np.float64)
    if edges_b.ndim != 1 or edges_b.size < 2 or not np.all(np.diff(edges_b) > 0.0):
        raise ModelError("bin edges do not rise; expected at least two, in rising order.")
    return edges_b
