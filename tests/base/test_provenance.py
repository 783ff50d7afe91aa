"""Which code makes numbers: every file is in one class, and the fingerprint follows the contents of those that do."""

from __future__ import annotations

import ast
import shutil
import sys
from importlib import invalidate_caches
from itertools import chain
from pathlib import Path

import pytest

import qlm_hoomd
from qlm_hoomd.base.provenance import WITHOUT_NUMBERS, code_fingerprint, contents

ROOT = Path(qlm_hoomd.__file__).parent
PLUGINS = Path(__file__).parents[2] / "plugins"
WITH_NUMBERS = {
    *("engines", "minimize", "numerics", "potentials", "stages", "base/checkpoint.py"),
    *("anharmonic.py", "box.py", "elasticity.py", "forces.py", "glass.py", "gsdio.py", "hessian.py", "mechanics.py"),
    *("model.py", "modes.py", "nonlinear.py", "pair.py", "preparation.py", "relaxed_path.py", "standing.py", "structure.py"),
}


def is_in(path: Path, names: set[str]) -> bool:
    return bool({path.as_posix(), *(parent.as_posix() for parent in path.parents)} & names)


def imported(path: Path, package: str) -> set[Path]:
    """The files of ``package`` that ``path`` imports, anywhere but for the eyes of type checkers."""
    root = ROOT if package == "qlm_hoomd" else next(PLUGINS.glob(f"*/{package}"))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in chain.from_iterable(map(ast.walk, block.body))
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    files = (root.parent.joinpath(*name.split(".")).with_suffix(".py") for name in names if name.startswith(f"{package}."))
    return {file.relative_to(root) for file in files if file.is_file()}


def test_every_file_makes_numbers_or_does_not() -> None:
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT)
        assert is_in(name, WITH_NUMBERS) != is_in(name, set(WITHOUT_NUMBERS)), (
            f"{name} is in neither class, or in both. If what it computes goes into products of stages, name it in "
            "WITH_NUMBERS here; if not, in WITHOUT_NUMBERS of qlm_hoomd.base.provenance."
        )


def test_every_name_in_the_classes_is_there() -> None:
    assert [name for name in (*WITHOUT_NUMBERS, *WITH_NUMBERS) if not (ROOT / name).exists()] == []
    for package in ("qlm_mesoscopic", "qlm_quasistatic"):
        folder = next(PLUGINS.glob(f"*/{package}"))
        assert [name for name in __import__(package).WITHOUT_NUMBERS if not (folder / name).is_file()] == []


# What stages and engines stand on and may not change a number: errors, texts, files as bytes, names of plugins.
HARMLESS = {f"base/{name}.py" for name in ("display", "errors", "files", "interrupt", "registry", "settings")} | {
    *("checkpoint.py", "display.py", "errors.py", "files.py", "registry.py", "settings.py")
}


def test_what_makes_numbers_imports_nothing_that_does_not_but_errors_texts_and_files() -> None:
    for path in ROOT.rglob("*.py"):
        if is_in(path.relative_to(ROOT), WITH_NUMBERS):
            without = {str(name) for name in imported(path, "qlm_hoomd") if is_in(name, set(WITHOUT_NUMBERS))}
            assert without <= HARMLESS, path


@pytest.mark.parametrize("package", ["qlm_mesoscopic", "qlm_quasistatic", "qlm_rewind"])
def test_what_makes_the_numbers_of_plugins_does_the_same(package: str) -> None:
    own_without = {Path(name) for name in getattr(__import__(package), "WITHOUT_NUMBERS", ())} - {Path("brief.py")}
    for path in next(PLUGINS.glob(f"*/{package}")).rglob("*.py"):
        if path.name in {*map(str, own_without), "__init__.py", "brief.py"}:
            continue
        without = {str(name) for name in imported(path, "qlm_hoomd") if is_in(name, set(WITHOUT_NUMBERS))}
        assert without <= HARMLESS, path
        assert not imported(path, package) & own_without, path


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("report/analysis.py", False),
        ("planning/forecast.py", False),
        ("cli.py", False),
        ("ensemble/runner.py", False),
        ("statistics/spectra.py", False),
        ("numerics/pairs.py", True),
        ("engines/cpu.py", True),
        ("stages/modes.py", True),
        ("gsdio.py", True),
        ("base/checkpoint.py", True),
    ],
)
def test_a_comment_counts_where_numbers_are_made_alone(tmp_path: Path, name: str, changes: bool) -> None:
    copy = shutil.copytree(ROOT, tmp_path / "qlm_hoomd", ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(contents(copy, WITHOUT_NUMBERS))
    with (copy / name).open("a") as file:
        file.write("# A comment.\n")
    assert (sorted(contents(copy, WITHOUT_NUMBERS)) != before) == changes


def test_another_name_alone_changes_nothing_and_a_new_file_counts(tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT, tmp_path / "qlm_hoomd", ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(contents(copy, WITHOUT_NUMBERS))
    (copy / "numerics" / "pairs.py").rename(copy / "numerics" / "couples.py")
    (copy / "hessian.py").rename(copy / "stages" / "hesse.py")
    assert sorted(contents(copy, WITHOUT_NUMBERS)) == before
    (copy / "unheard_of.py").write_text("A = 1\n")
    assert sorted(contents(copy, WITHOUT_NUMBERS)) != before


def test_a_plugin_names_what_makes_none_of_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found = {}
    for package, declared in (("qlm_some_plugin", 'WITHOUT_NUMBERS = ("page.py",)\n'), ("qlm_other_plugin", "")):
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").write_text(declared)
        for name in ("stage.py", "page.py"):
            (folder / name).write_text(f'"""{name} of {package}."""\n')
        invalidate_caches()  # a folder made within the same tick of the clock is not looked at again
        for edited in ("nothing", "page.py", "stage.py"):
            if edited != "nothing":
                (folder / edited).write_text("A = 1\n")
            code_fingerprint.cache_clear()
            found[package, edited] = code_fingerprint((package,))
        sys.modules.pop(package)
    assert found["qlm_some_plugin", "page.py"] == found["qlm_some_plugin", "nothing"] != found["qlm_some_plugin", "stage.py"]
    assert len({found["qlm_other_plugin", edited] for edited in ("nothing", "page.py", "stage.py")}) == 3
    assert code_fingerprint(("no_such_package",)) == code_fingerprint()
