"""What of a glass is diagonalised: it at rest, its rattlers counted, and left out on request."""

# Array names carry their axes: m modes, n particles, c Cartesian components, p pairs.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd.base.errors import ConvergenceError, InputError
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import Mechanics, bonds_of
from qlm_hoomd.minimize import descent, newton
from qlm_hoomd.minimize.surface import max_norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.mechanics import Bonds
    from qlm_hoomd.potentials import PairPotential

# Eigenvalues below this part of the largest are zero to the rounding of a float64 Hessian.
_ZERO = 1e-10


def rattlers(bonds: Bonds) -> NDArray[np.bool_]:
    """((N,) ndarray of bool) particles with fewer than d + 1 contacts, those with other rattlers not counted.

    Contacts alone hold a particle from d + 1 on, four in three dimensions. A contact is a pair that pushes or pulls. Only short-ranged potentials leave a particle with so few.
    """
    held_n = np.ones(bonds.n_particles, dtype=np.bool_)
    i_p, j_p = bonds.i_p[bonds.phi_kp[1] != 0.0], bonds.j_p[bonds.phi_kp[1] != 0.0]
    while True:
        alive_p = held_n[i_p] & held_n[j_p]
        contacts_n = np.bincount(i_p[alive_p], minlength=len(held_n)) + np.bincount(j_p[alive_p], minlength=len(held_n))
        loose_n = held_n & (contacts_n < bonds.dimensions + 1)
        if not loose_n.any():
            return ~held_n
        held_n &= ~loose_n


def at_rest(
    glass: Glass,
    potential: PairPotential,
    *,
    force_tolerance: float,
    as_is: bool = False,
    falling: Callable[[int, float], None] | None = None,
) -> tuple[Glass, str, float]:
    """The glass at rest, how it was brought there, and the largest force it had.

    The way is "newton" or "descent+newton", and empty where it was at rest.

    Args:
        glass: the configuration.
        potential: its pair potential.
        force_tolerance: largest force of a glass at rest [energy / length].
        as_is: refuse a glass that is not at rest, instead of relaxing it.
        falling: is told steps and max|F| of a descent, before the first step and after each; what it raises ends the descent.

    Raises:
        InputError: if the glass is not at rest and ``as_is``, or two particles are at the same place.
        ConvergenceError: if it cannot be relaxed.
    """
    mechanics = Mechanics(potential, glass.typeid, sizes=glass.sizes)
    found = max_norm(mechanics.energy_forces(glass.positions, glass.box)[1])
    if not np.isfinite(found):
        raise InputError("forces are not finite; expected no two particles at the same place.")
    if found <= force_tolerance:
        return glass, "", found
    if as_is:
        raise InputError(
            f"max|F| = {found:.3g}; expected at most {force_tolerance:g} with --as-is (float32 positions alone leave about "
            "1e-4). Leave --as-is out to relax it, or raise --force-tolerance."
        )
    tolerance = 0.01 * force_tolerance
    try:
        rest, report = newton(mechanics, glass, tolerance=tolerance)
    except ConvergenceError:
        # No minimum close by: a liquid, say. Its inherent structure is where steepest descent leads.
        rest, report = descent(mechanics, glass, tolerance=tolerance, falling=falling)
    return rest, report.method, found


@dataclass(frozen=True, eq=False)
class Standing:
    """A glass at rest and the Hessian of its particles, of all or of those that are held.

    Args:
        glass: all particles.
        bonds: the interacting pairs of all particles.
        hessian: the Hessian of those that are kept.
        rattler_n: ((N,) ndarray of bool) particles with too few contacts to be held.
        kept_n: ((N,) ndarray of bool) particles in the Hessian.
    """

    glass: Glass
    bonds: Bonds
    hessian: Hessian
    rattler_n: NDArray[np.bool_]
    kept_n: NDArray[np.bool_]

    @property
    def n_rattlers(self) -> int:
        """Number of rattlers, in the Hessian or not."""
        return int(self.rattler_n.sum())

    @property
    def removed(self) -> bool:
        """Whether there are rattlers and they were left out."""
        return not self.kept_n.all()

    @property
    def held(self) -> Glass:
        """The glass without the particles that were left out."""
        if not self.removed:
            return self.glass
        return self.glass.among(self.kept_n)

    def embedded(self, vectors_mnc: NDArray[np.float64]) -> NDArray[np.float64]:
        """((M, N, 3) ndarray) vectors of the kept particles for all of them; the others do not move."""
        if not self.removed:
            return vectors_mnc
        out_mnc = np.zeros((len(vectors_mnc), len(self.kept_n), 3))
        out_mnc[:, self.kept_n] = vectors_mnc
        return out_mnc

    def signs(self, eigenvalue_m: NDArray[np.float64]) -> tuple[int, int]:
        """How many of these eigenvalues are negative, and how many zero to rounding."""
        zero = _ZERO * self.hessian.bonds.largest_eigenvalue()
        return int((eigenvalue_m < -zero).sum()), int((np.abs(eigenvalue_m) <= zero).sum())

    def no_solid(self, n_negative: int, n_modes: int) -> str:
        """Why this is no solid, with so many negative of so many lowest eigenvalues; empty where it may be one."""
        reasons = (
            [f"{self.n_rattlers} of its {len(self.rattler_n)} particles are rattlers"] if self.rattler_n.mean() > 0.5 else []
        )
        if n_negative == n_modes:
            reasons.append(f"all {n_negative} of its lowest eigenvalues are negative")
        return " and ".join(reasons)


def standing(
    glass: Glass, potential: PairPotential, *, remove_rattlers: bool = False, force_tolerance: float = 1e-8
) -> Standing:
    """A glass at rest, ready to be diagonalised.

    Args:
        glass: the glass.
        potential: its pair potential.
        remove_rattlers: leave particles with fewer than d + 1 contacts out of the Hessian.
        force_tolerance: largest force of a glass at rest [energy / length].

    Raises:
        InputError: if it is not at rest, or every particle is a rattler.
    """

    def hessian_of(particles: Glass) -> Hessian:
        return Hessian(potential, order=4, force_tolerance=force_tolerance).compute(particles)

    hessian = hessian_of(glass)
    rattler_n = rattlers(hessian.bonds)
    if rattler_n.all():
        raise InputError(
            f"every particle is a rattler, with fewer than {('three', 'four')[glass.box.dimensions - 2]} contacts; expected a "
            "solid. Is it the potential of these "
            "particles, and as dense as it should be?"
        )
    if not (remove_rattlers and rattler_n.any()):
        return Standing(glass, hessian.bonds, hessian, rattler_n, np.ones_like(rattler_n))
    kept_n = ~rattler_n
    # A rattler may lean on the others within the tolerance.
    held = at_rest(glass.among(kept_n), potential, force_tolerance=force_tolerance)[0]
    positions_nc = glass.positions.copy()
    positions_nc[kept_n] = held.positions
    whole = glass.moved(positions_nc)
    return Standing(whole, bonds_of(whole, potential, 4), hessian_of(held), rattler_n, kept_n)
