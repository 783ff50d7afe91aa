"""What small realisations of a protocol take: run elsewhere, in a process of their own that is killed when its time is over.

The first are short: to a small strain, from a hurried preparation. What they took is multiplied by what the protocol asks for beyond
that (``Stage.work``). As long as there is time left they get longer, then larger.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from qlm_hoomd.base.errors import QlmError
from qlm_hoomd.base.interrupt import blocked, interruptible
from qlm_hoomd.ensemble.local import one_thread_each, start_worker
from qlm_hoomd.ensemble.progress import duration
from qlm_hoomd.ensemble.runner import run_realisation
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.protocol import Protocol, build_protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection

    from qlm_hoomd.ensemble.costs import Costs

LIMIT_S = 20.0
"""Time on the clock after which the benchmark of all preparations is ended [s]."""
_SHARE = 0.7  # of that time, which it plans to use
_SMALLEST = 100  # below, a glass has hardly any instabilities
_STRAIN, _TIME = 0.02, 20.0  # of the first run that counts, and of the dynamics of its preparation [t_c]
_WARM_UP = 0.1  # length of the run in which code is compiled and loaded, in units of that
_GROWTH_OF_A_REALISATION = 1.3  # power of N by which the next size is chosen
_SHORTEST_S = 1e-3


@dataclass(frozen=True)
class _Sample:
    """What a realisation of the benchmark took.

    Args:
        preparation: name of its preparation.
        n_particles: N.
        seconds: times of its stages by kind and clock, for all of their work [s].
        n_bytes: size of its folder, for all of their work [bytes].
        whole: whether all of their work was done.
        took: time on the clock [s].
    """

    preparation: str
    n_particles: int
    seconds: Mapping[str, Mapping[str, float]]
    n_bytes: int
    whole: bool
    took: float


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
    samples: dict[str, list[_Sample]] = {name: [] for name in preparations}
    notes: list[str] = []
    receiver, sender = context.Pipe(duplex=False)
    with TemporaryDirectory(prefix="qlm-") as folder, interruptible(), one_thread_each():
        end = time.monotonic() + limit_s
        process = context.Process(target=_work, args=(sender, protocol.canonical(), list(preparations), limit_s, folder))
        with blocked():  # it is for this process to answer signals, and to kill the other
            process.start()
        sender.close()
        try:
            while receiver.poll(max(0.0, end - time.monotonic())):
                message = receiver.recv()
                if isinstance(message, _Sample):
                    samples[message.preparation].append(message)
                elif message.startswith("benchmark of"):
                    progress(message)
                else:
                    notes.append(message)
            left = ", ".join(name for name, found in samples.items() if not found) or "one that was longer or larger"
            notes.append(
                f"the benchmark was ended after {duration(limit_s)}, at work at {left}; where code had to be compiled first, another "
                "one comes further"
            )
        except EOFError:  # it is through
            process.join()
            if process.exitcode:
                notes.append(f"the benchmark died with exit code {process.exitcode}; see its message above")
        finally:
            process.kill()
            process.join()
    for name, found in samples.items():
        unknown = {stage.kind for stage in protocol.stages if not costs.sizes(stage.kind, name)}
        for sample in found:
            for kind in unknown & sample.seconds.keys():
                costs.note(kind, name, sample.n_particles, "benchmark", sample.seconds[kind])
            if n_bytes is not None:
                n_bytes[name, sample.n_particles] = [sample.n_bytes]
        if found:
            sizes = " and ".join(map(str, dict.fromkeys(sample.n_particles for sample in found)))
            cut = (
                ""
                if found[-1].whole
                else "; they were cut short, and what is missing is taken in proportion to strain travelled and time of preparation"
            )
            took = duration(sum(sample.took for sample in found))
            notes.append(
                f"what {name} takes is carried over by powers of N from one realisation each of N = {sizes}, run in {took} and not "
                f"kept{cut}"
            )
    return notes


def _work(sender: Connection, canonical: str, preparations: Sequence[str], limit_s: float, folder: str) -> None:
    """The other process: sends samples, lines on what it is at, and notes."""
    import json

    start_worker()
    protocol = build_protocol(json.loads(canonical))
    end = time.monotonic() + _SHARE * limit_s
    for position, name in enumerate(preparations):
        own_end = time.monotonic() + (end - time.monotonic()) / (len(preparations) - position)
        try:
            for message in _measure(protocol, name, own_end, Path(folder)):
                sender.send(message)
        except QlmError as error:
            sender.send(f"the benchmark of {name} ended: {error}")
    sender.close()


def _measure(protocol: Protocol, name: str, end: float, folder: Path) -> Iterator[str | _Sample]:
    """Realisations of one preparation, longer or larger from one to the next, up to about the time ``end``."""
    smallest, largest = min(protocol.ensemble.n_particles), max(protocol.ensemble.n_particles)
    size = min(smallest, 2 * math.ceil(0.5 * max(_SMALLEST, protocol.model.smallest_system())))
    while True:
        yield f"benchmark of {name}: N = {size}, once to compile and load code, once to see what it takes"
        try:
            _run(protocol, name, size, _WARM_UP, folder)
            sample = _run(protocol, name, size, 1.0, folder)
            break
        except QlmError:  # too small for the settings of a stage, or for what it finds
            if size >= smallest:
                raise
            size = min(2 * size, smallest)
    length = 1.0
    while True:
        yield sample
        times = max(0.0, end - time.monotonic()) / sample.took
        if not sample.whole:
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
        sample = _run(protocol, name, size, length, folder)


def _run(protocol: Protocol, name: str, n_particles: int, length: float, folder: Path) -> _Sample:
    """Run the second realisation of a size, as stages write more of the first.

    Raises:
        QlmError: if it fails.
    """
    small = _small(protocol, name, n_particles, length)
    whole, short = protocol.ensemble.preparations[name], small.ensemble.preparations[name]
    factors = {
        stage.kind: stage.work(whole) / shortened.work(short)
        for stage, shortened in zip(protocol.stages, small.stages, strict=True)
    }
    with TemporaryDirectory(dir=folder) as run:
        realisation = Workspace.create(small, Path(run)).realisations[-1]
        start = time.monotonic()
        failure = run_realisation(Path(run), realisation.id).failure
        if failure is not None:
            raise QlmError(f"N = {n_particles}: {failure.error} in stage {failure.stage}: {failure.message}")
        products = {product: factors[stage.kind] for stage in small.stages for product in stage.products()}
        return _Sample(
            preparation=name,
            n_particles=n_particles,
            seconds={
                kind: {clock: factors[kind] * seconds for clock, seconds in clocks.items()}
                for kind, clocks in realisation.costs().items()
            },
            n_bytes=round(
                sum(products.get(path.name, 1.0) * path.stat().st_size for path in realisation.directory.glob("[!.]*.*"))
            ),
            whole=all(factor == 1.0 for factor in factors.values()),
            took=max(_SHORTEST_S, time.monotonic() - start),
        )


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
    settings["stages"] = [stage.shortened(_STRAIN * length).model_dump(mode="json") for stage in protocol.stages]
    settings["analysis"] = {}  # its settings may speak of other sizes
    return build_protocol(settings)
