"""N blocks without space: every failure kicks all others, and stress is raised just to the next instability.

Two kinds of blocks (:mod:`qlm_mesoscopic.kinds`) follow the same rules of motion. A block falls the moment it is beyond its
limit: it has lost its minimum, and no later kick brings it back. What it does to the others, its kicks and its stress, reaches
them in the order of the falls, one failure after the other, until none is left: that is an avalanche. Between avalanches the
stress of all blocks rises by the smallest distance to an instability, exactly, so that none is stepped over.

Time is counted in activity, the number of failures per block, and the drift v is the stress that all blocks got in common
(loading, redistribution, unloading) per unit of it. For mu = 1 the theory has P(x) ~ x^theta, theta = arctan(pi A / v) / pi,
with that v.
"""

# Array names carry their axes: n blocks, f blocks that fail, a avalanches, s snapshots.

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from qlm_mesoscopic.block import Floats
from qlm_mesoscopic.brief import Brief
from qlm_mesoscopic.errors import ModelError, RunawayAvalanche, one_of, positive
from qlm_mesoscopic.kinds import ModeBlocks, ModeSnapshot, ThresholdBlocks, new_state
from qlm_mesoscopic.noise import LevyKicks

Control: TypeAlias = Literal["strain", "stress"]


@dataclass(frozen=True, slots=True, repr=False)
class Run(Brief):
    """What happened between two moments.

    Args:
        n_blocks: number of blocks N.
        amplitude: A of the noise per failure of strength 1.
        mu: exponent of the noise.
        failures: number of failures.
        backward: those of them against the load.
        swaps: modes replaced.
        drift: v, stress that all blocks got in common per unit of activity; NaN without failures.
        noise: mean of strength^mu over the failures, so that A * noise is the amplitude per failure; NaN without failures.
        load_a: stress added before each avalanche, the x_min of the model; over the modulus it is the strain between events.
        stress_a: applied stress at which each avalanche began.
        strain_a: strain at which each avalanche began.
        size_a: failures of each avalanche.
        snapshots: what ``observe`` returned, in order of time.
    """

    n_blocks: int
    amplitude: float
    mu: float
    failures: int
    backward: int
    swaps: int
    drift: float
    noise: float
    load_a: Floats
    stress_a: Floats
    strain_a: Floats
    size_a: NDArray[np.int64]
    snapshots: tuple[Any, ...]

    @property
    def activity(self) -> float:
        """Failures per block."""
        return self.failures / self.n_blocks

    @property
    def noise_over_drift(self) -> float:
        """A / v, with the A of the failures that there were: what theta depends on."""
        return self.amplitude * self.noise / self.drift


