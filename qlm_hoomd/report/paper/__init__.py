"""Figures 1 to 8 in the arrangement of Ji et al., PRE 99, 023003 (2019): a column per preparation, a letter per panel.

No arrays.

What the page shows elsewhere, split by what a reader asks, goes to files alone.
"""

from __future__ import annotations

import matplotlib as mpl
from markupsafe import Markup

from qlm_hoomd.report.axes import STYLE
from qlm_hoomd.report.figures import MAX_COLUMNS, MissingDataError, draw
from qlm_hoomd.report.markup import details, join, note, paragraph
from qlm_hoomd.report.paper.flow import flow
from qlm_hoomd.report.paper.rewinding import rewinding
from qlm_hoomd.report.results import Results, Section, SectionFigure

ROWS = {
    2: ("stress_strain", "gamma_min_measured", "omega_min", "density_with_inset"),
    3: ("theta", "alpha"),
    5: ("softest", "gamma_min_distribution"),
    6: ("theta_prime", "alpha_prime"),
    7: ("lower_ends",),
    8: ("steady_theta", "steady_density"),
}
"""Rows of the figures that are made of such."""
FILES = (2, 3, 7)
"""Figures whose panels the page has elsewhere."""
MISSING = {
    2: "no realisation has been sheared or diagonalised yet",
    3: "there are no exponents at two strains or more, not even weak ones",
    5: "there are neither softest modes nor strains to an instability",
    6: "there are no θ′ or α′ of App. G at two strains or more",
    7: "there are too few modes below the phonons to move the window's lower end",
    8: "nothing was measured at strains of steady flow",
}


def figure(results: Results, number: int) -> SectionFigure:
    """One figure of the paper.

    Raises:
        MissingDataError: if there are no data for it.
    """
    name = f"figure_{number}"
    if number not in ROWS:
        with mpl.rc_context(STYLE):
            return {1: flow, 4: rewinding}[number](results)
    try:
        return draw(results, name, *ROWS[number], only=rapid(results) if number == 8 else None)
    except MissingDataError:
        raise MissingDataError(MISSING[number]) from None


def paper(results: Results) -> Section | None:
    """The eight figures of the paper, as far as there are data for them; None where nothing of them was to be measured."""
    if not results.seeks_exponents:
        return None
    drawn, said = [], []
    for number in range(1, 9):
        try:
            made = figure(results, number)
        except MissingDataError as reason:
            said.append(paragraph("<b>Figure {}</b> is left out: {}.", number, str(reason)))
            continue
        words = Markup("<b>Figure {}.</b> {}").format(number, Markup(made.caption))  # noqa: S704 our own
        drawn.append(SectionFigure(f"figure_{number}", made.figure, words, inline=number not in FILES))
    text = paragraph(
        "Figures 1 to 8 of the paper from these data, in its arrangement. Representative strains: {}. Figures 2, 3 and 7 "
        "are files: their panels stand above, with the questions that they answer.",
        ", ".join(f"{strain:g}" for strain in results.settings.shown),
    )
    if said:
        said = [details(f"{len(said)} of 8 figures are left out", join(said), opened=len(said) < 3)]
    if len(results.preparations) > MAX_COLUMNS:
        said.append(note("Shown are the first {} of {} preparations.", MAX_COLUMNS, len(results.preparations)))
    return Section("The paper's figures", text, tuple(drawn), join(said))


def rapid(results: Results) -> tuple[str, ...]:
    """The preparation that is quenched rapidly, the first one where none is."""
    quenches = {name: results.run_of(name).preparations[name] for name in results.preparations}
    found = [name for name, settings in quenches.items() if isinstance(settings, dict) and settings.get("quench") == "rapid"]
    return tuple([*found, *results.preparations][:1])
