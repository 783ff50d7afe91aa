"""The model in pictures. Needs matplotlib, the extra ``plots``; it is imported when a figure is asked for.

Every function returns a ``matplotlib.figure.Figure`` that pyplot does not know; ``figure.savefig("name.png")`` writes it.
"""

# Array names carry their axes: n blocks, k points of a curve.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qlm_mesoscopic import block, theory
from qlm_mesoscopic.brief import Brief
from qlm_mesoscopic.errors import ModelError, positive

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from qlm_mesoscopic.master import Loading

# Okabe and Ito: told apart by all kinds of colour vision.
BLUE, RED, GREEN, PINK, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, GUIDE = "#1d1f24", "#8a8f98"

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.labelsize": 9.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "axes.linewidth": 0.7,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "errorbar.capsize": 2.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
_PANEL, _HEIGHT = 3.5, 2.9
_FEWEST_IN_BIN = 4
# Where the names of the states stand beside their points, in points: off the lines.
_NAMES = {"A": (-3, -14), "B": (-3, -14), "C": (-3, -14), "D": (7, 1), "B′": (-3, 6)}

_P = ParamSpec("_P")


@dataclass(frozen=True, repr=False)
class Points(Brief):
    """Measured points with the half widths of their 95 % intervals.

    Args:
        x: abscissa, shape (k,).
        y: ordinate, shape (k,).
        error: half widths, shape (k,); None draws none.
        label: for the legend.
    """

    x: ArrayLike
    y: ArrayLike
    error: ArrayLike | None = None
    label: str = ""


