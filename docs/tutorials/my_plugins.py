"""A potential, a detector, a stage and a section of the report of one's own: the module of tutorial 5. Copy it to start."""

# Array names carry their axes: p pairs, k order of the derivative, t particle types.

from __future__ import annotations

from collections.abc import Iterator
from math import factorial
from typing import Annotated, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from qlm_quasistatic import Detector, Instability, ShearState, ShearStep, Stepper
from qlm_quasistatic.strains import StrainGrid

from qlm_hoomd import gsdio
from qlm_hoomd.mechanics import bonds_of
from qlm_hoomd.potentials import Matrix, PairPotential
from qlm_hoomd.report import Results, Section
from qlm_hoomd.report.markup import N, note, table
from qlm_hoomd.stages import Stage, StageContext


class SmoothSphere(PairPotential):
    """Soft spheres with phi = epsilon (1 - r^2 / sigma^2)^5 where they overlap: all derivatives to the fourth are continuous."""

    kind: Literal["smooth_sphere"] = "smooth_sphere"
    epsilon: Annotated[float, Field(gt=0)] = Field(default=1.0, description="energy scale [energy]")
    sigma: Matrix = Field(description="symmetric matrix of contact distances [length]")

    def cutoffs(self) -> NDArray[np.float64]:
        """((T, T) ndarray) contact distances [length]."""
        return np.array(self.sigma)

    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """((order + 1, P) ndarray) d^k phi / dw^k with w = r^2 [energy / length^(2k)]."""
        inverse_p = 1.0 / self.cutoffs().ravel()[pairtype_p] ** 2
        overlap_p = np.maximum(1.0 - r2_p * inverse_p, 0.0)
        return np.array(
            [
                self.epsilon * factorial(5) / factorial(5 - k) * (-inverse_p) ** k * overlap_p ** (5 - k)
                for k in range(order + 1)
            ]
        )


class StressDropDetector(Detector):
    """Counts every step in which the shear stress falls, as many scripts do: no rewinding, and blind to small events."""

    kind: Literal["stress_drop"] = "stress_drop"
    smallest: Annotated[float, Field(gt=0)] = Field(default=1e-4, description="smallest drop that counts [energy / length^3]")

    def cannot_see(self, increment: float, length: float) -> str:
        """What the report says of the events that escape it; by default a sentence on :meth:`blind_below`, a smallest displacement."""
        return f"Events in which the stress falls by less than {self.smallest:g}, or rises, are not seen."

    def follow(self, stepper: Stepper, start: ShearState, grid: StrainGrid) -> Iterator[ShearStep | Instability]:
        """Steps along the grid; after a step in which the stress falls, its instability."""
        state = start
        while not grid.done(state.strain):
            step = stepper.step(state, grid.next_strain(state.strain))
            yield step
            if step.before.observables.stress_xy - step.after.observables.stress_xy > self.smallest:
                yield Instability(step, strain_c=0.5 * (step.before.strain + step.after.strain))
            state = step.after


class ContactsStage(Stage):
    """The number of interacting neighbours of each particle of the quenched glass."""

    kind: Literal["contacts"] = "contacts"

    def requires(self) -> tuple[str, ...]:
        """The quenched glass."""
        return ("quenched.gsd",)

    def products(self) -> tuple[str, ...]:
        """A table with a row for each particle."""
        return ("contacts.parquet",)

    def run(self, context: StageContext) -> None:
        """Count."""
        glass = gsdio.read_glass(context.path("quenched.gsd")).glass
        bonds = bonds_of(glass, context.model.potential)
        contacts_n = np.bincount(bonds.i_p, minlength=glass.n_particles) + np.bincount(bonds.j_p, minlength=glass.n_particles)
        context.write_table("contacts.parquet", pl.DataFrame({"typeid": glass.typeid, "contacts": contacts_n}))


def contacts(results: Results) -> Section | None:
    """The section of the report on the stage: mean number of contacts in each ensemble."""
    if results.stage("contacts") is None:
        return None
    counted = results.tables.get(
        "contacts"
    )  # those of all realisations, with preparation, n_particles and realisation in front
    if counted is None:
        return Section("Contacts", note("No glass has been looked at yet."))
    means = counted.group_by("preparation", "n_particles", maintain_order=True).agg(pl.col("contacts").mean())
    rows = [(preparation, size, f"{mean:.2f}") for preparation, size, mean in means.iter_rows()]
    return Section("Contacts", tables=table(["preparation", N, "contacts"], rows, "Mean number of interacting neighbours"))
