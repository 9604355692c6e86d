"""Native norms: mean, then the sum of centred squares, then the affine part; see `encode`."""

import numba
import numpy as np

from fusec.kernels.codegen.atomics import call_point
from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import (
    load_f32,
    load_i64,
    vload,
    vload_first,
    vstore,
    vstore_first,
)
from fusec.kernels.codegen.vectors import fma, splat, sum_lanes
from fusec.kernels.norm.columns import norm_columns
from fusec.kernels.norm.encode import POINTS
from fusec.kernels.norm.parts import affine_row, operand, root, variance
from fusec.kernels.reduce.micro import centred_by_lane, squares_by_lane

__all__ = ["KERNELS"]

_ROW_POINT, _GROUP_POINT = POINTS["norm_rows"], POINTS["norm_groups"]
_BLOCK = 4096
"""Floats that are normalised before the epilogue runs over them."""
_RUNS = 64
"""Runs of a group that are summed before the sum is put aside."""


def norm_rows(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Normalise rows lo .. hi."""
    x_step = load_i64(desc + 16)
    y_step = load_i64(desc + 40)
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    y = load_i64(bufs + 8 * load_i64(desc + 24)) + load_i64(desc + 32)
    weight = operand(desc, bufs, 6)
    bias = operand(desc, bufs, 8)
    n = load_i64(desc + 80)
    eps = load_f32(desc + 88)
    rms = load_i64(desc + 88) >> 32
    count = np.float32(n)
    point = desc + 8 * _ROW_POINT
    block = max(1, _BLOCK // max(n, 1))
    row = lo
    while row < hi:
        stop = min(hi, row + block)
        for i in range(row, stop):
            a = x + i * x_step
            mean = np.float32(0.0)
            rest = np.float32(0.0)
            if rms != 0:
                total = sum_lanes(squares_by_lane(a, n, mean))
            else:
                mean = sum_lanes(centred_by_lane(a, n, mean)) / count
                # The mean was rounded; what it misses counts where it is large.
                rest = sum_lanes(centred_by_lane(a, n, mean)) / count
                total = sum_lanes(squares_by_lane(a, n, mean))
            scale = root(variance(total, count, rest) + eps)
            affine_row(a, y + i * y_step, n, mean, scale, -rest * scale, weight, bias)
        if load_i64(point) != 0:
            call_point(load_i64(services), point, bufs, 0, 0, row, stop - row, 0, n, scratch)
        row = stop


@numba.njit(error_model="numpy")
def _group_sum(x, a, b, step, mean, power):  # type: ignore[no-untyped-def]
    """Sum a x b elements, centred, to a power of 1 or 2: lane by lane, runs in order."""
    zero = splat(np.float32(0.0))
    whole = zero
    run = np.int64(0)
    while run < a:
        stop = min(a, run + _RUNS)
        part = zero
        for i in range(run, stop):
            if power == 2:
                part = part + squares_by_lane(x + i * step, b, mean)
            else:
                part = part + centred_by_lane(x + i * step, b, mean)
        whole = whole + part
        run = stop
    return sum_lanes(whole)


def norm_groups(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Normalise groups lo .. hi, counted over samples and groups of a sample."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    y = load_i64(bufs + 8 * load_i64(desc + 24)) + load_i64(desc + 32)
    weight = operand(desc, bufs, 6)
    bias = operand(desc, bufs, 8)
    a = load_i64(desc + 80)
    eps = load_f32(desc + 88)
    b = load_i64(desc + 96)
    groups = load_i64(desc + 104)
    x_run = load_i64(desc + 120)
    y_run = load_i64(desc + 136)
    count = np.float32(a * b)
    point = desc + 8 * _GROUP_POINT
    none = np.int64(0)
    for item in range(lo, hi):
        sample = item // groups
        group = item % groups
        p = x + sample * load_i64(desc + 16) + group * load_i64(desc + 112)
        q = y + sample * load_i64(desc + 40) + group * load_i64(desc + 128)
        mean = _group_sum(p, a, b, x_run, np.float32(0.0), 1) / count
        rest = _group_sum(p, a, b, x_run, mean, 1) / count
        scale = root(variance(_group_sum(p, a, b, x_run, mean, 2), count, rest) + eps)
        w = weight + 4 * group * a if weight != 0 else none
        c = bias + 4 * group * a if bias != 0 else none
        for i in range(a):
            factor = scale * load_f32(w + 4 * i) if w != 0 else scale
            term = load_f32(c + 4 * i) if c != 0 else np.float32(0.0)
            term = term - rest * factor
            _scaled_row(p + i * x_run, q + i * y_run, b, mean, factor, term)
        if load_i64(point) != 0:
            call_point(load_i64(services), point, bufs, sample, group, 0, a, 0, b, scratch)


@numba.njit(error_model="numpy")
def _scaled_row(x, y, n, mean, factor, term):  # type: ignore[no-untyped-def]
    """Write (x - mean) * factor + term over n contiguous floats."""
    m = splat(mean)
    f = splat(factor)
    t = splat(term)
    at = np.int64(0)
    while at + 16 <= n:
        vstore(y + 4 * at, fma(vload(x + 4 * at) - m, f, t))
        at += 16
    if at < n:
        vstore_first(y + 4 * at, fma(vload_first(x + 4 * at, n - at) - m, f, t), n - at)


KERNELS = (
    KernelSource(name="norm_rows", function=norm_rows),
    KernelSource(name="norm_groups", function=norm_groups),
    KernelSource(name="norm_columns", function=norm_columns),
)
"""Kernels of this folder."""
