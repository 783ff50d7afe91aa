"""The models of a protocol, the reference of the file format: ``qlm schema`` prints them as JSON Schema."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from qlm_hoomd.base.display import Displayed
from qlm_hoomd.base.registry import ENGINES, STAGES
from qlm_hoomd.base.settings import Later, OfKind, Settings, for_hash
from qlm_hoomd.engines.base import EngineSettings
from qlm_hoomd.model import GlassModel, Preparation
from qlm_hoomd.protocol.facts import Location, line_error, located, short
from qlm_hoomd.stages.base import RESERVED_FILES, RESERVED_TABLES, Stage


def _not_a_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("not_a_number", "Input should be a valid integer")
    return value


def _file_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError(f"'{short(value)}' cannot name a folder; expected letters, digits, '.', '_' and '-' (at most 100)")
    return value


def _shape(value: Any) -> str:
    return "mapping" if isinstance(value, Mapping) else "number"


Name = Annotated[str, AfterValidator(_file_name)]
# The bounds keep a slip of the finger from asking for a workspace that no disk holds.
MAX_REALISATIONS = 1_000_000
Count = Annotated[int, Field(gt=0, le=MAX_REALISATIONS), BeforeValidator(_not_a_boolean)]
Size = Annotated[int, Field(gt=0, le=100_000_000), BeforeValidator(_not_a_boolean)]
Fraction = Annotated[float, Field(gt=0, le=1)]
# A union told apart by its shape: a wrong value gets one message, not one for each member.
_SHAPE = Discriminator(_shape)
CountBySize = Annotated[Annotated[Count, Tag("number")] | Annotated[dict[Size, Count], Tag("mapping")], _SHAPE]
FractionBySize = Annotated[Annotated[Fraction | None, Tag("number")] | Annotated[dict[Size, Fraction], Tag("mapping")], _SHAPE]


def _named_preparations(value: Any) -> Any:
    """``[rapid]`` written out as ``{rapid: {quench: rapid}}``."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        raise PydanticCustomError(
            "not_preparations", "Input should be a list of names of quenches, or a mapping of names to settings"
        )
    if len(set(value)) < len(value):
        raise ValueError(f"a preparation stands twice in {list(value)}; expected each name once")
    return {name: {"quench": name} for name in value}


class Ensemble(Settings):
    """Which glasses are made: sizes, preparations, and how many realisations of each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_particles: Annotated[tuple[Size, ...], Field(min_length=1)] = Field(description="system sizes N, a list of integers")
    preparations: Annotated[
        dict[Name, Preparation],
        BeforeValidator(_named_preparations, json_schema_input_type=list[str] | dict[str, Preparation]),
        Field(min_length=1),
    ] = Field(description="list of quenches (rapid, slow), or mapping of a name to the settings of that preparation")
    realisations: CountBySize = Field(
        description="independent glasses per size and preparation: one number, or a mapping of each N to its number"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Ensemble:
        sizes = self.n_particles
        if len(set(sizes)) < len(sizes):
            raise located(("n_particles",), f"a size stands twice in {list(sizes)}; expected each size once", sizes)
        if isinstance(self.realisations, dict) and set(self.realisations) != set(sizes):
            keys = sorted(self.realisations)
            raise located(("realisations",), f"sizes {keys} do not match n_particles; expected exactly {sorted(sizes)}", keys)
        return self

    def count(self, n_particles: int) -> int:
        """Number of realisations of each preparation at size ``n_particles``."""
        return self.realisations[n_particles] if isinstance(self.realisations, dict) else self.realisations


class SampleSelection(Settings):
    """Which samples count for the spectra, by their labels in ``moduli.parquet``: D_L depends on them.

    Sources: Krishnan, Ramola, Karmakar, arXiv:2104.09181 (omega^5 in shear-stabilised samples); Chakraborty et al.,
    arXiv:2412.06475 (omega^6.5 at zero residual shear stress).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shear_stable: bool | None = Field(
        default=None, description="true: only samples that a small shear of any direction costs energy; false: only the others"
    )
    residual_shear_stress_max: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="only samples whose deviatoric stress sqrt(s_ij s_ij / 2) is at most this [energy / length^3]"
    )
    strain_since_event_min: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="only samples that travelled at least this strain since their last instability"
    )


PAPER_STRAINS = (0.02, 0.09)
"""Strains above 0 that the paper shows as representative."""


