"""The sections of the report: functions of the results, found through the entry points ``qlm_hoomd.report_sections``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import polars as pl
from markupsafe import Markup

from qlm_hoomd.base.registry import DETECTORS
from qlm_hoomd.report import figures
from qlm_hoomd.report.analysis import AS_THRESHOLD, PAPER_INCREMENT, PAPER_Q_C, Estimate, exact_detectors, first_rise
from qlm_hoomd.report.glasses import lists_of_glasses
from qlm_hoomd.report.markup import ALPHA, GAMMA_MIN, OMEGA_MIN, THETA, N, details, join, link, note, number, paragraph, table
from qlm_hoomd.report.mode import softest_mode
from qlm_hoomd.report.results import Results, Run, Section, SectionFigure
from qlm_hoomd.statistics import Exponent, FiniteSizeScaling, MinimaDistribution, SpectrumFit
from qlm_hoomd.statistics.exponents import MAX_CENSORED, MIN_REALISATIONS, MIN_SIZE_RATIO, MIN_SIZES
from qlm_hoomd.statistics.spectra import MIN_MODES

LONG_TABLE = 9
"""Rows beyond which a table that repeats a figure in numbers folds away."""
MAX_ROWS = 40
"""Failures and exclusions listed one by one; beyond that they are counted."""


def overview(results: Results) -> Section:
    """What was run: sizes, realisations, settings, versions, failures."""
    failing = {realisation.key for realisation, _ in results.failures}
    groups = [
        (preparation, size, planned)
        for preparation in results.preparations
        for size in results.sizes
        if (planned := results.planned(preparation, size))
    ]
    rows = [
        (
            *group,
            *(results.n_done(*group[:2], kind) for kind in results.stages),
            sum(key[:2] == group[:2] for key in failing),
        )
        for group in groups
    ]
    parts = [
        paragraph(
            "Stages: {}. Every realisation is an independent sample; each line counts those of one preparation and size that have been "
            "through each stage.",
            ", ".join(results.stages) or "none",
        ),
        table(["preparation", N, "planned", *results.stages, "failed"], rows, "Realisations"),
    ]
    n_planned = sum(planned for *_, planned in groups)
    n_done = sum(results.n_done(preparation, size) or 0 for preparation, size, _ in groups)
    if n_done < n_planned:
        parts.append(
            note(
                "This run is not finished: {} of {} realisations have been through all stages. The report is made from what was there.",
                n_done,
                n_planned,
            )
        )
    if len(results.runs) > 1:
        names = [
            (run.name, Markup("<code>{}</code>").format(run.hash), ", ".join(run.preparations), ", ".join(map(str, run.sizes)))
            for run in results.runs
        ]
        parts.append(table(["protocol", "hash", "preparations", N], names, "This report is made from several runs"))
        if any((run.protocol.get("analysis") or {}) != (results.protocol.get("analysis") or {}) for run in results.runs):
            parts.append(
                note("The settings of the analysis differ between the protocols. Those of {} count.", results.runs[0].name)
            )
    if results.strangers:
        parts.append(
            note(
                "{} realisations in this workspace were made with other settings. They are left out of everything.",
                results.strangers,
            )
        )
    if not results.realisations:
        parts.append(note("There is no realisation yet. Run the protocol (again) to make them."))
    parts.extend(_failures(results))
    parts.extend(table(["setting", "value"], _settings(results, run), f"Settings of {run.name}") for run in results.runs)
    if len(results.versions) > 1:
        parts.append(
            note("The realisations were made with {} different sets of versions, listed below.", len(results.versions))
        )
    parts.extend(
        paragraph("Made with {}.", ", ".join(f"{name} {version}" for name, version in versions.items()))
        for versions in results.versions
    )
    parts.extend(
        details(
            f"The whole protocol {run.name} ({run.hash})", Markup("<pre>{}</pre>").format(json.dumps(run.protocol, indent=2))
        )
        for run in results.runs
    )
    return Section("What was run", join(parts))


def shear(results: Results) -> Section | None:
    """Stress-strain curves."""
    if results.stage("shear") is None and "steps" not in results.tables:
        return None
    figure = figures.stress_strain(results)
    if figure is None:
        return Section("Stress and strain", note("No realisation has been sheared yet."))
    curves = results.analysis.stress_strain
    rows = []
    for (preparation, size), curve in curves.group_by("preparation", "n_particles", maintain_order=True):
        peak = curve.row(int(curve["stress_xy"].arg_max() or 0), named=True)
        end = curve.row(-1, named=True)
        rows.append(
            (
                preparation,
                size,
                end["n_realisations"],
                number(peak["stress_xy"], peak["standard_error"]),
                f"{peak['strain']:.3g}",
                number(end["stress_xy"], end["standard_error"]),
                f"{end['strain']:.3g}",
            )
        )
    text = paragraph(
        "Athermal quasi-static simple shear: mean over realisations, with the standard error of the mean as a band. Stress is "
        "positive where it resists positive strain. A well-annealed glass shows an overshoot."
    )
    stage = results.stage("shear") or {}
    if stage.get("path"):
        text = join(
            [text, note("The strain path is {}. All numbers here are those up to where it first turns back.", stage["path"])]
        )
    if stage.get("plane", "xy") != "xy":
        text = join(
            [text, note("The plane {} was sheared: flow along the first axis, gradient along the second.", stage["plane"])]
        )
    caption = "Mean stress against strain; number of realisations in brackets."
    drawn = SectionFigure("stress_strain", figure, caption, "table-stress")
    headers = ["preparation", N, "realisations", "largest mean stress", "at strain", "last mean stress", "at strain"]
    numbers = table(headers, rows, _of("stress_strain", "Largest and last mean stress"), anchor="table-stress")
    return Section("Stress and strain", text, (drawn,), numbers)


def instabilities(results: Results) -> Section | None:
    """The strain to the next instability, and theta."""
    if results.stage("shear") is None and "events" not in results.tables:
        return None
    figure = figures.minima(results, "gamma_min")
    if figure is None:
        return Section("Plastic instabilities", note("No realisation has been sheared beyond the strains of the analysis yet."))
    text = [
        paragraph(
            "{} is the mean strain from the state at strain <i>γ</i> to the next plastic instability. With a pseudo-gap "
            "<i>P</i>(<i>x</i>) ~ <i>x</i><sup><i>θ</i></sup> it falls as <i>N</i><sup>−1/(1+<i>θ</i>)</sup>.",
            GAMMA_MIN,
        ),
        *_blind_spot(results),
    ]
    if any(strain > 0 for strain in results.settings.strains):
        text.append(
            paragraph(
                "At strains above 0 the ensemble is sampled at a fixed strain, not right after an avalanche: the distribution "
                "of single values of <i>γ</i><sub>min</sub> is then flat at 0 and says nothing on {}, while the mean still "
                "scales with it (App. G of the paper).",
                THETA,
            )
        )
    caption = Markup(
        "Mean strain to the next instability against system size. Bars are standard errors of the mean, lines the fitted power "
        "laws (dotted where the exponent is withheld), brackets the {} % intervals of <i>θ</i>. {}"
    ).format(_percent(results), _shown_only(results))
    tables = (
        _minima_table(results, "gamma_min", GAMMA_MIN, "no event in the run"),
        _scaling_table(results, "gamma_min", THETA),
        _events_table(results),
    )
    drawn = (SectionFigure("gamma_min", figure, caption, "table-gamma_min"),)
    return Section("Plastic instabilities", join(text), drawn, join(tables))


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
        _minima_table(results, "omega_min", OMEGA_MIN, "no localised mode found"),
        _scaling_table(results, "omega_min", ALPHA),
        _foldable(
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
        ).format(_percent(results), _shown_only(results)),
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


def exponents(results: Results) -> Section | None:
    """All exponents beside the prediction."""
    if not results.seeks_exponents:
        return None
    text = [
        paragraph(
            "Brackets are {} % intervals from resampling whole realisations, never points of one realisation. Numbers in "
            "grey are withheld: the data do not carry them. An exponent from finite-size scaling needs {} sizes over a factor "
            "{:g}, {} realisations at each, and no more than {:g}&nbsp;% of them without a minimum; one from the spectrum needs {} "
            "modes in a window that does not decide the answer. Sizes whose phonons reach among the softest modes are left out.",
            _percent(results),
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
    caption = Markup(
        "Exponents with their {} % intervals. Dashed: <i>θ</i> = 1/4; dotted: <i>α</i> = 3 and 4. Open, faint: withheld."
    ).format(_percent(results))
    drawn = [
        SectionFigure(name, figure, words, numbers)
        for name, figure, words, numbers in (
            ("exponents", figures.exponents(results), caption, "table-exponents"),
            ("alternatives", figures.alternatives(results), _ALTERNATIVES, "table-alternatives"),
        )
        if figure is not None
    ]
    tables = [
        *_exponents_by_strain(results, {item.name for item in drawn}),
        _estimators_table(results),
        _alternatives_table(results),
        lists_of_glasses(results),
    ]
    return Section("Exponents", join(text), tuple(drawn), join(tables))


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
            "Of {} comparisons of a measured with a predicted {}, {} disagree. Each is written out at its strain.",
            len(said),
            ALPHA,
            disagree or "none",
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
                        e.status, SYMBOLS[e.quantity], number_with_interval(e), _source(e)
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


def quoted(results: Results, preparation: str, strain: float) -> list[Estimate]:
    """Theta, the alpha predicted from it, and the two measurements of alpha. With two detectors the first speaks."""
    analysis = results.analysis
    scaled = [
        analysis.find(quantity=quantity, method=name, preparation=preparation, strain=strain)[0]
        for quantity, name in (("theta", "gamma_min"), ("alpha", "prediction"), ("alpha", "omega_min"))
    ]
    return [*scaled, analysis.spectrum_estimate(preparation, strain)]


def _source(estimate: Estimate) -> Markup:
    """Where a quoted exponent comes from, in a word or two."""
    return {
        "gamma_min": Markup("from {}").format(GAMMA_MIN),
        "prediction": Markup("predicted"),
        "omega_min": Markup("from {}").format(OMEGA_MIN),
        "spectrum": Markup("from <i>D</i><sub>L</sub>"),
    }[estimate.method]


def _exponents_table(results: Results, estimates: Sequence[Estimate], caption: str) -> Markup:
    headers = ["strain", "exponent", "from", "value", "realisations", "remarks"]
    pooled = any(e.pooled is not None for e in estimates)
    rows = [((e.preparation,) if pooled else ()) + _exponent_row(results, e)[0 if pooled else 1 :] for e in estimates]
    return table([*(["preparation"] if pooled else []), *headers[0 if pooled else 1 :]], rows, caption)


_ALTERNATIVES = Markup(
    "The scale of <i>γ</i><sub>min</sub> against size with three laws for it: a power law (pseudo-gap), slope 1 (a plateau of "
    "<i>P</i>(<i>x</i>) at small <i>x</i>), and a power law that crosses over to a plateau."
)


def _exponent_row(results: Results, estimate: Estimate) -> tuple[Any, ...]:
    exponent = estimate.exponent
    value = number_with_interval(estimate)
    weak = Markup('<span class="weak">{}</span>') if estimate.status == "withheld" else Markup("<strong>{}</strong>")
    return (
        _where(estimate),
        SYMBOLS[estimate.quantity],
        method(estimate),
        weak.format(value),
        _counts(results, estimate) if exponent else None,
        _remarks(estimate),
    )


def _where(estimate: Estimate) -> str:
    """The strain, or the range of strains."""
    return f"{estimate.strain:g}" if estimate.pooled is None else f"{estimate.pooled[0]:.3g}–{estimate.pooled[1]:.3g}"


def _insisted(results: Results) -> Iterator[Markup]:
    """A warning where numbers are shown although the data do not carry them."""
    weak = [e for e in results.analysis.estimates if e.status == "insisted"]
    if weak:
        yield note(
            "{} of the exponents below are too weak to be quoted and shown because the protocol insists (analysis.insist). Each says why.",
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
                _where(e),
                SYMBOLS[e.quantity],
                method(e),
                _faint(_with_interval(e.exponent), faint=e.status == "withheld"),
                _with_interval(squares) if squares is not None else None,
                _with_interval(likely) if likely is not None else None,
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
    said = f": {n} of {len(rows)} exponents have estimators that disagree" if n else ": they agree"
    return _foldable(f"The estimators side by side{said}", headers, rows)


def _alternatives_table(results: Results) -> Markup:
    """Power law, plateau and crossover for the means, with the verdict."""
    rows = [
        (
            e.preparation,
            f"{e.strain:g}",
            method(e),
            *(
                Markup("{}, <i>p</i> = {}").format(f"{scaling.aicc:.1f}", _probability(scaling.p_value) or "–")
                for scaling in e.alternatives.scalings
            ),
            e.alternatives.verdict,
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
            _foldable(
                "Other laws for the minima: Akaike's criterion relative to the best, and p of the fit",
                headers,
                rows,
                figure="alternatives",
                anchor="table-alternatives",
            ),
            paragraph("{}", caveat),
        ]
    )


def _faint(text: str, *, faint: bool) -> Markup:
    return Markup('<span class="weak">{}</span>').format(text) if faint else Markup("{}").format(text)


def structure(results: Results) -> Section | None:
    """Whether the samples are glasses."""
    verdicts = results.tables.get("structure")
    if verdicts is None:
        return None if results.stage("structure") is None else Section("Structure", note("No sample has been checked yet."))
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
    caption = "Mean pair correlation and structure factor of the quenched samples; number of realisations in brackets."
    drawn = (SectionFigure("structure", figure, caption),) if figure is not None else ()
    return Section("Structure", text, drawn, join(tables))


# ---- pieces ----

SYMBOLS = {"theta": THETA, "alpha": ALPHA, "theta_prime": Markup("<i>θ′</i>"), "alpha_prime": Markup("<i>α′</i>")}


def method(estimate: Estimate) -> Markup:
    """How an exponent was obtained, in a few words."""
    by = Markup(" ({})").format(estimate.detector) if estimate.detector else Markup("")
    size = Markup(", {} = {}").format(N, estimate.n_particles) if estimate.n_particles else Markup("")
    if estimate.method == "prediction":
        primed = estimate.quantity == "alpha_prime"
        return Markup("{}, from {}{}").format(
            "App. G" if primed else "eq. (9)", SYMBOLS["theta_prime" if primed else "theta"], by
        )
    if estimate.method == "distribution":
        of = Markup("<i>γ</i><sub>min</sub>") if estimate.quantity == "theta_prime" else Markup("<i>ω</i><sub>min</sub>")
        return Markup("distribution of single {}{}").format(of, by)
    return {
        "gamma_min": Markup("scaling of {}{}").format(GAMMA_MIN, by),
        "omega_min": Markup("scaling of {}").format(OMEGA_MIN),
        "spectrum": Markup("<i>D</i><sub>L</sub>(<i>ω</i>){}").format(size),
        "unfiltered": Markup("<i>D</i><sub>G</sub>(<i>ω</i>) below the first phonon: no filter{}").format(size),
        "excess": Markup("<i>D</i><sub>G</sub>(<i>ω</i>) above it{}").format(size),
    }[estimate.method]


def number_with_interval(estimate: Estimate) -> str:
    """The value with its interval, or a dash."""
    return _with_interval(estimate.exponent) if estimate.exponent is not None else "–"


def _with_interval(exponent: Exponent) -> str:
    return f"{_plain(exponent.value)} [{_plain(exponent.low)}, {_plain(exponent.high)}]"


def _plain(value: float) -> str:
    """Two decimals, or infinity for what is as good as it; adding zero turns a rounded -0.0 into 0.0."""
    text = f"{round(value, 2) + 0.0:.2f}" if abs(value) < 100 else f"{'-' * (value < 0)}∞"
    return text.replace("-", "−")


def _counts(results: Results, estimate: Estimate) -> Markup:
    """How many realisations are behind an exponent, with links to the lists of them."""
    counts = estimate.exponent.n_realisations if estimate.exponent is not None else 0

    def listed(size: int, words: Any) -> Markup:
        known = size in results.sizes
        return link(results.glasses_anchor(estimate.preparation, size), words) if known else Markup("{}").format(words)

    if isinstance(counts, int):
        return listed(estimate.n_particles, counts) if estimate.n_particles else Markup("{}").format(counts)
    if len(set(counts.values())) == 1 and len(counts) > 1:
        sizes = Markup(", ").join(listed(size, size) for size in counts)
        return Markup("{} at each {} = {}").format(next(iter(counts.values())), N, sizes)
    return Markup(", ").join(listed(size, f"{n} at {size}") for size, n in counts.items())


def _remarks(estimate: Estimate) -> str:
    remarks = []
    if estimate.refusal is not None:
        remarks.append(
            ("withheld: " if estimate.status == "withheld" else "weak, shown at the protocol's wish: ") + estimate.refusal
        )
    elif isinstance(estimate.fit, SpectrumFit) and estimate.fit.exponent.window is not None:
        lower, upper = estimate.fit.exponent.window
        remarks.append(f"{estimate.fit.n_modes} modes with {lower:.3g} < omega <= {upper:.3g}")
    if estimate.exponent is not None and estimate.method != "prediction":
        remarks.extend(estimate.exponent.warnings)
    return "; ".join(remarks)


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
                f"{m.shown.value:.2f}",
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
                    "{} at strain {:g}{}: the prediction is {} = {:.2f} [{:.2f}, {:.2f}]; {} with it (overlap of the intervals).",
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


def _failures(results: Results) -> Iterator[Markup]:
    if not results.failures:
        return
    kinds = Counter((failure.stage, failure.error) for _, failure in results.failures)
    yield note(
        "{} failures: {}. The other realisations are unharmed.",
        len(results.failures),
        ", ".join(f"{n} × {error} in {stage}" for (stage, error), n in sorted(kinds.items())),
    )
    rows = [
        (*realisation.key, failure.stage, failure.error, failure.message)
        for realisation, failure in results.failures[:MAX_ROWS]
    ]
    listed = f"The first {MAX_ROWS} failures" if len(results.failures) > MAX_ROWS else "All failures"
    yield details(listed, table(["preparation", N, "realisation", "stage", "error", "message"], rows, listed))


def _settings(results: Results, run: Run) -> Iterator[tuple[str, Any]]:
    protocol = run.protocol
    yield "protocol hash", Markup("<code>{}</code>").format(run.hash)
    yield "root seed", str(protocol.get("seed", "–"))
    engine = protocol.get("engine", "–")
    yield "engine", engine.get("kind", "–") if isinstance(engine, Mapping) else str(engine)
    yield "number density", f"{results.density:g}"
    for stage in protocol.get("stages", ()):
        yield f"stage {stage['kind']}", _inline({key: value for key, value in stage.items() if key != "kind"}) or "defaults"
    for name, preparation in run.preparations.items():
        yield f"preparation {name}", _inline(preparation)
    if run is results.runs[0]:
        yield "analysis", _inline(protocol.get("analysis", {})) or "defaults"


def _inline(settings: Any) -> str:
    if not isinstance(settings, Mapping):
        return json.dumps(settings)
    return ", ".join(
        f"{name} = {json.dumps(value) if not isinstance(value, str) else value}" for name, value in settings.items()
    )


def _of(figure: str, caption: Any) -> Markup:
    """The caption of a table of the numbers of a figure, with a link to it."""
    return Markup("{} ({})").format(caption, link(f"figure-{figure}", "figure"))


def _foldable(
    caption: str, headers: Sequence[Any], rows: Sequence[Sequence[Any]], *, figure: str = "", anchor: str = ""
) -> Markup:
    """A table that folds away where it is long, with a link to the figure of its numbers if there is one."""
    title = _of(figure, caption) if figure else caption
    if len(rows) <= LONG_TABLE:
        return table(headers, rows, title, anchor=anchor)
    return details(caption, table(headers, rows, title), anchor=anchor)


def _minima_table(results: Results, quantity: str, symbol: Markup, censored: str) -> Markup:
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
    return _foldable("The means in numbers", headers, rows, figure=quantity, anchor=f"table-{quantity}")


def _scaling_table(results: Results, quantity: str, symbol: Markup) -> Markup:
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
                    ", ".join(f"{_plain(value)} ({a}–{b})" for a, b, value in pairs),
                    _probability(fit.p_value),
                    _probability(fit.p_plateau),
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
    return _foldable("Is it a power law? A small p speaks against it.", headers, rows)


def _events_table(results: Results) -> Markup:
    events, steps = results.tables.get("events"), results.tables.get("steps")
    if events is None or steps is None or events.is_empty():
        return Markup("")
    events, steps = first_rise(events), first_rise(steps)
    keys = ["preparation", "n_particles"]
    # Up to a strain that all reached: a run that ends at an event would count one too many.
    wanted = {name: _first_turn(results.run_of(name)) for name in results.preparations}
    ends = steps.group_by(*keys, "realisation").agg(pl.col("strain").max())
    common = (
        ends.group_by(keys)
        .agg(pl.col("strain").min().alias("end"), pl.len().alias("runs"))
        .with_columns(
            pl.min_horizontal("end", pl.col("preparation").replace_strict(wanted, return_dtype=pl.Float64)).alias("end")
        )
    )
    summary = (
        events.join(common, on=keys)
        .filter(pl.col("strain_c") <= pl.col("end"))
        .group_by(keys)
        .agg(
            (pl.len() / (pl.col("end") * pl.col("runs")).first()).alias("rate"),
            pl.len().alias("n"),
            pl.col("stress_drop").mean(),
            pl.col("energy_drop").mean(),
            pl.col("q").median(),
        )
        .sort(keys)
    )
    rows = [
        (
            r["preparation"],
            r["n_particles"],
            r["n"],
            f"{r['rate']:.3g}",
            f"{r['stress_drop']:.3g}",
            f"{r['energy_drop']:.2e}",
            f"{r['q']:.3g}",
        )
        for r in summary.iter_rows(named=True)
    ]
    return table(
        [
            "preparation",
            N,
            "events",
            "per unit strain",
            "mean stress drop",
            "mean energy drop per particle",
            Markup("median <i>Q</i>"),
        ],
        rows,
        "Instabilities up to the strain that all realisations reached",
    )


def _first_turn(run: Run) -> float:
    """The strain at which the run was to end, or to turn back."""
    stage = run.stage("shear") or {}
    first_turn = stage["path"][1] if stage.get("path") else stage.get("strain_max")
    return float("inf") if first_turn is None else float(first_turn)


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


def _blind_spot(results: Results) -> Iterator[Markup]:
    """What the detectors cannot see, by their own words and in numbers of these runs, and what the paper's would not have seen."""
    settings: dict[str, list[tuple[Run, Mapping[str, Any]]]] = {}
    for run in results.runs:
        stage = run.stage("shear")
        if stage is not None:
            detector = _detector(stage)
            settings.setdefault(str(detector.get("kind", "none")), []).append((run, detector))
    for kind, runs in settings.items():
        of = f" ({', '.join(name for run, _ in runs for name in run.preparations)})" if len(settings) > 1 else ""
        yield paragraph("Instabilities were located by the detector <b>{}</b>{}.", kind, of)
        for run, detector in runs:
            blind = _blind_below(detector)
            if blind is None and "q_c" not in detector:
                continue
            said = f"{blind.rstrip('.')}. " if blind else ""
            jumps = ""
            if "q_c" in detector:
                jumps = _misses(results, run, float(detector["q_c"]) * float((run.stage("shear") or {}).get("increment", 1e-4)))
            yield note("{}{} It bends {} and with it {}.", said, jumps, GAMMA_MIN, THETA)
    if any(e.detector == AS_THRESHOLD for e in results.analysis.find(method="gamma_min")):
        seen = _misses(results, results.runs[0], PAPER_Q_C * PAPER_INCREMENT)
        yield note(
            "“{}” is theta as the paper's threshold detector would have seen it: an estimate, from those events of <b>{}</b> "
            "alone whose largest displacement exceeds the detector's limit. {}",
            AS_THRESHOLD,
            ", ".join(exact_detectors(results.tables["events"])),
            seen,
        )


