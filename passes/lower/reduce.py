"""Reductions over any axes: the kept axes become rows or columns, copied where strides forbid."""

from collections.abc import Mapping, Sequence
from dataclasses import replace as changed

from fusec.ir.extents import Extent, product
from fusec.ir.frozen import dataclass
from fusec.ir.stage import TileOp, View
from fusec.ir.template import Arg, DType, Row
from fusec.passes.lower.arguments import axis_of, given, moved, need, row_major, shape_of
from fusec.passes.lower.builder import Lowering, Refused, Value, reshape_view
from fusec.passes.lower.rule import Rule
from fusec.passes.lower.sort import extreme_integer

__all__ = ["RULES"]

_INTEGERS = ("bool", "int32", "int64")
_FORMS = ("correction", "dim", "default")


@dataclass(frozen=True, slots=True)
class _Arranged:
    """A tensor as a reduction kernel reads it."""

    form: str
    x: View
    kept: tuple[int, ...]
    """Axes of the tensor, in the order in which results lie."""
    y_shape: tuple[Extent, ...]


def _reduction(kind: str, position: int = 1, dtype_at: int = 9) -> Rule:
    """Make a rule for an operator whose axes are an operand; none, or empty, means all."""

    def rule(low: Lowering, row: Row) -> Value:
        return _reduce(low, row, kind, given(row, position, "dim"), dtype_at=dtype_at)

    return rule


def _everything(kind: str) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        return _reduce(low, row, kind, None)

    return rule


def _variance(kind: str) -> Rule:
    def rule(low: Lowering, row: Row) -> Value:
        axes = None if row.op.endswith(".default") else given(row, 1, "dim")
        return _reduce(low, row, kind, axes, correction=_correction(row))

    return rule


def _correction(row: Row) -> float:
    """Give what is taken off the number of elements; the older spelling says if it is 1 or 0."""
    if row.op.endswith(".correction"):
        value = given(row, 9, "correction")
        value = 1 if value is None else value
    else:
        value = given(row, 1 if row.op.endswith(".default") else 2, "unbiased", True)
    if not isinstance(value, int | float):
        raise Refused(f"correction {value!r}")
    return float(value)


def _norm(low: Lowering, row: Row) -> Value:
    order = given(row, 1, "ord" if "vector_norm" in row.op else "p", 2)
    order = 2 if order is None else order
    kinds = {1.0: "norm1", 2.0: "norm2", float("inf"): "norminf"}
    if not isinstance(order, int | float) or float(order) not in kinds:
        raise Refused(f"norm of order {order!r}")
    return _reduce(low, row, kinds[float(order)], given(row, 2, "dim"))


def _reduce(
    low: Lowering, row: Row, kind: str, axes: Arg, *, correction: float = 0.0, dtype_at: int = 9
) -> Value:
    x = low.view(row.args[0])
    wanted = given(row, dtype_at, "dtype")
    out = low.out(row).dtype
    need(wanted is None or (isinstance(wanted, DType) and wanted.name in (x.dtype, out)), "dtype")
    reduced = _axes(low, axes, len(x.shape))
    if x.dtype == "float32" and out == "float32":
        plan = _arranged(low, x, reduced)
    else:
        need(_on_integers(kind, x.dtype, out), f"{kind} of {x.dtype} as {out}")
        plan = changed(_as_rows(low, x, reduced), form="scalars")
        plan = changed(plan, x=low.reshaped(plan.x, (plan.x.shape[0], product(plan.x.shape[1:]))))
    y = low.new(out, plan.y_shape)
    low.emit(TileOp.REDUCE, [plan.x], [y], form=plan.form, kind=kind, correction=correction)
    return _result(low, row, x, plan, y)


def _on_integers(kind: str, dtype: str, out: str) -> bool:
    if dtype not in _INTEGERS:
        return False
    if kind in ("any", "all"):
        return out == "bool"
    if kind in ("amax", "amin"):
        return dtype == out == "int64"
    return kind in ("sum", "prod") and out == "int64"


