"""What comes around the sums of a convolution: zeros, places, epilogue."""

from typing import Any

import numba

from fusec.kernels.codegen.atomics import call_point
from fusec.kernels.codegen.memory import load_i64, vload_first, vstore
from fusec.kernels.conv.encode import POINT
from fusec.kernels.conv.pixels import word

__all__ = ["clear", "epilogue", "lines_of"]

_OUT_H, _OUT_W, _PIECES = word("out_height"), word("out_width"), word("pieces")
_PIECE = word("piece")
_POINT = 8 * POINT


@numba.njit(error_model="numpy")
def clear(address: int, size_bytes: int) -> None:
    """Write zeros, in whole vectors."""
    zero = vload_first(address, 0)
    for at in range(0, size_bytes, 64):
        vstore(address + at, zero)


@numba.njit(error_model="numpy")
def lines_of(desc: int, item: int) -> Any:
    """Give image, row, first and end column of an item."""
    pieces, out_h = load_i64(desc + _PIECES), load_i64(desc + _OUT_H)
    line = item // pieces
    image = line // out_h
    start = (item - line * pieces) * load_i64(desc + _PIECE)
    end = min(load_i64(desc + _OUT_W), start + load_i64(desc + _PIECE))
    return image, line - image * out_h, start, end


@numba.njit(error_model="numpy")
def epilogue(
    desc: int, bufs: int, services: int, lo: int, hi: int, column: int, end: int, scratch: int
) -> None:
    """Run the pointwise program, if there is one, over some items and columns."""
    if load_i64(desc + _POINT) == 0:
        return
    for item in range(lo, hi):
        image, row, start, stop = lines_of(desc, item)
        call_point(load_i64(services), desc + _POINT, bufs, image, row, start, stop - start,
                   column, end - column, scratch)  # fmt: skip
