"""Moving pieces of memory: runs, repeated elements, blocks that are turned over.

Elements are integers of 8 to 64 bits: what they mean does not matter.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["mover"]

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_LANES = 16


def _pointer(builder: Any, address: Any, kind: ir.Type) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _number(value: int) -> Any:
    return ir.Constant(_I64, value)


def _line(
    builder: Any, element: ir.Type, n: Any, to: Any, to_step: Any, of: Any, of_step: Any
) -> None:
    """Move n elements one after another."""
    with cgutils.for_range(builder, n, intp=_I64) as loop:
        source = builder.add(of, builder.mul(loop.index, of_step))
        target = builder.add(to, builder.mul(loop.index, to_step))
        value = builder.load(_pointer(builder, source, element), align=1)
        builder.store(value, _pointer(builder, target, element), align=1)


def _run(builder: Any, element: ir.Type, n: Any, to: Any, of: Any, repeat: Any) -> None:
    """Move n elements between places without gaps; `repeat` takes one element again and again."""
    size = element.width // 8
    vector = ir.VectorType(element, 64 // size)
    lanes = 64 // size
    whole = builder.and_(n, _number(-lanes))
    first = builder.load(_pointer(builder, of, element), align=1)
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, first, ir.Constant(_I32, 0))
    order = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    spread = builder.shuffle_vector(one, undefined, order)
    count = builder.sdiv(n, _number(lanes))
    with builder.if_else(repeat) as (again, along):
        with again, cgutils.for_range(builder, count, intp=_I64) as loop:
            at = builder.mul(loop.index, _number(64))
            builder.store(spread, _pointer(builder, builder.add(to, at), vector), align=1)
        with along, cgutils.for_range(builder, count, intp=_I64) as loop:
            at = builder.mul(loop.index, _number(64))
            value = builder.load(_pointer(builder, builder.add(of, at), vector), align=1)
            builder.store(value, _pointer(builder, builder.add(to, at), vector), align=1)
    rest = builder.sub(n, whole)
    step = builder.select(repeat, _number(0), _number(size))
    target = builder.add(to, builder.mul(whole, _number(size)))
    source = builder.add(of, builder.mul(whole, step))
    _line(builder, element, rest, target, _number(size), source, step)


def _block(builder: Any, element: ir.Type, to: Any, to_row: Any, of: Any, of_column: Any) -> None:
    """Turn 16 columns of 16 elements each into 16 rows."""
    vector = ir.VectorType(element, _LANES)
    lines = []
    for i in range(_LANES):
        address = builder.add(of, builder.mul(of_column, _number(i)))
        lines.append(builder.load(_pointer(builder, address, vector), align=1))
    low = [i // 2 + (i % 2) * _LANES for i in range(_LANES)]
    high = [n + _LANES // 2 for n in low]
    kind = ir.VectorType(_I32, _LANES)
    # Four times: line i and line i + 8 are shuffled together like cards.
    for _ in range(4):
        mixed = []
        for i in range(_LANES // 2):
            pair = lines[i], lines[i + _LANES // 2]
            mixed.append(builder.shuffle_vector(*pair, ir.Constant(kind, low)))
            mixed.append(builder.shuffle_vector(*pair, ir.Constant(kind, high)))
        lines = mixed
    for i, line in enumerate(lines):
        address = builder.add(to, builder.mul(to_row, _number(i)))
        builder.store(line, _pointer(builder, address, vector), align=1)


def _turned(builder: Any, element: ir.Type, args: Any) -> None:
    """Move rows that are contiguous in the target and columns that are so in the source."""
    size = _number(element.width // 8)
    rows, columns, to, to_row, of, of_column = args
    wide, high = (builder.and_(n, _number(-_LANES)) for n in (columns, rows))
    with cgutils.for_range(builder, builder.ashr(high, _number(4)), intp=_I64) as i:
        row = builder.mul(i.index, _number(_LANES))
        with cgutils.for_range(builder, builder.ashr(wide, _number(4)), intp=_I64) as j:
            column = builder.mul(j.index, _number(_LANES))
            target = builder.add(to, builder.mul(row, to_row))
            source = builder.add(of, builder.mul(row, size))
            target = builder.add(target, builder.mul(column, size))
            source = builder.add(source, builder.mul(column, of_column))
            _block(builder, element, target, to_row, source, of_column)
    # What is left: columns at the right, then rows at the bottom.
    right = builder.sub(columns, wide)
    with cgutils.for_range(builder, high, intp=_I64) as i:
        target = builder.add(to, builder.mul(i.index, to_row))
        target = builder.add(target, builder.mul(wide, size))
        source = builder.add(of, builder.mul(i.index, size))
        source = builder.add(source, builder.mul(wide, of_column))
        _line(builder, element, right, target, size, source, of_column)
    with cgutils.for_range(builder, builder.sub(rows, high), intp=_I64) as i:
        row = builder.add(high, i.index)
        target = builder.add(to, builder.mul(row, to_row))
        source = builder.add(of, builder.mul(row, size))
        _line(builder, element, columns, target, size, source, of_column)


def mover(bits: int) -> Any:
    """Make an intrinsic that moves a rectangle of elements of so many bits.

    The intrinsic takes rows, columns, target, its row and column step, source, its row and column
    step; addresses and steps in bytes, rows and columns above 0.
    """
    element = ir.IntType(bits)

    @intrinsic
    def move(
        typingctx: Any, rows: Any, columns: Any, to: Any, to_row: Any, to_column: Any, of: Any,
        of_row: Any, of_column: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, columns, to, to_row, to_column, of, of_row, of_column = args
            size = _number(bits // 8)
            is_ = lambda a, b: builder.icmp_signed("==", a, b)  # noqa: E731
            packed = is_(to_column, size)
            repeat = is_(of_column, _number(0))
            run = builder.and_(packed, builder.or_(is_(of_column, size), repeat))
            turned = builder.and_(packed, is_(of_row, size))
            if bits == 128:  # blocks would not fit the registers
                turned = ir.Constant(ir.IntType(1), 0)
            with builder.if_else(run) as (as_runs, other):
                with as_runs, cgutils.for_range(builder, rows, intp=_I64) as loop:
                    target = builder.add(to, builder.mul(loop.index, to_row))
                    source = builder.add(of, builder.mul(loop.index, of_row))
                    _run(builder, element, columns, target, source, repeat)
                with other, builder.if_else(turned) as (as_blocks, one_by_one):
                    with as_blocks:
                        given = (rows, columns, to, to_row, of, of_column)
                        if bits < 128:
                            _turned(builder, element, given)
                    with one_by_one, cgutils.for_range(builder, rows, intp=_I64) as loop:
                        target = builder.add(to, builder.mul(loop.index, to_row))
                        source = builder.add(of, builder.mul(loop.index, of_row))
                        _line(builder, element, columns, target, to_column, source, of_column)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), code

    return move
