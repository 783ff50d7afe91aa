"""The paper's figures, from an ensemble of any size. Every one says how many realisations it rests on.

Figures are made without pyplot, so that making a report leaves the user's own figures and backend alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from qlm_hoomd.report.analysis import Analysis, Estimate, Spectrum
from qlm_hoomd.report.results import Results
from qlm_hoomd.stages import replacing
from qlm_hoomd.statistics import FiniteSizeScaling, SpectrumFit

# Okabe and Ito: told apart by all kinds of colour vision, legible on white and on black; the markers repeat the message.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#9A8F3C", "#8C6BB1")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
INK = "#1d1f24"  # of text and axes; becomes the page's own text colour in the report
GUIDE = "#8a8f98"
PANEL = 3.35  # width of a panel [inch], one journal column
HEIGHT = 2.75
PIXELS_PER_INCH = 128  # of a figure in the page; its text is then as large as the page's small print
MAX_POINTS = 20_000  # of a scatter plot; more are thinned
_MAX_BANDS = 12  # of plane waves that are drawn; beyond, they only make the picture grey

_STYLE: dict[Any, Any] = {
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
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}


def save(figure: Figure, name: str, directory: Path, alternative: str) -> str:
    """Write ``figure`` as NAME.pdf and NAME.png to ``directory``.

    Args:
        figure: what to write.
        name: of the files.
        directory: where they go.
        alternative: what a screen reader says instead of the figure.

    Returns:
        The figure as an SVG element to put into a page: no background, text and axes in the page's text colour.
    """
    directory.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    # A salt of its own keeps the ids of several figures in one page apart, and every run writes the same bytes.
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        # Lay out once, not for each of the three formats.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for suffix, metadata in ((".png", None), (".pdf", {"CreationDate": None})):
            with replacing(directory / f"{name}{suffix}") as temporary:
                figure.savefig(temporary, format=suffix[1:], dpi=300, metadata=metadata, facecolor="white")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", dpi=200, transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL).replace(INK, "currentColor")
    svg = re.sub(r' width="[0-9.]+pt" height="[0-9.]+pt"', "", svg, count=1)
    width = round(figure.get_figwidth() * PIXELS_PER_INCH)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alternative)}" style="width:{width}px" ', 1)


def stress_strain(results: Results) -> Figure | None:
    """Mean stress against strain, a panel per preparation, a curve per size (Fig. 2a, b)."""
    curves = results.analysis.stress_strain
    if curves.is_empty():
        return None

    def draw(ax: Axes, preparation: str) -> None:
        for style, (size, curve) in _styled(results, curves.filter(pl.col("preparation") == preparation)):
            n = curve["n_realisations"][0]
            strain, stress, error = (curve[name].to_numpy() for name in ("strain", "stress_xy", "standard_error"))
            ax.plot(strain, stress, color=style["color"], label=f"$N={size}$ ({n})")
            ax.fill_between(strain, stress - error, stress + error, color=style["color"], alpha=0.25, linewidth=0)
        ax.set(xlabel=r"strain $\gamma$", ylabel=r"stress $\langle\Sigma\rangle$", xlim=(0, None))
        ax.legend(title="size (realisations)", title_fontsize=8)

    return _panels(results, draw, sharey=True)


def minima(results: Results, quantity: str) -> Figure | None:
    """Mean gamma_min or omega_min against the system size with the fitted power laws (Fig. 2c to f)."""
    analysis = results.analysis
    rows = analysis.minima.filter(pl.col("quantity") == quantity)
    if rows.is_empty():
        return None
    symbol = r"\gamma" if quantity == "gamma_min" else r"\omega"
    exponent = r"\theta" if quantity == "gamma_min" else r"\alpha"

    def draw(ax: Axes, preparation: str) -> None:
        own = rows.filter(pl.col("preparation") == preparation)
        several = own["detector"].n_unique() > 1
        for index, ((strain, detector), part) in enumerate(own.group_by("strain", "detector", maintain_order=True)):
            style: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
            estimate = _one(analysis.find(method=quantity, preparation=preparation, strain=strain, detector=detector))
            label = rf"$\gamma={strain:g}$" + (f", {detector}" if several else "")
            if estimate is not None and isinstance(estimate.fit, FiniteSizeScaling):
                n_curve = np.geomspace(*estimate.fit.exponent.window or (1.0, 1.0), 32)
                ax.plot(n_curve, estimate.fit.curve(n_curve), color=style["color"], linestyle=":" if estimate.refusal else "-")
                label += _in_words(estimate, exponent)
            mean, error = part["mean"].to_numpy(), part["standard_error"].fill_nan(0).to_numpy()
            ax.errorbar(part["n_particles"].to_numpy(), mean, yerr=error, linestyle="", label=label, **style)
        counts = own.group_by("n_particles", maintain_order=True).agg(pl.col("n_realisations").max()).sort("n_particles")
        ax.set(
            xscale="log",
            yscale="log",
            xlabel=r"number of particles $N$ (realisations)",
            ylabel=rf"$\langle{symbol}_\mathrm{{min}}\rangle$",
        )
        _size_axis(ax, dict(zip(counts["n_particles"], counts["n_realisations"], strict=True)))
        _plain_numbers(ax.yaxis)
        _legend_below(ax, 0.62)

    return _panels(results, draw, only=rows["preparation"].unique().to_list(), height=3.3)


def participation(results: Results) -> Figure | None:
    """Participation ratio against frequency with the threshold e_c, for the largest size (insets of Fig. 2g, h)."""
    chosen = _largest(results.analysis, results.analysis.settings.strains)
    if not chosen:
        return None
    modes = results.tables["modes"]

    def draw(ax: Axes, preparation: str) -> None:
        spectrum = next(s for s in chosen if s.preparation == preparation)
        own = modes.filter(
            (pl.col("preparation") == preparation)
            & (pl.col("n_particles") == spectrum.n_particles)
            & ((pl.col("strain") - spectrum.strain).abs() < 1e-6)
        )
        own = own.gather_every(max(1, own.height // MAX_POINTS))
        omega, e = own["frequency"].to_numpy(), own["participation_ratio"].to_numpy()
        local = e < spectrum.threshold
        for mask, colour, label in ((local, COLOURS[0], "quasi-localised"), (~local, COLOURS[4], "extended")):
            ax.plot(omega[mask], e[mask], ".", color=colour, markersize=2.5, alpha=0.7, label=label, rasterized=True)
        ax.axhline(spectrum.threshold, color=INK, linewidth=0.9)
        ax.annotate(
            f"$e_c={spectrum.threshold:.3g}$",
            (0.02, spectrum.threshold),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8,
        )
        _phonon_line(ax, spectrum, "first phonon")
        if spectrum.plane_waves is not None:
            for band in spectrum.plane_waves.bands(float(omega.max()), spectrum.strain)[1:_MAX_BANDS]:
                ax.axvline(
                    band.frequency, color=COLOURS[3], linewidth=0.4, alpha=0.6, linestyle="-" if band.transverse else "--"
                )
        ax.set(xlabel=r"frequency $\omega$", ylabel="participation ratio $e$", yscale="log")
        ax.set_title(_title(spectrum))
        ax.set_ylim(e.min() / 5, 1.0)  # room for the legend
        _plain_numbers(ax.yaxis)
        ax.legend(loc="lower center", markerscale=3, ncols=3, columnspacing=0.8, handletextpad=0.3, fontsize=7)

    return _panels(results, draw, only=[s.preparation for s in chosen], titles=False)


def density(results: Results) -> Figure | None:
    """D_L(omega), its fit, omega^4 and the Debye level (Fig. 2g, h): a series per strain, or per size at one strain."""
    analysis = results.analysis
    strains = analysis.settings.strains
    spectra = [s for s in analysis.spectra if s.density is not None]
    if len(strains) > 1:
        spectra = [s for strain in strains for s in _largest(analysis, [strain]) if s.density is not None]
    if not spectra:
        return None

    def draw(ax: Axes, preparation: str) -> None:
        own = [s for s in spectra if s.preparation == preparation]
        for index, spectrum in enumerate(own):
            if spectrum.density is None:
                continue
            label = (
                rf"$\gamma={spectrum.strain:g}$, $N={spectrum.n_particles}$"
                if len(strains) > 1
                else f"$N={spectrum.n_particles}$"
            )
            spectrum.density.plot(
                ax,
                fmt="",
                linestyle="",
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                markersize=4,
                label=f"{label} ({spectrum.n_realisations})",
            )
        quoted = analysis.spectrum_estimate(preparation, own[0].strain)
        main = next((s for s in own if s.n_particles == quoted.n_particles and s.strain == quoted.strain), own[-1])
        _fit_line(ax, quoted, main)
        if main.excess is not None:
            main.excess.plot(ax, fmt="", linestyle="", marker="x", markersize=4, color=INK, label=r"$D_G=D-D_\mathrm{Debye}$")
        # The Debye level of the fitted size: what the removed phonons would have, were they a continuum.
        ax.axvspan(ax.get_xlim()[0], main.omega_max, color=GUIDE, alpha=0.12, linewidth=0)
        if main.plane_waves is not None:
            omega = np.array([min(s.density.centres[0] for s in own if s.density), max(s.omega_complete for s in own)])
            ax.plot(omega, main.plane_waves.debye_density(omega), color=GUIDE, linestyle="--", linewidth=1, label="Debye level")
        _phonon_line(ax, main)
        _plain_numbers(ax.xaxis)
        _legend_below(ax, 0.45)

    return _panels(results, draw, only=[s.preparation for s in spectra], sharey=True, height=3.9)


def joint(results: Results, name: str) -> Figure | None:
    """P(lambda, kappa) of the table ``modes`` or ``qlms`` at the first strain of the analysis, all sizes together."""
    # Numba comes with it, which no other part of a report needs.
    from qlm_hoomd.anharmonic import JointDistribution

    table = results.tables.get(name)
    if table is None or "kappa_theory" not in table.columns:
        return None
    strain = results.settings.strains[0]
    own = table.filter((pl.col("strain") - strain).abs() < 1e-6, pl.col("kappa_theory").is_not_null(), pl.col("frequency") > 0)
    if own.is_empty():
        return None

    def draw(ax: Axes, preparation: str) -> None:
        part = own.filter(pl.col("preparation") == preparation)
        JointDistribution().compute(part).plot(ax)
        ax.set_title(f"{preparation}, $\\gamma={strain:g}$: {ax.get_title()}", fontsize=7.5)
        ax.legend(loc="lower left", fontsize=6.5)

    return _panels(results, draw, only=own["preparation"].unique().to_list(), titles=False, height=3.3)


def windows(results: Results) -> Figure | None:
    """Alpha against the ends of its window (App. H), for the spectrum that the report quotes."""
    analysis = results.analysis
    strain = analysis.settings.strains[0]
    chosen = {s.preparation: s for s in _largest(analysis, [strain])}
    for preparation in chosen:
        quoted = analysis.spectrum_estimate(preparation, strain)
        chosen[preparation] = next(
            s for s in analysis.spectra if (s.preparation, s.strain, s.n_particles) == (preparation, strain, quoted.n_particles)
        )
    chosen = {name: s for name, s in chosen.items() if s.upper_scan.alpha}
    if not chosen:
        return None

    def draw(ax: Axes, preparation: str) -> None:
        spectrum = chosen[preparation]
        for scan, ends, style, label in (
            (spectrum.upper_scan, spectrum.upper_scan.upper, 0, r"upper end moved, lower end 0"),
            (spectrum.lower_scan, spectrum.lower_scan.lower, 1, rf"lower end moved, upper end {spectrum.omega_max:.2f}"),
        ):
            if not scan.alpha:
                continue
            alpha, error = np.array(scan.alpha), np.array(scan.error)
            known = error < 1.0
            x, alpha, error = np.array(ends)[known], alpha[known], error[known]
            ax.plot(x, alpha, color=COLOURS[style], marker=MARKERS[style], markersize=3, label=label)
            ax.fill_between(x, alpha - error, alpha + error, color=COLOURS[style], alpha=0.2, linewidth=0)
        ax.axhline(4, color=GUIDE, linewidth=0.8, linestyle=":")
        ax.axhline(3, color=GUIDE, linewidth=0.8, linestyle=":")
        ax.axvline(spectrum.omega_max, color=GUIDE, linewidth=0.8, linestyle="--")
        ax.set(xlabel=r"end of the window $\omega$", ylabel=r"$\alpha$", ylim=(1, 7))
        ax.set_title(_title(spectrum))
        ax.legend(loc="upper right", fontsize=7.5)

    return _panels(results, draw, only=list(chosen), titles=False)


def exponents(results: Results) -> Figure | None:
    """Theta and alpha: measured two ways, beside the prediction (Fig. 3). Withheld numbers are grey and open.

    Against strain where there are three strains or more, else one line per preparation and strain.
    """
    analysis = results.analysis
    known = [name for name in results.preparations if any(e.exponent for e in analysis.find(preparation=name))]
    if not known:
        return None
    with mpl.rc_context(_STYLE):
        return _against_strain(analysis, known) if len(analysis.settings.strains) > 2 else _side_by_side(analysis, known)


def _against_strain(analysis: Analysis, preparations: Sequence[str]) -> Figure:
    figure = Figure(figsize=(PANEL * max(len(preparations), 1.25), 5.0), layout="constrained")
    axes = figure.subplots(2, len(preparations), sharex=True, sharey="row", squeeze=False)
    step = min(np.diff(analysis.settings.strains))
    for column, preparation in enumerate(preparations):
        top, bottom = axes[:, column]
        top.set_title(f"{preparation}, {_realisations(analysis, preparation)}")
        for ax, rows in zip((top, bottom), _rows(analysis, preparation, analysis.settings.strains), strict=True):
            for index, (label, style, estimates) in enumerate(rows):
                for weak in (False, True):
                    chosen = [e for e in estimates if e.exponent is not None and (e.shown is None) is weak]
                    x = [e.strain + (index - 0.5 * (len(rows) - 1)) * 0.1 * step for e in chosen]
                    _points(ax, chosen, x, "y", style, weak=weak, label=None if weak else label, linestyle="" if weak else "-")
        bottom.set_xlabel(r"strain $\gamma$")
        bottom.legend(fontsize=7.5)
    for ax in axes[0]:
        ax.axhline(0.25, color=GUIDE, linewidth=0.8, linestyle="--")
    for ax in axes[1]:
        ax.axhline(3, color=GUIDE, linewidth=0.8, linestyle=":")
        ax.axhline(4, color=GUIDE, linewidth=0.8, linestyle=":")
    axes[0, 0].set(ylabel=r"$\theta$", ylim=_limits(analysis, "theta"))
    axes[1, 0].set(ylabel=r"$\alpha$", ylim=_limits(analysis, "alpha"))
    return figure


def _side_by_side(analysis: Analysis, preparations: Sequence[str]) -> Figure:
    ensembles = [(preparation, strain) for preparation in preparations for strain in analysis.settings.strains]
    lines = [dict(zip(("theta", "alpha"), _rows(analysis, name, [strain]), strict=True)) for name, strain in ensembles]
    quantities = [quantity for quantity in ("theta", "alpha") if any(e.exponent for e in analysis.find(quantity=quantity))]
    heights = [max(len(rows) for rows in line.values()) for line in lines]
    starts = np.concatenate([[0.0], np.cumsum(np.array(heights) + 0.7)])
    figure = Figure(figsize=(PANEL * (0.6 + 0.8 * len(quantities)), 0.8 + 0.26 * starts[-1]), layout="constrained")
    axes = figure.subplots(1, len(quantities), squeeze=False)[0]
    for ax, quantity in zip(axes, quantities, strict=True):
        names = {}
        for line, start, height in zip(lines, starts, heights, strict=False):
            rows = line[quantity]
            for index, (label, style, estimates) in enumerate(rows):
                place = start + 0.5 * (height - len(rows)) + index
                names[place] = label
                for estimate in estimates:
                    _points(ax, [estimate], [place], "x", style, weak=estimate.shown is None, label=None, linestyle="")
        ax.yaxis.tick_right()
        ax.set_yticks(list(names), list(names.values()))
        ax.tick_params(axis="y", length=0)
        for level in (0.25,) if quantity == "theta" else (3, 4):
            ax.axvline(level, color=GUIDE, linewidth=0.8, linestyle="--" if quantity == "theta" else ":")
        ax.set(xlabel=rf"$\{quantity}$", xlim=_limits(analysis, quantity), ylim=(starts[-1] - 1.0, -0.7))
    for (preparation, strain), start, height in zip(ensembles, starts, heights, strict=False):
        middle = (-0.03, start + 0.5 * (height - 1))
        name = f"{preparation}\n$\\gamma={strain:g}$\n{_realisations(analysis, preparation)}"
        axes[0].annotate(name, middle, xycoords=("axes fraction", "data"), ha="right", va="center", annotation_clip=False)
    return figure


def _rows(
    analysis: Analysis, preparation: str, strains: Sequence[float]
) -> tuple[list[tuple[str, int, list[Estimate]]], list[tuple[str, int, list[Estimate]]]]:
    """(label, style, estimates) of the measurements of theta, and of prediction and measurements of alpha."""
    detectors = list(dict.fromkeys(e.detector for e in analysis.find(method="gamma_min", preparation=preparation)))

    def at_strains(method: str, **fields: Any) -> list[Estimate]:
        return [e for e in analysis.find(method=method, preparation=preparation, **fields) if e.strain in strains]

    several = len(detectors) > 1
    thetas = [
        (str(detector) if several else "", k, at_strains("gamma_min", detector=detector))
        for k, detector in enumerate(detectors)
    ]
    alphas = [
        (
            r"predicted from $\theta$" + (f" ({detector})" if several else ""),
            2 + 2 * k,
            at_strains("prediction", detector=detector),
        )
        for k, detector in enumerate(detectors)
    ]
    alphas.append((r"from $\langle\omega_\mathrm{min}\rangle$", 0, at_strains("omega_min")))
    alphas.append((r"from $D_L(\omega)$", 1, [analysis.spectrum_estimate(preparation, strain) for strain in strains]))
    return thetas, alphas


def _points(
    ax: Axes,
    estimates: Sequence[Estimate],
    places: Sequence[float],
    axis: str,
    style: int,
    *,
    weak: bool,
    label: str | None,
    linestyle: str,
) -> None:
    """Exponents with their intervals, laid out along x (``axis`` = "y" carries the value) or along y."""
    finite = [
        (e.exponent, place) for e, place in zip(estimates, places, strict=True) if e.exponent and np.isfinite(e.exponent.value)
    ]
    if not finite:
        return
    value = np.array([exponent.value for exponent, _ in finite])
    # Ends at infinity are drawn far beyond the axis.
    low, high = (np.clip([getattr(exponent, end) for exponent, _ in finite], -99, 99) for end in ("low", "high"))
    at = np.array([place for _, place in finite])
    look: dict[str, Any] = {
        "color": GUIDE if weak else COLOURS[style % len(COLOURS)],
        "marker": MARKERS[style % len(MARKERS)],
        "linestyle": linestyle,
        "label": label,
        "markerfacecolor": "none" if weak else None,
    }
    if axis == "y":
        ax.errorbar(at, value, yerr=(value - low, high - value), **look)
    else:
        ax.errorbar(value, at, xerr=(value - low, high - value), **look)


def _realisations(analysis: Analysis, preparation: str) -> str:
    """How many realisations there are at each size, in words."""
    counts = analysis.minima.filter(pl.col("preparation") == preparation)["n_realisations"]
    least, most = min(counts, default=0), max(counts, default=0)
    return f"{least if least == most else f'{least}–{most}'} realisations"


def _limits(analysis: Analysis, quantity: str) -> tuple[float, float]:
    """Range of an axis: the theory's values and what was measured, within reason."""
    inner, outer = ((0.0, 0.6), (-0.6, 2.0)) if quantity == "theta" else ((2.8, 4.4), (0.5, 8.0))
    ends = [
        end
        for e in analysis.find(quantity=quantity)
        if e.exponent
        for end in (e.exponent.low, e.exponent.high, e.exponent.value)
    ]
    low, high = min([inner[0], *ends]), max([inner[1], *ends])
    margin = 0.06 * (min(high, outer[1]) - max(low, outer[0]))
    return max(low - margin, outer[0]), min(high + margin, outer[1])


