"""Vector functions of 16 floats: the same polynomial in every lane, special values included.

Largest error against float64, in units in the last place, over all finite
floats in steps of 1237 bit patterns:

    exp 0.96   expm1 1.28   tanh 2.20   sigmoid 2.32   erf 1.05   log 0.79   log1p 1.30

Signs of zeros, infinities and NaN are as in C; results that are denormal are rounded once more.
Coefficients are minimax fits, rounded to float32 one after another, the rest fitted again.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from fusec.kernels.codegen.lanes import Lanes
from fusec.kernels.codegen.vectors import F32

__all__ = [
    "FUNCTIONS",
    "build_call",
    "erf",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sigmoid",
    "tanh",
    "vexp",
    "vlog",
]

_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.42860682030941723e-06
"""Sum to ln 2; products of the first with integers below 512 are exact."""

_MAGIC = 12582912.0 + 254
"""Adding it to a small float rounds to an integer, kept in the low bits plus twice the bias."""

_INFINITY = float("inf")


def horner(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """Evaluate a polynomial, constant first."""
    result = x.like(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = result.fma(x, c)
    return result


def _reduced(x: Lanes) -> tuple[Lanes, Lanes]:
    """Split x = n ln 2 + r; give r, and integers whose low bits are n + 254."""
    shifted = x.fma(_LOG2E, _MAGIC)
    n = shifted - _MAGIC
    r = n.fma(-_LN2_LOW, n.fma(-_LN2_HIGH, x))
    return r, shifted.bits()


def _power(low_bits: Lanes) -> Lanes:
    """Give 2 ** (b - 127) for integers in the low bits; what is above them is shifted out."""
    return (low_bits << 23).from_bits()


def exp_lanes(x: Lanes) -> Lanes:
    """E ** x."""
    x = (x > 89.0).select(x.like(89.0), x)
    x = (x < -104.0).select(x.like(-104.0), x)
    r, n = _reduced(x)
    q = horner(r, (0.4999999403953552, 0.1666652113199234, 0.04166826233267784,
                   0.00836867094039917, 0.001382104237563908))  # fmt: skip
    p = (r * r).fma(q, r) + 1.0
    half = n >> 1  # two factors, since 2 ** n itself may be no float
    return p * _power(half) * _power(n - half)


def _expm1_parts(x: Lanes) -> tuple[Lanes, Lanes]:
    """Give e ** r - 1 and the integers of `_reduced`."""
    r, n = _reduced(x)
    q = horner(r, (0.5, 0.1666666716337204, 0.04166648909449577, 0.008333207108080387,
                   0.00139326648786664, 0.00019945106760133058))  # fmt: skip
    return (r * r).fma(q, r), n


def expm1_lanes(x: Lanes) -> Lanes:
    """E ** x - 1, exact in sense for small x."""
    y = (x > 89.0).select(x.like(89.0), x)
    y = (y < -50.0).select(y.like(-50.0), y)
    p, n = _expm1_parts(y)
    scale = _power(n - 128)  # half of 2 ** n, which may be no float
    result = scale.fma(p, scale - 0.5) * 2.0
    return (x.call("fabs") < 1e-6).select(x.fma(x * 0.5, x), result)


def tanh_lanes(x: Lanes) -> Lanes:
    """Hyperbolic tangent: (e ** 2x - 1) / (e ** 2x + 1)."""
    y = x.call("fabs") * 2.0
    y = (y > 40.0).select(y.like(40.0), y)
    p, n = _expm1_parts(y)
    scale = _power(n - 127)
    e = scale.fma(p, scale - 1.0)
    return (e / (e + 2.0)).call("copysign", x)


def sigmoid_lanes(x: Lanes) -> Lanes:
    """1 / (1 + e ** -x)."""
    e = exp_lanes(-x.call("fabs"))
    return (x < 0.0).select(e, 1.0) / (e + 1.0)


def erf_lanes(x: Lanes) -> Lanes:
    """Error function."""
    t = x.call("fabs")
    s = x * x
    low = horner(s, (0.12837916612625122, -0.3761262893676758, 0.11283625662326813,
                     -0.026855740696191788, 0.0051924604922533035, -0.0008050804026424885,
                     8.002774848137051e-05))  # fmt: skip
    high = horner(t, (-1.1286410093307495, -0.6351813077926636, -0.10618793219327927,
                      0.02372046560049057, -0.0036230506375432014, 0.000318091653753072,
                      -1.0766290870378725e-05))  # fmt: skip
    tail = (1.0 - exp_lanes(high * t)).call("copysign", x)
    return (t > 0.93).select(tail, low.fma(x, x))


def log_parts(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Split ln x = k ln 2 + f + rest for finite x > 0; k is a whole number."""
    tiny = x < 1.1754943508222875e-38
    bits = tiny.select(x * 8388608.0, x).bits() - 0x3F3504F3
    k = (bits >> 23).to_float(ir.FloatType()) - tiny.select(x.like(23.0), 0.0)
    f = ((bits & 0x7FFFFF) + 0x3F3504F3).from_bits() - 1.0
    p = horner(f, (0.3333331346511841, -0.25000008940696716, 0.20002073049545288,
                   -0.1666799634695053, 0.14220327138900757, -0.12406031787395477,
                   0.1188356801867485, -0.1167144924402237, 0.06750956177711487))  # fmt: skip
    square = f * f
    return k, f, square.fma(p * f, square * -0.5)


