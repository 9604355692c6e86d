"""Integers and booleans, one at a time, and running sums."""

import numba
import numpy as np

from fusec.kernels.codegen.atomics import call_point
from fusec.kernels.codegen.memory import (
    load_f32,
    load_i32,
    load_i64,
    load_u8,
    store_f32,
    store_i8,
    store_i64,
)
from fusec.kernels.reduce.encode import KINDS, POINT

__all__ = ["reduce_scalars", "reduce_scan"]

_AMAX, _AMIN, _PROD = KINDS["amax"], KINDS["amin"], KINDS["prod"]
_ANY, _ALL = KINDS["any"], KINDS["all"]


@numba.njit(error_model="numpy")
def _load(address, size):  # type: ignore[no-untyped-def]
    if size == 8:
        return load_i64(address)
    return load_i32(address) if size == 4 else load_u8(address)


@numba.njit(error_model="numpy")
def _join(kind, so_far, one):  # type: ignore[no-untyped-def]
    if kind == _ANY:
        return np.int64(so_far != 0 or one != 0)
    if kind == _ALL:
        return np.int64(so_far != 0 and one != 0)
    if kind == _AMAX:
        return max(so_far, one)
    if kind == _AMIN:
        return min(so_far, one)
    return so_far * one if kind == _PROD else so_far + one


def reduce_scalars(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Reduce rows lo .. hi of integers, each to one int64, or to a boolean."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    y = load_i64(bufs + 8 * load_i64(desc + 24)) + load_i64(desc + 32)
    n = load_i64(desc + 72)
    step = load_i64(desc + 80)
    size = load_i64(desc + 88)
    kind = load_i64(desc + 96)
    result_size = load_i64(desc + 112)
    for row in range(lo, hi):
        p = x + row * load_i64(desc + 16)
        start = np.int64(1) if kind in (_ALL, _PROD) else np.int64(0)
        if (kind in (_AMAX, _AMIN)) and n > 0:
            start = _load(p, size)
        found = start
        for i in range(n):
            found = _join(kind, found, _load(p + i * step, size))
        if result_size == 8:
            store_i64(y + row * load_i64(desc + 40), found)
        else:
            store_i8(y + row * load_i64(desc + 40), found)
    point = desc + 8 * POINT
    if load_i64(point) != 0:
        call_point(load_i64(services), point, bufs, 0, 0, 0, 1, lo, hi - lo, scratch)


def reduce_scan(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Write running sums along the middle axis: floats summed as doubles, integers as int64."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    y = load_i64(bufs + 8 * load_i64(desc + 24)) + load_i64(desc + 32)
    n = load_i64(desc + 48)
    x_step = load_i64(desc + 56)
    y_step = load_i64(desc + 72)
    size = load_i64(desc + 88)
    result_size = load_i64(desc + 96)
    for o in range(lo, hi):
        for i in range(lo2, hi2):
            p = x + o * load_i64(desc + 16) + i * load_i64(desc + 64)
            q = y + o * load_i64(desc + 40) + i * load_i64(desc + 80)
            if result_size == 4:
                real = np.float64(0.0)
                for j in range(n):
                    real += np.float64(load_f32(p + j * x_step))
                    store_f32(q + j * y_step, np.float32(real))
            else:
                total = np.int64(0)
                for j in range(n):
                    total += _load(p + j * x_step, size)
                    store_i64(q + j * y_step, total)
