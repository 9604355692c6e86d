"""Operators that only look at memory in another way: they cost nothing."""

from collections.abc import Mapping

from fusec.ir.extents import Extent, Poly, of
from fusec.ir.stage import View
from fusec.ir.template import Row
from fusec.passes.lower.builder import Lowering, Refused, Value
from fusec.passes.lower.rule import Rule

__all__ = ["RULES"]


def _shape(low: Lowering, row: Row, number: int = 0) -> tuple[Extent, ...]:
    return tuple(of(d) for d in low.out(row, number).shape)


def _same(low: Lowering, row: Row) -> Value:
    return low.view(row.args[0])


def _reshape(low: Lowering, row: Row) -> Value:
    return low.reshaped(low.view(row.args[0]), _shape(low, row))


def _permute(low: Lowering, row: Row) -> Value:
    view = low.view(row.args[0])
    order = low.ints(row.args[1])
    return View(
        view.slot,
        view.dtype,
        tuple(view.shape[i] for i in order),
        tuple(view.strides[i] for i in order),
        view.offset,
    )


def _transpose(low: Lowering, row: Row) -> Value:
    view = low.view(row.args[0])
    a, b = (i % len(view.shape) for i in low.ints(row.args[1:3]))
    order = list(range(len(view.shape)))
    order[a], order[b] = b, a
    return View(
        view.slot,
        view.dtype,
        tuple(view.shape[i] for i in order),
        tuple(view.strides[i] for i in order),
        view.offset,
    )


def broadcast(view: View, shape: tuple[Extent, ...]) -> View:
    """See a view in a shape that it broadcasts to: axes of extent 1 repeat.

    Raises:
        Refused: the shapes do not broadcast.
    """
    extra = len(shape) - len(view.shape)
    if extra < 0:
        raise Refused(f"{view.shape} does not broadcast to {shape}")
    strides: list[Extent] = [0] * extra
    for have, stride, want in zip(view.shape, view.strides, shape[extra:], strict=True):
        if have != want and have != 1:
            raise Refused(f"{view.shape} does not broadcast to {shape}")
        strides.append(stride if have == want else 0)
    return View(view.slot, view.dtype, shape, tuple(strides), view.offset)


def _expand(low: Lowering, row: Row) -> Value:
    return broadcast(low.view(row.args[0]), _shape(low, row))


def _slice(low: Lowering, row: Row) -> Value:
    view = low.view(row.args[0])
    axis = low.ints(row.args[1])[0] % len(view.shape) if len(row.args) > 1 else 0
    start = low.value(row.args[2]) if len(row.args) > 2 else None
    step = low.ints(row.args[4])[0] if len(row.args) > 4 else 1
    size = view.shape[axis]
    first = 0 if start is None else low.extent(row.args[2])
    if isinstance(first, int) and isinstance(size, int):
        first = max(0, min(size, first + size if first < 0 else first))
    elif isinstance(first, int) and first < 0:
        first = size + first
    elif isinstance(first, Poly) and not isinstance(size, Poly):
        raise Refused("a slice that starts at a symbol of a fixed axis")
    wanted = _shape(low, row)
    strides = list(view.strides)
    offset = view.offset + first * strides[axis]
    strides[axis] = strides[axis] * step
    return View(view.slot, view.dtype, wanted, tuple(strides), offset)


def _select(low: Lowering, row: Row) -> Value:
    view = low.view(row.args[0])
    axis, index = low.ints(row.args[1:3])
    axis %= len(view.shape)
    at: Extent = index if index >= 0 else view.shape[axis] + index
    return View(
        view.slot,
        view.dtype,
        view.shape[:axis] + view.shape[axis + 1 :],
        view.strides[:axis] + view.strides[axis + 1 :],
        view.offset + at * view.strides[axis],
    )


def _unfold(low: Lowering, row: Row) -> Value:
    """See windows along an axis, each along a new last one; they may overlap."""
    view = low.view(row.args[0])
    axis, _, step = low.ints(row.args[1:4])
    axis %= len(view.shape)
    shape = _shape(low, row)
    strides = list(view.strides)
    strides[axis] = strides[axis] * step
    return View(view.slot, view.dtype, shape, (*strides, view.strides[axis]), view.offset)


def _diagonal(low: Lowering, row: Row) -> Value:
    """See where the places along two axes are equal, apart from an offset, as a last axis."""
    view = low.view(row.args[0])
    numbers = low.ints(row.args[1:4]) + (0, 0, 1)[len(row.args) - 1 :]
    offset, first, second = numbers
    rank = len(view.shape)
    first, second = first % rank, second % rank
    rest = [i for i in range(rank) if i not in (first, second)]
    start = offset * view.strides[second] if offset >= 0 else -offset * view.strides[first]
    return View(
        view.slot,
        view.dtype,
        _shape(low, row),
        (*(view.strides[i] for i in rest), view.strides[first] + view.strides[second]),
        view.offset + start,
    )


def _pieces(low: Lowering, row: Row) -> Value:
    """Split in pieces along an axis, as the results' shapes say."""
    view = low.view(row.args[0])
    axis = low.ints(row.args[2])[0] % len(view.shape) if len(row.args) > 2 else 0
    if not isinstance(row.out, tuple):
        raise Refused("a split into one")
    pieces: list[Value] = []
    offset = view.offset
    for number in range(len(row.out)):
        shape = _shape(low, row, number)
        pieces.append(View(view.slot, view.dtype, shape, view.strides, offset))
        offset = offset + shape[axis] * view.strides[axis]
    return tuple(pieces)


def _unbind(low: Lowering, row: Row) -> Value:
    view = low.view(row.args[0])
    axis = low.ints(row.args[1])[0] % len(view.shape) if len(row.args) > 1 else 0
    if not isinstance(row.out, tuple):
        raise Refused("unbind of an unknown number")
    return tuple(
        View(
            view.slot,
            view.dtype,
            view.shape[:axis] + view.shape[axis + 1 :],
            view.strides[:axis] + view.strides[axis + 1 :],
            view.offset + i * view.strides[axis],
        )
        for i in range(len(row.out))
    )


RULES: Mapping[str, Rule] = {
    "aten.alias.default": _same,
    "aten.contiguous.default": _same,
    "aten.clone.default": _same,
    "aten.detach.default": _same,
    "aten.lift_fresh_copy.default": _same,
    "aten.reshape.default": _reshape,
    "aten.view.default": _reshape,
    "aten._unsafe_view.default": _reshape,
    "aten.flatten.using_ints": _reshape,
    "aten.unflatten.int": _reshape,
    "aten.squeeze.dim": _reshape,
    "aten.squeeze.dims": _reshape,
    "aten.squeeze.default": _reshape,
    "aten.unsqueeze.default": _reshape,
    "aten.permute.default": _permute,
    "aten.transpose.int": _transpose,
    "aten.expand.default": _expand,
    "aten.slice.Tensor": _slice,
    "aten.select.int": _select,
    "aten.unfold.default": _unfold,
    "aten.diagonal.default": _diagonal,
    "aten.split.Tensor": _pieces,
    "aten.split_with_sizes.default": _pieces,
    "aten.chunk.default": _pieces,
    "aten.unbind.int": _unbind,
}
