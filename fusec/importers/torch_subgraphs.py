"""Walk a traced graph together with the branches of its control flow."""

from collections.abc import Iterator

from torch import fx

__all__ = ["all_graphs", "all_nodes"]


def all_graphs(module: fx.GraphModule) -> Iterator[fx.Graph]:
    """Give a module's graph and, depth first, the graphs of the branches that it refers to."""
    yield module.graph
    for node in module.graph.find_nodes(op="get_attr"):
        inner = getattr(module, str(node.target), None)
        if isinstance(inner, fx.GraphModule):
            yield from all_graphs(inner)


def all_nodes(module: fx.GraphModule) -> Iterator[fx.Node]:
    """Give the nodes of a module's graph and of its branches."""
    for graph in all_graphs(module):
        yield from graph.nodes
