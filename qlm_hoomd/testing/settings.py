"""What holds for the settings of every plugin that a protocol configures."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import ValidationError

from qlm_hoomd.base.settings import is_later

if TYPE_CHECKING:
    from pydantic import BaseModel

    from qlm_hoomd.base.registry import Group


class SettingsConformance:
    """Base of the suites of plugins with settings.

    Attributes:
        group: entry point group that the plugin belongs to.
    """

    group: ClassVar[Group]

    def settings_under_test(self) -> BaseModel:
        """The settings that the suite tests."""
        raise NotImplementedError

    def test_is_registered_under_its_kind(self) -> None:
        """The registry finds the class under the name that protocols use."""
        settings = self.settings_under_test()
        kind = type(settings).model_fields["kind"].default
        assert kind in self.group.plugins, f"no {self.group.noun} '{kind}' is registered under {self.group.name}"
        assert self.group.load(kind) is type(settings), f"{self.group.noun} '{kind}' is another class"

    def test_settings_survive_json(self) -> None:
        """Settings are stored as JSON and read back equal."""
        settings = self.settings_under_test()
        assert type(settings).model_validate_json(settings.model_dump_json()) == settings

    def test_refuses_unknown_settings(self) -> None:
        """A misspelt key is an error."""
        settings = self.settings_under_test()
        try:
            type(settings).model_validate({**settings.model_dump(), "no_such_setting": 1})
        except ValidationError:
            return
        raise AssertionError("an unknown setting was accepted; expected ConfigDict(extra='forbid')")

    def test_later_settings_have_a_default(self) -> None:
        """A setting that runs from before do not have must have a value in them."""
        fields = type(self.settings_under_test()).model_fields
        bare = [name for name, field in fields.items() if is_later(field) and field.is_required()]
        assert not bare, f"no default of {bare}, which are marked as Later; expected the value that leaves everything as it was"

    def test_is_frozen(self) -> None:
        """Settings are values."""
        settings = self.settings_under_test()
        assert settings.model_config.get("frozen"), "settings can be changed; expected ConfigDict(frozen=True)"

    def test_every_setting_is_described(self) -> None:
        """`qlm schema` has something to say about each setting."""
        fields = type(self.settings_under_test()).model_fields
        silent = [name for name, field in fields.items() if name != "kind" and not field.description]
        assert not silent, f"no description of {silent}; expected Field(description=...), which `qlm schema` shows"
