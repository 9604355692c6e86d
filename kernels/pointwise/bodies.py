"""What each step does to 16 lanes: step name -> function of vectors. Truth values are i1 lanes."""

from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from fusec.kernels.codegen.lanes import Lanes
from fusec.kernels.pointwise import activations
from fusec.kernels.pointwise.activations import highest, lowest
from fusec.kernels.pointwise.steps import STEPS

__all__ = ["body_of", "floats_of_half", "half_of_floats"]

_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()
_INFINITY = float("inf")
_WIDTH = {"i64": 64, "i32": 32}
_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def body_of(name: str) -> Callable[..., Lanes]:
    """Give what a step of the table does, as a function of its operands' lanes."""
    op, _, kind = name.rpartition("_")
    if op.endswith("_of"):
        return _cast(op.removesuffix("_of"), kind)
    if op in _SIGNS:
        return _comparison(_SIGNS[op])
    if op in ("add", "sub", "mul", "div", "rsub", "and", "or", "xor"):
        return _PLAIN[op]
    if kind == "f32" and op in activations.UNARY:
        return activations.UNARY[op]
    if kind == "f32" and op in activations.BINARY:
        return activations.BINARY[op]
    floats = STEPS[name].operands[-1] in ("f32", "f64")
    return _COMMON.get(op) or (_FLOATS if floats else _INTEGERS)[op]


def _comparison(sign: str) -> Callable[..., Lanes]:
    def compare(a: Lanes, b: Lanes) -> Lanes:
        if a.element == ir.IntType(1):
            a, b = a.to_int(8), b.to_int(8)
        return a.compare(sign, b)

    return compare


def _cast(target: str, source: str) -> Callable[..., Lanes]:
    if target == "b8":
        return lambda x: x.compare("!=", 0)
    if target in _WIDTH:
        return lambda x: x.to_int(_WIDTH[target])
    return lambda x: x.to_float(_FLOAT if target == "f32" else _DOUBLE)


_PLAIN: Mapping[str, Callable[..., Lanes]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "rsub": lambda a, b: b - a,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}


def _sign(x: Lanes) -> Lanes:
    if not x.is_float:
        return (x > 0).select(x.like(1), (x < 0).select(x.like(-1), 0))
    zero = x.like(0.0)
    return (x > 0).select(x.like(1.0), (x < 0).select(x.like(-1.0), zero))


_COMMON: Mapping[str, Callable[..., Lanes]] = {
    "neg": lambda x: -x,
    "sign": _sign,
    "not": lambda x: ~x,
    "where": lambda c, a, b: c.select(a, b),
    "same": lambda x: x,
    "const": lambda x: x,
}


def _fmod(a: Lanes, b: Lanes) -> Lanes:
    """Remainder of floats with the sign of `a`, exact: each round takes up to 2**52 of `b` off."""
    builder = a.builder
    wide, by = a.to_float(_DOUBLE), b.to_float(_DOUBLE)
    rest = cgutils.alloca_once_value(builder, wide.value)
    for _ in range(6):
        r = Lanes(builder, builder.load(rest))
        again = r.call("fabs") >= by.call("fabs")
        again = again & (r.call("fabs") < _INFINITY) & (by.call("fabs") > 0.0)
        bits = builder.bitcast(again.value, ir.IntType(again.count))
        with builder.if_then(builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))):
            left = (-(r / by).call("trunc")).fma(by, r)
            builder.store(again.select(left, r).value, rest)
    # Quotients that were rounded up leave the other sign.
    r = Lanes(builder, builder.load(rest))
    over = r.compare("!=", 0.0) & ((r < 0.0) ^ (wide < 0.0))
    r = over.select(r + by.call("copysign", wide), r)
    result = r.to_float(_FLOAT).call("copysign", a)
    bad = ~(a.call("fabs") < _INFINITY) | b.is_nan() | b.compare("==", 0.0)
    return bad.select(a.like(float("nan")), result)


def _same_sign(rest: Lanes, b: Lanes) -> Lanes:
    """Tell where a remainder has the wrong sign for rounding down."""
    return rest.compare("!=", 0) & ((rest < 0) ^ (b < 0))


def _remainder(a: Lanes, b: Lanes) -> Lanes:
    rest = _fmod(a, b)
    return _same_sign(rest, b).select(rest + b, rest)


