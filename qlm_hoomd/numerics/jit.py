"""How loops are compiled, and the types of their arrays."""

from __future__ import annotations

from typing import Any, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int32]
Bytes: TypeAlias = NDArray[np.uint8]

# Reassociation lets sums vectorise. NaN and infinity keep their meaning, so that a blown-up state is seen.
FAST = {"contract", "reassoc", "nsz", "arcp"}
# Unsigned indices in the loops over pairs: a signed one is asked each time whether it counts from the end.
index: Any = np.uint64


def compiled(function: Any) -> Any:
    """Decorator: compile ``function`` with numba, cached on disk; sums may be reassociated, division by zero gives infinity."""
    return numba.njit(cache=True, fastmath=FAST, error_model="numpy")(function)


def machine_code(function: Any, *arguments: Any) -> Any:
    """What a compiled function is for arguments of the types of these.

    To be called with such arguments and no others. To find it out anew at each call takes half a millisecond where there are
    tuples among them.
    """
    typeof: Any = numba.typeof  # has no types where numba has some
    return function.compile(tuple(typeof(argument) for argument in arguments))
