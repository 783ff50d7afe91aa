"""One step of athermal quasi-static shear: affine shear, relaxation, and what came of it."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qlm_hoomd.display import Displayed
from qlm_hoomd.engines.base import check_after_event
from qlm_hoomd.errors import BasinLost, InputError
from qlm_hoomd.minimize.surface import max_norm, without_drift
from qlm_hoomd.model import PARAMETERS
from qlm_quasistatic.predictor import Branch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.checkpoint import Waypoint
    from qlm_hoomd.engines.base import AfterEvent, Engine, Observables
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.minimize.report import MinimizeReport

# A largest non-affine velocity above this many box lengths is no elastic branch, and nothing to extrapolate.
_LARGEST_ELASTIC_Q = float(PARAMETERS["q_c"].value)
# A guess is believed if what was wrong with it is at most this part of the way. Before an instability the way
# grows faster than any polynomial, and the minimum that a wrong guess finds may be another one.
_LARGEST_CORRECTION = 0.5


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ShearState(Displayed):
    """A glass at rest on its way through strain. A plain value: keeping one is the rewind.

    Args:
        glass: the state, at a minimum.
        observables: energy per particle, stress, pressure, largest force.
        branch: the states that led here on the same elastic branch; None if nothing is known of them.
    """

    glass: Glass
    observables: Observables
    branch: Branch | None = None

    def _headline(self) -> str:
        return f"strain {self.strain:.10g}, stress {self.observables.stress_xy:.6g}, energy per particle {self.observables.energy:.8g}"

    @property
    def strain(self) -> float:
        """Accumulated strain."""
        return self.glass.strain

    @property
    def velocity(self) -> NDArray[np.float64] | None:
        """((N, 3) ndarray) dr'/dgamma, the non-affine displacement per strain at this state [length].

        As good as the states before it tell; None at the start and after an instability.
        """
        return None if self.branch is None else self.branch.velocity()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ShearStep(Displayed):
    """A step from one state at rest to the next.

    Args:
        before: state at the lower strain.
        after: state at the higher strain.
        q: Q = max|dr'| / (L dgamma), of order one where the response is elastic (the paper, App. F).
        force_evaluations: force evaluations that the relaxation took.
        hessian_products: products of the Hessian with a vector that it took.
        left_basin: whether the basin of ``before`` was found lost, and the state fell.
        fallbacks: how many safeguards fired: guesses given up, minimisations refused.
    """

    before: ShearState
    after: ShearState
    q: float
    force_evaluations: int
    hessian_products: int = 0
    left_basin: bool = False
    fallbacks: int = 0

    def _headline(self) -> str:
        lost = ", fell out of its basin" if self.left_basin else ""
        return f"strain {self.before.strain:.10g} to {self.after.strain:.10g}, Q = {self.q:.4g}{lost}"

    @property
    def increment(self) -> float:
        """Strain increment dgamma."""
        return self.after.strain - self.before.strain


OnTrial = Callable[[ShearState, float, ShearStep | None], None]
"""Is told of every step that is tried: the state before it, the strain it went to, and the step; None if its basin was lost."""


class Stepper:
    """Makes strain steps with an engine.

    Args:
        engine: relaxes the sheared glass.
        tolerance: largest force of a state at rest [energy / length].
        after_event: how a state falls whose basin is lost: along the overdamped path, or by FIRE.
        on_trial: is told of every step, of those too that a detector will rewind.
        on_waypoint: is told of every place from which a detector can go on.

    Raises:
        InputError: if ``after_event`` is none of these.
    """

    def __init__(
        self,
        engine: Engine,
        tolerance: float = 1e-10,
        after_event: AfterEvent = "descent",
        *,
        on_trial: OnTrial | None = None,
        on_waypoint: Waypoint | None = None,
    ) -> None:
        check_after_event(after_event)
        self._engine = engine
        self._tolerance = tolerance
        self._after_event = after_event
        self._on_trial = on_trial
        self._on_waypoint = on_waypoint

    @property
    def engine(self) -> Engine:
        """What relaxes the sheared glass."""
        return self._engine

    @property
    def tolerance(self) -> float:
        """Largest force of a state at rest [energy / length]."""
        return self._tolerance

    @property
    def after_event(self) -> AfterEvent:
        """How a state falls whose basin is lost."""
        return self._after_event

    def waypoint(self, memory: Callable[[], Any]) -> None:
        """Take notice of a place from which the detector that drives this stepper can go on.

        Args:
            memory: gives what :meth:`~qlm_quasistatic.detector.Detector.resume` needs for that, as plain values.
        """
        if self._on_waypoint is not None:
            self._on_waypoint(memory)

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
        """Shear ``state`` affinely to the accumulated ``strain`` and relax it; where its basin is lost, it falls.

        The states before give the first guess. Where the minimum is not found from there, or found far from it, the engine
        starts again from the affinely sheared state, so the guess never decides where an instability leads.

        Raises:
            InputError: if the strain is that of the state already.
            ConvergenceError: if the relaxation fails.
        """
        return self._told(self._step(state, strain, self._after_event))

    def elastic_step(self, state: ShearState, strain: float) -> ShearStep:
        """The same for a step that is to stay in its basin.

        Raises:
            InputError: if the strain is that of the state already.
            BasinLost: if there is no minimum in the basin of ``state`` any more; nothing has fallen.
            ConvergenceError: if the relaxation fails.
        """
        try:
            return self._told(self._step(state, strain, None))
        except BasinLost:
            self.lost(state, strain)
            raise

    def lost(self, state: ShearState, strain: float) -> None:
        """Take notice of a step from ``state`` to ``strain``, made in whatever way, that found no minimum in its basin."""
        if self._on_trial is not None:
            self._on_trial(state, strain, None)

    def _told(self, step: ShearStep) -> ShearStep:
        if self._on_trial is not None:
            self._on_trial(step.before, step.after.strain, step)
        return step

    def _step(self, state: ShearState, strain: float, after_event: AfterEvent | None) -> ShearStep:
        if strain == state.strain:
            raise InputError(f"strain increment = 0 at strain {strain:g}; expected a step.")
        affine = state.glass.at_strain(strain)
        expected_nc = None if state.branch is None else state.branch.displacement(strain)
        if expected_nc is None:
            glass, report = self._engine.relax(affine, tolerance=self._tolerance, after_event=after_event)
            return self._arrived(state, glass, report)
        glass, report = self._engine.relax(
            affine, tolerance=self._tolerance, guess=affine.positions + expected_nc, after_event=after_event
        )
        step = self._arrived(state, glass, report)
        found_nc = without_drift(glass.nonaffine_displacement(state.glass))
        if report.left_basin or max_norm(found_nc - without_drift(expected_nc)) <= _LARGEST_CORRECTION * max_norm(found_nc):
            return step
        glass, again = self._engine.relax(affine, tolerance=self._tolerance, after_event=after_event)
        return self._arrived(
            state,
            glass,
            replace(
                again,
                force_evaluations=report.force_evaluations + again.force_evaluations,
                hessian_products=report.hessian_products + again.hessian_products,
                fallbacks=report.fallbacks + again.fallbacks + 1,
            ),
        )

    def arrived(self, before: ShearState, glass: Glass, report: MinimizeReport) -> ShearStep:
        """The step from ``before`` to a state at rest that was found in whatever way.

        Args:
            before: state at the lower strain.
            glass: state at rest at the higher strain.
            report: what it took to get there; where it left the basin, a new branch begins.

        Raises:
            InputError: if the strain is that of ``before``.
        """
        return self._told(self._arrived(before, glass, report))

    def _arrived(self, before: ShearState, glass: Glass, report: MinimizeReport) -> ShearStep:
        increment = glass.strain - before.strain
        if increment == 0.0:
            raise InputError(f"strain increment = 0 at strain {glass.strain:g}; expected a step.")
        # Uniform translations cost nothing and mean nothing.
        displacement_nc = without_drift(glass.nonaffine_displacement(before.glass))
        q = max_norm(displacement_nc) / (glass.box.mean_edge * abs(increment))
        branch = None
        if not report.left_basin and q < _LARGEST_ELASTIC_Q:
            branch = (before.branch or Branch((before.strain,))).extended(glass.strain, displacement_nc)
        return ShearStep(
            before=before,
            after=ShearState(glass, self._engine.measure(glass), branch),
            q=q,
            force_evaluations=report.force_evaluations,
            hessian_products=report.hessian_products,
            left_basin=report.left_basin,
            fallbacks=report.fallbacks,
        )
