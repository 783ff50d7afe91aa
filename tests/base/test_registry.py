"""The registry: what is found, and what a plugin that is missing or broken does to the others."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from qlm_hoomd.base.registry import OURS, Group
from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.errors import InputError, PluginError
from qlm_hoomd.registry import ENGINES, GROUPS, STAGES, listing
from qlm_hoomd.testing.tiny import WalkStage, installed


def test_built_in_plugins_load() -> None:
    assert ENGINES.load("cpu") is CPUEngineSettings
    for group in GROUPS:
        loaded, broken = group.load_all()
        assert not broken
        assert list(loaded) == sorted(group.plugins)


def test_installed_distribution_is_found_by_its_entry_points(tmp_path: Path) -> None:
    assert "walk" not in STAGES.plugins
    with installed(tmp_path / "site"):
        assert STAGES.load("walk") is WalkStage
        assert STAGES.plugins["walk"].distribution == "qlm_tiny 1.0"
    assert "walk" not in STAGES.plugins


def test_unknown_name_lists_what_is_installed() -> None:
    with pytest.raises(InputError, match=r"unknown engine 'gpu'; installed: cpu"):
        ENGINES.load("gpu")


@pytest.mark.parametrize(
    ("source", "fact"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("syntax error", "SyntaxError"),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("", "AttributeError"),
    ],
)
def test_broken_plugin_is_reported_with_its_distribution_and_leaves_the_others_alone(
    tmp_path: Path, source: str, fact: str
) -> None:
    folder = tmp_path / "site"
    module = f"ruin_{abs(hash(source))}"
    with installed(folder, {STAGES.name: {"ruin": f"{module}:Stage"}}, name="qlm_ruin"):
        (folder / f"{module}.py").write_text(source)
        message = rf"plugin 'ruin' \({module}:Stage, from qlm_ruin 1.0\) cannot be loaded: {re.escape(fact)}"
        with pytest.raises(PluginError, match=message):
            STAGES.load("ruin")
        loaded, broken = STAGES.load_all()
        assert list(broken) == ["ruin"]
        assert "prepare" in loaded


def test_an_entry_point_that_is_listed_twice_is_one_plugin(tmp_path: Path) -> None:
    with installed(tmp_path / "one"), installed(tmp_path / "two"):
        assert list(STAGES.plugins).count("walk") == 1
        assert STAGES.load("walk") is WalkStage


def test_group_with_a_misspelt_name_is_listed(tmp_path: Path) -> None:
    with installed(tmp_path / "site", {"qlm_hoomd.stage": {"walk": "qlm_hoomd.testing.tiny:WalkStage"}}, name="qlm_typo"):
        assert "walk" not in STAGES.plugins
        (row,) = [row for row in listing() if row["distribution"] == "qlm_typo 1.0"]
    assert (row["group"], row["name"], row["state"]) == ("qlm_hoomd.stage", "walk", "unknown group")
    assert row["error"].startswith(
        "unknown group 'qlm_hoomd.stage', into which nobody looks; expected one of qlm_hoomd.engines"
    )
    assert row["error"].endswith("Did you mean 'qlm_hoomd.stages'?")
    assert not [row for row in listing() if row["state"] == "unknown group"]


def test_what_our_other_distributions_bring_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {}
    for path in sorted((Path(__file__).parents[2] / "plugins").glob("*/pyproject.toml")):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        for group, names in project.get("entry-points", {}).items():
            there |= {(group, name): project["name"] for name in names if group in {"qlm_hoomd.stages", "qlm_hoomd.detectors"}}
    assert there == OURS
    for (group, name), distribution in OURS.items():
        bare = Group(group, "stage")
        monkeypatch.setitem(bare.__dict__, "plugins", {})
        with pytest.raises(
            InputError, match=rf"unknown stage '{name}'; installed: none. It comes with {distribution}, which is not"
        ):
            bare.load(name)
