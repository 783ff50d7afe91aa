"""The section of qlm_hoomd's report on the stage ``mesoscopic``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from qlm_hoomd.report.markup import THETA, join, note, number, paragraph, table
from qlm_hoomd.report.results import Results, Section, SectionFigure
from qlm_mesoscopic import plots, theory
from qlm_mesoscopic.errors import ModelError
from qlm_mesoscopic.master import MasterEquation
from qlm_mesoscopic.stage import LOADING, MODES, SPECTRA, STEADY, MesoscopicStage

_MIN_FAILURES = 20


def mesoscopic(results: Results) -> Section | None:
    """Figure 1, theta against A / v, loading, alpha against theta, P(lambda, kappa)."""
    wanted = results.stage("mesoscopic")
    if wanted is None:
        return None
    settings = MesoscopicStage.model_validate(dict(wanted))
    tables = {name: _gather(results, name) for name in (STEADY, LOADING, MODES, SPECTRA)}
    text = paragraph(
        "The mesoscopic model of the paper in its mean field, sampled with N blocks per system and, without any sampling, as a master "
        "equation. Stress is in the model's own units. It knows nothing of a glass: nothing here is fitted to particles."
    )
    figures = [
        SectionFigure(
            "mesoscopic_flow",
            plots.flow(lambda_min=settings.lambda_min),
            "Blocks in the plane of <i>λ</i> and <i>κ</i> under rising stress. Right: the potential of one that fails, from A to B′.",
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
    spectra = _pool(tables[SPECTRA], "alpha")
    figures.append(_alpha_figure(settings, spectra))
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
        f"Loading after a quench at <i>A</i> = {settings.loading_amplitude:g}. Lines: master equation; circles: sampled blocks, "
        "<i>v</i> from the stress that all blocks got in common per failure. The exponent is 1/2 right after the quench, collapses and recovers; the better "
        "annealed start collapses further and overshoots in stress."
    )
    return SectionFigure("mesoscopic_loading", plots.loading(curves, points), caption)


def _alpha_figure(settings: MesoscopicStage, spectra: pl.DataFrame) -> SectionFigure:
    points = []
    if not spectra.is_empty():
        theta = theory.theta_mean_field(spectra["noise_over_drift"].to_numpy(), 1.0, settings.mu)
        points.append(plots.Points(theta, spectra["alpha"], spectra["alpha_error"], "sampled"))
    caption = (
        "The exponent of the density of modes against that of the pseudo-gap: the limit of vanishing frequency, and what the same "
        "theory shows at a finite one. Points are fits to sampled modes within the window of <i>λ</i> that the band is for, at the "
        "<i>θ</i> that their noise and drift give. At the band's lower edge both branches are equally full, as after a quench; at the "
        "upper one nothing fails against the load."
    )
    return SectionFigure(
        "mesoscopic_alpha", plots.alpha_of_theta(points, window=settings.mode_window, high=settings.phi[1]), caption
    )


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
            "Density of modes at the same noise, split into shear transformations and passive modes; the height of the theory is set "
            "between <i>ω</i> = 0.1 and 0.3.",
        ),
    ]


def _master(settings: MesoscopicStage) -> dict[float, Any]:
    found = {}
    for amplitude in settings.amplitudes:
        try:
            found[amplitude] = MasterEquation(amplitude, settings.mu).steady()
        except ModelError:  # mu = 2, or an amplitude at the edge of stability: the sampled points stand alone
            continue
    return found


def _gather(results: Results, name: str) -> pl.DataFrame:
    parts = []
    for realisation in results.realisations:
        if realisation.has(name):
            preparation, size, index = realisation.key
            keys = [
                pl.lit(value).alias(key)
                for key, value in zip(("preparation", "n", "index"), (preparation, size, index), strict=True)
            ]
            parts.append(pl.read_parquet(realisation.path / name, memory_map=False).with_columns(keys))
    return pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame()


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
        pl.int_range(pl.len()).over("n", "index").alias("step"), (pl.col("failures") / pl.col("n")).alias("share")
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
