"""What the README and the packaging files promise, holds."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import gsd.hoomd
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from qlm_hoomd import gsdio
from qlm_hoomd.cli import app
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.model import GlassModel
from qlm_hoomd.potentials import KobAndersen
from qlm_hoomd.preparation import random_start
from qlm_hoomd.protocol import load_protocol

ROOT = Path(__file__).parents[1]


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def test_readme_protocol_runs_in_a_small_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = examples("yaml")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "first.yaml"
    path.write_text(text)
    assert load_protocol(path).name == "first"
    small = {
        "[500, 1000, 2000]": "[100]",
        "[rapid, slow]": "{rapid: {quench: rapid, equilibration_time: 1}}",
        "realisations: 24": "realisations: 1",
        "strain_max: 0.08": "strain_max: 0.021",
    }
    for large, little in small.items():
        assert large in text
        text = text.replace(large, little)
    path.write_text(text)
    done = CliRunner().invoke(app, ["run", "first.yaml", "--workers", "1"])
    assert done.exit_code == 0, done.output
    (realisation,) = (tmp_path / "runs/first/workspace").iterdir()
    assert set(pl.read_parquet(realisation / "modes.parquet")["strain"]) == {0.0, 0.02}
    assert (tmp_path / "runs/first/results/report.html").exists()
    assert CliRunner().invoke(app, ["status", "runs/first"]).exit_code == 0


def test_readme_first_steps_run_in_a_small_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (text for text in examples("sh") if "qlm new" in text)
    steps = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [step[1] for step in steps] == ["doctor", "new", "run", "run", "status"]
    assert all(step[0] == "qlm" for step in steps)
    monkeypatch.chdir(tmp_path)
    for step in steps:
        done = CliRunner().invoke(app, [*step[1:], *(["--workers", "1"] if step[1] == "run" else [])])
        assert done.exit_code == 0, done.output
        if step[1] == "new":
            path = tmp_path / "quickstart.yaml"
            text = path.read_text()
            small = {
                "[300, 600, 1200]": "[100]",
                "{300: 52, 600: 20, 1200: 22}": "1",
                "equilibration_time: 20": "equilibration_time: 1",
            }
            for large, little in small.items():
                assert large in text
                text = text.replace(large, little)
            path.write_text(text)
        if "--dry-run" in step:
            assert [found.name for found in tmp_path.iterdir()] == ["quickstart.yaml"]
    (report,) = re.findall(r"open `(\S+report\.html)`", (ROOT / "README.md").read_text())
    assert (tmp_path / report).stat().st_size > 10_000


def test_readme_gsd_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = (line for text in examples("sh") for line in text.splitlines() if line.startswith("qlm modes"))
    model = GlassModel(potential=KobAndersen(q=2), density=1.2, fraction_large=0.2)
    glass, _ = CPUEngine(model.potential).descend(random_start(model, 300, np.random.default_rng(1)))
    # A file as others write it: single precision, letters for types, none of our log chunks.
    with gsd.hoomd.open(tmp_path / "trajectory.gsd", "w") as file:
        for _ in range(11):
            frame = gsd.hoomd.Frame()
            frame.particles.N = glass.n_particles
            frame.particles.position = glass.box.wrap(glass.positions)
            frame.particles.types, frame.particles.typeid = ["A", "B"], glass.typeid
            frame.configuration.box = [glass.box.length] * 3 + [0, 0, 0]
            file.append(frame)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, shlex.split(line)[1:])
    assert done.exit_code == 0, done.output
    table = pl.read_parquet(tmp_path / "trajectory-modes/modes.parquet")
    assert sorted(set(table["frame"])) == [0, 10]
    assert len(table) == 80
    assert list((tmp_path / "trajectory-modes").glob("*.html"))
    assert list((tmp_path / "trajectory-modes").glob("*.png"))


@pytest.mark.hoomd
def test_readme_hoomd_script_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = (text for text in examples("python") if "import hoomd" in text)
    model = GlassModel()
    engine = CPUEngine(model.potential)
    glass, _ = engine.descend(random_start(model, 200, np.random.default_rng(2)))
    gsdio.write_glasses(tmp_path / "glass.gsd", [(glass, engine.measure(glass))], {})
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), names)
    assert names["shear"].strain == 0.02
    assert names["shear"].max_force < 1e-10
    assert isinstance(names["shear"].events, pl.DataFrame)


def test_readme_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = (text for text in examples("python") if "import hoomd" not in text)
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


def test_readme_names_only_commands_that_exist() -> None:
    said = set(re.findall(r"`?\bqlm (?!--)([a-z]+)\b", (ROOT / "README.md").read_text()))
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert said <= commands
    assert said >= {"run", "modes", "status"}


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
    assert {name for name in names if not name.startswith("qlm-")} <= pinned  # our own plugins have the version of the checkout
