"""How often the interval of alpha from the filtered spectrum holds the truth: synthetic glasses through the whole chain.

Each glass has Poisson modes with the density 3 N A omega^alpha and plane waves in the bands of its box, broadened by disorder;
it knows its 30 lowest modes. What follows is what a report does: filter by participation ratio, upper end of the window, choice
of its lower end, maximum likelihood with the bootstrap over realisations, refusals. Run it::

    python tests/physics/coverage_alpha.py --sets 500 --json coverage_alpha.json

for a table in Markdown. Array suffixes: ``_m`` modes, ``_rm`` modes of each realisation.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qlm_hoomd.errors import InsufficientStatistics
from qlm_hoomd.statistics import (
    SpectrumFit,
    alpha_from_spectrum,
    choose_window,
    default_participation_threshold,
    phonons,
    phonons_reach_in,
    upper_end,
)

Floats = NDArray[np.float64]

ALPHAS = (3.0, 3.5, 4.0)
ENSEMBLES = ((4000, 20), (4000, 60), (4000, 200), (16000, 20), (16000, 100))
"""(N, realisations)."""
MODULI = (12.6, 87.0, 0.82)
"""Shear and bulk modulus and number density of the rapidly quenched glass."""
MODES_BELOW_ONE = 1.5e-3 / 5.0
"""Quasi-localised modes below omega = 1 as a share of all 3 N, for every alpha: that of 1.5e-3 omega^4."""
MODES_KNOWN = 30
BAND_WIDTH = 0.04
"""Standard deviation of a band over its frequency."""
WAVE_PARTICIPATION = (0.6, 0.1)
LOCAL_PARTICIPATION = (150.0, 0.8)
"""Median of N e, and standard deviation of its logarithm."""


@dataclass(frozen=True)
class Coverage:
    """What came of the data sets of one ensemble: shares of all sets, or of the quoted ones where it says so.

    Args:
        n_particles, n_realisations, alpha: of the glasses.
        sets: data sets.
        modes: mean number of modes in the window.
        raised: the lower end was raised above 0.
        quoted: an exponent was quoted.
        window_decides: withheld since the window decides the answer.
        refused: withheld for any other reason.
        covered: of the quoted sets, intervals that hold the truth.
        covered_any: the same of all sets with an estimate, withheld or not.
        covered_fixed: the same for the window from 0, without a choice.
        covered_independent: the same for the error of independent modes, in the chosen window.
        covered_least_squares: the same for least squares on the binned density with Student's t, in the chosen window.
        disagree: of the quoted sets, those whose estimators are said to disagree.
        bias: mean of the quoted estimates less alpha.
        half_width: mean half width of the quoted intervals.
        bias_least_squares: mean of the estimates of least squares less alpha.
    """

    n_particles: int
    n_realisations: int
    alpha: float
    sets: int
    modes: float
    raised: float
    quoted: float
    window_decides: float
    refused: float
    covered: float
    covered_any: float
    covered_fixed: float
    covered_independent: float
    covered_least_squares: float
    disagree: float
    bias: float
    half_width: float
    bias_least_squares: float


def glasses(rng: np.random.Generator, alpha: float, n_particles: int, n_realisations: int) -> tuple[list[Floats], list[Floats]]:
    """Frequencies and participation ratios of the lowest modes of each glass, ascending in frequency."""
    waves = phonons(*MODULI, n_particles)
    below_one = MODES_BELOW_ONE * 3 * n_particles
    cut = (1.4 * MODES_KNOWN / below_one) ** (1 / (1 + alpha))
    bands = waves.bands(1.2 * cut)
    place_m = np.repeat([band.frequency for band in bands], [band.degeneracy for band in bands])
    frequency_rm, participation_rm = [], []
    for _ in range(n_realisations):
        local_m = cut * rng.random(rng.poisson(below_one * cut ** (1 + alpha))) ** (1 / (1 + alpha))
        wave_m = place_m * (1 + BAND_WIDTH * rng.standard_normal(place_m.size))
        median, spread = LOCAL_PARTICIPATION
        local_e = np.minimum(median / n_particles * np.exp(spread * rng.standard_normal(local_m.size)), 1.0)
        wave_e = np.clip(rng.normal(*WAVE_PARTICIPATION, wave_m.size), 0.05, 0.95)
        frequency, participation = np.concatenate([local_m, wave_m]), np.concatenate([local_e, wave_e])
        lowest = np.argsort(frequency)[:MODES_KNOWN]
        frequency_rm.append(frequency[lowest])
        participation_rm.append(participation[lowest])
    return frequency_rm, participation_rm


def measure(alpha: float, n_particles: int, n_realisations: int, *, sets: int, seed: int = 6) -> Coverage:
    """Coverage over ``sets`` independent ensembles."""
    rng = np.random.default_rng([seed, n_particles, n_realisations, round(10 * alpha)])
    threshold, waves = default_participation_threshold(n_particles), phonons(*MODULI, n_particles)
    rows = []
    for _ in range(sets):
        frequency_rm, participation_rm = glasses(rng, alpha, n_particles, n_realisations)
        complete = min(float(omega_m[-1]) for omega_m in frequency_rm)
        local_rm = [omega_m[e_m < threshold] for omega_m, e_m in zip(frequency_rm, participation_rm, strict=True)]
        upper = upper_end(complete, waves).omega
        below = int(sum(np.count_nonzero(omega_m <= upper) for omega_m in frequency_rm))
        kept = int(sum(np.count_nonzero(omega_m <= upper) for omega_m in local_rm))
        choice = choose_window(local_rm, upper, complete=complete)
        reason = phonons_reach_in(upper, waves, n_modes=below, n_filtered=below - kept) or choice.refusal
        fit, weak = _fit(local_rm, choice.lower, upper)
        fixed = fit if choice.lower == 0.0 else _fit(local_rm, 0.0, upper)[0]
        rows.append((choice, fit, fixed, reason is not None or weak))
    fits = [fit for _, fit, _, _ in rows]
    quoted = [fit for choice, fit, _, weak in rows if not (weak or choice.decides)]
    squares = [fit.least_squares for fit in fits if fit.least_squares is not None]
    return Coverage(
        n_particles=n_particles,
        n_realisations=n_realisations,
        alpha=alpha,
        sets=sets,
        modes=float(np.mean([fit.n_modes for fit in fits])),
        raised=float(np.mean([choice.lower > 0.0 for choice, *_ in rows])),
        quoted=len(quoted) / sets,
        window_decides=float(np.mean([choice.decides and not weak for choice, _, _, weak in rows])),
        refused=float(np.mean([weak for *_, weak in rows])),
        covered=float(np.mean([fit.exponent.low <= alpha <= fit.exponent.high for fit in quoted])),
        covered_any=float(np.mean([fit.exponent.low <= alpha <= fit.exponent.high for fit in fits])),
        covered_fixed=float(np.mean([fixed.exponent.low <= alpha <= fixed.exponent.high for _, _, fixed, _ in rows])),
        covered_independent=float(np.mean([fit.likelihood.low <= alpha <= fit.likelihood.high for fit in fits])),
        covered_least_squares=float(np.mean([line.low <= alpha <= line.high for line in squares])),
        disagree=float(np.mean([fit.disagreement is not None for fit in quoted])),
        bias=float(np.mean([fit.exponent.value for fit in quoted])) - alpha,
        half_width=float(np.mean([fit.exponent.half_width for fit in quoted])),
        bias_least_squares=float(np.mean([line.value for line in squares])) - alpha,
    )


def _fit(local_rm: list[Floats], lower: float, upper: float) -> tuple[SpectrumFit, bool]:
    """The fit, and whether it is refused."""
    try:
        return alpha_from_spectrum(local_rm, upper, omega_min=lower), False
    except InsufficientStatistics as refusal:
        weak: SpectrumFit = refusal.estimate
        return weak, True


def table(found: list[Coverage]) -> str:
    """The results as a table in Markdown."""
    heads = (
        "N", "realisations", "modes", "alpha", "quoted", "window decides", "refused", "lower end raised", "**covered, quoted**",
        "covered, all", "window from 0", "independent modes", "least squares (paper)", "bias", "half width", "bias, least squares",
        "estimators disagree",
    )  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for c in found:
        shares = (c.quoted, c.window_decides, c.refused, c.raised, c.covered, c.covered_any, c.covered_fixed, c.covered_independent,
                  c.covered_least_squares)  # fmt: skip
        cells = [
            str(c.n_particles),
            str(c.n_realisations),
            f"{c.modes:.0f}",
            f"{c.alpha:g}",
            *(f"{100 * s:.1f} %" for s in shares),
        ]
        cells += [f"{c.bias:+.3f}", f"{c.half_width:.2f}", f"{c.bias_least_squares:+.2f}", f"{100 * c.disagree:.1f} %"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure all ensembles, print the table, and write the numbers as JSON if asked to."""
    parser = argparse.ArgumentParser(description="Coverage of the interval of alpha from the filtered spectrum")
    parser.add_argument("--sets", type=int, default=500, help="data sets for each alpha and ensemble")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    found = [measure(alpha, *ensemble, sets=arguments.sets) for ensemble in ENSEMBLES for alpha in ALPHAS]
    print(table(found))  # noqa: T201 its output is what it prints
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(c) for c in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
