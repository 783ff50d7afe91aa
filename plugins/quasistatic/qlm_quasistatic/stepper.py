"""One step of athermal quasi-static shear: affine shear, relaxation, and what came of it."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.engines.base import Engine, Observables
    from qlm_hoomd.glass import Glass

# A largest non-affine velocity above this many box lengths is no elastic branch, and nothing to extrapolate.
_LARGEST_ELASTIC_Q = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class ShearState:
    """A glass at rest on its way through strain. A plain value: keeping one is the rewind.

    Args:
        glass: the state, at a minimum.
        observables: energy per particle, stress, pressure, largest force.
        velocity: ((N, 3) ndarray) dr'/dgamma, the non-affine displacement per strain of the step that led here [length];
            None at the start and after an instability.
    """

    glass: Glass
    observables: Observables
    velocity: NDArray[np.float64] | None = None

    @property
    def strain(self) -> float:
        """Accumulated strain."""
        return self.glass.strain


@dataclass(frozen=True, slots=True, eq=False)
class ShearStep:
    """A step from one state at rest to the next.

    Args:
        before: state at the lower strain.
        after: state at the higher strain.
        q: Q = max|dr'| / (L dgamma), of order one where the response is elastic (the paper, App. F).
        force_evaluations: force evaluations that the relaxation took.
    """

    before: ShearState
    after: ShearState
    q: float
    force_evaluations: int

    @property
    def increment(self) -> float:
        """Strain increment dgamma."""
        return self.after.strain - self.before.strain


class Stepper:
    """Makes strain steps with an engine.

    Args:
        engine: relaxes the sheared glass.
        tolerance: largest force of a state at rest [energy / length].
    """

    def __init__(self, engine: Engine, tolerance: float = 1e-10) -> None:
        self._engine = engine
        self._tolerance = tolerance

    def start(self, glass: Glass) -> ShearState:
        """The state to start from.

        Raises:
            InputError: if the glass is not at a minimum to the tolerance.
        """
        observables = self._engine.measure(glass)
        # Ten times the tolerance: the same state evaluated by another engine or another build rounds differently.
        if not observables.max_force < 10.0 * self._tolerance:
            raise InputError(
                f"the glass at strain {glass.strain:g} has max|F| = {observables.max_force:.3g}; expected less than "
                f"{10.0 * self._tolerance:g}. Relax it first (Engine.relax)."
            )
        return ShearState(glass, observables)

    def step(self, state: ShearState, strain: float) -> ShearStep:
        """Shear ``state`` affinely to the accumulated ``strain`` and relax it.

        The non-affine velocity of the last step gives the first guess. Where the minimum is not found from there, the engine
        starts again from the affinely sheared state, so the guess never decides where an instability leads.

        Raises:
            InputError: if the strain is that of the state already.
            ConvergenceError: if the relaxation fails.
        """
        increment = strain - state.strain
        if increment == 0.0:
            raise InputError(f"strain increment = 0 at strain {strain:g}; expected a step.")
        affine = state.glass.at_strain(strain)
        guess_nc = None if state.velocity is None else affine.positions + increment * state.velocity
        glass, report = self._engine.relax(affine, tolerance=self._tolerance, guess=guess_nc)
        displacement_nc = glass.nonaffine_displacement(state.glass)
        # Uniform translations cost nothing and mean nothing.
        displacement_nc -= displacement_nc.mean(axis=0)
        largest = float(np.sqrt(np.einsum("nc,nc->n", displacement_nc, displacement_nc).max()))
        q = largest / (glass.box.length * abs(increment))
        velocity_nc = displacement_nc / increment if q < _LARGEST_ELASTIC_Q else None
        after = ShearState(glass, self._engine.measure(glass), velocity_nc)
        return ShearStep(state, after, q, report.force_evaluations)
