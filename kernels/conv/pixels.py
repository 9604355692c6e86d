"""Which pixels a tile computes, and where their taps lie.

A tile's scratch starts with four tables of `ROWS` numbers: y and x of the pixel's first tap in the
image, that tap's address (outside of the buffer where the image is padded: never read), and the
address of its output. Slots without a pixel repeat the last one and write to a place of their own.
"""

from typing import Any

import numba

from fusec.kernels.codegen.memory import load_i64, store_i64, vload_i64, vstore_i64
from fusec.kernels.codegen.vectors import select, splat
from fusec.kernels.conv.encode import WORDS
from fusec.kernels.conv.micro import ROWS

__all__ = [
    "END",
    "SOURCE",
    "TARGET",
    "UNUSED",
    "aim",
    "borders",
    "pixels",
    "place",
    "shifts",
    "start_pixels",
    "strided_pixels",
    "word",
]

IY, IX, SOURCE, TARGET = (8 * ROWS * i for i in range(4))
_JUNK = 8 * ROWS * 4
_RAMPS = _JUNK + 256
UNUSED = 1 << 50
"""In place of a position: the stride skips this tap."""

END = _RAMPS + 8 * ROWS * 3
"""Where the tables end; what slots without a pixel write to is among them."""

_AT = {name: 8 * i for i, name in enumerate(WORDS)}
_OUT_H, _OUT_W, _PIECES = _AT["out_height"], _AT["out_width"], _AT["pieces"]
_PIECE = _AT["piece"]
_TRANSPOSED = _AT["transposed"]
_H, _W = _AT["height"], _AT["width"]
_XN, _XY, _XX = _AT["x_n"], _AT["x_y"], _AT["x_x"]
_YN, _YY, _YX = _AT["y_n"], _AT["y_y"], _AT["y_x"]
_SY, _SX, _PY, _PX = (_AT[n] for n in ("stride_y", "stride_x", "padding_y", "padding_x"))
_KY, _KX, _DY, _DX = (_AT[n] for n in ("kernel_y", "kernel_x", "dilation_y", "dilation_x"))


def word(name: str) -> int:
    """Give the byte offset of a word."""
    return _AT[name]


@numba.njit(error_model="numpy")
def start_pixels(desc: int, scratch: int) -> None:
    """Write how columns, addresses of taps and of outputs grow along a row."""
    stride_x, stride_y = load_i64(desc + _SX), 1
    if load_i64(desc + _TRANSPOSED) != 0:
        stride_x, stride_y = stride_y, stride_x
    for r in range(ROWS):
        at = scratch + _RAMPS + 8 * r
        store_i64(at, r * stride_x)
        store_i64(at + 8 * ROWS, r * stride_x * load_i64(desc + _XX))
        store_i64(at + 16 * ROWS, r * stride_y * load_i64(desc + _YX))


