"""Athermal quasi-static shear under Lees-Edwards boundaries, on every engine of qlm_hoomd."""

from qlm_quasistatic.detector import Detector, Instability
from qlm_quasistatic.events import Fold
from qlm_quasistatic.stepper import ShearState, ShearStep, Stepper

__all__ = ["Detector", "Fold", "Instability", "ShearState", "ShearStep", "Stepper"]
__version__ = "0.1.0"
