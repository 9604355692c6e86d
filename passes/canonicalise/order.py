"""A fixed order for commutative operands, and one node for equal expressions.

Order depends on structure only: what an operand computes, from which inputs, with which attributes;
a weight counts by dtype and shape. Operands that look the same keep the order they have.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.facts import is_lifted
from fusec.passes.canonicalise.rewrite import Edit
from fusec.passes.program import Program, fork
from fusec.passes.report import PassReport, Rewrite

__all__ = ["merge_equal", "order_operands"]

aten = torch.ops.aten

_SMALL: Final = 1 << 16
"""Elements of a constant that is still compared."""

COMMUTATIVE: Final = frozenset({
    aten.add.Tensor, aten.mul.Tensor, aten.maximum.default, aten.minimum.default,
    aten.eq.Tensor, aten.ne.Tensor, aten.logical_and.default, aten.logical_or.default,
    aten.logical_xor.default, aten.bitwise_and.Tensor, aten.bitwise_or.Tensor,
    aten.bitwise_xor.Tensor, aten.logaddexp.default, aten.hypot.default,
})  # fmt: skip


def merge_equal(program: Program) -> tuple[Program, PassReport]:
    """Give equal calls one node: same operator, operands and attributes.

    Cost: linear in nodes.
    """
    program = fork(program)
    graph = program.graph.graph
    seen: dict[Any, fx.Node] = {}
    rewrites = []
    for node, first in _equal_constants(program):
        rewrites.append(Rewrite("merge_constants", node.name, first.name))
        node.replace_all_uses_with(first)
    for node in list(graph.nodes):
        if node.op != "call_function" or _is_random(node):
            continue
        key = (node.target, _frozen(node.args), _frozen(node.kwargs))
        first = seen.setdefault(key, node)
        if first is not node:
            rewrites.append(Rewrite("merge_equal", node.name, first.name))
            node.replace_all_uses_with(first)
            graph.erase_node(node)
    program.graph.recompile()
    return program, PassReport("merge_equal", tuple(rewrites), ())


def _equal_constants(program: Program) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Pair tensors that tracing lifted out of the source's code with the first equal one.

    Two calls of one function lift two copies; exporters keep one or both.
    """
    seen: dict[Any, fx.Node] = {}
    for node, (name, value) in zip(program.weight_nodes, program.weights.items(), strict=True):
        if not is_lifted(name) or value.numel() > _SMALL or not node.users:
            continue
        key = (value.dtype, tuple(value.shape), _bytes(value))
        first = seen.setdefault(key, node)
        if first is not node:
            yield node, first


def _bytes(value: torch.Tensor) -> bytes:
    if value.numel() == 0:
        return b""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _is_random(node: fx.Node) -> bool:
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return torch.Tag.nondeterministic_seeded in target.tags
    return not callable(target)


def _frozen(value: Any) -> Any:
    """Give a hashable stand-in; 1, 1.0 and True stay different, as do 0.0 and -0.0."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(v) for v in value)
    if isinstance(value, Mapping):
        return tuple((k, _frozen(v)) for k, v in sorted(value.items()))
    if isinstance(value, bool | int | float):
        return (type(value), repr(value))
    if isinstance(value, slice):
        return ("slice", _frozen((value.start, value.stop, value.step)))
    return value


def order_operands(program: Program) -> tuple[Program, PassReport]:
    """Sort the operands of commutative operators: activations, then weights, then numbers.

    Cost: linear in nodes.
    """
    program = fork(program)
    edit = Edit(program)
    prints = _fingerprints(edit, program)
    rewrites = []
    for node in program.graph.graph.nodes:
        if node.op != "call_function" or node.target not in COMMUTATIVE or node.kwargs:
            continue
        first, second = node.args[:2]
        if _rank(edit, prints, second) < _rank(edit, prints, first):
            node.args = (second, first)
            rewrites.append(Rewrite("order_operands", node.name, node.name))
    program.graph.recompile()
    return program, PassReport("order_operands", tuple(rewrites), ())


def _rank(edit: Edit, prints: Mapping[fx.Node, str], value: object) -> tuple[int, str]:
    if not isinstance(value, fx.Node):
        return (3, "")
    if edit.is_weight(value):
        return (1, prints[value])
    return (2 if edit.is_free(value) else 0, prints[value])


def _fingerprints(edit: Edit, program: Program) -> dict[fx.Node, str]:
    """Give each node a text that depends on its structure only."""
    inputs = {node: f"input {i}" for i, node in enumerate(program.inputs)}
    prints: dict[fx.Node, str] = {}
    for node in program.graph.graph.nodes:
        if node in inputs:
            text = inputs[node]
        elif edit.is_weight(node):
            value = node.meta["val"]
            text = f"weight {getattr(value, 'dtype', '')} {list(getattr(value, 'shape', ()))}"
        else:
            operands = [_print(v, prints) for v in node.args]
            if node.target in COMMUTATIVE and not node.kwargs:
                operands.sort()
            named = [(k, _print(v, prints)) for k, v in sorted(node.kwargs.items())]
            text = f"{node.target} {operands} {named}"
        prints[node] = hashlib.blake2s(text.encode(), digest_size=12).hexdigest()
    return prints


def _print(value: Any, prints: Mapping[fx.Node, str]) -> str:
    if isinstance(value, fx.Node):
        return prints[value]
    if isinstance(value, list | tuple):
        return "[" + ",".join(_print(v, prints) for v in value) + "]"
    return repr(value)
