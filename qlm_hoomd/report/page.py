"""The report as one HTML page that opens offline, with every figure also as PDF and PNG beside it. No arrays."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from qlm_hoomd.base.errors import PluginError
from qlm_hoomd.base.files import replacing, write_table
from qlm_hoomd.base.registry import REPORT_SECTIONS
from qlm_hoomd.base.version import PACKAGE, __version__
from qlm_hoomd.report.drawn import save, share_glyphs
from qlm_hoomd.report.glasses import glasses_table
from qlm_hoomd.report.markup import ALPHA, OMEGA_MIN, THETA, link, note, table
from qlm_hoomd.report.numbers import Estimate
from qlm_hoomd.report.results import Results, Section
from qlm_hoomd.report.words import card, number_with_interval, quoted
from qlm_hoomd.view import HELP

_log = logging.getLogger(__name__)

ORDER = ("overview", "structure", "shear", "instabilities", "spectrum", "exponents", "paper")
"""Our own sections, as a reader asks; those of plugins follow in alphabetical order."""
NARROW_PIXELS, ALONE_PIXELS = 480, 640
"""Widths up to which two figures share a line of the page, and up to which one alone has room for its caption beside it."""
FAILED_SECTIONS = "failed_sections.txt"
"""In the folder of the report: where sections of it failed; there is none where all is well."""


@dataclass(frozen=True)
class _Chapter:
    """A section as the template wants it."""

    anchor: str
    title: str
    html: Markup
    figures: tuple[dict[str, Any], ...] = ()
    files: tuple[dict[str, Any], ...] = ()
    tables: str = ""


def make_report(*directories: Path, out: Path | None = None) -> Path:
    """Gather the tables of one run or several, analyse them, and write tables, exponents.json, figures and report.html.

    Args:
        directories: output folders of runs, finished or not; several are reported as one ensemble of different preparations.
        out: folder of the report; by default ``results`` in the folder of the only run.

    Returns:
        The page.

    Raises:
        InputError: if a folder is not the output folder of a run, or runs cannot be reported together.
    """
    results = Results.load(*map(Path, directories), out=Path(out) if out is not None else None)
    folder = results.folder
    analysis = results.analysis
    for name in ("stress_strain", "minima"):
        write_table(folder / f"{name}.parquet", getattr(analysis, name), results.provenance)
    write_table(folder / "glasses.parquet", glasses_table(results), results.provenance)
    content = {
        "protocol": results.name,
        "protocol_hash": results.hash,
        "runs": [{"name": run.name, "protocol_hash": run.hash, "preparations": list(run.preparations)} for run in results.runs],
        "versions": list(results.versions),
        **analysis.to_dict(),
    }
    with replacing(folder / "exponents.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (folder / FAILED_SECTIONS).unlink(missing_ok=True)
    for stale in (folder / "figures").glob("*.*"):
        if stale.suffix in {".pdf", ".png", ".parquet"}:
            stale.unlink()
    chapters = tuple(_chapters(results, folder / "figures"))
    drawn = [item for chapter in chapters for item in chapter.figures]
    glyphs, without = share_glyphs([item["svg"] for item in drawn])
    for item, svg in zip(drawn, without, strict=True):
        item["svg"] = _html(svg)
    page = (
        _environment()
        .get_template("report/template.html.j2")
        .render(
            results=results,
            version=__version__,
            help=HELP,
            glyphs=_html(glyphs),
            headline=list(_headline(results)) if results.seeks_exponents else [],
            all_strains=_all_strains(results) if results.seeks_exponents else None,
            chapters=chapters,
        )
    )
    with replacing(folder / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return folder / "report.html"


def _environment() -> jinja2.Environment:
    # The view of a mode, which is a page of its own too, lies in the room above.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["compact"] = _compact
    return environment


def _compact(value: Any) -> Markup:
    """JSON that a script element can hold, without a space."""
    return _html(json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"))


def _chapters(results: Results, folder: Path) -> Iterator[_Chapter]:
    """The sections that have something to say. One that is broken says so in its place; the others are unharmed."""
    for name in sorted(REPORT_SECTIONS.plugins, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)):
        plugin = REPORT_SECTIONS.plugins[name]
        try:
            chapter = _chapter(f"section-{name}", plugin.load()(results), folder, results.provenance)
        except Exception as error:  # noqa: BLE001 a stranger's section may fail in any way
            with (results.folder / FAILED_SECTIONS).open("a", encoding="utf-8") as log:
                log.write(f"report section '{name}' of {plugin.distribution}\n{traceback.format_exc()}\n")
            _log.warning(
                "qlm: report section '%s' of %s failed: %s: %s (see %s)",
                *(name, plugin.distribution, type(error).__name__, error, results.folder / FAILED_SECTIONS),
            )
            failure = note(
                "The report section “{}” of {} failed: {}: {}. The rest of the report is complete.",
                name,
                plugin.distribution,
                type(error).__name__,
                error,
            )
            chapter = _Chapter(f"section-{name}", f"{name} (failed)", failure)
        if chapter is not None:
            yield chapter


def _chapter(anchor: str, section: Section | None, folder: Path, provenance: dict[str, Any]) -> _Chapter | None:
    """The section with its figures saved to ``folder``."""
    if section is None:
        return None
    if not isinstance(section, Section):
        raise PluginError(f"it returned {type(section).__name__}; expected qlm_hoomd.report.Section or None.")
    shown: list[dict[str, Any]] = []
    files: list[dict[str, Any]] = []
    for item in section.figures:
        text = _html(item.caption)
        saved = save(item.figure, item.name, folder, text.striptags(), provenance)
        kept: dict[str, Any] = {"name": item.name, "caption": text, "numbers": item.numbers, "view": item.view}
        kept |= {"svg": saved.svg, "width": saved.width, "points": saved.points, "summary": saved.summary}
        (shown if item.inline else files).append(kept)
    _arrange(shown)
    return _Chapter(anchor, section.title, _html(section.html), tuple(shown), tuple(files), _html(section.tables))


def _arrange(shown: list[dict[str, Any]]) -> None:
    """Say of each figure how it stands: narrow neighbours share a line, one that is left has its caption beside it."""
    waiting: dict[str, Any] | None = None
    for item in shown:
        narrow = item["width"] <= NARROW_PIXELS and not item["view"]
        item["place"] = "wide" if item["view"] else "beside" if item["width"] <= ALONE_PIXELS else "row"
        if narrow and waiting is not None:
            waiting["place"] = item["place"] = "half"
            waiting = None
        else:
            waiting = item if narrow else None


def _html(text: str) -> Markup:
    """What a section says is HTML, by contract."""
    return Markup(text)  # noqa: S704


def _headline(results: Results) -> Iterator[dict[str, Any]]:
    """A row of cards for each preparation at the first strain."""
    for preparation in results.preparations:
        strain = results.settings.strains[0]
        yield {
            "preparation": preparation,
            "strain": strain,
            "cards": [card(e) for e in quoted(results, preparation, strain)],
            "anchor": results.exponents_anchor(preparation, strain),
        }


def _all_strains(results: Results) -> Markup | None:
    """The same numbers at every strain, None where there is only one."""
    strains = results.settings.strains
    if len(strains) < 2:
        return None
    rows = []
    for preparation in results.preparations:
        for strain in strains:
            at = link(results.exponents_anchor(preparation, strain), f"{strain:g}")
            numbers = (_faint_if_withheld(estimate) for estimate in quoted(results, preparation, strain))
            rows.append((preparation, at, *numbers))
    measured, predicted = (Markup("{} {}").format(THETA, "measured"), Markup("{} {}").format(ALPHA, "predicted"))
    headers = ["preparation", "strain", measured, predicted]
    headers += [Markup("{} from {}").format(ALPHA, source) for source in (OMEGA_MIN, Markup("<i>D</i><sub>L</sub>(<i>ω</i>)"))]
    return table(headers, rows, "Grey: withheld, too weak to be quoted. A strain leads to what is behind its numbers")


def _faint_if_withheld(estimate: Estimate) -> Markup:
    return Markup('<span class="{}">{}</span>').format(estimate.status, number_with_interval(estimate))
