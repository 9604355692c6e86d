"""Takes what depends on weights alone out of a merged graph: done once, not with every call.

Rules write the moves that a weight needs (transpose, join members and channels, insert axes) beside
the operator that needs them. Here they are cut off:

    module(inputs, weights)  ->  prepare(weights) = prepared,  main(inputs, prepared)
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from fusec.passes.merge.engine import is_host, is_random
from fusec.passes.program import Program

__all__ = ["hoist", "prepared", "settle"]

SMALL = 4096
"""Elements up to which a prepared weight may be larger than what it is made from."""


def hoist(
    module: fx.GraphModule, inputs: int, results: Sequence[object] | None = None
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Cut a merged graph in two.

    A value that is much larger than the weights behind it (a table expanded over members) stays
    where it is, so that preparing weights does not multiply their memory.

    Args:
        module: placeholders are inputs, then weights; every node has its fake value.
        inputs: how many placeholders are inputs.
        results: which of the graph's values count; None for all that it returns.

    Returns:
        prepare: takes the weights, gives the prepared ones; make those contiguous.
        main: takes the inputs, then the prepared weights; same results as `module`.
    """
    placeholders = module.graph.find_nodes(op="placeholder")
    fixed = _fixed(module, set(placeholders[inputs:]))
    wanted = list(_flat(module.graph.output_node().args[0]) if results is None else results)
    edge = [
        node
        for node in module.graph.nodes
        if node in fixed and (node in wanted or any(user not in fixed for user in node.users))
    ]
    return (
        _part(module, placeholders[inputs:], fixed, edge),
        _part(module, [*placeholders[:inputs], *edge], set(module.graph.nodes), wanted),
    )


def prepared(prepare: fx.GraphModule, raw: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Run what depends on weights alone.

    Args:
        prepare: the first part of a graph that was cut.
        raw: weights by name.

    Returns:
        Prepared weights, contiguous, each called like the first weight that it is made of.
    """
    with torch.no_grad():
        tensors = prepare(*raw.values())
    names = dict(zip(prepare.graph.find_nodes(op="placeholder"), raw, strict=True))
    found: dict[str, torch.Tensor] = {}
    nodes = _flat(prepare.graph.output_node().args[0])
    for node, tensor in zip(nodes, tensors, strict=True):
        base = _origin(node, names)
        name, count = base, 0
        while name in found:
            count += 1
            name = f"{base}.{count}"
        found[name] = tensor.detach().contiguous()
    return found


def _origin(node: fx.Node, names: Mapping[fx.Node, str]) -> str:
    while node not in names and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return names.get(node, "constant")


def settle(program: Program) -> Program:
    """Give the program with everything that depends on weights alone computed; guards are gone."""
    prepare, main = hoist(program.graph, len(program.input_names), program.outputs)
    weights = prepared(prepare, program.weights)
    return replace(program, graph=main, weights=weights, aliases=(), unused=(), guards=())


def _fixed(module: fx.GraphModule, weights: set[fx.Node]) -> set[fx.Node]:
    fixed = set(weights)
    elements = {node: _count(node.meta["val"]) for node in weights}
    for node in module.graph.nodes:
        if node.op != "call_function" or not _can_move(node, fixed):
            continue
        own = sum(elements[operand] for operand in node.all_input_nodes)
        if _count(node.meta["val"]) <= max(own, SMALL):
            fixed.add(node)
            elements[node] = own
    return _ending_in_tensors(fixed)


def _can_move(node: fx.Node, fixed: set[fx.Node]) -> bool:
    value = node.meta["val"]
    if is_host(value) or is_random(node.target) or _count(value) is None:
        return False
    return all(operand in fixed for operand in node.all_input_nodes)


def _count(value: Any) -> Any:
    """Count elements; None where extents vary."""
    tensors = value if isinstance(value, tuple | list) else [value]
    total = 0
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor) or not all(
            isinstance(e, int) for e in tensor.shape
        ):
            return None
        total += tensor.numel()
    return total


def _ending_in_tensors(fixed: set[fx.Node]) -> set[fx.Node]:
    """Leave out calls with several results whose parts are picked outside."""
    several = {
        node
        for node in fixed
        if isinstance(node.meta["val"], tuple | list) and any(u not in fixed for u in node.users)
    }
    if not several:
        return fixed
    kept = set(fixed)
    for node in several:
        kept -= _below(node)
    return _ending_in_tensors(kept)


def _below(node: fx.Node) -> set[fx.Node]:
    found = {node}
    stack = [node]
    while stack:
        for user in stack.pop().users:
            if user not in found:
                found.add(user)
                stack.append(user)
    return found


def _flat(value: object) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _part(
    module: fx.GraphModule, arguments: list[fx.Node], inside: set[fx.Node], results: list[Any]
) -> fx.GraphModule:
    """Copy the nodes that lie between arguments and results."""
    graph = fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    for node in arguments:
        known[node] = graph.placeholder(node.name)
        if "val" in node.meta:
            known[node].meta["val"] = node.meta["val"]
    needed = _needed(results, set(arguments))
    for node in module.graph.nodes:
        if node in inside and node in needed and node not in known:
            copied = graph.node_copy(node, known.__getitem__)
            known[node] = copied
    outputs = [known[r] if isinstance(r, fx.Node) else r for r in results]
    graph.output(tuple(outputs))
    return fx.GraphModule(module, graph)


def _needed(results: list[Any], arguments: set[fx.Node]) -> set[fx.Node]:
    found: set[fx.Node] = set()
    stack = [result for result in results if isinstance(result, fx.Node)]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            if node not in arguments:
                stack.extend(node.all_input_nodes)
    return found
