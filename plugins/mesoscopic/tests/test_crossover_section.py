"""The theory's finite-frequency crossover beside an ensemble whose theta and alpha are known."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("qlm_hoomd")
import polars as pl
from qlm_mesoscopic import plots, theory
from qlm_mesoscopic.section import mesoscopic

from qlm_hoomd.report.results import Results
from qlm_hoomd.testing import ReportSectionConformance


def synthetic() -> Any:
    """The drawn ensembles of qlm_hoomd's own tests."""
    path = Path(__file__).parents[3] / "tests" / "synthetic_ensemble.py"
    spec = importlib.util.spec_from_file_location("synthetic_ensemble_of_qlm_hoomd", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ensemble = synthetic().Ensemble(
        preparations=(("rapid", 0.5, 4.0, 0.55), ("<b>slow", 0.25, 4.0, 0.7)),
        strains=(0.0, 0.05),
        analysis=(("strains", [0.0, 0.05]),),
    )
    return ensemble.write(tmp_path_factory.mktemp("run"))


class TestSection(ReportSectionConformance):
    name = "mesoscopic"

    @pytest.fixture(autouse=True)
    def _finished(self, directory: Path) -> None:
        type(self).directory = directory


def rows(html: str) -> list[list[str]]:
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)][1:]


def test_the_theory_is_read_in_the_window_of_the_fit(directory: Path) -> None:
    results = Results.load(directory)
    section = mesoscopic(results)
    assert section is not None
    assert [figure.name for figure in section.figures] == ["mesoscopic_crossover"]
    assert "<b>" not in section.tables  # the name of a preparation is not ours
    found = rows(str(section.tables))
    estimates = results.analysis.find(method="gamma_min")
    assert len(found) == len(estimates) == 4
    for cells, theta in zip(found, estimates, strict=True):
        assert theta.exponent is not None
        assert float(cells[4].split()[0]) == pytest.approx(float(theory.alpha(theta.exponent.value)), abs=0.006)
        upper = float(cells[5].split(",")[1].rstrip("]"))
        low, high, least, most = (float(word) for word in re.findall(r"\d\.\d+", cells[6]))
        assert least <= low <= high <= most
        # The least scale puts the end of the window where B' is, phi = 2/3 lambda; 0.1 of slack for the rounded window.
        top = upper**2
        expected = theory.alpha_in_window(theta.exponent.value, (1e-4 * top, 0.999 * top), high=2 / 3 * top)
        assert low - 0.03 <= expected <= high + 0.03


def test_near_a_quarter_the_reading_is_low_by_what_is_known() -> None:
    """Independent quadratures put the local slope at lambda = 1e-2 of phi in (0, 1), theta = 1/4, at 1.370: alpha = 3.74."""
    window = (0.005, 0.02)
    assert theory.alpha_in_window(0.25, window) == pytest.approx(2 * 1.370 + 1, abs=0.02)


def test_measured_phi_fixes_the_scale_where_there_are_enough(directory: Path) -> None:
    results = Results.load(directory)
    section = mesoscopic(results)
    assert section is not None
    modes = results.tables["modes"]
    assert "phi_theory" not in modes.columns
    assert "whose" not in section.html
    phi = pl.Series("phi_theory", np.where(np.arange(modes.height) % 2, 5.0, -5.0))
    known = replace(results, tables={**results.tables, "modes": modes.with_columns(phi)})
    fixed = mesoscopic(known)
    assert fixed is not None
    assert "95 % quantile" in fixed.html
    before, after = rows(str(section.tables))[0], rows(str(fixed.tables))[0]
    assert before[:6] == after[:6]
    low, high, *_ = re.findall(r"\d\.\d+", before[6])
    assert low < high
    low, high, *_ = re.findall(r"\d\.\d+", after[6])
    assert low == high  # one scale, and at strain 0 one branch


def test_without_theta_nothing_is_said(tmp_path: Path) -> None:
    ensemble = synthetic().Ensemble(sizes=(500,), realisations=2)
    ensemble.write(tmp_path, without=("events", "steps"))
    assert mesoscopic(Results.load(tmp_path)) is None


def test_infinite_ends_are_drawn_within_the_frame() -> None:
    series = plots.Interval("x", [0.0], [4.0], [-np.inf], [np.inf], [True])
    figure = plots.crossover({"a": plots.Crossover([0.0], [(3.5, 3.7)], [(3.2, 3.9)], [series])})
    figure.canvas.draw()
    low, high = figure.axes[0].get_ylim()
    assert np.isfinite([low, high]).all()
