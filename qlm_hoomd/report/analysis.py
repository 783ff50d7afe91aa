"""From tables to numbers: stress-strain curves, mean minima, spectra, exponents, and the refusals among them.

Array suffixes: ``_r`` realisations, ``_g`` points of a strain grid, ``_m`` modes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qlm_hoomd.base.display import Displayed, counted, in_words
from qlm_hoomd.base.errors import InputError, InsufficientStatistics, PluginError
from qlm_hoomd.base.registry import DETECTORS
from qlm_hoomd.protocol import Analysis as Settings
from qlm_hoomd.statistics import (
    DensityOfStates,
    ExcessFit,
    Exponent,
    FiniteSizeScaling,
    MinimaDistribution,
    Phonons,
    ScalingAlternatives,
    SpectrumFit,
    WindowChoice,
    alpha_from_excess,
    alpha_from_omega_min,
    alpha_from_spectrum,
    choose_window,
    compare_scalings,
    density_of_states,
    excess_density,
    mean_and_standard_error,
    minima_exponent,
    phonons,
    phonons_reach_in,
    predicted_alpha,
    predicted_alpha_prime,
    strain_to_next_event,
    theta_from_gamma_min,
    upper_end,
    window_scan,
)
from qlm_hoomd.statistics.spectra import OMEGA_MAX

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

_Fit = FiniteSizeScaling | SpectrumFit | ExcessFit | MinimaDistribution

STRAIN_TOLERANCE = 1e-6
"""Two strains closer than this are the same state."""
GRID_POINTS = 201
"""Points of the mean stress-strain curve."""
PAPER_Q_C, PAPER_INCREMENT = 100.0, 1e-4
"""Threshold and increment of the paper's detector (App. F): it fires where the largest non-affine displacement of a step exceeds
Q_c L dgamma, so that instabilities with smaller jumps escape it."""
AS_THRESHOLD = "threshold, estimated"
"""Stands for a detector: the events of an exact one that the paper's detector would have seen. An estimate, for a missed event also shifts
what the detector sees next."""
STEADY_POINTS = 12
"""Strains at which gamma_min is sampled in each realisation for the exponent of the steady state; more of them are hardly news, for
neighbouring ones lie before the same instability."""


@dataclass(frozen=True, repr=False)
class Estimate(Displayed):
    """One exponent of one preparation at one strain, or why there is none.

    Args:
        quantity: ``theta``, ``alpha``, ``theta_prime`` or ``alpha_prime``.
        method: ``gamma_min``, ``omega_min`` (finite-size scaling), ``spectrum`` (direct fit of D_L), ``unfiltered`` and ``excess`` (of D_G,
            below and above the first phonon), ``prediction`` (eq. 9, or App. G), ``distribution`` (of single minima, App. G).
        preparation, strain: of the ensemble; of an exponent pooled over strain the lower end of the range.
        pooled: the range of strains over which it is pooled, None for one strain.
        detector: that located the instabilities behind it, None where there are none behind it.
        n_particles: the size whose spectrum was fitted, None for methods that use all sizes.
        exponent: the number; where ``refusal`` is set it is too weak to be quoted, and may be missing.
        refusal: why the number is withheld.
        insisted: whether the user's settings show it all the same.
        fit: what it rests on.
        alternatives: other laws for the means of all sizes, and how they fare; None for methods that use one size.
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
    fit: _Fit | None = None
    alternatives: ScalingAlternatives | None = None
    pooled: tuple[float, float] | None = None

    def _headline(self) -> str:
        number = self.quantity if self.exponent is None else in_words(self.exponent)
        return f"{number} by {self.method}, {self.preparation}, strain {self.strain:g}: {self.refusal or self.status}"

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

    @property
    def estimators(self) -> tuple[Exponent, ...]:
        """Every estimator's exponent, the quoted one first."""
        if self.fit is None:
            return () if self.exponent is None else (self.exponent,)
        return (self.fit.exponent, self.fit.weibull) if isinstance(self.fit, MinimaDistribution) else self.fit.estimators

    @property
    def disagreement(self) -> str | None:
        """A sentence where the estimators disagree."""
        return self.fit.disagreement if isinstance(self.fit, (FiniteSizeScaling, SpectrumFit)) else None

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw what the exponent rests on, see the ``plot`` of ``fit``.

        Raises:
            InputError: if it rests on nothing that can be drawn.
        """
        if self.fit is None:
            raise InputError(
                f"{self.quantity} by {self.method} has no fit to draw ({self.refusal or 'it follows from another exponent'})."
            )
        return self.fit.plot(ax, **style)

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
            "pooled": list(self.pooled) if self.pooled is not None else None,
            "detector": self.detector,
            "n_particles": self.n_particles,
            "status": self.status,
            "value": quoted["value"] if quoted else None,
            "interval": [quoted["low"], quoted["high"]] if quoted else None,
            "refusal": self.refusal,
            "weak_estimate": {"value": weak["value"], "interval": [weak["low"], weak["high"]]} if weak else None,
            "exponent": plain,
            "disagreement": self.disagreement,
            "fit": self.fit.to_dict() if self.fit else None,
            "alternatives": self.alternatives.to_dict() if self.alternatives else None,
        }


@dataclass(frozen=True, repr=False)
class Spectrum(Displayed):
    """The low-frequency modes of one ensemble (preparation, strain, size).

    Args:
        preparation, strain, n_particles: of the ensemble.
        n_realisations: diagonalised realisations.
        n_unstable: further ones with a mode of negative stiffness: no minima, and left out.
        threshold: participation ratio e_c of the filter.
        omega_complete: up to where every realisation's modes are known; each has only its lowest ones.
        window: of the fit, what chose it, and the scans over its ends.
        limited_by: what set its upper end, in words.
        plane_waves: from the mean moduli; None where they are unknown.
        density: D_L of the filtered modes; None where there are none.
        softest: density of the softest filtered mode of each realisation, of the same normalisation; None where there are none.
        excess: D_G, all modes less the Debye level, without a filter, from the first phonon on; None without modes there or moduli.
        threshold_scan: alpha with e_c lowered and raised by 20 %, None where too few modes are left.
        refusal: why no exponent is read off this spectrum or its softest modes (phonons reach in, the window decides), or None.
    """

    preparation: str
    strain: float
    n_particles: int
    n_realisations: int
    n_unstable: int
    threshold: float
    omega_complete: float
    window: WindowChoice
    limited_by: str
    plane_waves: Phonons | None
    density: DensityOfStates | None
    softest: DensityOfStates | None
    excess: DensityOfStates | None
    threshold_scan: tuple[float | None, float | None]
    refusal: str | None

    def _headline(self) -> str:
        of = f"{self.preparation}, N = {self.n_particles}, strain {self.strain:g}"
        return f"{of}, {counted(self.n_realisations, 'realisation')}" + (f": {self.refusal}" if self.refusal else "")

    @property
    def omega_max(self) -> float:
        """Upper end of the fit window."""
        return self.window.upper

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw D_L with its counting errors, the fit window shaded and the first phonon dash-dotted.

        Args:
            ax: where to draw; a new figure by default.
            style: passed to ``Axes.errorbar``.

        Raises:
            InputError: if there is no mode to draw.
        """
        if self.density is None:
            raise InputError(
                f"{self.preparation}, N = {self.n_particles}, strain {self.strain:g}: no quasi-localised mode is known completely."
            )
        ax = self.density.plot(ax, **style)
        ax.axvspan(max(self.window.lower, ax.get_xlim()[0]), self.window.upper, color="0.5", alpha=0.12, linewidth=0)
        if self.plane_waves is not None:
            ax.axvline(self.plane_waves.first_frequency, color="0.4", linestyle="-.", linewidth=1)
        return ax

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        waves = self.plane_waves
        return {
            "preparation": self.preparation,
            "strain": self.strain,
            "n_particles": self.n_particles,
            "n_realisations": self.n_realisations,
            "n_unstable": self.n_unstable,
            "threshold": self.threshold,
            "omega_complete": self.omega_complete,
            "window": self.window.to_dict(),
            "limited_by": self.limited_by,
            "first_phonon": waves.first_frequency if waves is not None else None,
            "density": self.density.to_dict() if self.density is not None else None,
            "softest": self.softest.to_dict() if self.softest is not None else None,
            "excess": self.excess.to_dict() if self.excess is not None else None,
            "threshold_scan": list(self.threshold_scan),
            "refusal": self.refusal,
        }


