"""No warning reaches a user's terminal where all went well: neither of ours nor of what we build on."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qlm_hoomd.report import Results, make_report
from tests.synthetic_ensemble import Ensemble

ROOT = Path(__file__).parents[1]


def test_no_warning_in_the_terminal_of_the_smoke_run_its_report_and_its_modes(tmp_path: Path) -> None:
    small = {"[200, 400]": "[100]", "preparations: [rapid]": "preparations: {rapid: {quench: rapid, equilibration_time: 1}}"}
    text = (ROOT / ".ci" / "smoke.yaml").read_text()
    for large, little in small.items():
        assert large in text
        text = text.replace(large, little)
    (tmp_path / "smoke.yaml").write_text(text)
    commands = [
        ["run", "smoke.yaml", "--out", "run", "--workers", "1"],
        ["modes", "run/workspace/*/quenched.gsd", "-k", "5", "--view", "0"],
    ]
    for command in commands:
        found = [str(next(tmp_path.glob(word))) if "*" in word else word for word in command]
        done = subprocess.run(
            [sys.executable, "-c", "from qlm_hoomd.cli import main; main()", *found],
            cwd=tmp_path,
            # What Python shows by itself, and no more, whatever the tests run under.
            env={name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr.lower(), done.stderr


def results_of(ensemble: Ensemble, folder: Path, *without: str) -> Results:
    return Results.load(ensemble.write(folder / "run", without=without))


WEAK = Ensemble(sizes=(500,), realisations=2, strains=(0.0, 0.02, 0.05, 0.1), strain_max=0.06)
ONE_SIZE = Ensemble(sizes=(500,), realisations=25)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("ensemble", "without"), [(WEAK, ()), (ONE_SIZE, ("modes",))], ids=["weak", "one size without modes"])
def test_a_page_of_few_data_is_made_without_a_warning(ensemble: Ensemble, without: tuple[str, ...], tmp_path: Path) -> None:
    """Every point of a scan is too weak to be drawn.

    Or theta' comes from one size, where theta takes three, and alpha modes.
    """
    assert make_report(ensemble.write(tmp_path / "run", without=without)).stat().st_size > 0


@pytest.mark.filterwarnings("error")
def test_an_interval_may_end_at_zero(tmp_path: Path) -> None:
    """Of three realisations some are resampled so that the end lies beyond what exp can hold."""
    few = Ensemble(realisations=3, strains=(0.0, 0.02), strain_max=0.01, exact=True, seed=1)
    few = replace(few, preparations=(("rapid", 0.5, 4.0, 0.55), ("slow", 0.3, 3.5, 0.7)), analysis=(("strains", [0.0, 0.02]),))
    assert results_of(few, tmp_path, "events", "structure").analysis.spectra
