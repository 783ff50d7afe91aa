"""The two kinds of blocks that a mean field is made of: what is said of them, what they remember, when they fail and what a failure does.

* :class:`ThresholdBlocks`: a block is nothing but its stress; it yields at +1 and -1, goes to 0, and hands its stress to the
  others in equal parts. This is the model of Lin and Wyart (PRX 6, 011005), for which theta is known;
* :class:`ModeBlocks`: a block is a mode in the (lambda, kappa) plane (:mod:`qlm_mesoscopic.block`); it fails where lambda
  vanishes, keeps its phi and stress, and sits in its other minimum afterwards; a mode whose lambda has climbed to lambda_min is
  replaced.
"""

# Array names carry their axes: n blocks, f blocks that fail or swap.

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qlm_mesoscopic import block
from qlm_mesoscopic.block import Floats, Replacement
from qlm_mesoscopic.brief import Brief
from qlm_mesoscopic.errors import ModelError, one_of

_MOST_SWAPS_IN_A_ROW = 1000


@dataclass(frozen=True, slots=True)
class ThresholdBlocks:
    """Blocks that are nothing but a stress between the yield stresses -1 and +1 (Lin and Wyart)."""


@dataclass(frozen=True, slots=True)
class ModeBlocks:
    """Blocks that are soft modes, with their swaps.

    Args:
        replacement: lambda_min, P_0 and how a new mode comes in.
        kick: ``constant``: every failure counts the same; ``jump``: kicks and plastic strain are those of ``constant`` times
            the displacement 3 sqrt(phi) of the failing mode.

    Raises:
        ModelError: if ``kick`` is neither.
    """

    replacement: Replacement = field(default_factory=Replacement)
    kick: Literal["constant", "jump"] = "constant"

    def __post_init__(self) -> None:
        one_of(("constant", "jump"), kick=self.kick)


@dataclass(frozen=True, slots=True, repr=False)
class ModeSnapshot(Brief):
    """The modes of all blocks at one moment; arrays of shape (N,).

    Args:
        phi_n: conserved quantities.
        sigma_n: stresses of the modes.
        branch_n: -1 or +1.
    """

    phi_n: Floats
    sigma_n: Floats
    branch_n: Floats

    @property
    def kappa_n(self) -> Floats:
        """Cubic coefficients."""
        return block.kappa(self.sigma_n, self.phi_n, self.branch_n)

    @property
    def lam_n(self) -> Floats:
        """Quadratic coefficients, exact however close to instability."""
        x_n = self.distance_n()
        near = np.isfinite(x_n) & (x_n >= 0.0) & (self.phi_n > 0.0)
        lam_n = block.curvature(self.kappa_n, self.phi_n)
        lam_n[near] = block.curvature_at(x_n[near], self.phi_n[near])
        return lam_n

    def distance_n(self, direction: int | None = None) -> Floats:
        """Distances to instability under rising (+1) or falling (-1) stress, or in the direction in which the block fails (None)."""
        if direction is not None:
            return block.distance(self.sigma_n, self.phi_n, self.branch_n, direction)
        return np.where(self.phi_n < 0.0, np.inf, block.limit(self.phi_n) + self.branch_n * self.sigma_n)


def new_state(blocks: ThresholdBlocks | ModeBlocks, n_blocks: int, rng: np.random.Generator) -> State:
    """What N blocks of that kind remember, spread between their limits, fewer and fewer towards these."""
    state = _Thresholds(n_blocks) if isinstance(blocks, ThresholdBlocks) else _Modes(n_blocks, blocks, rng)
    state.spread_within(rng)
    return state


class _Thresholds:
    """State of threshold blocks; stresses are relative to an offset that the owner keeps."""

    swaps = 0

    def __init__(self, n_blocks: int) -> None:
        self.stress_n = np.zeros(n_blocks)

    def spread_within(self, rng: np.random.Generator) -> None:
        self.stress_n[:] = rng.triangular(-1.0, 0.0, 1.0, self.stress_n.size)

    def spread_randomly(self, rng: np.random.Generator, spread: float) -> None:
        self.stress_n[:] = spread * rng.standard_normal(self.stress_n.size)
        self.stress_n -= np.mean(self.stress_n)

    def next_up(self, offset: float) -> tuple[float, int]:
        index = int(self.stress_n.argmax())
        return 1.0 - offset - float(self.stress_n[index]), index

    def fails(self, index: int) -> bool:
        return True

    def swap(self, rng: np.random.Generator, index_f: NDArray[np.intp], direction_f: Floats, offset: float) -> None:
        raise AssertionError("threshold blocks have no modes to swap")

    def distances(self, direction: int, offset: float) -> Floats:
        return 1.0 - direction * (self.stress_n + offset)

    def snapshot(self, offset: float) -> ModeSnapshot:
        raise ModelError("threshold blocks have no modes; expected MeanField(..., blocks=ModeBlocks()).")

    def unstable(self, rng: np.random.Generator, offset: float) -> NDArray[np.intp]:
        if self.stress_n.max() + offset <= 1.0 and self.stress_n.min() + offset >= -1.0:
            return np.empty(0, dtype=np.intp)
        return np.flatnonzero(np.abs(self.stress_n + offset) > 1.0)

    def fall(self, index: int, offset: float) -> tuple[int, float, float]:
        """Direction and strength of a failure, and the stress that it hands to the others."""
        released = float(self.stress_n[index]) + offset
        self.stress_n[index] = -offset
        return (1 if released > 0.0 else -1), 1.0, released

    def exempt(self, index: int, shared: float, unloading: float) -> None:
        """Take back in advance what the source of a failure does not get; the unloading of the system is for everybody."""
        self.stress_n[index] -= shared


