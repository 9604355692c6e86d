"""Depthwise convolution: each channel has a kernel of its own, vectors go across channels."""

import numba

from fusec.kernels.codegen.memory import load_i64, store_i64
from fusec.kernels.conv.encode import DEPTHWISE_SCRATCH_BYTES, PIECE
from fusec.kernels.conv.finish import add_bias, clear, epilogue
from fusec.kernels.conv.micro import CHUNK, ROWS, tile_depthwise
from fusec.kernels.conv.pixels import JUNK, TARGET, pixels, place, word

__all__ = ["conv_depthwise_f32"]

_TABLE = JUNK + 256
_ZEROS = _TABLE + 8 * ROWS * CHUNK
assert _ZEROS <= DEPTHWISE_SCRATCH_BYTES

_K, _STEP, _PANEL = word("k"), word("b_step"), word("b_panel")
_KY, _KX, _DY, _DX = (word(n) for n in ("kernel_y", "kernel_x", "dilation_y", "dilation_x"))
_N, _NR, _PIECES, _OUT_W = word("columns"), word("nr"), word("pieces"), word("out_width")
_B, _Y, _BIAS = word("b_slot"), word("y_slot"), word("bias_slot")

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
        vecs = (columns + 15) // 16
        rows = 1
        while rows < count:
            rows *= 2
        if vecs == 4 and rows == 8:
            rows = 6
        tile_depthwise(vecs, rows, scratch + _TABLE, taps, 4 * p * nr, b + p * b_panel, b_step,
                       scratch + TARGET, columns - 16 * (vecs - 1))  # fmt: skip
        add_bias(scratch + TARGET, count, columns, 4 * p * nr, bias + 4 * p * nr if bias else 0)


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
    n, nr, pieces = load_i64(desc + _N), load_i64(desc + _NR), load_i64(desc + _PIECES)
    clear(scratch + _ZEROS, 4 * n + 64)
    junk = scratch + _ZEROS + 4 * n + 256
    most = 6 if nr == 64 else ROWS
    columns = min(n, hi2 * nr) - lo2 * nr
    width = min(load_i64(desc + _OUT_W), PIECE) * columns * 4
    step = max(1, _NEAR_BYTES // max(1, width))
    first = lo
    while first < hi:
        last = min(hi, first + step)
        item, column = first, (first - first // pieces * pieces) * PIECE
        while item < last:
            count, item, column, inside_x, inside_y = pixels(
                desc, x, y, item, column, last, most, scratch
            )
            for r in range(count, ROWS):
                store_i64(scratch + TARGET + 8 * r, junk)
            taps = _taps(desc, scratch, inside_x * inside_y)
            _channels(desc, scratch, b, bias, count, taps, lo2, hi2)
        epilogue(desc, bufs, services, first, last, lo2 * nr, lo2 * nr + columns,
                 scratch + DEPTHWISE_SCRATCH_BYTES + 8 * n)  # fmt: skip
        first = last
