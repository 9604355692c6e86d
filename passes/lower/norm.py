"""Layer norm, RMS norm and group norm."""

from collections.abc import Mapping

from fusec.ir.extents import Extent, product
from fusec.ir.stage import TileOp, View
from fusec.ir.template import Arg, Row
from fusec.passes.lower.arguments import given, moved, need, row_major, shape_of
from fusec.passes.lower.builder import Lowering, Refused, Value, reshape_view
from fusec.passes.lower.rule import Rule

__all__ = ["RULES"]

_EPSILON = 1.1920928955078125e-07
"""Of float32, RMS norm's default."""


def _layer_norm(low: Lowering, row: Row) -> Value:
    eps = given(row, 4, "eps", 1e-5)
    affine = given(row, 2, "weight"), given(row, 3, "bias")
    return _rows(low, row, "layer", affine, eps)


def _rms_norm(low: Lowering, row: Row) -> Value:
    eps = given(row, 3, "eps")
    return _rows(low, row, "rms", (given(row, 2, "weight"), None), _EPSILON if eps is None else eps)


def _rows(low: Lowering, row: Row, kind: str, affine: tuple[Arg, Arg], eps: Arg) -> Value:
    x = low.view(row.args[0])
    sizes = row.args[1]
    need(isinstance(sizes, tuple) and 0 < len(sizes) <= len(x.shape), f"normalises {sizes!r}")
    assert isinstance(sizes, tuple)
    shape = shape_of(low, row)
    first = len(shape) - len(sizes)
    n, rows = product(shape[first:]), product(shape[:first])
    operands = _affine(low, affine, n)
    seen = row_major(low, x, (rows, n))
    y = low.new("float32", (rows, n))
    low.emit(
        TileOp.NORM, [seen, *operands], [y], kind=kind, eps=_epsilon(low, row, x, eps),
        weight=affine[0] is not None, bias=affine[1] is not None,
    )  # fmt: skip
    return low.reshaped(y, shape)


def _group_norm(low: Lowering, row: Row) -> Value:
    x = low.view(row.args[0])
    (groups,) = low.ints(row.args[1])
    shape = shape_of(low, row)
    need(len(shape) >= 2 and isinstance(shape[1], int), "channels are not known")
    samples, channels = shape[:2]
    assert isinstance(channels, int)
    need(groups > 0 and channels % groups == 0, f"{channels} channels in {groups} groups")
    eps = _epsilon(low, row, x, given(row, 4, "eps", 1e-5))
    affine = given(row, 2, "weight"), given(row, 3, "bias")
    operands = _affine(low, affine, channels)
    weight, bias = (arg is not None for arg in affine)
    each = channels // groups
    space = product(shape[2:])
    seen = reshape_view(x, (samples, channels, space))
    if seen is not None and seen.strides[1] == 1 and (seen.strides[2] != 1 or space == 1):
        y = low.new("float32", (samples, space, channels))
        low.emit(
            TileOp.NORM, [moved(seen, (0, 2, 1)), *operands], [y], kind="columns", groups=groups,
            eps=eps, weight=weight, bias=bias,
        )  # fmt: skip
        return low.reshaped(moved(y, (0, 2, 1)), shape)
    seen = row_major(low, x, (samples, channels, space))
    y = low.new("float32", (samples, channels, space))
    low.emit(
        TileOp.NORM, [_split(seen, groups, each), *operands], [_split(y, groups, each)],
        kind="group", eps=eps, weight=weight, bias=bias,
    )  # fmt: skip
    return low.reshaped(y, shape)


def _split(view: View, groups: int, each: int) -> View:
    """See [samples, channels, space] as [samples, groups, channels of a group, space]."""
    samples, _, space = view.shape
    step = view.strides[1]
    return View(
        view.slot,
        view.dtype,
        (samples, groups, each, space),
        (view.strides[0], step * each, step, view.strides[2]),
        view.offset,
    )


def _affine(low: Lowering, args: tuple[Arg, Arg], n: Extent) -> list[View]:
    operands = []
    for arg in args:
        if arg is not None:
            view = low.view(arg)
            need(view.dtype == "float32" and product(view.shape) == n, "weight of another kind")
            operands.append(row_major(low, view, (n,)))
    return operands


def _epsilon(low: Lowering, row: Row, x: View, eps: Arg) -> float:
    if x.dtype != "float32" or low.out(row).dtype != "float32":
        raise Refused(f"a norm of {x.dtype}")
    if not isinstance(eps, int | float):
        raise Refused(f"epsilon {eps!r}")
    return float(eps)


RULES: Mapping[str, Rule] = {
    "aten.layer_norm.default": _layer_norm,
    "aten.rms_norm.default": _rms_norm,
    "aten.group_norm.default": _group_norm,
}
