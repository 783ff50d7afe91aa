"""What small realisations of a protocol take: run elsewhere, in a process of their own that is killed when its time is over.

The first are short: to a small strain, from a hurried preparation. What they took is multiplied by what the protocol asks for
beyond that (``Stage.work``). As long as there is time left they get longer, then larger.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from qlm_hoomd.base.errors import QlmError
from qlm_hoomd.base.interrupt import blocked, interruptible
from qlm_hoomd.base.processes import one_thread_each, start_worker
from qlm_hoomd.ensemble.progress import duration
from qlm_hoomd.ensemble.runner import run_realisation
from qlm_hoomd.ensemble.workspace import Workspace, former_protocol
from qlm_hoomd.protocol import Protocol, build_protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from qlm_hoomd.ensemble.costs import Clock, Costs

LIMIT_S = 20.0
"""Time on the clock after which the benchmark of all preparations is ended [s]."""
_SHARE = 0.7  # of that time, which it plans to use
_SMALLEST = 100  # below, a glass has hardly any instabilities
_STRAIN, _TIME = 0.02, 20.0  # of the first run that counts, and of the dynamics of its preparation [t_c]
_WARM_UP = 0.1  # length of the run in which code is compiled and loaded, in units of that
_GROWTH_OF_A_REALISATION = 1.3  # power of N by which the next size is chosen
_SHORTEST_S = 1e-3


def benchmark(
    protocol: Protocol,
    preparations: Sequence[str],
    costs: Costs,
    *,
    limit_s: float | None = None,
    n_bytes: dict[tuple[str, int], list[int]] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Run small realisations in a temporary folder, and add what the stages took of which ``costs`` knows nothing.

    Args:
        protocol: whose realisations.
        preparations: names of those to look at.
        costs: to which the times are added.
        limit_s: time on the clock for all of it [s]; None for :data:`LIMIT_S`.
        n_bytes: to which the sizes of folders are added, by (preparation, N).
        progress: takes lines on what is run.

    Returns:
        Notes on what was run, and on what did not end.
    """
    limit_s = LIMIT_S if limit_s is None else limit_s
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    notes: list[str] = []
    with TemporaryDirectory(prefix="qlm-") as folder, interruptible(), one_thread_each():
        end = time.monotonic() + limit_s
        process = context.Process(target=_work, args=(sender, protocol.canonical(), list(preparations), limit_s, Path(folder)))
        with blocked():  # it is for this process to answer signals, and to kill the other
            process.start()
        sender.close()
        try:
            while receiver.poll(max(0.0, end - time.monotonic())):
                line = receiver.recv()
                (progress if line.startswith("benchmark of") else notes.append)(line)
            notes.append(
                f"the benchmark was ended after {duration(limit_s)}; where code had to be compiled first, the next one comes "
                "further"
            )
        except EOFError:  # it is through
            process.join()
            if process.exitcode:
                notes.append(f"the benchmark died with exit code {process.exitcode}; see its message above")
        finally:
            process.kill()
            process.join()
        n_bytes = {} if n_bytes is None else n_bytes
        return [*notes, *_gather(protocol, Path(folder), costs, n_bytes), *_carry_over(protocol, preparations, costs, n_bytes)]


def _gather(protocol: Protocol, folder: Path, costs: Costs, n_bytes: dict[tuple[str, int], list[int]]) -> Iterator[str]:
    """Add what was run in ``folder`` to ``costs`` and ``n_bytes``, as if all the work had been done, and say what it was."""
    unknown = {
        (stage.kind, name)
        for stage in protocol.stages
        for name in protocol.ensemble.preparations
        if not costs.sizes(stage.kind, name)
    }
    sizes: dict[str, list[str]] = {}
    cut: set[str] = set()
    for run in sorted(folder.glob("[0-9]*")):  # in the order in which they were made: the longer come later
        small = former_protocol(run)
        if small is None:  # killed before it began
            continue
        realisation = Workspace(run, small).realisations[-1]
        ((name, short),) = small.ensemble.preparations.items()
        whole, n, taken = protocol.ensemble.preparations[name], realisation.n_particles, realisation.costs()
        factors = {a.kind: a.work(whole) / b.work(short) for a, b in zip(protocol.stages, small.stages, strict=True)}
        for kind in [kind for kind in taken if (kind, name) in unknown]:
            costs.note(kind, name, n, "benchmark", {clock: factors[kind] * seconds for clock, seconds in taken[kind].items()})
        if realisation.state(small) == "done":
            times = {product: factors[stage.kind] for stage in small.stages for product in stage.products()}
            paths = [path for path in realisation.directory.iterdir() if path.is_file()]
            n_bytes[name, n] = [round(sum(times.get(path.name, 1.0) * path.stat().st_size for path in paths))]
            sizes[name] = [*(each for each in sizes.get(name, ()) if each != str(n)), str(n)]
            (cut.discard if set(factors.values()) == {1.0} else cut.add)(name)
    for name, found in sizes.items():
        yield (
            f"what {name} takes is carried over by powers of N from one realisation each of N = {' and '.join(found)}, not kept"
            + (
                "; it was cut short, and times are taken in proportion to strain travelled and time of preparation"
                if name in cut
                else ""
            )
        )


