"""What merge rules build with: nodes of the merged graph, and the ways to move the axis g.

Rules look at one member's shapes only; no fake value of the merged graph is computed while
building, which keeps a merge at some microseconds per node.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import fx

from fusec.passes.merge.conv_cost import ConvCost
from fusec.passes.merge.operand import Call, Operand

__all__ = ["Builder", "Ground", "axis"]

aten = torch.ops.aten


def axis(dim: int, rank: int) -> int:
    """Give the number of a member's axis in the tensor with the leading axis g."""
    return dim % rank + 1


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What all calls of one merge build on.

    Attributes:
        graph: the merged graph.
        conv_cost: which form a convolution takes.
        folded: channel-folded form of a node, where a rule made the node from it.
        choices: what rules chose in the current call; the engine empties it.
    """

    graph: fx.Graph
    conv_cost: ConvCost
    folded: dict[fx.Node, fx.Node] = field(default_factory=dict)
    choices: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Builder:
    """Adds nodes for one merged call over `g` rows."""

    ground: Ground
    g: int

    def call(self, target: Callable[..., object], /, *args: object, **kwargs: object) -> fx.Node:
        """Add a call of an operator."""
        return self.ground.graph.call_function(target, args, kwargs)  # type: ignore[arg-type]

    def apply(self, call: Call, /, **changes: object) -> fx.Node:
        """Add the call itself with some arguments changed; other operands go in as they are."""
        return self.retarget(call, call.target, **changes)

    def retarget(self, call: Call, target: torch._ops.OpOverload, /, **changes: object) -> fx.Node:
        """Add a call of another operator with the same argument names."""
        values = {**call.arguments, **changes}
        args: list[object] = []
        kwargs: dict[str, object] = {}
        skipped = False
        for argument in target._schema.arguments:
            name = argument.name
            if name not in values:
                skipped = True
            elif argument.kwarg_only or skipped:
                kwargs[name] = _plain(values[name])
            else:
                args.append(_plain(values[name]))
        return self.call(target, *args, **kwargs)

    def chose(self, form: str) -> None:
        """Note a choice for the report."""
        self.ground.choices.append(form)

    # The leading axis.

    def pad_rank(self, operand: Operand, rank: int) -> fx.Node:
        """Give [g, 1.., *shape] of a grouped operand, with `rank` axes after the first."""
        node = operand.node
        for _ in range(rank - operand.rank):
            node = self.call(aten.unsqueeze.default, node, 1)
        return node

    def aligned(self, operand: Operand, rank: int) -> fx.Node:
        """Give what broadcasts against grouped tensors of `rank` axes after the first."""
        return self.pad_rank(operand, rank) if operand.grouped else operand.node

    def lift(self, operand: Operand, rank: int | None = None) -> fx.Node:
        """Give [g or 1, 1.., *shape]: the leading axis has extent 1 where shared."""
        rank = operand.rank if rank is None else rank
        if operand.grouped:
            return self.pad_rank(operand, rank)
        node = operand.node
        for _ in range(rank - operand.rank + 1):
            node = self.call(aten.unsqueeze.default, node, 0)
        return node

    def full(self, operand: Operand, rank: int | None = None) -> fx.Node:
        """Give [g, 1.., *shape], a shared operand expanded."""
        rank = operand.rank if rank is None else rank
        node = self.lift(operand, rank)
        if operand.grouped:
            return node
        return self.call(aten.expand.default, node, [self.g] + [-1] * rank)

    def fold(self, operand: Operand) -> fx.Node:
        """Give [g*B, ...] of [g, B, ...]; a shared operand is expanded first."""
        return self.flatten(self.full(operand), 0, 1)

    def unfold(self, node: fx.Node) -> fx.Node:
        """Give [g, B, ...] of [g*B, ...]."""
        return self.call(aten.unflatten.int, node, 0, [self.g, -1])

    def to_channels(self, operand: Operand) -> fx.Node:
        """Give [B, g*C, ...] of [g, B, C, ...]; a shared operand is expanded first."""
        known = self.ground.folded.get(operand.node)
        if known is not None:
            return known
        swapped = self.call(aten.transpose.int, self.full(operand), 0, 1)
        return self.flatten(swapped, 1, 2)

    def from_channels(self, node: fx.Node) -> fx.Node:
        """Give [g, B, C, ...] of [B, g*C, ...]."""
        split = self.call(aten.unflatten.int, node, 1, [self.g, -1])
        result = self.call(aten.transpose.int, split, 0, 1)
        self.ground.folded[result] = node
        return result

    # Small moves.

    def flatten(self, node: fx.Node, start: int, end: int) -> fx.Node:
        """Join the axes from `start` to `end`."""
        return self.call(aten.flatten.using_ints, node, start, end)

    def unsqueeze(self, node: fx.Node, *dims: int) -> fx.Node:
        """Insert axes one after the other."""
        for dim in dims:
            node = self.call(aten.unsqueeze.default, node, dim)
        return node

    def extent(self, operand: Operand, dim: int) -> int | fx.Node:
        """Give one extent of a member's tensor: a number, or a node where it is symbolic."""
        extent = operand.shape[dim]
        if isinstance(extent, int):
            return extent
        number = dim % operand.rank + operand.grouped
        return self.call(aten.sym_size.int, operand.node, number)

    def extents(self, operand: Operand) -> list[int | fx.Node]:
        """Give all extents of a member's tensor."""
        return [self.extent(operand, dim) for dim in range(operand.rank)]

    def cast(self, node: fx.Node, have: torch.dtype, want: torch.dtype) -> fx.Node:
        """Cast where the dtypes differ."""
        if have == want:
            return node
        return self.call(aten._to_copy.default, node, dtype=want)


def _plain(value: object) -> object:
    if isinstance(value, Operand):
        return value.node
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
