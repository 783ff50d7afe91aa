"""The paper's figures, the data beside every figure, and reports of several runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from markupsafe import Markup
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy import stats
from typer.testing import CliRunner

from qlm_hoomd.cli import app
from qlm_hoomd.ensemble.runner import run_realisation
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.errors import InputError, InsufficientStatistics
from qlm_hoomd.protocol import Analysis as Settings
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.registry import REPORT_SECTIONS
from qlm_hoomd.report import Results, paper
from qlm_hoomd.report.drawn import COLUMNS, drawn_data, mark, save
from qlm_hoomd.report.figures import MissingDataError, draw
from qlm_hoomd.report.means import mean_moduli, seen_by_the_papers_detector
from qlm_hoomd.report.mode_panels import density, spectra_of
from qlm_hoomd.report.numbers import AS_THRESHOLD
from qlm_hoomd.report.paper.rewinding import _accepted, _level, rewinding
from qlm_hoomd.report.sections.exponents import exponents
from qlm_hoomd.report.sections.overview import overview
from qlm_hoomd.report.sections.shear import instabilities
from qlm_hoomd.statistics import theta_from_gamma_min
from qlm_hoomd.testing.sections import _Balance
from tests.synthetic_ensemble import DENSITY, Ensemble

STRAINS = (0.0, 0.02, 0.09, 0.12)
WITHOUT = ("structure", "structure_functions")
RAPID, SLOW = ("rapid", 0.5, 4.0, 0.55), ("slow", 0.2, 3.8, 0.8)


def ensemble(**changes: Any) -> Ensemble:
    """Small, with everything the paper's figures show."""
    settings: dict[str, Any] = {
        "sizes": (500, 2000), "realisations": 12, "strains": STRAINS, "exact": True,
        "analysis": (("strains", STRAINS), ("steady_from", 0.08)),  # the drawn stress still rises there
    }  # fmt: skip
    return Ensemble(**(settings | changes))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A rapid and a slow ensemble of different sizes, hence two protocols."""
    root = tmp_path_factory.mktemp("runs")
    rapid = ensemble(preparations=(RAPID,), name="fast")
    slow = ensemble(preparations=(SLOW,), sizes=(1000, 2000), realisations=10, name="patient", strain_max=0.21)
    return rapid.write(root / "rapid", without=WITHOUT), slow.write(root / "slow", without=WITHOUT)


@pytest.fixture(scope="module")
def both(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Both ensembles in one."""
    return Results.load(*folders, out=tmp_path_factory.mktemp("joint"))


def drawn(number: int, results: Results) -> tuple[Figure, pl.DataFrame, str]:
    """A figure of the paper, its data and its caption."""
    made = paper.figure(results, number)
    return made.figure, drawn_data(made.figure), Markup(made.caption).striptags()


# ---- the data beside a figure ----


def test_data_are_those_that_were_drawn() -> None:
    figure = Figure()
    ax = figure.subplots()
    ax.set_label("a")
    (line,) = ax.plot([1, 2, 3], [4, np.nan, 6], label="line")
    mark(line, 7)
    bars = ax.errorbar([1, 2], [3, 4], xerr=[[0.1, 0.2], [0.3, 0.4]], yerr=0.5, label="bars")
    mark(bars, [5, None])
    ax.fill_between([0, 1, 2], [0, 1, 0], [2, 3, 5], label="_band")
    ax.axhline(0.25, label="_level")
    ax.axvspan(0.2, 0.8, label="_window")
    ax.scatter([9], [8], label="dots")
    ax.stairs([1, 2], [0, 1, 3], label="steps")
    ax.annotate("no data", (0, 0), (1, 1), arrowprops={"arrowstyle": "->"})
    inset = ax.inset_axes((0.5, 0.5, 0.4, 0.4))
    mesh = inset.pcolormesh([0, 1, 2], [0, 1], np.ma.masked_equal([[3.0, 0.0]], 0.0), label="map")
    figure.colorbar(mesh, ax=ax)
    table = drawn_data(figure)
    assert dict(table.schema) == COLUMNS
    assert set(table["panel"]) == {"a", "a inset"}

    def series(name: str, *columns: str) -> list[tuple[Any, ...]]:
        return table.filter(pl.col("series") == name).select(columns).rows()

    assert series("line", "x", "y", "n_realisations") == [(1, 4, 7), (2, None, 7), (3, 6, 7)]
    found = np.array(series("bars", "x", "y", "x_low", "x_high", "y_low", "y_high"))
    assert found == pytest.approx(np.array([[1, 3, 0.9, 1.3, 2.5, 3.5], [2, 4, 1.8, 2.4, 3.5, 4.5]]))
    assert series("bars", "n_realisations") == [(5,), (None,)]
    assert series("band", "x", "y", "y_low", "y_high") == [(0, None, 0, 2), (1, None, 1, 3), (2, None, 0, 5)]
    assert set(series("level", "x", "y")) == {(None, 0.25)}
    assert np.array(series("window", "x_low", "x_high")) == pytest.approx(np.array([[0.2, 0.8]]))
    assert series("dots", "x", "y") == [(9, 8)]
    assert series("steps", "x_low", "x_high", "y") == [(0, 1, 1), (1, 3, 2)]
    assert series("map", "x", "y", "z") == [(0.5, 0.5, 3)]


