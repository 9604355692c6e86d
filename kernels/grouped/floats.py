"""Float32 functions of grouped kernels: polynomials, one spelling for cards and the interpreter.

A card's own instructions for these are off by more than PyTorch's functions. Coefficients and
errors are those of the native kernels, see `kernels/codegen/math.py`.
"""

import triton
import triton.language as tl

__all__ = [
    "bits_of",
    "copysign",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "float_of",
    "horner",
    "log",
    "log1p",
    "log2",
    "log10",
    "round_even",
    "sigmoid",
    "tanh",
    "turned",
]

_LOG2E = tl.constexpr(1.4426950408889634)
_LN2_HIGH = tl.constexpr(0.693145751953125)
_LN2_LOW = tl.constexpr(1.42860682030941723e-06)
_MAGIC = tl.constexpr(12582912.0 + 254)
_INFINITY = tl.constexpr(float("inf"))


@triton.jit
def bits_of(x):
    """Give the bits of float32 as int32."""
    return x.to(tl.int32, bitcast=True)


@triton.jit
def float_of(bits):
    """Give the float32 of bits in int32."""
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def copysign(size, sign):
    """Give a size, not negative, the sign of another float32."""
    return float_of(bits_of(size) | (bits_of(sign) & -2147483648))


@triton.jit
def horner(x, coefficients):
    """Evaluate a polynomial, constant first."""
    result = tl.zeros_like(x) + coefficients[len(coefficients) - 1]
    for i in tl.static_range(1, len(coefficients)):
        result = tl.fma(result, x, tl.zeros_like(x) + coefficients[len(coefficients) - 1 - i])
    return result


@triton.jit
def _times(a, b, c):
    """Give a * b + c, rounded once on a card; b and c may be numbers."""
    return tl.fma(a, tl.zeros_like(a) + b, tl.zeros_like(a) + c)


@triton.jit
def _reduced(x):
    """Split x = n ln 2 + r; give r, and integers whose low bits are n + 254."""
    shifted = _times(x, _LOG2E, _MAGIC)
    n = shifted - _MAGIC
    r = _times(n, -_LN2_LOW, _times(n, -_LN2_HIGH, x))
    return r, bits_of(shifted)


@triton.jit
def _two_to(low_bits):
    """Give 2 ** (b - 127) for integers in the low bits; what is above them is shifted out."""
    return float_of(low_bits << 23)


@triton.jit
def exp(x):
    """E ** x."""
    x = tl.where(x > 89.0, 89.0, x)
    x = tl.where(x < -104.0, -104.0, x)
    r, n = _reduced(x)
    q = horner(
        r,
        (
            0.4999999403953552,
            0.1666652113199234,
            0.04166826233267784,
            0.00836867094039917,
            0.001382104237563908,
        ),
    )
    p = tl.fma(r * r, q, r) + 1.0
    half = n >> 1  # two factors, since 2 ** n itself may be no float
    return p * _two_to(half) * _two_to(n - half)


@triton.jit
def exp2(x):
    """2 ** x."""
    x = tl.where(x > 129.0, 129.0, x)
    x = tl.where(x < -152.0, -152.0, x)
    shifted = x + _MAGIC
    r = x - (shifted - _MAGIC)
    p = horner(
        r,
        (
            1.0,
            0.6931471824645996,
            0.24022647738456726,
            0.05550359562039375,
            0.009618505835533142,
            0.0013391025131568313,
            0.00015326793072745204,
        ),
    )
    bits = bits_of(shifted)
    half = bits >> 1
    return p * _two_to(half) * _two_to(bits - half)


@triton.jit
def _expm1_parts(x):
    """Give e ** r - 1 and the integers of `_reduced`."""
    r, n = _reduced(x)
    q = horner(
        r,
        (
            0.5,
            0.1666666716337204,
            0.04166648909449577,
            0.008333207108080387,
            0.00139326648786664,
            0.00019945106760133058,
        ),
    )
    return tl.fma(r * r, q, r), n


@triton.jit
def expm1(x):
    """E ** x - 1, exact in sense for small x."""
    y = tl.where(x > 89.0, 89.0, x)
    y = tl.where(y < -50.0, -50.0, y)
    p, n = _expm1_parts(y)
    scale = _two_to(n - 128)  # half of 2 ** n, which may be no float
    result = tl.fma(scale, p, scale - 0.5) * 2.0
    return tl.where(tl.abs(x) < 1e-6, tl.fma(x, x * 0.5, x), result)


@triton.jit
def tanh(x):
    """Hyperbolic tangent: (e ** 2x - 1) / (e ** 2x + 1)."""
    y = tl.abs(x) * 2.0
    y = tl.where(y > 40.0, 40.0, y)
    p, n = _expm1_parts(y)
    scale = _two_to(n - 127)
    e = tl.fma(scale, p, scale - 1.0)
    result = copysign(tl.div_rn(e, e + 2.0), x)
    return tl.where(x == x, result, x)


@triton.jit
def sigmoid(x):
    """1 / (1 + e ** -x)."""
    e = exp(-tl.abs(x))
    return tl.div_rn(tl.where(x < 0.0, e, 1.0), e + 1.0)


