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
from fusec.kernels.codegen.vectors import fma, splat
from fusec.kernels.norm.encode import GRAIN, POINTS
from fusec.kernels.norm.parts import operand, root
from fusec.kernels.pointwise.encode import POINT_SCRATCH_BYTES
from fusec.kernels.reduce.columns import column_squares, column_sum

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
def _statistics(x, step, space, each, groups, eps, means, factors):  # type: ignore[no-untyped-def]
    """Write the mean of every channel's group, and what scales its variance to 1."""
    zero = splat(np.float32(0.0))
    count = np.float32(space * each)
    channels = groups * each
    for c in range(0, channels, 16):
        k = min(channels - c, 16)
        total = column_sum(x + 4 * c, 1, 0, space, step, k, zero)
        vstore_first(factors + 4 * c, total, k)
    for g in range(groups):
        mean = _group_total(factors + 4 * g * each, each) / count
        for c in range(each):
            store_f32(means + 4 * (g * each + c), mean)
    for c in range(0, channels, 16):
        k = min(channels - c, 16)
        total = column_squares(x + 4 * c, 1, 0, space, step, k, vload_first(means + 4 * c, k))
        vstore_first(factors + 4 * c, total, k)
    for g in range(groups):
        scale = root(_group_total(factors + 4 * g * each, each) / count + eps)
        for c in range(each):
            store_f32(factors + 4 * (g * each + c), scale)


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
    factors = means + 4 * (max(each, GRAIN) + 16)
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
        _statistics(x, x_step, space, each, some, eps, means, factors)
        for s in range(space):
            for c in range(0, n, 16):
                k = min(n - c, 16)
                v = vload_first(x + s * x_step + 4 * c, k) - vload_first(means + 4 * c, k)
                f = vload_first(factors + 4 * c, k)
                if weight != 0:
                    f = f * vload_first(weight + 4 * (first + c), k)
                v = fma(v, f, vload_first(bias + 4 * (first + c), k)) if bias != 0 else v * f
                vstore_first(y + s * y_step + 4 * c, v, k)
        if load_i64(point) != 0:
            call_point(load_i64(services), point, bufs, 0, sample, 0, space, first, n, scratch)
        item += some
