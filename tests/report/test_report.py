"""The report of ensembles whose exponents are known: it says them, or says why it does not, and always says what is missing."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
import pytest
from qlm_quasistatic import Detector

from qlm_hoomd.ensemble.runner import run_protocol
from qlm_hoomd.errors import InputError
from qlm_hoomd.protocol import Analysis as Settings
from qlm_hoomd.protocol import SampleSelection, build_protocol, protocol_hash
from qlm_hoomd.registry import DETECTORS, REPORT_SECTIONS, STAGES, Group, Plugin
from qlm_hoomd.report import Results, Section, make_report
from qlm_hoomd.report.collect import KEYS
from qlm_hoomd.report.means import exact_detectors
from qlm_hoomd.stages import Stage, StageContext
from qlm_hoomd.testing.tiny import HereExecutor, installed
from tests.synthetic_ensemble import Ensemble, structure_table

SMALL = Ensemble(realisations=3)
"""Enough for everything but exponents."""
TOLD = (("strains", [0.0]), ("omega_max", 1.2))
"""The drawn glasses are a power law beyond omega = 1 too, where the softest modes of N = 500 are."""


class Page(HTMLParser):
    """What a page would load, its text, and its elements."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.elements: list[str] = []
        self.anchors: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self._hidden = 0
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element and what it refers to."""
        self.elements.append(tag)
        self._hidden += tag in {"style", "svg", "script"}
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name == "id" and tag == "section":
                self.anchors.append(str(value))
            if name in {"src", "srcset", "data", "href", "xlink:href", "action", "poster"} and value:
                (self.links if tag == "a" else self.loads).append(value)

    def handle_endtag(self, tag: str) -> None:
        """Leave what is not text."""
        self._hidden -= tag in {"style", "svg", "script"}

    def handle_data(self, data: str) -> None:
        """Collect the text."""
        if not self._hidden:
            self.text += " " + data


def estimates(directory: Path, **wanted: Any) -> list[dict[str, Any]]:
    """The entries of exponents.json with these values."""
    found = json.loads((directory / "results" / "exponents.json").read_text(encoding="utf-8"))["estimates"]
    return [entry for entry in found if all(entry[name] == value for name, value in wanted.items())]


def realisation(directory: Path, n_particles: int, index: int) -> Path:
    """Folder of that realisation."""
    for path in (directory / "workspace").iterdir():
        point = json.loads((path / "signac_statepoint.json").read_text(encoding="utf-8"))
        if (point["n_particles"], point["realisation"]) == (n_particles, index):
            return path
    raise LookupError(n_particles, index)


def leave_plain_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without the paper's figures, which have tests of their own, and without sections of other distributions."""
    for name, plugin in list(REPORT_SECTIONS.plugins.items()):
        if name == "paper" or "qlm_hoomd.report" not in plugin.entry_point.value:
            monkeypatch.delitem(REPORT_SECTIONS.plugins, name)


