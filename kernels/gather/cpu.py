"""Native gathers: rows moved as bytes, out-of-range indices reported; see `encode`."""

import numba
import numpy as np

from fusec.kernels.codegen.atomics import atomic_store
from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.codegen.memory import (
    load_i16,
    load_i32,
    load_i64,
    load_u8,
    store_i8,
    store_i16,
    store_i32,
    store_i64,
    vload_i32,
    vstore_i32,
)
from fusec.kernels.gather.encode import OUT_OF_RANGE

__all__ = ["KERNELS"]


@numba.njit(error_model="numpy")
def _index(address, size, wrap, n, services):  # type: ignore[no-untyped-def]
    """Load an index; one out of range is reported and becomes 0, or -1 where there is no row."""
    index = load_i64(address) if size == 8 else load_i32(address)
    if index < 0 and wrap != 0:
        index += n
    if index < 0 or index >= n:
        atomic_store(load_i64(services + 8), np.int64(OUT_OF_RANGE))
        index = np.int64(0) if n > 0 else np.int64(-1)
    return index


@numba.njit(error_model="numpy")
def _move(source, target, count):  # type: ignore[no-untyped-def]
    """Move bytes."""
    at = np.int64(0)
    while at + 64 <= count:
        vstore_i32(target + at, vload_i32(source + at))
        at += 64
    while at + 8 <= count:
        store_i64(target + at, load_i64(source + at))
        at += 8
    while at < count:
        store_i8(target + at, load_u8(source + at))
        at += 1


def gather_rows(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Copy rows lo .. hi of the result, counted over o and j."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    n = load_i64(desc + 32)
    indices = load_i64(bufs + 8 * load_i64(desc + 40)) + load_i64(desc + 48)
    y = load_i64(bufs + 8 * load_i64(desc + 72)) + load_i64(desc + 80)
    count = load_i64(desc + 104)
    width = load_i64(desc + 112)
    for item in range(lo, hi):
        o = item // count if count != 0 else np.int64(0)
        j = item - o * count
        at = indices + j * load_i64(desc + 136)
        index = _index(at, load_i64(desc + 56), load_i64(desc + 64), n, services)
        if index >= 0:
            source = x + o * load_i64(desc + 16) + index * load_i64(desc + 24)
            _move(source, y + o * load_i64(desc + 88) + j * load_i64(desc + 96), width)


def gather_panels(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Copy rows lo .. hi of the result out of panels."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    step = load_i64(desc + 24)
    n = load_i64(desc + 32)
    indices = load_i64(bufs + 8 * load_i64(desc + 40)) + load_i64(desc + 48)
    y = load_i64(bufs + 8 * load_i64(desc + 72)) + load_i64(desc + 80)
    k = load_i64(desc + 112)
    nr = load_i64(desc + 120)
    for j in range(lo, hi):
        at = indices + j * load_i64(desc + 136)
        index = _index(at, load_i64(desc + 56), load_i64(desc + 64), n, services)
        if index >= 0:
            panel = index // nr
            source = x + panel * k * step + 4 * (index - panel * nr)
            target = y + j * load_i64(desc + 96)
            for i in range(k):
                store_i32(target + 4 * i, load_i32(source + i * step))


def gather_along(desc, bufs, lo, hi, lo2, hi2, scratch, services):  # type: ignore[no-untyped-def]
    """Copy elements of rows lo .. hi of the result, each by an index of its own."""
    x = load_i64(bufs + 8 * load_i64(desc)) + load_i64(desc + 8)
    n = load_i64(desc + 32)
    indices = load_i64(bufs + 8 * load_i64(desc + 40)) + load_i64(desc + 48)
    y = load_i64(bufs + 8 * load_i64(desc + 72)) + load_i64(desc + 80)
    count = load_i64(desc + 104)
    inner = load_i64(desc + 112)
    size = load_i64(desc + 120)
    for item in range(lo, hi):
        o = item // count if count != 0 else np.int64(0)
        j = item - o * count
        at = indices + o * load_i64(desc + 128) + j * load_i64(desc + 136)
        target = y + o * load_i64(desc + 88) + j * load_i64(desc + 96)
        start = x + o * load_i64(desc + 16)
        for i in range(inner):
            p = at + i * load_i64(desc + 144)
            index = _index(p, load_i64(desc + 56), load_i64(desc + 64), n, services)
            if index >= 0:
                source = start + index * load_i64(desc + 24) + i * load_i64(desc + 152)
                q = target + i * size
                if size == 4:
                    store_i32(q, load_i32(source))
                elif size == 8:
                    store_i64(q, load_i64(source))
                elif size == 2:
                    store_i16(q, load_i16(source))
                else:
                    store_i8(q, load_u8(source))


KERNELS = (
    KernelSource(name="gather_rows", function=gather_rows),
    KernelSource(name="gather_panels", function=gather_panels),
    KernelSource(name="gather_along", function=gather_along),
)
"""Kernels of this folder."""
