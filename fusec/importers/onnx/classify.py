"""Which constants of a graph are structure (host values) and which are weights (D1).

Structure is what reaches a shape, an axis, an index or a branch: small integers, strings, rank-0
floats, and whatever feeds a position that an operator wants as a host value. It belongs to the
merge key by value. Everything else is a weight: it belongs to the key by dtype and shape only.
"""

from collections.abc import Iterable, Iterator, Set
from typing import Final

from fusec.importers.onnx.graph import Constant, Graph, Node
from fusec.importers.onnx.narrow import NARROW
from fusec.importers.onnx.values import TORCH

_SMALL: Final = 64
_INT32, _INT64, _STRING, _BOOL = 6, 7, 8, 9
_FLOATS: Final = frozenset({1, 10, 11, 16})
# Their answer depends on the shape of the input only, so what is before them is not structure.
_SHAPE_ONLY: Final = frozenset({"Shape", "Size"})


def is_small(constant: Constant) -> bool:
    """Say whether a constant is structure by its own looks."""
    kind, shape = constant.elem_type, constant.shape
    if kind == _STRING or (kind not in TORCH and kind not in NARROW):
        return True
    if kind in _FLOATS:
        return len(shape) == 0
    count = shape[0] if shape else 1
    return kind in {_INT32, _INT64, _BOOL} and len(shape) <= 1 and count <= _SMALL


def narrow_hosts(graph: Graph) -> set[str]:
    """Return the constants of types torch lacks that must stay as they are.

    As a weight such a constant travels in a wider type, and only DequantizeLinear does not need to
    know which type it had.
    """
    graphs = list(graph.all())
    narrow = {n for g in graphs for n, c in g.constants.items() if c.elem_type in NARROW}
    used = {n for g in graphs for n in g.outputs}
    for node in (node for g in graphs for node in g.nodes):
        if node.call.op != "DequantizeLinear":
            used.update(node.inputs)
    return narrow & used


def host_names(graph: Graph, *, given: bool = True) -> set[str]:
    """Return the names whose values reach a position that an operator wants on the host.

    Names that are computed from the data of a request are not followed: they cannot be known
    while importing, so the constants before them need not be.

    Args:
        graph: the graph.
        given: inputs hold data of a request. If not, they are followed as well: what comes back
            then names the inputs that would have to be bound for the graph to be captured.
    """
    tainted: set[str] = set()
    _taint(graph, tainted, graph.inputs if given else ())
    needed: set[str] = set()
    before = -1
    # A loop's body feeds itself, so walk until nothing is added; twice is the usual count.
    while before != len(needed):
        before = len(needed)
        _need(graph, needed, tainted)
    return needed


def _taint(graph: Graph, tainted: set[str], data: Iterable[str]) -> None:
    """Add the names that depend on the data (not just the shape) of `data`."""
    tainted.update(data)
    for node in graph.nodes:
        hit = node.call.op not in _SHAPE_ONLY and not tainted.isdisjoint(node.inputs)
        for inner in node.subgraphs:
            _taint(inner, tainted, inner.inputs if hit else ())
            hit = hit or not tainted.isdisjoint(inner.outputs)
        if hit:
            tainted.update(node.call.outputs)


def _need(graph: Graph, needed: set[str], tainted: Set[str]) -> None:
    for node in reversed(graph.nodes):
        wanted = not needed.isdisjoint(node.call.outputs)
        for inner in node.subgraphs:
            if wanted:
                needed.update(name for name in inner.outputs if name not in tainted)
            _need(inner, needed, tainted)
            _need_operands(node, inner, needed)
        needed.update(name for name in _structure_of(node, wanted) if name not in tainted)
    needed.discard("")


def _structure_of(node: Node, wanted: bool) -> Iterator[str]:
    """Yield the operands of a node that must be host values."""
    if wanted and node.call.op not in _SHAPE_ONLY and not node.subgraphs:
        yield from node.inputs
    yield from (node.inputs[i] for i in node.op.host if i < len(node.inputs))


def _need_operands(node: Node, inner: Graph, needed: set[str]) -> None:
    """Carry the needs of a loop body's inputs to the operands of the loop."""
    shift = len(node.inputs) - len(inner.inputs)
    for index, name in enumerate(inner.inputs):
        if name in needed and 0 <= index + shift < len(node.inputs):
            needed.add(node.inputs[index + shift])
