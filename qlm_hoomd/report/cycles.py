"""Cyclic shear: what a path that comes back to its beginning dissipates, and whether the glass comes back with it.

Array suffixes: ``_t`` states along the path, ``_g`` points of a grid, ``_r`` realisations, ``_nc`` particles and axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qlm_hoomd.base.errors import QlmError
from qlm_hoomd.report.axes import COLOURS, STYLE, TINY, legend, size_style
from qlm_hoomd.report.drawn import mark
from qlm_hoomd.report.numbers import STRAIN_TOLERANCE
from qlm_hoomd.report.results import Results, SectionFigure

if TYPE_CHECKING:
    from pathlib import Path

    from qlm_hoomd.glass import Glass

Floats = NDArray[np.float64]
SAME_STATE = 1e-6
"""Largest displacement [length] between two configurations at rest, whole translations apart, that are the same state."""
_POINTS = 300  # of a mean curve
_SCHEMA = {
    "preparation": pl.String, "n_particles": pl.Int64, "realisation": pl.Int64, "cycle": pl.Int64, "dissipated": pl.Float64,
    "rising": pl.Int64, "falling": pl.Int64, "compared": pl.Boolean, "period": pl.Int64,
}  # fmt: skip


def cycle_ends(path: Sequence[float]) -> list[float]:
    """Strain travelled each time that a path is where it began, and goes on as it did, or ends there; 0 is the first of them."""
    ends, travelled = [0.0], 0.0
    for leg, (begin, end, after) in enumerate(zip_longest(path[:-1], path[1:], path[2:])):
        onwards = (end > begin) == (path[1] > path[0])
        passes = min(begin, end) < path[0] < max(begin, end) and onwards
        stops = end == path[0] and (after is None or not onwards)
        if leg and (passes or stops):
            ends.append(travelled + abs(path[0] - begin))
        travelled += abs(end - begin)
    return ends


def cycles_of(results: Results) -> pl.DataFrame:
    """A row for each cycle that a realisation has been through.

    ``dissipated``: the area of its loop, V times the integral of the stress over the strain, less the change of the energy
    [energy per particle]; what is left of the work has become heat, seen by the detector or not. ``rising``, ``falling``: its
    instabilities by the direction of shear. ``period``: cycles after which the state at its end came back, the smallest;
    None where it is none of the states before. ``compared``: whether the configurations that tell are there.
    """
    steps, events = results.tables.get("steps"), results.tables.get("events")
    if steps is None or "travelled" not in steps.columns:
        return pl.DataFrame(schema=_SCHEMA)
    rows: list[dict[str, Any]] = []
    for realisation in results.realisations:
        preparation, size, index = realisation.key
        path = _path(results, preparation)
        own = steps.filter(preparation=preparation, n_particles=size, realisation=index).sort("travelled")
        ends = [end for end in cycle_ends(path) if own.height and end <= own["travelled"][-1] + STRAIN_TOLERANCE]
        if len(ends) < 2:
            continue
        happened = None if events is None else events.filter(preparation=preparation, n_particles=size, realisation=index)
        periods = list(_periods(_states(realisation.directory, path[0], ends)))
        for cycle, (begin, end) in enumerate(pairwise(ends), 1):
            within = None if happened is None else happened.filter(pl.col("travelled").is_between(begin, end, closed="right"))
            rises = pl.col("strain_after") > pl.col("strain_before")
            rows.append(
                {"preparation": preparation, "n_particles": size, "realisation": index, "cycle": cycle}
                | {"dissipated": dissipated(own, begin, end, results.density)}
                | {"rising": None if within is None else within.filter(rises).height}
                | {"falling": None if within is None else within.filter(~rises).height}
                | dict(zip(("compared", "period"), periods[cycle], strict=True))
            )
    return pl.DataFrame(rows, schema=_SCHEMA)


def dissipated(steps: pl.DataFrame, begin: float, end: float, density: float) -> float:
    """Work of the shear less the change of the energy between two strains travelled [energy per particle]."""
    travelled_t = steps["travelled"].to_numpy()
    at_t = np.concatenate([[begin], travelled_t[(travelled_t > begin) & (travelled_t < end)], [end]])
    strain_t, stress_t, energy_t = (np.interp(at_t, travelled_t, steps[name]) for name in ("strain", "stress_xy", "energy"))
    return float(np.trapezoid(stress_t, strain_t) / density - (energy_t[-1] - energy_t[0]))


def _path(results: Results, preparation: str) -> list[float]:
    stage = results.run_of(preparation).stage("shear") or {}
    return [float(strain) for strain in stage.get("path") or (0.0, 0.0)]


def _states(folder: Path, strain: float, ends: Sequence[float]) -> list[Glass | None]:
    """The configuration at the end of each cycle, None where it was not kept, or is not here."""
    from qlm_hoomd.gsdio import read_glasses

    kept: list[tuple[float, Glass]] = []
    for name in ("quenched.gsd", "sheared.gsd"):
        try:
            frames = read_glasses(folder / name)
        except (QlmError, OSError):  # not kept, or not here: an archive has tables alone
            continue
        kept += [(frame.log.get("travelled", frame.glass.strain), frame.glass) for frame in frames]
    kept = [(travelled, glass) for travelled, glass in kept if abs(glass.strain - strain) < STRAIN_TOLERANCE]
    return [next((glass for at, glass in kept if abs(at - end) < STRAIN_TOLERANCE), None) for end in ends]


def _periods(states: Sequence[Glass | None]) -> Iterator[tuple[bool, int | None]]:
    """Whether the state at the end of each cycle can be compared, and after how many cycles it came back."""
    for number, state in enumerate(states):
        before = [(number - other, glass) for other, glass in enumerate(states[:number]) if glass is not None]
        found = [period for period, glass in before if state is not None and same_state(glass, state)]
        yield state is not None and bool(before), min(found, default=None)


def same_state(one: Glass, other: Glass) -> bool:
    """Whether no particle is elsewhere, whole translations apart."""
    displacement_nc = one.box.minimum_image(other.positions - one.positions)
    displacement_nc = one.box.minimum_image(displacement_nc - displacement_nc[0])  # a drift may have carried some across
    displacement_nc -= displacement_nc.mean(axis=0)
    return bool(np.linalg.norm(displacement_nc, axis=1).max() < SAME_STATE)


def figure(results: Results) -> SectionFigure | None:
    """Hysteresis loops and the stress along the path; None where no path comes back to where it began."""
    steps = results.tables.get("steps")
    turning = [name for name in results.preparations if len(cycle_ends(_path(results, name))) > 1]
    if steps is None or "travelled" not in steps.columns or not turning:
        return None
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(3.7 * len(turning), 5.0), layout="constrained")
        axes = drawn.subplots(2, len(turning), squeeze=False)
        for column, name in enumerate(turning):
            loops, along = axes[:, column]
            loops.set(title=name, xlabel=r"strain $\gamma$", ylabel=r"stress $\langle\Sigma\rangle$")
            along.set(xlabel=r"strain travelled $\sum|\mathrm{d}\gamma|$", ylabel=r"stress $\langle\Sigma\rangle$")
            loops.set_label(f"loops, {name}")
            along.set_label(f"along the path, {name}")
            ends = cycle_ends(_path(results, name))
            curves = dict(_curves(steps.filter(preparation=name), ends))
            for size, (travelled_g, strain_g, stress_g, n) in curves.items():
                (line,) = along.plot(
                    travelled_g, stress_g, color=size_style(results, size)["color"], linewidth=0.9, label=f"$N={size}$ ({n})"
                )
                mark(line, n)
                if size != max(curves):
                    continue
                for cycle, (begin, end) in enumerate(pairwise(ends), 1):
                    inside_g = (travelled_g >= begin) & (travelled_g <= end)
                    if travelled_g[-1] < end - STRAIN_TOLERANCE:
                        break
                    colour = COLOURS[(cycle - 1) % len(COLOURS)]
                    (line,) = loops.plot(strain_g[inside_g], stress_g[inside_g], color=colour, label=f"cycle {cycle} ({n})")
                    mark(line, n)
            legend(loops, fontsize=TINY, title=f"$N={max(curves, default=0)}$")
            low, high = along.get_ylim()
            along.set_ylim(low, high + 0.3 * (high - low))
            legend(along, fontsize=TINY, title="$N$ (realisations)", loc="upper left", ncols=2)
        caption = (
            "Cyclic shear: above, the mean stress of the largest size against strain, a colour for each cycle from where the path "
            "began; below, of every size along the path. Number of realisations in brackets."
        )
        return SectionFigure("cycles", drawn, caption, "table-cycles")


def _curves(steps: pl.DataFrame, ends: Sequence[float]) -> Iterator[tuple[int, tuple[Floats, Floats, Floats, int]]]:
    """Of each size strain travelled, strain and mean stress, up to where all realisations came, and their number."""
    for (size,), group in steps.sort("n_particles", "travelled").group_by("n_particles", maintain_order=True):
        runs = [run for _, run in group.group_by("realisation", maintain_order=True)]
        whole = max(runs, key=lambda run: float(run["travelled"][-1]))
        end = min(float(run["travelled"][-1]) for run in runs)
        turns = whole.filter(pl.col("strain").diff().sign().diff().shift(-1).fill_null(0) != 0)["travelled"].to_numpy()
        corners = np.concatenate([turns, ends])
        travelled_g = np.unique(np.concatenate([np.linspace(0.0, end, _POINTS), corners[corners < end]]))
        stress_rg = [np.interp(travelled_g, run["travelled"], run["stress_xy"]) for run in runs]
        strain_g = np.interp(travelled_g, whole["travelled"], whole["strain"])
        yield int(str(size)), (travelled_g, strain_g, np.mean(stress_rg, axis=0), len(runs))
