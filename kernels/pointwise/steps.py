"""The table of steps: what a pointwise program can say.

A step is named `<operation>_<class>` after the class of registers that it reads. Memory of other
dtypes is converted when it is loaded and stored:

    class   lanes      dtypes in memory
    f32     float      float32, float16, bfloat16
    f64     double     float64
    i64     int64      int64
    i32     int32      int32, int16, int8, uint8
    b8      one byte   bool, 0 or 1

Registers of narrow dtypes always hold values of that dtype: steps `wrap_*` and `round_*` make them.
"""

from collections.abc import Mapping

from fusec.ir.frozen import dataclass

__all__ = ["CLASSES", "CLASS_OF", "NATIVE", "STEPS", "StepKind", "cast_steps"]

CLASSES: Mapping[str, int] = {"f32": 4, "f64": 8, "i64": 8, "i32": 4, "b8": 1}
"""Bytes of an element in a register."""

CLASS_OF: Mapping[str, str] = {
    "float32": "f32",
    "float64": "f64",
    "int64": "i64",
    "int32": "i32",
    "bool": "b8",
    "float16": "f32",
    "bfloat16": "f32",
    "int16": "i32",
    "int8": "i32",
    "uint8": "i32",
}
"""Class of the registers that hold a dtype; its place is the dtype's number in the machine."""

NATIVE = frozenset({"float32", "float64", "int64", "int32", "bool"})
"""Dtypes that lie in memory as they do in registers."""


@dataclass(frozen=True, slots=True)
class StepKind:
    """What a step reads and gives; an immediate value stands for its last operand."""

    operands: tuple[str, ...]
    result: str


_FLOATS = ("f32", "f64")
_INTEGERS = ("i64", "i32")
_NUMBERS = (*_FLOATS, *_INTEGERS)
_ALL = (*_NUMBERS, "b8")

_UNARY: Mapping[str, tuple[str, ...]] = {
    "neg": _NUMBERS,
    "abs": _NUMBERS,
    "sign": _NUMBERS,
    "relu": _NUMBERS,
    "not": (*_INTEGERS, "b8"),
    **dict.fromkeys(("sqrt", "rsqrt", "reciprocal", "floor", "ceil", "round", "trunc"), _FLOATS),
    **dict.fromkeys(
        (
            "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "erf",
            "sin", "cos", "gelu", "gelu_tanh", "silu", "mish", "softplus", "hardswish",
            "hardsigmoid", "selu",
        ),
        ("f32",),
    ),
}  # fmt: skip
_BINARY: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("add", "sub", "rsub", "mul", "maximum", "minimum"), _NUMBERS),
    "div": _FLOATS,
    **dict.fromkeys(("remainder", "fmod", "floor_divide"), ("f32", *_INTEGERS)),
    "pow": ("f32",),
    **dict.fromkeys(("leaky_relu", "elu", "celu"), ("f32",)),
    **dict.fromkeys(("and", "or", "xor"), (*_INTEGERS, "b8")),
}
_COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
_ASK = ("isnan", "isinf", "isfinite")


def cast_steps(source: str, target: str) -> tuple[tuple[str, str], ...]:
    """Give the steps that convert a register: (step, dtype of its result), none if it is the same.

    Args:
        source: dtype of the register.
        target: wanted dtype.
    """
    if source == target:
        return ()
    have, want = CLASS_OF[source], CLASS_OF[target]
    steps = [] if have == want else [(f"{want}_of_{have}", target)]
    narrow = {"int16": "wrap_i16", "int8": "wrap_i8", "uint8": "wrap_u8"}
    narrow |= {"float16": "round_f16", "bfloat16": "round_bf16"}
    if target in narrow and not (source == "bool" or _fits(source, target)):
        steps.append((f"{narrow[target]}_{want}", target))
    elif have == want:
        steps.append((f"same_{want}", target))
    return tuple(steps)


def _fits(source: str, target: str) -> bool:
    return (source, target) in {("int8", "int16"), ("uint8", "int16")}


def _steps() -> dict[str, StepKind]:
    steps: dict[str, StepKind] = {}
    for op, classes in _UNARY.items():
        steps |= {f"{op}_{c}": StepKind((c,), c) for c in classes}
    for op, classes in _BINARY.items():
        steps |= {f"{op}_{c}": StepKind((c, c), c) for c in classes}
    for op in _COMPARE:
        steps |= {f"{op}_{c}": StepKind((c, c), "b8") for c in _ALL}
    for op in _ASK:
        steps |= {f"{op}_{c}": StepKind((c,), "b8") for c in _FLOATS}
    for c in _ALL:
        steps[f"where_{c}"] = StepKind(("b8", c, c), c)
        steps[f"const_{c}"] = StepKind((c,), c)
        steps[f"same_{c}"] = StepKind((c,), c)
        steps |= {f"{c}_of_{d}": StepKind((d,), c) for d in _ALL if d != c}
    for name in ("i16", "i8", "u8"):
        steps[f"wrap_{name}_i32"] = StepKind(("i32",), "i32")
    for name in ("f16", "bf16"):
        steps[f"round_{name}_f32"] = StepKind(("f32",), "f32")
    return steps


STEPS: Mapping[str, StepKind] = _steps()
"""Name -> kind; a step's place in the table is its code.

    rsub        b - a                               leaky_relu  a where a > 0, else a * b
    remainder   sign of the divisor                 elu         a where a > 0, else b * expm1(a)
    fmod        sign of the dividend                celu        a where a > 0, else b * expm1(a / b)
    floor_divide  rounded down                      where       b where a, else c
    const       the immediate everywhere            round       to the nearest, ties to even
    maximum, minimum, relu                          pass NaN on
"""