def _carry_over(
    protocol: Protocol, preparations: Sequence[str], costs: Costs, n_bytes: dict[tuple[str, int], list[int]]
) -> Iterator[str]:
    """Take what is still unknown of a preparation from another one of which it is known, in proportion to the work, and say so."""
    settings, kinds = protocol.ensemble.preparations, [stage.kind for stage in protocol.stages]
    known = [name for name in settings if all(costs.sizes(kind, name) for kind in kinds)]
    for name in preparations if known else ():
        lacking = [stage for stage in protocol.stages if not costs.sizes(stage.kind, name)]
        for stage in lacking:
            factor = stage.work(settings[name]) / stage.work(settings[known[0]])
            for n in costs.sizes(stage.kind, known[0]):
                clocks: tuple[Clock, ...] = ("cpu_s", "wall_s")
                taken = {str(clock): factor * (costs.measured(stage.kind, known[0], n, clock) or 0.0) for clock in clocks}
                costs.note(stage.kind, name, n, "benchmark", taken)
        if lacking:
            for of, n in list(n_bytes):
                if of == known[0]:
                    n_bytes.setdefault((name, n), n_bytes[of, n])
            yield f"the benchmark of {name} did not end; what it takes is that of {known[0]}, in proportion to what there is to do"


def _work(sender: Connection, canonical: str, preparations: Sequence[str], limit_s: float, folder: Path) -> None:
    """The other process: runs realisations, each in a folder of its own, and sends lines on what it is at, and notes."""
    end = time.monotonic() + _SHARE * limit_s
    start_worker()
    protocol = build_protocol(json.loads(canonical))
    for position, name in enumerate(preparations):
        now = time.monotonic()
        try:
            for line in _measure(protocol, name, now + (end - now) / (len(preparations) - position), folder):
                sender.send(line)
        except QlmError as error:
            sender.send(f"the benchmark of {name} ended at {error}")
    sender.close()


def _measure(protocol: Protocol, name: str, end: float, folder: Path) -> Iterator[str]:
    """Run realisations of one preparation, longer or larger from one to the next, up to about the time ``end``."""
    smallest, largest = min(protocol.ensemble.n_particles), max(protocol.ensemble.n_particles)
    size = min(smallest, 2 * math.ceil(0.5 * max(_SMALLEST, protocol.model.smallest_system())))
    length = 1.0
    while True:
        yield f"benchmark of {name}: N = {size}, once to compile and load code, once to see what it takes"
        try:
            _run(protocol, name, size, _WARM_UP, folder)
            took, whole = _run(protocol, name, size, length, folder)
            break
        except QlmError:  # too small for the settings of a stage, or for what it finds
            if size >= smallest:
                raise
            size = min(2 * size, smallest)
    while True:
        times = max(0.0, end - time.monotonic()) / took
        if not whole:
            # Somewhat less than there is time for: instabilities come closer as the strain grows.
            length *= times / _GROWTH_OF_A_REALISATION
            if times < 2.0:
                return
        else:
            # Up in large steps: the larger system says more, and two sizes tell how files grow.
            larger = min(largest, 2 * int(0.5 * size * times ** (1.0 / _GROWTH_OF_A_REALISATION)))
            if larger < 2 * size:
                return
            size = larger
            yield f"benchmark of {name}: N = {size}"
        took, whole = _run(protocol, name, size, length, folder)


def _run(protocol: Protocol, name: str, n_particles: int, length: float, folder: Path) -> tuple[float, bool]:
    """Run the second realisation of a size, as stages write more of the first.

    Returns:
        The time that it took [s], and whether it did all the work.

    Raises:
        QlmError: if it fails.
    """
    small = _small(protocol, name, n_particles, length)
    run = folder / f"{'warm-up-' if length == _WARM_UP else ''}{len(list(folder.iterdir())):04d}"
    realisation = Workspace.create(small, run).realisations[-1]
    start = time.monotonic()
    failure = run_realisation(run, realisation.id).failure
    if failure is not None:
        raise QlmError(f"N = {n_particles}: {failure.error} in stage {failure.stage}: {failure.message}")
    whole = small.stages == protocol.stages and small.ensemble.preparations[name] == protocol.ensemble.preparations[name]
    return max(_SHORTEST_S, time.monotonic() - start), whole


def _small(protocol: Protocol, name: str, n_particles: int, length: float) -> Protocol:
    """The protocol for two realisations of that size and preparation; no longer than ``length`` times the first that counts."""
    settings = protocol.model_dump(mode="json")
    prepared = settings["ensemble"]["preparations"][name]
    cooling = 1.0 - prepared["final_temperature"]
    prepared |= {
        "equilibration_time": min(prepared["equilibration_time"], _TIME * length),
        "cooling_rate": max(prepared["cooling_rate"], cooling / (_TIME * length)),
    }
    settings["ensemble"] = {"n_particles": [n_particles], "preparations": {name: prepared}, "realisations": 2}
    # A shear of fewer than two steps is not shortened, and those that read its frames must not be either.
    strain = max(_STRAIN * length, *(2.0 * getattr(stage, "increment", 0.0) for stage in protocol.stages))
    settings["stages"] = [stage.shortened(strain).model_dump(mode="json") for stage in protocol.stages]
    settings["analysis"] = {}  # its settings may speak of other sizes
    return build_protocol(settings)
