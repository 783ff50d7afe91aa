"""The smoothed inverse power law as a compiled pair force of HOOMD-blue, on the CPU and, where HOOMD has a GPU build, on the GPU.

Importing it raises :class:`IncompatibleHOOMDError`, an ImportError, where the running HOOMD is not the one it was compiled for.
"""

from qlm_hoomd_ipl.build import BUILD, IncompatibleHOOMDError, mismatch

if (reason := mismatch()) is not None:
    raise IncompatibleHOOMDError(reason)

# The compiled code is loaded only if it fits.
from qlm_hoomd_ipl.pair import InversePowerLaw, coefficients

__all__ = ["BUILD", "IncompatibleHOOMDError", "InversePowerLaw", "coefficients", "mismatch"]
