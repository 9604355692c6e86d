"""Views and transposes in one spelling each: `reshape` and `permute`, chains composed.

view, flatten, unflatten, squeeze, unsqueeze, ...  ->  reshape(x, sizes)
transpose, t, mT, movedim, swapaxes, ...           ->  permute(x, axes)
permute that only moves axes of 1                  ->  reshape
permute(reshape(x)) where the reshape joins axes   ->  reshape(permute(x))
select(x, d, i)                                    ->  reshape(slice(x, d, i, i + 1))
split, chunk, unbind                               ->  slices
cat of reshapes that add or drop axes of 1         ->  reshape(cat)
reshape(stack(xs)) that joins the new axis         ->  cat(xs)
"""

import operator
from collections.abc import Sequence
from math import prod
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.extents import extent
from fusec.passes.canonicalise.facts import is_call, same, same_shape, shape_of, tensor_of
from fusec.passes.canonicalise.rewrite import Answer, Edit, Rule
from fusec.passes.canonicalise.schema import arguments

__all__ = ["RULES", "permute", "reshape"]

aten = torch.ops.aten


def reshape(edit: Edit, x: fx.Node, shape: Sequence[Any]) -> fx.Node | None:
    """Emit the one spelling of a reshape: at most one -1, at the last symbolic extent.

    None where an extent cannot be written over the inputs' symbols.
    """
    if same_shape(shape_of(x), shape):
        return x
    sizes: list[Any] = list(shape)
    symbolic = [i for i, d in enumerate(sizes) if not isinstance(d, int)]
    if symbolic and 0 not in sizes:
        sizes[symbolic.pop()] = -1
    for i in symbolic:
        sizes[i] = extent(edit, sizes[i])
        if sizes[i] is None:
            return None
    return edit.emit_reshape(x, sizes, shape)


def permute(edit: Edit, x: fx.Node, axes: Sequence[int]) -> fx.Node:
    """Emit a transposition; x itself for the identity."""
    if list(axes) == list(range(len(axes))):
        return x
    return edit.emit(aten.permute.default, x, list(axes))


_VIEWS: Final = (
    aten.view.default, aten._unsafe_view.default, aten.view_copy.default,
    aten.flatten.using_ints, aten.unflatten.int, aten.squeeze.default, aten.squeeze.dim,
    aten.squeeze.dims, aten.unsqueeze.default, aten.ravel.default, aten.atleast_1d.default,
    aten.atleast_2d.default, aten.reshape.default, aten.view_as.default,
    aten.reshape_as.default, aten.unsqueeze_copy.default, aten.squeeze_copy.dim,
)  # fmt: skip

_TRANSPOSES: Final = (
    aten.transpose.int, aten.t.default, aten.mT.default, aten.numpy_T.default,
    aten.movedim.int, aten.movedim.intlist, aten.swapaxes.default, aten.swapdims.default,
    aten.adjoint.default,
)  # fmt: skip


def _view(edit: Edit, node: fx.Node) -> Answer:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    inner = source
    while is_call(inner, aten.reshape.default) and isinstance(inner.args[0], fx.Node):
        inner = inner.args[0]
    if node.target is aten.reshape.default and inner is source:
        return _as_spelled(edit, node, source)
    return reshape(edit, inner, shape_of(node))


def _as_spelled(edit: Edit, node: fx.Node, source: fx.Node) -> Answer:
    """Respell a reshape only if that changes it."""
    shape = list(shape_of(node))
    if all(isinstance(d, int) for d in shape) and _alike(shape, node.args[1]):
        # The usual case, not worth emitting what would be thrown away.
        return source if same_shape(shape_of(source), shape) else None
    new = reshape(edit, source, shape)
    if new is None or (new is not source and _alike(new.args[1], node.args[1])):
        return None
    return new


def _alike(a: Any, b: Any) -> bool:
    """Tell whether two arguments are spelled alike; extents are nodes emitted anew each time."""
    if isinstance(a, fx.Node) and isinstance(b, fx.Node):
        return a is b or (a.target == b.target and _alike(a.args, b.args))
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)


def _transpose(edit: Edit, node: fx.Node) -> Answer:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return permute(edit, source, _axes(node, len(shape_of(source))))


def _axes(node: fx.Node, rank: int) -> list[int]:
    """Find the order of axes by doing to small distinct extents what the node does."""
    probe = torch.empty([2 + i for i in range(rank)], device="meta")
    assert callable(node.target)
    moved = node.target(probe, *node.args[1:], **node.kwargs)
    return [int(d) - 2 for d in moved.shape]


def _permute(edit: Edit, node: fx.Node) -> Answer:
    source, axes = node.args[0], list(node.args[1])  # type: ignore[arg-type]
    assert isinstance(source, fx.Node)
    axes = [int(a) % len(axes) for a in axes]
    if is_call(source, aten.permute.default):
        inner = [int(a) % len(axes) for a in source.args[1]]  # type: ignore
        assert isinstance(source.args[0], fx.Node)
        return permute(edit, source.args[0], [inner[a] for a in axes])
    if axes == list(range(len(axes))):
        return source
    moved = [a for a in axes if not same(shape_of(source)[a], 1)]
    if moved == sorted(moved):
        return reshape(edit, source, shape_of(node))
    return _above_merge(edit, source, axes) if is_call(source, aten.reshape.default) else None