@dataclass(frozen=True, repr=False)
class Analysis(Displayed):
    """All numbers of the report.

    Args:
        settings: of the analysis.
        excluded: (preparation, N, realisation, reason) of the samples that are no glasses and were left out.
        stress_strain: mean stress up to the strain that all reached: preparation, n_particles, strain, stress_xy, standard_error, n_realisations.
        minima: mean gamma_min and omega_min: quantity, preparation, strain, detector, n_particles, n_realisations, n_censored,
            mean, standard_error. The detector :data:`AS_THRESHOLD` stands for what the paper's would have seen of an exact one's events.
        samples: the single values behind these means: quantity, preparation, strain, detector, n_particles, realisation, value, censored.
        moduli: means at each strain: preparation, n_particles, strain, n_realisations, and for shear_modulus, bulk_modulus,
            softest_shear_modulus, poisson_ratio, pressure and residual_shear_stress the mean and ``_error``, its standard error.
        spectra: one for each diagonalised ensemble at the strains of the settings.
        estimates: all exponents and refusals.
    """

    settings: Settings
    excluded: tuple[tuple[str, int, int, str], ...]
    stress_strain: pl.DataFrame
    minima: pl.DataFrame
    samples: pl.DataFrame
    moduli: pl.DataFrame
    spectra: tuple[Spectrum, ...]
    estimates: tuple[Estimate, ...]

    def _headline(self) -> str:
        quoted = sum(estimate.shown is not None for estimate in self.estimates)
        return f"{len(self.estimates)} exponents, {quoted} of them fit to be quoted"

    def _facts(self) -> Mapping[str, Any]:
        return {f"{e.preparation}, strain {e.strain:g}, {e.quantity} by {e.method}": e for e in self.estimates}

    def find(self, **wanted: Any) -> list[Estimate]:
        """The estimates whose fields have the given values; those pooled over strain only where ``pooled`` is asked for."""
        wanted = {"pooled": None, **wanted}
        return [e for e in self.estimates if all(getattr(e, name) == value for name, value in wanted.items())]

    def pooled(self, preparation: str) -> list[Estimate]:
        """The estimates of this preparation that are pooled over the strains of steady flow."""
        return [e for e in self.estimates if e.preparation == preparation and e.pooled is not None]

    def spectrum_of(self, estimate: Estimate) -> Spectrum | None:
        """The spectrum of the ensemble that the estimate is of, None where there is none."""
        wanted = (estimate.preparation, estimate.strain, estimate.n_particles)
        return next((s for s in self.spectra if (s.preparation, s.strain, s.n_particles) == wanted), None)

    def largest(self, preparation: str, strain: float) -> Spectrum | None:
        """The spectrum of the largest size at this strain, None where there is none."""
        own = [s for s in self.spectra if (s.preparation, s.strain) == (preparation, strain)]
        return max(own, key=lambda s: s.n_particles, default=None)

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
                "shown_strains": list(self.settings.shown),
                "steady": list(self.settings.steady) if self.settings.steady is not None else None,
                "omega_max": self.settings.omega_max,
                "select": self.settings.select.model_dump(),
                "exclude_crystals": self.settings.exclude_crystals,
                "confidence": self.settings.confidence,
                "insist": self.settings.insist,
            },
            "excluded": [
                {"preparation": p, "n_particles": n, "realisation": r, "reason": reason} for p, n, r, reason in self.excluded
            ],
            "estimates": [estimate.to_dict() for estimate in self.estimates],
            "spectra": [spectrum.to_dict() for spectrum in self.spectra],
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
    if "events" in kept:
        kept["events"] = _with_the_papers_detector(kept["events"], density)
    minima: list[pl.DataFrame] = []
    estimates: list[Estimate] = []
    spectra: list[Spectrum] = []
    moduli = _moduli(kept.get("moduli"))
    for preparation in preparations:
        own = {name: table.filter(pl.col("preparation") == preparation) for name, table in kept.items()}
        for strain in settings.strains:
            at = _Ensemble(preparation, strain, settings, own)
            estimates += _thetas(at, minima)
            estimates += _alphas(at, minima, spectra, moduli, density)
        if settings.steady is not None:
            estimates += _steady(_Ensemble(preparation, settings.steady[0], settings, own), *settings.steady, spectra)
    samples = pl.concat([pl.DataFrame(schema=_SAMPLES), *minima])
    return Analysis(
        settings=settings,
        excluded=excluded,
        stress_strain=_stress_strain(kept.get("steps")),
        minima=_means(samples),
        samples=samples,
        moduli=moduli,
        spectra=tuple(spectra),
        estimates=tuple(estimates),
    )