class _Modes:
    """State of modes; stresses are relative to an offset that the owner keeps."""

    def __init__(self, n_blocks: int, rules: ModeBlocks, rng: np.random.Generator) -> None:
        self._rules = rules
        self.swaps = 0
        self.stress_n = np.zeros(n_blocks)
        self.phi_n = rules.replacement.p0.sample(rng, n_blocks)
        self.branch_n = np.where(rng.random(n_blocks) < 0.5, -1.0, 1.0)
        self._low_n, self._high_n = rules.replacement.bounds(self.phi_n, self.branch_n)
        self._room_n = np.empty(n_blocks)

    def spread_within(self, rng: np.random.Generator) -> None:
        self.stress_n[:] = rng.triangular(self._low_n, 0.5 * (self._low_n + self._high_n), self._high_n)

    def spread_randomly(self, rng: np.random.Generator, spread: float) -> None:
        self.phi_n[:] = self._rules.replacement.p0.sample(rng, self.phi_n.size)
        self.stress_n[:] = spread * rng.standard_normal(self.stress_n.size)
        self.stress_n -= np.mean(self.stress_n)
        self.branch_n[:] = np.where(rng.random(self.branch_n.size) < 0.5, -1.0, 1.0)
        self._low_n, self._high_n = self._rules.replacement.bounds(self.phi_n, self.branch_n)

    def next_up(self, offset: float) -> tuple[float, int]:
        np.subtract(self._high_n, self.stress_n, out=self._room_n)
        index = int(self._room_n.argmin())
        return float(self._room_n[index]) - offset, index

    def fails(self, index: int) -> bool:
        """Whether the block at its upper bound fails there; else its mode is replaced."""
        return bool(self.phi_n[index] >= 0.0 and self.branch_n[index] < 0.0)

    def distances(self, direction: int, offset: float) -> Floats:
        return self.snapshot(offset).distance_n(direction)

    def snapshot(self, offset: float) -> ModeSnapshot:
        return ModeSnapshot(self.phi_n.copy(), self.stress_n + offset, self.branch_n.copy())

    def swap(self, rng: np.random.Generator, index_f: NDArray[np.intp], direction_f: Floats, offset: float) -> None:
        """Replace modes that left in these directions."""
        replacement = self._rules.replacement
        bound_f = np.where(direction_f > 0.0, self._high_n[index_f], self._low_n[index_f])
        beyond_f = np.maximum(direction_f * (self.stress_n[index_f] + offset - bound_f), 0.0)
        phi_f, sigma_f, branch_f = replacement.enter(rng, direction_f, beyond_f)
        self.phi_n[index_f], self.branch_n[index_f] = phi_f, branch_f
        self.stress_n[index_f] = sigma_f - offset
        self._low_n[index_f], self._high_n[index_f] = replacement.bounds(phi_f, branch_f)
        self.swaps += index_f.size

    def unstable(self, rng: np.random.Generator, offset: float) -> NDArray[np.intp]:
        """Blocks beyond their limit, after swapping the modes that are beyond lambda_min."""
        for _ in range(_MOST_SWAPS_IN_A_ROW):
            np.subtract(self._high_n, self.stress_n, out=self._room_n)
            up_f = np.flatnonzero(self._room_n < offset) if self._room_n.min() < offset else np.empty(0, dtype=np.intp)
            np.subtract(self._low_n, self.stress_n, out=self._room_n)
            down_f = np.flatnonzero(self._room_n > offset) if self._room_n.max() > offset else np.empty(0, dtype=np.intp)
            beyond_f = np.concatenate((up_f, down_f))
            if not beyond_f.size:
                return beyond_f
            direction_f = np.repeat([1.0, -1.0], [up_f.size, down_f.size])
            fails_f = (self.phi_n[beyond_f] >= 0.0) & (self.branch_n[beyond_f] == -direction_f)
            if np.all(fails_f):
                return beyond_f
            self.swap(rng, beyond_f[~fails_f], direction_f[~fails_f], offset)
        raise ModelError(
            f"a block swapped its mode {_MOST_SWAPS_IN_A_ROW} times in a row; expected new modes with room between their "
            "limits. Lower the upper cut-off of the kicks, or use overshoot='drop'."
        )

    def fall(self, index: int, offset: float) -> tuple[int, float, float]:
        """Direction and strength of a failure; a mode keeps its stress, so it hands on none."""
        direction = -int(self.branch_n[index])
        self.branch_n[index] = direction
        # Mirror: what was the failure of one branch above is that of the other below, and so for the swaps.
        self._low_n[index], self._high_n[index] = -self._high_n[index], -self._low_n[index]
        return direction, (3.0 * math.sqrt(self.phi_n[index]) if self._rules.kick == "jump" else 1.0), 0.0

    def exempt(self, index: int, shared: float, unloading: float) -> None:
        """Take back in advance what the source of a failure does not get.

        A failure keeps the stress of its own mode: the unloading is for the others. Were it for all, a mode of vanishing phi,
        which fails at +0 and -0, would drive itself forth and back without end.
        """
        self.stress_n[index] += unloading - shared


State: TypeAlias = _Thresholds | _Modes
"""What blocks remember. Stresses are relative to an offset that the owner keeps."""