def structure(results: Results) -> Figure | None:
    """Mean g(r) and S(q) of the largest size, a curve per preparation."""
    functions = results.tables.get("structure_functions")
    if functions is None:
        return None
    size = max(functions["n_particles"])
    functions = functions.filter(pl.col("n_particles") == size)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(2 * PANEL, HEIGHT), layout="constrained")
        left, right = figure.subplots(1, 2)
        for ax, kind in ((left, "rdf"), (right, "sq")):
            for index, preparation in enumerate(results.preparations):
                own = functions.filter((pl.col("preparation") == preparation) & (pl.col("kind") == kind))
                if own.is_empty():
                    continue
                # Bins of S(q) sit at the mean wavenumber in them, equal for equal boxes up to rounding.
                mean = own.with_columns(pl.col("x").round(9)).group_by("x").agg(pl.col("y").mean()).sort("x")
                label = f"{preparation} ({own['realisation'].n_unique()})"
                ax.plot(
                    mean["x"].to_numpy(), mean["y"].to_numpy(), color=COLOURS[index % len(COLOURS)], linewidth=1, label=label
                )
            ax.legend(title=f"$N={size}$ (realisations)", title_fontsize=8)
        left.set(xlabel="distance $r$", ylabel="$g(r)$", xlim=(0.5, None))
        right.set(xlabel="wavenumber $q$", ylabel="$S(q)$", xlim=(0, None))
    return figure