def seen_by_the_papers_detector(events: pl.DataFrame, density: float) -> pl.DataFrame:
    """Those of ``events`` whose largest displacement exceeds Q_c L 1e-4 with Q_c = 100: the paper's detector fires there (App. F).

    Args:
        events: with the columns n_particles and max_jump.
        density: number density [1 / length^3], for the box length L.
    """
    limit = PAPER_Q_C * PAPER_INCREMENT * (pl.col("n_particles") / density).cbrt()
    return events.filter(pl.col("max_jump") > limit)


def _with_the_papers_detector(events: pl.DataFrame, density: float) -> pl.DataFrame:
    """``events`` and, under the name :data:`AS_THRESHOLD`, those of exact detectors that the paper's detector would have seen."""
    if "max_jump" not in events.columns:
        return events
    exact = events.filter(pl.col("detector").is_in(exact_detectors(events)))
    return pl.concat([events, seen_by_the_papers_detector(exact, density).with_columns(detector=pl.lit(AS_THRESHOLD))])


def exact_detectors(events: pl.DataFrame) -> list[str]:
    """Those of the detectors in ``events`` that miss no instability.

    A detector says so itself (``exact``). Of one that is not installed here the events tell: only where the fold itself was located
    is there a ``kappa``.
    """
    kappa = pl.col("kappa").is_not_null().all() if "kappa" in events.columns else pl.lit(value=False)
    located = dict(events.group_by("detector").agg(kappa.alias("located")).drop_nulls("detector").iter_rows())
    found = {}
    for name, looks_exact in located.items():
        try:
            found[name] = bool(getattr(DETECTORS.load(name), "exact", looks_exact))
        except (InputError, PluginError):
            found[name] = looks_exact
    return sorted(name for name, exact in found.items() if exact)


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
_SAMPLES = {
    "quantity": pl.String,
    "preparation": pl.String,
    "strain": pl.Float64,
    "detector": pl.String,
    "n_particles": pl.Int64,
    "realisation": pl.Int64,
    "value": pl.Float64,
    "censored": pl.Boolean,
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
        self,
        blank: Estimate,
        fit: Callable[..., _Fit],
        *data: Any,
        refusal: str | None = None,
        **options: Any,
    ) -> Estimate:
        """``blank`` with the result of ``fit``, or with its refusal; ``refusal`` is a further one, that the fit does not know of."""
        reasons = [refusal] if refusal is not None else []
        result: Any
        try:
            result = fit(*data, confidence=self.settings.confidence, **options)
        except InsufficientStatistics as weak:
            reasons.append(weak.reason)
            result = weak.estimate
        return replace(
            blank,
            refusal="; ".join(reasons) or None,
            fit=result,
            exponent=result.exponent if result is not None else None,
        )

    def compared(
        self, estimate: Estimate, samples: Mapping[int, Floats], censored: Mapping[int, NDArray[np.bool_]]
    ) -> Estimate:
        """``estimate`` with other laws for the same minima beside it, where there are enough sizes to compare."""
        try:
            return replace(estimate, alternatives=compare_scalings(samples, censored=censored))
        except InsufficientStatistics:
            return estimate

    def minima(
        self,
        quantity: str,
        detector: str | None,
        size: int,
        realisation_r: Sequence[int],
        values_r: Floats,
        censored_r: NDArray[np.bool_],
    ) -> pl.DataFrame:
        """The minima of the realisations of one size, a row each."""
        labels = {"quantity": quantity, "preparation": self.preparation, "strain": self.strain, "detector": detector}
        return pl.DataFrame(
            {"n_particles": size, "realisation": realisation_r, "value": values_r, "censored": censored_r},
            schema_overrides={name: _SAMPLES[name] for name in ("n_particles", "realisation")},
        ).select(*(pl.lit(value, _SAMPLES[name]).alias(name) for name, value in labels.items()), pl.all())


