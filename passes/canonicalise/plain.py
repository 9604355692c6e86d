"""Operators that are made of plainer ones, spelled so: twins that wrote them out meet them.

channel_shuffle(x, g), pixel_unshuffle(x, r)  ->  reshape(permute(reshape(x)))
meshgrid(xs)[i]                               ->  expand(reshape(xs[i]))
tril(x, k), triu(x, k)                        ->  where(column - row <= k, x, 0)
eye(n), one_hot(x, n)                         ->  a comparison with a range, cast
linspace(a, b, n)                             ->  a + i * step in its first half, b - ... behind
narrow(x, d, start, length)                   ->  slice(x, d, start, start + length)
slice_scatter(x, part), select_scatter        ->  cat(before, part, behind)
copy(x, y)                                    ->  expand(y), cast
index_put(x, [mask], number)                  ->  where(mask, number, x)
cosine_similarity, pairwise_distance, cdist   ->  sums of products, norms of differences
bilinear(x, y, w, b)                          ->  sum(linear(y, w) * x) + b
softshrink(x)                                 ->  x - clamp(x, -lambda, lambda)
"""

import operator
from collections.abc import Sequence
from math import pi, prod
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.extents import extent
from fusec.passes.canonicalise.facts import (
    dtype_of,
    is_call,
    is_float,
    same,
    same_shape,
    shape_of,
    tensor_of,
)
from fusec.passes.canonicalise.rewrite import Answer, Edit, Rule
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.canonicalise.shapes import permute, reshape

__all__ = ["RULES", "ranged"]

aten = torch.ops.aten

_LARGEST_DIFFERENCE = 1 << 20
"""Elements of all differences of a cdist that are written to memory at once."""


def ranged(edit: Edit, size: Any, dtype: torch.dtype, shape: Sequence[Any]) -> fx.Node | None:
    """Emit 0 .. size-1 in a shape; None where the size has no spelling."""
    end = extent(edit, size)
    if end is None:
        return None
    return reshape(edit, edit.emit(aten.arange.start_step, 0, end, 1, dtype=dtype), shape)


