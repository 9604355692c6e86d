"""The table of pointwise steps as Triton functions, one of each name, for all classes it has."""

from collections.abc import Mapping
from typing import Any, ClassVar

import triton
import triton.language as tl

from fusec.kernels.grouped.activations import (
    celu,
    cosine,
    elu,
    gelu,
    gelu_tanh,
    hardsigmoid,
    hardswish,
    leaky_relu,
    mish,
    selu,
    silu,
    sine,
    softplus,
)
from fusec.kernels.grouped.extremes import maximum, minimum, round_bf16
from fusec.kernels.grouped.floats import (
    copysign,
    erf,
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    log10,
    round_even,
    sigmoid,
    tanh,
)
from fusec.kernels.grouped.power import power

__all__ = ["function_of"]

_INFINITY = tl.constexpr(float("inf"))


@triton.constexpr_function
def function_of(step):
    """Give the function of a step, such as mul_f32."""
    name, _, kind = step.rpartition("_")
    if name.endswith("_of"):
        return {"f32": _f32, "f64": _f64, "i64": _i64, "i32": _i32, "b8": _b8}[name[:-3]]
    integers = _Functions.integers if kind[0] in "ib" else {}
    return integers.get(name) or _Functions.steps[name]


@triton.jit
def _isnan(x):
    """Tell NaN."""
    return x != x


@triton.jit
def _f32(x):
    return x.to(tl.float32)


@triton.jit
def _f64(x):
    return x.to(tl.float64)


@triton.jit
def _i64(x):
    return x.to(tl.int64)


@triton.jit
def _i32(x):
    return x.to(tl.int32)


@triton.jit
def _b8(x):
    return x != 0


@triton.jit
def _neg(x):
    return -x


@triton.jit
def _abs(x):
    return tl.abs(x)


@triton.jit
def _sign(x):
    return (x > 0).to(x.dtype) - (x < 0).to(x.dtype)


@triton.jit
def _relu(x):
    return tl.where((x > 0) | (x != x), x, tl.zeros_like(x))


@triton.jit
def _not(x):
    if x.dtype == tl.int1:
        return x == 0
    else:
        return ~x


@triton.jit
def _root(x):
    if x.dtype == tl.float32:
        return tl.sqrt_rn(x)
    else:
        return tl.sqrt(x)


@triton.jit
def _div(a, b):
    if a.dtype == tl.float32:
        return tl.div_rn(a, b)
    else:
        return a / b


@triton.jit
def _reciprocal(x):
    return _div(tl.zeros_like(x) + 1.0, x)


@triton.jit
def _rsqrt(x):
    return _reciprocal(_root(x))


@triton.jit
def _floor(x):
    return tl.floor(x)


@triton.jit
def _ceil(x):
    return tl.ceil(x)


@triton.jit
def _trunc(x):
    return tl.where(x < 0, tl.ceil(x), tl.floor(x))


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _sub(a, b):
    return a - b


@triton.jit
def _rsub(a, b):
    return b - a


@triton.jit
def _mul(a, b):
    return a * b


@triton.jit
def _and(a, b):
    return a & b


@triton.jit
def _or(a, b):
    return a | b


@triton.jit
def _xor(a, b):
    return a ^ b


@triton.jit
def _eq(a, b):
    return a == b


@triton.jit
def _ne(a, b):
    return a != b


@triton.jit
def _lt(a, b):
    return a < b


@triton.jit
def _le(a, b):
    return a <= b


@triton.jit
def _gt(a, b):
    return a > b


@triton.jit
def _ge(a, b):
    return a >= b


@triton.jit
def _isinf(x):
    return tl.abs(x) == _INFINITY


@triton.jit
def _isfinite(x):
    return tl.abs(x) < _INFINITY


@triton.jit
def _where(c, a, b):
    return tl.where(c, a, b)


@triton.jit
def _same(x):
    return x


@triton.jit
def _fmod(a, b):
    """Remainder with the sign of `a`, exact: each round takes up to 2**52 of `b` off."""
    wide = a.to(tl.float64)
    by = b.to(tl.float64)
    r = wide
    for _ in tl.static_range(6):
        again = (tl.abs(r) >= tl.abs(by)) & (tl.abs(r) < _INFINITY) & (tl.abs(by) > 0.0)
        r = tl.where(again, tl.fma(-_trunc(r / by), by, r), r)
    # Quotients that were rounded up leave the other sign.
    over = (r != 0.0) & ((r < 0.0) != (wide < 0.0))
    r = tl.where(over, r + tl.where(wide < 0.0, -tl.abs(by), tl.abs(by)), r)
    result = copysign(tl.abs(r.to(tl.float32)), a)
    bad = ~(tl.abs(a) < _INFINITY) | (b != b) | (b == 0.0)
    return tl.where(bad, float("nan"), result)


