"""The PyTorch executor in isolated mode: one batch-1 call per instance, one after the other.

A member's bytes never depend on company, because company is never in the same call.
"""

from collections.abc import Sequence
from functools import partial

import torch

from fusec.kernels.torch_graph import to_graph
from fusec.runtime.cache import LockedCache
from fusec.runtime.instances import Instance, own_memory
from fusec.runtime.weights import tensor_of

__all__ = ["IsolatedExecutor"]


class IsolatedExecutor:
    """Runs instances through each template's own graph; graphs are built once per template."""

    def __init__(self) -> None:
        self._graphs: LockedCache[torch.fx.GraphModule] = LockedCache(limit=None)
        self._weights: LockedCache[tuple[torch.Tensor, ...]] = LockedCache(limit=4096)

    def run(self, instances: Sequence[Instance]) -> list[tuple[torch.Tensor, ...]]:
        """Answer each instance, in order; any mix of members and templates."""
        with torch.no_grad():
            return [self._one(instance) for instance in instances]

    def _one(self, instance: Instance) -> tuple[torch.Tensor, ...]:
        choice = instance.choice
        graph = self._graphs.get(choice.template.key, partial(to_graph, choice.template.body))
        weights = self._weights.get(choice.hashes, lambda: tuple(map(tensor_of, choice.weights)))
        # Not called as a module: that would print a traceback of its own where an operator fails.
        answer = graph.forward(*instance.inputs, *weights)
        return own_memory(answer, (*instance.inputs, *weights))
