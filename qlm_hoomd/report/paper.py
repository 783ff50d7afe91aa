"""Figures 1 to 8 in the arrangement of Ji et al., PRE 99, 023003 (2019): one column per preparation, one letter per panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import polars as pl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from qlm_hoomd.report import panels
from qlm_hoomd.report.drawn import mark
from qlm_hoomd.report.figures import PANEL, STYLE
from qlm_hoomd.report.markup import join, note, paragraph
from qlm_hoomd.report.means import first_rise
from qlm_hoomd.report.numbers import STRAIN_TOLERANCE, Analysis, Estimate, Spectrum
from qlm_hoomd.report.panels import BLUE, CYAN, GREEN, GUIDE, INK, RED, SMALL
from qlm_hoomd.report.results import Results, Section, SectionFigure
from qlm_hoomd.statistics import MinimaDistribution

Floats = NDArray[np.float64]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
MAX_COLUMNS = 4
"""Preparations that share a figure; more would be too small to read."""

# Figure 1 lives in units in which chi = 1. Its examples have |Phi| = 0.4, which spreads them over lambda < 1: that is omega < 1,
# where modes in glasses follow the power law.
_PHI = 0.4
_LAMBDA_MAX, _KAPPA_MAX = 1.0, 1.75
_MAX_MODES = 4000  # of the measured ones that figure 1 shows


class MissingDataError(Exception):
    """Why a figure cannot be drawn."""


@dataclass(frozen=True)
class _Drawn:
    figure: Figure
    caption: Markup


def paper(results: Results) -> Section | None:
    """The eight figures of the paper, as far as there are data for them; None where nothing of them was to be measured."""
    if not {"shear", "modes"} & {stage.get("kind") for run in results.runs for stage in run.protocol.get("stages", ())}:
        return None
    makers: tuple[Callable[[Results], _Drawn], ...] = (
        flow, shear_and_spectra, exponents, rewinding, softest, primed, lower_ends, steady_state,
    )  # fmt: skip
    drawn, missing = [], []
    for number, make in enumerate(makers, 1):
        try:
            with mpl.rc_context(STYLE):
                made = make(results)
        except MissingDataError as reason:
            missing.append(note("<b>Figure {}</b> is left out: {}.", number, str(reason)))
            continue
        caption = Markup("<b>Figure {}.</b> {}").format(number, made.caption)
        drawn.append(SectionFigure(f"figure_{number}", made.figure, caption))
    shown = ", ".join(f"{strain:g}" for strain in results.settings.shown)
    text = paragraph(
        "The paper's figures from these data, in its arrangement: one column per preparation. Representative strains: {}. Open, faint "
        "symbols and dotted lines belong to exponents that are withheld; intervals without bound are not drawn.",
        shown,
    )
    if len(results.preparations) > MAX_COLUMNS:
        missing.append(note("Shown are the first {} of {} preparations.", MAX_COLUMNS, len(results.preparations)))
    return Section("The paper's figures", text, tuple(drawn), join(missing))


# ---- figure 1 ----


def flow(results: Results) -> _Drawn:
    """The flow of (lambda, kappa) under rising stress, with the potentials along it and our own modes behind it.

    Along +stress kappa grows (eq. 3), so that a mode fails on its branch of negative kappa, at D = (0, -sqrt(Phi)), and is
    reinserted at B' = (3 Phi / 2, +2 sqrt(Phi)) with the same Phi. The modes are drawn in the orientation that forward shear drives.
    """
    figure = Figure(figsize=(2 * PANEL, 3.5), layout="constrained")
    grid = figure.add_gridspec(3, 4, width_ratios=(1.15, 1.15, 1, 1))
    ax = figure.add_subplot(grid[:, :2], label="a")
    counted = _measured_modes(ax, results)
    kappa = np.linspace(-_KAPPA_MAX, _KAPPA_MAX, 301)
    edge = kappa**2 / 2
    ax.fill_betweenx(kappa, edge, _LAMBDA_MAX, color=BLUE, alpha=0.07, linewidth=0, zorder=0)
    ax.fill_betweenx(kappa, 0, np.minimum(edge, _LAMBDA_MAX), color=RED, alpha=0.07, linewidth=0, zorder=0)
    ax.plot(edge, kappa, color=INK, linewidth=1.4, label=r"$\Phi=\kappa^2-2\lambda=0$")
    ax.plot(3 * kappa**2 / 8, kappa, color=GREEN, linestyle="--", linewidth=1.4, label=r"$\kappa^2=8\lambda/3$")
    root = _PHI**0.5
    for phi, low, high, colour, label in (
        (-_PHI, -1.26, 1.26, BLUE, r"passive, $\Phi<0$"),
        (_PHI, -1.5, -root, RED, r"shear transformation, $\Phi>0$"),
        (_PHI, 2 * root, 1.5, RED, "_shear transformation, after it"),
    ):
        along = np.linspace(low, high, 121)
        ax.plot((along**2 - phi) / 2, along, color=colour, linewidth=1.6, label=label, zorder=4)
        for share in (0.35, 0.75) if phi < 0 else (0.3,):
            k = low + share * (high - low)
            _arrow(ax, (k, k + 0.04), phi, colour)
    points = {"A": -1.45, "B": -2 * root, "C": -(3**0.5) * root, "D": -root, "B′": 2 * root}
    ax.annotate(
        "", ((points["B′"] ** 2 - _PHI) / 2, points["B′"]), (0.0, points["D"]),
        arrowprops={"arrowstyle": "-|>", "color": RED, "lw": 1.1, "linestyle": (0, (4, 3)), "mutation_scale": 9, "shrinkA": 3, "shrinkB": 3},
    )  # fmt: skip
    place = np.array(list(points.values()))
    ax.plot((place**2 - _PHI) / 2, place, "o", color=RED, markersize=5, zorder=6, label="_points " + ", ".join(points))
    offsets = {"A": (-4, -11), "B": (-4, -12), "C": (-5, -12), "D": (5, -9), "B′": (-4, 6)}
    for name, k in points.items():
        ax.annotate(
            name,
            ((k**2 - _PHI) / 2, k),
            offsets[name],
            textcoords="offset points",
            color=RED,
            fontweight="bold",
            fontsize=9,
            ha="right" if name != "D" else "left",
        )
    ax.set(
        xlim=(-0.02, _LAMBDA_MAX),
        ylim=(-_KAPPA_MAX, _KAPPA_MAX),
        xlabel=r"$\lambda=\omega^2$" + (r" $[\varepsilon/d^2]$" if counted else ""),
        ylabel=r"$\kappa$" + (r" $[\sqrt{\varepsilon}/d]$" if counted else "") + r"  (units of $\chi=1$)",
    )
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3 if counted else 4, fontsize=SMALL, markerscale=2)
    letter(ax, "a")
    names = [*points, "passive"]
    for index, name in enumerate(names):
        small = figure.add_subplot(grid[index % 3, 2 + index // 3], label=f"u at {name}")
        phi, k = (-_PHI, -0.5) if name == "passive" else (_PHI, points[name])
        _potential(small, phi, k, name, BLUE if name == "passive" else RED)
    figure.axes[1].set_title("b", loc="left", fontweight="bold", fontsize=9, pad=2)
    caption = Markup(
        "Flow of the parameters of a mode, <i>u</i>(<i>s</i>) = <i>λs</i>²/2 + <i>κs</i>³/6 + <i>s</i>⁴/24, under rising stress. "
        "Blue: a passive mode; red: a shear transformation. A: one minimum; B: the second one appears; C: both are equally deep; "
        "D: failure, then B′. Right: the potentials there, tilted by the stress, with the state as a dot; D and B′ share one. {}"
    )
    return _Drawn(
        figure, caption.format(counted or "These are curves of the theory; no mode has been measured with its κ and χ.")
    )


def _measured_modes(ax: Axes, results: Results) -> str:
    """Our quasi-localised modes in the theory's units behind the curves, and a sentence on them; empty where there are none."""
    modes = results.tables.get("modes")
    if modes is None or "kappa_theory" not in modes.columns:
        return ""
    strain = results.settings.shown[0]
    own = modes.filter(
        (pl.col("strain") - strain).abs() < STRAIN_TOLERANCE,
        pl.col("kappa_theory").is_not_null(),
        pl.col("eigenvalue") > 0,
        pl.col("preparation").is_in(list(_columns(results))),
    )
    limit = {size: results.settings.threshold(size) for size in own["n_particles"].unique().to_list()}
    own = own.filter(pl.col("participation_ratio") < pl.col("n_particles").replace_strict(limit, return_dtype=pl.Float64))
    inside = own.filter(pl.col("eigenvalue") <= _LAMBDA_MAX, pl.col("kappa_theory").abs() <= _KAPPA_MAX)
    if inside.is_empty():
        return ""
    glasses = inside.select("preparation", "n_particles", "realisation").n_unique()
    shown = inside.gather_every(max(1, -(-inside.height // _MAX_MODES)))
    (dots,) = ax.plot(
        shown["eigenvalue"].to_numpy(),
        shown["kappa_theory"].to_numpy(),
        ".",
        color=GUIDE,
        markersize=3.2,
        alpha=0.7,
        markeredgewidth=0,
        rasterized=True,
        zorder=1,
        label=rf"measured modes, $\gamma={strain:g}$ ({glasses} realisations)",
    )
    mark(dots, glasses)
    return (
        f"Grey dots: {shown.height} quasi-localised modes of {glasses} realisations at strain {strain:g}, all preparations and sizes, in "
        "units of the frozen mode's χ, oriented along forward shear."
    )


def _arrow(ax: Axes, kappas: tuple[float, float], phi: float, colour: str) -> None:
    start, end = (((k**2 - phi) / 2, k) for k in kappas)
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.6, "mutation_scale": 11}, zorder=5)


def _potential(ax: Axes, phi: float, kappa: float, name: str, colour: str) -> None:
    """u about the present minimum; s is counted from where kappa = 0 on this parabola, so that the panels share one axis."""
    lam = (kappa**2 - phi) / 2
    s = np.linspace(-2.35, 2.35, 161)  # u(s - kappa): by (A3) a minimum moves as kappa does
    away = s - kappa
    u = lam * away**2 / 2 + kappa * away**3 / 6 + away**4 / 24
    shown = u <= u.min() + 0.32
    ax.plot(s[shown], u[shown], color=colour, linewidth=1.3, label=f"_u at {name}")
    ax.plot([kappa], [0.0], "o", color=colour, markersize=4.5, label=f"_state at {name}")
    ax.set(xlim=(-2.35, 2.35), ylim=(u.min() - 0.05, u.min() + 0.32))
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("$s$", fontsize=SMALL, labelpad=1)
    ax.set_ylabel("$u$", fontsize=SMALL, labelpad=1)
    ax.annotate(name, (0.5, 0.97), xycoords="axes fraction", ha="center", va="top", fontsize=8, fontweight="bold", color=colour)


# ---- figure 2 ----


def shear_and_spectra(results: Results) -> _Drawn:
    """Stress-strain, <gamma_min>(N), <omega_min>(N) and D_L with its participation ratios."""
    analysis = results.analysis
    shown = analysis.settings.shown
    there = {
        "stress": not analysis.stress_strain.is_empty(),
        "gamma_min": not _minima(results, "gamma_min").is_empty(),
        "omega_min": not _minima(results, "omega_min").is_empty(),
        "density": any(s.density is not None for s in analysis.spectra),
    }
    rows = [name for name, known in there.items() if known]
    if not rows:
        raise MissingDataError("no realisation has been sheared or diagonalised yet")
    figure, axes = _grid(results, len(rows), 2.45)
    for column, preparation in enumerate(_columns(results)):
        for row, name in enumerate(rows):
            ax = axes[row][column]
            if name == "stress":
                _stress_panel(ax, results, preparation, inset=column == 0)
            elif name == "density":
                _density_panel(ax, results, preparation)
            else:
                if not _has(results, preparation, name):
                    _nothing(ax)
                    continue
                panels.mean_minima(ax, results, preparation, name, shown, estimated=False)
                _room_below(ax, 0.1 + 0.085 * len(ax.get_legend_handles_labels()[0]))
                panels.legend(ax, loc="lower left", fontsize=7)
    _share_y(axes)
    what = {
        "stress": "stress-strain curves of all sizes; the inset shows what <i>γ</i><sub>min</sub> is, on one realisation of the largest "
        "size (the one whose <i>γ</i><sub>min</sub> there is the median)",
        "gamma_min": "mean strain to the next instability against size",
        "omega_min": "mean frequency of the softest quasi-localised mode against size",
        "density": "density of quasi-localised modes of the largest size. Solid: the fits over the ranges that the green marks on the "
        "axis show; insets: participation ratios at the first strain and their threshold <i>e</i><sub>c</sub>",
    }
    return _Drawn(
        figure,
        Markup("{}. Bars: standard errors; brackets: {:g} % intervals.").format(
            _per_row(results, [what[name] for name in rows]), 100 * analysis.settings.confidence
        ),
    )


def _stress_panel(ax: Axes, results: Results, preparation: str, *, inset: bool) -> None:
    if results.analysis.stress_strain.filter(pl.col("preparation") == preparation).is_empty():
        _nothing(ax)
        return
    panels.stress_strain(ax, results, preparation)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.18 * (high - low))
    panels.legend(ax, loc="upper left", title="$N$ (realisations)", title_fontsize=7, fontsize=7, labelspacing=0.25)
    if inset:
        small = ax.inset_axes((0.60, 0.13, 0.38, 0.31))
        shown = results.settings.shown
        if not panels.single_run(small, results, preparation, shown[min(1, len(shown) - 1)]):
            small.remove()
            return
        _as_inset(small)


