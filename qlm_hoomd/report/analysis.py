"""From tables to numbers: mean minima, spectra, exponents, and the refusals among them.

Array suffixes: ``_r`` realisations, ``_m`` modes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qlm_hoomd.base.errors import InsufficientStatistics
from qlm_hoomd.protocol import Analysis as Settings
from qlm_hoomd.report.attempts import Ensemble
from qlm_hoomd.report.means import (
    SAMPLES,
    Runs,
    by_realisation,
    drift_of_stress,
    first_rise,
    mean_minima,
    mean_moduli,
    mean_stress,
    not_glasses,
    with_the_papers_detector,
    without,
)
from qlm_hoomd.report.numbers import STRAIN_TOLERANCE, Analysis, Directions, Estimate, Spectrum
from qlm_hoomd.statistics import (
    DensityOfStates,
    Phonons,
    alpha_from_excess,
    alpha_from_omega_min,
    alpha_from_spectrum,
    choose_window,
    density_of_states,
    excess_density,
    mean_and_standard_error,
    minima_exponent,
    phonons,
    phonons_reach_in,
    predicted_alpha,
    predicted_alpha_prime,
    theta_from_gamma_min,
    upper_end,
    window_scan,
)
from qlm_hoomd.statistics.exponents import MAX_CENSORED
from qlm_hoomd.statistics.spectra import OMEGA_MAX

Floats = NDArray[np.float64]
STEADY_POINTS = 12
"""Strains at which gamma_min is sampled in each realisation for the exponent of the steady state; more of them are hardly news,
for neighbouring ones lie before the same instability."""


def analyse(
    tables: Mapping[str, pl.DataFrame], settings: Settings, *, preparations: Sequence[str], density: float, dimensions: int = 3
) -> Analysis:
    """Turn the tables of an ensemble into numbers.

    Args:
        tables: as :func:`qlm_hoomd.report.collect.collect` gives them; any may be missing.
        settings: of the analysis.
        preparations: names, in the order of the report.
        density: number density of the glass [1 / length^d].
        dimensions: d, 2 or 3.
    """
    excluded = not_glasses(tables.get("structure")) if settings.exclude_crystals else ()
    kept = {name: without(table, excluded) for name, table in tables.items()}
    kept |= {name: first_rise(kept[name]) for name in ("steps", "events") if name in kept}
    if "events" in kept:
        kept["events"] = with_the_papers_detector(kept["events"], density, dimensions)
    minima: list[pl.DataFrame] = []
    estimates: list[Estimate] = []
    spectra: list[Spectrum] = []
    directions: dict[str, Directions] = {}
    unsteady: dict[str, str] = {}
    moduli = mean_moduli(kept.get("moduli"))
    for preparation in preparations:
        own = {name: table.filter(pl.col("preparation") == preparation) for name, table in kept.items()}
        several = _directions(own)
        if several is not None:
            directions[preparation] = several
        for strain in settings.strains:
            at = Ensemble(preparation, strain, settings, own, several, dimensions)
            estimates += _thetas(at, minima)
            estimates += _alphas(at, minima, spectra, moduli, density)
        if settings.steady is not None:
            reason = None if settings.steady_from is not None else drift_of_stress(own.get("steps"), *settings.steady)
            if reason is None:
                at = Ensemble(preparation, settings.steady[0], settings, own, dimensions=dimensions)
                estimates += _steady(at, *settings.steady, spectra)
            else:
                unsteady[preparation] = reason
    samples = pl.concat([pl.DataFrame(schema=SAMPLES), *minima])
    return Analysis(
        settings=settings,
        excluded=excluded,
        stress_strain=mean_stress(kept.get("steps")),
        minima=mean_minima(samples, directions),
        samples=samples,
        moduli=moduli,
        spectra=tuple(spectra),
        estimates=tuple(estimates),
        directions=directions,
        unsteady=unsteady,
    )


def _directions(tables: Mapping[str, pl.DataFrame]) -> Directions | None:
    """gamma_min of the quenched glasses in several directions of shear, by the detector that was run."""
    runs = Runs.of(tables)
    return None if runs is None else Directions.of(tables.get("directions"), next(iter(runs.strains)))


def _thetas(at: Ensemble, minima: list[pl.DataFrame]) -> Iterator[Estimate]:
    """For each detector theta, the alpha that eq. (9) predicts from it, theta' and the alpha' predicted from that."""
    runs = Runs.of(at.tables)
    if runs is None:
        theta = at.estimate("theta", "gamma_min", refusal="no sheared realisation; a stage of kind 'shear' makes them")
        yield theta
        yield _prediction(at, theta)
        return
    for detector in runs.strains:
        samples, censored, who = runs.next_events(detector, [at.strain])
        left = runs.ends.height - sum(map(len, who.values()))
        flat = {size: values[:, 0] for size, values in samples.items()}
        cut = {size: values[:, 0] for size, values in censored.items()}
        minima.extend(at.minima("gamma_min", detector, size, who[size], flat[size], cut[size]) for size in flat)
        blank = at.estimate("theta", "gamma_min", detector=detector)
        if not samples:
            theta = replace(blank, refusal=f"no realisation was sheared beyond strain {at.strain:g}")
        else:
            warnings = [f"{left} realisations ended before strain {at.strain:g} and are left out"] if left else []
            theta = at.attempt(blank, theta_from_gamma_min, flat, censored=cut, warnings=warnings)
            theta = at.compared(theta, flat, cut)
        several = at.directions
        if several is not None and several.values and several.speaks_for(at.strain, detector):
            alone, theta = replace(theta, method="one_direction"), _theta_of_directions(at, several)
            yield theta
            yield _prediction(at, theta)
            yield alone
            yield from _primed(at, several.values, {}, detector, several.names)
            continue
        yield theta
        yield _prediction(at, theta)
        if flat:
            yield from _primed(at, flat, cut, detector)


def _theta_of_directions(at: Ensemble, several: Directions) -> Estimate:
    """Theta of glasses that count with their mean over several directions of shear."""
    blank = at.estimate("theta", "gamma_min", detector=several.detector, directions=several.names)
    left = [
        f"{number} of {number + len(several.values.get(size, ()))} glasses at N = {size} lack an instability in one of the "
        "directions and are left out"
        for size, number in several.n_left_out.items()
        if number
    ]
    # The glasses that are left out are the stable ones.
    many = any(n > MAX_CENSORED * (n + len(several.values.get(size, ()))) for size, n in several.n_left_out.items())
    refusal = f"{'; '.join(left)}, where at most {100 * MAX_CENSORED:g} % may be" if many else None
    theta = at.attempt(blank, theta_from_gamma_min, several.values, refusal=refusal, warnings=left)
    return at.compared(theta, several.values, {})


def _prediction(at: Ensemble, theta: Estimate) -> Estimate:
    refusal = "theta is withheld" if theta.refusal is not None else None
    behind = {"detector": theta.detector, "pooled": theta.pooled, "directions": theta.directions}
    blank = at.estimate("alpha", "prediction", refusal=refusal, **behind)
    if theta.exponent is None:
        return blank
    try:
        return replace(blank, exponent=predicted_alpha(theta.exponent))
    except InsufficientStatistics as outside:
        return replace(blank, refusal=outside.reason)


def _primed(
    at: Ensemble,
    samples: Mapping[int, Floats],
    censored: Mapping[int, NDArray[np.bool_]],
    detector: str | None,
    directions: tuple[str, ...] = (),
) -> Iterator[Estimate]:
    """Theta' of App. G from the single gamma_min of all sizes, each over its median, and the alpha' predicted from it."""
    blank = at.estimate("theta_prime", "distribution", detector=detector, directions=directions)
    estimate = at.attempt(blank, minima_exponent, samples, censored=censored, name="theta_prime")
    yield estimate
    yield replace(
        blank,
        quantity="alpha_prime",
        method="prediction",
        exponent=predicted_alpha_prime(estimate.exponent) if estimate.exponent is not None else None,
        refusal="theta' is withheld" if estimate.refusal is not None else None,
    )


def _steady(at: Ensemble, first: float, last: float, spectra: Sequence[Spectrum]) -> Iterator[Estimate]:
    """Theta and alpha pooled over the strains of steady flow.

    A realisation counts once, however many of its strains there are.
    """
    runs = Runs.of(at.tables)
    pooled = (first, last)
    if runs is not None:
        for detector in runs.strains:
            samples, censored, _ = runs.next_events(detector, np.linspace(first, last, STEADY_POINTS).tolist())
            if samples:
                blank = at.estimate("theta", "gamma_min", detector=detector, pooled=pooled)
                theta = at.attempt(blank, theta_from_gamma_min, samples, censored=censored)
                yield theta
                yield _prediction(at, theta)
    here = [
        s
        for s in spectra
        if s.preparation == at.preparation and first - STRAIN_TOLERANCE <= s.strain <= last + STRAIN_TOLERANCE
    ]
    if not here:
        return
    size = max(s.n_particles for s in here)
    here = [s for s in here if s.n_particles == size]
    own = pl.concat([_stable_modes(replace(at, strain=s.strain), size) for s in here]).sort(
        "realisation", "strain", "frequency"
    )
    frequency_rm = _local(own, at.settings.threshold(size))
    # No state may have phonons in the window, or modes that are not known.
    upper, complete = min(s.window.upper for s in here), min(s.omega_complete for s in here)
    window = choose_window(frequency_rm, upper, complete=complete, lower=at.settings.omega_min)
    waves = min((s.plane_waves for s in here if s.plane_waves is not None), key=lambda w: w.first_frequency, default=None)
    reasons = (window.refusal, window.decided_by, _phonons_below(own, at.settings.threshold(size), window.upper, waves))
    yield at.attempt(
        at.estimate("alpha", "spectrum", n_particles=size, pooled=pooled),
        alpha_from_spectrum,
        frequency_rm,
        window.upper,
        omega_min=window.lower,
        refusal="; ".join(reason for reason in reasons if reason is not None) or None,
    )


def _stable_modes(at: Ensemble, n_particles: int) -> pl.DataFrame:
    """The modes at the strain of ``at`` of those selected samples of one size that are at minima."""
    at_strain = ((pl.col("strain") - at.strain).abs() < STRAIN_TOLERANCE) & (pl.col("n_particles") == n_particles)
    own = _selected(at.tables["modes"].filter(at_strain), at)
    return own.filter((pl.col("frequency") > 0).all().over("realisation"))


def _alphas(
    at: Ensemble, minima: list[pl.DataFrame], spectra: list[Spectrum], moduli: pl.DataFrame, density: float
) -> Iterator[Estimate]:
    """Alpha from the softest modes of all sizes, and from the spectrum of each; alpha' from the single softest modes."""
    modes = at.tables.get("modes")
    here = modes.filter((pl.col("strain") - at.strain).abs() < STRAIN_TOLERANCE) if modes is not None else None
    reason = None
    if here is None or here.is_empty():
        known = sorted(modes["strain"].unique().to_list()) if modes is not None else []
        reason = (
            f"no modes at strain {at.strain:g}; there are some at {', '.join(f'{strain:g}' for strain in known)}"
            if known
            else "no diagonalised realisation; a stage of kind 'modes' makes them"
        )
    else:
        here = _selected(here, at)
        if here.is_empty():
            reason = f"no sample has what the analysis selects: {at.settings.selection}"
    if here is None or reason is not None:
        yield at.estimate("alpha", "omega_min", refusal=reason)
        yield at.estimate("alpha", "spectrum", refusal=reason)
        return
    samples: dict[int, Floats] = {}
    censored: dict[int, NDArray[np.bool_]] = {}
    left_out: list[str] = []
    direct: list[Estimate] = []
    without_filter: Sequence[Estimate] = ()  # of the largest size
    for (size,), group in here.sort("n_particles", "realisation", "frequency").group_by("n_particles", maintain_order=True):
        n_particles = int(size)
        stable = group.filter((pl.col("frequency") > 0).all().over("realisation"))
        unstable = group["realisation"].n_unique() - stable["realisation"].n_unique()
        blank = at.estimate("alpha", "spectrum", n_particles=n_particles)
        if stable.is_empty():
            direct.append(replace(blank, refusal=f"all {unstable} diagonalised realisations have a mode of negative stiffness"))
            continue
        local_rm = _local(stable, at.settings.threshold(n_particles))
        top_r = np.array([w_m[-1] for w_m in by_realisation(stable, "frequency").values()])
        softest_r = np.array([w_m[0] if w_m.size else top for w_m, top in zip(local_rm, top_r, strict=True)])
        cut_r = np.array([w_m.size == 0 for w_m in local_rm])
        who = [index for _, index in by_realisation(stable, "frequency")]
        minima.append(at.minima("omega_min", None, n_particles, who, softest_r, cut_r))
        spectrum = _spectrum(
            at, n_particles, stable, unstable, _plane_waves(moduli, density, at, n_particles), local_rm, softest_r[~cut_r]
        )
        spectra.append(spectrum)
        reach = _phonons_below(stable, spectrum.threshold, float(np.quantile(softest_r, 0.9)), spectrum.plane_waves)
        reach = reach or _beyond_power_law(softest_r, at.settings)
        if reach is None:
            samples[n_particles], censored[n_particles] = softest_r, cut_r
        else:
            left_out.append(f"N = {n_particles} is left out: {reach}")
        direct.append(
            at.attempt(
                blank,
                alpha_from_spectrum,
                local_rm,
                spectrum.window.upper,
                omega_min=spectrum.window.lower,
                refusal=spectrum.refusal,
                warnings=_spectrum_warnings(spectrum),
            )
        )
        without_filter = _without_filter(at, stable, spectrum, moduli)
    blank = at.estimate("alpha", "omega_min", left_out=tuple(left_out))
    yield at.attempt(blank, alpha_from_omega_min, samples, censored=censored)
    yield from direct
    yield from without_filter
    if samples:
        yield at.attempt(
            at.estimate("alpha_prime", "distribution"), minima_exponent, samples, censored=censored, name="alpha_prime"
        )


