"""The PyTorch executor in merged mode: like instances of different members run as one program.

    instances --by template and shapes--> waves --stacks [g, ...] through one program--> answers

A wave holds each member once: the weights of the same members are stacked and prepared once and
kept while they come again, whatever the number of rows. Rows of one member alone share its weights
and need no stack. This mode holds the weights of the last few waves again. Bits may differ from
isolated mode; accuracy does not.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
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

    prepare: torch.nn.Module
    """Takes the weights, [n, ...] or shared; gives what the program makes of weights alone."""
    main: torch.nn.Module
    """Takes inputs [n, ...], then what `prepare` gave, made contiguous; gives outputs [n, ...]."""


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
        self._prepared: LockedCache[tuple[torch.Tensor, ...]] = LockedCache(limit=8)

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
            prepared = self._prepared.get(
                (first.template.key, shapes, hashes), lambda: _prepare(program, batch, shared)
            )
            inputs = [
                torch.stack([b.inputs[i] for b in batch]) for i in range(len(batch[0].inputs))
            ]
            outputs = own_memory(program.main(*inputs, *prepared), (*inputs, *prepared))
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


def _prepare(
    program: MergedProgram, batch: Sequence[Instance], shared: frozenset[int]
) -> tuple[torch.Tensor, ...]:
    """Stack each weight over the batch, except those equal in all, and prepare them."""
    rows = [list(map(tensor_of, b.choice.weights)) for b in batch]
    stacks = [
        rows[0][i] if i in shared else torch.stack([row[i] for row in rows])
        for i in range(len(rows[0]))
    ]
    return tuple(t.contiguous() for t in program.prepare(*stacks))
