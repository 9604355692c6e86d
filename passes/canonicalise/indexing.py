"""Look-ups in tables as `index`, repeats as `expand`, resizing by size.

embedding(w, i)                  ->  index(w, [i])           equal wherever embedding is defined
index_select(x, d, i)            ->  index(x, [None] * d + [i])
repeat_interleave(x, n, d)       ->  reshape(expand(reshape(x)))
upsample(x, scale_factors=...)   ->  upsample(x, size)       where the factors are exact
index(x, [ranges over whole axes])  ->  reshape(x)           what masks of attention are made with
"""

import operator
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.extents import extent
from fusec.passes.canonicalise.facts import dtype_of, same, shape_of
from fusec.passes.canonicalise.rewrite import Answer, Edit, Rule
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.canonicalise.shapes import reshape

__all__ = ["RULES", "range_axis"]

aten = torch.ops.aten

_RESIZES: Final = {
    getattr(aten, name).vec
    for name in (
        "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d",
        "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d",
        "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d",
    )
}  # fmt: skip
_RESIZES_BY_SIZE: Final = {
    getattr(aten, op._schema.name.removeprefix("aten::")).default: op for op in _RESIZES
}


def _embedding(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    indices = given["indices"]
    if dtype_of(indices) != torch.int64:
        indices = edit.emit(aten._to_copy.default, indices, dtype=torch.int64)
    return edit.emit(aten.index.Tensor, given["weight"], [indices])


def _index_select(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    if not shape_of(given["self"]) or len(shape_of(given["index"])) != 1:
        return None
    at = [*[None] * given["dim"], given["index"]]
    return edit.emit(aten.index.Tensor, given["self"], at)


def _index_by_ranges(edit: Edit, node: fx.Node) -> Answer:
    """Spell look-ups of all of some leading axes, each laid along an axis of its own, as a view.

    index(x [a, b], [arange(a) as [a, 1], arange(b) as [1, b]]) is x.
    """
    given = arguments(node)
    x, indices = given["self"], given["indices"]
    rank = len(shape_of(node)) - (len(shape_of(x)) - len(indices))
    along: list[int] = []
    for axis, index in enumerate(indices):
        found = range_axis(index, shape_of(x)[axis], rank)
        if found is None:
            return None
        along.append(found)
    placed = [a for a in along if a >= 0]
    if placed != sorted(set(placed)):
        return None
    return reshape(edit, x, shape_of(node)) if _only_ones(edit, x, node) else None


def _only_ones(edit: Edit, x: fx.Node, node: fx.Node) -> bool:
    """Tell whether two values have the same extents in order, apart from ones."""
    before = [d for d in shape_of(x) if not same(d, 1)]
    after = [d for d in shape_of(node) if not same(d, 1)]
    return len(before) == len(after) and all(map(same, before, after))


def range_axis(index: Any, size: Any, rank: int) -> int | None:
    """Give the axis along which an index runs over 0 .. size-1, counted in the result.

    -1 where there is one element, the first; None for any other index.
    """
    if not isinstance(index, fx.Node):
        return None
    shape = shape_of(index)
    while index.target is aten.reshape.default and isinstance(index.args[0], fx.Node):
        index = index.args[0]
    if index.target is not aten.arange.start_step or index.args[0] != 0:
        return None
    if len(index.args) > 2 and index.args[2] != 1:
        return None
    long = [axis for axis, d in enumerate(shape) if not same(d, 1)]
    if not long:
        return -1 if same(size, 1) else None
    if len(long) > 1 or not same(shape[long[0]], size):
        return None
    return rank - len(shape) + long[0] if len(shape) <= rank else None


def _repeat_interleave(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x, times, dim = given["self"], given["repeats"], given["dim"]
    shape = list(shape_of(x))
    if dim is None or not isinstance(times, int) or times < 1:
        return None
    dim = dim % len(shape)
    apart = reshape(edit, x, [*shape[: dim + 1], 1, *shape[dim + 1 :]])
    if apart is None:
        return None
    sizes: list[Any] = [-1] * (len(shape) + 1)
    sizes[dim + 1] = times
    return reshape(edit, edit.emit(aten.expand.default, apart, sizes), shape_of(node))


def _repeat(edit: Edit, node: fx.Node) -> Answer:
    """Spell the repetition of axes of extent 1 as their expansion."""
    given = arguments(node)
    x: fx.Node = given["self"]
    times = given["repeats"] if "repeats" in given else given["dims"]
    shape = shape_of(x)
    if len(times) < len(shape) or not all(isinstance(t, int) for t in times):
        return None
    new = len(times) - len(shape)
    if any(t != 1 and not same(shape[i], 1) for i, t in enumerate(times[new:])):
        return None
    sizes = [t if t != 1 or i < new else -1 for i, t in enumerate(times)]
    return edit.emit(aten.expand.default, x, sizes)


def _pool(edit: Edit, node: fx.Node) -> Answer:
    """Spell the first result of a pooling that also gives indices as the pooling without."""
    source, index = node.args
    if index != 0 or not isinstance(source, fx.Node) or source.target not in _POOLS:
        return None
    return edit.emit(_POOLS[source.target], *source.args, **source.kwargs)


_POOLS: Final[dict[Any, Any]] = {
    aten.max_pool2d_with_indices.default: aten.max_pool2d.default,
    aten.max_pool3d_with_indices.default: aten.max_pool3d.default,
    aten.max_pool1d_with_indices.default: aten.max_pool1d.default,
}


def _resize(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x = given.get("input", given.get("self"))
    given.pop("input", None)
    given.pop("self", None)
    size = list(shape_of(node))[2:]
    before = list(shape_of(x))[2:]
    if not all(isinstance(d, int) for d in (*size, *before)):
        return None
    factors = given.get("scale_factors") or [
        v for k, v in given.items() if k.startswith("scales") and v is not None
    ]
    exact = not factors or [b * f for b, f in zip(before, factors, strict=True)] == size
    target = _RESIZES_BY_SIZE.get(node.target, node.target)
    if not exact or (target is node.target and not factors):
        return None
    extra = [given["align_corners"]] if "align_corners" in given else []
    return edit.emit(target, x, size, *extra, None)


def _constant(edit: Edit, node: fx.Node) -> Answer:
    """Spell constants of one value as full, views of them as well."""
    value = _FILLS.get(node.target)
    if value is None:
        source: Any = node.args[0]
        if not isinstance(source, fx.Node) or source.target is not aten.full.default:
            return None
        value = source.args[1]
    sizes = [extent(edit, d) for d in shape_of(node)]
    if None in sizes:
        return None
    dtype = dtype_of(node)
    number: Any = bool(value) if dtype == torch.bool else value
    if not dtype.is_floating_point and isinstance(number, float) and not number.is_integer():
        return None
    return edit.emit(aten.full.default, sizes, number, dtype=dtype)


_FILLS: Final[dict[Any, Any]] = {
    aten.zeros.default: 0, aten.ones.default: 1, aten.zeros_like.default: 0,
    aten.ones_like.default: 1, aten.new_zeros.default: 0, aten.new_ones.default: 1,
}  # fmt: skip

_OF_FULL: Final = (
    aten.reshape.default, aten.permute.default, aten.expand.default, aten.slice.Tensor,
    aten._to_copy.default,
)  # fmt: skip

RULES: Final = (
    Rule("embedding_to_index", (aten.embedding.default,), _embedding),
    Rule("index_select_to_index", (aten.index_select.default,), _index_select),
    Rule("index_by_ranges", (aten.index.Tensor,), _index_by_ranges),
    Rule("repeat_to_expand", (aten.repeat_interleave.self_int,), _repeat_interleave),
    Rule("repeat_of_one_to_expand", (aten.repeat.default, aten.tile.default), _repeat),
    Rule("pool_without_indices", (operator.getitem,), _pool),
    Rule("resize_by_size", (*_RESIZES, *_RESIZES_BY_SIZE), _resize),
    Rule("constant_to_full", (*_FILLS, *_OF_FULL), _constant),
)