def _in_style(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """``draw`` under the style of this module, which leaves the user's own alone."""

    @wraps(draw)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        try:
            import matplotlib as mpl
        except ImportError as error:
            raise ModelError(
                "matplotlib is not installed; expected it for figures. Run pip install 'qlm_mesoscopic[plots]'."
            ) from error
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return styled


@dataclass(frozen=True, repr=False)
class Interval(Brief):
    """Values with the ends of their intervals.

    Args:
        label: for the legend.
        x: abscissa, shape (k,).
        y: values, shape (k,).
        low, high: ends of the intervals, shape (k,); infinite ends are cut at the frame.
        open: whether a value is drawn open, shape (k,).
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    open: Sequence[bool]


@dataclass(frozen=True, repr=False)
class Crossover(Brief):
    """One panel of :func:`crossover`.

    Args:
        strain: shape (k,).
        at_theta: smallest and largest alpha that the theory lets a fit read, k pairs.
        within: the same over the interval of theta, k pairs.
        series: values beside it.
    """

    strain: Sequence[float]
    at_theta: Sequence[tuple[float, float]]
    within: Sequence[tuple[float, float]]
    series: Sequence[Interval]


@_in_style
def flow(*, lambda_min: float = 1.0) -> Figure:
    """Blocks in the (lambda, kappa) plane under rising stress, and the potential along a shear transformation (Fig. 1).

    Args:
        lambda_min: where a mode is replaced by the next softest one.

    Raises:
        ModelError: unless lambda_min is positive.
    """
    positive(lambda_min=lambda_min)
    figure, (plane, wells) = _panels(2, ratios=(1.5, 1.0), height=3.9)
    top, shown = np.sqrt(2.0 * lambda_min), 1.16 * lambda_min
    high = 1.32 * top
    phi = 0.5 * lambda_min
    root = np.sqrt(phi)
    lam_k = np.linspace(0.0, shown, 400)
    edge_k = np.sqrt(2.0 * lam_k)
    plane.fill_between(lam_k, -edge_k, edge_k, color=BLUE, alpha=0.10, linewidth=0)
    for low, up in ((edge_k, high), (-high, -edge_k)):
        plane.fill_between(lam_k, low, up, color=RED, alpha=0.07, linewidth=0)
    for sign in (-1.0, 1.0):
        plane.plot(lam_k, sign * edge_k, color=INK, label=r"$\Phi=0$" if sign > 0 else None)
        label = r"other well appears, $\kappa^2=8\lambda/3$" if sign > 0 else None
        plane.plot(lam_k, sign * np.sqrt(8.0 * lam_k / 3.0), "--", color=GREEN, label=label)
    plane.axvline(0.0, color=PINK, linewidth=5.0, label=r"saddle-node, $\lambda=0$")
    plane.axvline(lambda_min, color=GUIDE, linestyle=":", label=r"next softest mode, $\lambda_{\min}$")
    for value, colour in ((phi, RED), (-0.6 * lambda_min, BLUE)):
        end, start = np.sqrt(value + 2.0 * lambda_min), np.sqrt(max(value, 0.0))
        for low, up in ((-end, -start), (start, end)) if value > 0.0 else ((-end, end),):
            kappa_k = np.linspace(low, up, 200)
            plane.plot(block.curvature(kappa_k, value), kappa_k, color=colour)
            for place in (0.3, 0.8):
                _arrow(plane, value, low + place * (up - low), 0.02 * (up - low), colour)
    fall = {"arrowstyle": "->", "color": RED, "linestyle": "--", "linewidth": 1.0, "shrinkA": 4, "shrinkB": 4}
    plane.annotate("", (1.5 * phi, 2.0 * root), (0.0, -root), arrowprops=fall)
    states = {"A": -np.sqrt(phi + 1.84 * lambda_min), "B": -2.0 * root, "C": -np.sqrt(3.0 * phi), "D": -root, "B′": 2.0 * root}
    for name, kappa in states.items():
        lam = float(block.curvature(kappa, phi))
        plane.plot(lam, kappa, "o", color=RED, zorder=5, clip_on=False)
        plane.annotate(name, (lam, kappa), xytext=_NAMES[name], textcoords="offset points")
    plane.set(xlim=(0.0, shown), ylim=(-high, high), xlabel=r"$\lambda$", ylabel=r"$\kappa$")
    plane.text(0.80 * lambda_min, 0.0, "passive\n" + r"$\Phi<0$", color=BLUE, ha="center", va="center")
    plane.text(0.05 * lambda_min, -0.93 * high, "shear transformations, " + r"$\Phi>0$", color=RED, ha="left", va="center")
    plane.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, handlelength=1.6, columnspacing=1.0)
    _draw_wells(wells, phi, states)
    return figure


@_in_style
def theta_of_noise(points: Sequence[Points] = (), *, largest: float = 1.0) -> Figure:
    """theta against A / v in the mean field with mu = 1, arctan(pi A / v) / pi, with measured points.

    Args:
        points: what was measured.
        largest: right end of the axis.
    """
    figure, (ax,) = _panels(1)
    ratio_k = np.linspace(0.0, largest, 400)
    ax.plot(ratio_k, theory.theta_mean_field(ratio_k, 1.0), color=INK, label=r"$\arctan(\pi A/v)/\pi$")
    ax.axhline(theory.CROSSOVER, color=GUIDE, linestyle=":")
    ax.text(0.985 * largest, theory.CROSSOVER - 0.008, r"below: $\alpha<4$", color=GUIDE, ha="right", va="top", fontsize=8)
    ax.axhline(0.5, color=GUIDE, linestyle="--", linewidth=0.8)
    ax.text(0.985 * largest, 0.508, "after a quench", color=GUIDE, ha="right", va="bottom", fontsize=8)
    _scatter(ax, points)
    ax.set(xlabel=r"$A/v$", ylabel=r"$\theta$", xlim=(0.0, largest), ylim=(0.0, 0.56))
    ax.legend(loc="lower right")
    return figure


@_in_style
def alpha_of_theta(
    points: Sequence[Points] = (),
    *,
    omegas: Sequence[float] = (0.1, 0.01, 1e-4),
    window: tuple[float, float] | None = None,
    equation: Points | None = None,
    high: float = 0.6,
) -> Figure:
    """alpha against theta: min(4, 3 + 4 theta), and what the same theory shows at a finite frequency.

    Args:
        points: what was measured.
        omegas: frequencies of the finite-frequency curves, units of chi = C = 1.
        window: lambda between which the points were fitted; a band shows what the theory gives in it, between the branch that
            fails against the load as full as the other and empty.
        equation: drawn as a line, such as what :class:`qlm_mesoscopic.modes.ModeEquation` gives in the window of the points.
        high: largest phi, of the curves and the band.
    """
    figure, (ax,) = _panels(1)
    theta_k = np.linspace(0.0, 0.6, 61)
    ax.plot(theta_k, theory.alpha(theta_k), color=INK, label=r"$\min(4,\,3+4\theta)$, $\omega\to0$", linewidth=1.6)
    for omega, colour in zip(omegas, (ORANGE, SKY, PINK, GREEN), strict=False):
        curve_k = np.array([float(theory.alpha_at(omega, float(theta), high=high)) for theta in theta_k])
        ax.plot(theta_k, curve_k, "--", color=colour, label=rf"theory at $\omega={_power(omega)}$")
    if window is not None:
        empty, full = (
            [theory.alpha_in_window(float(theta), window, against=share, high=high) for theta in theta_k]
            for share in (0.0, 1.0)
        )
        label = rf"theory, ${window[0]:g}<\lambda<{window[1]:g}$"
        ax.fill_between(theta_k, empty, full, color=BLUE, alpha=0.18, linewidth=0, label=label)
    if equation is not None:
        ax.plot(np.asarray(equation.x), np.asarray(equation.y), color=BLUE, label=equation.label)
    ax.axvline(theory.CROSSOVER, color=GUIDE, linestyle=":")
    _scatter(ax, points)
    ax.set(xlabel=r"$\theta$", ylabel=r"$\alpha$", xlim=(0.0, 0.6), ylim=(2.9, 4.25))
    ax.legend(loc="lower right", labelspacing=0.3, handlelength=1.6, fontsize=7.5)
    return figure


@_in_style
def crossover(panels: Mapping[str, Crossover]) -> Figure:
    """alpha against strain: what the theory lets a fit at finite frequency read, its limit, and measured values.

    Args:
        panels: by their titles.
    """
    figure, axes = _panels(len(panels), height=3.4)
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        strains = sorted({*panel.strain, *(x for series in panel.series for x in series.x)})
        step = min(np.diff(strains), default=0.01)
        for pairs, strength, label in ((panel.within, 0.12, None), (panel.at_theta, 0.35, "theory in our window")):
            low, high = np.asarray(pairs).T
            ax.bar(panel.strain, high - low, 0.7 * step, low, color=BLUE, alpha=strength, linewidth=0, label=label)
        for index, (series, colour, marker) in enumerate(zip(panel.series, (INK, RED, GREEN), "os^", strict=False)):
            x, y = np.asarray(series.x), np.asarray(series.y)
            with np.errstate(invalid="ignore"):  # an exponent without bound has no reach either, and is not drawn
                reach = np.clip([y - np.asarray(series.low), np.asarray(series.high) - y], 0.0, 10.0)
            weak = np.asarray(series.open, dtype=bool)
            for chosen, fill in ((~weak, "full"), (weak, "none")):
                label = series.label if fill == "full" or weak.all() else None
                if chosen.any():
                    ax.errorbar(
                        x[chosen], y[chosen], reach[:, chosen], fmt=marker, color=colour, fillstyle=fill, label=label,
                        elinewidth=3.5 - 1.2 * index, zorder=2 + index,  # bars at one strain show behind each other
                        alpha=1.0 if fill == "full" else 0.45,
                    )  # fmt: skip
        span = (strains[0] - max(step, 0.005), strains[-1] + max(step, 0.005))
        ax.set(xlabel=r"strain $\gamma$", ylabel=r"$\alpha$", xlim=span, ylim=(2.0, 6.0), title=title)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=7.5)
    return figure


@_in_style
def loading(curves: Mapping[str, Loading], points: Mapping[str, tuple[Points, Points]] | None = None) -> Figure:
    """Stress and theta against activity as a quenched system is loaded: theta drops and rises again.

    Args:
        curves: loadings by their label.
        points: for a label, sampled stress and sampled theta against activity.
    """
    figure, axes = _panels(2)
    for ax in axes:
        ax.set(xscale="log", xlabel=r"activity $\gamma_p$, failures per block")
    for (label, curve), colour in zip(curves.items(), (BLUE, RED, GREEN, ORANGE), strict=False):
        shown = curve.activity_t > 1e-3
        axes[0].plot(curve.activity_t[shown], curve.stress_t[shown], color=colour, label=label)
        axes[1].plot(curve.activity_t[shown], curve.theta_t[shown], color=colour, label=label)
        for ax, measured in zip(axes, (points or {}).get(label, ()), strict=False):
            ax.plot(np.asarray(measured.x), np.asarray(measured.y), "o", color=colour, markersize=3.5, fillstyle="none")
    axes[0].set(ylabel=r"mean stress $\Sigma$", ylim=(0.0, None))
    axes[1].set(ylabel=r"$\theta=\arctan(\pi A/v)/\pi$", ylim=(0.0, None))
    axes[1].axhline(theory.CROSSOVER, color=GUIDE, linestyle=":")
    axes[1].text(0.97, 0.05, r"$\theta=1/2$ before loading", transform=axes[1].transAxes, ha="right", fontsize=8)
    axes[0].legend(loc="lower right")
    return figure


@_in_style
def joint_density(
    theta: float,
    lam_n: ArrayLike | None = None,
    kappa_n: ArrayLike | None = None,
    *,
    lambda_min: float = 1.0,
    low: float = -1.0,
    high: float = 0.6,
) -> Figure:
    """P(lambda, kappa): of the theory, and of blocks where they are given.

    Args:
        theta: pseudo-gap exponent of the theory's panel.
        lam_n: lambda of each block, shape (n,).
        kappa_n: kappa of each block, shape (n,).
        lambda_min: right end of the plane.
        low: smallest phi.
        high: largest phi.

    Raises:
        ModelError: if only one of lam_n and kappa_n is given, or their shapes differ.
    """
    blocks = _both(lam_n, kappa_n, "lam_n and kappa_n")
    from matplotlib.colors import LogNorm

    figure, axes = _panels(1 if blocks is None else 2, height=3.2)
    top = 1.05 * float(np.sqrt(high + 2.0 * lambda_min))

    def edges(bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.linspace(0.0, lambda_min, bins + 1), np.linspace(-top, top, bins + 1)

    edges_l, edges_k = edges(300)
    middle_l, middle_k = 0.5 * (edges_l[1:] + edges_l[:-1]), 0.5 * (edges_k[1:] + edges_k[:-1])
    expected = theory.joint_density(middle_l[:, None], middle_k[None, :], theta, low=low, high=high)
    panels = [(rf"theory, $\theta={theta:.2f}$", edges_l, edges_k, expected)]
    if blocks is not None:
        edges_l, edges_k = edges(40)
        counts, _, _ = np.histogram2d(*blocks, bins=(edges_l, edges_k))
        panels.append((f"{blocks[0].size:,} blocks".replace(",", "\u2009"), edges_l, edges_k, counts))
    for ax, (title, edges_l, edges_k, values) in zip(axes, panels, strict=True):
        scaled = values / (values.sum() * (edges_l[1] - edges_l[0]) * (edges_k[1] - edges_k[0]))
        norm = LogNorm(3e-3, 3.0)
        image = ax.imshow(
            np.where(scaled.T > 0.0, scaled.T, np.nan),
            norm=norm,
            cmap="viridis",
            origin="lower",
            extent=(0.0, lambda_min, -top, top),
            aspect="auto",
            interpolation="nearest",
        )
        lam_k = np.linspace(0.0, lambda_min, 300)
        for sign in (-1.0, 1.0):
            ax.plot(lam_k, sign * np.sqrt(2.0 * lam_k), color="white", linewidth=1.0)
            ax.plot(lam_k, sign * np.sqrt(8.0 * lam_k / 3.0), "--", color="white", linewidth=0.9)
        ax.set(xlabel=r"$\lambda$", ylabel=r"$\kappa$", title=title, xlim=(0.0, lambda_min), ylim=(-top, top))
        figure.colorbar(image, ax=ax, label=r"$P(\lambda,\kappa)$", pad=0.02, extend="both")
    return figure


@_in_style
def spectrum(theta: float, lam_n: ArrayLike | None = None, phi_n: ArrayLike | None = None, *, high: float = 0.6) -> Figure:
    """D_L(omega) of the theory with its two parts, passive modes and shear transformations, and of blocks where they are given.

    Args:
        theta: pseudo-gap exponent of the theory.
        lam_n: lambda of each block, shape (n,).
        phi_n: phi of each block, shape (n,).
        high: largest phi.

    Raises:
        ModelError: if only one of lam_n and phi_n is given, or their shapes differ.
    """
    blocks = _both(lam_n, phi_n, "lam_n and phi_n")
    figure, (ax,) = _panels(1)
    omega_k = np.geomspace(0.05, np.sqrt(high), 200)
    parts = [2.0 * omega_k * part for part in theory.spectrum(omega_k**2, theta, high=high)]
    scale = 1.0
    if blocks is not None:
        omega_n, shear_n = np.sqrt(blocks[0]), blocks[1] > 0.0
        edges = np.geomspace(0.05, 1.0, 19)
        centre, width = np.sqrt(edges[1:] * edges[:-1]), np.diff(edges)
        every, shear = (np.histogram(values, edges)[0] for values in (omega_n, omega_n[shear_n]))
        for counts, colour, marker in ((every, INK, "o"), (shear, RED, "s"), (every - shear, BLUE, "^")):
            seen = counts >= _FEWEST_IN_BIN
            height = counts[seen] / (width[seen] * len(omega_n))
            ax.errorbar(
                centre[seen], height, height / np.sqrt(counts[seen]), fmt=marker, color=colour, fillstyle="none", markersize=3.5
            )
        # One number, the height: from the blocks between omega = 0.1 and 0.3.
        inside = (omega_n > 0.1) & (omega_n < 0.3)
        grid = np.linspace(0.1, 0.3, 400)
        total = 2.0 * grid * np.add(*theory.spectrum(grid**2, theta, high=high))
        scale = inside.mean() / float(np.sum(0.5 * (total[1:] + total[:-1]) * np.diff(grid)))
    for values, colour, label in (
        (parts[0] + parts[1], INK, "all"),
        (parts[0], RED, "shear transformations"),
        (parts[1], BLUE, "passive"),
    ):
        ax.plot(omega_k, scale * values, color=colour, label=label)
    ax.set(xscale="log", yscale="log", xlabel=r"$\omega=\sqrt{\lambda}$", ylabel=r"$D_L(\omega)$")
    ax.legend(loc="upper left", title=rf"theory, $\theta={theta:.2f}$", title_fontsize=8)
    return figure


def _both(
    first: ArrayLike | None, second: ArrayLike | None, names: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Both as arrays, or None where both are left out."""
    if first is None and second is None:
        return None
    if first is None or second is None or np.asarray(first).shape != np.asarray(second).shape:
        raise ModelError(f"{names}; expected both, of one shape, or neither.")
    return np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)


