"""Tables of the minima and the windows: means, and whether they follow a power law. No arrays."""

from __future__ import annotations

import re

import polars as pl
from markupsafe import Markup

from qlm_hoomd.report.markup import ALPHA, N, foldable, join, number, paragraph, table
from qlm_hoomd.report.results import Results
from qlm_hoomd.report.words import in_symbols, method, probability, two_decimals
from qlm_hoomd.statistics import FiniteSizeScaling, mean_and_standard_error


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


def directions_table(results: Results) -> Markup:
    """gamma_min of the quenched glasses in each direction of shear, and what the directions of one glass share."""
    parts = []
    for preparation, several in results.analysis.directions.items():
        rows = []
        for size, values_rd in several.values.items():
            means = [number(*mean_and_standard_error(values_r)) for values_r in (*values_rd.T, values_rd.mean(axis=1))]
            rows.append((size, len(values_rd), *means))
        told = {"opposite": "between + and − of one plane", "across": "across planes"}
        shared = ", ".join(f"{number(*pair)} {told[name]}" for name, pair in several.correlations.items())
        caption = f"Mean strain of {preparation} glasses to the first instability in each direction of shear"
        parts.append(table([N, "glasses", *several.names, "all"], rows, caption, anchor=f"table-directions-{preparation}"))
        parts.append(
            paragraph(
                "Correlations within a glass: {}. Its {} values are worth {} independent ones, and the error of θ, which "
                "resamples glasses, has that in it.",
                shared,
                len(several.names),
                f"{several.n_independent:.2g}",
            )
            if shared
            else Markup("")
        )
    return join(parts)


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


def alternatives_table(results: Results) -> Markup:
    """Power law, plateau and crossover for the means, with the verdict."""
    rows = [
        (
            e.preparation,
            f"{e.strain:g}",
            method(e),
            *(
                Markup("{}, <i>p</i> = {}").format(f"{scaling.aicc:.1f}", probability(scaling.p_value) or "–")
                for scaling in e.alternatives.scalings
            ),
            # The number has its interval where it is quoted; another one here would contradict it.
            in_symbols(re.sub(r"theta = \S+ \[.*?\]", "its theta", e.alternatives.verdict)),
        )
        for e in results.analysis.estimates
        if e.alternatives is not None
    ]
    if not rows:
        return Markup("")
    caveat = next(e.alternatives.caveat for e in results.analysis.estimates if e.alternatives is not None)
    headers = ["preparation", "strain", "from", "slope 1 (plateau)", "power law", "crossover", "verdict"]
    return join(
        [
            foldable(
                "Other laws for the minima: Akaike's criterion relative to the best, and p of the fit",
                headers,
                rows,
                figure="gamma_min",
                anchor="table-alternatives",
            ),
            paragraph("{}", in_symbols(caveat)),
        ]
    )


_LARGEST_ERROR = 1.0
"""Of an alpha that is shown: one that is less certain says nothing."""


def windows_table(results: Results) -> Markup:
    """The fit windows of the spectra."""
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
            in_symbols(s.limited_by).replace(" ", "\u00a0"),
            *(number(alpha, error) if error < _LARGEST_ERROR else None for alpha, error in s.threshold_scans),
            in_symbols(s.refusal or ""),
        )
        for s in results.analysis.spectra
    ]
    e_c = Markup("<i>e</i><sub>c</sub>")
    headers = ["preparation", "strain", N, "realisations", e_c, "first phonon", "complete up to", "window", "end set by"]
    headers += [Markup("{} at {} {}").format(ALPHA, factor, e_c) for factor in (0.8, 1.2)]
    headers.append("why not")
    caption = "The fit windows of the spectra, and α with its standard error where the threshold is changed by 20 %"
    return foldable(caption, headers, rows, figure="density", anchor="table-windows") if rows else Markup("")
