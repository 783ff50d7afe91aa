from __future__ import annotations

from math import gamma, pi, sin

import numpy as np
import pytest
from qlm_mesoscopic import theory
from qlm_mesoscopic.errors import ModelError, NotEnoughDataError
from qlm_mesoscopic.master import MasterEquation

# A, v, fitted theta, mean stress of the steady state: an independent discretisation on a uniform grid.
STEADY = [
    (0.02, 0.9981, 0.0199, 0.480),
    (0.10, 0.9493, 0.1015, 0.398),
    (0.15, 0.8815, 0.1561, 0.344),
    (0.18, 0.8239, 0.1914, 0.309),
    (0.20, 0.7768, 0.2165, 0.284),
    (0.25, 0.6171, 0.2883, 0.213),
    (0.30, 0.3321, 0.3933, 0.109),
]
# Plastic strain, mean stress and its standard error: 40 samples of 8000 blocks with one kick for every block at every failure,
# A = 0.25, spread 0.35, loaded from instability to instability.
SAMPLED = [(0.03, 0.1781, 0.0031), (0.1, 0.2562, 0.0018), (0.3, 0.2503, 0.0016), (0.5, 0.2257, 0.0014)]


@pytest.mark.parametrize(("amplitude", "drift", "theta", "stress"), STEADY)
def test_steady_state_agrees_with_an_independent_solver(amplitude: float, drift: float, theta: float, stress: float) -> None:
    state = MasterEquation(amplitude).steady()
    assert state.drift == pytest.approx(drift, abs=2e-3)
    assert state.fitted_theta() == pytest.approx(theta, abs=1e-3)
    assert state.stress == pytest.approx(stress, abs=1.5e-3)
    assert state.lifetime == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("amplitude", [0.02, 0.06, 0.1, 0.14, 0.18, 0.22, 0.26, 0.3])
def test_theta_is_the_arctangent(amplitude: float) -> None:
    state = MasterEquation(amplitude).steady()
    assert state.theta == pytest.approx(np.arctan(pi * amplitude / state.drift) / pi, abs=1e-12)
    assert state.fitted_theta() == pytest.approx(state.theta, abs=1.5e-3)


def test_theta_without_drift_and_without_noise() -> None:
    still = MasterEquation(0.2).steady(drift=0.0)
    assert still.theta == 0.5
    assert still.fitted_theta() == pytest.approx(0.5, abs=2e-3)
    calm = MasterEquation(0.0).steady()
    assert calm.drift == 1.0
    assert calm.fitted_theta() == pytest.approx(0.0, abs=1e-12)
    assert calm.stress == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("mu", [1.0, 1.25, 1.5, 1.75])
def test_exit_time_without_drift_is_getoors(mu: float) -> None:
    amplitude = 0.1
    scale = amplitude * pi / (gamma(1 + mu) * sin(pi * mu / 2))
    exact = pi**0.5 / (2**mu * gamma(1 + mu / 2) * gamma((1 + mu) / 2)) / scale
    equation = MasterEquation(amplitude, mu=mu, cells_per_decade=30, widest=0.0125)
    assert equation.steady(drift=0.0).lifetime == pytest.approx(exact, rel=8e-3)
    assert theory.critical_noise(mu) == pytest.approx(amplitude * exact)


@pytest.mark.parametrize("mu", [1.25, 1.5, 1.75])
def test_theta_of_other_flights_is_half_their_index(mu: float) -> None:
    state = MasterEquation(0.05, mu=mu).steady(drift=0.0)
    assert state.fitted_theta() == pytest.approx(mu / 2, abs=5e-3)
    assert state.theta == mu / 2


def test_diffusion_with_drift_has_its_textbook_profile() -> None:
    # mu = 2 with a narrow band of small kicks is diffusion of D = A ln(largest / smallest): P solves D P'' + v P' + delta = 0.
    amplitude, drift = 0.05, 0.5
    diffusivity = amplitude * np.log(2.0)
    equation = MasterEquation(amplitude, mu=2.0, lower_cutoff=5e-4, upper_cutoff=1e-3, finest=1e-2, widest=0.0125)
    state = equation.steady(drift=drift)
    rate = drift / diffusivity
    x = state.x_c
    below = (1 - np.exp(-rate * x)) * (1 - np.exp(-rate)) / (drift * (1 - np.exp(-2 * rate)))
    above = (np.exp(-rate * (x - 1)) - np.exp(-rate)) * (1 - np.exp(-rate)) / (drift * (1 - np.exp(-2 * rate)))
    exact = np.where(x < 1, below, above)
    assert state.density_c == pytest.approx(exact, abs=0.03 * exact.max())


