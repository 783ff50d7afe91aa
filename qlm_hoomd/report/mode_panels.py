"""Panels of the modes: participation ratios, densities of states, the plane of the theory's variables.

Arrays are points of a curve, without suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from qlm_hoomd.report.axes import (
    BLUE,
    COLOURS,
    GREEN,
    GUIDE,
    INK,
    SMALL,
    TINY,
    in_words,
    inset,
    legend,
    legend_below,
    plain_numbers,
    size_style,
    strain_styles,
)
from qlm_hoomd.report.drawn import mark
from qlm_hoomd.report.numbers import STRAIN_TOLERANCE, Estimate, Spectrum
from qlm_hoomd.report.results import NONLINEAR_KINDS, Results
from qlm_hoomd.statistics import DensityOfStates, MinimaDistribution, SpectrumFit

MAX_POINTS = 20_000  # of a scatter plot; more are thinned
_MAX_BANDS = 12  # of plane waves that are drawn; beyond, they only make the picture grey


def spectra_of(results: Results, preparation: str, strains: Sequence[float], *, sizes: bool = False) -> list[Spectrum]:
    """The spectra of the largest size at these strains, or where ``sizes`` of all sizes at the only strain, those with modes."""
    analysis = results.analysis
    if sizes and len(strains) == 1:
        found: list[Spectrum | None] = [s for s in analysis.spectra if (s.preparation, s.strain) == (preparation, strains[0])]
    else:
        found = [analysis.largest(preparation, strain) for strain in strains]
    return [spectrum for spectrum in found if spectrum is not None and spectrum.density is not None]


def density(
    ax: Axes,
    results: Results,
    preparation: str,
    *,
    strains: Sequence[float] | None = None,
    fits: bool = True,
    softest: bool = False,
    continuum: bool = False,
    insets: bool = False,
    title: str = "",
) -> None:
    """D_L of the largest size at some strains, or of all sizes at one, with its fit ranges and omega^4.

    Args:
        ax: where to draw.
        results: with the spectra.
        preparation: of which.
        strains: the representative ones by default.
        fits: draw the fitted power laws, and name their exponents.
        softest: draw the density of the softest modes too, and the fit ranges of alpha' (App. G).
        continuum: draw the first phonon, the Debye level and D_G of the largest size at the first strain too.
        insets: draw the participation ratios at the first strain, small.
        title: further words for the legend's title.
    """
    analysis = results.analysis
    strains = results.settings.shown if strains is None else strains
    spectra = spectra_of(results, preparation, strains, sizes=continuum)
    styles = strain_styles(strains)
    several_sizes = len({s.n_particles for s in spectra}) > 1
    quoted = analysis.spectrum_estimate(preparation, spectra[0].strain) if continuum else None
    main = (analysis.spectrum_of(quoted) if quoted is not None else None) or spectra[-1 if several_sizes else 0]
    for spectrum in spectra:
        assert spectrum.density is not None
        style = size_style(results, spectrum.n_particles) if several_sizes else styles[spectrum.strain]
        name = f"N={spectrum.n_particles}" if several_sizes else rf"\gamma={spectrum.strain:g}"
        label = f"${name}$ ({spectrum.n_realisations})"
        if fits:
            found = {"method": "spectrum", "strain": spectrum.strain, "n_particles": spectrum.n_particles}
            (estimate,) = analysis.find(preparation=preparation, **found)
            label += in_words(estimate, r"\alpha")
            _fit_line(ax, estimate, spectrum, style["color"], f"${name}$", results.dimensions)
        _spectrum_points(ax, spectrum.density, label, **style)
        if softest and spectrum.softest is not None:
            open_style = style | {"markerfacecolor": "none", "alpha": 0.8}
            _spectrum_points(ax, spectrum.softest, f"_softest, ${name}$", **open_style)
    if softest:
        ax.plot([], [], "o", color=INK, markerfacecolor="none", markersize=4, label=r"softest: $D(\omega_\mathrm{min})$")
    if continuum and main.excess is not None:
        _spectrum_points(ax, main.excess, r"$D_G=D-D_\mathrm{Debye}$", marker="x", color=INK)
    _range_of_spectra(ax, [d for s in spectra for d in (s.density, s.softest if softest else None) if d is not None])
    for lower, upper in dict.fromkeys((s.window.lower, s.window.upper) for s in spectra):
        axis_marks(ax, (lower, upper), GREEN, "fit range")
    if softest:
        _primed_marks(ax, results, spectra[0])
        ax.set_ylabel(r"$D_L(\omega)$, $D(\omega_\mathrm{min})$")
    if continuum:
        if main.plane_waves is not None:
            omega = np.geomspace(*ax.get_xlim(), 12)
            level = main.plane_waves.debye_density(omega)
            ax.plot(omega, level, color=GUIDE, linestyle=":", linewidth=1, label="Debye level")
        phonon_line(ax, main, "first phonon")
    plain_numbers(ax.xaxis)
    of = "realisations in brackets" if several_sizes else f"$N={spectra[0].n_particles}$ (realisations)"
    heading: dict[str, Any] = {"fontsize": TINY, "title": of + title, "alignment": "left"}
    if insets:
        # The inset takes the room that the legend has elsewhere.
        legend_below(ax, 0.45, **heading)
    else:
        legend(ax, loc="upper left", **heading)
        low, high = ax.get_ylim()
        share = 0.055 * (1.5 + len(ax.get_legend_handles_labels()[0]))
        ax.set_ylim(low, high * (high / low) ** (share / (1 - share)))
    if insets:
        small = inset(ax, (0.62, 0.13, 0.36, 0.3))
        participation(small, results, spectra[0])
        small.set(xlabel=r"$\omega$", ylabel="$e$")


def _range_of_spectra(ax: Axes, densities: Sequence[DensityOfStates]) -> None:
    """A range that holds all occupied bins, and omega^4 above their bars."""
    seen = [
        (x, y, end)
        for d in densities
        for x, y, end, n in zip(d.centres, d.density, d.high, d.counts, strict=True)
        if n and y > 0
    ]
    low, high = min(x for x, *_ in seen), max(x for x, *_ in seen)
    bottom, top = min(y for _, y, _ in seen), max(end for *_, end in seen)
    ax.set(xlim=(low / 1.4, high * 1.5), ylim=(0.3 * bottom, 3.0 * top))
    power_guide(ax, 4, (0.5 * high, 0.7 * high), 1.5 * max((end for x, _, end in seen if x < 0.85 * high), default=top))


def _primed_marks(ax: Axes, results: Results, spectrum: Spectrum) -> None:
    """Ends of the fit ranges of alpha' on the axis, in the colours of their strains."""
    styles = strain_styles(results.settings.shown)
    for estimate in results.analysis.find(quantity="alpha_prime", method="distribution", preparation=spectrum.preparation):
        fit = estimate.fit
        if estimate.strain in styles and isinstance(fit, MinimaDistribution) and spectrum.n_particles in fit.sizes:
            median = fit.scales[fit.sizes.index(spectrum.n_particles)]
            name = f"fit range of α′, strain {estimate.strain:g}"
            axis_marks(ax, [end * median for end in fit.window], styles[estimate.strain]["color"], name, row=1)


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
        if not mask.any():
            continue
        (dots,) = ax.plot(omega[mask], e[mask], ".", color=colour, markersize=2.5, alpha=0.7, label=label, rasterized=True)
        mark(dots, spectrum.n_realisations)
    ax.axhline(spectrum.threshold, color=INK, linewidth=0.9, label="_threshold e_c")
    ax.annotate(
        f"$e_c={spectrum.threshold:.3g}$",
        (0.02, spectrum.threshold),
        (0, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        fontsize=TINY,
    )
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


def _spectrum_points(ax: Axes, density: DensityOfStates, label: str, **style: Any) -> None:
    """The occupied bins of a density with their counting errors."""
    known = set(map(id, ax.containers))
    density.plot(ax, **({"fmt": "", "linestyle": "", "markersize": 4} | style), label=label)
    for container in ax.containers:
        if id(container) not in known:
            mark(container, density.n_realisations)


def _fit_line(ax: Axes, estimate: Estimate, spectrum: Spectrum, colour: str, name: str, dimensions: int) -> None:
    """The fitted power law over its window."""
    if estimate.exponent is None or not isinstance(estimate.fit, SpectrumFit) or estimate.exponent.window is None:
        return
    lower, upper = estimate.exponent.window
    omega = np.geomspace(max(lower, 0.3 * upper), upper, 24)
    weak = estimate.refusal is not None
    level = estimate.fit.curve(omega) / (float(dimensions) * spectrum.n_particles)
    label = f"_{'weak ' * weak}fit, {name}"
    (line,) = ax.plot(omega, level, color=colour, linestyle=":" if weak else "-", linewidth=1.1, label=label)
    mark(line, spectrum.n_realisations)


def power_guide(ax: Axes, exponent: float, omega: tuple[float, float], level: float) -> None:
    """A straight line omega^exponent that reaches ``level`` at the upper end of the range, with its name at the lower one."""
    x = np.geomspace(*omega, 12)
    ax.plot(x, level * (x / omega[1]) ** exponent, color=GUIDE, linewidth=1, linestyle="--", label=f"_guide ω^{exponent:g}")
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


def joint(ax: Axes, results: Results, preparation: str) -> None:
    """P(lambda, kappa) at the first strain, all sizes together: of nonlinear modes where there are any, harmonic ones faint."""
    # Numba comes with it, which no other part of a report needs.
    from qlm_hoomd.anharmonic import JointDistribution

    (kind, own), *behind = joint_modes(results, preparation).items()
    JointDistribution().compute(own).plot(ax)
    for name, modes in behind:
        shown = modes.gather_every(max(1, -(-modes.height // MAX_POINTS)))
        (dots,) = ax.plot(
            shown["curvature"].to_numpy(),
            shown["kappa_theory"].to_numpy(),
            ".",
            color=GUIDE,
            markersize=2.5,
            alpha=0.5,
            markeredgewidth=0,
            zorder=0,
            rasterized=True,
            label=rf"{name} modes, {passive_share(modes)} with $\Phi<0$",
        )
        mark(dots, modes.select("n_particles", "realisation").n_unique())
    n = own.select("n_particles", "realisation").n_unique()
    outside = ax.get_title().partition(", ")[2].replace(" the picture", "")
    head = f"{own.height} {kind} modes of {n} realisation{'s' * (n > 1)}" + f", {outside}" * bool(outside)
    ax.set_title(head + "\n" + rf"{passive_share(own)} with $\Phi<0$", fontsize=TINY)
    # The legend lies below the modes.
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.2 * (high - low), high)
    legend(ax, loc="lower left", fontsize=6.5)


def joint_modes(results: Results, preparation: str) -> dict[str, pl.DataFrame]:
    """The stable modes with a kappa in the theory's units at the first strain, by kind: nonlinear ones, then harmonic ones.

    Each with lambda as ``curvature``.
    """
    at = (pl.col("strain") - results.settings.strains[0]).abs() < STRAIN_TOLERANCE
    nonlinear, harmonic = results.nonlinear_modes(preparation), results.tables.get("modes", pl.DataFrame())
    tables = {} if nonlinear.is_empty() else {NONLINEAR_KINDS[nonlinear["kind"][0]]: nonlinear}
    if {"kappa_theory", "eigenvalue"} <= set(harmonic.columns):
        tables["harmonic"] = harmonic.filter(preparation=preparation).with_columns(curvature="eigenvalue")
    stable = {k: t.filter(at, pl.col("kappa_theory").is_not_null(), pl.col("curvature") > 0) for k, t in tables.items()}
    return {kind: table for kind, table in stable.items() if not table.is_empty()}


def passive_share(modes: pl.DataFrame) -> str:
    """How many of these modes lie inside the parabola Phi = 0, in percent."""
    share = modes.select((pl.col("kappa_theory") ** 2 < 2 * pl.col("curvature")).mean()).item()
    return f"{100 * share:.3g} %"


def first_spectrum(results: Results, preparation: str) -> Spectrum | None:
    """The spectrum of the largest size at the first strain that has one."""
    found = (results.analysis.largest(preparation, strain) for strain in results.settings.strains)
    return next((spectrum for spectrum in found if spectrum is not None), None)


def participation_and_bands(ax: Axes, results: Results, preparation: str) -> None:
    """Participation ratios of :func:`first_spectrum` with the plane waves of the box."""
    spectrum = first_spectrum(results, preparation)
    assert spectrum is not None
    participation(ax, results, spectrum)
    phonon_bands(ax, spectrum)
    n = spectrum.n_realisations
    ax.set_title(rf"$N={spectrum.n_particles}$, $\gamma={spectrum.strain:g}$ ({n} realisation{'s' * (n > 1)})", fontsize=SMALL)
    ax.set_ylim(ax.get_ylim()[0] / 5, 1.0)  # room for the legend
    plain_numbers(ax.yaxis)
    legend(ax, loc="lower center", markerscale=3, ncols=3, columnspacing=0.8, handletextpad=0.3, fontsize=TINY)


def steady_spectra(results: Results, preparation: str) -> list[Spectrum]:
    """The spectra of the largest size at the strains of steady flow."""
    steady = results.analysis.steady(preparation)
    if steady is None:
        return []
    first, last = steady
    strains = [s for s in results.settings.strains if first - STRAIN_TOLERANCE <= s <= last + STRAIN_TOLERANCE]
    return spectra_of(results, preparation, strains)


def steady_density(ax: Axes, results: Results, preparation: str) -> None:
    """D_L at the strains of steady flow, with the alpha pooled over them."""
    strains = [s.strain for s in steady_spectra(results, preparation)]
    pooled = [e for e in results.analysis.pooled(preparation) if (e.quantity, e.method) == ("alpha", "spectrum")]
    words = f"; pooled{in_words(pooled[0], chr(92) + 'alpha')}" if pooled else ""
    density(ax, results, preparation, strains=strains, fits=False, title=words)
