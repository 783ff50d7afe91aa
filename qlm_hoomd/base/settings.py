"""Settings that plugins define: a field of a pydantic model whose class is chosen by ``kind`` from an entry point group.

The union of kinds is what is installed. Validation loads only the plugin that is asked for, so that a broken one
is in nobody's way; the JSON Schema shows all that load.

Runs are found again by a hash of their settings (:func:`for_hash`). A setting that is added later is marked as such
(:class:`Later`), so that the hashes of the runs that exist stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from qlm_hoomd.base.errors import InputError, PluginError, QlmError, did_you_mean

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.fields import FieldInfo
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

    from qlm_hoomd.base.registry import Group


_PLAIN_WORDS = (
    (r"^Unable to parse input string as an integer, exceeded maximum.*$", "a smaller integer"),
    (r", (unable to parse|got a number|exceeded maximum).*$", ""),
    (r"^a valid dictionary( or .*)?$", "a mapping (key: value)"),
    (r"^a valid (tuple|list|array|set)$", "a list"),
    (r"^a valid integer$", "an integer"),
    (r"^a valid number$", "a number"),
    (r"^a valid string$", "text"),
    (r"^a valid boolean$", "true or false"),
    (r"^(greater|less) than", r"a number \1 than"),
)


def expectation(message: str) -> str:
    """What a message of pydantic expects, in our words."""
    expected = message.partition("should ")[2].removeprefix("be ") if "should " in message else message
    for pattern, words in _PLAIN_WORDS:
        expected = re.sub(pattern, words, expected)
    return expected


def sentences(error: ValidationError, model: type[BaseModel], within: str = "") -> Iterator[str]:
    """The problems of settings of ``model`` that a script or a command names by hand, a sentence each without its full stop.

    Args:
        error: of their validation.
        model: what they are settings of.
        within: key under which the validated model holds them.
    """
    fields = model.model_fields
    known = [name for name in fields if name != "kind"]
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"] if part != within)
        if problem["type"] == "missing":
            name = str(problem["loc"][-1])
            yield f"{place} is missing; expected {fields[name].description if name in fields else 'a value'}"
        elif problem["type"] == "extra_forbidden":
            yield f"unknown key '{place}'; expected one of: {', '.join(known)}.{did_you_mean(place, known)}".rstrip(".")
        elif "should " in problem["msg"]:
            value = problem["input"]
            shown = value if isinstance(value, (int, float)) else repr(value)
            yield f"{place} = {shown!s:.60}; expected {expectation(problem['msg'])}"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            yield f"{place + ': ' if place and place != 'kind' else ''}{message}".rstrip(".")


class _ByHand(type(BaseModel)):  # type: ignore[misc]  # pydantic's metaclass has no public name
    def __call__(cls, *arguments: Any, **settings: Any) -> Any:
        try:
            return super().__call__(*arguments, **settings)
        except ValidationError as error:
            text = "; ".join(sentences(error, cls))
            raise InputError(f"{cls.__name__}: {text}{'' if text.endswith('?') else '.'}") from None


if TYPE_CHECKING:
    # For type checkers they are models like others, whose calls they know.
    Settings = BaseModel
else:

    class Settings(BaseModel, metaclass=_ByHand):
        """Base of settings that scripts make by hand: wrong ones are an InputError in our words.

        Inside another model they are errors of its validation, as those of any model.
        """


class OfKind:
    """Annotation of a pydantic field: settings of the plugin that their ``kind`` names.

    ``stage: Annotated[Stage, OfKind(STAGES, Stage)]`` accepts a mapping such as ``{"kind": "shear", ...}`` or a ``Stage``.

    Args:
        group: the entry point group that holds the settings classes.
        base: their common base class.
        default: the kind that a mapping without ``kind`` means; None if it must be named.
        shorthand: whether a bare name stands for ``{"kind": name}``.
        defaults: settings that a kind takes where the mapping does not name them, by kind.
    """

    def __init__(
        self,
        group: Group,
        base: type[BaseModel],
        *,
        default: str | None = None,
        shorthand: bool = False,
        defaults: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.group = group
        self.base = base
        self.default = default
        self.shorthand = shorthand
        self.defaults = defaults or {}

    def settings_class(self, kind: str) -> type[BaseModel]:
        """The settings class registered as ``kind``.

        Raises:
            InputError: if there is no such plugin.
            PluginError: if it cannot be loaded, or is not a subclass of the base with ``kind`` as literal and default.
        """
        found = self.group.load(kind)
        plugin = self.group.plugins[kind]
        if not (isinstance(found, type) and issubclass(found, self.base)):
            fact = f"is not a subclass of {self.base.__name__}"
        elif "kind" not in found.model_fields or found.model_fields["kind"].default != kind:
            fact = f"does not declare kind: Literal['{kind}'] = '{kind}'"
        else:
            return found
        raise PluginError(
            f"{self.group.noun} '{kind}' ({plugin.entry_point.value}, from {plugin.distribution}) {fact}. "
            "Update or uninstall that distribution."
        )

    def validate(self, value: Any) -> BaseModel:
        """``value`` as settings of its kind; every error carries its place inside ``value``."""
        if isinstance(value, self.base):
            return value
        if self.shorthand and isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, Mapping):
            name_or = "a name, or " if self.shorthand else ""
            raise PydanticCustomError(
                "not_settings", "Input should be {wanted}", {"wanted": f"{name_or}a mapping with the key 'kind'"}
            )
        kind = value.get("kind", self.default)
        if not isinstance(kind, str):
            fact = "is missing" if kind is None else "is not a name"
            raise _error_at("kind", f"kind {fact}; expected one of: {', '.join(self.group.plugins) or 'none installed'}", kind)
        try:
            settings_class = self.settings_class(kind)
        except QlmError as error:
            raise _error_at("kind", str(error), kind) from error
        try:
            return settings_class.model_validate({**self.defaults.get(kind, {}), **value, "kind": kind})
        except ValueError:  # the verdict of the plugin, ValidationError included
            raise
        except QlmError as error:
            raise ValueError(str(error)) from error
        except Exception as error:  # a stranger's validator may fail in any way
            plugin = self.group.plugins[kind]
            raise ValueError(
                f"{self.group.noun} '{kind}' (from {plugin.distribution}) fails while it checks its settings: "
                f"{type(error).__name__}: {error}"
            ) from error

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        # Serialised as the class it is, not as the base that the annotation names.
        return core_schema.no_info_plain_validator_function(self.validate, serialization=core_schema.simple_ser_schema("any"))

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        classes: dict[str, type[BaseModel]] = {}
        for kind in self.group.plugins:
            try:
                classes[kind] = self.settings_class(kind)
            except PluginError:  # `qlm plugins` names it; the schema shows what works
                continue
        if not classes:
            return {"not": {}}
        union = core_schema.tagged_union_schema(
            {kind: settings_class.__pydantic_core_schema__ for kind, settings_class in classes.items()}, discriminator="kind"
        )
        json_schema: JsonSchemaValue = handler(union)
        for kind, reference in json_schema["discriminator"]["mapping"].items():
            definition = handler.resolve_ref_schema({"$ref": reference})
            for key, setting in self.defaults.get(kind, {}).items():
                definition["properties"][key]["default"] = setting
            required = [key for key in definition.get("required", []) if key not in self.defaults.get(kind, {})]
            definition["required"] = required if kind == self.default else ["kind", *(key for key in required if key != "kind")]
        if self.default is not None:
            json_schema["default"] = {"kind": self.default}
        if self.shorthand:
            return {"anyOf": [{"type": "string", "enum": list(classes)}, json_schema]}
        return json_schema


class Later:
    """Annotation of a setting that is younger than runs of its model: at its default it is left out of every hash.

    ``noise: Annotated[float, Later(), Field(ge=0)] = Field(default=0.0, description="...")`` in a stage leaves the hash of
    every protocol, and the ids of its realisations, as they were before there was ``noise``; another value gives another hash.
    The setting needs a default, at which everything is as it was without it. The mark is outermost in the annotation, and
    stays: to take it away, or to change the default, changes the hashes of the runs made since.
    """

    def __repr__(self) -> str:
        return "Later()"


def is_later(field: FieldInfo) -> bool:
    """Whether a field of a model is marked as :class:`Later`."""
    return any(isinstance(mark, Later) for mark in field.metadata)


def for_hash(settings: BaseModel, *, include: set[str] | None = None) -> dict[str, Any]:
    """Settings as the plain values that tell runs apart: without what is :class:`Later` and at its default, at any depth.

    Args:
        settings: a model, which may hold others, those of plugins too.
        include: names of its fields that count; None for all.
    """
    return _without_later(settings, settings.model_dump(mode="json", include=include))


def _without_later(value: Any, plain: Any) -> Any:
    """``plain``, which is ``value`` as plain values, without what is later and at its default."""
    if isinstance(value, BaseModel) and isinstance(plain, dict):
        items = dict(value)  # not getattr, which warns of deprecated ones
        later = {name for name, field in type(value).model_fields.items() if is_later(field) and _is_default(value, name)}
        return {name: _without_later(items.get(name), each) for name, each in plain.items() if name not in later}
    if isinstance(value, Mapping) and isinstance(plain, dict) and len(value) == len(plain):
        return {name: _without_later(item, each) for item, (name, each) in zip(value.values(), plain.items(), strict=True)}
    if isinstance(value, (list, tuple)) and isinstance(plain, list) and len(value) == len(plain):
        return [_without_later(item, each) for item, each in zip(value, plain, strict=True)]
    return plain


def _is_default(settings: BaseModel, name: str) -> bool:
    """Whether a setting has the value that it gets where it is not named, whatever way the model finds it."""
    others = dict(settings)
    own = others.pop(name)
    try:
        return bool(dict(type(settings).model_validate(others))[name] == own)
    except ValidationError:  # the others cannot do without it
        return False


def _error_at(key: str, message: str, value: Any) -> ValidationError:
    # The message goes in as context, so that braces in it are left alone.
    custom = PydanticCustomError("fact", "{message}", {"message": message})
    return ValidationError.from_exception_data("settings", [{"type": custom, "loc": (key,), "input": value}])
