"""Prove that a tile program ends, has no race and never uses memory of two buffers at once.

    structure   every task is in one unit; waits and signals name counters that exist
    deadlock    1 <= threshold <= producers, and all producers come earlier in the queue
    race        what a task reads was written, and written before; what it overwrites is done with
    lifetimes   a byte belongs to one buffer at a time

"Before" is the order that holds whatever the workers do: the order of a unit's tasks, and a wait
for all signals of a counter. It is transitive.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusec.ir.errors import VerifyError
from fusec.runtime.tile.table import Table
from fusec.runtime.tile.validate_memory import memory_faults

__all__ = ["ACCESS", "SHARED", "Uses", "faults", "validate"]

ACCESS = np.dtype(
    [(name, np.int64) for name in ("task", "buffer", "start", "end", "writes", "share")]
)
"""A task reads (`writes` 0) or writes bytes start .. end of a space. Writes of equal `share` >= 0
to one buffer are parts of one stage's result: that they do not overlap is the kernel's promise."""

SHARED = -1
"""The space of the whole job; others are arenas of the worker that runs a unit."""

_SHOWN = 10


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Uses:
    """What the tasks of a program do with memory."""

    accesses: NDArray[np.void]
    """dtype ACCESS; of one task, reads come before writes."""
    spaces: Sequence[int]
    """Where each buffer lies: SHARED, or the number of the unit whose worker has it."""
    given: Sequence[tuple[int, int, int]]
    """Buffer, start, end: bytes that have contents before the run."""


def validate(table: Table, uses: Uses | None = None) -> None:
    """Refuse a program that could hang or answer wrongly.

    Args:
        table: the program.
        uses: what its tasks read and write; None checks order only.

    Raises:
        VerifyError: with the first faults, in words.

    Cost: some microseconds per task and access, and tasks squared / 8 bytes.
    """
    found = faults(table, uses)
    if found:
        more = f"\n... {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise VerifyError("tile program: " + "\n".join(found[:_SHOWN]) + more)


def faults(table: Table, uses: Uses | None = None) -> tuple[str, ...]:
    """Describe what is wrong with a program; nothing if it is right."""
    found = tuple(_structure(table))
    if found:
        return found
    order = _Order(table)
    found = tuple(_waits(table, order))
    if found or uses is None:
        return found
    past = _past(table, order)
    return tuple(memory_faults(uses.accesses, uses.spaces, uses.given, order, past))


class _Order:
    """Positions of tasks in the queue."""

    def __init__(self, table: Table) -> None:
        spans = [(int(u["task"]), int(u["task"] + u["tasks"])) for u in table.units]
        self.tasks = [t for a, b in spans for t in range(a, b)]
        self.unit = [0] * len(self.tasks)
        """Of each task."""
        self.position = [0] * len(self.tasks)
        for unit, (a, b) in enumerate(spans):
            self.unit[a:b] = [unit] * (b - a)
        for position, task in enumerate(self.tasks):
            self.position[task] = position
        self.producers: list[list[int]] = [[] for _ in range(table.counters)]
        """Tasks that signal each counter, in queue order."""
        for task in self.tasks:
            if (counter := int(table.tasks[task]["signal"])) >= 0:
                self.producers[counter].append(task)


def _structure(table: Table) -> Iterator[str]:
    times = np.zeros(len(table.tasks), dtype=np.int64)
    for i, unit in enumerate(table.units.tolist()):
        first, n = unit
        if first < 0 or n < 1 or first + n > len(times):
            yield f"unit {i}: tasks {first} .. {first + n}, there are {len(times)}"
        else:
            times[first : first + n] += 1
    for task in np.flatnonzero(times != 1)[:_SHOWN]:
        yield f"task {task} is in {times[task]} units, should be in 1"
    for i, task in enumerate(table.tasks[["wait", "waits", "signal"]].tolist()):
        wait, waits, signal = task
        if waits < 0 or (waits and not 0 <= wait <= wait + waits <= len(table.waits)):
            yield f"task {i}: waits {wait} .. {wait + waits}, there are {len(table.waits)}"
        if not -1 <= signal < table.counters:
            yield f"task {i}: signals counter {signal}, there are {table.counters}"
    for i, (counter, _) in enumerate(table.waits.tolist()):
        if not 0 <= counter < table.counters:
            yield f"wait {i}: counter {counter}, there are {table.counters}"


def _waits_of(table: Table, task: int) -> list[tuple[int, int]]:
    record = table.tasks[task]
    first, n = int(record["wait"]), int(record["waits"])
    waits: list[tuple[int, int]] = table.waits[first : first + n].tolist()
    return waits


def _waits(table: Table, order: _Order) -> Iterator[str]:
    """Check that each wait is fulfilled by tasks that are taken before."""
    for task in order.tasks:
        for counter, threshold in _waits_of(table, task):
            producers = order.producers[counter]
            where = f"task {task} (unit {order.unit[task]}) waits for counter {counter}"
            if not 1 <= threshold <= len(producers):
                yield f"{where} >= {threshold}, which {len(producers)} tasks signal"
                continue
            late = [p for p in producers if order.position[p] >= order.position[task]]
            if late:
                yield f"{where}, which task {late[0]} (unit {order.unit[late[0]]}) signals later"
            units = {order.unit[p] for p in producers}
            if threshold < len(producers) and len(units) > 1:
                yield (
                    f"{where} >= {threshold}, which {len(producers)} tasks of {len(units)} units "
                    "signal: nobody knows which of them are done; wait for all"
                )


def _past(table: Table, order: _Order) -> list[int]:
    """Give for each task the set of tasks that are done when it starts, as bits of an integer."""
    past = [0] * len(order.tasks)
    done: dict[tuple[int, int], int] = {}
    before, unit = 0, -1
    for task in order.tasks:
        if order.unit[task] != unit:
            before, unit = 0, order.unit[task]
        for counter, threshold in _waits_of(table, task):
            if (counter, threshold) not in done:
                first = order.producers[counter][:threshold]
                done[counter, threshold] = _union(past[p] | 1 << p for p in first)
            before |= done[counter, threshold]
        past[task] = before
        before |= 1 << task
    return past


def _union(sets: Iterator[int]) -> int:
    total = 0
    for one in sets:
        total |= one
    return total
