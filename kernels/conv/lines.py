"""The microkernels of depthwise convolution: some pixels times some channels, sums in registers.

    tile_depthwise(columns, rows, table, n, shift, b, b_step, targets, bias, act)

        for s in range(n):
            acc[r, :] = fma(A[table[s][r] + shift][:], B[b + s * b_step][:], acc[r, :])
        C[targets[r] + shift][:] = act(acc[r, :] + bias[:])

    with taps of any pixels, 1 to 64 columns, tables as those of `micro.tile_taps`;

    tile_line(kernel, stride, channels, table, n, shift, b, b_step, target, step, bias, act)

        for s in range(n):                                     # rows of taps
            address, x_step = table[s]                         # of the first pixel's first tap
            for j in range(kernel):
                acc[r, :] = fma(A[address + shift + (r * stride + j) * x_step][:],
                                B[b + (s * kernel + j) * b_step][:], acc[r, :])
        C[target + shift + r * step][:] = act(acc[r, :] + bias[:])

    along a row, for 8 pixels r and up to 16 channels: an input is loaded once per row of taps.

All int64, addresses and steps in bytes. There is code for
kernels of `KERNELS` taps and strides of `STRIDES`. Both give the same bits.
"""

from collections.abc import Sequence
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fusec.kernels.conv.micro import ROWS
from fusec.kernels.conv.tile import FEW_STEPS, Case, number, switch

__all__ = ["KERNELS", "PIXELS", "STRIDES", "tile_depthwise", "tile_line"]

KERNELS, STRIDES = (3, 5, 7), (1, 2)
PIXELS = 8

_I64 = ir.IntType(64)


def _emit_depthwise(case: Case, args: Sequence[Any], done: Any) -> None:
    table, n, shift, b, b_step, targets, bias, act = args
    builder = case.builder
    last = builder.add(table, builder.mul(n, number(8 * ROWS)))

    def tap(state: Any) -> list[Any]:
        row, b_at, *acc = state
        a = [builder.add(address, shift) for address in case.addresses(row)]
        after = case.step(lambda r, v: case.load_columns(a[r], v), case.lines(b_at), acc)
        return [builder.add(row, number(8 * ROWS)), builder.add(b_at, b_step), *after]

    _, _, *acc = case.loop(
        [table, b, *case.zeros()], tap, lambda s: builder.icmp_unsigned("<", s[0], last)
    )
    rows = [builder.add(address, shift) for address in case.addresses(targets)]
    case.finish(acc, rows, None, bias, act, done)


def _emit(case: Case, kernel: int, stride: int, args: Sequence[Any], done: Any) -> None:
    table, n, shift, b, b_step, target, step, bias, act = args
    builder = case.builder
    last = builder.add(table, builder.shl(n, number(4)))

    def taps(state: Any) -> list[Any]:
        at, line, *acc = state
        pixel = builder.add(case.load(_I64, at), shift)
        x_step = case.load(_I64, builder.add(at, number(8)))
        weights = []
        for _ in range(kernel):
            weights += case.lines(line)
            line = builder.add(line, b_step)
        for i in range((PIXELS - 1) * stride + kernel):
            value = case.load_columns(pixel, 0)
            pixel = builder.add(pixel, x_step)
            # Taps of a pixel come in order, since i grows.
            for r in range(PIXELS):
                if 0 <= i - r * stride < kernel:
                    acc[r] = case.fma(value, weights[i - r * stride], acc[r])
        return [builder.add(at, number(16)), line, *acc]

    _, _, *acc = case.loop(
        [table, b, *case.zeros()], taps, lambda s: builder.icmp_unsigned("<", s[0], last)
    )
    rows = [builder.add(target, shift)]
    for _ in range(PIXELS - 1):
        rows.append(builder.add(rows[-1], step))
    case.finish(acc, rows, None, bias, act, done)


@intrinsic
def _depthwise(
    typingctx: Any, halves: Any, rows: Any, columns: Any, table: Any, n: Any, shift: Any, b: Any,
    b_step: Any, targets: Any, bias: Any, act: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        switch(builder, args, _emit_depthwise, FEW_STEPS)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 11), code


@intrinsic
def _line(
    typingctx: Any, kernel: Any, stride: Any, channels: Any, table: Any, n: Any, shift: Any,
    b: Any, b_step: Any, target: Any, step: Any, bias: Any, act: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        done = builder.append_basic_block("done")
        choice = builder.add(builder.shl(args[0], number(4)), args[1])
        cases = builder.switch(choice, done)
        for kernel in KERNELS:
            for stride in STRIDES:
                block = builder.append_basic_block(f"line{kernel}x{stride}")
                cases.add_case(number(16 * kernel + stride), block)
                builder.position_at_end(block)
                _emit(Case(builder, PIXELS, 2, args[2]), kernel, stride, args[3:], done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 12), code


@numba.njit(error_model="numpy")
def tile_line(
    kernel: int, stride: int, channels: int, table: int, n: int, shift: int, b: int, b_step: int,
    target: int, step: int, bias: int, act: int,
) -> None:  # fmt: skip
    """Compute 8 pixels of a row; see the top of this file."""
    _line(kernel, stride, channels, table, n, shift, b, b_step, target, step, bias, act)


@numba.njit(error_model="numpy")
def tile_depthwise(
    columns: int, rows: int, table: int, n: int, shift: int, b: int, b_step: int, targets: int,
    bias: int, act: int,
) -> None:  # fmt: skip
    """Compute a tile of channels that do not mix; see the top of this file."""
    _depthwise((columns + 7) // 8, rows, columns, table, n, shift, b, b_step, targets, bias, act)