def _floor_divide(a: Lanes, b: Lanes) -> Lanes:
    rest = _fmod(a, b)
    quotient = (a - rest) / b
    quotient = _same_sign(rest, b).select(quotient - 1.0, quotient)
    down = quotient.call("floor")
    down = (quotient - down > 0.5).select(down + 1.0, down)
    down = quotient.compare("==", 0.0).select(quotient.like(0.0).call("copysign", a / b), down)
    return b.compare("==", 0.0).select(a / b, down)


def _ask_finite(x: Lanes) -> Lanes:
    return x.call("fabs") < _INFINITY


_FLOATS: Mapping[str, Callable[..., Lanes]] = {
    "abs": lambda x: x.call("fabs"),
    "relu": lambda x: ((x > 0.0) | x.is_nan()).select(x, 0.0),
    "sqrt": lambda x: x.call("sqrt"),
    "rsqrt": lambda x: 1.0 / x.call("sqrt"),
    "reciprocal": lambda x: 1.0 / x,
    "floor": lambda x: x.call("floor"),
    "ceil": lambda x: x.call("ceil"),
    "trunc": lambda x: x.call("trunc"),
    "round": lambda x: x.call("roundeven"),
    "maximum": highest,
    "minimum": lowest,
    "fmod": _fmod,
    "remainder": _remainder,
    "floor_divide": _floor_divide,
    "isnan": lambda x: x.is_nan(),
    "isinf": lambda x: x.call("fabs").compare("==", _INFINITY),
    "isfinite": _ask_finite,
    "round_f16": lambda x: floats_of_half(half_of_floats(x)),
    "round_bf16": lambda x: _round_bf16(x),
}


def _divided(a: Lanes, b: Lanes, method: str) -> Lanes:
    """Divide integers where the machine can: not by 0, and by -1 as by 1."""
    safe = (b.compare("==", 0) | b.compare("==", -1)).select(b.like(1), b)
    return Lanes(a.builder, getattr(a.builder, method)(a.value, safe.value))


def _rest(a: Lanes, b: Lanes) -> Lanes:
    return _divided(a, b, "srem")


def _rest_down(a: Lanes, b: Lanes) -> Lanes:
    rest = _rest(a, b)
    return _same_sign(rest, b).select(rest + b, rest)


def _quotient_down(a: Lanes, b: Lanes) -> Lanes:
    quotient = _divided(a, b, "sdiv")
    quotient = b.compare("==", -1).select(-quotient, quotient)
    return _same_sign(_rest(a, b), b).select(quotient - 1, quotient)


def _wrapped(bits: int) -> Callable[..., Lanes]:
    return lambda x: x.to_int(bits).to_int(32)


_INTEGERS: Mapping[str, Callable[..., Lanes]] = {
    "abs": lambda x: (x < 0).select(-x, x),
    "relu": lambda x: (x > 0).select(x, 0),
    "maximum": lambda a, b: (a > b).select(a, b),
    "minimum": lambda a, b: (a < b).select(a, b),
    "fmod": _rest,
    "remainder": _rest_down,
    "floor_divide": _quotient_down,
    "wrap_i16": _wrapped(16),
    "wrap_i8": _wrapped(8),
    "wrap_u8": lambda x: x & 255,
}


def floats_of_half(h: Lanes) -> Lanes:
    """Widen float16, given as integers of 32 bits, exactly."""
    body = ((h & 0x7FFF) << 13).from_bits() * 5.192296858534828e33  # 2 ** 112
    special = (h & 0x7C00).compare("==", 0x7C00)
    bits = special.select(body.bits() | 0x7F800000, body.bits())
    return (bits | ((h & 0x8000) << 16)).from_bits()


def half_of_floats(x: Lanes) -> Lanes:
    """Round to float16, to the nearest, ties to even; as integers of 32 bits."""
    size = x.call("fabs")
    bits = size.bits()
    # Small ones: adding 0.5 leaves what a denormal or small float16 keeps in the low bits.
    small = (size + 0.5).bits() - 0x3F000000
    odd = Lanes(x.builder, x.builder.lshr(bits.value, bits.like(13).value)) & 1
    large = bits + (0xFFF - 0x38000000) + odd
    large = Lanes(x.builder, x.builder.lshr(large.value, large.like(13).value))
    half = (size < 6.103515625e-05).select(small, large)
    half = (size >= 65520.0).select(half.like(0x7C00), half)
    half = x.is_nan().select(half.like(0x7E00), half)
    return half | ((x.bits() >> 16) & 0x8000)


def _round_bf16(x: Lanes) -> Lanes:
    bits: Any = x.bits()
    odd = (bits >> 16) & 1
    rounded = ((bits + 0x7FFF + odd) & -65536).from_bits()
    return x.is_nan().select(x, rounded)
