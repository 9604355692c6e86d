"""Depthwise convolution: each channel has a kernel of its own, vectors go across channels."""

from typing import Any

import numba

from fusec.kernels.codegen.memory import load_i64, store_i64
from fusec.kernels.conv.encode import DEPTHWISE_SCRATCH_BYTES
from fusec.kernels.conv.finish import clear, epilogue, lines_of
from fusec.kernels.conv.lines import KERNELS, PIXELS, tile_depthwise, tile_line
from fusec.kernels.conv.micro import CHUNK, ROWS, few_or_most, most_of
from fusec.kernels.conv.pixels import END, TARGET, aim, borders, pixels, place, start_pixels, word

__all__ = ["conv_depthwise_f32"]

_TABLE = END
_ZEROS = _TABLE + 8 * ROWS * CHUNK
assert _ZEROS <= DEPTHWISE_SCRATCH_BYTES

_K, _STEP, _PANEL = word("k"), word("b_step"), word("b_panel")
_KY, _KX, _DY, _DX = (word(n) for n in ("kernel_y", "kernel_x", "dilation_y", "dilation_x"))
_N, _NR, _OUT_W = word("columns"), word("nr"), word("out_width")
_B, _Y, _BIAS = word("b_slot"), word("y_slot"), word("bias_slot")
_XN, _XY, _XX = word("x_n"), word("x_y"), word("x_x")
_YN, _YY, _YX = word("y_n"), word("y_y"), word("y_x")
_SY, _SX, _PY, _PX = (word(n) for n in ("stride_y", "stride_x", "padding_y", "padding_x"))
_PIECE, _PIECES = word("piece"), word("pieces")
_ACT, _H = word("act"), word("height")

_NEAR_BYTES = 48 * 1024
"""Outputs that are computed before the epilogue runs over them."""


@numba.njit(error_model="numpy")
def _taps(desc: int, scratch: int, inside: int) -> int:
    """Write the tap addresses of a tile's pixels; give how many taps there are."""
    kernel_x, dilation_x = load_i64(desc + _KX), load_i64(desc + _DX)
    n = 0
    for ky in range(load_i64(desc + _KY)):
        shift_y = ky * load_i64(desc + _DY)
        for kx in range(kernel_x):
            place(desc, scratch, scratch + _TABLE + 8 * ROWS * n, shift_y, kx * dilation_x, 0,
                  inside, scratch + _ZEROS)  # fmt: skip
            n += 1
    return n


@numba.njit(error_model="numpy")
def _channels(
    desc: int, scratch: int, b: int, bias: int, count: int, taps: int, lo: int, hi: int
) -> None:
    """Compute panels lo to hi of a tile."""
    n, nr = load_i64(desc + _N), load_i64(desc + _NR)
    b_step, b_panel = load_i64(desc + _STEP), load_i64(desc + _PANEL)
    for p in range(lo, hi):
        columns = min(nr, n - p * nr)
        tile_depthwise(columns, few_or_most(count, columns), scratch + _TABLE, taps, 4 * p * nr,
                       b + p * b_panel, b_step, scratch + TARGET,
                       bias + 4 * p * nr if bias else 0, load_i64(desc + _ACT))  # fmt: skip


@numba.njit(error_model="numpy")
def _has_lines(desc: int) -> Any:
    """Tell whether `tile_line` has code for the kernel."""
    kernel, stride = load_i64(desc + _KX), load_i64(desc + _SX)
    known = kernel == KERNELS[0] or kernel == KERNELS[1] or kernel == KERNELS[2]
    return known and (stride == 1 or stride == 2) and load_i64(desc + _DX) == 1


