"""Extremes that pass NaN on, and rounding to bfloat16: what several kernels need."""

import triton
import triton.language as tl

from fusec.kernels.grouped.floats import bits_of, float_of

__all__ = ["maximum", "minimum", "round_bf16"]


@triton.jit
def maximum(a, b):
    """Give the larger of two; NaN where either is NaN."""
    return tl.where((a > b) | (a != a), a, b)


@triton.jit
def minimum(a, b):
    """Give the smaller of two; NaN where either is NaN."""
    return tl.where((a < b) | (a != a), a, b)


@triton.jit
def round_bf16(x):
    """Round float32 to bfloat16, to the nearest, ties to even."""
    bits = bits_of(x)
    rounded = float_of((bits + 0x7FFF + ((bits >> 16) & 1)) & -65536)
    return tl.where(x != x, x, rounded)
