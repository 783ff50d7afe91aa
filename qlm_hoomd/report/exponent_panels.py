"""Panels of exponents: against strain, against the window they are read off in, and side by side.

What is withheld is open and faint. Arrays are points of a curve, without suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from qlm_hoomd.report.axes import (
    ALPHA_RANGE,
    BLUE,
    COLOURS,
    GREEN,
    GUIDE,
    MARKERS,
    RED,
    SMALL,
    THETA_RANGE,
    TINY,
    count_range,
    in_words,
    legend,
    levels,
    limits,
    realisations_of,
    strain_axis,
    strain_styles,
)
from qlm_hoomd.report.drawn import mark
from qlm_hoomd.report.numbers import STRAIN_TOLERANCE, Analysis, Estimate, Spectrum
from qlm_hoomd.report.panels import detectors_of
from qlm_hoomd.report.results import Results
from qlm_hoomd.statistics import Exponent

Floats = NDArray[np.float64]

RING = "#c1121f"  # around the windows that are quoted


def known(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Those with a finite number, quoted or not."""
    return [e for e in estimates if e.exponent is not None and np.isfinite(e.exponent.value)]


def points(ax: Axes, estimates: Sequence[Estimate], colour: str, marker: str, label: str, *, broad: bool = False) -> None:
    """Exponents with their intervals against strain; ``broad`` bars show behind thin ones at the same strain."""
    some = known(estimates)
    for weak in (False, True):
        chosen = [e for e in some if (e.status == "withheld") is weak]
        if not chosen:
            continue
        value, low, high = _with_interval([e.exponent for e in chosen if e.exponent is not None])
        bar: dict[str, Any] = {"elinewidth": 3.5, "capsize": 0, "ecolor": (colour, 0.2 if weak else 0.35)} if broad else {}
        # The legend names the series even where nothing of it may be quoted.
        name = label if not weak else f"{label} (withheld)" if len(chosen) == len(some) else f"_{label}, withheld"
        bars = ax.errorbar(
            [e.strain for e in chosen],
            value,
            yerr=(value - low, high - value),
            color=colour,
            marker=marker,
            linestyle="" if weak else "-",
            alpha=0.45 if weak else 1.0,
            markerfacecolor="none" if weak else colour,
            label=name,
            zorder=2 if weak or broad else 3,
            **bar,
        )
        mark(bars, [realisations_of(e) for e in chosen])


def band(ax: Axes, estimates: Sequence[Estimate], colour: str, label: str) -> None:
    """Exponents against strain as a line within the band of their intervals, dotted and paler where they are withheld."""
    some = sorted(known(estimates), key=lambda e: e.strain)
    if not some:
        return
    x = np.array([e.strain for e in some])
    value, low, high = _with_interval([e.exponent for e in some if e.exponent is not None])
    quoted = np.array([e.status != "withheld" for e in some])
    n = [realisations_of(e) for e in some]
    for told in (False, True):
        chosen = quoted == told
        if not chosen.any():
            continue
        # Withheld points join the line, dotted; those that are quoted lie on it, solid and marked.
        whole = chosen if told else np.ones_like(chosen)
        name = label if told else f"_{label}, withheld" if quoted.any() else f"{label} (withheld)"
        (line,) = ax.plot(
            x,
            np.where(whole, value, np.nan),
            color=colour,
            linestyle="-" if told else ":",
            marker="D" if told or len(x) == 1 else "",
            markersize=3,
            label=name,
        )
        shade, area = 0.22 if told else 0.12, np.where(whole, low, np.nan)
        name = f"_{name.lstrip('_')}, interval"
        filled = ax.fill_between(x, area, high, color=colour, alpha=shade, linewidth=0, label=name)
        mark(line, n)
        mark(filled, n)


def thetas(ax: Axes, results: Results, preparation: str) -> None:
    """Theta against strain, a series per detector, and theta = 1/4 (Fig. 3a, b)."""
    analysis = results.analysis
    detectors = detectors_of(analysis, preparation)
    for k, detector in enumerate(detectors):
        points(
            ax,
            analysis.find(method="gamma_min", preparation=preparation, detector=detector),
            (BLUE, GREEN, COLOURS[3])[k % 3],
            MARKERS[k % len(MARKERS)],
            (detector or r"$\theta$") if len(detectors) > 1 else r"from $\langle\gamma_\mathrm{min}\rangle(N)$",
            broad=k > 0,
        )
    levels(ax, 0.25)
    strain_axis(ax, results.settings.strains, r"$\theta$")
    _sized_legend(ax, results, preparation)


