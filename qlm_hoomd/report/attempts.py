"""One preparation at one strain, and attempts at its exponents: each gives a number, or why there is none.

Array suffixes: ``_r`` realisations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qlm_hoomd.base.errors import InsufficientStatistics
from qlm_hoomd.protocol import Analysis as Settings
from qlm_hoomd.report.means import SAMPLES
from qlm_hoomd.report.numbers import Directions, Estimate, Fit
from qlm_hoomd.statistics import compare_scalings

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ensemble:
    """One preparation at one strain.

    Args:
        preparation: its name.
        strain: of the samples.
        settings: of the analysis.
        tables: of that preparation.
        directions: gamma_min of its quenched glasses in several directions of shear, where that is known.
        dimensions: of space, 2 or 3.
    """

    preparation: str
    strain: float
    settings: Settings
    tables: Mapping[str, pl.DataFrame]
    directions: Directions | None = None
    dimensions: int = 3

    def estimate(self, quantity: str, method: str, **fields: Any) -> Estimate:
        """An estimate of this ensemble with these fields, still without a number."""
        return Estimate(quantity, method, self.preparation, self.strain, insisted=self.settings.insist, **fields)

    def attempt(
        self, blank: Estimate, fit: Callable[..., Fit], *data: Any, refusal: str | None = None, **options: Any
    ) -> Estimate:
        """``blank`` with the result of ``fit``, or with its refusal.

        ``refusal`` is a further one, that the fit does not know of.
        """
        reasons = [refusal] if refusal is not None else []
        result: Any
        try:
            result = fit(*data, confidence=self.settings.confidence, **options)
        except InsufficientStatistics as weak:
            reasons.append(weak.reason)
            result = weak.estimate
        return replace(
            blank, refusal="; ".join(reasons) or None, fit=result, exponent=result.exponent if result is not None else None
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
            schema_overrides={name: SAMPLES[name] for name in ("n_particles", "realisation")},
        ).select(*(pl.lit(value, SAMPLES[name]).alias(name) for name, value in labels.items()), pl.all())
