"""Quasi-localised modes and plastic instabilities of computer glasses.

``import qlm_hoomd as qlm`` is all that most scripts need. The names of :data:`__all__` are the public API and load what they
need when they are first used, and so do the modules behind them: ``qlm.statistics``, ``qlm.gsdio`` and so on.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qlm_hoomd.base.version import __version__ as __version__

if TYPE_CHECKING:
    from qlm_hoomd.anharmonic import AnharmonicModes
    from qlm_hoomd.base.errors import InputError, InsufficientStatistics, QlmError
    from qlm_hoomd.box import Box
    from qlm_hoomd.elasticity import elastic_moduli
    from qlm_hoomd.engines.cpu import CPUEngine
    from qlm_hoomd.formats import read_glass, read_glasses
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.gsdio import write_glasses
    from qlm_hoomd.hessian import Hessian
    from qlm_hoomd.model import GlassModel, Preparation
    from qlm_hoomd.modes import LowestModes, ParticipationRatioFilter
    from qlm_hoomd.nonlinear import CubicModes, PseudoHarmonicModes, QuarticModes
    from qlm_hoomd.potentials import Harmonic, Hertzian, InversePowerLaw, KobAndersen, LennardJones, PairPotential
    from qlm_hoomd.preparation import equilibrate, quench, random_start
    from qlm_hoomd.protocol import build_protocol, load_protocol
    from qlm_hoomd.statistics import alpha_from_omega_min, density_of_states, predicted_alpha, theta_from_gamma_min
    from qlm_hoomd.structure import LocalOrder, RadialDistribution, StructureFactor
    from qlm_hoomd.view import ModeView

_HOME = {
    "anharmonic": ("AnharmonicModes",),
    "base.errors": ("InputError", "InsufficientStatistics", "QlmError"),
    "box": ("Box",),
    "elasticity": ("elastic_moduli",),
    "engines.cpu": ("CPUEngine",),
    "formats": ("read_glass", "read_glasses"),
    "glass": ("Glass",),
    "gsdio": ("write_glasses",),
    "hessian": ("Hessian",),
    "model": ("GlassModel", "Preparation"),
    "modes": ("LowestModes", "ParticipationRatioFilter"),
    "nonlinear": ("CubicModes", "PseudoHarmonicModes", "QuarticModes"),
    "potentials": ("Harmonic", "Hertzian", "InversePowerLaw", "KobAndersen", "LennardJones", "PairPotential"),
    "preparation": ("equilibrate", "quench", "random_start"),
    "protocol": ("build_protocol", "load_protocol"),
    "statistics": ("alpha_from_omega_min", "density_of_states", "predicted_alpha", "theta_from_gamma_min"),
    "structure": ("LocalOrder", "RadialDistribution", "StructureFactor"),
    "view": ("ModeView",),
}
_MODULE_OF = {name: f"qlm_hoomd.{module}" for module, names in _HOME.items() for name in names}
_MODULES = ("mechanics", "pair", *(module for module in _HOME if "." not in module))

__all__ = [
    "AnharmonicModes",
    "Box",
    "CPUEngine",
    "CubicModes",
    "Glass",
    "GlassModel",
    "Harmonic",
    "Hertzian",
    "Hessian",
    "InputError",
    "InsufficientStatistics",
    "InversePowerLaw",
    "KobAndersen",
    "LennardJones",
    "LocalOrder",
    "LowestModes",
    "ModeView",
    "PairPotential",
    "ParticipationRatioFilter",
    "Preparation",
    "PseudoHarmonicModes",
    "QlmError",
    "QuarticModes",
    "RadialDistribution",
    "StructureFactor",
    "alpha_from_omega_min",
    "build_protocol",
    "density_of_states",
    "elastic_moduli",
    "equilibrate",
    "load_protocol",
    "predicted_alpha",
    "quench",
    "random_start",
    "read_glass",
    "read_glasses",
    "theta_from_gamma_min",
    "write_glasses",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), name)
    elif name in _MODULES:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({"__version__", *__all__, *_MODULES})
