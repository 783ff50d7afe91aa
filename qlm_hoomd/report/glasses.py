"""The realisations behind the exponents: a table of all of them beside the page, and lists in it that the exponents link to.

No arrays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
from markupsafe import Markup

from qlm_hoomd.report.markup import N, details, join, link
from qlm_hoomd.report.results import Results
from qlm_hoomd.stages.base import KEYS

MOST_ROWS = 6000
"""Realisations that the page lists; of more it lists as many of each ensemble as fit, and the table beside it has all."""
MOST_CELLS = 40_000
"""Values in these lists. Where there are more, the lists have the representative strains only."""
_DIGITS = 8  # of the name of a realisation's folder; they tell it apart

_SYMBOLS = {"gamma_min": Markup("<i>γ</i><sub>min</sub>"), "omega_min": Markup("<i>ω</i><sub>min</sub>")}


def glasses_table(results: Results) -> pl.DataFrame:
    """A row for each realisation, strain, quantity and detector.

    The columns are preparation, n_particles, realisation, folder (from that of the report), quantity ("gamma_min" or
    "omega_min"), strain, detector, value, and censored: the value is then a lower limit. Where nothing was measured, quantity
    and what follows is null.
    """
    schema = {"preparation": pl.String, "n_particles": pl.Int64, "realisation": pl.Int64, "folder": pl.String}
    folders = pl.DataFrame(
        [(*r.key, os.path.relpath(r.directory, results.folder)) for r in results.realisations], schema=schema, orient="row"
    )
    return folders.join(results.analysis.samples, on=list(KEYS), how="left", maintain_order="left").select(
        *schema, "quantity", "strain", "detector", "value", "censored"
    )


def lists_of_glasses(results: Results) -> Markup:
    """The realisations by preparation and size, with their minima and links back to the exponents."""
    ensembles = [
        (preparation, size, own)
        for preparation in results.preparations
        for size in results.sizes
        if (own := [r for r in results.realisations if r.key[:2] == (preparation, size)])
    ]
    if not ensembles:
        return Markup("")
    values = _values(results)
    columns = _columns(results, values)
    most = MOST_ROWS // len(ensembles)
    parts = []
    for preparation, size, own in ensembles:
        names = [column for column in columns if any((preparation, size, *column, r.key[2]) in values for r in own)]
        head = Markup("").join(Markup('<th scope="col">{}</th>').format(_heading(results, column)) for column in names)
        rows = Markup("").join(
            Markup('<tr><th scope="row">{}<td><code>{}</code>').format(r.key[2], r.id[:_DIGITS])
            + Markup("").join(
                Markup("<td>{}").format(_value(values.get((preparation, size, *column, r.key[2])))) for column in names
            )
            for r in sorted(own, key=lambda r: r.key)[:most]
        )
        shown = f"The first {most} of {len(own)}" if len(own) > most else f"All {len(own)}"
        place = os.path.relpath(own[0].directory.parent, results.folder)
        caption = Markup("{} realisations of {}, {} = {}. Folders: <code>{}/</code> and what begins as given.").format(
            shown, preparation, N, size, place
        )
        listed = Markup(
            '<div class="scroll"><table class="glasses"><caption>{}</caption><thead><tr><th scope="col">realisation</th>'
            '<th scope="col">folder</th>{}</tr></thead><tbody>{}</tbody></table></div>'
        ).format(caption, head, rows)
        back = Markup("<p>Back to the exponents of {} at strain {}.</p>").format(
            preparation, Markup(", ").join(_back(results, preparation))
        )
        parts.append(
            details(
                Markup("{}, {} = {}: {} realisations").format(preparation, N, size, len(own)),
                join([back, listed]),
                anchor=results.glasses_anchor(preparation, size),
            )
        )
    return Markup(
        '<h3 id="glasses">The realisations behind the exponents</h3><p>Each list has the strain to the next instability and '
        "the frequency "
        "of the softest quasi-localised mode of every glass; with &gt;, no instability came up to the end of the run, or no "
        "such mode "
        'was found. All strains and detectors: <a href="glasses.parquet">glasses.parquet</a>.</p>{}'
    ).format(join(parts))


def _back(results: Results, preparation: str) -> Iterator[Markup]:
    for strain in results.settings.strains:
        yield link(results.exponents_anchor(preparation, strain), f"{strain:g}")


def _values(results: Results) -> dict[tuple[Any, ...], tuple[float, bool]]:
    """Value and whether it is a limit, by preparation, size, quantity, strain and realisation; of the first detector."""
    samples = results.analysis.samples
    detectors = samples.select("preparation", "quantity", "detector").unique(maintain_order=True)
    # What was measured comes before what is estimated of another detector.
    first = {(preparation, quantity): detector for preparation, quantity, detector in reversed(detectors.rows())}
    return {
        (preparation, size, quantity, strain, realisation): (value, censored)
        for quantity, preparation, strain, detector, size, realisation, value, censored in samples.iter_rows()
        if first[preparation, quantity] == detector
    }


def _columns(results: Results, values: dict[tuple[Any, ...], tuple[float, bool]]) -> list[tuple[str, float]]:
    strains: Sequence[float] = results.settings.strains
    if len(values) > MOST_CELLS:
        strains = results.settings.shown
    return [(quantity, strain) for quantity in _SYMBOLS for strain in strains]


def _heading(results: Results, column: tuple[str, float]) -> Markup:
    quantity, strain = column
    at = Markup(" at <i>γ</i> = {:g}").format(strain) if len(results.settings.strains) > 1 else Markup("")
    return Markup("{}{}").format(_SYMBOLS[quantity], at)


def _value(found: tuple[float, bool] | None) -> str:
    if found is None:
        return "–"
    value, censored = found
    return f"{'> ' * censored}{value:.3g}"
