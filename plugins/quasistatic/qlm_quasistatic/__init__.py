"""Athermal quasi-static shear under Lees-Edwards boundaries, on every engine of qlm_hoomd."""

from qlm_quasistatic.detector import Detector, Instability
from qlm_quasistatic.events import Fold
from qlm_quasistatic.stepper import ShearState, ShearStep, Stepper

__all__ = ["Detector", "Fold", "Instability", "ShearState", "ShearStep", "Stepper"]
__version__ = "0.1.0"
WITHOUT_NUMBERS = ("hoomd.py",)
"""Files that make none of the stage's numbers: a change of theirs begins nothing anew (qlm_hoomd.base.provenance)."""
