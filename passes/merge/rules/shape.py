"""Shape operators: the same move on axes one further to the right."""

import torch
from torch import fx

from fusec.passes.merge.builder import Builder, axis
from fusec.passes.merge.operand import Call, Declined, Operand, Result
from fusec.passes.merge.rules.rule import Build, MergeRule, defaults

__all__ = ["RULES"]

aten = torch.ops.aten


def _reshape(b: Builder, call: Call) -> Result:
    """Reshape, not view: a member's view may cross axes that lie apart behind the axis g."""
    size = call.sizes("shape" if "shape" in call.arguments else "size")
    return b.call(aten.reshape.default, call.operand("self").node, [b.g, *size])


def _reshape_as(b: Builder, call: Call) -> Result:
    x, other = call.operand("self"), call.operand("other")
    return b.call(aten.reshape.default, b.full(x), [b.g, *b.extents(other)])


def _view_dtype(b: Builder, call: Call) -> Result:
    if call.operand("self").rank == 0:
        return Declined("no axis")
    contiguous = b.call(aten.contiguous.default, call.operand("self").node)
    return b.apply(call, self=contiguous)


def _permute(b: Builder, call: Call) -> Result:
    rank = call.operand("self").rank
    return b.apply(call, dims=[0, *(axis(d, rank) for d in call.integers("dims"))])


def _transpose(b: Builder, call: Call) -> Result:
    x = call.operand("self")
    names = [a.name for a in call.target._schema.arguments[1:3]]
    if x.rank == 0:
        return x.node
    first, second = (axis(call.integer(name), x.rank) for name in names)
    return b.call(aten.transpose.int, x.node, first, second)


def _t(b: Builder, call: Call) -> Result:
    x = call.operand("self")
    if x.rank < 2:
        return x.node
    if call.target is aten.numpy_T.default:
        return b.call(aten.permute.default, x.node, [0, *range(x.rank, 0, -1)])
    return b.call(aten.transpose.int, x.node, -2, -1)


def _movedim(b: Builder, call: Call) -> Result:
    x = call.operand("self")
    if x.rank == 0:
        return x.node
    source = [axis(d, x.rank) for d in call.integers("source")]
    target = [axis(d, x.rank) for d in call.integers("destination")]
    return b.call(aten.movedim.intlist, x.node, source, target)


def _expand(b: Builder, call: Call) -> Result:
    size = call.sizes("size")
    node = b.pad_rank(call.operand("self"), len(size))
    return b.call(aten.expand.default, node, [b.g, *size])


def _expand_as(b: Builder, call: Call) -> Result:
    x, other = call.operand("self"), call.operand("other")
    size = [b.g, *b.extents(other)]
    return b.call(aten.expand.default, b.lift(x, other.rank), size)


def _repeat(b: Builder, call: Call) -> Result:
    x = call.operand("self")
    given = call.sizes("repeats" if "repeats" in call.arguments else "dims")
    times = [*[1] * (x.rank - len(given)), *given]
    return b.call(aten.repeat.default, b.pad_rank(x, len(times)), [1, *times])


def _cat(b: Builder, call: Call) -> Result:
    rank = call.tensor.dim()
    # An empty vector joins tensors of any rank; it adds nothing.
    kept = [o for o in call.operands("tensors") if o.rank == rank]
    nodes = [b.cast(b.full(o), o.dtype, call.tensor.dtype) for o in kept]
    return b.call(aten.cat.default, nodes, axis(call.integer("dim"), rank))


def _stack(b: Builder, call: Call) -> Result:
    nodes = [b.full(operand) for operand in call.operands("tensors")]
    return b.call(aten.stack.default, nodes, axis(call.integer("dim"), call.tensor.dim()))


def _along_dim(b: Builder, call: Call) -> Result:
    """One attribute `dim`, and a tensor that has at least one axis."""
    x = call.operand("self")
    if x.rank == 0:
        return Declined("no axis")
    return b.apply(call, dim=axis(call.integer("dim"), x.rank))


