"""From tables to numbers: stress-strain curves, mean minima, spectra, exponents, and the refusals among them.

Array suffixes: ``_r`` realisations, ``_g`` points of a strain grid, ``_m`` modes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qlm_hoomd.errors import InsufficientStatistics
from qlm_hoomd.statistics import (
    CutoffScan,
    DensityOfStates,
    Exponent,
    FiniteSizeScaling,
    Phonons,
    SpectrumFit,
    alpha_from_omega_min,
    alpha_from_spectrum,
    default_participation_threshold,
    density_of_states,
    excess_density,
    mean_and_standard_error,
    phonons,
    predicted_alpha,
    strain_to_next_event,
    theta_from_gamma_min,
    window_scan,
)
from qlm_hoomd.statistics.spectra import MIN_MODES, OMEGA_MAX, PHONON_MARGIN

Floats = NDArray[np.float64]

STRAIN_TOLERANCE = 1e-6
"""Two strains closer than this are the same state."""
GRID_POINTS = 201
"""Points of the mean stress-strain curve."""


@dataclass(frozen=True)
class Settings:
    """The ``analysis`` section of a protocol; its fields are documented there."""

    participation_threshold: float | Mapping[int, float] | None = None
    strains: tuple[float, ...] = (0.0,)
    omega_max: float | None = None
    select: Mapping[str, bool | float | None] = field(default_factory=dict)
    exclude_crystals: bool = True
    confidence: float = 0.95
    insist: bool = False

    @classmethod
    def from_protocol(cls, protocol: Mapping[str, Any]) -> Settings:
        """The settings in ``protocol``, defaults where it has none."""
        given = dict(protocol.get("analysis") or {})
        threshold = given.get("participation_threshold")
        if isinstance(threshold, Mapping):  # JSON turns the sizes into text
            given["participation_threshold"] = {int(size): float(value) for size, value in threshold.items()}
        if not given.get("strains"):
            given.pop("strains", None)
        else:
            given["strains"] = tuple(sorted({float(strain) for strain in given["strains"]}))
        return cls(**{name: value for name, value in given.items() if name in cls.__dataclass_fields__})

    @property
    def selection(self) -> str:
        """The samples that count for the spectra, in words; empty for all."""
        words = {
            "shear_stable": "stable under every small shear"
            if self.select.get("shear_stable")
            else "unstable under some small shear",
            "residual_shear_stress_max": f"residual shear stress up to {self.select.get('residual_shear_stress_max')}",
            "strain_since_event_min": f"strain of at least {self.select.get('strain_since_event_min')} since the last instability",
        }
        return ", ".join(text for name, text in words.items() if self.select.get(name) is not None)

    def threshold(self, n_particles: int) -> float:
        """Participation ratio e_c at this size."""
        chosen = self.participation_threshold
        if isinstance(chosen, Mapping):
            chosen = chosen.get(n_particles)
        return default_participation_threshold(n_particles) if chosen is None else float(chosen)


@dataclass(frozen=True)
class Estimate:
    """One exponent of one preparation at one strain, or why there is none.

    Args:
        quantity: ``theta`` or ``alpha``.
        method: ``gamma_min``, ``omega_min`` (finite-size scaling), ``spectrum`` (direct fit) or ``prediction`` (eq. 9).
        preparation, strain: of the ensemble.
        detector: that located the instabilities behind it, None where there are none behind it.
        n_particles: the size whose spectrum was fitted, None for methods that use all sizes.
        exponent: the number; where ``refusal`` is set it is too weak to be quoted, and may be missing.
        refusal: why the number is withheld.
        insisted: whether the user's settings show it all the same.
        fit: what it rests on.
    """

    quantity: str
    method: str
    preparation: str
    strain: float
    detector: str | None = None
    n_particles: int | None = None
    exponent: Exponent | None = None
    refusal: str | None = None
    insisted: bool = False
    fit: FiniteSizeScaling | SpectrumFit | None = None

    @property
    def status(self) -> str:
        """``measured``, ``insisted`` (weak, shown at the user's wish) or ``withheld``."""
        if self.refusal is None:
            return "measured"
        return "insisted" if self.insisted and self.exponent is not None else "withheld"

    @property
    def shown(self) -> Exponent | None:
        """The exponent if it may be quoted."""
        return None if self.status == "withheld" else self.exponent

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON; ``value`` is null where it is withheld, ``weak_estimate`` then has it."""
        plain = self.exponent.to_dict() if self.exponent is not None else None
        quoted = plain if self.status != "withheld" else None
        weak = plain if self.status == "withheld" else None
        return {
            "quantity": self.quantity,
            "method": self.method,
            "preparation": self.preparation,
            "strain": self.strain,
            "detector": self.detector,
            "n_particles": self.n_particles,
            "status": self.status,
            "value": quoted["value"] if quoted else None,
            "interval": [quoted["low"], quoted["high"]] if quoted else None,
            "refusal": self.refusal,
            "weak_estimate": {"value": weak["value"], "interval": [weak["low"], weak["high"]]} if weak else None,
            "exponent": plain,
            "fit": self.fit.to_dict() if self.fit else None,
        }


@dataclass(frozen=True)
class Spectrum:
    """The low-frequency modes of one ensemble (preparation, strain, size).

    Args:
        preparation, strain, n_particles: of the ensemble.
        n_realisations: diagonalised realisations.
        n_unstable: further ones with a mode of negative stiffness: no minima, and left out.
        threshold: participation ratio e_c of the filter.
        omega_complete: up to where every realisation's modes are known; each has only its lowest ones.
        omega_max: upper end of the fit window.
        limited_by: what set it, in words.
        plane_waves: from the mean moduli; None where they are unknown.
        density: D_L of the filtered modes; None where there are none.
        excess: D_G, all modes less the Debye level, without a filter, from the first phonon on; None without modes there or moduli.
        upper_scan, lower_scan: alpha when the upper or the lower end of the window is moved.
        threshold_scan: alpha with e_c lowered and raised by 20 %, None where too few modes are left.
    """

    preparation: str
    strain: float
    n_particles: int
    n_realisations: int
    n_unstable: int
    threshold: float
    omega_complete: float
    omega_max: float
    limited_by: str
    plane_waves: Phonons | None
    density: DensityOfStates | None
    excess: DensityOfStates | None
    upper_scan: CutoffScan
    lower_scan: CutoffScan
    threshold_scan: tuple[float | None, float | None]


@dataclass(frozen=True)
class Analysis:
    """All numbers of the report.

    Args:
        settings: of the analysis.
        excluded: (preparation, N, realisation, reason) of the samples that are no glasses and were left out.
        stress_strain: mean stress up to the strain that all reached: preparation, n_particles, strain, stress_xy, standard_error, n_realisations.
        minima: mean gamma_min and omega_min: quantity, preparation, strain, detector, n_particles, n_realisations, n_censored,
            mean, standard_error.
        moduli: means at each strain: preparation, n_particles, strain, n_realisations, and for shear_modulus, bulk_modulus,
            softest_shear_modulus, poisson_ratio, pressure and residual_shear_stress the mean and ``_error``, its standard error.
        spectra: one for each diagonalised ensemble at the strains of the settings.
        estimates: all exponents and refusals.
    """

    settings: Settings
    excluded: tuple[tuple[str, int, int, str], ...]
    stress_strain: pl.DataFrame
    minima: pl.DataFrame
    moduli: pl.DataFrame
    spectra: tuple[Spectrum, ...]
    estimates: tuple[Estimate, ...]

    def find(self, **wanted: Any) -> list[Estimate]:
        """The estimates whose fields have the given values."""
        return [e for e in self.estimates if all(getattr(e, name) == value for name, value in wanted.items())]

    def spectrum_estimate(self, preparation: str, strain: float) -> Estimate:
        """The direct fit to quote: of the largest size that carries one, else of the largest size."""
        ordered = sorted(
            self.find(method="spectrum", preparation=preparation, strain=strain),
            key=lambda e: (e.refusal is None, e.exponent is not None, e.n_particles or 0),
        )
        return ordered[-1]

    def to_dict(self) -> dict[str, Any]:
        """What goes to ``exponents.json``."""
        return {
            "settings": {
                "participation_threshold": _plain(self.settings.participation_threshold),
                "strains": list(self.settings.strains),
                "omega_max": self.settings.omega_max,
                "select": dict(self.settings.select),
                "exclude_crystals": self.settings.exclude_crystals,
                "confidence": self.settings.confidence,
                "insist": self.settings.insist,
            },
            "excluded": [
                {"preparation": p, "n_particles": n, "realisation": r, "reason": reason} for p, n, r, reason in self.excluded
            ],
            "estimates": [estimate.to_dict() for estimate in self.estimates],
        }


def analyse(tables: Mapping[str, pl.DataFrame], settings: Settings, *, preparations: Sequence[str], density: float) -> Analysis:
    """Turn the tables of an ensemble into numbers.

    Args:
        tables: as :func:`qlm_hoomd.report.collect.collect` gives them; any may be missing.
        settings: of the analysis.
        preparations: names, in the order of the report.
        density: number density of the glass [1 / length^3].
    """
    excluded = _not_glasses(tables.get("structure")) if settings.exclude_crystals else ()
    kept = {name: _without(table, excluded) for name, table in tables.items()}
    kept |= {name: first_rise(kept[name]) for name in ("steps", "events") if name in kept}
    minima: list[dict[str, Any]] = []
    estimates: list[Estimate] = []
    spectra: list[Spectrum] = []
    moduli = _moduli(kept.get("moduli"))
    for preparation in preparations:
        own = {name: table.filter(pl.col("preparation") == preparation) for name, table in kept.items()}
        for strain in settings.strains:
            at = _Ensemble(preparation, strain, settings, own)
            estimates += _thetas(at, minima)
            estimates += _alphas(at, minima, spectra, partial(_plane_waves, moduli, density))
    return Analysis(
        settings=settings,
        excluded=excluded,
        stress_strain=_stress_strain(kept.get("steps")),
        minima=pl.DataFrame(minima, schema=_MINIMA, orient="row"),
        moduli=moduli,
        spectra=tuple(spectra),
        estimates=tuple(estimates),
    )


def first_rise(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``steps`` or ``events`` up to where the strain first turns back; a path that does passes strains again later."""
    if "travelled" not in table.columns:
        return table
    strain = pl.col("strain" if "strain" in table.columns else "strain_c")
    return table.filter(pl.col("travelled").is_null() | ((pl.col("travelled") - strain).abs() < STRAIN_TOLERANCE))


_MINIMA = {
    "quantity": pl.String,
    "preparation": pl.String,
    "strain": pl.Float64,
    "detector": pl.String,
    "n_particles": pl.Int64,
    "n_realisations": pl.Int64,
    "n_censored": pl.Int64,
    "mean": pl.Float64,
    "standard_error": pl.Float64,
}
_MODULI = ("shear_modulus", "bulk_modulus", "softest_shear_modulus", "poisson_ratio", "pressure", "residual_shear_stress")


@dataclass(frozen=True)
class _Ensemble:
    """One preparation at one strain: its name, and the tables of that preparation."""

    preparation: str
    strain: float
    settings: Settings
    tables: Mapping[str, pl.DataFrame]

    def estimate(self, quantity: str, method: str, **fields: Any) -> Estimate:
        return Estimate(quantity, method, self.preparation, self.strain, insisted=self.settings.insist, **fields)

    def attempt(
        self, blank: Estimate, fit: Callable[..., FiniteSizeScaling | SpectrumFit], *data: Any, **options: Any
    ) -> Estimate:
        """``blank`` with the result of ``fit``, or with its refusal."""
        try:
            result = fit(*data, confidence=self.settings.confidence, **options)
        except InsufficientStatistics as refusal:
            weak = refusal.estimate
            return replace(blank, refusal=refusal.reason, fit=weak, exponent=weak.exponent if weak is not None else None)
        return replace(blank, fit=result, exponent=result.exponent)

    def minimum(
        self, quantity: str, detector: str | None, size: int, values_r: Floats, censored_r: NDArray[np.bool_]
    ) -> dict[str, Any]:
        """A row of the table of minima."""
        mean, error = mean_and_standard_error(values_r)
        row = (quantity, self.preparation, self.strain, detector, size, values_r.size, int(censored_r.sum()), mean, error)
        return dict(zip(_MINIMA, row, strict=True))


# ---- theta ----


def _thetas(at: _Ensemble, minima: list[dict[str, Any]]) -> Iterator[Estimate]:
    """Theta and the alpha that eq. (9) predicts from it, for each detector that was used."""
    steps, events = at.tables.get("steps"), at.tables.get("events")
    if steps is None or events is None or steps.is_empty():
        theta = at.estimate("theta", "gamma_min", refusal="no sheared realisation; a stage of kind 'shear' makes them")
        yield theta
        yield _prediction(at, theta)
        return
    ends = (
        steps.group_by("n_particles", "realisation")
        .agg(pl.col("strain").min().alias("begin"), pl.col("strain").max().alias("end"))
        .sort("n_particles", "realisation")
    )
    # Nothing is known of a strain before the start, either.
    begun = ends.filter(pl.col("begin") <= at.strain + STRAIN_TOLERANCE)
    beyond = begun.filter(pl.col("end") > at.strain + STRAIN_TOLERANCE)
    detectors: list[str | None] = sorted(events["detector"].drop_nulls().unique().to_list())
    for detector in detectors or [None]:
        strains = _by_realisation(events.filter(pl.col("detector") == detector) if detector else events, "strain_c")
        samples: dict[int, Floats] = {}
        censored: dict[int, NDArray[np.bool_]] = {}
        for (size,), group in beyond.group_by("n_particles", maintain_order=True):
            rows = [strains.get((int(size), index), np.empty(0)) for index in group["realisation"]]
            found = strain_to_next_event(rows, at.strain, group["end"].to_numpy())
            samples[int(size)], censored[int(size)] = found.distances, found.censored
            minima.append(at.minimum("gamma_min", detector, int(size), found.distances, found.censored))
        blank = at.estimate("theta", "gamma_min", detector=detector)
        if not samples:
            theta = replace(blank, refusal=f"no realisation was sheared beyond strain {at.strain:g}")
        else:
            left = ends.height - beyond.height
            warnings = [f"{left} realisations ended before strain {at.strain:g} and are left out"] if left else []
            theta = at.attempt(blank, theta_from_gamma_min, samples, censored=censored, warnings=warnings)
        yield theta
        yield _prediction(at, theta)


def _prediction(at: _Ensemble, theta: Estimate) -> Estimate:
    return at.estimate(
        "alpha",
        "prediction",
        detector=theta.detector,
        exponent=predicted_alpha(theta.exponent) if theta.exponent is not None else None,
        refusal="theta is withheld" if theta.refusal is not None else None,
    )


# ---- alpha ----


def _alphas(
    at: _Ensemble,
    minima: list[dict[str, Any]],
    spectra: list[Spectrum],
    plane_waves: Callable[[_Ensemble, int], Phonons | None],
) -> Iterator[Estimate]:
    """Alpha from the softest modes of all sizes, and from the spectrum of each."""
    modes = at.tables.get("modes")
    here = modes.filter((pl.col("strain") - at.strain).abs() < STRAIN_TOLERANCE) if modes is not None else None
    if here is None or here.is_empty():
        known = sorted(modes["strain"].unique().to_list()) if modes is not None else []
        reason = (
            f"no modes at strain {at.strain:g}; there are some at {', '.join(f'{strain:g}' for strain in known)}"
            if known
            else "no diagonalised realisation; a stage of kind 'modes' makes them"
        )
        yield at.estimate("alpha", "omega_min", refusal=reason)
        yield at.estimate("alpha", "spectrum", refusal=reason)
        return
    here = _selected(here, at)
    if here.is_empty():
        reason = f"no sample has what the analysis selects: {at.settings.selection}"
        yield at.estimate("alpha", "omega_min", refusal=reason)
        yield at.estimate("alpha", "spectrum", refusal=reason)
        return
    samples: dict[int, Floats] = {}
    censored: dict[int, NDArray[np.bool_]] = {}
    direct: list[Estimate] = []
    for (size,), group in here.sort("n_particles", "realisation", "frequency").group_by("n_particles", maintain_order=True):
        n_particles = int(size)
        stable = group.filter((pl.col("frequency") > 0).all().over("realisation"))
        unstable = group["realisation"].n_unique() - stable["realisation"].n_unique()
        blank = at.estimate("alpha", "spectrum", n_particles=n_particles)
        if stable.is_empty():
            direct.append(replace(blank, refusal=f"all {unstable} diagonalised realisations have a mode of negative stiffness"))
            continue
        spectrum, local_rm = _spectrum(at, n_particles, stable, unstable, plane_waves(at, n_particles))
        spectra.append(spectrum)
        top_r = np.array([w_m[-1] for w_m in _by_realisation(stable, "frequency").values()])
        censored[n_particles] = np.array([w_m.size == 0 for w_m in local_rm])
        samples[n_particles] = np.array([w_m[0] if w_m.size else top for w_m, top in zip(local_rm, top_r, strict=True)])
        minima.append(at.minimum("omega_min", None, n_particles, samples[n_particles], censored[n_particles]))
        direct.append(
            at.attempt(blank, alpha_from_spectrum, local_rm, spectrum.omega_max, warnings=_spectrum_warnings(spectrum))
        )
    high = [str(size) for size, values_r in samples.items() if values_r.mean() > OMEGA_MAX]
    warnings = [f"the mean lies above omega = {OMEGA_MAX:g}, beyond the power law, at N = {', '.join(high)}"] if high else []
    yield at.attempt(at.estimate("alpha", "omega_min"), alpha_from_omega_min, samples, censored=censored, warnings=warnings)
    yield from direct


def _selected(modes: pl.DataFrame, at: _Ensemble) -> pl.DataFrame:
    """The modes of those samples that have the labels which the settings ask for."""
    wanted = {name: value for name, value in at.settings.select.items() if value is not None}
    labels = at.tables.get("moduli")
    if not wanted:
        return modes
    tests = {
        "shear_stable": lambda value: (pl.col("softest_shear_modulus") > 0) == value,
        "residual_shear_stress_max": lambda value: pl.col("residual_shear_stress") <= value,
        "strain_since_event_min": lambda value: pl.col("strain_since_event") >= value,
    }
    if labels is None or not set(labels.columns) >= {"softest_shear_modulus", "residual_shear_stress", "strain_since_event"}:
        return modes.clear()
    own = labels.filter(
        (pl.col("strain") - at.strain).abs() < STRAIN_TOLERANCE, *(tests[name](value) for name, value in wanted.items())
    )
    return modes.join(
        own.select("n_particles", "realisation"), on=["n_particles", "realisation"], how="semi", maintain_order="left"
    )


def _spectrum(
    at: _Ensemble, n_particles: int, modes: pl.DataFrame, unstable: int, plane_waves: Phonons | None
) -> tuple[Spectrum, list[Floats]]:
    """The spectrum of one size, and the filtered frequencies of each realisation, ascending."""
    threshold = at.settings.threshold(n_particles)
    frequency_rm, participation_rm = _by_realisation(modes, "frequency"), _by_realisation(modes, "participation_ratio")
    local_rm = [w_m[participation_rm[key] < threshold] for key, w_m in frequency_rm.items()]
    local_m = np.concatenate(local_rm)
    complete = float(min(w_m[-1] for w_m in frequency_rm.values()))
    omega_max, limited_by = _window(at.settings, complete, plane_waves)
    upper = [(0.0, float(w)) for w in np.linspace(0.4, 1.6, 25) * omega_max if w <= complete]
    lower = [(float(w), omega_max) for w in np.linspace(0.0, 0.75, 16) * omega_max]
    scanned = []
    for factor in (0.8, 1.2):
        kept = modes.filter(pl.col("participation_ratio") < factor * threshold)["frequency"].to_numpy()
        alpha = window_scan(kept, [(0.0, omega_max)]).alpha
        scanned.append(alpha[0] if alpha else None)
    counted: dict[str, Any] = {"n_particles": n_particles, "n_realisations": len(local_rm), "omega_max": complete}
    density = density_of_states(local_m, **counted) if ((local_m > 0) & (local_m <= complete)).any() else None
    excess = None
    if plane_waves is not None:
        # Below the first band there are no plane waves to take away.
        omega_m = modes["frequency"].to_numpy()
        omega_m = omega_m[(omega_m >= plane_waves.first_frequency) & (omega_m <= complete)]
        excess = excess_density(omega_m, plane_waves, **counted) if omega_m.size else None
    spectrum = Spectrum(
        preparation=at.preparation,
        strain=at.strain,
        n_particles=n_particles,
        n_realisations=len(local_rm),
        n_unstable=unstable,
        threshold=threshold,
        omega_complete=complete,
        omega_max=omega_max,
        limited_by=limited_by,
        plane_waves=plane_waves,
        density=density,
        excess=excess,
        upper_scan=window_scan(local_m, upper),
        lower_scan=window_scan(local_m, lower),
        threshold_scan=(scanned[0], scanned[1]),
    )
    return spectrum, local_rm


def _window(settings: Settings, complete: float, plane_waves: Phonons | None) -> tuple[float, str]:
    """Upper end of the fit window, and what set it."""
    limits = [(complete, "completeness")]
    if settings.omega_max is not None:
        limits.append((settings.omega_max, "omega_max"))
    else:
        limits.append((OMEGA_MAX, f"omega = {OMEGA_MAX:g}"))
        if plane_waves is not None:
            limits.append((PHONON_MARGIN * plane_waves.first_frequency, "first phonon"))
    return min(limits)


def _spectrum_warnings(spectrum: Spectrum) -> list[str]:
    found = []
    if spectrum.plane_waves is None:
        found.append("the first phonon frequency is unknown, for there are no elastic moduli")
    elif spectrum.omega_max > spectrum.plane_waves.first_frequency:
        found.append(f"the window reaches beyond the first phonon frequency {spectrum.plane_waves.first_frequency:.3g}")
    scan = spectrum.lower_scan
    drift = [
        lower
        for lower, alpha, error, n in zip(scan.lower, scan.alpha, scan.error, scan.n_modes, strict=True)
        # The windows are nested: the variance of the difference is the difference of the variances.
        if n >= MIN_MODES // 2 and (alpha - scan.alpha[0]) ** 2 > 9 * (error**2 - scan.error[0] ** 2) > 0
    ]
    if drift:
        found.append(f"alpha depends on the lower end of the window (from omega = {drift[0]:.2g})")
    if spectrum.n_unstable:
        found.append(f"{spectrum.n_unstable} realisations have a mode of negative stiffness: no minima, left out")
    return found


def _plane_waves(moduli: pl.DataFrame, density: float, at: _Ensemble, n_particles: int) -> Phonons | None:
    row = moduli.filter(
        (pl.col("preparation") == at.preparation)
        & (pl.col("n_particles") == n_particles)
        & ((pl.col("strain") - at.strain).abs() < STRAIN_TOLERANCE)
    )
    if row.is_empty() or not min(row["shear_modulus"][0], row["bulk_modulus"][0]) > 0:
        return None
    return phonons(row["shear_modulus"][0], row["bulk_modulus"][0], density, n_particles)


# ---- means ----


def _stress_strain(steps: pl.DataFrame | None) -> pl.DataFrame:
    """Mean stress up to the strain that every realisation reached; their steps differ, so each is interpolated to a grid.

    Runs may end at an event: those that go on are a selection, whose mean says nothing of the ensemble.
    """
    rows = []
    if steps is not None:
        for (preparation, size), group in steps.sort("preparation", "n_particles", "realisation", "strain").group_by(
            "preparation", "n_particles", maintain_order=True
        ):
            strain_r = list(_by_realisation(group, "strain").values())
            stress_r = list(_by_realisation(group, "stress_xy").values())
            grid_g = np.linspace(0.0, min(strain[-1] for strain in strain_r), GRID_POINTS)
            stress_rg = np.array([np.interp(grid_g, x, y) for x, y in zip(strain_r, stress_r, strict=True)])
            for gamma, values_r in zip(grid_g.tolist(), stress_rg.T, strict=True):
                rows.append((preparation, size, gamma, *mean_and_standard_error(values_r), values_r.size))
    names = ("preparation", "n_particles", "strain", "stress_xy", "standard_error", "n_realisations")
    types = (pl.String, pl.Int64, pl.Float64, pl.Float64, pl.Float64, pl.Int64)
    return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")


def _moduli(moduli: pl.DataFrame | None) -> pl.DataFrame:
    """Means of the elastic moduli with their standard errors, at each strain."""
    keys = ("preparation", "n_particles", "strain")
    schema = dict(zip(keys, (pl.String, pl.Int64, pl.Float64), strict=True)) | {"n_realisations": pl.Int64}
    schema |= {name + end: pl.Float64 for name in _MODULI for end in ("", "_error")}
    if moduli is None:
        return pl.DataFrame(schema=schema)
    # Strains are rounded to what counts as the same state, so that they group.
    decimals = round(-np.log10(STRAIN_TOLERANCE)) - 1
    absent = [pl.lit(None, pl.Float64).alias(name) for name in _MODULI if name not in moduli.columns]
    return (
        moduli.with_columns(pl.col("strain").round(decimals), *absent)
        .group_by(keys)
        .agg(
            pl.len().cast(pl.Int64).alias("n_realisations"),
            *(
                expression
                for name in _MODULI
                for expression in (
                    pl.col(name).mean(),
                    (pl.col(name).std() / pl.len().cast(pl.Float64).sqrt()).alias(f"{name}_error"),
                )
            ),
        )
        .sort(keys)
        .select(list(schema))
    )


def _not_glasses(structure: pl.DataFrame | None) -> tuple[tuple[str, int, int, str], ...]:
    if structure is None:
        return ()
    bad = structure.filter(~pl.col("is_glass")).unique(["preparation", "n_particles", "realisation"], maintain_order=True)
    return tuple(bad.select("preparation", "n_particles", "realisation", "reason").iter_rows())


def _without(table: pl.DataFrame, excluded: Sequence[tuple[str, int, int, str]]) -> pl.DataFrame:
    if not excluded:
        return table
    schema = {name: table.schema[name] for name in ("preparation", "n_particles", "realisation")}
    return table.join(
        pl.DataFrame([row[:3] for row in excluded], schema=schema, orient="row"),
        on=list(schema),
        how="anti",
        maintain_order="left",
    )


def _by_realisation(table: pl.DataFrame, column: str) -> dict[tuple[int, int], Floats]:
    """The values of ``column`` by (N, realisation), in the order of the rows."""
    size, index, values = (table[name].to_numpy() for name in ("n_particles", "realisation", column))
    cuts = np.flatnonzero((np.diff(size) != 0) | (np.diff(index) != 0)) + 1
    starts = [0, *cuts.tolist()] if size.size else []
    return {(int(size[start]), int(index[start])): piece for start, piece in zip(starts, np.split(values, cuts), strict=False)}


def _plain(threshold: float | Mapping[int, float] | None) -> Any:
    return {str(size): value for size, value in threshold.items()} if isinstance(threshold, Mapping) else threshold
