"""The microkernel of depthwise convolution along a row: pixels are loaded once per row of taps.

    tile_line(kernel, stride, channels, table, n, shift, b, b_step, target, step, bias, act)

        for s in range(n):                                     # rows of taps
            address, x_step = table[s]                         # of the first pixel's first tap
            for j in range(kernel):
                acc[r, :] = fma(A[address + shift + (r * stride + j) * x_step][:],
                                B[b + (s * kernel + j) * b_step][:], acc[r, :])
        C[target + shift + r * step][:] = act(acc[r, :] + bias[:])

for 8 pixels r and up to 16 channels. All int64, addresses and steps in bytes. There is code for
kernels of `KERNELS` taps and strides of `STRIDES`. Bits are those of `micro.tile_depthwise`.
"""

from collections.abc import Sequence
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fusec.kernels.conv.micro import Case

__all__ = ["KERNELS", "PIXELS", "STRIDES", "tile_line"]

KERNELS, STRIDES = (3, 5, 7), (1, 2)
PIXELS = 8

_I64 = ir.IntType(64)


def _emit(case: Case, kernel: int, stride: int, args: Sequence[Any], done: Any) -> None:
    table, n, shift, b, b_step, target, step, bias, act = args
    builder = case.builder
    last = builder.add(table, builder.shl(n, ir.Constant(_I64, 4)))

    def taps(state: Any) -> list[Any]:
        at, line, *acc = state
        pixel = builder.add(case.load(_I64, at), shift)
        x_step = case.load(_I64, builder.add(at, ir.Constant(_I64, 8)))
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
        return [builder.add(at, ir.Constant(_I64, 16)), line, *acc]

    _, _, *acc = case.loop(
        [table, b, *case.zeros()], taps, lambda s: builder.icmp_unsigned("<", s[0], last)
    )
    rows = [builder.add(target, shift)]
    for _ in range(PIXELS - 1):
        rows.append(builder.add(rows[-1], step))
    case.finish(acc, rows, None, bias, act, done)


@intrinsic
def _line(
    typingctx: Any, kernel: Any, stride: Any, channels: Any, table: Any, n: Any, shift: Any,
    b: Any, b_step: Any, target: Any, step: Any, bias: Any, act: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        done = builder.append_basic_block("done")
        number = builder.add(builder.shl(args[0], ir.Constant(_I64, 4)), args[1])
        switch = builder.switch(number, done)
        for kernel in KERNELS:
            for stride in STRIDES:
                block = builder.append_basic_block(f"line{kernel}x{stride}")
                switch.add_case(ir.Constant(_I64, 16 * kernel + stride), block)
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
