"""Sorting along an axis, or its first k; equal values keep their order.

A key is an integer that orders as the value does: NaN is above all, -0.0 equals 0.0. For the
largest first, keys are inverted. Up to `_FEW` wanted are inserted one by one into those found so
far; more are merged, runs of doubling length, positions only.
"""

import numba
import numpy as np

from fusec.kernels.codegen.memory import (
    load_f32,
    load_f64,
    load_i32,
    load_i64,
    load_u8,
    store_i8,
    store_i32,
    store_i64,
)

__all__ = ["reduce_sort"]

_FEW = 64
_RUN = 8
"""Positions that are sorted by insertion before the first merge."""
_ABOVE_ALL = np.int64(2**63 - 1)


@numba.njit(error_model="numpy")
def _key(address, kind):  # type: ignore[no-untyped-def]
    """Give a value's key; kinds 1, 4, 8: integers of so many bytes; 5 and 9: floats."""
    if kind == 5:
        single = load_f32(address)
        if single != single:
            return _ABOVE_ALL
        bits = load_i32(address)
        if single == np.float32(0.0):
            bits = np.int64(0)
        return bits if bits >= 0 else bits ^ np.int64(0x7FFFFFFF)
    if kind == 9:
        double = load_f64(address)
        if double != double:
            return _ABOVE_ALL
        bits = load_i64(address)
        if double == 0.0:
            bits = np.int64(0)
        return bits if bits >= 0 else bits ^ _ABOVE_ALL
    if kind == 8:
        return load_i64(address)
    return load_i32(address) if kind == 4 else load_u8(address)


@numba.njit(error_model="numpy")
def _insert(keys, places, lo, hi, k):  # type: ignore[no-untyped-def]
    """Sort positions lo .. hi into the first k places from lo, the rest forgotten."""
    found = np.int64(0)
    for j in range(lo, hi):
        key = load_i64(keys + 8 * j)
        if found == k:
            if key >= load_i64(keys + 8 * load_i64(places + 8 * (lo + k - 1))):
                continue
        else:
            found += 1
        at = lo + found - 1
        while at > lo:
            before = load_i64(places + 8 * (at - 1))
            if load_i64(keys + 8 * before) <= key:
                break
            store_i64(places + 8 * at, before)
            at -= 1
        store_i64(places + 8 * at, j)


@numba.njit(error_model="numpy")
def _merge(keys, source, target, lo, middle, hi):  # type: ignore[no-untyped-def]
    left, right = lo, middle
    for at in range(lo, hi):
        take = left < middle
        if take and right < hi:
            a = load_i64(keys + 8 * load_i64(source + 8 * left))
            take = a <= load_i64(keys + 8 * load_i64(source + 8 * right))
        if take:
            store_i64(target + 8 * at, load_i64(source + 8 * left))
            left += 1
        else:
            store_i64(target + 8 * at, load_i64(source + 8 * right))
            right += 1


@numba.njit(error_model="numpy")
def _sorted(keys, n, k):  # type: ignore[no-untyped-def]
    """Give the address of positions in order of their keys: at least the first k."""
    places = keys + 8 * n
    other = keys + 16 * n
    if k <= _FEW:
        _insert(keys, places, np.int64(0), n, k)
        return places
    run = np.int64(_RUN)
    for lo in range(0, n, run):
        hi = min(n, lo + run)
        _insert(keys, places, np.int64(lo), hi, hi - lo)
    while run < n:
        for lo in range(0, n, 2 * run):
            _merge(keys, places, other, np.int64(lo), min(n, lo + run), min(n, lo + 2 * run))
        places, other = other, places
        run = 2 * run
    return places


@numba.njit(error_model="numpy")
def _copy(source, target, kind):  # type: ignore[no-untyped-def]
    if kind >= 8:
        store_i64(target, load_i64(source))
    elif kind >= 4:
        store_i32(target, load_i32(source))
    else:
        store_i8(target, load_u8(source))


def reduce_sort(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Sort along the middle axis: the first k values, and where they were."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    y = load_i64(bufs + 8 * load_i64(desc + 24)) + load_i64(desc + 32)
    z = load_i64(bufs + 8 * load_i64(desc + 48)) + load_i64(desc + 56)
    n = load_i64(desc + 72)
    k = load_i64(desc + 80)
    step = load_i64(desc + 88)
    kind = load_i64(desc + 136)
    inverted = load_i64(desc + 144)
    for o in range(lo, hi):
        for i in range(lo2, hi2):
            p = x + o * load_i64(desc + 16) + i * load_i64(desc + 96)
            for j in range(n):
                key = _key(p + j * step, kind)
                store_i64(scratch + 8 * j, ~key if inverted != 0 else key)
            places = _sorted(scratch, n, k)
            q = y + o * load_i64(desc + 40) + i * load_i64(desc + 112)
            r = z + o * load_i64(desc + 64) + i * load_i64(desc + 128)
            for j in range(k):
                place = load_i64(places + 8 * j)
                _copy(p + place * step, q + j * load_i64(desc + 104), kind)
                store_i64(r + j * load_i64(desc + 120), place)
