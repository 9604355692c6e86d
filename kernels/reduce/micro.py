"""Reductions of one row of contiguous floats, shared by the kernels that need row statistics.

The order of a sum, whatever the machine: chunks of 16384 elements; of a chunk, element i belongs
to lane i % 16 of sum (i // 16) % 4 as long as 64 are left, the rest to the first; each lane adds
its elements in order; the four sums are added in pairs, chunks in order, and the lanes of the
result by halves.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from fusec.kernels.codegen.memory import first_lanes, vload, vload_first
from fusec.kernels.codegen.vectors import (
    highest,
    lowest,
    max_lanes,
    min_lanes,
    select,
    splat,
    sum_lanes,
    vabs,
)

__all__ = [
    "CHUNK",
    "absolute_by_lane",
    "centred_by_lane",
    "centred_squares",
    "centred_squares_by_lane",
    "centred_sum",
    "row_highest",
    "row_highest_absolute",
    "row_lowest",
    "row_sum",
    "squares",
    "squares_by_lane",
    "sum_by_lane",
    "summing",
]

CHUNK = 16384
"""Elements of a row that are added before the sum is put aside: 256 per lane."""

_INFINITY = np.float32(np.inf)
_LOWEST = np.float32(-np.inf)


def summing(term: Callable[..., Any]) -> Any:
    """Make a kernel helper that sums term(x, c) over the floats x of a row, lane by lane.

    Args:
        term: an njit function of a vector and a vector constant.
    """

    @numba.njit(error_model="numpy")
    def lanes(address, n, constant):  # type: ignore[no-untyped-def]
        c = splat(constant)
        zero = splat(np.float32(0.0))
        whole = zero
        at = np.int64(0)
        while at < n:
            stop = min(at + CHUNK, n)
            s0 = zero
            s1 = zero
            s2 = zero
            s3 = zero
            while at + 64 <= stop:
                p = address + 4 * at
                s0 = s0 + term(vload(p), c)
                s1 = s1 + term(vload(p + 64), c)
                s2 = s2 + term(vload(p + 128), c)
                s3 = s3 + term(vload(p + 192), c)
                at += 64
            while at + 16 <= stop:
                s0 = s0 + term(vload(address + 4 * at), c)
                at += 16
            if at < stop:
                rest = term(vload_first(address + 4 * at, stop - at), c)
                s0 = s0 + select(first_lanes(stop - at), rest, zero)
                at = stop
            whole = whole + ((s0 + s1) + (s2 + s3))
        return whole

    return lanes


@numba.njit(error_model="numpy")
def _itself(x, c):  # type: ignore[no-untyped-def]
    return x


@numba.njit(error_model="numpy")
def _square(x, c):  # type: ignore[no-untyped-def]
    return x * x


@numba.njit(error_model="numpy")
def _centred(x, c):  # type: ignore[no-untyped-def]
    return x - c


@numba.njit(error_model="numpy")
def _centred_square(x, c):  # type: ignore[no-untyped-def]
    return (x - c) * (x - c)


@numba.njit(error_model="numpy")
def _absolute(x, c):  # type: ignore[no-untyped-def]
    return vabs(x)


sum_by_lane = summing(_itself)
squares_by_lane = summing(_square)
centred_by_lane = summing(_centred)
centred_squares_by_lane = summing(_centred_square)


def _folded(by_lane: Any) -> Any:
    @numba.njit(error_model="numpy")
    def total(address, n, constant):  # type: ignore[no-untyped-def]
        return sum_lanes(by_lane(address, n, constant))

    return total


row_sum = _folded(sum_by_lane)
squares = _folded(squares_by_lane)
centred_sum = _folded(centred_by_lane)
centred_squares = _folded(centred_squares_by_lane)
absolute_by_lane = summing(_absolute)


def _extreme(join: Any, fold: Any, first: np.float32, change: Any) -> Any:
    """Make a kernel helper that gives the extreme of a row; NaN if one is there."""

    @numba.njit(error_model="numpy")
    def extreme(address, n):  # type: ignore[no-untyped-def]
        least = splat(first)
        a = least
        b = least
        at = np.int64(0)
        while at + 32 <= n:
            a = join(a, change(vload(address + 4 * at), a))
            b = join(b, change(vload(address + 4 * at + 64), b))
            at += 32
        if at + 16 <= n:
            a = join(a, change(vload(address + 4 * at), a))
            at += 16
        if at < n:
            rest = change(vload_first(address + 4 * at, n - at), b)
            b = join(b, select(first_lanes(n - at), rest, least))
        return fold(join(a, b))

    return extreme


row_highest = _extreme(highest, max_lanes, _LOWEST, _itself)
row_lowest = _extreme(lowest, min_lanes, _INFINITY, _itself)
row_highest_absolute = _extreme(highest, max_lanes, _LOWEST, _absolute)