def _means(samples: pl.DataFrame) -> pl.DataFrame:
    """A row of the table of minima for each ensemble in ``samples``, in their order."""
    keys = ("quantity", "preparation", "strain", "detector", "n_particles")
    rows = [
        (*key, group.height, int(group["censored"].sum()), *mean_and_standard_error(group["value"].to_numpy()))
        for key, group in samples.group_by(keys, maintain_order=True)
    ]
    return pl.DataFrame(rows, schema=_MINIMA, orient="row")


# ---- theta ----


@dataclass(frozen=True)
class _Runs:
    """The strains of the instabilities of the realisations of one preparation, by detector.

    Args:
        ends: n_particles, realisation, begin and end of each run, sorted.
        strains: by detector, then by (N, realisation), the strains of the instabilities.
    """

    ends: pl.DataFrame
    strains: Mapping[str | None, Mapping[tuple[int, int], Floats]]

    @classmethod
    def of(cls, at: _Ensemble) -> _Runs | None:
        """None where nothing was sheared."""
        steps, events = at.tables.get("steps"), at.tables.get("events")
        if steps is None or events is None or steps.is_empty():
            return None
        ends = (
            steps.group_by("n_particles", "realisation")
            .agg(pl.col("strain").min().alias("begin"), pl.col("strain").max().alias("end"))
            .sort("n_particles", "realisation")
        )
        names = events["detector"].drop_nulls().unique().to_list()
        # What is measured comes before what is estimated of another detector.
        detectors: list[str | None] = sorted(names, key=lambda name: (name == AS_THRESHOLD, name))
        return cls(
            ends,
            {
                detector: _by_realisation(events.filter(pl.col("detector") == detector) if detector else events, "strain_c")
                for detector in detectors or [None]
            },
        )

    def next_events(
        self, detector: str | None, strains: Sequence[float]
    ) -> tuple[dict[int, Floats], dict[int, NDArray[np.bool_]], dict[int, list[int]]]:
        """gamma_min of every realisation that was sheared through all ``strains``.

        Returns:
            By size the distances ((R, S) array), which of them are lower limits, and which realisations they are.
        """
        # Nothing is known of a strain before the start, either.
        begun = self.ends.filter(pl.col("begin") <= min(strains) + STRAIN_TOLERANCE)
        beyond = begun.filter(pl.col("end") > max(strains) + STRAIN_TOLERANCE)
        samples, censored, who = {}, {}, {}
        for (size,), group in beyond.group_by("n_particles", maintain_order=True):
            rows = [self.strains[detector].get((int(size), index), np.empty(0)) for index in group["realisation"]]
            found = [strain_to_next_event(rows, strain, group["end"].to_numpy()) for strain in strains]
            samples[int(size)] = np.column_stack([next_events.distances for next_events in found])
            censored[int(size)] = np.column_stack([next_events.censored for next_events in found])
            who[int(size)] = group["realisation"].to_list()
        return samples, censored, who


