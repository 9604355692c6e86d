"""The native convolutions: tiles of pixels times panels of channels; see `micro` and `pixels`.

    item range    rows of pixels whose outputs stay near until the epilogue
    panel         nr output channels; its weights stay in L2 while the tiles pass over them
    tile          up to 8 pixels; they may go on into the next rows
    chunk         256 steps of k: a table of tap addresses, then the microkernel

Where a tile's pixels are all inside the image, a row of taps is one run of kx * c steps.
"""

import numba

from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import load_i64, store_i64
from fusec.kernels.conv.depthwise import conv_depthwise_f32
from fusec.kernels.conv.encode import PIECE, TAPS_SCRATCH_BYTES
from fusec.kernels.conv.finish import add_bias, clear, epilogue, lines_of
from fusec.kernels.conv.micro import CHUNK, ROWS, tile_taps
from fusec.kernels.conv.pixels import JUNK, TARGET, pixels, place, strided_pixels, word

__all__ = ["KERNELS"]

_ZEROS = JUNK + 256
_SEGMENTS = _ZEROS + 4 * CHUNK
_TABLE = _SEGMENTS + 16 * CHUNK
assert _TABLE + 8 * ROWS * CHUNK <= TAPS_SCRATCH_BYTES

_K, _C, _XX, _XC = word("k"), word("channels"), word("x_x"), word("x_c")
_KY, _KX, _DY, _DX = (word(n) for n in ("kernel_y", "kernel_x", "dilation_y", "dilation_x"))
_SY, _SX, _PY, _PX = (word(n) for n in ("stride_y", "stride_x", "padding_y", "padding_x"))
_STEP, _GROUP, _PANEL = word("b_step"), word("b_group"), word("b_panel")
_N, _NR, _PANELS = word("columns"), word("nr"), word("panels")
_OUT_H, _OUT_W, _PIECES = word("out_height"), word("out_width"), word("pieces")
_TRANSPOSED = word("transposed")
_B, _Y, _BIAS = word("b_slot"), word("y_slot"), word("bias_slot")

_NEAR_BYTES = 48 * 1024
"""Outputs that are computed before the epilogue runs over them."""


@numba.njit(error_model="numpy")
def _sums(
    desc: int, scratch: int, b: int, vecs: int, count: int, lanes: int, inside_x: int,
    inside_y: int, row: int, column: int,
) -> None:  # fmt: skip
    """Compute a tile, chunk by chunk.

    Args:
        desc: words of the stage.
        scratch: with the tile's pixels.
        b: address of the panel.
        vecs: vectors of the panel that are wanted.
        count: pixels.
        lanes: columns of the last vector.
        inside_x: not 0 if no tap is outside along x; inside_y likewise.
        row: the output row of a transposed convolution's tile; column of its first pixel.
    """
    k, c, a_step, b_step = (
        load_i64(desc + _K), load_i64(desc + _C), load_i64(desc + _XC), load_i64(desc + _STEP)
    )  # fmt: skip
    kernel_x, dilation_y, dilation_x = (
        load_i64(desc + _KX), load_i64(desc + _DY), load_i64(desc + _DX)
    )  # fmt: skip
    transposed = load_i64(desc + _TRANSPOSED)
    rows = 1
    while rows < count:
        rows *= 2
    if vecs == 4 and rows == 8:
        rows = 6
    run, inside = c, inside_x * inside_y
    if inside_x and dilation_x == 1 and a_step == 4 and load_i64(desc + _XX) == 4 * c:
        run, kernel_x = c * kernel_x, 1
    ky = kx = within = p = 0
    while True:
        start, end, n = p, min(p + CHUNK, k), 0
        while p < end:
            take = min(run - within, end - p)
            # Zeros that stand for a tap outside lie next to each other.
            if inside == 0 and a_step != 4:
                take = 1
            shift_y, shift_x, used = ky * dilation_y, kx * dilation_x, True
            if transposed:
                above = row + load_i64(desc + _PY) - shift_y
                before = column + load_i64(desc + _PX) - shift_x
                shift_y = above // load_i64(desc + _SY)
                shift_x = before // load_i64(desc + _SX)
                used = (
                    shift_y * load_i64(desc + _SY) == above
                    and shift_x * load_i64(desc + _SX) == before
                )
            if used:
                place(desc, scratch, scratch + _TABLE + 8 * ROWS * n, shift_y, shift_x,
                      within * a_step, inside, scratch + _ZEROS)  # fmt: skip
                store_i64(scratch + _SEGMENTS + 16 * n, p * b_step)
                store_i64(scratch + _SEGMENTS + 16 * n + 8, take)
                n += 1
            p += take
            within += take
            if within == run:
                within = 0
                kx += 1
                if kx == kernel_x:
                    kx = 0
                    ky += 1
        tile_taps(vecs, rows, scratch + _TABLE, scratch + _SEGMENTS, n, a_step, b, b_step,
                  scratch + TARGET, 1 if start > 0 else 0, lanes)  # fmt: skip
        if p >= k:
            break


