"""Weibull regression against scipy's fits, its errors against repetition, and its test of goodness against the literature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from qlm_hoomd.statistics import weibull


def gathered(values: np.ndarray, censored: np.ndarray | None = None) -> weibull.Minima:
    values = values.reshape(len(values), -1)
    cut = np.zeros(values.shape, dtype=bool) if censored is None else censored.reshape(values.shape)
    return weibull.gather([values], [cut])


def ones(minima: weibull.Minima) -> np.ndarray:
    return np.ones((minima.log_i.size, 1))


@pytest.mark.parametrize("shape", [0.6, 1.3, 5.0])
def test_one_sample_is_scipys_fit(shape: float) -> None:
    values = 0.02 * np.random.default_rng(1).weibull(shape, 60)
    found = weibull.fit(gathered(values), ones(gathered(values)))
    assert found is not None
    expected_shape, _, expected_scale = stats.weibull_min.fit(values, floc=0)
    assert found.shape == pytest.approx(expected_shape, rel=1e-4)
    assert np.exp(found.coefficients_p[0] / found.shape) == pytest.approx(expected_scale, rel=1e-4)
    assert found.log_likelihood == pytest.approx(stats.weibull_min.logpdf(values, expected_shape, 0, expected_scale).sum())
    assert found.residuals_i.mean() == pytest.approx(1.0)


def test_censored_sample_is_scipys_fit() -> None:
    values = np.random.default_rng(2).weibull(1.4, 80)
    cut = values > 1.2
    values[cut] = 1.2
    found = weibull.fit(gathered(values, cut), ones(gathered(values)))
    assert found is not None
    data = stats.CensoredData(uncensored=values[~cut], right=values[cut])
    shape, _, scale = stats.weibull_min.fit(data, floc=0)
    assert found.shape == pytest.approx(shape, rel=1e-4)
    assert np.exp(found.coefficients_p[0] / found.shape) == pytest.approx(scale, rel=1e-4)


def test_errors_are_those_of_repetition() -> None:
    rng = np.random.default_rng(3)
    x = np.repeat([-1.0, 0.0, 1.0], 50)
    fits, model, robust = [], [], []
    for _ in range(300):
        minima = gathered(np.exp(0.7 * x) * rng.weibull(1.5, x.size))
        found = weibull.fit(minima, np.column_stack([np.ones_like(x), x]))
        assert found is not None
        fits.append([found.shape, *found.coefficients_p])
        model.append(np.sqrt(np.diag(found.covariance)))
        robust.append(np.sqrt(np.sum(found.influence_rp**2, axis=0)))
        assert found.influence_rp.sum(axis=0) == pytest.approx(0.0, abs=1e-8)
    scatter = np.std(fits, axis=0)
    assert np.mean(model, axis=0) == pytest.approx(scatter, rel=0.12)
    assert np.mean(robust, axis=0) == pytest.approx(scatter, rel=0.15)


def test_points_of_one_realisation_weigh_one_together() -> None:
    values = np.random.default_rng(4).weibull(1.5, 50)
    one = weibull.fit(gathered(values), ones(gathered(values)))
    twice = gathered(np.stack([values, values], axis=1))
    found = weibull.fit(twice, ones(twice))
    assert one is not None
    assert found is not None
    assert found.shape == pytest.approx(one.shape)
    assert found.log_likelihood == pytest.approx(one.log_likelihood)
    assert found.influence_rp == pytest.approx(one.influence_rp)


def test_no_maximum_is_no_fit() -> None:
    for values in (np.ones(20), np.array([1.0, 2.0])):
        assert weibull.fit(gathered(values), ones(gathered(values))) is None
        assert np.isnan(weibull.goodness(gathered(values), ones(gathered(values))))


def test_goodness_has_the_published_critical_values() -> None:
    """Stephens (1977), table for shape and scale both fitted: upper 25, 10, 5, 2.5 and 1 %."""
    for a2, p_value in ((0.474, 0.25), (0.637, 0.10), (0.757, 0.05), (0.877, 0.025), (1.038, 0.01)):
        assert weibull._probability(a2) == pytest.approx(p_value, rel=0.1)
    levels = [weibull._probability(a2) for a2 in np.linspace(0.0, 4.0, 200)]
    assert np.all(np.diff(levels) <= 0)


def test_goodness_accepts_weibull_and_rejects_lognormal() -> None:
    rng = np.random.default_rng(5)
    accepted = [weibull.goodness(m, ones(m)) for m in (gathered(rng.weibull(1.5, 100)) for _ in range(200))]
    assert stats.kstest(accepted, "uniform").pvalue > 0.001
    lognormal = gathered(np.exp(rng.standard_normal(400)))
    assert weibull.goodness(lognormal, ones(lognormal)) < 1e-3
