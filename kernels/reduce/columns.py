"""Reductions across rows: 16 columns at a time, each column a lane of its own."""

import operator
from typing import Any

import numba
import numpy as np

from fusec.kernels.codegen.atomics import call_point
from fusec.kernels.codegen.math import log
from fusec.kernels.codegen.memory import load_f32, load_i64, vload_first, vstore_first
from fusec.kernels.codegen.vectors import highest, lowest, select, splat, vabs, vsqrt
from fusec.kernels.reduce.encode import KINDS, POINT
from fusec.kernels.reduce.micro import absolute, centred, centred_square, power_of_distance

__all__ = ["column_centred", "column_squares", "reduce_columns"]

_CHUNK = 256
"""Rows that are joined before the result is put aside."""
_SUM, _MEAN, _AMAX, _AMIN = KINDS["sum"], KINDS["mean"], KINDS["amax"], KINDS["amin"]
_PROD, _VAR, _STD = KINDS["prod"], KINDS["var"], KINDS["std"]
_LOGSUMEXP, _NORM1, _NORM2 = KINDS["logsumexp"], KINDS["norm1"], KINDS["norm2"]
_NORMINF = KINDS["norminf"]


def _across(term: Any, join: Any, first: float) -> Any:
    """Make a helper that joins term(x, c) over r1 x r2 vectors of k floats."""
    start = np.float32(first)

    @numba.njit(error_model="numpy")
    def across(x, r1, s1, r2, s2, k, c):  # type: ignore[no-untyped-def]
        neutral = splat(start)
        whole = neutral
        for i in range(r1):
            at = np.int64(0)
            while at < r2:
                stop = min(r2, at + _CHUNK)
                p = x + i * s1
                a0 = neutral
                a1 = neutral
                a2 = neutral
                a3 = neutral
                while at + 4 <= stop:
                    q = p + at * s2
                    a0 = join(a0, term(vload_first(q, k), c))
                    a1 = join(a1, term(vload_first(q + s2, k), c))
                    a2 = join(a2, term(vload_first(q + 2 * s2, k), c))
                    a3 = join(a3, term(vload_first(q + 3 * s2, k), c))
                    at += 4
                if at < stop:
                    a0 = join(a0, term(vload_first(p + at * s2, k), c))
                    if at + 1 < stop:
                        a1 = join(a1, term(vload_first(p + (at + 1) * s2, k), c))
                    if at + 2 < stop:
                        a2 = join(a2, term(vload_first(p + (at + 2) * s2, k), c))
                    at = stop
                whole = join(whole, join(join(a0, a1), join(a2, a3)))
        return whole

    return across


column_centred = _across(centred, operator.add, 0.0)
column_squares = _across(centred_square, operator.add, 0.0)
_absolute_sum = _across(absolute, operator.add, 0.0)
_powers = _across(power_of_distance, operator.add, 0.0)
_product = _across(centred, operator.mul, 1.0)
_highest = _across(centred, highest, -np.inf)
_lowest = _across(centred, lowest, np.inf)


@numba.njit(error_model="numpy")
def _block(x, r1, s1, r2, s2, k, kind, correction):  # type: ignore[no-untyped-def]
    """Reduce k columns."""
    zero = splat(np.float32(0.0))
    count = splat(np.float32(r1 * r2))
    result = zero
    if kind in (_SUM, _MEAN):
        result = column_centred(x, r1, s1, r2, s2, k, zero)
        if kind == _MEAN:
            result = result / count
    elif kind in (_AMAX, _AMIN, _NORMINF):
        if kind != _AMIN:
            result = _highest(x, r1, s1, r2, s2, k, zero)
        if kind != _AMAX:
            low = _lowest(x, r1, s1, r2, s2, k, zero)
            result = low if kind == _AMIN else highest(result, vabs(low))
    elif kind == _PROD:
        result = _product(x, r1, s1, r2, s2, k, zero)
    elif kind == _NORM1:
        result = _absolute_sum(x, r1, s1, r2, s2, k, zero)
    elif kind == _LOGSUMEXP:
        top = _highest(x, r1, s1, r2, s2, k, zero)
        top = select(vabs(top) == splat(np.float32(np.inf)), zero, top)
        result = log(_powers(x, r1, s1, r2, s2, k, top)) + top
    else:
        mean = zero
        if kind != _NORM2:
            mean = column_centred(x, r1, s1, r2, s2, k, zero) / count
        result = column_squares(x, r1, s1, r2, s2, k, mean)
        if kind != _NORM2:
            below = np.float32(r1 * r2) - correction
            result = result / splat(max(below, np.float32(0.0)))
        if kind != _VAR:
            result = vsqrt(result)
    return result


def reduce_columns(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Reduce columns lo2 .. hi2 of each of lo .. hi."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    y = load_i64(bufs + 8 * load_i64(desc + 24)) + load_i64(desc + 32)
    r1 = load_i64(desc + 48)
    s1 = load_i64(desc + 56)
    r2 = load_i64(desc + 64)
    kind = load_i64(desc + 72)
    correction = load_f32(desc + 80)
    s2 = load_i64(desc + 104)
    point = desc + 8 * POINT
    for o in range(lo, hi):
        p = x + o * load_i64(desc + 16)
        q = y + o * load_i64(desc + 40)
        at = lo2
        while at < hi2:
            k = min(hi2 - at, 16)
            vstore_first(q + 4 * at, _block(p + 4 * at, r1, s1, r2, s2, k, kind, correction), k)
            at += 16
        if load_i64(point) != 0:
            call_point(load_i64(services), point, bufs, 0, 0, o, 1, lo2, hi2 - lo2, scratch)
