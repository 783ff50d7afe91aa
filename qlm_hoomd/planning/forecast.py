"""What `qlm run` would do: how many realisations, in how much time, on how much disk. Nothing is run in the folder or written to it.

Times and sizes are those of finished realisations where there are any. Where there are none, small realisations of the same protocol
are run elsewhere for some seconds, and what they took is carried to the sizes of the protocol by the power of N of each stage.
"""

from __future__ import annotations

import math
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer

import numpy as np
from threadpoolctl import threadpool_limits

from qlm_hoomd.base.errors import ProtocolError, QlmError
from qlm_hoomd.base.interrupt import Interrupted, request_stop
from qlm_hoomd.ensemble import growth
from qlm_hoomd.ensemble.costs import Costs
from qlm_hoomd.ensemble.executor import Executor
from qlm_hoomd.ensemble.local import gpus_at_hand, n_cores
from qlm_hoomd.ensemble.progress import duration
from qlm_hoomd.ensemble.realisation import Realisation
from qlm_hoomd.ensemble.runner import run_realisation
from qlm_hoomd.ensemble.workspace import Workspace, former_protocol
from qlm_hoomd.protocol import Protocol, build_protocol
from qlm_hoomd.stages.base import Stage

BUDGET_S = 10.0
"""Processor time that the realisations of the benchmark are to take, for each preparation [s]; the compilation of code comes on top."""
_LIMIT_S = 60.0  # of one of them on the clock, whatever the protocol asks for
_COMPILATION_S = 600.0  # the same for the first, in which code is compiled: half a minute, much more on a busy machine
_SMALLEST = 100  # below, a glass has hardly any instabilities
_SCATTER = 0.3  # standard deviation over mean of the time of a stage from one realisation to the next
_POWER_ERROR = 0.2  # of Stage.cost_power
_BYTES_ERROR = 0.2  # of the line through two sizes
_SHORTEST_S = 1e-3
_GROWTH_OF_A_REALISATION = 1.3  # power of N by which the next size of the benchmark is chosen


