"""Softmax and its logarithm along one axis."""

from collections.abc import Mapping

from fusec.ir.extents import product
from fusec.ir.stage import TileOp
from fusec.ir.template import Row
from fusec.passes.lower.arguments import axis_of, given, moved, need, row_major
from fusec.passes.lower.builder import Lowering, Value
from fusec.passes.lower.rule import Rule

__all__ = ["RULES"]


def _softmax(log: bool) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        x = low.view(row.args[0])
        need(x.dtype == "float32" and low.out(row).dtype == "float32", f"softmax of {x.dtype}")
        rank = len(x.shape)
        axis = axis_of(low, given(row, 1, "dim"), rank)
        order = [i for i in range(rank) if i != axis] + [axis]
        last = moved(x, order)
        n, rows = last.shape[-1], product(last.shape[:-1])
        seen = row_major(low, last, (rows, n))
        y = low.new("float32", (rows, n))
        low.emit(TileOp.SOFTMAX, [seen], [y], log=log)
        back = [order.index(i) for i in range(rank)]
        return moved(low.reshaped(y, last.shape), back)

    return rule


RULES: Mapping[str, Rule] = {
    "aten.softmax.int": _softmax(log=False),
    "aten._softmax.default": _softmax(log=False),
    "aten.log_softmax.int": _softmax(log=True),
    "aten._log_softmax.default": _softmax(log=True),
}
