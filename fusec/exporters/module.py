"""A program as a module of its own: weights inside, inputs as arguments."""

import re
from typing import Any

import torch
from torch import fx

from fusec.passes.program import Program

__all__ = ["as_module", "examples", "identifiers"]


def identifiers(names: tuple[str, ...]) -> list[str]:
    """Give a different Python identifier for each name."""
    found: list[str] = []
    for name in names:
        base = re.sub(r"\W", "_", name)
        base = base if base and not base[0].isdigit() else f"_{base}"
        unique, count = base, 0
        while unique in found:
            count += 1
            unique = f"{base}_{count}"
        found.append(unique)
    return found


def as_module(program: Program) -> fx.GraphModule:
    """Build a module that takes the program's inputs; weights become buffers.

    Buffers share the weights' memory. Guard operands are left out.
    """
    root = torch.nn.Module()
    graph = fx.Graph()
    known: dict[fx.Node, Any] = {}
    for node, name in zip(program.inputs, identifiers(program.input_names), strict=True):
        known[node] = graph.placeholder(name)
    labels = identifiers(tuple(f"weight_{name}" for name in program.weights))
    for node, label, tensor in zip(
        program.weight_nodes, labels, program.weights.values(), strict=True
    ):
        root.register_buffer(label, tensor.detach())
        known[node] = graph.get_attr(label)
    for node in program.graph.graph.nodes:
        if node.op == "get_attr":
            root.add_module(node.target, program.graph.get_submodule(node.target))
        if node.op in ("call_function", "get_attr"):
            known[node] = graph.node_copy(node, known.__getitem__)
    outputs: list[Any] = [known[o] if isinstance(o, fx.Node) else o for o in program.outputs]
    graph.output(tuple(outputs))
    graph.eliminate_dead_code()
    return fx.GraphModule(root, graph).eval()


def examples(program: Program) -> tuple[torch.Tensor, ...]:
    """Give inputs of the right shapes and dtypes, extents that vary at a value that is allowed."""
    return tuple(_example(node.meta["val"]) for node in program.inputs)


def _example(value: torch.Tensor) -> torch.Tensor:
    shape = [e if isinstance(e, int) else int(e.node.hint) for e in value.shape]
    return torch.zeros(shape, dtype=value.dtype)