def _largest_spectra(analysis: Analysis, preparation: str, strains: Sequence[float]) -> list[Spectrum]:
    """The spectra of the largest size at these strains, those with modes in them."""
    found = [analysis.largest(preparation, strain) for strain in strains]
    return [spectrum for spectrum in found if spectrum is not None and spectrum.density is not None]


def _density_panel(ax: Axes, results: Results, preparation: str) -> None:
    analysis = results.analysis
    shown = analysis.settings.shown
    spectra = _largest_spectra(analysis, preparation, shown)
    if not spectra:
        _nothing(ax)
        return
    styles = panels.strain_styles(shown)
    for spectrum in spectra:
        assert spectrum.density is not None
        colour = styles[spectrum.strain]["color"]
        (estimate,) = analysis.find(
            method="spectrum", preparation=preparation, strain=spectrum.strain, n_particles=spectrum.n_particles
        )
        label = rf"$\gamma={spectrum.strain:g}$ ({spectrum.n_realisations})" + panels.in_words(estimate, r"\alpha")
        panels.spectrum_points(ax, spectrum.density, label, **styles[spectrum.strain])
        panels.fit_line(ax, estimate, spectrum, colour=colour, label=f"_fit, strain {spectrum.strain:g}")
    _guide_and_room(ax, spectra, above=0.38, below=0.44)
    _range_marks(ax, spectra)
    panels.legend(ax, loc="upper left", fontsize=7, title=f"$N={spectra[0].n_particles}$ (realisations)", title_fontsize=7)
    small = ax.inset_axes((0.62, 0.13, 0.36, 0.30))
    panels.participation(small, results, spectra[0])
    _as_inset(small)
    small.set(xlabel=r"$\omega$", ylabel="$e$")
    small.annotate(
        "$e_c$",
        (0.03, spectra[0].threshold),
        xycoords=("axes fraction", "data"),
        xytext=(0, -2),
        textcoords="offset points",
        fontsize=7,
        va="top",
    )


