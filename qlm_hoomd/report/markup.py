"""HTML for sections. Everything that is put in is escaped, unless it is ``Markup`` already."""

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


def table(headers: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str = "") -> Markup:
    """A table. Numbers align right; None shows as a dash."""
    head = Markup("").join(Markup("<th>{}</th>").format(header) for header in headers)
    body = Markup("").join(Markup("<tr>{}</tr>").format(Markup("").join(_cell(value) for value in row)) for row in rows)
    title = Markup("<caption>{}</caption>").format(caption) if caption else Markup("")
    return Markup('<div class="scroll"><table>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        title, head, body
    )


def details(summary: str, body: Any) -> Markup:
    """A block that opens on demand."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, body)


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


def _cell(value: Any) -> Markup:
    if value is None:
        return Markup('<td class="number">–</td>')
    if isinstance(value, (int, float)):
        return Markup('<td class="number">{}</td>').format(f"{value:.4g}" if isinstance(value, float) else value)
    return Markup("<td>{}</td>").format(value)