def _beyond_power_law(softest_r: Floats, settings: Settings) -> str | None:
    """Why the softest modes of a size may lie beyond the power law of D_L; None where they do not for certain."""
    end = OMEGA_MAX if settings.omega_max is None else settings.omega_max
    mean, error = mean_and_standard_error(softest_r)
    if not mean + error > end:
        return None
    return (
        f"the mean frequency of its softest modes, {mean:.2f} ± {error:.2f}, is not for certain below omega = {end:g}, where "
        "the power law of D_L ends"
    )


def _local(modes: pl.DataFrame, threshold: float) -> list[Floats]:
    """The quasi-localised frequencies of each realisation, in the order of the rows."""
    frequency_rm, participation_rm = by_realisation(modes, "frequency"), by_realisation(modes, "participation_ratio")
    return [w_m[participation_rm[key] < threshold] for key, w_m in frequency_rm.items()]


def _phonons_below(modes: pl.DataFrame, threshold: float, omega: float, plane_waves: Phonons | None) -> str | None:
    """Why phonons may lie below ``omega``, by the plane waves of the box and by what the filter takes out there."""
    below = modes.filter(pl.col("frequency") <= omega)
    filtered = below.filter(pl.col("participation_ratio") >= threshold).height
    return phonons_reach_in(omega, plane_waves, n_modes=below.height, n_filtered=filtered)