def _panels(count: int, *, ratios: Sequence[float] | None = None, height: float = _HEIGHT) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_PANEL * count + 0.3 * (count - 1), height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, width_ratios=ratios)[0])


def _scatter(ax: Axes, points: Sequence[Points]) -> None:
    for measured, colour, marker in zip(points, (BLUE, RED, GREEN, PINK), "os^D", strict=False):
        ax.errorbar(
            np.asarray(measured.x), np.asarray(measured.y), None if measured.error is None else np.asarray(measured.error),
            fmt=marker, color=colour, label=measured.label or None, fillstyle="none",
        )  # fmt: skip


def _arrow(ax: Axes, phi: float, kappa: float, step: float, colour: str) -> None:
    start, end = ((float(block.curvature(k, phi)), k) for k in (kappa - step, kappa + step))
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.0})


def _draw_wells(ax: Axes, phi: float, states: Mapping[str, float]) -> None:
    """u(s) in each state, one below the other, over the displacement from the symmetric point, which equals kappa."""
    unit = np.sqrt(phi)
    s_k = np.linspace(-3.2, 3.2, 800)
    spacing = 1.15
    for level, name in enumerate(("A", "B", "C", "D")):
        # In units of phi: kappa of the minimum, and the stress that makes it one.
        kappa = states[name] / unit
        sigma = float(block.stress(kappa, 1.0))
        base = _tilted(kappa, sigma) + level * spacing
        energy_k = _tilted(s_k, sigma) - base
        near = energy_k < 1.3 - level * spacing
        ax.plot(s_k[near], energy_k[near], color=RED, linewidth=1.1)
        for shown in ("D", "B′") if name == "D" else (name,):
            place = states[shown] / unit
            height = _tilted(place, sigma) - base
            ax.plot(place, height, "o", color=RED)
            ax.annotate(shown, (place, height), xytext=(0, -13), textcoords="offset points", ha="center")
    ax.set(xlabel=r"$s/\sqrt{\Phi}$ from the symmetric point", ylabel="$u$, shifted", yticks=[], xlim=(-3.2, 3.2))
    ax.margins(y=0.1)


def _tilted(s: Any, sigma: float) -> Any:
    """The potential seen from its symmetric point, with phi = 1: no cubic term, curvature -1/2 there, slope -sigma."""
    return s**4 / 24.0 - s**2 / 4.0 - sigma * s


def _power(value: float) -> str:
    exponent = np.log10(value)
    return rf"10^{{{exponent:.0f}}}" if abs(exponent - round(exponent)) < 1e-9 else f"{value:g}"