def _detector(stage: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the detector of a stage that shears; nothing where it has none."""
    detector = stage.get("detector")
    return detector if isinstance(detector, Mapping) else {} if detector is None else {"kind": str(detector)}


def _blind_below(settings: Mapping[str, Any]) -> str | None:
    """What a detector says that it cannot see; None where it sees everything, says nothing, or is not installed here."""
    try:
        blind = DETECTORS.load(str(settings.get("kind"))).model_validate(dict(settings)).blind_below
    except Exception:  # noqa: BLE001  (a stranger's: it may fail in any way, or know of no such question)
        return None
    return None if blind is None else str(blind)


def _misses(results: Results, run: Run, largest_strain: float) -> Markup:
    jumps = ", ".join(f"{largest_strain * results.box_length(size):.2f} (N = {size})" for size in run.sizes)
    return Markup(
        "A detector with a threshold fires where the largest non-affine displacement of a step exceeds <i>Q</i><sub>c</sub> <i>L</i> "
        "d<i>γ</i>. Smaller jumps are not seen: those below {} interaction lengths. The limit grows with the box, so that larger "
        "systems miss more. In slowly quenched glasses most first events are smaller than that."
    ).format(jumps)


def _shown_only(results: Results) -> str:
    """That a figure shows some of the strains, where it does."""
    shown, strains = results.settings.shown, results.settings.strains
    return f"Shown: {len(shown)} of {len(strains)} strains; the tables have all." if len(shown) < len(strains) else ""


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


def _percent(results: Results) -> str:
    return f"{100 * results.settings.confidence:g}"


def _probability(p: float) -> str | None:
    if not isfinite(p):  # unknown
        return None
    return f"{p:.2g}" if p >= 0.001 else "< 0.001"
