"""Small matrix products with rows, and the turning of 16 x 16 blocks, held in registers."""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fusec.kernels.codegen.vectors import F32, MASK16, call_llvm

__all__ = ["PANEL", "bytes_first", "rows_times", "turn_block"]

PANEL = 48
"""Columns of a product that are computed together."""
_CHUNK = 256
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _mask(builder: Any, n: Any) -> Any:
    """Give the mask of the first n lanes."""
    lanes = ir.Constant(ir.VectorType(_I32, 16), list(range(16)))
    return builder.icmp_signed("<", lanes, _repeat(builder, builder.trunc(n, _I32)))


def _repeat(builder: Any, value: Any) -> Any:
    vector = ir.VectorType(value.type, 16)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, 16), [0] * 16)
    return builder.shuffle_vector(first, undefined, zeros)


def _load(builder: Any, address: Any, mask: Any) -> Any:
    pointer = _at(builder, address, F32.llvm)
    zeros = ir.Constant(F32.llvm, [0.0] * 16)
    operands = [pointer, ir.Constant(_I32, 4), mask, zeros]
    return call_llvm(builder, "llvm.masked.load.v16f32.p0", F32.llvm, operands)


def _store(builder: Any, address: Any, value: Any, mask: Any) -> None:
    pointer = _at(builder, address, F32.llvm)
    operands = [value, pointer, ir.Constant(_I32, 4), mask]
    call_llvm(builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), operands)


def _write(
    builder: Any, out: Any, out_row: Any, totals: Any, masks: list[Any], *, add: bool
) -> None:
    """Store a tile, or add it to what is there."""
    for r, row in enumerate(totals):
        line = builder.add(out, builder.mul(out_row, ir.Constant(_I64, r)))
        for v, total in enumerate(row):
            place = builder.add(line, ir.Constant(_I64, 64 * v))
            value = builder.fadd(_load(builder, place, masks[v]), total) if add else total
            _store(builder, place, value, masks[v])


def _tile(rows: int, vectors: int) -> Any:
    """Make the product of `rows` rows with 16 * `vectors` columns, the last vector masked."""

    @intrinsic
    def tile(
        typingctx: Any, a: Any, a_row: Any, b: Any, b_step: Any, depth: Any, out: Any,
        out_row: Any, last: Any, keep: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            a, a_row, b, b_step, depth, out, out_row, last, keep = args
            mask = _mask(builder, last)
            everywhere = ir.Constant(MASK16.llvm, [1] * 16)
            masks = [everywhere] * (vectors - 1) + [mask]
            zero = ir.Constant(F32.llvm, [0.0] * 16)
            sums = [
                [cgutils.alloca_once_value(builder, zero) for _ in range(vectors)]
                for _ in range(rows)
            ]
            starts = [builder.add(a, builder.mul(a_row, ir.Constant(_I64, r))) for r in range(rows)]
            for row in sums:
                for one in row:
                    builder.store(zero, one)
            with cgutils.for_range(builder, depth, intp=_I64) as loop:
                line = builder.add(b, builder.mul(b_step, loop.index))
                columns = [
                    _load(builder, builder.add(line, ir.Constant(_I64, 64 * v)), masks[v])
                    for v in range(vectors)
                ]
                step = builder.mul(loop.index, ir.Constant(_I64, 4))
                for r in range(rows):
                    element = _at(builder, builder.add(starts[r], step), ir.FloatType())
                    factor = _repeat(builder, builder.load(element, align=4))
                    for v in range(vectors):
                        operands = [factor, columns[v], builder.load(sums[r][v])]
                        total = call_llvm(builder, "llvm.fma.v16f32", F32.llvm, operands)
                        builder.store(total, sums[r][v])
            totals = [[builder.load(one) for one in row] for row in sums]
            later = builder.icmp_signed("!=", keep, ir.Constant(_I64, 0))
            with builder.if_else(later) as (then, otherwise):
                for add, branch in ((True, then), (False, otherwise)):
                    with branch:
                        _write(builder, out, out_row, totals, masks, add=add)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), code

    return tile


_8x3, _8x2, _8x1 = (_tile(8, v) for v in (3, 2, 1))
_4x3, _4x2, _4x1 = (_tile(4, v) for v in (3, 2, 1))
_1x3, _1x2, _1x1 = (_tile(1, v) for v in (3, 2, 1))


