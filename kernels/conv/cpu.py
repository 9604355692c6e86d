"""The native convolutions: tiles of pixels times panels of channels; see `micro` and `pixels`.

    item range    rows of pixels whose outputs stay near until the epilogue
    panel         nr output channels; its weights stay in L2 while the tiles pass over them
    tile          up to 8 pixels; they may go on into the next rows
    chunk         256 steps of k: a table of tap addresses, then the microkernel

Where a tile's pixels are all inside the image, a row of taps is one run of kx * c steps.
"""

from typing import Any

import numba

from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import load_i64, store_i64
from fusec.kernels.conv.depthwise import conv_depthwise_f32
from fusec.kernels.conv.encode import MOST_TRANSPOSED, TAPS_SCRATCH_BYTES
from fusec.kernels.conv.finish import clear, epilogue, lines_of
from fusec.kernels.conv.micro import (
    CHUNK,
    ROWS,
    few_or_most,
    most_of,
    rows_of,
    tile_rows,
    tile_taps,
)
from fusec.kernels.conv.pixels import (
    END,
    SOURCE,
    TARGET,
    UNUSED,
    borders,
    pixels,
    place,
    shifts,
    start_pixels,
    strided_pixels,
    word,
)

__all__ = ["KERNELS"]

_PLANNED = 512
"""Segments and chunks of a plan, at most; kernels with more taps go by the table."""

_ZEROS = END
_SEGMENTS = _ZEROS + 4 * CHUNK
_TABLE = _SEGMENTS + 16 * CHUNK
_PLAN = _TABLE + 8 * ROWS * CHUNK
_COUNTS = _PLAN + 16 * _PLANNED
# A transposed convolution has no plan.
_SHIFTS_Y, _SHIFTS_X = _PLAN, _PLAN + 8 * MOST_TRANSPOSED
assert 2 * 8 * MOST_TRANSPOSED <= 16 * _PLANNED
assert _COUNTS + 8 * _PLANNED <= TAPS_SCRATCH_BYTES

_K, _C, _XY, _XX, _XC = (word(n) for n in ("k", "channels", "x_y", "x_x", "x_c"))
_KY, _KX, _DY, _DX = (word(n) for n in ("kernel_y", "kernel_x", "dilation_y", "dilation_x"))
_SX = word("stride_x")
_STEP, _GROUP, _PANEL = word("b_step"), word("b_group"), word("b_panel")
_N, _NR, _PANELS = word("columns"), word("nr"), word("panels")
_OUT_W, _TRANSPOSED, _ACT = (word(n) for n in ("out_width", "transposed", "act"))
_H, _W, _PIECE = word("height"), word("width"), word("piece")
_B, _Y, _BIAS = word("b_slot"), word("y_slot"), word("bias_slot")

_MANY = 48
"""With so many channels a tile at the border costs little more than one inside."""

_NEAR_BYTES = 128 * 1024
"""Outputs that are computed before the epilogue runs over them."""


@numba.njit(error_model="numpy")
def _joins(desc: int) -> Any:
    """Tell whether a row of taps lies in one run, where all are inside the image."""
    return (
        load_i64(desc + _DX) == 1
        and load_i64(desc + _XC) == 4
        and load_i64(desc + _XX) == 4 * load_i64(desc + _C)
    )


@numba.njit(error_model="numpy")
def _plan(desc: int, scratch: int) -> int:
    """Write the segments of all chunks for pixels that are inside the image.

    Returns:
        How many chunks there are; 0 if there is no room.
    """
    k, run, kernel_x = load_i64(desc + _K), load_i64(desc + _C), load_i64(desc + _KX)
    if _joins(desc):
        run, kernel_x = run * kernel_x, 1
    if load_i64(desc + _KY) * kernel_x + k // CHUNK + 1 > _PLANNED:
        return 0
    p = n = chunks = 0
    for ky in range(load_i64(desc + _KY)):
        for kx in range(kernel_x):
            tap = ky * load_i64(desc + _DY) * load_i64(desc + _XY)
            tap += kx * load_i64(desc + _DX) * load_i64(desc + _XX)
            within = 0
            while within < run:
                if p == chunks * CHUNK:
                    store_i64(scratch + _COUNTS + 8 * chunks, 0)
                    chunks += 1
                take = min(run - within, chunks * CHUNK - p)
                at = scratch + _PLAN + 16 * n
                store_i64(at, tap + within * load_i64(desc + _XC))
                store_i64(at + 8, take)
                at = scratch + _COUNTS + 8 * (chunks - 1)
                store_i64(at, load_i64(at) + 1)
                n += 1
                p += take
                within += take
    return chunks


@numba.njit(error_model="numpy")
def _inner(
    desc: int, scratch: int, b: int, bias: int, columns: int, count: int, chunks: int
) -> None:
    """Compute a tile inside the image by the plan."""
    rows, b_step = rows_of(count, columns), load_i64(desc + _STEP)
    a_step, act = load_i64(desc + _XC), load_i64(desc + _ACT)
    segments = scratch + _PLAN
    for i in range(chunks):
        n, last = load_i64(scratch + _COUNTS + 8 * i), i == chunks - 1
        tile_rows(columns, rows, scratch + SOURCE, segments, n, a_step, b, b_step,
                  scratch + TARGET, i, bias if last else 0, act if last else 0)  # fmt: skip
        segments += 16 * n
        b += CHUNK * b_step


