"""What a figure shows, read back from its artists, and its files: the one beside a picture cannot differ from the picture.

Arrays are points of a series, without suffix.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch
from numpy.typing import ArrayLike, NDArray

from qlm_hoomd.base.files import replacing, write_table
from qlm_hoomd.report.axes import INK, STYLE

PIXELS_PER_INCH = 128  # of a figure in the page; its text is then as large as the page's small print

Floats = NDArray[np.float64]

COLUMNS = {
    "panel": pl.String,
    "series": pl.String,
    "x": pl.Float64,
    "y": pl.Float64,
    "x_low": pl.Float64,
    "x_high": pl.Float64,
    "y_low": pl.Float64,
    "y_high": pl.Float64,
    "z": pl.Float64,
    "n_realisations": pl.Int64,
}
"""Columns of the data of a figure: one row per point. A line across the panel has null in the direction in which it runs;
``low`` and ``high`` are the ends of error bars, bands and bins; ``z`` is the value of a cell of a map."""


def mark(artist: Any, n_realisations: int | Sequence[int | None] | None) -> None:
    """Note how many realisations stand behind an artist: one number, or one for each of its points.

    None where it is unknown.
    """
    vars(artist)["n_realisations"] = n_realisations


def drawn_data(figure: Figure) -> pl.DataFrame:
    """Points, lines, error bars, bands, bins and maps of ``figure``, with the columns :data:`COLUMNS`.

    The name of a panel is the label of its axes, or else its number; that of a series is the label of the artist, with a
    leading underscore (which keeps it out of the legend) removed. Arrows and texts are no data.
    """
    parts = [
        _rows(panel, _series(artist, number), values, getattr(artist, "n_realisations", None))
        for panel, ax in _panels(figure)
        for number, (artist, values) in enumerate(_artists(ax), 1)
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema=COLUMNS)


MOST_POINTS = 1500
"""Points of a series that a page shows the values of; of a scatter of more, as many evenly chosen ones."""
MOST_ON_A_CURVE = 70
"""The same for a curve without markers, whose points lie closer than a hand can tell apart."""


def hover_data(figure: Figure) -> dict[str, Any]:
    """What a page needs to show the values of ``figure`` under the mouse: where each point lies, and what it is.

    Maps, and artists that the legend names or that realisations stand behind (:func:`mark`); guides say nothing of data. Call
    it after the layout, at 72 dots per inch: places are then those in the SVG, in points from the upper left corner.

    Returns:
        ``panels``, each with ``name``, ``x``, ``y`` and ``z`` (names of the axes), ``box`` (left, top, right, bottom) and
        ``series``, each with ``name``, ``curve`` (no markers), places ``px`` and ``py``, values ``x``, ``y``, ends of bars or
        bands ``x_low``, ``x_high``, ``y_low``, ``y_high``, ``z`` and ``n_realisations``; what a series lacks is left out.
    """
    height = figure.get_figheight() * 72.0
    colorbar = next((ax.get_ylabel() for ax in figure.axes if ax.get_label() == "<colorbar>"), "")
    panels = []
    for name, ax in _panels(figure):
        left, bottom, right, top = ax.bbox.extents
        series = [one for one in _with_bands(ax, height) if one["px"]]
        if series:
            title = " ".join(filter(None, (ax.get_title(), ax.get_title(loc="left"))))
            panels.append(
                {
                    "name": plain_words(title if len(title) > len(name) else name),
                    "x": plain_words(ax.get_xlabel()),
                    "y": plain_words(ax.get_ylabel()),
                    "z": plain_words(colorbar),
                    "box": [round(float(place), 1) for place in (left, height - top, right, height - bottom)],
                    "series": series,
                }
            )
    return {"panels": panels}


def _with_bands(ax: Axes, height: float) -> Iterator[dict[str, Any]]:
    """The series of a panel that have a name or realisations, a curve with the band around it as its error bars."""
    found = [
        (artist, _rows("", _series(artist, number), values, getattr(artist, "n_realisations", None)))
        for number, (artist, values) in enumerate(_artists(ax), 1)
        if hasattr(artist, "n_realisations")
        or isinstance(artist, PolyCollection | QuadMesh)
        or not str(artist.get_label()).startswith("_")
    ]
    bands = [rows for artist, rows in found if isinstance(artist, PolyCollection)]
    for artist, rows in found:
        points = rows.drop_nulls(["x", "y"])
        if isinstance(artist, PolyCollection) or points.is_empty():
            continue
        curve = isinstance(artist, Line2D) and artist.get_linestyle() != "None"
        band = next((other for other in bands if curve and other["x"].equals(points["x"])), None)
        shown = points if band is None else points.with_columns(band["y_low"], band["y_high"])
        yield {"name": plain_words(points["series"][0]), "curve": curve, **_placed(ax, shown, height, curve=curve)}


def _placed(ax: Axes, rows: pl.DataFrame, height: float, *, curve: bool) -> dict[str, Any]:
    """Places and values of those points that the panel shows, with six digits."""
    place = ax.transData.transform(rows.select("x", "y").to_numpy())
    left, bottom, right, top = ax.bbox.padded(0.5).extents
    seen = (place[:, 0] >= left) & (place[:, 0] <= right) & (place[:, 1] >= bottom) & (place[:, 1] <= top)
    kept = np.flatnonzero(seen)
    kept = kept[:: max(1, -(-len(kept) // (MOST_ON_A_CURVE if curve else MOST_POINTS)))]
    series: dict[str, Any] = {
        "px": [round(float(x), 1) for x in place[kept, 0]],
        "py": [round(height - float(y), 1) for y in place[kept, 1]],
    }
    for name in COLUMNS:
        if name in {"panel", "series"} or rows[name].null_count() == rows.height:
            continue
        values = rows[name].gather(kept).to_list()
        series[name] = [value if value is None or isinstance(value, int) else float(f"{value:.6g}") for value in values]
    counts = series.get("n_realisations", [])
    if counts and len(set(counts)) == 1:
        series["n_realisations"] = counts[0]
    return series


_SYMBOLS = {
    "alpha": "α", "gamma": "γ", "theta": "θ", "omega": "ω", "kappa": "κ", "lambda": "λ", "chi": "χ", "Sigma": "Σ", "Phi": "Φ",
    "varepsilon": "ε", "epsilon": "ε", "pi": "π", "langle": "⟨", "rangle": "⟩", "sqrt": "√", "prime": "′", "infty": "∞", "mu": "μ",
    "delta": "δ", "times": "×", "to": "→", "leq": "≤", "geq": "≥", "sim": "~", "Delta": "Δ", "mathrm": "", "mathbf": "", "cdot": "·",
}  # fmt: skip


def plain_words(text: str) -> str:
    r"""Matplotlib's mathematics as plain text: ``$\langle\gamma_\mathrm{min}\rangle$`` becomes ``⟨γ_min⟩``."""
    text = re.sub(r"\\([A-Za-z]+) ?", lambda found: _SYMBOLS.get(found[1], found[1]), text)
    text = re.sub(r"\\[,;: ]", " ", text)
    return re.sub(r"\s+", " ", re.sub(r"[${}]", "", text)).strip()


