"""Elementwise operators: arithmetic, comparisons, choices, casts. Functions are in `activation`."""

from collections.abc import Callable, Mapping

from fusec.ir.extents import Poly
from fusec.ir.stage import View
from fusec.ir.template import Arg, DType, Row
from fusec.passes.lower import activation
from fusec.passes.lower.arguments import given
from fusec.passes.lower.builder import Lowering, Refused, Value
from fusec.passes.lower.formula import Formula, Operand, Reg, promoted
from fusec.passes.lower.rule import Rule

__all__ = ["RULES"]

_INTEGERS = ("int64", "int32")


def _operands(f: Formula, row: Row) -> tuple[Reg, Operand]:
    """Load two operands, converted to the result's dtype; at least the first is a register."""
    a, b = (f.operand(arg) for arg in row.args[:2])
    first = f.cast(a, f.dtype)
    return first, f.cast(b, f.dtype) if isinstance(b, Reg) else b


def _scaled(f: Formula, row: Row, value: Operand) -> Operand:
    """Multiply by alpha, if there is one."""
    alpha = f.low.value(given(row, 2, "alpha", 1))
    if isinstance(alpha, Poly) or not isinstance(alpha, int | float):
        raise Refused("a symbolic alpha")
    if alpha == 1:
        return value
    if isinstance(value, Reg):
        return f.step("mul", value, alpha)
    if isinstance(value, Poly):
        raise Refused("a symbol times alpha")
    return value * alpha


def _sum(op: str) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        f = Formula(low, row)
        a, b = _operands(f, row)
        if op != "rsub":
            return f.done(f.step(op, a, _scaled(f, row, b)))
        return f.done(f.step("sub", f.cast(b, f.dtype), _scaled(f, row, a)))

    return rule


def _binary(op: str) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        f = Formula(low, row)
        a, b = _operands(f, row)
        return f.done(f.step(op, a, b))

    return rule


def _divide(low: Lowering, row: Row) -> Value:
    mode = given(row, 2, "rounding_mode")
    if mode == "floor":
        return _remainder("floor_divide")(low, row)
    f = Formula(low, row)
    quotient = f.step("div", *_operands(f, row))
    if mode not in (None, "trunc"):
        raise Refused(f"rounding mode {mode!r}")
    return f.done(f.step("trunc", quotient) if mode else quotient)


def _remainder(op: str) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        f = Formula(low, row)
        a, b = _operands(f, row)
        if f.dtype in _INTEGERS and (isinstance(b, Reg) or b == 0):
            raise Refused("integers are divided by what may be zero")
        return f.done(f.step(op, a, b))

    return rule


def _compare(op: str) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        f = Formula(low, row)
        a, b = (f.operand(arg) for arg in row.args[:2])
        dtype = promoted([a, b])
        first = f.cast(a, dtype)
        return f.done(f.step(op, first, f.cast(b, dtype) if isinstance(b, Reg) else b))

    return rule


def _logical(op: str) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        f = Formula(low, row)
        return f.done(f.step(op, *(f.cast(f.operand(a), "bool") for a in row.args)))

    return rule


def _where(low: Lowering, row: Row) -> Value:
    f = Formula(low, row)
    condition = f.tensor(row.args[0])
    if condition.dtype != "bool":
        raise Refused(f"a condition of {condition.dtype}")
    a, b = (f.cast(f.operand(arg), f.dtype) for arg in row.args[1:3])
    return f.done(f.step("where", condition, a, b))


def _masked_fill(low: Lowering, row: Row) -> Value:
    f = Formula(low, row)
    x, mask = f.cast(f.tensor(row.args[0]), f.dtype), f.tensor(row.args[1])
    if mask.dtype != "bool":
        raise Refused(f"a mask of {mask.dtype}")
    return f.done(f.step("where", mask, f.cast(f.operand(row.args[2]), f.dtype), x))


def _bounded(low: Lowering, row: Row, lowest: Arg, highest: Arg) -> Value:
    f = Formula(low, row)
    x = f.cast(f.tensor(row.args[0]), f.dtype)
    for op, bound in (("maximum", lowest), ("minimum", highest)):
        if bound is not None:
            limit = f.operand(bound)
            x = f.step(op, x, f.cast(limit, f.dtype) if isinstance(limit, Reg) else limit)
    return f.done(x)


def _clamp(low: Lowering, row: Row) -> Value:
    return _bounded(low, row, given(row, 1, "min"), given(row, 2, "max"))


def _at_least(low: Lowering, row: Row) -> Value:
    return _bounded(low, row, given(row, 1, "min"), None)


def _at_most(low: Lowering, row: Row) -> Value:
    return _bounded(low, row, None, given(row, 1, "max"))


def _hardtanh(low: Lowering, row: Row) -> Value:
    return _bounded(low, row, given(row, 1, "min_val", -1.0), given(row, 2, "max_val", 1.0))


def _power(low: Lowering, row: Row) -> Value:
    f = Formula(low, row)
    x, exponent = _operands(f, row)
    if isinstance(exponent, Reg | Poly):
        return f.done(f.step("pow", x, f.cast(exponent, f.dtype)))
    return f.done(_fixed_power(f, x, exponent))


