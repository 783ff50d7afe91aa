"""Six directions of shear per glass in the report: theta rests on them, glasses are what is resampled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from qlm_hoomd.report import Results, make_report
from tests.synthetic_ensemble import DIRECTIONS, Ensemble

if TYPE_CHECKING:
    from pathlib import Path

    from qlm_hoomd.report.numbers import Estimate

SIX = Ensemble(sizes=(500, 1000, 2000), realisations=120, directions=True)
TABLES = ("modes", "moduli", "structure", "structure_functions")


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results.load(SIX.write(tmp_path_factory.mktemp("six"), without=TABLES))


def theta(results: Results, method: str) -> Estimate:
    (found,) = results.analysis.find(quantity="theta", method=method)
    return found


def test_theta_rests_on_all_directions_and_the_single_one_stays(six: Results, tmp_path: Path) -> None:
    all_six, alone = theta(six, "gamma_min"), theta(six, "one_direction")
    assert all_six.directions == DIRECTIONS
    assert alone.directions == ()
    without = Results.load(
        Ensemble(sizes=SIX.sizes, realisations=120, directions=True).write(tmp_path, without=(*TABLES, "directions"))
    )
    assert theta(without, "gamma_min").exponent == alone.exponent
    assert not without.analysis.find(method="one_direction")
    # 6 / (1 + 4 x 0.25) independent values a glass.
    assert all_six.fit.n_points == 6
    assert all_six.fit.slope_error / alone.fit.slope_error == pytest.approx(3**-0.5, rel=0.15)
    assert abs(all_six.fit.slope - 1 / 1.5) < 3 * all_six.fit.slope_error
    prediction = six.analysis.find(quantity="alpha", method="prediction")[0]
    assert prediction.directions == DIRECTIONS
    assert [e.directions for e in six.analysis.find(quantity="theta_prime")] == [DIRECTIONS]


def test_means_are_over_directions_and_their_errors_over_glasses(six: Results) -> None:
    table = six.tables["directions"]
    for row in six.analysis.minima.filter(quantity="gamma_min").iter_rows(named=True):
        own = table.filter(n_particles=row["n_particles"])
        glasses = own.group_by("realisation").agg(pl.col("gamma_min").mean())["gamma_min"]
        assert (row["n_realisations"], row["n_directions"], row["n_censored"]) == (120, 6, 0)
        assert row["mean"] == pytest.approx(own["gamma_min"].mean())
        assert row["standard_error"] == pytest.approx(glasses.std() / 120**0.5)
        (at,) = [n for n, size in enumerate(theta(six, "gamma_min").fit.sizes) if size == row["n_particles"]]
        assert theta(six, "gamma_min").fit.means[at] == pytest.approx(row["mean"])


def test_single_values_of_the_glasses_are_those_of_the_run(six: Results) -> None:
    """Predictions of the run's own first instability are held against it."""
    forward = six.tables["directions"].filter(direction="+xy")
    both = six.analysis.samples.join(forward, on=["n_particles", "realisation"], suffix="_there")
    assert both.height == 360
    assert np.allclose(both["value"], both["gamma_min"], rtol=1e-9)


def test_report_says_how_many_directions_and_what_they_share(six: Results) -> None:
    directory = six.runs[0].directory
    make_report(directory)
    page = (directory / "results" / "report.html").read_text(encoding="utf-8")
    assert "6 directions of shear per glass" in page
    assert "across planes" in page
    assert "in the direction of the run alone" in page
    content = json.loads((directory / "results" / "exponents.json").read_text(encoding="utf-8"))
    told = content["directions"]["rapid"]
    assert told["names"] == list(DIRECTIONS)
    assert told["n_independent"] == pytest.approx(3.0, rel=0.15)
    for name, truth in (("opposite", 0.0), ("across", 0.25)):
        value, error = told["correlations"][name]
        assert 0.01 < error < 0.08
        assert abs(value - truth) < 3.5 * error
    by_method = {e["method"]: e for e in content["estimates"] if e["quantity"] == "theta"}
    assert by_method["gamma_min"]["directions"] == list(DIRECTIONS)
    assert by_method["gamma_min"]["fit"]["n_points"] == 6
    assert by_method["one_direction"]["directions"] == []
    assert (directory / "results" / "directions.parquet").is_file()


def test_glasses_without_an_instability_in_a_direction_are_left_out_and_counted(tmp_path: Path) -> None:
    directory = SIX.write(tmp_path, without=TABLES)
    paths = sorted(
        path
        for path in (directory / "workspace").iterdir()
        if '"n_particles": 500' in (path / "signac_statepoint.json").read_text()
    )
    for n, path in enumerate(paths[:3]):
        table = pl.read_parquet(path / "directions.parquet")
        table = table.with_columns(gamma_min=pl.when(pl.int_range(pl.len()) != n).then("gamma_min"))
        table.write_parquet(path / "directions.parquet", metadata={"qlm_hoomd": "{}"})
        found = theta(Results.load(directory), "gamma_min")
        assert found.fit.n_realisations == (119 - n, 120, 120)
        left = f"{n + 1} of 120 glasses at N = 500 lack an instability in one of the directions and are left out"
        assert left in " ".join(found.exponent.warnings)
        # 3 of 120 are more than 2 %.
        assert (found.refusal is not None and left in found.refusal) == (n == 2)


def test_one_direction_is_no_six(tmp_path: Path) -> None:
    directory = SIX.write(tmp_path, without=TABLES)
    for path in (directory / "workspace").iterdir():
        table = pl.read_parquet(path / "directions.parquet").filter(direction="+xz")
        table.write_parquet(path / "directions.parquet", metadata={"qlm_hoomd": "{}"})
    analysis = Results.load(directory).analysis
    assert analysis.directions == {}
    assert analysis.find(method="gamma_min")[0].directions == ()
