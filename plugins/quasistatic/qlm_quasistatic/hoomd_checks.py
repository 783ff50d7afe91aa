"""What the driver of HOOMD scripts looks at before anything runs: the box, the forces, and whether they know their law."""

# Array names carry their axes: n particles, c Cartesian components.
# HOOMD ships no types.
# mypy: disable-error-code="misc, metaclass, untyped-decorator"

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qlm_hoomd.box import Box
from qlm_hoomd.engines.base import check_after_event
from qlm_hoomd.errors import InputError
from qlm_hoomd.forces import potential_of, why_unknown
from qlm_hoomd.pair import InversePowerLaw, check_room

# After qlm_hoomd.pair, which says what to do where HOOMD-blue is missing.
import hoomd  # isort: skip
import hoomd.md  # isort: skip

if TYPE_CHECKING:
    from qlm_hoomd.engines.base import AfterEvent
    from qlm_hoomd.potentials import PairPotential


def usable_box(simulation: hoomd.Simulation) -> Box:
    """The box of a simulation that this module can shear."""
    n_ranks = simulation.device.communicator.num_ranks
    if n_ranks > 1:
        raise InputError(f"the simulation runs on {n_ranks} MPI ranks; expected one. Run one process per sample instead.")
    if simulation.state is None:
        raise InputError("the simulation has no state; expected one, e.g. from simulation.create_state_from_snapshot.")
    box = simulation.state.box
    if abs(box.xz) + abs(box.yz) > 1e-7:
        raise InputError(
            f"the box has the tilts xz = {box.xz:g} and yz = {box.yz:g}; expected shear in the plane xy only. For another "
            "plane exchange the axes of the sample in a snapshot before it is strained."
        )
    usable = Box.from_gsd([box.Lx, box.Ly, box.Lz, box.xy, box.xz, box.yz])
    if not usable.has_one_edge:
        raise InputError(
            f"the box has the edges {usable.edges_in_words}; expected a three-dimensional cube under xy shear, or a square in two "
            "dimensions. Other edges are sheared without HOOMD-blue only, so far (docs/hoomd.md)."
        )
    return usable


def usable_fall(forces: Sequence[Any], law: PairPotential | None, after_event: AfterEvent | None) -> AfterEvent:
    """How the sample falls from an instability, given its forces and their law."""
    check_after_event(after_event)
    if after_event == "descent" and law is None:
        raise InputError(
            f"after_event = 'descent' with forces = {list(forces)!r}; expected forces whose law "
            "qlm_hoomd.forces.potential_of knows, and with it the overdamped path. Use after_event='fire'."
        )
    return after_event or ("fire" if law is None or law.jumps_at_cutoff(1) else "descent")


def law_of(forces: Sequence[Any], types: Sequence[str]) -> PairPotential | None:
    """The law behind the forces, which gives a Hessian and an overdamped path; None where it is not known."""
    return None if any(map(why_unknown, forces)) else potential_of(*forces, types=types)


def usable_terms(simulation: hoomd.Simulation, forces: Sequence[Any]) -> list[Any]:
    """The HOOMD forces behind ``forces``, none of which is in use."""
    mass_n = np.asarray(simulation.state.get_snapshot().particles.mass)
    if not (mass_n == 1.0).all():
        raise InputError(
            f"particle masses from {mass_n.min():g} to {mass_n.max():g}; expected 1 for all, as FIRE weighs forces with them. "
            "Statics do not depend on masses: set them to 1 in a snapshot."
        )
    if not any(getattr(force, "nlist", None) is not None for force in forces):
        raise InputError(
            f"forces = {list(forces)!r}; expected at least one pair force, e.g. [qlm_hoomd.pair.InversePowerLaw(...)]."
        )
    integrator = simulation.operations.integrator
    check_room(simulation, forces)
    terms = [term for force in forces for term in (force.terms if isinstance(force, InversePowerLaw) else [force])]
    # HOOMD has no public word for it.
    if (integrator is not None and len(integrator.forces)) or any(force._attached for force in (*forces, *terms)):  # noqa: SLF001
        raise InputError(
            "the forces belong to an integrator, or the simulation's integrator holds others; expected free forces and a free "
            "simulation. Take them out first: simulation.operations.integrator.forces.clear()."
        )
    return terms
