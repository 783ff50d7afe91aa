"""One block: the quartic potential of its softest mode, and what stress does to it, in closed form.

Units: chi = 1 fixes the length s along the mode, C = 1 the stress. Then u(s) = lambda s^2 / 2 + kappa s^3 / 6 + s^4 / 24 - s
dsigma, and everything follows from two numbers per block and the side it sits on:

* ``phi`` = kappa^2 - 2 lambda, conserved under stress (eq. 4);
* ``sigma`` = kappa^3 / 6 - phi kappa / 2, the stress counted from the symmetric point kappa = 0. Equation (C3) of the paper has
  the sign of its second part wrong; this one has dsigma / dkappa = lambda, as (3) demands;
* ``branch``: -1 where kappa < 0, the side that rising stress destabilises, +1 where kappa > 0. With phi > 0 there are two
  minima where |sigma| < phi^(3/2) / 3, and the branch says which one. A passive block, phi < 0, has one minimum and no branch.

Every function takes scalars or arrays of any shapes that broadcast, and computes in float64.
"""

# Array names carry their axes: n blocks, d the two ways in. Everything else is elementwise.

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qlm_mesoscopic.brief import Brief
from qlm_mesoscopic.errors import ModelError, one_of, positive

Floats: TypeAlias = NDArray[np.float64]
Overshoot: TypeAlias = Literal["drop", "carry"]


def stress(kappa: ArrayLike, phi: ArrayLike) -> Floats:
    """Stress sigma = kappa^3 / 6 - phi kappa / 2 at cubic coefficient ``kappa`` (corrected C3), units of chi = C = 1."""
    kappa, phi = _floats(kappa, phi)
    return kappa * (kappa * kappa - 3.0 * phi) / 6.0


def curvature(kappa: ArrayLike, phi: ArrayLike) -> Floats:
    """Quadratic coefficient lambda = (kappa^2 - phi) / 2 (eq. 4), the smallest eigenvalue of the block's Hessian."""
    kappa, phi = _floats(kappa, phi)
    return 0.5 * (kappa * kappa - phi)


def invariant(lam: ArrayLike, kappa: ArrayLike) -> Floats:
    """The conserved phi = kappa^2 - 2 lambda (eq. 4)."""
    lam, kappa = _floats(lam, kappa)
    return kappa * kappa - 2.0 * lam


def limit(phi: ArrayLike) -> Floats:
    """Stress phi^(3/2) / 3 at which branch -1 loses its minimum (branch +1: at minus this); inf for passive blocks."""
    (phi,) = _floats(phi)
    return np.where(phi < 0.0, np.inf, np.abs(phi) ** 1.5 / 3.0)


def jump(phi: ArrayLike) -> Floats:
    """How far s moves when the block fails at its limit: from kappa = -sqrt(phi) to 2 sqrt(phi), 3 sqrt(phi); 0 if passive."""
    (phi,) = _floats(phi)
    return 3.0 * np.sqrt(np.maximum(phi, 0.0))


def kappa(sigma: ArrayLike, phi: ArrayLike, branch: ArrayLike) -> Floats:
    """Cubic coefficient at stress ``sigma`` on ``branch``: the root of kappa^3 - 3 phi kappa = 6 sigma there.

    Trigonometric between the two limits of a block with phi > 0, radicals elsewhere. NaN where the branch has no minimum at
    that stress: the block has failed. The branch of a passive block does not matter.

    Args:
        sigma: stress.
        phi: the conserved quantity.
        branch: -1 or +1.

    Returns:
        kappa, in the broadcast shape.

    Raises:
        ModelError: if a branch is neither -1 nor +1.
    """
    sigma, phi = _floats(sigma, phi)
    side = _side(branch)
    # Mirror: what branch -1 does under sigma, branch +1 does under -sigma.
    rising = side * sigma
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        # The same expression as in limit(), so that a block exactly at its limit still has its minimum.
        most = np.abs(phi) ** 1.5 / 3.0
        bistable = (phi >= 0.0) & (np.abs(sigma) <= most)
        inside = np.sqrt(np.abs(phi)) * (1.0 + _excess(np.where(bistable & (most > 0.0), 1.0 + rising / most, 0.0)))
        # One real root: with c^3 = 3 |sigma| + sqrt(9 sigma^2 - phi^3) it is c + phi / c, of the sign of sigma. For phi < 0
        # that is a difference, so there it is found from kappa (kappa^2 - 3 phi) = 6 sigma, whose bracket is a sum of positive
        # terms.
        cube = 3.0 * np.abs(sigma) + np.sqrt(np.maximum(9.0 * sigma * sigma - phi * phi * phi, 0.0))
        c = np.cbrt(cube)
        ratio = phi / c
        sum_form = np.copysign(c + ratio, sigma)
        quotient_form = 6.0 * sigma / (c * c + ratio * ratio - phi)
        alone = np.where(phi < 0.0, quotient_form, sum_form)
    alone = np.where(cube > 0.0, alone, 0.0)
    failed = (phi > 0.0) & (rising < 0.0)
    return np.where(bistable, side * inside, np.where(failed, np.nan, alone))


