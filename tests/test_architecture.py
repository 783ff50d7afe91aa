"""The picture in docs/architecture.md is the structure of the code: imports point down in it, and nothing imports in a circle."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = {"qlm_hoomd": ROOT / "qlm_hoomd"} | {
    path.name: path for path in (ROOT / "plugins").glob("*/qlm_*") if (path / "__init__.py").exists()
}
FACADES = {"checkpoint", "display", "errors", "files", "registry", "settings"}


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    package = next(folder for folder in PACKAGES.values() if path.is_relative_to(folder))
    return ".".join(part for part in path.relative_to(package.parent).with_suffix("").parts if part != "__init__")


MODULES = {
    name_of(path): path
    for folder in PACKAGES.values()
    for path in sorted(folder.rglob("*.py*"))
    if path.suffix in {".py", ".pyi"}
}


IMPORTERS = {"__import__", "find_spec", "import_module"}


def names_in(node: ast.AST, module: str) -> list[str]:
    """The dotted names that a piece of code imports; those of modules that only the running program knows are no names."""
    if isinstance(node, ast.ImportFrom):
        package = module.split(".") if MODULES[module].stem == "__init__" else module.split(".")[:-1]
        above = package[: len(package) + 1 - node.level] if node.level else []
        base = ".".join([*above, *filter(None, [node.module])])
        return [f"{base}.{each.name}" for each in node.names]
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", None)) in IMPORTERS:
        return [each.value for each in node.args[:1] if isinstance(each, ast.Constant)]
    return []


def imports_of(tree: ast.AST, module: str) -> set[str]:
    """The modules of this project that code in ``module`` imports, wherever: in functions and for type checkers too."""
    names = [name for node in ast.walk(tree) for name in names_in(node, module)]
    return {known for name in names for known in [name if name in MODULES else name.rpartition(".")[0]] if known in MODULES}


@cache
def imports(module: str) -> tuple[str, ...]:
    """The modules of this project that a module imports."""
    return tuple(sorted(imports_of(ast.parse(MODULES[module].read_text(encoding="utf-8")), module) - {module}))


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from qlm_hoomd.report import results", "qlm_hoomd.report.results"),
        ("from qlm_hoomd.report import Results", "qlm_hoomd.report"),
        ("from qlm_hoomd.cli import *", "qlm_hoomd.cli"),
        ("import qlm_hoomd.report.results as r", "qlm_hoomd.report.results"),
        ("def late():\n    import qlm_hoomd.cli", "qlm_hoomd.cli"),
        ("if TYPE_CHECKING:\n    from qlm_hoomd.cli import app", "qlm_hoomd.cli"),
        ("from ..report import Results", "qlm_hoomd.report"),
        ("from .. import cli", "qlm_hoomd.cli"),
        ("from . import lanes", "qlm_hoomd.numerics.lanes"),
        ("from .lanes import LANES", "qlm_hoomd.numerics.lanes"),
        ("importlib.import_module('qlm_hoomd.cli')", "qlm_hoomd.cli"),
        ("import_module('qlm_rewind')", "qlm_rewind"),
        ("__import__('qlm_hoomd.cli')", "qlm_hoomd.cli"),
    ],
)
def test_no_form_of_an_import_escapes(code: str, found: str) -> None:
    assert imports_of(ast.parse(code), "qlm_hoomd.numerics.vectors") == {found}


def floors(package: str) -> list[list[str]]:
    """The rooms of a package from the top floor down, as the page draws them."""
    block = re.search(rf"```\{{code-block\}} text\n:name: {re.escape(package)}\n\n(.*?)```", PAGE, flags=re.DOTALL)
    assert block is not None, f"docs/architecture.md has no picture named {package}"
    return [line.split("  ")[0].split() for line in block[1].splitlines() if line and not line.startswith(" ")]


DRAWN = {package: floors(package) for package in re.findall(r":name: ([\w.]+)", PAGE)}


def room(module: str, package: str) -> str:
    """The file or folder in a package that a module is, or is in; empty for what is not of the package, and for its front."""
    inside = module.removeprefix(f"{package}.")
    return "" if inside == module else inside.split(".")[0]


@pytest.mark.parametrize("package", DRAWN)
def test_the_picture_has_every_room_once(package: str) -> None:
    drawn = [name for floor in DRAWN[package] for name in floor]
    rooms = {room(module, package) for module in MODULES} - {""}
    assert sorted(drawn) == sorted(rooms - (FACADES if package == "qlm_hoomd" else set()))


@pytest.mark.parametrize("package", DRAWN)
def test_imports_point_down_in_the_picture(package: str) -> None:
    height = {name: -number for number, floor in enumerate(DRAWN[package]) for name in floor}
    upward = [
        f"{module} imports {other}"
        for module in MODULES
        for other in imports(module)
        if (here := room(module, package)) in height and (there := room(other, package)) not in {here, ""}
        if not height.get(there, 1) < height[here]
    ]
    assert not upward, "draw it otherwise, or let it depend on less: " + "; ".join(upward)


def test_core_knows_no_plugin_and_plugins_only_those_below_them() -> None:
    # The compiled pair force is a part of `pair` that only a machine with HOOMD-blue can build, and fits in no group of plugins.
    allowed = {"qlm_rewind": {"qlm_quasistatic"}, "qlm_hoomd": {"qlm_hoomd_ipl"}}
    known = {
        (module.split(".")[0], other.split(".")[0])
        for module in MODULES
        for other in imports(module)
        if other.split(".")[0] not in {"qlm_hoomd", module.split(".")[0]}
        # The suite for detectors drives one through a run, which is in the plugin that says what a detector is.
        if (module, other.split(".")[0]) != ("qlm_hoomd.testing.detectors", "qlm_quasistatic")
    }
    assert known <= {(plugin, other) for plugin, others in allowed.items() for other in others}


def test_no_file_imports_in_a_circle() -> None:
    """Files with nothing left to wait for are taken away, again and again; what is left goes in circles."""
    waits = {module: set(imports(module)) for module in MODULES}
    while ready := {module for module, others in waits.items() if not others & waits.keys()}:
        waits = {module: others for module, others in waits.items() if module not in ready}
    assert not waits, "in circles or above one: " + ", ".join(sorted(waits))


def test_names_for_plugin_authors_are_those_of_base_and_core_goes_there_itself() -> None:
    for name in FACADES:
        assert imports(f"qlm_hoomd.{name}") == (f"qlm_hoomd.base.{name}",)
    users = [module for module in MODULES for other in imports(module) if other.removeprefix("qlm_hoomd.") in FACADES]
    assert not [module for module in users if module.startswith("qlm_hoomd.")]


LARGEST = 500


@pytest.mark.parametrize("module", MODULES)
def test_a_long_file_says_why_it_is_one(module: str) -> None:
    lines = MODULES[module].read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LARGEST or re.search(r"^# One file( of \d+ lines)?: ", "\n".join(lines[:60]), flags=re.MULTILINE)