def alphas(ax: Axes, results: Results, preparation: str) -> None:
    """Alpha against strain: from finite-size scaling, from the spectrum, and predicted as a band (Fig. 3c, d)."""
    analysis = results.analysis
    predicted = {"method": "prediction", "quantity": "alpha", "detector": detectors_of(analysis, preparation)[0]}
    band(ax, analysis.find(preparation=preparation, **predicted), GREEN, r"predicted from $\theta$")
    scaled = analysis.find(method="omega_min", preparation=preparation)
    points(ax, scaled, BLUE, "o", r"from $\langle\omega_\mathrm{min}\rangle(N)$")
    direct = [analysis.spectrum_estimate(preparation, strain) for strain in analysis.settings.strains]
    points(ax, direct, RED, "s", r"from $D_L(\omega)$", broad=True)
    levels(ax, 3, 4)
    strain_axis(ax, results.settings.strains, r"$\alpha$")
    _sized_legend(ax, results, preparation)


def theta_primes(ax: Axes, results: Results, preparation: str) -> None:
    """Theta' of the distribution of single gamma_min against strain (Fig. 6, top)."""
    detector = detectors_of(results.analysis, preparation)[0]
    found = results.analysis.find(quantity="theta_prime", preparation=preparation, detector=detector)
    points(ax, found, BLUE, "o", r"from $P(\gamma_\mathrm{min})$")
    levels(ax, 0.0)
    strain_axis(ax, results.settings.strains, r"$\theta'$")
    legend(ax, loc="upper right")


def alpha_primes(ax: Axes, results: Results, preparation: str) -> None:
    """Alpha' of the softest modes against strain, measured and predicted from theta' (Fig. 6, bottom)."""
    found = {"quantity": "alpha_prime", "preparation": preparation}
    detector = detectors_of(results.analysis, preparation)[0]
    band(ax, results.analysis.find(method="prediction", detector=detector, **found), BLUE, r"$4\theta'+3$")
    points(ax, results.analysis.find(method="distribution", **found), RED, "s", r"measured, from $D(\omega_\mathrm{min})$")
    levels(ax, 3.0, 4.0)
    strain_axis(ax, results.settings.strains, r"$\alpha'$")
    legend(ax, loc="upper right")


def limits_with_room(line: Sequence[Axes], ends: tuple[float, float], share: float) -> None:
    """These limits for the y axes of a row, with room on top for a legend, into which no error bar reaches.

    Where one would, a line says that it goes on.
    """
    for ax in line:
        heights = [np.asarray(path.vertices).reshape(-1, 2)[:, 1] for each in ax.collections for path in each.get_paths()]
        if any((height > ends[1]).any() for height in heights):
            ax.axhline(ends[1], color=GUIDE, linewidth=0.6, label="_bars go on beyond")
        ax.set_ylim(ends[0], ends[1] + share * (ends[1] - ends[0]))
        for artist in (*ax.lines, *ax.collections):
            artist.set_clip_path(Rectangle((0, 0), 1, 1 / (1 + share), transform=ax.transAxes))


def _sized_legend(ax: Axes, results: Results, preparation: str) -> None:
    sizes = sorted(results.analysis.minima.filter(preparation=preparation)["n_particles"].unique())
    legend(ax, loc="upper right", title=f"$N={', '.join(map(str, sizes))}$")


def _with_interval(exponents: Sequence[Exponent]) -> tuple[Floats, Floats, Floats]:
    """Values and ends of the intervals, NaN for both ends of an interval without bound: such a bar would only fill the panel."""
    value, low, high = (np.array([getattr(e, name) for e in exponents], dtype=np.float64) for name in ("value", "low", "high"))
    unbounded = ~np.isfinite(high - low)
    return value, np.where(unbounded, np.nan, np.minimum(low, value)), np.where(unbounded, np.nan, np.maximum(high, value))


