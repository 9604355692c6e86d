"""Address tables of a program: for every instance, where each of its buffers is.

One table per worker. They differ in the arenas of chains only: a chain works in the arena of
whoever took it. Weights stay; arenas move when another region is lent; inputs and outputs are set
before each run.
"""

import numpy as np

from fusec.runtime.tile.build import Program
from fusec.runtime.tile.layout import Class, Group, Part
from fusec.runtime.tile.memory import Region, aligned

__all__ = ["Tables"]


class Tables:
    """The tables of one program."""

    def __init__(self, program: Program, parts: "list[Part]") -> None:
        """Enter weights and places inside arenas."""
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
        for cls in program.classes:
            slots = list(cls.binding.code.lowered.weights)
            if slots:
                counts = np.diff(cls.starts)
                self.block(cls)[:, :, slots] = np.repeat(cls.weights, counts, axis=0)
        chain_bytes = aligned(program.worker_bytes)
        scratch_bytes = aligned(program.scratch_bytes)
        self.scratch_start = chain_bytes * program.workers
        self.scratch_stride = scratch_bytes
        shared = self.scratch_start + scratch_bytes * program.workers
        for group in program.chains:
            for worker in range(program.workers):
                self._place(group, worker * chain_bytes, slice(worker, worker + 1))
        for group, offset in program.cohorts:
            self._place(group, shared + offset, slice(None))
        self.n_bytes = shared + program.shared_bytes
        """Of the region that a run needs."""

    def block(self, cls: Class) -> np.ndarray:
        """View the rows of one class: [workers, instances, slots]."""
        width = len(cls.binding.code.lowered.buffers)
        return self.words[:, self._blocks[id(cls)]].reshape(len(self.words), -1, width)

    def settle(self, region: Region) -> None:
        """Point all arena addresses into a region."""
        if region is not self._region:
            self.words += self._in_arena * (region.address - self._base)
            self._region, self._base = region, region.address

    def _place(self, group: Group, start: int, workers: slice) -> None:
        """Enter offsets: buffer after buffer, each with its instances' copies without a gap."""
        binding = group.cls.binding
        if not len(binding.arena_slots):
            return
        count = group.stop - group.start
        sizes = binding.sizes[binding.arena_slots]
        places = start + binding.arena_offsets * count + np.arange(count)[:, None] * sizes
        rows = (workers, slice(group.start, group.stop), binding.arena_slots)
        self.block(group.cls)[rows] = places
        width = len(binding.code.lowered.buffers)
        mask = self._in_arena[:, self._blocks[id(group.cls)]].reshape(len(self.words), -1, width)
        mask[rows] = 1
