"""Failures of the mean field of qlm_mesoscopic and of its lattice, each a kick for all other blocks, against plain numpy loops and GooseEPM.

Usage: python benchmarks/mesoscopic.py [N ...] [--turns 5] [--growth] [--theta A]
"""

# Array names carry their axes: n blocks, r the shape of a lattice.

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np
from _common import introduce, note
from numpy.typing import NDArray
from qlm_mesoscopic.errors import ModelError
from qlm_mesoscopic.lattice import Lattice, ThresholdSites, propagator
from qlm_mesoscopic.meanfield import MeanField, ModeBlocks
from qlm_mesoscopic.observables import theta_from_distances

_AMPLITUDE = 0.2
_UPDATES_PER_TURN = 20_000_000
_FEWEST_FAILURES = 10
_LARGEST_DISAGREEMENT = 1e-10
_GROWTH_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
_THETA_BLOCKS, _THETA_ACTIVITY = 20_000, 20.0
_LATTICES = ((128, 128), (28, 28, 28))
_AVALANCHES = 50


class PlainLoop:
    """The rules of threshold blocks as one writes them down: a fresh kick for every block, the mean taken off, all stresses touched.

    Args:
        stress_n: stresses to begin with, shape (N,).
        amplitude: A of the noise.
        seed: of the kicks.
    """

    def __init__(self, stress_n: NDArray[np.float64], amplitude: float, seed: int) -> None:
        self.stress_n = stress_n.copy()
        self._amplitude, self._rng = amplitude, np.random.default_rng(seed)
        self._waiting: list[tuple[int, float]] = []

    def fail(self, n_failures: int) -> None:
        """So many failures, each in its turn."""
        stress_n, n_blocks = self.stress_n, self.stress_n.size
        lower = 2.0 * self._amplitude / n_blocks
        for _ in range(n_failures):
            if not self._waiting:
                first = int(np.argmax(stress_n))
                stress_n += 1.0 - stress_n[first]
                self._fall([first])
            index, released = self._waiting.pop(0)
            kept = stress_n[index] - math.copysign(1.0, released) / n_blocks
            if self._amplitude:
                kick_n = lower / self._rng.random(n_blocks) * self._rng.choice([-1.0, 1.0], n_blocks)
                kick_n = np.clip(kick_n, -2.0, 2.0)
                stress_n += kick_n - kick_n.mean()
            stress_n += released / (n_blocks - 1) - math.copysign(1.0, released) / n_blocks
            stress_n[index] = kept
            self._fall(np.flatnonzero(np.abs(stress_n) > 1.0))

    def _fall(self, unstable: Iterable[int]) -> None:
        for index in unstable:
            self._waiting.append((int(index), float(self.stress_n[index])))
            self.stress_n[index] = 0.0


class PlainLattice:
    """Sites that yield all their stress beyond thresholds, as one writes them down: the propagator rolled to the weakest site.

    Args:
        sigma_r: stresses to begin with, none beyond +-1, which are the thresholds of all sites.
    """

    def __init__(self, sigma_r: NDArray[np.float64]) -> None:
        self.sigma_r = sigma_r.copy()
        self._low_r, self._high_r = np.full_like(sigma_r, -1.0), np.full_like(sigma_r, 1.0)
        self._kernel_r = propagator(sigma_r.shape, "strain")

    def load(self, avalanches: int) -> int:
        """Load from one avalanche to the next; how many failures there were."""
        failures = 0
        for _ in range(avalanches):
            room_r = self._high_r - self.sigma_r
            weakest = np.unravel_index(np.argmin(room_r), room_r.shape)
            self.sigma_r += room_r[weakest]
            self.sigma_r[weakest] = self._high_r[weakest]
            while True:
                beyond_r = np.maximum(self.sigma_r - self._high_r, self._low_r - self.sigma_r)
                weakest = np.unravel_index(np.argmax(beyond_r), beyond_r.shape)
                if beyond_r[weakest] < 0.0:
                    break
                self.sigma_r += self.sigma_r[weakest] * np.roll(self._kernel_r, weakest, range(self.sigma_r.ndim))
                failures += 1
        return failures


def _seconds(job: Callable[[], int], turns: int) -> float:
    """Processor seconds per failure: the smallest over the turns."""
    least = math.inf
    for _ in range(turns):
        start = time.process_time()
        failures = job()
        least = min(least, (time.process_time() - start) / failures)
    return least


def _ours(model: MeanField, n_failures: int) -> int:
    return model.steady_state(n_failures / model.n_blocks, skip=0.0, every=1e9).failures