class Analysis(Settings):
    """Settings of the report. They are not part of the protocol's hash: changing them re-runs nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    participation_threshold: FractionBySize = Field(
        default=None,
        description="e_c: modes of a larger participation ratio are taken for phonons; one number, a mapping of each N to its "
        "number, or nothing for the paper's rule (participation number 2000: e_c = 0.125 at N = 16000)",
    )
    strains: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(
        default=(0.0,), description="accumulated strains at which theta and alpha are reported"
    )
    shown_strains: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None = Field(
        default=None,
        description="those of the strains that figures show as representative; nothing: the first, and those closest to the "
        "paper's 0.02 and 0.09",
    )
    steady_from: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None,
        description="strain from which on the flow counts as steady, for exponents pooled over strain; nothing: the last "
        "third of the range of strains, where the mean stress is flat there within its error",
    )
    omega_max: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="upper end of the window in which alpha is fitted to D_L(omega) [1 / t_c]; nothing: chosen from the data",
    )
    omega_min: Annotated[float | None, Later(), Field(ge=0, allow_inf_nan=False)] = Field(
        default=None,
        description="lower end of that window [1 / t_c]; nothing: the smallest of 0, 0.05, ..., 0.75 of the upper end above "
        "which the modes pass a test of a power law",
    )
    select: SampleSelection = Field(default=SampleSelection(), description="samples that count for the spectra; default: all")
    exclude_crystals: bool = Field(default=True, description="leave out realisations that crystallised or phase-separated")
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(default=0.95, description="level of all confidence intervals")
    insist: bool = Field(default=False, description="print exponents even where the statistics are too weak to carry them")

    @field_validator("shown_strains")
    @classmethod
    def _are_analysed(cls, shown: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        strains = info.data.get("strains") or (0.0,)
        missing = [strain for strain in shown or () if strain not in strains]
        if missing or shown == ():
            raise ValueError(f"shown_strains = {list(shown or ())}; expected one or more of the strains {list(strains)}")
        return shown

    @classmethod
    def from_protocol(cls, protocol: Mapping[str, Any]) -> Analysis:
        """The settings in a protocol of plain values, as the report wants them: strains in ascending order, each once.

        Defaults stand where the protocol has nothing, 0 for no strain at all; keys that this version does not know are passed
        over.
        """
        given = {name: value for name, value in (protocol.get("analysis") or {}).items() if name in cls.model_fields}
        given["strains"] = sorted({float(strain) for strain in given.get("strains") or (0.0,)})
        return cls.model_validate(given)

    @property
    def shown(self) -> tuple[float, ...]:
        """The representative strains: those asked for, or the first and those closest to the paper's 0.02 and 0.09."""
        if self.shown_strains is not None:
            return tuple(sorted(strain for strain in self.strains if strain in self.shown_strains)) or self.strains[:1]
        closest = {min(self.strains, key=lambda strain: abs(strain - wanted)) for wanted in PAPER_STRAINS}
        return tuple(sorted({self.strains[0], *closest}))

    @property
    def steady(self) -> tuple[float, float] | None:
        """Range of strains whose flow counts as steady, None where no strain of the analysis lies in it."""
        last = max(self.strains)
        first = last - (last - min(self.strains)) / 3 if self.steady_from is None else self.steady_from
        return (first, last) if first < last else None

    @property
    def selection(self) -> str:
        """The samples that count for the spectra, in words; empty for all."""
        select = self.select
        words = {
            "shear_stable": "stable under every small shear" if select.shear_stable else "unstable under some small shear",
            "residual_shear_stress_max": f"residual shear stress up to {select.residual_shear_stress_max}",
            "strain_since_event_min": f"strain of at least {select.strain_since_event_min} since the last instability",
        }
        return ", ".join(text for name, text in words.items() if getattr(select, name) is not None)

    def threshold(self, n_particles: int) -> float:
        """Participation ratio e_c at this size."""
        from qlm_hoomd.statistics import (
            default_participation_threshold,  # scipy comes with it, which a protocol need not wait for
        )

        chosen = self.participation_threshold
        if isinstance(chosen, Mapping):
            chosen = chosen.get(n_particles)
        return default_participation_threshold(n_particles) if chosen is None else float(chosen)