@dataclass
class Known:
    """Times and sizes of realisations that ended.

    Args:
        costs: processor times of their stages.
        n_bytes: sizes of folders [bytes] by (preparation, N).
    """

    costs: Costs = field(default_factory=Costs)
    n_bytes: dict[tuple[str, int], list[int]] = field(default_factory=dict)

    def add(self, realisation: Realisation, protocol: Protocol, stages: Sequence[Stage]) -> None:
        """Take note of a realisation of ``protocol``; of its stages only ``stages`` count."""
        self.costs.add(realisation, {stage.kind for stage in stages})
        if len(stages) == len(protocol.stages) and realisation.state(protocol) == "done":
            with suppress(OSError):
                size = sum(path.stat().st_size for path in realisation.directory.iterdir() if path.is_file())
                key = (str(realisation.statepoint["preparation"]), realisation.n_particles)
                self.n_bytes.setdefault(key, []).append(size)

    def time(self, stage: Stage, preparation: str, n_particles: int) -> tuple[float, float] | None:
        """Time of a stage [s] and its relative standard error; None where no size is known.

        From the nearest size that is known: the stage's own power of N leads to the others.
        """
        kind = stage.kind
        sizes = self.costs.sizes(kind, preparation)
        if not sizes:
            return None
        nearest = min(sizes, key=lambda n: abs(math.log(n / n_particles)))
        mean = self.costs.measured(kind, preparation, nearest)
        assert mean is not None
        distance = math.log(n_particles / nearest)
        error = math.hypot(_SCATTER / math.sqrt(self.costs.number(kind, preparation, nearest)), _POWER_ERROR * distance)
        return mean * math.exp(stage.cost_power * distance), error

    def size(self, preparation: str, n_particles: int) -> float | None:
        """Size of the folder of a realisation [bytes]: a line through the sizes that are known; None where there are none."""
        points = {n: float(np.mean(sizes)) for (of, n), sizes in self.n_bytes.items() if of == preparation}
        if n_particles in points or not points:
            return points.get(n_particles)
        ns = sorted(points, key=lambda n: abs(math.log(n / n_particles)))[:2]
        if len(ns) == 1:
            return points[ns[0]] * max(1.0, n_particles / ns[0])
        slope = (points[ns[1]] - points[ns[0]]) / (ns[1] - ns[0])
        return max(points[ns[0]] + slope * (n_particles - ns[0]), min(points.values()))


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
    budget_s: float = BUDGET_S,
    progress: Callable[[str], None] = lambda _: None,
) -> Forecast:
    """What :func:`~qlm_hoomd.ensemble.runner.run_protocol` with the same arguments would do.

    Args:
        protocol: what is to be run.
        directory: the folder, which is only read and need not be there.
        executor: where realisations would run.
        alongside: whether the folder may hold realisations of other physics too.
        budget_s: processor time for the benchmark of each preparation [s]; 0 for none.
        progress: takes lines on the benchmark.

    Raises:
        InputError: if the engine is not installed, or the folder holds other physics.
    """
    if executor.runs_here:
        protocol.engine.build(protocol.model)
    workspace = Workspace(directory, protocol)
    former = former_protocol(directory)
    kept: Sequence[Stage] = ()
    if former is not None and former.hash != protocol.hash:
        growth.check(former, protocol, directory, alongside=alongside)
        kept = growth.kept_stages(former, protocol)
    known = Known()
    notes: list[str] = []
    kinds = tuple(stage.kind for stage in protocol.stages)
    counts: dict[tuple[int, str], list[set[str]]] = {}
    for realisation in workspace.realisations:
        states = zip(kinds, realisation.stage_states(protocol.stages), strict=True)
        missing = {kind for kind, state in states if state != "done"}
        known.add(realisation, protocol, protocol.stages)
        if former is not None and kept:
            source = _source(realisation, former, directory)
            missing -= {stage.kind for stage in kept if source.is_done(stage)}
            known.add(source, protocol, kept)
        counts.setdefault((realisation.n_particles, str(realisation.statepoint["preparation"])), []).append(missing)
    unknown = [
        name
        for name in protocol.ensemble.preparations
        if any(
            stage.kind in missing and known.time(stage, name, n_particles) is None
            for (n_particles, of), group in counts.items()
            for missing in group
            for stage in protocol.stages
            if of == name
        )
    ]
    if unknown and budget_s:
        notes += _benchmark(protocol, unknown, known, budget_s, progress)
    elif known.costs.any_known:
        notes.append("times and sizes are those of realisations that ended in the folder")
    there = next(folder for folder in (directory.absolute(), *directory.absolute().parents) if folder.is_dir())
    return Forecast(
        name=protocol.name,
        directory=directory,
        stages=kinds,
        parts=tuple(_part(protocol, key, group, known) for key, group in counts.items()),
        workers=_workers(protocol, executor),
        free_bytes=shutil.disk_usage(there).free,
        notes=tuple(notes),
    )


def _part(protocol: Protocol, key: tuple[int, str], group: Sequence[set[str]], known: Known) -> Part:
    n_particles, name = key
    left = {stage.kind: sum(stage.kind in missing for missing in group) for stage in protocol.stages}
    n_unfinished = sum(bool(missing) for missing in group)
    times = {stage.kind: known.time(stage, name, n_particles) for stage in protocol.stages}
    size = known.size(name, n_particles)
    all_known = [time for time in times.values() if time is not None]
    each = sum(seconds for seconds, _ in all_known) if len(all_known) == len(times) else None
    needed = [(left[kind], time) for kind, time in times.items() if left[kind]]
    parts = [(number * time[0], time[1]) for number, time in needed if time is not None]
    seconds = sum(part for part, _ in parts) if len(parts) == len(needed) else None
    weights = sum(part for part, _ in parts)
    return Part(
        n_particles=n_particles,
        preparation=name,
        n_realisations=len(group),
        left=left,
        n_unfinished=n_unfinished,
        each=each,
        core_seconds=seconds,
        error=sum(part * error for part, error in parts) / weights if weights else 0.0,
        n_bytes=0.0 if not n_unfinished else None if size is None else n_unfinished * size,
    )


