"""Sorting along an axis: sort, argsort, topk, kthvalue, and the place of an extreme integer."""

from collections.abc import Mapping
from dataclasses import replace

from fusec.ir.extents import Extent, product
from fusec.ir.stage import TileOp, View
from fusec.ir.template import Row
from fusec.passes.lower.arguments import axis_of, flag, given, need, shape_of
from fusec.passes.lower.builder import Lowering, Value
from fusec.passes.lower.rule import Rule

__all__ = ["RULES", "extreme_integer"]

_SORTED = ("float32", "float64", "int64", "int32", "bool")


def _first(low: Lowering, x: View, axis: int, k: Extent, *, largest: bool) -> tuple[View, View]:
    """Emit a sort; give its first k values along the axis, and their places."""
    need(x.dtype in _SORTED, f"sorting {x.dtype}")
    outer, inner = product(x.shape[:axis]), product(x.shape[axis + 1 :])
    seen = low.reshaped(x, (outer, x.shape[axis], inner))
    writes = [low.new(dtype, (outer, k, inner)) for dtype in (x.dtype, "int64")]
    low.emit(TileOp.REDUCE, [seen], writes, form="sort", kind="sort", largest=largest)
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return low.reshaped(writes[0], shape), low.reshaped(writes[1], shape)


def _sort(position: int, result: int | None) -> Rule:
    """Make a rule for an operator whose axis and direction are operands from a position on.

    Args:
        position: of the axis.
        result: which one of values and places it gives; None for both.
    """

    def rule(low: Lowering, row: Row) -> Value:
        x = low.view(row.args[0])
        need(len(x.shape) > 0, "a sort of one number")
        axis = axis_of(low, given(row, position, "dim", -1), len(x.shape))
        largest = flag(row, position + 1, "descending")
        both = _first(low, x, axis, x.shape[axis], largest=largest)
        return both if result is None else both[result]

    return rule


def _topk(low: Lowering, row: Row) -> Value:
    x = low.view(row.args[0])
    need(len(x.shape) > 0, "topk of one number")
    axis = axis_of(low, given(row, 2, "dim", -1), len(x.shape))
    k = low.extent(row.args[1])
    n = x.shape[axis]
    need((isinstance(k, int) and isinstance(n, int) and 0 < k <= n) or k == n, f"{k} of {n}")
    largest = given(row, 3, "largest", True)
    need(isinstance(largest, bool), f"largest is {largest!r}")
    return _first(low, x, axis, k, largest=bool(largest))


def _kth(low: Lowering, row: Row) -> Value:
    x = low.view(row.args[0])
    need(len(x.shape) > 0, "kthvalue of one number")
    axis = axis_of(low, given(row, 2, "dim", -1), len(x.shape))
    (k,) = low.ints(row.args[1])
    n = x.shape[axis]
    need(isinstance(n, int) and 0 < k <= n, f"the one numbered {k} of {n}")
    both = _first(low, x, axis, k, largest=False)
    return tuple(_one(low, row, v, axis, k - 1, i) for i, v in enumerate(both))


def _one(low: Lowering, row: Row, view: View, axis: int, at: int, number: int) -> View:
    """See one element along an axis, in the shape of a result."""
    shape = (*view.shape[:axis], 1, *view.shape[axis + 1 :])
    part = replace(view, shape=shape, offset=view.offset + at * view.strides[axis])
    return low.reshaped(part, shape_of(low, row, number))


def extreme_integer(low: Lowering, row: Row, kind: str) -> Value:
    """Lower argmax, argmin, and max and min over an axis, of integers: the first of a sort.

    Raises:
        Refused: there is nothing to choose from.
    """
    x = low.view(row.args[0])
    axis = given(row, 1, "dim")
    if axis is None:
        x = low.reshaped(x, (product(x.shape),))
        at = 0
    else:
        need(len(x.shape) > 0, "an axis of one number")
        at = axis_of(low, axis, len(x.shape))
    need(x.shape[at] != 0, "nothing to choose from")
    values, places = _first(low, x, at, 1, largest=kind.endswith("max"))
    if kind.startswith("arg"):
        return low.reshaped(places, shape_of(low, row))
    return tuple(low.reshaped(v, shape_of(low, row, i)) for i, v in enumerate((values, places)))


RULES: Mapping[str, Rule] = {
    "aten.sort.default": _sort(1, None),
    "aten.sort.stable": _sort(1, None),
    "aten.argsort.default": _sort(1, 1),
    "aten.argsort.stable": _sort(1, 1),
    "aten.msort.default": lambda low, row: _first(
        low, low.view(row.args[0]), 0, low.view(row.args[0]).shape[0], largest=False
    )[0],
    "aten.topk.default": _topk,
    "aten.kthvalue.default": _kth,
}