@pytest.fixture
def plain_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    """See :func:`leave_plain_sections`."""
    leave_plain_sections(monkeypatch)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A well-sampled ensemble at two strains, reported."""
    directory = Ensemble(realisations=120, strains=(0.0, 0.02), analysis=TOLD, seed=2).write(tmp_path_factory.mktemp("told"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        leave_plain_sections(monkeypatch)
        make_report(directory)
    return directory


# ---- what a good ensemble says ----


@pytest.mark.parametrize(
    ("method", "n_particles", "truth"), [("gamma_min", None, 0.5), ("omega_min", None, 4.0), ("spectrum", 2000, 4.0)]
)
def test_exponents_are_recovered(told: Path, method: str, n_particles: int | None, truth: float) -> None:
    (entry,) = estimates(told, method=method, n_particles=n_particles)
    low, high = entry["interval"]
    assert entry["status"] == "measured"
    assert low < entry["value"] < high
    # A 95 % interval misses one time in twenty; one and a half of it does one time in three hundred.
    assert abs(entry["value"] - truth) < 1.5 * max(high - entry["value"], entry["value"] - low)
    assert high - low < 3.5


def test_prediction_follows_theta(told: Path) -> None:
    (theta,), (alpha,) = estimates(told, method="gamma_min"), estimates(told, method="prediction", quantity="alpha")
    assert alpha["value"] == pytest.approx(min(3 + 4 * theta["value"], 4))
    assert alpha["detector"] == theta["detector"] == "threshold"


def test_page_says_the_numbers_of_the_json(told: Path) -> None:
    text = Page(told / "results" / "report.html").text
    for entry in (*estimates(told, method="gamma_min"), *estimates(told, method="spectrum", n_particles=2000)):
        low, high = entry["interval"]
        assert f"{entry['value']:.2f}" in text
        assert f"[{low:.2f}, {high:.2f}]" in text
    assert "120 realisations at each N = 500, 1000, 2000" in text
    assert "PRE 99" in text or "Phys. Rev. E 99, 023003 (2019)" in text
    assert protocol_hash(json.loads((told / "protocol.json").read_text())) in text


def test_page_is_self_contained(told: Path) -> None:
    page = Page(told / "results" / "report.html")
    assert [load for load in page.loads if not load.startswith(("#", "data:"))] == []
    assert not {"link", "iframe", "img", "object", "embed"} & set(page.elements)
    assert "default-src 'none'" in page.source
    assert "@import" not in page.source
    assert not re.search(r"url\((?!#)", page.source)
    assert all(link.startswith("#") or (told / "results" / link).is_file() for link in page.links)
    anchors = [link[1:] for link in page.links if link.startswith("#")]
    assert set(anchors) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert anchors[1 : len(page.anchors) + 2] == [*page.anchors, "cite"]


def test_every_exponent_leads_to_its_realisations_and_back(told: Path) -> None:
    source = (told / "results" / "report.html").read_text(encoding="utf-8")
    blocks = dict(
        re.findall(
            r'<details id="((?:exponents|glasses)-[^"]+)"[^>]*>(.*?)(?=<details id="|<h3 id="glasses|\Z)', source, re.DOTALL
        )
    )
    (exponents,) = (text for name, text in blocks.items() if name.startswith("exponents"))
    assert set(re.findall(r'href="#(glasses-[^"]+)"', exponents)) == {f"glasses-0-{size}" for size in (500, 1000, 2000)}
    samples = Results.load(told).analysis.samples
    kept = pl.read_parquet(told / "results" / "glasses.parquet")
    assert kept.filter(pl.col("quantity") == "gamma_min").height == 3 * 120
    for size in (500, 1000, 2000):
        text = blocks[f"glasses-0-{size}"]
        assert 'href="#exponents-0-0"' in text
        rows = re.findall(r'<tr><th scope="row">(\d+)<td><code>(\w+)</code><td>([^<]*)<td>([^<]*)', text)
        assert len(rows) == 120
        index, folder, gamma_min, omega_min = rows[17]
        own = samples.filter(pl.col("n_particles") == size, pl.col("realisation") == int(index))
        for quantity, shown in (("gamma_min", gamma_min), ("omega_min", omega_min)):
            value = own.filter(pl.col("quantity") == quantity)["value"].item()
            assert float(shown.removeprefix("&gt; ")) == pytest.approx(value, rel=6e-3)
        path = realisation(told, size, int(index))
        assert path.name.startswith(folder)
        (there,) = kept.filter(pl.col("n_particles") == size, pl.col("realisation") == int(index))["folder"].unique()
        assert (told / "results" / there).resolve() == path.resolve()


def test_means_are_those_of_the_listed_values(told: Path) -> None:
    analysis = Results.load(told).analysis
    for row in analysis.minima.iter_rows(named=True):
        own = analysis.samples.filter(pl.col("quantity") == row["quantity"], pl.col("n_particles") == row["n_particles"])
        assert (row["n_realisations"], row["n_censored"]) == (own.height, own["censored"].sum())
        assert row["mean"] == pytest.approx(own["value"].mean())
        assert row["standard_error"] == pytest.approx(own["value"].std() / own.height**0.5)


def test_ids_in_the_page_are_unambiguous(told: Path) -> None:
    """A reference inside one figure must not land in another one."""
    source = (told / "results" / "report.html").read_text(encoding="utf-8")
    figures = re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL)
    clips = [set(re.findall(r'<clipPath id="([^"]+)"', figure)) for figure in figures]
    assert len(figures) >= 7
    assert sum(map(len, clips)) == len(set().union(*clips))
    for figure, own in zip(figures, clips, strict=True):
        assert set(re.findall(r'clip-path="url\(#([^)]+)\)"', figure)) <= own


def test_every_figure_is_there_with_its_data_and_labelled(told: Path) -> None:
    folder = told / "results" / "figures"
    names = {
        "stress_strain",
        "gamma_min",
        "omega_min",
        "participation",
        "density",
        "windows",
        "exponents",
        "structure",
    }
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{suffix}" for name in names for suffix in ("pdf", "png", "parquet")
    }
    results = Results.load(told)
    for section in (
        plugin.load()(results) for plugin in REPORT_SECTIONS.plugins.values() if "report.sections" in plugin.entry_point.value
    ):
        for item in section.figures:
            for ax in item.figure.axes:
                assert ax.get_xlabel(), item.name
                assert ax.get_ylabel() or ax is not item.figure.axes[0] or ax.get_yticklabels(), item.name
                for inset in ax.child_axes:
                    assert inset.get_xlabel(), item.name
                    assert inset.get_ylabel(), item.name


def test_dark_pages_keep_text_and_axes_visible(told: Path) -> None:
    source = (told / "results" / "report.html").read_text(encoding="utf-8")
    svg = "".join(re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL))
    assert "currentColor" in svg
    assert "#1d1f24" not in svg
    assert not re.search(r"(fill|stroke): ?#(000000|ffffff)", svg)


def test_tables_are_collected_in_order(told: Path) -> None:
    modes = pl.read_parquet(told / "results" / "modes.parquet")
    assert modes.columns[:3] == list(KEYS)
    keys = modes.select(KEYS).unique(maintain_order=True)
    assert keys.rows() == [("rapid", size, index) for size in (500, 1000, 2000) for index in range(120)]
    one = pl.read_parquet(realisation(told, 1000, 7) / "modes.parquet")
    assert modes.filter((pl.col("n_particles") == 1000) & (pl.col("realisation") == 7)).drop(KEYS).equals(one)
    assert json.loads(pl.read_parquet_metadata(told / "results" / "modes.parquet")["qlm_hoomd"])["protocol_hash"]


def test_mean_stress_is_the_mean(told: Path) -> None:
    curve = pl.read_parquet(told / "results" / "stress_strain.parquet").filter(pl.col("n_particles") == 500)
    steps = pl.read_parquet(told / "results" / "steps.parquet").filter(pl.col("n_particles") == 500)
    row = curve.row(100, named=True)
    at = [np.interp(row["strain"], part["strain"], part["stress_xy"]) for part in steps.partition_by("realisation")]
    assert row["n_realisations"] == len(at) == 120
    assert row["stress_xy"] == pytest.approx(np.mean(at))
    assert row["standard_error"] == pytest.approx(np.std(at, ddof=1) / np.sqrt(120))


def test_mean_stress_ends_where_the_first_run_ends(tmp_path: Path) -> None:
    directory = SMALL.write(tmp_path)
    path = realisation(directory, 500, 1) / "steps.parquet"
    pl.read_parquet(path).filter(pl.col("strain") <= 0.15).write_parquet(path)
    end = pl.read_parquet(path)["strain"].max()
    curve = Results.load(directory).analysis.stress_strain.filter(pl.col("n_particles") == 500)
    assert curve["strain"].max() == pytest.approx(end)
    assert set(curve["n_realisations"]) == {3}


def test_event_rate_counts_no_event_beyond_the_common_end(tmp_path: Path) -> None:
    directory = Ensemble(sizes=(500,), realisations=2).write(tmp_path)
    for index in range(2):
        path = realisation(directory, 500, index)
        events = pl.read_parquet(path / "events.parquet").head(4)
        events.with_columns(strain_c=pl.Series([0.05, 0.1, 0.2, 0.3])).write_parquet(path / "events.parquet")
        steps = pl.read_parquet(path / "steps.parquet")
        steps.with_columns(strain=pl.col("strain") * (0.3 / steps["strain"].max())).write_parquet(path / "steps.parquet")
    html = REPORT_SECTIONS.load("shear")(Results.load(directory)).tables
    # Three events in each run up to the stage's strain_max = 0.2, though the runs went on to 0.3.
    assert re.search(r'<td class="short">6</td>\s*<td class="short">15</td>', html)


def test_results_say_what_they_are(told: Path) -> None:
    results = Results.load(told)
    assert f"{len(results.realisations)} realisations" in repr(results)
    (theta,) = results.analysis.find(quantity="theta", method="gamma_min", strain=0.0)
    assert theta.exponent is not None
    assert f"theta = {theta.exponent.value:.3g} [" in repr(theta)
    assert repr(theta).endswith("measured>")
    assert f"N = {results.sizes[0]}" in repr(results.analysis.spectra[0])
    assert str(len(results.analysis.estimates)) in repr(results.analysis)


@pytest.mark.usefixtures("plain_sections")
def test_same_input_same_bytes(tmp_path: Path) -> None:
    directory = SMALL.write(tmp_path, without=("modes", "moduli", "structure_functions"))
    make_report(directory)
    before = {path.name: path.read_bytes() for path in (directory / "results").rglob("*") if path.is_file()}
    make_report(directory)
    after = {path.name: path.read_bytes() for path in (directory / "results").rglob("*") if path.is_file()}
    assert before == after
    assert {
        "report.html",
        "exponents.json",
        "steps.parquet",
        "gamma_min.pdf",
        "gamma_min.png",
        "gamma_min.parquet",
    } <= set(before)


def test_a_path_that_turns_back_is_reported_up_to_the_turn(tmp_path: Path) -> None:
    """Later passages of a strain belong to another sample: neither curve nor distances may mix them in."""

    class Turning(Ensemble):
        @property
        def protocol(self) -> dict[str, Any]:
            """With a path in place of strain_max."""
            protocol = super().protocol
            protocol["stages"][1] |= {"path": [0.0, self.strain_max, 0.0], "strain_max": None}
            return protocol

    plain, turning = SMALL.write(tmp_path / "plain"), Turning(realisations=3).write(tmp_path / "turning")
    for path in (turning / "workspace").iterdir():
        steps, events = (pl.read_parquet(path / f"{name}.parquet") for name in ("steps", "events"))
        end = steps["strain"].max()
        back = [
            table.with_columns(travelled=2 * end - pl.col(name)) for table, name in ((steps, "strain"), (events, "strain_c"))
        ]
        back[0] = back[0].filter(pl.col("strain") < end - 1e-5).with_columns(stress_xy=pl.lit(-7.0)).reverse()
        pl.concat([steps.with_columns(travelled=pl.col("strain")), back[0]]).write_parquet(path / "steps.parquet")
        pl.concat([events.with_columns(travelled=pl.col("strain_c")), back[1]]).write_parquet(path / "events.parquet")
    expected, found = (Results.load(directory) for directory in (plain, turning))
    assert found.analysis.stress_strain.equals(expected.analysis.stress_strain)
    assert found.analysis.minima.equals(expected.analysis.minima)
    shear, instabilities = (REPORT_SECTIONS.load(name) for name in ("shear", "instabilities"))
    assert "first turns back" not in shear(expected).html
    assert "first turns back" in shear(found).html
    # The table of instabilities too counts none of the way back.
    assert instabilities(found).tables == instabilities(expected).tables
    before, _, cycles = shear(found).tables.partition('<div class="scroll" id="table-cycles">')
    assert before == shear(expected).tables
    assert cycles


# ---- refusals ----


@pytest.mark.usefixtures("plain_sections")
def test_weak_statistics_are_withheld_with_reason(tmp_path: Path) -> None:
    directory = Ensemble(sizes=(500, 1000), realisations=8).write(tmp_path, without=("structure_functions",))
    page = Page(make_report(directory))
    (theta,) = estimates(directory, method="gamma_min")
    assert (theta["status"], theta["value"]) == ("withheld", None)
    assert theta["weak_estimate"]["value"] is not None
    assert "2 system sizes (N = 500, 1000) where at least 3 are needed" in theta["refusal"]
    assert estimates(directory, method="prediction")[0]["status"] == "withheld"
    assert page.text.count("WITHHELD") == 4
    assert theta["refusal"] in page.text
    # The slope, whose interval is symmetric, and not the exponent that its noise makes of it.
    assert f"slope of the log means {theta['fit']['slope']:.2f} [" in page.text
    assert "weak estimate" not in page.text


@pytest.mark.usefixtures("plain_sections")
def test_an_exponent_without_bound_is_still_strict_json(tmp_path: Path) -> None:
    """Means that rise with N: the slope is negative, and the estimate infinite."""
    directory = Ensemble(sizes=(500, 1000), realisations=3).write(tmp_path, without=("modes", "moduli", "structure_functions"))
    for index in range(3):
        path = realisation(directory, 500, index) / "events.parquet"
        pl.read_parquet(path).with_columns(pl.col("strain_c") * 0.01).write_parquet(path)
    page = Page(make_report(directory))
    (theta,) = estimates(directory, method="gamma_min")
    assert theta["weak_estimate"]["value"] is None
    assert re.search(r"slope of the log means −\d", page.text)


def test_insisting_shows_the_number_and_the_reason(tmp_path: Path) -> None:
    directory = Ensemble(sizes=(500, 1000), realisations=8, analysis=(("insist", True),)).write(tmp_path)
    (theta,) = Results.load(directory).analysis.find(method="gamma_min")
    assert theta.status == "insisted"
    assert theta.shown is not None
    assert theta.to_dict()["value"] == theta.shown.value
    assert theta.refusal is not None


def test_runs_that_end_too_early_withhold_theta(tmp_path: Path) -> None:
    (theta,) = Results.load(Ensemble(strain_max=0.01, realisations=30).write(tmp_path)).analysis.find(method="gamma_min")
    assert "no minimum within what was looked at" in str(theta.refusal)


def test_a_strain_without_modes_says_which_strains_there_are(tmp_path: Path) -> None:
    results = Results.load(Ensemble(realisations=3, strains=(0.0, 0.02), analysis=(("strains", [0.05]),)).write(tmp_path))
    assert results.analysis.find(method="omega_min")[0].refusal == "no modes at strain 0.05; there are some at 0, 0.02"


# ---- incomplete ensembles ----


@pytest.mark.parametrize(
    ("without", "gone"),
    [
        (("steps", "events"), ("stress_strain", "gamma_min")),
        (("modes", "moduli"), ("omega_min", "participation", "density", "windows")),
        (("moduli",), ()),
        (("structure", "structure_functions"), ("structure",)),
        (("steps", "events", "modes", "moduli", "structure", "structure_functions"), ("exponents",)),
    ],
)
def test_missing_tables_are_said(tmp_path: Path, without: tuple[str, ...], gone: tuple[str, ...]) -> None:
    results = Results.load(SMALL.write(tmp_path, without=without))
    sections = {name: plugin.load()(results) for name, plugin in REPORT_SECTIONS.plugins.items()}
    drawn = {item.name for section in sections.values() if section is not None for item in section.figures}
    assert not set(gone) & drawn
    if len(without) == 6:
        assert drawn == {"figure_1"}  # the theory needs no data
        assert "No realisation has been sheared yet" in sections["shear"].html
        assert "No spectrum to show" in sections["spectrum"].html
        assert "No sample has been checked yet" in sections["structure"].html
    if without == ("moduli",):
        (spectrum,) = (s for s in results.analysis.spectra if s.n_particles == 2000)
        assert spectrum.plane_waves is None
        assert any("phonon frequency is unknown" in w for w in results.analysis.find(n_particles=2000)[0].exponent.warnings)


def test_a_run_that_is_not_finished_says_so(tmp_path: Path) -> None:
    directory = SMALL.write(tmp_path)
    overview = REPORT_SECTIONS.plugins["overview"].load()
    assert "not finished" not in overview(Results.load(directory)).html
    next(directory.glob("workspace/*/modes.parquet")).unlink()
    assert "not finished: 8 of 9 realisations have been through all stages" in overview(Results.load(directory)).html


@pytest.mark.usefixtures("plain_sections")
def test_no_realisation_at_all(tmp_path: Path) -> None:
    directory = Ensemble(realisations=0).write(tmp_path)
    page = Page(make_report(directory))
    assert "There is no realisation yet" in page.text
    assert "no sheared realisation" in page.text
    assert not (directory / "results" / "steps.parquet").exists()


def test_protocol_without_shear_has_no_shear_section(tmp_path: Path) -> None:
    directory = SMALL.write(tmp_path, without=("steps", "events"))
    protocol = json.loads((directory / "protocol.json").read_text())
    protocol["stages"] = [stage for stage in protocol["stages"] if stage["kind"] != "shear"]
    (directory / "protocol.json").write_text(json.dumps(protocol))
    results = Results.load(directory)
    assert REPORT_SECTIONS.load("shear")(results) is None
    assert REPORT_SECTIONS.load("instabilities")(results) is None


@pytest.mark.usefixtures("plain_sections")
def test_protocol_that_seeks_no_exponents_has_none_withheld(tmp_path: Path) -> None:
    """The mesoscopic model, or glasses that are only made: no card complains that nothing was sheared."""
    directory = SMALL.write(tmp_path, without=("steps", "events", "modes", "moduli"))
    protocol = json.loads((directory / "protocol.json").read_text())
    protocol["stages"] = [stage for stage in protocol["stages"] if stage["kind"] in {"prepare", "structure"}]
    (directory / "protocol.json").write_text(json.dumps(protocol))
    text = make_report(directory).read_text(encoding="utf-8")
    assert "WITHHELD" not in text
    assert "there are no exponents to measure" in text
    assert not Results.load(directory).seeks_exponents
    assert REPORT_SECTIONS.load("exponents")(Results.load(directory)) is None


class OfAStranger(Ensemble):
    """The same tables, written by stages of other names."""

    @property
    def protocol(self) -> dict[str, Any]:
        stages = [{**stage, "kind": f"strange_{stage['kind']}"} for stage in super().protocol["stages"]]
        return {**super().protocol, "stages": stages}


@pytest.mark.usefixtures("plain_sections")
@pytest.mark.parametrize("left_out", [("modes", "moduli"), ("steps", "events")])
def test_exponents_come_from_the_tables_of_a_stage_of_any_name(tmp_path: Path, left_out: tuple[str, ...]) -> None:
    directory = OfAStranger(**vars(SMALL)).write(tmp_path, without=left_out)
    text = make_report(directory).read_text(encoding="utf-8")
    assert "there are no exponents to measure" not in text
    assert REPORT_SECTIONS.load("exponents")(Results.load(directory)) is not None


@pytest.mark.parametrize("content", [None, "no json", "[]"])
def test_a_folder_that_is_no_run_is_the_users_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "protocol.json").write_text(content)
    with pytest.raises(InputError, match=r"protocol\.json"):
        make_report(tmp_path)


# ---- things that went wrong ----


def test_failures_are_listed_and_escaped(tmp_path: Path) -> None:
    directory = SMALL.write(tmp_path)
    failed = realisation(directory, 500, 1)
    (failed / "failed").mkdir()
    record = {
        "stage": "shear",
        "error": "ConvergenceError",
        "message": "max|F| = 1e-3 <script>alert(1)</script>",
        "traceback": "",
    }
    (failed / "failed" / "shear.json").write_text(json.dumps(record))
    (realisation(directory, 1000, 0) / "modes.parquet").write_bytes(b"PAR1 cut short")
    results = Results.load(directory)
    html = REPORT_SECTIONS.load("overview")(results).html
    assert "2 failures" in html
    assert "1 × ConvergenceError in shear" in html
    assert "modes.parquet" in html
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    # What is left of them is used.
    assert results.tables["modes"].filter(pl.col("n_particles") == 1000)["realisation"].unique().to_list() == [1, 2]


def test_realisations_of_other_settings_are_left_out(tmp_path: Path) -> None:
    directory = SMALL.write(tmp_path)
    Ensemble(realisations=3, strain_max=0.1).write(tmp_path)
    (directory / "protocol.json").write_text(json.dumps(SMALL.protocol))
    results = Results.load(directory)
    assert (len(results.realisations), results.strangers) == (9, 9)
    assert "9 realisations in this workspace were made with other settings" in REPORT_SECTIONS.load("overview")(results).html


def test_fewer_realisations_asked_for_fewer_used(tmp_path: Path) -> None:
    directory = SMALL.write(tmp_path)
    (directory / "protocol.json").write_text(json.dumps(Ensemble(realisations=2).protocol))
    assert len(Results.load(directory).realisations) == 6


@pytest.mark.parametrize("exclude", [True, False])
def test_crystals_are_left_out_unless_wanted(tmp_path: Path, exclude: bool) -> None:
    directory = Ensemble(realisations=3, analysis=(("exclude_crystals", exclude),)).write(tmp_path)
    crystal = structure_table(np.random.default_rng(0), "crystallised: 90 % of the particles")
    crystal.write_parquet(realisation(directory, 500, 2) / "structure.parquet")
    results = Results.load(directory)
    row = results.analysis.minima.filter((pl.col("quantity") == "gamma_min") & (pl.col("n_particles") == 500))
    assert row["n_realisations"].item() == (2 if exclude else 3)
    assert bool(results.analysis.excluded) is exclude
    section = REPORT_SECTIONS.load("structure")(results)
    assert ("left out of all results" if exclude else "exclude_crystals is off") in section.html
    assert "crystallised: 90 % of the particles" in section.tables


def test_unstable_states_are_no_spectra(tmp_path: Path) -> None:
    directory = Ensemble(realisations=4).write(tmp_path)
    path = realisation(directory, 1000, 3) / "modes.parquet"
    modes = pl.read_parquet(path)
    modes.with_columns(frequency=pl.when(pl.col("index") == 0).then(-0.1).otherwise("frequency")).write_parquet(path)
    (spectrum,) = (s for s in Results.load(directory).analysis.spectra if s.n_particles == 1000)
    assert (spectrum.n_realisations, spectrum.n_unstable) == (3, 1)


def test_two_detectors_are_two_thetas(tmp_path: Path) -> None:
    directory = Ensemble(realisations=25).write(tmp_path)
    for path in (directory / "workspace").glob("*/events.parquet"):
        events = pl.read_parquet(path)
        later = events.with_columns(strain_c=pl.col("strain_c") * 1.1, detector=pl.lit("fold"))
        pl.concat([events, later]).write_parquet(path)
    found = Results.load(directory).analysis
    assert [e.detector for e in found.find(method="gamma_min")] == ["fold", "threshold"]
    ratio = (
        found.minima.filter(pl.col("quantity") == "gamma_min")
        .group_by("n_particles")
        .agg(pl.col("mean").max() / pl.col("mean").min())
    )
    assert ratio["mean"].to_numpy() == pytest.approx(1.1)


# ---- plugins and settings ----


def broken_section(results: Results) -> Section:
    """A stranger's section that fails."""
    raise RuntimeError(f"no luck with <{results.name}>")


