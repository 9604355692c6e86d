"""Look-ups by an integer tensor: rows of a table, slices along an axis, single elements."""

from collections.abc import Mapping
from dataclasses import replace

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import product
from fusec.ir.stage import Layout, TileOp, View
from fusec.ir.template import Arg, Row
from fusec.passes.lower.arguments import axis_of, given, need, row_major, shape_of
from fusec.passes.lower.builder import Lowering, Refused, Value, reshape_view
from fusec.passes.lower.rule import Rule

__all__ = ["RULES", "reads_rows"]


def reads_rows(row: Row) -> bool:
    """Tell whether a row looks up rows of a table, which it can do in panels of a matrix, too."""
    if row.op == "aten.embedding.default":
        return True
    return (
        row.op == "aten.index.Tensor" and isinstance(row.args[1], tuple) and len(row.args[1]) == 1
    )


def _index(low: Lowering, row: Row) -> Value:
    at = row.args[1]
    if not isinstance(at, tuple):
        raise Refused(f"indices {at!r}")
    tensors = [(axis, arg) for axis, arg in enumerate(at) if arg is not None]
    need(len(tensors) == 1, "several index tensors")
    axis, arg = tensors[0]
    return _rows(low, row, axis, arg, wrap=True)


def _embedding(low: Lowering, row: Row) -> Value:
    return _rows(low, row, 0, row.args[1], wrap=False)


def _index_select(low: Lowering, row: Row) -> Value:
    rank = len(low.view(row.args[0]).shape)
    return _rows(low, row, axis_of(low, row.args[1], rank), row.args[2], wrap=False)


def _rows(low: Lowering, row: Row, axis: int, arg: Arg, *, wrap: bool) -> Value:
    indices = _integers(low, arg)
    count = product(indices.shape)
    at = reshape_view(indices, (count,)) or low.reshaped(low.contiguous(indices), (count,))
    shape = shape_of(low, row)
    packed = low.packed(row.args[0])
    if packed is not None:
        return _panels(low, row, *packed, at, wrap=wrap)
    x = low.view(row.args[0])
    n = x.shape[axis]
    outer, inner = product(x.shape[:axis]), product(x.shape[axis + 1 :])
    seen = row_major(low, x, (outer, n, inner))
    y = low.new(x.dtype, (outer, count, inner))
    low.emit(TileOp.GATHER, [seen, at], [y], form="rows", wrap=wrap)
    return low.reshaped(y, shape)


def _panels(low: Lowering, row: Row, table: View, layout: Layout, at: View, *, wrap: bool) -> Value:
    n, k = layout.n, layout.k
    need(reads_rows(row) and layout.groups == 1 and table.dtype == "float32", "another layout")
    need(layout.order == (1, 0) and not layout.split, f"panels of order {layout.order}")
    y = low.new(table.dtype, (1, at.shape[0], k))
    low.emit(TileOp.GATHER, [table, at], [y], form="panels", wrap=wrap, n=n, k=k, nr=layout.nr)
    return low.reshaped(y, shape_of(low, row))


def _along(low: Lowering, row: Row) -> Value:
    x, indices = low.view(row.args[0]), _integers(low, row.args[2])
    rank = len(x.shape)
    need(rank == len(indices.shape) and itemsize_bytes(x.dtype) <= 8, "ranks differ")
    axis = axis_of(low, row.args[1], rank)
    n = x.shape[axis]
    # Along other axes, only as much of x counts as there are indices.
    shape = indices.shape
    x = replace(x, shape=(*shape[:axis], n, *shape[axis + 1 :]))
    outer, inner = product(shape[:axis]), product(shape[axis + 1 :])
    seen = low.reshaped(x, (outer, n, inner))
    at = low.reshaped(indices, (outer, shape[axis], inner))
    y = low.new(x.dtype, (outer, shape[axis], inner))
    low.emit(TileOp.GATHER, [seen, at], [y], form="along", wrap=False)
    return low.reshaped(y, shape_of(low, row))


def _take_along(low: Lowering, row: Row) -> Value:
    x, indices = low.view(row.args[0]), low.view(row.args[1])
    axis = axis_of(low, given(row, 2, "dim"), len(x.shape))
    same = len(x.shape) == len(indices.shape) and all(
        a == b for i, (a, b) in enumerate(zip(x.shape, indices.shape, strict=True)) if i != axis
    )
    need(same, "take_along_dim broadcasts")
    return _along(low, replace(row, args=(row.args[0], axis, row.args[1])))


def _integers(low: Lowering, arg: Arg) -> View:
    view = low.view(arg)
    need(view.dtype in ("int64", "int32"), f"indices of {view.dtype}")
    return view


RULES: Mapping[str, Rule] = {
    "aten.embedding.default": _embedding,
    "aten.gather.default": _along,
    "aten.index.Tensor": _index,
    "aten.index_select.default": _index_select,
    "aten.take_along_dim.default": _take_along,
}