def test_saved_data_are_the_figures_with_provenance(both: Results, tmp_path: Path) -> None:
    figure, data, _ = drawn(7, both)
    save(figure, "figure_7", tmp_path, "what it shows", both.provenance)
    assert {path.name for path in tmp_path.iterdir()} == {"figure_7.pdf", "figure_7.png", "figure_7.parquet"}
    assert pl.read_parquet(tmp_path / "figure_7.parquet").equals(data)
    carried = json.loads(pl.read_parquet_metadata(tmp_path / "figure_7.parquet")["qlm_hoomd"])
    assert carried["protocol_hash"] == both.hash == "+".join(run.hash for run in both.runs)
    assert (carried["figure"], carried["caption"]) == ("figure_7", "what it shows")


# ---- the figures ----


def test_all_eight_figures_are_drawn_labelled_and_say_how_many(both: Results) -> None:
    section = paper.paper(both)
    assert section is not None
    assert [item.name for item in section.figures] == [f"figure_{number}" for number in range(1, 9)]
    assert section.tables == ""
    for item in section.figures:
        _Balance().check(item.caption)
        for ax in item.figure.axes:
            for shown in (ax, *ax.child_axes):
                assert shown.get_xlabel(), item.name
                assert shown.get_ylabel(), item.name
        data = drawn_data(item.figure)
        assert data["n_realisations"].max() in range(1, 45), item.name
        assert any(word in f"{item.caption} {item.figure.axes[0].get_title()}" for word in ("realisation", "Realisation")), (
            item.name
        )
    letters = [ax.get_label() for ax in section.figures[1].figure.axes]
    assert letters == list("abcdefgh")
    titles = [ax.get_title() for ax in section.figures[1].figure.axes[:2]]
    assert [title.split(" ")[0] for title in titles] == ["rapid", "slow"]


def test_figure_1_keeps_to_the_theory(both: Results) -> None:
    """The points lie where the theory puts them, and the potentials have their minima there (the sign of the paper's C3 corrected)."""
    _, data, caption = drawn(1, both)
    points = data.filter(pl.col("series").str.starts_with("points")).select("x", "y").rows()
    (a, b, c, d, reinserted) = points
    phi = d[1] ** 2
    assert all(kappa**2 - 2 * lam == pytest.approx(phi) for lam, kappa in points)
    assert all(kappa**2 == pytest.approx(8 * lam / 3) for lam, kappa in (b, reinserted))
    assert d[0] == pytest.approx(0)
    assert (
        d[1] < 0 < reinserted[1]
    )  # it fails on the branch of negative kappa under growing stress, and comes back on the other
    assert a[0] > b[0] > c[0] > d[0]
    curves = {
        name: data.filter(pl.col("series") == f"u at {name}").select("x", "y").to_numpy() for name in ("B", "C", "D", "B′")
    }
    deep = curves["C"]
    right, left = deep[deep[:, 0] > 0], deep[deep[:, 0] < 0]
    assert right[:, 1].min() == pytest.approx(left[:, 1].min(), abs=2e-3)
    # D and B' are two states of one potential.
    at = np.linspace(-0.5, 1.5, 21)
    falls = [np.interp(at, *curves[name].T) for name in ("D", "B′")]
    assert np.ptp(falls[0] - falls[1]) == pytest.approx(0, abs=2e-3)
    for name, (_, kappa) in zip(("B", "C", "B′"), (b, c, reinserted), strict=True):
        x, u = curves[name].T
        near = np.abs(x - kappa) < 0.3
        assert x[near][u[near].argmin()] == pytest.approx(kappa, abs=0.03)
    dots = data.filter(pl.col("series").str.starts_with("harmonic modes"))
    modes = both.tables["modes"].filter(pl.col("strain") == 0, pl.col("eigenvalue") <= 1)
    assert 0 < dots.height <= modes.height
    assert set(dots["x"]) <= set(modes["eigenvalue"])
    assert f"{dots.height} harmonic modes" in caption
    assert "Black" not in caption


