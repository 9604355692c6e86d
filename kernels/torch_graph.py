"""Bodies and fx graphs, both ways: what a plan stores and what torch runs.

to_body   fx.Graph  -> Body    in one canonical node order, dead nodes left out
to_graph  Body      -> GraphModule, ready to call: module(*arguments) -> tuple of results
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import fx

from fusec.ir.errors import ArtifactError, UnsupportedError
from fusec.ir.template import Arg, Body, DType, Ref, Row, Spec, TensorSpec
from fusec.kernels.operators import name_of, resolve

__all__ = ["dtype_name", "from_numpy", "spec_of", "to_body", "to_graph", "torch_dtype"]

Rename = Callable[[object], str | int]
"""Gives the canonical text of a symbolic extent."""


def dtype_name(dtype: torch.dtype) -> str:
    """Give the plan's name of a torch dtype: float32 for torch.float32."""
    return str(dtype).removeprefix("torch.")


def torch_dtype(name: str) -> torch.dtype:
    """Give the torch dtype of a plan's dtype name.

    Raises:
        ArtifactError: torch has no dtype of this name.
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ArtifactError(f"dtype {name!r} is not one that torch knows")
    return dtype


def from_numpy(array: np.ndarray) -> torch.Tensor:
    """Give a tensor of an array's values: native byte order, contiguous, never read-only memory."""
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    usable = native.flags.c_contiguous and native.flags.aligned and native.flags.writeable
    return torch.from_numpy(native if usable else native.copy(order="C"))


def spec_of(value: object, rename: Rename) -> Spec:
    """Describe a traced value: tensor, host number, or several of them."""
    if isinstance(value, torch.Tensor):
        return TensorSpec(dtype_name(value.dtype), tuple(_dim(d, rename) for d in value.shape))
    if isinstance(value, bool | torch.SymBool):
        return "bool"
    if isinstance(value, int | torch.SymInt):
        return "int"
    if isinstance(value, float | torch.SymFloat):
        return "float"
    if isinstance(value, tuple | list):
        return tuple(spec_of(v, rename) for v in value)
    if value is None:
        return "none"
    raise UnsupportedError(f"a value of type {type(value).__name__} cannot be part of a template")


def _dim(extent: object, rename: Rename) -> int | str:
    return int(extent) if isinstance(extent, int) else rename(extent)


def _operands(value: object) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.map_arg(value, found.append)  # type: ignore[type-var]
    return found


def to_body(
    owner: torch.nn.Module,
    arguments: Sequence[fx.Node],
    results: Sequence[object],
    rename: Rename,
) -> Body:
    """Write the part of a graph between arguments and results as rows, dead nodes left out.

    Rows come depth first in operand order: the order depends on structure only, not on the order in
    which nodes were traced, so twins whose exporters listed nodes differently get equal bodies.

    Args:
        owner: the module that holds subgraphs named by get_attr nodes.
        arguments: nodes that become arguments; need not be placeholders.
        results: nodes or literals to return.
        rename: canonical text of a symbolic extent.

    Raises:
        UnsupportedError: an operator outside the operator set, or an argument of unknown type.
    """
    number = {node: i for i, node in enumerate(arguments)}
    rows: list[Row] = []
    for node in _between(number, results):
        row = Row(
            op=name_of(node.target),
            args=tuple(_to_arg(a, number, owner, rename) for a in node.args),
            kwargs=tuple(
                (k, _to_arg(v, number, owner, rename)) for k, v in sorted(node.kwargs.items())
            ),
            out=spec_of(node.meta["val"], rename),
        )
        number[node] = len(arguments) + len(rows)
        rows.append(row)
    return Body(
        arguments=tuple(spec_of(n.meta["val"], rename) for n in arguments),
        rows=tuple(rows),
        results=tuple(_to_arg(r, number, owner, rename) for r in results),
    )


def _between(known: Mapping[fx.Node, int], results: Sequence[object]) -> list[fx.Node]:
    done: dict[fx.Node, None] = {}
    stack = [(n, False) for n in reversed(_operands(tuple(results)))]
    while stack:
        node, ready = stack.pop()
        if node in done or node in known or node.op == "get_attr":
            continue
        if ready:
            done[node] = None
            continue
        if node.op != "call_function":
            raise UnsupportedError(f"{node.op} node {node.name} cannot be part of a template")
        stack.append((node, True))
        stack.extend((n, False) for n in reversed(_operands((node.args, node.kwargs))))
    return list(done)


def _to_arg(
    value: object, number: Mapping[fx.Node, int], owner: torch.nn.Module, rename: Rename
) -> Arg:
    if isinstance(value, fx.Node):
        if value.op == "get_attr":
            return _subgraph(owner, str(value.target), rename)
        return Ref(number[value])
    if isinstance(value, torch.dtype):
        return DType(dtype_name(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.SymInt):
        return int(value)
    if isinstance(value, tuple | list):
        return tuple(_to_arg(v, number, owner, rename) for v in value)
    if isinstance(value, torch.memory_format | torch.layout | torch.device):
        return None
    raise UnsupportedError(f"an attribute of type {type(value).__name__} cannot be stored: {value}")


def _subgraph(owner: torch.nn.Module, path: str, rename: Rename) -> Body:
    inner = owner.get_submodule(path)
    if not isinstance(inner, fx.GraphModule):
        raise UnsupportedError(f"{path} is not a subgraph")
    arguments = inner.graph.find_nodes(op="placeholder")
    results = inner.graph.output_node().args[0]
    assert isinstance(results, tuple | list)
    return to_body(inner, arguments, results, rename)


def to_graph(body: Body) -> fx.GraphModule:
    """Build a callable module from a body: positional arguments in, tuple of results out.

    Raises:
        UnsupportedError: an operator name outside the operator set.
        ArtifactError: a reference to a value that does not exist yet.
    """
    root = torch.nn.Module()
    graph = fx.Graph()
    values = [graph.placeholder(f"v{i}") for i in range(len(body.arguments))]
    for row in body.rows:
        args = tuple(_from_arg(a, values, root, graph) for a in row.args)
        kwargs = {k: _from_arg(v, values, root, graph) for k, v in row.kwargs}
        values.append(graph.call_function(resolve(row.op), args, kwargs))
    graph.output(tuple(_from_arg(r, values, root, graph) for r in body.results))
    return fx.GraphModule(root, graph)


def _from_arg(
    arg: Arg, values: Sequence[fx.Node], root: torch.nn.Module, graph: fx.Graph
) -> "fx.node.Argument":
    if isinstance(arg, Ref):
        if not 0 <= arg.index < len(values):
            raise ArtifactError(f"reference to value {arg.index}, but {len(values)} are defined")
        return values[arg.index]
    if isinstance(arg, DType):
        return torch_dtype(arg.name)
    if isinstance(arg, tuple):
        return [_from_arg(a, values, root, graph) for a in arg]
    if isinstance(arg, Body):
        name = f"body{sum(1 for _ in root.children())}"
        root.add_module(name, to_graph(arg))
        return graph.get_attr(name)
    return arg
