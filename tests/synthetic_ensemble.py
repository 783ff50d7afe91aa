"""An ensemble on disk whose exponents are known, shaped like the real thing but drawn at random. No glass was harmed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import special

DENSITY = 0.82
SHEAR_MODULUS, BULK_MODULUS = 12.6, 87.0
PREFACTOR = 2e-3  # of the density of quasi-localised modes per 3 N
METADATA = {
    "qlm_hoomd": json.dumps({"protocol_hash": "synthetic", "engine": {"kind": "cpu"}, "versions": {"qlm_hoomd": "0.1.0"}})
}


@dataclass(frozen=True)
class Ensemble:
    """What the truth is.

    Args:
        sizes: particle numbers.
        realisations: per size and preparation.
        preparations: by name, (theta, alpha, yield stress).
        strains: at which there are modes.
        strain_max: end of the shear.
        analysis: section of the protocol.
        name: of the protocol.
        exact: whether the events are those of the detector ``fold``, with their jumps, and modes have their anharmonic
            coefficients.
        cubic: whether cubic modes were looked for, which predict the first instability within a factor of 1.5.
        directions: whether each glass has a gamma_min in all six directions of shear, that of +xy the run's own; correlated 0.25
            across planes.
    """

    sizes: tuple[int, ...] = (500, 1000, 2000)
    realisations: int = 40
    preparations: tuple[tuple[str, float, float, float], ...] = (("rapid", 0.5, 4.0, 0.55),)
    strains: tuple[float, ...] = (0.0,)
    strain_max: float = 0.2
    analysis: tuple[tuple[str, Any], ...] = ()
    seed: int = 1
    name: str = "synthetic"
    exact: bool = False
    cubic: bool = False
    directions: bool = False

    @property
    def protocol(self) -> dict[str, Any]:
        """As ``protocol.json`` has it."""
        return {
            "name": self.name,
            "seed": 7,
            "model": {"density": DENSITY},
            "engine": {"kind": "cpu"},
            "ensemble": {
                "n_particles": list(self.sizes),
                "preparations": {name: {"quench": name} for name, *_ in self.preparations},
                "realisations": self.realisations,
            },
            "stages": [
                {"kind": "prepare"},
                {
                    "kind": "shear",
                    "strain_max": self.strain_max,
                    "increment": 1e-4,
                    "frames": [],
                    "detector": {"kind": "fold"} if self.exact else {"kind": "threshold", "q_c": 100.0},
                }
                | ({"directions": "all"} if self.directions else {}),
                {"kind": "modes", "count": 20, "strains": list(self.strains)}
                | ({"nonlinear": ["cubic"]} if self.cubic else {}),
                {"kind": "structure"},
            ],
            "analysis": dict(self.analysis),
        }

    @property
    def hash(self) -> str:
        """Hash of the protocol."""
        settings = {name: self.protocol[name] for name in ("model", "engine", "stages")}
        return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]

    def write(self, directory: Path, *, without: tuple[str, ...] = ()) -> Path:
        """Write the workspace, leaving out the tables named in ``without``, and return ``directory``."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "protocol.json").write_text(json.dumps(self.protocol, indent=2))
        rng = np.random.default_rng(self.seed)
        for name, theta, alpha, yield_stress in self.preparations:
            for size in self.sizes:
                for index in range(self.realisations):
                    point = {
                        "protocol_hash": self.hash, "n_particles": size, "preparation": name,
                        "preparation_settings": {"quench": name}, "seed": 7, "realisation": index,
                    }  # fmt: skip
                    path = directory / "workspace" / hashlib.sha256(json.dumps(point).encode()).hexdigest()[:32]
                    path.mkdir(parents=True)
                    (path / "signac_statepoint.json").write_text(json.dumps(point))
                    (path / "quenched.gsd").touch()
                    (path / "prepare.json").write_text("{}")
                    events = gaps(rng, size, theta, self.strain_max)
                    tables = {
                        "events": event_table(rng, events),
                        "steps": step_table(rng, events, yield_stress, size, self.strain_max),
                        "modes": pl.concat([mode_table(rng, size, alpha, strain) for strain in self.strains]),
                        "moduli": moduli_table(rng, size, self.strains),
                        "structure": structure_table(rng),
                        "structure_functions": function_table(rng),
                    }
                    if self.exact:
                        tables |= {
                            "events": with_jumps(rng, tables["events"]),
                            "modes": with_coefficients(rng, tables["modes"]),
                            "trials": trial_table(tables["steps"]),
                        }
                    if self.cubic:
                        tables["qlms"] = cubic_table(rng, tables["modes"], events)
                    if self.directions:
                        tables["directions"] = direction_table(rng, size, theta, events[0])
                    for product, table in tables.items():
                        if product not in without:
                            table.write_parquet(path / f"{product}.parquet", metadata=METADATA)
        return directory