def _range_marks(ax: Axes, spectra: Sequence[Spectrum]) -> None:
    """Green marks at the ends of the fit ranges; one that starts at 0 does so where the axis begins."""
    for lower, upper in dict.fromkeys((s.window.lower, s.window.upper) for s in spectra):
        panels.axis_marks(ax, (lower, upper), GREEN, "fit range")


def _guide_and_room(ax: Axes, spectra: Sequence[Spectrum], *, above: float, below: float) -> None:
    """omega^4 above the data, and room for legend and inset in these shares of the axis above all data and below the stiff ones."""
    densities = [d for s in spectra for d in (s.density, s.softest) if d is not None]
    seen = [(x, y) for d in densities for x, y, n in zip(d.centres, d.density, d.counts, strict=True) if n]
    low, high = min(x for x, _ in seen), max(x for x, _ in seen)
    top = max(y for _, y in seen)
    stiff = min(
        y
        for s in spectra
        if (d := s.density) is not None
        for x, y in zip(d.centres, d.density, strict=True)
        if x > 0.6 * high and y
    )
    room = np.log(1.6 * top / (0.4 * stiff if below else 0.3 * min(y for _, y in seen))) / (1 - above - below)
    end = np.log(1.6 * top) + above * room
    begin = min(end - room, np.log(0.3 * min(y for _, y in seen)))
    ax.set(xlim=(low / 1.4, high * 1.5), ylim=(np.exp(begin), np.exp(end)))
    panels.power_guide(ax, 4, (0.5 * high, 0.7 * high), 1.8 * max((y for x, y in seen if x < 0.85 * high), default=top))
    panels.plain_numbers(ax.xaxis)