@numba.njit(error_model="numpy")
def _panel(
    desc: int, scratch: int, x: int, y: int, b: int, bias: int, columns: int, lo: int, hi: int
) -> None:
    """Compute a panel of some items."""
    vecs = (columns + 15) // 16
    lanes = columns - 16 * (vecs - 1)
    most = 6 if vecs == 4 else ROWS
    pieces = load_i64(desc + _PIECES)
    if load_i64(desc + _TRANSPOSED) == 0:
        item, column = lo, (lo - lo // pieces * pieces) * PIECE
        while item < hi:
            count, item, column, inside_x, inside_y = pixels(
                desc, x, y, item, column, hi, most, scratch
            )
            _sums(desc, scratch, b, vecs, count, lanes, inside_x, inside_y, 0, 0)
            add_bias(scratch + TARGET, count, columns, 0, bias)
        return
    stride_x = load_i64(desc + _SX)
    for item in range(lo, hi):
        line, image, row, start, end = lines_of(desc, item)
        for first in range(start, min(end, start + stride_x)):
            column = first
            while column < end:
                count = strided_pixels(desc, x, y, image, row, column, end, most, scratch)
                _sums(desc, scratch, b, vecs, count, lanes, 0, 0, row, column)
                add_bias(scratch + TARGET, count, columns, 0, bias)
                column += count * stride_x


@numba.njit(error_model="numpy")
def conv_f32(
    desc: int, bufs: int, lo: int, hi: int, lo2: int, hi2: int, scratch: int, services: int
) -> None:
    """Convolve with dense or grouped kernels."""
    clear(scratch + _ZEROS, 4 * CHUNK)
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    b = load_i64(bufs + 8 * load_i64(desc + _B)) + load_i64(desc + _B + 8)
    y = load_i64(bufs + 8 * load_i64(desc + _Y)) + load_i64(desc + _Y + 8)
    bias = 0
    if load_i64(desc + _BIAS) >= 0:
        bias = load_i64(bufs + 8 * load_i64(desc + _BIAS)) + load_i64(desc + _BIAS + 8)
    n, nr, panels = load_i64(desc + _N), load_i64(desc + _NR), load_i64(desc + _PANELS)
    c_bytes = load_i64(desc + _C) * load_i64(desc + _XC)
    g, p = lo2 // panels, lo2 - lo2 // panels * panels
    first_column = g * n + p * nr
    g, p = (hi2 - 1) // panels, (hi2 - 1) - (hi2 - 1) // panels * panels
    end_column = g * n + min(n, (p + 1) * nr)
    width = min(load_i64(desc + _OUT_W), PIECE) * (end_column - first_column) * 4
    step = max(1, _NEAR_BYTES // max(1, width))
    first = lo
    while first < hi:
        last = min(hi, first + step)
        for q in range(lo2, hi2):
            g, p = q // panels, q - q // panels * panels
            column = g * n + p * nr
            _panel(desc, scratch, x + g * c_bytes, y + 4 * column,
                   b + g * load_i64(desc + _GROUP) + p * load_i64(desc + _PANEL),
                   bias + 4 * column if bias else 0, min(nr, n - p * nr), first, last)  # fmt: skip
        epilogue(desc, bufs, services, first, last, first_column, end_column,
                 scratch + TAPS_SCRATCH_BYTES)  # fmt: skip
        first = last


KERNELS: tuple[KernelSource, ...] = (
    KernelSource(name="conv_f32", function=conv_f32),
    KernelSource(name="conv_depthwise_f32", function=conv_depthwise_f32),
)
