"""Weibull laws of minima by maximum likelihood: the smallest of many x with density x^a is a Weibull variable of shape 1 + a.

Minima that lie beyond what was looked at enter with the probability of surviving that far. Where each realisation gives several
points, they count together as one realisation, and every error comes from the scatter between realisations.

Array suffixes: ``_i`` minima, ``_p`` coefficients, ``_r`` realisations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qlm_hoomd.statistics.errors import Floats

# A^2 of Anderson and Darling for a Weibull law whose shape and scale were fitted, with the probability of more: from 36000
# samples of 80, 400 and 500 minima, which agree with each other and with the values of Stephens (Biometrika 64, 583, 1977). A
# fitted slope of the scale changes nothing (Pierce & Kopecky, Biometrika 66, 1, 1979).
_ANDERSON_DARLING = np.array([0.168, 0.195, 0.252, 0.342, 0.474, 0.636, 0.760, 0.885, 1.05, 1.17, 1.45])
_LOG_P = np.log([0.95, 0.90, 0.75, 0.50, 0.25, 0.10, 0.05, 0.025, 0.01, 0.005, 0.001])
_MAX_ITERATIONS = 60
_CONVERGED = 1e-10  # step, relative to one standard error of the fitted numbers or better


@dataclass(frozen=True)
class Minima:
    """Minima of all sizes, realisation by realisation.

    Args:
        log_i: ((n,) array) logarithms of the minima.
        observed_i: ((n,) array of bool) False where the minimum is a lower limit.
        realisation_i: ((n,) array of int) index of the realisation, from 0.
        group_r: ((R,) array of int) index of the system size of each realisation, from 0.
        n_points: minima of each realisation.
    """

    log_i: Floats
    observed_i: NDArray[np.bool_]
    realisation_i: NDArray[np.intp]
    group_r: NDArray[np.intp]
    n_points: int

    @property
    def group_i(self) -> NDArray[np.intp]:
        """Index of the system size of each minimum ((n,) array)."""
        return self.group_r[self.realisation_i]


def gather(samples_s: Sequence[Floats], censored_s: Sequence[NDArray[np.bool_]]) -> Minima:
    """The minima of all sizes.

    Args:
        samples_s: for each size the minima ((R, S) array).
        censored_s: for each size which of them are lower limits ((R, S) array).
    """
    count_s = [len(sample) for sample in samples_s]
    n_points = samples_s[0].shape[1]
    return Minima(
        log_i=np.log(np.concatenate(samples_s)).ravel(),
        observed_i=~np.concatenate(censored_s).ravel(),
        realisation_i=np.repeat(np.arange(sum(count_s)), n_points),
        group_r=np.repeat(np.arange(len(samples_s)), count_s),
        n_points=n_points,
    )


@dataclass(frozen=True)
class WeibullFit:
    """Minima x with P(x > t) = exp(-(t / s)^shape), where ln s^shape = design . coefficients.

    Args:
        shape: common to all minima.
        coefficients_p: ((P,) array) of shape * ln s.
        log_likelihood: of the minima x, at the maximum; several points of one realisation weigh one together.
        residuals_i: ((n,) array) (x / s)^shape: exponential with mean 1 where the law holds.
        influence_rp: ((R, 1 + P) array) by how much each realisation moves (shape, coefficients).
        covariance: ((1 + P, 1 + P) array) of (shape, coefficients) if the law holds and all minima are independent.
    """

    shape: float
    coefficients_p: Floats
    log_likelihood: float
    residuals_i: Floats
    influence_rp: Floats
    covariance: Floats


def fit(minima: Minima, design_ip: Floats, offset_i: Floats | float = 0.0) -> WeibullFit | None:
    """Weibull law with a scale that depends on known quantities, by Newton's method on a concave likelihood.

    Args:
        minima: the data.
        design_ip: ((n, P) array) s^shape = exp(design . coefficients), times what ``offset_i`` says; its first columns must be
            able to give a constant.
        offset_i: ((n,) array or scalar) known part of ln s.

    Returns:
        The fit, or None where there is no maximum: too few minima, or minima without scatter.
    """
    log_i, observed_i = minima.log_i - offset_i, minima.observed_i.astype(np.float64)
    n_free = 1 + design_ip.shape[1]
    if np.count_nonzero(minima.observed_i) <= n_free:
        return None
    # In units of its own mean and scatter the shape is of order one, and no power of x overflows.
    start_p, *_ = np.linalg.lstsq(design_ip, log_i, rcond=None)
    rest_i = log_i - design_ip @ start_p
    spread = float(np.sqrt(np.mean(rest_i**2)))
    if not spread > 1e-12 * max(1.0, float(np.max(np.abs(log_i)))):
        return None
    y_i = rest_i / spread
    weight = 1.0 / minima.n_points
    regressors_ip = np.column_stack([y_i, -design_ip])

    def log_likelihood(parameters_p: Floats) -> tuple[float, Floats]:
        exponent_i = regressors_ip @ parameters_p
        with np.errstate(over="ignore"):
            risk_i = np.exp(exponent_i)
            total = float(np.sum(observed_i * (np.log(parameters_p[0]) + exponent_i) - risk_i)) * weight
        return total, risk_i

    # ln of an exponential variable has mean -0.577 and scatter 1.28.
    parameters_p = np.concatenate(
        [[np.pi / np.sqrt(6.0)], np.linalg.lstsq(design_ip, np.full(y_i.size, 0.5772), rcond=None)[0]]
    )
    value, risk_i = log_likelihood(parameters_p)
    for _ in range(_MAX_ITERATIONS):
        gradient_p = regressors_ip.T @ (observed_i - risk_i)
        gradient_p[0] += observed_i.sum() / parameters_p[0]
        information = (regressors_ip * risk_i[:, None]).T @ regressors_ip
        information[0, 0] += observed_i.sum() / parameters_p[0] ** 2
        try:
            step_p = np.linalg.solve(information, gradient_p)
        except np.linalg.LinAlgError:  # all weight on fewer minima than there are parameters
            return None
        length = 1.0
        while True:
            trial_p = parameters_p + length * step_p
            if trial_p[0] > 0:
                trial, trial_risk_i = log_likelihood(trial_p)
                if trial >= value - 1e-12 * abs(value):
                    break
            length *= 0.5
            if length < 1e-6:
                return None
        parameters_p, value, risk_i = trial_p, trial, trial_risk_i
        if float(gradient_p @ step_p) < _CONVERGED**2 or np.all(np.abs(step_p) < _CONVERGED):
            break
        if parameters_p[0] > 1e6:
            return None
    else:
        return None

    score_ip = regressors_ip * (observed_i - risk_i)[:, None]
    score_ip[:, 0] += observed_i / parameters_p[0]
    score_rp = score_ip.reshape(-1, minima.n_points, n_free).sum(axis=1)
    inverse = np.linalg.inv(information)
    influence_rp = score_rp @ inverse
    # Back to the units of x: shape = q / spread and coefficients = c + shape * start, where (q, c) were fitted.
    back = np.eye(n_free)
    back[0, 0] = 1.0 / spread
    back[1:, 0] = start_p / spread
    shape, *coefficients = back @ parameters_p
    return WeibullFit(
        shape=float(shape),
        coefficients_p=np.array(coefficients),
        log_likelihood=value - weight * float(np.sum(observed_i * (np.log(spread) + minima.log_i))),
        residuals_i=risk_i,
        influence_rp=influence_rp @ back.T,
        covariance=back @ inverse @ back.T / weight,
    )


def goodness(minima: Minima, design_ip: Floats) -> float:
    """Probability that minima of a Weibull law lie as far from their fit as these: Anderson and Darling's test.

    Several points of one realisation are tested one strain at a time, and the smallest probability counts as often as there are
    points (Bonferroni), which holds however they depend on each other. A lower limit stands for the median of what lies beyond
    it.

    Args:
        minima: the data.
        design_ip: ((n, P) array) as in :func:`fit`.

    Returns:
        The probability, NaN where there is no fit.
    """
    probabilities = []
    for point in range(minima.n_points):
        own = slice(point, None, minima.n_points)
        column = Minima(minima.log_i[own], minima.observed_i[own], np.arange(minima.group_r.size), minima.group_r, n_points=1)
        found = fit(column, design_ip[own])
        if found is None:
            return np.nan
        u_i = np.sort(found.residuals_i + np.where(column.observed_i, 0.0, np.log(2.0)))
        rank_i = np.arange(1, u_i.size + 1)
        log_below_i = np.log(np.maximum(-np.expm1(-u_i), np.finfo(float).tiny))
        a2 = -u_i.size - float(np.mean((2 * rank_i - 1) * (log_below_i - u_i[::-1])))
        probabilities.append(_probability(a2))
    return min(1.0, minima.n_points * min(probabilities))


def _probability(a2: float) -> float:
    if a2 > _ANDERSON_DARLING[-1]:
        decay = (_LOG_P[-1] - _LOG_P[-3]) / (_ANDERSON_DARLING[-1] - _ANDERSON_DARLING[-3])
        return float(np.exp(_LOG_P[-1] + decay * (a2 - _ANDERSON_DARLING[-1])))
    return float(np.exp(np.interp(a2, _ANDERSON_DARLING, _LOG_P, left=0.0)))
