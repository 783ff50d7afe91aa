"""Eight doubles at a time in compiled code: a vector type for numba, with its arithmetic, comparisons and transposed loads.

Numba leaves it to LLVM to find loops that vectorise, and LLVM does not see through a gather over a list of neighbours. Here the
vector is a type: ``+``, ``-``, ``*``, ``/``, ``<``, ``==``, ``abs`` and ``np.sqrt`` work on eight doubles as on one, so that one
law of force serves both. On a machine with narrower registers LLVM splits each vector.

Particles lie in memory as rows of four doubles, x, y, z and a fourth number: one cache line holds all of a particle, and a
transposed load of eight rows costs less than gathers of their coordinates.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types as numba_types
from numba.core import cgutils as numba_cgutils
from numba.extending import intrinsic, models, overload, register_model

# Numba says nothing about its types.
types: Any = numba_types
cgutils: Any = numba_cgutils

# Doubles in a vector, and the vectors of modes that go through one pass over the pairs: one register of AVX-512, two of AVX2.
LANES = 8
ROW = 4
# Products and sums may be fused; nothing else about the arithmetic is loosened.
_FLAGS = ("contract",)

_double, _bit, _word = ir.DoubleType(), ir.IntType(1), ir.IntType(64)
_int32, _int8 = ir.IntType(32), ir.IntType(8)
vector_type, _row = ir.VectorType(_double, LANES), ir.VectorType(_double, ROW)
_numbers = ir.VectorType(_int32, LANES)


def _instruction(function: Any) -> Any:
    """Decorator: what compiled code calls by the arguments after the first."""
    return intrinsic(function)


class _LanesType(numba_types.Type):
    def __init__(self) -> None:
        super().__init__(name="float64x8")


class _MaskType(numba_types.Type):
    def __init__(self) -> None:
        super().__init__(name="boolx8")


lanes_type, mask_type = _LanesType(), _MaskType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, vector_type)  # type: ignore[no-untyped-call]  # numba's


@register_model(_MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(_bit, LANES))  # type: ignore[no-untyped-call]  # numba's


def _mask(*places: int) -> Any:
    return ir.Constant(ir.VectorType(_int32, len(places)), list(places))


# Lanes of two vectors in turn, the even ones and the odd ones: one instruction.
_EVEN, _ODD = _mask(0, 8, 2, 10, 4, 12, 6, 14), _mask(1, 9, 3, 11, 5, 13, 7, 15)


def broadcast(builder: Any, number: Any) -> Any:
    """A vector with ``number`` in each lane, for code that builds its own instructions."""
    first = builder.insert_element(ir.Constant(vector_type, ir.Undefined), number, _int32(0))
    return builder.shuffle_vector(first, first, _mask(*[0] * LANES))


def _data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.make_array(kind)(context, builder, value).data


def _at(builder: Any, data: Any, index: Any, kind: Any) -> Any:
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


@_instruction
def splat(_context: Any, number: Any) -> Any:
    """The same double in every lane."""

    def codegen(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return broadcast(builder, args[0])

    return (lanes_type(types.float64), codegen) if isinstance(number, types.Float) else None


def _binary(instruction: str) -> Any:
    @_instruction
    def apply(_context: Any, a: Any, b: Any) -> Any:
        def codegen(_: Any, builder: Any, __: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args, flags=_FLAGS)

        return lanes_type(a, b), codegen

    return apply


def _comparison(sign: str) -> Any:
    @_instruction
    def apply(_context: Any, a: Any, b: Any) -> Any:
        def codegen(_: Any, builder: Any, __: Any, args: Any) -> Any:
            return builder.fcmp_ordered(sign, *args)

        return mask_type(a, b), codegen

    return apply


def _overload_operator(symbol: Any, apply: Any) -> None:
    @overload(symbol, strict=False)
    def choose(a: Any, b: Any) -> Any:
        if isinstance(a, _LanesType) and isinstance(b, _LanesType):
            return lambda a, b: apply(a, b)
        if isinstance(a, _LanesType) and isinstance(b, types.Float):
            return lambda a, b: apply(a, splat(b))
        if isinstance(a, types.Float) and isinstance(b, _LanesType):
            return lambda a, b: apply(splat(a), b)
        return None


for _symbol, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _overload_operator(_symbol, _binary(_name))
for _symbol, _sign in ((operator.lt, "<"), (operator.gt, ">"), (operator.eq, "==")):
    _overload_operator(_symbol, _comparison(_sign))


@_instruction
def _sqrt(_context: Any, a: Any) -> Any:
    def codegen(_: Any, builder: Any, __: Any, args: Any) -> Any:
        root = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector_type, [vector_type]), f"llvm.sqrt.v{LANES}f64"
        )
        return builder.call(root, args)

    return lanes_type(a), codegen


@overload(np.sqrt, strict=False)
def _overload_sqrt(a: Any) -> Any:
    return (lambda a: _sqrt(a)) if isinstance(a, _LanesType) else None


def where(condition: Any, a: Any, b: Any) -> Any:
    """In each lane ``a`` where the condition holds, else ``b``; of numbers as of lanes."""
    return a if condition else b


@_instruction
def _select(_context: Any, condition: Any, a: Any, b: Any) -> Any:
    def codegen(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.select(*args)

    return lanes_type(condition, a, b), codegen


@overload(where, strict=False)
def _overload_where(condition: Any, a: Any, b: Any) -> Any:
    if not isinstance(condition, _MaskType):
        return lambda condition, a, b: a if condition else b
    if isinstance(a, types.Float):
        return lambda condition, a, b: _select(condition, splat(a), b)
    if isinstance(b, types.Float):
        return lambda condition, a, b: _select(condition, a, splat(b))
    return lambda condition, a, b: _select(condition, a, b)


@_instruction
def beyond(_context: Any, a: Any, limit: Any) -> Any:
    """a - limit where that is positive, else zero: how far a lies beyond the limit."""

    def codegen(_: Any, builder: Any, __: Any, args: Any) -> Any:
        rest, zero = builder.fsub(*args, flags=_FLAGS), ir.Constant(vector_type, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", rest, zero), rest, zero)

    return lanes_type(a, limit), codegen


@_instruction
def magnitude(_context: Any, a: Any) -> Any:
    """Absolute values."""

    def codegen(_: Any, builder: Any, __: Any, args: Any) -> Any:
        name = f"llvm.fabs.v{LANES}f64"
        return builder.call(
            cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector_type, [vector_type]), name), args
        )

    return lanes_type(a), codegen


@overload(abs, strict=False)
def _overload_abs(a: Any) -> Any:
    return (lambda a: magnitude(a)) if isinstance(a, _LanesType) else None


def _reduction(instruction: str) -> Any:
    def codegen(_: Any, builder: Any, __: Any, args: Any) -> Any:
        value, width = args[0], LANES
        # Always the same tree: the same bytes every time.
        while width > 1:
            width //= 2
            low = builder.shuffle_vector(value, value, _mask(*range(width)))
            high = builder.shuffle_vector(value, value, _mask(*range(width, 2 * width)))
            value = getattr(builder, instruction)(low, high)
        return builder.extract_element(value, _int32(0))

    return codegen


@_instruction
def total(_context: Any, a: Any) -> Any:
    """Sum of the lanes."""
    return types.float64(a), _reduction("fadd")


@_instruction
def any_beyond(_context: Any, a: Any, limit: Any) -> Any:
    """Whether a lane is not at most ``limit``; one that is not a number is not."""

    def codegen(_: Any, builder: Any, __: Any, args: Any) -> Any:
        beyond = builder.fcmp_unordered(">", args[0], broadcast(builder, args[1]))
        return builder.icmp_unsigned("!=", builder.bitcast(beyond, _int8), _int8(0))

    return types.boolean(a, types.float64), codegen


@_instruction
def load(_context: Any, array: Any, index: Any) -> Any:
    """Eight doubles in a row, from ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_at(builder, _data(context, builder, signature.args[0], args[0]), args[1], vector_type), align=8)

    return lanes_type(array, types.uint64), codegen


