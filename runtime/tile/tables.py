"""Address tables of a program: for every instance, where each of its buffers is.

One table per worker. They differ in the arenas of chains only: a chain works in the arena of
whoever took it. Weights stay for the runs of one instance list; arenas move when another region is
lent; inputs and outputs are set before each run.
"""

from collections.abc import Sequence

import numpy as np

from fusec.runtime.tile.build import Program
from fusec.runtime.tile.layout import Class
from fusec.runtime.tile.memory import Region, aligned

__all__ = ["Tables"]


class Tables:
    """The tables of one program."""

    def __init__(self, program: Program) -> None:
        """Enter places inside arenas."""
        self._program = program
        self.words = np.zeros((program.workers, program.row_starts[-1]), dtype=np.int64)
        self._in_arena = np.zeros_like(self.words)
        self._region: Region | None = None
        self._base = 0
        self._blocks = {
            id(cls): slice(start, stop)
            for cls, start, stop in zip(
                program.classes, program.row_starts[:-1], program.row_starts[1:], strict=True
            )
        }
        chain_bytes = aligned(program.worker_bytes)
        scratch_bytes = aligned(program.scratch_bytes)
        self.scratch_start = chain_bytes * program.workers
        self.scratch_stride = scratch_bytes
        shared = self.scratch_start + scratch_bytes * program.workers
        for cls in program.classes:
            self._place(cls, chain_bytes, shared)
        self.n_bytes = shared + program.shared_bytes
        """Of the region that a run needs."""

    def block(self, cls: Class) -> np.ndarray:
        """View the rows of one class: [workers, instances, slots]."""
        return self._window(self.words, cls)

    def enter_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Enter the weights of an instance list.

        Args:
            weights: of each class, as `Arranged` has them.
        """
        for cls, own in zip(self._program.classes, weights, strict=True):
            slots = list(cls.binding.code.lowered.weights)
            if slots:
                self.block(cls)[:, :, slots] = np.repeat(own, np.diff(cls.starts), axis=0)

    def settle(self, region: Region) -> None:
        """Point all arena addresses into a region."""
        if region is not self._region:
            self.words += self._in_arena * (region.address - self._base)
            self._region, self._base = region, region.address

    def _place(self, cls: Class, chain_bytes: int, shared: int) -> None:
        """Enter where arena buffers are: one after another, each with its group's copies.

        A group of n instances has n copies of a buffer at n times the buffer's offset.
        """
        slots = cls.binding.arena_slots
        if not len(slots):
            return
        start, count, base, in_chain = _groups(self._program, cls, shared)
        sizes = cls.binding.sizes[slots]
        step = np.arange(cls.instances, dtype=np.int64) - start
        places = base[:, None] + count[:, None] * cls.binding.arena_offsets + step[:, None] * sizes
        workers = np.arange(len(self.words), dtype=np.int64)[:, None] * (chain_bytes * in_chain)
        self.block(cls)[:, :, slots] = places + workers[:, :, None]
        self._window(self._in_arena, cls)[:, :, slots] = 1

    def _window(self, words: np.ndarray, cls: Class) -> np.ndarray:
        width = len(cls.binding.code.lowered.buffers)
        return words[:, self._blocks[id(cls)]].reshape(len(words), -1, width)


def _groups(
    program: Program, cls: Class, shared: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give, for each instance of a class: its group's first, count and base; 1 in chains, else 0.

    Args:
        program: whose groups.
        cls: the class.
        shared: where the shared arena begins.
    """
    rows = [(g.start, g.stop - g.start, 0, 1) for g in program.chains if g.cls is cls]
    rows += [
        (g.start, g.stop - g.start, shared + offset, 0)
        for g, offset in program.cohorts
        if g.cls is cls
    ]
    table = np.array(sorted(rows), dtype=np.int64)
    start, count, base, in_chain = np.repeat(table, table[:, 1], axis=0).T
    return start, count, base, in_chain
