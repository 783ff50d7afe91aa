"""Every section of the report of every small run: few sizes, few realisations, with modes or without."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import polars as pl
import pytest

from qlm_hoomd.registry import REPORT_SECTIONS
from qlm_hoomd.report import Results, Run
from qlm_hoomd.report.drawn import drawn_data
from qlm_hoomd.testing.sections import _Balance
from tests.synthetic_ensemble import Ensemble

SIZES, MOST = (300, 600, 1000), 30
OURS = ("overview", "structure", "shear", "instabilities", "spectrum", "exponents", "paper")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The largest of the runs; the others are parts of it."""
    ensemble = Ensemble(sizes=SIZES, realisations=MOST, strains=(0.0, 0.02), strain_max=0.06, exact=True)
    ensemble = replace(ensemble, analysis=(("strains", [0.0, 0.02]),))
    return Results.load(ensemble.write(tmp_path_factory.mktemp("whole")))


def part(whole: Results, sizes: int, realisations: int, *, modes: bool) -> Results:
    """The report of a run with the first sizes and realisations only, whose protocol asks for no modes unless it is to."""
    protocol = json.loads(json.dumps(whole.protocol))
    protocol["ensemble"] |= {"n_particles": list(SIZES[:sizes]), "realisations": realisations}
    if not modes:
        protocol["stages"] = [stage for stage in protocol["stages"] if stage["kind"] != "modes"]
    kept = pl.col("n_particles").is_in(SIZES[:sizes]), pl.col("realisation") < realisations
    tables = {name: table.filter(*kept) for name, table in whole.tables.items() if modes or name not in {"modes", "moduli"}}
    found = tuple(r for r in whole.realisations if r.key[1] in SIZES[:sizes] and r.key[2] < realisations)
    return replace(whole, runs=(Run(whole.runs[0].directory, protocol),), tables=tables, realisations=found)


@pytest.mark.parametrize("sizes", [1, 2, 3])
@pytest.mark.parametrize("modes", [True, False])
@pytest.mark.parametrize("realisations", [2, 6, MOST])
def test_every_section_says_something_of_every_run(whole: Results, sizes: int, realisations: int, modes: bool) -> None:
    results = part(whole, sizes, realisations, modes=modes)
    names = []
    for name in OURS:
        section = REPORT_SECTIONS.load(name)(results)
        if section is None:
            assert name == "spectrum"
            assert not modes
            continue
        _Balance().check(section.html)
        assert "null" not in re.sub(r"<pre>.*?</pre>", "", section.html, flags=re.DOTALL)
        assert not re.search(r"\bomega\b", re.sub(r"<pre>.*?</pre>", "", section.html + section.tables, flags=re.DOTALL))
        for item in section.figures:
            names.append(item.name)
            data = drawn_data(item.figure)
            assert not data.drop_nulls("y").is_empty(), item.name
            for ax in item.figure.axes:
                if "strain" in ax.get_xlabel():
                    low, high = ax.get_xlim()
                    assert high - low >= 0.02, item.name
            _check_caption(item.caption, set(data["series"]))
    assert len(names) == len(set(names))
    assert {"stress_strain", "gamma_min", "figure_1", "figure_2"} <= set(names)
    assert ({"omega_min", "participation", "density"} <= set(names)) is modes


def _check_caption(caption: str, drawn: set[str]) -> None:
    """Line styles that a caption names are there."""
    for words, label in (
        ("Dotted: power laws whose exponent is withheld", "weak fit, "),
        ("Lines: the fit", "fit, "),
        ("Debye level, the density", "Debye level"),
        ("Crosses:", "$D_G"),
        ("Dash-dotted", "first phonon"),
        ("Green marks", "fit range"),
        ("Dashed: <i>θ</i> = 1/4", "level 0.25"),
        ("Inset: what", "N="),
        ("Grey: other laws", "plateau"),
    ):
        if words in caption:
            assert any(name.startswith(label) for name in drawn), (words, drawn)
