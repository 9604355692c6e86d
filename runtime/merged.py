"""The PyTorch executor in merged mode: like instances of different members run as one program.

    instances --group by template and shapes--> stacks [g, ...] --merged program--> rows of answers

Stacked weights are kept while the same batch comes again, so
this mode holds weights twice. Bits may differ from isolated mode; accuracy does not.
"""

from collections.abc import Callable, Hashable, Sequence

import torch

from fusec.ir.plan import PlanData
from fusec.ir.template import Template
from fusec.runtime.cache import LockedCache
from fusec.runtime.instances import Instance
from fusec.runtime.isolated import IsolatedExecutor
from fusec.runtime.weights import tensor_of

__all__ = ["BuildMerged", "MergedExecutor"]

BuildMerged = Callable[
    [Template, Sequence[tuple[int, ...]], int, frozenset[int]], torch.nn.Module | None
]
"""(template, input shapes, number of instances, weights equal in all) -> merged program or None."""


class MergedExecutor:
    """Merges what can be merged and runs the rest isolated."""

    def __init__(self, build: BuildMerged) -> None:
        """Make an executor.

        Args:
            build: gives the merged program of a template; None where merging does not pay or is
                not possible. Injected, since the runtime does not know the compiler's passes.
        """
        self._build = build
        self._isolated = IsolatedExecutor()
        self._programs: LockedCache[torch.nn.Module | None] = LockedCache(limit=64)
        self._stacks: LockedCache[tuple[torch.Tensor, ...]] = LockedCache(limit=16)

    def run(self, plan: PlanData, instances: Sequence[Instance]) -> list[tuple[torch.Tensor, ...]]:
        """Answer each instance, in order."""
        answers: list[tuple[torch.Tensor, ...]] = [()] * len(instances)
        batches: dict[Hashable, list[int]] = {}
        for i, instance in enumerate(instances):
            shapes = tuple(tuple(t.shape) for t in instance.inputs)
            batches.setdefault((instance.template, shapes), []).append(i)
        for positions in batches.values():
            batch = [instances[i] for i in positions]
            for i, answer in zip(positions, self._batch(plan, batch), strict=True):
                answers[i] = answer
        return answers

    def _batch(
        self, plan: PlanData, batch: Sequence[Instance]
    ) -> Sequence[tuple[torch.Tensor, ...]]:
        first = batch[0]
        if len(batch) == 1:
            return self._isolated.run(plan, batch)
        shared = frozenset(
            i for i in range(len(first.weights)) if len({b.weights[i] for b in batch}) == 1
        )
        shapes = tuple(tuple(t.shape) for t in first.inputs)
        key = (first.template, shapes, len(batch), shared)
        template = plan.templates[first.template]
        program = self._programs.get(key, lambda: self._build(template, shapes, len(batch), shared))
        if program is None:
            return self._isolated.run(plan, batch)
        with torch.inference_mode():
            stacks = self._stacks.get(
                (first.template, tuple(b.weights for b in batch)),
                lambda: _stack_weights(plan, batch, shared),
            )
            inputs = [torch.stack([b.inputs[i] for b in batch]) for i in range(len(first.inputs))]
            outputs = program(*inputs, *stacks)
            return list(zip(*(output.unbind(0) for output in outputs), strict=True))


def _stack_weights(
    plan: PlanData, batch: Sequence[Instance], shared: frozenset[int]
) -> tuple[torch.Tensor, ...]:
    stacks = []
    for i in range(len(batch[0].weights)):
        if i in shared:
            stacks.append(tensor_of(plan.weights[batch[0].weights[i]]))
        else:
            stacks.append(torch.stack([tensor_of(plan.weights[b.weights[i]]) for b in batch]))
    return tuple(stacks)