def _thetas(at: _Ensemble, minima: list[pl.DataFrame]) -> Iterator[Estimate]:
    """For each detector theta, the alpha that eq. (9) predicts from it, theta' and the alpha' predicted from that."""
    runs = _Runs.of(at)
    if runs is None:
        theta = at.estimate("theta", "gamma_min", refusal="no sheared realisation; a stage of kind 'shear' makes them")
        yield theta
        yield _prediction(at, theta)
        return
    for detector in runs.strains:
        samples, censored, who = runs.next_events(detector, [at.strain])
        left = runs.ends.height - sum(map(len, who.values()))
        flat = {size: values[:, 0] for size, values in samples.items()}
        cut = {size: values[:, 0] for size, values in censored.items()}
        minima.extend(at.minima("gamma_min", detector, size, who[size], flat[size], cut[size]) for size in flat)
        blank = at.estimate("theta", "gamma_min", detector=detector)
        if not samples:
            theta = replace(blank, refusal=f"no realisation was sheared beyond strain {at.strain:g}")
        else:
            warnings = [f"{left} realisations ended before strain {at.strain:g} and are left out"] if left else []
            theta = at.attempt(blank, theta_from_gamma_min, flat, censored=cut, warnings=warnings)
            theta = at.compared(theta, flat, cut)
        yield theta
        yield _prediction(at, theta)
        if flat:
            yield from _primed(at, flat, cut, detector)