def _unfold(b: Builder, call: Call) -> Result:
    x = call.operand("self")
    if x.rank == 0:
        return Declined("no axis")
    return b.apply(call, dimension=axis(call.integer("dimension"), x.rank))


def _unsqueeze(b: Builder, call: Call) -> Result:
    return b.apply(call, dim=axis(call.integer("dim"), call.tensor.dim()))


def _squeeze(b: Builder, call: Call) -> Result:
    x = call.operand("self")
    dims = list(range(x.rank)) if call.target is aten.squeeze.default else call.integers("dim")
    if x.rank == 0:
        return x.node
    ones = sorted({axis(d, x.rank) for d in dims if x.shape[d] == 1})
    return b.call(aten.squeeze.dims, x.node, ones) if ones else x.node


def _flatten(b: Builder, call: Call) -> Result:
    x = call.operand("self")
    if x.rank == 0:
        return b.unsqueeze(x.node, 1)
    if call.target is aten.ravel.default:
        return b.flatten(x.node, 1, x.rank)
    start, end = (axis(call.integer(name), x.rank) for name in ("start_dim", "end_dim"))
    return b.flatten(x.node, start, end)


def _atleast(b: Builder, call: Call) -> Result:
    x = call.operand("self")
    node = x.node
    for _ in range(call.tensor.dim() - x.rank):
        node = b.unsqueeze(node, 1)
    return node


def _direct(b: Builder, call: Call) -> Result:
    """Operators that only look at trailing axes."""
    return b.apply(call)


def _flip(b: Builder, call: Call) -> Result:
    x = call.operand("self")
    if call.target is aten.fliplr.default:
        dims = [1]
    elif call.target is aten.flipud.default:
        dims = [0]
    else:
        dims = call.integers("dims")
    if x.rank == 0:
        return x.node
    return b.call(aten.flip.default, x.node, [axis(d, x.rank) for d in dims])


def _roll(b: Builder, call: Call) -> Result:
    x, dims = call.operand("self"), call.integers("dims")
    if x.rank == 0:
        return x.node
    if dims:
        return b.apply(call, dims=[axis(d, x.rank) for d in dims])
    rolled = b.call(aten.roll.default, b.flatten(x.node, 1, x.rank), call.sizes("shifts"), [1])
    return b.call(aten.unflatten.int, rolled, 1, b.extents(x))


def _rot90(b: Builder, call: Call) -> Result:
    x = call.operand("self")
    return b.apply(call, dims=[axis(d, x.rank) for d in call.integers("dims")])


def _two_dims(b: Builder, call: Call) -> Result:
    """Operators on a pair of axes, `dim1` and `dim2` (diagonals)."""
    x = call.operand("self")
    rank = call.tensor.dim() if call.target is aten.diag_embed.default else x.rank
    dims = {name: axis(call.integer(name), rank) for name in ("dim1", "dim2")}
    return b.apply(call, **dims)


def _channel_shuffle(b: Builder, call: Call) -> Result:
    return b.unfold(b.apply(call, self=b.fold(call.operand("self"))))


def _pad(b: Builder, call: Call) -> Result:
    x, axes = call.operand("self"), len(call.sizes("pad")) // 2
    if call.get("mode") == "constant" or x.rank == axes:
        return b.apply(call)
    if x.rank == axes + 1:
        # With g in front it has the rank of a batch of the same.
        return b.apply(call)
    return b.unfold(b.apply(call, self=b.fold(x)))


def _edge_pad(b: Builder, call: Call) -> Result:
    x, axes = call.operand("self"), len(call.sizes("padding")) // 2
    if x.rank == axes + 1:
        return b.apply(call)
    return b.unfold(b.apply(call, self=b.fold(x)))


