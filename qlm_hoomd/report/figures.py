"""The figures of the sections, from an ensemble of any size. Every one says how many realisations it rests on.

Figures are made without pyplot, so that making a report leaves the user's own figures and backend alone.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from qlm_hoomd.report import panels
from qlm_hoomd.report.analysis import Analysis, Estimate, Spectrum
from qlm_hoomd.report.collect import write_table
from qlm_hoomd.report.drawn import drawn_data, hover_data, mark
from qlm_hoomd.report.panels import INK
from qlm_hoomd.report.results import Results
from qlm_hoomd.stages import replacing

PANEL = 3.35  # width of a panel [inch], one journal column
HEIGHT = 2.75
PIXELS_PER_INCH = 128  # of a figure in the page; its text is then as large as the page's small print

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
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Saved:
    """A figure as a page shows it.

    Args:
        svg: an SVG element: no background, text and axes in the page's text colour.
        width: of the element [CSS pixel].
        points: what it shows and where (:func:`qlm_hoomd.report.drawn.hover_data`).
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
    """Write ``figure`` as NAME.pdf and NAME.png to ``directory``, and what it shows as NAME.parquet (:mod:`qlm_hoomd.report.drawn`).

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


def stress_strain(results: Results) -> Figure | None:
    """Mean stress against strain, a panel per preparation, a curve per size (Fig. 2a, b)."""
    if results.analysis.stress_strain.is_empty():
        return None
    return _panels(results, lambda ax, preparation: panels.stress_strain(ax, results, preparation), sharey=True)


def minima(results: Results, quantity: str) -> Figure | None:
    """Mean gamma_min or omega_min against the system size with the fitted power laws (Fig. 2c to f), at the shown strains."""
    shown = results.settings.shown
    rows = results.analysis.minima.filter(pl.col("quantity") == quantity, pl.col("strain").is_in(list(shown)))
    if rows.is_empty():
        return None

    def draw(ax: Axes, preparation: str) -> None:
        panels.mean_minima(ax, results, preparation, quantity, shown)
        panels.legend_below(ax, 0.62)

    return _panels(results, draw, only=rows["preparation"].unique().to_list(), height=3.3)


def participation(results: Results) -> Figure | None:
    """Participation ratio against frequency with the threshold e_c, for the largest size (insets of Fig. 2g, h)."""
    chosen = _largest(results.analysis)
    if not chosen:
        return None

    def draw(ax: Axes, preparation: str) -> None:
        spectrum = chosen[preparation]
        panels.participation(ax, results, spectrum)
        ax.annotate(
            f"$e_c={spectrum.threshold:.3g}$",
            (0.02, spectrum.threshold),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8,
        )
        panels.phonon_bands(ax, spectrum)
        ax.set_title(panels.title(spectrum))
        ax.set_ylim(ax.get_ylim()[0] / 5, 1.0)  # room for the legend
        panels.plain_numbers(ax.yaxis)
        ax.legend(loc="lower center", markerscale=3, ncols=3, columnspacing=0.8, handletextpad=0.3, fontsize=7)

    return _panels(results, draw, only=list(chosen), titles=False)


def density(results: Results) -> Figure | None:
    """D_L(omega), its fit, omega^4 and the Debye level (Fig. 2g, h): a series per shown strain, or per size at one strain."""
    analysis = results.analysis
    strains = analysis.settings.shown
    spectra = [s for s in analysis.spectra if s.density is not None and s.strain in strains]
    if len(strains) > 1:
        spectra = [s for s in spectra if s is analysis.largest(s.preparation, s.strain)]
    if not spectra:
        return None
    styles = panels.strain_styles(strains)

    def draw(ax: Axes, preparation: str) -> None:
        own = [s for s in spectra if s.preparation == preparation]
        for spectrum in own:
            assert spectrum.density is not None
            label = rf"$\gamma={spectrum.strain:g}$, " if len(strains) > 1 else ""
            panels.spectrum_points(
                ax,
                spectrum.density,
                f"{label}$N={spectrum.n_particles}$ ({spectrum.n_realisations})",
                **(styles[spectrum.strain] if len(strains) > 1 else panels.size_style(results, spectrum.n_particles)),
            )
        quoted = analysis.spectrum_estimate(preparation, own[0].strain)
        main = analysis.spectrum_of(quoted) or own[-1]
        panels.fit_line(ax, quoted, main, label="fit" + panels.in_words(quoted, r"\alpha").replace(":", ",", 1))
        if main.density is not None:
            top = (main.density.edges[-1], max(main.density.density))
            panels.power_guide(ax, 4, (0.5 * top[0], 0.8 * top[0]), 5 * top[1])
        if main.excess is not None:
            panels.spectrum_points(ax, main.excess, r"$D_G=D-D_\mathrm{Debye}$", marker="x", color=panels.INK)
        low = ax.get_xlim()[0]
        ax.axvspan(
            max(main.window.lower, low), main.omega_max, color=panels.GUIDE, alpha=0.12, linewidth=0, label="_fit window"
        )
        ax.set_xlim(left=low)
        # The Debye level of the fitted size: what the removed phonons would have, were they a continuum.
        if main.plane_waves is not None:
            omega = np.array([min(s.density.centres[0] for s in own if s.density), max(s.omega_complete for s in own)])
            ax.plot(
                omega,
                main.plane_waves.debye_density(omega),
                color=panels.GUIDE,
                linestyle=":",
                linewidth=1,
                label="Debye level",
            )
        panels.phonon_line(ax, main)
        panels.plain_numbers(ax.xaxis)
        panels.legend_below(ax, 0.45)

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
    chosen: dict[str, Spectrum] = {}
    for preparation in results.preparations:
        spectrum = analysis.spectrum_of(analysis.spectrum_estimate(preparation, strain))
        if spectrum is not None and spectrum.window.upper_scan.alpha:
            chosen[preparation] = spectrum
    if not chosen:
        return None

    def draw(ax: Axes, preparation: str) -> None:
        spectrum = chosen[preparation]
        window = spectrum.window
        for scan, ends, colour, marker, label in (
            (window.upper_scan, window.upper_scan.upper, panels.BLUE, "s", rf"upper end moved, lower end {window.lower:.2g}"),
            (window.lower_scan, window.lower_scan.lower, panels.RED, "o", rf"lower end moved, upper end {window.upper:.2f}"),
        ):
            panels.scan_curve(ax, scan, ends, spectrum, color=colour, marker=marker, label=label)
        panels.levels(ax, 3.0, 4.0)
        for end in (window.lower, window.upper):
            ax.axvline(end, color=panels.GUIDE, linewidth=0.8, linestyle="--", label="_chosen window")
        ax.set(xlabel=r"end of the window $\omega$", ylabel=r"$\alpha$", ylim=(1, 7))
        ax.set_title(panels.title(spectrum))
        panels.legend(ax, loc="upper right")  # every point of a scan may be too weak to be drawn

    return _panels(results, draw, only=list(chosen), titles=False)


def alternatives(results: Results) -> Figure | None:
    """Other laws beside the power law of <gamma_min>(N), at the first strain where they could be compared."""
    found: dict[str, Estimate] = {}
    for estimate in results.analysis.find(method="gamma_min"):
        if estimate.alternatives is not None:
            found.setdefault(estimate.preparation, estimate)
    if not found:
        return None

    def draw(ax: Axes, preparation: str) -> None:
        estimate = found[preparation]
        assert estimate.alternatives is not None
        estimate.alternatives.plot(ax)
        counts = estimate.exponent.n_realisations if estimate.exponent is not None else None
        ax.set(xlabel=r"number of particles $N$ (realisations)", ylabel=r"$\langle\gamma_\mathrm{min}\rangle$")
        if isinstance(counts, dict):
            panels.size_axis(ax, counts)
            for bars in ax.containers:
                mark(bars, list(counts.values()))
        ax.set_title(f"{preparation}, $\\gamma={estimate.strain:g}$")
        panels.plain_numbers(ax.yaxis)
        panels.legend_below(ax, 0.62)

    return _panels(results, draw, only=list(found), titles=False, height=3.3)


def exponents(results: Results) -> Figure | None:
    """Theta and alpha: measured two ways, beside the prediction (Fig. 3). What is withheld is open and faint.

    Against strain where there are three strains or more, else one line per preparation and strain.
    """
    analysis = results.analysis
    drawn = [e for quantity in ("theta", "alpha") for e in analysis.find(quantity=quantity) if e.exponent]
    known = [name for name in results.preparations if any(e.preparation == name for e in drawn)]
    if not known:
        return None
    with mpl.rc_context(STYLE):
        if len(analysis.settings.strains) <= 2:
            return _side_by_side(analysis, known)
        figure = Figure(figsize=(PANEL * max(len(known), 1.25), 5.0), layout="constrained")
        axes = figure.subplots(2, len(known), sharex=True, sharey="row", squeeze=False)
        for column, preparation in enumerate(known):
            axes[0, column].set_title(f"{preparation}, {panels.count_range(analysis, preparation)}")
            panels.thetas(axes[0, column], results, preparation)
            panels.alphas(axes[1, column], results, preparation)
        axes[0, 0].set(ylim=panels.limits(analysis.find(quantity="theta"), *panels.THETA_RANGE))
        axes[1, 0].set(ylim=panels.limits(analysis.find(quantity="alpha"), *panels.ALPHA_RANGE))
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
                    _points(ax, estimate, place, style)
        ax.yaxis.tick_right()
        ax.set_yticks(list(names), list(names.values()))
        ax.tick_params(axis="y", length=0)
        for level in (0.25,) if quantity == "theta" else (3, 4):
            ax.axvline(level, color=panels.GUIDE, linewidth=0.8, linestyle="--" if quantity == "theta" else ":")
        ax.set(
            xlabel=rf"$\{quantity}$",
            xlim=panels.limits(
                analysis.find(quantity=quantity), *(panels.THETA_RANGE if quantity == "theta" else panels.ALPHA_RANGE)
            ),
            ylim=(starts[-1] - 1.0, -0.7),
        )
    for (preparation, strain), start, height in zip(ensembles, starts, heights, strict=False):
        middle = (-0.03, start + 0.5 * (height - 1))
        name = f"{preparation}\n$\\gamma={strain:g}$\n{panels.count_range(analysis, preparation)}"
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


def _points(ax: Axes, estimate: Estimate, place: float, style: int) -> None:
    """An exponent with its interval on the line at ``place``."""
    exponent = estimate.exponent
    if exponent is None or not np.isfinite(exponent.value):
        return
    # Ends at infinity are drawn far beyond the axis.
    low, high = np.clip([exponent.low, exponent.high], -99, 99)
    weak = estimate.shown is None
    bars = ax.errorbar(
        [exponent.value],
        [place],
        xerr=([exponent.value - low], [high - exponent.value]),
        color=panels.GUIDE if weak else panels.COLOURS[style % len(panels.COLOURS)],
        marker=panels.MARKERS[style % len(panels.MARKERS)],
        linestyle="",
        markerfacecolor="none" if weak else None,
        label=f"_{estimate.preparation}, strain {estimate.strain:g}, {estimate.method}",
    )
    mark(bars, panels.realisations_of(estimate) or 0)


def structure(results: Results) -> Figure | None:
    """Mean g(r) and S(q) of the largest size, a curve per preparation."""
    functions = results.tables.get("structure_functions")
    if functions is None:
        return None
    size = max(functions["n_particles"])
    functions = functions.filter(pl.col("n_particles") == size)
    with mpl.rc_context(STYLE):
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
                    mean["x"].to_numpy(),
                    mean["y"].to_numpy(),
                    color=panels.COLOURS[index % len(panels.COLOURS)],
                    linewidth=1,
                    label=label,
                )
            panels.legend(ax, title=f"$N={size}$ (realisations)", title_fontsize=8, fontsize=8)
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
    with mpl.rc_context(STYLE):
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


def _largest(analysis: Analysis) -> dict[str, Spectrum]:
    """For each preparation the spectrum of its largest size at the first strain that has one."""
    best: dict[str, Spectrum] = {}
    for strain in analysis.settings.strains:
        for spectrum in analysis.spectra:
            largest = analysis.largest(spectrum.preparation, strain)
            if largest is not None:
                best.setdefault(spectrum.preparation, largest)
    return best
