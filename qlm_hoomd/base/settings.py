"""Settings that plugins define: a field of a pydantic model whose class is chosen by ``kind`` from an entry point group.

The union of kinds is what is installed. Validation loads only the plugin that is asked for, so that a broken one
is in nobody's way; the JSON Schema shows all that load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from qlm_hoomd.base.errors import PluginError, QlmError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

    from qlm_hoomd.base.registry import Group


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


def _error_at(key: str, message: str, value: Any) -> ValidationError:
    # The message goes in as context, so that braces in it are left alone.
    custom = PydanticCustomError("fact", "{message}", {"message": message})
    return ValidationError.from_exception_data("settings", [{"type": custom, "loc": (key,), "input": value}])
