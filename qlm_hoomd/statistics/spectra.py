"""The density of quasi-localised modes D_L(omega), the exponent alpha of its low-frequency tail, and the phonons beside it.

Frequencies are in units of sqrt(epsilon / m) / length. Equations and appendices are those of Ji et al., PRE 99, 023003 (2019).

Array suffixes: ``_r`` realisations, ``_m`` modes, ``_b`` bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from qlm_hoomd.errors import InsufficientStatistics
from qlm_hoomd.statistics.errors import Floats, bootstrap_interval, poisson_interval
from qlm_hoomd.statistics.exponents import MIN_REALISATIONS, Exponent, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIN_MODES = 50
"""Modes in the fit window: the error of alpha is (1 + alpha) / sqrt(n), 0.7 at 50 modes."""
PAPER_PARTICIPATION_NUMBER = 2000.0
"""N e_c of the paper: e_c = 0.125 at N = 16000 and 0.0625 at N = 32000."""
PLANE_WAVE = 2.0 / 3.0
"""Participation ratio of a standing plane wave, 1 / <(2 sin^2)^2>."""
OMEGA_MAX = 1.0
"""Default upper end of the fit window: the apparent prefactor of omega^4 in this glass falls when it is raised beyond 1."""
PHONON_MARGIN = 0.9
"""The window ends at this fraction of the first phonon frequency, for disorder broadens the band."""


@dataclass(frozen=True)
class PhononBand:
    """Plane waves of one frequency.

    Args:
        frequency: c k [1 / t_c].
        degeneracy: number of them; two polarisations each where they are transverse.
        transverse: whether they are transverse, else longitudinal.
    """

    frequency: float
    degeneracy: int
    transverse: bool


@dataclass(frozen=True)
class Phonons:
    """The low-frequency plane waves of an elastic cube.

    Args:
        transverse_speed, longitudinal_speed: c_s = sqrt(G / rho), c_l = sqrt((K + 4 G / 3) / rho).
        debye_frequency: omega_D, where D(omega) = 3 omega^2 / omega_D^3 is normalised to one over all 3 N modes.
        first_frequency: c_s 2 pi / L, of the lowest transverse band.
    """

    transverse_speed: float
    longitudinal_speed: float
    debye_frequency: float
    first_frequency: float

    def debye_density(self, omega: ArrayLike) -> Floats:
        """The Debye level 3 omega^2 / omega_D^3 at ``omega`` (array of any shape)."""
        return 3.0 * np.asarray(omega, dtype=np.float64) ** 2 / self.debye_frequency**3

    def bands(self, omega_max: float, strain: float = 0.0) -> tuple[PhononBand, ...]:
        """The bands up to ``omega_max``, by frequency, of the cube under the simple shear ``strain``.

        The waves that fit into a box of lattice vectors (L, 0, 0), (gamma L, L, 0), (0, 0, L) have
        k = 2 pi / L (n_x, n_y - gamma n_x, n_z): shear splits the bands of the cube. The solid counts as isotropic.
        """
        wave_number = self.first_frequency / self.transverse_speed
        tilt = strain - round(strain)
        found: dict[tuple[float, bool], int] = {}
        for transverse, speed in ((True, self.transverse_speed), (False, self.longitudinal_speed)):
            largest = omega_max / (speed * wave_number)
            n = np.arange(-int(1.5 * largest) - 1, int(1.5 * largest) + 2)
            nx, ny, nz = np.meshgrid(n, n, n, indexing="ij")
            length = np.sqrt(nx**2 + (ny - tilt * nx) ** 2 + nz**2)
            for value in length[(length > 0) & (length <= largest)].tolist():
                key = (round(speed * wave_number * value, 9), transverse)
                found[key] = found.get(key, 0) + (2 if transverse else 1)
        return tuple(PhononBand(omega, degeneracy, kind) for (omega, kind), degeneracy in sorted(found.items()))


@dataclass(frozen=True)
class DensityOfStates:
    """Density of modes per frequency, normalised to one over all 3 N modes of a glass.

    Args:
        edges: ((B + 1,) tuple) bin edges.
        counts: ((B,) tuple) modes in each bin, over all realisations.
        density: counts / (3 N realisations width).
        low, high: Poisson (one standard deviation) interval of the density.
        n_particles: N.
        n_realisations: realisations that were counted.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    density: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n_particles: int
    n_realisations: int

    @property
    def centres(self) -> Floats:
        """((B,) ndarray) geometric centres of the bins."""
        edges_b = np.asarray(self.edges)
        return np.asarray(np.sqrt(edges_b[1:] * edges_b[:-1]))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return {
            "edges": list(self.edges),
            "counts": list(self.counts),
            "density": list(self.density),
            "low": list(self.low),
            "high": list(self.high),
            "n_particles": self.n_particles,
            "n_realisations": self.n_realisations,
        }

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw the occupied bins with their counting errors on logarithmic axes.

        Args:
            ax: where to draw; a new figure by default.
            style: passed to ``Axes.errorbar``.

        Returns:
            The axes.
        """
        ax = new_axes() if ax is None else ax
        # A difference of densities may be negative, which no logarithmic axis shows.
        occupied_b = (np.asarray(self.counts) > 0) & (np.asarray(self.density) > 0)
        density, low, high = (np.asarray(values)[occupied_b] for values in (self.density, self.low, self.high))
        style = {"fmt": "o", **style}
        ax.errorbar(self.centres[occupied_b], density, yerr=(density - np.maximum(low, 0.0), high - density), **style)
        ax.set(xscale="log", yscale="log", xlabel=r"frequency $\omega$", ylabel=r"$D_L(\omega)$")
        return ax


@dataclass(frozen=True)
class SpectrumFit:
    """The exponent of D_L(omega) ~ omega^alpha for omega below a cut-off.

    Args:
        exponent: maximum likelihood with the interval of the bootstrap over realisations: the one to quote.
        likelihood: the same estimate with the error (1 + alpha) / sqrt(n) of n independent modes.
        n_modes: modes in the window.
    """

    exponent: Exponent
    likelihood: Exponent
    n_modes: int

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return {
            "exponent": self.exponent.to_dict(),
            "likelihood": self.likelihood.to_dict(),
            "n_modes": self.n_modes,
        }


@dataclass(frozen=True)
class CutoffScan:
    """alpha for a range of windows: the robustness check of App. H.

    Args:
        lower, upper: ends of each window.
        alpha: maximum-likelihood estimate in it.
        error: its standard error.
        n_modes: modes in it.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    alpha: tuple[float, ...]
    error: tuple[float, ...]
    n_modes: tuple[int, ...]


