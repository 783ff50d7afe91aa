"""All exponents beside the prediction, and what is behind each. No arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup

from qlm_hoomd.base.display import counted
from qlm_hoomd.report import figures
from qlm_hoomd.report.glasses import lists_of_glasses
from qlm_hoomd.report.markup import ALPHA, OMEGA_MIN, THETA, details, foldable, join, link, note, paragraph, table
from qlm_hoomd.report.numbers import Estimate
from qlm_hoomd.report.results import Results, Section, SectionFigure
from qlm_hoomd.report.sections.tables import minima_table, scaling_table, windows_table
from qlm_hoomd.report.words import (
    SYMBOLS,
    counts,
    dimmed,
    in_symbols,
    method,
    number_with_interval,
    percent,
    quoted,
    remarks,
    source,
    where,
    window_rule,
    with_interval,
)
from qlm_hoomd.statistics import FiniteSizeScaling, MinimaDistribution, SpectrumFit
from qlm_hoomd.statistics.exponents import MAX_CENSORED, MIN_REALISATIONS, MIN_SIZE_RATIO, MIN_SIZES
from qlm_hoomd.statistics.spectra import MIN_MODES

_FIGURES = {"omega_min": ("omega_min",), "density": ("density",), "windows": ("lower_ends", "upper_ends")}


def exponents(results: Results) -> Section | None:
    """All exponents beside the prediction."""
    if not results.seeks_exponents:
        return None
    text = [
        paragraph(
            "Brackets are {} % intervals from resampling whole realisations, never points of one realisation. Numbers in "
            "grey are withheld: the data do not carry them. An exponent from finite-size scaling needs {} sizes over a factor "
            "{:g}, {} realisations at each, and no more than {:g}&nbsp;% of them without a minimum; one from the spectrum "
            "needs {} modes in a window that does not decide the answer. Sizes whose phonons reach among the softest modes "
            "are left out.",
            percent(results),
            MIN_SIZES,
            MIN_SIZE_RATIO,
            MIN_REALISATIONS,
            100 * MAX_CENSORED,
            MIN_MODES,
        ),
        *_insisted(results),
        paragraph(
            "Prediction: {} = 3 + 4{} below {} = 1/4, and 4 from there on (eq. 9 of the paper). Around 1/4 the theory itself "
            "puts the exponent that a spectrum shows at reachable frequencies 0.1 to 0.3 lower.",
            ALPHA,
            THETA,
            THETA,
        ),
    ]
    if results.analysis.spectra:
        text.append(
            paragraph(
                "The power law of <i>D</i><sub>L</sub>(<i>ω</i>) is fitted to the frequencies themselves, without bins. {} "
                "Small samples of a glass that was quenched from a high temperature are known to show {} below 4, and lose "
                "that as they grow (Lerner, 2020): compare the sizes.",
                window_rule(results),
                ALPHA,
            )
        )
    whole = figures.exponents(results)
    numbers = {"omega_min": "table-omega_min", "density": "table-windows", "windows": "table-windows"}
    drawn = [
        *([SectionFigure("exponents", whole.figure, whole.caption, "table-exponents")] if whole is not None else []),
        *figures.some(results, _FIGURES, numbers),
    ]
    tables = [
        *_exponents_by_strain(results, {item.name for item in drawn}),
        minima_table(results, "omega_min", OMEGA_MIN, "no localised mode found"),
        scaling_table(results, "omega_min", ALPHA),
        windows_table(results),
        _estimators_table(results),
        lists_of_glasses(results),
    ]
    return Section("θ, α, and the theory", join(text), tuple(drawn), join(tables))


def _exponents_by_strain(results: Results, figures_there: set[str]) -> Iterator[Markup]:
    """All exponents, a block that opens for each preparation and strain; its head has the numbers that are quoted."""
    analysis = results.analysis
    strains = results.settings.strains
    figure = Markup(" ({})").format(link("figure-exponents", "figure")) if "exponents" in figures_there else ""
    yield Markup('<h3 id="table-exponents">All exponents{}</h3>').format(figure)
    said = {
        (prediction.preparation, prediction.strain, prediction.detector): sentence
        for prediction, sentence in _verdicts(results)
    }
    if said:
        disagree = sum("disagrees" in sentence for sentence in said.values())
        yield paragraph(
            "{} of a measured with a predicted {}: {}. Each is written out at its strain.",
            counted(len(said), "comparison"),
            ALPHA,
            f"{disagree} with a disagreement" if disagree else "no disagreement",
        )
    for preparation in results.preparations:
        # Three strains at most are open: more would bury the numbers.
        opened = strains[: 3 if len(strains) <= 3 else 1]
        for strain in strains:
            own = [e for e in analysis.estimates if (e.preparation, e.strain, e.pooled) == (preparation, strain, None)]
            first = quoted(results, preparation, strain)
            rest = [e for e in own if not any(e is other for other in first)]
            head = Markup("<b>{}, strain {}</b> {}").format(
                preparation,
                f"{strain:g}",
                Markup(" ").join(
                    Markup('<span class="{}">{} {} <small>{}</small></span>').format(
                        e.status, SYMBOLS[e.quantity], number_with_interval(e), source(e)
                    )
                    for e in first
                ),
            )
            caption = f"The quoted exponents of {preparation} at strain {strain:g}"
            further = Markup("")
            if rest:
                others = _exponents_table(results, rest, f"Further exponents of {preparation} at strain {strain:g}")
                further = details(f"{len(rest)} further exponents: other detectors, sizes and methods", others)
            yield details(
                head,
                join(
                    [
                        _exponents_table(results, first, caption),
                        *(sentence for (p, at, _), sentence in said.items() if (p, at) == (preparation, strain)),
                        further,
                    ]
                ),
                anchor=results.exponents_anchor(preparation, strain),
                opened=strain in opened,
            )
    steady = [e for e in analysis.estimates if e.pooled is not None]
    if steady:
        caption = "Pooled over the strains of steady flow, each realisation counting once with its mean over them"
        yield _exponents_table(results, steady, caption)
    for preparation, reason in analysis.unsteady.items():
        yield paragraph(
            "{}: no exponents of steady flow, for {}. <code>analysis.steady_from</code> names a strain from which it is "
            "steady.",
            preparation,
            reason,
        )


def _exponents_table(results: Results, estimates: Sequence[Estimate], caption: str) -> Markup:
    headers = ["strain", "exponent", "from", "value", "realisations", "remarks"]
    pooled = any(e.pooled is not None for e in estimates)
    rows = [((e.preparation,) if pooled else ()) + _exponent_row(results, e)[0 if pooled else 1 :] for e in estimates]
    return table([*(["preparation"] if pooled else []), *headers[0 if pooled else 1 :]], rows, caption)


def _exponent_row(results: Results, estimate: Estimate) -> tuple[Any, ...]:
    exponent = estimate.exponent
    value = number_with_interval(estimate)
    weak = Markup('<span class="weak">{}</span>') if estimate.status == "withheld" else Markup("<strong>{}</strong>")
    return (
        where(estimate),
        SYMBOLS[estimate.quantity],
        method(estimate),
        weak.format(value),
        counts(results, estimate) if exponent else None,
        remarks(estimate),
    )


def _insisted(results: Results) -> Iterator[Markup]:
    """A warning where numbers are shown although the data do not carry them."""
    weak = [e for e in results.analysis.estimates if e.status == "insisted"]
    if weak:
        yield note(
            "{} of the exponents below are too weak to be quoted and shown because the protocol insists (analysis.insist). "
            "Each says why.",
            len(weak),
        )


def _estimators_table(results: Results) -> Markup:
    """The estimators of every exponent side by side, and whether they disagree."""
    rows = []
    for e in results.analysis.estimates:
        fit = e.fit
        if e.exponent is None or fit is None:
            continue
        squares = fit.least_squares if isinstance(fit, (FiniteSizeScaling, SpectrumFit)) else None
        likely = fit.weibull if isinstance(fit, MinimaDistribution) else fit.likelihood
        rows.append(
            (
                e.preparation,
                where(e),
                SYMBOLS[e.quantity],
                method(e),
                dimmed(with_interval(e.exponent), faint=e.status == "withheld"),
                with_interval(squares) if squares is not None else None,
                with_interval(likely) if likely is not None else None,
                Markup("<strong>{}</strong>").format(e.disagreement) if e.disagreement else "",
            )
        )
    if not rows:
        return Markup("")
    headers = [
        "preparation",
        "strain",
        "exponent",
        "from",
        "quoted",
        "the paper's least squares",
        "maximum likelihood",
        "disagreement",
    ]
    n = sum(bool(row[-1]) for row in rows)
    said = f": those of {n} of {counted(len(rows), 'exponent')} disagree" if n else ": they agree"
    return foldable(f"The estimators side by side{said}", headers, rows)


def _verdicts(results: Results) -> Iterator[tuple[Estimate, Markup]]:
    """The predictions, and in words whether the measured alpha agrees with them."""
    analysis = results.analysis
    for prediction in analysis.find(quantity="alpha", method="prediction"):
        predicted = prediction.shown
        if predicted is None:
            continue
        measured = (
            *analysis.find(quantity="alpha", method="omega_min", preparation=prediction.preparation, strain=prediction.strain),
            analysis.spectrum_estimate(prediction.preparation, prediction.strain),
        )
        said = [
            Markup("{} from {} {}").format(
                ", ".join([f"{m.shown.value:.2f}", *filter(None, [in_symbols(m.shown.outside_theory or "")])]),
                method(m),
                "agrees"
                if m.shown.low <= predicted.high and predicted.low <= m.shown.high
                else Markup("<strong>disagrees</strong>"),
            )
            for m in measured
            if m.shown is not None
        ]
        if said:
            yield (
                prediction,
                paragraph(
                    "{} at strain {:g}{}: the prediction is {} = {:.2f} [{:.2f}, {:.2f}]; {} with it (overlap of the "
                    "intervals).",
                    Markup("<b>{}</b>").format(prediction.preparation),
                    prediction.strain,
                    f" ({prediction.detector})" if prediction.detector else "",
                    ALPHA,
                    predicted.value,
                    predicted.low,
                    predicted.high,
                    Markup(", ").join(said),
                ),
            )
