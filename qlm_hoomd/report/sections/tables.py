"""Tables that two sections share: the means of the minima, and whether they follow a power law. No arrays."""

from __future__ import annotations

import polars as pl
from markupsafe import Markup

from qlm_hoomd.report.markup import (
    N,
    foldable,
    number,
)
from qlm_hoomd.report.results import Results
from qlm_hoomd.report.words import (
    probability,
    two_decimals,
)
from qlm_hoomd.statistics import FiniteSizeScaling


def minima_table(results: Results, quantity: str, symbol: Markup, censored: str) -> Markup:
    """The means of the minima that a figure shows."""
    minima = results.analysis.minima.filter(pl.col("quantity") == quantity)
    several = minima["detector"].n_unique() > 1
    rows = [
        (
            row["preparation"],
            f"{row['strain']:g}",
            *([row["detector"]] if several else []),
            row["n_particles"],
            row["n_realisations"],
            row["n_censored"],
            number(row["mean"], row["standard_error"]),
        )
        for row in minima.iter_rows(named=True)
    ]
    headers = ["preparation", "strain", *(["detector"] if several else []), N, "realisations", censored, symbol]
    return foldable("The means in numbers", headers, rows, figure=quantity, anchor=f"table-{quantity}")


def scaling_table(results: Results, quantity: str, symbol: Markup) -> Markup:
    """How well the power law holds: drift from size to size, goodness of fit, and the plateau as its alternative."""
    rows = []
    for estimate in results.analysis.find(method=quantity):
        fit = estimate.fit
        if isinstance(fit, FiniteSizeScaling):
            pairs = zip(fit.sizes, fit.sizes[1:], fit.local_exponents, strict=False)
            rows.append(
                (
                    estimate.preparation,
                    f"{estimate.strain:g}",
                    ", ".join(f"{two_decimals(value)} ({a}–{b})" for a, b, value in pairs),
                    probability(fit.p_value),
                    probability(fit.p_plateau),
                )
            )
    if not rows:
        return Markup("")
    headers = [
        "preparation",
        "strain",
        Markup("{} between neighbouring sizes").format(symbol),
        Markup("<i>p</i> of the power law"),
        Markup("<i>p</i> of {} = 0").format(symbol),
    ]
    return foldable("Is it a power law? A small p speaks against it.", headers, rows)
