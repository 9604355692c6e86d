"""Symbolic extents in one spelling: read off the first input that has them."""

import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Final

import sympy
import torch
from torch import fx
from torch.utils._sympy.functions import FloorDiv, Mod

from fusec.passes.canonicalise.rewrite import Edit

__all__ = ["extent"]

aten = torch.ops.aten

_HOST: Final[Mapping[type, Callable[..., object]]] = {
    sympy.Add: operator.add,
    sympy.Mul: operator.mul,
    FloorDiv: operator.floordiv,
    Mod: operator.mod,
}


def extent(edit: Edit, value: Any) -> Any:
    """Give an extent as a literal or a node, emitted before the node being looked at.

    The same extent gets the same spelling whatever the exporter wrote; None where it depends on
    data, or on arithmetic that has no spelling here.
    """
    if isinstance(value, int):
        return value
    if isinstance(value, fx.Node):
        return extent(edit, value.meta["val"])
    return _spelled(edit, value.node.expr)


def _spelled(edit: Edit, expr: Any) -> Any:
    if expr.is_Integer:
        return int(expr)
    found = _of_an_input(edit, expr)
    if found is not None:
        return found
    target = next((t for kind, t in _HOST.items() if isinstance(expr, kind)), None)
    if target is None:
        return None
    operands = list(expr.args)
    if isinstance(expr, sympy.Add | sympy.Mul):
        operands.sort(key=lambda part: _renamed(edit, part))
    parts = [_spelled(edit, part) for part in operands]
    if None in parts:
        return None
    return reduce(lambda a, b: edit.emit(target, a, b), parts)


def _renamed(edit: Edit, expr: Any) -> str:
    names = edit.program.symbol_names
    renamed = {s: sympy.symbols(names.get(s.name, s.name)) for s in expr.free_symbols}
    return str(expr.xreplace(renamed))


def _of_an_input(edit: Edit, expr: Any) -> fx.Node | None:
    for node in edit.program.inputs:
        shape: tuple[Any, ...] = tuple(getattr(node.meta["val"], "shape", ()))
        for axis, size in enumerate(shape):
            if not isinstance(size, int) and size.node.expr == expr:
                return edit.emit(aten.sym_size.int, node, axis)
    return None
