"""What an instability detector is: it drives the stepper, and says which steps stand and where the instabilities are."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
from pydantic import ConfigDict

from qlm_hoomd.box import Box
from qlm_hoomd.display import Displayed, counted
from qlm_hoomd.engines.base import Observables
from qlm_hoomd.errors import PluginError
from qlm_hoomd.glass import Glass
from qlm_hoomd.minimize.surface import max_norm, without_drift
from qlm_hoomd.modes import participation_ratio
from qlm_hoomd.settings import Settings
from qlm_quasistatic.events import Fold, core
from qlm_quasistatic.predictor import Branch
from qlm_quasistatic.stepper import ShearState, ShearStep

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qlm_hoomd.potentials import PairPotential
    from qlm_quasistatic.stepper import Stepper
    from qlm_quasistatic.strains import StrainGrid


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Instability(Displayed):
    """A plastic event, bracketed or located.

    Args:
        step: the step in which it happened: stable before, in another minimum after.
        strain_c: the strain at which the minimum disappeared, or an estimate of it.
        fold: the saddle-node itself, from a detector that locates it.
        fallen: the minimum into which the state falls at ``strain_c``, from such a detector.
        overlaps: (fraction, overlap) pairs: abs(psi . psi_c) of the critical mode psi_c with the softest mode psi at that
            fraction of gamma_min before the event.
        rule: which of its rules decided where the event is, from a detector that has several.
    """

    step: ShearStep
    strain_c: float
    fold: Fold | None = None
    fallen: ShearState | None = None
    overlaps: tuple[tuple[float, float], ...] = ()
    rule: str | None = None

    def _headline(self) -> str:
        return f"at strain {self.strain_c:.10g}, stress drop {self.stress_drop:.4g}, energy drop per particle {self.energy_drop:.4g}"

    @property
    def ends(self) -> tuple[Glass, Observables, Glass, Observables]:
        """The states before and after with their observables: at equal strain where a fold was located, else those of the step."""
        if self.fold is not None and self.fallen is not None:
            return self.fold.glass, self.fold.observables, self.fallen.glass, self.fallen.observables
        before, after = self.step.before, self.step.after
        return before.glass, before.observables, after.glass, after.observables

    @property
    def stress_drop(self) -> float:
        """Stress before less stress after [energy / length^3]."""
        _, before, _, after = self.ends
        return before.stress_xy - after.stress_xy

    @property
    def energy_drop(self) -> float:
        """Energy per particle before less after [energy]."""
        _, before, _, after = self.ends
        return before.energy - after.energy

    @property
    def displacement(self) -> NDArray[np.float64]:
        """((N, 3) ndarray) non-affine displacement that the event makes, without its mean [length]."""
        before, _, after, _ = self.ends
        return without_drift(after.nonaffine_displacement(before))


class Detector(Settings):
    """Base of every detector. Subclasses are pydantic models with a literal ``kind``, registered as ``qlm_hoomd.detectors``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    exact: ClassVar[bool] = False
    """Whether it locates the saddle-node itself, so that each instability has a :class:`~qlm_quasistatic.events.Fold`."""

    @property
    def name(self) -> str:
        """The kind, as protocols and the column ``detector`` of ``events.parquet`` have it."""
        return str(type(self).model_fields["kind"].default)

    def blind_below(self, increment: float, length: float) -> float | None:
        """Largest displacement of a particle [length] below which an instability can escape; 0 if none does for being small.

        Args:
            increment: coarse strain increment of the run.
            length: edge of the box [length].

        Returns:
            None from a detector that does not say.
        """
        return None

    def cannot_see(self, increment: float, length: float) -> str:
        """One sentence on the instabilities that escape, with numbers for such a run.

        The arguments are those of :meth:`blind_below`.
        """
        limit = self.blind_below(increment, length)
        if limit is None:
            return f"The detector {self.name} does not say which instabilities it cannot see."
        if limit == 0.0:
            return f"No instability escapes the detector {self.name} for being small."
        return (
            f"The detector {self.name} cannot see instabilities in which no particle moves by more than {limit:.3g} "
            f"diameters of a small one (L = {length:.4g}, increment {increment:g})."
        )

    def check(self, potential: PairPotential | None) -> None:
        """Refuse what the detector cannot work with, before anything runs.

        Args:
            potential: of the glass; None where the forces are a user's own and only HOOMD-blue knows their law.

        Raises:
            ValueError: with the fact and the remedy.
        """

    @abstractmethod
    def follow(self, stepper: Stepper, start: ShearState, grid: StrainGrid) -> Iterator[ShearStep | Instability]:
        """Shear from ``start`` to the end of ``grid``.

        Yields:
            every step that stands, in order of strain, each beginning where the last one ended; and each instability
            right after the step in which it happened. Steps that are rewound are not yielded.
        """

    def first(self, stepper: Stepper, start: ShearState, grid: StrainGrid) -> tuple[float, Fold | None] | None:
        """The first instability from ``start``: its strain, and its fold from a detector that locates it.

        What it costs to find what lies behind is saved by detectors that can do without.

        Returns:
            None if the grid ends before there is one.
        """
        for item in self.follow(stepper, start, grid):
            if isinstance(item, Instability):
                return item.strain_c, item.fold
        return None

    def resume(self, stepper: Stepper, memory: Any, grid: StrainGrid) -> Iterator[ShearStep | Instability]:
        """What :meth:`follow` would have yielded after one of its waypoints, to the same bits on an engine that repeats them.

        A detector that calls :meth:`~qlm_quasistatic.stepper.Stepper.waypoint` must have this method, and name the dataclasses
        of its memory in :attr:`memory_classes`. A run with one that has no waypoints is saved where the strain path turns back.

        Args:
            stepper: with an engine that has recalled its own memory.
            memory: what the waypoint gave.
            grid: the same grid.

        Raises:
            PluginError: from a detector that has waypoints, and not this method.
        """
        raise PluginError(f"{type(self).__name__} has waypoints and cannot go on from them; expected a method `resume`.")

    @property
    def memory_classes(self) -> tuple[type, ...]:
        """Dataclasses in the memory of a waypoint, besides those of :data:`STATE_CLASSES`."""
        return ()


