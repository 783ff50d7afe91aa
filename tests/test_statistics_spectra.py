"""The exponent of synthetic spectra, their density, and phonons against known numbers."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlm_hoomd.errors import InsufficientStatistics
from qlm_hoomd.statistics import (
    SpectrumFit,
    alpha_from_spectrum,
    default_participation_threshold,
    density_of_states,
    excess_density,
    phonons,
    window_scan,
)

mpl.use("Agg")


def power_law(rng: np.random.Generator, alpha: float, n: int, top: float = 2.0) -> np.ndarray:
    """Frequencies with p(omega) ~ omega^alpha up to ``top``."""
    return top * rng.random(n) ** (1 / (1 + alpha))


# ---- alpha ----


@pytest.mark.parametrize("alpha", [3.0, 3.4, 4.0])
def test_spectrum_recovers_alpha(alpha: float) -> None:
    rng = np.random.default_rng(1)
    fit = alpha_from_spectrum([power_law(rng, alpha, 60) for _ in range(2000)], 1.2)
    assert fit.exponent.low < alpha < fit.exponent.high
    assert fit.exponent.half_width < 0.2
    # Independent modes: the bootstrap and the likelihood agree on the error.
    assert fit.likelihood.half_width == pytest.approx(1.96 * (1 + fit.exponent.value) / np.sqrt(fit.n_modes), rel=1e-3)
    assert fit.exponent.half_width == pytest.approx(fit.likelihood.half_width, rel=0.1)


def test_modes_above_the_window_do_not_count() -> None:
    rng = np.random.default_rng(2)
    inside = [power_law(rng, 4.0, 5, top=1.0) for _ in range(40)]
    with_phonons = [np.concatenate([modes, rng.uniform(1.0001, 2.0, 30)]) for modes in inside]
    assert alpha_from_spectrum(with_phonons, 1.0) == alpha_from_spectrum(inside, 1.0)


def test_realisations_are_resampled_not_modes() -> None:
    """Modes that come in bunches of equal ones carry less than their number; only the bootstrap knows."""
    rng = np.random.default_rng(3)
    fit = alpha_from_spectrum([np.repeat(power_law(rng, 4.0, 1, top=1.0), 25) for _ in range(200)], 1.0)
    assert fit.exponent.half_width > 3 * fit.likelihood.half_width


def test_spectrum_interval_covers() -> None:
    rng = np.random.default_rng(4)
    hits = []
    for _ in range(200):
        fit = alpha_from_spectrum([power_law(rng, 4.0, rng.poisson(4), top=1.0) for _ in range(30)], 1.0)
        hits.append(fit.exponent.low < 4.0 < fit.exponent.high)
    assert 0.88 <= np.mean(hits) <= 0.99


def test_too_few_modes_are_refused_with_the_estimate_inside() -> None:
    rng = np.random.default_rng(5)
    with pytest.raises(InsufficientStatistics, match="40 modes below omega = 1 where at least 50 are needed") as refusal:
        alpha_from_spectrum([power_law(rng, 4.0, 2, top=1.0) for _ in range(20)], 1.0)
    assert isinstance(refusal.value.estimate, SpectrumFit)
    assert refusal.value.estimate.n_modes == 40


def test_too_few_realisations_are_refused() -> None:
    rng = np.random.default_rng(5)
    with pytest.raises(InsufficientStatistics, match="10 realisations where at least 20 are needed"):
        alpha_from_spectrum([power_law(rng, 4.0, 20, top=1.0) for _ in range(10)], 1.0)


@pytest.mark.parametrize("modes", [[], [[], []], [[0.5]]])
def test_no_modes_no_estimate(modes: list[list[float]]) -> None:
    with pytest.raises(InsufficientStatistics) as refusal:
        alpha_from_spectrum(modes, 1.0)
    assert refusal.value.estimate is None


# ---- windows ----


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


# ---- density ----


def test_density_of_states_is_normalised() -> None:
    modes = power_law(np.random.default_rng(8), 4.0, 5000)
    density = density_of_states(modes, n_particles=1000, n_realisations=50, omega_max=1.5)
    states = np.array(density.density) * np.diff(density.edges)
    assert states.sum() * 3 * 1000 * 50 == pytest.approx(np.count_nonzero(modes <= 1.5))
    assert sum(density.counts) == np.count_nonzero(modes <= 1.5)
    assert density.edges[-1] == pytest.approx(1.5)
    assert (np.array(density.low) <= density.density).all()
    assert (np.array(density.high) > density.density).all()
    # D = A omega^4 with A = 5 n / (2^5 3 N R)
    expected = 5 * 5000 / (2**5 * 3 * 1000 * 50) * density.centres**4
    many = np.array(density.counts) > 200
    assert np.array(density.density)[many] == pytest.approx(expected[many], rel=0.15)


def test_density_without_modes() -> None:
    with pytest.raises(ValueError, match="no mode in 0 < omega <= 1"):
        density_of_states([2.0], n_particles=10, n_realisations=1, omega_max=1.0)


def test_density_plots_occupied_bins() -> None:
    density = density_of_states([0.1, 0.9, 0.95], n_particles=10, n_realisations=1, omega_max=1.0)
    ax = density.plot(color="black")
    assert len(ax.lines[0].get_xdata()) == np.count_nonzero(density.counts) < len(density.counts)


# ---- phonons and threshold ----


@pytest.mark.parametrize(("n_particles", "expected"), [(2000, 1.83), (4000, 1.45), (16000, 0.915), (64000, 0.576)])
def test_first_phonon_of_the_rapid_glass(n_particles: int, expected: float) -> None:
    """Reference values for the rapidly quenched glass: G = 12.6, K = 87.0, density 0.82, omega_D = 16.3, c_s = 3.92, c_l = 11.3."""
    waves = phonons(12.6, 87.0, 0.82, n_particles)
    assert waves.first_frequency == pytest.approx(expected, rel=3e-3)
    assert waves.debye_frequency == pytest.approx(16.3, rel=5e-3)
    assert waves.transverse_speed == pytest.approx(3.92, rel=1e-3)
    assert waves.longitudinal_speed == pytest.approx(11.3, rel=1e-2)


def test_debye_level_holds_all_modes() -> None:
    waves = phonons(12.6, 87.0, 0.82, 1000)
    omega = np.linspace(0, waves.debye_frequency, 2001)
    assert np.trapezoid(waves.debye_density(omega), omega) == pytest.approx(1.0, rel=1e-5)


def test_phonons_need_a_solid() -> None:
    with pytest.raises(ValueError, match="shear_modulus=-1"):
        phonons(-1.0, 87.0, 0.82, 1000)


@pytest.mark.parametrize(("n_particles", "e_c"), [(16000, 0.125), (32000, 0.0625), (6000, 1 / 3), (500, 1 / 3)])
def test_threshold_is_the_papers_where_the_paper_has_one(n_particles: int, e_c: float) -> None:
    assert default_participation_threshold(n_particles) == pytest.approx(e_c)


def test_bands_of_a_cube_are_those_of_the_integers() -> None:
    """|n|^2 = 1, 2, 3, 4 is reached by 6, 12, 8, 6 integer vectors; two transverse polarisations each."""
    waves = phonons(12.5, 87.0, 0.82, 16000)
    bands = waves.bands(2.05 * waves.first_frequency)
    transverse = [band for band in bands if band.transverse]
    assert [band.degeneracy for band in transverse] == [12, 24, 16, 12]
    np.testing.assert_allclose(
        [band.frequency for band in transverse], waves.first_frequency * np.sqrt([1, 2, 3, 4]), rtol=1e-8
    )
    assert waves.bands(0.99 * waves.first_frequency) == ()
    longitudinal = [
        b
        for b in waves.bands(1.01 * waves.first_frequency * waves.longitudinal_speed / waves.transverse_speed)
        if not b.transverse
    ]
    assert [band.degeneracy for band in longitudinal] == [6]


def test_shear_splits_bands_and_a_full_turn_restores_them() -> None:
    waves = phonons(12.5, 87.0, 0.82, 16000)
    cube, sheared = waves.bands(1.5 * waves.first_frequency), waves.bands(1.5 * waves.first_frequency, strain=0.2)
    assert len(sheared) > len(cube)
    assert sheared[0].frequency == pytest.approx(waves.first_frequency)
    assert waves.bands(1.5 * waves.first_frequency, strain=1.0) == cube
    # (1, 0, 0) becomes longer by the tilt: sqrt(1 + 0.2^2).
    assert any(band.frequency == pytest.approx(waves.first_frequency * np.sqrt(1.04)) for band in sheared)


def test_bands_add_up_to_the_debye_level() -> None:
    waves = phonons(12.5, 87.0, 0.82, 16000)
    top = 8.0 * waves.first_frequency
    counted = sum(band.degeneracy for band in waves.bands(top, strain=0.3)) / (3 * 16000)
    assert counted == pytest.approx((top / waves.debye_frequency) ** 3, rel=0.05)


def test_modes_beyond_the_plane_waves_are_what_is_left() -> None:
    """Plane waves by the Debye law and as many others: D_G is that of the others alone, within counting errors."""
    rng = np.random.default_rng(5)
    waves = phonons(12.5, 87.0, 0.82, 16000)
    top, n_particles, n_realisations = 1.0, 16000, 200
    n_waves = int(3 * n_particles * n_realisations * (top / waves.debye_frequency) ** 3)
    n_others = 2 * n_waves
    omega = np.concatenate([rng.random(n_waves) ** (1 / 3), rng.random(n_others) ** (1 / 5)])
    excess = excess_density(omega, waves, n_particles=n_particles, n_realisations=n_realisations, omega_max=top)
    alone = density_of_states(
        omega[n_waves:], n_particles=n_particles, n_realisations=n_realisations, omega_max=top, bins_per_decade=6
    )
    for centre, value, low, high in zip(excess.centres, excess.density, excess.low, excess.high, strict=True):
        if centre > 0.2:
            true = np.interp(centre, alone.centres, alone.density)
            assert abs(value - true) < 4 * (high - low)
    excess.plot()