def test_figure_2_shows_the_means(both: Results) -> None:
    _, data, _ = drawn(2, both)
    minima = both.analysis.minima.filter(
        pl.col("quantity") == "gamma_min", pl.col("detector") == "fold", pl.col("strain") == 0.02
    )
    for panel, preparation in (("c", "rapid"), ("d", "slow")):
        own = data.filter(pl.col("panel") == panel, pl.col("y_low").is_not_null(), pl.col("series").str.contains("0.02"))
        expected = minima.filter(pl.col("preparation") == preparation)
        assert own["y"].to_list() == expected["mean"].to_list()
        assert own["n_realisations"].to_list() == expected["n_realisations"].to_list()
        assert ((own["y_high"] - own["y_low"]) / 2).to_numpy() == pytest.approx(expected["standard_error"].to_numpy())
    assert {"a inset", "g inset", "h inset"} <= set(data["panel"])
    (inset,) = (data.filter(pl.col("panel") == "a inset", pl.col("series").str.starts_with("N=")) for _ in range(1))
    index = int(inset["series"][0].rpartition(" ")[2])
    run = both.tables["steps"].filter(
        pl.col("preparation") == "rapid", pl.col("n_particles") == 2000, pl.col("realisation") == index
    )
    assert set(inset["y"]) <= set(run["stress_xy"])
    spectrum = both.analysis.largest("slow", 0.0)
    ends = data.filter(pl.col("panel") == "h", pl.col("series") == "fit range")["x"]
    assert max(ends) == pytest.approx(spectrum.window.upper)


def test_insets_lie_on_no_curve(both: Results) -> None:
    figure, _, _ = drawn(2, both)
    with_inset = [ax for ax in figure.axes if ax.child_axes]
    assert [ax.get_label() for ax in with_inset] == ["a", "b", "g", "h"]
    figure.draw_without_rendering()
    for ax in with_inset:
        (small,) = ax.child_axes
        box = small.get_window_extent().transformed(ax.transAxes.inverted())
        for line in ax.lines:
            if not all(line.get_transform().contains_branch_seperately(ax.transData)):
                continue
            for x, y in (ax.transData + ax.transAxes.inverted()).transform(np.column_stack(line.get_data(orig=False))):
                assert not (box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1), (ax.get_label(), line.get_label())


def test_predicted_strain_is_the_smallest_that_a_mode_has_ahead(both: Results) -> None:
    observed = both.analysis.samples.filter(
        pl.col("detector") == "fold", ~pl.col("censored"), quantity="gamma_min", preparation="slow", strain=0.0
    )
    rows = [
        {"preparation": "slow", "n_particles": n, "realisation": r, "strain": 0.0, "relaxed_strain_forward": strain}
        for n, r, value in observed.select("n_particles", "realisation", "value").iter_rows()
        for strain in (None, 3.0 * value, 1.25 * value, -0.1 * value)
    ]
    results = replace(both, tables={**both.tables, "modes": pl.DataFrame(rows)})
    vars(results)["analysis"] = both.analysis
    figure = draw(results, "predicted", "predicted").figure
    data = drawn_data(figure).filter(pl.col("series") != "equal by harmonic")
    assert data.height == observed.height
    assert data["x"].to_numpy() == pytest.approx(1.25 * data["y"].to_numpy())
    assert sorted(data["y"]) == pytest.approx(sorted(observed["value"]))
    assert "rank correlation 1.00" in figure.axes[0].get_title()


