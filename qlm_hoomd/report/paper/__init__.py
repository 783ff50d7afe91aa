"""Figures 1 to 8 in the arrangement of Ji et al., PRE 99, 023003 (2019): one column per preparation, one letter per panel. No arrays."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib as mpl
from markupsafe import Markup

from qlm_hoomd.report.figures import STYLE
from qlm_hoomd.report.markup import join, note, paragraph
from qlm_hoomd.report.paper.curves import exponents, lower_ends, primed, shear_and_spectra, softest, steady_state
from qlm_hoomd.report.paper.flow import flow
from qlm_hoomd.report.paper.frame import MAX_COLUMNS, Drawn, MissingDataError
from qlm_hoomd.report.paper.rewinding import rewinding
from qlm_hoomd.report.results import Results, Section, SectionFigure


def paper(results: Results) -> Section | None:
    """The eight figures of the paper, as far as there are data for them; None where nothing of them was to be measured."""
    if not {"shear", "modes"} & {stage.get("kind") for run in results.runs for stage in run.protocol.get("stages", ())}:
        return None
    makers: tuple[Callable[[Results], Drawn], ...] = (
        flow, shear_and_spectra, exponents, rewinding, softest, primed, lower_ends, steady_state,
    )  # fmt: skip
    drawn, missing = [], []
    for number, make in enumerate(makers, 1):
        try:
            with mpl.rc_context(STYLE):
                made = make(results)
        except MissingDataError as reason:
            missing.append(note("<b>Figure {}</b> is left out: {}.", number, str(reason)))
            continue
        caption = Markup("<b>Figure {}.</b> {}").format(number, made.caption)
        drawn.append(SectionFigure(f"figure_{number}", made.figure, caption))
    shown = ", ".join(f"{strain:g}" for strain in results.settings.shown)
    text = paragraph(
        "The paper's figures from these data, in its arrangement: one column per preparation. Representative strains: {}. Open, faint "
        "symbols and dotted lines belong to exponents that are withheld; intervals without bound are not drawn.",
        shown,
    )
    if len(results.preparations) > MAX_COLUMNS:
        missing.append(note("Shown are the first {} of {} preparations.", MAX_COLUMNS, len(results.preparations)))
    return Section("The paper's figures", text, tuple(drawn), join(missing))
