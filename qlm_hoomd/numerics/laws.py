"""Laws of pair forces as compiled functions of one number, so that the loops over pairs can hold them.

A scaled law is phi(r) = e f(w) for w = r^2 / l^2 < w_c, else 0: one function f for all pairs of types, which differ in their
length l and their energy e alone. The function is written once, in plain Python, and works on a number and on eight.
"""

# Array names carry their axes: t pairs of types.

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numba
import numpy as np
from numba import types
from numba.extending import NativeValue, models, overload, register_model, typeof_impl, unbox
from numpy.typing import NDArray

from qlm_hoomd.numerics.jit import FAST

Law: TypeAlias = Callable[[Any, tuple[float, ...]], tuple[Any, Any]]


class Function:
    """A law of force as an argument of compiled functions.

    Args:
        law: takes w and constants, returns f and df/dw; a function of a module, of arithmetic, ``np.sqrt`` and
            :func:`~qlm_hoomd.numerics.simd.where`.
    """

    def __init__(self, law: Law) -> None:
        code = law.__code__
        # Compiled code is kept on disk: a law that has changed must not find that of the former one.
        digest = hashlib.sha256(code.co_code + repr((code.co_consts, code.co_names)).encode()).hexdigest()[:16]
        self.key = law.__module__, law.__qualname__, digest
        self.law = law


class _FunctionType(types.Opaque):
    def __init__(self, key: tuple[str, str, str], law: Law) -> None:
        super().__init__(name="Law({}.{}, {})".format(*key))
        self.law = law


register_model(_FunctionType)(models.OpaqueModel)


@typeof_impl.register(Function)
def _typeof_function(value: Any, _: Any) -> Any:
    return _FunctionType(value.key, value.law)


def _unboxed(_: Any, __: Any, context: Any) -> Any:
    return NativeValue(context.context.get_dummy_value())  # type: ignore[no-untyped-call]  # numba's


unbox(_FunctionType)(_unboxed)  # type: ignore[no-untyped-call]  # numba's


def evaluate(function: Any, w: Any, constants: tuple[float, ...]) -> tuple[Any, Any]:
    """f(w) and df/dw."""
    return function.law(w, constants)


@overload(evaluate, strict=False)
def _overload_evaluate(function: Any, w: Any, constants: Any) -> Any:
    del w, constants
    if not isinstance(function, _FunctionType):
        return None
    law = numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)(function.law)
    return lambda function, w, constants: law(w, constants)  # noqa: ARG005  # numba wants the arguments' names


@dataclass(frozen=True, eq=False)
class ScaledLaw:
    """A potential whose pairs of types differ in a length and an energy.

    Args:
        function: f and df/dw.
        constants: what the function takes beside w.
        inverse_length2: ((T * T,) ndarray) 1 / l^2 of each pair of types [1 / length^2].
        energy: ((T * T,) ndarray) e of each pair of types [energy]; None where the function has it.
        cutoff2: w_c.
    """

    function: Function
    constants: tuple[float, ...]
    inverse_length2: NDArray[np.float64]
    energy: NDArray[np.float64] | None
    cutoff2: float
