"""Figure 4: the search for one instability.

Array suffixes: ``_s`` trial steps, ``_e`` events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qlm_hoomd.report.axes import BLUE, CYAN, GUIDE, INK, RED, legend, small_axes
from qlm_hoomd.report.drawn import mark
from qlm_hoomd.report.figures import LETTERS, MAX_COLUMNS, WIDE, MissingDataError, Sentence, caption, letter
from qlm_hoomd.report.means import first_rise
from qlm_hoomd.report.results import Results, SectionFigure

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Event:
    """One event and the search for it.

    Args:
        preparation, detector, n_particles, realisation: whose it is.
        strain: at which it is.
        steps: trials that were made in ``window``, with the columns ``level`` (0, 1, 2: coarse, a tenth, a hundredth) and
            ``accepted``.
        window: strains between which they were searching.
        coarse: the coarse increment.
    """

    preparation: str
    detector: str
    n_particles: int
    realisation: int
    strain: float
    steps: pl.DataFrame
    window: tuple[float, float]
    coarse: float


def rewinding(results: Results) -> SectionFigure:
    """Q of the steps that were tried about one real event."""
    if "trials" not in results.tables:
        raise MissingDataError("no run wrote its trial steps; the setting 'trials' of the stage 'shear' does")
    found = [
        event
        for preparation in results.preparations[:MAX_COLUMNS]
        if (event := _most_refined(results, preparation)) is not None
    ]
    if not found:
        raise MissingDataError("no instability with refined steps is among the trial steps")
    # One sketch of each detector tells it all.
    events = list({event.detector: event for event in reversed(found)}.values())[::-1]
    figure = Figure(figsize=(4.6 if len(events) == 1 else WIDE, 3.2), layout="constrained")
    axes = figure.subplots(1, len(events), squeeze=False)[0]
    for index, (ax, event) in enumerate(zip(axes, events, strict=True)):
        ax.set_label(LETTERS[index])
        ax.set_title(f"{event.preparation}, {event.detector}: $N={event.n_particles}$, 1 realisation", fontsize=8.5)
        _draw_trials(ax, event)
        if len(events) > 1:
            letter(ax, LETTERS[index])
    found_at = " ".join(
        f"{event.detector}: {event.preparation}, N = {event.n_particles}, realisation {event.realisation}, instability at "
        f"strain {event.strain:.8f} (vertical line)."
        for event in events
    )
    says: tuple[Sentence, ...] = (
        "The search for one instability: <i>Q</i> of every step that was tried, against strain; each bar spans its step.",
        (r"gamma\$,", "Cyan: steps of the coarse increment and longer ones."),
        (r"gamma/10\$,", "Blue: about a tenth of it."),
        (r"gamma/100\$,", "Red: a hundredth and less."),
        ("stands", "Solid: steps that stand."),
        ("rewound", "Dashed: steps that were rewound."),
        (
            "basin lost",
            "Above the upper line: steps that lost the basin and were undone before anything fell, which have no <i>Q</i>.",
        ),
        escape(found_at),
        (
            "Of all instabilities whose trial steps were written, with no other one nearby, this one has the most levels of "
            "refinement."
        ),
    )
    return SectionFigure("figure_4", figure, caption(results, figure, [("", says)]))


def _most_refined(results: Results, preparation: str) -> _Event | None:
    """Of all events of the realisations that wrote trial steps, the one with the most levels, then the most undone steps."""
    trials, steps, events = (results.tables.get(name) for name in ("trials", "steps", "events"))
    if trials is None or steps is None or events is None:
        return None
    coarse = float((results.run_of(preparation).stage("shear") or {}).get("increment", 1e-4))
    best: _Event | None = None
    best_rank = (0, 0)
    of = pl.col("preparation") == preparation
    keys = ("n_particles", "realisation")
    steps_of, events_of = (table.filter(of).partition_by(keys, as_dict=True) for table in (steps, events))
    for (size, index), tried in trials.filter(of).group_by(keys, maintain_order=True):
        if (size, index) not in steps_of or (size, index) not in events_of:
            continue
        marked = first_rise(
            _accepted(tried, steps_of[size, index]).with_columns(level=_level(coarse), strain=pl.col("strain_after"))
        )
        rows = first_rise(events_of[size, index])
        # A run has many events: arrays, for a query of the table takes a thousand times as long.
        before_s, after_s, level_s = (marked[name].to_numpy() for name in ("strain_before", "strain_after", "level"))
        undone_s = ~marked["accepted"].to_numpy()
        strain_e = rows["strain_c"].to_numpy()
        for strain, detector in zip(strain_e.tolist(), rows["detector"], strict=True):
            about_s = undone_s & (before_s < strain) & (after_s > strain - 2 * coarse)
            if not about_s.any():
                continue
            low = min(float(before_s[about_s].min()), strain - 1.5 * coarse)
            high = max(float(after_s[about_s].max()), strain + 1.5 * coarse)
            margin = 0.12 * (high - low)
            window = (low - margin, high + margin)
            near_s = (after_s > window[0]) & (before_s < window[1])
            rank = (len(np.unique(level_s[near_s])), int(undone_s[near_s].sum()))
            if ((strain_e >= window[0]) & (strain_e <= window[1])).sum() > 1 or rank <= best_rank:
                continue
            best = _Event(preparation, str(detector), int(size), int(index), strain, marked.filter(near_s), window, coarse)
            best_rank = rank
    return best if best_rank[0] > 1 else None


def _level(coarse: float) -> pl.Expr:
    """0 for steps of about the coarse increment and longer ones, 1 for about a tenth of it, 2 for a hundredth and less."""
    length = (pl.col("strain_after") - pl.col("strain_before")).abs()
    return pl.when(length > coarse / 10**0.5).then(0).when(length > coarse / 10**1.5).then(1).otherwise(2)


def _accepted(trials: pl.DataFrame, steps: pl.DataFrame) -> pl.DataFrame:
    """``trials`` with the column ``accepted``: whether the step stands in ``steps``, by its end and its length."""

    def key(end: pl.Expr, length: pl.Expr) -> list[pl.Expr]:
        return [(end * 1e12).round().cast(pl.Int64).alias("_end"), (length * 1e10).round().cast(pl.Int64).alias("_length")]

    standing = steps.filter(pl.col("increment") != 0).select(key(pl.col("strain"), pl.col("increment"))).unique()
    keyed = trials.with_columns(key(pl.col("strain_after"), pl.col("strain_after") - pl.col("strain_before")))
    return (
        keyed.join(
            standing.with_columns(accepted=pl.lit(value=True)), on=["_end", "_length"], how="left", maintain_order="left"
        )
        .with_columns(pl.col("accepted").fill_null(value=False))
        .drop("_end", "_length")
    )


_LEVELS = ((CYAN, r"$\delta\gamma$"), (BLUE, r"$\delta\gamma/10$"), (RED, r"$\delta\gamma/100$"))


def _draw_trials(ax: Axes, event: _Event) -> None:
    """Steps as bars at their Q, about the event; a closer look at it in the inset."""
    known, lost = (event.steps.filter(test) for test in (pl.col("q").is_not_null(), pl.col("q").is_null()))
    low, high = (float(q) for q in known.select(low=pl.col("q").min(), high=pl.col("q").max()).row(0))
    # Basins that were lost have no Q: they lie one above the other over the upper line.
    top = 3.0 * high
    places = [top * 1.9 ** (1 + k) for k in range(lost.height)]
    _bars(ax, event, known, places)
    small_steps = event.steps.filter(pl.col("level") == 2)
    ax.set(
        yscale="log",
        xlim=tuple((end - event.strain) / event.coarse for end in event.window),
        ylim=(low / 4, (places[-1] if places else top) * 3),
        ylabel="$Q$",
    )
    if places:
        ax.axhline(top, color=GUIDE, linewidth=0.7, label="_no Q above")
        ax.annotate(
            "no $Q$",
            (1.0, top),
            (-3, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=7,
            color=GUIDE,
        )
    exponent = round(np.log10(event.coarse))
    scale = rf"10^{{{exponent}}}" if abs(event.coarse - 10.0**exponent) < 1e-12 else f"{event.coarse:g}"
    ax.set_xlabel(rf"$(\gamma-\gamma_c)/{scale}$")
    # Left of the event and above its small Q there is nothing to hide.
    legend(
        ax,
        fontsize=6.5,
        loc="upper left",
        bbox_to_anchor=(0.0, 1.0 - (0.06 * (len(places) + 1) if places else 0.0)),
        labelspacing=0.25,
        handlelength=2.4,
    )
    if not small_steps.is_empty():
        # Wide enough for the last refinement, not for the steps that led to it.
        reach = 1.6 * max(float((small_steps["strain_after"] - small_steps["strain_before"]).max()), 1e-8) / event.coarse  # type: ignore[arg-type]
        spread = 1.15 * float(np.quantile(np.abs(small_steps["strain_before"].to_numpy() - event.strain), 0.75)) / event.coarse
        small = small_axes(ax, (0.12, 0.27, 0.30, 0.25))
        _bars(small, event, known, places)
        reach = max(reach, spread)
        small.set(
            yscale="log", xlim=(-reach, reach), ylim=(low / 4, 3 * high), xlabel=rf"$(\gamma-\gamma_c)/{scale}$", ylabel="$Q$"
        )
        small.set_title("closer", fontsize=6.5, pad=2)


def _bars(ax: Axes, event: _Event, known: pl.DataFrame, places: Sequence[float]) -> None:
    """The steps of each level, those that stand and those that were rewound, as one line with gaps each."""
    for level, (colour, name) in enumerate(_LEVELS):
        for accepted, word in ((True, "stands"), (False, "rewound")):
            part = known.filter(pl.col("level") == level, pl.col("accepted") == accepted)
            if not part.is_empty():
                x, y = _with_gaps(event, part, part["q"].to_list())
                (line,) = ax.plot(
                    x, y, color=colour, linewidth=2.2 if accepted else 1.3, linestyle="-" if accepted else (0, (2.5, 1.5)),
                    label=f"{name}, {word} ({part.height})", solid_capstyle="butt", zorder=3 if accepted else 4,
                )  # fmt: skip
                mark(line, 1)
    lost = event.steps.filter(pl.col("q").is_null()).with_columns(place=pl.Series(list(places), dtype=pl.Float64))
    for level, (colour, name) in enumerate(_LEVELS):
        part = lost.filter(pl.col("level") == level)
        if not part.is_empty():
            x, y = _with_gaps(event, part, part["place"].to_list())
            ax.plot(
                x, y, color=colour, linewidth=1.3, linestyle=(0, (2.5, 1.5)), marker="x", markersize=4, markevery=(1, 3),
                label=f"{name}, basin lost ({part.height})",
            )  # fmt: skip
    ax.axvline(0.0, color=INK, linewidth=0.7, linestyle=":", label="_instability")


def _with_gaps(event: _Event, steps: pl.DataFrame, heights: Sequence[float]) -> tuple[Floats, Floats]:
    """Both ends of each bar, then nothing."""
    ends = (steps.select("strain_before", "strain_after").to_numpy() - event.strain) / event.coarse
    gap = np.full(len(ends), np.nan)
    return np.column_stack([ends, gap]).ravel(), np.column_stack([heights, heights, gap]).ravel()
