"""The section of qlm_hoomd's report on the stage ``mesoscopic``, and on what the theory says of the glasses of any run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from qlm_hoomd.report.markup import ALPHA, THETA, join, note, number, paragraph, table
from qlm_hoomd.report.numbers import STRAIN_TOLERANCE, Estimate
from qlm_hoomd.report.results import Results, Section, SectionFigure
from qlm_hoomd.statistics.spectra import OMEGA_MAX
from qlm_mesoscopic import plots, theory
from qlm_mesoscopic.block import Replacement, UniformInvariants
from qlm_mesoscopic.errors import ModelError
from qlm_mesoscopic.master import MasterEquation
from qlm_mesoscopic.modes import ModeEquation
from qlm_mesoscopic.observables import exponent_of
from qlm_mesoscopic.stage import LOADING, MODES, SOFT_WINDOW, SPECTRA, STEADY, MesoscopicStage

_MIN_FAILURES = 20
_CURVE = (0.0, 0.08, 0.16, 0.24, 0.32, 0.38, 0.43, 0.46, 0.48, 0.49)
"""A over lambda_min^(3/2) at which the equation for modes is solved, up to where avalanches run away: 1/2 with the default
P_0."""
_NODES = 33
_SCALES = (2.0 / 3.0, 2.0 / 3.0 * 10.0, 2.0 / 3.0 * 100.0)
"""Largest phi of the theory over the largest lambda of the window. 2/3 is the least: there the window reaches up to B'."""
_LARGEST_THETA = 2.0
"""Where the interval of theta has no end: alpha no longer depends on it."""
_MIN_SHEAR_TRANSFORMATIONS = 20
"""Modes with phi > 0 from which the largest phi is read off."""


def mesoscopic(results: Results) -> Section | None:
    """Figure 1, theta against A / v, loading, alpha against theta, P(lambda, kappa); the theory's crossover beside the glasses.

    A run without the stage has the last part only, and no section where it has no theta either.
    """
    wanted = results.stage("mesoscopic")
    crossover = _crossover(results)
    if wanted is None:
        return Section("The theory at finite frequency", crossover[0], (crossover[1],), crossover[2]) if crossover else None
    settings = MesoscopicStage.model_validate(dict(wanted))
    tables = {
        name: results.tables.get(name.removesuffix(".parquet"), pl.DataFrame()) for name in (STEADY, LOADING, MODES, SPECTRA)
    }
    text = paragraph(
        "The mesoscopic model of the paper in its mean field, sampled with N blocks per system and, without any sampling, "
        "as a master equation. Stress is in the model's own units. It knows nothing of a glass: nothing here is fitted to "
        "particles."
    )
    figures = [
        SectionFigure(
            "mesoscopic_flow",
            plots.flow(lambda_min=settings.lambda_min),
            "Blocks in the plane of <i>λ</i> and <i>κ</i> under rising stress. Right: the potential of one that fails, from "
            "A to B′.",
        )
    ]
    parts: list[Any] = [text]
    steady = _pool(tables[STEADY], "theta")
    master = _master(settings)
    if steady.is_empty():
        parts.append(note("No system has been sampled yet. The curves are those of the theory."))
    figures.append(_theta_figure(settings, steady, master))
    if settings.mu == 1.0:
        figures.append(_loading_figure(results, settings, tables[LOADING]))
    figures.append(_alpha_figure(settings, tables[SPECTRA]))
    figures.extend(_plane_figures(settings, tables[MODES], tables[SPECTRA]))
    rows = [
        (
            f"{row['amplitude']:g}",
            f"{row['noise_over_drift']:.4f}",
            number(row["theta"], _standard(row["theta_error"])),
            f"{float(theory.theta_mean_field(row['noise_over_drift'], 1.0, settings.mu)):.4f}",
            f"{master[row['amplitude']].fitted_theta(1e-5, 1e-3):.4f}" if row["amplitude"] in master else None,
            row["systems"],
        )
        for row in steady.iter_rows(named=True)
    ]
    headers = ["<i>A</i>", "<i>A</i>/<i>v</i>", THETA, "formula", "master equation at its own A/v", "systems"]
    tables_html = table([_plain(header) for header in headers], rows, "Steady states of threshold blocks") if rows else ""
    if crossover:
        parts.append(crossover[0])
        figures.append(crossover[1])
        tables_html = join([tables_html, crossover[2]])
    return Section("The mesoscopic model", join(parts), tuple(figures), tables_html)


