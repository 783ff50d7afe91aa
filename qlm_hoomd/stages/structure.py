"""Stage ``structure``: vouches that a quenched sample is a glass."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import polars as pl
from pydantic import Field

from qlm_hoomd.gsdio import read_glass
from qlm_hoomd.stages.base import Stage, StageContext
from qlm_hoomd.structure import LocalOrder, RadialDistribution, StructureFactor

if TYPE_CHECKING:
    from qlm_hoomd.model import GlassModel


class StructureStage(Stage):
    """Vouch that the quenched sample is a glass: local order, demixing, g(r) and S(q)."""

    cost_power: ClassVar[float] = 1.0
    kind: Literal["structure"] = "structure"
    r_max: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=5.0, description="largest distance of g(r) [length]; never more than half the box"
    )
    r_bin: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(default=0.02, description="bin width of g(r) [length]")
    q_max: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=15.0, description="largest wavenumber of S(q) [1 / length]"
    )
    q_bin: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=0.15, description="bin width of S(q) [1 / length]"
    )
    neighbors: Annotated[int, Field(ge=4, le=32)] = Field(default=12, description="nearest neighbours that count as bonds")
    bond_threshold: Annotated[float, Field(gt=-1, lt=1)] = Field(
        default=0.7,
        description="q6 . q6 product above which a bond is solid-like; 2.5 % of the bonds of a quenched 3DIPL glass pass",
    )
    solid_bonds: Annotated[int, Field(ge=1, le=32)] = Field(
        default=7,
        description="solid-like bonds that make a solid-like particle; hardly any in a glass, nearly all in a crystal",
    )
    crystal_limit: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.05, description="largest harmless share of particles in one cluster of solid-like ones"
    )
    demixing_limit: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1,
        description="largest harmless demixing: 0 random mixing, 1 full separation; 3DIPL glasses have -0.11 to -0.03",
    )

    def check(self, model: GlassModel, n_particles: list[int]) -> None:
        """Refuse sizes and bins that cannot be measured.

        Raises:
            ValueError: with the fact and the expectation.
        """
        if self.solid_bonds > self.neighbors:
            raise ValueError(f"solid_bonds = {self.solid_bonds}; expected at most neighbors = {self.neighbors}")
        if min(n_particles) <= self.neighbors:
            raise ValueError(f"n_particles = {min(n_particles)}; expected more than neighbors = {self.neighbors}")
        half_box = 0.4 * model.box_length(min(n_particles))
        if self.r_bin > min(self.r_max, half_box):
            raise ValueError(f"r_bin = {self.r_bin:g}; expected at most r_max and {half_box:.3g}, what the smallest box holds")
        shortest = 2 * math.pi / model.box_length(min(n_particles))
        if self.q_max <= shortest:
            raise ValueError(f"q_max = {self.q_max:g}; expected more than {shortest:.3g}, what the smallest box holds")

    def reaches(self, strain: float) -> bool:
        """The quenched glass alone."""
        return strain == 0.0

    def requires(self) -> tuple[str, ...]:
        """The quenched sample."""
        return ("quenched.gsd",)

    def products(self) -> tuple[str, ...]:
        """Verdict and functions."""
        return ("structure_functions.parquet", "structure.parquet")

    def run(self, context: StageContext) -> None:
        """Measure the last frame of ``quenched.gsd`` and write both tables."""
        import freud

        glass = read_glass(context.path("quenched.gsd"), frame=-1).glass
        # Realisations run side by side, one thread each.
        with freud.parallel.NumThreads(1):
            context.progress("local order")
            order = LocalOrder(
                self.neighbors, self.bond_threshold, self.solid_bonds, self.crystal_limit, self.demixing_limit
            ).compute(glass)
            context.progress("g(r) and S(q)")
            rdf = RadialDistribution(self.r_max, self.r_bin).compute(glass)
            factor = StructureFactor(self.q_max, self.q_bin).compute(glass)
        functions = {"rdf": (rdf.r, rdf.total)}
        functions |= {f"rdf_{name}": (rdf.r, g_b) for name, g_b in rdf.partials.items()}
        functions |= {"sq": (factor.q, factor.s)}
        table = pl.concat(
            pl.DataFrame({"x": x, "y": y}).select(pl.lit(kind).alias("kind"), "x", "y") for kind, (x, y) in functions.items()
        )
        context.write_table("structure_functions.parquet", table)
        verdict = {
            "strain": glass.strain,
            "crystal_fraction": order.crystal_fraction,
            "largest_cluster": order.largest_cluster,
            "q6_mean": float(order.q6.mean()),
            "demixing": order.demixing,
            "demixing_error": order.demixing_error,
            "is_glass": order.is_glass,
            "reason": order.reason,
        }
        context.write_table("structure.parquet", pl.DataFrame([verdict]))