@numba.njit(error_model="numpy")
def _outer(
    desc: int, scratch: int, b: int, bias: int, columns: int, count: int, inside_x: int,
    inside_y: int,
) -> None:  # fmt: skip
    """Compute a tile by a table of taps, chunk by chunk.

    Args:
        desc: words of the stage.
        scratch: with the tile's pixels.
        b: address of the panel.
        bias: address of its bias, or 0.
        columns: of the panel.
        count: pixels.
        inside_x: not 0 if no tap is outside along x.
        inside_y: likewise along y.
    """
    k, c = load_i64(desc + _K), load_i64(desc + _C)
    a_step, b_step = load_i64(desc + _XC), load_i64(desc + _STEP)
    kernel_x, transposed = load_i64(desc + _KX), load_i64(desc + _TRANSPOSED)
    rows = few_or_most(count, columns)
    run, inside = c, inside_x * inside_y
    if inside_x and transposed == 0 and _joins(desc):
        run, kernel_x = c * kernel_x, 1
    ky = kx = within = p = 0
    while True:
        start, end, n = p, min(p + CHUNK, k), 0
        while p < end:
            take = min(run - within, end - p)
            # Zeros that stand for a tap outside lie next to each other.
            if inside == 0 and a_step != 4:
                take = 1
            shift_y, shift_x = ky * load_i64(desc + _DY), kx * load_i64(desc + _DX)
            used = True
            if transposed:
                shift_y = load_i64(scratch + _SHIFTS_Y + 8 * ky)
                shift_x = load_i64(scratch + _SHIFTS_X + 8 * kx)
                used = shift_y != UNUSED and shift_x != UNUSED
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
        tile_taps(columns, rows, scratch + _TABLE, scratch + _SEGMENTS, n, a_step, b, b_step,
                  scratch + TARGET, start, bias if p >= k else 0,
                  load_i64(desc + _ACT) if p >= k else 0)  # fmt: skip
        if p >= k:
            break


@numba.njit(error_model="numpy")
def _panel(
    desc: int, scratch: int, x: int, y: int, b: int, bias: int, columns: int, chunks: int,
    lo: int, hi: int,
) -> None:  # fmt: skip
    """Compute a panel of some items: columns inside the image, then the borders."""
    most, transposed = most_of(columns), load_i64(desc + _TRANSPOSED)
    stride_x, width = load_i64(desc + _SX), load_i64(desc + _W)
    left, right = borders(desc)
    if load_i64(desc + _C) >= _MANY:
        left, right = 0, load_i64(desc + _OUT_W)
    first, end = left, right
    item, column, part = lo, 0, 0
    phase = first_tap = last_tap = inside_x = inside_y = 0
    if transposed != 0:
        part, end = 2, 0
    while True:
        if item >= hi:
            part += 1
            if part > 2:
                break
            first, end = (0, left) if part == 1 else (right, load_i64(desc + _OUT_W))
            item, column = lo, 0
        if transposed != 0:
            # Pixels that use the same taps make a tile: those a stride apart.
            image, row, start, end = lines_of(desc, item)
            if column == 0:
                column = first = start + phase
                above, below = shifts(desc, 0, row, scratch + _SHIFTS_Y)
                first_tap, last_tap = shifts(desc, 8, first, scratch + _SHIFTS_X)
                inside_y = 1 if above >= 0 and below < load_i64(desc + _H) else 0
            count = strided_pixels(desc, x, y, image, row, first, column, end, most, scratch)
            at = (column - first) // stride_x
            inside_x = 1 if at + first_tap >= 0 and at + count - 1 + last_tap < width else 0
            column += count * stride_x
            if column >= end:
                column = 0
                phase += 1
                if phase >= min(stride_x, end - start):
                    phase = 0
                    item += 1
        else:
            count, item, column, inside_x, inside_y = pixels(
                desc, x, y, item, column, hi, first, end, most, scratch
            )
        if count == 0:
            continue
        if transposed == 0 and inside_x * inside_y * chunks != 0:
            _inner(desc, scratch, b, bias, columns, count, chunks)
        else:
            _outer(desc, scratch, b, bias, columns, count, inside_x, inside_y)


@numba.njit(error_model="numpy")
def conv_f32(
    desc: int, bufs: int, lo: int, hi: int, lo2: int, hi2: int, scratch: int, services: int
) -> None:
    """Convolve with dense or grouped kernels."""
    clear(scratch + _ZEROS, 4 * CHUNK)
    start_pixels(desc, scratch)
    chunks = _plan(desc, scratch)
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
    width = min(load_i64(desc + _OUT_W), load_i64(desc + _PIECE)) * (end_column - first_column) * 4
    step = max(1, _NEAR_BYTES // max(1, width))
    first = lo
    while first < hi:
        last = min(hi, first + step)
        for q in range(lo2, hi2):
            g, p = q // panels, q - q // panels * panels
            column = g * n + p * nr
            panel = b + g * load_i64(desc + _GROUP) + p * load_i64(desc + _PANEL)
            terms, columns = bias + 4 * column if bias else 0, min(nr, n - p * nr)
            _panel(desc, scratch, x + g * c_bytes, y + 4 * column, panel, terms, columns, chunks,
                   first, last)  # fmt: skip
        epilogue(desc, bufs, services, first, last, first_column, end_column,
                 scratch + TAPS_SCRATCH_BYTES)  # fmt: skip
        first = last


KERNELS: tuple[KernelSource, ...] = (
    KernelSource(name="conv_f32", function=conv_f32),
    KernelSource(name="conv_depthwise_f32", function=conv_depthwise_f32),
)