STATE_CLASSES = (ShearState, ShearStep, Branch, Glass, Box, Observables)
"""Dataclasses that a state at rest, and a step, consist of."""


def follow(
    detector: Detector | None, stepper: Stepper, start: ShearState, grid: StrainGrid
) -> Iterator[ShearStep | Instability]:
    """What :meth:`Detector.follow` yields; without a detector, plain steps along the grid."""
    return _plain_steps(stepper, start, grid) if detector is None else detector.follow(stepper, start, grid)


def resume(detector: Detector | None, stepper: Stepper, memory: Any, grid: StrainGrid) -> Iterator[ShearStep | Instability]:
    """What :meth:`Detector.resume` yields, or what is left of the plain steps."""
    return _plain_steps(stepper, memory, grid) if detector is None else detector.resume(stepper, memory, grid)


def _plain_steps(stepper: Stepper, start: ShearState, grid: StrainGrid) -> Iterator[ShearStep]:
    state = start
    while not grid.done(state.strain):
        stepper.waypoint(partial(_same, state))
        step = stepper.step(state, grid.next_strain(state.strain))
        yield step
        state = step.after


def _same(state: ShearState) -> ShearState:
    return state


# Energy [energy] that an elastic step may seem to dissipate, by rounding.
_NOTHING_DISSIPATED = 1e-6


def steps_without_event(
    steps: pl.DataFrame, events: pl.DataFrame, n_particles: int, volume: float, *, exact: bool = False
) -> pl.DataFrame:
    """The steps that lost energy, or left their basin, and that no recorded instability explains.

    An elastic step stores the work done, dU = V sigma dgamma, and so no less than V dgamma times the lower of the stresses at
    its ends, unless the stress has a minimum within.

    Args:
        steps: columns of ``steps.parquet``; those needed are increment, stress_xy, energy, left_basin and travelled.
        events: columns of ``events.parquet``; the one needed is travelled.
        n_particles: N.
        volume: V [length^3].
        exact: whether the detector is exact: it holds each step against the first law itself, closer than this does, so that
            only steps that left their basin count.
    """
    increment, stress, energy, travelled = (
        steps[name].to_numpy() for name in ("increment", "stress_xy", "energy", "travelled")
    )
    # Against the way of a leg on which the strain falls the work is that of the opposite stress: dgamma has the sign.
    rates = increment[1:, None] * np.stack([stress[:-1], stress[1:]], axis=1)
    least_work = volume * rates.min(axis=1, initial=np.inf)
    lost = np.zeros(steps.height, dtype=bool)
    lost[1:] = n_particles * np.diff(energy) < least_work - _NOTHING_DISSIPATED
    # An instability lies within the step that first travels as far as it.
    explained = np.isin(np.arange(steps.height), np.searchsorted(travelled, events["travelled"].to_numpy()))
    gone = steps["left_basin"].to_numpy()
    return steps.filter(pl.Series((gone if exact else lost | gone) & ~explained))


