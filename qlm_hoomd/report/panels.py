"""Panels: functions that draw one thing of a preparation on axes they are given. Figures are composed of them.

Every panel with data says how many realisations stand behind them, in its legend, its ticks or its title. Arrays are points of
a curve, without suffix. The labels of artists are what captions and the data beside a figure know them by.
"""

from __future__ import annotations

from math import gamma
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from numpy.typing import NDArray

from qlm_hoomd.report.axes import (
    BLUE,
    GUIDE,
    INK,
    RED,
    SMALL,
    TINY,
    in_words,
    inset,
    legend,
    legend_below,
    plain_numbers,
    size_axis,
    size_style,
    strain_styles,
)
from qlm_hoomd.report.drawn import mark
from qlm_hoomd.report.means import first_rise
from qlm_hoomd.report.numbers import AS_THRESHOLD, STRAIN_TOLERANCE, Analysis, Estimate
from qlm_hoomd.report.results import NONLINEAR_KINDS, Results
from qlm_hoomd.statistics import FiniteSizeScaling, MinimaDistribution

Floats = NDArray[np.float64]


def stress_strain(ax: Axes, results: Results, preparation: str, *, insets: bool = True) -> None:
    """Mean stress against strain with its standard error, a curve per size; the inset shows on one run what gamma_min is."""
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
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.2 * (high - low))
    legend(ax, loc="upper left", title="$N$ (realisations)", fontsize=TINY, labelspacing=0.25, ncols=2)
    if insets:
        shown = results.settings.shown
        small = inset(ax, (0.6, 0.13, 0.38, 0.31))
        if not single_run(small, results, preparation, shown[min(1, len(shown) - 1)]):
            small.remove()


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


def minima_rows(results: Results, preparation: str, quantity: str, *, estimated: bool = True) -> pl.DataFrame:
    """The means at the representative strains; without ``estimated``, what the paper's detector may have seen is left out."""
    rows = results.analysis.minima.filter(
        pl.col("strain").is_in(list(results.settings.shown)), quantity=quantity, preparation=preparation
    )
    return rows if estimated else rows.filter(pl.col("detector").is_null() | (pl.col("detector") != AS_THRESHOLD))


def mean_minima(ax: Axes, results: Results, preparation: str, quantity: str, *, others: bool = False) -> None:
    """Mean gamma_min or omega_min against the system size with the fitted power laws, a series per strain and detector.

    With ``others``, plateau and crossover too, at the first strain that has them.
    """
    analysis = results.analysis
    symbol, exponent = (r"\gamma", r"\theta") if quantity == "gamma_min" else (r"\omega", r"\alpha")
    own = minima_rows(results, preparation, quantity, estimated=others)
    detectors = own["detector"].unique(maintain_order=True).to_list()
    styles = strain_styles(results.settings.shown)
    compared = None
    for (strain, detector), part in own.group_by("strain", "detector", maintain_order=True):
        style = styles[float(strain)] | ({"markerfacecolor": "none"} if detectors.index(detector) else {})
        found = analysis.find(method=quantity, preparation=preparation, strain=strain, detector=detector)
        label = rf"$\gamma={strain:g}$" + (f", {detector}" if len(detectors) > 1 else "")
        if found and isinstance(found[0].fit, FiniteSizeScaling) and found[0].exponent is not None:
            fit, weak = found[0].fit, found[0].refusal is not None
            n_curve = np.geomspace(fit.sizes[0], fit.sizes[-1], 32)
            name = f"_{'weak ' * weak}fit, {label}"
            ax.plot(n_curve, fit.curve(n_curve), color=style["color"], linestyle=":" if weak else "-", label=name)
            label += in_words(found[0], exponent)
            compared = compared or found[0].alternatives
        mean, error = part["mean"].to_numpy(), part["standard_error"].fill_nan(0).fill_null(0).to_numpy()
        bars = ax.errorbar(part["n_particles"].to_numpy(), mean, yerr=error, linestyle="", label=label, **style)
        mark(bars, part["n_realisations"].to_list())
    if others and compared is not None:
        # The laws are of the scale of a Weibull law; its mean is that times Gamma(1 + 1 / shape).
        unit = gamma(1.0 + 1.0 / compared.shape)
        for scaling, dashes in ((compared.plateau, (0, (1, 2))), (compared.crossover, (0, (5, 2)))):
            scale = unit * np.asarray(scaling.scales)
            ax.plot(compared.sizes, scale, color=GUIDE, linestyle=dashes, linewidth=1, zorder=1, label=scaling.name)
    counts = own.group_by("n_particles").agg(pl.col("n_realisations").max()).sort("n_particles")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=r"number of particles $N$ (realisations)",
        ylabel=rf"$\langle{symbol}_\mathrm{{min}}\rangle$",
    )
    size_axis(ax, dict(zip(counts["n_particles"], counts["n_realisations"], strict=True)))
    entries = len(ax.get_legend_handles_labels()[0])
    room_below(ax, 0.1 + 0.085 * entries if entries < 5 else 0.05)
    if entries < 5:
        legend(ax, loc="lower left", fontsize=TINY)
    else:
        legend_below(ax, 0.62)


def room_below(ax: Axes, share: float) -> None:
    """Lower the end of a logarithmic y axis, so that the legend has this share of it."""
    share = min(share, 0.6)
    low, high = ax.get_ylim()
    if high < 1.5 * low:  # equal means
        low, high = low / 1.3, high * 1.3
    ax.set_ylim(low * (low / high) ** (share / (1 - share)), high)
    plain_numbers(ax.yaxis)


