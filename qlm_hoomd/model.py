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


class SizeDistribution(Settings):
    """Sizes of particles for a potential that knows them. The defaults are those of Ninarello, Berthier, Coslovich.

    Sources: exponent and mean, PRX 7, 021039 (2017); the ratio, which that paper states as a width of 23 %, from the program of
    G. Bonnes for their model (github.com/GillesBonne/swap_mc).

    Examples:
        >>> sizes = SizeDistribution()
        >>> [round(size, 4) for size in sizes.bounds]
        [0.7253, 1.6095]
        >>> sizes.quantiles(np.array([0.0, 0.5, 1.0])).round(4)
        array([0.7253, 0.9352, 1.6095])
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    distribution: Annotated[Literal["power_law"], Later()] = Field(
        default="power_law", description="P(s) ~ s^-exponent between two sizes"
    )
    exponent: Annotated[float, Field(ge=0, le=20)] = Field(default=3.0, description="of the power law; 0 for equal shares")
    ratio: Annotated[float, Field(gt=1, le=100)] = Field(default=2.219, description="largest size over smallest")
    mean: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1.0, description="mean of the distribution [length]"
    )
    sampling: Literal["quantiles", "random"] = Field(
        default="quantiles",
        description="quantiles: the same sizes in every realisation, at equal steps of the distribution; random: drawn anew",
    )

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest size [length]."""
        smallest = self.mean * _moment(-self.exponent, self.ratio) / _moment(1.0 - self.exponent, self.ratio)
        return smallest, self.ratio * smallest

    def quantiles(self, shares: np.ndarray) -> np.ndarray:
        """((n,) ndarray) sizes that these shares of the particles, from 0 to 1, are smaller than [length]."""
        smallest, _ = self.bounds
        power = 1.0 - self.exponent
        if power == 0.0:
            return smallest * self.ratio**shares
        return smallest * (1.0 + shares * (self.ratio**power - 1.0)) ** (1.0 / power)

    def draw(self, n_particles: int, rng: np.random.Generator) -> np.ndarray:
        """((N,) ndarray) sizes of the particles in ascending order [length]; ``rng`` is asked for random ones alone."""
        if self.sampling == "random":
            return self.quantiles(np.sort(rng.random(n_particles)))
        return self.quantiles((np.arange(n_particles) + 0.5) / n_particles)


def _moment(power: float, ratio: float) -> float:
    """The integral of x^power from 1 to the ratio."""
    rise = (power + 1.0) * math.log(ratio)
    return math.log(ratio) * (math.expm1(rise) / rise if rise else 1.0)


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
    sizes: Annotated[SizeDistribution | None, Later()] = Field(
        default=None,
        description="sizes of the particles, for a potential that knows them; nothing: there the defaults, none elsewhere",
    )
    fraction_large: Annotated[float, Field(ge=0, le=1)] = Field(
        default=_default("fraction_large"),
        description=f"share of the large particles, which of particles with sizes is but a name; {_describe('fraction_large')}",
    )
    T0: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(default=_default("T0"), description=_describe("T0"))

    @model_validator(mode="after")
    def _two_types(self) -> GlassModel:
        if self.potential.sized:
            return self
        if self.sizes is not None:
            raise ValueError(
                f"sizes given, and {type(self.potential).__name__} knows types alone; expected a potential that knows sizes "
                "(soft_spheres), or no sizes"
            )
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

    @property
    def size_distribution(self) -> SizeDistribution | None:
        """From which particles get sizes of their own; None for a potential that knows types alone."""
        return (self.sizes or SizeDistribution()) if self.potential.sized else None

    @property
    def largest_cutoff(self) -> float:
        """Largest distance at which two particles interact [length]."""
        sizes = self.size_distribution
        return self.potential.reach(None if sizes is None else np.array(sizes.bounds))

    def smallest_system(self) -> int:
        """Smallest N whose box, at its largest tilt of 1/2, holds twice the cut-off between opposite faces."""
        length = 2.0 * self.largest_cutoff * math.sqrt(1.25)
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
