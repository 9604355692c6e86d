"""The extreme of each row and where it first is; NaN counts as the extreme."""

import numba
import numpy as np

from fusec.kernels.codegen.atomics import call_point
from fusec.kernels.codegen.memory import load_f32, load_i64, store_f32, store_i64
from fusec.kernels.reduce.encode import KINDS, POINT
from fusec.kernels.reduce.micro import row_highest, row_lowest

__all__ = ["reduce_where"]

_ARGMIN, _MAX, _MIN = KINDS["argmin"], KINDS["max"], KINDS["min"]


@numba.njit(error_model="numpy")
def _first(x, n, value):  # type: ignore[no-untyped-def]
    """Give the first position that holds a value, or a NaN if the value is one."""
    for i in range(n):
        one = load_f32(x + 4 * i)
        if one == value or (value != value and one != one):
            return np.int64(i)
    return np.int64(0)


def reduce_where(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Find the extremes of rows lo .. hi."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    first = load_i64(bufs + 8 * load_i64(desc + 24)) + load_i64(desc + 32)
    second = np.int64(0)
    n = load_i64(desc + 72)
    kind = load_i64(desc + 96)
    if kind in (_MAX, _MIN):
        second = load_i64(bufs + 8 * load_i64(desc + 48)) + load_i64(desc + 56)
    for row in range(lo, hi):
        p = x + row * load_i64(desc + 16)
        value = row_lowest(p, n) if kind in (_ARGMIN, _MIN) else row_highest(p, n)
        position = _first(p, n, value)
        if second != 0:
            store_f32(first + row * load_i64(desc + 40), value)
            store_i64(second + row * load_i64(desc + 64), position)
        else:
            store_i64(first + row * load_i64(desc + 40), position)
    point = desc + 8 * POINT
    if load_i64(point) != 0:
        call_point(load_i64(services), point, bufs, 0, 0, 0, 1, lo, hi - lo, scratch)