def default_participation_threshold(n_particles: int) -> float:
    """Participation ratio e_c above which a mode counts as a phonon, where the user sets none: min(2000 / N, 1 / 3).

    The paper's two thresholds are one participation number, N e_c = 2000. Below N = 6000 that would exceed half the
    participation ratio 2/3 of a standing plane wave, and soon filter nothing; there half of 2/3 separates the two kinds of
    modes. In rapidly quenched glasses of N = 500 to 2000 (124 samples) hardly a mode below omega = 1 exceeds 1/3 (1 of about
    140; at N = 500 one in six exceeds 1/4), while the middle half of those at the first phonon has 0.35 to 0.48. The paper
    found its results robust to changes of e_c by 20 %; the report repeats that check.
    """
    return min(PAPER_PARTICIPATION_NUMBER / n_particles, PLANE_WAVE / 2)


def phonons(shear_modulus: float, bulk_modulus: float, density: float, n_particles: int) -> Phonons:
    """Plane waves of a glass from its elastic moduli.

    Args:
        shear_modulus: G [energy / length^3], positive.
        bulk_modulus: K [energy / length^3], positive.
        density: number density, which is the mass density too (m = 1) [1 / length^3].
        n_particles: N, for the box length.

    Raises:
        ValueError: if an argument is not positive.
    """
    if not min(shear_modulus, bulk_modulus, density, n_particles) > 0:
        raise ValueError(f"{shear_modulus=:g}, {bulk_modulus=:g}, {density=:g}, {n_particles=}; expected positive numbers.")
    transverse = np.sqrt(shear_modulus / density)
    longitudinal = np.sqrt((bulk_modulus + 4 * shear_modulus / 3) / density)
    return Phonons(
        transverse_speed=float(transverse),
        longitudinal_speed=float(longitudinal),
        debye_frequency=float(np.cbrt(18 * np.pi**2 * density / (2 / transverse**3 + 1 / longitudinal**3))),
        first_frequency=float(transverse * 2 * np.pi * np.cbrt(density / n_particles)),
    )


