"""Parses an ONNX model: attributes read, constants apart, functions written out in place."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto

from fusec.importers.onnx.attributes import bound_attributes, dense, plain_attribute
from fusec.importers.onnx.call import Call
from fusec.importers.onnx.graph import Constant, Graph, Node, Read, Unknown
from fusec.importers.onnx.lift import lift
from fusec.importers.onnx.ops import OPERATORS
from fusec.importers.onnx.ops.constant import literal
from fusec.importers.onnx.order import runnable
from fusec.importers.onnx.table import Op
from fusec.ir.errors import ImportFailed

_A = AttributeProto
_MAX_NODES = 200_000
"""Functions that call each other twice over make a small file grow without bound."""
Rename = Callable[[str], str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """Where a node list is: how names change, what attributes are bound, which versions hold."""

    rename: Rename
    bound: Mapping[str, AttributeProto]
    opsets: Mapping[str, int]
    prefix: str
    depth: int


def _same(name: str) -> str:
    return name


class Parser:
    """Parses one model; collects operators that nothing can evaluate."""

    def __init__(self, model: onnx.ModelProto, read: Read) -> None:
        self._read = read
        self._functions: dict[tuple[str, str, str], FunctionProto] = {
            (_domain(f.domain), f.name, f.overload): f for f in model.functions
        }
        self._count = 0
        self._opsets = {_domain(o.domain): int(o.version) for o in model.opset_import}
        self._graph = model.graph
        self.unknown: list[Unknown] = []

    def parse(self) -> Graph:
        """Parse the main graph."""
        scope = _Scope(rename=_same, bound={}, opsets=self._opsets, prefix="", depth=0)
        return self._graph_of(self._graph, scope)

    def _graph_of(self, graph: GraphProto, scope: _Scope) -> Graph:
        constants = {
            name: Constant(name, data, self._read)
            for name, data in (
                *((scope.rename(t.name), t) for t in graph.initializer),
                *((scope.rename(s.values.name), dense(s)) for s in graph.sparse_initializer),
            )
        }
        nodes: list[Node] = []
        self._emit(graph.node, scope, constants, nodes)
        inputs = (scope.rename(value.name) for value in graph.input)
        return Graph(
            scope.prefix + graph.name,
            # Before IR version 4 every initialiser is listed as an input too.
            tuple(name for name in inputs if name not in constants),
            tuple(scope.rename(value.name) for value in graph.output),
            tuple(_declared(value) for value in graph.output),
            constants,
            runnable(nodes),
        )

    def _emit(
        self,
        protos: Iterable[NodeProto],
        scope: _Scope,
        constants: dict[str, Constant],
        nodes: list[Node],
    ) -> None:
        for index, proto in enumerate(protos):
            domain = _domain(proto.domain)
            local = self._functions.get((domain, proto.op_type, proto.overload))
            self._count += 1
            if self._count > _MAX_NODES:
                raise ImportFailed(
                    f"over {_MAX_NODES} nodes with functions written out; merge repeated parts or "
                    "export the model again"
                )
            if local is not None:
                self._expand(local, proto, scope, constants, nodes, index)
            elif (domain, proto.op_type) == ("", "Constant"):
                name = scope.rename(proto.output[0])
                constants[name] = self._constant(name, proto, scope)
            elif (op := OPERATORS.get((domain, proto.op_type))) is not None:
                nodes.append(self._node(op, proto, domain, scope, constants))
            else:
                self._fall_back(proto, domain, scope, constants, nodes, index)

    def _node(
        self,
        op: Op,
        proto: NodeProto,
        domain: str,
        scope: _Scope,
        constants: dict[str, Constant],
    ) -> Node:
        outputs = tuple(scope.rename(name) for name in proto.output)
        call = Call(
            op=proto.op_type,
            domain=domain,
            name=scope.prefix + (proto.name or (proto.output[0] if proto.output else "")),
            opset=scope.opsets.get(domain, 1),
            outputs=outputs,
            attributes={
                attr.name: self._attribute(attr, scope)
                for attr in bound_attributes(proto, scope.bound)
            },
        )
        subgraphs = tuple(
            value for _, value in sorted(call.attributes.items()) if isinstance(value, Graph)
        )
        inputs = tuple(scope.rename(name) for name in proto.input)
        if op.lifted:
            call, names, arrays = lift(call, op.lifted)
            inputs += names
            constants.update((n, Constant(n, array, self._read)) for n, array in arrays.items())
        return Node(op, call, inputs, subgraphs)

    def _attribute(self, attr: AttributeProto, scope: _Scope) -> Any:
        if attr.type == _A.GRAPH:
            return self._graph_of(attr.g, scope)
        if attr.type == _A.TENSOR:
            return self._read(attr.t)
        if attr.type == _A.SPARSE_TENSOR:
            return dense(attr.sparse_tensor)
        return plain_attribute(attr)

    def _constant(self, name: str, proto: NodeProto, scope: _Scope) -> Constant:
        attr = next(iter(bound_attributes(proto, scope.bound)), None)
        if attr is None:
            raise ImportFailed(f"Constant (node '{proto.name or name}') has no value")
        is_tensor = attr.type == _A.TENSOR
        data = attr.t if is_tensor else literal(attr.name, self._attribute(attr, scope))
        return Constant(name, data, self._read)

    def _fall_back(
        self,
        proto: NodeProto,
        domain: str,
        scope: _Scope,
        constants: dict[str, Constant],
        nodes: list[Node],
        index: int,
    ) -> None:
        """Expand the operator through its own function body in the standard, if it has one."""
        opset = scope.opsets.get(domain, 1)
        body = schema_function(proto.op_type, domain, opset)
        if body is None:
            name = scope.prefix + (proto.name or (proto.output[0] if proto.output else ""))
            self.unknown.append(Unknown(op=proto.op_type, domain=domain, opset=opset, node=name))
            return
        self._expand(body, proto, scope, constants, nodes, index)

    def _expand(
        self,
        function: FunctionProto,
        proto: NodeProto,
        scope: _Scope,
        constants: dict[str, Constant],
        nodes: list[Node],
        index: int,
    ) -> None:
        """Write a function's body in place of the node that calls it."""
        if scope.depth > 64:
            raise ImportFailed(f"function '{function.name}' calls itself (over 64 levels deep)")
        prefix = f"{scope.prefix}{proto.name or function.name}.{index}/"
        actual = dict.fromkeys(function.input, "")
        actual.update(zip(function.input, map(scope.rename, proto.input), strict=False))
        for formal, name in zip(function.output, map(scope.rename, proto.output), strict=False):
            if formal in actual:
                nodes.append(_identity(actual[formal], name))
            elif name:
                actual[formal] = name

        def rename(name: str) -> str:
            return actual[name] if name in actual else (prefix + name if name else "")

        bound = {attr.name: attr for attr in function.attribute_proto}
        bound.update((attr.name, attr) for attr in bound_attributes(proto, scope.bound))
        opsets = {_domain(o.domain): int(o.version) for o in function.opset_import}
        inner = _Scope(
            rename=rename,
            bound=bound,
            opsets={**scope.opsets, **opsets},
            prefix=prefix,
            depth=scope.depth + 1,
        )
        self._emit(function.node, inner, constants, nodes)


def schema_function(op: str, domain: str, opset: int) -> FunctionProto | None:
    """Return the body that the ONNX standard gives for an operator, or None.

    Only bodies that do not depend on the types of the inputs are given.
    """
    try:
        schema: Any = onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return None
    if not schema.has_function:
        return None
    versions = [v for v in schema.function_opset_versions if v <= opset]
    if not versions:
        return None
    body = FunctionProto()
    body.ParseFromString(schema.get_function_with_opset_version(max(versions)))
    return body


def _identity(source: str, target: str) -> Node:
    call = Call(op="Identity", domain="", name=target, opset=13, outputs=(target,), attributes={})
    return Node(OPERATORS[("", "Identity")], call, (source,), ())


def _declared(value: onnx.ValueInfoProto) -> tuple[int | None, tuple[int | None, ...] | None]:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return None, None
    dims = None
    if tensor.HasField("shape"):
        dims = tuple(
            int(dim.dim_value) if dim.HasField("dim_value") else None for dim in tensor.shape.dim
        )
    return int(tensor.elem_type) or None, dims


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