def _selected(modes: pl.DataFrame, at: Ensemble) -> pl.DataFrame:
    """The modes of those samples that have the labels which the settings ask for."""
    wanted = {name: value for name, value in at.settings.select if value is not None}
    labels = at.tables.get("moduli")
    if not wanted:
        return modes
    tests = {
        "shear_stable": lambda value: (pl.col("softest_shear_modulus") > 0) == value,
        "residual_shear_stress_max": lambda value: pl.col("residual_shear_stress") <= value,
        "strain_since_event_min": lambda value: pl.col("strain_since_event") >= value,
    }
    if labels is None or not set(labels.columns) >= {"softest_shear_modulus", "residual_shear_stress", "strain_since_event"}:
        return modes.clear()
    own = labels.filter(
        (pl.col("strain") - at.strain).abs() < STRAIN_TOLERANCE, *(tests[name](value) for name, value in wanted.items())
    )
    return modes.join(
        own.select("n_particles", "realisation"), on=["n_particles", "realisation"], how="semi", maintain_order="left"
    )


def _spectrum(
    at: Ensemble,
    n_particles: int,
    modes: pl.DataFrame,
    unstable: int,
    plane_waves: Phonons | None,
    local_rm: list[Floats],
    softest_r: Floats,
) -> Spectrum:
    """The spectrum of one size."""
    threshold = at.settings.threshold(n_particles)
    local_m = np.concatenate(local_rm)
    complete = float(min(w_m[-1] for w_m in by_realisation(modes, "frequency").values()))
    end = upper_end(complete, plane_waves, at.settings.omega_max)
    window = choose_window(local_rm, end.omega, complete=complete, lower=at.settings.omega_min)
    scanned = []
    for factor in (0.8, 1.2):
        kept = modes.filter(pl.col("participation_ratio") < factor * threshold)["frequency"].to_numpy()
        scan = window_scan(kept, [(window.lower, window.upper)])
        scanned.append((scan.alpha[0], scan.error[0]) if scan.alpha else (np.nan, np.inf))
    counted: dict[str, Any] = {"n_particles": n_particles, "n_realisations": len(local_rm), "omega_max": complete}

    def density(omega_m: Floats) -> DensityOfStates | None:
        return (
            density_of_states(omega_m, dimensions=at.dimensions, **counted)
            if ((omega_m > 0) & (omega_m <= complete)).any()
            else None
        )

    excess = None
    if plane_waves is not None:
        # Below the first band there are no plane waves to take away.
        omega_m = modes["frequency"].to_numpy()
        omega_m = omega_m[(omega_m >= plane_waves.first_frequency) & (omega_m <= complete)]
        excess = excess_density(omega_m, plane_waves, **counted) if omega_m.size else None
    reasons = (window.refusal, window.decided_by, _phonons_below(modes, threshold, window.upper, plane_waves))
    return Spectrum(
        preparation=at.preparation,
        strain=at.strain,
        n_particles=n_particles,
        n_realisations=len(local_rm),
        n_unstable=unstable,
        threshold=threshold,
        omega_complete=complete,
        window=window,
        limited_by=end.limited_by,
        plane_waves=plane_waves,
        density=density(local_m),
        softest=density(softest_r),
        excess=excess,
        threshold_scans=(scanned[0], scanned[1]),
        refusal="; ".join(reason for reason in reasons if reason is not None) or None,
    )