def _theta_figure(settings: MesoscopicStage, steady: pl.DataFrame, master: Mapping[float, Any]) -> SectionFigure:
    points = []
    if master and settings.mu == 1.0:
        ratio = [amplitude / state.drift for amplitude, state in master.items()]
        points.append(plots.Points(ratio, [state.fitted_theta() for state in master.values()], None, "master equation"))
    if not steady.is_empty():
        points.append(plots.Points(steady["noise_over_drift"], steady["theta"], steady["theta_error"], "sampled"))
    largest = max([0.5, *(float(np.max(np.asarray(p.x))) * 1.1 for p in points)])
    caption = (
        "The pseudo-gap exponent of the mean field in its steady state against noise over drift. Bars are 95 % intervals. With "
        "<i>μ</i> above 1 the formula, which is that of <i>μ</i> = 1, does not apply."
    )
    return SectionFigure("mesoscopic_theta", plots.theta_of_noise(points, largest=largest), caption)


def _loading_figure(results: Results, settings: MesoscopicStage, loaded: pl.DataFrame) -> SectionFigure:
    """Both quenches by the master equation; sampled stress and theta of the drift as points."""
    equation = MasterEquation(settings.loading_amplitude, settings.mu, cells_per_decade=12, widest=0.04)
    quench = {name: value["quench"] for name, value in results.protocol["ensemble"]["preparations"].items()}
    curves, points = {}, {}
    for name, kind in quench.items():
        curves[name] = equation.load(equation.quench(settings.spread_rapid if kind == "rapid" else settings.spread_slow))
        if not loaded.is_empty() and name in loaded["preparation"]:
            points[name] = _binned(loaded.filter(pl.col("preparation") == name), settings.loading_amplitude)
    caption = (
        f"Loading after a quench at <i>A</i> = {settings.loading_amplitude:g}. Lines: master equation; circles: sampled "
        "blocks, <i>v</i> from the stress that all blocks got in common per failure. The exponent is 1/2 right after the "
        "quench, collapses and recovers; the better annealed start collapses further and overshoots in stress."
    )
    return SectionFigure("mesoscopic_loading", plots.loading(curves, points), caption)


def _alpha_figure(settings: MesoscopicStage, spectra: pl.DataFrame) -> SectionFigure:
    low, top = settings.mode_window
    soft = [f"{end * settings.lambda_min:g}" for end in SOFT_WINDOW]
    points = []
    for name, label in (
        ("alpha", rf"sampled, ${low:g}<\lambda<{top:g}$"),
        ("soft_alpha", r"witnesses, $\lambda<10^{-3}\lambda_{\min}$"),
    ):
        pooled = _pool(spectra, name) if name in spectra.columns else pl.DataFrame()
        if not pooled.is_empty():
            theta = theory.theta_mean_field(pooled["noise_over_drift"].to_numpy(), 1.0, settings.mu)
            points.append(plots.Points(theta, pooled[name], pooled[f"{name}_error"], label))
    equation = _mode_curve(settings.lambda_min, settings.phi, settings.mode_window) if settings.mu == 1.0 else None
    caption = (
        "The exponent of the density of modes against that of the pseudo-gap: the limit of vanishing frequency, and what "
        "the same theory shows at a finite one. Points are fits to sampled modes, with intervals of 95 %, at the <i>θ</i> "
        f"that their noise and drift give: to the modes of <i>N</i> blocks at {low:g} &lt; <i>λ</i> &lt; {top:g}, and to "
        f"witnesses, which feel the same noise and drift and are followed down to {soft[0]} &lt; <i>λ</i> &lt; {soft[1]}. "
    ) + (
        "The blue line is the equation for modes in the window of the former, without sampling."
        if equation is not None
        else "At the lower edge of the band both branches are equally full, as after a quench; at the upper one nothing "
        "fails against the load."
    )
    figure = plots.alpha_of_theta(
        points, window=settings.mode_window if equation is None else None, equation=equation, high=settings.phi[1]
    )
    return SectionFigure("mesoscopic_alpha", figure, caption)