# ---- figure 3 ----


def exponents(results: Results) -> _Drawn:
    """Theta and alpha against strain, measured and predicted."""
    analysis = results.analysis
    if not any(
        e.exponent is not None and np.isfinite(e.exponent.value)
        for e in (*analysis.find(quantity="theta"), *analysis.find(quantity="alpha"))
    ):
        raise MissingDataError("there is no exponent yet, not even a weak one")
    figure, axes = _grid(results, 2, 2.5)
    for column, preparation in enumerate(_columns(results)):
        sizes = sorted(analysis.minima.filter(pl.col("preparation") == preparation)["n_particles"].unique())
        for ax, quantity, draw in ((axes[0][column], "theta", panels.thetas), (axes[1][column], "alpha", panels.alphas)):
            if any(e.exponent is not None for e in analysis.find(quantity=quantity, preparation=preparation)):
                draw(ax, results, preparation)
                panels.legend(ax, loc="upper right", title=f"$N={', '.join(map(str, sizes))}$", title_fontsize=SMALL)
            else:
                _nothing(ax)
    _share_x(axes)
    _limits_with_room(axes[0], panels.limits(analysis.find(quantity="theta"), *panels.THETA_RANGE), 0.36)
    _limits_with_room(axes[1], panels.limits(analysis.find(quantity="alpha"), *panels.ALPHA_RANGE), 0.42)
    caption = Markup(
        "({}) <i>θ</i> from finite-size scaling of ⟨<i>γ</i><sub>min</sub>⟩ against strain; dashed: 1/4. ({}) <i>α</i> from "
        "⟨<i>ω</i><sub>min</sub>⟩ (blue), from a direct fit of <i>D</i><sub>L</sub> at the largest size that carries one (red), and "
        "predicted from <i>θ</i> (green band). Bars and band: {:g} % intervals. Realisations at each size: {}."
    ).format(
        _letters(0, results),
        _letters(1, results),
        100 * analysis.settings.confidence,
        "; ".join(f"{name}: {panels.count_range(analysis, name)}" for name in _columns(results)),
    )
    return _Drawn(figure, caption)


# ---- figure 4 ----