def wrong_section(results: Results) -> str:
    """A stranger's section that misses the contract."""
    return results.name


def good_section(results: Results) -> Section:
    """A stranger's section that works."""
    return Section("Strange but good", f"<p>{len(results.realisations)} glasses</p>", tables="<p>strange numbers</p>")


@pytest.mark.usefixtures("plain_sections")
def test_a_broken_section_is_reported_and_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, target in {
        "zz_broken": "broken_section",
        "zz_good": "good_section",
        "zz_wrong": "wrong_section",
        "aa_gone": "nowhere",
    }.items():
        point = EntryPoint(name, f"{__name__}:{target}", REPORT_SECTIONS.name)
        monkeypatch.setitem(REPORT_SECTIONS.plugins, name, Plugin(name, REPORT_SECTIONS.name, point))
    without = ("steps", "events", "modes", "moduli", "structure_functions")
    path = make_report(SMALL.write(tmp_path, without=without))
    page = Page(path)
    assert "RuntimeError: no luck with <synthetic>" in page.text
    assert "it returned str; expected qlm_hoomd.report.Section or None" in page.text
    assert "“aa_gone”" in page.text
    assert "9 glasses" in page.text
    assert page.text.index("9 glasses") < page.text.index("strange numbers")
    assert page.anchors[:2] == ["content", "section-overview"]
    assert "qlm: report section 'zz_broken' of" in caplog.text
    assert "Traceback" not in caplog.text
    log = path.with_name("failed_sections.txt")
    assert f"(see {log})" in caplog.text
    assert log.read_text().count("Traceback") >= 3
    assert 'raise RuntimeError(f"no luck' in log.read_text()
    assert page.anchors[-4:] == ["section-aa_gone", "section-zz_broken", "section-zz_good", "section-zz_wrong"]


