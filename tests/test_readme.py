"""What the README and the packaging files promise, holds."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from qlm_hoomd.protocol import load_protocol

ROOT = Path(__file__).parents[1]


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def test_readme_protocol_is_valid(tmp_path: Path) -> None:
    (text,) = examples("yaml")
    path = tmp_path / "first.yaml"
    path.write_text(text)
    assert load_protocol(path).name == "first"


def test_readme_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = examples("python")
    names: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), names)
    report, stress, *_ = capsys.readouterr().out.splitlines()
    assert "max_force" in report
    modes = names["modes"]
    assert len(modes.frequencies) == 10
    assert (modes.frequencies > 0).all()
    assert ((modes.participation_ratios > 0) & (modes.participation_ratios < 1)).all()
    # The shear modulus of the rapidly quenched glass is 12 (notes of the model); a single small sample scatters.
    assert 5 < float(stress) / 1e-4 < 25


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text()))))
def test_readme_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_protocols_in_the_repository_are_valid() -> None:
    paths = sorted([*ROOT.glob("protocols/*.yaml"), ROOT / ".ci" / "smoke.yaml"])
    assert {path.name for path in paths} >= {"quickstart.yaml", "paper_rapid.yaml", "paper_slow.yaml", "smoke.yaml"}
    for path in paths:
        load_protocol(path)


@pytest.mark.parametrize("path", sorted(ROOT.glob("constraints/*.txt")), ids=lambda path: path.name)
def test_constraints_are_bare_versions_of_every_requirement(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9A-Za-z.]+", line) for line in lines)
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", name)[0]).lower() for name in wanted}
    assert names <= pinned
