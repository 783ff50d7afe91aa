"""The protocol: one YAML file that says which glasses to make, what to do with them, and what to report.

The models are the reference of the file format; ``qlm schema`` prints them as JSON Schema, plugins included. Every problem
of a file is reported in one go, each with its line, the fact, and what was expected.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

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

from qlm_hoomd.display import Displayed
from qlm_hoomd.engines.base import EngineSettings
from qlm_hoomd.errors import ProtocolError, did_you_mean
from qlm_hoomd.model import GlassModel
from qlm_hoomd.registry import ENGINES, STAGES
from qlm_hoomd.settings import OfKind, for_hash
from qlm_hoomd.stages import Stage

Location = tuple[str | int, ...]


def _not_a_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("not_a_number", "Input should be a valid integer")
    return value


def _file_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError(f"'{_short(value)}' cannot name a folder; expected letters, digits, '.', '_' and '-' (at most 100)")
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


PositiveTime = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Preparation(BaseModel):
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


class Ensemble(BaseModel):
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
            raise _located(("n_particles",), f"a size stands twice in {list(sizes)}; expected each size once", sizes)
        if isinstance(self.realisations, dict) and set(self.realisations) != set(sizes):
            keys = sorted(self.realisations)
            raise _located(("realisations",), f"sizes {keys} do not match n_particles; expected exactly {sorted(sizes)}", keys)
        return self

    def count(self, n_particles: int) -> int:
        """Number of realisations of each preparation at size ``n_particles``."""
        return self.realisations[n_particles] if isinstance(self.realisations, dict) else self.realisations


class SampleSelection(BaseModel):
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


class Analysis(BaseModel):
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
        description="those of the strains that figures show as representative; nothing: the first, and those closest to the paper's "
        "0.02 and 0.09",
    )
    steady_from: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None,
        description="strain from which on the flow counts as steady, for exponents pooled over strain; nothing: the last third of "
        "the range of strains",
    )
    omega_max: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="upper end of the window in which alpha is fitted to D_L(omega) [1 / t_c]; nothing: chosen from the data",
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
    stages: Annotated[tuple[Annotated[Stage, OfKind(STAGES, Stage)], ...], Field(min_length=1)] = Field(
        description="a list of mappings with kind and settings: what is done with every glass, in order"
    )
    analysis: Analysis = Field(default=Analysis(), description="settings of the report; changing them re-runs nothing")

    def _headline(self) -> str:
        sizes, preparations = ", ".join(map(str, self.ensemble.n_particles)), ", ".join(self.ensemble.preparations)
        return f"{self.name}, N = {sizes}, {preparations}"

    def _facts(self) -> Mapping[str, Any]:
        return {"hash": self.hash, **self.model_dump(mode="json", exclude={"name"})}

    @model_validator(mode="after")
    def _runnable(self) -> Protocol:
        problems = [*self._size_problems(), *self._stage_problems()]
        if problems:
            raise ValidationError.from_exception_data("Protocol", [_line_error(*problem) for problem in problems])
        return self

    def _size_problems(self) -> Iterator[tuple[Location, str, Any]]:
        try:
            smallest = self.model.smallest_system()
        except OverflowError:
            cutoff = self.model.potential.largest_cutoff
            yield ("model",), f"cut-off {cutoff:g} at density {self.model.density:g}; expected one that a box can hold", None
            return
        cutoff, density = self.model.potential.largest_cutoff, self.model.density
        for index, size in enumerate(self.ensemble.n_particles):
            if size < smallest:
                fact = f"half the box of N = {size} is {0.5 * self.model.box_length(size):.4g}, too small for the cut-off {cutoff:.4g}"
                expected = f"expected N >= {smallest} at density {density:g}, so that there is room at the largest tilt 1/2 too"
                yield ("ensemble", "n_particles", index), f"{fact}; {expected}", size

    def _stage_problems(self) -> Iterator[tuple[Location, str, Any]]:
        writers: dict[str, str] = {}
        sizes = list(self.ensemble.n_particles)
        for index, stage in enumerate(self.stages):
            here: Location = ("stages", index)
            kind = stage_kind(stage)
            if kind in map(stage_kind, self.stages[:index]):
                yield here, f"'{kind}' stands twice; expected each kind once", kind
                continue
            try:
                stage.check(self.model, sizes)
            except ValueError as error:
                yield here, str(error), kind
            for product in stage.requires():
                if product not in writers:
                    yield here, f"'{kind}' reads {product}; expected a stage before it that writes {product}", kind
            for product in stage.products():
                if product in writers:
                    yield here, f"'{writers[product]}' and '{kind}' both write {product}; expected only one of them", kind
                writers[product] = kind

    @property
    def hash(self) -> str:
        """16 hex digits that change when model, engine or stages change, and only then.

        A setting that a later version brought counts where it is not at its default (:class:`qlm_hoomd.settings.Later`).
        """
        settings = for_hash(self, include={"model", "engine", "stages"})
        return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]

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
        """The protocol as JSON with every default written out; :func:`build_protocol` reads it back."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=2) + "\n"


