"""Means over realisations: stress-strain curves, minima, moduli; and which rows of the tables count.

Array suffixes: ``_r`` realisations, ``_g`` points of a strain grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qlm_hoomd.base.errors import InputError, PluginError
from qlm_hoomd.base.registry import DETECTORS
from qlm_hoomd.report.numbers import AS_THRESHOLD, PAPER_INCREMENT, PAPER_Q_C, STRAIN_TOLERANCE, Directions
from qlm_hoomd.statistics import mean_and_standard_error, strain_to_next_event

Floats = NDArray[np.float64]
GRID_POINTS = 201
"""Points of the mean stress-strain curve."""


def seen_by_the_papers_detector(events: pl.DataFrame, density: float, dimensions: int = 3) -> pl.DataFrame:
    """Those of ``events`` whose largest displacement exceeds Q_c L 1e-4 with Q_c = 100: the paper's detector fires there (App. F).

    Args:
        events: with the columns n_particles and max_jump.
        density: number density [1 / length^d], for the box length L.
        dimensions: d, 2 or 3.
    """
    volume = pl.col("n_particles") / density
    limit = PAPER_Q_C * PAPER_INCREMENT * (volume.sqrt() if dimensions == 2 else volume.cbrt())
    return events.filter(pl.col("max_jump") > limit)


def with_the_papers_detector(events: pl.DataFrame, density: float, dimensions: int = 3) -> pl.DataFrame:
    """``events`` and, under the name :data:`AS_THRESHOLD`, those of exact detectors that the paper's detector would have seen."""
    if "max_jump" not in events.columns:
        return events
    exact = events.filter(pl.col("detector").is_in(exact_detectors(events)))
    seen = seen_by_the_papers_detector(exact, density, dimensions)
    return pl.concat([events, seen.with_columns(detector=pl.lit(AS_THRESHOLD))])


