"""The thermostat makes the canonical ensemble of the interacting liquid, not only its mean temperature.

At two temperatures the histograms of the potential energy obey P_1(U) / P_2(U) ~ exp(-(beta_1 - beta_2) U), whatever the
system. Shirts, J. Chem. Theory Comput. 9, 909 (2013): the slope is found by maximum likelihood, and compared with its exact
value. A thermostat with the right mean and wrong fluctuations fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.special import expit

from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.model import GlassModel
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.physics

N_PARTICLES = 100
N_SAMPLES = 4000
TEMPERATURES = (1.0, 1.1)


def _potential_energies(temperature: float) -> NDArray[np.float64]:
    model = GlassModel()
    engine, rng = CPUEngineSettings().build(model), np.random.default_rng(round(1000 * temperature))
    glass, _ = engine.run(random_start(model, N_PARTICLES, rng), duration=20.0, temperature=temperature, rng=rng)
    energies = np.empty(N_SAMPLES)
    for index in range(N_SAMPLES):
        glass, _ = engine.run(glass, duration=1.0, temperature=temperature, rng=rng)
        energies[index] = engine.measure(glass).energy * N_PARTICLES
    return energies


def _statistical_inefficiency(series: NDArray[np.float64]) -> float:
    """1 + 2 x the sum of the autocorrelation up to its first negative value."""
    deviation = series - series.mean()
    correlation = np.correlate(deviation, deviation, mode="full")[len(series) - 1 :] / (deviation @ deviation)
    first_negative = int(np.argmax(correlation < 0.0))
    return float(1.0 + 2.0 * correlation[1:first_negative].sum())


def _slope(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Logistic regression of "is from the second" on U: slope and its standard error for independent samples."""
    energy = np.concatenate([one, other])
    centre, scale = energy.mean(), energy.std()
    design = np.stack([np.ones_like(energy), (energy - centre) / scale], axis=1)
    label = np.repeat([0.0, 1.0], [len(one), len(other)])
    parameters = np.zeros(2)
    for _ in range(50):
        probability = expit(design @ parameters)
        information = (design * (probability * (1.0 - probability))[:, None]).T @ design
        parameters += np.linalg.solve(information, design.T @ (label - probability))
    return float(parameters[1] / scale), float(np.sqrt(np.linalg.inv(information)[1, 1]) / scale)


def test_ratio_of_energy_histograms_is_the_boltzmann_factor(ledger: Any) -> None:
    series = [_potential_energies(temperature) for temperature in TEMPERATURES]
    slope, error = _slope(*series)
    inefficiency = max(_statistical_inefficiency(one) for one in series)
    exact = 1.0 / TEMPERATURES[0] - 1.0 / TEMPERATURES[1]
    ledger.compare_mean("difference of beta from the energy histograms", slope, error * np.sqrt(inefficiency), exact)
    ledger.note(f"statistical inefficiency {inefficiency:.2f}, <U>/N = {[float(one.mean() / N_PARTICLES) for one in series]}")
    # The check has teeth: energies that fluctuate a tenth too little would be found out.
    assert error * np.sqrt(inefficiency) < 0.05 * exact
    assert not ledger.failures, "\n".join(ledger.failures)
