"""Figures 2, 3 and 5 to 8: stress, minima, spectra and exponents. Arrays are points of a curve, without suffix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qlm_hoomd.report import panels
from qlm_hoomd.report.drawn import mark
from qlm_hoomd.report.figures import PANEL
from qlm_hoomd.report.numbers import STRAIN_TOLERANCE, Analysis, Estimate, Spectrum
from qlm_hoomd.report.panels import BLUE, GREEN, INK, RED, SMALL
from qlm_hoomd.report.paper.frame import (
    LETTERS,
    Drawn,
    MissingDataError,
    as_inset,
    columns,
    grid,
    letter,
    letters,
    limits_with_room,
    nothing,
    per_row,
    share_x,
    share_y,
)
from qlm_hoomd.report.results import Results
from qlm_hoomd.statistics import MinimaDistribution


def shear_and_spectra(results: Results) -> Drawn:
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
    figure, axes = grid(results, len(rows), 2.45)
    for column, preparation in enumerate(columns(results)):
        for row, name in enumerate(rows):
            ax = axes[row][column]
            if name == "stress":
                _stress_panel(ax, results, preparation, inset=column == 0)
            elif name == "density":
                _density_panel(ax, results, preparation)
            else:
                if not _has(results, preparation, name):
                    nothing(ax)
                    continue
                panels.mean_minima(ax, results, preparation, name, shown, estimated=False)
                _room_below(ax, 0.1 + 0.085 * len(ax.get_legend_handles_labels()[0]))
                panels.legend(ax, loc="lower left", fontsize=7)
    share_y(axes)
    what = {
        "stress": "stress-strain curves of all sizes; the inset shows what <i>γ</i><sub>min</sub> is, on one realisation of the largest "
        "size (the one whose <i>γ</i><sub>min</sub> there is the median)",
        "gamma_min": "mean strain to the next instability against size",
        "omega_min": "mean frequency of the softest quasi-localised mode against size",
        "density": "density of quasi-localised modes of the largest size. Solid: the fits over the ranges that the green marks on the "
        "axis show; insets: participation ratios at the first strain and their threshold <i>e</i><sub>c</sub>",
    }
    return Drawn(
        figure,
        Markup("{}. Bars: standard errors; brackets: {:g} % intervals.").format(
            per_row(results, [what[name] for name in rows]), 100 * analysis.settings.confidence
        ),
    )


def _stress_panel(ax: Axes, results: Results, preparation: str, *, inset: bool) -> None:
    if results.analysis.stress_strain.filter(pl.col("preparation") == preparation).is_empty():
        nothing(ax)
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
        as_inset(small)


def _largest_spectra(analysis: Analysis, preparation: str, strains: Sequence[float]) -> list[Spectrum]:
    """The spectra of the largest size at these strains, those with modes in them."""
    found = [analysis.largest(preparation, strain) for strain in strains]
    return [spectrum for spectrum in found if spectrum is not None and spectrum.density is not None]


def _density_panel(ax: Axes, results: Results, preparation: str) -> None:
    analysis = results.analysis
    shown = analysis.settings.shown
    spectra = _largest_spectra(analysis, preparation, shown)
    if not spectra:
        nothing(ax)
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
    as_inset(small)
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


def exponents(results: Results) -> Drawn:
    """Theta and alpha against strain, measured and predicted."""
    analysis = results.analysis
    if not any(
        e.exponent is not None and np.isfinite(e.exponent.value)
        for e in (*analysis.find(quantity="theta"), *analysis.find(quantity="alpha"))
    ):
        raise MissingDataError("there is no exponent yet, not even a weak one")
    figure, axes = grid(results, 2, 2.5)
    for column, preparation in enumerate(columns(results)):
        sizes = sorted(analysis.minima.filter(pl.col("preparation") == preparation)["n_particles"].unique())
        for ax, quantity, draw in ((axes[0][column], "theta", panels.thetas), (axes[1][column], "alpha", panels.alphas)):
            if any(e.exponent is not None for e in analysis.find(quantity=quantity, preparation=preparation)):
                draw(ax, results, preparation)
                panels.legend(ax, loc="upper right", title=f"$N={', '.join(map(str, sizes))}$", title_fontsize=SMALL)
            else:
                nothing(ax)
    share_x(axes)
    limits_with_room(axes[0], panels.limits(analysis.find(quantity="theta"), *panels.THETA_RANGE), 0.36)
    limits_with_room(axes[1], panels.limits(analysis.find(quantity="alpha"), *panels.ALPHA_RANGE), 0.42)
    caption = Markup(
        "({}) <i>θ</i> from finite-size scaling of ⟨<i>γ</i><sub>min</sub>⟩ against strain; dashed: 1/4. ({}) <i>α</i> from "
        "⟨<i>ω</i><sub>min</sub>⟩ (blue), from a direct fit of <i>D</i><sub>L</sub> at the largest size that carries one (red), and "
        "predicted from <i>θ</i> (green band). Bars and band: {:g} % intervals. Realisations at each size: {}."
    ).format(
        letters(0, results),
        letters(1, results),
        100 * analysis.settings.confidence,
        "; ".join(f"{name}: {panels.count_range(analysis, name)}" for name in columns(results)),
    )
    return Drawn(figure, caption)


def softest(results: Results) -> Drawn:
    """D_L beside the density of the softest modes, and P(gamma_min)."""
    analysis = results.analysis
    shown = analysis.settings.shown
    spectra = any(s.softest is not None for s in analysis.spectra if s.strain in shown)
    distributions = any(isinstance(e.fit, MinimaDistribution) for e in analysis.find(quantity="theta_prime"))
    rows = [name for name, there in (("spectra", spectra), ("gamma_min", distributions)) if there]
    if not rows:
        raise MissingDataError("there are neither softest modes nor strains to an instability")
    figure, axes = grid(results, len(rows), 2.6)
    for column, preparation in enumerate(columns(results)):
        for row, name in enumerate(rows):
            (_softest_modes if name == "spectra" else _gamma_min_distribution)(axes[row][column], results, preparation)
    share_y(axes)
    what = {
        "spectra": "<i>D</i><sub>L</sub>(<i>ω</i>) (filled) and the density of the softest modes alone (open) of the largest size, both per "
        "3<i>N</i> modes. Green marks: fit range of <i>α</i>; marks in the colours of the strains: fit ranges of <i>α′</i>",
        "gamma_min": "distribution of the single <i>γ</i><sub>min</sub> of all sizes, each over its median; bars are counting errors, lines the fits",
    }
    return Drawn(figure, Markup("{}. In brackets: realisations.").format(per_row(results, [what[name] for name in rows])))


def _softest_modes(ax: Axes, results: Results, preparation: str) -> None:
    analysis = results.analysis
    shown = analysis.settings.shown
    spectra = _largest_spectra(analysis, preparation, shown)
    if not spectra:
        nothing(ax)
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
        nothing(ax)
        return
    ax.set(xlabel=r"$\gamma_\mathrm{min}$ / median", ylabel=r"$P(\gamma_\mathrm{min}$ / median$)$")
    _room_below(ax, 0.3)
    panels.plain_numbers(ax.xaxis)
    panels.legend(ax, loc="lower left", fontsize=7, title="realisations in brackets", title_fontsize=7)


def primed(results: Results) -> Drawn:
    """Theta' and alpha' against strain, alpha' measured and predicted from theta'."""
    analysis = results.analysis
    known = [e for name in ("theta_prime", "alpha_prime") for e in analysis.find(quantity=name) if e.exponent is not None]
    if not known:
        raise MissingDataError("there are too few minima at any strain for theta' or alpha' of App. G")
    figure, axes = grid(results, 2, 2.3)
    for column, preparation in enumerate(columns(results)):
        top, bottom = axes[0][column], axes[1][column]
        if not any(e.preparation == preparation for e in known):
            nothing(top)
            nothing(bottom)
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
    share_x(axes)
    for row, name, inner, outer in ((0, "theta_prime", (-0.4, 0.8), (-0.95, 2.0)), (1, "alpha_prime", (2.0, 5.0), (0.0, 9.0))):
        limits_with_room(axes[row], panels.limits(analysis.find(quantity=name), inner, outer), 0.3)
    caption = Markup(
        "({}) <i>θ′</i> of <i>P</i>(<i>γ</i><sub>min</sub>) ~ <i>γ</i><sub>min</sub><sup><i>θ′</i></sup> and ({}) <i>α′</i> of the softest "
        "modes against strain, the minima of all sizes over their medians together. Red: measured; blue band: 4<i>θ′</i> + 3. Bars and band: {:g} % intervals. "
        "Realisations: {}."
    ).format(
        letters(0, results),
        letters(1, results),
        100 * analysis.settings.confidence,
        "; ".join(
            f"{name}: {min(counts)}–{max(counts)}" if len(set(counts)) > 1 else f"{name}: {counts[0]}"
            for name in columns(results)
            if (
                counts := [
                    sum(e.fit.n_realisations) for e in known if e.preparation == name and isinstance(e.fit, MinimaDistribution)
                ]
            )
        ),
    )
    return Drawn(figure, caption)


def lower_ends(results: Results) -> Drawn:
    """Alpha against the lower end of the window."""
    analysis = results.analysis
    shown = analysis.settings.shown
    scanned = [s for s in analysis.spectra if any(error < 1.0 for error in s.window.lower_scan.error)]
    if not scanned:
        raise MissingDataError("there are too few modes below the phonons to move the window's lower end")
    figure, axes = grid(results, 1, 2.9)
    for column, preparation in enumerate(columns(results)):
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
            nothing(ax)
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
    share_y(axes)
    caption = Markup(
        "<i>α</i> from the direct fit of <i>D</i><sub>L</sub> when the lower end of its window moves and the upper one stays, with its "
        "standard error (band); realisations in brackets. Neighbouring points share modes. Red rings: the windows of figure 3. Windows "
        "whose error exceeds 1 are left out."
    )
    return Drawn(figure, caption)


def steady_state(results: Results) -> Drawn:
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
        nothing(right)
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
    return Drawn(figure, caption)


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