def _fixed_power(f: Formula, x: Reg, exponent: float) -> Reg:
    """Raise to a power that torch computes by products and roots too."""
    if exponent == 1:
        return f.step("same", x)
    if exponent == 2:
        return f.step("mul", x, x)
    if exponent == 3:
        return f.step("mul", f.step("mul", x, x), x)
    if exponent == 0.5:
        return f.step("sqrt", x)
    if exponent == -0.5:
        return f.step("rsqrt", x)
    if exponent == -1:
        return f.step("reciprocal", x)
    if exponent == -2:
        return f.step("reciprocal", f.step("mul", x, x))
    return f.step("pow", x, exponent)


def _cast(low: Lowering, row: Row) -> Value:
    view = low.view(row.args[0])
    if view.dtype == low.out(row).dtype:
        return view
    f = Formula(low, row)
    return f.done(f.cast(f.load(view), f.dtype))


def _cast_as_told(low: Lowering, row: Row) -> Value:
    """Cast, unless the row asks for more, such as another layout of memory."""
    for name, value in row.kwargs:
        if not (isinstance(value, DType) or value in (None, False)) and name != "copy":
            raise Refused(f"{name}={value!r}")
    return _cast(low, row)


def _lerp(low: Lowering, row: Row) -> Value:
    f = Formula(low, row)
    a, b = _operands(f, row)
    weight = low.value(row.args[2])
    if isinstance(weight, View | Poly) or not isinstance(weight, int | float):
        raise Refused("a weight that is a tensor")
    difference = f.step("sub", f.cast(b, f.dtype), a)
    if weight < 0.5:
        return f.done(f.step("add", a, f.step("mul", difference, weight)))
    return f.done(f.step("sub", f.cast(b, f.dtype), f.step("mul", difference, 1 - weight)))


def _add_product(op: str) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        f = Formula(low, row)
        x, a, b = (f.cast(f.tensor(arg), f.dtype) for arg in row.args[:3])
        value = low.value(given(row, 3, "value", 1))
        if isinstance(value, Poly) or not isinstance(value, int | float):
            raise Refused("a symbolic factor")
        scaled = a if value == 1 else f.step("mul", a, value)
        return f.done(f.step("add", x, f.step(op, scaled, b)))

    return rule


def _fill(low: Lowering, row: Row) -> Value:
    f = Formula(low, row)
    value = f.operand(row.args[1])
    return f.done(f.step("same", f.cast(value, f.dtype)))


_COMPARISONS: Mapping[str, Callable[[str], Rule]] = dict.fromkeys(
    ("eq", "ne", "lt", "le", "gt", "ge"), _compare
)

RULES: Mapping[str, Rule] = {
    **activation.RULES,
    "aten.add.Tensor": _sum("add"),
    "aten.add.Scalar": _sum("add"),
    "aten.sub.Tensor": _sum("sub"),
    "aten.sub.Scalar": _sum("sub"),
    "aten.rsub.Tensor": _sum("rsub"),
    "aten.rsub.Scalar": _sum("rsub"),
    "aten.mul.Tensor": _binary("mul"),
    "aten.mul.Scalar": _binary("mul"),
    "aten.maximum.default": _binary("maximum"),
    "aten.minimum.default": _binary("minimum"),
    **{f"aten.div.{o}": _divide for o in ("Tensor", "Scalar", "Tensor_mode", "Scalar_mode")},
    "aten.floor_divide.default": _remainder("floor_divide"),
    "aten.floor_divide.Scalar": _remainder("floor_divide"),
    **{
        f"aten.{op}.{o}": _remainder(op)
        for op in ("remainder", "fmod")
        for o in ("Tensor", "Scalar")
    },
    **{
        f"aten.{op}.{o}": make(op)
        for op, make in _COMPARISONS.items()
        for o in ("Tensor", "Scalar")
    },
    **{
        f"aten.bitwise_{op}.{o}": _binary(op)
        for op in ("and", "or", "xor")
        for o in ("Tensor", "Scalar")
    },
    **{f"aten.logical_{op}.default": _logical(op) for op in ("and", "or", "xor", "not")},
    **{f"aten.where.{o}": _where for o in ("self", "Scalar", "ScalarSelf", "ScalarOther")},
    "aten.masked_fill.Scalar": _masked_fill,
    "aten.masked_fill.Tensor": _masked_fill,
    "aten.clamp.default": _clamp,
    "aten.clamp.Tensor": _clamp,
    "aten.clamp_min.default": _at_least,
    "aten.clamp_max.default": _at_most,
    "aten.hardtanh.default": _hardtanh,
    "aten.pow.Tensor_Scalar": _power,
    "aten.pow.Tensor_Tensor": _power,
    "aten.pow.Scalar": _power,
    "aten._to_copy.default": _cast_as_told,
    "aten.to.dtype": _cast,
    "aten.type_as.default": _cast,
    "aten.lerp.Scalar": _lerp,
    "aten.addcmul.default": _add_product("mul"),
    "aten.addcdiv.default": _add_product("div"),
    "aten.fill.Scalar": _fill,
    "aten.fill.Tensor": _fill,
}