def exact_detectors(events: pl.DataFrame) -> list[str]:
    """Those of the detectors in ``events`` that miss no instability.

    A detector says so itself (``exact``). Of one that is not installed here the events tell: only where the fold itself was
    located is there a ``kappa``.
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
    """The rows of ``steps`` or ``events`` up to where the strain first turns back.

    A path that does passes strains again later.
    """
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
    "n_directions": pl.Int64,
    "mean": pl.Float64,
    "standard_error": pl.Float64,
}
SAMPLES = {
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


def mean_minima(samples: pl.DataFrame, directions: Mapping[str, Directions]) -> pl.DataFrame:
    """A row of the table of minima for each ensemble in ``samples``, in their order.

    Where several ``directions`` of shear were tried, the mean is that over directions and glasses, its error that over glasses.
    """
    keys = ("quantity", "preparation", "strain", "detector", "n_particles")
    rows: list[tuple[Any, ...]] = []
    for key, group in samples.group_by(keys, maintain_order=True):
        quantity, preparation, strain, detector, size = key
        several = directions.get(str(preparation)) if quantity == "gamma_min" else None
        if several is not None and several.speaks_for(strain, detector) and size in several.values:
            values_rd = several.values[size]
            shape = (len(values_rd), 0, values_rd.shape[1])
            rows.append((*key, *shape, *mean_and_standard_error(values_rd.mean(axis=1))))
        else:
            shape = (group.height, int(group["censored"].sum()), 1)
            rows.append((*key, *shape, *mean_and_standard_error(group["value"].to_numpy())))
    return pl.DataFrame(rows, schema=_MINIMA, orient="row")


@dataclass(frozen=True)
class Runs:
    """The strains of the instabilities of the realisations of one preparation, by detector.

    Args:
        ends: n_particles, realisation, begin and end of each run, sorted.
        strains: by detector, then by (N, realisation), the strains of the instabilities.
    """

    ends: pl.DataFrame
    strains: Mapping[str | None, Mapping[tuple[int, int], Floats]]

    @classmethod
    def of(cls, tables: Mapping[str, pl.DataFrame]) -> Runs | None:
        """From ``steps`` and ``events`` of one preparation; None where nothing was sheared."""
        steps, events = tables.get("steps"), tables.get("events")
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
                detector: by_realisation(events.filter(pl.col("detector") == detector) if detector else events, "strain_c")
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


def mean_stress(steps: pl.DataFrame | None) -> pl.DataFrame:
    """Mean stress up to the strain that every realisation reached; their steps differ, so each is interpolated to a grid.

    Runs may end at an event: those that go on are a selection, whose mean says nothing of the ensemble.
    """
    rows = []
    if steps is not None:
        for (preparation, size), group in steps.sort("preparation", "n_particles", "realisation", "strain").group_by(
            "preparation", "n_particles", maintain_order=True
        ):
            strain_r = list(by_realisation(group, "strain").values())
            stress_r = list(by_realisation(group, "stress_xy").values())
            grid_g = np.linspace(0.0, min(strain[-1] for strain in strain_r), GRID_POINTS)
            stress_rg = np.array([np.interp(grid_g, x, y) for x, y in zip(strain_r, stress_r, strict=True)])
            for gamma, values_r in zip(grid_g.tolist(), stress_rg.T, strict=True):
                rows.append((preparation, size, gamma, *mean_and_standard_error(values_r), values_r.size))
    names = ("preparation", "n_particles", "strain", "stress_xy", "standard_error", "n_realisations")
    types = (pl.String, pl.Int64, pl.Float64, pl.Float64, pl.Float64, pl.Int64)
    return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")


def drift_of_stress(steps: pl.DataFrame | None, first: float, last: float) -> str | None:
    """Why the flow from strain ``first`` to ``last`` is not known to be steady; None where it is.

    The change over the range is that of a straight line through each realisation; it is flat within two standard errors over
    realisations of all sizes.
    """
    changes: list[float] = []
    if steps is not None:
        ordered = steps.sort("preparation", "n_particles", "realisation", "strain")
        strain_r, stress_r = by_realisation(ordered, "strain"), by_realisation(ordered, "stress_xy")
        grid_g = np.linspace(first, last, GRID_POINTS)
        changes = [
            float(np.polyfit(grid_g, np.interp(grid_g, strain, stress_r[key]), 1)[0] * (last - first))
            for key, strain in strain_r.items()
            if strain[0] <= first + STRAIN_TOLERANCE and strain[-1] >= last - STRAIN_TOLERANCE
        ]
    if len(changes) < 2:
        return (
            f"{len(changes)} realisations were sheared from strain {first:.3g} to {last:.3g}, too few to tell whether the "
            "stress is flat"
        )
    mean, error = mean_and_standard_error(changes)
    if abs(mean) <= 2.0 * error:
        return None
    return f"the mean stress changes by {mean:+.2g} ± {error:.1g} from strain {first:.3g} to {last:.3g}"


def mean_moduli(moduli: pl.DataFrame | None) -> pl.DataFrame:
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


def not_glasses(structure: pl.DataFrame | None) -> tuple[tuple[str, int, int, str], ...]:
    """(preparation, N, realisation, reason) of the samples that are no glasses."""
    if structure is None:
        return ()
    bad = structure.filter(~pl.col("is_glass")).unique(["preparation", "n_particles", "realisation"], maintain_order=True)
    return tuple(bad.select("preparation", "n_particles", "realisation", "reason").iter_rows())


def without(table: pl.DataFrame, excluded: Sequence[tuple[str, int, int, str]]) -> pl.DataFrame:
    """``table`` without the rows of these samples."""
    if not excluded:
        return table
    schema = {name: table.schema[name] for name in ("preparation", "n_particles", "realisation")}
    return table.join(
        pl.DataFrame([row[:3] for row in excluded], schema=schema, orient="row"),
        on=list(schema),
        how="anti",
        maintain_order="left",
    )


def by_realisation(table: pl.DataFrame, column: str) -> dict[tuple[int, int], Floats]:
    """The values of ``column`` by (N, realisation), in the order of the rows."""
    size, index, values = (table[name].to_numpy() for name in ("n_particles", "realisation", column))
    cuts = np.flatnonzero((np.diff(size) != 0) | (np.diff(index) != 0)) + 1
    starts = [0, *cuts.tolist()] if size.size else []
    return {(int(size[start]), int(index[start])): piece for start, piece in zip(starts, np.split(values, cuts), strict=False)}
