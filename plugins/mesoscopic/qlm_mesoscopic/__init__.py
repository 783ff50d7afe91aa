"""The mesoscopic model of interacting quasi-localised modes (Ji et al., PRE 99, 023003).

* :mod:`~qlm_mesoscopic.block`: one block in closed form; :mod:`~qlm_mesoscopic.noise`: the kicks of a failure;
* :mod:`~qlm_mesoscopic.kinds`, :mod:`~qlm_mesoscopic.meanfield`: N blocks without space; :mod:`~qlm_mesoscopic.lattice`: blocks
  coupled by the elastic propagator;
* :mod:`~qlm_mesoscopic.observables`: densities, avalanches and exponents of samples; :mod:`~qlm_mesoscopic.witness`: modes
  softer than any that a count reaches; :mod:`~qlm_mesoscopic.master`, :mod:`~qlm_mesoscopic.modes`,
  :mod:`~qlm_mesoscopic.theory`: what they should be;
* :mod:`~qlm_mesoscopic.thermal`: the other well of a mode, and activated hops into it;
* :mod:`~qlm_mesoscopic.plots`: all of it in pictures.
"""

from qlm_mesoscopic.block import Replacement, UniformInvariants
from qlm_mesoscopic.errors import ModelError, NotEnoughDataError, RunawayAvalanche
from qlm_mesoscopic.kinds import ModeBlocks, ModeSnapshot, ThresholdBlocks
from qlm_mesoscopic.meanfield import MeanField, Run

__all__ = [
    "MeanField",
    "ModeBlocks",
    "ModeSnapshot",
    "ModelError",
    "NotEnoughDataError",
    "Replacement",
    "Run",
    "RunawayAvalanche",
    "ThresholdBlocks",
    "UniformInvariants",
]
__version__ = "0.1.0"
WITHOUT_NUMBERS = ("brief.py", "plots.py", "section.py")
"""Files that make none of the stage's numbers: a change of theirs begins nothing anew (qlm_hoomd.base.provenance)."""
