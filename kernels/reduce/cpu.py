"""Native reductions; see `encode` for forms and the order of sums."""

import numba
import numpy as np

from fusec.kernels.codegen.atomics import call_point
from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.math import log
from fusec.kernels.codegen.memory import load_f32, load_i64, store_f32
from fusec.kernels.codegen.vectors import max_lanes, splat, sum_lanes
from fusec.kernels.reduce.columns import reduce_columns
from fusec.kernels.reduce.encode import KINDS, POINT
from fusec.kernels.reduce.micro import (
    absolute_by_lane,
    centred_by_lane,
    power_of_distance,
    row_highest,
    row_lowest,
    squares_by_lane,
    summing,
)
from fusec.kernels.reduce.scalars import reduce_scalars, reduce_scan
from fusec.kernels.reduce.sort import reduce_sort
from fusec.kernels.reduce.where import reduce_where

__all__ = ["KERNELS"]

_RUNS = 64
"""Runs that are summed before the sum is put aside."""
_SUM, _MEAN, _AMAX, _AMIN = KINDS["sum"], KINDS["mean"], KINDS["amax"], KINDS["amin"]
_PROD, _VAR, _STD = KINDS["prod"], KINDS["var"], KINDS["std"]
_LOGSUMEXP, _NORM1, _NORM2 = KINDS["logsumexp"], KINDS["norm1"], KINDS["norm2"]
_NORMINF = KINDS["norminf"]


_powers_by_lane = summing(power_of_distance)


@numba.njit(error_model="numpy")
def _runs(x, r1, s1, r2, kind, c):  # type: ignore[no-untyped-def]
    """Sum a term over r1 runs of r2 floats; the kind says which term."""
    zero = splat(np.float32(0.0))
    whole = zero
    run = np.int64(0)
    while run < r1:
        stop = min(r1, run + _RUNS)
        part = zero
        for i in range(run, stop):
            p = x + i * s1
            if kind in (_NORM2, _VAR, _STD):
                part = part + squares_by_lane(p, r2, c)
            elif kind == _NORM1:
                part = part + absolute_by_lane(p, r2, c)
            elif kind == _LOGSUMEXP:
                part = part + _powers_by_lane(p, r2, c)
            else:
                part = part + centred_by_lane(p, r2, c)
        whole = whole + part
        run = stop
    return sum_lanes(whole)


@numba.njit(error_model="numpy")
def _extreme(x, r1, s1, r2, kind):  # type: ignore[no-untyped-def]
    """Give the largest or the smallest; NaN if one is there."""
    found = np.float32(np.inf) if kind == _AMIN else np.float32(-np.inf)
    for i in range(r1):
        p = x + i * s1
        if kind == _AMIN:
            one = row_lowest(p, r2)
            if one < found or one != one:
                found = one
        else:
            one = row_highest(p, r2)
            if one > found or one != one:
                found = one
        if found != found:
            break
    return found


@numba.njit(error_model="numpy")
def _product(x, r1, s1, r2):  # type: ignore[no-untyped-def]
    found = np.float32(1.0)
    for i in range(r1):
        for j in range(r2):
            found = found * load_f32(x + i * s1 + 4 * j)
    return found


@numba.njit(error_model="numpy")
def _row_extreme(x, r1, s1, r2, kind):  # type: ignore[no-untyped-def]
    """Give the largest, the smallest, or the larger of their absolute values."""
    if kind == _AMIN:
        return _extreme(x, r1, s1, r2, _AMIN)
    high = _extreme(x, r1, s1, r2, _AMAX)
    if kind == _AMAX or high != high:
        return high
    return max(high, -_extreme(x, r1, s1, r2, _AMIN))


@numba.njit(error_model="numpy")
def _row(x, r1, s1, r2, kind, correction):  # type: ignore[no-untyped-def]
    zero = np.float32(0.0)
    count = np.float32(r1 * r2)
    if kind in (_AMAX, _AMIN, _NORMINF):
        return _row_extreme(x, r1, s1, r2, kind)
    if kind == _PROD:
        return _product(x, r1, s1, r2)
    centre = zero
    if kind in (_VAR, _STD):
        centre = _runs(x, r1, s1, r2, _SUM, zero) / count
    elif kind == _LOGSUMEXP:
        centre = _row_extreme(x, r1, s1, r2, _AMAX)
        if centre == np.float32(np.inf) or centre == np.float32(-np.inf):
            centre = zero
    total = _runs(x, r1, s1, r2, kind, centre)
    if kind == _LOGSUMEXP:
        return max_lanes(log(splat(total))) + centre
    if kind == _MEAN:
        return total / count
    if kind in (_VAR, _STD):
        total = total / max(count - correction, zero)
    return np.sqrt(total) if kind in (_NORM2, _STD) else total


def reduce_rows(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Reduce rows lo .. hi, each to one float."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    y = load_i64(bufs + 8 * load_i64(desc + 24)) + load_i64(desc + 32)
    r1 = load_i64(desc + 72)
    s1 = load_i64(desc + 80)
    r2 = load_i64(desc + 88)
    kind = load_i64(desc + 96)
    correction = load_f32(desc + 104)
    for row in range(lo, hi):
        value = _row(x + row * load_i64(desc + 16), r1, s1, r2, kind, correction)
        store_f32(y + row * load_i64(desc + 40), value)
    point = desc + 8 * POINT
    if load_i64(point) != 0:
        call_point(load_i64(services), point, bufs, 0, 0, 0, 1, lo, hi - lo, scratch)


KERNELS = (
    KernelSource(name="reduce_rows", function=reduce_rows),
    KernelSource(name="reduce_columns", function=reduce_columns),
    KernelSource(name="reduce_where", function=reduce_where),
    KernelSource(name="reduce_scalars", function=reduce_scalars),
    KernelSource(name="reduce_scan", function=reduce_scan),
    KernelSource(name="reduce_sort", function=reduce_sort),
)
"""Kernels of this folder."""
