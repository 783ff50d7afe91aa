"""The exact detector: follows the elastic branch in adaptive steps, and locates the saddle-node at which it ends."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from qlm_quasistatic.detector import Detector, Instability
from qlm_quasistatic.events import Fold
from qlm_quasistatic.stepper import ShearState, ShearStep

from qlm_hoomd.errors import BasinLost, ConvergenceError
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.minimize.surface import max_norm
from qlm_hoomd.modes import LowestModes
from qlm_rewind.branch import BranchMemory, ElasticBranch, Node
from qlm_rewind.saddle_node import SoftMode, locate

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qlm_quasistatic.stepper import Stepper
    from qlm_quasistatic.strains import StrainGrid

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.minimize.report import MinimizeReport
    from qlm_hoomd.potentials import PairPotential

_log = logging.getLogger(__name__)

_SKIN = 0.12
# A fold is looked for once it seems to lie within this many of the next steps; farther off, the step is the cheaper try.
_STEPS_AHEAD = 5.0
_FASTEST_GROWTH = 4.0
# Refused steps in a row, less those made up for by steps of the coarse increment, before the run is given up.
_MOST_REFUSALS = 60
# A state between two known ones lies this close to where it is expected [length].
_LARGEST_SURPRISE = 0.01
# Closer to the fold than this in strain there is no state worth a relaxation.
_NEAREST = 1e-9
# Displacement along the critical mode at which the fall begins [length]: small against any jump, and past the slow part of the
# fall.
_PUSH = 5e-3


@dataclass(frozen=True)
class FoldMemory:
    """What the detector knows between two elastic steps.

    Args:
        branch: the branch so far.
        increment: length of the next step.
        fold: the fold ahead, if one is known.
        refusals: refused steps in a row, less those made up for.
        refused: steps refused since the last one that stands.
        nearest_refusal: distance of the nearest fold that was looked for in vain.
        is_refused: whether a fold was looked for from the last state in vain.
    """

    branch: BranchMemory
    increment: float
    fold: Fold | None
    refusals: int
    refused: int
    nearest_refusal: float
    is_refused: bool


class FoldDetector(Detector):
    """Folds of the elastic branch, located by Newton's method to 1e-10 in strain, whatever the size of the event.

    Steps are as long as the first law allows: work done less energy stored is zero on an elastic branch and positive for any
    event, and must stay below ``balance``. So no event is stepped over. Where a step is refused, or the soft direction of the
    response says that a fold is near, the fold is located (:mod:`qlm_rewind.saddle_node`), and the first law is checked from
    the last state up to it.
    """

    exact: ClassVar[bool] = True
    kind: Literal["fold"] = "fold"
    max_increment: Annotated[float, Field(gt=0, le=0.01)] = Field(default=1e-3, description="longest elastic strain step")
    min_increment: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1e-8, description="strain step below which the search for a fold is given up, and the run fails"
    )
    balance: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1e-7,
        description="energy that an elastic step may seem to dissipate; an event that dissipates less can be missed",
    )
    offset: Annotated[float, Field(gt=0, le=1e-4)] = Field(
        default=5e-7, description="strain from an event to the states recorded before and after it"
    )
    overlaps: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.1, 0.01, 0.001),
        description="fractions of gamma_min before an event at which the softest mode is compared with the critical one",
    )

    def blind_below(self, increment: float, length: float) -> float:
        """Nothing: what escapes is bound by its energy; see :meth:`qlm_quasistatic.detector.Detector.blind_below`."""
        return 0.0

    def cannot_see(self, increment: float, length: float) -> str:
        """See :meth:`qlm_quasistatic.detector.Detector.cannot_see`."""
        return f"The detector fold can miss instabilities that dissipate less than {self.balance:g} in energy, and no others."

    def check(self, potential: PairPotential | None) -> None:
        """Refuse forces without a law, and laws whose force or Hessian jumps: there a branch can end without a fold."""
        if potential is None:
            raise ValueError(
                "the detector fold needs the Hessian of the forces; expected forces whose law qlm_hoomd.forces.potential_of "
                "knows. Use the detector threshold"
            )
        jumps = [name for name, order in (("force", 1), ("Hessian", 2)) if potential.jumps_at_cutoff(order)]
        if jumps:
            raise ValueError(
                f"the detector fold needs a force and a Hessian that are continuous, and the {' and the '.join(jumps)} of "
                f"{type(potential).__name__} jump{'s' if len(jumps) == 1 else ''} at the cut-off, where an elastic branch "
                "can end without a fold. Use a smoother cut-off (q: 2 or more, where the potential has it), or detector: "
                "threshold"
            )

    def follow(self, stepper: Stepper, start: ShearState, grid: StrainGrid) -> Iterator[ShearStep | Instability]:
        """See :meth:`qlm_quasistatic.detector.Detector.follow`.

        Raises:
            ConvergenceError: if the branch ends and no fold is found there, or the state at a fold does not fall.
        """
        return self._follow(stepper, start, grid)

    @property
    def memory_classes(self) -> tuple[type, ...]:
        """See :attr:`qlm_quasistatic.detector.Detector.memory_classes`."""
        return (FoldMemory, BranchMemory, Node, Fold)

    def resume(self, stepper: Stepper, memory: FoldMemory, grid: StrainGrid) -> Iterator[ShearStep | Instability]:
        """See :meth:`qlm_quasistatic.detector.Detector.resume`.

        There is no waypoint from a fold to the state after the fall.
        """
        return self._follow(stepper, memory.branch.recent[-1].state, grid, memory)

    def _follow(
        self, stepper: Stepper, start: ShearState, grid: StrainGrid, memory: FoldMemory | None = None
    ) -> Iterator[ShearStep | Instability]:
        state = start
        while not grid.done(state.strain):
            branch, fold = self._branch(stepper, state, memory), None
            for item in self._approach(stepper, branch, grid, memory):
                if isinstance(item, Fold):
                    fold = item
                else:
                    yield item
            memory = None
            if fold is None:
                return
            state = branch.last.state
            for step in self._up_to(stepper, branch, fold, grid):
                yield step
                state = step.after
            if grid.done(state.strain):
                return
            event = self._event(stepper, branch, fold, state, grid)
            yield event.step
            yield event
            state = event.step.after

    def first(self, stepper: Stepper, start: ShearState, grid: StrainGrid) -> tuple[float, Fold | None] | None:
        """The first instability, without the fall behind it; see :meth:`qlm_quasistatic.detector.Detector.first`.

        Raises:
            ConvergenceError: if the branch ends and no fold is found there.
        """
        _, fold = self.locate_next(stepper, start, grid)
        return None if fold is None or grid.beyond(fold.strain_c) else (fold.strain_c, fold)

    def locate_next(self, stepper: Stepper, start: ShearState, grid: StrainGrid) -> tuple[list[ShearStep], Fold | None]:
        """Shear elastically from ``start`` and locate the first instability, without letting the glass fall.

        Returns:
            The steps that were made, which end somewhere before the fold; and the fold, or None if the grid ends before one is
            found.

        Raises:
            ConvergenceError: if the branch ends and no fold is found there.
        """
        steps: list[ShearStep] = []
        for item in self._approach(stepper, self._branch(stepper, start), grid):
            if isinstance(item, Fold):
                return steps, item
            steps.append(item)
        return steps, None

    def _branch(self, stepper: Stepper, start: ShearState, memory: FoldMemory | None = None) -> ElasticBranch:
        mechanics = Mechanics(stepper.engine.potential, start.glass.typeid, _SKIN, start.glass.sizes)
        return ElasticBranch(start if memory is None else memory.branch, mechanics)

    def _approach(
        self, stepper: Stepper, branch: ElasticBranch, grid: StrainGrid, memory: FoldMemory | None = None
    ) -> Iterator[ShearStep | Fold]:
        """Elastic steps, which extend ``branch``; and the fold, last, if there is one before the grid ends.

        Steps refused on the way count among the fallbacks of the one that stands.
        """
        search = _Search(branch, min(stepper.tolerance, 1e-10))
        increment = min(grid.increment, self.max_increment)
        fold: Fold | None = None
        refusals = refused = 0
        if memory is not None:
            increment, fold, refusals, refused = memory.increment, memory.fold, memory.refusals, memory.refused
            search.recall(memory)
        while not grid.done(branch.last.strain):
            stepper.waypoint(partial(search.memory, increment, fold, refusals, refused))
            if fold is not None:
                balance = branch.balance_to(fold)
                if balance.holds(self.balance):
                    yield fold
                    return
                if balance.broken(self.balance):
                    fold = None
                else:
                    # The quadrature over the last stretch is too coarse: a state in between refines it.
                    increment = min(increment, 0.5 * (fold.strain_c - branch.last.strain))
            target = grid.next_strain(branch.last.strain, increment)
            step, node = _attempt(stepper, branch, target, fold)
            if step is not None and node is not None:
                balance = branch.balance(node, fold)
                if balance.holds(self.balance):
                    branch.extend(node)
                    yield replace(step, fallbacks=step.fallbacks + refused)
                    refused = 0
                    growth = min(max(balance.growth(self.balance), 0.5), _FASTEST_GROWTH)
                    increment = min(increment * growth, self.max_increment)
                    if increment >= grid.increment:
                        refusals = 0
                    if fold is None:
                        fold = search.ahead(_STEPS_AHEAD * increment)
                    continue
            refusals += 1
            refused += 1
            if fold is None:
                fold = search.ahead(math.inf)
            increment = 0.5 * (target - branch.last.strain)
            if increment < self.min_increment or refusals > _MOST_REFUSALS:
                fold = search.thorough()
                if fold is None or not branch.balance_to(fold).holds(self.balance):
                    raise ConvergenceError(
                        f"the elastic branch ends between strain {branch.last.strain:.10f} and {target:.10f}, and no fold "
                        f"is found there ({search.reason}). The event cannot be told from a numerical failure; the run ends "
                        "at the state before it."
                    )

    def _up_to(self, stepper: Stepper, branch: ElasticBranch, fold: Fold, grid: StrainGrid) -> Iterator[ShearStep]:
        """Elastic steps from the last state to ``offset`` before the fold, through the stops in between."""
        state = branch.last.state
        while not grid.done(state.strain):
            end = fold.strain_c - self.offset
            # Beyond that only stops count.
            target = grid.next_strain(state.strain, (end if end > state.strain else fold.strain_c) - state.strain)
            if target > fold.strain_c - _NEAREST:
                return
            step = _between(stepper, branch, fold, target, state)
            if step is None:
                _log.warning("strain %.10f: no state found %.1e before the fold.", fold.strain_c, fold.strain_c - target)
                return
            yield step
            state = step.after

    def _event(self, stepper: Stepper, branch: ElasticBranch, fold: Fold, before: ShearState, grid: StrainGrid) -> Instability:
        """The fall from the fold, and what was measured of it."""
        fallen, report = _fall(stepper, fold)
        # A stop within reach is hit by the first state after the event.
        after = grid.next_strain(before.strain, fold.strain_c + self.offset - before.strain)
        glass, settled = stepper.engine.relax(
            fallen.at_strain(after), tolerance=stepper.tolerance, after_event=stepper.after_event
        )
        report = replace(
            settled,
            left_basin=True,
            force_evaluations=report.force_evaluations + settled.force_evaluations,
            hessian_products=report.hessian_products + settled.hessian_products,
        )
        return Instability(
            stepper.arrived(before, glass, report),
            fold.strain_c,
            fold=fold,
            fallen=ShearState(fallen, stepper.engine.measure(fallen)),
            overlaps=tuple(self._overlaps(stepper, branch, fold)),
        )

    def _overlaps(self, stepper: Stepper, branch: ElasticBranch, fold: Fold) -> Iterator[tuple[float, float]]:
        """(fraction, overlap) of the critical mode with the softest one at fractions of gamma_min before the fold."""
        distance = fold.strain_c - branch.nodes[0].strain
        for fraction in self.overlaps:
            step = _between(stepper, branch, fold, fold.strain_c - fraction * distance)
            if step is None:
                _log.warning("strain %.10f: no state found %g of gamma_min before the fold.", fold.strain_c, fraction)
                continue
            hessian = Hessian(stepper.engine.potential, force_tolerance=max(1e-8, 10.0 * stepper.tolerance))
            softest_nc = LowestModes(1).compute(hessian.compute(step.after.glass)).vectors[0]
            yield fraction, abs(float(np.vdot(softest_nc, fold.mode)))


class _Search:
    """Looks for the fold ahead of a branch, and does not ask again where it was refused."""

    def __init__(self, branch: ElasticBranch, tolerance: float) -> None:
        self._branch = branch
        self._tolerance = tolerance
        self._nearest_refusal = math.inf
        self._refused: ShearState | None = None
        self.reason = "not looked for"

    def memory(self, increment: float, fold: Fold | None, refusals: int, refused: int) -> FoldMemory:
        """What is known here and, by the arguments, in the detector."""
        is_refused = self._branch.last.state is self._refused
        return FoldMemory(self._branch.memory, increment, fold, refusals, refused, self._nearest_refusal, is_refused)

    def recall(self, memory: FoldMemory) -> None:
        """Know what was known here."""
        self._nearest_refusal = memory.nearest_refusal
        self._refused = self._branch.last.state if memory.is_refused else None

    def ahead(self, within: float) -> Fold | None:
        """The fold in the soft direction of the response, if it seems to lie within this strain."""
        state = self._branch.last.state
        if state is self._refused:
            return None
        direction_nc = self._branch.soft_direction()
        if math.isfinite(within):
            distance = SoftMode(self._branch.bonds(state.glass), direction_nc).distance
            if not 0.0 < distance < min(within, 0.5 * self._nearest_refusal):
                return None
            self._nearest_refusal = distance
        fold = self._locate(state, direction_nc)
        self._refused = state if fold is None else None
        return fold

    def thorough(self) -> Fold | None:
        """The nearest fold in the direction of any of the softest modes of the last state."""
        state = self._branch.last.state
        hessian = Hessian(self._branch.mechanics.potential, force_tolerance=math.inf).compute(state.glass)
        folds = [self._locate(state, mode_nc) for mode_nc in LowestModes(4).compute(hessian).vectors]
        return min((fold for fold in folds if fold is not None), key=lambda fold: fold.strain_c, default=None)

    def _locate(self, state: ShearState, direction_nc: NDArray[np.float64]) -> Fold | None:
        try:
            fold = locate(self._branch.mechanics, state.glass, direction_nc, tolerance=self._tolerance)
        except ConvergenceError as error:
            self.reason = str(error)
            _log.debug("strain %.8f: no fold located: %s", state.strain, error)
            return None
        if fold.strain_c <= state.strain:
            self.reason = f"the fold at strain {fold.strain_c:.10f} lies behind"
            return None
        return fold


def _attempt(
    stepper: Stepper, branch: ElasticBranch, strain: float, fold: Fold | None
) -> tuple[ShearStep, Node] | tuple[None, None]:
    """The elastic step to ``strain`` from the best guess at hand, and the response there; None if its basin is lost."""
    state = branch.last.state
    affine = state.glass.at_strain(strain)

    def force(guess_nc: NDArray[np.float64]) -> float:
        return float(np.linalg.norm(branch.mechanics.energy_forces(guess_nc, affine.box)[1]))

    guesses = list(branch.extrapolated(strain))
    if fold is not None:
        guesses.append(branch.interpolated(strain, fold)[1])
    guess_nc = min(guesses, key=force)
    try:
        glass, report = stepper.engine.relax(affine, tolerance=stepper.tolerance, guess=guess_nc, after_event=None)
    except BasinLost as error:
        _log.debug("strain %.8f: %s", strain, error)
        stepper.lost(state, strain)
        return None, None
    step = stepper.arrived(state, glass, report)
    try:
        return step, branch.node(step.after)
    except ConvergenceError as error:
        # A guess beyond the fold can end on the saddle, where all forces vanish as well.
        _log.debug("strain %.8f: %s", strain, error)
        return None, None


def _between(
    stepper: Stepper, branch: ElasticBranch, fold: Fold, strain: float, before: ShearState | None = None
) -> ShearStep | None:
    """The step to a strain between the states of the branch and its fold, where it is known what to expect.

    None if it is not there.

    It begins at ``before``, by default the nearest state below.
    """
    below, guess_nc = branch.interpolated(strain, fold)
    expected = below.glass.at_strain(strain).moved(guess_nc)
    try:
        glass, report = stepper.engine.relax(expected, tolerance=stepper.tolerance, after_event=None)
    except BasinLost:
        return None
    if not max_norm(glass.positions - guess_nc) < _LARGEST_SURPRISE:
        return None
    return stepper.arrived(before or below, glass, report)


def _fall(stepper: Stepper, fold: Fold) -> tuple[Glass, MinimizeReport]:
    """The minimum into which the state at the fold falls, along the unstable direction of the fold.

    Raises:
        ConvergenceError: if it does not fall.
    """
    pushed = fold.glass.moved(fold.glass.positions - _PUSH * fold.mode + 0.5 * _PUSH**2 * fold.bend)
    if stepper.after_event == "descent":
        glass, report = stepper.engine.descend(pushed, tolerance=stepper.tolerance)
    else:
        glass, report = stepper.engine.relax(pushed, tolerance=stepper.tolerance, after_event=stepper.after_event)
    drop = fold.observables.energy - stepper.engine.measure(glass).energy
    if not (drop > 0.0 and max_norm(glass.nonaffine_displacement(fold.glass)) > _PUSH * max_norm(fold.mode)):
        raise ConvergenceError(
            f"the state at the fold at strain {fold.strain_c:.10f} does not fall: its energy per particle drops by {drop:.3g}; "
            "expected a drop. The run ends at the state before it."
        )
    return glass, report
