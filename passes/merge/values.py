"""Fake values of merged graphs."""

from typing import Any

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses import FakeTensorMode

from fusec.passes.program import fake_mode

__all__ = ["propagate", "stacked_value"]


def stacked_value(value: torch.Tensor, n: int) -> torch.Tensor:
    """Give the fake value of n tensors like `value`, stacked."""
    with torch.no_grad():
        return value.new_empty((n, *value.shape))


def _value(node: fx.Node) -> Any:
    return node.meta["val"]


def propagate(graph: fx.GraphModule, mode: FakeTensorMode | None = None) -> None:
    """Compute the fake value of every node from those of the placeholders.

    Args:
        graph: the merged graph.
        mode: the placeholders' fake mode; None finds it.
    """
    # Some of torch's shape functions take symbolic extents only through its Python dispatcher.
    with torch.no_grad(), enable_python_dispatcher(), mode or fake_mode(graph.graph):
        for node in graph.graph.nodes:
            if node.op == "call_function":
                args = fx.map_arg(node.args, _value)
                kwargs = fx.map_arg(node.kwargs, _value)
                node.meta["val"] = node.target(*args, **kwargs)
            elif node.op == "get_attr":
                node.meta["val"] = graph.get_submodule(node.target)
