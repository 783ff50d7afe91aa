"""Samples for finite-size scaling: minima by size, the strain to the next instability, and what a design of sizes and numbers weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from qlm_hoomd.statistics.errors import Floats

THEORY = {"theta": 0.5, "alpha": 4.0}
"""The exponents that the theory expects of a rapidly quenched glass."""


class NextEvents(NamedTuple):
    """Strain to the next event, one entry per realisation.

    Args:
        distances: ((R,) ndarray) strain to the next event, or to the end of the run where there was none.
        censored: ((R,) ndarray of bool) whether there was none.
    """

    distances: Floats
    censored: NDArray[np.bool_]


def strain_to_next_event(events: Sequence[ArrayLike], strain: float, strain_max: ArrayLike) -> NextEvents:
    """Distance from ``strain`` to the next instability in each realisation: gamma_min as App. G samples it.

    Args:
        events: for each of R realisations the strains of its instabilities ((n,) array each, in any order).
        strain: where the ensemble is looked at.
        strain_max: strain up to which each realisation was sheared (scalar or (R,) array), larger than ``strain``.

    Raises:
        ValueError: if a realisation was not sheared beyond ``strain``.
    """
    end_r = np.broadcast_to(np.asarray(strain_max, dtype=np.float64), (len(events),))
    if np.any(end_r <= strain):
        raise ValueError(
            f"{np.count_nonzero(end_r <= strain)} of {len(events)} realisations end at or before strain {strain:g}; "
            "expected strain_max beyond it. Leave those realisations out."
        )
    next_r = np.full(len(events), np.inf)
    for r, strains in enumerate(events):
        ahead = np.asarray(strains, dtype=np.float64)
        ahead = ahead[ahead > strain]
        if ahead.size:
            next_r[r] = ahead.min()
    censored_r = next_r > end_r
    return NextEvents(np.where(censored_r, end_r, next_r) - strain, censored_r)


def ordered_samples(
    samples: Mapping[int, ArrayLike], censored: Mapping[int, ArrayLike] | None
) -> tuple[list[int], list[Floats], list[NDArray[np.bool_]]]:
    """Sizes in ascending order, and for each its minima and which of them are lower limits.

    Returns:
        (sizes, minima, censored), the latter two lists of (R, S) arrays, S = 1 for samples of shape (R,). Realisations are
        sorted: sums depend on the order of their terms in the last digit, and the order of the realisations means nothing.

    Raises:
        ValueError: if a minimum is not a positive finite number, or shapes do not fit.
    """
    sizes = sorted(size for size in samples if np.size(samples[size]))
    values_s, censored_s = [], []
    for size in sizes:
        values = np.asarray(samples[size], dtype=np.float64)
        if values.ndim > 2:
            raise ValueError(f"N = {size}: minima of shape {values.shape}; expected (R,) or (R, S).")
        wrong = ~(np.isfinite(values) & (values > 0))
        if np.any(wrong):
            raise ValueError(f"N = {size}: {np.count_nonzero(wrong)} of {values.size} minima are not positive finite numbers.")
        cut = np.zeros(values.shape, dtype=np.bool_)
        if censored is not None and size in censored:
            cut = np.asarray(censored[size], dtype=np.bool_)
            if cut.shape != values.shape:
                raise ValueError(f"N = {size}: censored has shape {cut.shape}; expected that of the minima, {values.shape}.")
        values_rs, cut_rs = values.reshape(len(values), -1), cut.reshape(len(values), -1)
        order_r = np.lexsort([*cut_rs.T, *values_rs.T])
        values_s.append(np.ascontiguousarray(values_rs[order_r]))
        censored_s.append(np.ascontiguousarray(cut_rs[order_r]))
    points = {size: values_rs.shape[1] for size, values_rs in zip(sizes, values_s, strict=True)}
    if len(set(points.values())) > 1:
        listed = ", ".join(f"{n} at N = {size}" for size, n in points.items())
        raise ValueError(f"{listed} strain points; expected the same strains at every size.")
    return sizes, values_s, censored_s


def mean_correlation(samples: Mapping[int, ArrayLike], pairs: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Correlation between columns of the same realisations, over these pairs of columns and all sizes, and its standard error.

    Values count in units of the mean of their size, and every column has the same mean and variance: the directions of an
    isotropic glass do. The error is that of a ratio of sums over realisations, by the influence of each.

    Args:
        samples: for each N the values ((R, D) array, R >= 2).
        pairs: of columns, (a, b).
    """
    products, squares = [], []
    for values in samples.values():
        values_rd = np.asarray(values, dtype=np.float64)
        offset_rd = values_rd / values_rd.mean() - 1.0
        products.append(np.mean([offset_rd[:, a] * offset_rd[:, b] for a, b in pairs], axis=0))
        squares.append(np.mean(offset_rd**2, axis=1))
    product_r, square_r = np.concatenate(products), np.concatenate(squares)
    correlation = product_r.sum() / square_r.sum()
    error = np.sqrt(np.sum((product_r - correlation * square_r) ** 2)) / square_r.sum()
    return float(correlation), float(error)


def independent_values(values_s: Sequence[Floats]) -> float:
    """Independent values that the points of a realisation are worth: the variance of one over that of their mean.

    Args:
        values_s: for each size the values ((R, S) array), in any unit.

    Returns:
        The number, NaN where nothing scatters.
    """
    single = averaged = 0.0
    for values_rs in values_s:
        if len(values_rs) > 1:
            unit = (len(values_rs) - 1) / float(values_rs.mean()) ** 2
            single += unit * float(np.mean(np.var(values_rs, axis=0, ddof=1)))
            averaged += unit * float(np.var(values_rs.mean(axis=1), ddof=1))
    return single / averaged if averaged > 0.0 else np.nan


def weibull_scatter(shape: float) -> float:
    """Standard deviation over mean of a Weibull variable of this shape."""
    ln_gamma_1, ln_gamma_2 = special.gammaln(1 + np.array([1, 2]) / shape)
    return float(np.sqrt(np.expm1(ln_gamma_2 - 2 * ln_gamma_1)))


def leverage(sizes: ArrayLike, numbers: ArrayLike) -> float:
    """S = sum n (ln N - m)^2 for ``numbers`` n at ``sizes`` N ((S,) arrays)."""
    x_s, n_s = np.log(np.asarray(sizes, dtype=np.float64)), np.asarray(numbers, dtype=np.float64)
    return float(np.sum(n_s * (x_s - np.average(x_s, weights=n_s)) ** 2)) if n_s.sum() > 0 else 0.0
