"""Softest modes, participation ratio, density of quasi-localised modes, and moduli. No arrays."""

from __future__ import annotations

from markupsafe import Markup

from qlm_hoomd.report import figures
from qlm_hoomd.report.markup import (
    ALPHA,
    OMEGA_MIN,
    N,
    details,
    foldable,
    join,
    note,
    number,
    paragraph,
    table,
)
from qlm_hoomd.report.mode import softest_mode
from qlm_hoomd.report.results import Results, Section, SectionFigure
from qlm_hoomd.report.sections.tables import minima_table, scaling_table
from qlm_hoomd.report.words import (
    percent,
    shown_only,
)


def spectrum(results: Results) -> Section | None:
    """Softest modes, participation ratio, density of quasi-localised modes, and alpha."""
    if results.stage("modes") is None and "modes" not in results.tables:
        return None
    analysis = results.analysis
    if not analysis.spectra:
        refused = dict.fromkeys(str(e.refusal) for e in analysis.find(method="omega_min"))
        return Section("Vibrational modes", note("No spectrum to show: {}.", "; ".join(refused)))
    rows = [
        (
            s.preparation,
            f"{s.strain:g}",
            s.n_particles,
            s.n_realisations,
            f"{s.threshold:.3g}",
            f"{s.plane_waves.first_frequency:.3g}" if s.plane_waves else None,
            f"{s.omega_complete:.3g}",
            f"{s.window.lower:.3g}–{s.window.upper:.3g}",
            s.limited_by.replace(" ", "\u00a0"),
            *(f"{value:.2f}" if value is not None else None for value in s.threshold_scan),
            s.refusal or "",
        )
        for s in analysis.spectra
    ]
    text = [
        *(
            [note("Only samples with these labels are counted here: {}.", results.settings.selection)]
            if results.settings.selection
            else []
        ),
        paragraph(
            "Each realisation has its lowest modes diagonalised. Modes whose participation ratio exceeds "
            "<i>e</i><sub>c</sub> count as phonons and are removed. {} {} The power law is fitted to the frequencies "
            "themselves, without bins.",
            _threshold_rule(results),
            _window_rule(results),
        ),
        paragraph(
            "Small samples of a glass that was quenched from a high temperature are known to show {} below 4, and lose that "
            "as they grow (Lerner, 2020): compare the sizes.",
            ALPHA,
        ),
    ]
    e_c = Markup("<i>e</i><sub>c</sub>")
    headers = ["preparation", "strain", N, "realisations", e_c, "first phonon", "complete up to", "window", "end set by"]
    headers += [Markup("{} at {} {}").format(ALPHA, factor, e_c) for factor in (0.8, 1.2)]
    headers.append("why not")
    tables = [
        minima_table(results, "omega_min", OMEGA_MIN, "no localised mode found"),
        scaling_table(results, "omega_min", ALPHA),
        foldable(
            "The fit windows of the spectra, and what a change of the threshold by 20 % does",
            headers,
            rows,
            figure="density",
            anchor="table-windows",
        ),
        _moduli_table(results),
    ]
    if "residual" in results.tables["modes"].columns:
        residual = float(results.tables["modes"]["residual"].max() or 0)  # type: ignore[arg-type]
        tables.append(paragraph("Largest residual |<b>H</b>Ψ − λΨ| of all modes: {}.", f"{residual:.1e}"))
    captions = {
        "omega_min": Markup(
            "Mean frequency of the softest quasi-localised mode against system size. Bars are standard errors of the mean, "
            "lines the fitted power laws (dotted where the exponent is withheld), brackets the {} % intervals of <i>α</i>. {}"
        ).format(percent(results), shown_only(results)),
        "participation": Markup(
            "Participation ratio against frequency, all modes of the largest size. The horizontal line is "
            "<i>e</i><sub>c</sub>, the dash-dotted one the first phonon, <i>c</i><sub>s</sub> 2π/<i>L</i>, the thin ones the further "
            "bands of plane waves of the box at this strain, from the measured sound speeds."
        ),
        "density": Markup(
            "Density of quasi-localised modes, normalised to one over all 3<i>N</i> modes, with counting errors; number of "
            "realisations in brackets. The fit window is shaded; dash-dotted: the first phonon. Dashed: the Debye level, the "
            "density of the plane waves in a large system. Crosses: <i>D</i><sub>G</sub>, from the first phonon on, all modes less "
            "the Debye level, without any filter; trust it where a bin holds several bands."
        ),
        "joint": Markup(
            "Harmonic modes of all sizes in the plane of the theory's variables, λ and κ in units in which χ = 1, oriented along "
            "forward shear. χ is that of the frozen mode; with the rest of the glass following it is smaller and often negative, "
            "which is why modes inside the parabola Φ = 0, passive by the theory, do fail. On the outer parabola the theory "
            "reinserts a mode that has failed."
        ),
        "joint_qlms": Markup("The same for the nonlinear modes, which are free of hybridisation with phonons."),
        "windows": Markup(
            "<i>α</i> when one end of the fit window is moved (App. H of the paper), with its standard error. Neighbouring "
            "points share modes. Where a curve is flat the result does not hang on the window."
        ),
    }
    drawn = {
        "omega_min": figures.minima(results, "omega_min"),
        "participation": figures.participation(results),
        "density": figures.density(results),
        "joint": figures.joint(results, "modes"),
        "joint_qlms": figures.joint(results, "qlms"),
        "windows": figures.windows(results),
    }
    numbers = {"omega_min": "table-omega_min", "density": "table-windows", "windows": "table-windows"}
    shown = [
        SectionFigure(name, figure, captions[name], numbers.get(name, ""))
        for name, figure in drawn.items()
        if figure is not None
    ]
    softest = softest_mode(results)
    if isinstance(softest, SectionFigure):
        shown.insert(0, softest)
    elif softest is not None:
        text.append(softest)
    return Section("Vibrational modes", join(text), tuple(shown), join(tables))


def _moduli_table(results: Results) -> Markup:
    moduli = results.analysis.moduli
    if moduli.is_empty():
        return Markup("")
    names = ("shear_modulus", "softest_shear_modulus", "bulk_modulus", "poisson_ratio", "pressure", "residual_shear_stress")
    rows = [
        (
            r["preparation"],
            f"{r['strain']:g}",
            r["n_particles"],
            r["n_realisations"],
            *(number(r[name], r[f"{name}_error"]) for name in names),
        )
        for r in moduli.iter_rows(named=True)
    ]
    caption = "Elastic moduli and residual stress, means over the samples"
    headers = ["preparation", "strain", N, "realisations", *(name.replace("_", " ") for name in names)]
    return details(caption, table(headers, rows, caption))


def _threshold_rule(results: Results) -> Markup:
    if results.settings.participation_threshold is not None:
        return Markup("The protocol sets the threshold.")
    return Markup(
        "The threshold is the paper's, <i>N</i> <i>e</i><sub>c</sub> = 2000, but at most 1/3, half of what a standing plane "
        "wave has."
    )


def _window_rule(results: Results) -> Markup:
    complete = Markup("the frequency up to which the modes of <em>every</em> realisation are known")
    if results.settings.omega_max is not None:
        return Markup("The fit window ends at the protocol's omega_max, {:g}, or, if that is lower, at {}.").format(
            results.settings.omega_max, complete
        )
    return Markup(
        "The fit window ends at the lowest of 0.9 of the first phonon frequency, <i>ω</i> = 1 (beyond, the density of this "
        "glass leaves its low-frequency power law), and {}."
    ).format(complete)