def _above_merge(edit: Edit, source: fx.Node, axes: Sequence[int]) -> Answer:
    """Transpose before a reshape that only joins axes, or adds axes of 1."""
    inner = source.args[0]
    assert isinstance(inner, fx.Node)
    groups = _joined(shape_of(inner), shape_of(source))
    if groups is None:
        return None
    turned = permute(edit, inner, [axis for a in axes for axis in groups[a]])
    return reshape(edit, turned, [shape_of(source)[a] for a in axes])


def _joined(before: Sequence[Any], after: Sequence[Any]) -> list[list[int]] | None:
    """Give, for each axis of a reshape's result, the axes that it joins; None if it splits one."""
    groups: list[list[int]] = []
    axis = 0
    for size in after:
        group: list[int] = []
        total: Any = 1
        while not same(total, size) and axis < len(before):
            total = total * before[axis]
            group.append(axis)
            axis += 1
        if not same(total, size):
            return None
        groups.append(group)
    rest = list(range(axis, len(before)))
    if not groups or any(not same(before[a], 1) for a in rest):
        return None
    groups[-1].extend(rest)
    return groups


def _expand(edit: Edit, node: fx.Node) -> Answer:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    if same_shape(shape_of(source), shape_of(node)):
        return source
    if node.target is not aten.expand.default:
        sizes = [extent(edit, d) for d in shape_of(node)]
        return None if None in sizes else edit.emit(aten.expand.default, source, sizes)
    if is_call(source, aten.expand.default):
        return edit.emit(aten.expand.default, source.args[0], node.args[1])
    before = (1,) * (len(shape_of(node)) - len(shape_of(source))) + shape_of(source)
    # An extent that is kept is written -1: the sizes then say only what grows.
    sizes = [
        -1 if same(b, a) and i >= len(before) - len(shape_of(source)) else extent(edit, a)
        for i, (b, a) in enumerate(zip(before, shape_of(node), strict=True))
    ]
    if None in sizes or _alike(sizes, node.args[1]):
        return None
    return edit.emit(aten.expand.default, source, sizes)