def _channel_shuffle(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x, groups = given["self"], given["groups"]
    n, channels, *rest = shape_of(x)
    if not isinstance(channels, int):
        return None
    apart = reshape(edit, x, [n, groups, channels // groups, *rest])
    if apart is None:
        return None
    turned = permute(edit, apart, [0, 2, 1, *range(3, len(rest) + 3)])
    return reshape(edit, turned, shape_of(node))


def _pixel_unshuffle(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x, r = given["self"], given["downscale_factor"]
    *outer, channels, _, _ = shape_of(x)
    height, width = shape_of(node)[-2:]
    apart = reshape(edit, x, [*outer, channels, height, r, width, r])
    if apart is None:
        return None
    n = len(outer)
    turned = permute(edit, apart, [*range(n), *(n + i for i in (0, 2, 4, 1, 3))])
    return reshape(edit, turned, shape_of(node))


def _meshgrid(edit: Edit, node: fx.Node) -> Answer:
    source, index = node.args
    if not is_call(source, aten.meshgrid.default, aten.meshgrid.indexing):
        return None
    given = arguments(source)
    assert isinstance(index, int)
    x: fx.Node = given["tensors"][index]
    axis = index
    if given.get("indexing") == "xy" and index < 2 and len(given["tensors"]) > 1:
        axis = 1 - index
    shape = [1] * len(given["tensors"])
    shape[axis] = shape_of(node)[axis]
    laid = reshape(edit, x, shape)
    sizes = [-1 if i == axis else extent(edit, d) for i, d in enumerate(shape_of(node))]
    return None if laid is None or None in sizes else edit.emit(aten.expand.default, laid, sizes)


def _triangle(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x, diagonal = given["self"], given["diagonal"]
    *_, rows, columns = shape_of(x)
    row = ranged(edit, rows, torch.int64, [rows, 1])
    column = ranged(edit, columns, torch.int64, [columns])
    if row is None or column is None or not isinstance(diagonal, int):
        return None
    last = row if diagonal == 0 else edit.emit(aten.add.Tensor, row, diagonal)
    question = aten.le.Tensor if node.target is aten.tril.default else aten.ge.Tensor
    kept = edit.emit(question, column, last)
    if dtype_of(x) == torch.bool:
        return edit.emit(aten.logical_and.default, x, kept)
    zero = edit.emit(aten.full.default, [], 0, dtype=dtype_of(x))
    return edit.emit(aten.where.self, kept, x, zero)


def _eye(edit: Edit, node: fx.Node) -> Answer:
    rows, columns = shape_of(node)
    row = ranged(edit, rows, torch.int64, [rows, 1])
    column = ranged(edit, columns, torch.int64, [columns])
    if row is None or column is None:
        return None
    equal = edit.emit(aten.eq.Tensor, row, column)
    dtype = dtype_of(node)
    return equal if dtype == torch.bool else edit.emit(aten._to_copy.default, equal, dtype=dtype)


def _linspace(edit: Edit, node: fx.Node) -> Answer:
    """Count from both ends, as torch does: either end is met exactly."""
    given = arguments(node)
    start, end, steps = given["start"], given["end"], given["steps"]
    numbers = all(isinstance(n, int | float) for n in (start, end))
    if not numbers or not isinstance(steps, int) or steps < 2 or dtype_of(node) != torch.float32:
        return None
    step = (end - start) / (steps - 1)
    at = edit.emit(aten.arange.start_step, 0.0, float(steps), 1.0, dtype=torch.float32)
    behind = edit.emit(aten.rsub.Scalar, at, float(steps - 1))
    rising = edit.emit(aten.add.Tensor, edit.emit(aten.mul.Tensor, at, step), float(start))
    falling = edit.emit(aten.rsub.Scalar, edit.emit(aten.mul.Tensor, behind, step), float(end))
    first = edit.emit(aten.lt.Scalar, at, float(steps // 2))
    return edit.emit(aten.where.self, first, rising, falling)


def _one_hot(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x, classes = given["self"], given["num_classes"]
    if not isinstance(classes, int) or classes < 1 or dtype_of(x) != torch.int64:
        return None
    laid = reshape(edit, x, [*shape_of(x), 1])
    number = ranged(edit, classes, torch.int64, [classes])
    if laid is None or number is None:
        return None
    equal = edit.emit(aten.eq.Tensor, laid, number)
    return edit.emit(aten._to_copy.default, equal, dtype=torch.int64)


def _narrow(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    start, length = given["start"], given["length"]
    if not isinstance(start, int) or not isinstance(length, int):
        return None
    end = None if start + length == 0 else start + length
    return edit.emit(aten.slice.Tensor, given["self"], given["dim"], start, end)


def _scatter(edit: Edit, node: fx.Node) -> Answer:
    """Put a part in the place of what is there."""
    given = arguments(node)
    x, part, dim = given["self"], given["src"], given["dim"]
    size = shape_of(x)[dim]
    if not isinstance(size, int):
        return None
    if node.target is aten.select_scatter.default:
        start, end, step = given["index"] % size, given["index"] % size + 1, 1
        shape = list(shape_of(x))
        shape[dim] = 1
        part = reshape(edit, part, shape)
    else:
        start, end, step = given["start"], given["end"], given["step"]
        start, end = 0 if start is None else start, size if end is None else end
    if part is None or step != 1 or not (isinstance(start, int) and isinstance(end, int)):
        return None
    start, end, _ = slice(start, end).indices(size)
    if start >= end or dtype_of(part) != dtype_of(x):
        return None
    pieces = [part]
    if start > 0:
        pieces.insert(0, edit.emit(aten.slice.Tensor, x, dim, 0, start))
    if end < size:
        pieces.append(edit.emit(aten.slice.Tensor, x, dim, end, None))
    return edit.emit(aten.cat.default, pieces, dim)


def _copy(edit: Edit, node: fx.Node) -> Answer:
    """Give what was written over all of a tensor: broadcast to its shape, in its dtype."""
    given = arguments(node)
    written: fx.Node = given["src"]
    if dtype_of(written) != dtype_of(node):
        written = edit.emit(aten._to_copy.default, written, dtype=dtype_of(node))
    if same_shape(shape_of(written), shape_of(node)):
        return written
    sizes = [extent(edit, d) for d in shape_of(node)]
    return None if None in sizes else edit.emit(aten.expand.default, written, sizes)


def _masked(edit: Edit, node: fx.Node) -> Answer:
    """Spell x[mask] = number as a choice."""
    given = arguments(node)
    x, value = given["self"], given["values"]
    if len(given["indices"]) != 1 or given["accumulate"] or tensor_of(value) is None:
        return None
    (mask,) = given["indices"]
    if mask is None or dtype_of(mask) != torch.bool or dtype_of(value) != dtype_of(x):
        return None
    if not all(same(d, 1) for d in shape_of(value)):
        return None
    shape = shape_of(x)
    laid = reshape(edit, mask, [*shape_of(mask), *[1] * (len(shape) - len(shape_of(mask)))])
    number = reshape(edit, value, [])
    if laid is None or number is None:
        return None
    return edit.emit(aten.where.self, laid, number, x)


def _cosine(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    a, b, eps = given["x1"], given["x2"], given["eps"]
    if dtype_of(a) != dtype_of(b) or not is_float(node):
        return None
    rank = max(len(shape_of(a)), len(shape_of(b)))
    axes = [given["dim"] % rank]
    lengths = [
        edit.emit(
            aten.clamp.default,
            edit.emit(aten.linalg_vector_norm.default, x, 2.0, [axes[0] - rank], True), eps,
        )
        for x in (a, b)
    ]  # fmt: skip
    parts = [edit.emit(aten.div.Tensor, x, n) for x, n in zip((a, b), lengths, strict=True)]
    return edit.emit(aten.sum.dim_IntList, edit.emit(aten.mul.Tensor, *parts), axes)


def _distance(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    apart = edit.emit(aten.sub.Tensor, given["x1"], given["x2"])
    moved = edit.emit(aten.add.Tensor, apart, given["eps"])
    return edit.emit(aten.linalg_vector_norm.default, moved, given["p"], [-1], given["keepdim"])


def _cdist(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    a, b, p = given["x1"], given["x2"], given["p"]
    sizes = [*shape_of(node), shape_of(a)[-1]]
    known = all(isinstance(d, int) for d in sizes)
    if not known or prod(sizes) > _LARGEST_DIFFERENCE or p not in (1, 2, float("inf")):
        return None
    first = reshape(edit, a, [*shape_of(a)[:-1], 1, sizes[-1]])
    second = reshape(edit, b, [*shape_of(b)[:-2], 1, *shape_of(b)[-2:]])
    if first is None or second is None:
        return None
    apart = edit.emit(aten.sub.Tensor, first, second)
    return edit.emit(aten.linalg_vector_norm.default, apart, float(p), [-1], False)


def _bilinear(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x, y, w, b = given["input1"], given["input2"], given["weight"], given["bias"]
    out, rows, columns = shape_of(w)
    flat = reshape(edit, w, [out * rows, columns])
    if flat is None:
        return None
    product = edit.emit(aten.linear.default, y, flat)
    apart = reshape(edit, product, [*shape_of(y)[:-1], out, rows])
    laid = reshape(edit, x, [*shape_of(x)[:-1], 1, rows])
    if apart is None or laid is None:
        return None
    total = edit.emit(aten.sum.dim_IntList, edit.emit(aten.mul.Tensor, apart, laid), [-1])
    return total if b is None else edit.emit(aten.add.Tensor, total, b)


def _softshrink(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    x, width = given["self"], given["lambd"]
    return edit.emit(aten.sub.Tensor, x, edit.emit(aten.clamp.default, x, -width, width))


def _sinc(edit: Edit, node: fx.Node) -> Answer:
    x = arguments(node)["self"]
    if not is_float(x):
        return None
    turned = edit.emit(aten.mul.Tensor, x, pi)
    wave = edit.emit(aten.div.Tensor, edit.emit(aten.sin.default, turned), turned)
    return edit.emit(aten.where.ScalarSelf, edit.emit(aten.eq.Scalar, x, 0), 1.0, wave)


RULES: Final = (
    Rule("channel_shuffle", (aten.channel_shuffle.default,), _channel_shuffle),
    Rule("pixel_unshuffle", (aten.pixel_unshuffle.default,), _pixel_unshuffle),
    Rule("meshgrid_to_expand", (operator.getitem,), _meshgrid),
    Rule("triangle_to_where", (aten.tril.default, aten.triu.default), _triangle),
    Rule("eye_to_range", (aten.eye.default, aten.eye.m), _eye),
    Rule("linspace_to_range", (aten.linspace.default,), _linspace),
    Rule("one_hot_to_range", (aten.one_hot.default,), _one_hot),
    Rule("narrow_to_slice", (aten.narrow.default,), _narrow),
    Rule("scatter_to_cat", (aten.slice_scatter.default, aten.select_scatter.default), _scatter),
    Rule("copy_to_expand", (aten.copy.default,), _copy),
    Rule("masked_to_where", (aten.index_put.default,), _masked),
    Rule("cosine_similarity", (aten.cosine_similarity.default,), _cosine),
    Rule("pairwise_distance", (aten.pairwise_distance.default,), _distance),
    Rule("cdist", (aten._cdist_forward.default,), _cdist),
    Rule("bilinear", (aten.bilinear.default,), _bilinear),
    Rule("softshrink", (aten.softshrink.default,), _softshrink),
    Rule("sinc", (aten.sinc.default,), _sinc),
)
