"""Nearest and linear resizing, 16 channels at a time."""

from typing import Any

import numba
import numpy as np

from fusec.kernels.codegen.memory import load_f32, load_i64, vload_first, vstore_first
from fusec.kernels.codegen.vectors import fma, splat
from fusec.kernels.pool.encode import BLOCK, MODES, PIECE
from fusec.kernels.pool.window import word

__all__ = ["pool_resize_f32"]

_XN, _XY, _XX, _Y = word("x_n"), word("x_y"), word("x_x"), word("y_slot")
_YN, _YY, _YX = word("y_n"), word("y_y"), word("y_x")
_H, _OUT_H, _OUT_W = word("height"), word("out_height"), word("out_width")
_PIECES, _C, _MODE = word("pieces"), word("channels"), word("mode")
_CORNERS, _SCALE = word("align_corners"), word("scale_y")
_EXACT, _LINEAR = MODES.index("nearest_exact"), MODES.index("bilinear")


@numba.njit(error_model="numpy")
def _source(desc: int, axis: int, at: int) -> Any:
    """Give the two source positions of an output position, and the weight of the second.

    Args:
        desc: words of the stage.
        axis: 0 for y, 8 for x: where the axis' words are, from those of y.
        at: output position.
    """
    size, out = load_i64(desc + _H + axis), load_i64(desc + _OUT_H + axis)
    mode = load_i64(desc + _MODE)
    scale = load_f32(desc + _SCALE + axis)
    if load_i64(desc + _CORNERS) != 0:
        scale = np.float32(0.0)
        if out > 1:
            scale = np.float32(size - 1) / np.float32(out - 1)
    elif scale <= np.float32(0.0):
        scale = np.float32(size) / np.float32(out)
    half = np.float32(0.5)
    if mode != _LINEAR:
        position = np.float32(at)
        if mode == _EXACT:
            position = np.float32(at) + half
        first = min(np.int64(position * scale), size - 1)
        return first, first, np.float32(0.0)
    if load_i64(desc + _CORNERS) != 0:
        position = scale * np.float32(at)
    else:
        position = scale * (np.float32(at) + half) - half
        if position < np.float32(0.0):
            position = np.float32(0.0)
    first = min(np.int64(position), size - 1)
    weight = position - np.float32(first)
    if weight < np.float32(0.0):
        weight = np.float32(0.0)
    if weight > np.float32(1.0):
        weight = np.float32(1.0)
    return first, min(first + 1, size - 1), weight


@numba.njit(error_model="numpy")
def pool_resize_f32(
    desc: int, bufs: int, lo: int, hi: int, lo2: int, hi2: int, scratch: int, services: int
) -> None:
    """Resize images; scratch is not used."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    y = load_i64(bufs + 8 * load_i64(desc + _Y)) + load_i64(desc + _Y + 8)
    pieces, out_h, out_w = (
        load_i64(desc + _PIECES), load_i64(desc + _OUT_H), load_i64(desc + _OUT_W)
    )  # fmt: skip
    x_y, x_x = load_i64(desc + _XY), load_i64(desc + _XX)
    linear = load_i64(desc + _MODE) == _LINEAR
    one = np.float32(1.0)
    start, end = lo2 * BLOCK, min(hi2 * BLOCK, load_i64(desc + _C))
    for item in range(lo, hi):
        line = item // pieces
        image = line // out_h
        row = line - image * out_h
        top, bottom, weight_y = _source(desc, 0, row)
        column = (item - line * pieces) * PIECE
        target = y + image * load_i64(desc + _YN) + row * load_i64(desc + _YY)
        source = x + image * load_i64(desc + _XN)
        y0, y1 = splat(one - weight_y), splat(weight_y)
        for at in range(column, min(out_w, column + PIECE)):
            left, right, weight_x = _source(desc, 8, at)
            x0, x1 = splat(one - weight_x), splat(weight_x)
            dst = target + at * load_i64(desc + _YX)
            above, below = source + top * x_y, source + bottom * x_y
            c = start
            while c < end:
                lanes = min(16, end - c)
                value = vload_first(above + left * x_x + 4 * c, lanes)
                if linear:
                    other = vload_first(above + right * x_x + 4 * c, lanes)
                    upper = fma(x1, other, x0 * value)
                    value = vload_first(below + left * x_x + 4 * c, lanes)
                    other = vload_first(below + right * x_x + 4 * c, lanes)
                    value = fma(y1, fma(x1, other, x0 * value), y0 * upper)
                vstore_first(dst + 4 * c, value, lanes)
                c += 16