@_instruction
def store(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write eight doubles in a row, from ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _at(builder, _data(context, builder, signature.args[0], args[0]), args[1], vector_type), align=8)
        return context.get_dummy_value()

    return types.void(array, types.uint64, value), codegen


def _transposed(builder: Any, row: Any) -> list[Any]:
    """The four columns of eight rows of four."""

    def two(first: int, second: int) -> Any:
        return builder.shuffle_vector(row[first], row[second], _mask(*range(2 * ROW)))

    a, b, c, d = two(0, 2), two(1, 3), two(4, 6), two(5, 7)
    low, high = _mask(0, 1, 4, 5, 8, 9, 12, 13), _mask(2, 3, 6, 7, 10, 11, 14, 15)
    columns = []
    for pick in (_EVEN, _ODD):
        first, second = builder.shuffle_vector(a, b, pick), builder.shuffle_vector(c, d, pick)
        columns.append([builder.shuffle_vector(first, second, half) for half in (low, high)])
    return [columns[0][0], columns[1][0], columns[0][1], columns[1][1]]


@_instruction
def gather_rows(_context: Any, rows: Any, start_l: Any, index: Any) -> Any:
    """Four columns of eight rows that begin where ``start_l``, from ``index`` on, says in doubles."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = _data(context, builder, signature.args[0], args[0])
        starts = _data(context, builder, signature.args[1], args[1])
        row = []
        for lane in range(LANES):
            start = builder.load(builder.gep(starts, [builder.add(args[2], _word(lane))]))
            row.append(builder.load(_at(builder, data, builder.zext(start, _word), _row), align=8))
        return context.make_tuple(builder, signature.return_type, _transposed(builder, row))

    return types.UniTuple(lanes_type, ROW)(rows, start_l, types.uint64), codegen


def _rows_of(builder: Any, column: Any) -> list[Any]:
    """The eight rows of four columns."""
    row: list[Any] = [None] * LANES
    for offset, pick in ((0, _EVEN), (1, _ODD)):
        front, back = (builder.shuffle_vector(column[c], column[c + 1], pick) for c in (0, 2))
        for first in range(0, LANES, 2):
            place = _mask(first, first + 1, LANES + first, LANES + first + 1)
            row[first + offset] = builder.shuffle_vector(front, back, place)
    return row


@_instruction
def scatter_rows(_context: Any, rows: Any, start_l: Any, index: Any, x: Any, y: Any, z: Any, t: Any) -> Any:
    """Write four columns as eight rows that begin where ``start_l``, from ``index`` on, says in doubles."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, starts = (_data(context, builder, kind, value) for kind, value in zip(signature.args[:2], args[:2], strict=True))
        for lane, row in enumerate(_rows_of(builder, args[3:])):
            start = builder.load(builder.gep(starts, [builder.add(args[2], _word(lane))]))
            builder.store(row, _at(builder, data, builder.zext(start, _word), _row), align=8)
        return context.get_dummy_value()

    return types.void(rows, start_l, types.uint64, x, y, z, t), codegen


