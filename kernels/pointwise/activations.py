"""Activation functions and powers on vectors of 16 floats, for the machine.

Largest error against float64 over finite floats, in units in the last place of the largest value
nearby: see `tests/kernels/test_pointwise_functions.py`.
"""

from collections.abc import Callable, Mapping

from llvmlite import ir

from fusec.kernels.codegen.lanes import Lanes
from fusec.kernels.codegen.math import (
    FUNCTIONS,
    exp_lanes,
    expm1_lanes,
    horner,
    log1p_lanes,
    log_parts,
    log_special,
)

__all__ = ["BINARY", "UNARY"]

_DOUBLE, _FLOAT = ir.DoubleType(), ir.FloatType()
_INFINITY = float("inf")


def highest(a: Lanes, b: Lanes) -> Lanes:
    """Give the larger of two; NaN where either is NaN."""
    return ((a > b) | a.is_nan()).select(a, b)


def lowest(a: Lanes, b: Lanes) -> Lanes:
    """Give the smaller of two; NaN where either is NaN."""
    return ((a < b) | a.is_nan()).select(a, b)


def _share(x: Lanes, u: Lanes) -> Lanes:
    """Give x / (1 + e ** -u)."""
    e = exp_lanes(-u.call("fabs"))
    return x * ((u < 0.0).select(e, 1.0) / (e + 1.0))


def _gelu(x: Lanes) -> Lanes:
    """Scale x by its share q = erfc(|x| / sqrt 2) / 2 of the normal distribution, or by 1 - q."""
    t = x.call("fabs")
    p = horner(t, (-0.7978854179382324, -0.3183000981807709, -0.03637295216321945,
                   0.004849233664572239, -2.6578349206829444e-05, -0.0001818526507122442,
                   4.978146534995176e-05, -7.09775213181274e-06, 5.52553501620423e-07,
                   -1.8472709584216318e-08))  # fmt: skip
    q = exp_lanes(p * t) * 0.5
    return x * (x > 0.0).select(1.0 - q, q)


def _gelu_tanh(x: Lanes) -> Lanes:
    cube = x * x * x
    return _share(x, cube.fma(0.044715, x) * 1.5957691216057308)


def _mish(x: Lanes) -> Lanes:
    """Multiply x by tanh(ln(1 + e)) = e (e + 2) / (e (e + 2) + 2)."""
    e = exp_lanes((x > 20.0).select(x.like(20.0), x))
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


def _softplus(x: Lanes) -> Lanes:
    return (x > 20.0).select(x, log1p_lanes(exp_lanes(x)))


def _clip(x: Lanes) -> Lanes:
    return lowest(highest(x + 3.0, x.like(0.0)), x.like(6.0))


def _selu(x: Lanes) -> Lanes:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return (x > 0.0).select(x * scale, expm1_lanes(x) * (scale * alpha))


def _elu(x: Lanes, alpha: Lanes) -> Lanes:
    return (x > 0.0).select(x, expm1_lanes(x) * alpha)


def _celu(x: Lanes, alpha: Lanes) -> Lanes:
    return (x > 0.0).select(x, expm1_lanes(x / alpha) * alpha)


def _leaky_relu(x: Lanes, slope: Lanes) -> Lanes:
    return (x > 0.0).select(x, x * slope)


def _exp2(x: Lanes) -> Lanes:
    x = (x > 129.0).select(x.like(129.0), x)
    x = (x < -152.0).select(x.like(-152.0), x)
    shifted = x + (12582912.0 + 254)
    r = x - (shifted - (12582912.0 + 254))
    p = horner(r, (1.0, 0.6931471824645996, 0.24022647738456726, 0.05550359562039375,
                   0.009618505835533142, 0.0013391025131568313,
                   0.00015326793072745204))  # fmt: skip
    bits = shifted.bits()
    half = bits >> 1
    return p * (half << 23).from_bits() * ((bits - half) << 23).from_bits()


def _logarithm(log_of_e: float, log_of_2: float) -> Callable[[Lanes], Lanes]:
    def log(x: Lanes) -> Lanes:
        k, f, rest = log_parts(x)
        return log_special(x, k.fma(log_of_2, (f + rest) * log_of_e))

    return log


