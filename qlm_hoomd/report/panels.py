"""Panels: functions that draw one thing on axes they are given. The sections' figures and the paper's are composed of them.

Every panel with data says how many realisations stand behind them, in its legend, its ticks or its title.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from qlm_hoomd.report.drawn import mark
from qlm_hoomd.report.means import first_rise
from qlm_hoomd.report.numbers import AS_THRESHOLD, STRAIN_TOLERANCE, Analysis, Estimate, Spectrum
from qlm_hoomd.report.results import Results
from qlm_hoomd.statistics import CutoffScan, DensityOfStates, Exponent, FiniteSizeScaling, SpectrumFit

# Okabe and Ito: told apart by all kinds of colour vision, legible on white and on black; the markers repeat the message.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#9A8F3C", "#8C6BB1")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
SHOWN_COLOURS = ("#D55E00", "#E69F00", "#0072B2")
"""Of the representative strains: the paper's red, yellow and blue, in this palette."""
BLUE, RED, GREEN, CYAN = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[5]
INK = "#1d1f24"  # of text and axes; becomes the page's own text colour in the report
GUIDE = "#8a8f98"
MAX_POINTS = 20_000  # of a scatter plot; more are thinned
SMALL = 7.5  # size of the text in a crowded panel
_MAX_BANDS = 12  # of plane waves that are drawn; beyond, they only make the picture grey

Floats = NDArray[np.float64]


def strain_styles(strains: Sequence[float]) -> dict[float, dict[str, Any]]:
    """Colour and marker of each strain: the paper's three colours, or the palette where there are more."""
    colours = SHOWN_COLOURS if len(strains) <= len(SHOWN_COLOURS) else COLOURS
    return {
        strain: {"color": colours[k % len(colours)], "marker": MARKERS[k % len(MARKERS)]} for k, strain in enumerate(strains)
    }


# ---- shear ----


def stress_strain(ax: Axes, results: Results, preparation: str) -> None:
    """Mean stress against strain with its standard error, a curve per size."""
    curves = results.analysis.stress_strain.filter(pl.col("preparation") == preparation)
    for (size,), curve in curves.sort("n_particles").group_by("n_particles", maintain_order=True):
        colour = size_style(results, int(size))["color"]
        n = curve["n_realisations"][0]
        strain, stress, error = (curve[name].to_numpy() for name in ("strain", "stress_xy", "standard_error"))
        (line,) = ax.plot(strain, stress, color=colour, label=f"$N={size}$ ({n})")
        mark(line, n)
        if np.isfinite(error).all():
            band = ax.fill_between(
                strain,
                stress - error,
                stress + error,
                color=colour,
                alpha=0.25,
                linewidth=0,
                label=f"_N={size}, standard error",
            )
            mark(band, n)
    ax.set(xlabel=r"strain $\gamma$", ylabel=r"stress $\langle\Sigma\rangle$", xlim=(0, None))
    legend(ax, title="size (realisations)", title_fontsize=SMALL)


