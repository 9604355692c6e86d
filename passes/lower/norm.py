"""Layer norm, RMS norm and group norm."""

from collections.abc import Mapping

from fusec.ir.extents import Extent, product
from fusec.ir.stage import TileOp, View
from fusec.ir.template import Arg, Row
from fusec.passes.lower.arguments import given, moved, need, row_major, shape_of
from fusec.passes.lower.builder import Lowering, Refused, Value, reshape_view
from fusec.passes.lower.rule import Rule

__all__ = ["RULES"]

_FEWEST = 16
"""Channels of a group for which channels last is normalised in place of a transposed copy."""
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
    operands, attrs = _affine(low, affine, n)
    seen = row_major(low, x, (rows, n))
    y = low.new("float32", (rows, n))
    low.emit(
        TileOp.NORM, [seen, *operands], [y], kind=kind, eps=_epsilon(low, row, x, eps),
        along="n", **attrs,
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
    operands, attrs = _affine(low, (given(row, 2, "weight"), given(row, 3, "bias")), channels)
    each = channels // groups
    space = product(shape[2:])
    seen = reshape_view(x, (samples, channels, space))
    last = seen is not None and seen.strides[1] == 1 and seen.strides[2] != 1
    if seen is not None and last and (each >= _FEWEST or space == 1):
        given_x = _split(moved(seen, (0, 2, 1)), groups, each, 2)
        y = low.new("float32", (samples, space, channels))
        out = _split(y, groups, each, 2)
        result, along = moved(y, (0, 2, 1)), "b"
    else:
        given_x = _split(row_major(low, x, (samples, channels, space)), groups, each, 1)
        result = low.new("float32", (samples, channels, space))
        out, along = _split(result, groups, each, 1), "a"
    low.emit(TileOp.NORM, [given_x, *operands], [out], kind="group", eps=eps, along=along, **attrs)
    return low.reshaped(result, shape)


def _split(view: View, groups: int, each: int, axis: int) -> View:
    """See [samples, ...] with channels on an axis as [samples, groups, a, b]."""
    shape: list[Extent] = list(view.shape)
    strides: list[Extent] = list(view.strides)
    step = strides[axis]
    shape[axis : axis + 1] = [groups, each]
    strides[axis : axis + 1] = [step * each, step]
    whole = View(view.slot, view.dtype, tuple(shape), tuple(strides), view.offset)
    return whole if axis == 1 else moved(whole, (0, 2, 1, 3))


def _affine(low: Lowering, args: tuple[Arg, Arg], n: Extent) -> tuple[list[View], dict[str, bool]]:
    operands = []
    for arg in args:
        if arg is not None:
            view = low.view(arg)
            need(view.dtype == "float32" and product(view.shape) == n, "weight of another kind")
            operands.append(row_major(low, view, (n,)))
    return operands, {"weight": args[0] is not None, "bias": args[1] is not None}


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