@triton.jit
def _other_sign(rest, b):
    """Tell where a remainder has the wrong sign for rounding down."""
    return (rest != 0) & ((rest < 0) != (b < 0))


@triton.jit
def _remainder(a, b):
    rest = _fmod(a, b)
    return tl.where(_other_sign(rest, b), rest + b, rest)


@triton.jit
def _floor_divide(a, b):
    rest = _fmod(a, b)
    plain = tl.div_rn(a, b)
    quotient = tl.div_rn(a - rest, b)
    quotient = tl.where(_other_sign(rest, b), quotient - 1.0, quotient)
    down = tl.floor(quotient)
    down = tl.where(quotient - down > 0.5, down + 1.0, down)
    down = tl.where(quotient == 0.0, copysign(tl.zeros_like(a), plain), down)
    return tl.where(b == 0.0, plain, down)


@triton.jit
def _safe(b):
    """Give a divisor that integers can be divided by: not 0, and -1 as 1."""
    return tl.where((b == 0) | (b == -1), tl.zeros_like(b) + 1, b)


@triton.jit
def _integer_rest(a, b):
    return a % _safe(b)


@triton.jit
def _integer_remainder(a, b):
    rest = a % _safe(b)
    return tl.where(_other_sign(rest, b), rest + b, rest)


@triton.jit
def _integer_floor_divide(a, b):
    quotient = a // _safe(b)
    quotient = tl.where(b == -1, -quotient, quotient)
    return tl.where(_other_sign(a % _safe(b), b), quotient - 1, quotient)


@triton.jit
def _integer_maximum(a, b):
    return tl.where(a > b, a, b)


@triton.jit
def _integer_minimum(a, b):
    return tl.where(a < b, a, b)


@triton.jit
def _wrap_i16(x):
    return x.to(tl.int16).to(tl.int32)


@triton.jit
def _wrap_i8(x):
    return x.to(tl.int8).to(tl.int32)


@triton.jit
def _wrap_u8(x):
    return x & 255


@triton.jit
def _round_f16(x):
    return x.to(tl.float16).to(tl.float32)


class _Functions:
    """By name. A class, since Triton copies what else a compile-time function refers to."""

    steps: ClassVar[Mapping[str, Any]] = {
        "neg": _neg, "abs": _abs, "sign": _sign, "relu": _relu, "not": _not, "sqrt": _root,
        "rsqrt": _rsqrt, "reciprocal": _reciprocal, "floor": _floor, "ceil": _ceil,
        "round": round_even, "trunc": _trunc, "exp": exp, "exp2": exp2, "expm1": expm1, "log": log,
        "log2": log2, "log10": log10, "log1p": log1p, "tanh": tanh, "sigmoid": sigmoid, "erf": erf,
        "sin": sine, "cos": cosine, "gelu": gelu, "gelu_tanh": gelu_tanh, "silu": silu,
        "mish": mish, "softplus": softplus, "hardswish": hardswish, "hardsigmoid": hardsigmoid,
        "selu": selu, "add": _add, "sub": _sub, "rsub": _rsub, "mul": _mul, "maximum": maximum,
        "minimum": minimum, "div": _div, "remainder": _remainder, "fmod": _fmod,
        "floor_divide": _floor_divide, "pow": power, "leaky_relu": leaky_relu, "elu": elu,
        "celu": celu, "and": _and, "or": _or, "xor": _xor, "eq": _eq, "ne": _ne, "lt": _lt,
        "le": _le, "gt": _gt, "ge": _ge, "isnan": _isnan, "isinf": _isinf, "isfinite": _isfinite,
        "where": _where, "const": _same, "same": _same, "wrap_i16": _wrap_i16, "wrap_i8": _wrap_i8,
        "wrap_u8": _wrap_u8, "round_f16": _round_f16, "round_bf16": round_bf16,
    }  # fmt: skip
    integers: ClassVar[Mapping[str, Any]] = {
        "fmod": _integer_rest, "remainder": _integer_remainder,
        "floor_divide": _integer_floor_divide, "maximum": _integer_maximum,
        "minimum": _integer_minimum,
    }  # fmt: skip