def test_cubic_modes_stand_before_harmonic_ones(tmp_path: Path) -> None:
    """Where there are cubic modes, figure 1, P(lambda, kappa) and the prediction are theirs, and harmonic modes are faint."""
    made = ensemble(preparations=(RAPID,), realisations=6, strains=(0.0,), analysis=(), cubic=True)
    results = Results.load(made.write(tmp_path / "run", without=WITHOUT), out=tmp_path / "out")
    cubic, harmonic = (results.tables[name] for name in ("qlms", "modes"))

    figure = draw(results, "predicted", "predicted")
    dots = drawn_data(figure.figure).filter(pl.col("series") != "equal by cubic alone")
    smallest = cubic.filter(pl.col("cubic_strain") > 0).group_by("n_particles", "realisation").agg(pl.col("cubic_strain").min())
    assert sorted(dots["x"]) == pytest.approx(sorted(smallest["cubic_strain"]))
    assert "By cubic modes, at the strain" in figure.caption
    assert "harmonic" not in figure.caption

    followed = cubic.with_columns(relaxed_strain_forward=2.0 * pl.col("cubic_strain"))
    figure = draw(replace(results, tables={**results.tables, "qlms": followed}), "predicted", "predicted")
    dots = drawn_data(figure.figure).filter(pl.col("series") != "equal by cubic")
    assert sorted(dots["x"]) == pytest.approx(sorted(2.0 * smallest["cubic_strain"]))
    assert "By cubic modes, to fourth order" in figure.caption

    # Where the glass was followed over its modes that stands first, and before it the fold that was found from there.
    for column, of, factor, words in (
        ("path_strain", "path", 3.0, "the glass followed over each of them"),
        ("path_fold", "fold", 4.0, "the fold found from the path over each of them"),
    ):
        followed = followed.with_columns((factor * pl.col("cubic_strain")).alias(column))
        figure = draw(replace(results, tables={**results.tables, "qlms": followed}), "predicted", "predicted")
        dots = drawn_data(figure.figure).filter(pl.col("series") != f"equal by cubic {of}")
        assert sorted(dots["x"]) == pytest.approx(sorted(factor * smallest["cubic_strain"]))
        assert f"By cubic modes, {words}" in figure.caption
        assert "fourth order" not in figure.caption

    joint = draw(results, "joint", "joint")
    data = drawn_data(joint.figure)
    faint = data.filter(pl.col("series").str.starts_with("harmonic modes"))
    assert sorted(faint["x"]) == pytest.approx(sorted(harmonic["eigenvalue"]))
    assert set(cubic["curvature"]) <= set(data.filter(pl.col("series") != faint["series"][0])["x"])
    share = 100 * (cubic["kappa_theory"] ** 2 < 2 * cubic["curvature"]).mean()
    assert f"{cubic.height} cubic modes of 12 realisations" in joint.figure.axes[0].get_title()
    assert f"{share:.3g} % with" in joint.figure.axes[0].get_title()
    assert "Grey: harmonic modes, not the theory's" in joint.caption

    _, data, caption = drawn(1, results)
    assert data.filter(pl.col("series").str.starts_with("cubic modes")).height > 0
    assert f"{share:.3g} % have Φ < 0" in caption
    assert caption.index("Black dots") < caption.index("Grey dots")

    # Of several kinds the one that predicts best.
    both = pl.concat([cubic.with_columns(kind=pl.lit("PseudoHarmonic"), cubic_strain=pl.lit(1e-9)), cubic])
    assert replace(results, tables={**results.tables, "qlms": both}).nonlinear_modes("rapid").equals(cubic)


def test_figure_4_tells_what_stands_from_what_was_undone(both: Results) -> None:
    _, data, caption = drawn(4, both)
    labels = data.filter(pl.col("panel") == "a", pl.col("x").is_not_null())["series"].unique().to_list()
    assert any("stands" in label for label in labels)
    assert any("basin lost (1)" in label for label in labels)
    # Around the event, the step that stands is the one across it.
    fine = data.filter(pl.col("panel") == "a", pl.col("series").str.contains("/100.*stands"))
    assert (fine["x"].min(), fine["x"].max()) == pytest.approx((-5e-3, 5e-3), abs=1e-5)
    assert fine["y"].max() == pytest.approx(1e4)
    event = float(caption.partition("instability at strain ")[2].split(" ")[0])
    assert (both.tables["events"]["strain_c"] - event).abs().min() < 1e-7


def test_trial_steps_that_stand_are_those_in_the_steps() -> None:
    steps = pl.DataFrame({"strain": [0.0, 1e-4, 1.1e-4], "increment": [0.0, 1e-4, 1e-5]})
    trials = pl.DataFrame({"strain_before": [0.0, 1e-4, 1e-4], "strain_after": [1e-4, 2e-4, 1.1e-4]})
    assert _accepted(trials, steps)["accepted"].to_list() == [True, False, True]
    assert trials.select(_level(1e-4)).to_series().to_list() == [0, 0, 1]