def density_of_states(
    frequencies: ArrayLike, *, n_particles: int, n_realisations: int, omega_max: float, bins_per_decade: int = 12
) -> DensityOfStates:
    """D_L(omega) = counts / (3 N realisations d omega) in logarithmic bins that end at ``omega_max``.

    Args:
        frequencies: ((n,) array) modes of all realisations together; those that are not in (0, ``omega_max``] are left out.
        n_particles: N.
        n_realisations: realisations the modes come from, those without a mode included.
        omega_max: up to where every realisation's modes are known.
        bins_per_decade: of the frequency.

    Raises:
        ValueError: if no mode is in the range.
    """
    omega_m = np.asarray(frequencies, dtype=np.float64)
    omega_m = omega_m[(omega_m > 0) & (omega_m <= omega_max)]
    if omega_m.size == 0:
        raise ValueError(f"no mode in 0 < omega <= {omega_max:g}.")
    n_bins = int(np.floor(np.log10(omega_max / omega_m.min()) * bins_per_decade)) + 1
    edges_b = omega_max * 10.0 ** (np.arange(-n_bins, 1) / bins_per_decade)
    counts_b = np.histogram(omega_m, bins=edges_b)[0]
    states = 3.0 * n_particles * n_realisations * np.diff(edges_b)
    low_b, high_b = poisson_interval(counts_b)
    return DensityOfStates(
        edges=tuple(edges_b.tolist()),
        counts=tuple(counts_b.tolist()),
        density=tuple((counts_b / states).tolist()),
        low=tuple((low_b / states).tolist()),
        high=tuple((high_b / states).tolist()),
        n_particles=n_particles,
        n_realisations=n_realisations,
    )


def excess_density(
    frequencies: ArrayLike,
    plane_waves: Phonons,
    *,
    n_particles: int,
    n_realisations: int,
    omega_max: float,
    bins_per_decade: int = 6,
) -> DensityOfStates:
    """D_G(omega) = D - D_Debye: modes beyond the plane waves, hybridised ones included, without any filter.

    Source: Lerner, Moriel, Bouchbinder, arXiv:2404.12735. The Debye level is that of a large solid; a bin should hold
    several bands of phonons (:meth:`Phonons.bands`), and below the first band D_G comes out too low by the Debye level. The
    intervals are those of counting; an error of the sound speeds, which enter as their third power, comes on top.

    Args:
        frequencies: all modes of all realisations together, phonons included.
        plane_waves: of the solid.
        n_particles: N.
        n_realisations: realisations the modes come from, those without a mode included.
        omega_max: up to where every realisation's modes are known.
        bins_per_decade: of the frequency.

    Raises:
        ValueError: if no mode is in the range.
    """
    everything = density_of_states(
        frequencies,
        n_particles=n_particles,
        n_realisations=n_realisations,
        omega_max=omega_max,
        bins_per_decade=bins_per_decade,
    )
    edges_b = np.asarray(everything.edges)
    debye_b = np.diff(edges_b**3) / plane_waves.debye_frequency**3 / np.diff(edges_b)
    return replace(
        everything,
        density=tuple((np.asarray(everything.density) - debye_b).tolist()),
        low=tuple((np.asarray(everything.low) - debye_b).tolist()),
        high=tuple((np.asarray(everything.high) - debye_b).tolist()),
    )