def test_settings_and_their_defaults() -> None:
    assert Settings.from_protocol({}) == Settings()
    by_size = Settings.from_protocol({"analysis": {"participation_threshold": {"1000": 0.2}, "strains": [0.05, 0]}})
    assert by_size.threshold(1000) == 0.2
    assert by_size.threshold(16000) == 0.125
    assert by_size.strains == (0.0, 0.05)
    assert Settings.from_protocol({"analysis": {"strains": []}}).strains == (0.0,)


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ({"shear_stable": True}, "stable under every small shear"),
        ({"residual_shear_stress_max": 0.22}, "residual shear stress up to 0.22"),
        ({"strain_since_event_min": 0.005}, "strain of at least 0.005 since the last instability"),
    ],
)
def test_only_samples_with_the_wanted_labels_count(tmp_path: Path, select: dict[str, Any], words: str) -> None:
    directory = Ensemble(realisations=40).write(tmp_path)
    everybody = Results.load(directory)
    some = replace(everybody, settings=everybody.settings.model_copy(update={"select": SampleSelection(**select)}))
    assert some.settings.selection == words
    (key, value), *_ = select.items()
    labels = everybody.tables["moduli"].filter(pl.col("n_particles") == 2000, pl.col("strain") == 0.0)
    column = {"shear_stable": "softest_shear_modulus"}.get(key, key.rpartition("_")[0])
    wanted = {"shear_stable": labels[column] > 0, "residual_shear_stress_max": labels[column] <= value}.get(
        key, labels[column] >= value
    )
    (whole,) = [s for s in everybody.analysis.spectra if (s.n_particles, s.strain) == (2000, 0.0)]
    (part,) = [s for s in some.analysis.spectra if (s.n_particles, s.strain) == (2000, 0.0)]
    assert whole.n_realisations == 40
    assert 0 < part.n_realisations == wanted.sum() < 40


