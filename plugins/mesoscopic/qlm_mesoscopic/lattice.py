"""Blocks on a periodic lattice, coupled by the elastic propagator of an incompressible medium (Eshelby).

The propagator G is how the shear stress everywhere changes when one site yields by a unit of stress. In Fourier space

* 2D: G(q) = -4 qx^2 qy^2 / q^4;
* 3D: G(q) = -(4 qx^2 qy^2 + q^2 qz^2) / q^4: the xy stress that an xy plastic strain makes. This is the scalar reduction for
  simple shear in the xy plane: other components of strain and stress are left out.

Every q_a^2 stands for 2 - 2 cos q_a, the lattice's own Laplacian, so that G(r) is real and even to round-off. G is scaled to
G(r = 0) = -1; it decays as 1 / r^d with the symmetry of cos 4 phi in the xy plane, positive along x and y. The uniform part is
the control: G(q = 0) = 0 with the stress imposed, redistribution sums to zero; G(q = 0) = -1 with the strain imposed, a unit of
yielding lowers the mean stress by 1 / N.

Loading is event-driven: the stress rises uniformly by exactly what the weakest site still bears, then the avalanche runs to its
end.
"""

# Array names carry their axes: n sites in C order, a avalanches. Arrays with the suffix r have the shape of the lattice.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from qlm_mesoscopic import block
from qlm_mesoscopic.block import Floats
from qlm_mesoscopic.brief import Brief
from qlm_mesoscopic.errors import ModelError, RunawayAvalanche, one_of
from qlm_mesoscopic.kinds import ModeBlocks, ModeSnapshot
from qlm_mesoscopic.meanfield import Control

Update = Literal["sequential", "synchronous"]

MIN_LENGTH = 8
"""Sites along each edge below which a quadrupole and its images are one."""


def propagator(shape: Sequence[int], control: Control = "stress") -> Floats:
    """The elastic propagator G(r), with the yielding site at index 0.

    Args:
        shape: sites along each edge, two or three numbers of at least 8.
        control: what is imposed, ``stress`` or ``strain``.

    Returns:
        Array of that shape with G(0) = -1, of sum 0 (stress) or -1 (strain) to round-off.

    Raises:
        ModelError: for other shapes and controls.
    """
    lengths = tuple(int(length) for length in shape)
    if len(lengths) not in {2, 3} or min(lengths) < MIN_LENGTH:
        raise ModelError(f"lattice of shape {lengths}; expected two or three edges of at least {MIN_LENGTH} sites.")
    one_of(get_args(Control), control=control)
    squares = [2.0 - 2.0 * np.cos(2.0 * np.pi * np.fft.fftfreq(length)) for length in lengths]
    grids = np.meshgrid(*squares, indexing="ij", sparse=True)
    total_q: Floats = np.add(grids[0], grids[1]) if len(grids) == 2 else grids[0] + grids[1] + grids[2]
    total_q = np.where(total_q > 0.0, total_q, 1.0)
    response_q = -4.0 * grids[0] * grids[1]
    if len(lengths) == 3:
        response_q = response_q - total_q * grids[2]
    response_q = response_q / total_q**2
    uniform = 0.0 if control == "stress" else -1.0
    # The scale makes G(0), the mean over q, -1 with the uniform part in place.
    size = prod(lengths)
    response_q *= (-size - uniform) / response_q.sum()
    response_q[(0,) * len(lengths)] = uniform
    kernel_r: Floats = np.fft.ifftn(response_q).real
    return kernel_r


