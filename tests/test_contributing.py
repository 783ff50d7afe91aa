"""The plugins of CONTRIBUTING.md are complete: put together as the page says they keep the contracts, and run in a protocol."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from qlm_hoomd.formats import read_glass
from qlm_hoomd.registry import GROUPS
from qlm_hoomd.testing import (
    DetectorConformance,
    EngineConformance,
    ExecutorConformance,
    PotentialConformance,
    ReportSectionConformance,
    StageConformance,
)
from qlm_hoomd.testing.tiny import installed

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


(PYPROJECT,), (PROTOCOL,) = blocks("toml"), blocks("yaml")
ENTRY_POINTS = tomllib.loads(PYPROJECT)["project"]["entry-points"]
LENGTHS = ((1.2, 1.4), (1.4, 1.7))
MODEL = {"potential": {"kind": "bump", "sigma": LENGTHS}}
QUICK = {"n_particles": [100], "preparations": {"rapid": {"quench": "rapid", "equilibration_time": 1}}, "realisations": 1}


@pytest.fixture(scope="module")
def my_glasses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    site = tmp_path_factory.mktemp("contributing") / "site"
    with installed(site, ENTRY_POINTS, name="my_glasses"):
        (site / "my_glasses.py").write_text("\n".join(blocks("python")), encoding="utf-8")
        importlib.invalidate_caches()
        yield importlib.import_module("my_glasses")
    del sys.modules["my_glasses"]


def passes(base: type, **attributes: Any) -> None:
    suite = type("Suite", (base,), attributes)
    names = [name for name in dir(suite) if name.startswith("test_")]
    assert names
    for name in names:
        getattr(suite(), name)()


def test_there_is_an_example_for_each_group() -> None:
    assert set(ENTRY_POINTS) >= {group.name for group in GROUPS}


def test_potential_keeps_its_contract(my_glasses: ModuleType) -> None:
    passes(PotentialConformance, potential=my_glasses.Bump(sigma=LENGTHS), closest=0.7)


def test_engine_keeps_its_contract(my_glasses: ModuleType) -> None:
    passes(EngineConformance, settings=my_glasses.AndersenSettings())


@pytest.mark.usefixtures("my_glasses")
def test_stage_keeps_its_contract() -> None:
    stages = [{"kind": "prepare"}, {"kind": "closest"}]
    passes(StageConformance, protocol={"name": "mine", "seed": 1, "model": MODEL, "ensemble": QUICK, "stages": stages})


def test_detector_keeps_its_contract(my_glasses: ModuleType) -> None:
    passes(DetectorConformance, detector=my_glasses.LostBasin())


@pytest.mark.usefixtures("my_glasses")
def test_executor_keeps_its_contract() -> None:
    passes(ExecutorConformance, name="apart", workers=1)


@pytest.mark.usefixtures("my_glasses")
def test_section_keeps_its_contract() -> None:
    passes(ReportSectionConformance, name="softest")


def test_all_of_them_run_in_one_protocol(my_glasses: ModuleType, tmp_path: Path) -> None:
    assert "realisations: 2" in PROTOCOL
    (tmp_path / "mine.yaml").write_text(PROTOCOL.replace("realisations: 2", "realisations: 1"))
    site = str(Path(str(my_glasses.__file__)).parent)
    done = subprocess.run(
        [sys.executable, "-c", "from qlm_hoomd.cli import main; main()", "run", "mine.yaml", "--executor", "apart"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((site, os.environ.get("PYTHONPATH", "")))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (realisation,) = (tmp_path / "runs/mine/workspace").iterdir()
    # Spheres that overlap, in units of the contact distances.
    assert 0.5 < pl.read_parquet(realisation / "closest.parquet")["distance"].item() < 1.4
    assert set(pl.read_parquet(realisation / "events.parquet")["detector"]) <= {"lost_basin"}
    assert "The softest mode" in (tmp_path / "runs/mine/results/report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("my_glasses")
def test_reader_reads(tmp_path: Path) -> None:
    (tmp_path / "a.numbers").write_text("5.0\n0 0 0 0\n1.5 1 1 1\n")
    glass = read_glass(tmp_path / "a.numbers").glass
    assert (glass.box.length, glass.typeid.tolist()) == (5.0, [0, 1])
    assert glass.positions.tolist() == [[0.0, 0.0, 0.0], [1.5, 1.0, 1.0]]


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = re.sub(r"^```.*?^```", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"`make ([a-z]+)`", text))
    assert named >= {"test", "physics", "faults", "docs", "lint", "types", "lowest"}
    assert named <= targets
