"""What the tasks of a built program read and write, for the validator.

Stages tell by their views. A task is taken to use all of its instances' views, whatever its range:
that only asks for more order than there has to be, and writes of one stage count as shared.
"""

from collections.abc import Iterator

import numpy as np

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import value
from fusec.ir.stage import BufferKind, Stage, View
from fusec.runtime.tile.build import Program
from fusec.runtime.tile.layout import Class
from fusec.runtime.tile.table import words_of
from fusec.runtime.tile.tables import Tables
from fusec.runtime.tile.validate import ACCESS, SHARED, Uses

__all__ = ["uses_of"]


def uses_of(program: Program, tables: Tables) -> Uses:
    """Describe a program's memory.

    Args:
        program: built from requests.
        tables: of the same requests; where arenas are does not matter.

    Returns:
        Buffers are numbered as they come: one per instance and slot, weights left out.
    """
    book = _Book(program, tables)
    rows: list[tuple[int, ...]] = []
    for unit, (first, n) in enumerate(program.table.units.tolist()):
        for task in range(first, first + n):
            rows += book.accesses(task, unit)
    return Uses(accesses=words_of(rows, ACCESS), spaces=book.spaces, given=[*book.given.values()])


class _Book:
    """Numbers buffers when they are first used."""

    def __init__(self, program: Program, tables: Tables) -> None:
        self._program, self._tables = program, tables
        self._chains = {(id(g.cls), i) for g in program.chains for i in range(g.start, g.stop)}
        self._numbers: dict[tuple[int, ...], int] = {}
        self.spaces: list[int] = []
        self.given: dict[int, tuple[int, int, int]] = {}

    def accesses(self, task: int, unit: int) -> Iterator[tuple[int, ...]]:
        record = self._program.table.tasks[task]
        stages = np.array(self._program.stage_starts)
        number = int(np.searchsorted(stages, record["stage"], side="right")) - 1
        cls = self._program.classes[number]
        local = int(record["stage"]) - int(stages[number])
        stage = cls.binding.code.lowered.stages[local]
        first = int(record["instance"])
        last = first + max(0, int(record["hi"]) - 1) // cls.binding.items[local]
        for instance in range(first, last + 1):
            share = int(record["stage"])
            for writes, views in ((0, _reads(stage)), (1, stage.writes)):
                for view in views:
                    buffer = self._buffer(number, cls, instance, view.slot, unit)
                    if buffer is not None:
                        start, end = self._span(cls, instance, view)
                        yield task, buffer, start, end, writes, share

    def _buffer(self, number: int, cls: Class, instance: int, slot: int, unit: int) -> int | None:
        kind = cls.binding.code.lowered.buffers[slot].kind
        if kind is BufferKind.WEIGHT:
            return None
        key = (number, instance, slot)
        if key not in self._numbers:
            buffer = self._numbers[key] = len(self.spaces)
            if kind is not BufferKind.ARENA:
                self.spaces.append(SHARED - 1 - buffer)  # memory of its own
            else:
                self.spaces.append(unit if (id(cls), instance) in self._chains else SHARED)
            if kind is BufferKind.INPUT:
                self.given[buffer] = (buffer, 0, int(cls.binding.sizes[slot]))
        return self._numbers[key]

    def _span(self, cls: Class, instance: int, view: View) -> tuple[int, int]:
        """Give the bytes from the first to the last element of a view."""
        symbols = cls.binding.symbols
        shape = [value(d, symbols) for d in view.shape]
        if 0 in shape:
            return 0, 0
        ways = [(d - 1) * value(s, symbols) for d, s in zip(shape, view.strides, strict=True)]
        start = value(view.offset, symbols)
        lowest = start + sum(w for w in ways if w < 0)
        highest = start + sum(w for w in ways if w > 0) + 1
        base = 0
        if cls.binding.code.lowered.buffers[view.slot].kind is BufferKind.ARENA:
            base = int(self._tables.block(cls)[0, instance, view.slot])
        size = itemsize_bytes(view.dtype)
        return base + lowest * size, base + highest * size


def _reads(stage: Stage) -> list[View]:
    point = stage.point.operands if stage.point else ()
    return [v for v in (*stage.reads, *point) if v is not None]