@triton.jit
def erf(x):
    """Error function."""
    t = tl.abs(x)
    s = x * x
    low = horner(
        s,
        (
            0.12837916612625122,
            -0.3761262893676758,
            0.11283625662326813,
            -0.026855740696191788,
            0.0051924604922533035,
            -0.0008050804026424885,
            8.002774848137051e-05,
        ),
    )
    high = horner(
        t,
        (
            -1.1286410093307495,
            -0.6351813077926636,
            -0.10618793219327927,
            0.02372046560049057,
            -0.0036230506375432014,
            0.000318091653753072,
            -1.0766290870378725e-05,
        ),
    )
    tail = copysign(1.0 - exp(high * t), x)
    # Far out the polynomials are of no use, and overflow.
    tail = tl.where(t > 4.0, copysign(tl.zeros_like(x) + 1.0, x), tail)
    result = tl.where(t > 0.93, tail, tl.fma(low, x, x))
    return tl.where(x == x, result, x)


@triton.jit
def _log_parts(x):
    """Split ln x = k ln 2 + f + rest for finite x > 0; k is a whole number."""
    tiny = x < 1.1754943508222875e-38
    bits = bits_of(tl.where(tiny, x * 8388608.0, x)) - 0x3F3504F3
    k = (bits >> 23).to(tl.float32) - tl.where(tiny, 23.0, 0.0)
    f = float_of((bits & 0x7FFFFF) + 0x3F3504F3) - 1.0
    p = horner(
        f,
        (
            0.3333331346511841,
            -0.25000008940696716,
            0.20002073049545288,
            -0.1666799634695053,
            0.14220327138900757,
            -0.12406031787395477,
            0.1188356801867485,
            -0.1167144924402237,
            0.06750956177711487,
        ),
    )
    square = f * f
    return k, f, tl.fma(square, p * f, square * -0.5)


@triton.jit
def _log_special(x, result):
    """Put in the logarithms of zero, infinity, NaN and negative numbers."""
    result = tl.where(x == 0.0, -_INFINITY, result)
    result = tl.where(x == _INFINITY, x, result)
    return tl.where(x >= 0.0, result, float("nan"))


@triton.jit
def log(x):
    """Natural logarithm."""
    k, f, rest = _log_parts(x)
    return _log_special(x, _times(k, _LN2_HIGH, f + _times(k, _LN2_LOW, rest)))


@triton.jit
def log2(x):
    """Logarithm to base 2."""
    k, f, rest = _log_parts(x)
    return _log_special(x, k + (f + rest) * 1.4426950408889634)


@triton.jit
def log10(x):
    """Logarithm to base 10."""
    k, f, rest = _log_parts(x)
    return _log_special(x, _times(k, 0.3010299956639812, (f + rest) * 0.4342944819032518))


@triton.jit
def log1p(x):
    """ln(1 + x), exact in sense for small x."""
    u = x + 1.0
    lost = tl.div_rn(x - (u - 1.0), u)
    result = log(u) + tl.where(u == _INFINITY, 0.0, lost)
    result = tl.where(u == 0.0, -_INFINITY, result)
    return tl.where(tl.abs(x) < 1e-7, x, result)


@triton.jit
def round_even(x):
    """Round to the nearest whole number, ties to even; float32 or float64."""
    if x.dtype == tl.float64:
        whole = tl.abs(x) + 4503599627370496.0 - 4503599627370496.0
        large = tl.abs(x) >= 4503599627370496.0
        sign = x.to(tl.int64, bitcast=True) & (-9223372036854775807 - 1)
        signed = (whole.to(tl.int64, bitcast=True) | sign).to(tl.float64, bitcast=True)
    else:
        whole = tl.abs(x) + 8388608.0 - 8388608.0
        large = tl.abs(x) >= 8388608.0
        signed = copysign(whole, x)
    return tl.where(large | (x != x), x, signed)


@triton.jit
def turned(x, quarter):
    """Sine of x + quarter * pi / 2; the way to the nearest quarter is found in doubles.

    Beyond 1e15, where neighbouring floats are millions of turns apart, x counts as 0.
    """
    wide = x.to(tl.float64)
    wide = tl.where(tl.abs(wide) < 1e15, wide, 0.0)
    n = round_even(wide * 0.6366197723675814)
    r = _times(n, -6.123233995736766e-17, _times(n, -1.5707963267948966, wide)).to(tl.float32)
    turns = (n - tl.floor(n * 0.25) * 4.0).to(tl.int32) + quarter
    s = r * r
    odd = horner(
        s,
        (
            -0.1666666716337204,
            0.008333379402756691,
            -0.00019853078993037343,
            2.8328061034699203e-06,
        ),
    )
    sine = tl.fma(s * r, odd, r)
    even = horner(
        s,
        (
            0.0416666679084301,
            -0.0013888980029150844,
            2.482200761733111e-05,
            -2.8878451985292486e-07,
        ),
    )
    cosine = tl.fma(s * s, even, _times(s, -0.5, 1.0))
    result = tl.where((turns & 1) != 0, cosine, sine)
    result = tl.where((turns & 2) != 0, -result, result)
    return tl.where(tl.abs(x) < _INFINITY, result, float("nan"))
