"""The sections of the report: functions of the results, found through the entry points ``qlm_hoomd.report_sections``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import polars as pl
from markupsafe import Markup

from qlm_hoomd.report import figures
from qlm_hoomd.report.analysis import Estimate, first_rise
from qlm_hoomd.report.markup import ALPHA, GAMMA_MIN, OMEGA_MIN, THETA, N, details, join, note, number, paragraph, table
from qlm_hoomd.report.results import Results, Section, SectionFigure
from qlm_hoomd.statistics import Exponent, FiniteSizeScaling, SpectrumFit
from qlm_hoomd.statistics.exponents import MAX_CENSORED, MIN_REALISATIONS, MIN_SIZE_RATIO, MIN_SIZES
from qlm_hoomd.statistics.spectra import MIN_MODES

PRODUCTS = {"prepare": "quenched.gsd", "shear": "steps.parquet", "modes": "modes.parquet", "structure": "structure.parquet"}
"""For each built-in stage the product that shows it done."""
LONG_TABLE = 9
"""Rows beyond which a table that repeats a figure in numbers folds away."""
MAX_ROWS = 40
"""Failures and exclusions listed one by one; beyond that they are counted."""


def overview(results: Results) -> Section:
    """What was run: sizes, realisations, settings, versions, failures."""
    stages = [stage["kind"] for stage in results.protocol.get("stages", ())]
    known = [kind for kind in stages if kind in PRODUCTS]
    rows = []
    for preparation in results.preparations:
        for size in results.sizes:
            own = [r for r in results.realisations if r.key[:2] == (preparation, size)]
            done = [sum(r.has(PRODUCTS[kind]) for r in own) for kind in known]
            failed = sum(bool(r.failures or results.unreadable.get(r.key)) for r in own)
            rows.append((preparation, size, results.planned(size), *done, failed))
    done_names = {"prepare": "quenched", "shear": "sheared", "modes": "diagonalised", "structure": "structure checked"}
    parts = [
        paragraph(
            "Stages: {}. Every realisation is an independent glass; each line counts them for one preparation and size.",
            ", ".join(stages) or "none",
        ),
        table(["preparation", N, "planned", *(done_names[kind] for kind in known), "failed"], rows),
    ]
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
    parts.append(table(["setting", "value"], _settings(results)))
    if len(results.versions) > 1:
        parts.append(
            note("The realisations were made with {} different sets of versions, listed below.", len(results.versions))
        )
    parts.extend(
        paragraph("Made with {}.", ", ".join(f"{name} {version}" for name, version in versions.items()))
        for versions in results.versions
    )
    parts.append(details("The whole protocol", Markup("<pre>{}</pre>").format(json.dumps(results.protocol, indent=2))))
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
    drawn = SectionFigure("stress_strain", figure, "Mean stress against strain; number of realisations in brackets.")
    headers = ["preparation", N, "realisations", "largest mean stress", "at strain", "last mean stress", "at strain"]
    return Section("Stress and strain", text, (drawn,), table(headers, rows))


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
        "laws (dotted where the exponent is withheld), brackets the {} % intervals of <i>θ</i>."
    ).format(_percent(results))
    tables = (
        _minima_table(results, "gamma_min", GAMMA_MIN, "no event in the run"),
        _scaling_table(results, "gamma_min", THETA),
        _events_table(results),
    )
    return Section("Plastic instabilities", join(text), (SectionFigure("gamma_min", figure, caption),), join(tables))


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
            f"{s.omega_max:.3g}",
            s.limited_by.replace(" ", "\u00a0"),
            *(f"{value:.2f}" if value is not None else None for value in s.threshold_scan),
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
    headers = ["preparation", "strain", N, "realisations", e_c, "first phonon", "complete up to", "window up to", "set by"]
    headers += [Markup("{} at {} {}").format(ALPHA, factor, e_c) for factor in (0.8, 1.2)]
    tables = [
        _minima_table(results, "omega_min", OMEGA_MIN, "no localised mode found"),
        _scaling_table(results, "omega_min", ALPHA),
        _foldable("The fit windows of the spectra, and what a change of the threshold by 20 % does", headers, rows),
        _moduli_table(results),
    ]
    if "residual" in results.tables["modes"].columns:
        residual = float(results.tables["modes"]["residual"].max() or 0)  # type: ignore[arg-type]
        tables.append(paragraph("Largest residual |<b>H</b>Ψ − λΨ| of all modes: {}.", f"{residual:.1e}"))
    captions = {
        "omega_min": Markup(
            "Mean frequency of the softest quasi-localised mode against system size. Bars are standard errors of the mean, "
            "lines the fitted power laws (dotted where the exponent is withheld), brackets the {} % intervals of <i>α</i>."
        ).format(_percent(results)),
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
    shown = tuple(SectionFigure(name, figure, captions[name]) for name, figure in drawn.items() if figure is not None)
    return Section("Vibrational modes", join(text), shown, join(tables))


def exponents(results: Results) -> Section:
    """All exponents beside the prediction."""
    analysis = results.analysis
    rows = []
    for estimate in analysis.estimates:
        exponent = estimate.exponent
        weak = estimate.status == "withheld"
        value = number_with_interval(estimate)
        rows.append(
            (
                estimate.preparation,
                f"{estimate.strain:g}",
                SYMBOLS[estimate.quantity],
                method(estimate),
                Markup('<span class="weak">{}</span>').format(value) if weak else Markup("<strong>{}</strong>").format(value),
                _counts(exponent.n_realisations) if exponent else None,
                _remarks(estimate),
            )
        )
    text = [
        paragraph(
            "Brackets are {} % intervals from resampling whole realisations, never points of one realisation. Numbers in "
            "grey are withheld: the data do not carry them. An exponent from finite-size scaling needs {} sizes over a factor "
            "{:g}, {} realisations at each, and no more than {:g}&nbsp;% of them without a minimum; one from the spectrum needs {} "
            "modes in the window.",
            _percent(results),
            MIN_SIZES,
            MIN_SIZE_RATIO,
            MIN_REALISATIONS,
            100 * MAX_CENSORED,
            MIN_MODES,
        ),
        *_verdicts(results),
        paragraph(
            "Prediction: {} = 3 + 4{} below {} = 1/4, and 4 from there on (eq. 9 of the paper). Around 1/4 the theory itself "
            "puts the exponent that a spectrum shows at reachable frequencies 0.1 to 0.3 lower.",
            ALPHA,
            THETA,
            THETA,
        ),
    ]
    caption = Markup(
        "Exponents with their {} % intervals. Dashed: <i>θ</i> = 1/4; dotted: <i>α</i> = 3 and 4. Grey, open: withheld."
    ).format(_percent(results))
    figure = figures.exponents(results)
    drawn = (SectionFigure("exponents", figure, caption),) if figure is not None else ()
    headers = ["preparation", "strain", "exponent", "from", "value", "realisations", "remarks"]
    return Section("Exponents", join(text), drawn, table(headers, rows))


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
        tables.append(table(["preparation", N, "realisation", "reason"], listed))
    figure = figures.structure(results)
    caption = "Mean pair correlation and structure factor of the quenched samples; number of realisations in brackets."
    drawn = (SectionFigure("structure", figure, caption),) if figure is not None else ()
    return Section("Structure", text, drawn, join(tables))


# ---- pieces ----

SYMBOLS = {"theta": THETA, "alpha": ALPHA}


def method(estimate: Estimate) -> Markup:
    """How an exponent was obtained, in a few words."""
    by = Markup(" ({})").format(estimate.detector) if estimate.detector else Markup("")
    return {
        "gamma_min": Markup("scaling of {}{}").format(GAMMA_MIN, by),
        "omega_min": Markup("scaling of {}").format(OMEGA_MIN),
        "spectrum": Markup("<i>D</i><sub>L</sub>(<i>ω</i>)")
        + (Markup(", {} = {}").format(N, estimate.n_particles) if estimate.n_particles else ""),
        "prediction": Markup("eq. (9), from {}{}").format(THETA, by),
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


def _counts(counts: int | Mapping[int, int]) -> str:
    if isinstance(counts, int):
        return str(counts)
    if len(set(counts.values())) == 1:
        return f"{next(iter(counts.values()))} at each of {len(counts)} sizes"
    return ", ".join(f"{n} at {size}" for size, n in counts.items())


def _remarks(estimate: Estimate) -> str:
    remarks = []
    if estimate.refusal is not None:
        remarks.append(
            ("withheld: " if estimate.status == "withheld" else "weak, shown at the protocol's wish: ") + estimate.refusal
        )
    elif isinstance(estimate.fit, SpectrumFit) and estimate.fit.exponent.window is not None:
        remarks.append(f"{estimate.fit.n_modes} modes below omega = {estimate.fit.exponent.window[1]:.3g}")
    if isinstance(estimate.fit, FiniteSizeScaling) and estimate.fit.least_squares is not None:
        remarks.append(f"the paper's least squares: {_with_interval(estimate.fit.least_squares)}")
    if estimate.exponent is not None and estimate.method != "prediction":
        remarks.extend(estimate.exponent.warnings)
    return "; ".join(remarks)


def _verdicts(results: Results) -> Iterator[Markup]:
    """Measured alpha against predicted alpha, in words."""
    analysis = results.analysis
    for prediction in analysis.find(method="prediction"):
        predicted = prediction.shown
        if predicted is None:
            continue
        measured = (
            *analysis.find(method="omega_min", preparation=prediction.preparation, strain=prediction.strain),
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
            yield paragraph(
                "{} at strain {:g}: the prediction is {} = {:.2f} [{:.2f}, {:.2f}]; {} with it (overlap of the intervals).",
                Markup("<b>{}</b>").format(prediction.preparation),
                prediction.strain,
                ALPHA,
                predicted.value,
                predicted.low,
                predicted.high,
                Markup(", ").join(said),
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
    yield details(listed, table(["preparation", N, "realisation", "stage", "error", "message"], rows))


def _settings(results: Results) -> Iterator[tuple[str, Any]]:
    protocol = results.protocol
    yield "protocol hash", Markup("<code>{}</code>").format(results.hash)
    yield "root seed", str(protocol.get("seed", "–"))
    engine = protocol.get("engine", "–")
    yield "engine", engine.get("kind", "–") if isinstance(engine, Mapping) else str(engine)
    yield "number density", f"{results.density:g}"
    for stage in protocol.get("stages", ()):
        yield f"stage {stage['kind']}", _inline({key: value for key, value in stage.items() if key != "kind"}) or "defaults"
    for name, preparation in protocol.get("ensemble", {}).get("preparations", {}).items():
        yield f"preparation {name}", _inline(preparation)
    yield "analysis", _inline(protocol.get("analysis", {})) or "defaults"


def _inline(settings: Any) -> str:
    if not isinstance(settings, Mapping):
        return json.dumps(settings)
    return ", ".join(
        f"{name} = {json.dumps(value) if not isinstance(value, str) else value}" for name, value in settings.items()
    )


def _foldable(caption: str, headers: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Markup:
    """A table that folds away where it is long."""
    return table(headers, rows, caption) if len(rows) <= LONG_TABLE else details(caption, table(headers, rows))


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
    return _foldable("The means in numbers", headers, rows)


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
    return table(
        [
            "preparation",
            "strain",
            Markup("{} between neighbouring sizes").format(symbol),
            Markup("<i>p</i> of the power law"),
            Markup("<i>p</i> of {} = 0").format(symbol),
        ],
        rows,
        "Is it a power law? A small p speaks against it.",
    )


def _events_table(results: Results) -> Markup:
    events, steps = results.tables.get("events"), results.tables.get("steps")
    if events is None or steps is None or events.is_empty():
        return Markup("")
    events, steps = first_rise(events), first_rise(steps)
    keys = ["preparation", "n_particles"]
    # Up to a strain that all reached: a run that ends at an event would count one too many.
    stage = results.stage("shear") or {}
    first_turn = stage["path"][1] if stage.get("path") else stage.get("strain_max")
    wanted = float("inf") if first_turn is None else float(first_turn)
    ends = steps.group_by(*keys, "realisation").agg(pl.col("strain").max())
    common = ends.group_by(keys).agg(pl.col("strain").min().clip(upper_bound=wanted).alias("end"), pl.len().alias("runs"))
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
    return details(
        "Elastic moduli and residual stress, means over the samples",
        table(["preparation", "strain", N, "realisations", *(name.replace("_", " ") for name in names)], rows),
    )


def _blind_spot(results: Results) -> Iterator[Markup]:
    """What the threshold detector cannot see, in numbers of this run."""
    stage = results.stage("shear") or {}
    detector = stage.get("detector", "threshold")
    settings = detector if isinstance(detector, Mapping) else {"kind": detector}
    if settings.get("kind") != "threshold":
        yield paragraph("Instabilities were located by the detector <b>{}</b>.", settings.get("kind") or "none")
        return
    threshold = float(settings.get("q_c", 100.0))
    increment = float(stage.get("increment", 1e-4))
    jumps = ", ".join(f"{threshold * increment * results.box_length(size):.2f} (N = {size})" for size in results.sizes)
    yield note(
        "The threshold detector fires where the largest non-affine displacement of a step exceeds <i>Q</i><sub>c</sub> "
        "<i>L</i> d<i>γ</i>. Smaller jumps are not seen: those below {} interaction lengths. The limit grows with the box, "
        "so that larger systems miss more, which bends {} and with it {}. In slowly quenched glasses most first events are "
        "smaller than that.",
        jumps,
        GAMMA_MIN,
        THETA,
    )


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
