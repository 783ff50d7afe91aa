"""Whether the samples are glasses. No arrays."""

from __future__ import annotations

import polars as pl

from qlm_hoomd.report import figures
from qlm_hoomd.report.markup import MAX_ROWS, N, join, note, paragraph, table
from qlm_hoomd.report.results import Results, Section

_TITLE = "Is the sample a glass?"


def structure(results: Results) -> Section | None:
    """Whether the samples are glasses."""
    verdicts = results.tables.get("structure")
    if verdicts is None:
        return None if results.stage("structure") is None else Section(_TITLE, note("No sample has been checked yet."))
    shares = [name for name in ("crystal_fraction", "largest_cluster", "demixing", "q6_mean") if name in verdicts.columns]
    rows = []
    for (preparation, size), group in verdicts.group_by("preparation", "n_particles", maintain_order=True):
        cells = []
        for name in shares:
            known = group[name].drop_nulls().drop_nans().to_numpy()
            cells.append(f"{known.mean():.3f} / {known.max():.3f}" if known.size else None)
        rows.append((preparation, size, group.height, int((~group["is_glass"]).sum()), *cells))
    headers = ["preparation", N, "checked", "not a glass", *(name.replace("_", " ") for name in shares)]
    tables = [
        table(headers, rows, "Mean / largest value over the realisations, from local bond order and the neighbours' types")
    ]
    bad = verdicts.filter(~pl.col("is_glass"))
    if bad.is_empty():
        text = paragraph("All {} checked samples are glasses: none crystallised or demixed.", verdicts.height)
    else:
        fate = "left out of all results" if results.settings.exclude_crystals else "in all results: exclude_crystals is off"
        text = note("{} of {} checked samples are no glasses. They are {}.", bad.height, verdicts.height, fate)
        listed = bad.head(MAX_ROWS).select("preparation", "n_particles", "realisation", "reason").iter_rows()
        tables.append(table(["preparation", N, "realisation", "reason"], listed, "Samples that are no glasses"))
    figure = figures.structure(results)
    return Section(_TITLE, text, (figure,) if figure is not None else (), join(tables))
