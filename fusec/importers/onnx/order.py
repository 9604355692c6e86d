"""Puts nodes in an order in which they can run; some tools write them in another."""

import heapq
from collections.abc import Sequence

from fusec.importers.onnx.graph import Node

__all__ = ["runnable"]


def runnable(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Sort nodes so that each comes after those it reads from, as stored where that is possible.

    Nodes that are in order stay as they are, and so do those that no order helps: a cycle, or a
    name that is written twice.
    """
    writers: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for name in filter(None, node.call.outputs):
            if name in writers:
                return tuple(nodes)
            writers[name] = i
    before = [{writers[n] for n in _reads(node) if n in writers} for node in nodes]
    if all(max(sources, default=-1) < i for i, sources in enumerate(before)):
        return tuple(nodes)
    order = _sorted(before)
    return tuple(nodes if len(order) < len(nodes) else (nodes[i] for i in order))


def _reads(node: Node) -> set[str]:
    return {*node.inputs, *(name for inner in node.subgraphs for name in inner.free())}


def _sorted(before: Sequence[set[int]]) -> list[int]:
    """Give positions in an order that respects `before`, lowest first; some are left in a cycle."""
    after: list[list[int]] = [[] for _ in before]
    for i, sources in enumerate(before):
        for source in sources:
            after[source].append(i)
    waits = [len(sources) for sources in before]
    ready = [i for i, n in enumerate(waits) if n == 0]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for i in after[order[-1]]:
            waits[i] -= 1
            if waits[i] == 0:
                heapq.heappush(ready, i)
    return order
