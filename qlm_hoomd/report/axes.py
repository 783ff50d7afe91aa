"""How axes look: colours, markers, legends, numbers and ranges. No arrays but points of a curve, without suffix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.transforms import ScaledTranslation

from qlm_hoomd.report.numbers import Analysis, Estimate
from qlm_hoomd.report.results import Results

# Okabe and Ito: told apart by all kinds of colour vision, legible on white and on black; the markers repeat the message.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#9A8F3C", "#8C6BB1")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
SHOWN_COLOURS = ("#D55E00", "#E69F00", "#0072B2")
"""Of the representative strains: the paper's red, yellow and blue, in this palette."""
BLUE, RED, GREEN, CYAN = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[5]
INK = "#1d1f24"  # of text and axes; becomes the page's own text colour in the report
GUIDE = "#8a8f98"
LEAST_STRAINS = 0.021  # width of an axis of strains: two close ones are no range
SMALL = 7.5  # size of the text in a crowded panel
TINY = 7

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.labelsize": 9.5,
    "axes.titlesize": 9.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "mathtext.fontset": "dejavusans",
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "axes.linewidth": 0.7,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "errorbar.capsize": 2.5,
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


def strain_styles(strains: Sequence[float]) -> dict[float, dict[str, Any]]:
    """Colour and marker of each strain: the paper's three colours, or the palette where there are more."""
    colours = SHOWN_COLOURS if len(strains) <= len(SHOWN_COLOURS) else COLOURS
    return {
        strain: {"color": colours[k % len(colours)], "marker": MARKERS[k % len(MARKERS)]} for k, strain in enumerate(strains)
    }


def size_style(results: Results, size: int) -> dict[str, str]:
    """The colour and marker that this size has everywhere."""
    order = list(results.sizes)
    index = order.index(size) if size in order else len(order)
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


# ---- words ----


def in_words(estimate: Estimate, symbol: str) -> str:
    """The exponent with its interval, or that it is withheld."""
    shown = estimate.shown
    return rf": ${symbol}={shown.value:.2f}$ $[{shown.low:.2f}, {shown.high:.2f}]$" if shown else f": ${symbol}$ withheld"


def realisations_of(estimate: Estimate) -> int | None:
    """Realisations behind an estimate, at the poorest size where there are several."""
    counts = estimate.exponent.n_realisations if estimate.exponent is not None else None
    return min(counts.values()) if isinstance(counts, Mapping) else counts


def count_range(analysis: Analysis, preparation: str, quantity: str | None = None) -> str:
    """How many realisations there are at each size, in words; of the stress-strain curve where nothing else was measured."""
    rows = analysis.minima if quantity is None else analysis.minima.filter(quantity=quantity)
    counts = rows.filter(preparation=preparation)["n_realisations"].to_list()
    if not counts:
        counts = analysis.stress_strain.filter(preparation=preparation)["n_realisations"].to_list()
    least, most = min(counts, default=0), max(counts, default=0)
    if most == 1:
        return "1 realisation"
    return f"{least if least == most else f'{least}–{most}'} realisations"


# ---- axes ----


def size_axis(ax: Axes, counts: Mapping[int, int]) -> None:
    """The sizes as ticks of the x axis, with their realisations."""
    ax.set_xticks(list(counts), [f"{size}\n({n})" for size, n in counts.items()])
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    if counts:
        # A margin in proportion, for a single size too.
        ax.set_xlim(min(counts) / 1.35, max(counts) * 1.35)


def strain_axis(ax: Axes, strains: Sequence[float], name: str) -> None:
    """The range of the strains of the analysis, whichever of them have a point; ``name`` is that of the other axis."""
    span = max(strains) - min(strains)
    margin = max(0.06 * span, 0.5 * (LEAST_STRAINS - span))
    ax.set(xlabel=r"strain $\gamma$", ylabel=name, xlim=(min(strains) - margin, max(strains) + margin))


