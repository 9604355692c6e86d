"""The microkernels of convolution: a few pixels times one panel of channels, sums in registers.

    tile_rows(columns, rows, sources, segments, n, a_step, b, b_step, targets, add, bias, act)

        i = 0
        for s in range(n):
            offset, count = segments[s]            # of A in bytes, in steps of k
            for k in range(count):
                a = A[sources[r] + offset + k * a_step]
                acc[r, :] = fma(a, B[b + i * b_step][:], acc[r, :])
                i += 1
        C[targets[r]][:] = act(acc[r, :] + bias[:])     # C is added to acc first if `add` is not 0

    tile_taps(columns, rows, table, segments, n, a_step, b, b_step, targets, add, bias, act)

        the same, but each pixel's taps lie where a table says, and rows of B may be left out:
            offset, count = segments[s]            # of B in bytes, in steps of k
                a = A[table[s][r] + k * a_step]
                acc[r, :] = fma(a, B[b + offset + k * b_step][:], acc[r, :])

All int64, addresses and steps in bytes. A table row has `ROWS` addresses: a tap outside of the
image points at zeros; rows beyond those wanted read and write where the caller says. There are 1
to 64 columns; their last 1 to 8 are half a vector, so that 24 cost three quarters of 32; no memory
beyond them is read of A or touched of C. `rows` is what `rows_of` gives, or `few_or_most` for the
latter two. `bias` is 0 for none; `act` is 1 for a ReLU. Every cut gives the same bits.
"""

from collections.abc import Sequence
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fusec.kernels.conv.tile import FEW_STEPS, STEPS, Case, number, switch

__all__ = [
    "CHUNK",
    "ROWS",
    "few_or_most",
    "most_of",
    "rows_of",
    "tile_rows",
    "tile_taps",
]

CHUNK = 256
"""Steps of k in one chain."""

ROWS = 8
"""Addresses in a table row."""

_I64 = ir.IntType(64)


def _emit_rows(case: Case, args: Sequence[Any], done: Any) -> None:
    sources, segments, n, a_step, b, b_step, targets, add, bias, act = args
    builder = case.builder
    last = builder.add(segments, builder.shl(n, number(4)))
    a = case.addresses(sources)

    def segment(state: Any) -> list[Any]:
        at, line, *acc = state
        offset = case.load(_I64, at)
        count = case.load(_I64, builder.add(at, number(8)))
        stop = builder.add(offset, builder.mul(count, a_step))

        def step(inner: Any) -> list[Any]:
            k, b_at, *sums = inner
            values = case.elements([builder.add(address, k) for address in a])
            after = case.step(values, case.lines(b_at), sums)
            return [builder.add(k, a_step), builder.add(b_at, b_step), *after]

        _, line, *acc = case.loop(
            [offset, line, *acc], step, lambda s: builder.icmp_signed("!=", s[0], stop)
        )
        return [builder.add(at, number(16)), line, *acc]

    _, _, *acc = case.loop(
        [segments, b, *case.zeros()], segment, lambda s: builder.icmp_unsigned("<", s[0], last)
    )
    case.finish(acc, case.addresses(targets), add, bias, act, done)


def _emit_taps(case: Case, args: Sequence[Any], done: Any) -> None:
    table, segments, n, a_step, b, b_step, targets, add, bias, act = args
    builder = case.builder
    last = builder.add(segments, builder.shl(n, number(4)))

    def segment(state: Any) -> list[Any]:
        at, row, *acc = state
        a = case.addresses(row)
        first = builder.add(b, case.load(_I64, at))
        stop = builder.mul(case.load(_I64, builder.add(at, number(8))), a_step)

        def step(inner: Any) -> list[Any]:
            k, b_at, *sums = inner
            values = case.elements([builder.add(address, k) for address in a])
            after = case.step(values, case.lines(b_at), sums)
            return [builder.add(k, a_step), builder.add(b_at, b_step), *after]

        _, _, *acc = case.loop(
            [number(0), first, *acc], step, lambda s: builder.icmp_signed("!=", s[0], stop)
        )
        return [builder.add(at, number(16)), builder.add(row, number(8 * ROWS)), *acc]

    _, _, *acc = case.loop(
        [segments, table, *case.zeros()], segment, lambda s: builder.icmp_unsigned("<", s[0], last)
    )
    case.finish(acc, case.addresses(targets), add, bias, act, done)


@intrinsic
def _rows(
    typingctx: Any, halves: Any, rows: Any, columns: Any, sources: Any, segments: Any, n: Any,
    a_step: Any, b: Any, b_step: Any, targets: Any, add: Any, bias: Any, act: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        switch(builder, args, _emit_rows, STEPS)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 13), code


@intrinsic
def _taps(
    typingctx: Any, halves: Any, rows: Any, columns: Any, table: Any, segments: Any, n: Any,
    a_step: Any, b: Any, b_step: Any, targets: Any, add: Any, bias: Any, act: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        switch(builder, args, _emit_taps, FEW_STEPS)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 13), code


@numba.njit(error_model="numpy")
def most_of(columns: int) -> int:
    """Give the pixels of a tile of so many columns, at most."""
    return 6 if columns > 48 else ROWS


@numba.njit(error_model="numpy")
def rows_of(count: int, columns: int) -> int:
    """Give the rows that there is code for, to compute so many."""
    rows = 1
    while rows < count:
        rows *= 2
    return min(rows, 6 if columns > 48 else ROWS)


@numba.njit(error_model="numpy")
def few_or_most(count: int, columns: int) -> int:
    """Give the rows that the other kernels have code for, to compute so many."""
    if count <= 2:
        return 2
    return 4 if count <= 4 else most_of(columns)


@numba.njit(error_model="numpy")
def tile_rows(
    columns: int, rows: int, sources: int, segments: int, n: int, a_step: int, b: int,
    b_step: int, targets: int, add: int, bias: int, act: int,
) -> None:  # fmt: skip
    """Compute a tile whose pixels use the same taps; see the top of this file."""
    _rows((columns + 7) // 8, rows, columns, sources, segments, n, a_step, b, b_step, targets,
          add, bias, act)  # fmt: skip


@numba.njit(error_model="numpy")
def tile_taps(
    columns: int, rows: int, table: int, segments: int, n: int, a_step: int, b: int, b_step: int,
    targets: int, add: int, bias: int, act: int,
) -> None:  # fmt: skip
    """Compute a tile whose taps lie where a table says; see the top of this file."""
    _taps((columns + 7) // 8, rows, columns, table, segments, n, a_step, b, b_step, targets, add,
          bias, act)  # fmt: skip
