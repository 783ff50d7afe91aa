"""Velocity Verlet with stochastic velocity rescaling, for potentials whose law is compiled into the loop, and for all others.

The thermostat is that of Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007). Both ways make the same steps: those of
one differ from those of the other by the rounding of sums. A run goes on from its state in the same bytes.
"""

# Array names carry their axes: n particles, c Cartesian components, k steps, t pairs of types.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.numerics import cells, dynamics, steps
from qlm_hoomd.numerics.jit import machine_code
from qlm_hoomd.numerics.neighbors import check_box, known_types

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.numerics.laws import ScaledLaw
    from qlm_hoomd.potentials import PairPotential

    Floats = NDArray[np.float64]

# Where the potential is evaluated apart from the loop; measured best at T = 1 for N = 500 and 4000.
_WIDE_SKIN = 0.6
# In units of sqrt(thermal velocity * time step * cut-off), the balance of what a wider list and an older one cost; flat
# within a third of it for N = 2000 and 16000, T = 0.3 and 1. In units of the cut-off, what it is never below or beyond.
_SKIN, _SMALLEST_SKIN, _LARGEST_SKIN = 1.9, 0.03, 0.3


class Noise(NamedTuple):
    """What the thermostat is told for each step: the target temperature and its random numbers."""

    target_k: Floats
    first_k: Floats
    others_k: Floats

    @classmethod
    def drawn(cls, target_k: Floats, n_free: int, rng: np.random.Generator) -> Noise:
        """A normal number and the sum of the squares of ``n_free`` - 1 more, step after step."""
        first_k, others_k = np.empty(len(target_k)), np.empty(len(target_k))
        for k in range(len(target_k)):
            first_k[k] = rng.standard_normal()
            others_k[k] = rng.chisquare(n_free - 1)
        return cls(target_k, first_k, others_k)


class Steps(NamedTuple):
    """What is known of each step: energy U, trace of the virial (where they were measured), and sum v^2."""

    energy_k: Floats
    virial_k: Floats
    square_k: Floats


class Motion(Protocol):
    """Particles in motion."""

    def advance(self, noise: Noise, measured_k: NDArray[np.bool_], virial_k: NDArray[np.bool_]) -> Steps:
        """Make so many steps; the energy is measured where the one says so, the virial where the other does."""

    def state(self) -> tuple[Floats, Floats, Any]:
        """Positions and velocities ((N, 3) ndarrays), and what else it takes to go on in the same bytes."""


def motion(
    potential: PairPotential, glass: Glass, positions_nc: Floats, velocities_nc: Floats, memory: Any, *,
    temperature: float, dt: float, keep: float,
) -> Motion:  # fmt: skip
    """Particles that are about to move, by the quickest way that the potential allows."""
    law = potential.scaled_law()
    if law is None:
        return SeparateForces(potential, glass, positions_nc, velocities_nc, memory, dt=dt, keep=keep)
    return CompiledForces(potential, law, glass, positions_nc, velocities_nc, memory, temperature=temperature, dt=dt, keep=keep)


class SeparateForces:
    """Steps with forces of any potential, evaluated by :class:`~qlm_hoomd.mechanics.Mechanics`.

    Args:
        potential: the pair potential.
        glass: gives types and box.
        positions_nc: ((N, 3) ndarray) positions, in any periodic image [length]; not changed.
        velocities_nc: ((N, 3) ndarray) velocities [length / t_c]; not changed.
        memory: what :meth:`state` gave beside them, or None.
        dt: time step [t_c].
        keep: share of the kinetic energy that the thermostat keeps in a step, exp(-dt/tau).
    """

    def __init__(
        self, potential: PairPotential, glass: Glass, positions_nc: Floats, velocities_nc: Floats, memory: Any, *,
        dt: float, keep: float,
    ) -> None:  # fmt: skip
        self._mechanics = Mechanics(potential, glass.typeid, _WIDE_SKIN, glass.sizes)
        self._box, self._dt, self._keep = glass.box, dt, keep
        self._positions_nc, self._velocities_nc = positions_nc.copy(), velocities_nc.copy()
        self._mechanics.recall(memory)
        _, self._force_nc = self._mechanics.energy_forces(self._positions_nc, self._box)

    def advance(self, noise: Noise, measured_k: NDArray[np.bool_], virial_k: NDArray[np.bool_]) -> Steps:
        """See :class:`Motion`."""
        del measured_k
        out = Steps(*np.zeros((3, len(noise.target_k))))
        for k, (target, first, others) in enumerate(zip(*noise, strict=True)):
            steps.kick_and_drift(self._positions_nc, self._velocities_nc, self._force_nc, 0.5 * self._dt, self._dt)
            out.energy_k[k], self._force_nc = self._mechanics.energy_forces(self._positions_nc, self._box)
            square = float(steps.kick(self._velocities_nc, self._force_nc, 0.5 * self._dt))
            factor = dynamics.rescaling(square, target, self._keep, first, others)
            self._velocities_nc *= factor
            out.square_k[k] = factor**2 * square
            if virial_k[k]:
                out.virial_k[k] = np.trace(self._mechanics.bonds(self._positions_nc, self._box, 1).virial)
        return out

    def state(self) -> tuple[Floats, Floats, Any]:
        """See :class:`Motion`; the rest is for which positions and box the neighbour candidates were found."""
        return self._positions_nc.copy(), self._velocities_nc.copy(), self._mechanics.memory


