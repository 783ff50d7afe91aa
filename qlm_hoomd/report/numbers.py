"""The numbers of a report: settings of the analysis, exponents or why there are none, spectra.

Array suffixes: none; sequences are of realisations, sizes or bins, as their names say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qlm_hoomd.base.display import Displayed, Result, counted, in_words, plain
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.model import PARAMETERS
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
    mean_correlation,
)
from qlm_hoomd.statistics.samples import independent_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Fit = FiniteSizeScaling | SpectrumFit | ExcessFit | MinimaDistribution
STRAIN_TOLERANCE = 1e-6
"""Two strains closer than this are the same state."""
PAPER_Q_C, PAPER_INCREMENT = (float(PARAMETERS[name].value) for name in ("q_c", "increment"))
"""Threshold and increment of the paper's detector (App. F): it fires where the largest non-affine displacement of a step
exceeds Q_c L dgamma, so that instabilities with smaller jumps escape it."""
AS_THRESHOLD = "threshold, estimated"
"""Stands for a detector: the events of an exact one that the paper's detector would have seen. An estimate, for a missed event
also shifts what the detector sees next."""


@dataclass(frozen=True, repr=False)
class Estimate(Displayed):
    """One exponent of one preparation at one strain, or why there is none.

    Args:
        quantity: ``theta``, ``alpha``, ``theta_prime`` or ``alpha_prime``.
        method: ``gamma_min``, ``omega_min`` (finite-size scaling), ``one_direction`` (of gamma_min in the direction of the run
            alone, where ``gamma_min`` has several), ``spectrum`` (direct fit of D_L), ``unfiltered`` and
            ``excess`` (of D_G, below and above the first phonon), ``prediction`` (eq. 9, or App. G), ``distribution`` (of
            single minima, App. G).
        preparation, strain: of the ensemble; of an exponent pooled over strain the lower end of the range.
        pooled: the range of strains over which it is pooled, None for one strain.
        detector: that located the instabilities behind it, None where there are none behind it.
        n_particles: the size whose spectrum was fitted, None for methods that use all sizes.
        exponent: the number; where ``refusal`` is set it is too weak to be quoted, and may be missing.
        refusal: why the number is withheld.
        insisted: whether the user's settings show it all the same.
        fit: what it rests on.
        alternatives: other laws for the means of all sizes, and how they fare; None for methods that use one size.
        directions: of shear in which each glass has a gamma_min of its own; none where it is the run's alone.
        left_out: sizes that take no part in the scaling, and why, in words.
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
    fit: Fit | None = None
    alternatives: ScalingAlternatives | None = None
    pooled: tuple[float, float] | None = None
    directions: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

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
        number = self.exponent.to_dict() if self.exponent is not None else None
        quoted = number if self.status != "withheld" else None
        weak = number if self.status == "withheld" else None
        names = ("quantity", "method", "preparation", "strain", "pooled", "detector", "n_particles", "directions", "left_out")
        return {name: plain(getattr(self, name)) for name in names} | {
            "status": self.status,
            "value": quoted["value"] if quoted else None,
            "interval": [quoted["low"], quoted["high"]] if quoted else None,
            "outside_theory": self.exponent.outside_theory if self.exponent else None,
            "refusal": self.refusal,
            "weak_estimate": {"value": weak["value"], "interval": [weak["low"], weak["high"]]} if weak else None,
            "exponent": number,
            "disagreement": self.disagreement,
            "fit": self.fit.to_dict() if self.fit else None,
            "alternatives": self.alternatives.to_dict() if self.alternatives else None,
        }


@dataclass(frozen=True, repr=False)
class Spectrum(Result):
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
        excess: D_G, all modes less the Debye level, without a filter, from the first phonon on; None without modes there or
            moduli.
        threshold_scans: alpha and its standard error with e_c lowered and raised by 20 %, NaN and infinite where too few modes
            are left.
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
    threshold_scans: tuple[tuple[float, float], tuple[float, float]]
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
                f"{self.preparation}, N = {self.n_particles}, strain {self.strain:g}: no quasi-localised mode is known "
                "completely."
            )
        ax = self.density.plot(ax, **style)
        ax.axvspan(max(self.window.lower, ax.get_xlim()[0]), self.window.upper, color="0.5", alpha=0.12, linewidth=0)
        if self.plane_waves is not None:
            ax.axvline(self.plane_waves.first_frequency, color="0.4", linestyle="-.", linewidth=1)
        return ax

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        content = super().to_dict()
        del content["plane_waves"], content["threshold_scans"]
        waves = self.plane_waves
        return content | {
            "first_phonon": waves.first_frequency if waves is not None else None,
            "threshold_scan": [plain(alpha) for alpha, _ in self.threshold_scans],
        }


