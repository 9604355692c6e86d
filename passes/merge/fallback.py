"""The fallback for operators without a rule: torch's own batching rule, traced and inlined."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch._guards import detect_fake_mode
from torch.fx.experimental.proxy_tensor import make_fx

from fusec.kernels.operators import is_operator
from fusec.passes.merge.operand import Call, Operand, Value

__all__ = ["inline", "trace"]

aten = torch.ops.aten

_VIEWS = {aten.view.default: aten.reshape.default, aten._unsafe_view.default: aten.reshape.default}
"""Traced on contiguous operands; the real ones may be laid out otherwise."""


@contextmanager
def _no_hidden_loop() -> Iterator[None]:
    """Make vmap refuse operators for which it would silently loop over members."""
    switch: Any = torch._C._functorch
    before = switch._is_vmap_fallback_enabled()
    switch._set_vmap_fallback_enabled(False)
    try:
        yield
    finally:
        switch._set_vmap_fallback_enabled(before)


def trace(call: Call, rows: int) -> fx.GraphModule | str:
    """Trace a call over `rows` members, operands as arguments in order.

    Returns:
        The traced graph, or why there is none.
    """
    operands: list[Operand] = []
    arguments = {name: _collect(value, operands) for name, value in call.arguments.items()}
    if any(isinstance(value, fx.Node) for value in _leaves(list(arguments.values()))):
        return "extents are symbols"
    if any(not isinstance(extent, int) for operand in operands for extent in operand.shape):
        return "extents are symbols"

    def run(*tensors: torch.Tensor) -> object:
        given = {name: _insert(value, tensors) for name, value in arguments.items()}
        return call.target(**given)

    mode = detect_fake_mode([operand.value for operand in operands])
    assert mode is not None
    batched = torch.func.vmap(run, in_dims=tuple(0 if o.grouped else None for o in operands))
    with mode, torch.no_grad():
        fakes = [o.value.new_empty((rows, *o.shape)) if o.grouped else o.value for o in operands]
        try:
            with _no_hidden_loop():
                traced = make_fx(batched)(*fakes)
        except (RuntimeError, ValueError, NotImplementedError, TypeError, IndexError) as error:
            return str(error).strip().partition("\n")[0][:120]
    if not _fits(traced, call.out, rows):
        return "its batching rule gives another shape or dtype"
    for node in traced.graph.nodes:
        if node.op == "get_attr" or (node.op == "call_function" and not is_operator(node.target)):
            return f"its batching rule needs {node.target}"
    return traced


def _fits(traced: fx.GraphModule, out: object, rows: int) -> bool:
    """Tell whether a traced graph gives one member's results with a leading axis."""
    given = traced.graph.output_node().args[0]
    got = list(given) if isinstance(given, tuple | list) else [given]
    wanted = list(out) if isinstance(out, tuple | list) else [out]
    return len(got) == len(wanted) and all(
        isinstance(g, fx.Node)
        and isinstance(w, torch.Tensor)
        and g.meta["val"].shape == (rows, *w.shape)
        and g.meta["val"].dtype == w.dtype
        for g, w in zip(got, wanted, strict=True)
    )


def inline(graph: fx.Graph, traced: fx.GraphModule, operands: list[Operand]) -> Value:
    """Copy a traced graph to the end of another one."""
    known: dict[fx.Node, fx.Node] = {}
    arguments = iter(operands)
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            known[node] = next(arguments).node
        elif node.op == "call_function":
            known[node] = graph.call_function(
                _VIEWS.get(node.target, node.target),
                fx.map_arg(node.args, known.__getitem__),
                fx.map_arg(node.kwargs, known.__getitem__),
            )
    result = traced.graph.output_node().args[0]
    if isinstance(result, fx.Node):
        return known[result]
    assert isinstance(result, tuple | list)
    return tuple(known[item] for item in result if isinstance(item, fx.Node))


class _Hole(int):
    """Stands for operand number `int` inside an argument."""


def _collect(value: object, operands: list[Operand]) -> object:
    if isinstance(value, Operand):
        operands.append(value)
        return _Hole(len(operands) - 1)
    if isinstance(value, list | tuple):
        return [_collect(item, operands) for item in value]
    return value


def _insert(value: object, tensors: tuple[torch.Tensor, ...]) -> object:
    if isinstance(value, _Hole):
        return tensors[value]
    return [_insert(item, tensors) for item in value] if isinstance(value, list) else value


def _leaves(value: object) -> list[object]:
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]
