"""What programs make of the outputs that classifiers of ai.onnx.ml end in.

A program gives tensors. So a map per row becomes the tensor it was made from, columns in the order
of the class labels, and labels that are words become class numbers. Notes say so.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fusec.importers.onnx.graph import Graph, Node
from fusec.importers.onnx.load import LoadedModel, ValueInfo

_FLOAT, _INT64, _STRING = 1, 7, 8
_CLASSIFIERS = frozenset({"LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"})
_NUMBERS = {
    "LinearClassifier": "classlabels_ints",
    "SVMClassifier": "classlabels_ints",
    "TreeEnsembleClassifier": "classlabels_int64s",
}


def tensor_outputs(model: LoadedModel) -> tuple[LoadedModel, tuple[str, ...]]:
    """Make outputs tensors where ZipMap or words as class labels are all that is in the way.

    Returns:
        The model, the same object if nothing had to change, and one note per changed output.
    """
    graph, notes, outputs = model.graph, [], list(model.outputs)
    for i, info in enumerate(outputs):
        changed = _unzip(graph, i, info) or _number(graph, i, info)
        if changed is not None:
            graph, outputs[i], note = changed
            notes.append(note)
    if not notes:
        return model, ()
    return dataclasses.replace(model, graph=graph, outputs=tuple(outputs)), tuple(notes)


def _producer(graph: Graph, name: str) -> Node | None:
    return next((node for node in graph.nodes if name and name in node.call.outputs), None)


def _with_output(graph: Graph, i: int, name: str, nodes: tuple[Node, ...]) -> Graph:
    names = (*graph.outputs[:i], name, *graph.outputs[i + 1 :])
    results = (*graph.results[:i], (None, None), *graph.results[i + 1 :])
    return dataclasses.replace(graph, outputs=names, results=results, nodes=nodes)


def _unzip(graph: Graph, i: int, info: ValueInfo) -> tuple[Graph, ValueInfo, str] | None:
    node = _producer(graph, graph.outputs[i])
    if node is None or node.call.op != "ZipMap":
        return None
    labels = node.call.attr("classlabels_strings", []) or node.call.attr("classlabels_int64s", [])
    nodes = tuple(other for other in graph.nodes if other is not node)
    kept = _with_output(graph, i, node.inputs[0], nodes)
    note = f"output {info.name!r} is a tensor, one column per class: {_listed(labels)}"
    plain = ValueInfo(name=info.name, kind="tensor", elem_type=_FLOAT, dims=None)
    return kept, plain, note


def _number(graph: Graph, i: int, info: ValueInfo) -> tuple[Graph, ValueInfo, str] | None:
    """Let a classifier give class numbers if its words go nowhere but to this output."""
    if info.elem_type != _STRING:
        return None
    chain: list[Node] = []
    name = graph.outputs[i]
    node = _producer(graph, name)
    while node is not None and node.call.op in ("Cast", "Identity") and _uses(graph, name) == 1:
        chain.append(node)
        name = node.inputs[0]
        node = _producer(graph, name)
    if node is None or node.call.op not in _CLASSIFIERS or _uses(graph, name) != 1:
        return None
    labels = node.call.attr("classlabels_strings", None)
    if not labels or name != node.call.outputs[0]:
        return None
    numbered = dataclasses.replace(node, call=_numbered(node, len(labels)))
    nodes = tuple(numbered if n is node else n for n in graph.nodes if n not in chain)
    kept = _with_output(graph, i, name, nodes)
    note = f"output {info.name!r} is the class number; classes from 0: {_listed(labels)}"
    return kept, dataclasses.replace(info, elem_type=_INT64), note


def _numbered(node: Node, count: int) -> Any:
    attributes: Mapping[str, Any] = {
        **{k: v for k, v in node.call.attributes.items() if k != "classlabels_strings"},
        _NUMBERS[node.call.op]: list(range(count)),
    }
    return dataclasses.replace(node.call, attributes=attributes)


def _uses(graph: Graph, name: str) -> int:
    inner = sum(g.free().count(name) for node in graph.nodes for g in node.subgraphs)
    return inner + list(graph.outputs).count(name) + sum(n.inputs.count(name) for n in graph.nodes)


def _listed(labels: Any) -> str:
    shown = ", ".join(str(label) for label in list(labels)[:20])
    return shown if len(labels) <= 20 else f"{shown}, ... ({len(labels)} in all)"