def test_events_beside_another_one_show_nothing(tmp_path: Path) -> None:
    """Two instabilities closer than the steps that searched for them are not told apart in a picture."""
    directory = ensemble(sizes=(500,), realisations=1, strains=(0.0,)).write(tmp_path, without=WITHOUT)
    (path,) = (directory / "workspace").iterdir()
    events = pl.read_parquet(path / "events.parquet")
    pl.concat([events, events.with_columns(pl.col("strain_c") + 1e-5)]).sort("strain_c").write_parquet(path / "events.parquet")
    with pytest.raises(MissingDataError, match="no instability with refined steps"):
        rewinding(Results.load(directory))


def test_figures_without_data_are_left_out_with_the_reason(tmp_path: Path) -> None:
    sheared = Results.load(
        ensemble(sizes=(500,), realisations=2).write(tmp_path / "a", without=(*WITHOUT, "modes", "moduli", "trials"))
    )
    section = paper.paper(sheared)
    assert section is not None
    names = {item.name for item in section.figures}
    assert "figure_7" not in names
    assert {"figure_1", "figure_2"} <= names
    assert "<b>Figure 4</b> is left out: no run wrote its trial steps" in section.tables
    assert "<b>Figure 7</b> is left out: there are too few modes" in section.tables
    nothing = paper.paper(Results.load(ensemble(realisations=0).write(tmp_path / "b")))
    assert nothing is not None
    assert [item.name for item in nothing.figures] == ["figure_1"]
    assert nothing.tables.count("is left out") == 7


@pytest.mark.parametrize("n_preparations", [1, 3])
def test_one_column_per_preparation(tmp_path: Path, n_preparations: int) -> None:
    names = tuple((f"p{k}", 0.5, 4.0, 0.55) for k in range(n_preparations))
    results = Results.load(ensemble(preparations=names, sizes=(500,), realisations=2).write(tmp_path, without=WITHOUT))
    figure, _, _ = drawn(2, results)
    assert len(figure.axes) == 4 * n_preparations


# ---- several runs ----


def test_two_runs_make_one_report(both: Results, folders: tuple[Path, Path]) -> None:
    assert both.preparations == ("rapid", "slow")
    assert both.sizes == (500, 1000, 2000)
    assert [both.planned("rapid", 500), both.planned("slow", 500), both.planned("slow", 1000)] == [12, 0, 10]
    assert len(both.realisations) == 2 * 12 + 2 * 10
    assert both.name == "fast + patient"
    html = overview(both).html
    assert all(run.hash in html and run.name in html for run in both.runs)
    assert "This report is made from several runs" in html
    alone = Results.load(folders[1])
    assert alone.analysis.find(preparation="slow") == both.analysis.find(preparation="slow")
    assert alone.folder == folders[1] / "results"
    assert (both.folder / "steps.parquet").is_file()


def test_runs_that_do_not_belong_together_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    other = ensemble(realisations=0, preparations=(("third", 0.5, 4.0, 0.5),)).write(tmp_path / "other")
    protocol = json.loads((other / "protocol.json").read_text())
    (other / "protocol.json").write_text(json.dumps(protocol | {"model": {"density": 0.7}}))
    with pytest.raises(InputError, match=r"models of .* differ \(density: 0.82 and 0.7\)"):
        Results.load(folders[0], other, out=tmp_path)
    with pytest.raises(InputError, match=r"both .* have a preparation 'rapid'"):
        Results.load(folders[0], folders[0], out=tmp_path)
    with pytest.raises(InputError, match="no folder given"):
        Results.load()
    refused = CliRunner().invoke(app, ["report", *map(str, folders)])
    assert refused.exit_code == 2
    assert "2 runs and no folder for their common report" in refused.output


