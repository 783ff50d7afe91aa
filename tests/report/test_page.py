"""The report's page in a real browser: what a reader with a mouse, with a keyboard, with a telephone or with paper gets."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from qlm_hoomd.ensemble.runner import run_realisation
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.report import Results, SectionFigure, make_report
from qlm_hoomd.report.drawn import MOST_ON_A_CURVE, MOST_POINTS, drawn_data, hover_data, mark, plain_words
from qlm_hoomd.report.glasses import MOST_ROWS, lists_of_glasses
from qlm_hoomd.report.mode import localised_mode
from tests.browser import CHROMIUM, WHY_NOT, Browser, opened
from tests.synthetic_ensemble import Ensemble

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)
MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of one preparation at four strains, the paper's figures included."""
    directory = Ensemble(
        sizes=(500, 1000, 2000),
        realisations=24,
        strains=(0.0, 0.02, 0.05, 0.09),
        analysis=(("strains", [0.0, 0.02, 0.05, 0.09]),),
        exact=True,
    ).write(tmp_path_factory.mktemp("page"))
    return make_report(directory)


@pytest.fixture(scope="module")
def page_with_mode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of one real glass that was diagonalised."""
    protocol = build_protocol(
        {
            "name": "one_glass",
            "seed": 4,
            "ensemble": {
                "n_particles": [150],
                "preparations": {"quick": {"quench": "rapid", "equilibration_time": 1.0}},
                "realisations": 1,
            },
            "stages": [{"kind": "prepare"}, {"kind": "modes", "count": 8}],
        }
    )
    directory = tmp_path_factory.mktemp("mode")
    (realisation,) = Workspace.create(protocol, directory).realisations
    assert run_realisation(directory, realisation.id).failure is None
    return make_report(directory)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of this module."""
    with opened(tmp_path_factory.mktemp("profile")) as found:
        yield found


# ---- what a page is made from, without a browser ----


def test_points_lie_where_the_picture_has_them() -> None:
    figure = Figure(figsize=(4, 3))
    ax = figure.subplots()
    ax.set(xscale="log", xlabel=r"$\langle\gamma_\mathrm{min}\rangle$", ylabel="y", xlim=(1, 100), ylim=(0, 10))
    bars = ax.errorbar([1.0, 10.0, 100.0], [2.0, 4.0, 20.0], yerr=[[0.5, 0.5, 0.5], [1.0, 1.0, 1.0]], fmt="o", label="$N=5$")
    mark(bars, [7, 8, 9])
    (line,) = ax.plot(np.linspace(1, 100, 1001), np.full(1001, 3.0), label="curve")
    mark(line, 5)
    ax.fill_between(np.linspace(1, 100, 1001), np.full(1001, 2.5), 3.25, label="_band")
    ax.plot(np.linspace(1, 100, 5000), np.full(5000, 1.0), ".", label="dots")
    ax.plot([1, 2], [1, 2], label="_guide")
    ax.axhline(5.0, label="_level")
    figure.set_dpi(72)
    figure.draw_without_rendering()
    (panel,) = hover_data(figure)["panels"]
    assert (panel["x"], panel["y"]) == ("⟨γ_min⟩", "y")
    by_name = {series["name"]: series for series in panel["series"]}
    assert set(by_name) == {"N=5", "curve", "dots"}
    points = by_name["N=5"]
    # The third point lies above the panel, and nobody can point at it.
    assert (points["x"], points["y"], points["n_realisations"]) == ([1.0, 10.0], [2.0, 4.0], [7, 8])
    assert (points["y_low"], points["y_high"]) == ([1.5, 3.5], [3.0, 5.0])
    # By hand: the panel is linear in log x, and y runs downwards.
    left, top, right, bottom = panel["box"]
    assert points["px"] == pytest.approx([left, (left + right) / 2], abs=0.11)
    assert points["py"] == pytest.approx([bottom - 0.2 * (bottom - top), bottom - 0.4 * (bottom - top)], abs=0.11)
    assert by_name["curve"]["curve"]
    assert not by_name["dots"]["curve"]
    assert set(by_name["curve"]["y_low"]) == {2.5}
    assert set(by_name["curve"]["y_high"]) == {3.25}
    assert len(by_name["curve"]["px"]) <= MOST_ON_A_CURVE
    assert len(by_name["dots"]["px"]) <= MOST_POINTS
    assert by_name["curve"]["n_realisations"] == 5


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (r"$\gamma=0.02$, fold: $\theta=0.40$ $[0.12, 0.87]$", "γ=0.02, fold: θ=0.40 [0.12, 0.87]"),
        (r"$D_L(\omega)$", "D_L(ω)"),
        (r"$\kappa/\sqrt{\chi}$ [$\sqrt{\varepsilon}/d$]", "κ/√χ [√ε/d]"),
        ("plain words", "plain words"),
    ],
)
def test_mathematics_become_words(text: str, plain: str) -> None:
    assert plain_words(text) == plain