@numba.njit(error_model="numpy")
def borders(desc: int) -> Any:
    """Give the first column whose taps are all inside the image along x, and the end of those."""
    stride, padding = load_i64(desc + _SX), load_i64(desc + _PX)
    out_w = load_i64(desc + _OUT_W)
    reach = (load_i64(desc + _KX) - 1) * load_i64(desc + _DX)
    first = min(out_w, (padding + stride - 1) // stride)
    end = (load_i64(desc + _W) - 1 + padding - reach) // stride + 1
    return first, max(first, min(out_w, end))


@numba.njit(error_model="numpy")
def pixels(
    desc: int, x: int, y: int, item: int, column: int, hi: int, first: int, end: int, most: int,
    scratch: int,
) -> Any:  # fmt: skip
    """Gather up to `most` pixels from items before `hi`, going on into following rows.

    Args:
        desc: words of the stage.
        x: address of the image's first element, of the channels wanted.
        y: the same of the output.
        item: where to go on.
        column: the pixel of its row.
        hi: end of the items.
        first: first column that is wanted of any row.
        end: end of the columns wanted.
        most: pixels of a tile.
        scratch: where the tables go, after `start_pixels`.

    Returns:
        How many; the item and column to go on with; whether all taps of all of them are inside
        the image along x, and along y.
    """
    pieces, out_h = load_i64(desc + _PIECES), load_i64(desc + _OUT_H)
    piece, end = load_i64(desc + _PIECE), min(end, load_i64(desc + _OUT_W))
    x_y, x_x, y_x = load_i64(desc + _XY), load_i64(desc + _XX), load_i64(desc + _YX)
    stride_x = load_i64(desc + _SX)
    left = top = 1 << 60
    right = bottom = -top
    count = 0
    while count < most and item < hi:
        line, image, start = item, 0, 0
        # Divisions take longer than all the rest.
        if pieces > 1:
            line = item // pieces
            start = (item - line * pieces) * piece
        if line >= out_h:
            image = line // out_h
        row = line - image * out_h
        column = max(column, max(start, first))
        taken = min(min(end, start + piece) - column, most - count)
        if taken <= 0:
            item += 1
            column = 0
            continue
        iy = row * load_i64(desc + _SY) - load_i64(desc + _PY)
        ix = column * stride_x - load_i64(desc + _PX)
        source = x + image * load_i64(desc + _XN) + iy * x_y + ix * x_x
        target = y + image * load_i64(desc + _YN) + row * load_i64(desc + _YY) + column * y_x
        top, bottom = min(top, iy), max(bottom, iy)
        left, right = min(left, ix), max(right, ix + (taken - 1) * stride_x)
        column += taken
        if taken == most:
            ramps = scratch + _RAMPS
            vstore_i64(scratch + IY, splat(iy))
            vstore_i64(scratch + IX, splat(ix) + vload_i64(ramps))
            vstore_i64(scratch + SOURCE, splat(source) + vload_i64(ramps + 8 * ROWS))
            vstore_i64(scratch + TARGET, splat(target) + vload_i64(ramps + 16 * ROWS))
            count = taken
        else:
            for _ in range(taken):
                at = scratch + 8 * count
                store_i64(at + IY, iy)
                store_i64(at + IX, ix)
                store_i64(at + SOURCE, source)
                store_i64(at + TARGET, target)
                ix += stride_x
                source += stride_x * x_x
                target += y_x
                count += 1
    if count > 0:
        _fill(scratch, count)
    reach_x = (load_i64(desc + _KX) - 1) * load_i64(desc + _DX)
    reach_y = (load_i64(desc + _KY) - 1) * load_i64(desc + _DY)
    inside_x = 1 if left >= 0 and right + reach_x < load_i64(desc + _W) else 0
    inside_y = 1 if top >= 0 and bottom + reach_y < load_i64(desc + _H) else 0
    return count, item, column, inside_x, inside_y


@numba.njit(error_model="numpy")
def strided_pixels(
    desc: int, x: int, y: int, image: int, row: int, first: int, column: int, end: int, most: int,
    scratch: int,
) -> int:  # fmt: skip
    """Gather up to `most` pixels of an output row, `stride` apart: all use the same taps.

    For a transposed convolution. A pixel's first tap is given as if `first`, which is the first
    such column of the row, were at the image's origin; see `shifts`.
    """
    step = load_i64(desc + _SX)
    count: int = min(most, (end - column + step - 1) // step)
    ix = (column - first) // step
    x_x, y_x = load_i64(desc + _XX), load_i64(desc + _YX)
    target = y + image * load_i64(desc + _YN) + row * load_i64(desc + _YY) + column * y_x
    vstore_i64(scratch + IY, splat(0))
    ramps = scratch + _RAMPS
    vstore_i64(scratch + IX, splat(ix) + vload_i64(ramps))
    source = x + image * load_i64(desc + _XN) + ix * x_x
    vstore_i64(scratch + SOURCE, splat(source) + vload_i64(ramps + 8 * ROWS))
    vstore_i64(scratch + TARGET, splat(target) + vload_i64(ramps + 16 * ROWS))
    _fill(scratch, count)
    return count


@numba.njit(error_model="numpy")
def shifts(desc: int, axis: int, at: int, table: int) -> Any:
    """Write where the taps of an output position of a transposed convolution lie.

    Args:
        desc: words of the stage.
        axis: 0 for y, 8 for x: where the axis' words are, from those of y.
        at: output row or column.
        table: goes a number per tap to, `UNUSED` for taps that the stride skips.

    Returns:
        The least and greatest position used; 0 and -1 if none is.
    """
    stride = load_i64(desc + _SY + axis)
    least, greatest = 1 << 60, -1
    for tap in range(load_i64(desc + _KY + axis)):
        from_origin = at + load_i64(desc + _PY + axis) - tap * load_i64(desc + _DY + axis)
        place = from_origin // stride
        if place * stride != from_origin:
            place = UNUSED
        else:
            least, greatest = min(least, place), max(greatest, place)
        store_i64(table + 8 * tap, place)
    return min(least, max(0, greatest)), greatest


@numba.njit(error_model="numpy")
def aim(scratch: int, count: int, address: int) -> None:
    """Let slots without a pixel write elsewhere."""
    for r in range(count, ROWS):
        store_i64(scratch + TARGET + 8 * r, address)


@numba.njit(error_model="numpy")
def _fill(scratch: int, count: int) -> None:
    for r in range(count, ROWS):
        at = scratch + 8 * r
        store_i64(at + IY, load_i64(scratch + 8 * (count - 1) + IY))
        store_i64(at + IX, load_i64(scratch + 8 * (count - 1) + IX))
        store_i64(at + SOURCE, load_i64(scratch + 8 * (count - 1) + SOURCE))
        store_i64(at + TARGET, scratch + _JUNK)


@numba.njit(error_model="numpy")
def place(
    desc: int, scratch: int, entry: int, shift_y: int, shift_x: int, channels: int, inside: int,
    zeros: int,
) -> None:  # fmt: skip
    """Write one row of a tile's table: where a tap of each pixel lies, or zeros.

    Args:
        desc: words of the stage.
        scratch: tables of the pixels.
        entry: where the row goes.
        shift_y: of the tap, in pixels of the image.
        shift_x: likewise.
        channels: bytes to add.
        inside: not 0 if no pixel's tap is outside of the image.
        zeros: address that stands for a tap outside.
    """
    offset = shift_y * load_i64(desc + _XY) + shift_x * load_i64(desc + _XX) + channels
    where = vload_i64(scratch + SOURCE) + splat(offset)
    if inside == 0:
        iy = vload_i64(scratch + IY) + splat(shift_y)
        ix = vload_i64(scratch + IX) + splat(shift_x)
        none = splat(0)
        known = (iy >= none) & (iy < splat(load_i64(desc + _H)))
        known = known & (ix >= none) & (ix < splat(load_i64(desc + _W)))
        where = select(known, where, splat(zeros))
    vstore_i64(entry, where)
