"""Where the soft spots are: a localised mode, participation ratios, the theory's variables, what modes predict, moduli.

No arrays.
"""

from __future__ import annotations

from markupsafe import Markup

from qlm_hoomd.report import figures
from qlm_hoomd.report.markup import N, details, join, note, number, paragraph, table
from qlm_hoomd.report.mode import localised_mode
from qlm_hoomd.report.results import Results, Section, SectionFigure
from qlm_hoomd.report.words import in_symbols, threshold_rule

_TITLE = "Where are the soft spots, and do they predict what failed?"
_FIGURES = ("predicted", "participation", "joint")


def spectrum(results: Results) -> Section | None:
    """A localised mode, participation ratios, P(lambda, kappa), predicted strains, moduli."""
    if results.stage("modes") is None and "modes" not in results.tables:
        return None
    analysis = results.analysis
    if not analysis.spectra:
        refused = dict.fromkeys(str(e.refusal) for e in analysis.find(method="omega_min"))
        return Section(_TITLE, note("No spectrum to show: {}.", in_symbols("; ".join(refused))))
    text = [
        paragraph(
            "Each realisation has its lowest modes diagonalised. Modes whose participation ratio exceeds "
            "<i>e</i><sub>c</sub> count as phonons and are removed. {}",
            threshold_rule(results),
        )
    ]
    if results.settings.selection:
        text.insert(0, note("Only samples with these labels are counted here: {}.", results.settings.selection))
    shown = figures.some(results, {name: (name,) for name in _FIGURES})
    mode = localised_mode(results)
    if isinstance(mode, SectionFigure):
        shown.insert(0, mode)
    elif mode is not None:
        text.append(mode)
    tables = [_moduli_table(results)]
    if "residual" in results.tables["modes"].columns:
        residual = float(results.tables["modes"]["residual"].max() or 0)  # type: ignore[arg-type]
        tables.append(paragraph("Largest residual |<b>H</b>Ψ − λΨ| of all modes: {}.", f"{residual:.1e}"))
    return Section(_TITLE, join(text), tuple(shown), join(tables))


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
