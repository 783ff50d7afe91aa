"""A power law between two frequencies: its exponent, the error of that, and what it holds.

The depth d = -ln(omega / upper) of a mode has the density p e^(-p d) / (1 - e^(-p l)) on (0, l), with p = 1 + alpha and
l = ln(upper / lower): an exponential family, whose likelihood is largest where the expectation of d is its mean, and whose
information is the variance of d. In z = p l the expectation is l s(z) with s(z) = 1/z - 1/(e^z - 1), which falls from 1 to 0 as
z goes from -infinity to infinity. With lower = 0, l is infinite and d exponential: expectation 1 / p, variance 1 / p^2.

Array suffixes: ``_m`` modes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from qlm_hoomd.statistics.errors import Floats

_LARGEST_Z = 600.0  # e^z must not overflow; a mean within l / 600 of an end of the window is no power law that anyone measures


def inside(values: ArrayLike, lower: float, upper: float) -> Floats:
    """Those of ``values`` ((n,) array) with ``lower`` < omega <= ``upper``."""
    values_m = np.asarray(values, dtype=np.float64)
    return values_m[(values_m > lower) & (values_m <= upper)]


def log_length(lower: float, upper: float) -> float:
    """l = ln(``upper`` / ``lower``), infinite where the window starts at 0."""
    return float(np.log(upper / lower)) if lower > 0.0 else np.inf


def _share(z: ArrayLike) -> Floats:
    """s(z), with its removable singularity at 0 bridged by the series."""
    z = np.asarray(z, dtype=np.float64)
    near = np.abs(z) < 1e-4
    safe = np.where(near, 1.0, z)
    return np.where(near, 0.5 - z / 12.0, 1.0 / safe - 1.0 / np.expm1(safe))


def alpha_of(mean_depth: ArrayLike, length: float) -> Floats:
    """The alpha whose expectation of the depth is ``mean_depth`` (any shape, within 0 and ``length``; infinite at the ends)."""
    mean = np.asarray(mean_depth, dtype=np.float64)
    if length == np.inf:
        with np.errstate(divide="ignore"):
            return 1.0 / mean - 1.0
    share = mean / length
    low, high = np.full(share.shape, -_LARGEST_Z), np.full(share.shape, _LARGEST_Z)
    for _ in range(52):  # s(z) has no closed inverse; halving is safe at any alpha and works on arrays
        middle = 0.5 * (low + high)
        above = _share(middle) > share
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    z = 0.5 * (low + high)
    z = np.where(share <= _share(_LARGEST_Z), np.inf, np.where(share >= _share(-_LARGEST_Z), -np.inf, z))
    return z / length - 1.0


def standard_error(alpha: float, length: float, n_modes: int) -> float:
    """Standard error of alpha from ``n_modes`` independent modes."""
    p = 1.0 + alpha
    if length == np.inf:
        return float(p / np.sqrt(n_modes))
    z = p * length
    if not np.isfinite(z):
        return np.inf
    variance = 1.0 / 12.0 if abs(z) < 1e-3 else 1.0 / z**2 - 1.0 / (4.0 * np.sinh(z / 2.0) ** 2)
    return float(1.0 / (length * np.sqrt(n_modes * variance)))


def power_integral(p: float, lower: float) -> float:
    """Integral of u^(p - 1) from ``lower`` to 1."""
    if lower == 0.0:
        return 1.0 / p
    exponent = p * np.log(lower)
    return float(-np.log(lower)) if abs(exponent) < 1e-9 else float(-np.expm1(exponent) / p)


def fit_power_law(omega_m: Floats, lower: float, upper: float) -> tuple[float, float]:
    """alpha and its standard error from independent modes with lower < omega <= upper."""
    length = log_length(lower, upper)
    alpha = float(alpha_of(-np.mean(np.log(omega_m / upper)), length))
    return alpha, standard_error(alpha, length, omega_m.size)