def test_one_command_makes_one_page_of_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(REPORT_SECTIONS.plugins) - {"overview", "paper"}:
        monkeypatch.delitem(REPORT_SECTIONS.plugins, name)
    few: dict[str, Any] = {"sizes": (500,), "realisations": 2, "strains": (0.0,), "analysis": ()}
    one = ensemble(**few, preparations=(RAPID,)).write(tmp_path / "one", without=(*WITHOUT, "modes", "moduli"))
    two = ensemble(**few, preparations=(SLOW,)).write(tmp_path / "two", without=(*WITHOUT, "modes", "moduli"))
    made = CliRunner().invoke(app, ["report", str(one), str(two), "--out", str(tmp_path / "joint")])
    assert made.stdout == f"report: {tmp_path / 'joint' / 'report.html'}\n"
    page = (tmp_path / "joint" / "report.html").read_text(encoding="utf-8")
    saved = {path.name for path in (tmp_path / "joint" / "figures").iterdir()}
    drawn_numbers = [number for number in range(1, 9) if f"figure_{number}.pdf" in saved]
    assert {1, 2, 4} <= set(drawn_numbers)
    assert saved == {f"figure_{number}.{kind}" for number in drawn_numbers for kind in ("pdf", "png", "parquet")}
    assert all(f'href="figures/figure_{number}.parquet"' in page for number in drawn_numbers)
    assert "Figure 7</b> is left out" in page
    numbers = json.loads((tmp_path / "joint" / "exponents.json").read_text())
    assert [run["preparations"] for run in numbers["runs"]] == [["rapid"], ["slow"]]
    assert not (one / "results").exists()


# ---- the numbers ----


def test_the_papers_detector_sees_the_large_jumps(both: Results) -> None:
    events = both.tables["events"].filter(pl.col("preparation") == "rapid")
    limit = {size: 1e-2 * (size / DENSITY) ** (1 / 3) for size in (500, 2000)}
    seen = seen_by_the_papers_detector(events, DENSITY)
    assert seen.height == sum(row["max_jump"] > limit[row["n_particles"]] for row in events.iter_rows(named=True))
    assert 0 < seen.height < events.height
    found = both.analysis.find(method="gamma_min", preparation="rapid", strain=0.0)
    assert [e.detector for e in found] == ["fold", AS_THRESHOLD]  # what was measured speaks first
    means = both.analysis.minima.filter(
        pl.col("quantity") == "gamma_min",
        pl.col("preparation") == "rapid",
        pl.col("strain") == 0.02,
        pl.col("n_particles") == 500,
    )
    by = dict(means.select("detector", "mean").iter_rows())
    ends = (
        both.tables["steps"]
        .filter(pl.col("preparation") == "rapid", pl.col("n_particles") == 500)
        .group_by("realisation")
        .agg(pl.col("strain").max())
    )
    first = [
        min(
            [x for x in seen.filter(pl.col("n_particles") == 500, pl.col("realisation") == index)["strain_c"] if x > 0.02],
            default=end,
        )
        - 0.02
        for index, end in ends.iter_rows()
    ]
    assert by[AS_THRESHOLD] == pytest.approx(np.mean(first))
    assert by[AS_THRESHOLD] >= by["fold"]


def test_steady_state_counts_a_realisation_once(tmp_path: Path) -> None:
    directory = ensemble(sizes=(500, 1000, 2000), realisations=24).write(
        tmp_path, without=(*WITHOUT, "modes", "moduli", "trials")
    )
    results = Results.load(directory)
    assert results.settings.steady == pytest.approx((0.08, 0.12))
    (pooled,) = (e for e in results.analysis.pooled("rapid") if e.quantity == "theta" and e.detector == "fold")
    assert pooled.pooled == results.settings.steady
    assert pooled.exponent.n_realisations == {500: 24, 1000: 24, 2000: 24}
    events = results.tables["events"]
    means = {}
    for size in (500, 1000, 2000):
        own = events.filter(pl.col("n_particles") == size)
        at = np.linspace(*results.settings.steady, 12)
        means[size] = [
            np.mean([min(x for x in run["strain_c"] if x > strain) - strain for strain in at])
            for run in own.partition_by("realisation")
        ]
    with pytest.raises(InsufficientStatistics) as weak:
        theta_from_gamma_min(means)
    by_hand = weak.value.estimate
    assert pooled.refusal is not None
    assert "the slope of the log means is" in pooled.refusal
    assert pooled.exponent.value == pytest.approx(by_hand.exponent.value)
    assert (pooled.exponent.low, pooled.exponent.high) == pytest.approx((by_hand.exponent.low, by_hand.exponent.high))


