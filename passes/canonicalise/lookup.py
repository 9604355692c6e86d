"""Look-ups by several index tensors as look-ups by one, over the indexed axes joined.

    index(x [n, m, ...], [i, j])  ->  index(reshape(x, [n * m, ...]), [i * m + j])

An index out of the range of its own axis must not fall on an element of another row: it becomes
one behind the last element, which the look-up refuses. A range over a whole axis needs no check.
"""

from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.extents import extent
from fusec.passes.canonicalise.facts import dtype_of, same, shape_of
from fusec.passes.canonicalise.indexing import range_axis
from fusec.passes.canonicalise.rewrite import Answer, Edit, Rule
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.canonicalise.shapes import permute, reshape

__all__ = ["RULES"]

aten = torch.ops.aten

_WHOLE = (torch.int64, torch.int32)


def _several(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x: fx.Node = given["self"]
    indices = [*given["indices"], *[None] * (len(shape_of(x)) - len(given["indices"]))]
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    if len(axes) < 2 or any(dtype_of(indices[a]) not in _WHOLE for a in axes):
        return None
    if axes != list(range(axes[0], axes[-1] + 1)):
        # Axes that are apart: what was looked up comes first.
        rest = [a for a in range(len(indices)) if a not in axes]
        x = permute(edit, x, [*axes, *rest])
        indices = [indices[a] for a in axes]
        axes = list(range(len(axes)))
    sizes = [shape_of(x)[a] for a in axes]
    total: Any = 1
    for size in sizes:
        total = total * size
    at = _joined(edit, [indices[a] for a in axes], sizes, total, len(shape_of(node)))
    before, behind = shape_of(x)[: axes[0]], shape_of(x)[axes[-1] + 1 :]
    flat = reshape(edit, x, [*before, total, *behind])
    if at is None or flat is None:
        return None
    return edit.emit(aten.index.Tensor, flat, [*[None] * axes[0], at])


def _joined(edit: Edit, indices: list[fx.Node], sizes: list[Any], total: Any, rank: int) -> Any:
    """Emit the place in the joined axes; None where an extent has no spelling."""
    behind = extent(edit, total)
    place: fx.Node | None = None
    wrong: fx.Node | None = None
    for index, given in zip(indices, sizes, strict=True):
        size = extent(edit, given)
        if size is None or behind is None:
            return None
        at = index
        if dtype_of(at) != torch.int64:
            at = edit.emit(aten._to_copy.default, at, dtype=torch.int64)
        if range_axis(index, given, rank) is None:
            negative = edit.emit(aten.lt.Scalar, at, 0)
            at = edit.emit(aten.where.self, negative, edit.emit(aten.add.Tensor, at, size), at)
            outside = edit.emit(
                aten.logical_or.default,
                edit.emit(aten.lt.Scalar, at, 0), edit.emit(aten.ge.Scalar, at, size),
            )  # fmt: skip
            wrong = outside if wrong is None else edit.emit(aten.logical_or.default, wrong, outside)
        if place is not None and not same(given, 1):
            place = edit.emit(aten.mul.Tensor, place, size)
        place = at if place is None else edit.emit(aten.add.Tensor, place, at)
    if wrong is None:
        return place
    return edit.emit(aten.where.ScalarSelf, wrong, behind, place)


RULES: Final = (Rule("index_by_several", (aten.index.Tensor,), _several),)
