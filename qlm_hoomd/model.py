"""The parameters of the paper's glass (3DIPL), of its preparation and of its shear, each with its provenance: the one place where they stand.

The protocol's ``model`` section overrides any of them. "recalled" marks a value that stands in no text at hand; the sister
polydisperse model and the published force field of matscipy support it, and the benchmark values of the test suite use it.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from qlm_hoomd.base.registry import POTENTIALS
from qlm_hoomd.base.settings import Later, OfKind, Settings
from qlm_hoomd.box import Box
from qlm_hoomd.potentials import InversePowerLaw, PairPotential


class Parameter(NamedTuple):
    """A model parameter: its value, its unit, and where it comes from."""

    value: Any
    unit: str
    source: str


PAPER = "Ji et al., PRE 99, 023003 (2019)"
RECALLED = "recalled for the binary model of Lerner and Bouchbinder, PRE 96, 020104 (2017); in no text at hand"

PARAMETERS: dict[str, Parameter] = {
    "epsilon": Parameter(1.0, "energy", f"unit of energy, {PAPER}, App. E"),
    "n": Parameter(10, "", "Lerner, J. Non-Cryst. Solids 522, 119570 (2019), for the polydisperse sister model; " + RECALLED),
    "q": Parameter(3, "", f"'continuous up to the third derivatives', {PAPER}, section III"),
    "x_c": Parameter(1.48, "pair length", RECALLED),
    "lengths": Parameter(((1.0, 1.18), (1.18, 1.4)), "length", RECALLED),
    "density": Parameter(0.82, "1 / length^3", RECALLED),
    "fraction_large": Parameter(0.5, "", RECALLED),
    "mass": Parameter(1.0, "mass", f"all masses equal, {PAPER}, App. E"),
    "T0": Parameter(1.0, "energy / k_B", f"parent temperature eps / k_B, {PAPER}, App. E"),
    "increment": Parameter(1e-4, "", f"coarse strain increment, {PAPER}, App. F"),
    "q_c": Parameter(100.0, "", f"threshold of max|dr'| / (L dgamma) beyond which a step is no elastic one, {PAPER}, App. F"),
}


def _default(name: str) -> Any:
    return PARAMETERS[name].value


def _describe(name: str) -> str:
    parameter = PARAMETERS[name]
    unit = f" [{parameter.unit}]" if parameter.unit else ""
    return f"{parameter.source}{unit}"


_INVERSE_POWER_LAW = {name: _default(name) for name in ("epsilon", "n", "q", "x_c", "lengths")}


class GlassModel(Settings):
    """The binary glass: pair potential, density, composition, parent temperature. Units: epsilon, small length, mass, k_B = 1.

    Examples:
        >>> model = GlassModel()
        >>> round(model.box_length(1000), 3), model.smallest_system()
        (10.684, 82)
        >>> model.typeid(4)
        array([0, 0, 1, 1], dtype=int32)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    potential: Annotated[
        PairPotential,
        OfKind(
            POTENTIALS,
            PairPotential,
            default="inverse_power_law",
            shorthand=True,
            defaults={"inverse_power_law": _INVERSE_POWER_LAW},
        ),
    ] = Field(
        default_factory=lambda: InversePowerLaw(**_INVERSE_POWER_LAW),
        description="pair potential; default: the smoothed inverse power law",
    )
    density: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=_default("density"), description=f"particles per volume, per area in two dimensions; {_describe('density')}"
    )
    dimensions: Annotated[Literal[2, 3], Later()] = Field(default=3, description="of space; two make a flat glass, a square")
    fraction_large: Annotated[float, Field(ge=0, le=1)] = Field(
        default=_default("fraction_large"), description=f"share of the large particles; {_describe('fraction_large')}"
    )
    T0: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(default=_default("T0"), description=_describe("T0"))

    @model_validator(mode="after")
    def _two_types(self) -> GlassModel:
        if self.potential.n_types < 2 and self.fraction_large > 0:
            raise ValueError("the potential knows one particle type; expected two types, or fraction_large = 0")
        return self

    def box_length(self, n_particles: int) -> float:
        """Edge of the cube, or the square, that holds ``n_particles`` at the model's density [length]."""
        return float((n_particles / self.density) ** (1.0 / self.dimensions))

    def box(self, n_particles: int) -> Box:
        """The cube, or the square, that holds ``n_particles`` at the model's density."""
        length = self.box_length(n_particles)
        return Box(length, lz=length if self.dimensions == 3 else 0.0)

    def typeid(self, n_particles: int) -> np.ndarray:
        """((N,) ndarray of int32) types: the first particles are small (0), the rest large (1)."""
        n_large = round(self.fraction_large * n_particles)
        return np.repeat(np.array([0, 1], dtype=np.int32), [n_particles - n_large, n_large])

    def smallest_system(self) -> int:
        """Smallest N whose box, at its largest tilt of 1/2, holds twice the cut-off between opposite faces."""
        length = 2.0 * self.potential.largest_cutoff * math.sqrt(1.25)
        return math.ceil(self.density * length**self.dimensions)


PositiveTime = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Preparation(Settings):
    """How a glass is prepared. The defaults are the paper's; times in t_c, temperatures in units of T0.

    The equilibration time stands in no text at hand; 50 t_c is many relaxation times of the liquid at T0, twice its T_g.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quench: Literal["rapid", "slow"] = Field(description="rapid: overdamped from T0; slow: cooled first, then overdamped")
    equilibration_time: PositiveTime = Field(default=50.0, description="time at T0 before the quench [t_c]")
    cooling_rate: PositiveTime = Field(default=1e-3, description="cooling rate of the slow quench [T0 / t_c]; the paper: 1e-3")
    final_temperature: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="temperature at which cooling ends and overdamped dynamics begins [T0]; the paper: 0.1"
    )