def test_the_steady_spectrum_ends_below_the_phonons_of_every_strain(both: Results) -> None:
    first, last = both.settings.steady
    (alpha,) = (e for e in both.analysis.pooled("rapid") if e.method == "spectrum")
    spectra = [
        s for s in both.analysis.spectra if s.preparation == "rapid" and s.n_particles == 2000 and first <= s.strain <= last
    ]
    assert [s.strain for s in spectra] == [0.09, 0.12]
    assert alpha.exponent.window[1] == min(s.window.upper for s in spectra)
    assert alpha.exponent.n_realisations == 12
    inside = both.tables["modes"].filter(
        pl.col("preparation") == "rapid", pl.col("n_particles") == 2000, pl.col("strain") >= first,
        pl.col("participation_ratio") < both.settings.threshold(2000), pl.col("frequency") <= alpha.exponent.window[1],
    )  # fmt: skip
    assert alpha.fit.n_modes == inside.filter(pl.col("frequency") > alpha.exponent.window[0]).height


def test_order_of_realisations_does_not_matter(both: Results) -> None:
    """The same glasses under other numbers."""
    turned = {
        name: table.with_columns(realisation=99 - pl.col("realisation")).sort(
            "preparation", "n_particles", "realisation", maintain_order=True
        )
        for name, table in both.tables.items()
    }
    again = replace(both, tables=turned).analysis
    for one, other in zip(both.analysis.estimates, again.estimates, strict=True):
        assert one.refusal == other.refusal
        if one.exponent is not None:
            assert (one.exponent.value, one.exponent.low) == pytest.approx(
                (other.exponent.value, other.exponent.low), rel=1e-9, nan_ok=True
            )


def test_json_holds_windows_estimators_and_alternatives(both: Results) -> None:
    plain = json.loads(json.dumps(both.analysis.to_dict(), allow_nan=False))
    assert {entry["quantity"] for entry in plain["estimates"]} == {"theta", "alpha", "theta_prime", "alpha_prime"}
    assert {"excess", "unfiltered", "spectrum", "omega_min", "gamma_min", "prediction", "distribution"} == {
        e["method"] for e in plain["estimates"]
    }
    assert any(entry["pooled"] for entry in plain["estimates"])
    assert all("rule" in spectrum["window"] for spectrum in plain["spectra"])
    assert plain["settings"]["shown_strains"] == [0.0, 0.02, 0.09]


def test_estimators_stand_side_by_side(tmp_path: Path) -> None:
    settings = (("strains", (0.0,)), ("insist", True))
    directory = ensemble(sizes=(500, 1000, 2000), realisations=22, strains=(0.0,), analysis=settings, seed=5).write(
        tmp_path, without=(*WITHOUT, "trials")
    )
    results = Results.load(directory)
    section = exponents(results)
    (theta, _) = results.analysis.find(method="gamma_min")
    assert len(theta.estimators) == 3
    assert "The estimators side by side" in section.tables
    tables = instabilities(results).tables
    assert "slope 1 (plateau)" in tables
    # The interval of theta stands where theta is quoted, and nowhere else.
    assert f"{theta.alternatives.power_law.theta:.2f} [" not in tables
    assert theta.alternatives is not None
    assert theta.alternatives.verdict.partition("theta")[0] in tables
    assert "because the protocol insists" in section.html


def test_results_draw_themselves(both: Results) -> None:
    spectrum = both.analysis.largest("rapid", 0.0)
    ax = Figure().subplots()
    assert spectrum.plot(ax) is ax
    assert [x for container in ax.containers for x in container[0].get_xdata()] == pytest.approx(
        [x for x, n in zip(spectrum.density.centres, spectrum.density.counts, strict=True) if n]
    )
    estimate = next(e for e in both.analysis.find(method="gamma_min") if e.fit is not None)
    assert estimate.plot(Figure().subplots()).get_xscale() == "log"
    with pytest.raises(InputError, match="has no fit to draw"):
        both.analysis.find(method="prediction")[0].plot()


# ---- settings ----


def test_shown_strains() -> None:
    assert Settings(strains=(0.0, 0.015, 0.03, 0.1)).shown == (0.0, 0.015, 0.1)
    assert Settings(strains=(0.0,)).shown == (0.0,)
    assert Settings(strains=(0.0, 0.01, 0.03), shown_strains=(0.03,)).shown == (0.03,)
    assert Settings(strains=(0.0,)).steady is None
    assert Settings(strains=(0.0, 0.3), steady_from=0.1).steady == (0.1, 0.3)
    assert Settings(strains=(0.0, 0.02), shown_strains=(0.02,)).shown_strains == (0.02,)
    with pytest.raises(InputError, match=r"shown_strains = \[0.5\]; expected one or more of the strains \[0.0, 0.02\]"):
        Settings(strains=(0.0, 0.02), shown_strains=(0.5,))


