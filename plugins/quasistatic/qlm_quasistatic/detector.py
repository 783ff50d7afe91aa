"""What an instability detector is: it drives the stepper, and says which steps stand and where the instabilities are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from qlm_quasistatic.stepper import ShearState, ShearStep, Stepper
    from qlm_quasistatic.strains import StrainGrid


@dataclass(frozen=True, slots=True, eq=False)
class Instability:
    """A plastic event, bracketed.

    Args:
        step: the step in which it happened: stable before, in another minimum after.
        strain_c: estimate of the strain at which the minimum disappeared.
    """

    step: ShearStep
    strain_c: float

    @property
    def stress_drop(self) -> float:
        """Stress before less stress after [energy / length^3]."""
        return self.step.before.observables.stress_xy - self.step.after.observables.stress_xy

    @property
    def energy_drop(self) -> float:
        """Energy per particle before less after [energy]."""
        return self.step.before.observables.energy - self.step.after.observables.energy


class Detector(BaseModel):
    """Base of every detector. Subclasses are pydantic models with a literal ``kind``, registered as ``qlm_hoomd.detectors``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def follow(self, stepper: Stepper, start: ShearState, grid: StrainGrid) -> Iterator[ShearStep | Instability]:
        """Shear from ``start`` to the end of ``grid``.

        Yields:
            every step that stands, in order of strain, each beginning where the last one ended; and each instability
            right after the step in which it happened. Steps that are rewound are not yielded.
        """


def follow(
    detector: Detector | None, stepper: Stepper, start: ShearState, grid: StrainGrid
) -> Iterator[ShearStep | Instability]:
    """What :meth:`Detector.follow` yields; without a detector, plain steps along the grid."""
    if detector is not None:
        yield from detector.follow(stepper, start, grid)
        return
    state = start
    while not grid.done(state.strain):
        step = stepper.step(state, grid.next_strain(state.strain))
        yield step
        state = step.after


EVENT_COLUMNS = {
    "strain_before": pl.Float64,
    "strain_after": pl.Float64,
    "strain_c": pl.Float64,
    "gamma_min": pl.Float64,
    "q": pl.Float64,
    "stress_drop": pl.Float64,
    "energy_drop": pl.Float64,
    "detector": pl.String,
}


def event_row(event: Instability, last_event: float, detector: Detector | None) -> dict[str, Any]:
    """A row of ``events.parquet``; ``last_event`` is the strain from which gamma_min counts."""
    return {
        "strain_before": event.step.before.strain,
        "strain_after": event.step.after.strain,
        "strain_c": event.strain_c,
        "gamma_min": event.strain_c - last_event,
        "q": event.step.q,
        "stress_drop": event.stress_drop,
        "energy_drop": event.energy_drop,
        "detector": "none" if detector is None else str(type(detector).model_fields["kind"].default),
    }
