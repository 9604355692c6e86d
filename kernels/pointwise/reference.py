"""The plain machine: every step over whole arrays, float32 steps in float64 and rounded once."""

from collections.abc import Callable, Mapping
from math import erf
from typing import Any, TypeAlias

import numpy as np

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.extents import Poly
from fusec.ir.stage import PointProgram, Stage
from fusec.kernels.memory import Memory
from fusec.kernels.pointwise.steps import STEPS

__all__ = ["apply", "execute", "run"]

Array: TypeAlias = "np.ndarray[Any, Any]"


def run(stage: Stage, memory: Memory) -> None:
    """Compute a pointwise stage.

    Args:
        stage: of op `pointwise`.
        memory: of one instance.
    """
    assert stage.point is not None
    _run(stage, stage.point, memory)


def apply(stage: Stage, memory: Memory) -> None:
    """Run a stage's epilogue, if it has one, over what lies in `writes[0]`.

    Args:
        stage: of any op but `pointwise`.
        memory: of one instance.
    """
    if stage.point is not None:
        _run(stage, stage.point, memory)


def _run(stage: Stage, program: PointProgram, memory: Memory) -> None:
    views = [stage.writes[0] if v is None else v for v in program.operands]
    loads = [_widened(memory.array(v), v.dtype) for v in views]
    results = execute(program, loads, memory)
    for view, result in zip(stage.writes, results, strict=True):
        target = memory.array(view)
        target[...] = _narrowed(result, view.dtype).reshape(target.shape)


def execute(program: PointProgram, operands: list[Array], memory: Memory) -> tuple[Array, ...]:
    """Run a program over arrays.

    Args:
        program: what to compute; its views are not looked at.
        operands: as registers hold them: float32 for narrow floats, int32 for narrow integers.
        memory: for the values of symbols.
    """
    registers = list(operands)
    with np.errstate(all="ignore"):
        for step in program.steps:
            kind = STEPS[step.op]
            args = [registers[a] for a in step.args]
            if step.value is not None:
                number = memory.extent(step.value) if isinstance(step.value, Poly) else step.value
                args.append(np.asarray(number).astype(_NUMPY[kind.operands[-1]]))
            registers.append(_step(step.op, args))
    shape = tuple(memory.extent(e) for e in program.shape)
    return tuple(np.broadcast_to(registers[r], shape) for r in program.results)


_NUMPY: Mapping[str, type[np.generic]] = {
    "f32": np.float32,
    "f64": np.float64,
    "i64": np.int64,
    "i32": np.int32,
    "b8": np.bool_,
}


def _widened(array: Array, dtype: str) -> Array:
    """Give what a register holds of memory, and of a copy of it."""
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    wide = {"float16": np.float32, "int16": np.int32, "int8": np.int32, "uint8": np.int32}
    return array.astype(wide.get(dtype, array.dtype), copy=True)


def _narrowed(array: Array, dtype: str) -> Array:
    if dtype == "bfloat16":
        bits: Array = np.ascontiguousarray(array, np.float32).view(np.uint32)
        return (bits >> 16).astype(np.uint16)
    return array.astype(numpy_dtype(dtype))


def _step(name: str, args: list[Array]) -> Array:
    op, _, kind = name.rpartition("_")
    if op.endswith("_of"):
        return _cast(args[0], op.removesuffix("_of"))
    result = _NUMPY[STEPS[name].result]
    # One formula for both float classes: float64 inside, rounded to the class.
    wide = [a.astype(np.float64) for a in args] if kind == "f32" and op in _INEXACT else args
    function = _INEXACT.get(op) or _EXACT[op]
    return np.asarray(function(*wide)).astype(result)


def _cast(x: Array, kind: str) -> Array:
    cast: Array = np.not_equal(x, 0) if kind == "b8" else x.astype(_NUMPY[kind])
    return cast


def _clip(x: Array) -> Array:
    clipped: Array = np.clip(x + 3, 0, 6)
    return clipped


def _softplus(x: Array) -> Array:
    return np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 20))))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


_ERF = np.vectorize(erf, otypes=[np.float64])
_SELU, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

_INEXACT: Mapping[str, Callable[..., Array]] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "erf": _ERF,
    "gelu": lambda x: x * 0.5 * (1 + _ERF(x / np.sqrt(2))),
    "gelu_tanh": lambda x: x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "softplus": _softplus,
    "hardswish": lambda x: x * (_clip(x) / 6),
    "hardsigmoid": lambda x: _clip(x) / 6,
    "selu": lambda x: _SELU * np.where(x > 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    "elu": lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))),
    "celu": lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0) / a)),
    "leaky_relu": lambda x, a: np.where(x > 0, x, x * a),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "pow": np.power,
}
"""Steps that are computed wider and rounded once."""


def _floor_divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "i":
        return np.floor_divide(a, b)
    rest = np.fmod(a, b)
    quotient = (a - rest) / b - ((rest != 0) & ((rest < 0) != (b < 0)))
    down = np.floor(quotient)
    down = np.where(quotient - down > 0.5, down + 1, down)
    down = np.where(quotient == 0, np.copysign(0, a / b), down)
    return np.where(b == 0, a / b, down)


def _rounded(x: Array, dtype: type[np.generic]) -> Array:
    return x.astype(dtype).astype(x.dtype)


def _round_bf16(x: Array) -> Array:
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    bits = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32)
    return np.where(np.isnan(x), x, bits.view(np.float32)).reshape(x.shape)


_EXACT: Mapping[str, Callable[..., Array]] = {
    "neg": lambda x: -x,
    "abs": np.abs,
    "sign": lambda x: (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype),
    "relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "not": np.invert,
    "sqrt": np.sqrt,
    "reciprocal": lambda x: x.dtype.type(1) / x,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "trunc": np.trunc,
    "add": np.add,
    "sub": np.subtract,
    "rsub": lambda a, b: b - a,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "remainder": np.mod,
    "fmod": np.fmod,
    "floor_divide": _floor_divide,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "where": np.where,
    "const": lambda x: x,
    "same": lambda x: x,
    "wrap_i16": lambda x: _rounded(x, np.int16),
    "wrap_i8": lambda x: _rounded(x, np.int8),
    "wrap_u8": lambda x: _rounded(x, np.uint8),
    "round_f16": lambda x: _rounded(x, np.float16),
    "round_bf16": _round_bf16,
}
