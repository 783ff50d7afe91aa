"""What the theory says, in closed form: alpha from theta, theta from the mechanical noise, and how slowly the limit is reached.

Units: chi = C = 1. Conventions of the mean field: a block is a stress distance x from its instability; every failure, of which
there are N per unit of activity, kicks each of the N blocks by zeta with the density (A / N) |zeta|^(-1 - mu), both signs
alike, on top of a drift v towards the instability. A is ``amplitude``, v is ``drift``; both are per unit of activity (failures
per block).
"""

# Everything is elementwise; arrays broadcast.

from __future__ import annotations

from functools import lru_cache
from math import gamma, inf, pi, sin

import numpy as np
from numpy.typing import ArrayLike

from qlm_mesoscopic.block import Floats, excess_at
from qlm_mesoscopic.errors import ModelError

CROSSOVER = 0.25
"""theta below which shear transformations alone make the low-frequency spectrum (eq. 8)."""


def alpha(theta: ArrayLike) -> Floats:
    """Exponent of D_L(omega) ~ omega^alpha as omega vanishes: min(4, 3 + 4 theta) (eq. 9).

    Below theta = 1/4 P(lambda) ~ lambda^(1 + 2 theta) is made by shear transformations of finite amplitude. Above, P(lambda) ~
    lambda^(3/2) is shared by passive modes and shear transformations whose amplitudes vanish. At 1/4 it is lambda^(3/2) ln(1 /
    lambda).

    Args:
        theta: pseudo-gap exponent of P(x) ~ x^theta, at least 0.

    Raises:
        ModelError: if a theta is negative.
    """
    return np.minimum(4.0, 3.0 + 4.0 * _theta(theta))


def theta_mean_field(amplitude: ArrayLike, drift: ArrayLike, mu: float = 1.0) -> Floats:
    """Pseudo-gap exponent of the mean field: a Levy flight of index mu with drift, absorbed at x = 0.

    * mu = 1: arctan(pi A / v) / pi. A flight of this kernel is a Cauchy process of scale pi A; it is positive with probability
      rho = 1/2 - arctan(v / (pi A)) / pi, and the stationary density falls as x^(mu rho). At v = 0 this is 1/2.
    * 1 < mu < 2: small kicks outrun the drift, theta = mu / 2 at any v; mu = 2 is diffusion, theta = 1.

    Args:
        amplitude: A, at least 0; theta is 0 without noise.
        drift: v, at least 0. With amplitude 0 it must be positive.
        mu: index of the flight, from 1 to 2; 1 is that of the Eshelby propagator in any dimension.

    Raises:
        ModelError: for values outside these ranges.
    """
    check_mu(mu)
    amplitude, drift = np.asarray(amplitude, dtype=np.float64), np.asarray(drift, dtype=np.float64)
    if not (np.all(amplitude >= 0.0) and np.all(drift >= 0.0)):
        raise ModelError(
            "amplitude A or drift v is negative or no number; expected both at least 0 (v counts towards the instability)."
        )
    if np.any((amplitude == 0.0) & (drift == 0.0)):
        raise ModelError("amplitude A and drift v are both 0: nothing moves. Expected at least one of them positive.")
    if mu > 1.0:
        return np.where(amplitude > 0.0, 0.5 * mu, 0.0 * drift)
    return np.arctan2(pi * amplitude, drift) / pi


def noise_over_drift(theta: ArrayLike) -> Floats:
    """A / v at which the mean field with mu = 1 has this theta, the inverse of :func:`theta_mean_field`.

    Raises:
        ModelError: unless 0 <= theta < 1/2.
    """
    theta = _theta(theta)
    if np.any(theta >= 0.5):
        raise ModelError(
            "theta of 1/2 and above; expected 0 <= theta < 1/2: drift 0 gives 1/2, and no mu = 1 flight gives more."
        )
    return np.tan(pi * theta) / pi


def critical_noise(mu: float = 1.0) -> float:
    """Noise A above which one failure triggers more than one other without any drift, so that an avalanche never ends.

    It is where the mean exit time of the flight from (0, 2), started at 1, is 1: 1/pi for mu = 1 (Getoor's exit time). No
    cut-offs.

    Raises:
        ModelError: unless 1 <= mu <= 2.
    """
    check_mu(mu)
    if mu == 2.0:
        return 0.0
    exit_time = pi**0.5 / (2.0**mu * gamma(1.0 + 0.5 * mu) * gamma(0.5 * (1.0 + mu)))
    return float(exit_time * gamma(1.0 + mu) * sin(0.5 * pi * mu) / pi)


