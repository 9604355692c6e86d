"""The raw structure of a model: everything its trace depends on, weights left out.

Two models with equal keys have equal traces up to their weights, so the second one needs no trace:
it only gives up its weights, in the same order. Names do not matter; operators, attributes,
versions, wiring, dtypes, extents and structural constants do.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import onnx
import torch

from fusec.importers.onnx.bind import bind_inputs
from fusec.importers.onnx.classify import host_names, is_small, narrow_hosts
from fusec.importers.onnx.graph import Constant, Graph, Node
from fusec.importers.onnx.load import LoadedModel, ValueInfo
from fusec.importers.onnx.narrow import widen
from fusec.importers.onnx.values import Array, from_numpy, has_torch_dtype


@dataclasses.dataclass(frozen=True, slots=True)
class WeightSource:
    """One weight of a model, read when asked for.

    Attributes:
        name: its name in the file.
        graph: the graph or subgraph whose constant it is.
        constant: where its data is.
    """

    name: str
    graph: Graph
    constant: Constant

    def array(self) -> Array:
        """Return the weight, bit-identical to the file."""
        return self.constant.array()

    def tensor(self) -> torch.Tensor:
        """Return the weight as a tensor of its own, bit-identical to the file.

        Types that torch lacks come in their container, each value exactly.
        """
        array = np.asarray(self.constant.array())
        return from_numpy(array) if has_torch_dtype(array) else widen(array)


@dataclasses.dataclass(frozen=True, slots=True)
class Structure:
    """The raw structure of a model.

    Attributes:
        key: SHA-256 of the structure; equal keys mean equal traces up to weights.
        weights: in order of first use; one to one with ``OnnxModule.weight_order``. Constants
            that nothing uses are not among them.
    """

    key: str
    weights: tuple[WeightSource, ...]


def structure(model: LoadedModel, bind: Mapping[str, Any] | None = None) -> Structure:
    """Return the raw structure of a model with some inputs fixed.

    Args:
        model: the model.
        bind: values of inputs by name; part of the key.
    """
    model = bind_inputs(model, bind or {})
    walk = _Walk(host_names(model.graph) | narrow_hosts(model.graph) | model.bound)
    walk.add("opsets", sorted(model.opsets.items()))
    names: dict[str, int] = {}
    for info in (*model.inputs, *model.outputs):
        walk.add("value", info.kind, info.elem_type, _dims(info, names))
    walk.graph(model.graph, None)
    return Structure(walk.digest(), tuple(walk.weights))


def _dims(info: ValueInfo, names: dict[str, int]) -> tuple[Any, ...] | None:
    """Return extents with names replaced by the order of their first appearance."""
    if info.dims is None:
        return None
    return tuple(
        ("name", names.setdefault(dim, len(names))) if isinstance(dim, str) else dim
        for dim in info.dims
    )


class _Scope:
    """Names visible in a graph: numbered values, and constants not used so far."""

    def __init__(self, graph: Graph, outer: Self | None) -> None:
        self.graph = graph
        self.outer = outer
        self.numbers: dict[str, int] = {}


class _Walk:
    """Visits a graph in stored order, hashing it and collecting weights at first use."""

    def __init__(self, hosts: set[str]) -> None:
        self._hosts = hosts
        self._hash = hashlib.sha256()
        self._count = 0
        self.weights: list[WeightSource] = []

    def digest(self) -> str:
        """Return the hash of what was visited."""
        return self._hash.hexdigest()

    def add(self, *parts: Any) -> None:
        """Hash plain data; its ``repr`` keeps types and nesting apart."""
        self._hash.update(repr(parts).encode())
        self._hash.update(b"\n")

    def graph(self, graph: Graph, outer: _Scope | None) -> None:
        """Visit a graph or subgraph."""
        scope = _Scope(graph, outer)
        self.add("graph", [self._define(name, scope) for name in graph.inputs])
        for node in graph.nodes:
            self._node(node, scope)
        self.add("outputs", [self._use(name, scope) for name in graph.outputs], graph.results)

    def _node(self, node: Node, scope: _Scope) -> None:
        call = node.call
        operands = [self._use(name, scope) for name in node.inputs]
        self.add("node", call.domain, call.op, call.opset, operands)
        for name in sorted(call.attributes):
            value = call.attributes[name]
            if isinstance(value, Graph):
                self.add("subgraph", name)
                self.graph(value, scope)
            else:
                self.add("attribute", name, plain(value))
        self.add("results", [self._define(name, scope) for name in call.outputs])

    def _define(self, name: str, scope: _Scope) -> int:
        """Number a new value; an unnamed one is 0."""
        if not name:
            return 0
        self._count += 1
        scope.numbers[name] = self._count
        return self._count

    def _use(self, name: str, scope: _Scope) -> int:
        """Return a value's number, visiting a constant the first time."""
        if not name:
            return 0
        found: _Scope | None = scope
        while found is not None:
            if name in found.numbers:
                return found.numbers[name]
            if name in found.graph.constants:
                return self._constant(name, found)
            found = found.outer
        return -1

    def _constant(self, name: str, scope: _Scope) -> int:
        constant = scope.graph.constants[name]
        if name in self._hosts or is_small(constant):
            self.add("structure", plain(constant.array()))
        else:
            self.add("weight", constant.elem_type, constant.shape)
            self.weights.append(WeightSource(name, scope.graph, constant))
        return self._define(name, scope)


def plain(value: Any) -> Any:
    """Return an attribute or host value as data whose ``repr`` says all of it."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return ("strings", value.shape, [str(item) for item in value.ravel()])
        data = np.ascontiguousarray(value).tobytes()
        short = data if len(data) <= 64 else hashlib.sha256(data).digest()
        return ("array", value.dtype.name, value.shape, short)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, onnx.TypeProto):
        return ("type", value.SerializeToString(deterministic=True))
    return value
