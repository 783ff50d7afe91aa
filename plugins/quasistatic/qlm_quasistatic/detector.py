"""What an instability detector is: it drives the stepper, and says which steps stand and where the instabilities are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
