"""Maxima and means of windows, 64 or 16 channels at a time."""

from typing import Any

import numba
import numpy as np

from fusec.kernels.codegen.memory import load_i64, vload, vload_first, vstore, vstore_first
from fusec.kernels.codegen.vectors import highest, splat
from fusec.kernels.pool.encode import BLOCK, PIECE, WORDS

__all__ = ["pool_window_f32", "word"]

_AT = {name: 8 * i for i, name in enumerate(WORDS)}


def word(name: str) -> int:
    """Give the byte offset of a word."""
    return _AT[name]


_XN, _XY, _XX, _Y = word("x_n"), word("x_y"), word("x_x"), word("y_slot")
_YN, _YY, _YX = word("y_n"), word("y_y"), word("y_x")
_H, _W, _OUT_H, _OUT_W = (word(n) for n in ("height", "width", "out_height", "out_width"))
_PIECES, _C, _MODE = word("pieces"), word("channels"), word("mode")
_KY, _SY, _PY, _DY = (word(f"{n}_y") for n in ("kernel", "stride", "padding", "dilation"))
_KX, _SX, _PX, _DX = (word(f"{n}_x") for n in ("kernel", "stride", "padding", "dilation"))
_INCLUDE, _DIVISOR = word("include_pad"), word("divisor")
_ADAPTIVE = 2
"""Modes from here on choose windows by the sizes; odd modes are means."""


@numba.njit(error_model="numpy")
def _span(desc: int, axis: int, at: int) -> Any:
    """Give first and end position, step and padded length of a window along an axis.

    Args:
        desc: words of the stage.
        axis: 0 for y, 8 for x: where the axis' words are, from those of y.
        at: output position.
    """
    size = load_i64(desc + _H + axis)
    if load_i64(desc + _MODE) >= _ADAPTIVE:
        out = load_i64(desc + _OUT_H + axis)
        first, end = at * size // out, ((at + 1) * size + out - 1) // out
        return first, end, 1, end - first
    kernel, step = load_i64(desc + _KY + axis), load_i64(desc + _DY + axis)
    padding = load_i64(desc + _PY + axis)
    first = at * load_i64(desc + _SY + axis) - padding
    padded = min(first + kernel, size + padding) - first
    end = min(size, first + (kernel - 1) * step + 1)
    if first < 0:
        first += (step - 1 - first) // step * step
    return first, end, step, padded


@numba.njit(error_model="numpy")
def _wide(
    x: int, y: int, rows: int, row_step: int, columns: int, column_step: int, mean: int,
    divisor: float,
) -> None:  # fmt: skip
    """Compute 64 channels of one pixel; steps in bytes."""
    start = splat(np.float32(0.0)) if mean else splat(np.float32(-np.inf))
    a = b = c = d = start
    for i in range(rows):
        at = x + i * row_step
        for _ in range(columns):
            if mean:
                a, b = a + vload(at), b + vload(at + 64)
                c, d = c + vload(at + 128), d + vload(at + 192)
            else:
                a, b = highest(a, vload(at)), highest(b, vload(at + 64))
                c, d = highest(c, vload(at + 128)), highest(d, vload(at + 192))
            at += column_step
    if mean:
        by = splat(divisor)
        a, b, c, d = a / by, b / by, c / by, d / by
    vstore(y, a)
    vstore(y + 64, b)
    vstore(y + 128, c)
    vstore(y + 192, d)


@numba.njit(error_model="numpy")
def _narrow(
    x: int, y: int, rows: int, row_step: int, columns: int, column_step: int, mean: int,
    divisor: float, lanes: int,
) -> None:  # fmt: skip
    """Compute up to 16 channels of one pixel."""
    acc = splat(np.float32(0.0)) if mean else splat(np.float32(-np.inf))
    for i in range(rows):
        at = x + i * row_step
        for _ in range(columns):
            value = vload_first(at, lanes)
            acc = acc + value if mean else highest(acc, value)
            at += column_step
    if mean:
        acc = acc / splat(divisor)
    vstore_first(y, acc, lanes)


@numba.njit(error_model="numpy")
def pool_window_f32(
    desc: int, bufs: int, lo: int, hi: int, lo2: int, hi2: int, scratch: int, services: int
) -> None:
    """Pool windows; scratch is not used."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    y = load_i64(bufs + 8 * load_i64(desc + _Y)) + load_i64(desc + _Y + 8)
    pieces, out_h, out_w = (
        load_i64(desc + _PIECES), load_i64(desc + _OUT_H), load_i64(desc + _OUT_W)
    )  # fmt: skip
    x_y, x_x = load_i64(desc + _XY), load_i64(desc + _XX)
    mean = load_i64(desc + _MODE) & 1
    width, include, fixed = (
        load_i64(desc + _W),
        load_i64(desc + _INCLUDE),
        load_i64(desc + _DIVISOR),
    )
    kernel, stride, padding = load_i64(desc + _KX), load_i64(desc + _SX), load_i64(desc + _PX)
    simple = load_i64(desc + _MODE) < _ADAPTIVE and load_i64(desc + _DX) == 1
    start, end = lo2 * BLOCK, min(hi2 * BLOCK, load_i64(desc + _C))
    for item in range(lo, hi):
        line = item // pieces
        image = line // out_h
        row = line - image * out_h
        y0, y1, step_y, padded_y = _span(desc, 0, row)
        rows = max(0, (y1 - y0 + step_y - 1) // step_y)
        column = (item - line * pieces) * PIECE
        target = y + image * load_i64(desc + _YN) + row * load_i64(desc + _YY)
        source = x + image * load_i64(desc + _XN) + y0 * x_y
        for at in range(column, min(out_w, column + PIECE)):
            if simple:
                # What `_span` gives, without its divisions.
                x0, step_x = at * stride - padding, 1
                padded_x = min(kernel, width + padding - x0)
                columns = min(width, x0 + kernel)
                x0 = max(0, x0)
                columns = max(0, columns - x0)
            else:
                x0, x1, step_x, padded_x = _span(desc, 8, at)
                columns = max(0, (x1 - x0 + step_x - 1) // step_x)
            count = padded_y * padded_x if include else rows * columns
            divisor = np.float32(fixed if fixed != 0 else count)
            src = source + x0 * x_x
            dst = target + at * load_i64(desc + _YX)
            c = start
            while c + 64 <= end:
                _wide(src + 4 * c, dst + 4 * c, rows, step_y * x_y, columns, step_x * x_x, mean,
                      divisor)  # fmt: skip
                c += 64
            while c < end:
                _narrow(src + 4 * c, dst + 4 * c, rows, step_y * x_y, columns, step_x * x_x,
                        mean, divisor, min(16, end - c))  # fmt: skip
                c += 16
