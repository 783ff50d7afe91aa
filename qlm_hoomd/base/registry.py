"""Plugins, found through entry points and loaded when they are first asked for.

A plugin that cannot be loaded is reported with the name of its distribution and never takes the program down.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from qlm_hoomd.base.errors import InputError, PluginError, did_you_mean


@dataclass(frozen=True)
class Plugin:
    """One registered plugin.

    Args:
        name: the name that protocols use.
        group: entry point group.
        entry_point: where the object is.
    """

    name: str
    group: str
    entry_point: EntryPoint

    @property
    def distribution(self) -> str:
        """Name and version of the distribution that registered the plugin."""
        distribution = self.entry_point.dist
        return f"{distribution.name} {distribution.version}" if distribution is not None else "unknown distribution"

    def load(self) -> Any:
        """The registered object.

        Raises:
            PluginError: if importing it fails, whatever the reason.
        """
        try:
            return self.entry_point.load()
        except Exception as error:  # a stranger's plugin may fail in any way; the program must survive it
            raise PluginError(
                f"plugin '{self.name}' ({self.entry_point.value}, from {self.distribution}) cannot be loaded: "
                f"{type(error).__name__}: {error}. Update or uninstall that distribution."
            ) from error


OURS = {
    ("qlm_hoomd.stages", "shear"): "qlm_quasistatic",
    ("qlm_hoomd.detectors", "fold"): "qlm_rewind",
    ("qlm_hoomd.detectors", "threshold"): "qlm_rewind",
    ("qlm_hoomd.stages", "mesoscopic"): "qlm_mesoscopic",
}
"""What our templates name and a distribution of its own brings, by entry point group and name: for messages alone."""


class Group:
    """The plugins of one entry point group.

    Args:
        name: entry point group, e.g. ``qlm_hoomd.stages``.
        noun: what one of them is called in messages.
    """

    def __init__(self, name: str, noun: str) -> None:
        self.name = name
        self.noun = noun

    def __repr__(self) -> str:
        return f"Group({self.name!r}, {self.noun!r})"

    @cached_property
    def plugins(self) -> dict[str, Plugin]:
        """The registered plugins by name, in alphabetical order; nothing is imported."""
        found: dict[str, Plugin] = {}
        for entry_point in entry_points(group=self.name):
            # An editable install can list an entry point twice; the same target is the same plugin.
            found.setdefault(entry_point.name, Plugin(entry_point.name, self.name, entry_point))
        return dict(sorted(found.items()))

    def load(self, name: str) -> Any:
        """The object registered as ``name``.

        Raises:
            InputError: if there is no such plugin.
            PluginError: if the plugin is broken.
        """
        try:
            plugin = self.plugins[name]
        except KeyError:
            names = ", ".join(self.plugins) or "none"
            ours = OURS.get((self.name, name))
            hint = (
                f" It comes with {ours}, which is not installed: add qlm_hoomd[plugins] to what you install."
                if ours
                else did_you_mean(name, self.plugins)
            )
            raise InputError(f"unknown {self.noun} '{name}'; installed: {names}.{hint}") from None
        return plugin.load()

    def load_all(self) -> tuple[dict[str, Any], dict[str, PluginError]]:
        """All objects that load, and for those that do not the error, both by name."""
        loaded: dict[str, Any] = {}
        broken: dict[str, PluginError] = {}
        for name, plugin in self.plugins.items():
            try:
                loaded[name] = plugin.load()
            except PluginError as error:
                broken[name] = error
        return loaded, broken


ENGINES = Group("qlm_hoomd.engines", "engine")
POTENTIALS = Group("qlm_hoomd.potentials", "potential")
STAGES = Group("qlm_hoomd.stages", "stage")
DETECTORS = Group("qlm_hoomd.detectors", "detector")
EXECUTORS = Group("qlm_hoomd.executors", "executor")
REPORT_SECTIONS = Group("qlm_hoomd.report_sections", "report section")
READERS = Group("qlm_hoomd.readers", "reader")
GROUPS = (ENGINES, POTENTIALS, STAGES, DETECTORS, EXECUTORS, REPORT_SECTIONS, READERS)


def listing() -> list[dict[str, Any]]:
    """Every plugin as plain values: ``group``, ``name``, ``object``, ``distribution``, ``state`` and ``error``.

    The state is ``ok``, ``broken``, or ``unknown group``: a group with a name like ours that nobody looks into.
    """
    rows: list[dict[str, Any]] = []
    for group in GROUPS:
        _, broken = group.load_all()
        for name, plugin in group.plugins.items():
            error = broken.get(name)
            rows.append(_row(plugin, "ok", None) if error is None else _row(plugin, "broken", str(error)))
    known = [group.name for group in GROUPS]
    for name in sorted(entry_points().groups):
        if name.startswith("qlm_hoomd") and name not in known:
            for plugin in Group(name, "plugin").plugins.values():
                reason = f"unknown group '{name}', into which nobody looks; expected one of {', '.join(known)}.{did_you_mean(name, known)}"
                rows.append(_row(plugin, "unknown group", reason))
    return rows


def _row(plugin: Plugin, state: str, error: str | None) -> dict[str, Any]:
    return {
        "group": plugin.group,
        "name": plugin.name,
        "object": plugin.entry_point.value,
        "distribution": plugin.distribution,
        "state": state,
        "error": error,
    }
