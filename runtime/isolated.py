"""The PyTorch executor in isolated mode: one batch-1 call per instance, one after the other.

A member's bytes never depend on company, because company is never in the same call.
"""

from collections.abc import Sequence
from functools import partial

import torch

from fusec.ir.plan import PlanData
from fusec.kernels.torch_graph import to_graph
from fusec.runtime.cache import LockedCache
from fusec.runtime.instances import Instance
from fusec.runtime.weights import tensor_of

__all__ = ["IsolatedExecutor"]


class IsolatedExecutor:
    """Runs instances through each template's own graph; graphs are built once per template."""

    def __init__(self) -> None:
        self._graphs: LockedCache[torch.fx.GraphModule] = LockedCache(limit=None)
        self._weights: LockedCache[tuple[torch.Tensor, ...]] = LockedCache(limit=4096)

    def run(self, plan: PlanData, instances: Sequence[Instance]) -> list[tuple[torch.Tensor, ...]]:
        """Answer each instance, in order.

        Args:
            plan: holds the templates and weights that the instances name.
            instances: any mix of members and templates.
        """
        with torch.inference_mode():
            return [self._one(plan, instance) for instance in instances]

    def _one(self, plan: PlanData, instance: Instance) -> tuple[torch.Tensor, ...]:
        body = plan.templates[instance.template].body
        graph = self._graphs.get(instance.template, partial(to_graph, body))
        weights = self._weights.get(
            instance.weights, lambda: tuple(tensor_of(plan.weights[w]) for w in instance.weights)
        )
        answer = graph(*instance.inputs, *weights)
        # An output may be a view of an input or a weight: hand out memory of its own.
        owned = {t.untyped_storage().data_ptr() for t in (*instance.inputs, *weights)}
        return tuple(t.clone() if t.untyped_storage().data_ptr() in owned else t for t in answer)