def x_star(phi: ArrayLike) -> Floats:
    """Distance to instability of a block just after it has failed, 2/3 phi^(3/2) (D3): below it P(x) has its pseudo-gap."""
    phi = np.asarray(phi, dtype=np.float64)
    if np.any(phi < 0.0):
        raise ModelError("phi is negative: a passive block has no instability. Expected phi >= 0.")
    return (2.0 / 3.0) * phi**1.5


def joint_density(lam: ArrayLike, kappa: ArrayLike, theta: float, *, low: float = -inf, high: float = 1.0) -> Floats:
    """P(lambda, kappa) of the theory, up to a constant: 2 lambda P(x, phi) (eq. 5) with P = min(1, (x / x*)^theta).

    Args:
        lam: lambda, at least 0.
        kappa: kappa.
        theta: pseudo-gap exponent.
        low: smallest phi that occurs, -inf by default.
        high: largest phi that occurs; between the two phi is uniform.

    Returns:
        The density; 0 where phi lies outside (low, high) or lambda is negative.
    """
    lam, kappa = np.asarray(lam, dtype=np.float64), np.asarray(kappa, dtype=np.float64)
    theta = float(_theta(theta))
    phi = kappa * kappa - 2.0 * lam
    root = np.sqrt(np.maximum(phi, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        # kappa = (1 + r) sqrt(phi); then x / x* = r^2 (3 + r) / 4, without a difference of large numbers.
        ratio = np.where(root > 0.0, 2.0 * np.maximum(lam, 0.0) / (root * (np.abs(kappa) + root)), inf)
        depleted = np.where(ratio < 1.0, _gap(np.minimum(ratio, 1.0), theta), 1.0)
    inside = (lam >= 0.0) & (phi > low) & (phi < high)
    return np.where(inside, 2.0 * np.maximum(lam, 0.0) * depleted, 0.0)


def spectrum(
    lam: ArrayLike, theta: float, *, passive: float = 1.0, against: float = 1.0, high: float = 1.0
) -> tuple[Floats, Floats]:
    """P(lambda) of the theory: eq. (5) with P = min(1, (x / x*)^theta), integrated over kappa without approximation.

    With kappa = (1 + r) sqrt(phi) at fixed lambda the shear transformations are
    4 lambda sqrt(2 lambda) [2/sqrt(3) - 1 + integral of (r^2 (3 + r) / 4)^theta (2 r + r^2)^(-3/2) from r_min to 1], where
    r_min is at phi = high, and the passive modes 4 lambda sqrt(2 lambda).

    Args:
        lam: lambda, with 0 < lambda <= 3/2 high, so that modes with the largest phi still lie in the pseudo-gap. Any shape.
        theta: pseudo-gap exponent.
        passive: weight of phi < 0 over that of phi > 0 around phi = 0; 1 is a P_0 that is continuous there.
        against: how full the bistable part of the branch that fails against the load is, over that of the other: 1 after a
            quench, between 0 (drift alone, nothing ever fails backwards) and 1 in flow.
        high: largest phi; phi is uniform on (0, high).

    Returns:
        Shear transformations and passive modes, up to one common constant, each of the shape of ``lam``.

    Raises:
        ModelError: for values outside the ranges above.
    """
    lam = np.asarray(lam, dtype=np.float64)
    shear, calm = _bracket(_r_min(lam, high), float(_theta(theta)), passive, against)
    scale = 4.0 * lam * np.sqrt(2.0 * lam)
    return scale * shear, scale * calm


def spectrum_slope(lam: ArrayLike, theta: float, *, passive: float = 1.0, against: float = 1.0, high: float = 1.0) -> Floats:
    """d ln P / d ln lambda of :func:`spectrum`: what a fit at a finite lambda sees instead of min(3/2, 1 + 2 theta)."""
    lam = np.asarray(lam, dtype=np.float64)
    theta = float(_theta(theta))
    r = _r_min(lam, high)
    shear, calm = _bracket(r, theta, passive, against)
    return 1.5 - 0.5 * (1.0 + against) * _gap(r, theta) / (np.sqrt(r * (2.0 + r)) * 2.0 * (1.0 + r) * (shear + calm))


def alpha_at(omega: ArrayLike, theta: float, *, passive: float = 1.0, against: float = 1.0, high: float = 1.0) -> Floats:
    """alpha = d ln D_L / d ln omega at a finite frequency, with lambda = omega^2: 2 slope + 1.

    It nears eq. (9) slowly at theta = 1/4.

    Args:
        omega: frequency, 0 < omega^2 <= 3/2 high.
        theta: pseudo-gap exponent.
        passive: as for :func:`spectrum`.
        against: as for :func:`spectrum`.
        high: as for :func:`spectrum`.
    """
    omega = np.asarray(omega, dtype=np.float64)
    return 2.0 * spectrum_slope(omega * omega, theta, passive=passive, against=against, high=high) + 1.0


def alpha_in_window(
    theta: float, window: tuple[float, float], *, passive: float = 1.0, against: float = 1.0, high: float = 1.0
) -> float:
    """alpha that a maximum-likelihood power law sees when it is fitted to the theory's own P(lambda) within a window.

    Args:
        theta: pseudo-gap exponent.
        window: lowest and highest lambda, at most 3/2 high.
        passive: as for :func:`spectrum`.
        against: as for :func:`spectrum`.
        high: as for :func:`spectrum`.

    Raises:
        ModelError: for values outside these ranges.
    """
    low, top = window
    if not 0.0 < low < top:
        raise ModelError(f"window from lambda = {low} to {top}; expected 0 < low < high.")
    node_k, weight_k = _nodes()
    log_k = 0.5 * np.log(top / low) * (1.0 + node_k)
    lam_k = low * np.exp(log_k)
    mass_k = weight_k * lam_k * np.add(*spectrum(lam_k, theta, passive=passive, against=against, high=high))
    mean = float(np.sum(mass_k * log_k) / np.sum(mass_k))
    # The slope s whose power law has the same mean of ln lambda, which is what maximum likelihood asks for: it grows with s.
    lowest, highest = -1.0, 6.0
    for _ in range(60):
        middle = 0.5 * (lowest + highest)
        power_k = weight_k * np.exp((middle + 1.0) * log_k)
        if float(np.sum(power_k * log_k) / np.sum(power_k)) < mean:
            lowest = middle
        else:
            highest = middle
    return lowest + highest + 1.0


def check_mu(mu: float) -> None:
    """Refuse an index of the flight outside 1 to 2.

    Raises:
        ModelError: unless 1 <= mu <= 2.
    """
    if not 1.0 <= mu <= 2.0:
        raise ModelError(
            f"mu = {mu}; expected 1 <= mu <= 2. Below 1 the drift always wins (theta = 0), above 2 all noise is diffusion: "
            "use mu = 2."
        )


def _theta(theta: ArrayLike) -> Floats:
    values = np.asarray(theta, dtype=np.float64)
    if not np.all(values >= 0.0):
        raise ModelError("theta is negative or no number; expected a pseudo-gap exponent of at least 0.")
    return values


def _gap(r: Floats, theta: float) -> Floats:
    return (0.25 * r * r * (3.0 + r)) ** theta


def _bracket(r_min: Floats, theta: float, passive: float, against: float) -> tuple[Floats, Floats]:
    """What multiplies 4 lambda sqrt(2 lambda) in P(lambda): shear transformations, passive modes."""
    if not (passive >= 0.0 and 0.0 <= against <= 1.0):
        raise ModelError(f"passive = {passive}, against = {against}; expected a weight of at least 0, and one between 0 and 1.")
    shear = 2.0 / 3.0**0.5 - 1.0 + 0.5 * (1.0 + against) * _shear_integral(r_min, theta)
    return shear, np.full_like(shear, passive)


def _r_min(lam: Floats, high: float) -> Floats:
    if not (np.all(lam > 0.0) and np.all(lam <= 1.5 * high)):
        raise ModelError(
            f"lambda outside (0, {1.5 * high:g}]; expected values there, the pseudo-gap of the largest phi = {high:g}."
        )
    return excess_at(lam, high)


@lru_cache(maxsize=1)
def _nodes() -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(64)


def _shear_integral(r_min: Floats, theta: float) -> Floats:
    """Integral of (r^2 (3 + r) / 4)^theta (2 r + r^2)^(-3/2) from r_min to 1, by Gauss-Legendre in ln r: relative error below 1e-12."""
    node_k, weight_k = _nodes()
    span = -np.log(r_min)[..., None]
    r = np.exp(-0.5 * span * (1.0 - node_k))
    return np.sum(0.5 * span * weight_k * r * _gap(r, theta) * (r * (2.0 + r)) ** -1.5, axis=-1)
