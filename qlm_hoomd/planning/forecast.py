"""What `qlm run` would do: how many realisations, in how much time, on how much disk.

Nothing is run in the folder or written to it.

Times and sizes are those of finished realisations where there are any. Where there are none, small realisations of the same
protocol are run elsewhere for some seconds, and what they took is carried to the sizes of the protocol by the power of N of
each stage.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qlm_hoomd.base.processes import n_cores
from qlm_hoomd.ensemble import growth
from qlm_hoomd.ensemble.costs import Costs
from qlm_hoomd.ensemble.executor import Executor
from qlm_hoomd.ensemble.local import gpus_at_hand
from qlm_hoomd.ensemble.progress import duration
from qlm_hoomd.ensemble.realisation import Realisation
from qlm_hoomd.ensemble.runner import check_folder
from qlm_hoomd.ensemble.workspace import Workspace, former_protocol
from qlm_hoomd.planning.benchmark import benchmark
from qlm_hoomd.protocol import Protocol
from qlm_hoomd.stages.base import Stage

_BYTES_ERROR = 0.2  # of the line through two sizes

Sizes = dict[tuple[str, int], list[int]]
"""Sizes of folders [bytes] by (preparation, N)."""


@dataclass(frozen=True)
class Part:
    """What is to be done of one size and preparation.

    Args:
        n_particles: N.
        preparation: name of the preparation.
        n_realisations: that the protocol asks for.
        left: realisations that still lack a stage, by the kind of the stage.
        n_unfinished: realisations that lack any.
        each: processor time of a whole realisation [s]; None where unknown.
        core_seconds: processor time of all that is left [s]; None where unknown.
        error: relative standard error of the times.
        n_bytes: disk space of what is left [bytes]; None where unknown.
    """

    n_particles: int
    preparation: str
    n_realisations: int
    left: Mapping[str, int]
    n_unfinished: int
    each: float | None
    core_seconds: float | None
    error: float
    n_bytes: float | None


@dataclass(frozen=True)
class Forecast:
    """What a run would do.

    Args:
        name: of the protocol.
        directory: folder of the run.
        stages: kinds of its stages, in order.
        parts: by size and preparation.
        workers: realisations at work at a time; None where that is for others to say.
        free_bytes: free space where the folder is, or would be [bytes].
        notes: what the reader should know of the numbers.
    """

    name: str
    directory: Path
    stages: tuple[str, ...]
    parts: tuple[Part, ...]
    workers: int | None
    free_bytes: int
    notes: tuple[str, ...]

    @property
    def n_unfinished(self) -> int:
        """Realisations that are to be run, or finished."""
        return sum(part.n_unfinished for part in self.parts)

    @property
    def core_seconds(self) -> float | None:
        """Processor time of all that is left [s]; None where that of a part is unknown."""
        times = [part.core_seconds for part in self.parts]
        return None if None in times else float(sum(seconds or 0.0 for seconds in times))

    @property
    def factor(self) -> float:
        """By which the times may be larger or smaller (95 %)."""
        weights = [part.core_seconds or 0.0 for part in self.parts]
        if not sum(weights):
            return 1.0
        return math.exp(2.0 * float(np.average([part.error for part in self.parts], weights=weights)))

    @property
    def wall_seconds(self) -> float | None:
        """Time on the clock [s], where the workers have their cores for themselves; None where it is unknown."""
        total = self.core_seconds
        if total is None or self.workers is None:
            return None
        longest = max((part.each or 0.0 for part in self.parts if part.n_unfinished), default=0.0)
        return max(total / max(1, min(self.workers, n_cores(), self.n_unfinished)), min(longest, total))

    @property
    def n_bytes(self) -> float | None:
        """Disk space of all that is left [bytes]; None where that of a part is unknown."""
        sizes = [part.n_bytes for part in self.parts]
        return None if None in sizes else float(sum(size or 0.0 for size in sizes))

    def report(self) -> Iterator[str | tuple[tuple[str, ...], list[tuple[str, ...]]]]:
        """The forecast for people: paragraphs and a table."""
        n_total = sum(part.n_realisations for part in self.parts)
        state = f"{n_total - self.n_unfinished} of them done" if self.directory.exists() else "a new folder"
        yield f"{self.name}: {n_total} realisations in {self.directory} ({state}). Under the stages: how many are still to do.\n"
        yield (
            ("N", "preparation", "realisations", "done", *self.stages, "core time each", "core time left", "disk"),
            [
                (
                    str(part.n_particles),
                    part.preparation,
                    str(part.n_realisations),
                    str(part.n_realisations - part.n_unfinished),
                    *(str(part.left[kind]) for kind in self.stages),
                    _known(part.each, duration),
                    _known(part.core_seconds, duration),
                    _known(part.n_bytes, _size),
                )
                for part in self.parts
            ],
        )
        yield ""
        yield self._sum()
        yield from (f"note: {note}" for note in self.notes)
        yield "Nothing was run in the folder, or written to it."

    def _sum(self) -> str:
        if not self.n_unfinished:
            return "Everything is done: `qlm run` would make the report anew."
        seconds, wall, factor = self.core_seconds, self.wall_seconds, self.factor
        if seconds is None:
            takes = "time unknown"
        else:
            takes = f"{duration(seconds)} of core time ({duration(seconds / factor)} to {duration(seconds * factor)})"
        if wall is not None:
            takes += f", {duration(wall)} on the clock with {self.workers} worker{'s' * (self.workers != 1)}, and the report"
        fills = "disk space unknown" if self.n_bytes is None else f"{_size(self.n_bytes)} of disk"
        text = f"To do: {self.n_unfinished} realisations; {takes}; {fills} ({_size(self.free_bytes)} free)."
        if self.n_bytes is not None and self.n_bytes * (1 + 2 * _BYTES_ERROR) > self.free_bytes:
            text += " That may not fit: free some space, or choose another disk with --out."
        return text


def make_forecast(
    protocol: Protocol,
    directory: Path,
    executor: Executor,
    *,
    alongside: bool = False,
    limit_s: float | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Forecast:
    """What :func:`~qlm_hoomd.ensemble.runner.run_protocol` with the same arguments would do.

    Args:
        protocol: what is to be run.
        directory: the folder, which is only read and need not be there.
        executor: where realisations would run.
        alongside: whether the folder may hold realisations of other physics too.
        limit_s: time on the clock for the benchmark [s]; None for :data:`~qlm_hoomd.planning.benchmark.LIMIT_S`, 0 for none.
        progress: takes lines on the benchmark.

    Raises:
        InputError: if the engine is not installed, or the folder holds other physics.
    """
    if executor.runs_here:
        protocol.engine.build(protocol.model)
    check_folder(protocol, directory)
    workspace = Workspace(directory, protocol)
    former = former_protocol(directory)
    kept: Sequence[Stage] = ()
    if former is not None:
        growth.check(former, protocol, directory, alongside=alongside)
    if former is not None and former.hash != protocol.hash:
        kept = growth.kept_stages(former, protocol)
    notes: list[str] = []
    kinds = tuple(stage.kind for stage in protocol.stages)
    costs, n_bytes = Costs.of_folder(directory, protocol), Sizes()
    counts: dict[tuple[int, str], list[set[str]]] = {}
    for realisation in workspace.realisations:
        states = zip(kinds, realisation.stage_states(protocol.stages), strict=True)
        missing = {kind for kind, state in states if state != "done"}
        key = (realisation.n_particles, str(realisation.statepoint["preparation"]))
        if not missing:
            with suppress(OSError):
                size = sum(path.stat().st_size for path in realisation.directory.iterdir() if path.is_file())
                n_bytes.setdefault(key[::-1], []).append(size)
        if former is not None and kept:
            source = _source(realisation, former, directory)
            missing -= {stage.kind for stage in kept if source.is_done(stage)}
        counts.setdefault(key, []).append(missing)
    needed = {(kind, name) for (_, name), group in counts.items() for kind in set().union(*group)}
    unknown = [
        name
        for name in protocol.ensemble.preparations
        if any(of == name and not costs.sizes(kind, name) for kind, of in needed)
    ]
    if unknown and limit_s != 0.0:
        notes += benchmark(protocol, unknown, costs, limit_s=limit_s, n_bytes=n_bytes, progress=progress)
    elif costs.any_known:
        notes.append("times and sizes are those of realisations that ended in the folder")
    there = next(folder for folder in (directory.absolute(), *directory.absolute().parents) if folder.is_dir())
    return Forecast(
        name=protocol.name,
        directory=directory,
        stages=kinds,
        parts=tuple(_part(protocol, key, group, costs, n_bytes) for key, group in counts.items()),
        workers=_workers(protocol, executor),
        free_bytes=shutil.disk_usage(there).free,
        notes=tuple(notes),
    )


def _part(protocol: Protocol, key: tuple[int, str], group: Sequence[set[str]], costs: Costs, n_bytes: Sizes) -> Part:
    n_particles, name = key
    left = {stage.kind: sum(stage.kind in missing for missing in group) for stage in protocol.stages}
    n_unfinished = sum(bool(missing) for missing in group)
    each = costs.total([(stage, 1) for stage in protocol.stages], name, n_particles)
    total = costs.total([(stage, left[stage.kind]) for stage in protocol.stages], name, n_particles)
    size = _expected_bytes(n_bytes, name, n_particles)
    return Part(
        n_particles=n_particles,
        preparation=name,
        n_realisations=len(group),
        left=left,
        n_unfinished=n_unfinished,
        each=None if each is None else each[0],
        core_seconds=None if total is None else total[0],
        error=0.0 if total is None or not total[0] else total[1] / total[0],
        n_bytes=0.0 if not n_unfinished else None if size is None else n_unfinished * size,
    )


def _expected_bytes(n_bytes: Sizes, preparation: str, n_particles: int) -> float | None:
    """Size of the folder of a realisation [bytes]: a line through the sizes that are known; None where there are none."""
    points = {n: float(np.mean(sizes)) for (of, n), sizes in n_bytes.items() if of == preparation}
    if n_particles in points or not points:
        return points.get(n_particles)
    ns = sorted(points, key=lambda n: abs(math.log(n / n_particles)))[:2]
    if len(ns) == 1:
        return points[ns[0]] * max(1.0, n_particles / ns[0])
    slope = (points[ns[1]] - points[ns[0]]) / (ns[1] - ns[0])
    return max(points[ns[0]] + slope * (n_particles - ns[0]), min(points.values()))


def _source(realisation: Realisation, former: Protocol, directory: Path) -> Realisation:
    """What the same realisation was under the ``former`` protocol."""
    from signac.job import calc_id

    statepoint = {**realisation.statepoint, "protocol_hash": former.hash}
    return Realisation(directory / "workspace" / calc_id(statepoint), statepoint)


def _workers(protocol: Protocol, executor: Executor) -> int | None:
    """Realisations that the executor has at work at a time; None where a scheduler decides."""
    if executor.workers is not None or not executor.runs_here:
        return executor.workers
    gpus = gpus_at_hand() if protocol.engine.wants_gpu else ()
    return len(gpus) or n_cores()


def _known(value: float | None, words: Callable[[float], str]) -> str:
    return "unknown" if value is None else "-" if value == 0 else words(value)


def _size(n_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000.0
    return f"{n_bytes:.3g} TB"
