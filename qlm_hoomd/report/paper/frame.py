"""What the paper's figures share: a column per preparation, a letter per panel, one range along a row. No arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from qlm_hoomd.report import panels
from qlm_hoomd.report.figures import PANEL
from qlm_hoomd.report.panels import GUIDE
from qlm_hoomd.report.results import Results

Floats = NDArray[np.float64]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MAX_COLUMNS = 4
"""Preparations that share a figure; more would be too small to read."""


class MissingDataError(Exception):
    """Why a figure cannot be drawn."""


@dataclass(frozen=True)
class Drawn:
    """A figure and its caption."""

    figure: Figure
    caption: Markup


def columns(results: Results) -> tuple[str, ...]:
    """The preparations that have a column."""
    return results.preparations[:MAX_COLUMNS]


def grid(results: Results, rows: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a column per preparation, letters row by row and the names on top."""
    names = columns(results)
    width = PANEL * (1.25 if len(names) == 1 else len(names) if len(names) < 3 else 0.8 * len(names))
    figure = Figure(figsize=(width, 0.25 + height * rows), layout="constrained")
    axes = figure.subplots(rows, len(names), squeeze=False).tolist()
    for row, line in enumerate(axes):
        for column, ax in enumerate(line):
            name = LETTERS[row * len(names) + column]
            ax.set_label(name)
            letter(ax, name)
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(title(results, name))
    return figure, axes


def title(results: Results, preparation: str) -> str:
    """Name of a column: preparation, quench and realisations; on two lines where columns are narrow."""
    settings = results.run_of(preparation).preparations[preparation]
    quench = settings.get("quench") if isinstance(settings, dict) else None
    name = (
        f"{preparation} ({quench} quench)"
        if quench and quench != preparation
        else f"{preparation} quench"
        if quench
        else preparation
    )
    break_or_space = "\n" if len(columns(results)) > 2 else " "
    return f"{name},{break_or_space}{panels.count_range(results.analysis, preparation)}"


def letter(ax: Axes, name: str) -> None:
    """The letter of a panel, at its upper left corner outside the axes."""
    ax.annotate(
        name,
        (0, 1),
        (-6, 3),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontweight="bold",
        fontsize=10,
    )


def letters(row: int, results: Results) -> str:
    """The letters of the panels of a row."""
    n = len(columns(results))
    return ", ".join(LETTERS[row * n : (row + 1) * n])


def per_row(results: Results, texts: Sequence[str]) -> Markup:
    """What each row of panels shows; the texts are HTML of our own."""
    return Markup("; ").join(
        Markup("({}) {}").format(letters(row, results), Markup(text))  # noqa: S704 our own text
        for row, text in enumerate(texts)
    )


def share_y(axes: Sequence[Sequence[Axes]]) -> None:
    """The same range in all panels of a row that show something, so that the preparations can be compared."""
    for line in axes:
        shown = [ax for ax in line if ax.axison and ax.has_data()]
        if len(shown) > 1:
            low, high = (
                pick(ends) for pick, ends in zip((min, max), zip(*(ax.get_ylim() for ax in shown), strict=True), strict=True)
            )
            for ax in shown:
                ax.set_ylim(low, high)


def share_x(axes: Sequence[Sequence[Axes]]) -> None:
    """One range of strain for all panels that show something."""
    shown = [ax for line in axes for ax in line if ax.axison and ax.has_data()]
    if shown:
        low, high = min(ax.get_xlim()[0] for ax in shown), max(ax.get_xlim()[1] for ax in shown)
        for ax in shown:
            ax.set_xlim(low, high)


def limits_with_room(line: Sequence[Axes], limits: tuple[float, float], share: float) -> None:
    """These limits for the y axes of a row, with room on top for a legend, into which no error bar reaches."""
    for ax in line:
        ax.set_ylim(limits[0], limits[1] + share * (limits[1] - limits[0]))
        for artist in (*ax.lines, *ax.collections):
            artist.set_clip_path(Rectangle((0, 0), 1, 1 / (1 + share), transform=ax.transAxes))


def nothing(ax: Axes) -> None:
    """Say in place of a panel that there is nothing to show yet."""
    ax.set_axis_off()
    ax.annotate("no data yet", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=GUIDE)


def as_inset(ax: Axes) -> None:
    """Make the text small, for axes within axes."""
    if ax.get_xscale() == "linear":
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
    ax.tick_params(labelsize=6, length=2, pad=1.5)
    ax.xaxis.label.set_fontsize(7)
    ax.yaxis.label.set_fontsize(7)
    ax.xaxis.labelpad = 0.5
    ax.yaxis.labelpad = 0.5
    ax.patch.set_alpha(0.0)
