"""Elementwise functions of one tensor: roots, exponentials, activation functions."""

from collections.abc import Callable, Mapping

from fusec.ir.extents import Poly
from fusec.ir.stage import View
from fusec.ir.template import Arg, Row
from fusec.passes.lower.arguments import given
from fusec.passes.lower.builder import Lowering, Refused, Value
from fusec.passes.lower.formula import Formula, Reg
from fusec.passes.lower.rule import Rule

__all__ = ["RULES"]


def _number(low: Lowering, row: Row, position: int, name: str, default: float) -> float:
    value = low.value(given(row, position, name, default))
    if isinstance(value, Poly) or not isinstance(value, int | float):
        raise Refused(f"{name} is no plain number")
    return value


def _unary(op: str) -> Rule:
    """Make the rule of a step that reads and gives the result's dtype."""

    def rule(low: Lowering, row: Row) -> Value:
        f = Formula(low, row)
        return f.done(f.step(op, f.cast(f.tensor(row.args[0]), f.dtype)))

    return rule


def _whole(op: str) -> Rule:
    """Make the rule of a rounding, which leaves integers as they are."""

    def rule(low: Lowering, row: Row) -> Value:
        if low.out(row).dtype in ("int64", "int32"):
            return low.view(row.args[0])
        return _unary(op)(low, row)

    return rule


def _question(op: str) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        f = Formula(low, row)
        return f.done(f.step(op, f.tensor(row.args[0])))

    return rule


def _composed(function: Callable[[Formula, Reg, Lowering, Row], Reg]) -> Rule:
    """Make a rule of a function that writes steps; float32 only."""

    def rule(low: Lowering, row: Row) -> Value:
        f = Formula(low, row)
        if f.dtype != "float32":
            raise Refused(f"{row.op} of {f.dtype}")
        return f.done(function(f, f.cast(f.tensor(row.args[0]), f.dtype), low, row))

    return rule


def _gelu(f: Formula, x: Reg, low: Lowering, row: Row) -> Reg:
    form = given(row, 1, "approximate", "none")
    if form not in ("none", "tanh"):
        raise Refused(f"approximate={form!r}")
    return f.step("gelu" if form == "none" else "gelu_tanh", x)


def _softplus(f: Formula, x: Reg, low: Lowering, row: Row) -> Reg:
    beta = _number(low, row, 1, "beta", 1)
    threshold = _number(low, row, 2, "threshold", 20)
    if (beta, threshold) == (1, 20):
        return f.step("softplus", x)
    scaled = f.step("mul", x, beta)
    curved = f.step("div", f.step("log1p", f.step("exp", scaled)), beta)
    return f.step("where", f.step("gt", scaled, threshold), x, curved)


def _elu(f: Formula, x: Reg, low: Lowering, row: Row) -> Reg:
    alpha = _number(low, row, 1, "alpha", 1)
    scale = _number(low, row, 2, "scale", 1)
    inner = _number(low, row, 3, "input_scale", 1)
    if (scale, inner) == (1, 1):
        return f.step("elu", x, alpha)
    bent = f.step("expm1", f.step("mul", x, inner))
    bent = f.step("mul", bent, alpha * scale)
    return f.step("where", f.step("gt", x, 0.0), f.step("mul", x, scale), bent)


def _celu(f: Formula, x: Reg, low: Lowering, row: Row) -> Reg:
    return f.step("celu", x, _number(low, row, 1, "alpha", 1))


def _leaky_relu(f: Formula, x: Reg, low: Lowering, row: Row) -> Reg:
    return f.step("leaky_relu", x, _number(low, row, 1, "negative_slope", 0.01))


def _threshold(f: Formula, x: Reg, low: Lowering, row: Row) -> Reg:
    limit, value = (_number(low, row, i, "limit", 0) for i in (1, 2))
    return f.step("where", f.step("le", x, limit), f.number(value, "float32"), x)


