"""For HOOMD scripts: shear at a finite rate inside the runs of the user's own ``hoomd.Simulation``."""

# Array names carry their axes: n particles, c Cartesian components.
# HOOMD ships no types.
# mypy: disable-error-code="misc, metaclass, untyped-decorator"

from __future__ import annotations

import math

import numpy as np

from qlm_hoomd.box import Box
from qlm_hoomd.errors import InputError
from qlm_quasistatic.hoomd_checks import usable_box

# After qlm_hoomd.pair, which says what to do where HOOMD-blue is missing.
import hoomd  # isort: skip
import hoomd.md  # isort: skip


class ShearRate(hoomd.custom.Action):
    """Simple shear at a constant rate, for :class:`hoomd.update.CustomUpdater`.

        shear = qlm_quasistatic.hoomd.ShearRate(rate=1e-4)
        simulation.operations.updaters.append(hoomd.update.CustomUpdater(trigger=hoomd.trigger.Periodic(10), action=shear))

    Each call shears box and positions affinely by rate dt times the time steps since the last one, the first call by those
    since the run began. Velocities stay as they are: they are relative to the affine flow, which is what thermostats need. The
    box flips beyond abs(xy) = 1/2. Neighbour lists do not notice a tilt and are rebuilt at each call, so call every few steps
    only.

    Args:
        rate: strain per time [1 / time].

    Loggable quantity: ``strain``.

    Raises:
        InputError: if the rate is not finite; at the start of the run if there is no integrator with a time step, if there are
            several MPI ranks, or the box is no cube under xy shear.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not math.isfinite(rate):
            raise InputError(f"rate = {rate}; expected a finite number.")
        self.rate = rate
        self._strain = 0.0
        self._last_timestep = 0

    def __repr__(self) -> str:
        return f"ShearRate(rate={self.rate!r})"

    @hoomd.logging.log
    def strain(self) -> float:
        """Strain so far."""
        return self._strain

    def attach(self, simulation: hoomd.Simulation) -> None:
        """HOOMD calls this when a run begins."""
        usable_box(simulation)
        if not hasattr(simulation.operations.integrator, "dt"):
            raise InputError(
                "the simulation has no integrator with a time step; expected a hoomd.md.Integrator before the run."
            )
        super().attach(simulation)
        self._simulation = simulation
        self._last_timestep = simulation.timestep

    def act(self, timestep: int) -> None:
        """HOOMD calls this inside the run."""
        integrator = self._simulation.operations.integrator
        increment = self.rate * integrator.dt * (timestep - self._last_timestep)
        self._last_timestep = timestep
        state = self._simulation.state
        box = state.box
        hoomd.update.BoxResize.update(state, [box.Lx, box.Ly, box.Lz, box.xy + increment, box.xz, box.yz])
        if abs(state.box.xy) > 0.5:
            _flip(state)
        self._strain += increment
        for force in integrator.forces:
            nlist = getattr(force, "nlist", None)
            if nlist is not None:
                nlist.buffer = nlist.buffer


def _flip(state: hoomd.State) -> None:
    """Take the cell with abs(xy) <= 1/2 of the same lattice; nothing moves, image flags say so."""
    box = state.box
    tilted = Box.from_gsd([box.Lx, box.Ly, box.Lz, box.xy, box.xz, box.yz])
    flipped = tilted.sheared(tilted.xy, 0.0)
    with state.cpu_local_snapshot as local:
        positions_nc = np.array(local.particles.position)
        image_nc = np.array(local.particles.image)
        image_nc[:, 0] += round(tilted.xy - flipped.xy) * image_nc[:, 1]
        local.particles.image[:] = image_nc + flipped.images(positions_nc).astype(np.int32)
        local.particles.position[:] = flipped.wrap(positions_nc)
    state.set_box(flipped.to_gsd().tolist())
