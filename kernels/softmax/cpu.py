"""Native softmax: the maximum, then powers and their sum, then the quotients; see `encode`."""

import numba
import numpy as np

from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.math import exp, log
from fusec.kernels.codegen.memory import load_i64, vload, vload_first, vstore, vstore_first
from fusec.kernels.codegen.vectors import splat, sum_lanes
from fusec.kernels.reduce.micro import row_highest, row_sum, summing

__all__ = ["KERNELS"]


@numba.njit(error_model="numpy")
def _power(x, c):  # type: ignore[no-untyped-def]
    return exp(x - c)


_powers_by_lane = summing(_power)


def softmax_rows(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Give the softmax of rows lo .. hi, or its logarithm."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    y = load_i64(bufs + 8 * load_i64(desc + 24)) + load_i64(desc + 32)
    n = load_i64(desc + 48)
    logarithm = load_i64(desc + 56)
    for row in range(lo, hi):
        a = x + row * load_i64(desc + 16)
        b = y + row * load_i64(desc + 40)
        largest = row_highest(a, n)
        top = splat(largest)
        if logarithm != 0:
            total = sum_lanes(_powers_by_lane(a, n, largest))
            by = log(splat(total))
        else:
            at = np.int64(0)
            while at + 16 <= n:
                vstore(b + 4 * at, exp(vload(a + 4 * at) - top))
                at += 16
            if at < n:
                vstore_first(b + 4 * at, exp(vload_first(a + 4 * at, n - at) - top), n - at)
            by = splat(row_sum(b, n, np.float32(0.0)))
        at = np.int64(0)
        while at < n:
            k = min(n - at, 16)
            if logarithm != 0:
                v = (vload_first(a + 4 * at, k) - top) - by
            else:
                v = vload_first(b + 4 * at, k) / by
            vstore_first(b + 4 * at, v, k)
            at += 16


KERNELS = (KernelSource(name="softmax_rows", function=softmax_rows),)
"""Kernels of this folder."""