class Protocol(Displayed, BaseModel):
    """A validated protocol. Build one with :func:`load_protocol` or :func:`build_protocol`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(description="a name for the protocol; the default folder is runs/<name>")
    seed: Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(_not_a_boolean)] = Field(
        description="an integer >= 0, the root of all random streams"
    )
    model: GlassModel = Field(default=GlassModel(), description="the glass: pair potential, density, composition, T0")
    engine: Annotated[EngineSettings, OfKind(ENGINES, EngineSettings, shorthand=True)] = Field(
        default="cpu",
        validate_default=True,
        description="what runs dynamics and relaxation: a name, or a mapping with kind and settings",
    )
    ensemble: Ensemble = Field(description="the glasses to make: n_particles, preparations, realisations")
    stages: Annotated[tuple[Annotated[Stage, OfKind(STAGES, Stage, shorthand=True)], ...], Field(min_length=1)] = Field(
        description="a list of mappings with kind and settings, or of names: what is done with every glass, in order"
    )
    analysis: Analysis = Field(default=Analysis(), description="settings of the report; changing them re-runs nothing")

    def _headline(self) -> str:
        sizes, preparations = ", ".join(map(str, self.ensemble.n_particles)), ", ".join(self.ensemble.preparations)
        return f"{self.name}, N = {sizes}, {preparations}"

    def _facts(self) -> Mapping[str, Any]:
        return {"hash": self.hash, **self.model_dump(mode="json", exclude={"name"})}

    @model_validator(mode="after")
    def _runnable(self) -> Protocol:
        problems = [*self._size_problems(), *self._stage_problems(), *self._analysis_problems()]
        if problems:
            raise ValidationError.from_exception_data("Protocol", [line_error(*problem) for problem in problems])
        return self

    def _size_problems(self) -> Iterator[tuple[Location, str, Any]]:
        try:
            smallest = self.model.smallest_system()
        except OverflowError:
            cutoff = self.model.largest_cutoff
            yield ("model",), f"cut-off {cutoff:g} at density {self.model.density:g}; expected one that a box can hold", None
            return
        cutoff, density = self.model.largest_cutoff, self.model.density
        for index, size in enumerate(self.ensemble.n_particles):
            if size < smallest:
                fact = (
                    f"half the box of N = {size} is {0.5 * self.model.box_length(size):.4g}, too small for the cut-off "
                    f"{cutoff:.4g}"
                )
                expected = f"expected N >= {smallest} at density {density:g}, so that there is room at the largest tilt 1/2 too"
                yield ("ensemble", "n_particles", index), f"{fact}; {expected}", size

    def _stage_problems(self) -> Iterator[tuple[Location, str, Any]]:
        writers: dict[str, str] = {}
        sizes = list(self.ensemble.n_particles)
        for index, stage in enumerate(self.stages):
            here: Location = ("stages", index)
            kind = stage.kind
            if kind in (before.kind for before in self.stages[:index]):
                yield here, f"'{kind}' stands twice; expected each kind once", kind
                continue
            try:
                stage.check(self.model, sizes)
                stage.check_after(self.stages[:index])
            except ValueError as error:
                yield here, str(error), kind
            for product in stage.requires():
                if product not in writers:
                    yield here, f"'{kind}' reads {product}; expected a stage before it that writes {product}", kind
            for product in (*stage.products(), *stage.optional_products()):
                if product in writers:
                    yield here, f"'{writers[product]}' and '{kind}' both write {product}; expected only one of them", kind
                if not re.fullmatch(r"\w[\w.-]*", product, re.ASCII):
                    yield here, f"'{kind}' writes '{product}'; expected a name of letters, digits, '_', '.' and '-'", kind
                if product in RESERVED_FILES or product.removesuffix(".parquet") in RESERVED_TABLES:
                    yield here, f"'{kind}' writes {product}, a name that is taken; expected another one", kind
                writers[product] = kind

    def _analysis_problems(self) -> Iterator[tuple[Location, str, Any]]:
        for index, strain in enumerate(self.analysis.strains):
            # Of 0, the default, a run that does not come by it says itself that nothing was measured there.
            if strain != 0.0 and all(stage.reaches(strain) is False for stage in self.stages):
                fact = f"strain {strain:g} is measured by no stage; expected strains that the shear passes or `modes` names"
                yield ("analysis", "strains", index), fact, strain

    @property
    def hash(self) -> str:
        """16 hex digits that change when model, engine or stages change, and only then.

        A setting that a later version brought counts where it is not at its default (:class:`qlm_hoomd.settings.Later`).
        """
        return protocol_hash(for_hash(self, include={"model", "engine", "stages"}))

    def statepoints(self) -> Iterator[dict[str, Any]]:
        """The state point of every realisation, by size, preparation and index.

        Preparation settings and seed are in it and not in the hash: adding sizes, preparations or realisations
        leaves the realisations that exist valid.
        """
        protocol_hash = self.hash
        settings = {name: for_hash(preparation) for name, preparation in self.ensemble.preparations.items()}
        for n_particles in self.ensemble.n_particles:
            for name in self.ensemble.preparations:
                for realisation in range(self.ensemble.count(n_particles)):
                    yield {
                        "protocol_hash": protocol_hash,
                        "n_particles": n_particles,
                        "preparation": name,
                        "preparation_settings": settings[name],
                        "seed": self.seed,
                        "realisation": realisation,
                    }

    def canonical(self) -> str:
        """The protocol as JSON with every default written out but those of later settings.

        :func:`build_protocol` reads it back.
        """
        return json.dumps(for_hash(self), sort_keys=True, indent=2) + "\n"


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """:attr:`Protocol.hash` from plain values as ``protocol.json`` has them: that takes none of the plugins that they name."""
    settings = {name: protocol.get(name) for name in ("model", "engine", "stages")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a protocol with the plugins that are installed."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Protocol.model_json_schema()}