def _prediction(at: _Ensemble, theta: Estimate) -> Estimate:
    return at.estimate(
        "alpha",
        "prediction",
        detector=theta.detector,
        pooled=theta.pooled,
        exponent=predicted_alpha(theta.exponent) if theta.exponent is not None else None,
        refusal="theta is withheld" if theta.refusal is not None else None,
    )


def _primed(
    at: _Ensemble, samples: Mapping[int, Floats], censored: Mapping[int, NDArray[np.bool_]], detector: str | None
) -> Iterator[Estimate]:
    """Theta' of App. G from the single gamma_min of all sizes, each over its median, and the alpha' predicted from it."""
    blank = at.estimate("theta_prime", "distribution", detector=detector)
    estimate = at.attempt(blank, minima_exponent, samples, censored=censored, name="theta_prime")
    yield estimate
    yield replace(
        blank,
        quantity="alpha_prime",
        method="prediction",
        exponent=predicted_alpha_prime(estimate.exponent) if estimate.exponent is not None else None,
        refusal="theta' is withheld" if estimate.refusal is not None else None,
    )


def _steady(at: _Ensemble, first: float, last: float, spectra: Sequence[Spectrum]) -> Iterator[Estimate]:
    """Theta and alpha pooled over the strains of steady flow; a realisation counts once, however many of its strains there are."""
    runs = _Runs.of(at)
    pooled = (first, last)
    if runs is not None:
        for detector in runs.strains:
            samples, censored, _ = runs.next_events(detector, np.linspace(first, last, STEADY_POINTS).tolist())
            if samples:
                blank = at.estimate("theta", "gamma_min", detector=detector, pooled=pooled)
                theta = at.attempt(blank, theta_from_gamma_min, samples, censored=censored)
                yield theta
                yield _prediction(at, theta)
    here = [
        s
        for s in spectra
        if s.preparation == at.preparation and first - STRAIN_TOLERANCE <= s.strain <= last + STRAIN_TOLERANCE
    ]
    if not here:
        return
    size = max(s.n_particles for s in here)
    here = [s for s in here if s.n_particles == size]
    own = pl.concat([_stable_modes(replace(at, strain=s.strain), size) for s in here]).sort(
        "realisation", "strain", "frequency"
    )
    frequency_rm = _local(own, at.settings.threshold(size))
    # No state may have phonons in the window, or modes that are not known.
    window = choose_window(frequency_rm, min(s.window.upper for s in here), complete=min(s.omega_complete for s in here))
    waves = min((s.plane_waves for s in here if s.plane_waves is not None), key=lambda w: w.first_frequency, default=None)
    reasons = (window.refusal, window.decided_by, _phonons_below(own, at.settings.threshold(size), window.upper, waves))
    yield at.attempt(
        at.estimate("alpha", "spectrum", n_particles=size, pooled=pooled),
        alpha_from_spectrum,
        frequency_rm,
        window.upper,
        omega_min=window.lower,
        refusal="; ".join(reason for reason in reasons if reason is not None) or None,
    )


def _stable_modes(at: _Ensemble, n_particles: int) -> pl.DataFrame:
    """The modes at the strain of ``at`` of those selected samples of one size that are at minima."""
    at_strain = ((pl.col("strain") - at.strain).abs() < STRAIN_TOLERANCE) & (pl.col("n_particles") == n_particles)
    own = _selected(at.tables["modes"].filter(at_strain), at)
    return own.filter((pl.col("frequency") > 0).all().over("realisation"))


# ---- alpha ----