# ---- a real run ----


def test_a_tiny_real_run_draws_its_own_search(tmp_path: Path) -> None:
    """Real tables have all columns that the figures read, and the search of the threshold detector three levels."""
    pytest.importorskip("qlm_rewind")
    protocol = build_protocol(
        {
            "name": "tiny",
            "seed": 4,
            "ensemble": {
                "n_particles": [150],
                "preparations": {"quick": {"quench": "rapid", "equilibration_time": 1.0}},
                "realisations": 1,
            },
            "stages": [
                {"kind": "prepare"},
                {"kind": "shear", "strain_max": 0.2, "max_events": 1, "detector": "threshold"},
                {"kind": "modes", "count": 8, "strains": [0.0]},
            ],
        }
    )
    (realisation,) = Workspace.create(protocol, tmp_path).realisations
    assert run_realisation(tmp_path, realisation.id).failure is None
    results = Results.load(tmp_path)
    _, data, caption = drawn(4, results)
    bars = data.filter(pl.col("panel") == "a", pl.col("x").is_not_null())["series"].unique()
    assert sum("rewound" in series for series in bars) >= 2
    assert any("/100$, stands" in series for series in bars)
    (strain,) = results.tables["events"]["strain_c"]
    assert f"instability at strain {strain:.8f}" in caption
    _, data, _ = drawn(1, results)
    soft = results.tables["modes"].filter(
        pl.col("participation_ratio") < results.settings.threshold(150), pl.col("eigenvalue") < 1
    )
    assert data.filter(pl.col("series").str.starts_with("harmonic modes")).height == soft.drop_nulls("kappa_theory").height


def test_a_band_with_a_gap_is_read_back_in_pieces() -> None:
    figure = Figure()
    ax = figure.subplots()
    band = ax.fill_between([0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 0.0, np.nan, 0.0, 0.0], 1.0, label="gap")
    mark(band, [5, 6, 7, 8, 9])
    data = drawn_data(figure)
    assert data["x"].to_list() == [0.0, 1.0, 3.0, 4.0]
    assert data["n_realisations"].null_count() == 4


# ---- numbers against an independent count ----


def test_the_fit_of_the_density_holds_as_many_modes_as_the_table(both: Results) -> None:
    """Under the drawn line lies the number of quasi-localised modes in the window, per degree of freedom and realisation."""
    figure, ax = plt.subplots()
    density(ax, both, "rapid")
    lines = {str(line.get_label()): line for line in ax.get_lines() if "fit, " in str(line.get_label())}
    modes, checked = both.tables["modes"], 0
    for spectrum in spectra_of(both, "rapid", both.settings.shown):
        line = lines.get(f"_fit, $\\gamma={spectrum.strain:g}$", lines.get(f"_weak fit, $\\gamma={spectrum.strain:g}$"))
        if line is None:
            continue
        omega, level = line.get_data()
        inside = modes.filter(
            (pl.col("preparation") == "rapid") & (pl.col("n_particles") == spectrum.n_particles)
            & ((pl.col("strain") - spectrum.strain).abs() < 1e-9) & (pl.col("participation_ratio") < spectrum.threshold)
            & pl.col("frequency").is_between(omega[0], omega[-1])
        )  # fmt: skip
        expected = inside.height / (3 * spectrum.n_particles * spectrum.n_realisations)
        assert np.trapezoid(level, omega) == pytest.approx(expected, rel=0.15), spectrum.strain
        checked += 1
    plt.close(figure)
    assert checked


def test_means_of_moduli_have_their_standard_errors() -> None:
    rng = np.random.default_rng(3)
    shear = rng.normal(16.0, 2.0, 7)
    table = pl.DataFrame({"preparation": "rapid", "n_particles": 500, "strain": 0.0, "shear_modulus": shear})
    (row,) = mean_moduli(table.with_columns(pl.col("n_particles").cast(pl.Int64))).iter_rows(named=True)
    assert row["shear_modulus"] == pytest.approx(sum(shear) / 7)
    assert row["shear_modulus_error"] == pytest.approx(stats.sem(shear), rel=1e-12)
