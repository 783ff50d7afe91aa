"""The choice of the window for alpha: what it takes, what it refuses, and that it does so as often as it should."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlm_hoomd.statistics import (
    alpha_from_spectrum,
    choose_window,
    phonons,
    phonons_reach_in,
    power_law_p_value,
    upper_end,
    window_scan,
)
from qlm_hoomd.statistics.windows import DECIDES_Z, GOODNESS, _anderson_darling, _influence

mpl.use("Agg")


def power_law(rng: np.random.Generator, alpha: float, n: int, top: float = 2.0) -> np.ndarray:
    """Frequencies with p(omega) ~ omega^alpha up to ``top``."""
    return top * rng.random(n) ** (1 / (1 + alpha))


def spread(modes: np.ndarray, n: int = 40) -> list[np.ndarray]:
    """The modes dealt out to ``n`` realisations."""
    return [modes[i::n] for i in range(n)]


# ---- scans ----


def test_every_window_of_a_power_law_gives_its_exponent() -> None:
    modes = power_law(np.random.default_rng(6), 4.0, 200_000)
    scan = window_scan(modes, [(0.0, 2.0), (0.0, 1.0), (0.5, 2.0), (1.0, 1.5), (1.9, 2.0)])
    assert (np.abs(np.array(scan.alpha) - 4.0) < 3.5 * np.array(scan.error)).all()
    assert scan.error[1] == pytest.approx((1 + scan.alpha[1]) / np.sqrt(scan.n_modes[1]))


@given(st.floats(-3.0, 8.0).filter(lambda alpha: abs(alpha + 1) > 1e-3), st.floats(0.05, 0.9))
def test_quantiles_of_a_truncated_power_law_give_its_exponent_back(alpha: float, lower: float) -> None:
    p = 1 + alpha
    u = (np.arange(4000) + 0.5) / 4000
    scan = window_scan((lower**p + u * (1 - lower**p)) ** (1 / p), [(lower, 1.0)])
    assert abs(scan.alpha[0] - alpha) < 0.05 * scan.error[0]


def test_error_of_a_window_is_honest() -> None:
    rng = np.random.default_rng(7)
    scans = [window_scan(power_law(rng, 4.0, 400, top=1.0), [(0.6, 1.0)]) for _ in range(300)]
    pull = [(scan.alpha[0] - 4.0) / scan.error[0] for scan in scans]
    assert np.std(pull) == pytest.approx(1.0, abs=0.15)


def test_empty_windows_are_left_out() -> None:
    scan = window_scan(np.linspace(0.5, 1.0, 20), [(0.0, 0.4), (0.0, 1.0)])
    assert scan.upper == (1.0,)
    assert window_scan([], [(0.0, 1.0)]).alpha == ()


# ---- goodness ----


def test_anderson_darling_has_the_critical_values_of_an_exponential() -> None:
    """Stephens (1974), mean unknown: A^2 (1 + 0.6 / n) exceeds 1.062, 1.321, 1.959 in 10, 5, 1 % of samples."""
    rng = np.random.default_rng(1)
    n = 60
    distance = _anderson_darling(np.sort(rng.exponential(0.2, (20_000, n)), axis=1), np.inf) * (1 + 0.6 / n)
    assert np.mean(distance > 1.062) == pytest.approx(0.10, abs=0.01)
    assert np.mean(distance > 1.321) == pytest.approx(0.05, abs=0.007)
    assert np.mean(distance > 1.959) == pytest.approx(0.01, abs=0.003)


@pytest.mark.parametrize("lower", [0.0, 0.5])
@pytest.mark.parametrize("alpha", [-0.5, 4.0])
def test_p_values_of_power_laws_are_uniform(lower: float, alpha: float) -> None:
    rng = np.random.default_rng(2)
    p = 1 + alpha
    drawn = (lower**p + rng.random((120, 60)) * (1 - lower**p)) ** (1 / p)
    p_values = np.array([power_law_p_value(modes, lower, 1.0) for modes in drawn])
    assert np.mean(p_values < 0.2) == pytest.approx(0.2, abs=0.1)
    assert np.mean(p_values < 0.6) == pytest.approx(0.6, abs=0.13)


def test_goodness_needs_modes_and_an_exponent() -> None:
    assert np.isnan(power_law_p_value(np.linspace(0.1, 1, 9), 0.0, 1.0))
    assert power_law_p_value(np.full(20, 0.500001), 0.5, 1.0) == 0.0


# ---- choice ----


def test_a_power_law_is_taken_whole() -> None:
    rng = np.random.default_rng(3)
    choice = choose_window(spread(power_law(rng, 4.0, 600, top=1.5)), 1.0, complete=1.5)
    assert (choice.lower, choice.upper) == (0.0, 1.0)
    assert choice.p_value >= GOODNESS
    assert choice.refusal is choice.decided_by is choice.other is None
    assert not choice.decides
    assert max(choice.upper_scan.upper) == pytest.approx(1.5)
    assert choice.lower_scan.lower[0] == 0.0
    plain = choice.to_dict()
    assert plain["decides"] is False
    assert plain["lower_scan"]["alpha"] == list(choice.lower_scan.alpha)
    assert choice.plot().get_ylabel() == r"$\alpha$"


def test_modes_from_the_next_instability_are_cut_off() -> None:
    """App. G: below some frequency a sampled strain sees modes that the power law does not have."""
    rng = np.random.default_rng(4)
    modes = np.concatenate([power_law(rng, 4.0, 3000, top=1.0), rng.uniform(0.02, 0.35, 60)])
    choice = choose_window(spread(modes), 1.0)
    assert 0.3 <= choice.lower <= 0.4
    assert choice.refusal is None
    assert list(choice.p_values[:-1]) == [p for p in choice.p_values if p < GOODNESS]
    fit = alpha_from_spectrum(spread(modes), choice.upper, omega_min=choice.lower)
    assert fit.exponent.low < 4.0 < fit.exponent.high
    whole = alpha_from_spectrum(spread(modes), 1.0)
    assert whole.exponent.high < 4.0


def test_a_spectrum_that_bends_decides_nothing_by_itself() -> None:
    """omega^4 that turns over at the top: the window must not quietly settle for the slope that is left there."""
    rng = np.random.default_rng(5)
    modes = power_law(rng, 4.0, 12_000, top=1.0)
    modes = modes[rng.random(modes.size) < 1 / (1 + (modes / 0.8) ** 6)]
    choice = choose_window(spread(modes), 1.0)
    assert choice.decides or choice.refusal is not None
    if choice.decides:
        assert "the window decides the answer" in str(choice.decided_by)
        assert "standard deviations of the difference" in str(choice.decided_by)


def test_what_is_no_power_law_anywhere_is_refused() -> None:
    rng = np.random.default_rng(6)
    comb = rng.choice(np.linspace(0.3, 1.0, 12), 4000) + rng.normal(0, 1e-3, 4000)
    choice = choose_window(spread(comb), 1.0)
    assert choice.refusal is not None
    assert "no power law up to omega = 1" in choice.refusal
    assert choice.lower == 0.0


def test_a_lower_end_that_is_given_is_taken_and_tested() -> None:
    rng = np.random.default_rng(12)
    whole = spread(power_law(rng, 4.0, 3000))
    given = choose_window(whole, 1.0, complete=2.0, lower=0.37)
    assert (given.lower, given.upper, given.refusal, given.other) == (0.37, 1.0, None, None)
    assert given.p_value == power_law_p_value(np.concatenate(whole), 0.37, 1.0)
    assert given.n_modes == sum(int(((m > 0.37) & (m <= 1.0)).sum()) for m in whole)
    assert "ends 0.37 and 1 given" in given.rule
    # A gap within the window is no power law; above it there is one.
    gap = [m[(m < 0.6) | (m > 0.8)] for m in whole]
    assert "no power law in 0.2 < omega <= 1 (p = " in str(choose_window(gap, 1.0, complete=2.0, lower=0.2).refusal)
    assert choose_window(gap, 1.0, complete=2.0, lower=0.8).refusal is None
    assert "omega_min = 1 is not below the upper end of the window, 1" in str(choose_window(whole, 1.0, lower=1.0).refusal)


def test_few_modes_leave_the_refusal_to_the_fit() -> None:
    choice = choose_window([[0.5, 0.8], []], 1.0)
    assert (choice.lower, choice.upper, choice.n_modes, choice.refusal, choice.decides) == (0.0, 1.0, 2, None, False)
    assert np.isnan(choice.p_value)
    assert choice.to_dict()["p_value"] is None
    assert choose_window([], 1.0).n_modes == 0


def test_the_order_of_realisations_does_not_matter() -> None:
    rng = np.random.default_rng(7)
    modes = [power_law(rng, 3.0, rng.poisson(8)) for _ in range(40)]
    first, second = choose_window(modes, 1.0), choose_window(modes[::-1], 1.0)
    assert first.p_values == second.p_values
    assert first.decided_by == second.decided_by


def test_false_alarms_are_rare() -> None:
    rng = np.random.default_rng(8)
    choices = [choose_window(spread(power_law(rng, 4.0, 300, top=1.0)), 1.0) for _ in range(60)]
    assert np.mean([choice.lower > 0 for choice in choices]) < 0.15
    assert np.mean([choice.decides or choice.refusal is not None for choice in choices]) < 0.1


def test_influence_gives_the_difference_of_the_variances_of_nested_windows() -> None:
    rng = np.random.default_rng(9)
    modes = power_law(rng, 4.0, 50_000, top=1.0)
    scan = window_scan(modes, [(0.0, 1.0), (0.6, 0.9)])
    wide, narrow = (_influence(modes, *window, error) for window, error in zip([(0, 1), (0.6, 0.9)], scan.error, strict=True))
    assert np.sum(wide**2) == pytest.approx(scan.error[0] ** 2, rel=0.03)
    assert np.sum((wide - narrow) ** 2) == pytest.approx(scan.error[1] ** 2 - scan.error[0] ** 2, rel=0.03)
    assert DECIDES_Z == 3.0


@pytest.mark.parametrize(("upper", "complete"), [(0.0, 1.0), (1.2, 1.0), (-1.0, None)])
def test_windows_beyond_what_is_known(upper: float, complete: float | None) -> None:
    with pytest.raises(ValueError, match="expected 0 < upper <= complete"):
        choose_window([[0.5]], upper, complete=complete)


# ---- upper end and phonons ----


@pytest.mark.parametrize(
    ("complete", "n_particles", "omega_max", "expected", "reason"),
    [
        (1.5, 4000, None, 1.0, "omega = 1"),
        (0.8, 4000, None, 0.8, "completeness"),
        (1.5, 16000, None, 0.9 * 0.915, "first phonon"),
        (1.5, 16000, 1.2, 1.2, "omega_max"),
        (1.1, 16000, 1.2, 1.1, "completeness"),
        (1.5, None, None, 1.0, "omega = 1"),
    ],
)
def test_upper_end(complete: float, n_particles: int | None, omega_max: float | None, expected: float, reason: str) -> None:
    waves = phonons(12.6, 87.0, 0.82, n_particles) if n_particles is not None else None
    end = upper_end(complete, waves, omega_max)
    assert end.omega == pytest.approx(expected, rel=3e-3)
    assert end.limited_by == reason


def test_phonons_that_reach_in_are_found_by_either_sign() -> None:
    waves = phonons(12.6, 87.0, 0.82, 16000)
    assert phonons_reach_in(upper_end(2.0, waves).omega, waves) is None
    assert "first band at 0.91" in str(phonons_reach_in(1.0, waves))
    assert "first band at 0.91" in str(phonons_reach_in(0.85, waves))  # within the width of the band
    assert phonons_reach_in(1.0, None) is None
    assert "took out 30 of 100 modes" in str(phonons_reach_in(1.0, None, n_modes=100, n_filtered=30))
    assert phonons_reach_in(1.0, None, n_modes=100, n_filtered=20) is None
    assert phonons_reach_in(1.0, None, n_modes=0, n_filtered=0) is None