@lru_cache(maxsize=4)
def _mode_curve(lambda_min: float, phi: tuple[float, float], window: tuple[float, float]) -> plots.Points | None:
    """alpha of the equation for modes in the window of the counts; None where the equation does not cover these settings."""
    if not window[1] < 0.5 * lambda_min:  # beyond, the equation loses a few percent of its modes
        return None
    replacement = Replacement(lambda_min=lambda_min, p0=UniformInvariants(*phi))
    log_l = np.linspace(np.log(window[0]), np.log(window[1]), _NODES)
    theta, alpha = [], []
    for amplitude in _CURVE:
        try:
            density = ModeEquation(amplitude * lambda_min**1.5, replacement=replacement).steady()
        except ModelError:  # P_0 is not one of the equation's, or from this amplitude on avalanches run away
            break
        log_p = np.log(density.total(np.exp(log_l)))
        theta.append(density.theta)
        alpha.append(2.0 * exponent_of(lambda lam, log_p=log_p: np.exp(np.interp(np.log(lam), log_l, log_p)), window) + 1.0)  # type: ignore[misc]
    return plots.Points(theta, alpha, None, "equation for modes") if len(theta) > 1 else None


def _plane_figures(settings: MesoscopicStage, modes: pl.DataFrame, spectra: pl.DataFrame) -> list[SectionFigure]:
    if modes.is_empty() or spectra.is_empty():
        joint = plots.joint_density(0.2, lambda_min=settings.lambda_min, low=settings.phi[0], high=settings.phi[1])
        return [SectionFigure("mesoscopic_plane", joint, "The theory's density of modes in the plane.")]
    amplitude = settings.mode_amplitudes[-1]
    own, runs = (frame.filter(pl.col("amplitude") == amplitude) for frame in (modes, spectra))
    theta = float(theory.theta_mean_field(float(runs["noise_over_drift"].mean()), 1.0, settings.mu))  # type: ignore[arg-type]
    high = settings.phi[1]
    joint = plots.joint_density(theta, own["lam"], own["kappa"], lambda_min=settings.lambda_min, low=settings.phi[0], high=high)
    density = plots.spectrum(theta, own["lam"], own["phi"], high=high)
    return [
        SectionFigure(
            "mesoscopic_plane",
            joint,
            f"Density of modes in the plane at <i>A</i> = {amplitude:g}. The theory speaks of the left edge; how the modes are "
            "spread at larger <i>λ</i> depends on how new ones come in.",
        ),
        SectionFigure(
            "mesoscopic_spectrum",
            density,
            "Density of modes at the same noise, split into shear transformations and passive modes; the height of the "
            "theory is set between <i>ω</i> = 0.1 and 0.3.",
        ),
    ]


@dataclass(frozen=True)
class _Reading:
    """One row of the crossover: theta of a glass, and what the theory lets a fit in our window read as alpha.

    Args:
        theta: the estimate it starts from.
        window: (lower, upper) frequency of the fit to the spectrum.
        at_theta: smallest and largest alpha at theta, over the scales and, under load, over how full the branch against it is.
        within: the same over the interval of theta too.
        phi: what the modes in the window say about the scale: number, how many have phi > 0, and the 95 % quantile of those;
            the last is None where they are too few to tell.
        measured: alpha from the spectrum and from the softest modes, as far as there is one.
    """

    theta: Estimate
    window: tuple[float, float]
    at_theta: tuple[float, float]
    within: tuple[float, float]
    phi: tuple[int, int, float | None]
    measured: tuple[Estimate | None, Estimate | None]