def test_labels_that_nobody_has_are_a_refusal(tmp_path: Path) -> None:
    directory = Ensemble(realisations=25, analysis=(("select", {"strain_since_event_min": 3.0}),)).write(tmp_path)
    results = Results.load(directory)
    assert not results.analysis.spectra
    assert all("no sample has what the analysis selects" in str(e.refusal) for e in results.analysis.find(method="omega_min"))


def test_window_settings_are_obeyed(tmp_path: Path) -> None:
    analysis = (("omega_max", 0.8), ("participation_threshold", 0.1), ("confidence", 0.683))
    results = Results.load(Ensemble(realisations=25, analysis=analysis).write(tmp_path))
    for spectrum in results.analysis.spectra:
        assert (spectrum.omega_max, spectrum.limited_by, spectrum.threshold) == (0.8, "omega_max", 0.1)
    assert {e.exponent.confidence for e in results.analysis.estimates if e.exponent} == {0.683}


def test_window_never_exceeds_what_is_complete(tmp_path: Path) -> None:
    directory = Ensemble(realisations=4).write(tmp_path)
    path = realisation(directory, 2000, 0) / "modes.parquet"
    pl.read_parquet(path).head(2).write_parquet(path)
    (spectrum,) = (s for s in Results.load(directory).analysis.spectra if s.n_particles == 2000)
    assert spectrum.omega_max == pytest.approx(pl.read_parquet(path)["frequency"][1])
    assert spectrum.limited_by == "completeness"


