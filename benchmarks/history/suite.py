"""The jobs of the benchmarks in small form and without peers, for asv: how long each took in each version.

Processor time on one thread, as everywhere here; kernels are compiled before the clock runs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# The scripts above find what they share by their own folder.
sys.path.insert(0, str(Path(__file__).parents[1]))

from _common import LAW, glass_of
from first_event import located_by_fold
from forces import ours_of
from hessian import assembled

from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.modes import LowestModes


class _Small:
    """A rapidly quenched glass, made once for each version."""

    params = (500, 2000)
    param_names = ("n_particles",)
    timer = staticmethod(time.process_time)
    timeout = 600.0

    def setup(self, n_particles: int) -> None:
        """The glass, and everything compiled."""
        self.glass = glass_of(n_particles, Path(tempfile.gettempdir()) / "qlm_hoomd_benchmarks")
        self.engine = CPUEngine(LAW)


class Pairs(_Small):
    """Forces and Hessian of one configuration."""

    def setup(self, n_particles: int) -> None:
        """See :meth:`_Small.setup`."""
        super().setup(n_particles)
        rng = np.random.default_rng(0)
        self.forces = ours_of(self.glass.moved(self.glass.positions + rng.normal(scale=0.01, size=(n_particles, 3))))[0].run
        self.time_forces(n_particles)
        self.time_hessian(n_particles)

    def time_forces(self, _: int) -> None:
        """Energy and forces ten times, neighbour list given."""
        self.forces(10)

    def time_hessian(self, _: int) -> None:
        """The sparse Hessian, search included."""
        assembled(self.glass)


class Dynamics(_Small):
    """Molecular dynamics and the descent from it."""

    def setup(self, n_particles: int) -> None:
        """See :meth:`_Small.setup`."""
        super().setup(n_particles)
        self.liquid = self.glass
        self.liquid = self.time_dynamics(n_particles)
        self.time_descent(n_particles)

    def time_dynamics(self, _: int) -> object:
        """A hundred steps at T = 1."""
        return self.engine.run(self.liquid, duration=0.5, temperature=1.0, rng=np.random.default_rng(1))[0]

    def time_descent(self, _: int) -> None:
        """Overdamped dynamics from a liquid to its glass."""
        self.engine.descend(self.liquid)


class Shear(_Small):
    """What quasi-static shear and its analysis consist of."""

    def setup(self, n_particles: int) -> None:
        """See :meth:`_Small.setup`."""
        super().setup(n_particles)
        self.time_first_instability(n_particles)
        self.time_modes(n_particles)

    def time_first_instability(self, _: int) -> None:
        """From the quench to the first instability located."""
        located_by_fold(self.glass)

    def time_modes(self, _: int) -> None:
        """The fifty lowest modes."""
        LowestModes(50).compute(Hessian(LAW).compute(self.glass))