@numba.njit(error_model="numpy")
def _line(
    desc: int, scratch: int, x: int, y: int, b: int, bias: int, item: int, left: int, right: int,
    lo: int, hi: int,
) -> None:  # fmt: skip
    """Compute what an item has of the columns left to right, for panels lo to hi."""
    image, row, start, end = lines_of(desc, item)
    start, end = max(start, left), min(end, right)
    n, nr, kernel_x = load_i64(desc + _N), load_i64(desc + _NR), load_i64(desc + _KX)
    kernel_y, x_x, y_x = load_i64(desc + _KY), load_i64(desc + _XX), load_i64(desc + _YX)
    b_step, stride_x = load_i64(desc + _STEP), load_i64(desc + _SX)
    target = y + image * load_i64(desc + _YN) + row * load_i64(desc + _YY)
    column = start
    while column < end:
        # The last tile goes over pixels that are done already, if there are too few: same bits.
        column = min(column, end - PIXELS)
        ix = column * stride_x - load_i64(desc + _PX)
        for ky in range(kernel_y):
            iy = row * load_i64(desc + _SY) - load_i64(desc + _PY) + ky * load_i64(desc + _DY)
            address = x + image * load_i64(desc + _XN) + iy * load_i64(desc + _XY) + ix * x_x
            known = iy >= 0 and iy < load_i64(desc + _H)
            store_i64(scratch + _TABLE + 16 * ky, address if known else scratch + _ZEROS)
            store_i64(scratch + _TABLE + 16 * ky + 8, x_x if known else 0)
        for p in range(lo, hi):
            for c in range(p * nr, min(n, (p + 1) * nr), 16):
                tile_line(kernel_x, stride_x, min(16, n - c), scratch + _TABLE, kernel_y, 4 * c,
                          b + p * load_i64(desc + _PANEL) + 4 * (c - p * nr), b_step,
                          target + column * y_x, y_x, bias + 4 * c if bias else 0,
                          load_i64(desc + _ACT))  # fmt: skip
        column += PIXELS


@numba.njit(error_model="numpy")
def conv_depthwise_f32(
    desc: int, bufs: int, lo: int, hi: int, lo2: int, hi2: int, scratch: int, services: int
) -> None:
    """Convolve channel by channel."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    b = load_i64(bufs + 8 * load_i64(desc + _B)) + load_i64(desc + _B + 8)
    y = load_i64(bufs + 8 * load_i64(desc + _Y)) + load_i64(desc + _Y + 8)
    bias = 0
    if load_i64(desc + _BIAS) >= 0:
        bias = load_i64(bufs + 8 * load_i64(desc + _BIAS)) + load_i64(desc + _BIAS + 8)
    n, nr = load_i64(desc + _N), load_i64(desc + _NR)
    clear(scratch + _ZEROS, 4 * n + 64)
    junk = scratch + _ZEROS + 4 * n + 256
    start_pixels(desc, scratch)
    most = most_of(min(n, nr))
    columns = min(n, hi2 * nr) - lo2 * nr
    width = min(load_i64(desc + _OUT_W), load_i64(desc + _PIECE)) * columns * 4
    step = max(1, _NEAR_BYTES // max(1, width))
    if load_i64(desc + _PIECES) > 1:
        step = 1
    first = lo
    while first < hi:
        last = min(hi, first + step)
        # Columns that lines do; then what is left of them, and right.
        left = right = 0
        if _has_lines(desc):
            left, right = borders(desc)
            if step == 1:
                # Only columns of this item: others may be past their epilogue.
                _, _, start, end = lines_of(desc, first)
                left, right = max(left, start), min(right, end)
            if right - left < PIXELS:
                left = right = 0
        for item in range(first, last):
            if left < right:
                _line(desc, scratch, x, y, b, bias, item, left, right, lo2, hi2)
        for part in range(2):
            start, end = (0, left) if part == 0 else (right, load_i64(desc + _OUT_W))
            item, column = first, 0
            while item < last:
                count, item, column, inside_x, inside_y = pixels(
                    desc, x, y, item, column, last, start, end, most, scratch
                )
                if count > 0:
                    aim(scratch, count, junk)
                    taps = _taps(desc, scratch, inside_x * inside_y)
                    _channels(desc, scratch, b, bias, count, taps, lo2, hi2)
        epilogue(desc, bufs, services, first, last, lo2 * nr, lo2 * nr + columns,
                 scratch + DEPTHWISE_SCRATCH_BYTES + 8 * n)  # fmt: skip
        first = last