def test_hash_is_the_protocols() -> None:
    protocol = build_protocol(
        {
            "name": "p",
            "seed": 1,
            "ensemble": {"n_particles": [500], "preparations": ["rapid"], "realisations": 2},
            "stages": [{"kind": "prepare"}],
        }
    )
    plain = json.loads(protocol.canonical())
    assert protocol_hash(plain) == protocol.hash


# ---- what detectors say of themselves ----


class Sharp(Detector):
    """Says that it misses nothing."""

    kind: Literal["sharp"] = "sharp"
    exact: ClassVar[bool] = True

    def blind_below(self, increment: float, length: float) -> float:
        return 0.0

    def follow(self, stepper: Any, start: Any, grid: Any) -> Any:
        raise NotImplementedError


class Dim(Detector):
    """Says what it misses, by its settings."""

    kind: Literal["dim"] = "dim"
    exact: ClassVar[bool] = False
    smallest: float = 0.5

    def blind_below(self, increment: float, length: float) -> float:
        return self.smallest * length

    def cannot_see(self, increment: float, length: float) -> str:
        return f"Jumps of less than {self.smallest * length:.2f} <lengths> are not seen."

    def follow(self, stepper: Any, start: Any, grid: Any) -> Any:
        raise NotImplementedError


@contextmanager
def registered(folder: Path, module: str, group: Group, **classes: type) -> Iterator[None]:
    """Classes of this file as those of an installed distribution."""
    with installed(folder / "site", {group.name: {name: f"{module}:{name}" for name in classes}}, name=module) as site:
        (site / f"{module}.py").touch()
        vars(importlib.import_module(module)).update(classes)
        yield
    sys.modules.pop(module)