def _alphas(
    at: _Ensemble,
    minima: list[pl.DataFrame],
    spectra: list[Spectrum],
    moduli: pl.DataFrame,
    density: float,
) -> Iterator[Estimate]:
    """Alpha from the softest modes of all sizes, and from the spectrum of each; alpha' from the single softest modes."""
    modes = at.tables.get("modes")
    here = modes.filter((pl.col("strain") - at.strain).abs() < STRAIN_TOLERANCE) if modes is not None else None
    reason = None
    if here is None or here.is_empty():
        known = sorted(modes["strain"].unique().to_list()) if modes is not None else []
        reason = (
            f"no modes at strain {at.strain:g}; there are some at {', '.join(f'{strain:g}' for strain in known)}"
            if known
            else "no diagonalised realisation; a stage of kind 'modes' makes them"
        )
    else:
        here = _selected(here, at)
        if here.is_empty():
            reason = f"no sample has what the analysis selects: {at.settings.selection}"
    if here is None or reason is not None:
        yield at.estimate("alpha", "omega_min", refusal=reason)
        yield at.estimate("alpha", "spectrum", refusal=reason)
        return
    samples: dict[int, Floats] = {}
    censored: dict[int, NDArray[np.bool_]] = {}
    hybridised: list[str] = []
    direct: list[Estimate] = []
    without_filter: Sequence[Estimate] = ()  # of the largest size
    for (size,), group in here.sort("n_particles", "realisation", "frequency").group_by("n_particles", maintain_order=True):
        n_particles = int(size)
        stable = group.filter((pl.col("frequency") > 0).all().over("realisation"))
        unstable = group["realisation"].n_unique() - stable["realisation"].n_unique()
        blank = at.estimate("alpha", "spectrum", n_particles=n_particles)
        if stable.is_empty():
            direct.append(replace(blank, refusal=f"all {unstable} diagonalised realisations have a mode of negative stiffness"))
            continue
        local_rm = _local(stable, at.settings.threshold(n_particles))
        top_r = np.array([w_m[-1] for w_m in _by_realisation(stable, "frequency").values()])
        softest_r = np.array([w_m[0] if w_m.size else top for w_m, top in zip(local_rm, top_r, strict=True)])
        cut_r = np.array([w_m.size == 0 for w_m in local_rm])
        who = [index for _, index in _by_realisation(stable, "frequency")]
        minima.append(at.minima("omega_min", None, n_particles, who, softest_r, cut_r))
        spectrum = _spectrum(
            at, n_particles, stable, unstable, _plane_waves(moduli, density, at, n_particles), local_rm, softest_r[~cut_r]
        )
        spectra.append(spectrum)
        reach = _phonons_below(stable, spectrum.threshold, float(np.quantile(softest_r, 0.9)), spectrum.plane_waves)
        if reach is None:
            samples[n_particles], censored[n_particles] = softest_r, cut_r
        else:
            hybridised.append(f"N = {n_particles} is left out: {reach}")
        direct.append(
            at.attempt(
                blank,
                alpha_from_spectrum,
                local_rm,
                spectrum.window.upper,
                omega_min=spectrum.window.lower,
                refusal=spectrum.refusal,
                warnings=_spectrum_warnings(spectrum),
            )
        )
        without_filter = _without_filter(at, stable, spectrum, moduli)
    high = [str(size) for size, values_r in samples.items() if values_r.mean() > OMEGA_MAX]
    warnings = [f"the mean lies above omega = {OMEGA_MAX:g}, beyond the power law, at N = {', '.join(high)}"] if high else []
    yield at.attempt(
        at.estimate("alpha", "omega_min"), alpha_from_omega_min, samples, censored=censored, warnings=[*warnings, *hybridised]
    )
    yield from direct
    yield from without_filter
    if samples:
        yield at.attempt(
            at.estimate("alpha_prime", "distribution"), minima_exponent, samples, censored=censored, name="alpha_prime"
        )


def _local(modes: pl.DataFrame, threshold: float) -> list[Floats]:
    """The quasi-localised frequencies of each realisation, in the order of the rows."""
    frequency_rm, participation_rm = _by_realisation(modes, "frequency"), _by_realisation(modes, "participation_ratio")
    return [w_m[participation_rm[key] < threshold] for key, w_m in frequency_rm.items()]


def _phonons_below(modes: pl.DataFrame, threshold: float, omega: float, plane_waves: Phonons | None) -> str | None:
    """Why phonons may lie below ``omega``, by the plane waves of the box and by what the filter takes out there."""
    below = modes.filter(pl.col("frequency") <= omega)
    filtered = below.filter(pl.col("participation_ratio") >= threshold).height
    return phonons_reach_in(omega, plane_waves, n_modes=below.height, n_filtered=filtered)