def test_no_probability_is_made_or_lost_in_kicks() -> None:
    equation = MasterEquation(0.2, mu=1.3)
    leaving_c = -equation.kicks_cc.sum(axis=0)
    assert np.all(leaving_c > 0.0)
    x_c = equation.x_c
    direct_c = 0.2 / 1.3 * (x_c**-1.3 + (2.0 - x_c) ** -1.3)
    assert leaving_c[1:-1] == pytest.approx(direct_c[1:-1], rel=1e-9)
    rates = equation.kicks_cc - np.diag(np.diag(equation.kicks_cc))
    assert np.all(rates >= 0.0)


def test_finite_kicks_cut_the_gap_off_at_the_smallest() -> None:
    state = MasterEquation(0.2, lower_cutoff=1e-3).steady()
    assert state.fitted_theta(1e-5, 1e-4) < 0.05
    assert state.fitted_theta(1e-2, 5e-2) == pytest.approx(state.theta, abs=0.05)


@pytest.mark.parametrize(("amplitude", "spread"), [(0.25, 1.0), (0.25, 0.35), (0.2, 0.35)])
def test_theta_after_a_quench_is_one_half(amplitude: float, spread: float) -> None:
    state = MasterEquation(amplitude).quench(spread)
    assert state.theta == 0.5
    assert state.fitted_theta() == pytest.approx(0.5, abs=0.01)
    assert state.lifetime == pytest.approx(1.0)
    assert state.stress == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("spread", "fitted"), [(1.0, 0.505), (0.35, 0.435)])
def test_pseudo_gap_of_a_quench_is_incomplete_at_larger_x(spread: float, fitted: float) -> None:
    assert MasterEquation(0.25).quench(spread).fitted_theta(1e-3, 2e-2) == pytest.approx(fitted, abs=0.01)


def test_loading_makes_theta_drop_and_rise_again_deeper_if_annealed() -> None:
    equation = MasterEquation(0.25, cells_per_decade=12, widest=0.04)
    poor, good = (equation.load(equation.quench(spread)) for spread in (1.0, 0.35))
    steady = equation.steady()
    for loading in (poor, good):
        assert loading.theta_t[0] < 0.02
        assert loading.drift_t[-1] == pytest.approx(steady.drift, abs=6e-3)
        assert loading.stress_t[-1] == pytest.approx(steady.stress, abs=2e-3)
    assert np.all(good.theta_t[good.activity_t < 0.05] < poor.theta_t[poor.activity_t < 0.05])
    # The annealed glass overshoots by far more.
    assert good.stress_t.max() > steady.stress + 0.04
    assert steady.stress < poor.stress_t.max() < steady.stress + 0.01


def test_loading_agrees_with_sampled_blocks() -> None:
    equation = MasterEquation(0.25, cells_per_decade=12, widest=0.04)
    loading = equation.load(equation.quench(0.35), steps=80)
    for strain, stress, error in SAMPLED:
        assert loading.at(strain)[2] == pytest.approx(stress, abs=2.5 * error)


def test_loading_converges_in_its_step() -> None:
    equation = MasterEquation(0.2, cells_per_decade=12, widest=0.04)
    start = equation.quench(0.35)
    coarse, fine = (equation.load(start, 0.5, steps=steps) for steps in (60, 120))
    for strain in (0.003, 0.03, 0.3):
        assert coarse.at(strain)[1:] == pytest.approx(fine.at(strain)[1:], abs=1.5e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MasterEquation(-0.1), "amplitude A = -0.1"),
        (lambda: MasterEquation(float("nan")), "amplitude A = nan"),
        (lambda: MasterEquation(0.1, mu=0.5), "expected 1 <= mu <= 2"),
        (lambda: MasterEquation(0.1, mu=2.0), "Give a positive one"),
        (lambda: MasterEquation(0.1, lower_cutoff=2.0, upper_cutoff=1.0), "lower_cutoff < upper_cutoff"),
        (lambda: MasterEquation(0.1, finest=0.0), "grid with finest"),
        (lambda: MasterEquation(0.33).steady(), "avalanches run away"),
        (lambda: MasterEquation(0.4).quench(0.5, longest=5.0), "runs away"),
        (lambda: MasterEquation(0.1).quench(0.0), "spread = 0"),
        (lambda: MasterEquation(0.1).steady(drift=-1.0), "expected drift >= 0"),
        (lambda: MasterEquation(0.0).steady(drift=0.0), "expected drift >= 0"),
        (lambda: MasterEquation(0.1).load(MasterEquation(0.1).steady(drift=2.0)), "not a normalised"),
        (lambda: MasterEquation(0.1).load(MasterEquation(0.1).steady(), steps=1), "at least 2 steps"),
        (lambda: MasterEquation(0.1).load(MasterEquation(0.1).steady(), 0.1).at(1.0), "activity 1"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ModelError, match=message):
        call()


def test_a_fit_needs_cells() -> None:
    with pytest.raises(NotEnoughDataError, match="expected at least 5") as caught:
        MasterEquation(0.1).steady().fitted_theta(1e-9, 1e-8)
    assert caught.value.found == 0
