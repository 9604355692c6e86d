"""Group norm of channels last: a lane for each channel, channels joined to groups."""

import numba
import numpy as np

from fusec.kernels.codegen.atomics import call_point
from fusec.kernels.codegen.memory import (
    load_f32,
    load_i64,
    store_f32,
    vload_first,
    vstore_first,
)
from fusec.kernels.codegen.vectors import fma
from fusec.kernels.norm.encode import GRAIN, POINTS
from fusec.kernels.norm.parts import operand, root, variance
from fusec.kernels.pointwise.encode import POINT_SCRATCH_BYTES
from fusec.kernels.reduce.columns import column_centred, column_squares

__all__ = ["norm_columns"]

_POINT = POINTS["norm_columns"]


@numba.njit(error_model="numpy")
def _group_total(sums, each):  # type: ignore[no-untyped-def]
    """Add the sums of a group's channels, in order."""
    total = np.float32(0.0)
    for c in range(each):
        total = total + load_f32(sums + 4 * c)
    return total


@numba.njit(error_model="numpy")
def _totals(x, step, space, channels, means, power, sums):  # type: ignore[no-untyped-def]
    """Sum each channel, centred, to a power of 1 or 2."""
    for c in range(0, channels, 16):
        k = min(channels - c, 16)
        mean = vload_first(means + 4 * c, k)
        if power == 2:
            total = column_squares(x + 4 * c, 1, 0, space, step, k, mean)
        else:
            total = column_centred(x + 4 * c, 1, 0, space, step, k, mean)
        vstore_first(sums + 4 * c, total, k)


@numba.njit(error_model="numpy")
def _statistics(x, step, space, each, groups, eps, means, factors, shifts):  # type: ignore[no-untyped-def]
    """Write the mean of every channel's group, and what scales and shifts it to variance 1."""
    count = np.float32(space * each)
    channels = groups * each
    for c in range(channels):
        store_f32(means + 4 * c, np.float32(0.0))
    _totals(x, step, space, channels, means, 1, shifts)
    for g in range(groups):
        mean = _group_total(shifts + 4 * g * each, each) / count
        for c in range(g * each, g * each + each):
            store_f32(means + 4 * c, mean)
    # The mean was rounded; what it misses counts where it is large.
    _totals(x, step, space, channels, means, 1, shifts)
    _totals(x, step, space, channels, means, 2, factors)
    for g in range(groups):
        rest = _group_total(shifts + 4 * g * each, each) / count
        squares = _group_total(factors + 4 * g * each, each)
        scale = root(variance(squares, count, rest) + eps)
        for c in range(g * each, g * each + each):
            store_f32(factors + 4 * c, scale)
            store_f32(shifts + 4 * c, -rest * scale)


def norm_columns(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Normalise groups lo .. hi, counted over samples and groups of a sample."""
    weight = operand(desc, bufs, 6)
    bias = operand(desc, bufs, 8)
    space = load_i64(desc + 80)
    eps = load_f32(desc + 88)
    each = load_i64(desc + 96)
    groups = load_i64(desc + 104)
    x_step = load_i64(desc + 112)
    y_step = load_i64(desc + 120)
    point = desc + 8 * _POINT
    means = scratch + POINT_SCRATCH_BYTES
    room = 4 * (max(each, GRAIN) + 16)
    factors = means + room
    shifts = factors + room
    item = lo
    while item < hi:
        sample = item // groups
        group = item - sample * groups
        some = min(hi - item, groups - group, max(1, GRAIN // each))
        first = group * each
        n = some * each
        x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
        y = load_i64(bufs + 8 * load_i64(desc + 24)) + load_i64(desc + 32)
        x += sample * load_i64(desc + 16) + 4 * first
        y += sample * load_i64(desc + 40) + 4 * first
        _statistics(x, x_step, space, each, some, eps, means, factors, shifts)
        for s in range(space):
            for c in range(0, n, 16):
                k = min(n - c, 16)
                v = vload_first(x + s * x_step + 4 * c, k) - vload_first(means + 4 * c, k)
                v = fma(v, vload_first(factors + 4 * c, k), vload_first(shifts + 4 * c, k))
                p = 4 * (first + c)
                if weight != 0:
                    w = vload_first(weight + p, k)
                    v = fma(v, w, vload_first(bias + p, k)) if bias != 0 else v * w
                elif bias != 0:
                    v = v + vload_first(bias + p, k)
                vstore_first(y + s * y_step + 4 * c, v, k)
        if load_i64(point) != 0:
            call_point(load_i64(services), point, bufs, 0, sample, 0, space, first, n, scratch)
        item += some