def _new(b: Builder, call: Call) -> Result:
    """New tensors take dtype and device of the other one, not its values."""
    value = call.get("fill_value") if "fill_value" in call.arguments else 0
    value = 1 if call.target is aten.new_ones.default else value
    size = [b.g, *call.sizes("size")]
    return b.call(
        aten.full.default, size, value, dtype=call.tensor.dtype, device=call.tensor.device
    )


def _meshgrid(b: Builder, call: Call) -> Result:
    operands = call.operands("tensors")
    rank = len(operands)
    order = list(range(rank))
    if call.arguments.get("indexing") == "xy" and rank > 1:
        order[0], order[1] = 1, 0
    sizes: list[int | fx.Node] = [1] * rank
    for operand, place in zip(operands, order, strict=True):
        sizes[place] = b.extent(operand, 0) if operand.rank else 1
    return tuple(
        _grid(b, operand, place, rank, sizes)
        for operand, place in zip(operands, order, strict=True)
    )


def _grid(
    b: Builder, operand: Operand, place: int, rank: int, sizes: list[int | fx.Node]
) -> fx.Node:
    node = b.lift(operand, 1)
    node = b.unsqueeze(node, *[1] * place, *[-1] * (rank - 1 - place))
    return b.call(aten.expand.default, node, [b.g, *sizes])


def _rule(name: str, build: Build, *targets: str) -> MergeRule:
    return MergeRule(name=name, targets=defaults(targets), build=build)


RULES = (
    _rule("reshape", _reshape, "view", "reshape", "_unsafe_view", "view_copy"),
    _rule("reshape_as", _reshape_as, "reshape_as", "view_as"),
    _rule("view_dtype", _view_dtype, "view.dtype", "view_copy.dtype"),
    _rule("permute", _permute, "permute"),
    _rule("transpose", _transpose, "transpose.int", "swapaxes", "swapdims"),
    _rule("t", _t, "t", "mT", "numpy_T"),
    _rule("movedim", _movedim, "movedim.int", "movedim.intlist", "moveaxis.int",
          "moveaxis.intlist"),
    _rule("expand", _expand, "expand", "broadcast_to"),
    _rule("expand_as", _expand_as, "expand_as"),
    _rule("repeat", _repeat, "repeat", "tile"),
    _rule("cat", _cat, "cat", "concat"),
    _rule("stack", _stack, "stack"),
    _rule(
        "along_dim", _along_dim, "slice.Tensor", "select.int", "split.Tensor", "split.sizes",
        "split_with_sizes", "chunk", "unsafe_split.Tensor", "unsafe_chunk", "unbind.int",
        "tensor_split.sections", "tensor_split.indices", "narrow", "unflatten.int", "glu",
    ),
    _rule("unfold", _unfold, "unfold"),
    _rule("unsqueeze", _unsqueeze, "unsqueeze"),
    _rule("squeeze", _squeeze, "squeeze", "squeeze.dim", "squeeze.dims"),
    _rule("flatten", _flatten, "flatten.using_ints", "ravel"),
    _rule("atleast", _atleast, "atleast_1d"),
    _rule("trailing", _direct, "constant_pad_nd", "tril", "triu", "pixel_shuffle",
          "pixel_unshuffle", "_linalg_det", "det", "logdet"),
    _rule("flip", _flip, "flip", "fliplr", "flipud"),
    _rule("roll", _roll, "roll"),
    _rule("rot90", _rot90, "rot90"),
    _rule("two_dims", _two_dims, "diagonal", "diagonal_copy", "diag_embed"),
    _rule("channel_shuffle", _channel_shuffle, "channel_shuffle"),
    _rule("pad", _pad, "pad"),
    _rule("edge_pad", _edge_pad, "reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
          "replication_pad1d", "replication_pad2d", "replication_pad3d"),
    _rule("new", _new, "new_zeros", "new_ones", "new_full"),
    _rule("meshgrid", _meshgrid, "meshgrid", "meshgrid.indexing"),
)  # fmt: skip
