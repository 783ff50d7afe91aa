"""The low-frequency plane waves of an elastic cube: speeds of sound, phonon bands, the Debye level.

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
        degeneracy: number of them; two polarisations each where they are transverse.
        transverse: whether they are transverse, else longitudinal.
    """

    frequency: float
    degeneracy: int
    transverse: bool


@dataclass(frozen=True, repr=False)
class Phonons(Displayed):
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


def phonons(shear_modulus: float, bulk_modulus: float, density: float, n_particles: int) -> Phonons:
    """Plane waves of a glass from its elastic moduli.

    Args:
        shear_modulus: G [energy / length^3], positive.
        bulk_modulus: K [energy / length^3], positive.
        density: number density, which is the mass density too (m = 1) [1 / length^3].
        n_particles: N, for the box length.

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
    longitudinal = np.sqrt((bulk_modulus + 4 * shear_modulus / 3) / density)
    return Phonons(
        transverse_speed=float(transverse),
        longitudinal_speed=float(longitudinal),
        debye_frequency=float(np.cbrt(18 * np.pi**2 * density / (2 / transverse**3 + 1 / longitudinal**3))),
        first_frequency=float(transverse * 2 * np.pi * np.cbrt(density / n_particles)),
    )
