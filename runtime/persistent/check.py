"""Prove that a program of the super-kernel ends, has no race and never uses memory twice.

order    every wait is for a counter's signals in full, all of tasks with earlier tickets, and
         counters count on from run to run: looked at for every program, some ns per task
memory   what a task reads was written before, and what it overwrites is done with, by the
         proof of `fusec.runtime.tile.validate`: element by element, for tests and plans in doubt
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fusec.ir.errors import VerifyError
from fusec.ir.stage import BufferKind
from fusec.kernels.persistent.footprint import Access
from fusec.runtime.persistent.needs import touched_slots
from fusec.runtime.persistent.plan import Plan
from fusec.runtime.persistent.program import Entry, PersistentProgram
from fusec.runtime.persistent.stages import SLOT_BITS, Laid, group_at, groups_of, slot_of
from fusec.runtime.tile.table import TASK, UNIT, WAIT, Table, words_of
from fusec.runtime.tile.validate import ACCESS, SHARED, Uses, faults

__all__ = ["MOST_SIGNALS", "check_order", "order_faults", "prove", "table_of", "uses_of"]

MOST_SIGNALS = 1 << 23
"""Of a counter in a run: 64 bits then last for 2^40 runs, some centuries of a card's time."""

_SHOWN = 10


def check_order(program: PersistentProgram, branches: int) -> None:
    """Refuse a program that could hang, or start a task too early.

    Args:
        program: as assembled.
        branches: that the kernel has.

    Raises:
        VerifyError: with the first faults, in words.
    """
    found = order_faults(program, branches)
    if found:
        more = f"\n... {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise VerifyError("super-kernel program: " + "\n".join(found[:_SHOWN]) + more)


def order_faults(program: PersistentProgram, branches: int) -> tuple[str, ...]:
    """Describe what is wrong with the order of a program; nothing if it is right."""
    return tuple(_structure(program, branches)) or tuple(_waits(program))


def _structure(program: PersistentProgram, branches: int) -> Iterator[str]:
    tasks, waits = program.tasks, program.waits
    limits = (
        (0, "branch", 0, branches - 1),
        (1, "table", 0, len(program.table) - 1),
        (4, "signal", -1, program.counters - 1),
    )
    for column, name, low, high in limits:
        for task in np.flatnonzero((tasks[:, column] < low) | (tasks[:, column] > high)):
            yield f"task {task}: {name} {tasks[task, column]}, wanted {low} .. {high}"
    ends = tasks[:, 2] + tasks[:, 3]
    for task in np.flatnonzero((tasks[:, 2:4] < 0).any(axis=1) | (ends > len(waits))):
        yield f"task {task}: waits {tasks[task, 2]} .. {ends[task]}, there are {len(waits)}"
    for wait in np.flatnonzero((waits[:, 0] < 0) | (waits[:, 0] >= program.counters)):
        yield f"wait {wait}: counter {waits[wait, 0]}, there are {program.counters}"


def _waits(program: PersistentProgram) -> Iterator[str]:
    tasks, waits = program.tasks, program.waits
    signals = program.signals()
    for counter in np.flatnonzero(signals >= MOST_SIGNALS):
        yield f"counter {counter} is signalled {signals[counter]} times in a run: it would overflow"
    last = np.full(program.counters, -1, np.int64)
    signalling = np.flatnonzero(tasks[:, 4] >= 0)
    last[tasks[signalling, 4]] = signalling  # of several, the last assignment stays
    task = np.repeat(np.arange(len(tasks)), tasks[:, 3])
    number = np.arange(len(task)) - np.repeat(np.cumsum(tasks[:, 3]) - tasks[:, 3], tasks[:, 3])
    wait = tasks[task, 2] + number
    counter, threshold = waits[wait, 0], waits[wait, 1]
    wrong = (threshold < 1) | (threshold != signals[counter])
    for i in np.flatnonzero(wrong):
        yield (
            f"task {task[i]} waits for {threshold[i]} signals of counter {counter[i]}, which "
            f"{signals[counter[i]]} tasks signal: wait for all, nobody knows which come first"
        )
    for i in np.flatnonzero(waits[wait, 2] != signals[counter]):
        yield (
            f"task {task[i]} takes counter {counter[i]} to have {waits[wait[i], 2]} signals in a "
            f"run, it has {signals[counter[i]]}: wrong from the second run on"
        )
    for i in np.flatnonzero(last[counter] >= task):
        yield (
            f"task {task[i]} waits for counter {counter[i]}, which task {last[counter[i]]} "
            "signals later: a cycle, or an order that is none"
        )


