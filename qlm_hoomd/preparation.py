"""From a random start to a glass: equilibrate at the parent temperature, then quench rapidly or slowly (the paper, App. E)."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from qlm_hoomd.base.errors import ConvergenceError, InputError
from qlm_hoomd.engines.base import DynamicsReport, DynamicsState
from qlm_hoomd.glass import Glass
from qlm_hoomd.mechanics import Mechanics
from qlm_hoomd.minimize.surface import max_norm
from qlm_hoomd.model import Preparation as Preparation  # noqa: PLC0414  (scripts take it from here; type checkers want the alias)

if TYPE_CHECKING:
    from qlm_hoomd.base.checkpoint import Waypoint
    from qlm_hoomd.engines.base import Engine
    from qlm_hoomd.minimize.report import MinimizeReport
    from qlm_hoomd.model import GlassModel


def random_start(model: GlassModel, n_particles: int, rng: np.random.Generator) -> Glass:
    """A random configuration without violent overlaps, at the model's density and composition.

    Particles with sizes of their own get them in random order; the largest are of type 1, as many as are large ones by the
    model: a name, by which pictures and g(r) tell them apart.

    Particles are placed at random and pushed apart along the force by at most a tenth of the smallest cut-off at a time,
    so that overlaps dissolve instead of blowing up.

    Args:
        model: potential, density, composition.
        n_particles: number of particles N.
        rng: source of the positions, and of sizes that the model draws at random.

    Raises:
        InputError: if the box is too small for the cut-off.
        ConvergenceError: if the overlaps do not dissolve.
    """
    if n_particles < model.smallest_system():
        raise InputError(
            f"N = {n_particles}; expected at least {model.smallest_system()}, so that the box holds twice the cut-off "
            f"{model.largest_cutoff:.3g} at its largest tilt."
        )
    box = model.box(n_particles)
    positions_nc = box.length * (rng.random((n_particles, 3)) - 0.5)
    positions_nc[:, box.dimensions :] = 0.0
    sizes, size_n = model.size_distribution, None
    if sizes is None:
        typeid_n = rng.permutation(model.typeid(n_particles))
    else:
        size_n = sizes.draw(n_particles, rng)
        order_n = rng.permutation(n_particles)
        typeid_n, size_n = model.typeid(n_particles)[order_n], size_n[order_n]
    mechanics = Mechanics(model.potential, typeid_n, 0.3, size_n)
    smallest = float(model.potential.cutoffs().min()) * (1.0 if size_n is None else float(size_n.min()))
    step, cap, last = 1e-3, 0.1 * smallest, math.inf
    for _ in range(2000):
        energy, force_nc = mechanics.energy_forces(positions_nc, box)
        # Two particles on one spot have no direction to part; a nudge gives them one.
        if not np.isfinite(force_nc).all():
            nudge_nc = rng.normal(scale=1e-3, size=positions_nc.shape)
            nudge_nc[:, box.dimensions :] = 0.0
            positions_nc = positions_nc + nudge_nc
            continue
        # Forces of a liquid at T0 are of order 100; below that, dynamics can take over with its ordinary time step.
        if max_norm(force_nc) < 100.0 and np.isfinite(energy):
            return Glass(box.wrap(positions_nc), typeid_n, box, sizes=size_n)
        # How long a step may be depends on how stiff the particles are at this density.
        step *= 1.05 if energy < last else 0.5
        last = energy
        length_n = np.linalg.norm(force_nc, axis=1)
        positions_nc = positions_nc + force_nc * np.minimum(step, cap / np.maximum(length_n, 1e-300))[:, None]
    raise ConvergenceError("overlaps of the random start did not dissolve in 2000 steps; is the density far too high?")


def check_that_it_rests(model: GlassModel) -> None:
    """Refuse a potential whose glasses never come to rest.

    Raises:
        InputError: with the reason.
    """
    if model.potential.repels_up_to_cutoff():
        raise InputError(
            f"the force of {type(model.potential).__name__} is repulsive up to the cut-off and ends there in a jump: the minima of "
            "a glass lie where it jumps, and it never comes to rest. Expected a force that vanishes at the cut-off (q: 1 or more)."
        )


def _preparation(settings: Preparation | str) -> Preparation:
    if isinstance(settings, str):
        return Preparation(quench=settings)  # what is no quench is refused
    if not isinstance(settings, Preparation):
        raise InputError(f"preparation {settings!r}; expected a Preparation, or the name of a quench, 'rapid' or 'slow'.")
    return settings


def equilibrate(
    engine: Engine,
    start: Glass,
    model: GlassModel,
    settings: Preparation | str,
    rng: np.random.Generator,
    *,
    resume: DynamicsState | None = None,
    waypoint: Waypoint | None = None,
) -> tuple[Glass, DynamicsReport]:
    """A liquid in equilibrium at the parent temperature T0; ``resume`` and ``waypoint`` are those of :meth:`Engine.run`.

    The settings of the preparation may be the name of a quench, whose defaults are then meant.

    Raises:
        InputError: if they are neither.
    """
    settings = _preparation(settings)
    return engine.run(
        start, duration=settings.equilibration_time, temperature=model.T0, rng=rng, resume=resume, waypoint=waypoint
    )


def quench(
    engine: Engine,
    liquid: Glass,
    model: GlassModel,
    settings: Preparation | str,
    rng: np.random.Generator,
    *,
    tolerance: float = 1e-10,
    resume: DynamicsState | None = None,
    waypoint: Waypoint | None = None,
) -> tuple[Glass, DynamicsReport | None, MinimizeReport]:
    """The glass that the liquid becomes: rapidly (overdamped at once) or slowly (cooled to 0.1 T0 first). The paper, App. E.

    ``resume`` and ``waypoint`` are those of :meth:`Engine.run` for the cooling.

    Returns:
        the glass at its minimum, the report of the cooling (None after a rapid quench), the report of the minimisation.

    Raises:
        InputError: if ``settings`` is neither a preparation nor the name of a quench, or a glass of this potential never comes to
            rest (:meth:`PairPotential.repels_up_to_cutoff`).
        ConvergenceError: if the minimum is not reached to ``tolerance``.
    """
    settings = _preparation(settings)
    check_that_it_rests(model)
    cooling = None
    if settings.quench == "slow":
        end = settings.final_temperature
        liquid, cooling = engine.run(
            liquid,
            duration=(1.0 - end) / settings.cooling_rate,
            temperature=model.T0,
            final_temperature=end * model.T0,
            rng=rng,
            resume=resume,
            waypoint=waypoint,
        )
    glass, report = engine.descend(liquid, tolerance=tolerance)
    return glass, cooling, report