def _panels(figure: Figure) -> Iterator[tuple[str, Axes]]:
    for number, ax in enumerate(figure.axes, 1):
        name = str(ax.get_label() or number)
        if name == "<colorbar>":
            continue
        yield name, ax
        for inset in ax.child_axes:
            if isinstance(inset, Axes):
                yield f"{name} inset", inset


def _series(artist: Any, number: int) -> str:
    label = str(artist.get_label() or "")
    return label.removeprefix("_") if label and not label.startswith("_child") else f"series {number}"


def _artists(ax: Axes) -> Iterator[tuple[Any, dict[str, ArrayLike]]]:
    parts_of_bars = set()
    for container in ax.containers:
        if isinstance(container, ErrorbarContainer):
            line, caps, bars = container.lines
            parts_of_bars |= {id(part) for part in (line, *caps, *bars)}
            yield container, _errorbar(container)
    for line in ax.lines:
        if id(line) not in parts_of_bars:
            values = _line(ax, line)
            if values:
                yield line, values
    for collection in ax.collections:
        if id(collection) in parts_of_bars:
            continue
        if isinstance(collection, (PathCollection, EllipseCollection)):
            offsets = np.ma.getdata(collection.get_offsets())
            yield collection, {"x": offsets[:, 0], "y": offsets[:, 1]}
        elif isinstance(collection, QuadMesh):
            yield collection, _mesh(collection)
        elif isinstance(collection, PolyCollection):
            for x, low, high in _bands(collection):
                yield collection, {"x": x, "y_low": low, "y_high": high}
    for patch in ax.patches:
        if isinstance(patch, StepPatch):
            heights, edges, _ = patch.get_data()
            yield patch, {"x": (edges[1:] + edges[:-1]) / 2, "x_low": edges[:-1], "x_high": edges[1:], "y": heights}
        elif isinstance(patch, Rectangle):
            across_x, across_y = patch.get_transform().contains_branch_seperately(ax.transData)
            if across_x != across_y:  # a span: the other direction is that of the panel
                (left, bottom), width, height = patch.get_xy(), patch.get_width(), patch.get_height()
                yield (
                    patch,
                    {"x_low": [left], "x_high": [left + width]}
                    if across_x
                    else {"y_low": [bottom], "y_high": [bottom + height]},
                )


