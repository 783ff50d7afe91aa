"""Pair potentials and their derivatives with respect to the squared distance.

One object drives forces, Hessians and third and fourth derivatives, so that no parameter is typed twice. Another potential
is one subclass of :class:`PairPotential` registered under the entry point group ``qlm_hoomd.potentials``.
"""

from qlm_hoomd.potentials.base import MAX_ORDER, Matrix, PairPotential
from qlm_hoomd.potentials.contact import Harmonic, Hertzian
from qlm_hoomd.potentials.inverse_power_law import InversePowerLaw
from qlm_hoomd.potentials.lennard_jones import KobAndersen, LennardJones
from qlm_hoomd.potentials.soft_spheres import SoftSpheres

__all__ = [
    "MAX_ORDER",
    "Harmonic",
    "Hertzian",
    "InversePowerLaw",
    "KobAndersen",
    "LennardJones",
    "Matrix",
    "PairPotential",
    "SoftSpheres",
]