def single_run(ax: Axes, results: Results, preparation: str, strain: float) -> bool:
    """What gamma_min is, on the stress of one realisation near ``strain``; False where none can show it.

    The realisation: of the largest size, the one whose gamma_min at this strain is the median.
    """
    if "steps" not in results.tables or "events" not in results.tables:
        return False
    of = pl.col("preparation") == preparation
    steps, events = (first_rise(results.tables[name].filter(of)) for name in ("steps", "events"))
    size = max(steps["n_particles"], default=0)
    steps, events = (table.filter(pl.col("n_particles") == size) for table in (steps, events))
    detectors = sorted(events["detector"].drop_nulls().unique())
    strains = events.filter(pl.col("detector") == detectors[0]) if detectors else events
    candidates = []
    for (index, end), _ in steps.with_columns(end=pl.col("strain").max().over("realisation")).group_by(
        "realisation", "end", maintain_order=True
    ):
        own = strains.filter(pl.col("realisation") == index, pl.col("strain_c").is_between(strain, end, closed="right"))
        if not own.is_empty():
            candidates.append((min(own["strain_c"]) - strain, int(index)))
    if not candidates:
        return False
    gamma_min, index = sorted(candidates)[len(candidates) // 2]
    own_events = strains.filter(pl.col("realisation") == index)["strain_c"].sort().to_numpy()
    run = steps.filter(pl.col("realisation") == index).sort("strain")
    following = own_events[own_events > strain + gamma_min + 1e-9]
    reach = max(1.2 * gamma_min, 0.004)
    low, high = max(strain - 1.5 * reach, 0.0), min(strain + 2.5 * reach, max(run["strain"]))
    if following.size:
        high = max(high, min(float(following[0]) + 0.3 * reach, strain + 4 * reach))
    x, y = run["strain"].to_numpy(), run["stress_xy"].to_numpy()
    inside = (x >= low) & (x <= high)
    (line,) = ax.plot(x[inside], y[inside], color=INK, linewidth=0.9, label=f"_N={size}, realisation {index}")
    mark(line, 1)
    here, there = float(np.interp(strain, x, y)), float(np.interp(strain + gamma_min - 1e-6, x, y))
    span = np.ptp(y[inside])
    level = min(y[inside]) - 0.16 * span
    for at, top, colour in ((strain, here, GUIDE), (strain + gamma_min, there, RED)):
        ax.plot([at, at], [level, top], color=colour, linewidth=0.8, linestyle=":", label=f"_strain {at:.6f}")
    ax.plot([strain], [here], "o", color=BLUE, markersize=3.5, label="_state")
    ax.plot([strain + gamma_min], [there], "s", color=RED, markersize=3.5, label="_instability")
    ax.annotate(
        "",
        (strain, level),
        (strain + gamma_min, level),
        arrowprops={"arrowstyle": "<|-|>", "color": INK, "lw": 0.8, "mutation_scale": 6, "shrinkA": 0, "shrinkB": 0},
    )
    ax.annotate(
        r"$\gamma_\mathrm{min}$",
        (strain + 0.5 * gamma_min, level),
        (0, -3),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=SMALL,
    )
    ax.set(xlabel=r"$\gamma$", ylabel=r"$\Sigma$", xlim=(low, high), ylim=(level - 0.5 * span, max(y[inside]) + 0.1 * span))
    return True


# ---- minima ----


def mean_minima(
    ax: Axes, results: Results, preparation: str, quantity: str, strains: Sequence[float], *, estimated: bool = True
) -> None:
    """Mean gamma_min or omega_min against the system size with the fitted power laws, a series per strain and detector.

    Without ``estimated``, what the paper's detector is estimated to have seen is left out.
    """
    analysis = results.analysis
    symbol, exponent = (r"\gamma", r"\theta") if quantity == "gamma_min" else (r"\omega", r"\alpha")
    own = analysis.minima.filter(
        pl.col("quantity") == quantity, pl.col("preparation") == preparation, pl.col("strain").is_in(list(strains))
    )
    if not estimated:
        own = own.filter(pl.col("detector").is_null() | (pl.col("detector") != AS_THRESHOLD))
    detectors = own["detector"].unique(maintain_order=True).to_list()
    styles = strain_styles(strains)
    for (strain, detector), part in own.group_by("strain", "detector", maintain_order=True):
        style = styles[float(strain)] | ({"markerfacecolor": "none"} if detectors.index(detector) else {})
        found = analysis.find(method=quantity, preparation=preparation, strain=strain, detector=detector)
        label = rf"$\gamma={strain:g}$" + (f", {detector}" if len(detectors) > 1 else "")
        if found and isinstance(found[0].fit, FiniteSizeScaling):
            fit = found[0].fit
            n_curve = np.geomspace(fit.sizes[0], fit.sizes[-1], 32)
            ax.plot(
                n_curve,
                fit.curve(n_curve),
                color=style["color"],
                linestyle=":" if found[0].refusal else "-",
                label=f"_fit, {label}",
            )
            label += in_words(found[0], exponent)
        mean, error = part["mean"].to_numpy(), part["standard_error"].fill_nan(0).fill_null(0).to_numpy()
        bars = ax.errorbar(part["n_particles"].to_numpy(), mean, yerr=error, linestyle="", label=label, **style)
        mark(bars, part["n_realisations"].to_list())
    counts = own.group_by("n_particles").agg(pl.col("n_realisations").max()).sort("n_particles")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=r"number of particles $N$ (realisations)",
        ylabel=rf"$\langle{symbol}_\mathrm{{min}}\rangle$",
    )
    size_axis(ax, dict(zip(counts["n_particles"], counts["n_realisations"], strict=True)))
    plain_numbers(ax.yaxis)


# ---- spectra ----