def _crossover(results: Results) -> tuple[Any, SectionFigure, Any] | None:
    """Text, figure and table on the theory's own finite-frequency crossover; None without any theta."""
    readings = [_reading(results, e) for e in results.analysis.find(method="gamma_min") if e.exponent is not None]
    if not readings:
        return None
    text = paragraph(
        "The theory reaches its exponents only as <i>ω</i> vanishes. Near <i>θ</i> = 1/4 it is far from them at any "
        "frequency that a spectrum has: there, a fit to the theory’s own spectrum reads an <i>α</i> of 0.1 to 0.3 below "
        "min(4, 3 + 4 <i>θ</i>). In the table that fit is made in the window of ours. (At a <i>θ</i> well below 1/4 passive "
        "modes still take part in it, and it may read more than 3 + 4 <i>θ</i>.) The theory’s <i>λ</i> is the eigenvalue "
        "(<i>κ</i> / √<i>χ</i> and <i>Φ</i> / <i>χ</i> leave it alone), but its spectrum has one scale that it does not "
        "give: the largest <i>Φ</i>, up to which <i>Φ</i> is taken as evenly spread. The range given is over largest "
        "<i>Φ</i> from {} (the least for which all of the window lies below B′) to {} times the largest <i>λ</i> of the "
        "window and, at strains above 0, over how full the branch is that fails against the load.",
        f"{_SCALES[0]:.2g}",
        f"{_SCALES[-1]:.2g}",
    )
    # Two detectors make two rows of one ensemble: its modes count once, and the figure shows the first.
    ensembles = list({(r.theta.preparation, r.theta.strain): r for r in reversed(readings)}.values())[::-1]
    if sum(reading.phi[0] for reading in ensembles):
        text = join([text, _scale_note(ensembles)])
    panels = {}
    for preparation in results.preparations:
        own = [r for r in ensembles if r.theta.preparation == preparation]
        if own:
            panels[preparation] = _panel(own)
    figure = SectionFigure(
        "mesoscopic_crossover",
        plots.crossover(panels),
        "<i>α</i> against strain. Bars: what the theory lets a fit in our window read at the measured <i>θ</i>, from the "
        "smallest to the largest over its unknown scale; pale, over the interval of <i>θ</i> as well. Points with intervals "
        "of 95 %: min(4, 3 + 4 <i>θ</i>) at the measured <i>θ</i>, and measured <i>α</i>; open where the number is "
        "withheld. The <i>θ</i> is that of the first detector of the table.",
    )
    return text, figure, _crossover_table(readings)


def _reading(results: Results, theta: Estimate) -> _Reading:
    at: dict[str, Any] = {"preparation": theta.preparation, "strain": theta.strain}
    spectrum = results.analysis.spectrum_estimate(**at)
    softest = next(iter(results.analysis.find(method="omega_min", **at)), None)
    fitted = spectrum.exponent.window if spectrum.exponent is not None else None
    window = fitted if fitted is not None else (0.0, OMEGA_MAX)
    assert theta.exponent is not None
    phi = _phi(results, theta, spectrum.n_particles, window)
    least = _SCALES[0] * window[1] ** 2
    scales = [scale * window[1] ** 2 for scale in _SCALES] if phi[2] is None else [max(phi[2], least)]
    # A power law has next to nothing below a hundredth of its upper end, where lambda has no logarithm to offer at 0.
    edges = (max(window[0], 0.01 * window[1]) ** 2, window[1] ** 2)
    against = (1.0,) if theta.strain == 0.0 else (0.0, 1.0)

    def readings(value: float) -> list[float]:
        value = min(max(value, 0.0), _LARGEST_THETA)
        return [theory.alpha_in_window(value, edges, against=share, high=high) for high in scales for share in against]

    found = readings(theta.exponent.value)
    within = found + readings(theta.exponent.low) + readings(theta.exponent.high)
    measured = tuple(e if e is not None and e.exponent is not None else None for e in (spectrum, softest))
    return _Reading(theta, window, (min(found), max(found)), (min(within), max(within)), phi, (measured[0], measured[1]))