def _axes(low: Lowering, arg: Arg, rank: int) -> tuple[int, ...]:
    """Give the reduced axes, in order."""
    if arg is None or arg == ():
        return tuple(range(rank))
    axes = arg if isinstance(arg, tuple) else (arg,)
    if rank == 0:
        return ()
    return tuple(sorted({axis_of(low, axis, rank) for axis in axes}))


def _arranged(low: Lowering, x: View, reduced: Sequence[int]) -> _Arranged:
    """Find how to read floats: along the contiguous axis if it is reduced, else across."""
    kept = [i for i in range(len(x.shape)) if i not in reduced and x.shape[i] != 1]
    inside = [i for i in reduced if x.shape[i] != 1]
    columns = [i for i in kept if x.strides[i] == 1]
    if columns:
        order = _columns_last(x, kept)
        outer, last = _merged(x, order)
        runs = _runs(x, inside)
        if outer is not None and len(runs) <= 2:
            runs = [(1, 0)] * (2 - len(runs)) + runs
            shape = (outer[0], runs[0][0], runs[1][0], last[0])
            strides = (outer[1], runs[0][1], runs[1][1], last[1])
            seen = View(x.slot, x.dtype, shape, strides, x.offset)
            return _Arranged("columns", seen, tuple(order), (outer[0], last[0]))
    return _as_rows(low, x, reduced)


def _columns_last(x: View, kept: Sequence[int]) -> list[int]:
    """Order kept axes such that the contiguous one, and those that lie around it, are last."""
    last = next(i for i in kept if x.strides[i] == 1)
    order = [i for i in kept if i != last]
    tail = [last]
    while True:
        step = x.strides[tail[0]] * x.shape[tail[0]]
        around = [i for i in order if x.strides[i] == step]
        if not around:
            return order + tail
        order.remove(around[0])
        tail.insert(0, around[0])


def _merged(
    x: View, order: Sequence[int]
) -> tuple[tuple[Extent, Extent] | None, tuple[Extent, Extent]]:
    """Give the run of contiguous axes and the one run of the others, None if they are several."""
    runs = _runs(x, order)
    if len(runs) > 2:
        return None, runs[-1]
    return (1, 0) if len(runs) == 1 else runs[0], runs[-1]


def _runs(x: View, axes: Sequence[int]) -> list[tuple[Extent, Extent]]:
    """Join axes that lie as one: (extent, stride) of each run."""
    runs: list[tuple[Extent, Extent]] = []
    for i in axes:
        if runs and runs[-1][1] == x.shape[i] * x.strides[i]:
            runs[-1] = (runs[-1][0] * x.shape[i], x.strides[i])
        else:
            runs.append((x.shape[i], x.strides[i]))
    return runs


def _as_rows(low: Lowering, x: View, reduced: Sequence[int]) -> _Arranged:
    """Read each result's elements as one row, or as runs of one stride, in their order."""
    kept = [i for i in range(len(x.shape)) if i not in reduced]
    outer, inner = product([x.shape[i] for i in kept]), product([x.shape[i] for i in reduced])
    turned = moved(x, (*kept, *reduced))
    axes = [i for i in reduced if x.shape[i] != 1]
    runs = _runs(x, axes)
    rows = reshape_view(moved(x, kept), (outer,))
    if rows is not None and len(runs) == 2 and runs[1][1] == 1:
        shape = (outer, runs[0][0], runs[1][0])
        seen = View(x.slot, x.dtype, shape, (rows.strides[0], runs[0][1], 1), x.offset)
    else:
        flat = row_major(low, turned, (outer, inner))
        seen = low.reshaped(flat, (outer, 1, inner))
    return _Arranged("rows", seen, tuple(kept), (outer,))


def _result(low: Lowering, row: Row, x: View, plan: _Arranged, y: View, number: int = 0) -> View:
    """See results in the axes' own order, and the reduced ones as the operator gives them."""
    lying = low.reshaped(y, tuple(x.shape[i] for i in plan.kept))
    order = sorted(range(len(plan.kept)), key=lambda i: plan.kept[i])
    return low.reshaped(moved(lying, order), shape_of(low, row, number))


