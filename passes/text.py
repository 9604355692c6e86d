"""A program's graph as text: one line per node, names by position and not by trace."""

from collections.abc import Mapping

import torch
from torch import fx

from fusec.kernels.torch_graph import dtype_name
from fusec.passes.program import Program

__all__ = ["graph_text"]


def graph_text(program: Program) -> str:
    """Write the graph in node order: `%3 = linear(x0, w0, w1) : float32[1, 32]`.

    Inputs are x0, x1, ..., weights w0, w1, ... in the order of first use, so that twins whose
    weights have other names and another order read the same. Unused weights do not appear.
    """
    names: dict[fx.Node, str] = {node: f"x{i}" for i, node in enumerate(program.inputs)}
    weights = set(program.weight_nodes)
    lines = [f"{names[node]} : {_value(node.meta['val'])}" for node in program.inputs]
    calls = program.graph.graph.nodes
    lines.extend(_line(n, names, weights) for n in calls if n.op == "call_function")
    returned = ", ".join(_text(r, names) for r in program.results)
    lines.append(f"return {returned}")
    lines.extend(f"guard {guard.predicate}: {guard.text}" for guard in program.guards)
    return "\n".join(lines) + "\n"


def _line(node: fx.Node, names: dict[fx.Node, str], weights: set[fx.Node]) -> str:
    for operand in node.all_input_nodes:
        if operand in weights and operand not in names:
            names[operand] = f"w{sum(1 for n in names if n in weights)}"
    given = [_text(a, names) for a in node.args]
    given += [f"{k}={_text(v, names)}" for k, v in sorted(node.kwargs.items())]
    names[node] = f"%{sum(1 for n in names if n.op == 'call_function')}"
    target = _short(node.target)
    return f"{names[node]} = {target}({', '.join(given)}) : {_value(node.meta['val'])}"


def _short(target: object) -> str:
    if isinstance(target, torch._ops.OpOverload):
        return str(target).removeprefix("aten.").removesuffix(".default")
    return getattr(target, "__name__", str(target))


def _text(value: object, names: Mapping[fx.Node, str]) -> str:
    if isinstance(value, fx.Node):
        return names.get(value, value.name)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_text(v, names) for v in value) + "]"
    if isinstance(value, torch.dtype):
        return dtype_name(value)
    return repr(value)


def _value(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{dtype_name(value.dtype)}[{', '.join(str(d) for d in value.shape)}]"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(_value(v) for v in value) + ")"
    return type(value).__name__.removeprefix("Sym").lower()