class Sites(Protocol):
    """What happens at a site: between which stresses it is stable, and what an event does."""

    self_stress: bool
    """Whether G(0) acts on the failing site itself."""

    def start(self, rng: np.random.Generator, n: int) -> tuple[Floats, Floats, Floats]:
        """Stress and its lower and upper bound of n sites, shapes (n,); sites may start unstable."""

    def fail(
        self, rng: np.random.Generator, site_n: NDArray[np.intp], sigma_n: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Let sites at these stresses, which are out of bounds, go through one event each.

        Returns:
            for each of them the stress that it yields (0: nothing for the others to feel), its stress right after the event and
            before the propagator acts, and its new bounds.
        """


class ThresholdSites:
    """The reduced rule in x alone: a site yields where |sigma| reaches its threshold, keeps a small random stress, gets a new threshold.

    Without disorder of the thresholds a narrow band of rows ends up with all the flow, because a row that yields as a whole
    costs no stress (G vanishes along q_x = 0), and P(x) elsewhere no longer changes.

    Args:
        spread: standard deviation of the stress before the quench.
        residual: standard deviation of the stress right after yielding, cut at +-0.9 of the threshold.
        disorder: standard deviation of the threshold, whose mean is 1; cut at 0.1.

    Raises:
        ModelError: unless spread > 0, 0 <= residual < 0.5 and 0 <= disorder < 0.5.
    """

    self_stress = True

    def __init__(self, spread: float = 0.5, residual: float = 0.1, disorder: float = 0.3) -> None:
        if not (isfinite(spread) and spread > 0.0 and 0.0 <= residual < 0.5 and 0.0 <= disorder < 0.5):
            raise ModelError(
                f"spread = {spread}, residual = {residual}, disorder = {disorder}; expected spread > 0, and the others at "
                "least 0 and below 0.5."
            )
        self.spread = spread
        self.residual = residual
        self.disorder = disorder

    def start(self, rng: np.random.Generator, n: int) -> tuple[Floats, Floats, Floats]:
        """Gaussian stresses and thresholds."""
        threshold_n = self._thresholds(rng, n)
        return rng.normal(0.0, self.spread, n), -threshold_n, threshold_n

    def fail(
        self, rng: np.random.Generator, site_n: NDArray[np.intp], sigma_n: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Yield all the stress but a residue; G(0) = -1 takes it from the site itself."""
        threshold_n = self._thresholds(rng, len(site_n))
        residue_n = np.clip(rng.normal(0.0, self.residual, len(site_n)), -0.9 * threshold_n, 0.9 * threshold_n)
        return sigma_n - residue_n, sigma_n, -threshold_n, threshold_n

    def _thresholds(self, rng: np.random.Generator, n: int) -> Floats:
        return np.maximum(rng.normal(1.0, self.disorder, n), 0.1)


class BlockSites:
    """The blocks of the paper: (phi, sigma, branch) of :mod:`qlm_mesoscopic.block`, with replacement at lambda_min.

    A block that fails keeps its sigma, the tilt of its own potential, and flips its branch: what its surroundings do to it is
    in its potential already, so that G(0) is left out and the kicks on the other blocks get zero mean.

    Args:
        coupling: stress that a failure redistributes: ``coupling`` times the displacement 3 sqrt(phi), or ``coupling`` itself.
        blocks: replacement, and which of the two, ``jump`` (default) or ``constant``.
        spread: standard deviation of the stress that is added before the quench.

    Attributes:
        phi_n: the conserved quantity of each block; set by :meth:`start`.
        branch_n: -1 or +1.

    Raises:
        ModelError: for a coupling or a spread below 0.
    """

    self_stress = False

    def __init__(self, coupling: float = 0.1, blocks: ModeBlocks | None = None, spread: float = 0.5) -> None:
        if not (isfinite(coupling) and coupling >= 0.0 and isfinite(spread) and spread >= 0.0):
            raise ModelError(f"coupling = {coupling}, spread = {spread}; expected numbers of at least 0.")
        self.coupling = coupling
        self.blocks = ModeBlocks(kick="jump") if blocks is None else blocks
        self.spread = spread
        self.phi_n = np.empty(0)
        self.branch_n = np.empty(0)

    def snapshot(self, sigma_n: Floats) -> ModeSnapshot:
        """The modes at the stresses ``Lattice.sigma_n``, for :mod:`qlm_mesoscopic.observables`."""
        return ModeSnapshot(self.phi_n.copy(), sigma_n.copy(), self.branch_n.copy())

    def start(self, rng: np.random.Generator, n: int) -> tuple[Floats, Floats, Floats]:
        """phi from P_0, either branch, stress uniform within the bounds plus a Gaussian."""
        self.phi_n = self.blocks.replacement.p0.sample(rng, n)
        self.branch_n = rng.choice((-1.0, 1.0), n)
        low_n, high_n = self.blocks.replacement.bounds(self.phi_n, self.branch_n)
        sigma_n = rng.uniform(low_n, high_n) + rng.normal(0.0, self.spread, n)
        return sigma_n, low_n, high_n

    def fail(
        self, rng: np.random.Generator, site_n: NDArray[np.intp], sigma_n: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Flip the branch where a minimum has vanished, replace the mode where lambda has reached lambda_min."""
        replacement = self.blocks.replacement
        phi_n, branch_n = self.phi_n[site_n], self.branch_n[site_n]
        failing_n = (phi_n > 0.0) & (branch_n * sigma_n <= -block.limit(np.maximum(phi_n, 0.0)))
        direction_n = np.where(failing_n, -branch_n, np.sign(sigma_n))
        yielded_n = np.zeros(len(site_n))
        size_n = block.jump(phi_n[failing_n]) if self.blocks.kick == "jump" else np.ones(int(failing_n.sum()))
        yielded_n[failing_n] = self.coupling * size_n * direction_n[failing_n]
        sigma_n, branch_n, phi_n = sigma_n.copy(), branch_n.copy(), phi_n.copy()
        branch_n[failing_n] *= -1.0
        swap_n = ~failing_n
        if swap_n.any():
            beyond_n = np.maximum(np.abs(sigma_n[swap_n]) - replacement.swap_stress(phi_n[swap_n]), 0.0)
            phi_n[swap_n], sigma_n[swap_n], branch_n[swap_n] = replacement.enter(rng, direction_n[swap_n], beyond_n)
        self.phi_n[site_n], self.branch_n[site_n] = phi_n, branch_n
        low_n, high_n = replacement.bounds(phi_n, branch_n)
        return yielded_n, sigma_n, low_n, high_n


@dataclass(frozen=True, repr=False)
class Avalanches(Brief):
    """What :meth:`Lattice.load` saw, one entry per avalanche.

    Args:
        load_a: rise of the applied stress that triggered it, the smallest distance to instability before.
        failures_a: failures in it that others felt; 0 where a softest mode was only replaced.
        yielded_a: stress yielded in it, signed, summed over sites.
        stress_a: applied stress after it.
    """

    load_a: Floats
    failures_a: NDArray[np.int64]
    yielded_a: Floats
    stress_a: Floats


class Lattice:
    """Sites on a periodic lattice under stress or strain.

    Args:
        shape: sites along each edge, two or three numbers.
        sites: the rule of a site.
        control: what is imposed. ``stress``: the applied stress stays while an avalanche runs. ``strain``: it falls as sites
            yield.
        update: ``sequential``: the site furthest beyond its bound goes first. ``synchronous``: all unstable sites at once, by
            FFT.
        seed: of all random numbers. The same seed gives the same bytes.
        longest: failures per site after which an avalanche counts as endless.

    Attributes:
        sigma_n: stress of each site.
        applied: applied stress: what was loaded, less what yielding took under strain control.
        activity: failures per site so far.

    Raises:
        ModelError: for a wrong shape, control or update.
    """

    def __init__(
        self,
        shape: Sequence[int],
        sites: Sites,
        *,
        control: Control = "strain",
        update: Update = "sequential",
        seed: int = 0,
        longest: float = 20.0,
    ) -> None:
        kernel_r = propagator(shape, control)
        one_of(get_args(Update), update=update)
        self.shape = kernel_r.shape
        self.size = kernel_r.size
        self.sites = sites
        self.control = control
        self.update = update
        self.longest = longest
        self.kernel_r = kernel_r if sites.self_stress else _without_self(kernel_r, control)
        self._rng = np.random.default_rng(seed)
        self._tiled_r = np.tile(self.kernel_r, (2,) * len(self.shape)) if update == "sequential" else None
        self._kernel_q = np.fft.rfftn(self.kernel_r)
        self.sigma_n, self._low_n, self._high_n = sites.start(self._rng, self.size)
        # Fresh memory for the intermediate results of each failure would take longer than the arithmetic.
        self._buffer_n = np.empty((2, self.size))
        self.applied = 0.0
        self.activity = 0.0

    @property
    def x_n(self) -> Floats:
        """Distance of each site to its upper bound, shape (n,).

        Of blocks that is failure on branch -1, else the next replacement.
        """
        return self._high_n - self.sigma_n

    def relax(self) -> tuple[int, float]:
        """Run the avalanche until every site is stable, from wherever it stands.

        Returns:
            number of failures that others felt, and the stress yielded, signed.

        Raises:
            RunawayAvalanche: if it does not end; the sites are left as they are then.
        """
        failures, events, yielded, begun = 0, 0, 0.0, self.applied
        beyond_n, other_n = self._buffer_n
        while True:
            np.subtract(self.sigma_n, self._high_n, out=beyond_n)
            np.subtract(self._low_n, self.sigma_n, out=other_n)
            np.maximum(beyond_n, other_n, out=beyond_n)
            if self.update == "sequential":
                weakest = int(np.argmax(beyond_n))
                unstable_n = np.array([weakest] if beyond_n[weakest] >= 0.0 else [], dtype=np.intp)
            else:
                unstable_n = np.flatnonzero(beyond_n >= 0.0)
            if unstable_n.size == 0:
                return failures, yielded
            drop_n, sigma_n, low_n, high_n = self.sites.fail(self._rng, unstable_n, self.sigma_n[unstable_n])
            self.sigma_n[unstable_n], self._low_n[unstable_n], self._high_n[unstable_n] = sigma_n, low_n, high_n
            self._redistribute(unstable_n, drop_n)
            count, total = int(np.count_nonzero(drop_n)), float(drop_n.sum())
            failures, events, yielded = failures + count, events + len(unstable_n), yielded + total
            self.activity += count / self.size
            if self.control == "strain":
                self.applied -= total / self.size
            if events > self.longest * self.size:
                advice = (
                    "with the stress imposed this is the yield stress: load less, or impose the strain."
                    if self.control == "stress"
                    else "lower the coupling."
                )
                raise RunawayAvalanche(
                    f"an avalanche that began at applied stress {begun:.4g} has not ended after {events / self.size:.3g} "
                    f"events per site; expected it to end. If it is meant to be that long, raise `longest`; {advice}",
                    failures,
                    begun,
                )

    def load(self, avalanches: int) -> Avalanches:
        """Raise the stress from one avalanche to the next.

        Args:
            avalanches: how many.

        Raises:
            ModelError: if the number is not positive, or sites are unstable: call :meth:`relax` first, it is the quench.
            RunawayAvalanche: if an avalanche does not end.
        """
        if avalanches < 1:
            raise ModelError(f"{avalanches} avalanches; expected at least 1.")
        if np.any((self.sigma_n >= self._high_n) | (self.sigma_n <= self._low_n)):
            raise ModelError("some sites are unstable; expected a lattice at rest. Call relax() first: it is the quench.")
        load_a, yielded_a, stress_a = np.empty(avalanches), np.empty(avalanches), np.empty(avalanches)
        failures_a = np.empty(avalanches, dtype=np.int64)
        for index in range(avalanches):
            x_n = self.x_n
            weakest = int(np.argmin(x_n))
            load_a[index] = x_n[weakest]
            self.sigma_n += load_a[index]
            self.sigma_n[weakest] = self._high_n[weakest]  # rounding must not leave it just below
            self.applied += load_a[index]
            failures_a[index], yielded_a[index] = self.relax()
            stress_a[index] = self.applied
        return Avalanches(load_a, failures_a, yielded_a, stress_a)

    def _redistribute(self, site_n: NDArray[np.intp], drop_n: Floats) -> None:
        felt = np.flatnonzero(drop_n)
        if self._tiled_r is None:
            source_r = np.zeros(self.shape)
            source_r.flat[site_n] = drop_n
            change_r = np.fft.irfftn(np.fft.rfftn(source_r) * self._kernel_q, s=self.shape, axes=range(len(self.shape)))
            self.sigma_n += change_r.ravel()
            return
        sigma_r, change_r = self.sigma_n.reshape(self.shape), self._buffer_n[0].reshape(self.shape)
        for index in felt:
            corner = np.unravel_index(int(site_n[index]), self.shape)
            window = tuple(slice(n - int(c), 2 * n - int(c)) for n, c in zip(self.shape, corner, strict=True))
            sigma_r += np.multiply(self._tiled_r[window], drop_n[index], out=change_r)


def _without_self(kernel_r: Floats, control: Control) -> Floats:
    """Kicks on the others alone: G without r = 0 and with zero mean over r != 0, less 1 / N everywhere under strain control."""
    origin = (0,) * kernel_r.ndim
    others_r = kernel_r.copy()
    others_r[origin] = 0.0
    others_r -= others_r.sum() / (kernel_r.size - 1)
    others_r[origin] = 0.0
    return others_r - 1.0 / kernel_r.size if control == "strain" else others_r