@dataclass(frozen=True)
class _Event:
    """One event and the search for it.

    Args:
        preparation, detector, n_particles, realisation: whose it is.
        strain: at which it is.
        steps: trials that were made in ``window``, with the columns ``level`` (0, 1, 2: coarse, a tenth, a hundredth) and ``accepted``.
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


def rewinding(results: Results) -> _Drawn:
    """Q of the steps that were tried about one real event."""
    if "trials" not in results.tables:
        raise MissingDataError("no run wrote its trial steps; the setting 'trials' of the stage 'shear' does")
    found = [event for preparation in _columns(results) if (event := _most_refined(results, preparation)) is not None]
    if not found:
        raise MissingDataError("no instability with refined steps is among the trial steps")
    # One sketch of each detector tells it all.
    events = list({event.detector: event for event in reversed(found)}.values())[::-1]
    figure = Figure(figsize=(PANEL * (1.4 if len(events) == 1 else 2), 3.1), layout="constrained")
    axes = figure.subplots(1, len(events), squeeze=False)[0]
    for index, (ax, event) in enumerate(zip(axes, events, strict=True)):
        ax.set_label(LETTERS[index])
        ax.set_title(f"{event.preparation}, {event.detector}: $N={event.n_particles}$, 1 realisation", fontsize=8.5)
        _draw_trials(ax, event)
        letter(ax, LETTERS[index])
    caption = Markup(
        "The search for one instability: <i>Q</i> of every step that was tried, against strain; each bar spans its step. Cyan: steps of "
        "the coarse increment and longer ones; blue: about a tenth of it; red: a hundredth and less. Dashed: steps that were rewound; "
        "solid: those that stand. Above the upper line: steps that lost the basin and were undone before anything fell, which have no "
        "<i>Q</i>. {} Of all instabilities whose trial steps were written, with no other one nearby, this is the one with the most "
        "refinement levels, then with the most undone steps."
    ).format(
        " ".join(
            f"{event.detector}: {event.preparation}, N = {event.n_particles}, realisation {event.realisation}, instability at strain "
            f"{event.strain:.8f} (vertical line)."
            for event in events
        )
    )
    return _Drawn(figure, caption)


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
    panels.legend(
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
        small = ax.inset_axes((0.12, 0.36, 0.30, 0.25))
        _bars(small, event, known, places)
        reach = max(reach, spread)
        small.set(
            yscale="log", xlim=(-reach, reach), ylim=(low / 4, 3 * high), xlabel=rf"$(\gamma-\gamma_c)/{scale}$", ylabel="$Q$"
        )
        _as_inset(small)
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


# ---- figures 5 and 6: Appendix G ----


def softest(results: Results) -> _Drawn:
    """D_L beside the density of the softest modes, and P(gamma_min)."""
    analysis = results.analysis
    shown = analysis.settings.shown
    spectra = any(s.softest is not None for s in analysis.spectra if s.strain in shown)
    distributions = any(isinstance(e.fit, MinimaDistribution) for e in analysis.find(quantity="theta_prime"))
    rows = [name for name, there in (("spectra", spectra), ("gamma_min", distributions)) if there]
    if not rows:
        raise MissingDataError("there are neither softest modes nor strains to an instability")
    figure, axes = _grid(results, len(rows), 2.6)
    for column, preparation in enumerate(_columns(results)):
        for row, name in enumerate(rows):
            (_softest_modes if name == "spectra" else _gamma_min_distribution)(axes[row][column], results, preparation)
    _share_y(axes)
    what = {
        "spectra": "<i>D</i><sub>L</sub>(<i>ω</i>) (filled) and the density of the softest modes alone (open) of the largest size, both per "
        "3<i>N</i> modes. Green marks: fit range of <i>α</i>; marks in the colours of the strains: fit ranges of <i>α′</i>",
        "gamma_min": "distribution of the single <i>γ</i><sub>min</sub> of all sizes, each over its median; bars are counting errors, lines the fits",
    }
    return _Drawn(figure, Markup("{}. In brackets: realisations.").format(_per_row(results, [what[name] for name in rows])))


def _softest_modes(ax: Axes, results: Results, preparation: str) -> None:
    analysis = results.analysis
    shown = analysis.settings.shown
    spectra = _largest_spectra(analysis, preparation, shown)
    if not spectra:
        _nothing(ax)
        return
    styles = panels.strain_styles(shown)
    for spectrum in spectra:
        assert spectrum.density is not None
        style = styles[spectrum.strain]
        panels.spectrum_points(ax, spectrum.density, rf"$\gamma={spectrum.strain:g}$ ({spectrum.n_realisations})", **style)
        if spectrum.softest is not None:
            panels.spectrum_points(
                ax,
                spectrum.softest,
                f"_softest, strain {spectrum.strain:g}",
                **(style | {"markerfacecolor": "none", "alpha": 0.8}),
            )
    ax.plot([], [], "o", color=INK, markerfacecolor="none", markersize=4, label=r"softest: $D(\omega_\mathrm{min})$")
    _guide_and_room(ax, spectra, above=0.3, below=0.0)
    _range_marks(ax, spectra)
    for strain in shown:
        for estimate in analysis.find(quantity="alpha_prime", method="distribution", preparation=preparation, strain=strain):
            if isinstance(estimate.fit, MinimaDistribution) and spectra[0].n_particles in estimate.fit.sizes:
                median = estimate.fit.scales[estimate.fit.sizes.index(spectra[0].n_particles)]
                ends = [end * median for end in estimate.fit.window]
                panels.axis_marks(ax, ends, styles[strain]["color"], f"fit range of alpha', strain {strain:g}", row=1)
    ax.set_ylabel(r"$D_L(\omega)$, $D(\omega_\mathrm{min})$")
    panels.legend(ax, loc="upper left", fontsize=7, title=f"$N={spectra[0].n_particles}$ (realisations)", title_fontsize=7)


def _gamma_min_distribution(ax: Axes, results: Results, preparation: str) -> None:
    analysis = results.analysis
    detector = panels.detectors_of(analysis, preparation)[0]
    styles = panels.strain_styles(analysis.settings.shown)
    drawn = False
    for strain in analysis.settings.shown:
        for estimate in analysis.find(quantity="theta_prime", preparation=preparation, strain=strain, detector=detector):
            if not isinstance(estimate.fit, MinimaDistribution):
                continue
            known = set(map(id, ax.containers))
            shown = estimate.shown
            words = (
                rf": $\theta'={shown.value:.2f}$ $[{shown.low:.2f}, {shown.high:.2f}]$" if shown else r": $\theta'$ withheld"
            )
            estimate.fit.plot(
                ax,
                label=rf"$\gamma={strain:g}$ ({sum(estimate.fit.n_realisations)})" + words,
                fmt="",
                linestyle="",
                markersize=4,
                **styles[strain],
            )
            for container in ax.containers:
                if id(container) not in known:
                    mark(container, sum(estimate.fit.n_realisations))
            drawn = True
    if not drawn:
        _nothing(ax)
        return
    ax.set(xlabel=r"$\gamma_\mathrm{min}$ / median", ylabel=r"$P(\gamma_\mathrm{min}$ / median$)$")
    _room_below(ax, 0.3)
    panels.plain_numbers(ax.xaxis)
    panels.legend(ax, loc="lower left", fontsize=7, title="realisations in brackets", title_fontsize=7)


def primed(results: Results) -> _Drawn:
    """Theta' and alpha' against strain, alpha' measured and predicted from theta'."""
    analysis = results.analysis
    known = [e for name in ("theta_prime", "alpha_prime") for e in analysis.find(quantity=name) if e.exponent is not None]
    if not known:
        raise MissingDataError("there are too few minima at any strain for theta' or alpha' of App. G")
    figure, axes = _grid(results, 2, 2.3)
    for column, preparation in enumerate(_columns(results)):
        top, bottom = axes[0][column], axes[1][column]
        if not any(e.preparation == preparation for e in known):
            _nothing(top)
            _nothing(bottom)
            continue
        detector = panels.detectors_of(analysis, preparation)[0]
        theta = analysis.find(quantity="theta_prime", preparation=preparation, detector=detector)
        panels.exponent_points(top, theta, BLUE, "o", r"from $P(\gamma_\mathrm{min})$")
        panels.levels(top, 0.0)
        predicted = analysis.find(quantity="alpha_prime", method="prediction", preparation=preparation, detector=detector)
        panels.exponent_band(bottom, predicted, BLUE, r"$4\theta'+3$")
        measured = analysis.find(quantity="alpha_prime", method="distribution", preparation=preparation)
        panels.exponent_points(bottom, measured, RED, "s", r"measured, from $D(\omega_\mathrm{min})$")
        panels.levels(bottom, 3.0, 4.0)
        top.set(xlabel=r"strain $\gamma$", ylabel=r"$\theta'$")
        bottom.set(xlabel=r"strain $\gamma$", ylabel=r"$\alpha'$")
        for ax in (top, bottom):
            panels.legend(ax, loc="upper right")
    _share_x(axes)
    for row, name, inner, outer in ((0, "theta_prime", (-0.4, 0.8), (-0.95, 2.0)), (1, "alpha_prime", (2.0, 5.0), (0.0, 9.0))):
        _limits_with_room(axes[row], panels.limits(analysis.find(quantity=name), inner, outer), 0.3)
    caption = Markup(
        "({}) <i>θ′</i> of <i>P</i>(<i>γ</i><sub>min</sub>) ~ <i>γ</i><sub>min</sub><sup><i>θ′</i></sup> and ({}) <i>α′</i> of the softest "
        "modes against strain, the minima of all sizes over their medians together. Red: measured; blue band: 4<i>θ′</i> + 3. Bars and band: {:g} % intervals. "
        "Realisations: {}."
    ).format(
        _letters(0, results),
        _letters(1, results),
        100 * analysis.settings.confidence,
        "; ".join(
            f"{name}: {min(counts)}–{max(counts)}" if len(set(counts)) > 1 else f"{name}: {counts[0]}"
            for name in _columns(results)
            if (
                counts := [
                    sum(e.fit.n_realisations) for e in known if e.preparation == name and isinstance(e.fit, MinimaDistribution)
                ]
            )
        ),
    )
    return _Drawn(figure, caption)


# ---- figure 7 ----


def lower_ends(results: Results) -> _Drawn:
    """Alpha against the lower end of the window."""
    analysis = results.analysis
    shown = analysis.settings.shown
    scanned = [s for s in analysis.spectra if any(error < 1.0 for error in s.window.lower_scan.error)]
    if not scanned:
        raise MissingDataError("there are too few modes below the phonons to move the window's lower end")
    figure, axes = _grid(results, 1, 2.9)
    for column, preparation in enumerate(_columns(results)):
        ax = axes[0][column]
        drawn = False
        styles = panels.strain_styles(shown)
        for strain in shown:
            spectrum = analysis.spectrum_of(analysis.spectrum_estimate(preparation, strain))
            if spectrum is None or spectrum not in scanned:
                continue
            style = styles[strain]
            label = rf"$\gamma={strain:g}$, $N={spectrum.n_particles}$ ({spectrum.n_realisations})"
            panels.scan_curve(ax, spectrum.window.lower_scan, spectrum.window.lower_scan.lower, spectrum, label=label, **style)
            chosen = [
                alpha
                for lower, alpha in zip(spectrum.window.lower_scan.lower, spectrum.window.lower_scan.alpha, strict=True)
                if abs(lower - spectrum.window.lower) < 1e-9
            ]
            ax.plot(
                [spectrum.window.lower] * len(chosen),
                chosen,
                "o",
                color="#c1121f",
                markersize=9,
                markerfacecolor="none",
                markeredgewidth=1.4,
                label=f"_quoted, strain {strain:g}",
            )
            drawn = True
        if not drawn:
            _nothing(ax)
            continue
        panels.levels(ax, 3.0, 4.0)
        ax.set(xlabel=r"lower end of the window $\omega$", ylabel=r"$\alpha$", ylim=(1, 7.5))
        ax.plot(
            [],
            [],
            "o",
            color="#c1121f",
            markersize=8,
            markerfacecolor="none",
            markeredgewidth=1.4,
            label="the window that is quoted",
        )
        panels.legend(ax, loc="upper left", fontsize=7)
    _share_y(axes)
    caption = Markup(
        "<i>α</i> from the direct fit of <i>D</i><sub>L</sub> when the lower end of its window moves and the upper one stays, with its "
        "standard error (band); realisations in brackets. Neighbouring points share modes. Red rings: the windows of figure 3. Windows "
        "whose error exceeds 1 are left out."
    )
    return _Drawn(figure, caption)


# ---- figure 8 ----


def steady_state(results: Results) -> _Drawn:
    """Theta and D_L at large strains of the rapid quench."""
    analysis = results.analysis
    preparation = _rapid(results)
    steady = analysis.settings.steady
    if preparation is None or steady is None:
        raise MissingDataError("the analysis has no strain in a steady state")
    first, last = steady
    strains = [strain for strain in analysis.settings.strains if first - STRAIN_TOLERANCE <= strain <= last + STRAIN_TOLERANCE]
    thetas = [
        e for e in analysis.find(quantity="theta", preparation=preparation) if e.strain in strains and e.exponent is not None
    ]
    pooled = analysis.pooled(preparation)
    spectra = _largest_spectra(analysis, preparation, strains)
    if not spectra and not any(e.exponent for e in (*thetas, *pooled)):
        raise MissingDataError(
            f"nothing was measured at strains from {first:.3g} to {last:.3g} of the preparation {preparation}"
        )
    figure = Figure(figsize=(2 * PANEL, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    detector = panels.detectors_of(analysis, preparation)[0]
    own = [e for e in thetas if e.detector == detector]
    panels.exponent_points(left, own, BLUE, "o", "at one strain")
    for estimate in pooled:
        if estimate.quantity == "theta" and estimate.detector == detector and estimate.exponent is not None:
            exponent = estimate.exponent
            weak = estimate.status == "withheld"
            (line,) = left.plot(
                [first, last],
                [exponent.value] * 2,
                color=RED,
                linestyle=":" if weak else "-",
                label="pooled" + panels.in_words(estimate, r"\theta"),
            )
            low, high = np.clip([exponent.low, exponent.high], -99, 99)
            band = left.fill_between([first, last], low, high, color=RED, alpha=0.15, linewidth=0, label="_pooled, interval")
            mark(line, panels.realisations_of(estimate))
            mark(band, panels.realisations_of(estimate))
    panels.levels(left, 0.25)
    margin = 0.08 * (last - first)
    shown = [e for e in (*own, *pooled) if e.quantity == "theta" and e.detector == detector]
    left.set(
        xlabel=r"strain $\gamma$",
        ylabel=r"$\theta$",
        xlim=(first - margin, last + margin),
        ylim=panels.limits(shown, *panels.THETA_RANGE),
    )
    left.set_title(f"{preparation}, {panels.count_range(analysis, preparation, 'gamma_min')}")
    panels.legend(left, loc="best")
    if spectra:
        _steady_spectra(right, spectra, pooled)
    else:
        _nothing(right)
    for index, ax in enumerate((left, right)):
        ax.set_label(LETTERS[index])
        letter(ax, LETTERS[index])
    caption = Markup(
        "Steady state of the preparation {}. (a) <i>θ</i> from finite-size scaling at large strains, and pooled over strains {:.3g} to "
        "{:.3g} ({}): each realisation enters once, with its mean over these strains. (b) Density of quasi-localised modes at the same "
        "strains, filtered at <i>e</i><sub>c</sub>; green marks: fit range. Realisations in brackets."
    ).format(
        preparation,
        first,
        last,
        "the protocol's choice" if analysis.settings.steady_from is not None else "the last third of the range",
    )
    return _Drawn(figure, caption)


def _steady_spectra(ax: Axes, spectra: Sequence[Spectrum], pooled: Sequence[Estimate]) -> None:
    styles = panels.strain_styles([s.strain for s in spectra])
    for spectrum in spectra:
        assert spectrum.density is not None
        panels.spectrum_points(
            ax, spectrum.density, rf"$\gamma={spectrum.strain:g}$ ({spectrum.n_realisations})", **styles[spectrum.strain]
        )
    _guide_and_room(ax, spectra, above=0.25, below=0.0)
    _range_marks(ax, spectra)
    words = [panels.in_words(e, r"\alpha") for e in pooled if e.quantity == "alpha" and e.method == "spectrum"]
    title = f"$N={spectra[0].n_particles}$" + (f", pooled{words[0]}" if words else "")
    panels.legend(ax, loc="upper left", fontsize=7, title=title, title_fontsize=7, alignment="left")


def _rapid(results: Results) -> str | None:
    """The preparation that is quenched rapidly, the first one where none is."""
    names = results.preparations
    for name in names:
        settings = results.run_of(name).preparations[name]
        if isinstance(settings, dict) and settings.get("quench") == "rapid":
            return name
    return names[0] if names else None


# ---- shared pieces ----


def _columns(results: Results) -> tuple[str, ...]:
    return results.preparations[:MAX_COLUMNS]


def _grid(results: Results, rows: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a column per preparation, letters row by row and the names on top."""
    names = _columns(results)
    width = PANEL * (1.25 if len(names) == 1 else len(names) if len(names) < 3 else 0.8 * len(names))
    figure = Figure(figsize=(width, 0.25 + height * rows), layout="constrained")
    axes = figure.subplots(rows, len(names), squeeze=False).tolist()
    for row, line in enumerate(axes):
        for column, ax in enumerate(line):
            name = LETTERS[row * len(names) + column]
            ax.set_label(name)
            letter(ax, name)
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(_title(results, name))
    return figure, axes


