"""Exponents, spectra and error bars. Pure numpy and scipy, no input or output; weak statistics are refused, loudly."""

from __future__ import annotations

from qlm_hoomd.statistics.errors import (
    LineFit,
    bootstrap_interval,
    mean_and_standard_error,
    ordinary_least_squares,
    poisson_interval,
)
from qlm_hoomd.statistics.exponents import (
    Exponent,
    FiniteSizeScaling,
    NextEvents,
    alpha_from_omega_min,
    finite_size_scaling,
    predicted_alpha,
    strain_to_next_event,
    theta_from_gamma_min,
)
from qlm_hoomd.statistics.spectra import (
    CutoffScan,
    DensityOfStates,
    PhononBand,
    Phonons,
    SpectrumFit,
    alpha_from_spectrum,
    default_participation_threshold,
    density_of_states,
    excess_density,
    phonons,
    window_scan,
)

__all__ = [
    "CutoffScan",
    "DensityOfStates",
    "Exponent",
    "FiniteSizeScaling",
    "LineFit",
    "NextEvents",
    "PhononBand",
    "Phonons",
    "SpectrumFit",
    "alpha_from_omega_min",
    "alpha_from_spectrum",
    "bootstrap_interval",
    "default_participation_threshold",
    "density_of_states",
    "excess_density",
    "finite_size_scaling",
    "mean_and_standard_error",
    "ordinary_least_squares",
    "phonons",
    "poisson_interval",
    "predicted_alpha",
    "strain_to_next_event",
    "theta_from_gamma_min",
    "window_scan",
]
