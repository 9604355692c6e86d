"""Rows that compute host numbers: extents and arithmetic on them."""

import math
from collections.abc import Callable, Mapping

from fusec.ir.extents import Extent, Poly, divide, of
from fusec.ir.template import Row
from fusec.passes.lower.builder import Lowering, Refused, Value
from fusec.passes.lower.rule import Rule

__all__ = ["RULES"]


def _size(low: Lowering, row: Row) -> Value:
    return low.view(row.args[0]).shape[low.ints(row.args[1])[0]]


def _getitem(low: Lowering, row: Row) -> Value:
    value = low.value(row.args[0])
    if not isinstance(value, tuple):
        raise Refused("getitem of a single value")
    return value[low.ints(row.args[1])[0]]


def _on_extents(function: Callable[[Extent, Extent], Extent]) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        return function(low.extent(row.args[0]), low.extent(row.args[1]))

    return rule


def _modulo(a: Extent, b: Extent) -> Extent:
    return a % b if isinstance(a, int) and isinstance(b, int) else a - divide(a, b) * b


def _named(name: str) -> Callable[[Extent, Extent], Extent]:
    fixed = max if name == "Max" else min

    def function(a: Extent, b: Extent) -> Extent:
        if isinstance(a, int) and isinstance(b, int):
            return fixed(a, b)
        return of(f"{name}({a}, {b})")

    return function


def _on_numbers(function: Callable[..., Value]) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        values = [low.value(a) for a in row.args]
        if any(not isinstance(v, int | float | bool) for v in values):
            raise Refused(f"{row.op} of a symbol")
        return function(*values)

    return rule


def _float(low: Lowering, row: Row) -> Value:
    value = low.value(row.args[0])
    if isinstance(value, Poly) or not isinstance(value, int | float):
        raise Refused("sym.float of a symbol")
    return float(value)


RULES: Mapping[str, Rule] = {
    "aten.sym_size.int": _size,
    "getitem": _getitem,
    "sym.add": _on_extents(lambda a, b: a + b),
    "sym.sub": _on_extents(lambda a, b: a - b),
    "sym.mul": _on_extents(lambda a, b: a * b),
    "sym.floordiv": _on_extents(divide),
    "sym.mod": _on_extents(_modulo),
    "sym.max": _on_extents(_named("Max")),
    "sym.min": _on_extents(_named("Min")),
    "sym.neg": lambda low, row: low.extent(row.args[0]) * -1,
    "sym.float": _float,
    "sym.int": _on_numbers(int),
    "sym.truediv": _on_numbers(lambda a, b: a / b),
    "sym.ceil": _on_numbers(math.ceil),
    "sym.floor": _on_numbers(math.floor),
    "sym.trunc": _on_numbers(math.trunc),
}
