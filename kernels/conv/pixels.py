"""Which pixels a tile computes, and where their taps lie.

A tile's scratch starts with four tables of `ROWS` numbers: y and x of the pixel's first tap in the
image, that tap's address (outside of the buffer where the image is padded: never read), and the
address of its output. Slots without a pixel repeat the last one and write to a place of their own.
"""

from typing import Any

import numba

from fusec.kernels.codegen.memory import load_i64, store_i64, vload_i64, vstore_i64
from fusec.kernels.codegen.vectors import select, splat
from fusec.kernels.conv.encode import PIECE, WORDS
from fusec.kernels.conv.micro import ROWS

__all__ = ["IX", "IY", "JUNK", "SOURCE", "TARGET", "pixels", "place", "strided_pixels", "word"]

IY, IX, SOURCE, TARGET = (8 * ROWS * i for i in range(4))
JUNK = 8 * ROWS * 4
"""256 bytes that slots without a pixel write to (a panel's row, at most)."""

_AT = {name: 8 * i for i, name in enumerate(WORDS)}
_OUT_H, _OUT_W, _PIECES = _AT["out_height"], _AT["out_width"], _AT["pieces"]
_H, _W = _AT["height"], _AT["width"]
_XN, _XY, _XX = _AT["x_n"], _AT["x_y"], _AT["x_x"]
_YN, _YY, _YX = _AT["y_n"], _AT["y_y"], _AT["y_x"]
_SY, _SX, _PY, _PX = (_AT[n] for n in ("stride_y", "stride_x", "padding_y", "padding_x"))
_KY, _KX, _DY, _DX = (_AT[n] for n in ("kernel_y", "kernel_x", "dilation_y", "dilation_x"))


def word(name: str) -> int:
    """Give the byte offset of a word."""
    return _AT[name]


@numba.njit(error_model="numpy")
def pixels(
    desc: int, x: int, y: int, item: int, column: int, hi: int, most: int, scratch: int
) -> Any:
    """Gather up to `most` pixels from items before `hi`, going on into following rows.

    Args:
        desc: words of the stage.
        x: address of the image's first element, of the channels wanted.
        y: the same of the output.
        item: where to go on; column: the pixel of its row.
        hi: end of the items.
        most: pixels of a tile.
        scratch: where the tables go.

    Returns:
        How many; the item and column to go on with; whether all taps of all of them are inside
        the image along x, and along y.
    """
    pieces, out_h, out_w = (
        load_i64(desc + _PIECES),
        load_i64(desc + _OUT_H),
        load_i64(desc + _OUT_W),
    )
    x_y, x_x, y_x = load_i64(desc + _XY), load_i64(desc + _XX), load_i64(desc + _YX)
    stride_x = load_i64(desc + _SX)
    left, top = 1 << 60, 1 << 60
    right, bottom = -left, -top
    count = 0
    while count < most and item < hi:
        line = item // pieces
        image = line // out_h
        row = line - image * out_h
        end = min(out_w, (item - line * pieces + 1) * PIECE)
        iy = row * load_i64(desc + _SY) - load_i64(desc + _PY)
        ix = column * stride_x - load_i64(desc + _PX)
        source = x + image * load_i64(desc + _XN) + iy * x_y + ix * x_x
        target = y + image * load_i64(desc + _YN) + row * load_i64(desc + _YY) + column * y_x
        taken = min(end - column, most - count)
        top, bottom = min(top, iy), max(bottom, iy)
        left, right = min(left, ix), max(right, ix + (taken - 1) * stride_x)
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
        column += taken
        if column >= end:
            item += 1
            column = (item - item // pieces * pieces) * PIECE
    _fill(scratch, count)
    reach_x = (load_i64(desc + _KX) - 1) * load_i64(desc + _DX)
    reach_y = (load_i64(desc + _KY) - 1) * load_i64(desc + _DY)
    inside_x = 1 if left >= 0 and right + reach_x < load_i64(desc + _W) else 0
    inside_y = 1 if top >= 0 and bottom + reach_y < load_i64(desc + _H) else 0
    return count, item, column, inside_x, inside_y


@numba.njit(error_model="numpy")
def strided_pixels(
    desc: int, x: int, y: int, image: int, row: int, column: int, end: int, most: int, scratch: int
) -> int:
    """Gather up to `most` pixels of an output row, `stride` apart: all use the same taps.

    For a transposed convolution; the first pixel's tap is where the tap's own shift says.
    """
    step = load_i64(desc + _SX)
    count = min(most, (end - column + step - 1) // step)
    x_x, y_x = load_i64(desc + _XX), load_i64(desc + _YX)
    source = x + image * load_i64(desc + _XN)
    target = y + image * load_i64(desc + _YN) + row * load_i64(desc + _YY) + column * y_x
    for r in range(count):
        at = scratch + 8 * r
        store_i64(at + IY, 0)
        store_i64(at + IX, r)
        store_i64(at + SOURCE, source + r * x_x)
        store_i64(at + TARGET, target + r * step * y_x)
    _fill(scratch, count)
    return count


@numba.njit(error_model="numpy")
def _fill(scratch: int, count: int) -> None:
    for r in range(count, ROWS):
        at = scratch + 8 * r
        store_i64(at + IY, load_i64(scratch + 8 * (count - 1) + IY))
        store_i64(at + IX, load_i64(scratch + 8 * (count - 1) + IX))
        store_i64(at + SOURCE, load_i64(scratch + 8 * (count - 1) + SOURCE))
        store_i64(at + TARGET, scratch + JUNK)


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
        shift_y: of the tap, in pixels of the image; shift_x likewise.
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