def _turned(x: Lanes, quarter: int) -> Lanes:
    """Sine of x + quarter * pi / 2; the way to the nearest quarter is found in doubles.

    Beyond 1e15, where neighbouring floats are millions of turns apart, x counts as 0.
    """
    wide = x.to_float(_DOUBLE)
    wide = (wide.call("fabs") < 1e15).select(wide, 0.0)
    n = (wide * 0.6366197723675814).call("roundeven")
    r = n.fma(-6.123233995736766e-17, n.fma(-1.5707963267948966, wide)).to_float(_FLOAT)
    turns = n - (n * 0.25).call("floor") * 4.0 + float(quarter)
    turns = (turns >= 0.0).select(turns, 0.0).to_int(32)
    s = r * r
    odd = horner(s, (-0.1666666716337204, 0.008333379402756691, -0.00019853078993037343,
                     2.8328061034699203e-06))  # fmt: skip
    sine = (s * r).fma(odd, r)
    even = horner(s, (0.0416666679084301, -0.0013888980029150844, 2.482200761733111e-05,
                      -2.8878451985292486e-07))  # fmt: skip
    cosine = (s * s).fma(even, s.fma(-0.5, 1.0))
    result = (turns & 1).compare("!=", 0).select(cosine, sine)
    result = (turns & 2).compare("!=", 0).select(-result, result)
    return (x.call("fabs") < _INFINITY).select(result, float("nan"))


def _power(x: Lanes, y: Lanes) -> Lanes:
    """X ** y by logarithm and exponential in doubles, rounded once."""
    size = x.call("fabs")
    wide = size.to_float(_DOUBLE)
    bits = wide.bits() - 0x3FE6A09E667F3BCD
    k = (bits >> 52).to_float(_DOUBLE)
    m = ((bits & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).from_bits()
    s = (m - 1.0) / (m + 1.0)
    series = horner(s * s, [2.8853900817779268 / n for n in (1, 3, 5, 7, 9, 11, 13, 15)])
    log = s.fma(series, k)
    log = (wide < _INFINITY).select(log, wide)
    t = y.to_float(_DOUBLE) * log
    t = (t > 200.0).select(t.like(200.0), t)
    t = (t < -200.0).select(t.like(-200.0), t)
    n = t.call("roundeven")
    r = (t - n) * 0.6931471805599453
    p = horner(r, [1 / f for f in (1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880, 3628800)])
    scale = (((n + 6755399441055744.0).bits() + 1023) << 52).from_bits()
    return _signed_power(x, y, (p * scale).to_float(_FLOAT))


def _signed_power(x: Lanes, y: Lanes, result: Lanes) -> Lanes:
    """Put in what is special about powers of 0, 1, infinities, NaN and negative numbers."""
    whole = y.compare("==", y.call("floor"))
    half = y * 0.5
    odd = whole & half.compare("!=", half.call("floor")) & (y.call("fabs") < 16777216.0)
    size = x.call("fabs")
    zero = (y > 0.0).select(x.like(0.0), _INFINITY)
    result = size.compare("==", 0.0).select(y.is_nan().select(y, zero), result)
    result = size.compare("==", 1.0).select(y.is_nan().select(y, 1.0), result)
    negative = x.bits() < 0
    result = (negative & odd).select(-result, result)
    bad = (x < 0.0) & ~whole & (size < _INFINITY)
    result = bad.select(x.like(float("nan")), result)
    one = x.compare("==", 1.0) | y.compare("==", 0.0)
    return one.select(x.like(1.0), result)


UNARY: Mapping[str, Callable[[Lanes], Lanes]] = {
    **FUNCTIONS,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": lambda x: _share(x, x),
    "mish": _mish,
    "softplus": _softplus,
    "hardswish": lambda x: x * (_clip(x) / 6.0),
    "hardsigmoid": lambda x: _clip(x) / 6.0,
    "selu": _selu,
    "exp2": _exp2,
    "log2": _logarithm(1.4426950408889634, 1.0),
    "log10": _logarithm(0.4342944819032518, 0.3010299956639812),
    "sin": lambda x: _turned(x, 0),
    "cos": lambda x: _turned(x, 1),
}
BINARY: Mapping[str, Callable[[Lanes, Lanes], Lanes]] = {
    "pow": _power,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "celu": _celu,
}
