"""The PyTorch executor in merged mode: like instances of different members run as one program.

    instances --group by template and shapes--> stacks [g, ...] --merged program--> rows of answers

Stacked weights are kept while the same batch comes again, so
this mode holds weights twice. Bits may differ from isolated mode; accuracy does not.
"""

from collections.abc import Callable, Hashable, Sequence

import torch

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

    def run(self, instances: Sequence[Instance]) -> list[tuple[torch.Tensor, ...]]:
        """Answer each instance, in order; any mix of members and templates."""
        answers: list[tuple[torch.Tensor, ...]] = [()] * len(instances)
        batches: dict[Hashable, list[int]] = {}
        for i, instance in enumerate(instances):
            key = (instance.choice.template.key, _shapes(instance))
            batches.setdefault(key, []).append(i)
        for positions in batches.values():
            batch = [instances[i] for i in positions]
            for i, answer in zip(positions, self._batch(batch), strict=True):
                answers[i] = answer
        return answers

    def _batch(self, batch: Sequence[Instance]) -> Sequence[tuple[torch.Tensor, ...]]:
        """Run instances of one template and equal shapes."""
        first = batch[0].choice
        shapes, n = _shapes(batch[0]), len(batch)
        hashes = tuple(b.choice.hashes for b in batch)
        shared = frozenset(i for i in range(len(first.hashes)) if len({h[i] for h in hashes}) == 1)
        program = None
        if n > 1:
            program = self._programs.get(
                (first.template.key, shapes, n, shared),
                lambda: self._build(first.template, shapes, n, shared),
            )
        if program is None:
            return self._isolated.run(batch)
        with torch.no_grad():
            stacks = self._stacks.get(
                (first.template.key, hashes), lambda: _stack_weights(batch, shared)
            )
            inputs = [
                torch.stack([b.inputs[i] for b in batch]) for i in range(len(batch[0].inputs))
            ]
            outputs = program(*inputs, *stacks)
            return list(zip(*(output.unbind(0) for output in outputs), strict=True))


def _shapes(instance: Instance) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(t.shape) for t in instance.inputs)


def _stack_weights(batch: Sequence[Instance], shared: frozenset[int]) -> tuple[torch.Tensor, ...]:
    """Stack each weight over the batch, except those equal in all its members."""
    rows = [list(map(tensor_of, b.choice.weights)) for b in batch]
    return tuple(
        rows[0][i] if i in shared else torch.stack([row[i] for row in rows])
        for i in range(len(rows[0]))
    )
