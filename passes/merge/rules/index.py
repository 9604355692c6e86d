"""Lookups and writes by index: a member's index never reaches another member's rows.

Bounds are checked per axis, so an index out of a member's range is an error, as it is when the
member runs alone; an offset into one joined table would read the next member's rows instead.
"""

import torch
from torch import fx

from fusec.passes.merge.builder import Builder, axis
from fusec.passes.merge.operand import Call, Declined, Operand, Result
from fusec.passes.merge.rules.rule import MergeRule, defaults

__all__ = ["RULES"]

aten = torch.ops.aten


def _members(b: Builder, rank: int) -> fx.Node:
    """Give the member numbers as [g, 1..] with `rank` axes after the first."""
    numbers = b.call(aten.arange.start_step, 0, b.g)
    return b.unsqueeze(numbers, *[-1] * rank)


def _embedding(b: Builder, call: Call) -> Result:
    table, indices = call.operand("weight"), call.operand("indices")
    if not table.grouped:
        return b.call(aten.embedding.default, table.node, indices.node)
    if indices.grouped:
        numbers = _members(b, indices.rank)
        return b.call(aten.index.Tensor, table.node, [numbers, indices.node])
    flat = indices.node if indices.rank == 1 else b.call(aten.ravel.default, indices.node)
    rows = b.call(aten.index_select.default, table.node, 1, flat)
    if indices.rank == 0:
        return b.call(aten.squeeze.dim, rows, 1)
    if indices.rank == 1:
        return rows
    return b.call(aten.unflatten.int, rows, 1, b.extents(indices))


def _index_select(b: Builder, call: Call) -> Result:
    x, index = call.operand("self"), call.operand("index")
    if x.rank == 0:
        return Declined("no axis")
    dim = call.integer("dim") % x.rank
    if not index.grouped:
        return b.apply(call, dim=dim + 1)
    if index.rank == 0:
        index = Operand(b.unsqueeze(index.node, 1), True, index.value.unsqueeze(0))
    if not x.grouped:
        rows = b.call(aten.index_select.default, x.node, dim, b.flatten(index.node, 0, 1))
        return b.call(aten.movedim.int, b.call(aten.unflatten.int, rows, dim, [b.g, -1]), dim, 0)
    indices = [_members(b, 1), *[None] * dim, index.node]
    # Behind an axis without index, the indexed axes (g and the places) come first.
    found = b.call(aten.index.Tensor, x.node, indices)
    return b.call(aten.movedim.int, found, 1, dim + 1) if dim else found


def _gather(b: Builder, call: Call) -> Result:
    """Index and source have one axis per axis of the tensor; a tensor without axes gets one."""
    names = [n for n in ("self", "index", "src") if isinstance(call.arguments.get(n), Operand)]
    lifted = {name: b.full(call.operand(name)) for name in names}
    rank = call.operand("self").rank
    for name in names:
        if call.operand(name).rank == 0:
            lifted[name] = b.unsqueeze(lifted[name], 1)
    result = b.apply(call, **lifted, dim=axis(call.integer("dim"), max(rank, 1)))
    if call.tensor.dim() == 0:
        result = b.call(aten.squeeze.dim, result, 1)
    return result


def _take_along(b: Builder, call: Call) -> Result:
    x, indices = call.operand("self"), call.operand("indices")
    if call.get("dim") is None:
        flat = [
            b.flatten(b.full(o), 1, o.rank) if o.rank else b.unsqueeze(b.full(o), 1)
            for o in (x, indices)
        ]
        return b.call(aten.gather.default, flat[0], 1, flat[1])
    if x.rank == 0 or x.rank != indices.rank:
        return Declined("ranks differ")
    dim = axis(call.integer("dim"), x.rank)
    return b.apply(call, self=b.lift(x), indices=b.lift(indices), dim=dim)


def _take(b: Builder, call: Call) -> Result:
    """The places count in the flattened tensor."""
    x, index = call.operand("self"), call.operand("index")
    flat = b.flatten(b.full(x), 1, x.rank) if x.rank else b.unsqueeze(b.full(x), 1)
    if not index.grouped:
        return b.call(aten.index.Tensor, flat, [None, index.node])
    return b.call(aten.index.Tensor, flat, [_members(b, index.rank), index.node])


# Indexing with several tensors: x[:, i, :, j].


def _indices(call: Call) -> list[Operand | None]:
    found = call.get("indices")
    assert isinstance(found, list | tuple)
    return [item if isinstance(item, Operand) else None for item in found]


def _spans(indices: list[Operand | None]) -> tuple[int, bool]:
    """Give the first indexed axis, and whether indexed axes are neighbours."""
    places = [i for i, index in enumerate(indices) if index is not None]
    return places[0], places[-1] - places[0] + 1 == len(places)


def _aligned_indices(b: Builder, indices: list[Operand | None], rank: int) -> list[fx.Node | None]:
    return [None if index is None else b.aligned(index, rank) for index in indices]


