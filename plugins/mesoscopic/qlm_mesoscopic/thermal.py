"""Activated hopping at a small temperature, as the paper's conclusion sketches it.

A block in the upper of two wells crosses to the lower one at the rate exp(-barrier / T) per attempt time. Wells are equally
deep on the parabola kappa^2 = 3 lambda; blocks beyond it, kappa^2 > 3 lambda, are in the upper well. Barriers are small where
lambda and kappa are, so the depleted region grows from the origin of the (lambda, kappa) plane: at time t it has reached
barrier = T ln t.

Units: chi = 1, energies in units of (length along the mode)^4, k_B = 1, time in attempt times.
"""

# Everything is elementwise; arrays broadcast.

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qlm_mesoscopic.block import Floats
from qlm_mesoscopic.brief import Brief
from qlm_mesoscopic.errors import ModelError, positive


@dataclass(frozen=True, repr=False)
class Wells(Brief):
    """The other well of blocks in a minimum of u(s) = lambda s^2 / 2 + kappa s^3 / 6 + s^4 / 24; arrays of one shape.

    Args:
        barrier: height of the saddle over the minimum; inf where there is one minimum only (kappa^2 <= 8 lambda / 3).
        asymmetry: energy of the other minimum less that of this one; negative where this is the upper well; inf without
            another.
        lam: lambda in the other minimum; NaN without another.
        kappa: kappa in the other minimum; NaN without another.
    """

    barrier: Floats
    asymmetry: Floats
    lam: Floats
    kappa: Floats


def wells(lam: ArrayLike, kappa: ArrayLike) -> Wells:
    """Barrier, asymmetry and the other well, in closed form.

    Besides s = 0 the stationary points are the roots of s^2 + 3 kappa s + 6 lambda: the smaller in size is the saddle, the
    larger the other minimum.

    Args:
        lam: lambda, at least 0.
        kappa: kappa.

    Raises:
        ModelError: if a lambda is negative: that is no minimum.
    """
    lam, kappa = np.broadcast_arrays(np.asarray(lam, dtype=np.float64), np.asarray(kappa, dtype=np.float64))
    if not np.all(lam >= 0.0):
        raise ModelError("lambda is negative or no number; expected blocks in a minimum, lambda >= 0.")
    discriminant = 9.0 * kappa**2 - 24.0 * lam
    double = discriminant > 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        other = -0.5 * (3.0 * kappa + np.copysign(np.sqrt(np.maximum(discriminant, 0.0)), kappa))
        # The product of the two roots is 6 lambda; this keeps the digits of the small one.
        saddle = 6.0 * lam / other
        barrier = np.where(double, _energy(saddle, lam, kappa), np.inf)
        asymmetry = np.where(double, _energy(other, lam, kappa), np.inf)
    nan = np.where(double, 0.0, np.nan)
    return Wells(barrier, asymmetry, lam + kappa * other + 0.5 * other**2 + nan, kappa + other + nan)


def in_upper_well(lam: ArrayLike, kappa: ArrayLike) -> NDArray[np.bool_]:
    """Whether the other well is deeper: kappa^2 > 3 lambda."""
    return np.asarray(kappa, dtype=np.float64) ** 2 > 3.0 * np.asarray(lam, dtype=np.float64)


def rate(lam: ArrayLike, kappa: ArrayLike, temperature: float) -> Floats:
    """Hops per attempt time out of this well, exp(-barrier / T); 0 without another well.

    Raises:
        ModelError: unless the temperature is positive, or if a lambda is negative.
    """
    positive(temperature=temperature)
    return np.exp(-wells(lam, kappa).barrier / temperature)


def survival(lam: ArrayLike, kappa: ArrayLike, temperature: float, time: float) -> Floats:
    """Probability that a block has not left the upper well until ``time``; 1 in the lower well, hops back up are left out.

    This is the depletion factor of P(lambda, kappa) where blocks hop independently.

    Args:
        lam: lambda.
        kappa: kappa.
        temperature: T > 0.
        time: in attempt times, at least 0.

    Raises:
        ModelError: for values outside these ranges.
    """
    if not (isfinite(time) and time >= 0.0):
        raise ModelError(f"time = {time}; expected a number of attempt times of at least 0.")
    return np.where(in_upper_well(lam, kappa), np.exp(-time * rate(lam, kappa, temperature)), 1.0)


def _energy(s: Floats, lam: Floats, kappa: Floats) -> Floats:
    return s * s * (0.5 * lam + s * (kappa / 6.0 + s / 24.0))