def _select(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    source, dim, index = given["self"], given["dim"], given["index"]
    if not isinstance(index, int):
        return None
    size = shape_of(source)[dim]
    if index < 0 and not isinstance(size, int):
        end = index + 1 if index != -1 else None
        part = edit.emit(aten.slice.Tensor, source, dim, index, end)
    else:
        start = index % size if isinstance(size, int) else index
        part = edit.emit(aten.slice.Tensor, source, dim, start, start + 1)
    return reshape(edit, part, shape_of(node))


def _slice(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    source: fx.Node = given["self"]
    dim, step = given["dim"], given["step"]
    if same_shape(shape_of(source), shape_of(node)) and step == 1:
        return source
    size = shape_of(source)[dim]
    start, end = _bound(given["start"], size, 0), _bound(given["end"], size, size)
    if isinstance(end, int) and isinstance(size, int) and end == size:
        end = None
    start = 0 if start is None else start
    new = edit.emit(aten.slice.Tensor, source, dim, start, end, step)
    return None if _alike(new.args, node.args) else new


def _bound(value: Any, size: Any, absent: Any) -> Any:
    """Count a slice's bound from the front where that can be known; None says to the end."""
    if value is None:
        return None if absent is size else absent
    if isinstance(value, int) and isinstance(size, int):
        return min(max(value + size if value < 0 else value, 0), size)
    if isinstance(value, int) and value >= 2**62:
        return None
    return value


def _piece(edit: Edit, node: fx.Node) -> Answer:
    """One piece of a split, as a slice; of an unbind, as a slice without its axis."""
    source, index = node.args
    if not is_call(source, *_SPLITS) or not isinstance(index, int):
        return None
    given = arguments(source)
    whole: fx.Node = given["self"]
    dim: int = given["dim"]
    dim = dim % len(shape_of(whole))
    if source.target is aten.unbind.int:
        part = edit.emit(aten.slice.Tensor, whole, dim, index, index + 1)
        return reshape(edit, part, shape_of(node))
    lengths = [tensor.shape[dim] for tensor in source.meta["val"]]
    if not all(isinstance(n, int) for n in lengths):
        return None
    start = sum(lengths[:index])
    end = start + lengths[index]
    full = isinstance(shape_of(whole)[dim], int) and end == shape_of(whole)[dim]
    if start == 0 and full:
        return whole
    return edit.emit(aten.slice.Tensor, whole, dim, start, None if full else end)


_SPLITS: Final = (
    aten.split.Tensor, aten.split.sizes, aten.split_with_sizes.default, aten.chunk.default,
    aten.unsafe_split.Tensor, aten.unsafe_chunk.default, aten.tensor_split.sections,
    aten.unbind.int, aten.unsafe_split_with_sizes.default, aten.split_with_sizes_copy.default,
)  # fmt: skip


def _stack(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    shape = list(shape_of(node))
    shape[given["dim"]] = 1
    parts = [reshape(edit, part, shape) for part in given["tensors"]]
    return None if None in parts else edit.emit(aten.cat.default, parts, given["dim"])


def _cat(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    parts: list[fx.Node] = given["tensors"]
    if node.target is not aten.cat.default:
        return edit.emit(aten.cat.default, parts, given["dim"])
    if len(parts) == 1 and tensor_of(parts[0]) is not None:
        return parts[0]
    nested = [p for p in parts if is_call(p, aten.cat.default) and _dim(p) == given["dim"]]
    if not nested:
        return None
    flat: list[fx.Node] = []
    for part in parts:
        inner: Any = part.args[0] if part in nested else (part,)
        flat.extend(inner)
    return edit.emit(aten.cat.default, flat, given["dim"])


def _ones_first(edit: Edit, node: fx.Node) -> Answer:
    """Put axes of 1 first in a transposition below a reshape, which does not see where they are."""
    turned = node.args[0]
    if not is_call(turned, aten.permute.default):
        return None
    source: Any = turned.args[0]
    axes: Any = turned.args[1]
    ones = [a for a in sorted(axes) if same(shape_of(source)[a], 1)]
    wanted = [*ones, *(a for a in axes if a not in ones)]
    if wanted == list(axes):
        return None
    return reshape(edit, permute(edit, source, wanted), shape_of(node))


def _view_below_cat(edit: Edit, node: fx.Node) -> Answer:
    """Join first, then add or drop axes of 1, where all parts do the same."""
    given = arguments(node)
    parts, dim = given["tensors"], given["dim"]
    if len(parts) < 2 or not all(is_call(p, aten.reshape.default) for p in parts):
        return None
    sources = [p.args[0] for p in parts]
    shapes = [shape_of(s) for s in sources]
    places = {_place(inner, shape_of(p), dim) for inner, p in zip(shapes, parts, strict=True)}
    at = places.pop()
    if places or at is None or len({len(s) for s in shapes}) != 1:
        return None
    rest = [s[:at] + s[at + 1 :] for s in shapes]
    if not all(same_shape(rest[0], r) for r in rest):
        return None
    return reshape(edit, edit.emit(aten.cat.default, sources, at), shape_of(node))


def _place(before: Sequence[Any], after: Sequence[Any], dim: int) -> int | None:
    """Give the axis that became `dim` in a reshape that adds or drops axes of 1 only."""
    old = [i for i, d in enumerate(before) if not same(d, 1)]
    new = [i for i, d in enumerate(after) if not same(d, 1)]
    if dim not in new or not same_shape([before[i] for i in old], [after[i] for i in new]):
        return None
    return old[new.index(dim)]


def _unstack(edit: Edit, node: fx.Node) -> Answer:
    """Write a stack whose axis is then joined to the next ones as a plain cat."""
    turned: Any = node.args[0]
    order: Any = None
    if is_call(turned, aten.permute.default):
        turned, order = turned.args[:2]
    if not is_call(turned, aten.cat.default):
        return None
    parts, dim = arguments(turned)["tensors"], _dim(turned)
    if not all(is_call(p, aten.reshape.default) and same(shape_of(p)[dim], 1) for p in parts):
        return None
    order = list(range(len(shape_of(turned)))) if order is None else order
    extents = [shape_of(turned)[a] for a in order]
    groups, at = _joined(extents, shape_of(node)), order.index(dim)
    place = next((i for i, g in enumerate(groups or []) if at in g), None)
    if groups is None or place is None or len(groups[place]) < 2:
        return None
    if not all(same(extents[a], 1) for a in groups[place] if a < at):
        return None
    extents[at] = 1
    shape = [prod([extents[a] for a in group]) for group in groups]
    flat = [reshape(edit, permute(edit, part, order), shape) for part in parts]
    return None if None in flat else edit.emit(aten.cat.default, flat, place)


def _dim(node: fx.Node) -> int:
    dim: int = arguments(node)["dim"] % len(shape_of(node))
    return dim


RULES: Final = (
    Rule("view_to_reshape", _VIEWS, _view),
    Rule("transpose_to_permute", _TRANSPOSES, _transpose),
    Rule("compose_permutes", (aten.permute.default,), _permute),
    Rule("compose_expands", (aten.expand.default, aten.broadcast_to.default,
                             aten.expand_as.default), _expand),
    Rule("select_to_slice", (aten.select.int,), _select),
    Rule("spell_slice", (aten.slice.Tensor,), _slice),
    Rule("split_to_slices", (operator.getitem,), _piece),
    Rule("stack_to_cat", (aten.stack.default,), _stack),
    Rule("ones_first", (aten.reshape.default,), _ones_first),
    Rule("view_below_cat", (aten.cat.default,), _view_below_cat),
    Rule("unstack", (aten.reshape.default,), _unstack),
    Rule("flatten_cat", (aten.cat.default, aten.concat.default), _cat),
)  # fmt: skip