def distance(sigma: ArrayLike, phi: ArrayLike, branch: ArrayLike, direction: int = 1) -> Floats:
    """Stress x that still has to be added until the block fails, under rising or falling stress (D1, with its sign put right).

    Args:
        sigma: stress.
        phi: the conserved quantity.
        branch: -1 or +1.
        direction: +1 for rising stress, under which branch -1 fails; -1 for falling stress, under which branch +1 fails.

    Returns:
        x; inf for passive blocks and for a branch that this direction only stabilises; negative where the block is beyond its
        limit.

    Raises:
        ModelError: if a branch or the direction is neither -1 nor +1.
    """
    sigma, phi = _floats(sigma, phi)
    side = _side(branch)
    one_of((1, -1), direction=direction)
    fails = (phi >= 0.0) & (side == -direction)
    return np.where(fails, limit(phi) - direction * sigma, np.inf)


def curvature_at(x: ArrayLike, phi: ArrayLike) -> Floats:
    """Quadratic coefficient of a block with phi > 0 at distance x to its instability, without loss of digits as x vanishes.

    Args:
        x: distance to the instability, at least 0, as :func:`distance` gives it.
        phi: the conserved quantity, positive.

    Returns:
        lambda; for small x it is sqrt(2 x sqrt(phi)), the inverse of (D2).
    """
    x, phi = _floats(x, phi)
    y = _excess(3.0 * x / phi**1.5)
    return 0.5 * phi * y * (y + 2.0)


def excess_at(lam: ArrayLike, phi: ArrayLike) -> Floats:
    """r >= 0 with |kappa| = (1 + r) sqrt(phi) at curvature lam > 0, the root of r (2 + r) = 2 lambda / phi, without loss of digits.

    Args:
        lam: quadratic coefficient.
        phi: the conserved quantity, positive.
    """
    lam, phi = _floats(lam, phi)
    ratio = 2.0 * lam / phi
    return ratio / (1.0 + np.sqrt(1.0 + ratio))


@dataclass(frozen=True, slots=True, repr=False)
class Tilted(Brief):
    """What a finite stress increment makes of blocks; arrays of one shape.

    Args:
        lam: quadratic coefficient in the minimum where the block is now.
        kappa: cubic coefficient there.
        displacement: s of that minimum, counted from the old one; it equals the change of kappa.
        failed: True where the old minimum vanished and the block fell into the other one.
    """

    lam: Floats
    kappa: Floats
    displacement: Floats
    failed: NDArray[np.bool_]


