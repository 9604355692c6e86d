"""What norm kernels have in common: reading operands, roots, the affine part of a row."""

import numba
import numpy as np

from fusec.kernels.codegen.memory import load_i64, vload, vload_first, vstore, vstore_first
from fusec.kernels.codegen.vectors import fma, splat

__all__ = ["affine_row", "operand", "root", "variance"]


@numba.njit(error_model="numpy")
def operand(desc, bufs, word):  # type: ignore[no-untyped-def]
    """Give the address of an affine operand, 0 for none."""
    slot = load_i64(desc + 8 * word)
    if slot < 0:
        return np.int64(0)
    return load_i64(bufs + 8 * slot) + load_i64(desc + 8 * word + 8)


@numba.njit(error_model="numpy")
def root(x):  # type: ignore[no-untyped-def]
    """Give 1 / sqrt(x)."""
    return np.float32(1.0) / np.sqrt(x)


@numba.njit(error_model="numpy")
def variance(squares, count, rest):  # type: ignore[no-untyped-def]
    """Give the variance of squares taken from a mean that was `rest` too small."""
    return max(squares / count - rest * rest, np.float32(0.0))


@numba.njit(error_model="numpy")
def affine_row(x, y, n, mean, scale, shift, weight, bias):  # type: ignore[no-untyped-def]
    """Write (x - mean) * scale + shift, times weight, plus bias, over n contiguous floats."""
    m = splat(mean)
    s = splat(scale)
    h = splat(shift)
    at = np.int64(0)
    while at + 16 <= n:
        p = 4 * at
        v = fma(vload(x + p) - m, s, h)
        if weight != 0:
            w = vload(weight + p)
            v = fma(v, w, vload(bias + p)) if bias != 0 else v * w
        elif bias != 0:
            v = v + vload(bias + p)
        vstore(y + p, v)
        at += 16
    if at < n:
        p = 4 * at
        k = n - at
        v = fma(vload_first(x + p, k) - m, s, h)
        if weight != 0:
            w = vload_first(weight + p, k)
            v = fma(v, w, vload_first(bias + p, k)) if bias != 0 else v * w
        elif bias != 0:
            v = v + vload_first(bias + p, k)
        vstore_first(y + p, v, k)