def _where(kind: str) -> Rule:
    """Make a rule for argmax and argmin, over one axis or all, and for max and min over one."""

    def rule(low: Lowering, row: Row) -> Value:
        x = low.view(row.args[0])
        if x.dtype in _INTEGERS:
            return extreme_integer(low, row, kind)
        need(x.dtype == "float32", f"{kind} of {x.dtype}")
        axis = given(row, 1, "dim")
        need(axis is None or type(axis) is int, f"axis {axis!r}")
        reduced = _axes(low, axis, len(x.shape))
        plan = _as_rows(low, x, reduced)
        flat = row_major(low, plan.x, (plan.x.shape[0], product(plan.x.shape[1:])))
        at = low.new("int64", plan.y_shape)
        if kind.startswith("arg"):
            low.emit(TileOp.REDUCE, [flat], [at], form="where", kind=kind)
            return _result(low, row, x, plan, at)
        values = low.new("float32", plan.y_shape)
        low.emit(TileOp.REDUCE, [flat], [values, at], form="where", kind=kind)
        return tuple(_result(low, row, x, plan, v, i) for i, v in enumerate((values, at)))

    return rule


def _moments(kind: str) -> Rule:
    """Make a rule for a variance, or its root, beside the mean."""

    def rule(low: Lowering, row: Row) -> Value:
        first = changed(row, out=low.out(row, 0))
        second = changed(row, out=low.out(row, 1))
        axes = None if row.op.endswith(".default") else given(row, 1, "dim")
        mean = _reduce(low, second, "mean", axes)
        return _variance(kind)(low, first), mean

    return rule


def _cumsum(low: Lowering, row: Row) -> Value:
    x = low.view(row.args[0])
    out = low.out(row).dtype
    floats = x.dtype == out == "float32"
    need(floats or (x.dtype in _INTEGERS and out == "int64"), f"cumsum of {x.dtype} as {out}")
    rank = len(x.shape)
    need(rank > 0, "cumsum of a scalar")
    axis = axis_of(low, row.args[1], rank)
    shape = (product(x.shape[:axis]), x.shape[axis], product(x.shape[axis + 1 :]))
    y = low.new(out, shape)
    low.emit(TileOp.REDUCE, [low.reshaped(x, shape)], [y], form="scan", kind="sum")
    return low.reshaped(y, shape_of(low, row))


RULES: Mapping[str, Rule] = {
    "aten.sum.dim_IntList": _reduction("sum", dtype_at=3),
    "aten.sum.default": _everything("sum"),
    "aten.mean.dim": _reduction("mean", dtype_at=3),
    "aten.mean.default": _everything("mean"),
    "aten.amax.default": _reduction("amax"),
    "aten.amin.default": _reduction("amin"),
    "aten.max.default": _everything("amax"),
    "aten.min.default": _everything("amin"),
    "aten.prod.dim_int": _reduction("prod", dtype_at=3),
    "aten.prod.default": _everything("prod"),
    **{f"aten.{kind}.{form}": _variance(kind) for kind in ("var", "std") for form in _FORMS},
    **{f"aten.{kind}_mean.{form}": _moments(kind) for kind in ("var", "std") for form in _FORMS},
    "aten.logsumexp.default": _reduction("logsumexp"),
    "aten.linalg_vector_norm.default": _norm,
    "aten.norm.ScalarOpt_dim": _norm,
    "aten.any.dim": _reduction("any"),
    "aten.any.dims": _reduction("any"),
    "aten.any.default": _everything("any"),
    "aten.all.dim": _reduction("all"),
    "aten.all.dims": _reduction("all"),
    "aten.all.default": _everything("all"),
    "aten.argmax.default": _where("argmax"),
    "aten.argmin.default": _where("argmin"),
    "aten.max.dim": _where("max"),
    "aten.min.dim": _where("min"),
    "aten.cumsum.default": _cumsum,
}