def tilt(lam: ArrayLike, kappa_0: ArrayLike, dsigma: ArrayLike) -> Tilted:
    """Add a finite stress increment, exactly (Appendix A), with the fall into the other minimum if the old one vanishes.

    Args:
        lam: quadratic coefficient, at least 0.
        kappa_0: cubic coefficient.
        dsigma: stress increment of any size and sign.

    Returns:
        The new expansion; phi is conserved whether a block falls or not.

    Raises:
        ModelError: if a lambda is negative: that is no minimum.
    """
    lam, kappa_0, dsigma = _floats(lam, kappa_0, dsigma)
    if np.any(lam < 0.0):
        raise ModelError(f"lambda = {np.min(lam):g} is negative; expected blocks in a minimum, lambda >= 0.")
    phi = invariant(lam, kappa_0)
    sigma = stress(kappa_0, phi) + dsigma
    side = np.where(kappa_0 < 0.0, -1.0, 1.0)
    kept = kappa(sigma, phi, side)
    failed = np.isnan(kept)
    moved = np.where(failed, kappa(sigma, phi, -side), kept) - kappa_0
    # The difference of two kappas has lost the digits of a small displacement; Newton on u'(s) = dsigma brings them back. Near
    # the saddle-node the slope vanishes, and there the closed form stands as it is.
    for _ in range(2):
        slope = lam + moved * (kappa_0 + 0.5 * moved)
        residual = moved * (lam + moved * (0.5 * kappa_0 + moved / 6.0)) - dsigma
        safe = slope > 1e-6 * np.maximum(kappa_0 * kappa_0, lam)
        moved -= np.where(safe, residual / np.where(safe, slope, 1.0), 0.0)
    return Tilted(np.maximum(lam + moved * (kappa_0 + 0.5 * moved), 0.0), kappa_0 + moved, moved, failed)


class InvariantDistribution(Protocol):
    """P_0: where the phi of a new softest mode comes from."""

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest phi that can come."""

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """Draw n values, shape (n,)."""


@dataclass(frozen=True, slots=True)
class UniformInvariants:
    """P_0(phi) constant between ``low`` and ``high``: the simplest one with weight on both sides of phi = 0.

    Raises:
        ModelError: unless low < high, both finite.
    """

    low: float = -1.0
    high: float = 0.6

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise ModelError(f"P_0 between {self.low} and {self.high}; expected finite low < high.")

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest phi that can come."""
        return self.low, self.high

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """Draw n values, shape (n,)."""
        return rng.uniform(self.low, self.high, n)


