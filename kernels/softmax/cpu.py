"""Native softmax: the maximum, then powers and their sum, then the quotients; see `encode`."""

import numba
import numpy as np

from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.math import log
from fusec.kernels.codegen.memory import load_i64, vload, vload_first, vstore, vstore_first
from fusec.kernels.codegen.vectors import splat, sum_lanes
from fusec.kernels.reduce.micro import summing
from fusec.kernels.softmax.micro import power, powers, row_top

__all__ = ["KERNELS"]


@numba.njit(error_model="numpy")
def _power(x, c):  # type: ignore[no-untyped-def]
    return power(x - c)


_powers_by_lane = summing(_power)


@numba.njit(error_model="numpy")
def _logarithms(x, y, n, top):  # type: ignore[no-untyped-def]
    t = splat(top)
    of_sum = log(splat(sum_lanes(_powers_by_lane(x, n, top))))
    at = np.int64(0)
    while at + 16 <= n:
        vstore(y + 4 * at, (vload(x + 4 * at) - t) - of_sum)
        at += 16
    if at < n:
        vstore_first(y + 4 * at, (vload_first(x + 4 * at, n - at) - t) - of_sum, n - at)


@numba.njit(error_model="numpy")
def _scaled(y, n, total):  # type: ignore[no-untyped-def]
    by = splat(np.float32(1.0) / total)
    at = np.int64(0)
    while at + 16 <= n:
        vstore(y + 4 * at, vload(y + 4 * at) * by)
        at += 16
    if at < n:
        vstore_first(y + 4 * at, vload_first(y + 4 * at, n - at) * by, n - at)


def softmax_rows(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Give the softmax of rows lo .. hi, or its logarithm."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    y = load_i64(bufs + 8 * load_i64(desc + 24)) + load_i64(desc + 32)
    x_step = load_i64(desc + 16)
    y_step = load_i64(desc + 40)
    n = load_i64(desc + 48)
    logarithm = load_i64(desc + 56)
    for row in range(lo, hi):
        a = x + row * x_step
        b = y + row * y_step
        top = row_top(a, n)
        if logarithm != 0:
            _logarithms(a, b, n, top)
        else:
            _scaled(b, n, powers(a, b, n, top))


KERNELS = (KernelSource(name="softmax_rows", function=softmax_rows),)
"""Kernels of this folder."""