def stage_kind(stage: Stage) -> str:
    """The kind of a stage, which is its name in protocols and messages."""
    return str(type(stage).model_fields["kind"].default)


def load_protocol(path: Path) -> Protocol:
    """The protocol in a YAML file.

    Raises:
        ProtocolError: with file, line, fact and expectation of every problem.
    """
    settings, lines = _read_yaml(path)
    return build_protocol(settings, path=path, lines=lines)


def build_protocol(
    settings: Mapping[str, Any], *, path: Path | None = None, lines: Mapping[Location, int] = MappingProxyType({})
) -> Protocol:
    """The protocol with these settings, e.g. a dictionary built in a script.

    Args:
        settings: plain values, as a YAML or JSON file gives them.
        path: the file they come from, for messages.
        lines: the line of each place in the file, for messages.

    Raises:
        ProtocolError: with fact and expectation of every problem.
    """
    try:
        return Protocol.model_validate(settings)
    except ValidationError as error:
        details = sorted(
            error.errors(include_url=False), key=lambda detail: _line(_locate(detail["loc"], settings)[0], lines) or 0
        )
        problems = [_problem(detail, settings, lines) for detail in details[:_MAX_PROBLEMS]]
        if len(details) > _MAX_PROBLEMS:
            problems.append((None, f"{len(details) - _MAX_PROBLEMS} more problems; correct these first."))
        raise ProtocolError(path, list(dict.fromkeys(problems))) from None


def explain(path: Path) -> list[tuple[int, str, str]]:
    """What the schema says of the keys in a protocol file: line, key and description, in the order of the file.

    Names that the user chose, such as those of preparations, have no description and are left out; that of ``kind`` is the one of
    the kind that is chosen.

    Raises:
        ProtocolError: if the file is no YAML mapping.
    """
    settings, lines = _read_yaml(path)
    document = schema()
    explained = []
    for place, line in lines.items():
        if place and isinstance(key := place[-1], str):
            found = _object(place[:-1], settings, document)
            said = found if key == "kind" else found.get("properties", {}).get(key, {})
            if text := said.get("description", "").split("\n\n")[0]:
                explained.append((line, key, " ".join(text.replace("``", "`").split())))
    return sorted(explained, key=lambda entry: entry[0])


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a protocol with the plugins that are installed."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Protocol.model_json_schema()}


# ---- from pydantic's errors to sentences ----

_MAX_PROBLEMS = 20
_PLAIN_WORDS = (
    (r", (unable to parse|got a number|exceeded maximum).*$", ""),
    (r"^a valid dictionary( or .*)?$", "a mapping (key: value)"),
    (r"^a valid (tuple|list|array|set)$", "a list"),
    (r"^a valid integer$", "an integer"),
    (r"^a valid number$", "a number"),
    (r"^a valid string$", "text"),
    (r"^a valid boolean$", "true or false"),
    (r"^(greater|less) than", r"a number \1 than"),
)


def _problem(detail: Mapping[str, Any], settings: Any, lines: Mapping[Location, int]) -> tuple[int | None, str]:
    """Line and sentence of one of pydantic's errors."""
    kind, context = detail["type"], detail.get("ctx", {})
    place, found = _locate(detail["loc"], settings)
    where = _dotted(place)
    if kind == "missing":
        description = _properties(place[:-1], settings).get(str(place[-1]), {}).get("description", "a value")
        text = f"{where} is missing; expected {description}"
    elif kind in {"extra_forbidden", "invalid_key", "unexpected_keyword_argument"}:
        known = list(_properties(place[:-1], settings))
        expected = f"expected one of: {', '.join(known)}" if known else "expected no such key (qlm schema lists the keys)"
        text = f"unknown key '{_short(place[-1])}' in {_dotted(place[:-1])}; {expected}.{did_you_mean(place[-1], known)}"
    elif kind == "fact":
        text = f"{where if found else _dotted(place[:-1])}: {context['message']}"
    elif kind in {"value_error", "assertion_error"}:
        text = f"{where}: {context.get('error', detail['msg'])}"
    elif kind in {"too_short", "too_long"}:
        bound = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        text = f"{where} has {context['actual_length']} entries; expected {bound}"
    else:
        expected = detail["msg"]
        if "should " in expected:
            expected = expected.partition("should ")[2].removeprefix("be ")
            for pattern, words in _PLAIN_WORDS:
                expected = re.sub(pattern, words, expected)
        subject = f"key '{_short(place[-1])}' of {_dotted(place[:-1])}" if "[key]" in detail["loc"] else where
        text = f"{subject} {_shown(detail['input'])}; expected {expected}"
    return _line(place, lines), text if text.endswith((".", "?")) else text + "."