def _prelu(f: Formula, x: Reg, low: Lowering, row: Row) -> Reg:
    slope = low.view(row.args[1])
    if row.op == "aten.prelu.default" and slope.shape not in ((), (1,)):
        ones = (1,) * (len(f.shape) - 2)
        slope = View(
            slope.slot, slope.dtype, (*slope.shape, *ones), (*slope.strides, *ones), slope.offset
        )
    return f.step("leaky_relu", x, f.load(slope))


def _log_sigmoid(f: Formula, x: Reg, low: Lowering, row: Row) -> Reg:
    rest = f.step("log1p", f.step("exp", f.step("neg", f.step("abs", x))))
    return f.step("sub", f.step("minimum", x, 0.0), rest)


def _tanhshrink(f: Formula, x: Reg, low: Lowering, row: Row) -> Reg:
    return f.step("sub", x, f.step("tanh", x))


def _hardshrink(f: Formula, x: Reg, low: Lowering, row: Row) -> Reg:
    limit = _number(low, row, 1, "lambd", 0.5)
    inside = f.step("and", f.step("ge", x, -limit), f.step("le", x, limit))
    return f.step("where", inside, f.number(0.0, "float32"), x)


def _nan_to_num(f: Formula, x: Reg, low: Lowering, row: Row) -> Reg:
    largest = 3.4028234663852886e38
    for position, name, default, value in (
        (1, "nan", 0.0, None),
        (2, "posinf", largest, float("inf")),
        (3, "neginf", -largest, float("-inf")),
    ):
        arg: Arg = given(row, position, name)
        number = default if arg is None else _number(low, row, position, name, default)
        found = f.step("isnan", x) if value is None else f.step("eq", x, value)
        x = f.step("where", found, f.number(number, "float32"), x)
    return x


def _glu(low: Lowering, row: Row) -> Value:
    """Multiply the first half of an axis by the sigmoid of the second."""
    view = low.view(row.args[0])
    (axis,) = low.ints(given(row, 1, "dim", -1))
    axis %= len(view.shape)
    f = Formula(low, row)
    if f.dtype != "float32":
        raise Refused(f"glu of {f.dtype}")
    half = f.shape[axis]
    second = view.offset + half * view.strides[axis]
    a = f.load(View(view.slot, view.dtype, f.shape, view.strides, view.offset))
    b = f.load(View(view.slot, view.dtype, f.shape, view.strides, second))
    return f.done(f.step("mul", a, f.step("sigmoid", b)))


_SAME = (
    "neg", "abs", "sign", "relu", "sqrt", "rsqrt", "reciprocal", "exp", "exp2", "expm1", "log",
    "log2", "log10", "log1p", "tanh", "sigmoid", "erf", "sin", "cos", "silu", "mish",
    "hardswish", "hardsigmoid", "selu",
)  # fmt: skip

RULES: Mapping[str, Rule] = {
    **{f"aten.{op}.default": _unary(op) for op in _SAME},
    **{f"aten.{op}.default": _whole(op) for op in ("floor", "ceil", "round", "trunc")},
    **{f"aten.{op}.default": _question(op) for op in ("isnan", "isinf", "isfinite")},
    "aten.sgn.default": _unary("sign"),
    "aten.bitwise_not.default": _unary("not"),
    "aten.gelu.default": _composed(_gelu),
    "aten.softplus.default": _composed(_softplus),
    "aten.elu.default": _composed(_elu),
    "aten.celu.default": _composed(_celu),
    "aten.leaky_relu.default": _composed(_leaky_relu),
    "aten.threshold.default": _composed(_threshold),
    "aten.prelu.default": _composed(_prelu),
    "aten._prelu_kernel.default": _composed(_prelu),
    "aten.log_sigmoid.default": _composed(_log_sigmoid),
    "aten.tanhshrink.default": _composed(_tanhshrink),
    "aten.hardshrink.default": _composed(_hardshrink),
    "aten.nan_to_num.default": _composed(_nan_to_num),
    "aten.glu.default": _glu,
}
