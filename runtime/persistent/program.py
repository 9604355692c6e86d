"""Programs: plans of many members, templates and tenants in one table of tasks.

Tasks are in the order of their stages, each stage's of all entries one after another: a legal
order, in which what a stage waits for has mostly been done while the others' stages ran.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusec.ir.errors import VerifyError
from fusec.ir.frozen import dataclass
from fusec.kernels.persistent import TASK_WORDS, WAIT_WORDS
from fusec.kernels.persistent.branches import Branches
from fusec.runtime.persistent.plan import Plan
from fusec.runtime.persistent.stages import SLOT_BITS

__all__ = ["Entry", "PersistentProgram", "addresses_of", "assemble"]

_MOST_WORDS = 2**31 - 1
_PLACE = (1 << SLOT_BITS) - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """Instances that run: a plan and where its buffers are."""

    plan: Plan
    addresses: NDArray[np.int64]
    """Of every buffer, by slot."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PersistentProgram:
    """What the kernel reads; see `fusec.kernels.persistent`."""

    table: NDArray[np.int64]
    tiles: NDArray[np.int32]
    tasks: NDArray[np.int32]
    waits: NDArray[np.int32]
    counters: int
    tile_of: NDArray[np.int64]
    """[tasks, 2] entry and tile of its plan: what each task is."""

    def signals(self) -> NDArray[np.int64]:
        """Count how often each counter is signalled in one run."""
        signal = self.tasks[:, 4]
        return np.bincount(signal[signal >= 0], minlength=self.counters).astype(np.int64)


def addresses_of(plan: Plan, arena: int, given: Mapping[int, int]) -> NDArray[np.int64]:
    """Give where an entry's buffers are.

    Args:
        plan: of the entry.
        arena: address of `plan.arena_bytes` bytes.
        given: address of each input, output and weight, by slot.
    """
    addresses = np.zeros(len(plan.lowered.buffers), np.int64)
    for slot, offset in plan.arena.items():
        addresses[slot] = arena + offset
    for slot, address in given.items():
        addresses[slot] = address
    return addresses


def assemble(entries: Sequence[Entry], branches: Branches) -> PersistentProgram:
    """Put entries together.

    Args:
        entries: who runs.
        branches: of the kernel that will run it.

    Raises:
        VerifyError: the kernel has not all branches, or the program is too long for 32 bits.

    Cost: about 10 us and 20 ns a task for each entry.
    """
    parts: list[_Part] = []
    words = waits = counters = 0
    known: dict[int, _Part] = {}
    for entry in entries:
        if id(entry.plan) not in known:
            known[id(entry.plan)] = _Part(entry.plan, branches)
        part = known[id(entry.plan)].moved(entry.addresses, words, waits, counters)
        words += len(part.table)
        waits += len(part.waits)
        counters += entry.plan.counters
        parts.append(part)
    if max(words, waits, counters) > _MOST_WORDS:
        raise VerifyError(f"a program of {words} words and {waits} waits is too long for a card")
    owner = np.repeat(np.arange(len(parts)), [len(part.tasks) for part in parts])
    tasks = _joined([part.tasks for part in parts], TASK_WORDS)
    tasks[:, 6] = owner
    # By stage, then by entry, then as the plan has them.
    order = np.lexsort((owner, tasks[:, 5]))
    number = np.arange(len(tasks)) - np.repeat(
        np.cumsum([0, *(len(part.tasks) for part in parts)])[:-1],
        [len(part.tasks) for part in parts],
    )
    return PersistentProgram(
        table=np.concatenate([part.table for part in parts]) if parts else np.zeros(0, np.int64),
        tiles=_joined([part.tiles for part in parts], 4)[order],
        tasks=tasks[order],
        waits=_joined([part.waits for part in parts], WAIT_WORDS),
        counters=counters,
        tile_of=np.stack([owner, number], axis=1)[order],
    )


def _joined(parts: Sequence[NDArray[np.int32]], width: int) -> NDArray[np.int32]:
    return np.concatenate([np.zeros((0, width), np.int32), *parts])


class _Part:
    """One entry's share of the arrays."""

    def __init__(self, plan: Plan, branches: Branches) -> None:
        found = [(laid.special, branches.number(laid.special)) for laid in plan.laid]
        missing = sorted({special.kernel.function for special, n in found if n is None})
        if missing:
            raise VerifyError(f"the super-kernel has no branches for {', '.join(missing)}")
        self._addresses = np.concatenate(
            [np.tile(laid.addresses, len(laid.words)) for laid in plan.laid]
            or [np.zeros(0, np.bool_)]
        )
        self.table = np.concatenate(
            [laid.words.reshape(-1) for laid in plan.laid] or [np.zeros(0, np.int64)]
        )
        self._slots = (self.table >> SLOT_BITS)[self._addresses]
        self.tiles = _joined([laid.tiles for laid in plan.laid], 4)
        sizes = np.diff(plan.starts)
        lengths = [laid.words.size for laid in plan.laid]
        tasks = np.zeros((len(self.tiles), TASK_WORDS), np.int32)
        tasks[:, 0] = np.repeat([number for _, number in found], sizes)
        tasks[:, 1] = np.repeat(np.cumsum([0, *lengths])[:-1], sizes)
        tasks[:, 2], tasks[:, 3] = plan.wait_starts[:-1], np.diff(plan.wait_starts)
        tasks[:, 4] = plan.signals
        tasks[:, 5] = np.repeat(np.arange(len(plan.laid)), sizes)
        self.tasks = tasks
        self.waits = plan.waits.astype(np.int32)

    def moved(self, addresses: NDArray[np.int64], words: int, waits: int, counters: int) -> "_Part":
        """Give the same for other memory, behind so many words, waits and counters."""
        part = object.__new__(_Part)
        part.table = self.table.copy()
        part.table[self._addresses] &= _PLACE
        part.table[self._addresses] += addresses[self._slots]
        part.tiles = self.tiles
        part.tasks = self.tasks.copy()
        part.tasks[:, 1] += words
        part.tasks[:, 2] += waits
        part.tasks[:, 4] += np.where(self.tasks[:, 4] >= 0, counters, 0)
        part.waits = self.waits.copy()
        part.waits[:, 0] += counters
        return part