def _line(place: Location, lines: Mapping[Location, int]) -> int | None:
    """The line of a place, or of what holds it."""
    return next((lines[place[:end]] for end in range(len(place), -1, -1) if place[:end] in lines), None)


def _locate(location: Location, settings: Any) -> tuple[Location, bool]:
    """The place in the file that an error's location means, and whether there is a value.

    Pydantic's locations also name branches of unions and markers such as ``[key]``, which the file does not contain.
    """
    place: list[str | int] = []
    value = settings
    for position, key in enumerate(location):
        last = position == len(location) - 1
        if isinstance(value, dict):
            named = key if key in value else next((name for name in value if str(name) == str(key)), None)
            if named is not None:
                place.append(named)
                value = value[named]
                continue
            if last and key != "[key]":
                place.append(key)
                return tuple(place), False
        elif isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value):
            place.append(key)
            value = value[key]
    return tuple(place), True


def _properties(place: Location, settings: Any) -> dict[str, Any]:
    """The keys that the schema knows of the mapping at ``place``, with their schemas."""
    return dict(_object(place, settings, schema()).get("properties", {}))


def _object(place: Location, settings: Any, document: dict[str, Any]) -> dict[str, Any]:
    """What the schema ``document`` says of the mapping at ``place``; empty where it knows none."""
    node: Any = document
    value = settings
    for key in place:
        node = _resolved(node, value, document)
        if isinstance(value, dict):
            node = node.get("properties", {}).get(key) or node.get("additionalProperties") or {}
            value = value.get(key)
        else:
            node = node.get("items", {})
            value = value[key] if isinstance(value, list) and isinstance(key, int) else None
    return _resolved(node, value, document)