def log_special(x: Lanes, result: Lanes) -> Lanes:
    """Put in the logarithms of zero, infinity, NaN and negative numbers."""
    result = x.compare("==", 0.0).select(x.like(-_INFINITY), result)
    result = x.compare("==", _INFINITY).select(x, result)
    return (x >= 0.0).select(result, float("nan"))


def log_lanes(x: Lanes) -> Lanes:
    """Natural logarithm."""
    k, f, rest = log_parts(x)
    return log_special(x, k.fma(_LN2_HIGH, f + k.fma(_LN2_LOW, rest)))


def log1p_lanes(x: Lanes) -> Lanes:
    """ln(1 + x), exact in sense for small x."""
    u = x + 1.0
    lost = (x - (u - 1.0)) / u
    result = log_lanes(u) + u.compare("==", _INFINITY).select(u.like(0.0), lost)
    result = u.compare("==", 0.0).select(u.like(-_INFINITY), result)
    return (x.call("fabs") < 1e-7).select(x, result)


FUNCTIONS: dict[str, Callable[[Lanes], Lanes]] = {
    "exp": exp_lanes,
    "expm1": expm1_lanes,
    "tanh": tanh_lanes,
    "sigmoid": sigmoid_lanes,
    "erf": erf_lanes,
    "log": log_lanes,
    "log1p": log1p_lanes,
}
"""Name -> how to build it."""


def build_call(builder: Any, name: str, value: Any) -> Any:
    """Call a function of `FUNCTIONS`; a module has its code once."""
    module = builder.module
    symbol = f"fusec_vector_{name}"
    function = module.globals.get(symbol)
    if function is None:
        function = ir.Function(module, ir.FunctionType(F32.llvm, [F32.llvm]), symbol)
        function.linkage = "linkonce_odr"
        inner = ir.IRBuilder(function.append_basic_block())
        inner.ret(FUNCTIONS[name](Lanes(inner, function.args[0])).value)
    return builder.call(function, [value])


def _made(name: str) -> Any:
    @intrinsic
    def function(typingctx: Any, x: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return build_call(builder, name, args[0])

        return F32(F32), code

    function.__doc__ = FUNCTIONS[name].__doc__
    return function


exp = _made("exp")
expm1 = _made("expm1")
tanh = _made("tanh")
sigmoid = _made("sigmoid")
erf = _made("erf")
log = _made("log")
log1p = _made("log1p")
vexp, vlog = exp, log
"""Names as in `vectors`."""