def _selected(modes: pl.DataFrame, at: _Ensemble) -> pl.DataFrame:
    """The modes of those samples that have the labels which the settings ask for."""
    wanted = {name: value for name, value in at.settings.select if value is not None}
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
    at: _Ensemble,
    n_particles: int,
    modes: pl.DataFrame,
    unstable: int,
    plane_waves: Phonons | None,
    local_rm: list[Floats],
    softest_r: Floats,
) -> Spectrum:
    """The spectrum of one size."""
    threshold = at.settings.threshold(n_particles)
    local_m = np.concatenate(local_rm)
    complete = float(min(w_m[-1] for w_m in _by_realisation(modes, "frequency").values()))
    end = upper_end(complete, plane_waves, at.settings.omega_max)
    window = choose_window(local_rm, end.omega, complete=complete)
    scanned = []
    for factor in (0.8, 1.2):
        kept = modes.filter(pl.col("participation_ratio") < factor * threshold)["frequency"].to_numpy()
        alpha = window_scan(kept, [(window.lower, window.upper)]).alpha
        scanned.append(alpha[0] if alpha else None)
    counted: dict[str, Any] = {"n_particles": n_particles, "n_realisations": len(local_rm), "omega_max": complete}

    def density(omega_m: Floats) -> DensityOfStates | None:
        return density_of_states(omega_m, **counted) if ((omega_m > 0) & (omega_m <= complete)).any() else None

    excess = None
    if plane_waves is not None:
        # Below the first band there are no plane waves to take away.
        omega_m = modes["frequency"].to_numpy()
        omega_m = omega_m[(omega_m >= plane_waves.first_frequency) & (omega_m <= complete)]
        excess = excess_density(omega_m, plane_waves, **counted) if omega_m.size else None
    reasons = (window.refusal, window.decided_by, _phonons_below(modes, threshold, window.upper, plane_waves))
    return Spectrum(
        preparation=at.preparation,
        strain=at.strain,
        n_particles=n_particles,
        n_realisations=len(local_rm),
        n_unstable=unstable,
        threshold=threshold,
        omega_complete=complete,
        window=window,
        limited_by=end.limited_by,
        plane_waves=plane_waves,
        density=density(local_m),
        softest=density(softest_r),
        excess=excess,
        threshold_scan=(scanned[0], scanned[1]),
        refusal="; ".join(reason for reason in reasons if reason is not None) or None,
    )


def _without_filter(at: _Ensemble, modes: pl.DataFrame, spectrum: Spectrum, moduli: pl.DataFrame) -> tuple[Estimate, Estimate]:
    """Alpha of D_G = D - D_Debye of all modes: below the first phonon, where D_G is D, and above it."""
    frequency_rm = list(_by_realisation(modes, "frequency").values())
    below = at.attempt(
        at.estimate("alpha", "unfiltered", n_particles=spectrum.n_particles),
        alpha_from_spectrum,
        frequency_rm,
        spectrum.window.upper,
        omega_min=spectrum.window.lower,
        refusal=spectrum.refusal,
    )
    above = at.estimate("alpha", "excess", n_particles=spectrum.n_particles)
    if spectrum.plane_waves is None:
        return below, replace(above, refusal="the Debye level is unknown, for there are no elastic moduli")
    error, mean = _modulus_row(moduli, at, spectrum.n_particles).select("shear_modulus_error", "shear_modulus").row(0)
    return below, at.attempt(
        above,
        alpha_from_excess,
        frequency_rm,
        spectrum.plane_waves,
        spectrum.omega_complete,
        n_particles=spectrum.n_particles,
        # The level is the inverse third power of the speed of sound, which is the root of the modulus.
        debye_error=1.5 * error / mean if error is not None else 0.0,
    )


def _spectrum_warnings(spectrum: Spectrum) -> list[str]:
    found = []
    if spectrum.plane_waves is None:
        found.append("the first phonon frequency is unknown, for there are no elastic moduli")
    if spectrum.n_unstable:
        found.append(f"{spectrum.n_unstable} realisations have a mode of negative stiffness: no minima, left out")
    return found


def _plane_waves(moduli: pl.DataFrame, density: float, at: _Ensemble, n_particles: int) -> Phonons | None:
    row = _modulus_row(moduli, at, n_particles)
    if row.is_empty() or not min(row["shear_modulus"][0], row["bulk_modulus"][0]) > 0:
        return None
    return phonons(row["shear_modulus"][0], row["bulk_modulus"][0], density, n_particles)


def _modulus_row(moduli: pl.DataFrame, at: _Ensemble, n_particles: int) -> pl.DataFrame:
    return moduli.filter(
        (pl.col("preparation") == at.preparation)
        & (pl.col("n_particles") == n_particles)
        & ((pl.col("strain") - at.strain).abs() < STRAIN_TOLERANCE)
    )


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
