"""Stress-strain curves, and the instabilities on them. No arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
from markupsafe import Markup

from qlm_hoomd.base.registry import DETECTORS
from qlm_hoomd.report import cycles, figures
from qlm_hoomd.report.markup import GAMMA_MIN, THETA, N, join, note, number, of_figure, paragraph, table
from qlm_hoomd.report.means import exact_detectors, first_rise
from qlm_hoomd.report.numbers import AS_THRESHOLD, PAPER_INCREMENT, PAPER_Q_C
from qlm_hoomd.report.results import Results, Run, Section
from qlm_hoomd.report.sections.tables import alternatives_table, directions_table, minima_table, scaling_table
from qlm_hoomd.statistics import mean_and_standard_error

_SHEAR, _NEXT = "What happened under shear?", "How far is the next instability?"


def shear(results: Results) -> Section | None:
    """Stress-strain curves."""
    if results.stage("shear") is None and "steps" not in results.tables:
        return None
    drawn = figures.some(results, {"stress_strain": ("stress_strain",)}, {"stress_strain": "table-stress"})
    if not drawn:
        return Section(_SHEAR, note("No realisation has been sheared yet."))
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
            [
                text,
                note(
                    "The strain path is {}. Where no cycle is named, numbers are those up to where it first turns back.",
                    stage["path"],
                ),
            ]
        )
    if stage.get("plane", "xy") != "xy":
        text = join(
            [text, note("The plane {} was sheared: flow along the first axis, gradient along the second.", stage["plane"])]
        )
    headers = ["preparation", N, "realisations", "largest mean stress", "at strain", "last mean stress", "at strain"]
    numbers = table(headers, rows, of_figure("stress_strain", "Largest and last mean stress"), anchor="table-stress")
    loops = cycles.figure(results)
    shown = (*drawn, loops) if loops is not None else tuple(drawn)
    return Section(_SHEAR, text, shown, join([numbers, _events_table(results), _cycles_table(results)]))


def instabilities(results: Results) -> Section | None:
    """The strain to the next instability, and theta."""
    if results.stage("shear") is None and "events" not in results.tables:
        return None
    drawn = figures.some(results, {"gamma_min": ("gamma_min",)}, {"gamma_min": "table-gamma_min"})
    if not drawn:
        return Section(_NEXT, note("No realisation has been sheared beyond the strains of the analysis yet."))
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
    tables = (
        minima_table(results, "gamma_min", GAMMA_MIN, "no event in the run"),
        directions_table(results),
        scaling_table(results, "gamma_min", THETA),
        alternatives_table(results),
    )
    return Section(_NEXT, join(text), tuple(drawn), join(tables))


def _cycles_table(results: Results) -> Markup:
    found = cycles.cycles_of(results)
    rows = []
    for (preparation, size, cycle), group in found.group_by("preparation", "n_particles", "cycle", maintain_order=True):
        compared = group.filter("compared")
        came_back = compared.drop_nulls("period").group_by("period").len().sort("period").rows()
        periods = ", ".join(f"{n} after {period}" for period, n in came_back) or "none"
        energy, rising, falling = (
            number(*mean_and_standard_error(group[name].drop_nulls())) for name in ("dissipated", "rising", "falling")
        )
        states = f"{periods} of {compared.height}" if compared.height else "no frames at its end"
        rows.append((preparation, size, cycle, group.height, energy, rising, falling, states))
    if not rows:
        return Markup("")
    headers = ["preparation", N, "cycle", "realisations", "energy dissipated per particle"]
    headers += ["instabilities as the strain rises", "as it falls", "states that came back, after so many cycles"]
    caption = (
        "Cycles, from where the path began: area of the loop less the change of the energy, mean over realisations with its "
        "standard error. A state is compared with those at the ends of all cycles before, to 1e-6 of a length"
    )
    return table(headers, rows, of_figure("cycles", caption), anchor="table-cycles")


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


def _blind_spot(results: Results) -> Iterator[Markup]:
    """What the detectors cannot see, by their own words and in numbers of these runs, and what the paper's would not have seen."""
    runs_of: dict[str, list[Run]] = {}
    for run in results.runs:
        stage = run.stage("shear")
        if stage is not None:
            runs_of.setdefault(str(_detector(stage).get("kind", "none")), []).append(run)
    for kind, runs in runs_of.items():
        of = f" ({', '.join(name for run in runs for name in run.preparations)})" if len(runs_of) > 1 else ""
        yield paragraph("Instabilities were located by the detector <b>{}</b>{}.", kind, of)
        for run in runs:
            said = _cannot_see(results, run)
            if said:
                yield note("{} It bends {} and with it {}.", said, GAMMA_MIN, THETA)
    if any(e.detector == AS_THRESHOLD for e in results.analysis.find(method="gamma_min")):
        seen = _misses(results, results.runs[0], PAPER_Q_C * PAPER_INCREMENT)
        yield note(
            "“{}” is <i>θ</i> as the paper's threshold detector would have seen it: an estimate, from those events of "
            "<b>{}</b> alone whose largest displacement exceeds the detector's limit. {}",
            AS_THRESHOLD,
            ", ".join(exact_detectors(results.tables["events"])),
            seen,
        )


def _detector(stage: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the detector of a stage that shears; nothing where it has none."""
    detector = stage.get("detector")
    return detector if isinstance(detector, Mapping) else {} if detector is None else {"kind": str(detector)}


def _cannot_see(results: Results, run: Run) -> str:
    """What the detector of a run says that it cannot see; empty where nothing escapes it, or it is not installed here."""
    stage = run.stage("shear") or {}
    settings, increment = _detector(stage), float(stage.get("increment", PAPER_INCREMENT))
    try:
        detector = DETECTORS.load(str(settings.get("kind"))).model_validate(dict(settings))
        limits = {size: detector.blind_below(increment, results.box_length(size)) for size in run.sizes}
        if not run.sizes or set(limits.values()) == {0.0}:
            return ""
        said = [str(detector.cannot_see(increment, results.box_length(run.sizes[-1])))]
    except Exception:  # noqa: BLE001  (a stranger's: it may fail in any way)
        return ""
    others = ", ".join(f"{limits[size]:.2f} (N = {size})" for size in run.sizes[:-1] if limits[size] is not None)
    return " ".join([*said, *([f"At the smaller sizes these are {others}."] if others else [])])


def _misses(results: Results, run: Run, largest_strain: float) -> Markup:
    jumps = ", ".join(f"{largest_strain * results.box_length(size):.2f} (N = {size})" for size in run.sizes)
    return Markup(
        "A detector with a threshold fires where the largest non-affine displacement of a step exceeds <i>Q</i><sub>c</sub> "
        "<i>L</i> d<i>γ</i>. Smaller jumps are not seen: those below {} interaction lengths. The limit grows with the box, "
        "so that larger systems miss more. In slowly quenched glasses most first events are smaller than that."
    ).format(jumps)