@pytest.fixture
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Both detectors, installed."""
    with registered(tmp_path_factory.mktemp("lenses"), "qlm_lenses", DETECTORS, sharp=Sharp, dim=Dim):
        yield


@pytest.mark.usefixtures("detectors")
def test_a_detector_says_whether_it_misses_anything_and_the_table_of_one_that_is_gone() -> None:
    events = pl.DataFrame(
        {
            "detector": ["sharp", "dim", "gone", "gone too", "gone too", None],
            "kappa": [None, -1.0, -1.0, -1.0, None, None],
        }
    )
    assert exact_detectors(events) == ["gone", "sharp"]
    assert exact_detectors(events.drop("kappa")) == ["sharp"]


@pytest.mark.usefixtures("detectors")
@pytest.mark.parametrize(
    ("detector", "words"),
    [
        (
            {"kind": "dim", "smallest": 0.25},  # the boxes are 8.48, 10.68 and 13.46 long
            "Jumps of less than 3.37 &lt;lengths&gt; are not seen. At the smaller sizes these are 2.12 (N = 500), 2.67 (N = 1000).",
        ),
        ({"kind": "sharp"}, None),
        ({"kind": "gone", "q_c": 50.0}, None),
        (
            {"kind": "threshold", "q_c": 50.0},
            "The detector threshold cannot see instabilities in which no particle moves by more than 0.0673 diameters",
        ),
        ({"kind": "gone"}, None),
        ("sharp", None),
        (None, None),
    ],
)
def test_what_a_detector_cannot_see_is_on_the_page(tmp_path: Path, detector: Any, words: str | None) -> None:
    directory = SMALL.write(tmp_path)
    protocol = json.loads((directory / "protocol.json").read_text())
    (stage,) = (stage for stage in protocol["stages"] if stage["kind"] == "shear")
    stage["detector"] = detector
    (directory / "protocol.json").write_text(json.dumps(protocol))
    for path in directory.glob("workspace/*/signac_statepoint.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol_hash": protocol_hash(protocol)}))
    section = REPORT_SECTIONS.load("instabilities")(Results.load(directory))
    name = detector if isinstance(detector, str) else "none" if detector is None else detector["kind"]
    assert f"located by the detector <b>{name}</b>" in section.html
    assert ("It bends" in section.html) is (words is not None)
    assert words is None or words in section.html


# ---- names of tables ----


class Namer(Stage):
    """A stage whose products have the names that it is told."""

    kind: Literal["namer"] = "namer"
    names: tuple[str, ...] = ("mine.parquet",)
    extra: tuple[str, ...] = ()

    def requires(self) -> tuple[str, ...]:
        return ()

    def products(self) -> tuple[str, ...]:
        return self.names

    def optional_products(self) -> tuple[str, ...]:
        return self.extra

    def run(self, context: StageContext) -> None:
        for name in (*self.names, *self.extra):
            context.write_table(name, pl.DataFrame({"x": [1.0]}))


class OtherNamer(Namer):
    """The same under another name."""

    kind: Literal["other_namer"] = "other_namer"  # type: ignore[assignment]


@pytest.fixture
def namers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Both stages, installed."""
    with registered(tmp_path_factory.mktemp("namers"), "qlm_namers", STAGES, namer=Namer, other_namer=OtherNamer):
        yield


