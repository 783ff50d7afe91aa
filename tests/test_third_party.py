"""A distribution of a stranger's is complete: its stage, detector, potential and section, without a line of ours that knows them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import polars as pl
import pytest

from qlm_hoomd.ensemble.integrity import verify
from qlm_hoomd.ensemble.workspace import Workspace

QLM = Path(sys.executable).with_name("qlm")
SOURCE = Path(__file__).parent / "third_party"
MODULE = Path(__file__).parents[1] / "docs" / "tutorials" / "my_plugins.py"
PROTOCOL = """\
name: theirs
seed: 1
model:
  potential: {kind: smooth_sphere, epsilon: 100, sigma: [[1.2, 1.4], [1.4, 1.7]]}
ensemble:
  n_particles: [100, 200, 400]
  preparations: {rapid: {quench: rapid, equilibration_time: 1}}
  realisations: 2
stages:
  - kind: prepare
  - kind: contacts
  - kind: shear
    strain_max: 0.02
    increment: 2.0e-3
    detector: {kind: stress_drop, smallest: 1.0e-3}
"""
MINE = ("contacts", "stress_drop", "smooth_sphere")


class Site:
    """A folder in which the distribution is installed, and `qlm` as it is with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        project = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        information = folder / "site" / f"{project['name']}-{project['version']}.dist-info"
        information.mkdir(parents=True)
        shutil.copy(MODULE, folder / "site")
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
        )
        (information / "entry_points.txt").write_text(
            "\n".join(
                f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in targets.items())
                for group, targets in project["entry-points"].items()
            ),
            encoding="utf-8",
        )
        (folder / "theirs.yaml").write_text(PROTOCOL, encoding="utf-8")

    def qlm(self, *arguments: str, code: int = 0) -> str:
        """Standard output of `qlm` with these arguments."""
        path = os.pathsep.join(filter(None, (str(self.folder / "site"), os.environ.get("PYTHONPATH"))))
        done = subprocess.run(
            [str(QLM), *arguments],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"qlm {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The distribution installed, and one of its protocols run."""
    made = Site(tmp_path_factory.mktemp("theirs"))
    made.qlm("run", "theirs.yaml", "--workers", "1")
    return made


def test_it_is_listed_with_its_version(site: Site) -> None:
    rows = [row for row in json.loads(site.qlm("plugins", "--json")) if row["distribution"] == "stranger 2.7"]
    assert sorted(row["name"] for row in rows) == sorted([*MINE, "contacts"])
    assert {row["state"] for row in rows} == {"ok"}


def test_status_counts_its_stage(site: Site) -> None:
    for group in json.loads(site.qlm("status", "runs/theirs", "--json"))["groups"]:
        assert group["stages"]["contacts"]["done"] == 2
        assert group["stages"]["contacts"]["core_seconds_each"] is not None


def test_results_have_its_table(site: Site) -> None:
    run = site.folder / "runs" / "theirs"
    gathered = pl.read_parquet(run / "results" / "contacts.parquet")
    assert gathered.columns == ["preparation", "n_particles", "realisation", "typeid", "contacts"]
    assert gathered.height == 2 * (100 + 200 + 400)
    for realisation in (run / "workspace").iterdir():
        point = json.loads((realisation / "signac_statepoint.json").read_text())
        own = gathered.filter(
            pl.col("n_particles") == point["n_particles"], pl.col("realisation") == point["realisation"]
        ).select("typeid", "contacts")
        assert own.equals(pl.read_parquet(realisation / "contacts.parquet"))


def test_page_has_its_counts_its_section_and_what_its_detector_cannot_see(site: Site) -> None:
    page = (site.folder / "runs" / "theirs" / "results" / "report.html").read_text(encoding="utf-8")
    assert "not finished" not in page
    assert "Mean number of interacting neighbours" in page
    assert "Events in which the stress falls by less than 0.001, or rises, are not seen." in page
    assert "stage contacts" in page  # among the settings


def test_page_says_that_its_stage_is_not_finished(site: Site) -> None:
    run = site.folder / "unfinished"
    shutil.copytree(site.folder / "runs" / "theirs", run)
    next(run.glob("workspace/*/contacts.parquet")).unlink()
    site.qlm("report", "unfinished")
    page = (run / "results" / "report.html").read_text(encoding="utf-8")
    assert "not finished: 5 of 6 realisations have been through all stages" in page


def test_archive_has_its_table_and_gives_it_back(site: Site) -> None:
    site.qlm("export", "runs/theirs", "--out", "theirs.zip")
    with zipfile.ZipFile(site.folder / "theirs.zip") as archive:
        names = archive.namelist()
    assert "results/contacts.parquet" in names
    assert not [name for name in names if name.startswith("workspace/") and name.endswith("contacts.parquet")]
    site.qlm("import", "theirs.zip", "back")
    for realisation in (site.folder / "runs" / "theirs" / "workspace").iterdir():
        back = site.folder / "back" / "workspace" / realisation.name / "contacts.parquet"
        assert pl.read_parquet(back).equals(pl.read_parquet(realisation / "contacts.parquet"))
    site.qlm("report", "back")
    page = (site.folder / "back" / "results" / "report.html").read_text(encoding="utf-8")
    assert "Mean number of interacting neighbours" in page
    assert "not finished" not in page


def test_plan_and_verify_take_it_as_any_other(site: Site) -> None:
    plan = json.loads(site.qlm("plan", "theirs.yaml", "--target-error", "theta=0.3", "--json"))
    assert {demand["detector"] for demand in plan["demands"]} <= {"stress_drop", None}
    assert [row["done"] for row in plan["realisations"]] == [2, 2, 2]
    assert all(row["core_seconds_each"] for row in plan["realisations"])
    assert "are as they were written" in site.qlm("verify", "runs/theirs")


def plainly(*arguments: str, code: int = 0) -> str:
    """Standard output of `qlm` where the distribution is not installed."""
    done = subprocess.run([str(QLM), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, f"qlm {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def test_status_and_verify_of_its_run_tell_what_is_finished_where_it_is_not_installed(site: Site) -> None:
    run = site.folder / "left"
    shutil.copytree(site.folder / "runs" / "theirs", run)
    state = json.loads(plainly("status", str(run), "--json"))
    there = json.loads(site.qlm("status", str(run), "--json"))
    assert state["protocol_hash"] == there["protocol_hash"]
    counts = [{kind: of["done"] for kind, of in group["stages"].items()} for group in state["groups"]]
    assert counts == [{"prepare": 2, "contacts": 2, "shear": 2}] * 3
    assert [sentence.partition(";")[0] for sentence in state["missing"]] == [
        f"unknown {noun}" for noun in ("potential 'smooth_sphere'", "stage 'contacts'", "detector 'stress_drop'")
    ]
    assert there["missing"] == []
    said = plainly("status", str(run))
    assert "2 done" in said
    assert "unknown stage 'contacts'" in said
    proved = re.search(r"\d+ files \(.* are as they were written", site.qlm("verify", str(run)))
    assert proved is not None
    assert proved[0] in plainly("verify", str(run))

    # What is gone, changed or nobody's is found where the plugin is not, as where it is.
    folders = {
        json.loads((path / "signac_statepoint.json").read_text())["n_particles"]: path for path in (run / "workspace").iterdir()
    }
    (folders[100] / "contacts.parquet").unlink()
    with (folders[200] / "events.parquet").open("ab") as file:
        file.write(b"x")
    (folders[400] / "notes.txt").write_text("mine")
    plainly("verify", str(run), code=1)
    found = json.loads(plainly("status", str(run), "--json"))["groups"]
    assert [group["stages"]["contacts"] | {"core_seconds_each": 0} for group in found] == [
        {"done": done, "failed": 0, "pending": 2 - done, "core_seconds_each": 0} for done in (1, 2, 2)
    ]
    proof = verify(Workspace.read(run))
    assert {(finding.kind, finding.path.name) for finding in proof.findings} == {
        *(("missing", "contacts.parquet"), ("changed", "events.parquet"), ("foreign", "notes.txt"))
    }


def test_report_of_its_run_is_made_where_it_is_not_installed(site: Site) -> None:
    run = site.folder / "elsewhere"
    shutil.copytree(site.folder / "runs" / "theirs", run)
    shutil.rmtree(run / "results")
    subprocess.run([str(QLM), "report", str(run)], check=True, capture_output=True)
    page = (run / "results" / "report.html").read_text(encoding="utf-8")
    assert "not finished" not in page
    assert "Mean number of interacting neighbours" not in page
    assert pl.read_parquet(run / "results" / "contacts.parquet").height == 2 * (100 + 200 + 400)
