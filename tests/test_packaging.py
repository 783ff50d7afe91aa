"""Wheels and source archives: what a user installs is whole, and nothing else comes along."""

from __future__ import annotations

import email
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "qlm_hoomd": ROOT,
    **{f"qlm_{name}": ROOT / "plugins" / name for name in ("quasistatic", "rewind", "mesoscopic")},
}
ALL = {**FOLDERS, "qlm_hoomd_ipl": ROOT / "plugins" / "hoomd_ipl"}
WRITTEN_BY_MACHINES = ("__pycache__", "_cache/", ".pyc", ".nbi", ".nbc", ".egg-info")


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all that `make dist` makes, but for the part that is compiled."""
    target = tmp_path_factory.mktemp("dist")
    for folder in FOLDERS.values():
        for kind in ("wheel", "sdist"):
            subprocess.run(
                [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(target)],
                cwd=folder,
                check=True,
                capture_output=True,
            )
    return target


def wheel(built: Path, name: str) -> zipfile.ZipFile:
    (path,) = built.glob(f"{name}-[0-9]*.whl")
    return zipfile.ZipFile(path)


def sdist_names(built: Path, name: str) -> set[str]:
    (path,) = built.glob(f"{name}-[0-9]*.tar.gz")
    with tarfile.open(path) as archive:
        return {member.partition("/")[2] for member in archive.getnames()}


def tracked(folder: Path, package: str) -> set[str]:
    """Every source file of the package in the checkout."""
    paths = {path.relative_to(folder).as_posix() for path in (folder / package).rglob("*") if path.is_file()}
    return {path for path in paths if "/." not in path and not any(sign in path for sign in WRITTEN_BY_MACHINES)}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wheel_holds_the_package_and_nothing_else(built: Path, name: str) -> None:
    with wheel(built, name) as archive:
        names = set(archive.namelist())
    assert not [path for path in names if any(sign in path for sign in WRITTEN_BY_MACHINES) or "tests/" in path]
    package = {path for path in names if path.startswith(f"{name}/")}
    carried = {f"{name}/CITATION.cff", *(f"{name}/protocols/{path.name}" for path in ROOT.glob("protocols/*.yaml"))}
    assert package == tracked(FOLDERS[name], name) | (carried if name == "qlm_hoomd" else set())
    assert {path.split("/")[0] for path in names} == {name, f"{name}-{_version(name)}.dist-info"}
    assert f"{name}/py.typed" in names


@pytest.mark.parametrize("name", FOLDERS)
def test_a_source_archive_holds_what_builds_and_tests_the_package(built: Path, name: str) -> None:
    names = sdist_names(built, name)
    assert names >= tracked(FOLDERS[name], name) | {"pyproject.toml", "README.md", "LICENSE"}
    assert any(path.startswith("tests/test_") for path in names)
    assert not [path for path in names if any(sign in path for sign in WRITTEN_BY_MACHINES)]
    if name == "qlm_hoomd":
        assert not [path for path in names if path.startswith(("plugins/", "docs/", "benchmarks/"))]
        assert names >= {
            "protocols/quickstart.yaml",
            "CITATION.cff",
            "qlm_hoomd/report/template.html.j2",
            "qlm_hoomd/view.html.j2",
        }


@pytest.mark.parametrize("name", FOLDERS)
def test_metadata_says_what_it_is(built: Path, name: str) -> None:
    with wheel(built, name) as archive:
        metadata = email.message_from_bytes(archive.read(f"{name}-{_version(name)}.dist-info/METADATA"))
        assert f"{name}-{_version(name)}.dist-info/licenses/LICENSE" in archive.namelist()
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().lstrip().startswith("# ")
    assert any("10.1103/PhysRevE.99.023003" in url for url in metadata.get_all("Project-URL"))
    assert "Typing :: Typed" in metadata.get_all("Classifier")


@pytest.mark.parametrize("name", ALL)
def test_every_distribution_has_the_licence_and_is_typed(name: str) -> None:
    folder = ALL[name]
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (folder / name / "py.typed").is_file()
    assert project(folder)["license-files"] == ["LICENSE"]


def test_the_extra_brings_every_plugin_that_needs_no_compiler() -> None:
    extra = project(ROOT)["optional-dependencies"]["plugins"]
    assert set(extra) == set(FOLDERS) - {"qlm_hoomd"}


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)
