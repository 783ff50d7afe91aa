"""Cyclic shear in the report: real glasses, sheared to and fro."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gsd.hoomd
import numpy as np
import polars as pl
import pytest

from qlm_hoomd.box import Box
from qlm_hoomd.ensemble.runner import run_protocol
from qlm_hoomd.glass import Glass
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.report import make_report
from qlm_hoomd.report.cycles import _periods, cycle_ends, cycles_of, dissipated, same_state
from qlm_hoomd.report.results import Results
from qlm_hoomd.testing.tiny import HereExecutor


@pytest.mark.parametrize(
    ("path", "ends"),
    [
        ([0, 0.03, -0.03, 0.03, -0.03, 0], [0, 0.12, 0.24]),
        ([0, -0.03, 0.03, 0], [0, 0.12]),
        ([0, 0.03, 0], [0, 0.06]),
        ([0, 0.03, 0, 0.03, 0], [0, 0.06, 0.12]),
        ([0, 0.03, -0.03], [0]),
        ([0, 0.1], [0]),
        ([0, 0.02, -0.01, 0.05, 0], [0, 0.06]),  # the last stretch ends as it falls, and the path with it
    ],
    ids=str,
)
def test_a_cycle_ends_where_the_path_goes_on_as_it_began(path: list[float], ends: list[float]) -> None:
    found = cycle_ends(path)
    assert found[: len(ends)] == pytest.approx(ends)
    assert len(found) == len(ends) + (path == [0, 0.02, -0.01, 0.05, 0])


def test_what_a_loop_dissipates() -> None:
    """A spring of modulus 20 that slips once, at strain 0.03, by 0.01: it loses 20 (0.03^2 - 0.02^2) / 2."""
    strain = np.array([0.0, 0.03, 0.03, 0.0])
    slipped = np.array([0.0, 0.0, 0.01, 0.01])
    stress, density = 20 * (strain - slipped), 0.8
    steps = pl.DataFrame({"strain": strain, "travelled": [0.0, 0.03, 0.03 + 1e-9, 0.06 + 1e-9], "stress_xy": stress})
    steps = steps.with_columns(energy=pl.Series(0.5 * 20 * (strain - slipped) ** 2 / density))
    assert dissipated(steps, 0.0, 0.06, density) == pytest.approx(0.5 * 20 * (0.03**2 - 0.02**2) / density, rel=1e-6)


def test_a_state_is_the_same_wherever_it_drifted(quenched: Glass) -> None:
    moved = replace(quenched, positions=quenched.box.wrap(quenched.positions + np.array([3.3, -1.1, 40.0])))
    assert same_state(quenched, moved)
    nudged = moved.positions.copy()
    nudged[7, 1] += 2e-6
    assert not same_state(quenched, replace(moved, positions=nudged))


def test_the_period_is_the_smallest() -> None:
    def at(x: float) -> Glass:
        return Glass(np.array([[0.0, 0.0, 0.0], [x, 0.0, 0.0]]), np.zeros(2, dtype=np.int32), Box(5.0))

    states = [at(1.0), at(1.5), at(2.0), at(1.5), None, at(1.5), at(2.0), at(2.0)]
    assert [period for _, period in _periods(states)] == [None, None, None, 2, None, 2, 4, 1]
    assert [compared for compared, _ in _periods([at(1.0), None, at(1.0)])] == [False, False, True]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    protocol = build_protocol(
        {
            "name": "cycles",
            "seed": 7,
            "ensemble": {
                "n_particles": [100],
                "preparations": {"rapid": {"quench": "rapid", "equilibration_time": 5}},
                "realisations": 2,
            },
            "stages": [
                "prepare",
                {
                    "kind": "shear",
                    "path": [0, 0.04, -0.04, 0.04, -0.04, 0],
                    "frames": [0.0],
                    "increment": 1e-3,
                    "detector": "fold",
                },
            ],
        }
    )
    directory = tmp_path_factory.mktemp("cycles") / "run"
    run_protocol(protocol, directory, HereExecutor())
    return directory


def test_the_area_of_the_loops_is_what_the_instabilities_lose(run: Path, tmp_path: Path) -> None:
    results = Results.load(run, out=tmp_path)
    found = cycles_of(results)
    assert found["cycle"].to_list() == [1, 2, 1, 2]
    for row in found.iter_rows(named=True):
        own = results.tables["events"].filter(realisation=row["realisation"])
        own = own.filter(pl.col("travelled").is_between(0.16 * (row["cycle"] - 1), 0.16 * row["cycle"]))
        assert row["dissipated"] == pytest.approx(own["energy_drop"].sum(), rel=1e-3, abs=1e-5)  # steps of 1e-3, by trapezoids
        assert row["rising"] + row["falling"] == own.height
        assert row["rising"] == own.filter(pl.col("strain_after") > pl.col("strain_before")).height
    assert found.filter(cycle=1)["dissipated"].min() > 0.01  # a quenched glass does not come back at once
    assert found.filter(cycle=1)["period"].to_list() == [None, None]


def test_a_state_that_came_back_is_that_of_the_file(run: Path, tmp_path: Path) -> None:
    found = cycles_of(Results.load(run, out=tmp_path)).filter(cycle=2)
    folders = {}
    for path in (run / "workspace").iterdir():
        with gsd.hoomd.open(str(path / "sheared.gsd")) as trajectory:
            ends = [frame for frame in trajectory if round(frame.log["qlm/travelled"][0], 9) in (0.16, 0.32)]
            first, second = (frame.log["particles/qlm/position"] for frame in ends)
            step = second - first
            step -= ends[0].configuration.box[0] * np.round(step / ends[0].configuration.box[0])
            folders[path.name] = bool(np.abs(step - step.mean(axis=0)).max() < 1e-6)
    results = Results.load(run, out=tmp_path)
    expected = [1 if folders[realisation.id] else None for realisation in results.realisations]
    assert found["period"].to_list() == expected
    assert 1 in expected


def test_the_page_shows_the_loops_and_the_whole_path(run: Path, tmp_path: Path) -> None:
    page = make_report(run, out=tmp_path).read_text(encoding="utf-8")
    assert 'id="table-cycles"' in page
    assert 'id="figure-cycles"' in page
    data = pl.read_parquet(tmp_path / "figures" / "cycles.parquet")
    along = data.filter(pl.col("panel").str.starts_with("along"))
    assert along["x"].max() == pytest.approx(0.32)
    loops = data.filter(pl.col("panel").str.starts_with("loops"))
    assert loops["x"].min() == pytest.approx(-0.04)
    assert sorted(loops["series"].unique()) == ["cycle 1 (2)", "cycle 2 (2)"]