def _benchmark(
    protocol: Protocol, preparations: Sequence[str], known: Known, budget_s: float, progress: Callable[[str], None]
) -> Iterator[str]:
    """Run small realisations elsewhere, add what they took to ``known``, and say in notes what was run."""
    largest = max(protocol.ensemble.n_particles)
    for name in preparations:
        sizes: list[int] = []
        seconds = 0.0
        size = _first_size(protocol, name)
        try:
            progress(f"benchmark of {name}: N = {size}, once to compile and load code, once to see what it takes")
            _run(_small(protocol, name, size, hurried=True), None, limit_s=_COMPILATION_S)
            while True:
                took = _run(_small(protocol, name, size), known, limit_s=_LIMIT_S)
                sizes.append(size)
                seconds += took
                # Up in large steps: the larger system says more, and two sizes tell how files grow.
                growth_left = (max(0.0, budget_s - seconds) / took) ** (1.0 / _GROWTH_OF_A_REALISATION)
                larger = min(largest, 2 * int(0.5 * size * growth_left))
                if larger < 2 * size:
                    break
                size = larger
                progress(f"benchmark of {name}: N = {size}")
        except QlmError as error:
            yield f"the benchmark of {name} ended at N = {size}: {error}"
        if sizes:
            yield (
                f"what {name} takes is carried over by powers of N from one realisation each of N = "
                f"{' and '.join(map(str, sizes))}, run in {duration(seconds)} and not kept"
            )


def _run(protocol: Protocol, known: Known | None, *, limit_s: float) -> float:
    """Run the second realisation of ``protocol`` in a temporary folder, and add what it took to ``known``.

    The second, as stages write more of the first.

    Returns:
        Its processor time [s].

    Raises:
        QlmError: if it fails, or takes too long.
    """
    too_long: list[bool] = []

    def stop() -> None:
        too_long.append(True)
        request_stop(signal.SIGTERM)

    with TemporaryDirectory() as folder:
        workspace = Workspace.create(protocol, Path(folder))
        realisation = workspace.realisations[-1]
        watch = Timer(limit_s, stop)
        watch.daemon = True
        watch.start()
        try:
            with threadpool_limits(1):  # as workers have it: with more, linear algebra on small systems takes ten times as long
                outcome = run_realisation(workspace.directory, realisation.id)
        except Interrupted:
            if not too_long:
                raise
            raise QlmError(f"it takes more than {duration(limit_s)}.") from None
        finally:
            watch.cancel()
        if outcome.failure is not None:
            raise QlmError(f"{outcome.failure.error} in stage {outcome.failure.stage}: {outcome.failure.message}")
        if known is not None:
            known.add(realisation, protocol, protocol.stages)
        return max(_SHORTEST_S, sum(cost["cpu_s"] for cost in realisation.costs().values()))


def _small(protocol: Protocol, preparation: str, n_particles: int, *, hurried: bool = False) -> Protocol:
    """The protocol for small realisations of that size; ``hurried`` keeps its preparation short."""
    settings = protocol.model_dump(mode="json")
    prepared = settings["ensemble"]["preparations"][preparation]
    if hurried:
        prepared |= {
            "equilibration_time": min(prepared["equilibration_time"], 1.0),
            "cooling_rate": max(prepared["cooling_rate"], 1.0),
        }
    settings["ensemble"] = {"n_particles": [n_particles], "preparations": {preparation: prepared}, "realisations": 2}
    settings["analysis"] = {}  # its settings may speak of other sizes
    return build_protocol(settings)


def _first_size(protocol: Protocol, preparation: str) -> int:
    """The smallest size that the stages accept, of those worth a look; never more than the smallest of the protocol."""
    smallest = min(protocol.ensemble.n_particles)
    size = 2 * math.ceil(0.5 * max(_SMALLEST, protocol.model.smallest_system()))
    while size < smallest:
        with suppress(ProtocolError):
            _small(protocol, preparation, size)
            return size
        size *= 2
    return smallest


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