class MeanField:
    """N blocks that interact by mechanical noise alone.

    It begins with blocks spread between their limits, fewer and fewer towards these (a triangle): a density that does not
    vanish there would begin with one avalanche of all. :meth:`quench` begins from unstable blocks instead.

    Args:
        n_blocks: N, even.
        amplitude: A of the noise, at least 0.
        mu: exponent of the noise, from 1 to 2.
        blocks: :class:`ThresholdBlocks` (default) or :class:`ModeBlocks`.
        control: ``strain``: a failure lowers the applied stress by modulus / N; ``stress``: it leaves it alone. Default: strain
            for threshold blocks, which would flow without end at their yield stress, and stress for modes, which have no yield
            stress.
        modulus: shear modulus, stress per strain; positive.
        upper_cutoff: largest kick.
        largest_avalanche: an avalanche with more failures per block than this is a runaway.
        seed: the same seed gives the same bytes.
        callback: called before every failure and swap, some tens of microseconds apart for 10^4 blocks; what it raises ends the
            call, amid an avalanche.

    Attributes:
        blocks: the kind of blocks.
        stress: applied stress.
        plastic_strain: failures with the load minus failures against it, times their strength, per block.
        drift: stress that all blocks got in common, by loading, redistribution and unloading.
        failures: how many there were since the quench, or since the beginning.

    Raises:
        ModelError: for values outside these ranges.
    """

    def __init__(
        self,
        n_blocks: int,
        amplitude: float,
        mu: float = 1.0,
        *,
        blocks: ThresholdBlocks | ModeBlocks | None = None,
        control: Control | None = None,
        modulus: float = 1.0,
        upper_cutoff: float = 2.0,
        largest_avalanche: float = 10.0,
        seed: int = 0,
        callback: Callable[[], Any] | None = None,
    ) -> None:
        self._callback = callback
        self._kicks = LevyKicks(n_blocks, amplitude, mu, upper_cutoff)
        self.blocks = ThresholdBlocks() if blocks is None else blocks
        if control is None:
            control = "strain" if isinstance(self.blocks, ThresholdBlocks) else "stress"
        one_of(get_args(Control), control=control)
        positive(modulus=modulus, largest_avalanche=largest_avalanche)
        if not (isinstance(seed, (int, np.integer)) and seed >= 0):
            raise ModelError(f"seed = {seed!r}; expected an integer, at least 0.")
        self.n_blocks = n_blocks
        self.modulus = float(modulus)
        self.control: Control = control
        self.largest_avalanche = float(largest_avalanche)
        self._rng = np.random.Generator(np.random.SFC64(seed))
        self._state = new_state(self.blocks, n_blocks, self._rng)
        # The stress of block n is stress_n[n] + offset: what all blocks get in common costs one addition.
        self._offset = 0.0
        self._log = _Log()
        self._forget()
        if isinstance(self.blocks, ThresholdBlocks):
            self.stress = float(np.mean(self._state.stress_n))

    def __repr__(self) -> str:
        return f"MeanField({self._kicks!r}, {self.blocks}, stress={self.stress:.6g}, plastic={self.plastic_strain:.6g})"

    @property
    def amplitude(self) -> float:
        """A of the noise."""
        return self._kicks.amplitude

    @property
    def mu(self) -> float:
        """Exponent of the noise."""
        return self._kicks.mu

    @property
    def strain(self) -> float:
        """Elastic and plastic strain, stress / modulus + plastic strain."""
        return self.stress / self.modulus + self.plastic_strain

    def stresses(self) -> Floats:
        """Stresses of the blocks, shape (N,), a copy."""
        return self._state.stress_n + self._offset

    def distances(self, direction: int = 1) -> Floats:
        """Distances x to instability under rising (+1) or falling (-1) stress, shape (N,); inf where that does not destabilise.

        Raises:
            ModelError: if the direction is neither -1 nor +1.
        """
        one_of((1, -1), direction=direction)
        return self._state.distances(direction, self._offset)

    def snapshot(self) -> ModeSnapshot:
        """The modes at this moment.

        Raises:
            ModelError: for threshold blocks, which have none.
        """
        return self._state.snapshot(self._offset)

    def quench(self, spread: float = 1.0) -> Run:
        """Begin anew with random stresses, many of them beyond their limits, and let avalanches run at zero applied stress.

        Args:
            spread: standard deviation of the Gaussian stresses, positive; their mean is 0.

        Returns:
            One avalanche. Strain, stress, drift and failures count from its end.

        Raises:
            ModelError: if the spread is not positive.
            RunawayAvalanche: if it does not come to rest.
        """
        positive(spread=spread)
        self._offset = 0.0
        self._state.spread_randomly(self._rng, spread)
        self._forget()
        control, self.control = self.control, "stress"
        try:
            log = self._begin()
            self._avalanche(self._state.unstable(self._rng, 0.0), 0.0)
            run = self._end(log)
        finally:
            self.control = control
        self._forget()
        return run

    def load(self, strain: float) -> Run:
        """Load quasi-statically by this much strain; the avalanche in which it is reached runs to its end.

        Args:
            strain: strain to add, positive.

        Returns:
            The avalanches, and the drift on the way.

        Raises:
            ModelError: if the strain is not positive.
            RunawayAvalanche: if an avalanche does not stop: under stress control this is yielding.
        """
        positive(strain=strain)
        target = self.strain + strain
        log = self._begin()
        while self.strain < target:
            self._load_once((target - self.strain) * self.modulus)
        return self._end(log)

    def steady_state(
        self,
        activity: float,
        *,
        skip: float = 2.0,
        every: float = 0.05,
        observe: Callable[[MeanField], Any] | None = None,
    ) -> Run:
        """Load until each block has failed so often on average, and look at the blocks at even intervals of activity.

        Snapshots are taken at those moments even in the middle of an avalanche: in the steady state that is where most of the
        time is.

        Args:
            activity: failures per block to record, positive.
            skip: failures per block before that, at least 0.
            every: activity between snapshots, positive.
            observe: makes a snapshot; by default :meth:`distances` for threshold blocks and :meth:`snapshot` for modes.

        Returns:
            The run after the skipped part.

        Raises:
            ModelError: for values outside these ranges.
            RunawayAvalanche: if an avalanche does not stop.
        """
        positive(activity=activity, every=every)
        if not 0.0 <= skip < math.inf:
            raise ModelError(f"skip = {skip}; expected a number of at least 0.")
        self._begin()
        end = math.ceil(skip * self.n_blocks)
        while self._log.failures < end:
            self._load_once()
        log = self._begin()
        default = MeanField.snapshot if isinstance(self.blocks, ModeBlocks) else MeanField.distances
        log.observe = default if observe is None else observe
        log.every = log.next_snapshot = every * self.n_blocks
        log.until = math.ceil(activity * self.n_blocks)
        while log.failures < log.until:
            self._load_once()
        return self._end(log)

    def _forget(self) -> None:
        """Let strain, stress, drift and failures count from here."""
        self.stress = 0.0
        self.plastic_strain = 0.0
        self.drift = 0.0
        self.failures = 0

    def _begin(self) -> _Log:
        self._log = _Log(drift=self.drift, swaps=self._state.swaps)
        return self._log

    def _end(self, log: _Log) -> Run:
        activity = log.failures / self.n_blocks
        return Run(
            n_blocks=self.n_blocks,
            amplitude=self.amplitude,
            mu=self.mu,
            failures=log.failures,
            backward=log.backward,
            swaps=self._state.swaps - log.swaps,
            drift=(self.drift - log.drift) / activity if activity else math.nan,
            noise=log.noise / log.failures if log.failures else math.nan,
            load_a=np.array(log.loads),
            stress_a=np.array(log.stresses),
            strain_a=np.array(log.strains),
            size_a=np.array(log.sizes, dtype=np.int64),
            snapshots=tuple(log.snapshots),
        )

    def _shift(self, stress: float) -> None:
        """Give all blocks this stress in common."""
        self._offset += stress
        self.drift += stress
        # Stresses relative to a large offset would lose digits.
        if abs(self._offset) > 1.0:
            self._state.stress_n += self._offset
            self._offset = 0.0

    def _load_once(self, most: float = math.inf) -> None:
        """Raise the stress to the next failure, and let the avalanche run; or by ``most``, if no failure is that close."""
        loaded = 0.0
        while True:
            if self._callback is not None:
                self._callback()
            gap, index = self._state.next_up(self._offset)
            step = min(max(gap, 0.0), most - loaded)
            self._shift(step)
            self.stress += step
            loaded += step
            if step < gap:
                return
            if self._state.fails(index):
                break
            self._state.swap(self._rng, np.array([index]), np.array([1.0]), self._offset)
        self._avalanche(np.array([index]), loaded)

    def _avalanche(self, unstable_f: NDArray[np.intp], loaded: float) -> None:
        log, first = self._log, self._log.failures
        log.loads.append(loaded)
        log.stresses.append(self.stress)
        log.strains.append(self.strain)
        most = first + self.largest_avalanche * self.n_blocks
        waiting = self._fallen(unstable_f)
        while waiting:
            if self._callback is not None:
                self._callback()
            self._strike(*waiting.popleft())
            waiting.extend(self._fallen(self._state.unstable(self._rng, self._offset)))
            if log.failures >= log.next_snapshot and log.observe is not None and log.failures <= log.until:
                log.snapshots.append(log.observe(self))
                log.next_snapshot += log.every
            if log.failures > most:
                # The run as it was before: the avalanche has no size.
                for values in (log.loads, log.stresses, log.strains):
                    values.pop()
                raise RunawayAvalanche(
                    f"an avalanche did not stop within {self.largest_avalanche:g} failures per block, at amplitude A = "
                    f"{self.amplitude:g} and stress {self.stress:g}; expected noise that the drift of the load can carry "
                    "away. Lower the amplitude, or under stress control stay below the yield stress.",
                    log.failures - first,
                    self.stress,
                    self._end(log),
                )
        log.sizes.append(log.failures - first)

    def _fallen(self, unstable_f: NDArray[np.intp]) -> deque[tuple[int, int, float, float]]:
        """Let blocks fall.

        For each its index, the direction of its failure, its strength, and the stress that it gives away.
        """
        return deque((int(index), *self._state.fall(int(index), self._offset)) for index in unstable_f)

    def _strike(self, index: int, direction: int, strength: float, released: float) -> None:
        """What the failure of a block does to all others."""
        n = self.n_blocks
        plastic = direction * strength / n
        unloading = self.modulus * plastic if self.control == "strain" else 0.0
        self.stress -= unloading
        self.plastic_strain += plastic
        # Kicks go to the others: the source is left out, and what is released is shared among N - 1.
        self._kicks.add(self._rng, self._state.stress_n, index, strength)
        shared = released / (n - 1)
        self._state.exempt(index, shared, unloading)
        self._shift(shared - unloading)
        self.failures += 1
        self._log.failures += 1
        self._log.backward += direction < 0
        self._log.noise += strength**self.mu


@dataclass(slots=True)
class _Log:
    """What a run collects."""

    drift: float = 0.0
    swaps: int = 0
    failures: int = 0
    backward: int = 0
    noise: float = 0.0
    next_snapshot: float = 0.0
    every: float = math.inf
    until: float = math.inf
    observe: Callable[[MeanField], Any] | None = None
    loads: list[float] = field(default_factory=list)
    stresses: list[float] = field(default_factory=list)
    strains: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    snapshots: list[Any] = field(default_factory=list)