@dataclass(frozen=True, slots=True)
class Replacement:
    """How the softest mode of a block gives way to the next one, once its lambda has climbed to ``lambda_min``.

    Under rising stress the old mode leaves at kappa = +sqrt(phi + 2 lambda_min), and the new one comes in on the other side, at
    kappa' = -sqrt(phi' + 2 lambda_entry), so that the stress carries it towards softness first; under falling stress the mirror
    image. lambda_entry = (1 - inset) lambda_min is a little inside, or the smallest kick back would swap the mode again.

    Args:
        lambda_min: upper bound of lambda, the typical stiffness of the second softest mode.
        p0: distribution of phi'. Its support must lie above -2 lambda_min, or a passive mode would never be below lambda_min.
        inset: how far inside the new mode starts, as a fraction of lambda_min, in (0, 1).
        overshoot: ``drop``: stress beyond the swap is forgotten; ``carry``: the new mode gets it.

    Raises:
        ModelError: for values outside the ranges above.

    Warns:
        UserWarning: if P_0 has no weight around phi = 0, which the theory assumes.
    """

    lambda_min: float = 1.0
    p0: InvariantDistribution = UniformInvariants()
    inset: float = 0.05
    overshoot: Overshoot = "drop"

    def __post_init__(self) -> None:
        positive(lambda_min=self.lambda_min)
        if not 0.0 < self.inset < 1.0:
            raise ModelError(f"inset = {self.inset}; expected a fraction of lambda_min between 0 and 1.")
        one_of(get_args(Overshoot), overshoot=self.overshoot)
        low, high = self.p0.support
        if low < -2.0 * self.lambda_min:
            raise ModelError(
                f"P_0 reaches down to phi = {low:g}; expected at least -2 lambda_min = {-2.0 * self.lambda_min:g}, because "
                "a passive mode has lambda >= -phi / 2. Raise lambda_min or cut P_0."
            )
        if not low < 0.0 < high:
            warnings.warn(
                f"P_0 lives on ({low:g}, {high:g}), without weight around phi = 0; the theory assumes a finite P_0(0), and its "
                "alpha = min(4, 3 + 4 theta) does not hold without.",
                stacklevel=3,
            )

    def bounds(self, phi: ArrayLike, branch: ArrayLike) -> tuple[Floats, Floats]:
        """Lowest and highest stress between which a block neither fails nor swaps its mode.

        Args:
            phi: the conserved quantity.
            branch: -1 or +1.

        Returns:
            Two arrays. Branch -1 with phi > 0 is bounded above by failure, branch +1 below; all other ends are swaps.
        """
        (phi,) = _floats(phi)
        side = _side(branch)
        swap = self.swap_stress(phi)
        failure = limit(phi)
        low = np.where((phi >= 0.0) & (side > 0.0), -failure, -swap)
        high = np.where((phi >= 0.0) & (side < 0.0), failure, swap)
        return low, high

    def swap_stress(self, phi: ArrayLike) -> Floats:
        """Stress at which lambda reaches lambda_min with kappa > 0 (with kappa < 0: minus this)."""
        return self._stress_at(self.lambda_min, phi)

    def entry_stress(self, phi: ArrayLike) -> Floats:
        """Stress at which a new mode comes in that falling stress drives in (rising stress: minus this)."""
        return self._stress_at((1.0 - self.inset) * self.lambda_min, phi)

    def _stress_at(self, lam: float, phi: ArrayLike) -> Floats:
        (phi,) = _floats(phi)
        return stress(np.sqrt(np.maximum(phi + 2.0 * lam, 0.0)), phi)

    def uniform_support(self) -> tuple[float, float]:
        """Smallest and largest phi of a uniform P_0: :meth:`enter` in closed form, for what follows single modes.

        Raises:
            ModelError: unless P_0 is uniform on both sides of 0, and stress beyond a swap is dropped.
        """
        low, high = self.p0.support
        if not isinstance(self.p0, UniformInvariants) or self.overshoot != "drop" or not low < 0.0 < high:
            raise ModelError(
                f"{self}; expected a uniform P_0 on both sides of 0 and overshoot = 'drop'. Sample others with MeanField."
            )
        return low, high

    def enter(self, rng: np.random.Generator, direction_n: ArrayLike, beyond_n: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """New softest modes.

        Args:
            rng: source of phi'.
            direction_n: shape (n,), +1 where rising stress drove the old mode out, -1 where falling stress did.
            beyond_n: shape (n,), stress beyond the swap, at least 0.

        Returns:
            phi', sigma' and branch of each, shapes (n,). With ``carry``, sigma' may lie beyond the new mode's own bounds.
        """
        direction_n, beyond_n = _floats(direction_n, beyond_n)
        phi_n = self.p0.sample(rng, direction_n.size)
        sigma_n = -self.entry_stress(phi_n)
        if self.overshoot == "carry":
            sigma_n = sigma_n + beyond_n
        return phi_n, direction_n * sigma_n, -direction_n


def shares_of_ways(up_d: Floats) -> Floats:
    """Share of the modes that come in either way, driven in by rising stress first.

    A mode that leaves upwards is followed by one that rising stress drives in, as :meth:`Replacement.enter` has it.

    Args:
        up_d: chance to leave upwards of a mode that came in either way, shape (2,).
    """
    return np.array([up_d[1], 1.0 - up_d[0]]) / (up_d[1] + 1.0 - up_d[0])


def _excess(three_xi: Floats) -> Floats:
    """The root y >= 0 of y^2 (3 + y) = 2 three_xi: kappa = (1 + y) sqrt(phi) at distance x, with three_xi = 3 x / phi^(3/2)."""
    with np.errstate(invalid="ignore"):
        half_angle = np.arcsin(np.sqrt(np.clip(0.5 * three_xi, 0.0, 1.0)))
        bound = np.sqrt(3.0) * np.sin(2.0 * half_angle / 3.0) - 2.0 * np.sin(half_angle / 3.0) ** 2
        free = 2.0 * np.cosh(np.arccosh(np.maximum(three_xi - 1.0, 1.0)) / 3.0) - 1.0
    return np.where(three_xi <= 2.0, bound, free)


def _floats(*values: ArrayLike) -> tuple[Floats, ...]:
    return tuple(np.asarray(value, dtype=np.float64) for value in values)


def _side(branch: ArrayLike) -> Floats:
    side = np.asarray(branch, dtype=np.float64)
    if np.any(np.abs(side) != 1.0):
        raise ModelError("a branch is neither -1 nor +1; expected -1 where kappa < 0 and +1 where kappa > 0.")
    return side