def prove(entries: Sequence[Entry], program: PersistentProgram, branches: int) -> None:
    """Prove order and memory of a program.

    Args:
        entries: what was assembled.
        program: of them.
        branches: that the kernel has.

    Raises:
        VerifyError: with the first faults, in words.

    Cost: some microseconds for every run of elements that a tile touches.
    """
    check_order(program, branches)
    found = faults(table_of(program), uses_of(entries, program))
    if found:
        raise VerifyError("super-kernel program: " + "\n".join(found[:_SHOWN]))


def table_of(program: PersistentProgram) -> Table:
    """See a program as one that workers take task by task."""
    tasks = np.zeros(len(program.tasks), TASK)
    for name, column in (("wait", 2), ("waits", 3), ("signal", 4), ("stage", 5), ("instance", 6)):
        tasks[name] = program.tasks[:, column]
    units = np.stack([np.arange(len(tasks)), np.ones(len(tasks), np.int64)], axis=1)
    return Table(
        tasks=tasks,
        waits=words_of(program.waits[:, :2].astype(np.int64), WAIT),
        units=words_of(units, UNIT),
        counters=program.counters,
    )


def uses_of(entries: Sequence[Entry], program: PersistentProgram) -> Uses:
    """Say what each task of a program reads and writes, in bytes of one memory."""
    slots = [len(entry.plan.lowered.buffers) for entry in entries]
    first = np.cumsum([0, *slots])
    shares = np.cumsum([0, *(len(entry.plan.laid) for entry in entries)])
    tasks: dict[tuple[int, int], int] = {
        (entry, tile): task for task, (entry, tile) in enumerate(program.tile_of.tolist())
    }
    rows: list[tuple[int, ...]] = []
    given: list[tuple[int, int, int]] = []
    for number, entry in enumerate(entries):
        for slot, buffer in enumerate(entry.plan.lowered.buffers):
            if buffer.kind is BufferKind.INPUT:
                at = int(entry.addresses[slot])
                given.append((int(first[number]) + slot, at, at + entry.plan.sizes[slot]))
        for stage, tile, slot, start, end, writes in _touches(entry.plan):
            at = int(entry.addresses[slot])
            task, share = tasks[number, tile], int(shares[number]) + stage
            rows.append((task, int(first[number]) + slot, at + start, at + end, writes, share))
    rows.sort(key=lambda row: (row[0], row[4]))
    return Uses(accesses=words_of(rows, ACCESS), spaces=[SHARED] * int(first[-1]), given=given)


def _touches(plan: Plan) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Yield stage, tile, slot, first byte, end and whether it is written."""
    for number, laid in enumerate(plan.laid):
        first = int(plan.starts[number])
        if laid.accesses is None:
            for writes, slots in enumerate(touched_slots(laid.stage)):
                for slot in slots:
                    if plan.sizes[slot]:
                        for tile in range(first, first + len(laid.tiles)):
                            yield number, tile, slot, 0, plan.sizes[slot], writes
            continue
        for at, accesses in enumerate(laid.accesses):
            for access in accesses:
                for tiles, slot, start, end in _runs(laid, at, access):
                    for tile in tiles:
                        yield number, first + tile, slot, start, end, int(access.writes)


def _runs(laid: Laid, at: int, access: Access) -> Iterator[tuple[list[int], int, int, int]]:
    """Yield runs of elements and the tiles of a stage that touch them."""
    if not access.addresses.size:
        return
    everyone = np.broadcast_arrays(access.addresses, groups_of(laid, access))
    where, who = (x.reshape(-1) for x in everyone)
    numbers = np.arange(len(laid.tiles)).reshape(laid.shape)[at]
    slot = slot_of(int(where[0]))
    for group in np.unique(who).tolist():
        tiles = numbers[group_at(laid, group)].reshape(-1).tolist()
        places: NDArray[np.int64] = np.unique(where[who == group]) - (slot << SLOT_BITS)
        breaks = np.flatnonzero(np.diff(places) != access.size_bytes) + 1
        for run in np.split(places, breaks):
            yield tiles, slot, int(run[0]), int(run[-1]) + access.size_bytes
