"""HTML for sections. Everything that is put in is escaped, unless it is ``Markup`` already. No arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import floor, isfinite, log10
from typing import Any

from markupsafe import Markup

THETA = Markup("<i>θ</i>")
ALPHA = Markup("<i>α</i>")
GAMMA_MIN = Markup("⟨<i>γ</i><sub>min</sub>⟩")
OMEGA_MIN = Markup("⟨<i>ω</i><sub>min</sub>⟩")
N = Markup("<i>N</i>")


def paragraph(text: str, *values: Any, **named: Any) -> Markup:
    """A paragraph; ``text`` is HTML with format fields, ``values`` are escaped."""
    return Markup("<p>{}</p>").format(Markup(text).format(*values, **named))  # noqa: S704 the caller's own HTML


def note(text: str, *values: Any, **named: Any) -> Markup:
    """A paragraph that asks for attention."""
    return Markup('<p class="note">{}</p>').format(Markup(text).format(*values, **named))  # noqa: S704 the caller's own HTML


def table(headers: Sequence[Any], rows: Iterable[Sequence[Any]], caption: Any = "", *, anchor: str = "") -> Markup:
    """A table. None shows as a dash.

    Args:
        headers: of the columns.
        rows: their cells.
        caption: what it is, in a line above it.
        anchor: by which a link finds it.
    """
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(header) for header in headers)
    body = Markup("").join(Markup("<tr>{}</tr>").format(Markup("").join(_cell(value) for value in row)) for row in rows)
    title = Markup("<caption>{}</caption>").format(caption) if caption else Markup("")
    return Markup('<div class="scroll"{}><table>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        _id(anchor), title, head, body
    )


def details(summary: Any, body: Any, *, anchor: str = "", opened: bool = False) -> Markup:
    """A block that opens on demand, and by itself where a link leads into it."""
    return Markup("<details{}{}><summary>{}</summary>{}</details>").format(
        _id(anchor), Markup(" open") if opened else "", summary, body
    )


def link(anchor: str, words: Any) -> Markup:
    """A link to another place of the page."""
    return Markup('<a href="#{}">{}</a>').format(anchor, words)


def _id(anchor: str) -> Markup:
    return Markup(' id="{}"').format(anchor) if anchor else Markup("")


def join(parts: Iterable[Any]) -> Markup:
    """The parts one after another."""
    return Markup("").join(parts)


def number(value: float | None, error: float | None = None) -> str:
    """A value with as many digits as its standard error deserves, e.g. 0.0138 ± 0.0020; three digits where there is none."""
    if value is None or not isfinite(value):
        return "–"
    if error is None or not (error > 0 and isfinite(error)):
        return f"{value:.3g}"
    decimals = max(0, 1 - floor(log10(error)))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


MAX_ROWS = 40
"""Failures and exclusions listed one by one; beyond that they are counted."""
LONG_TABLE = 9
"""Rows beyond which a table that repeats a figure in numbers folds away."""


def of_figure(figure: str, caption: Any) -> Markup:
    """The caption of a table of the numbers of a figure, with a link to it."""
    return Markup("{} ({})").format(caption, link(f"figure-{figure}", "figure"))


def foldable(
    caption: str, headers: Sequence[Any], rows: Sequence[Sequence[Any]], *, figure: str = "", anchor: str = ""
) -> Markup:
    """A table that folds away where it is long, with a link to the figure of its numbers if there is one."""
    title = of_figure(figure, caption) if figure else caption
    if len(rows) <= LONG_TABLE:
        return table(headers, rows, title, anchor=anchor)
    return details(caption, table(headers, rows, title), anchor=anchor)


_SHORT = 26
"""Letters up to which the text of a cell stays in one line."""


def _cell(value: Any) -> Markup:
    if isinstance(value, float):
        value = f"{value:.4g}"
    text = Markup("{}").format("–" if value is None else value)
    short = Markup(' class="short"') if len(text.striptags()) <= _SHORT else Markup("")
    return Markup("<td{}>{}</td>").format(short, text)