def gaps(rng: np.random.Generator, size: int, theta: float, strain_max: float) -> np.ndarray:
    """Strains of the events: the first is a Weibull minimum, later gaps are memoryless with the same scaling."""
    scale = 1.4 * size ** (-1 / (1 + theta))
    first = scale * rng.weibull(1 + theta)
    later = first + np.cumsum(rng.exponential(scale, int(6 * strain_max / scale) + 20))
    events = np.concatenate([[first], later])
    return events[events < strain_max]


DIRECTIONS = ("+xy", "-xy", "+xz", "-xz", "+yz", "-yz")


def direction_table(rng: np.random.Generator, size: int, theta: float, first: float) -> pl.DataFrame:
    """directions.parquet: Weibull minima of the law of the run's first event, which is that of +xy.

    Normal variables, one of them behind the first event, are correlated 0.27 across planes.
    """
    scale = 1.4 * size ** (-1 / (1 + theta))
    across = [[1.0 if a == b else 0.0 if a // 2 == b // 2 else 0.27 for b in range(6)] for a in range(6)]
    root = np.linalg.cholesky(across)
    normal = root @ np.concatenate([[special.ndtri(-np.expm1(-((first / scale) ** (1 + theta))))], rng.standard_normal(5)])
    gamma_min = scale * (-special.log_ndtr(-normal)) ** (1 / (1 + theta))
    signs = np.array([1.0 if name[0] == "+" else -1.0 for name in DIRECTIONS])
    return pl.DataFrame(
        {
            "strain": np.zeros(6), "direction": DIRECTIONS, "gamma_min": gamma_min, "strain_c": signs * gamma_min,
            "kappa": np.full(6, -3.0), "coupling": np.full(6, 10.0),
        }
    )  # fmt: skip


def event_table(rng: np.random.Generator, events: np.ndarray) -> pl.DataFrame:
    """events.parquet."""
    n = events.size
    return pl.DataFrame(
        {
            "strain_before": events - 5e-7, "strain_after": events + 5e-7, "strain_c": events,
            "gamma_min": np.diff(events, prepend=0.0), "q": rng.uniform(1e4, 1e5, n),
            "stress_drop": rng.exponential(0.02, n), "energy_drop": rng.exponential(1e-3, n), "detector": ["threshold"] * n,
        },
        schema_overrides={"detector": pl.String},
    )  # fmt: skip


def with_jumps(rng: np.random.Generator, events: pl.DataFrame) -> pl.DataFrame:
    """``events`` as the exact detector writes them: with the largest displacement of each."""
    return events.with_columns(
        detector=pl.lit("fold"),
        max_jump=pl.Series(rng.lognormal(np.log(0.3), 0.8, events.height)),
        kappa=pl.lit(-1.0),
    )


def with_coefficients(rng: np.random.Generator, modes: pl.DataFrame) -> pl.DataFrame:
    """``modes`` with kappa in the theory's units."""
    return modes.with_columns(kappa_theory=pl.Series(rng.normal(0, 0.4, modes.height)))


def cubic_table(rng: np.random.Generator, modes: pl.DataFrame, events: np.ndarray) -> pl.DataFrame:
    """qlms.parquet: a cubic mode for each localised one, half of them outside the parabola; the first one predicts the first event."""
    local = modes.filter(pl.col("participation_ratio") < 0.3).with_columns(kind=pl.lit("Cubic"))
    n = local.height
    strains = rng.lognormal(np.log(0.05), 1.0, n) * np.where(rng.random(n) < 0.5, -1.0, 1.0)
    strains[:1] = events[:1] * rng.lognormal(0.0, 0.4, len(strains[:1]))
    return local.select(
        "strain", "kind", "index", "frequency", "participation_ratio", curvature="eigenvalue",
        kappa_theory=pl.Series(rng.normal(0.0, 2.0, n)) * pl.col("frequency"),
        cubic_strain=pl.Series(strains, dtype=pl.Float64),
    )  # fmt: skip


def trial_table(steps: pl.DataFrame) -> pl.DataFrame:
    """trials.parquet: every step, and before each event one step across it that lost its basin."""
    end, length = steps["strain"].to_numpy()[1:], np.diff(steps["strain"].to_numpy())
    crossing = np.flatnonzero(np.abs(length - 1e-6) < 1e-8)
    trials = [
        *zip(
            end - length,
            end,
            np.where(np.isin(np.arange(end.size), crossing), 1e4, 1.0).tolist(),
            [False] * end.size,
            strict=True,
        ),
        *((end[k] - 1e-6 - 4e-5, end[k] + 6e-5, None, True) for k in crossing),
    ]
    names = ("strain_before", "strain_after", "q", "left_basin")
    return pl.DataFrame(sorted(trials, key=lambda row: row[:2]), schema=names, orient="row").with_columns(
        travelled="strain_after"
    )


def step_table(rng: np.random.Generator, events: np.ndarray, yield_stress: float, size: int, strain_max: float) -> pl.DataFrame:
    """steps.parquet: a saw-tooth about a curve that saturates at ``yield_stress``, beyond an overshoot if it is large."""
    strain = np.unique(np.round(np.concatenate([np.linspace(0, strain_max, 150), events - 5e-7, events + 5e-7]), 9))
    overshoot = 0.3 * max(yield_stress - 0.55, 0) * np.exp(-(((strain - 0.1) / 0.04) ** 2)) if yield_stress > 0.55 else 0.0
    mean = 0.55 * np.tanh(SHEAR_MODULUS * strain / 0.55) + 4 * overshoot
    last = np.concatenate([[0.0], events])[np.searchsorted(events, strain)]
    saw = 0.15 * SHEAR_MODULUS * (strain - last) * (strain >= events.min(initial=np.inf))
    stress = mean + saw + rng.normal(0, 2 / size**0.5)
    zeros = np.zeros(strain.size)
    return pl.DataFrame(
        {
            "strain": strain, "increment": np.diff(strain, prepend=0.0), "stress_xy": stress, "energy": 5.78 + zeros,
            "q": zeros + 2.0, "max_force": zeros + 1e-11, "force_evaluations": np.full(strain.size, 4),
        }
    )  # fmt: skip


def mode_table(rng: np.random.Generator, size: int, alpha: float, strain: float, count: int = 20) -> pl.DataFrame:
    """modes.parquet: a Poisson process of density 3 N A omega^alpha, and broadened phonon bands; the lowest ``count``."""
    top = 2.5
    local = top * rng.random(rng.poisson(3 * size * PREFACTOR * top ** (1 + alpha) / (1 + alpha))) ** (1 / (1 + alpha))
    first = np.sqrt(SHEAR_MODULUS / DENSITY) * 2 * np.pi * (DENSITY / size) ** (1 / 3)
    phonons = np.concatenate([first * np.sqrt(n) * rng.normal(1, 0.03, 2 * d) for n, d in ((1, 6), (2, 12), (3, 8))])
    e_local = np.minimum(120 / size * rng.lognormal(0, 0.5, local.size), 0.3)
    e_phonon = np.clip(rng.normal(0.5, 0.06, phonons.size), 0.36, 0.66)
    frequency, e = np.concatenate([local, phonons]), np.concatenate([e_local, e_phonon])
    order = np.argsort(frequency)[:count]
    return pl.DataFrame(
        {
            "strain": np.full(order.size, strain), "index": np.arange(order.size, dtype=np.int32),
            "eigenvalue": frequency[order] ** 2, "frequency": frequency[order], "participation_ratio": e[order],
            "residual": np.full(order.size, 1e-11),
        }
    )  # fmt: skip


def moduli_table(rng: np.random.Generator, size: int, strains: tuple[float, ...]) -> pl.DataFrame:
    """moduli.parquet."""
    n = len(strains)
    noise = rng.normal(0, 1, n) * (1000 / size) ** 0.5
    return pl.DataFrame(
        {
            "strain": list(strains), "shear_modulus": SHEAR_MODULUS + noise, "bulk_modulus": BULK_MODULUS + 0.2 * noise,
            "born_shear_modulus": 29.6 + 0 * noise, "pressure": 18.9 + 0.03 * noise, "energy": 5.78 + 0 * noise,
            "stress_xy": 0.1 * noise, "softest_shear_modulus": SHEAR_MODULUS - 13.0 + 2.0 * noise, "poisson_ratio": 0.44 + 0 * noise,
            "residual_shear_stress": 0.2 + 0.05 * np.abs(noise), "strain_since_event": 0.01 * rng.random(n),
        }
    )  # fmt: skip


def structure_table(rng: np.random.Generator, reason: str = "") -> pl.DataFrame:
    """structure.parquet, of a glass unless there is a reason against it."""
    return pl.DataFrame(
        {
            "strain": [0.0], "crystal_fraction": [0.9 if reason else abs(rng.normal(0, 0.002))], "q6_mean": [rng.normal(0.4, 0.005)],
            "demixing": [rng.normal(-0.03, 0.01)], "is_glass": [not reason], "reason": [reason],
        }
    )  # fmt: skip


def function_table(rng: np.random.Generator) -> pl.DataFrame:
    """structure_functions.parquet."""
    r, q = np.arange(0.01, 3.5, 0.02), np.arange(0.5, 15, 0.15)
    g = np.where(r > 0.9, 1 + 1.8 * np.exp(-1.5 * (r - 0.9)) * np.cos(6.2 * (r - 1.2)), 0.0) + rng.normal(0, 0.02, r.size) * (
        r > 0.9
    )
    s = 0.05 + np.exp(-((q - 6.2) ** 2)) * 2.5 + 0.95 / (1 + np.exp(-(q - 6)))
    return pl.concat(
        [
            pl.DataFrame({"kind": ["rdf"] * r.size, "x": r, "y": g}),
            pl.DataFrame({"kind": ["sq"] * q.size, "x": q, "y": s}),
        ]
    )