def named(*stages: dict[str, Any], name: str = "t", preparation: str = "rapid") -> dict[str, Any]:
    ensemble = {"n_particles": [100], "preparations": {preparation: {"quench": "rapid"}}, "realisations": 2}
    return {"name": name, "seed": 1, "ensemble": ensemble, "stages": list(stages)}


@pytest.mark.usefixtures("namers")
@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        ([{"names": ["minima.parquet"]}], r"'namer' writes minima\.parquet, a name that is taken"),
        ([{"extra": ["glasses.parquet"]}], r"'namer' writes glasses\.parquet, a name that is taken"),
        ([{"names": ["checksums.json"]}], r"'namer' writes checksums\.json, a name that is taken"),
        ([{"names": ["my table.parquet"]}], r"'namer' writes 'my table\.parquet'; expected a name of letters"),
        ([{"names": ["../up.parquet"]}], "expected a name of letters"),
        ([{"names": [".hidden"]}], "expected a name of letters"),
        ([{"names": ["a.json"], "extra": ["mine.parquet"]}, {}], r"'namer' and 'other_namer' both write mine\.parquet"),
    ],
)
def test_names_that_are_taken_or_not_plain_are_refused(stages: list[dict[str, Any]], sentence: str) -> None:
    kinds = ("namer", "other_namer")
    with pytest.raises(InputError, match=sentence):
        build_protocol(named(*({"kind": kind, **stage} for kind, stage in zip(kinds, stages, strict=False))))


@pytest.mark.usefixtures("namers")
def test_tables_of_a_strangers_stage_are_gathered_counted_and_cleared(tmp_path: Path) -> None:
    protocol = build_protocol(named({"kind": "namer", "extra": ["more.parquet"]}))
    run_protocol(protocol, tmp_path / "run", HereExecutor())
    for realisation in Results.load(tmp_path / "run").realisations[1:]:
        (realisation.directory / "more.parquet").unlink()
    results = Results.load(tmp_path / "run")
    assert results.tables["mine"].rows() == [("rapid", 100, 0, 1.0), ("rapid", 100, 1, 1.0)]
    assert results.tables["more"].rows() == [("rapid", 100, 0, 1.0)]
    assert (results.n_done("rapid", 100), results.n_done("rapid", 100, "shear")) == (2, None)
    overview = REPORT_SECTIONS.load("overview")
    assert "not finished" not in overview(results).html
    folder = tmp_path / "run" / "results"
    pl.DataFrame({"x": [2.0]}).write_parquet(folder / "somebodys.parquet")
    shutil.copy(results.realisations[0].directory / "mine.parquet", folder / "copied.parquet")
    (results.realisations[0].directory / "more.parquet").unlink()
    (results.realisations[1].directory / "mine.parquet").unlink()
    results = Results.load(tmp_path / "run")
    assert "not finished: 1 of 2 realisations" in overview(results).html
    # What an earlier report left and nobody has any more goes; files of others stay.
    assert sorted(path.name for path in folder.iterdir()) == ["copied.parquet", "mine.parquet", "somebodys.parquet"]


@pytest.mark.usefixtures("namers")
def test_runs_whose_stages_write_tables_of_one_name_are_not_reported_together(tmp_path: Path) -> None:
    for kind in ("namer", "other_namer"):
        run_protocol(build_protocol(named({"kind": kind}, name=kind, preparation=kind)), tmp_path / kind, HereExecutor())
    with pytest.raises(InputError, match=r"'namer' and 'other_namer' of these runs both write mine\.parquet"):
        Results.load(tmp_path / "namer", tmp_path / "other_namer", out=tmp_path / "both")


@pytest.mark.usefixtures("namers")
def test_columns_that_tell_whose_row_it_is_are_the_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pl.DataFrame({"x": [1.0], "realisation": [7]})
    monkeypatch.setattr(Namer, "run", lambda _, context: context.write_table("mine.parquet", table))
    workspace = run_protocol(build_protocol(named({"kind": "namer"})), tmp_path / "run", HereExecutor())
    (_, failure), *_ = workspace.failures()
    assert failure.error == "PluginError"
    assert "mine.parquet has the columns realisation; expected other names" in failure.message