@_instruction
def sums_of_rows(_context: Any, a: Any) -> Any:
    """In each lane the sum over its row, where eight lanes are two rows of four."""

    def codegen(_: Any, builder: Any, __: Any, args: Any) -> Any:
        value = args[0]
        for turn in (1, 2):
            other = builder.shuffle_vector(value, value, _mask(*[lane ^ turn for lane in range(LANES)]))
            value = builder.fadd(value, other)
        return value

    return lanes_type(a), codegen


# Which lanes a mask names, in order, for each of its 256 values.
_NAMED = [sorted(range(LANES), key=lambda lane: (not mask >> lane & 1, lane)) for mask in range(1 << LANES)]


@_instruction
def bits(_context: Any, condition: Any) -> Any:
    """The mask as a number, the first lane its lowest bit."""

    def codegen(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.zext(builder.bitcast(args[0], _int8), _word)

    return types.uint64(condition), codegen


@_instruction
def append_lanes(_context: Any, out: Any, index: Any, base: Any, mask: Any) -> Any:
    """Write ``base`` + lane for each lane of the mask to ``out``, from ``index`` on; how many.

    Touches eight places of ``out``.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table = cgutils.global_constant(
            builder.module, "lanes_named", ir.Constant(ir.ArrayType(_word, len(_NAMED)), [_packed(row) for row in _NAMED])
        )
        packed = builder.load(builder.gep(table, [_word(0), args[3]]))
        lane = builder.zext(builder.bitcast(packed, ir.VectorType(_int8, LANES)), _numbers)
        first = builder.insert_element(ir.Constant(_numbers, ir.Undefined), args[2], _int32(0))
        value = builder.add(lane, builder.shuffle_vector(first, first, _mask(*[0] * LANES)))
        builder.store(value, _at(builder, _data(context, builder, signature.args[0], args[0]), args[1], _numbers), align=4)
        return builder.ctpop(args[3])

    return types.uint64(out, types.uint64, types.int32, types.uint64), codegen


@_instruction
def transpose_numbers(_context: Any, out: Any, index: Any, source: Any, start_l: Any, offset: Any) -> Any:
    """Write eight numbers from each of eight places of ``source``, ``start_l`` + ``offset``, to ``out``: all the first ones first."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, numbers, starts = (_data(context, builder, signature.args[place], args[place]) for place in (0, 2, 3))
        lines = []
        for lane in range(LANES):
            start = builder.add(builder.load(builder.gep(starts, [_word(lane)])), args[4])
            lines.append(builder.load(_at(builder, numbers, start, _numbers), align=4))
        width = 1
        while width < LANES:
            # Swap the off-diagonal blocks of this width.
            low = _mask(*[lane if not lane & width else LANES + lane - width for lane in range(LANES)])
            high = _mask(*[lane + width if not lane & width else LANES + lane for lane in range(LANES)])
            for lane in range(LANES):
                if not lane & width:
                    a, b = lines[lane], lines[lane + width]
                    lines[lane], lines[lane + width] = builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)
            width *= 2
        for lane, line in enumerate(lines):
            place = builder.add(args[1], _word(LANES * lane))
            builder.store(line, _at(builder, target, place, _numbers), align=4)
        return context.get_dummy_value()

    del offset
    return types.void(out, types.uint64, source, start_l, types.int64), codegen


def _packed(lanes: list[int]) -> int:
    return sum(lane << 8 * place for place, lane in enumerate(lanes))