def _title(results: Results, preparation: str) -> str:
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
    break_or_space = "\n" if len(_columns(results)) > 2 else " "
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


def _letters(row: int, results: Results) -> str:
    n = len(_columns(results))
    return ", ".join(LETTERS[row * n : (row + 1) * n])


def _per_row(results: Results, texts: Sequence[str]) -> Markup:
    """What each row of panels shows; the texts are HTML of our own."""
    return Markup("; ").join(
        Markup("({}) {}").format(_letters(row, results), Markup(text))  # noqa: S704 our own text
        for row, text in enumerate(texts)
    )


def _share_y(axes: Sequence[Sequence[Axes]]) -> None:
    """The same range in all panels of a row that show something, so that the preparations can be compared."""
    for line in axes:
        shown = [ax for ax in line if ax.axison and ax.has_data()]
        if len(shown) > 1:
            low, high = (
                pick(ends) for pick, ends in zip((min, max), zip(*(ax.get_ylim() for ax in shown), strict=True), strict=True)
            )
            for ax in shown:
                ax.set_ylim(low, high)


def _share_x(axes: Sequence[Sequence[Axes]]) -> None:
    """One range of strain for all panels that show something."""
    shown = [ax for line in axes for ax in line if ax.axison and ax.has_data()]
    if shown:
        low, high = min(ax.get_xlim()[0] for ax in shown), max(ax.get_xlim()[1] for ax in shown)
        for ax in shown:
            ax.set_xlim(low, high)


