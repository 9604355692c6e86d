"""A parsed ONNX graph: nodes with attributes as Python values, functions already expanded."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from onnx import TensorProto

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, elem_type

Read = Callable[[TensorProto], Array]


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """One node: how to evaluate it, its call record, operand names and subgraphs by name."""

    op: Op
    call: Call
    inputs: tuple[str, ...]

    subgraphs: "tuple[Graph, ...]"


@dataclasses.dataclass(frozen=True, slots=True)
class Constant:
    """An initialiser or a ``Constant`` node; data is read when asked for."""

    name: str
    data: Any
    read: Read

    def array(self) -> Array:
        """Return the value, bit-identical to the file."""
        return self.data if not isinstance(self.data, TensorProto) else self.read(self.data)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape without reading the data."""
        return tuple(self.data.dims if isinstance(self.data, TensorProto) else self.data.shape)

    @property
    def elem_type(self) -> int:
        """Return the ONNX element type without reading the data."""
        if isinstance(self.data, TensorProto):
            return int(self.data.data_type)
        return elem_type(self.data.dtype)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Graph:
    """A graph or subgraph with its constants separate from its nodes.

    Two graphs are the same only when they are the same object: weights are found by it.

    Attributes:
        name: its name, for messages.
        inputs: names of what is handed in, in order.
        outputs: names of the results, in order.
        results: declared element type and extents of each result (None where not declared).
        constants: constants by name, in stored order.
        nodes: in stored order.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    results: tuple[tuple[int | None, tuple[int | None, ...] | None], ...]
    constants: Mapping[str, Constant]
    nodes: tuple[Node, ...]

    def free(self) -> list[str]:
        """Return the names that are used here but defined outside, in order of use."""
        defined = {*self.inputs, *self.constants}
        found: dict[str, None] = {}
        for node in self.nodes:
            for name in (*node.inputs, *(n for inner in node.subgraphs for n in inner.free())):
                if name and name not in defined:
                    found[name] = None
            defined.update(node.call.outputs)
        found.update((name, None) for name in self.outputs if name not in defined)
        return list(found)

    def all(self) -> "Iterator[Graph]":
        """Yield this graph and all graphs inside it, outer first, in stored order."""
        yield self
        for node in self.nodes:
            for inner in node.subgraphs:
                yield from inner.all()

    def __repr__(self) -> str:
        # Short on purpose: torch.export formats every key of a module's dictionaries.
        return f"Graph({self.name!r})"

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A node whose operator has no entry and no function body."""

    op: str
    domain: str
    opset: int
    node: str

    def __str__(self) -> str:
        return f"{self.domain or 'ai.onnx'}::{self.op} (opset {self.opset}, node '{self.node}')"
