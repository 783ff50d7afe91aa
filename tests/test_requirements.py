"""The files that say what is needed agree: pyproject.toml of every distribution, constraints/lowest.txt, environment.yml."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
ENVIRONMENT = YAML(typ="safe").load(ROOT / "environment.yml")["dependencies"]
IN_CONDA = {"freud-analysis": "freud", "matplotlib": "matplotlib-base"}


@pytest.fixture(scope="module")
def lowest() -> ModuleType:
    specification = importlib.util.spec_from_file_location("lowest", ROOT / "constraints" / "lowest.py")
    assert specification is not None
    assert specification.loader is not None
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    return loaded


def test_lowest_versions_are_those_that_the_distributions_allow(lowest: ModuleType) -> None:
    assert (ROOT / "constraints" / "lowest.txt").read_text(encoding="utf-8") == lowest.pins(), "run constraints/lowest.py"


def test_lowest_versions_are_of_every_distribution(lowest: ModuleType) -> None:
    folders = {path.parent for path in lowest.PROJECTS}
    assert folders == {ROOT, *(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))}
    floors = lowest.floors()
    assert {"numpy", "typer", "pytest", "sphinx", "mypy"} <= floors.keys()
    assert not [name for name in floors if name.startswith("qlm")]


def test_the_larger_of_two_floors_counts_by_number_and_not_by_letter(
    lowest: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []
    for name, floor in (("one", "1.9"), ("two", "1.10")):
        paths.append(tmp_path / f"{name}.toml")
        paths[-1].write_text(f'[project]\nname = "{name}"\ndependencies = ["Some_Thing>={floor}", "one"]\n')
    monkeypatch.setattr(lowest, "PROJECTS", paths)
    assert lowest.floors() == {"some-thing": "1.10"}


@pytest.mark.parametrize("requirement", ["numpy", "numpy>=2,<3", "numpy==2.0"])
def test_a_requirement_without_a_plain_floor_is_named(
    requirement: str, lowest: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.toml").write_text(f'[project]\nname = "one"\ndependencies = ["{requirement}"]\n')
    monkeypatch.setattr(lowest, "PROJECTS", [tmp_path / "one.toml"])
    with pytest.raises(ValueError, match=re.escape(f"one requires '{requirement}'")):
        lowest.floors()


def test_environment_has_the_bounds_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {"python": project["requires-python"]}
    for requirement in project["dependencies"]:
        name, bound = re.fullmatch(r"([\w.-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
        wanted[IN_CONDA.get(name, name)] = bound
    given = dict(entry.partition(" ")[::2] for entry in ENVIRONMENT if isinstance(entry, str))
    # pip installs what is here, and HOOMD-blue is why there is a conda environment at all.
    assert {name: bound for name, bound in given.items() if name not in {"pip", "hoomd"}} == wanted


def test_environment_installs_what_make_installs() -> None:
    (pip,) = (entry["pip"] for entry in ENVIRONMENT if isinstance(entry, dict))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (plugins,) = re.findall(r"^EDITABLE_PLUGINS := (.*)$", makefile, re.MULTILINE)
    assert pip == ["-e .", *re.findall(r"-e \S+", plugins)]


@pytest.mark.parametrize("path", sorted(ROOT.glob("constraints/py*.txt")), ids=lambda path: path.name)
def test_tested_versions_are_allowed(path: Path, lowest: ModuleType) -> None:
    pinned = {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version in re.findall(r"^(.+)==(.+)$", path.read_text(), re.MULTILINE)
    }
    number = lowest._number
    assert not {name: pinned[name] for name, floor in lowest.floors().items() if number(pinned[name]) < number(floor)}


def test_the_workflow_runs_every_python_that_is_promised() -> None:
    jobs = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = [found[1] for text in project["classifiers"] if (found := re.fullmatch(r".* :: (3\.\d+)", text))]
    assert jobs["run"]["strategy"]["matrix"]["python"] == promised
    assert [f"py{version.replace('.', '')}" for version in promised] == sorted(
        path.stem for path in ROOT.glob("constraints/py*.txt")
    )
    assert jobs["run"]["steps"][-1]["run"] == "bash .ci/run"
    (python,) = (step["with"]["python-version"] for step in jobs["lowest"]["steps"] if "with" in step)
    assert project["requires-python"] == f">={python}"
    assert jobs["lowest"]["steps"][-1]["run"] == "make lowest"


def test_pre_commit_checks_what_make_checks_and_fetches_nothing() -> None:
    repositories = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert {repository["repo"] for repository in repositories} == {"local"}
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    assert all(hook["language"] == "system" for hook in hooks)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    checked = {tuple(words.split()[:2]) for words in re.findall(r"\$\(PY\) -m ((?:ruff|mypy).*)", makefile)}
    tools = {tuple(hook["entry"].removeprefix(".venv/bin/python -m ").split()[:2]) for hook in hooks}
    assert {name[0] for name in checked} == {name[0] for name in tools} == {"ruff", "mypy"}
    assert {name for name in checked if name[0] == "ruff"} == {name for name in tools if name[0] == "ruff"}