def gamma_min_distribution(ax: Axes, results: Results, preparation: str) -> None:
    """Distribution of the single gamma_min of all sizes, each over its median, with the fits (App. G)."""
    styles = strain_styles(results.settings.shown)
    for estimate in distributions(results, preparation):
        assert isinstance(estimate.fit, MinimaDistribution)
        n = sum(estimate.fit.n_realisations)
        label = rf"$\gamma={estimate.strain:g}$ ({n})" + in_words(estimate, r"\theta'")
        known = set(map(id, ax.containers))
        estimate.fit.plot(ax, label=label, fmt="", linestyle="", markersize=4, **styles[estimate.strain])
        for container in ax.containers:
            if id(container) not in known:
                mark(container, n)
    ax.set(xlabel=r"$\gamma_\mathrm{min}$ / median", ylabel=r"$P(\gamma_\mathrm{min}$ / median$)$")
    room_below(ax, 0.3)
    plain_numbers(ax.xaxis)
    legend(ax, loc="lower left", fontsize=TINY, title="realisations in brackets")


def distributions(results: Results, preparation: str) -> list[Estimate]:
    """The estimates of theta' at the representative strains that rest on a distribution, of the first detector."""
    detector = detectors_of(results.analysis, preparation)[0]
    found = results.analysis.find(quantity="theta_prime", preparation=preparation, detector=detector)
    return [e for e in found if e.strain in results.settings.shown and isinstance(e.fit, MinimaDistribution)]


def detectors_of(analysis: Analysis, preparation: str) -> list[str | None]:
    """The detectors whose events gave a theta, the one that speaks for the preparation first."""
    return list(dict.fromkeys(e.detector for e in analysis.find(method="gamma_min", preparation=preparation))) or [None]


def predictions(results: Results, preparation: str) -> pl.DataFrame:
    """The smallest strain at which a mode is to fail under forward shear, beside the one at which the glass did.

    Returns:
        A row for each realisation at the first strain of the analysis that has both: n_particles, realisation, predicted,
        observed, of (the kind of mode). Over nonlinear modes where the stage followed them, where a fold was found from there
        or else as seen from the state at rest; else by the energy to fourth order along nonlinear modes where there are any,
        else along harmonic ones, with the rest of the glass following; by the cubic expansion alone where the tables, of an
        older version, have no more of nonlinear modes.
    """
    strain = results.settings.strains[0]
    detector = detectors_of(results.analysis, preparation)[0]
    seen = results.analysis.samples.filter(~pl.col("censored"), quantity="gamma_min", preparation=preparation, strain=strain)
    seen = seen.filter(pl.lit(value=True) if detector is None else pl.col("detector") == detector)
    nonlinear, harmonic = results.nonlinear_modes(preparation), results.tables.get("modes", pl.DataFrame())
    kind = "" if nonlinear.is_empty() else NONLINEAR_KINDS[nonlinear["kind"][0]]
    for of, table, column in (
        (f"{kind} fold", nonlinear, "path_fold"),
        (f"{kind} path", nonlinear, "path_strain"),
        (kind, nonlinear, "relaxed_strain_forward"),
        (f"{kind} alone", nonlinear, "cubic_strain"),
        ("harmonic", harmonic, "relaxed_strain_forward"),
    ):
        if column not in table.columns:
            continue
        here = table.filter((pl.col("strain") - strain).abs() < STRAIN_TOLERANCE, pl.col(column) > 0, preparation=preparation)
        found = here.group_by("n_particles", "realisation").agg(pl.col(column).min().alias("predicted"))
        both = seen.join(found, on=["n_particles", "realisation"]).sort("n_particles", "realisation")
        if not both.is_empty():
            return both.select("n_particles", "realisation", "predicted", observed="value", of=pl.lit(of))
    return pl.DataFrame()


def predicted(ax: Axes, results: Results, preparation: str) -> None:
    """Observed against predicted strain to the first instability, a point per glass."""
    both = predictions(results, preparation)
    values = both.select("predicted", "observed").to_numpy()
    low, high = float(values.min()) / 1.5, float(values.max()) * 1.5
    for (size,), own in both.group_by("n_particles", maintain_order=True):
        style: dict[str, Any] = {**size_style(results, int(size)), "linestyle": "", "markersize": 4, "alpha": 0.8}
        (dots,) = ax.plot(own["predicted"].to_numpy(), own["observed"].to_numpy(), label=f"$N={size}$ ({own.height})", **style)
        mark(dots, 1)
    ax.plot([low, high], [low, high], color=GUIDE, linewidth=0.9, linestyle="--", zorder=1, label=f"_equal by {both['of'][0]}")
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    ax.set(xlabel=r"predicted $\gamma_\mathrm{min}$", ylabel=r"observed $\gamma_\mathrm{min}$")
    if both.height > 2:
        order = both.select(pl.corr("predicted", "observed", method="spearman")).item()
        ax.set_title(f"{both.height} glasses, rank correlation {order:.2f}", fontsize=TINY)
    plain_numbers(ax.xaxis)
    plain_numbers(ax.yaxis)
    legend(ax, loc="upper left", fontsize=TINY, title="glasses in brackets")
