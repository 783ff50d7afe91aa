"""The low-frequency plane waves of an elastic cube, or square: speeds of sound, phonon bands, the Debye level.

Frequencies are in units of sqrt(epsilon / m) / length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from qlm_hoomd.base.display import Displayed
from qlm_hoomd.statistics.errors import Floats

PLANE_WAVE = 2.0 / 3.0
"""Participation ratio of a standing plane wave, 1 / <(2 sin^2)^2>."""
PHONON_MARGIN = 0.9
"""The window ends at this fraction of the first phonon frequency, for disorder broadens the band."""


@dataclass(frozen=True, repr=False)
class PhononBand(Displayed):
    """Plane waves of one frequency.

    Args:
        frequency: c k [1 / t_c].
        degeneracy: number of them; two polarisations each where they are transverse, one in two dimensions.
        transverse: whether they are transverse, else longitudinal.
    """

    frequency: float
    degeneracy: int
    transverse: bool


@dataclass(frozen=True, repr=False)
class Phonons(Displayed):
    """The low-frequency plane waves of an elastic cube, or of a square in two dimensions.

    Args:
        transverse_speed, longitudinal_speed: c_s = sqrt(G / rho), c_l = sqrt((K + (2 - 2/d) G) / rho).
        debye_frequency: omega_D, where D(omega) = d omega^(d-1) / omega_D^d is normalised to one over all d N modes.
        first_frequency: c_s 2 pi / L, of the lowest transverse band.
        dimensions: d, 2 or 3.
    """

    transverse_speed: float
    longitudinal_speed: float
    debye_frequency: float
    first_frequency: float
    dimensions: int = 3

    def debye_density(self, omega: ArrayLike) -> Floats:
        """The Debye level d omega^(d-1) / omega_D^d at ``omega`` (array of any shape)."""
        d = self.dimensions
        return d * np.asarray(omega, dtype=np.float64) ** (d - 1) / self.debye_frequency**d

    def debye_share(self, edges: Floats) -> Floats:
        """((B,) ndarray) share of all modes that the Debye level has between neighbouring ``edges`` ((B + 1,) ndarray)."""
        return np.diff(edges**self.dimensions) / self.debye_frequency**self.dimensions

    def bands(self, omega_max: float, strain: float = 0.0) -> tuple[PhononBand, ...]:
        """The bands up to ``omega_max``, by frequency, of the cube or square under the simple shear ``strain``.

        The waves that fit into a box of lattice vectors (L, 0, 0), (gamma L, L, 0), (0, 0, L) have
        k = 2 pi / L (n_x, n_y - gamma n_x, n_z): shear splits the bands of the cube. A square has n_z = 0. The solid counts
        as isotropic.
        """
        wave_number = self.first_frequency / self.transverse_speed
        tilt = strain - round(strain)
        found: dict[tuple[float, bool], int] = {}
        for transverse, speed in ((True, self.transverse_speed), (False, self.longitudinal_speed)):
            largest = omega_max / (speed * wave_number)
            n = np.arange(-int(1.5 * largest) - 1, int(1.5 * largest) + 2)
            nx, ny, nz = np.meshgrid(n, n, n if self.dimensions == 3 else [0], indexing="ij")
            length = np.sqrt(nx**2 + (ny - tilt * nx) ** 2 + nz**2)
            for value in length[(length > 0) & (length <= largest)].tolist():
                key = (round(speed * wave_number * value, 9), transverse)
                found[key] = found.get(key, 0) + (self.dimensions - 1 if transverse else 1)
        return tuple(PhononBand(omega, degeneracy, kind) for (omega, kind), degeneracy in sorted(found.items()))


def phonons(shear_modulus: float, bulk_modulus: float, density: float, n_particles: int, dimensions: int = 3) -> Phonons:
    """Plane waves of a glass from its elastic moduli.

    Args:
        shear_modulus: G [energy / length^d], positive.
        bulk_modulus: K [energy / length^d], positive.
        density: number density, which is the mass density too (m = 1) [1 / length^d].
        n_particles: N, for the box length.
        dimensions: d, 2 or 3.

    Raises:
        ValueError: if an argument is not positive.

    Examples:
        >>> waves = phonons(shear_modulus=10.0, bulk_modulus=90.0, density=0.82, n_particles=2000)
        >>> waves.bands(2.0)[0]
        <PhononBand: frequency = 1.63005, degeneracy = 12, transverse = yes>
    """
    if not min(shear_modulus, bulk_modulus, density, n_particles) > 0:
        raise ValueError(f"{shear_modulus=:g}, {bulk_modulus=:g}, {density=:g}, {n_particles=}; expected positive numbers.")
    transverse = np.sqrt(shear_modulus / density)
    if dimensions == 2:
        longitudinal = np.sqrt((bulk_modulus + shear_modulus) / density)
        return Phonons(
            transverse_speed=float(transverse),
            longitudinal_speed=float(longitudinal),
            debye_frequency=float(np.sqrt(8 * np.pi * density / (1 / transverse**2 + 1 / longitudinal**2))),
            first_frequency=float(transverse * 2 * np.pi * np.sqrt(density / n_particles)),
            dimensions=2,
        )
    longitudinal = np.sqrt((bulk_modulus + 4 * shear_modulus / 3) / density)
    return Phonons(
        transverse_speed=float(transverse),
        longitudinal_speed=float(longitudinal),
        debye_frequency=float(np.cbrt(18 * np.pi**2 * density / (2 / transverse**3 + 1 / longitudinal**3))),
        first_frequency=float(transverse * 2 * np.pi * np.cbrt(density / n_particles)),
    )