@dataclass(frozen=True, repr=False)
class Directions(Displayed):
    """gamma_min of the quenched glasses of one preparation in several directions of shear.

    In an isotropic ensemble all directions have the same law, so that a glass counts with its mean over them.

    Args:
        names: of the directions, e.g. ``+xy``.
        detector: that located the instabilities, None where it is unknown.
        values: by N the values of those glasses that have all directions ((R, D) array).
        realisations: by N which glasses these are.
        n_left_out: by N glasses without an instability, within what was looked at, in one of the directions.
    """

    names: tuple[str, ...]
    detector: str | None
    values: Mapping[int, Floats]
    realisations: Mapping[int, list[int]]
    n_left_out: Mapping[int, int]

    @classmethod
    def of(cls, table: pl.DataFrame | None, detector: str | None) -> Directions | None:
        """From ``directions.parquet`` of one preparation; None where not even two directions were tried from strain 0."""
        if table is None:
            return None
        quenched = table.filter(pl.col("strain").abs() < STRAIN_TOLERANCE)
        names = tuple(quenched["direction"].unique(maintain_order=True).to_list())
        if len(names) < 2:
            return None
        wide = quenched.pivot("direction", index=["n_particles", "realisation"], values="gamma_min", aggregate_function="first")
        values, realisations, left = {}, {}, {}
        for (size,), group in wide.sort("n_particles", "realisation").group_by("n_particles", maintain_order=True):
            whole = group.drop_nulls(list(names))
            left[int(size)] = group.height - whole.height
            if not whole.is_empty():
                values[int(size)] = whole.select(names).to_numpy()
                realisations[int(size)] = whole["realisation"].to_list()
        return cls(names, detector, values, realisations, left)

    def _headline(self) -> str:
        return f"{len(self.names)} directions of {sum(map(len, self.values.values()))} glasses"

    def speaks_for(self, strain: Any, detector: Any) -> bool:
        """Whether these are the minima at this strain by this detector."""
        return abs(strain) < STRAIN_TOLERANCE and detector == self.detector

    @property
    def correlations(self) -> dict[str, tuple[float, float]]:
        """Correlation within a glass, with its standard error: ``opposite`` (+ and - of one plane) and ``across`` planes."""
        known = {size: values_rd for size, values_rd in self.values.items() if len(values_rd) > 1}
        pairs: dict[str, list[tuple[int, int]]] = {}
        for (a, one), (b, other) in combinations(enumerate(self.names), 2):
            pairs.setdefault("opposite" if one[1:] == other[1:] else "across", []).append((a, b))
        return {name: mean_correlation(known, some) for name, some in pairs.items() if known}

    @property
    def n_independent(self) -> float:
        """Independent values that those of a glass are worth: variance of a value over that of the mean over directions."""
        return independent_values(list(self.values.values()))

    def to_dict(self) -> dict[str, Any]:
        """What goes to ``exponents.json``; the single values are in ``directions.parquet``."""
        return {
            "names": list(self.names),
            "detector": self.detector,
            "n_glasses": {str(size): len(values_rd) for size, values_rd in self.values.items()},
            "n_left_out": {str(size): number for size, number in self.n_left_out.items()},
            "correlations": {name: list(pair) for name, pair in self.correlations.items()},
            "n_independent": plain(self.n_independent),
        }


@dataclass(frozen=True, repr=False)
class Analysis(Displayed):
    """All numbers of the report.

    Args:
        settings: of the analysis.
        excluded: (preparation, N, realisation, reason) of the samples that are no glasses and were left out.
        stress_strain: mean stress up to the strain that all reached: preparation, n_particles, strain, stress_xy,
            standard_error, n_realisations.
        minima: mean gamma_min and omega_min: quantity, preparation, strain, detector, n_particles, n_realisations, n_censored,
            n_directions (of shear, over which the mean goes in each glass), mean, standard_error. The detector
            :data:`AS_THRESHOLD` stands for what the paper's would have seen of an exact one's events.
        samples: the single values behind these means, in the direction of the run: quantity, preparation, strain, detector,
            n_particles, realisation, value, censored.
        moduli: means at each strain: preparation, n_particles, strain, n_realisations, and for shear_modulus, bulk_modulus,
            softest_shear_modulus, poisson_ratio, pressure and residual_shear_stress the mean and ``_error``, its standard
            error.
        spectra: one for each diagonalised ensemble at the strains of the settings.
        estimates: all exponents and refusals.
        directions: gamma_min of the quenched glasses in several directions of shear, by preparation.
        unsteady: why nothing is pooled over the strains of steady flow, by preparation.
    """

    settings: Settings
    excluded: tuple[tuple[str, int, int, str], ...]
    stress_strain: pl.DataFrame
    minima: pl.DataFrame
    samples: pl.DataFrame
    moduli: pl.DataFrame
    spectra: tuple[Spectrum, ...]
    estimates: tuple[Estimate, ...]
    directions: Mapping[str, Directions] = field(default_factory=dict)
    unsteady: Mapping[str, str] = field(default_factory=dict)

    def _headline(self) -> str:
        quoted = sum(estimate.shown is not None for estimate in self.estimates)
        return f"{len(self.estimates)} exponents, {quoted} of them fit to be quoted"

    def _facts(self) -> Mapping[str, Any]:
        return {f"{e.preparation}, strain {e.strain:g}, {e.quantity} by {e.method}": e for e in self.estimates}

    def find(self, **wanted: Any) -> list[Estimate]:
        """The estimates whose fields have the given values; those pooled over strain only where ``pooled`` is asked for."""
        wanted = {"pooled": None, **wanted}
        return [e for e in self.estimates if all(getattr(e, name) == value for name, value in wanted.items())]

    def steady(self, preparation: str) -> tuple[float, float] | None:
        """Range of strains at which the flow of this preparation is steady, None where none is."""
        return None if preparation in self.unsteady else self.settings.steady

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
            "settings": {name: plain(getattr(self.settings, name)) for name in _SETTINGS}
            | {"shown_strains": list(self.settings.shown), "select": self.settings.select.model_dump()},
            "excluded": [
                {"preparation": p, "n_particles": n, "realisation": r, "reason": reason} for p, n, r, reason in self.excluded
            ],
            "directions": {name: directions.to_dict() for name, directions in self.directions.items()},
            "unsteady": dict(self.unsteady),
            "estimates": [estimate.to_dict() for estimate in self.estimates],
            "spectra": [spectrum.to_dict() for spectrum in self.spectra],
        }


_SETTINGS = (
    "participation_threshold", "strains", "steady", "omega_min", "omega_max", "select", "exclude_crystals", "confidence", "insist",
)  # fmt: skip
"""Settings that go to ``exponents.json``."""
