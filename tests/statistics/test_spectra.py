"""The exponent of synthetic spectra, their density, and phonons against known numbers."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from scipy import stats

from qlm_hoomd.errors import InsufficientStatistics
from qlm_hoomd.statistics import (
    ExcessFit,
    Phonons,
    SpectrumFit,
    alpha_from_excess,
    alpha_from_spectrum,
    default_participation_threshold,
    density_of_states,
    excess_density,
    phonons,
    spectra,
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


def test_two_modes_are_refused_with_the_estimate_inside() -> None:
    """The likelihood of two depths: alpha + 1 = 2 / (ln 2 + ln 4)."""
    with pytest.raises(InsufficientStatistics, match="2 modes below omega = 1 where") as refusal:
        alpha_from_spectrum([[0.5], [0.25]], 1.0)
    assert refusal.value.estimate.exponent.value == pytest.approx(2 / np.log(8) - 1)


def test_resamples_are_the_same_in_batches_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    modes = [power_law(rng, 4.0, 5, top=1.0) for _ in range(30)]
    at_once = alpha_from_spectrum(modes, 1.0).exponent
    monkeypatch.setattr(spectra, "_BATCH_DRAWS", 30 * 700)
    assert alpha_from_spectrum(modes, 1.0).exponent == at_once


@pytest.mark.parametrize("modes", [[], [[], []], [[0.5]]])
def test_no_modes_no_estimate(modes: list[list[float]]) -> None:
    with pytest.raises(InsufficientStatistics) as refusal:
        alpha_from_spectrum(modes, 1.0)
    assert refusal.value.estimate is None


@pytest.mark.parametrize("alpha", [-0.9, 0.0, 3.0, 8.0])
@pytest.mark.parametrize("lower", [0.2, 0.7])
def test_truncated_power_law_against_a_direct_maximisation(alpha: float, lower: float) -> None:
    """The likelihood written down and maximised on a grid, without the depth, its logit or its inverse."""
    rng = np.random.default_rng(11)
    p = 1 + alpha
    modes = (lower**p + rng.random(3000) * (1 - lower**p)) ** (1 / p)
    fit = alpha_from_spectrum([modes[i::30] for i in range(30)], 1.0, omega_min=lower)
    grid = np.linspace(fit.exponent.value - 1, fit.exponent.value + 1, 20_001)
    grid = grid[np.abs(grid + 1) > 1e-6]
    likelihood = np.log(modes).sum() * grid - modes.size * np.log((1 - lower ** (grid + 1)) / (grid + 1))
    assert fit.exponent.value == pytest.approx(grid[np.argmax(likelihood)], abs=2e-4)
    # Its curvature at the maximum is the information.
    top = np.argmax(likelihood)
    curvature = -(likelihood[top - 400] - 2 * likelihood[top] + likelihood[top + 400]) / (grid[400] - grid[0]) ** 2
    assert fit.likelihood.half_width == pytest.approx(1.96 / np.sqrt(curvature), rel=0.01)
    assert abs(fit.exponent.value - alpha) < 2 * fit.exponent.half_width
    assert fit.exponent.window == (lower, 1.0)


def test_modes_at_an_end_of_the_window_have_no_exponent() -> None:
    for modes, lower in (([1.0] * 5, 0.0), ([1.0] * 5, 0.5)):
        with pytest.raises(InsufficientStatistics) as refusal:
            alpha_from_spectrum([modes] * 30, 1.0, omega_min=lower)
        assert refusal.value.estimate is None
        assert "lie at one end" in refusal.value.reason


@pytest.mark.parametrize(("lower", "upper"), [(1.0, 1.0), (-0.1, 1.0), (0.0, 0.0), (0.0, np.inf)])
def test_windows_that_are_none(lower: float, upper: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= omega_min < omega_max"):
        alpha_from_spectrum([[0.5]], upper, omega_min=lower)


def test_the_order_of_realisations_does_not_matter() -> None:
    rng = np.random.default_rng(12)
    modes = [power_law(rng, 4.0, rng.poisson(4), top=1.0) for _ in range(40)]
    for lower in (0.0, 0.3):
        first = alpha_from_spectrum(modes, 1.0, omega_min=lower)
        assert alpha_from_spectrum([np.flip(values) for values in reversed(modes)], 1.0, omega_min=lower).exponent.low == (
            pytest.approx(first.exponent.low, rel=1e-12)
        )


def test_the_curve_holds_the_modes_of_the_window() -> None:
    rng = np.random.default_rng(13)
    modes = [power_law(rng, 3.5, 10, top=1.0) for _ in range(50)]
    for lower in (0.0, 0.4):
        fit = alpha_from_spectrum(modes, 0.9, omega_min=lower)
        omega = np.linspace(lower, 0.9, 20_001)[1:]
        assert np.trapezoid(fit.curve(omega), omega) * 50 == pytest.approx(fit.n_modes, rel=1e-3)
        ax = fit.plot(n_particles=1000)
        assert ax.get_ylabel() == r"$D_L(\omega)$"
        drawn = ax.lines[0].get_xydata()[-3:]
        assert drawn[:, 1] == pytest.approx(fit.curve(drawn[:, 0]) / 3000, rel=0.3)
        assert fit.to_dict()["counts"] == list(fit.counts)
        assert fit.edges[-1] == pytest.approx(0.9)
        assert fit.edges[0] == pytest.approx(lower) if lower else fit.edges[0] > 0.0
        assert sum(fit.counts) == fit.n_modes


def test_least_squares_is_the_line_through_the_logarithms() -> None:
    rng = np.random.default_rng(14)
    modes = power_law(rng, 4.0, 20_000, top=1.0)
    fit = alpha_from_spectrum([modes[i::50] for i in range(50)], 1.0)
    assert fit.least_squares is not None
    counts, edges = np.array(fit.counts), np.array(fit.edges)
    first = np.flatnonzero(counts < 5)[-1] + 1
    x, y = np.log(edges[1:] * edges[:-1])[first:] / 2, np.log(counts / np.diff(edges))[first:]
    assert fit.least_squares.value == pytest.approx(np.polyfit(x, y, 1)[0])
    assert fit.least_squares.value == pytest.approx(4.0, abs=0.4)
    assert fit.estimators == (fit.exponent, fit.least_squares, fit.likelihood)
    assert fit.disagreement is None


def test_estimators_that_disagree_say_so() -> None:
    """A line through logarithms weighs every bin alike: modes at low frequency pull it, the likelihood hardly."""
    rng = np.random.default_rng(15)
    modes = np.concatenate([power_law(rng, 5.0, 20_000, top=1.0), rng.uniform(0.05, 0.4, 300)])
    fit = alpha_from_spectrum([modes[i::50] for i in range(50)], 1.0)
    assert fit.disagreement is not None
    assert "least squares on the binned density" in fit.disagreement
    assert fit.disagreement in fit.exponent.warnings
    bunches = alpha_from_spectrum([np.repeat(power_law(rng, 4.0, 1, top=1.0), 25) for _ in range(200)], 1.0)
    assert "depend on each other" in (bunches.disagreement or "")


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


def test_plane_waves_of_a_square() -> None:
    """|n|^2 = 1, 2, 4, 5, 8 is reached by 4, 4, 4, 8, 4 vectors of two integers, one transverse polarisation each."""
    waves = phonons(12.5, 87.0, 0.86, 10_000, dimensions=2)
    edge = (10_000 / 0.86) ** 0.5
    assert waves.transverse_speed == pytest.approx((12.5 / 0.86) ** 0.5)
    assert waves.longitudinal_speed == pytest.approx(((87.0 + 12.5) / 0.86) ** 0.5)
    assert waves.first_frequency == pytest.approx(waves.transverse_speed * 2.0 * np.pi / edge)
    transverse = [band for band in waves.bands(2.9 * waves.first_frequency) if band.transverse]
    assert [band.degeneracy for band in transverse] == [4, 4, 4, 8, 4]
    np.testing.assert_allclose(
        [band.frequency for band in transverse], waves.first_frequency * np.sqrt([1, 2, 4, 5, 8]), rtol=1e-8
    )
    # The bands add up to the Debye level, which holds all modes.
    top = 20.0 * waves.first_frequency
    counted = sum(band.degeneracy for band in waves.bands(top, strain=0.3)) / (2 * 10_000)
    assert counted == pytest.approx(float(waves.debye_share(np.array([0.0, top]))[0]), rel=0.05)
    omega = np.linspace(0, waves.debye_frequency, 2001)
    assert np.trapezoid(waves.debye_density(omega), omega) == pytest.approx(1.0, rel=1e-5)
    # Nothing is left of plane waves by the Debye law, in a density over 2 N modes.
    rng = np.random.default_rng(5)
    drawn = top * np.sqrt(rng.random(int(counted * 2 * 10_000 * 50)))
    left = excess_density(drawn, waves, n_particles=10_000, n_realisations=50, omega_max=top)
    level = waves.debye_density(np.sqrt(np.array(left.edges[1:]) * left.edges[:-1]))
    assert abs(left.density[-1]) < 0.1 * level[-1]


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


# ---- excess ----


def debye_and_more(rng: np.random.Generator, waves: Phonons, n_particles: int, n: int, alpha: float) -> list[np.ndarray]:
    """Plane waves in their bands, broadened, and other modes with 3 N 1e-3 omega^alpha."""
    bands = waves.bands(2.4)
    place = np.repeat([band.frequency for band in bands], [band.degeneracy for band in bands])
    others = 3 * n_particles * 1e-3 * 2.0 ** (1 + alpha) / (1 + alpha)
    return [
        np.concatenate([place * (1 + 0.03 * rng.standard_normal(place.size)), power_law(rng, alpha, rng.poisson(others))])
        for _ in range(n)
    ]


@pytest.mark.parametrize("alpha", [3.0, 4.0])
def test_excess_over_the_debye_level_gives_alpha_back(alpha: float) -> None:
    rng = np.random.default_rng(16)
    waves = phonons(12.5, 87.0, 0.82, 64000)
    modes = debye_and_more(rng, waves, 64000, 30, alpha)
    fit = alpha_from_excess(modes, waves, 2.0, n_particles=64000)
    assert min(fit.bands) >= 3
    # The sum over the first bands is not yet that of a large solid: twice what counting the bands changes is on the interval.
    assert fit.exponent.low < alpha < fit.exponent.high
    assert fit.exponent.value == pytest.approx(alpha, abs=0.15)
    assert fit.counted.value == pytest.approx(alpha, abs=0.1)
    assert fit.amplitude == pytest.approx(1e-3, rel=0.15)

    def of_scatter(found: ExcessFit) -> float:
        return found.exponent.half_width - 2 * abs(found.exponent.value - found.counted.value)

    # Plane waves are always there, and scatter less than Poisson.
    assert 0 < of_scatter(fit) < 1.2 * fit.likelihood.half_width
    unsure = alpha_from_excess(modes, waves, 2.0, n_particles=64000, debye_error=0.05)
    # The error of the level is what moving the level by it does.
    stiffer = replace(waves, debye_frequency=waves.debye_frequency * 1.01 ** (-1 / 3))
    moved = alpha_from_excess(modes, stiffer, 2.0, n_particles=64000).exponent.value - fit.exponent.value
    added = np.sqrt(of_scatter(unsure) ** 2 - of_scatter(fit) ** 2) / 2.045 / 5  # Student's t, 29; per 1 %
    assert abs(moved) == pytest.approx(added, rel=0.15)
    fit.plot()
    assert fit.to_dict()["bands"] == list(fit.bands)
    # Pearson's sum, from what the result shows; two parameters were fitted.
    edges, counts, power = np.array(fit.density.edges), np.array(fit.density.counts), 1 + fit.exponent.value
    of_excess, of_debye = fit.amplitude * np.diff(edges**power) / power, np.diff(edges**3) / waves.debye_frequency**3
    expected = 3 * 64000 * len(modes) * (of_excess + of_debye)
    chi2 = np.sum((counts - expected) ** 2 / expected)
    assert fit.p_value == pytest.approx(stats.chi2.sf(chi2, len(counts) - 2), rel=1e-6)


def test_excess_is_refused_where_a_bin_holds_few_bands() -> None:
    rng = np.random.default_rng(17)
    waves = phonons(12.5, 87.0, 0.82, 4000)
    modes = debye_and_more(rng, waves, 4000, 30, 4.0)
    with pytest.raises(
        InsufficientStatistics, match="phonon bands up to omega = 3 where a Debye level needs at least 3 bins of 3"
    ) as refusal:
        alpha_from_excess(modes, waves, 3.0, n_particles=4000)
    assert refusal.value.estimate is None
    with pytest.raises(InsufficientStatistics, match="0 phonon bands up to omega = 1"):
        alpha_from_excess(modes, waves, 1.0, n_particles=4000)
    large = phonons(12.5, 87.0, 0.82, 64000)
    with pytest.raises(InsufficientStatistics, match="leaves no excess"):
        alpha_from_excess([np.empty(0)] * 30, large, 2.0, n_particles=64000)
    with pytest.raises(InsufficientStatistics, match="19 realisations") as refusal:
        alpha_from_excess(debye_and_more(rng, large, 64000, 19, 4.0), large, 2.0, n_particles=64000)
    assert isinstance(refusal.value.estimate, ExcessFit)