def test_page_of_sixteen_thousand_glasses_stays_small(page: Path) -> None:
    """Its figures are those of any ensemble; what grows with the number of glasses is the lists of them."""
    results = Results.load(page.parent.parent)
    some = results.realisations
    many = tuple(
        replace(r, statepoint={**r.statepoint, "realisation": int(r.statepoint["realisation"]) + 24 * copy})
        for copy in range(16_000 // len(some) + 1)
        for r in some
    )
    assert len(many) > 16_000
    samples = results.analysis.samples
    large = replace(results, realisations=many)
    object.__setattr__(large, "runs", tuple(replace(run, protocol=_larger(run.protocol)) for run in results.runs))
    copies = [samples.with_columns(pl.col("realisation") + 24 * copy) for copy in range(16_000 // len(some) + 1)]
    vars(large)["analysis"] = replace(results.analysis, samples=pl.concat(copies))
    lists = lists_of_glasses(large)
    assert lists.count('<tr><th scope="row">') <= MOST_ROWS
    assert f"The first {MOST_ROWS // 3} of {len(many) // 3} realisations" in lists
    assert len(lists.encode()) + page.stat().st_size - len(lists_of_glasses(results).encode()) < MOST_BYTES


def _larger(protocol: Any) -> dict[str, Any]:
    return {**protocol, "ensemble": {**protocol["ensemble"], "realisations": 10**6}}


def test_page_is_well_made(page: Path) -> None:
    """What a screen reader needs: one main heading, no level left out, tables with a caption and heads of columns, alternative texts."""
    source = page.read_text(encoding="utf-8")
    assert page.stat().st_size < MOST_BYTES
    levels = [int(level) for level in re.findall(r"<h([1-6])", source)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for landmark in ("header", "nav", "main", "footer"):
        assert len(re.findall(rf"<{landmark}[ >]", source)) == 1, landmark
    assert '<html lang="en">' in source
    tables = re.findall(r"<table.*?</table>", source, re.DOTALL)
    assert len(tables) > 20
    for found in tables:
        assert "<caption>" in found, found[:300]
        assert '<th scope="col">' in found
    figures = re.findall(r'<figure id="figure-(\w+)".*?</figure>', source, re.DOTALL)
    assert len(figures) == len(set(figures)) >= 12
    for name in figures:
        (figure,) = re.findall(rf'<figure id="figure-{name}".*?</figure>', source, re.DOTALL)
        (said,) = re.findall(r'<svg role="img" aria-label="([^"]{20,})"', figure)
        about = re.search(rf'id="about-{name}">([^<]+)<', figure)
        assert about is not None, name
        assert "Panel" in about[1]
        assert said in re.sub(r"\s+", " ", figure)
        (points,) = re.findall(r'<script type="application/json">(.*?)</script>', figure)
        assert json.loads(points)["panels"], name


# ---- in the browser ----

_FIGURES = """[...document.querySelectorAll("figure")].map((figure) => {
  const shown = [...figure.querySelectorAll(".plot > svg, canvas")].find((one) => one.getBoundingClientRect().width);
  if (!shown) return [figure.id, 0, 0, 0, 0];
  const box = shown.getBoundingClientRect();
  return [figure.id, box.width, box.height, box.left, box.right];
})"""


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 400])
def test_page_opens_at_both_widths_and_loads_nothing(
    browser: Browser, page: Path, page_with_mode: Path, width: int, dark: bool
) -> None:
    for which in (page, page_with_mode):
        browser.requests.clear()
        browser.complaints.clear()
        browser.show(width=width, dark=dark)
        browser.open(which)
        figures = browser.ask(_FIGURES)
        assert len(figures) >= (12 if which is page else 2)
        for name, wide, high, left, right in figures:
            assert wide > 200, name
            assert high > 100, name
            assert left >= 0, name
            assert right <= width, name
        assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.complaints == []
        assert {url for url in browser.requests if not url.startswith("data:")} == {which.as_uri()}
        colour = browser.ask("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 120) is dark


@needs_browser
def test_values_under_the_mouse_are_those_of_the_data(browser: Browser, page: Path) -> None:
    browser.show(width=1280)
    browser.open(page)
    browser.ask("document.documentElement.style.scrollBehavior = 'auto'")
    for name in ("gamma_min", "stress_strain", "exponents", "joint"):
        data = pl.read_parquet(page.parent / "figures" / f"{name}.parquet")
        points = json.loads(browser.ask(f"document.querySelector('#figure-{name} .plot script').textContent"))
        for panel in (points["panels"][0], points["panels"][-1]):
            series = panel["series"][0]
            for k in (0, len(series["px"]) - 1):
                x, y = _point_at(browser, name, series["px"][k], series["py"][k])
                browser.mouse("mouseMoved", x, y)
                tip = browser.ask("document.querySelector('.tip').hidden ? '' : document.querySelector('.tip').innerText")
                found_x, found_y = (_number(tip, panel[axis]) for axis in ("x", "y"))
                # Another point may lie on the same spot; whatever is said must be in the data, and be here.
                row = data.filter(
                    (pl.col("x") - found_x).abs() <= 1e-4 * abs(found_x) + 1e-12,
                    (pl.col("y") - found_y).abs() <= 1e-4 * abs(found_y) + 1e-12,
                )
                assert not row.is_empty(), (name, tip)
                assert found_x == pytest.approx(series["x"][k], rel=0.05, abs=1e-3), (name, tip)
                assert found_y == pytest.approx(series["y"][k], rel=0.3, abs=0.1), (name, tip)
                if row.height == 1 and row["n_realisations"][0] is not None:
                    assert f"{row['n_realisations'][0]} realisation" in tip
                if row.height == 1 and row["y_high"][0] is not None and name == "gamma_min":
                    half = (row["y_high"][0] - row["y_low"][0]) / 2
                    assert float(tip.split("±")[1].split()[0]) == pytest.approx(half, rel=0.06)
    browser.mouse("mouseMoved", 5, 5)
    assert browser.ask("document.querySelector('.tip').hidden")


def _point_at(browser: Browser, name: str, px: float, py: float) -> tuple[float, float]:
    """Where in the window the point of a figure is, after scrolling there."""
    x, y = browser.ask(f"""(() => {{
      const svg = document.querySelector("#figure-{name} .plot svg"), box = () => svg.getBoundingClientRect();
      scrollBy(0, box().top + {py} * box().width / svg.viewBox.baseVal.width - innerHeight / 2);
      const scale = box().width / svg.viewBox.baseVal.width;
      return [box().left + {px} * scale, box().top + {py} * scale];
    }})()""")
    browser.drawn()
    return x, y


def _number(tip: str, axis: str) -> float:
    (line,) = (line for line in tip.splitlines() if line.startswith(f"{axis}: "))
    return float(line.removeprefix(f"{axis}: ").split()[0].replace("−", "-"))


@needs_browser
def test_points_of_the_page_are_the_marks_of_the_picture(browser: Browser, page: Path) -> None:
    """The places of the values against the places at which the SVG has the markers."""
    browser.show(width=1280)
    browser.open(page)
    for name in ("gamma_min", "omega_min", "exponents"):
        uses = np.array(
            browser.ask(f"""[...document.querySelectorAll('#figure-{name} .plot use[x][y]')].map((use) =>
              [Number(use.getAttribute("x")), Number(use.getAttribute("y"))])""")
        )
        points = json.loads(browser.ask(f"document.querySelector('#figure-{name} .plot script').textContent"))
        for panel in points["panels"]:
            for series in panel["series"]:
                if series["curve"]:
                    continue
                for place in zip(series["px"], series["py"], strict=True):
                    assert np.abs(uses - place).max(axis=1).min() < 0.1, (name, series["name"])


@needs_browser
def test_keyboard_goes_through_the_points_and_says_them(browser: Browser, page: Path) -> None:
    browser.show(width=1280)
    browser.open(page)
    browser.ask("document.querySelector('#figure-gamma_min .plot').focus()")
    points = json.loads(browser.ask("document.querySelector('#figure-gamma_min .plot script').textContent"))
    first, second = points["panels"][0]["series"][:2]

    def said() -> str:
        return str(browser.ask("document.querySelector('p.hidden[aria-live]').textContent"))

    browser.press("ArrowRight")
    assert first["name"] in said()
    assert f": {first['x'][0]:g}," in said()
    assert browser.ask("document.querySelector('.tip').innerText").startswith(first["name"])
    browser.press("ArrowRight")
    assert f": {first['x'][1]:g}," in said()
    browser.press("ArrowDown")
    assert second["name"] in said()
    browser.press("ArrowUp")
    assert first["name"] in said()
    browser.press("End")
    assert points["panels"][-1]["series"][-1]["name"] in said()
    browser.press("Escape")
    assert browser.ask("document.querySelector('.tip').hidden")


@needs_browser
def test_first_key_skips_to_the_results_and_focus_is_seen(browser: Browser, page: Path) -> None:
    browser.show(width=1280, still=True)
    browser.open(page)
    browser.press("Tab")
    assert browser.ask("document.activeElement.className") == "skip"
    assert browser.ask("document.activeElement.getBoundingClientRect().top") >= 0
    assert browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    assert browser.ask("location.hash") == "#content"
    for _ in range(3):
        browser.press("Tab")
        assert browser.ask("document.querySelector('main').contains(document.activeElement)")
        assert browser.ask("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2
    assert browser.ask("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    browser.show(width=1280)
    assert browser.ask("getComputedStyle(document.documentElement).scrollBehavior") == "smooth"


@needs_browser
def test_an_exponent_leads_to_its_glasses_and_back(browser: Browser, page: Path) -> None:
    browser.show(width=1280, still=True)
    browser.open(page)
    browser.ask("document.querySelector('.headline table a').click()")
    browser.ask("new Promise((done) => setTimeout(done, 100))")
    block = browser.ask("location.hash")
    assert block == "#exponents-0-0"
    assert browser.ask(f"document.querySelector('{block}').open")
    link = browser.ask(f"document.querySelector('{block} td a').hash")
    assert link == "#glasses-0-500"
    assert not browser.ask(f"document.querySelector('{link}').open")
    browser.ask(f"document.querySelector('{block} td a').click()")
    browser.ask("new Promise((done) => setTimeout(done, 100))")
    assert browser.ask(f"document.querySelector('{link}').open")
    top = browser.ask(f"document.querySelector('{link}').getBoundingClientRect().top")
    assert -1 <= top < 900
    assert browser.ask(f"document.querySelectorAll('{link} tbody tr').length") == 24
    # Strain 0.05 is not open by itself: the way back opens it.
    browser.ask(f"document.querySelector('{link} a[href=\"#exponents-0-2\"]').click()")
    browser.ask("new Promise((done) => setTimeout(done, 100))")
    assert browser.ask("document.querySelector('#exponents-0-2').open")


# Text on what lies behind it, by the formula of the Web Content Accessibility Guidelines 2.2.
_CONTRAST = """(() => {
  const numbers = (colour) => { const found = colour.match(/[\\d.]+/g).map(Number); return found.length === 3 ? [...found, 1] : found; };
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (node) => { for (; node; node = node.parentElement) { const c = numbers(getComputedStyle(node).backgroundColor); if (c[3] === 1) return c; }
    return [255, 255, 255, 1]; };
  for (const block of document.querySelectorAll("details")) block.open = true;
  let least = [99, ""], checked = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest("svg, script, style, .hidden") || !node.getClientRects().length) continue;
    const [a, b] = [light(numbers(getComputedStyle(node).color).slice(0, 3)), light(behind(node).slice(0, 3))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    checked++;
    if (ratio < least[0]) least = [ratio, `${node.className} ${node.tagName} ${walker.currentNode.data.slice(0, 40)}`];
  }
  return [...least, checked];
})()"""


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_contrast(browser: Browser, page: Path, page_with_mode: Path, dark: bool) -> None:
    browser.show(width=1280, dark=dark)
    for which, enough in ((page, 1500), (page_with_mode, 100)):
        browser.open(which)
        ratio, where, checked = browser.ask(_CONTRAST)
        assert checked > enough
        assert ratio >= 4.5, where


@needs_browser
def test_theme_can_be_chosen_and_is_remembered(browser: Browser, page: Path) -> None:
    browser.show(width=1280, dark=True)
    browser.open(page)

    def colour() -> Any:
        return browser.ask("[document.querySelector('.theme').textContent, getComputedStyle(document.body).backgroundColor]")

    dark, light = "rgb(22, 24, 28)", "rgb(255, 255, 255)"
    assert colour() == ["Theme: auto", dark]
    browser.ask("document.querySelector('.theme').focus()")
    browser.press(" ")
    assert colour() == ["Theme: light", light]
    browser.open(page)
    assert colour() == ["Theme: light", light]
    browser.show(width=1280)
    browser.press("Tab")
    browser.ask("document.querySelector('.theme').focus()")
    browser.press("Enter")
    assert colour() == ["Theme: dark", dark]
    browser.show(width=1280, media="print")
    assert colour()[1] == light
    browser.show(width=1280)
    browser.ask("document.querySelector('.theme').click()")
    assert colour() == ["Theme: auto", light]


@needs_browser
def test_paper_gets_figures_in_one_piece_and_no_controls(browser: Browser, page: Path, page_with_mode: Path) -> None:
    sheet = 267 * 96 / 25.4  # A4 less its margins [CSS pixel]
    for which in (page, page_with_mode):
        browser.show(width=680, dark=True, media="print")  # 180 mm
        browser.open(which)
        for name, high, breaks, right in browser.ask("""[...document.querySelectorAll("figure")].map((figure) =>
            [figure.id, figure.getBoundingClientRect().height, getComputedStyle(figure).breakInside,
             figure.querySelector(".plot svg").getBoundingClientRect().right])"""):
            assert 100 < high < sheet, name
            assert breaks == "avoid", name
            assert right <= 680, name
        for gone in ("nav", ".skip", ".theme", ".files"):
            assert browser.ask(f"document.querySelector('{gone}').getClientRects().length") == 0, gone
        pdf = browser.pdf()
        assert pdf.startswith(b"%PDF")
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 2
    assert browser.ask("document.querySelector('.view canvas').getClientRects().length") == 0


@needs_browser
def test_without_scripts_all_is_there_but_the_extras(browser: Browser, page_with_mode: Path) -> None:
    browser.show(width=1280)
    browser.open(page_with_mode, scripts=False)
    picture = browser.send("DOM.getDocument", depth=1)["root"]["nodeId"]
    found = browser.send("DOM.querySelector", nodeId=picture, selector="#figure-localised_mode .plot svg")["nodeId"]
    box = browser.send("DOM.getBoxModel", nodeId=found)["model"]
    assert box["width"] > 300
    assert box["height"] > 300
    canvas = browser.send("DOM.querySelector", nodeId=picture, selector=".view canvas")["nodeId"]
    with pytest.raises(RuntimeError, match="box model"):
        browser.send("DOM.getBoxModel", nodeId=canvas)


@needs_browser
def test_mode_in_the_page_turns_by_mouse_and_by_keys(browser: Browser, page_with_mode: Path) -> None:
    modes = pl.read_parquet(page_with_mode.parent / "modes.parquet")
    local = modes.filter(pl.col("participation_ratio") < 1 / 3, pl.col("frequency") > 0)
    low = local.filter(pl.col("frequency") <= Results.load(page_with_mode.parent.parent).analysis.spectra[0].window.upper)
    softest = (local if low.is_empty() else low).sort("participation_ratio").row(0, named=True)
    browser.show(width=1280, still=True)
    browser.open(page_with_mode)
    label = browser.ask("document.querySelector('.view .label').textContent")
    assert label.startswith(f"Mode {softest['index']}: ω = {softest['frequency']:#.4g}, ")
    browser.ask("document.querySelector('.view canvas').scrollIntoView({block: 'center'})")

    def picture() -> Any:
        browser.drawn()
        return browser.ask("document.querySelector('.view canvas').toDataURL()")

    left, top, width, height = browser.ask(
        "(({left, top, width, height}) => [left, top, width, height])(document.querySelector('.view "
        "canvas').getBoundingClientRect())"
    )
    pictures = [picture()]
    browser.ask("document.querySelector('.view canvas').focus()")
    for key in ("ArrowLeft", "ArrowUp", "+"):
        browser.press(key)
        pictures.append(picture())
    browser.drag((left + 0.4 * width, top + 0.5 * height), (left + 0.6 * width, top + 0.4 * height))
    pictures.append(picture())
    assert len(set(pictures)) == 5
    browser.press("0")
    assert picture() == pictures[0]
    browser.ask("document.querySelector('.theme').click(); document.querySelector('.theme').click()")
    assert picture() != pictures[0]  # dark
    browser.ask("document.querySelector('.theme').click()")
    assert picture() == pictures[0]


def test_mode_of_another_glass_is_not_shown(page_with_mode: Path, tmp_path: Path) -> None:
    """The table says what the mode must be: a glass that does not have it is refused."""
    directory = tmp_path / "run"
    shutil.copytree(page_with_mode.parent.parent, directory)
    good = localised_mode(Results.load(directory))
    assert isinstance(good, SectionFigure)
    assert drawn_data(good.figure).height > 5
    (path,) = directory.glob("workspace/*/modes.parquet")
    table = pl.read_parquet(path)
    table.with_columns(pl.col("eigenvalue") * 1.1).write_parquet(path)
    # With its checksum a table that was changed would not be read at all.
    path.with_name("checksums.json").unlink()
    refused = localised_mode(Results.load(directory))
    assert "is not shown" in str(refused)
    assert "is not the one that was diagonalised" in str(refused)
