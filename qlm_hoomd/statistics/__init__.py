"""Exponents, spectra and error bars. Pure numpy and scipy, no input or output; weak statistics are refused, loudly."""

from __future__ import annotations

from qlm_hoomd.statistics.alternatives import Scaling, ScalingAlternatives, compare_scalings
from qlm_hoomd.statistics.errors import (
    LineFit,
    bootstrap_interval,
    mean_and_standard_error,
    ordinary_least_squares,
    poisson_interval,
)
from qlm_hoomd.statistics.excess import ExcessFit, alpha_from_excess, excess_density
from qlm_hoomd.statistics.exponent import Exponent
from qlm_hoomd.statistics.exponents import (
    FiniteSizeScaling,
    alpha_from_omega_min,
    finite_size_scaling,
    predicted_alpha,
    theta_from_gamma_min,
)
from qlm_hoomd.statistics.minima import MinimaDistribution, MinimaHistogram, minima_exponent, predicted_alpha_prime
from qlm_hoomd.statistics.plane_waves import PhononBand, Phonons, phonons
from qlm_hoomd.statistics.samples import NextEvents, mean_correlation, strain_to_next_event
from qlm_hoomd.statistics.spectra import (
    DensityOfStates,
    SpectrumFit,
    alpha_from_spectrum,
    default_participation_threshold,
    density_of_states,
)
from qlm_hoomd.statistics.windows import (
    CutoffScan,
    UpperEnd,
    WindowChoice,
    choose_window,
    phonons_reach_in,
    power_law_p_value,
    upper_end,
    window_scan,
)

__all__ = [
    "CutoffScan",
    "DensityOfStates",
    "ExcessFit",
    "Exponent",
    "FiniteSizeScaling",
    "LineFit",
    "MinimaDistribution",
    "MinimaHistogram",
    "NextEvents",
    "PhononBand",
    "Phonons",
    "Scaling",
    "ScalingAlternatives",
    "SpectrumFit",
    "UpperEnd",
    "WindowChoice",
    "alpha_from_excess",
    "alpha_from_omega_min",
    "alpha_from_spectrum",
    "bootstrap_interval",
    "choose_window",
    "compare_scalings",
    "default_participation_threshold",
    "density_of_states",
    "excess_density",
    "finite_size_scaling",
    "mean_and_standard_error",
    "mean_correlation",
    "minima_exponent",
    "ordinary_least_squares",
    "phonons",
    "phonons_reach_in",
    "poisson_interval",
    "power_law_p_value",
    "predicted_alpha",
    "predicted_alpha_prime",
    "strain_to_next_event",
    "theta_from_gamma_min",
    "upper_end",
    "window_scan",
]