def _refuse_indices(indices: list[Operand | None]) -> Declined | None:
    given = [index for index in indices if index is not None]
    if not given:
        return Declined("no index")
    if any(index.dtype in (torch.bool, torch.uint8) for index in given):
        return Declined("a mask selects as many elements as it has ones")
    return None


def _index(b: Builder, call: Call) -> Result:
    """Before x[:, i, :, j], after x[g, :, i, :, j] with the indexed axes moved into place."""
    x, indices = call.operand("self"), _indices(call)
    refused = _refuse_indices(indices)
    if refused:
        return refused
    first, together = _spans(indices)
    rank = max(index.rank for index in indices if index is not None)
    nodes = _aligned_indices(b, indices, rank)
    start = first if together else 0
    if not x.grouped:
        found = b.call(aten.index.Tensor, x.node, nodes)
        return b.call(aten.movedim.int, found, start, 0) if start else found
    if not any(index is not None and index.grouped for index in indices):
        found = b.call(aten.index.Tensor, x.node, [None, *nodes])
        # Where indexed axes lie apart, they come first, before g.
        return found if together else b.call(aten.movedim.int, found, rank, 0)
    found = b.call(aten.index.Tensor, x.node, [_members(b, rank), *nodes])
    if start == 0 or rank == 0:
        return found
    return b.call(
        aten.movedim.intlist,
        found,
        list(range(1, rank + 1)),
        list(range(start + 1, start + rank + 1)),
    )


def _index_put(b: Builder, call: Call) -> Result:
    x, indices, values = call.operand("self"), _indices(call), call.operand("values")
    refused = _refuse_indices(indices)
    if refused:
        return refused
    first, together = _spans(indices)
    if first or not together:
        return Declined("the indexed axes are not the first ones")
    rank = max(index.rank for index in indices if index is not None)
    nodes = [_members(b, rank), *_aligned_indices(b, indices, rank)]
    width = rank + x.rank - sum(index is not None for index in indices)
    filler = b.aligned(values, width)
    return b.call(aten.index_put.default, b.full(x), nodes, filler, bool(call.get("accumulate")))


def _along(b: Builder, call: Call) -> Result:
    """Writes along one axis by an index that all members share."""
    x, index = call.operand("self"), call.operand("index")
    if index.grouped or x.rank == 0:
        return Declined("the index differs per member" if index.grouped else "no axis")
    names = [n for n in ("self", "source") if isinstance(call.arguments.get(n), Operand)]
    lifted = {name: b.full(call.operand(name)) for name in names}
    if isinstance(call.arguments.get("value"), Operand):
        return Declined("the value is a tensor")
    return b.apply(call, **lifted, dim=axis(call.integer("dim"), x.rank))


def _scatter_view(b: Builder, call: Call) -> Result:
    """Writes of a slice, a row or a diagonal."""
    x, src = call.operand("self"), call.operand("src")
    names = {argument.name for argument in call.target._schema.arguments}
    dims = {
        name: axis(call.integer(name), x.rank) for name in ("dim", "dim1", "dim2") if name in names
    }
    return b.apply(call, self=b.full(x), src=b.full(src), **dims)


def _one_hot(b: Builder, call: Call) -> Result:
    if call.integer("num_classes") < 0:
        return Declined("the number of classes depends on data")
    return b.apply(call)


def _boundaries(b: Builder, call: Call) -> Result:
    """Boundaries per member are a row each of what searchsorted takes."""
    x, edges = call.operand("self"), call.operand("boundaries")
    if not edges.grouped:
        return b.apply(call)
    flat = b.flatten(b.full(x), 1, x.rank) if x.rank else b.unsqueeze(b.full(x), 1)
    flags = {name: call.get(name) for name in ("out_int32", "right")}
    found = b.call(aten.searchsorted.Tensor, edges.node, flat, **flags)
    return b.call(aten.reshape.default, found, [b.g, *b.extents(x)])


RULES = (
    MergeRule(name="embedding", targets=("embedding.default",), build=_embedding),
    MergeRule(name="index_select", targets=("index_select.default",), build=_index_select),
    MergeRule(
        name="gather",
        targets=defaults(
            ("gather", "scatter.src", "scatter.value", "scatter.reduce", "scatter.value_reduce",
             "scatter_add", "scatter_reduce.two")
        ),
        build=_gather,
    ),
    MergeRule(name="take_along", targets=("take_along_dim.default",), build=_take_along),
    MergeRule(name="take", targets=("take.default",), build=_take),
    MergeRule(name="index", targets=("index.Tensor",), build=_index),
    MergeRule(
        name="index_put",
        targets=("index_put.default", "index_put.hacked_twin"),
        build=_index_put,
    ),
    MergeRule(
        name="write_along",
        targets=defaults(("index_add", "index_copy", "index_fill.int_Scalar")),
        build=_along,
    ),
    MergeRule(
        name="write_view",
        targets=defaults(("slice_scatter", "select_scatter", "diagonal_scatter")),
        build=_scatter_view,
    ),
    MergeRule(name="one_hot", targets=("one_hot.default",), build=_one_hot),
    MergeRule(name="boundaries", targets=("bucketize.Tensor",), build=_boundaries),
)  # fmt: skip