def _without_filter(at: Ensemble, modes: pl.DataFrame, spectrum: Spectrum, moduli: pl.DataFrame) -> tuple[Estimate, Estimate]:
    """Alpha of D_G = D - D_Debye of all modes: below the first phonon, where D_G is D, and above it."""
    frequency_rm = list(by_realisation(modes, "frequency").values())
    below = at.attempt(
        at.estimate("alpha", "unfiltered", n_particles=spectrum.n_particles),
        alpha_from_spectrum,
        frequency_rm,
        spectrum.window.upper,
        omega_min=spectrum.window.lower,
        refusal=spectrum.refusal,
    )
    above = at.estimate("alpha", "excess", n_particles=spectrum.n_particles)
    if spectrum.plane_waves is None:
        return below, replace(above, refusal="the Debye level is unknown, for there are no elastic moduli")
    error, mean = _modulus_row(moduli, at, spectrum.n_particles).select("shear_modulus_error", "shear_modulus").row(0)
    return below, at.attempt(
        above,
        alpha_from_excess,
        frequency_rm,
        spectrum.plane_waves,
        spectrum.omega_complete,
        n_particles=spectrum.n_particles,
        # The level is the inverse d-th power of the speed of sound, which is the root of the modulus.
        debye_error=0.5 * at.dimensions * error / mean if error is not None else 0.0,
    )


def _spectrum_warnings(spectrum: Spectrum) -> list[str]:
    found = []
    if spectrum.plane_waves is None:
        found.append("the first phonon frequency is unknown, for there are no elastic moduli")
    if spectrum.n_unstable:
        found.append(f"{spectrum.n_unstable} realisations have a mode of negative stiffness: no minima, left out")
    return found


def _plane_waves(moduli: pl.DataFrame, density: float, at: Ensemble, n_particles: int) -> Phonons | None:
    row = _modulus_row(moduli, at, n_particles)
    shear, bulk = (None, None) if row.is_empty() else row.select("shear_modulus", "bulk_modulus").row(0)
    if shear is None or bulk is None or not min(shear, bulk) > 0:
        return None
    return phonons(shear, bulk, density, n_particles, at.dimensions)


def _modulus_row(moduli: pl.DataFrame, at: Ensemble, n_particles: int) -> pl.DataFrame:
    return moduli.filter(
        (pl.col("preparation") == at.preparation)
        & (pl.col("n_particles") == n_particles)
        & ((pl.col("strain") - at.strain).abs() < STRAIN_TOLERANCE)
    )