class CompiledForces:
    """Steps with the law of force compiled into the loop.

    Args:
        potential: the pair potential.
        law: its law.
        glass: gives types and box.
        positions_nc: ((N, 3) ndarray) positions, in any periodic image [length]; not changed.
        velocities_nc: ((N, 3) ndarray) velocities [length / t_c]; not changed.
        memory: what :meth:`state` gave beside them, or None.
        temperature: at the start [energy / k_B].
        dt: time step [t_c].
        keep: share of the kinetic energy that the thermostat keeps in a step, exp(-dt/tau).
    """

    def __init__(
        self, potential: PairPotential, law: ScaledLaw, glass: Glass, positions_nc: Floats, velocities_nc: Floats, memory: Any, *,
        temperature: float, dt: float, keep: float,
    ) -> None:  # fmt: skip
        cutoffs_tt = potential.cutoffs()
        self._sizes = potential.sizes_of(glass.sizes, glass.n_particles)
        self._typeid_n = known_types(cutoffs_tt, glass.typeid, self._sizes)
        self._mixing = None if self._sizes is None else self._sizes.mixing
        self._cutoff = potential.reach(glass.sizes)
        check_box(glass.box, self._cutoff)
        self._dt, self._keep = dt, keep
        self._cutoff_t = cutoffs_tt.ravel()
        self._lattice = cells.lattice_of(glass.box)
        types = tuple(range(len(cutoffs_tt)))
        self._law = dynamics.Forces(types, law.inverse_length2, law.function, law.constants, law.cutoff2)
        self._energy_t = law.energy
        self._steps: Any = None
        positions_nc = positions_nc.copy()
        if memory is None:
            skin = float(self._skins(np.array([temperature]))[0])
            reference_nc = dynamics.expect(positions_nc, velocities_nc, np.zeros_like(positions_nc), self._lattice, skin)
        else:
            reference_nc, skin = memory
        self._particles = dynamics.arranged(
            reference_nc, skin, positions_nc, velocities_nc, self._typeid_n, self._cutoff_t, self._lattice, self._sizes
        )
        dynamics.add_up_forces(self._particles, self._lattice, self._law, self._energy_t, self._mixing, None)

    def _skins(self, temperature_k: Floats) -> Floats:
        """What skin a list that is made in a step gets: a rule, and no measurement, so that runs can be repeated to the last bit."""
        cutoff = self._cutoff
        skin_k = _SKIN * np.sqrt(np.sqrt(3.0 * temperature_k) * self._dt * cutoff)
        return np.clip(skin_k, _SMALLEST_SKIN * cutoff, _LARGEST_SKIN * cutoff)

    def advance(self, noise: Noise, measured_k: NDArray[np.bool_], virial_k: NDArray[np.bool_]) -> Steps:
        """See :class:`Motion`; where the energy is measured the virial is too."""
        out_k3, skin_k, n_steps = np.zeros((len(noise.target_k), 3)), self._skins(noise.target_k), len(noise.target_k)
        rest = self._dt, self._keep, *noise, measured_k | virial_k, out_k3
        done, drifted = 0, False
        while True:
            arguments = self._particles, self._lattice, self._law, self._energy_t, self._mixing, done, drifted, *rest
            if self._steps is None:
                self._steps = machine_code(dynamics.advance, *arguments)
            done = self._steps(*arguments)
            if done == n_steps:
                break
            self._particles = dynamics.rearranged(
                self._particles, float(skin_k[done]), self._typeid_n, self._cutoff_t, self._lattice, self._sizes
            )
            drifted = True
        return Steps(*out_k3.T)

    def state(self) -> tuple[Floats, Floats, Any]:
        """See :class:`Motion`; the rest is for which positions the lists were made, and with what skin."""
        particles = self._particles
        positions_nc, velocities_nc, reference_nc = (
            dynamics.in_own_order(particles.order_s, some)
            for some in (particles.rows, particles.velocities, particles.reference)
        )
        return positions_nc, velocities_nc, (reference_nc, float(particles.skin))