def _errorbar(container: ErrorbarContainer) -> dict[str, ArrayLike]:
    line, _, bars = container.lines
    directions = [name for name, there in (("x", container.has_xerr), ("y", container.has_yerr)) if there]
    values: dict[str, ArrayLike] = {}
    if line is not None:
        values |= dict(zip("xy", _floats(line), strict=True))
    for name, bar in zip(directions, bars, strict=False):
        ends = np.array([path.vertices for path in bar.get_paths()], dtype=np.float64).reshape(-1, 2, 2)
        values |= {f"{name}_low": ends[:, 0, "xy".index(name)], f"{name}_high": ends[:, 1, "xy".index(name)]}
    return values


def _line(ax: Axes, line: Line2D) -> dict[str, ArrayLike]:
    x, y = _floats(line)
    along_x, along_y = line.get_transform().contains_branch_seperately(ax.transData)
    if along_x and along_y:
        return {"x": x, "y": y}
    # A line across the whole panel, or marks on an axis: only one direction is data.
    return {"x": np.unique(x)} if along_x else {"y": np.unique(y)} if along_y else {}


def _floats(line: Line2D) -> tuple[Floats, Floats]:
    x, y = (np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan) for values in line.get_data(orig=False))
    return x, y


def _bands(collection: PolyCollection) -> Iterator[tuple[Floats, Floats, Floats]]:
    """(x, low, high) of the pieces of a ``fill_between``: there along one edge, back along the other, corners doubled."""
    for path in collection.get_paths():
        corners = np.asarray(path.vertices, dtype=np.float64)
        n = (len(corners) - 3) // 2
        one, other = corners[1 : n + 1], corners[n + 2 : 2 * n + 2][::-1]
        if len(corners) == 2 * n + 3 and np.array_equal(one[:, 0], other[:, 0]):
            yield one[:, 0], np.minimum(one[:, 1], other[:, 1]), np.maximum(one[:, 1], other[:, 1])


def _mesh(mesh: QuadMesh) -> dict[str, ArrayLike]:
    corners = np.asarray(mesh.get_coordinates(), dtype=np.float64)
    z = np.ma.filled(np.ma.asarray(mesh.get_array(), dtype=np.float64).ravel(), np.nan)
    low, high = corners[:-1, :-1].reshape(-1, 2), corners[1:, 1:].reshape(-1, 2)
    kept = ~np.isnan(z)
    return {
        "x": ((low + high) / 2)[kept, 0],
        "y": ((low + high) / 2)[kept, 1],
        "x_low": low[kept, 0],
        "x_high": high[kept, 0],
        "y_low": low[kept, 1],
        "y_high": high[kept, 1],
        "z": z[kept],
    }


