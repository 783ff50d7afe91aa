"""Laws of pair forces as compiled functions of one number, so that the loops over pairs can hold them.

A scaled law is phi(r) = e f(w) for w = r^2 / l^2 < w_c, else 0: one function f for all pairs of types, which differ in their
length l and their energy e alone; or for all pairs of particles, whose length is made of the sizes of the two. Functions are
written once, in plain Python, and work on a number and on eight.
"""

# Array names carry their axes: t pairs of types, n particles, p pairs, e particles in cell order and then images.

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
from numba import types
from numba.extending import NativeValue, models, overload, register_model, typeof_impl, unbox
from numpy.typing import NDArray

from qlm_hoomd.numerics.jit import FAST

Law: TypeAlias = Callable[..., Any]


class Function:
    """A law of force, or of mixing, as an argument of compiled functions.

    Args:
        law: takes w and constants, returns f and df/dw, or takes two sizes and constants, returns a length; a function of a
            module, of arithmetic, ``abs``, ``np.sqrt`` and :func:`~qlm_hoomd.numerics.simd.where`.
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


class Mixing(NamedTuple):
    """How the sizes of two particles make the length of their pair.

    Args:
        function: the length from two sizes, in any order. No pair is longer than the larger of its two with its like, and
            particles of one size have longer pairs the larger they are.
        constants: what the function takes beside the sizes.
    """

    function: Function
    constants: tuple[float, ...]


def mixed(function: Any, a: Any, b: Any, constants: tuple[float, ...]) -> Any:
    """The length of pairs of particles of sizes ``a`` and ``b``; numbers, eight of them, or arrays."""
    return function.law(a, b, constants)


@overload(mixed, strict=False)
def _overload_mixed(function: Any, a: Any, b: Any, constants: Any) -> Any:
    del a, b, constants
    if not isinstance(function, _FunctionType):
        return None
    law = numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)(function.law)
    return lambda function, a, b, constants: law(a, b, constants)  # noqa: ARG005  # numba wants the arguments' names


class OwnReach(NamedTuple):
    """How far each pair of particles reaches whose sizes make its length.

    Args:
        size_e: sizes of the particles in cell order, and of the images.
        mixing: how two sizes make a length.
        cutoff: how far a pair interacts, in units of its length.
        skin: how far beyond that it is listed [length].
    """

    size_e: NDArray[np.float64]
    mixing: Mixing
    cutoff: float
    skin: float


@dataclass(frozen=True, eq=False)
class Sizes:
    """Particles of sizes of their own.

    Args:
        size_n: ((N,) ndarray) their sizes [length].
        mixing: how two sizes make a length.
    """

    size_n: NDArray[np.float64]
    mixing: Mixing

    def inverse_length2(self, i_p: NDArray[Any], j_p: NDArray[Any]) -> NDArray[np.float64]:
        """((P,) ndarray) 1 / l^2 of the pairs of these particles [1 / length^2]."""
        length_p: NDArray[np.float64] = mixed(self.mixing.function, self.size_n[i_p], self.size_n[j_p], self.mixing.constants)
        return 1.0 / (length_p * length_p)

    @property
    def longest(self) -> float:
        """No pair is longer [length]."""
        largest = float(self.size_n.max(initial=0.0))
        return float(mixed(self.mixing.function, largest, largest, self.mixing.constants))


@dataclass(frozen=True, eq=False)
class ScaledLaw:
    """A potential whose pairs, of types or of particles, differ in a length and an energy.

    Args:
        function: f and df/dw.
        constants: what the function takes beside w.
        inverse_length2: ((T * T,) ndarray) 1 / l^2 of each pair of types [1 / length^2]; not used where particles have sizes.
        energy: ((T * T,) ndarray) e of each pair of types [energy]; None where the function has it.
        cutoff2: w_c.
    """

    function: Function
    constants: tuple[float, ...]
    inverse_length2: NDArray[np.float64]
    energy: NDArray[np.float64] | None
    cutoff2: float