def _limits_with_room(line: Sequence[Axes], limits: tuple[float, float], share: float) -> None:
    """These limits for the y axes of a row, with room on top for a legend, into which no error bar reaches."""
    for ax in line:
        ax.set_ylim(limits[0], limits[1] + share * (limits[1] - limits[0]))
        for artist in (*ax.lines, *ax.collections):
            artist.set_clip_path(Rectangle((0, 0), 1, 1 / (1 + share), transform=ax.transAxes))


def _nothing(ax: Axes) -> None:
    """Say in place of a panel that there is nothing to show yet."""
    ax.set_axis_off()
    ax.annotate("no data yet", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=GUIDE)


def _as_inset(ax: Axes) -> None:
    if ax.get_xscale() == "linear":
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
    ax.tick_params(labelsize=6, length=2, pad=1.5)
    ax.xaxis.label.set_fontsize(7)
    ax.yaxis.label.set_fontsize(7)
    ax.xaxis.labelpad = 0.5
    ax.yaxis.labelpad = 0.5
    ax.patch.set_alpha(0.0)


def _minima(results: Results, quantity: str) -> pl.DataFrame:
    return results.analysis.minima.filter(pl.col("quantity") == quantity, pl.col("strain").is_in(list(results.settings.shown)))


def _has(results: Results, preparation: str, quantity: str) -> bool:
    return preparation in _minima(results, quantity)["preparation"]


def _room_below(ax: Axes, share: float) -> None:
    """Lower the end of a logarithmic y axis, so that the legend has this share of it."""
    if ax.has_data():
        low, high = ax.get_ylim()
        ax.set_ylim(bottom=low * (low / high) ** (share / (1 - share)))
        panels.plain_numbers(ax.yaxis)