def _rows(
    panel: str, series: str, values: dict[str, ArrayLike], n_realisations: int | Sequence[int | None] | None
) -> pl.DataFrame:
    length = len(np.atleast_1d(np.asarray(next(iter(values.values())))))
    columns: dict[str, Any] = {"panel": [panel] * length, "series": [series] * length}
    for name, kind in COLUMNS.items():
        if kind == pl.Float64:
            given = values.get(name)
            columns[name] = [None] * length if given is None else np.asarray(given, dtype=np.float64)
    if not isinstance(n_realisations, Sequence):
        columns["n_realisations"] = [n_realisations] * length
    else:
        # A band with gaps is drawn in pieces, and which points a piece has is not known.
        columns["n_realisations"] = list(n_realisations) if len(n_realisations) == length else [None] * length
    return pl.DataFrame(columns, schema=COLUMNS).with_columns(pl.col(pl.Float64).fill_nan(None))


# ---- files ----


@dataclass(frozen=True)
class Saved:
    """A figure as a page shows it.

    Args:
        svg: an SVG element: no background, text and axes in the page's text colour.
        width: of the element [CSS pixel].
        points: what it shows and where (:func:`hover_data`).
    """

    svg: str
    width: int
    points: dict[str, Any]

    @property
    def summary(self) -> str:
        """What the figure shows, for those who do not see it: axes, ranges and series of each panel."""
        said = []
        for panel in self.points["panels"]:
            places = [value for series in panel["series"] for value in series["x"]]
            axes = f"{panel['y'] or 'y'} against {panel['x'] or 'x'} from {min(places):.3g} to {max(places):.3g}"
            series = "; ".join(one["name"] for one in panel["series"])
            said.append(f"Panel {panel['name']}: {axes}. Series: {series}.")
        return " ".join(said)


def save(figure: Figure, name: str, directory: Path, alternative: str, provenance: Mapping[str, Any]) -> Saved:
    """Write ``figure`` as NAME.pdf and NAME.png to ``directory``, and what it shows as NAME.parquet.

    Args:
        figure: what to write.
        name: of the files.
        directory: where they go.
        alternative: what a screen reader says instead of the figure; it goes to the data as their caption.
        provenance: goes to the data too.

    Returns:
        The figure to put into a page.
    """
    directory.mkdir(parents=True, exist_ok=True)
    metadata = {**provenance, "figure": name, "caption": alternative}
    write_table(directory / f"{name}.parquet", drawn_data(figure), metadata)
    # It finds the dates in matplotlib's own fonts strange, and says so for every PDF.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    FigureCanvasAgg(figure)
    # A salt of its own keeps the ids of several figures in one page apart, and every run writes the same bytes.
    with mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        # Lay out once, not for each of the three formats, and at the resolution of two of them: texts are then measured once.
        figure.set_dpi(72)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        points = hover_data(figure)
        for suffix, stamp in ((".png", None), (".pdf", {"CreationDate": None})):
            with replacing(directory / f"{name}{suffix}") as temporary:
                figure.savefig(temporary, format=suffix[1:], dpi=300, metadata=stamp, facecolor="white")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", dpi=200, transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL).replace(INK, "currentColor")
    svg = re.sub(r' width="[0-9.]+pt" height="[0-9.]+pt"', "", svg, count=1)
    svg = re.sub(r"\s*\n\s*", "\n", re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL))
    # Names that nothing refers to would be the same in every figure of the page.
    referred = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in referred else "", svg)
    label = f'<svg role="img" aria-label="{escape(alternative)}"' + (
        f' aria-describedby="about-{name}" ' if points["panels"] else " "
    )
    return Saved(svg.replace("<svg ", label, 1), round(figure.get_figwidth() * PIXELS_PER_INCH), points)


def share_glyphs(svgs: Sequence[str]) -> tuple[str, list[str]]:
    """Take the letters out of figures of one page, where each figure would have its own copy.

    Returns:
        An invisible SVG element with every letter once, which goes before the figures; and the figures without them.
    """
    glyphs: dict[str, str] = {}

    def take(found: re.Match[str]) -> str:
        glyphs.setdefault(found[1], found[0].strip())
        return ""

    # Fonts name their letters FONT-HEX; the same name is the same outline.
    pattern = re.compile(r'\s*<path id="((?:DejaVu|STIX|Cm)[A-Za-z0-9]*-[A-Za-z0-9-]+)"[^>]*?/>')
    without = [pattern.sub(take, svg) for svg in svgs]
    shared = "\n".join(glyphs.values())
    return f'<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>{shared}</defs></svg>', without