def participation(ax: Axes, results: Results, spectrum: Spectrum) -> None:
    """Participation ratio against frequency with the threshold e_c."""
    own = results.tables["modes"].filter(
        (pl.col("preparation") == spectrum.preparation)
        & (pl.col("n_particles") == spectrum.n_particles)
        & ((pl.col("strain") - spectrum.strain).abs() < STRAIN_TOLERANCE)
        & (pl.col("frequency") > 0)
    )
    own = own.gather_every(max(1, -(-own.height // MAX_POINTS)))
    omega, e = own["frequency"].to_numpy(), own["participation_ratio"].to_numpy()
    local = e < spectrum.threshold
    for mask, colour, label in ((local, BLUE, "quasi-localised"), (~local, COLOURS[4], "extended")):
        (dots,) = ax.plot(omega[mask], e[mask], ".", color=colour, markersize=2.5, alpha=0.7, label=label, rasterized=True)
        mark(dots, spectrum.n_realisations)
    ax.axhline(spectrum.threshold, color=INK, linewidth=0.9, label="_threshold e_c")
    ax.set(xlabel=r"frequency $\omega$", ylabel="participation ratio $e$", yscale="log")
    plain_numbers(ax.yaxis)


def phonon_bands(ax: Axes, spectrum: Spectrum) -> None:
    """The frequencies of the plane waves of the box: the first band dash-dotted, further ones thin."""
    phonon_line(ax, spectrum, "first phonon")
    if spectrum.plane_waves is not None:
        for band in spectrum.plane_waves.bands(spectrum.omega_complete, spectrum.strain)[1:_MAX_BANDS]:
            ax.axvline(
                band.frequency,
                color=COLOURS[3],
                linewidth=0.4,
                alpha=0.6,
                linestyle="-" if band.transverse else "--",
                label=f"_{'transverse' if band.transverse else 'longitudinal'} plane waves",
            )


def spectrum_points(ax: Axes, density: DensityOfStates, label: str, **style: Any) -> None:
    """The occupied bins of a density with their counting errors."""
    known = set(map(id, ax.containers))
    density.plot(ax, **({"fmt": "", "linestyle": "", "markersize": 4} | style), label=label)
    for container in ax.containers:
        if id(container) not in known:
            mark(container, density.n_realisations)


def fit_line(ax: Axes, estimate: Estimate, spectrum: Spectrum, *, colour: str = INK, label: str = "") -> None:
    """The fitted power law over its window."""
    if estimate.exponent is None or not isinstance(estimate.fit, SpectrumFit) or estimate.exponent.window is None:
        return
    lower, upper = estimate.exponent.window
    omega = np.geomspace(max(lower, 0.3 * upper), upper, 24)
    (line,) = ax.plot(
        omega,
        estimate.fit.curve(omega) / (3.0 * spectrum.n_particles),
        color=colour,
        linestyle=":" if estimate.refusal else "-",
        linewidth=1.1,
        label=label or "_fit",
    )
    mark(line, spectrum.n_realisations)


def power_guide(ax: Axes, exponent: float, omega: tuple[float, float], level: float) -> None:
    """A straight line omega^exponent that reaches ``level`` at the upper end of the range, with its name at the lower one."""
    x = np.geomspace(*omega, 12)
    ax.plot(x, level * (x / omega[1]) ** exponent, color=GUIDE, linewidth=1, linestyle="--", label=f"_guide omega^{exponent:g}")
    ax.annotate(
        rf"$\omega^{{{exponent:g}}}$",
        (omega[0], level * (omega[0] / omega[1]) ** exponent),
        (-2, 1),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=SMALL + 0.5,
        color=GUIDE,
    )


def axis_marks(ax: Axes, ends: Sequence[float], colour: str, name: str, *, row: int = 0) -> None:
    """Ends of a range as markers on the lower axis, as the paper marks its fit ranges; an end at 0 sits where the axis begins.

    Marks of ranges that may coincide go to rows above each other.
    """
    begin = ax.get_xlim()[0]
    ax.plot(
        [max(end, begin) for end in ends],
        [0.03 + 0.07 * row] * len(ends),
        marker="|",
        markersize=10,
        markeredgewidth=2.4,
        linestyle="",
        color=colour,
        transform=ax.get_xaxis_transform(),
        clip_on=False,
        zorder=5,
        label=f"_{name}",
    )
    ax.set_xlim(left=begin)


def phonon_line(ax: Axes, spectrum: Spectrum, label: str = "_first phonon") -> None:
    """The first band of plane waves, where it is within reach of what was measured."""
    if spectrum.plane_waves is None or spectrum.plane_waves.first_frequency > 1.5 * spectrum.omega_complete:
        return
    ax.axvline(spectrum.plane_waves.first_frequency, color=COLOURS[3], linewidth=1, linestyle="-.", label=label)


# ---- exponents against strain ----


def exponent_points(
    ax: Axes, estimates: Sequence[Estimate], colour: str, marker: str, label: str, *, shift: float = 0.0, filled: bool = True
) -> None:
    """Exponents with their intervals against strain: what may be quoted joined by a line, what is withheld open and faint."""
    for weak in (False, True):
        chosen = [
            e
            for e in estimates
            if e.exponent is not None and np.isfinite(e.exponent.value) and (e.status == "withheld") is weak
        ]
        if not chosen:
            continue
        exponents = [e.exponent for e in chosen if e.exponent is not None]
        value, low, high = _with_interval(exponents)
        bars = ax.errorbar(
            [e.strain + shift for e in chosen],
            value,
            yerr=(value - low, high - value),
            color=colour,
            marker=marker,
            linestyle="" if weak else "-",
            alpha=0.45 if weak else 1.0,
            markerfacecolor="none" if weak or not filled else colour,
            label=f"_{label}, withheld" if weak else label,
            zorder=2 if weak else 3,
        )
        mark(bars, [realisations_of(e) for e in chosen])
    if not any(e.status != "withheld" and e.exponent is not None for e in estimates) and any(e.exponent for e in estimates):
        # The legend names the series even where nothing of it may be quoted.
        ax.plot(
            [], [], color=colour, marker=marker, markerfacecolor="none", linestyle="", alpha=0.45, label=f"{label} (withheld)"
        )


def exponent_band(ax: Axes, estimates: Sequence[Estimate], colour: str, label: str) -> None:
    """Exponents against strain as a line within the band of their intervals, paler where they are withheld."""
    known = sorted((e for e in estimates if e.exponent is not None and np.isfinite(e.exponent.value)), key=lambda e: e.strain)
    if not known:
        return
    x = np.array([e.strain for e in known])
    value, low, high = _with_interval([e.exponent for e in known if e.exponent is not None])
    weak = all(e.status == "withheld" for e in known)
    n = [realisations_of(e) for e in known]
    label = f"{label} (withheld)" if weak else label
    (line,) = ax.plot(x, value, color=colour, linestyle=":" if weak else "-", marker="" if len(x) > 1 else "D", label=label)
    band = ax.fill_between(x, low, high, color=colour, alpha=0.12 if weak else 0.22, linewidth=0, label=f"_{label}, interval")
    mark(line, n)
    mark(band, n)


def thetas(ax: Axes, results: Results, preparation: str) -> None:
    """Theta against strain, a series per detector, and theta = 1/4 (Fig. 3a, b)."""
    analysis = results.analysis
    detectors = detectors_of(analysis, preparation)
    step = min(np.diff(analysis.settings.strains), default=0.01)
    for k, detector in enumerate(detectors):
        exponent_points(
            ax,
            analysis.find(method="gamma_min", preparation=preparation, detector=detector),
            (BLUE, GREEN, COLOURS[3])[k % 3],
            MARKERS[k % len(MARKERS)],
            (detector or r"$\theta$") if len(detectors) > 1 else r"from $\langle\gamma_\mathrm{min}\rangle(N)$",
            shift=(k - 0.5 * (len(detectors) - 1)) * 0.12 * step,
        )
    levels(ax, 0.25)
    ax.set(xlabel=r"strain $\gamma$", ylabel=r"$\theta$")
    legend(ax, loc="upper right")


def alphas(ax: Axes, results: Results, preparation: str) -> None:
    """Alpha against strain: from finite-size scaling, from the spectrum, and predicted as a band (Fig. 3c, d)."""
    analysis = results.analysis
    step = min(np.diff(analysis.settings.strains), default=0.01)
    detector = detectors_of(analysis, preparation)[0]
    predicted = analysis.find(method="prediction", quantity="alpha", preparation=preparation, detector=detector)
    exponent_band(ax, predicted, GREEN, r"predicted from $\theta$")
    scaled = analysis.find(method="omega_min", preparation=preparation)
    exponent_points(ax, scaled, BLUE, "o", r"from $\langle\omega_\mathrm{min}\rangle(N)$", shift=-0.06 * step)
    direct = [analysis.spectrum_estimate(preparation, strain) for strain in analysis.settings.strains]
    exponent_points(ax, direct, RED, "s", r"from $D_L(\omega)$", shift=0.06 * step)
    levels(ax, 3, 4)
    ax.set(xlabel=r"strain $\gamma$", ylabel=r"$\alpha$")
    legend(ax, loc="upper right")


def detectors_of(analysis: Analysis, preparation: str) -> list[str | None]:
    """The detectors whose events gave a theta, the one that speaks for the preparation first."""
    return list(dict.fromkeys(e.detector for e in analysis.find(method="gamma_min", preparation=preparation))) or [None]


def scan_curve(
    ax: Axes, scan: CutoffScan, ends: Sequence[float], spectrum: Spectrum, *, color: str, marker: str, label: str
) -> None:
    """Alpha against the end of the window that moves, with its standard error; windows that say nothing are left out."""
    alpha, error = np.array(scan.alpha), np.array(scan.error)
    known = error < 1.0
    if not known.any():
        return
    x, alpha, error = np.array(ends)[known], alpha[known], error[known]
    (line,) = ax.plot(x, alpha, color=color, marker=marker, markersize=3, label=label)
    band = ax.fill_between(
        x, alpha - error, alpha + error, color=color, alpha=0.2, linewidth=0, label=f"_{label}, standard error"
    )
    mark(line, spectrum.n_realisations)
    mark(band, spectrum.n_realisations)


def _with_interval(exponents: Sequence[Exponent]) -> tuple[Floats, Floats, Floats]:
    """Values and ends of the intervals, NaN for both ends of an interval without bound: such a bar would only fill the panel."""
    value, low, high = (np.array([getattr(e, name) for e in exponents], dtype=np.float64) for name in ("value", "low", "high"))
    unbounded = ~np.isfinite(high - low)
    return value, np.where(unbounded, np.nan, np.minimum(low, value)), np.where(unbounded, np.nan, np.maximum(high, value))


def levels(ax: Axes, *values: float) -> None:
    """Horizontal guides at the theory's values."""
    for value in values:
        ax.axhline(value, color=GUIDE, linewidth=0.8, linestyle="--" if value == 0.25 else ":", label=f"_{value:g}", zorder=1)


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


THETA_RANGE = ((0.0, 0.6), (-0.6, 2.0))
ALPHA_RANGE = ((2.8, 4.4), (0.5, 7.0))


# ---- words and axes ----


def in_words(estimate: Estimate, symbol: str) -> str:
    """The exponent with its interval, or that it is withheld."""
    shown = estimate.shown
    return rf": ${symbol}={shown.value:.2f}$ $[{shown.low:.2f}, {shown.high:.2f}]$" if shown else f": ${symbol}$ withheld"


def title(spectrum: Spectrum) -> str:
    """Whose spectrum it is."""
    return f"{spectrum.preparation}, $N={spectrum.n_particles}$, $\\gamma={spectrum.strain:g}$, {spectrum.n_realisations} realisations"


def realisations_of(estimate: Estimate) -> int | None:
    """Realisations behind an estimate, at the poorest size where there are several."""
    counts = estimate.exponent.n_realisations if estimate.exponent is not None else None
    return min(counts.values()) if isinstance(counts, Mapping) else counts


def count_range(analysis: Analysis, preparation: str, quantity: str | None = None) -> str:
    """How many realisations there are at each size, in words."""
    rows = analysis.minima.filter(pl.col("preparation") == preparation)
    counts = (rows if quantity is None else rows.filter(pl.col("quantity") == quantity))["n_realisations"]
    least, most = min(counts, default=0), max(counts, default=0)
    return f"{least if least == most else f'{least}–{most}'} realisations"


def size_style(results: Results, size: int) -> dict[str, str]:
    """The colour and marker that this size has everywhere."""
    order = list(results.sizes)
    index = order.index(size) if size in order else len(order)
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def size_axis(ax: Axes, counts: Mapping[int, int]) -> None:
    """The sizes as ticks of the x axis, with their realisations."""
    ax.set_xticks(list(counts), [f"{size}\n({n})" for size, n in counts.items()])
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    if counts:
        # A margin in proportion, for a single size too.
        ax.set_xlim(min(counts) / 1.35, max(counts) * 1.35)


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
        ax.legend(**({"fontsize": SMALL} | options))


def legend_below(ax: Axes, inches: float) -> None:
    """A legend that far below the axes, where no datum can hide behind it; it begins below the label of the vertical axis."""
    assert ax.figure is not None
    below = ax.transAxes + ScaledTranslation(-0.55, -inches, ax.figure.dpi_scale_trans)
    ax.legend(loc="upper left", bbox_to_anchor=(0.0, 0.0), bbox_transform=below, borderaxespad=0.0, fontsize=SMALL)