def _phi(
    results: Results, theta: Estimate, n_particles: int | None, window: tuple[float, float]
) -> tuple[int, int, float | None]:
    """Quasi-localised modes in the window whose phi is known, how many have phi > 0, and the 95 % quantile of these."""
    modes = results.tables.get("modes")
    if modes is None or n_particles is None or "phi_theory" not in modes.columns:
        return 0, 0, None
    phi = modes.filter(
        pl.col("preparation") == theta.preparation,
        pl.col("n_particles") == n_particles,
        (pl.col("strain") - theta.strain).abs() < STRAIN_TOLERANCE,
        pl.col("participation_ratio") < results.settings.threshold(n_particles),
        pl.col("frequency").is_between(*window, closed="right"),
    )["phi_theory"].drop_nulls()
    positive = phi.filter(phi > 0.0)
    largest = positive.quantile(0.95, "linear") if len(positive) >= _MIN_SHEAR_TRANSFORMATIONS else None
    return len(phi), len(positive), largest


def _scale_note(readings: list[_Reading]) -> Any:
    n_modes, n_shear = sum(reading.phi[0] for reading in readings), sum(reading.phi[1] for reading in readings)
    fixed = sum(reading.phi[2] is not None for reading in readings)
    found = "Of {} quasi-localised modes in these windows whose <i>χ</i> is positive, {} have <i>Φ</i> &gt; 0. "
    if fixed:
        return paragraph(
            found + "In {} of {} ensembles these are {} or more, and the 95 % quantile of their <i>Φ</i> / <i>χ</i> is the "
                    "scale.",
            n_modes, n_shear, fixed, len(readings), _MIN_SHEAR_TRANSFORMATIONS,
        )  # fmt: skip
    return paragraph(
        found + "That is too few to read the scale off: no ensemble has {} of them. The measured <i>χ</i> is that of a "
        "frozen direction and <i>κ</i> that of a mode which may be mixed with others; both put <i>Φ</i> too low, so that "
        "the number of shear transformations is a lower bound.",
        n_modes, n_shear, _MIN_SHEAR_TRANSFORMATIONS,
    )  # fmt: skip


def _panel(readings: list[_Reading]) -> plots.Crossover:
    strain = [reading.theta.strain for reading in readings]
    predicted = [_mapped(reading.theta) for reading in readings]
    series = [
        plots.Interval("$\\min(4,\\,3+4\\theta)$", strain, *_columns(predicted), [r.theta.shown is None for r in readings])
    ]
    for index, label in enumerate(("spectrum", "softest modes")):
        own = {r.theta.strain: estimate for r in readings if (estimate := r.measured[index]) is not None}
        if own:
            values = [(e.exponent.value, e.exponent.low, e.exponent.high) for e in own.values() if e.exponent is not None]
            series.append(plots.Interval(label, list(own), *_columns(values), [e.shown is None for e in own.values()]))
    return plots.Crossover(strain, [r.at_theta for r in readings], [r.within for r in readings], series)


def _mapped(theta: Estimate) -> tuple[float, float, float]:
    """min(4, 3 + 4 theta) at the value and both ends of the interval; the theory has no theta below 0."""
    assert theta.exponent is not None
    value, low, high = (
        float(theory.alpha(max(end, 0.0))) for end in (theta.exponent.value, theta.exponent.low, theta.exponent.high)
    )
    return value, low, high


