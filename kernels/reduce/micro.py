"""Reductions of one row of contiguous floats, shared by the kernels that need row statistics.

The order of a sum, whatever the machine: chunks of 16384 elements; of a chunk, element i belongs
to lane i % 16 of sum (i // 16) % 4 as long as 64 are left, the rest to the first; each lane adds
its elements in order; the four sums are added in pairs, chunks in order, and the lanes of the
result by halves.

Every helper costs numba a tenth of a second: terms are intrinsics, and a plain sum is a sum of
distances from 0.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from fusec.kernels.codegen.math import build_call
from fusec.kernels.codegen.memory import first_lanes, vload, vload_first
from fusec.kernels.codegen.vectors import (
    F32,
    call_llvm,
    highest,
    lowest,
    max_lanes,
    min_lanes,
    select,
    splat,
)

__all__ = [
    "absolute",
    "absolute_by_lane",
    "centred",
    "centred_by_lane",
    "centred_square",
    "power_of_distance",
    "row_highest",
    "row_lowest",
    "squares_by_lane",
    "summing",
]

_CHUNK = 16384
"""Elements of a row that are added before the sum is put aside."""


def summing(term: Callable[..., Any]) -> Any:
    """Make a kernel helper that sums term(x, c) over the floats x of a row, lane by lane.

    Args:
        term: an intrinsic or njit function of a vector and a vector constant.
    """

    @numba.njit(error_model="numpy")
    def lanes(address, n, constant):  # type: ignore[no-untyped-def]
        c = splat(constant)
        zero = splat(np.float32(0.0))
        whole = zero
        at = np.int64(0)
        while at < n:
            stop = min(at + _CHUNK, n)
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
            while at < stop:
                k = min(stop - at, 16)
                s0 = s0 + select(first_lanes(k), term(vload_first(address + 4 * at, k), c), zero)
                at += 16
            at = stop
            whole = whole + ((s0 + s1) + (s2 + s3))
        return whole

    return lanes


def _term(code: Callable[[Any, Any, Any], Any], doc: str) -> Any:
    @intrinsic
    def term(typingctx: Any, x: Any, c: Any) -> Any:
        def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return code(builder, *args)

        return F32(F32, F32), build

    term.__doc__ = doc
    return term


def _squared(builder: Any, x: ir.Value, c: ir.Value) -> ir.Value:
    distance = builder.fsub(x, c)
    return builder.fmul(distance, distance)


centred = _term(lambda builder, x, c: builder.fsub(x, c), "Give x - c.")
centred_square = _term(_squared, "Give (x - c) squared.")
absolute = _term(
    lambda builder, x, c: call_llvm(builder, "llvm.fabs.v16f32", F32.llvm, [x]),
    "Give x without its sign.",
)
power_of_distance = _term(
    lambda builder, x, c: build_call(builder, "exp", builder.fsub(x, c)), "Give e ** (x - c)."
)

centred_by_lane = summing(centred)
squares_by_lane = summing(centred_square)
absolute_by_lane = summing(absolute)


def _extreme(join: Any, fold: Any, first: float) -> Any:
    """Make a kernel helper that gives the extreme of a row; NaN if one is there."""
    start = np.float32(first)

    @numba.njit(error_model="numpy")
    def extreme(address, n):  # type: ignore[no-untyped-def]
        least = splat(start)
        a = least
        b = least
        at = np.int64(0)
        while at + 32 <= n:
            a = join(a, vload(address + 4 * at))
            b = join(b, vload(address + 4 * at + 64))
            at += 32
        while at < n:
            k = min(n - at, 16)
            a = join(a, select(first_lanes(k), vload_first(address + 4 * at, k), least))
            at += 16
        return fold(join(a, b))

    return extreme


row_highest = _extreme(highest, max_lanes, -np.inf)
row_lowest = _extreme(lowest, min_lanes, np.inf)
