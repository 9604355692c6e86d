"""Evaluates a parsed graph, eagerly or under tracing, over host values and tensors."""

import dataclasses
import inspect
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from fusec.importers.onnx.call import Call, Outer
from fusec.importers.onnx.graph import Graph, Node
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, Value, elem_type, to_host, to_tensor
from fusec.ir.errors import FusecError, ImportFailed

# Gives the value of a constant of a graph: a host value or the tensor that stands for a weight.
Lookup = Callable[[Graph, str], Value]
Scope = ChainMap[str, Value]

_FAULTS = (
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    NotImplementedError,
)


def evaluate(
    graph: Graph, inputs: Sequence[Value], lookup: Lookup, outer: Scope | None = None
) -> list[Value]:
    """Evaluate a graph; return its outputs in order.

    Args:
        graph: the parsed graph.
        inputs: one value per graph input, in order.
        lookup: gives the values of constants.
        outer: scope around a subgraph.

    Raises:
        ImportFailed: a node cannot be evaluated; the message names it.
    """
    scope: Scope = ChainMap({}, *outer.maps) if outer is not None else ChainMap({})
    if len(inputs) != len(graph.inputs):
        raise ImportFailed(
            f"graph '{graph.name}' takes {len(graph.inputs)} inputs, got {len(inputs)}"
        )
    for name in graph.constants:
        scope[name] = lookup(graph, name)
    scope.update(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        results = _node(node, scope, lookup)
        scope.update(pair for pair in zip(node.call.outputs, results, strict=False) if pair[0])
    return [_read(scope, name, graph) for name in graph.outputs]


def _read(scope: Scope, name: str, graph: Graph) -> Value:
    try:
        return scope[name]
    except KeyError:
        reason = f"graph '{graph.name}' returns '{name}', which nothing computes"
        raise ImportFailed(reason) from None


def _node(node: Node, scope: Scope, lookup: Lookup) -> tuple[Value, ...]:
    try:
        inputs = [scope[name] if name else None for name in node.inputs]
    except KeyError as missing:
        node.call.fail(f"input {missing} is computed by nothing before this node")

    call = node.call
    if node.subgraphs:
        call = _with_subgraphs(node, scope, lookup)
    try:
        result = apply(node.op, call, inputs)
    except FusecError as error:
        if node.call.name and node.call.name in str(error):
            raise
        raise ImportFailed(f"{node.call.where()}: {error}") from error
    except _FAULTS as error:
        if not _takes(node.op, call, inputs):
            node.call.fail(f"does not take {len(inputs)} inputs; see its definition in ONNX")
        raise ImportFailed(f"{node.call.where()}: {type(error).__name__}: {error}") from error
    return result if isinstance(result, tuple) else (result,)


def _takes(op: Op, call: Call, inputs: Sequence[Value]) -> bool:
    """Tell whether an operator takes as many inputs as a node has."""
    try:
        inspect.signature(op.run).bind(call, *inputs)
    except TypeError:
        return False
    return True


def _with_subgraphs(node: Node, scope: Scope, lookup: Lookup) -> Call:
    """Return the node's call, able to run its subgraphs inside a scope."""

    def run(graph: Graph, values: Sequence[Value], instead: Mapping[Outer, Value]) -> list[Value]:
        if not instead:
            return evaluate(graph, values, lookup, scope)

        def inner(owner: Graph, name: str) -> Value:
            return instead[owner, name] if (owner, name) in instead else lookup(owner, name)

        names = {key: value for key, value in instead.items() if isinstance(key, str)}
        return evaluate(graph, values, inner, ChainMap(names, *scope.maps))

    def free(graph: Graph) -> dict[Outer, Value]:
        found: dict[Outer, Value] = {n: scope[n] for n in graph.free() if n in scope}
        for inner in graph.all():
            found |= {(inner, name): lookup(inner, name) for name in inner.constants}
        return found

    return dataclasses.replace(node.call, evaluate=run, free=free)


def apply(op: Op, call: Call, inputs: Sequence[Value]) -> Value | tuple[Value, ...]:
    """Evaluate one operator on values of either domain, converting as its record says."""
    if op.either:
        return op.run(call, *inputs)
    if op.numpy is not None and _all_host(inputs):
        return op.numpy(call, *inputs)
    return op.run(call, *_convert(op, inputs))


def _all_host(inputs: Sequence[Value]) -> bool:
    present = [value for value in inputs if value is not None]
    return bool(present) and all(isinstance(value, np.ndarray) for value in present)


def _convert(op: Op, inputs: Sequence[Value]) -> list[Value | float]:
    """Give each input in the domain that the operator takes it in."""
    return [
        None
        if value is None
        else to_host(value)
        if index in op.host
        else _scalar(value, inputs)
        if index in op.scalar and isinstance(value, np.ndarray)
        else to_tensor(value)
        for index, value in enumerate(inputs)
    ]


def _scalar(value: Array, inputs: Sequence[Value]) -> torch.Tensor | float:
    """Return a Python float where that means the same as the constant in its own dtype."""
    if value.ndim == 0 and value.dtype.kind == "f":
        code = elem_type(value.dtype)
        if any(isinstance(x, torch.Tensor) and elem_type(x.dtype) == code for x in inputs):
            return float(value)
    return to_tensor(value)