def _disagreement(n_blocks: int) -> float:
    """Largest difference in a stress after the same failures without noise, where both have no freedom."""
    model = MeanField(n_blocks, 0.0, seed=1)
    plain = PlainLoop(model.stresses(), 0.0, 1)
    plain.fail(_ours(model, _FEWEST_FAILURES))
    return float(np.max(np.abs(model.stresses() - plain.stress_n)))


def _compare(n_blocks: int, turns: int) -> bool:
    """The lines of one size; whether the answers agree."""
    n_failures = max(_FEWEST_FAILURES, _UPDATES_PER_TURN // n_blocks)
    model = MeanField(n_blocks, _AMPLITUDE, seed=1)
    modes = MeanField(n_blocks, _AMPLITUDE, blocks=ModeBlocks(), seed=1)
    plain = PlainLoop(model.stresses(), _AMPLITUDE, 1)

    def plainly() -> int:
        plain.fail(max(1, n_failures // 10))
        return max(1, n_failures // 10)

    ours_s = _seconds(lambda: _ours(model, n_failures), turns)
    modes_s = _seconds(lambda: _ours(modes, n_failures), turns)
    plain_s = _seconds(plainly, turns)
    agree = _disagreement(n_blocks)
    times = {"threshold blocks": ours_s, "modes": modes_s, "numpy-plain, threshold blocks": plain_s}
    return _report("mesoscopic", n_blocks, times, turns, agree)


def _compare_lattice(shape: tuple[int, ...], turns: int) -> bool:
    """The lines of one lattice, without disorder, so that nobody has any freedom; whether the answers agree."""

    def start() -> tuple[Lattice, PlainLattice]:
        ours = Lattice(shape, ThresholdSites(residual=0.0, disorder=0.0), seed=1)
        ours.relax()
        return ours, PlainLattice(ours.sigma_n.reshape(shape))

    ours, plain = start()
    ours_s, plain_s = (
        _seconds(job, turns) for job in (lambda: int(ours.load(_AVALANCHES).failures_a.sum()), lambda: plain.load(_AVALANCHES))
    )
    ours, plain = start()
    ours.load(_FEWEST_FAILURES)
    plain.load(_FEWEST_FAILURES)
    agree = float(np.max(np.abs(ours.sigma_n - plain.sigma_r.ravel())))
    return _report("mesoscopic_lattice", ours.size, {f"lattice {shape}": ours_s, "numpy-plain": plain_s}, turns, agree)


def _compare_gooseepm(shape: tuple[int, int], turns: int) -> bool:
    """The same lattice, propagator, stresses and thresholds for GooseEPM, where it is installed; whether the answers agree.

    Both fail the weakest site of all until none is left. Their failing sites keep N(0, 0.01) of their stress, by random numbers
    of their own, so that what is compared is one failure: what it does to all other sites.
    """
    try:
        from GooseEPM import SystemAthermal
    except ImportError:
        note("\npeer GooseEPM is not installed: it is on conda-forge and not on PyPI, its documentation states no times")
        return True
    sites = ThresholdSites(residual=0.01)
    ours = Lattice(shape, sites, seed=1)
    ours.relax()
    kernel_r = propagator(shape, "strain")
    distances = [np.fft.fftfreq(length, 1.0 / length).astype(np.intp) for length in shape]
    system = SystemAthermal(
        kernel_r, *distances, np.ones(shape), np.full(shape, sites.disorder), 1, init_random_stress=False, init_relax=False
    )
    system.sigma, system.sigmay = ours.sigma_n.reshape(shape), (ours.x_n + ours.sigma_n).reshape(shape)
    weakest = int(np.argmin(ours.x_n))
    before_r = system.sigma.copy()
    system.spatialParticleFailure(weakest)
    change_r = system.sigma - before_r
    corner = np.unravel_index(weakest, shape)
    agree = float(np.max(np.abs(change_r + change_r[corner] * np.roll(kernel_r, corner, (0, 1)))))
    system.sigma, system.sigmay = before_r, (ours.x_n + ours.sigma_n).reshape(shape)

    def theirs() -> int:
        failures = 0
        for _ in range(_AVALANCHES):
            system.shiftImposedShear()
            failures += system.relaxWeakest()
        return failures

    ours_s, theirs_s = (_seconds(job, turns) for job in (lambda: int(ours.load(_AVALANCHES).failures_a.sum()), theirs))
    return _report(
        "mesoscopic_lattice", ours.size, {f"lattice {shape}": ours_s, "GooseEPM": theirs_s}, turns, agree, "GooseEPM"
    )


def _report(
    benchmark: str, n_blocks: int, times: dict[str, float], turns: int, agree: float, peer: str = "numpy-plain"
) -> bool:
    """The table for people and the JSON line of a case, of which ours is the first and the peer the last."""
    note(
        f"\n{benchmark}, N = {n_blocks}: a failure, processor time, the smallest of {turns} "
        f"turns\n{'':32}{'ms':>10}{'blocks/s':>12}"
    )
    for name, seconds in times.items():
        note(f"{name:32}{1e3 * seconds:10.4f}{n_blocks / seconds:12.3g}")
    ours_s, *_, peer_s = times.values()
    line = {
        "benchmark": benchmark,
        "n_particles": n_blocks,
        "ours_s": float(f"{ours_s:.4g}"),
        "peer": peer,
        "peer_s": float(f"{peer_s:.4g}"),
        "ratio": float(f"{peer_s / ours_s:.3g}"),
        "agree": float(f"{agree:.2g}"),
    }
    print(json.dumps(line), flush=True)
    if not agree <= _LARGEST_DISAGREEMENT:
        note(f"{peer} deviates from ours by {agree:.1e}; expected at most {_LARGEST_DISAGREEMENT:.0e}")
    return agree <= _LARGEST_DISAGREEMENT


def _growth(sizes: list[int], turns: int) -> None:
    """How the time of a failure grows with N, and how much memory the process takes."""
    note(f"{'N':>9}{'threshold ms':>14}{'blocks/s':>12}{'modes ms':>12}{'blocks/s':>12}{'MB':>8}")
    times = []
    for n_blocks in sorted(sizes):
        n_failures = max(_FEWEST_FAILURES, _UPDATES_PER_TURN // n_blocks)
        pair = []
        for kind in (None, ModeBlocks()):
            model = MeanField(n_blocks, _AMPLITUDE, blocks=kind, seed=1)
            pair.append(_seconds(lambda model=model, count=n_failures: _ours(model, count), turns))  # type: ignore[misc]
        times.append(pair)
        # The system counts in kilobytes, and never down: with sizes in order it is the memory of the largest so far.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        note(
            f"{n_blocks:9}{1e3 * pair[0]:14.4f}{n_blocks / pair[0]:12.3g}{1e3 * pair[1]:12.4f}{n_blocks / pair[1]:12.3g}{memory:8.0f}"
        )
    if len(times) > 1:
        for name, seconds in zip(("threshold blocks", "modes"), zip(*times, strict=True), strict=True):
            slope, start = np.polyfit(sorted(sizes), seconds, 1)
            power = np.polyfit(np.log(sorted(sizes)), np.log(seconds), 1)[0]
            note(f"{name}: time of a failure = {1e6 * start:.0f} us + {1e9 * slope:.2f} ns N; time ~ N^{power:.2f}")


def _theta(amplitude: float) -> None:
    """What theta of one steady state costs."""
    start = time.process_time()
    model = MeanField(_THETA_BLOCKS, amplitude, seed=1)

    def near(model: MeanField) -> NDArray[np.float64]:
        x_n = model.distances()
        return x_n[(x_n > 0.0) & (x_n < 0.5)]

    run = model.steady_state(_THETA_ACTIVITY, every=0.02, observe=near)
    found = theta_from_distances(run.snapshots)
    theory = math.atan(math.pi * run.noise_over_drift) / math.pi
    note(
        f"A = {amplitude:g}, N = {_THETA_BLOCKS}, {run.activity:.1f} failures per block: v = {run.drift:.4f}, theta = "
        f"{found.value:.4f} +- {found.error:.4f} (95 %), theory arctan(pi A / v) / pi = {theory:.4f}; "
        f"{time.process_time() - start:.0f} s"
    )


def main() -> int:
    """Run the benchmark; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, metavar="N", help="numbers of blocks (default: 10000 100000 1000000)")
    parser.add_argument("--turns", type=int, default=5, help="how often each contestant gets its turn (default: %(default)s)")
    parser.add_argument("--growth", action="store_true", help=f"our time and memory for N = {_GROWTH_SIZES} instead")
    parser.add_argument(
        "--theta", type=float, metavar="A", help="theta of the steady state at amplitude A, and its time, instead"
    )
    options = parser.parse_args()
    if options.turns < 1:
        parser.error(f"--turns {options.turns}; expected at least 1.")
    introduce(("qlm_mesoscopic",))
    try:
        if options.theta is not None:
            _theta(options.theta)
            return 0
        if options.growth:
            _growth(options.sizes or list(_GROWTH_SIZES), options.turns)
            return 0
        agreed = [_compare(n_blocks, options.turns) for n_blocks in options.sizes or (10_000, 100_000, 1_000_000)]
        if not options.sizes:
            agreed += [_compare_lattice(shape, options.turns) for shape in _LATTICES]
            agreed.append(_compare_gooseepm((128, 128), options.turns))
    except ModelError as error:
        note(f"error: {error}")
        return 2
    return 0 if all(agreed) else 1


if __name__ == "__main__":
    sys.exit(main())