# ---- shared pieces ----


def _panels(
    results: Results,
    draw: Callable[[Axes, str], None],
    *,
    only: Sequence[str] | None = None,
    sharey: bool = False,
    titles: bool = True,
    height: float = HEIGHT,
) -> Figure:
    """A figure with a panel per preparation, each made by ``draw``."""
    names = [name for name in results.preparations if only is None or name in only]
    with mpl.rc_context(_STYLE):
        width = PANEL * (1.1 if len(names) == 1 else min(len(names), 3))
        rows = -(-len(names) // 3)
        figure = Figure(figsize=(width, height * rows * (1.1 if len(names) == 1 else 1)), layout="constrained")
        axes = figure.subplots(rows, min(len(names), 3), sharey=sharey, squeeze=False).ravel()
        for ax, name in zip(axes, names, strict=False):
            draw(ax, name)
            if titles:
                ax.set_title(name)
        for ax in axes[len(names) :]:
            ax.remove()
    return figure


def _styled(results: Results, table: pl.DataFrame) -> list[tuple[dict[str, str], tuple[int, pl.DataFrame]]]:
    """The parts of ``table`` by size, each with the colour and marker that this size has everywhere."""
    order = list(results.sizes)
    found = []
    for (size,), part in table.sort("n_particles").group_by("n_particles", maintain_order=True):
        index = order.index(int(size)) if int(size) in order else len(order)
        found.append(({"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}, (int(size), part)))
    return found


def _largest(analysis: Analysis, strains: Sequence[float]) -> list[Spectrum]:
    """For each preparation the spectrum of its largest size at the first of ``strains`` that has one."""
    best: dict[str, Spectrum] = {}
    for spectrum in analysis.spectra:
        if spectrum.strain in strains:
            held = best.get(spectrum.preparation)
            if held is None or (strains.index(spectrum.strain), -spectrum.n_particles) < (
                strains.index(held.strain),
                -held.n_particles,
            ):
                best[spectrum.preparation] = spectrum
    return list(best.values())


def _one(estimates: Sequence[Estimate]) -> Estimate | None:
    return estimates[0] if estimates else None


def _in_words(estimate: Estimate, symbol: str) -> str:
    shown = estimate.shown
    return rf": ${symbol}={shown.value:.2f}$ $[{shown.low:.2f}, {shown.high:.2f}]$" if shown else f": ${symbol}$ withheld"


def _title(spectrum: Spectrum) -> str:
    return f"{spectrum.preparation}, $N={spectrum.n_particles}$, $\\gamma={spectrum.strain:g}$, {spectrum.n_realisations} realisations"


def _fit_line(ax: Axes, quoted: Estimate, spectrum: Spectrum) -> None:
    """The fitted power law, normalised to the modes in the window, and omega^4 a little below it."""
    if spectrum.density is None or quoted.exponent is None or quoted.exponent.value <= -1:
        return
    edges = np.array(spectrum.density.edges)
    top = spectrum.omega_max
    alpha = quoted.exponent.value
    n_modes = quoted.fit.n_modes if isinstance(quoted.fit, SpectrumFit) else 0
    level = n_modes * (1 + alpha) / (3.0 * spectrum.n_particles * spectrum.n_realisations * top)
    omega = np.array([min(edges[0], 0.5 * top), top])
    label = "fit" + _in_words(quoted, r"\alpha").replace(":", ",", 1)
    ax.plot(
        omega, level * (omega / top) ** alpha, color=INK, linestyle=":" if quoted.refusal else "-", linewidth=1.1, label=label
    )
    ax.plot(omega, 0.3 * level * (omega / top) ** 4, color=GUIDE, linewidth=1, label=r"$\omega^4$")


def _phonon_line(ax: Axes, spectrum: Spectrum, label: str | None = None) -> None:
    if spectrum.plane_waves is None:
        return
    first = spectrum.plane_waves.first_frequency
    if first > 1.5 * spectrum.omega_complete:
        return
    ax.axvline(first, color=COLOURS[3], linewidth=1, linestyle="-.", label=label)


def _size_axis(ax: Axes, counts: dict[int, int]) -> None:
    ax.set_xticks(list(counts), [f"{size}\n({n})" for size, n in counts.items()])
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    if len(counts) == 1:
        only = next(iter(counts))
        ax.set_xlim(only / 2, only * 2)


def _legend_below(ax: Axes, inches: float) -> None:
    """A legend that far below the axes, where no datum can hide behind it."""
    below = ax.transAxes + ScaledTranslation(0.0, -inches, ax.figure.dpi_scale_trans)
    ax.legend(loc="upper left", bbox_to_anchor=(0.0, 0.0), bbox_transform=below, borderaxespad=0.0, fontsize=7.5)


def _plain_numbers(axis: XAxis | YAxis) -> None:
    """Plain numbers on a logarithmic axis, those between the powers of ten too where it spans little."""
    low, high = axis.get_view_interval()
    between = mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}" if high < 30 * low else "")
    axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(mpl.ticker.LogLocator(subs=(2.0, 5.0) if 3 * low < high < 30 * low else "auto"))
    axis.set_minor_formatter(between)