def _resolved(node: Any, value: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    """The object schema behind references and unions that suits ``value``; empty where there is none."""
    while isinstance(node, dict):
        if "$ref" in node:
            node = document["$defs"][node["$ref"].rpartition("/")[2]]
        elif "discriminator" in node:
            kind = value.get("kind", node.get("default", {}).get("kind")) if isinstance(value, dict) else None
            node = {"$ref": reference} if (reference := node["discriminator"]["mapping"].get(kind)) else {}
        elif "anyOf" in node or "oneOf" in node:
            options = [_resolved(option, value, document) for option in node.get("anyOf") or node["oneOf"]]
            wanted = "object" if isinstance(value, dict) else "array"
            return next((option for option in options if option.get("type") == wanted), {})
        else:
            return node
    return {}


def _dotted(place: Location) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{_short(key)}" for key in place).removeprefix(".")
    return text or "the protocol"


def _shown(value: Any) -> str:
    if value is None:
        return "is empty"
    if isinstance(value, dict):
        return "is a mapping"
    if isinstance(value, (list, tuple)):
        return "is a list"
    return f"= {_short(json.dumps(value) if isinstance(value, (bool, int, float)) else repr(value))}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _line_error(location: Location, message: str, value: Any) -> Any:
    # The message goes in as context, so that braces in it are left alone.
    return {"type": PydanticCustomError("fact", "{message}", {"message": message}), "loc": location, "input": value}


def _located(location: Location, message: str, value: Any) -> ValidationError:
    return ValidationError.from_exception_data("protocol", [_line_error(location, message, value)])


# ---- from YAML to plain values with lines ----

_MAX_BYTES = 200_000
_MAX_DEPTH = 40
_MAX_VALUES = 100_000


def read_settings(path: Path) -> dict[str, Any]:
    """The plain values in a YAML file that holds one mapping.

    Raises:
        ProtocolError: if it holds anything else.
    """
    return _read_yaml(path)[0]


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    """The file as plain dictionaries, lists and scalars, and the line of every place in it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ProtocolError(path, [(None, f"cannot be read ({error.strerror}); expected a YAML protocol file.")]) from None
    if len(content) > _MAX_BYTES:
        raise ProtocolError(path, [(None, f"larger than {_MAX_BYTES // 1000} kB; expected a YAML protocol file.")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ProtocolError(path, [(line, f"byte {error.start} is not UTF-8; expected a YAML text file.")]) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            document = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        fact = " ".join((error.problem or error.context or "not YAML").split())
        twice = re.match(r'found duplicate key "(.*?)" with', fact)
        text = (
            f"key '{_short(twice[1])}' stands twice; expected each key once."
            if twice
            else f"{_short(fact)}; expected valid YAML."
        )
        raise ProtocolError(path, [(mark.line + 1 if mark is not None else None, text)]) from None
    except RecursionError:
        raise ProtocolError(path, [(None, f"nested too deeply; expected at most {_MAX_DEPTH} levels.")]) from None
    except YAMLError as error:
        position = getattr(error, "position", 0)
        raise ProtocolError(
            path, [(text.count("\n", 0, position) + 1, "a character that no text file has; expected a YAML text file.")]
        ) from None
    except Exception as error:  # noqa: BLE001  (the parser lets through what building a value raises, e.g. an impossible date)
        raise ProtocolError(path, [(None, f"{_short(error)}; expected valid YAML.")]) from None
    if document is None:
        raise ProtocolError(path, [(None, f"empty; expected a mapping with the keys {', '.join(Protocol.model_fields)}.")])
    settings, lines = _Plain(path).convert(document)
    if not isinstance(settings, dict):
        kind = "a list" if isinstance(settings, list) else "a single value"
        keys = ", ".join(Protocol.model_fields)
        raise ProtocolError(path, [(1, f"the top level is {kind}; expected a mapping with the keys {keys}.")])
    return settings, lines


class _Plain:
    """Turns ruamel's round-trip values into plain ones and keeps their lines.

    Aliases are written out, so that the number of values is bounded: a file of a few lines can name 10^9 of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Location, int] = {(): 1}
        self.n_values = 0

    def convert(self, document: Any) -> tuple[Any, dict[Location, int]]:
        return self._plain(document, ()), self.lines

    def _plain(self, value: Any, place: Location) -> Any:
        self.n_values += 1
        if len(place) > _MAX_DEPTH:
            self._refuse(place, f"nested too deeply; expected at most {_MAX_DEPTH} levels.")
        if self.n_values > _MAX_VALUES:
            self._refuse(place, f"more than {_MAX_VALUES} values; expected a protocol (do aliases repeat one another?).")
        if (tag := getattr(getattr(value, "tag", None), "value", None)) is not None:
            self._refuse(place, f"the YAML tag {_short(tag)}; expected plain YAML without tags.")
        if isinstance(value, Mapping):
            return {key: self._plain(item, (*place, key)) for key, item in self._items(value, place)}
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            for index in range(len(value)):
                self._note((*place, index), value, "item", index)
            return [self._plain(item, (*place, index)) for index, item in enumerate(value)]
        return self._scalar(value, place)

    def _items(self, mapping: Mapping[Any, Any], place: Location) -> Iterator[tuple[str | int, Any]]:
        for key, item in mapping.items():
            name = key if isinstance(key, int) and not isinstance(key, bool) else str(key)
            self._note((*place, name), mapping, "key", key)
            yield name, item

    def _note(self, place: Location, container: Any, accessor: str, key: Any) -> None:
        try:
            self.lines[place] = getattr(container.lc, accessor)(key)[0] + 1
        except (AttributeError, KeyError, TypeError):
            return  # merged keys and tagged values have no line of their own: the line of their parent serves

    def _scalar(self, value: Any, place: Location) -> Any:
        from ruamel.yaml.scalarbool import ScalarBoolean

        if value is None or type(value) in (str, int, float, bool):
            return value
        if isinstance(value, ScalarBoolean):
            return bool(value)
        for plain in (str, int, float):
            if isinstance(value, plain):
                return plain(value)
        return self._refuse(place, f"a value of the YAML type {type(value).__name__}; expected text, a number, true or false.")

    def _refuse(self, place: Location, message: str) -> Any:
        raise ProtocolError(self.path, [(_line(place, self.lines), message)])