def _columns(rows: list[tuple[float, float, float]]) -> tuple[list[float], list[float], list[float]]:
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def _crossover_table(readings: list[_Reading]) -> Any:
    headers = [
        "preparation", _plain("<i>γ</i>"), "detector", THETA, _plain("min(4, 3 + 4 <i>θ</i>)"), _plain("window of <i>ω</i>"),
        "theory in the window", _plain("<i>α</i>, spectrum"), _plain("<i>α</i>, softest modes"),
    ]  # fmt: skip
    rows = []
    for r in readings:
        value, low, high = _mapped(r.theta)
        rows.append(
            (
                r.theta.preparation,
                f"{r.theta.strain:g}",
                r.theta.detector,
                _with_interval(r.theta),
                f"{value:.2f} ({low:.2f} to {high:.2f})",
                f"({r.window[0]:.2g}, {r.window[1]:.2g}]",
                f"{r.at_theta[0]:.2f} to {r.at_theta[1]:.2f} ({r.within[0]:.2f} to {r.within[1]:.2f})",
                *(_with_interval(estimate) if estimate is not None else None for estimate in r.measured),
            )
        )
    caption = join(
        [
            ALPHA,
            " of the theory as a fit in our window would read it (in brackets: over the interval of ",
            THETA,
            " as well), beside what was measured; intervals of 95 %",
        ]
    )
    return table(headers, rows, caption)


def _with_interval(estimate: Estimate) -> str:
    exponent = estimate.exponent
    assert exponent is not None
    ends = [f"{end:.2f}" if abs(end) < np.inf else "no end" for end in (exponent.low, exponent.high)]
    text = f"{exponent.value:.2f} ({' to '.join(ends)})"
    return text if estimate.shown is not None else f"{text}, withheld"


def _master(settings: MesoscopicStage) -> dict[float, Any]:
    found = {}
    for amplitude in settings.amplitudes:
        try:
            found[amplitude] = MasterEquation(amplitude, settings.mu).steady()
        except ModelError:  # mu = 2, or an amplitude at the edge of stability: the sampled points stand alone
            continue
    return found


def _pool(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """Mean of an exponent over systems, weighted with the inverse square of their intervals; the larger of both errors."""
    if rows.is_empty():
        return rows
    pooled = []
    for (amplitude,), part in rows.drop_nulls(name).group_by("amplitude", maintain_order=True):
        value, error = part[name].to_numpy(), part[f"{name}_error"].to_numpy()
        weight = error**-2.0
        mean = float(np.average(value, weights=weight))
        scatter = 1.96 * float(np.std(value, ddof=1)) / np.sqrt(len(value)) if len(value) > 1 else 0.0
        pooled.append(
            {
                "amplitude": amplitude,
                "noise_over_drift": float(part["noise_over_drift"].mean()),  # type: ignore[arg-type]
                name: mean,
                f"{name}_error": max(float(weight.sum() ** -0.5), scatter),
                "systems": len(part),
            }
        )
    return pl.DataFrame(pooled).sort("amplitude") if pooled else pl.DataFrame()


def _binned(loaded: pl.DataFrame, amplitude: float) -> tuple[plots.Points, plots.Points]:
    """Stress and theta of the drift, averaged over systems at each step of the loading."""
    step = loaded.with_columns(
        pl.int_range(pl.len()).over("n_particles", "realisation").alias("step"),
        (pl.col("failures") / pl.col("n_particles")).alias("share"),
    )
    mean = (
        step.group_by("step")
        .agg(
            pl.col("activity").mean(),
            pl.col("stress").mean(),
            pl.col("share").sum(),
            (pl.col("drift") * pl.col("share")).sum().alias("drifted"),
            pl.col("failures").sum(),
        )
        .filter((pl.col("failures") >= _MIN_FAILURES) & (pl.col("drifted") > 0.0))
        .sort("step")
    )
    theta = theory.theta_mean_field(amplitude, (mean["drifted"] / mean["share"]).to_numpy())
    return plots.Points(mean["activity"], mean["stress"]), plots.Points(mean["activity"], theta)


def _standard(half_width: float) -> float:
    return half_width / 1.96


def _plain(header: Any) -> Any:
    from markupsafe import Markup

    return Markup(header)  # noqa: S704 our own headers
