"""The PyTorch executor in merged mode: like instances of different members run as one program.

    instances --by template and shapes--> waves --stacks [g, ...] through one program--> answers

A wave holds each member once: the weights of the same members are stacked once and kept while they
come again, whatever the number of rows. Rows of one member alone share its weights and need no
stack. This mode holds weights twice. Bits may differ from isolated mode; accuracy does not.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from fusec.ir.template import Template
from fusec.runtime.cache import LockedCache
from fusec.runtime.instances import Instance, own_memory
from fusec.runtime.isolated import IsolatedExecutor
from fusec.runtime.weights import tensor_of

__all__ = ["BuildMerged", "MergedExecutor", "MergedProgram"]

_MOST_ROWS = 64
"""Rows of one member in one call: powers of two up to this, so that few programs serve all."""


@dataclass(frozen=True, slots=True, eq=False)
class MergedProgram:
    """One program for n instances."""

    module: torch.nn.Module
    """Takes inputs [n, ...], then weights [n, ...] or shared; gives outputs [n, ...]."""
    layouts: Mapping[int, tuple[int, ...]]
    """Weight number -> order of the stacked axes in memory that runs fastest."""


BuildMerged = Callable[
    [Template, Sequence[tuple[int, ...]], int, frozenset[int]], MergedProgram | None
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
        self._programs: LockedCache[MergedProgram | None] = LockedCache(limit=64)
        self._stacks: LockedCache[tuple[torch.Tensor, ...]] = LockedCache(limit=16)

    def run(self, instances: Sequence[Instance]) -> list[tuple[torch.Tensor, ...]]:
        """Answer each instance, in order; any mix of members and templates."""
        answers: list[tuple[torch.Tensor, ...]] = [()] * len(instances)
        batches: dict[Hashable, list[int]] = {}
        for i, instance in enumerate(instances):
            key = (instance.choice.template.key, _shapes(instance))
            batches.setdefault(key, []).append(i)
        for alike in batches.values():
            for positions in _waves(instances, alike):
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
                (first.template.key, hashes), lambda: _stack_weights(batch, shared, program.layouts)
            )
            inputs = [
                torch.stack([b.inputs[i] for b in batch]) for i in range(len(batch[0].inputs))
            ]
            outputs = own_memory(program.module(*inputs, *stacks), (*inputs, *stacks))
            return list(zip(*(output.unbind(0) for output in outputs), strict=True))


def _shapes(instance: Instance) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(t.shape) for t in instance.inputs)


def _waves(instances: Sequence[Instance], alike: Sequence[int]) -> Iterator[list[int]]:
    """Cut like instances into batches: each member once, or rows of one member only."""
    by_member: dict[Hashable, list[int]] = {}
    for i in alike:
        by_member.setdefault(instances[i].choice.hashes, []).append(i)
    rows = list(by_member.values())
    if len(rows) == 1:
        start = 0
        while start < len(rows[0]):
            left = len(rows[0]) - start
            size = min(_MOST_ROWS, 1 << (left.bit_length() - 1))
            yield rows[0][start : start + size]
            start += size
        return
    for r in range(max(map(len, rows))):
        yield [own[r] for own in rows if r < len(own)]


def _stack_weights(
    batch: Sequence[Instance], shared: frozenset[int], layouts: Mapping[int, tuple[int, ...]]
) -> tuple[torch.Tensor, ...]:
    """Stack each weight over the batch, except those equal in all its members."""
    rows = [list(map(tensor_of, b.choice.weights)) for b in batch]
    return tuple(
        rows[0][i] if i in shared else _laid_out([row[i] for row in rows], layouts.get(i))
        for i in range(len(rows[0]))
    )


def _laid_out(weights: Sequence[torch.Tensor], order: tuple[int, ...] | None) -> torch.Tensor:
    """Stack weights; shape as ever, memory in the order that the merged program reads fastest."""
    stacked = torch.stack(list(weights))
    if order is None:
        return stacked
    back = [order.index(axis) for axis in range(len(order))]
    return stacked.permute(order).contiguous().permute(back)