def plain_numbers(axis: XAxis | YAxis) -> None:
    """Plain numbers on a logarithmic axis, those between the powers of ten too where it spans little."""
    low, high = axis.get_view_interval()
    if high > 1e4 * low:
        return  # powers of ten say it better
    between = mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}" if high < 30 * low else "")
    axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(mpl.ticker.LogLocator(subs=(2.0, 5.0) if 3 * low < high < 30 * low else "auto"))
    axis.set_minor_formatter(between)


def legend(ax: Axes, **options: Any) -> None:
    """A small legend where it hides least, if there is anything to name."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(**({"fontsize": SMALL, "title_fontsize": options.get("fontsize", SMALL)} | options))


def legend_below(ax: Axes, inches: float, **options: Any) -> None:
    """A legend that far below the axes, where no datum can hide behind it; it begins below the label of the vertical axis."""
    assert ax.figure is not None
    below = ax.transAxes + ScaledTranslation(-0.55, -inches, ax.figure.dpi_scale_trans)
    legend(ax, loc="upper left", bbox_to_anchor=(0.0, 0.0), bbox_transform=below, borderaxespad=0.0, **options)


def levels(ax: Axes, *values: float) -> None:
    """Horizontal guides at the theory's values."""
    for value in values:
        style = "--" if value == 0.25 else ":"
        ax.axhline(value, color=GUIDE, linewidth=0.8, linestyle=style, label=f"_level {value:g}", zorder=1)


THETA_RANGE = ((0.0, 0.6), (-0.6, 2.0))
ALPHA_RANGE = ((2.8, 4.4), (0.5, 7.0))


def limits(estimates: Sequence[Estimate], inner: tuple[float, float], outer: tuple[float, float]) -> tuple[float, float]:
    """Range of an axis: the theory's values and what was measured, within reason."""
    ends = [
        end
        for e in estimates
        if e.exponent and np.isfinite(e.exponent.value)
        for end in (e.exponent.low, e.exponent.high, e.exponent.value)
    ]
    low, high = min([inner[0], *ends]), max([inner[1], *ends])
    margin = 0.06 * (min(high, outer[1]) - max(low, outer[0]))
    return max(low - margin, outer[0]), min(high + margin, outer[1])


def inset(ax: Axes, box: tuple[float, float, float, float]) -> Axes:
    """Axes within axes, below all curves there: the vertical range of ``ax`` grows downwards until nothing lies behind them.

    Args:
        ax: with everything drawn, limits set.
        box: left, bottom, width and height in shares of ``ax``, without the labels.
    """
    left, bottom, width, height = box
    to_axes = ax.transScale
    (x_low, y_low), (x_high, y_high) = to_axes.transform([(ax.get_xlim()[k], ax.get_ylim()[k]) for k in (0, 1)])
    behind = []
    for line in ax.lines:
        if line.get_transform().contains_branch(ax.transData) and not str(line.get_label()).startswith("_child"):
            across = line.get_transform().contains_branch_seperately(ax.transData)
            if not all(across):
                continue
            place = to_axes.transform(np.column_stack(line.get_data(orig=False)))
            share = (place[:, 0] - x_low) / (x_high - x_low)
            # A logarithm of zero or less lies at -1000.
            near = (share > left - 0.14) & (share < left + width + 0.02) & (np.abs(place[:, 1]) < 900)
            behind += place[near, 1].tolist()
    top = min(bottom + height + 0.04, 0.8)
    if behind and (lowest := min(behind)) < y_low + top * (y_high - y_low):
        y_low = (lowest - top * y_high) / (1 - top)
        ax.set_ylim(to_axes.inverted().transform([(x_low, y_low)])[0, 1], ax.get_ylim()[1])
    return small_axes(ax, box)


def small_axes(ax: Axes, box: tuple[float, float, float, float]) -> Axes:
    """Axes within axes with small text and few ticks."""
    small = ax.inset_axes(box)
    small.tick_params(labelsize=6, length=2, pad=1.5)
    for axis in (small.xaxis, small.yaxis):
        axis.label.set_fontsize(TINY)
        axis.labelpad = 0.5
        axis.set_major_locator(mpl.ticker.MaxNLocator(3))
    small.patch.set_alpha(0.0)
    return small
