"""Figure 1: the flow of (lambda, kappa) under rising stress.

Arrays run along a curve, without suffix.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qlm_hoomd.report.axes import BLUE, GREEN, GUIDE, INK, RED, SMALL
from qlm_hoomd.report.drawn import mark
from qlm_hoomd.report.figures import MAX_COLUMNS, WIDE, letter
from qlm_hoomd.report.mode_panels import joint_modes, passive_share
from qlm_hoomd.report.results import Results, SectionFigure

# Figure 1 lives in units in which chi = 1. Its examples have |Phi| = 0.4, which spreads them over lambda < 1: that is omega <
# 1, where modes in glasses follow the power law.
_PHI = 0.4
_LAMBDA_MAX, _KAPPA_MAX = 1.0, 1.75
_MAX_MODES = 4000  # of the measured ones that figure 1 shows


def flow(results: Results) -> SectionFigure:
    """The flow of (lambda, kappa) under rising stress, with the potentials along it and our own modes behind it.

    Along +stress kappa grows (eq. 3), so that a mode fails on its branch of negative kappa, at D = (0, -sqrt(Phi)), and is
    reinserted at B' = (3 Phi / 2, +2 sqrt(Phi)) with the same Phi. The modes are drawn in the orientation that forward shear
    drives.
    """
    figure = Figure(figsize=(WIDE, 3.6), layout="constrained")
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
        "Flow of the parameters of a mode, <i>u</i>(<i>s</i>) = <i>λs</i>²/2 + <i>κs</i>³/6 + <i>s</i>⁴/24, under rising "
        "stress. Blue: a passive mode; red: a shear transformation. A: one minimum; B: the second one appears; C: both are "
        "equally deep; D: failure, then B′. Right: the potentials there, tilted by the stress, with the state as a dot; D "
        "and B′ share one. {}"
    )
    return SectionFigure(
        "figure_1",
        figure,
        caption.format(counted or "These are curves of the theory; no mode has been measured with its κ and χ."),
    )


def _measured_modes(ax: Axes, results: Results) -> str:
    """Our modes in the theory's units behind the curves, and what to know of them; empty where there are none.

    Nonlinear modes are dark where there are any, harmonic ones that pass for quasi-localised faint.
    """
    kinds: dict[str, list[pl.DataFrame]] = {}
    for preparation in results.preparations[:MAX_COLUMNS]:
        for kind, modes in joint_modes(results, preparation).items():
            limit = {size: results.settings.threshold(size) for size in modes["n_particles"].unique()}
            local = pl.col("participation_ratio") < pl.col("n_particles").replace_strict(limit, return_dtype=pl.Float64)
            kinds.setdefault(kind, []).append(modes.filter(local))
    said = []
    strain = results.settings.strains[0]
    for kind, tables in sorted(kinds.items(), key=lambda item: item[0] == "harmonic"):
        own = pl.concat(tables, how="diagonal")
        inside = own.filter(pl.col("curvature") <= _LAMBDA_MAX, pl.col("kappa_theory").abs() <= _KAPPA_MAX)
        if inside.is_empty():
            continue
        faint = kind == "harmonic" and len(kinds) > 1
        glasses = own.select("preparation", "n_particles", "realisation").n_unique()
        shown = inside.gather_every(max(1, -(-inside.height // _MAX_MODES)))
        (dots,) = ax.plot(
            shown["curvature"].to_numpy(),
            shown["kappa_theory"].to_numpy(),
            ".",
            color=GUIDE if kind == "harmonic" else INK,
            markersize=2.5 if faint else 3.5,
            alpha=0.35 if faint else 0.7,
            markeredgewidth=0,
            rasterized=True,
            zorder=1,
            label=rf"{kind} modes, $\gamma={strain:g}$ ({glasses} realisations)",
        )
        mark(dots, glasses)
        said.append(
            f"{'Grey' if kind == 'harmonic' else 'Black'} dots: {shown.height} {kind} modes of {glasses} realisations at "
            f"strain {strain:g}; of all {own.height} that are quasi-localised, beyond the picture too, {passive_share(own)} "
            "have Φ < 0."
        )
    if not said:
        return ""
    return " ".join(said) + (
        " All preparations and sizes, oriented along forward shear, in units of the frozen mode's χ: with it modes pass for "
        "passive in glasses that all fail. With the rest of the glass following χ is smaller and often negative. Harmonic "
        "modes mix with phonons besides and are not the theory's; cubic ones move as instabilities do."
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
