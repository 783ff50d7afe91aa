"""How often the intervals of theta, alpha, theta' and alpha' from minima hold the truth: synthetic ensembles of known exponents.

Three kinds of ensembles, each of four sizes:

* ``minima``: gamma_min at gamma = 0 and omega_min, Weibull variables of shape 1 + exponent;
* ``strain``: gamma_min read at a strain from histories of events. Each glass is a stationary sequence of events whose intervals
  are Weibull variables of shape 1 + theta, times a softness of the glass that does not change along the strain, so that what
  the next strain shows depends on what this one showed. gamma_min is then the time that is left of an interval, with a flat
  density at 0 (App. G);
* ``pooled``: the same histories read at five strains, averaged over each realisation.

``designs`` asks another question: of the intervals that a report quotes, because the slope of the log means is known well enough,
how many hold the truth, from designs that never are to designs that always are; some have six directions of shear per glass.
``designs_alpha`` asks it of alpha from omega_min, which has a gate of its own and one value per glass.

Run it::

    python tests/physics/coverage_theta.py --sets 500 --json coverage_theta.json

for tables in Markdown. Array suffixes: ``_r`` realisations, ``_re`` events of each, ``_rs`` strains of each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy import special

from qlm_hoomd.errors import InsufficientStatistics
from qlm_hoomd.statistics import (
    Exponent,
    FiniteSizeScaling,
    MinimaDistribution,
    ScalingAlternatives,
    compare_scalings,
    errors,
    exponents,
    finite_size_scaling,
    minima_exponent,
)

Floats = NDArray[np.float64]

SIZES = (500, 1000, 2000, 4000)
COUNTS = ((20, 20, 20, 20), (200, 120, 60, 30))
"""Realisations at each size: as few as are accepted, and a campaign that spent the same time on every size."""
THETAS = (0.1, 0.25, 0.5)
ALPHAS = (3.0, 3.5, 4.0)
FIRST_INTERVAL = 0.02
"""Mean strain between events at the smallest size, about that of the rapidly quenched glass."""
SOFTNESS = 0.3
"""Standard deviation over glasses of the logarithm of their mean interval."""
STRAINS = (0.02, 0.04, 0.06, 0.08, 0.1)
STRAIN_MAX = 0.4
ACROSS_NORMAL = 0.27
"""Correlation of normal variables behind Weibull minima that are correlated 0.25."""
AT_ONCE = 500
"""Data sets whose resamples are held at once: 20 MB for each of a few arrays."""
SHORT = {"theta": 1.0, "alpha": 2.0}
"""What looks like a precise interval of each exponent."""
ESTIMATORS = ("quoted", "bca", "least_squares", "likelihood")


@dataclass(frozen=True)
class Coverage:
    """What came of the data sets of one kind: shares of all sets where it says nothing else.

    Args:
        kind: ``minima``, ``strain`` or ``pooled``.
        name: of the exponent.
        truth: its value.
        counts: realisations at each size.
        sets: data sets.
        withheld: the exponent was refused.
        covered: of the sets that were not, intervals that hold the truth, for each estimator.
        covered_any: the same of all sets.
        bias: median of the estimates less the truth, for each estimator.
        half_width: median half width of the quoted interval.
        disagree: sets whose estimators are said to disagree.
        no_weibull: sets whose minima are said to follow no Weibull law.
    """

    kind: str
    name: str
    truth: float
    counts: tuple[int, ...]
    sets: int
    withheld: float
    covered: dict[str, float]
    covered_any: dict[str, float]
    bias: dict[str, float]
    half_width: float
    disagree: float
    no_weibull: float


@dataclass(frozen=True)
class DensityCoverage:
    """The same for theta' and alpha' from the density of the minima.

    Args:
        kind, name, truth, counts, sets, withheld: as of :class:`Coverage`.
        covered: of the sets that were not withheld, intervals of the truncated power law that hold the truth.
        covered_weibull: the same for the Weibull law of all minima.
        bias: median of the estimates less the truth.
        half_width: median half width.
        no_weibull: sets whose minima are said to follow no Weibull law.
    """

    kind: str
    name: str
    truth: float
    counts: tuple[int, ...]
    sets: int
    withheld: float
    covered: float
    covered_weibull: float
    bias: float
    half_width: float
    no_weibull: float


@dataclass(frozen=True)
class Design:
    """What a campaign decides on before anything has run.

    Args:
        name: in words.
        sizes: particle numbers.
        counts: glasses at each.
        directions: of shear in which each glass has a minimum.
    """

    name: str
    sizes: tuple[int, ...]
    counts: tuple[int, ...]
    directions: int = 1


DESIGNS = (
    Design("weak", (500, 900, 1500), (24, 20, 20)),
    Design("at the gate", SIZES, (32,) * 4),
    Design("at the gate, six directions", (500, 1000, 2000), (27,) * 3, 6),
    Design("quickstart.yaml", (300, 600, 1200), (52, 20, 22), 6),
    Design("strong", SIZES, (200, 120, 60, 30)),
)
"""From one that may never be quoted to one that always is."""
DESIGNS_ALPHA = (
    DESIGNS[0],
    Design("at the gate", SIZES, (38,) * 4),
    Design("at the gate, three sizes", (500, 1000, 2000), (95,) * 3),
    Design("twice the gate's numbers", SIZES, (76,) * 4),
    Design("strong", SIZES, (400, 240, 120, 60)),
)
"""The same for alpha, whose slope has to be known better."""


@dataclass(frozen=True)
class Quoted:
    """Coverage on the condition that a set is quoted, and in thirds of the sets by the standard error that they found.

    Args:
        design, name, truth, sets: what was drawn.
        slope_error: root mean square of the slope's deviations.
        quoted: share of the sets that are.
        covered: of those, the share whose interval of the exponent holds the truth.
        median: of their estimates.
        covered_all: share of all sets whose interval of the slope holds the truth.
        thirds: the same of the third with the smallest standard error, the middle one, the largest.
        narrow: of the sets whose interval of the exponent is shorter than :data:`SHORT`, as a gate on that length would have it:
            share, coverage, median.
    """

    design: Design
    name: str
    truth: float
    sets: int
    slope_error: float
    quoted: float
    covered: float
    median: float
    covered_all: float
    thirds: tuple[float, float, float]
    narrow: tuple[float, float, float]


@dataclass(frozen=True)
class Verdicts:
    """How often the comparison of scalings is against each of them.

    Args:
        kind, counts, sets: as of :class:`Coverage`.
        law: the true scaling.
        against_plateau: p-value below 0.05 against a plateau at all sizes.
        against_power_law: p-value below 0.05 against a power law.
        none: none of the three is said to describe the minima.
    """

    kind: str
    law: str
    counts: tuple[int, ...]
    sets: int
    against_plateau: float
    against_power_law: float
    none: float


# ---- synthetic ensembles ----


def minima(rng: np.random.Generator, exponent: float, counts: tuple[int, ...]) -> dict[int, Floats]:
    """The smallest of N independent x with p(x) ~ x^exponent ((R,) array for each size)."""
    shape = 1 + exponent
    return {size: size ** (-1 / shape) * rng.weibull(shape, n) for size, n in zip(SIZES, counts, strict=True)}


def designed(rng: np.random.Generator, exponent: float, design: Design) -> dict[int, Floats]:
    """Minima of a design ((R, D) array for each size), those of a glass correlated 0.25 across planes of shear."""
    across = np.full((design.directions, design.directions), ACROSS_NORMAL)
    for d in range(design.directions):
        across[d, d ^ 1 if design.directions > 1 else d] = 0.0
        across[d, d] = 1.0
    root, shape = np.linalg.cholesky(across), 1 + exponent
    drawn = {}
    for size, n in zip(design.sizes, design.counts, strict=True):
        normal_rd = rng.standard_normal((n, design.directions)) @ root.T
        drawn[size] = size ** (-1 / shape) * (-special.log_ndtr(normal_rd)) ** (1 / shape)
    return drawn


def histories(rng: np.random.Generator, interval: float, shape: float, n_realisations: int) -> Floats:
    """Strains of the events of each glass, ascending and beyond ``STRAIN_MAX`` ((R, E) array).

    The first event comes after what is left of an interval that a given strain is likelier to hit the longer it is, so that no
    strain is special.
    """
    softness_r = interval * np.exp(SOFTNESS * rng.standard_normal((n_realisations, 1)))
    hit_r = softness_r * rng.gamma(1 + 1 / shape, size=(n_realisations, 1)) ** (1 / shape)
    events_re = rng.random((n_realisations, 1)) * hit_r
    while events_re[:, -1].min() <= STRAIN_MAX:
        steps_re = softness_r * rng.weibull(shape, (n_realisations, int(STRAIN_MAX / interval) + 8))
        events_re = np.hstack([events_re, events_re[:, -1:] + np.cumsum(steps_re, axis=1)])
    return events_re


def strains(rng: np.random.Generator, theta: float, counts: tuple[int, ...]) -> dict[int, Floats]:
    """gamma_min at each of ``STRAINS`` ((R, S) array for each size)."""
    return {
        size: read(histories(rng, FIRST_INTERVAL * (size / SIZES[0]) ** (-1 / (1 + theta)), 1 + theta, n))
        for size, n in zip(SIZES, counts, strict=True)
    }


def read(events_re: Floats) -> Floats:
    """gamma_min at each of ``STRAINS`` ((R, S) array), as ``strain_to_next_event`` reads it from one history after the other."""
    return np.stack([np.where(events_re > strain, events_re, np.inf).min(axis=1) - strain for strain in STRAINS], axis=1)


def ensembles(
    kind: str, rng: np.random.Generator, exponent: float, counts: tuple[int, ...], sets: int
) -> Iterator[dict[int, Floats]]:
    """``sets`` independent data sets of a kind; those of ``strain`` are read at one strain after the other."""
    for index in range(sets):
        if kind == "minima":
            yield minima(rng, exponent, counts)
            continue
        samples = strains(rng, exponent, counts)
        at = slice(None) if kind == "pooled" else index % len(STRAINS)
        yield {size: values_rs[:, at] for size, values_rs in samples.items()}


# ---- coverage ----


def measure(kind: str, name: str, exponent: float, counts: tuple[int, ...], *, sets: int, seed: int = 6) -> Coverage:
    """Coverage of the exponent from <min>(N) over ``sets`` data sets."""
    rng = _stream(seed, kind, exponent, counts)
    stream = ensembles(kind, rng, exponent, counts, sets)
    fits: list[tuple[FiniteSizeScaling, bool]] = []
    while data := list(islice(stream, AT_ONCE)):
        for samples, contrast in zip(data, contrasts(data, counts), strict=True):
            with patch.object(exponents, "log_mean_contrast", return_value=contrast):
                fits.append(_attempt(finite_size_scaling, samples, name=name))
    quoted = [fit for fit, refused in fits if not refused]

    def of(estimator: str, chosen: list[FiniteSizeScaling]) -> list[Exponent]:
        found = [fit.exponent if estimator == "quoted" else getattr(fit, estimator) for fit in chosen]
        return [exponent for exponent in found if exponent is not None]

    every = [fit for fit, _ in fits]
    return Coverage(
        kind=kind,
        name=name,
        truth=exponent,
        counts=counts,
        sets=len(fits),
        withheld=1 - len(quoted) / len(fits),
        covered={e: _share(of(e, quoted), exponent) for e in ESTIMATORS},
        covered_any={e: _share(of(e, every), exponent) for e in ESTIMATORS},
        bias={e: float(np.median([found.value for found in of(e, every)])) - exponent for e in ESTIMATORS},
        half_width=float(np.median([fit.exponent.half_width for fit in quoted])),
        disagree=float(np.mean([fit.disagreement is not None for fit in every])),
        no_weibull=float(np.mean([fit.weibull_p < 0.01 for fit in every])),
    )


def contrasts(data: list[dict[int, Floats]], counts: tuple[int, ...], sizes: tuple[int, ...] = SIZES) -> list[errors.Contrast]:
    """``errors.log_mean_contrast`` of all data sets at once.

    The resamples depend on the seed and on the numbers of realisations alone, so that all data sets share them, and what takes
    most of the time becomes a product of matrices.
    """
    lever_g = exponents._lever(np.log(sizes), counts)
    rng = np.random.default_rng(errors.SEED)
    value, variance = np.zeros(len(data)), np.zeros(len(data))
    deviation = np.zeros((errors.RESAMPLES, len(data)))
    resampled_variance = np.zeros_like(deviation)
    relative: list[Floats] = []
    for lever, n, size in zip(lever_g, counts, sizes, strict=True):
        x = np.sort([samples[size].reshape(n, -1).mean(axis=1) for samples in data], axis=1).T  # (R, data sets)
        value += lever * np.log(x.mean(axis=0))
        x = x / x.mean(axis=0)
        relative.append(x)
        variance += lever**2 * x.var(axis=0, ddof=1) / n
        drawn = rng.integers(n, size=(errors.RESAMPLES, n)) + n * np.arange(errors.RESAMPLES)[:, None]
        times = np.bincount(drawn.ravel(), minlength=errors.RESAMPLES * n).reshape(-1, n).astype(np.float64)
        mean = times @ x / n
        deviation += lever * np.log(mean)
        resampled_variance += lever**2 * np.maximum(times @ x**2 / mean**2 - n, 0.0) / (n * (n - 1))
    error = np.sqrt(variance)
    reach = error * np.quantile(np.abs(deviation) / np.sqrt(resampled_variance), 0.95, axis=0, method="higher")
    found = []
    for d in range(len(data)):
        low, high = errors._bca(deviation[:, d], errors._acceleration([x[:, d] for x in relative], lever_g), 0.95)
        ends = (value[d] - reach[d], value[d] + reach[d], value[d] + low, value[d] + high)
        found.append(errors.Contrast(float(value[d]), float(error[d]), *map(float, ends)))
    return found


def measure_density(
    kind: str, name: str, exponent: float, counts: tuple[int, ...], *, sets: int, seed: int = 6
) -> DensityCoverage:
    """Coverage of the exponent of the density of the minima; in front of a given strain it is 0 whatever theta is."""
    rng = _stream(seed, kind, exponent, counts)
    truth = exponent if kind == "minima" else 0.0
    fits = [_attempt(minima_exponent, samples, name=name) for samples in ensembles(kind, rng, exponent, counts, sets)]
    quoted: list[MinimaDistribution] = [fit for fit, refused in fits if not refused]
    return DensityCoverage(
        kind=kind if kind == "minima" else f"{kind}, theta = {exponent:g}",
        name=name,
        truth=truth,
        counts=counts,
        sets=len(fits),
        withheld=1 - len(quoted) / len(fits),
        covered=_share([fit.exponent for fit in quoted], truth),
        covered_weibull=_share([fit.weibull for fit in quoted], truth),
        bias=float(np.median([fit.exponent.value for fit in quoted])) - truth,
        half_width=float(np.median([fit.exponent.half_width for fit in quoted])),
        no_weibull=float(np.mean([fit.weibull_p < 0.01 for fit in quoted])),
    )


def measure_verdicts(kind: str, theta: float, counts: tuple[int, ...], *, sets: int, seed: int = 6) -> Verdicts:
    """Verdicts on ensembles of a power law, or of a plateau where theta = 0."""
    rng = _stream(seed, kind, theta, counts)
    fits: list[ScalingAlternatives] = [
        _attempt(compare_scalings, samples)[0] for samples in ensembles(kind, rng, theta, counts, sets)
    ]
    return Verdicts(
        kind=kind,
        law=f"power law, theta = {theta:g}" if theta else "plateau",
        counts=counts,
        sets=len(fits),
        against_plateau=float(np.mean([fit.p_plateau < 0.05 for fit in fits])),
        against_power_law=float(np.mean([fit.p_power_law < 0.05 for fit in fits])),
        none=float(np.mean([fit.verdict.startswith("None") for fit in fits])),
    )


def measure_quoted(design: Design, exponent: float, *, sets: int, name: str = "theta", seed: int = 6) -> Quoted:
    """Coverage of what is quoted of ``sets`` data sets of a design."""
    rng = _stream(seed, design.name, exponent, design.counts)
    data = [designed(rng, exponent, design) for _ in range(sets)]
    fits: list[FiniteSizeScaling] = []
    shown: list[bool] = []
    for samples, contrast in zip(data, contrasts(data, design.counts, design.sizes), strict=True):
        with patch.object(exponents, "log_mean_contrast", return_value=contrast):
            fit, refused = _attempt(finite_size_scaling, samples, name=name)
        fits.append(fit)
        shown.append(not refused)
    slope = 1 / (1 + exponent)
    covered = np.array([fit.slope_low <= slope <= fit.slope_high for fit in fits])
    value = np.array([fit.exponent.value for fit in fits])
    by_error = np.argsort([fit.slope_error for fit in fits])
    narrow = np.array([2 * fit.exponent.half_width < SHORT[name] for fit in fits])

    def of(chosen: NDArray[np.bool_]) -> tuple[float, float]:
        return (float(covered[chosen].mean()), float(np.median(value[chosen]))) if chosen.any() else (np.nan, np.nan)

    share, median = of(np.array(shown))
    thirds = [float(covered[third].mean()) for third in np.array_split(by_error, 3)]
    return Quoted(
        design=design,
        name=name,
        truth=exponent,
        sets=sets,
        slope_error=float(np.sqrt(np.mean([(fit.slope - slope) ** 2 for fit in fits]))),
        quoted=float(np.mean(shown)),
        covered=share,
        median=median,
        covered_all=float(covered.mean()),
        thirds=(thirds[0], thirds[1], thirds[2]),
        narrow=(float(narrow.mean()), *of(narrow)),
    )


def _stream(seed: int, kind: str, exponent: float, counts: tuple[int, ...]) -> np.random.Generator:
    return np.random.default_rng([seed, *kind.encode(), round(100 * exponent), *counts])


def _attempt(fit: Any, samples: dict[int, Floats], **options: Any) -> tuple[Any, bool]:
    """The fit, and whether it is refused."""
    try:
        return fit(samples, **options), False
    except InsufficientStatistics as refusal:
        return refusal.estimate, True


def _share(found: list[Exponent], truth: float) -> float:
    return float(np.mean([exponent.low <= truth <= exponent.high for exponent in found])) if found else np.nan


# ---- tables ----


def table(found: list[Coverage]) -> str:
    """Coverage of the exponents from <min>(N), in Markdown."""
    heads = (
        "ensemble", "realisations", "truth", "sets", "withheld", "**quoted**", "all", "BCa", "least squares (paper)", "likelihood",
        "bias", "half width", "estimators disagree", "no Weibull law",
    )  # fmt: skip
    rows = [
        (
            *(c.kind, _listed(c.counts), f"{c.name} = {c.truth:g}", str(c.sets), _percent(c.withheld)),
            *(_percent(share) for share in (c.covered["quoted"], *(c.covered_any[e] for e in ESTIMATORS))),
            *(f"{c.bias['quoted']:+.3f}", f"{c.half_width:.2f}", _percent(c.disagree), _percent(c.no_weibull)),
        )
        for c in found
    ]
    return _markdown(heads, rows)


def table_density(found: list[DensityCoverage]) -> str:
    """Coverage of the exponents of the density, in Markdown."""
    heads = (
        "ensemble", "realisations", "truth", "sets", "withheld", "**truncated power law**", "Weibull law", "bias", "half width",
        "no Weibull law",
    )  # fmt: skip
    rows = [
        (
            *(c.kind, _listed(c.counts), f"{c.name} = {c.truth:g}", str(c.sets)),
            *(_percent(share) for share in (c.withheld, c.covered, c.covered_weibull)),
            *(f"{c.bias:+.3f}", f"{c.half_width:.2f}", _percent(c.no_weibull)),
        )
        for c in found
    ]
    return _markdown(heads, rows)


def table_verdicts(found: list[Verdicts]) -> str:
    """How often each scaling is disfavoured, in Markdown."""
    heads = ("ensemble", "truth", "realisations", "sets", "against a plateau", "against a power law", "none of the three")
    rows = [
        (v.kind, v.law, _listed(v.counts), str(v.sets), *map(_percent, (v.against_plateau, v.against_power_law, v.none)))
        for v in found
    ]
    return _markdown(heads, rows)


def table_quoted(found: list[Quoted]) -> str:
    """Coverage of what is quoted, in Markdown."""
    heads = (
        "design", "N", "glasses", "directions", "truth", "sets", "error of the slope", "quoted", "**covered, quoted**", "their median",
        "slope covered, all", "smallest third of its error", "middle", "largest", f"{found[0].name} shorter than {SHORT[found[0].name]:g}",
        "covered, these", "their median",
    )  # fmt: skip
    rows = [
        (
            *(q.design.name, ", ".join(map(str, q.design.sizes)), _listed(q.design.counts), str(q.design.directions)),
            *(f"{q.name} = {q.truth:g}", str(q.sets), f"{q.slope_error:.3f}", _percent(q.quoted), _percent(q.covered)),
            *(_number(q.median), _percent(q.covered_all), *map(_percent, q.thirds)),
            *(_percent(q.narrow[0]), _percent(q.narrow[1]), _number(q.narrow[2])),
        )
        for q in found
    ]
    return _markdown(heads, rows)


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "-"


def _listed(counts: tuple[int, ...]) -> str:
    return f"{counts[0]} each" if len(set(counts)) == 1 else ", ".join(map(str, counts))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if np.isfinite(share) else "-"


def _markdown(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def scaling(sets: int) -> list[Coverage]:
    """All ensembles of <min>(N)."""
    kinds = (("minima", "theta", THETAS), ("strain", "theta", THETAS), ("pooled", "theta", THETAS), ("minima", "alpha", ALPHAS))
    return [
        measure(kind, name, exponent, counts, sets=sets)
        for kind, name, truths in kinds
        for counts in COUNTS
        for exponent in truths
    ]


def density(sets: int) -> list[DensityCoverage]:
    """All ensembles of P(min)."""
    kinds = (("minima", "theta_prime", THETAS), ("strain", "theta_prime", (0.1, 0.5)), ("minima", "alpha_prime", ALPHAS))
    return [
        measure_density(kind, name, exponent, counts, sets=sets)
        for kind, name, truths in kinds
        for counts in ((50, 50, 50, 50), COUNTS[1])
        for exponent in truths
    ]


def verdicts(sets: int) -> list[Verdicts]:
    """All ensembles of the comparison of scalings."""
    return [
        measure_verdicts(kind, theta, counts, sets=sets)
        for kind in ("minima", "strain")
        for counts in COUNTS
        for theta in (0.0, *THETAS)
    ]


def designs(sets: int) -> list[Quoted]:
    """All designs of theta."""
    return [measure_quoted(design, theta, sets=sets) for theta in (0.1, 0.5) for design in DESIGNS]


def designs_alpha(sets: int) -> list[Quoted]:
    """All designs of alpha."""
    return [measure_quoted(design, alpha, name="alpha", sets=sets) for alpha in (3.0, 4.0) for design in DESIGNS_ALPHA]


PARTS: dict[str, tuple[Callable[[int], list[Any]], Callable[[list[Any]], str]]] = {
    "scaling": (scaling, table),
    "density": (density, table_density),
    "verdicts": (verdicts, table_verdicts),
    "designs": (designs, table_quoted),
    "designs_alpha": (designs_alpha, table_quoted),
}


def main() -> None:
    """Measure all ensembles, print the tables, and write the numbers as JSON if asked to."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals of exponents from minima")
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"which of {', '.join(PARTS)}; all by default")
    parser.add_argument("--sets", type=int, default=500, help="data sets for each exponent and ensemble")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; expected {', '.join(PARTS)}")
    numbers = {}
    for part in arguments.parts:
        run, write = PARTS[part]
        found = run(arguments.sets)
        print(write(found), end="\n\n", flush=True)  # noqa: T201 its output is what it prints
        numbers[part] = [asdict(row) for row in found]
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
