"""Powers of float32, by logarithm and exponential in doubles, rounded once."""

import triton
import triton.language as tl

from fusec.kernels.grouped.floats import bits_of, horner, round_even

__all__ = ["power"]

_INFINITY = tl.constexpr(float("inf"))


@triton.jit
def power(x, y):
    """X ** y."""
    x = x + tl.zeros_like(y)
    y = y + tl.zeros_like(x)
    wide = tl.abs(x).to(tl.float64)
    bits = wide.to(tl.int64, bitcast=True) - 0x3FE6A09E667F3BCD
    k = (bits >> 52).to(tl.float64)
    m = ((bits & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).to(tl.float64, bitcast=True)
    s = (m - 1.0) / (m + 1.0)
    series = horner(
        s * s,
        (
            2.8853900817779268,
            2.8853900817779268 / 3,
            2.8853900817779268 / 5,
            2.8853900817779268 / 7,
            2.8853900817779268 / 9,
            2.8853900817779268 / 11,
            2.8853900817779268 / 13,
            2.8853900817779268 / 15,
        ),
    )
    logarithm = tl.fma(s, series, k)
    logarithm = tl.where(wide < _INFINITY, logarithm, wide)
    t = y.to(tl.float64) * logarithm
    t = tl.where(t > 200.0, 200.0, t)
    t = tl.where(t < -200.0, -200.0, t)
    n = round_even(t)
    r = (t - n) * 0.6931471805599453
    p = horner(
        r,
        (
            1.0,
            1.0,
            1.0 / 2,
            1.0 / 6,
            1.0 / 24,
            1.0 / 120,
            1.0 / 720,
            1.0 / 5040,
            1.0 / 40320,
            1.0 / 362880,
            1.0 / 3628800,
        ),
    )
    scale = (((n + 6755399441055744.0).to(tl.int64, bitcast=True) + 1023) << 52).to(
        tl.float64, bitcast=True
    )
    return _signed(x, y, (p * scale).to(tl.float32))


@triton.jit
def _signed(x, y, result):
    """Put in what is special about powers of 0, 1, infinities, NaN and negative numbers."""
    whole = y == tl.floor(y)
    half = y * 0.5
    odd = whole & (half != tl.floor(half)) & (tl.abs(y) < 16777216.0)
    size = tl.abs(x)
    zero = tl.where(y > 0.0, 0.0, _INFINITY)
    result = tl.where(size == 0.0, tl.where(y != y, y, zero), result)
    result = tl.where(size == 1.0, tl.where(y != y, y, 1.0), result)
    result = tl.where((bits_of(x) < 0) & odd, -result, result)
    result = tl.where((x < 0.0) & ~whole & (size < _INFINITY), float("nan"), result)
    return tl.where((x == 1.0) | (y == 0.0), 1.0, result)