# ---- against the window ----


def scanned(results: Results, preparation: str, end: str) -> list[Spectrum]:
    """The spectra that are quoted at the representative strains, those whose window's ``end`` can be moved."""
    analysis = results.analysis
    found = (analysis.spectrum_of(analysis.spectrum_estimate(preparation, strain)) for strain in results.settings.shown)
    return [s for s in found if s is not None and any(error < 1.0 for error in getattr(s.window, f"{end}_scan").error)]


def ends(ax: Axes, results: Results, preparation: str, end: str) -> None:
    """Alpha against the end of the window that moves, with its standard error (App. H).

    Windows that say nothing are left out.
    """
    styles = strain_styles(results.settings.shown)
    for spectrum in scanned(results, preparation, end):
        window = spectrum.window
        scan = getattr(window, f"{end}_scan")
        x, alpha, error = (np.array(values) for values in (getattr(scan, end), scan.alpha, scan.error))
        told = error < 1.0
        style = styles[spectrum.strain]
        label = rf"$\gamma={spectrum.strain:g}$, $N={spectrum.n_particles}$ ({spectrum.n_realisations})"
        (line,) = ax.plot(x[told], alpha[told], markersize=3, label=label, **style)
        area = ax.fill_between(
            x[told],
            (alpha - error)[told],
            (alpha + error)[told],
            color=style["color"],
            alpha=0.2,
            linewidth=0,
            label=f"_{label}, standard error",
        )
        mark(line, spectrum.n_realisations)
        mark(area, spectrum.n_realisations)
        ring: dict[str, Any] = {"color": RING, "markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.4}
        here = told & (np.abs(x - getattr(window, end)) < 1e-9)
        ax.plot(x[here], alpha[here], "o", label=f"_quoted, strain {spectrum.strain:g}", **ring)
    levels(ax, 3.0, 4.0)
    ax.set(xlabel=rf"{end} end of the window $\omega$", ylabel=r"$\alpha$", ylim=(1, 7.5))
    legend(ax, loc="upper left", fontsize=TINY)


# ---- steady state ----


def steady_thetas(results: Results, preparation: str) -> tuple[list[Estimate], list[Estimate]]:
    """Theta at the strains of steady flow, and pooled over them, by the detector that speaks for the preparation."""
    steady = results.analysis.steady(preparation)
    if steady is None:
        return [], []
    first, last = steady
    detector = detectors_of(results.analysis, preparation)[0]
    single = results.analysis.find(quantity="theta", preparation=preparation, detector=detector)
    pooled = [e for e in results.analysis.pooled(preparation) if (e.quantity, e.detector) == ("theta", detector)]
    return known([e for e in single if first - STRAIN_TOLERANCE <= e.strain <= last + STRAIN_TOLERANCE]), known(pooled)


def steady_theta(ax: Axes, results: Results, preparation: str) -> None:
    """Theta at large strains, and pooled over them (Fig. 8, left)."""
    assert results.settings.steady is not None
    first, last = results.settings.steady
    single, pooled = steady_thetas(results, preparation)
    points(ax, single, BLUE, "o", "at one strain")
    for estimate in pooled:
        assert estimate.exponent is not None
        weak = estimate.status == "withheld"
        label = "pooled" + in_words(estimate, r"\theta")
        value = [estimate.exponent.value] * 2
        (line,) = ax.plot([first, last], value, color=RED, linestyle=":" if weak else "-", label=label)
        low, high = np.clip([estimate.exponent.low, estimate.exponent.high], -99, 99)
        area = ax.fill_between([first, last], low, high, color=RED, alpha=0.15, linewidth=0, label="_pooled, interval")
        mark(line, realisations_of(estimate))
        mark(area, realisations_of(estimate))
    levels(ax, 0.25)
    strain_axis(ax, (first, last), r"$\theta$")
    ax.set_ylim(limits([*single, *pooled], *THETA_RANGE))
    legend(ax, loc="best")


# ---- side by side ----


def side_by_side(figure: Figure, analysis: Analysis, preparations: Sequence[str]) -> None:
    """Theta and alpha with their intervals, a line for each way to measure or to predict them, by preparation and strain."""
    ensembles = [(preparation, strain) for preparation in preparations for strain in analysis.settings.strains]
    lines = [_lines(analysis, *ensemble) for ensemble in ensembles]
    ranges = {"theta": THETA_RANGE, "alpha": ALPHA_RANGE}
    quantities = [name for name in ranges if known(analysis.find(quantity=name))]
    heights = [max(len(line[quantity]) for quantity in quantities) for line in lines]
    starts = np.concatenate([[0.0], np.cumsum(np.array(heights) + 0.7)])
    figure.set_size_inches(2.1 + 2.45 * len(quantities), 0.8 + 0.26 * starts[-1])
    axes = figure.subplots(1, len(quantities), squeeze=False)[0]
    for ax, quantity in zip(axes, quantities, strict=True):
        names = {}
        for line, start, height in zip(lines, starts, heights, strict=False):
            for index, (label, style, estimate) in enumerate(line[quantity]):
                place = start + 0.5 * (height - len(line[quantity])) + index
                names[place] = label
                _across(ax, estimate, place, style)
        ax.yaxis.tick_right()
        ax.set_yticks(list(names), list(names.values()))
        ax.tick_params(axis="y", length=0)
        for level in (0.25,) if quantity == "theta" else (3, 4):
            dashes = "--" if quantity == "theta" else ":"
            ax.axvline(level, color=GUIDE, linewidth=0.8, linestyle=dashes, label=f"_level {level:g}")
        span = limits(analysis.find(quantity=quantity), *ranges[quantity])
        ax.set(xlabel=rf"$\{quantity}$", xlim=span, ylim=(starts[-1] - 1.0, -0.7))
    for (preparation, strain), start, height in zip(ensembles, starts, heights, strict=False):
        middle = (-0.03, start + 0.5 * (height - 1))
        name = f"{preparation}\n$\\gamma={strain:g}$\n{count_range(analysis, preparation)}"
        axes[0].annotate(
            name, middle, xycoords=("axes fraction", "data"), ha="right", va="center", annotation_clip=False, fontsize=SMALL
        )


def _lines(analysis: Analysis, preparation: str, strain: float) -> dict[str, list[tuple[str, int, Estimate]]]:
    """(label, style, estimate) of the measurements of theta, and of predictions and measurements of alpha."""
    at = {"preparation": preparation, "strain": strain}
    detectors = detectors_of(analysis, preparation)
    several = len(detectors) > 1
    found: dict[str, list[tuple[str, int, Estimate]]] = {"theta": [], "alpha": []}
    for k, detector in enumerate(detectors):
        of = f" ({detector})" if several else ""
        for estimate in analysis.find(method="gamma_min", detector=detector, **at):
            found["theta"].append((str(detector) if several else "", k, estimate))
        for estimate in analysis.find(method="prediction", quantity="alpha", detector=detector, **at):
            found["alpha"].append((rf"predicted from $\theta${of}", 2 + 2 * k, estimate))
    for estimate in analysis.find(method="omega_min", **at):
        found["alpha"].append((r"from $\langle\omega_\mathrm{min}\rangle$", 0, estimate))
    found["alpha"].append((r"from $D_L(\omega)$", 1, analysis.spectrum_estimate(preparation, strain)))
    return {name: [line for line in lines if known([line[2]])] for name, lines in found.items()}


def _across(ax: Axes, estimate: Estimate, place: float, style: int) -> None:
    """An exponent with its interval on the line at ``place``."""
    exponent = estimate.exponent
    assert exponent is not None
    # Ends at infinity are drawn far beyond the axis.
    low, high = np.clip([exponent.low, exponent.high], -99, 99)
    weak = estimate.shown is None
    bars = ax.errorbar(
        [exponent.value],
        [place],
        xerr=([max(exponent.value - low, 0.0)], [max(high - exponent.value, 0.0)]),
        color=GUIDE if weak else COLOURS[style % len(COLOURS)],
        marker=MARKERS[style % len(MARKERS)],
        linestyle="",
        markerfacecolor="none" if weak else None,
        label=f"_{estimate.preparation}, strain {estimate.strain:g}, {estimate.method}{', withheld' * weak}",
    )
    mark(bars, realisations_of(estimate) or 0)
