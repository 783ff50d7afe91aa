"""The strain to the first instability as the modes of a quenched glass predict it, beside where the glass fails.

Fifty glasses of N = 1000 for each quench; from each its 20 lowest harmonic modes, its cubic modes, the paths over them, and its
first fold::

    python tests/physics/prediction.py FOLDER [rapid] [slow]

runs them into FOLDER, goes on where it was, and prints for each prediction the glasses that have one, the rank correlation with
what was observed, its 95 % interval by resampling glasses, the factor by which the two scatter about their mean ratio, and that
ratio. A glass takes some 12 s of processor time after the rapid quench and 40 s after the slow one. docs/concepts.md has the
numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from qlm_hoomd.ensemble.local import LocalExecutor
from qlm_hoomd.ensemble.runner import run_protocol
from qlm_hoomd.protocol import build_protocol

SETTINGS: dict[str, Any] = {
    "name": "prediction",
    "seed": 1606,
    "ensemble": {
        "n_particles": [1000],
        "preparations": {"rapid": {"quench": "rapid", "equilibration_time": 20}, "slow": {"quench": "slow"}},
        "realisations": 50,
    },
    "stages": [
        {"kind": "prepare"},
        {"kind": "modes", "count": 20, "nonlinear": ["cubic"], "paths": True, "check_completeness": "never"},
        {"kind": "shear", "strain_max": 0.3, "max_events": 1, "detector": {"kind": "fold", "overlaps": []}},
    ],
}
PREDICTIONS = {
    "fold": ("qlms", "path_fold"),
    "path": ("qlms", "path_strain"),
    "cubic": ("qlms", "relaxed_strain_forward"),
    "cubic_frozen": ("qlms", "cubic_strain"),
    "harmonic": ("modes", "relaxed_strain_forward"),
    "frozen": ("modes", "quartic_strain"),
}
"""Table and column of each prediction: the fold that was found from the path over a cubic mode, the path as seen from the state at
rest; to fourth order, the rest of the glass following, or ``frozen``: lambda^2/(2 kappa C) along cubic modes, fourth order along
harmonic ones."""


def measure(folder: Path, preparations: Sequence[str] = ("rapid", "slow"), workers: int | None = None) -> pl.DataFrame:
    """A row for each glass: preparation, realisation, what was ``observed``, and each prediction; null where no mode is to fail.

    Every prediction is the smallest strain at which one of the modes is to fail under forward shear.
    """
    ensemble = SETTINGS["ensemble"]
    chosen = {name: ensemble["preparations"][name] for name in preparations}
    protocol = build_protocol(SETTINGS | {"ensemble": ensemble | {"preparations": chosen}})
    workspace = run_protocol(protocol, folder, LocalExecutor(workers=workers))
    assert not workspace.failures(), workspace.failures()
    rows = []
    for realisation in workspace.realisations:
        point = realisation.statepoint
        row = {name: point[name] for name in ("preparation", "realisation")}
        row["observed"] = pl.read_parquet(realisation.directory / "events.parquet")["gamma_min"][0]
        for name, (table, column) in PREDICTIONS.items():
            strains = pl.read_parquet(realisation.directory / f"{table}.parquet")[column]
            row[name] = strains.filter(strains > 0.0).min()
        rows.append(row)
    return pl.DataFrame(rows)


@dataclass(frozen=True)
class Quality:
    """How well a prediction orders glasses and how far it is off.

    Args:
        n_glasses: that have one.
        order: rank correlation with what was observed.
        low, high: its 95 % interval, by resampling glasses.
        scatter: exp of the standard deviation of log(predicted / observed).
        ratio: exp of the mean of that.
    """

    n_glasses: int
    order: float
    low: float
    high: float
    scatter: float
    ratio: float


def quality(predicted_r: NDArray[np.float64], observed_r: NDArray[np.float64], resamples: int = 2000) -> Quality:
    """Of one prediction for R glasses ((R,) arrays), R > 2."""
    rng, n = np.random.default_rng(0), len(predicted_r)
    drawn = [rng.integers(n, size=n) for _ in range(resamples)]
    low, high = np.nanquantile([order_of(predicted_r[these], observed_r[these]) for these in drawn], (0.025, 0.975))
    log_r = np.log(predicted_r / observed_r)
    return Quality(
        n, order_of(predicted_r, observed_r), low, high, float(np.exp(log_r.std(ddof=1))), float(np.exp(log_r.mean()))
    )


def order_of(predicted_r: NDArray[np.float64], observed_r: NDArray[np.float64]) -> float:
    """Spearman's rank correlation."""
    return float(stats.spearmanr(predicted_r, observed_r).statistic)


def qualities(glasses: pl.DataFrame) -> Iterator[tuple[str, str, Quality]]:
    """(preparation, prediction, quality), for those with more than two glasses."""
    for (preparation,), own in glasses.group_by("preparation", maintain_order=True):
        for name in PREDICTIONS:
            some = own.drop_nulls(name)
            if some.height > 2:
                yield str(preparation), name, quality(some[name].to_numpy(), some["observed"].to_numpy())


if __name__ == "__main__":
    for preparation, name, found in qualities(measure(Path(sys.argv[1]), sys.argv[2:] or ("rapid", "slow"), workers=1)):
        print(preparation, name, found)  # noqa: T201 its output is what it prints
