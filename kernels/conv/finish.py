"""What comes around the sums of a convolution: zeros, bias, epilogue."""

from typing import Any

import numba

from fusec.kernels.codegen.atomics import call_point
from fusec.kernels.codegen.memory import load_i64, vload, vload_first, vstore, vstore_first
from fusec.kernels.conv.encode import PIECE, POINT
from fusec.kernels.conv.pixels import word

__all__ = ["add_bias", "clear", "epilogue", "lines_of"]

_OUT_H, _OUT_W, _PIECES = word("out_height"), word("out_width"), word("pieces")
_POINT = 8 * POINT


@numba.njit(error_model="numpy")
def clear(address: int, size_bytes: int) -> None:
    """Write zeros, in whole vectors."""
    zero = vload_first(address, 0)
    for at in range(0, size_bytes, 64):
        vstore(address + at, zero)


@numba.njit(error_model="numpy")
def add_bias(targets: int, count: int, columns: int, shift: int, bias: int) -> None:
    """Add a bias to the rows at some addresses; none if its address is 0."""
    if bias == 0:
        return
    for r in range(count):
        row = load_i64(targets + 8 * r) + shift
        c = 0
        while c + 16 <= columns:
            vstore(row + 4 * c, vload(row + 4 * c) + vload(bias + 4 * c))
            c += 16
        if c < columns:
            value = vload_first(row + 4 * c, columns - c) + vload_first(bias + 4 * c, columns - c)
            vstore_first(row + 4 * c, value, columns - c)


@numba.njit(error_model="numpy")
def lines_of(desc: int, item: int) -> Any:
    """Give line, image, row, first and end column of an item."""
    pieces, out_h = load_i64(desc + _PIECES), load_i64(desc + _OUT_H)
    line = item // pieces
    image = line // out_h
    start = (item - line * pieces) * PIECE
    return line, image, line - image * out_h, start, min(load_i64(desc + _OUT_W), start + PIECE)


@numba.njit(error_model="numpy")
def epilogue(
    desc: int, bufs: int, services: int, lo: int, hi: int, column: int, end: int, scratch: int
) -> None:
    """Run the pointwise program, if there is one, over some items and columns."""
    if load_i64(desc + _POINT) == 0:
        return
    for item in range(lo, hi):
        _, image, row, start, stop = lines_of(desc, item)
        call_point(load_i64(services), desc + _POINT, bufs, image, row, start, stop - start,
                   column, end - column, scratch)  # fmt: skip
