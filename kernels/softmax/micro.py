"""The parts of a softmax: the largest of a row, powers of e up to 1 and their sum."""

import numba
import numpy as np

from fusec.kernels.codegen.memory import first_lanes, vload, vload_first, vstore, vstore_first
from fusec.kernels.codegen.vectors import (
    bits_f32,
    bits_i32,
    fma,
    max_lanes,
    select,
    splat,
    sum_lanes,
)

__all__ = ["larger", "power", "powers", "row_top"]

_LOWEST = np.float32(-np.inf)
_LEAST = np.float32(-88.029)
"""Below it e ** x is 0: its exponent, rounded, is -127, which as bits is that of zero."""
_LOG2E = np.float32(1.4426950408889634)
_MAGIC = np.float32(12582912.0 + 127)
"""Adding it rounds to an integer that stands, biased, in the low bits."""
_LN2_HIGH, _LN2_LOW = np.float32(-0.693145751953125), np.float32(-1.42860682030941723e-06)
_C0, _C1 = np.float32(0.4999999403953552), np.float32(0.1666652113199234)
_C2, _C3 = np.float32(0.04166826233267784), np.float32(0.00836867094039917)
_C4 = np.float32(0.001382104237563908)


@numba.njit(error_model="numpy")
def larger(a, b):  # type: ignore[no-untyped-def]
    """Give the larger of two, lane by lane; b where a is NaN."""
    return select(a > b, a, b)


@numba.njit(error_model="numpy")
def power(x):  # type: ignore[no-untyped-def]
    """Give e ** x for x up to 0, and NaN for NaN; 0 where the result would be denormal."""
    x = larger(splat(_LEAST), x)
    shifted = fma(x, splat(_LOG2E), splat(_MAGIC))
    n = shifted - splat(_MAGIC)
    r = fma(n, splat(_LN2_LOW), fma(n, splat(_LN2_HIGH), x))
    q = fma(splat(_C4), r, splat(_C3))
    q = fma(q, r, splat(_C2))
    q = fma(q, r, splat(_C1))
    q = fma(q, r, splat(_C0))
    p = fma(r * r, q, r) + splat(np.float32(1.0))
    return p * bits_f32(bits_i32(shifted) << splat(np.int32(23)))


@numba.njit(error_model="numpy")
def row_top(x, n):  # type: ignore[no-untyped-def]
    """Give the largest of n floats, or some of them if there is a NaN; -inf for none."""
    low = splat(_LOWEST)
    a = low
    b = low
    c = low
    d = low
    at = np.int64(0)
    while at + 64 <= n:
        p = x + 4 * at
        a = larger(vload(p), a)
        b = larger(vload(p + 64), b)
        c = larger(vload(p + 128), c)
        d = larger(vload(p + 192), d)
        at += 64
    while at < n:
        k = min(n - at, 16)
        a = larger(select(first_lanes(k), vload_first(x + 4 * at, k), low), a)
        at += 16
    return max_lanes(larger(larger(a, b), larger(c, d)))


@numba.njit(error_model="numpy")
def powers(x, y, n, top):  # type: ignore[no-untyped-def]
    """Write e ** (x - top) for n floats and give their sum.

    Order of the sum: as in `reduce/micro.py`.
    """
    t = splat(top)
    zero = splat(np.float32(0.0))
    whole = zero
    at = np.int64(0)
    while at < n:
        stop = min(n, at + 16384)
        s0 = zero
        s1 = zero
        s2 = zero
        s3 = zero
        while at + 64 <= stop:
            p = x + 4 * at
            q = y + 4 * at
            a = power(vload(p) - t)
            b = power(vload(p + 64) - t)
            c = power(vload(p + 128) - t)
            d = power(vload(p + 192) - t)
            vstore(q, a)
            vstore(q + 64, b)
            vstore(q + 128, c)
            vstore(q + 192, d)
            s0 = s0 + a
            s1 = s1 + b
            s2 = s2 + c
            s3 = s3 + d
            at += 64
        while at < stop:
            k = min(stop - at, 16)
            a = select(first_lanes(k), power(vload_first(x + 4 * at, k) - t), zero)
            vstore_first(y + 4 * at, a, k)
            s0 = s0 + a
            at += 16
        whole = whole + ((s0 + s1) + (s2 + s3))
    return sum_lanes(whole)