def alpha_from_spectrum(
    frequencies: Sequence[ArrayLike],
    omega_max: float,
    *,
    confidence: float = 0.95,
    warnings: Sequence[str] = (),
) -> SpectrumFit:
    """The exponent of D_L(omega) ~ omega^alpha on 0 < omega <= ``omega_max`` by maximum likelihood.

    With n modes below the cut-off alpha = -1 - n / sum ln(omega / omega_max). No bins are involved.

    Args:
        frequencies: for each realisation its quasi-localised modes ((n,) array each, empty where there are none).
        omega_max: cut-off, up to which every realisation's modes are known.
        confidence: probability content of the intervals.
        warnings: to be carried by the result.

    Raises:
        InsufficientStatistics: with fewer than 50 modes in the window or 20 realisations; the estimate, if any, is inside.
    """
    depth_rm = [np.log(omega_max / _inside(values, 0.0, omega_max)) for values in frequencies]
    count_r = np.array([depth_m.size for depth_m in depth_rm], dtype=np.float64)
    depth_r = np.array([depth_m.sum() for depth_m in depth_rm])
    n_modes, n_realisations = int(count_r.sum()), len(depth_rm)
    reasons = []
    if n_modes < MIN_MODES:
        reasons.append(f"{n_modes} modes below omega = {omega_max:.3g} where at least {MIN_MODES} are needed")
    if n_realisations < MIN_REALISATIONS:
        reasons.append(f"{n_realisations} realisations where at least {MIN_REALISATIONS} are needed")
    if n_modes < 2 or depth_r.sum() == 0:
        raise InsufficientStatistics("; ".join(reasons))

    def estimate(count: Floats, depth: Floats, axis: int = -1) -> Floats:
        return np.asarray(count.sum(axis=axis) / depth.sum(axis=axis) - 1.0)

    alpha = float(estimate(count_r, depth_r))
    low, high, method = bootstrap_interval([count_r, depth_r], estimate, paired=True, confidence=confidence)
    reach = float(stats.norm.ppf(0.5 + confidence / 2) * (1 + alpha) / np.sqrt(n_modes))
    window = (0.0, float(omega_max))
    result = SpectrumFit(
        exponent=Exponent(
            "alpha",
            alpha,
            low,
            high,
            confidence,
            f"maximum likelihood on {n_modes} modes of the filtered spectrum, {method} bootstrap over realisations",
            n_realisations,
            window,
            tuple(warnings),
        ),
        likelihood=Exponent(
            "alpha",
            alpha,
            alpha - reach,
            alpha + reach,
            confidence,
            f"maximum likelihood on {n_modes} modes of the filtered spectrum taken as independent",
            n_realisations,
            window,
        ),
        n_modes=n_modes,
    )
    if reasons:
        raise InsufficientStatistics("; ".join(reasons), result)
    return result


def window_scan(frequencies: ArrayLike, windows: Sequence[tuple[float, float]]) -> CutoffScan:
    """Maximum-likelihood alpha in each of ``windows``, for a power law that is cut at both ends (App. H).

    Args:
        frequencies: ((n,) array) modes of all realisations together.
        windows: (lower, upper) ends, lower >= 0. Windows with fewer than 10 modes are left out.
    """
    rows = []
    for lower, upper in windows:
        omega_m = _inside(frequencies, lower, upper)
        if omega_m.size >= 10:
            rows.append((lower, upper, *_truncated_power_law(omega_m, lower, upper), omega_m.size))
    columns = tuple(zip(*rows, strict=True)) or ((),) * 5
    return CutoffScan(*columns)


def _inside(values: ArrayLike, lower: float, upper: float) -> Floats:
    values_m = np.asarray(values, dtype=np.float64)
    return values_m[(values_m > lower) & (values_m <= upper)]


def _truncated_power_law(omega_m: Floats, lower: float, upper: float) -> tuple[float, float]:
    """The exponent alpha and its standard error from modes with lower < omega <= upper.

    x = ln(omega / upper) has the density p e^(p x) / (1 - e^(p a)) on (a, 0) with p = 1 + alpha and a = ln(lower / upper): an
    exponential family, whose likelihood is largest where the expectation of x is its mean; its information is the variance.
    """
    mean = float(np.mean(np.log(omega_m / upper)))
    if lower == 0.0:
        p = -1.0 / mean
        return p - 1.0, float(p / np.sqrt(omega_m.size))
    a = float(np.log(lower / upper))

    # In z = p a; both have a removable singularity at z = 0 (a flat distribution of x), bridged by their series.
    def expectation(z: float) -> float:
        return a * (0.5 + z / 12.0) if abs(z) < 1e-4 else a * (1.0 / -np.expm1(-z) - 1.0 / z)

    def variance(z: float) -> float:
        return a**2 / 12.0 if abs(z) < 1e-3 else a**2 * (1.0 / z**2 - 1.0 / (4.0 * np.sinh(z / 2.0) ** 2))

    z = float(optimize.brentq(lambda z: expectation(z) - mean, -600.0, 600.0))
    return z / a - 1.0, float(1.0 / np.sqrt(omega_m.size * variance(z)))