def missed(steps: pl.DataFrame, events: pl.DataFrame, n_particles: int, volume: float, detector: Detector) -> str | None:
    """A warning about :func:`steps_without_event`, where there are any."""
    missing = steps_without_event(steps, events, n_particles, volume, exact=detector.exact)
    if missing.is_empty():
        return None
    largest = missing.sort(pl.col("q") * pl.col("increment").abs(), descending=True).row(0, named=True)
    remedy = (
        "Take a smaller max_increment of the detector" if detector.exact else "Use a smaller increment, or the detector fold"
    )
    return (
        f"{counted(missing.height, 'step')} lost energy or left the basin and the detector {detector.name} saw no "
        f"instability there; the largest ended at strain {largest['strain']:.10g} (Q = {largest['q']:.3g}). {remedy}."
    )


EVENT_COLUMNS = {
    "strain_before": pl.Float64,
    "strain_after": pl.Float64,
    "strain_c": pl.Float64,
    "gamma_min": pl.Float64,
    "q": pl.Float64,
    "stress_drop": pl.Float64,
    "energy_drop": pl.Float64,
    "detector": pl.String,
    "strain_c_error": pl.Float64,
    "avalanche_size": pl.Float64,
    "max_jump": pl.Float64,
    "participation_ratio": pl.Float64,
    "core_x": pl.Float64,
    "core_y": pl.Float64,
    "core_z": pl.Float64,
    "kappa": pl.Float64,
    "coupling": pl.Float64,
    "mode_participation_ratio": pl.Float64,
    "overlap_fractions": pl.List(pl.Float64),
    "overlaps": pl.List(pl.Float64),
    "rule": pl.String,
}


def event_row(event: Instability, last_event: float, detector: Detector | None) -> dict[str, Any]:
    """A row of ``events.parquet``; ``last_event`` is the strain from which gamma_min counts.

    What only a located fold can say (kappa, coupling, the critical mode) is null without one. ``strain_c_error`` is half the
    bracket then. ``avalanche_size`` is V times the stress drop [energy]; ``participation_ratio`` and ``core_x, y, z`` are those
    of the displacement field; the core is in the cell centred on the origin. ``rule`` is null from a detector with one rule.
    """
    fold = event.fold
    before, _, _, _ = event.ends
    displacement_nc = event.displacement
    core_c = core(displacement_nc, before.positions, before.box)
    return {
        "strain_before": event.step.before.strain,
        "strain_after": event.step.after.strain,
        "strain_c": event.strain_c,
        "gamma_min": event.strain_c - last_event,
        "q": event.step.q,
        "stress_drop": event.stress_drop,
        "energy_drop": event.energy_drop,
        "detector": "none" if detector is None else detector.name,
        "strain_c_error": 0.5 * event.step.increment if fold is None else fold.error,
        "avalanche_size": before.box.volume * event.stress_drop,
        "max_jump": max_norm(displacement_nc),
        "participation_ratio": float(participation_ratio(displacement_nc[None])[0]),
        "core_x": float(core_c[0]),
        "core_y": float(core_c[1]),
        "core_z": float(core_c[2]),
        "kappa": None if fold is None else fold.kappa,
        "coupling": None if fold is None else fold.coupling,
        "mode_participation_ratio": None if fold is None else fold.participation_ratio,
        "overlap_fractions": [fraction for fraction, _ in event.overlaps] if event.overlaps else None,
        "overlaps": [overlap for _, overlap in event.overlaps] if event.overlaps else None,
        "rule": event.rule,
    }