def _by_rows(tile8: Any, tile4: Any, tile1: Any) -> Any:
    @numba.njit(error_model="numpy")
    def columns(a, a_row, rows, b, b_step, depth, out, out_row, last, keep):  # type: ignore[no-untyped-def]
        r = np.int64(0)
        if rows == 8:
            tile8(a, a_row, b, b_step, depth, out, out_row, last, keep)
            r = np.int64(8)
        if rows - r >= 4:
            tile4(a, a_row, b, b_step, depth, out, out_row, last, keep)
            r += 4
        while r < rows:
            tile1(a + r * a_row, a_row, b, b_step, depth, out + r * out_row, out_row, last, keep)
            r += 1

    return columns


_three = _by_rows(_8x3, _4x3, _1x3)
_two = _by_rows(_8x2, _4x2, _1x2)
_one = _by_rows(_8x1, _4x1, _1x1)


@numba.njit(error_model="numpy")
def rows_times(a, a_row, rows, b, b_step, b_panels, depth, n, out, out_row):  # type: ignore[no-untyped-def]
    """Write a @ b: at most 8 rows of `depth` contiguous floats times `depth` rows of n.

    Where `b_panels` is not 0, b lies in panels of `PANEL` columns, the last one as wide as its
    vectors, one after another, each with its rows without a gap; `b_step` is not looked at.
    """
    k = np.int64(0)
    while k < depth or k == 0:
        take = min(depth - k, _CHUNK)
        col = np.int64(0)
        while col < n:
            width = min(((n - col + 15) // 16) * 16, PANEL)
            last = min(n - col - (width - 16), 16)
            step = b_step
            start = b + k * b_step + 4 * col
            if b_panels != 0:
                step = 4 * width
                start = b + 4 * col * depth + k * step
            p = a + 4 * k
            q = out + 4 * col
            if width == 48:
                _three(p, a_row, rows, start, step, take, q, out_row, last, k)
            elif width == 32:
                _two(p, a_row, rows, start, step, take, q, out_row, last, k)
            else:
                _one(p, a_row, rows, start, step, take, q, out_row, last, k)
            col += width
        k += _CHUNK


@intrinsic
def turn_block(
    typingctx: Any, source: Any, row_step: Any, rows: Any, columns: Any, out: Any, out_step: Any
) -> Any:
    """Write a block's columns as rows of 16: `rows` x `columns` of 16 x 16, zeros elsewhere."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, row_step, rows, columns, out, out_step = args
        mask = _mask(builder, columns)
        nothing = ir.Constant(MASK16.llvm, [0] * 16)
        lines = []
        for r in range(16):
            there = builder.icmp_signed("<", ir.Constant(_I64, r), rows)
            address = builder.add(source, builder.mul(row_step, ir.Constant(_I64, r)))
            lines.append(_load(builder, address, builder.select(there, mask, nothing)))
        for step in (8, 4, 2, 1):
            lines = _exchanged(builder, lines, step)
        everywhere = ir.Constant(MASK16.llvm, [1] * 16)
        for r in range(16):
            address = builder.add(out, builder.mul(out_step, ir.Constant(_I64, r)))
            _store(builder, address, lines[r], everywhere)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), code


def _exchanged(builder: Any, lines: list[Any], step: int) -> list[Any]:
    """Exchange the two off-diagonal halves of each pair of lines that are `step` apart."""
    result = list(lines)
    low = [i if not i & step else 16 + i - step for i in range(16)]
    high = [i + step if not i & step else 16 + i for i in range(16)]
    orders = [ir.Constant(ir.VectorType(_I32, 16), order) for order in (low, high)]
    for i in range(16):
        if not i & step:
            a, b = lines[i], lines[i + step]
            result[i] = builder.shuffle_vector(a, b, orders[0])
            result[i + step] = builder.shuffle_vector(a, b, orders[1])
    return result


@intrinsic
def bytes_first(typingctx: Any, address: Any, n: Any) -> Any:
    """Tell which of the first n of 16 bytes are not zero; memory beyond them is not touched."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(_I8, 16)
        zeros = ir.Constant(kind, [0] * 16)
        pointer = _at(builder, args[0], kind)
        operands = [pointer, ir.Constant(_I32, 1), _mask(builder, args[1]), zeros]
        found = call_llvm(builder, "llvm.masked.load.v16i8.p0", kind, operands)
        return builder.icmp_signed("!=", found, zeros)

    return MASK16(types.int64, types.int64), code
