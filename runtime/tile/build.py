"""Build a tile program: groups of instances become units of tasks.

    chain   one unit: all stages of a group, one after another on one worker, in its own arena
    cohort  a unit per task: a group's stages cut up for all workers, stage after stage

Chains need no counters and keep activations in one core's cache; cohorts share what would leave a
worker without work. Queue: cohorts first, their stages in turn, then chains, the longest first.
"""

import heapq
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.runtime.tile.layout import Class, Group, groups_of
from fusec.runtime.tile.table import TASK, UNIT, WAIT, Table, words_of

__all__ = ["Program", "build"]

_TASK_NS, _SMALL_TASK_NS = 200_000.0, 15_000.0
_SPLIT_NS = 30_000.0
"""Groups that cost less are never shared between workers."""
_WORDS = TASK.itemsize // 8
_LO2 = TASK.names.index("lo2") if TASK.names else 0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Program:
    """A tile program without addresses of inputs, outputs and arenas; those are set per run."""

    classes: tuple[Class, ...]
    table: Table
    row_starts: tuple[int, ...]
    """First word of each class's rows in the address table, and the end."""
    stage_starts: tuple[int, ...]
    """Number of each class's first stage among those of all, and the end: what tasks say."""
    chains: tuple[Group, ...]
    """Groups in workers' arenas."""
    cohorts: tuple[tuple[Group, int], ...]
    """Groups in the shared arena, with their offsets in it."""
    worker_bytes: int
    shared_bytes: int
    scratch_bytes: int
    workers: int


def build(classes: Sequence[Class], workers: int, address: Callable[[str], int]) -> Program:
    """Build the program of an instance list: of any with such classes.

    Args:
        classes: as `arrange` gives them.
        workers: how many will run it.
        address: kernel name -> address.
    """
    widths = [len(c.binding.code.lowered.buffers) * c.instances for c in classes]
    row_starts = (0, *np.cumsum(widths).tolist())
    stage_starts = (0, *np.cumsum([len(c.binding.code.stages) for c in classes]).tolist())
    tables = {
        id(c): _StageTable(c, address, word, stage)
        for c, word, stage in zip(classes, row_starts[:-1], stage_starts[:-1], strict=True)
    }
    groups = [g for c in classes for g in groups_of(c, workers)]
    chains, shared = _balance(groups, workers)
    cohorts = _cohorts(shared)

    tasks: list[np.ndarray] = []
    units: list[tuple[int, int]] = []
    waits: list[tuple[int, int]] = []
    counters = _add_cohorts(cohorts, tables, workers, tasks, units, waits)
    n_tasks = sum(map(len, tasks))
    for block, count in _chain_blocks(chains, tables):
        length = len(block) // count
        units += [(n_tasks + i * length, length) for i in range(count)]
        n_tasks += len(block)
        tasks.append(block)
    placed, shared_bytes = [], 0
    for group in cohorts:
        placed.append((group, shared_bytes))
        shared_bytes += group.cls.binding.arena_bytes * (group.stop - group.start)
    return Program(
        classes=tuple(classes),
        table=Table(
            tasks=np.concatenate(tasks) if tasks else np.zeros(0, TASK),
            waits=words_of(waits, WAIT),
            units=words_of(units, UNIT),
            counters=counters,
        ),
        row_starts=row_starts,
        stage_starts=stage_starts,
        chains=tuple(chains),
        cohorts=tuple(placed),
        worker_bytes=max(
            (g.cls.binding.arena_bytes * (g.stop - g.start) for g in chains), default=0
        ),
        shared_bytes=shared_bytes,
        scratch_bytes=max((c.binding.scratch_bytes for c in classes), default=0),
        workers=workers,
    )


class _StageTable:
    """Makes task rows of one class's stages."""

    def __init__(
        self, cls: Class, address: Callable[[str], int], first_word: int, first_stage: int
    ) -> None:
        self.cls, self.binding, self.first_stage = cls, cls.binding, first_stage
        code = cls.binding.code
        self.kernels = [address(s.kernel) for s in code.stages]
        base = cls.binding.word_address
        self.words = [base + 8 * int(start) for start in code.word_starts[:-1]]
        soon = code.soon.ctypes.data
        self.soon = [soon + 8 * int(start) for start in code.soon_starts]
        self.first_byte = 8 * first_word
        self.row_bytes = 8 * len(code.lowered.buffers)

    def row(self, stage: int, instance: int, ranges: tuple[int, int, int, int]) -> tuple[int, ...]:
        """Give a task without waits or signals."""
        offset = self.first_byte + instance * self.row_bytes
        return (
            self.kernels[stage], self.words[stage], offset, *ranges, 0, 0, -1,
            self.first_stage + stage, instance, self.soon[stage],
        )  # fmt: skip

    def rows(self, group: Group, stage: int, task_ns: float) -> list[tuple[int, ...]]:
        """Give the tasks of one stage of a group, each of about `task_ns` at most."""
        binding = self.binding
        encoded = binding.code.stages[stage]
        items, items2 = binding.items[stage], binding.items2[stage]
        if items <= 0 or items2 <= 0:
            return []
        rows = []
        cut = _cut_in_time if encoded.sequential else _cut
        for start, stop in self._runs(group, stage):
            if encoded.flat:
                cuts = cut(
                    items * (stop - start), items2, encoded.grain, encoded.grain2,
                    binding.cost_ns[stage] * (stop - start) / task_ns,
                )  # fmt: skip
                rows += [self.row(stage, start, r) for r in cuts]
            else:
                cuts = cut(
                    items, items2, encoded.grain, encoded.grain2, binding.cost_ns[stage] / task_ns
                )
                rows += [self.row(stage, i, r) for i in range(start, stop) for r in cuts]
        return rows

    def _runs(self, group: Group, stage: int) -> list[tuple[int, int]]:
        """Runs of a group's instances with equal weights of this stage."""
        slots = self.binding.code.weights[stage]
        if not group.mixed or not slots:
            return [(group.start, group.stop)]
        cls = self.cls
        columns = [s - len(self.binding.code.lowered.inputs) for s in slots]
        first, last = cls.part_of(group.start), cls.part_of(group.stop - 1)
        changes = np.flatnonzero(~cls.same[first:last, columns].all(axis=1)) + first + 1
        cuts = [group.start, *(cls.starts[p] for p in changes), group.stop]
        return list(itertools.pairwise(cuts))


def _cut(
    items: int, items2: int, grain: int, grain2: int, pieces: float
) -> list[tuple[int, int, int, int]]:
    """Cut two ranges at multiples of their grains into about so many tasks.

    Columns are cut before rows: fewer tasks then read the same weights.
    """
    grains, grains2 = -(-items // grain), -(-items2 // grain2)
    wanted = max(1, min(int(np.ceil(pieces)), grains * grains2))
    columns = min(wanted, grains2)
    rows = min(-(-wanted // columns), grains)
    step, step2 = -(-grains // rows) * grain, -(-grains2 // columns) * grain2
    return [
        (lo, min(lo + step, items), lo2, min(lo2 + step2, items2))
        for lo2 in range(0, items2, step2)
        for lo in range(0, items, step)
    ]


def _cut_in_time(
    items: int, items2: int, grain: int, grain2: int, pieces: float
) -> list[tuple[int, int, int, int]]:
    """Cut rows first, since only they can run side by side, then the time that each has to walk.

    Pieces of one row range follow one another.
    """
    grains, grains2 = -(-items // grain), -(-items2 // grain2)
    wanted = max(1, int(np.ceil(pieces)))
    rows = min(wanted, grains)
    times = min(-(-wanted // rows), grains2)
    step, step2 = -(-grains // rows) * grain, -(-grains2 // times) * grain2
    return [
        (lo, min(lo + step, items), lo2, min(lo2 + step2, items2))
        for lo in range(0, items, step)
        for lo2 in range(0, items2, step2)
    ]


def _balance(groups: Sequence[Group], workers: int) -> tuple[list[Group], list[Group]]:
    """Choose which groups run as chains and which are shared: as few as balance needs."""
    chains = sorted(groups, key=lambda g: -g.cost_ns)
    shared: list[Group] = []
    if workers == 1:
        return chains, shared
    total = sum(g.cost_ns for g in chains)
    while chains and chains[0].cost_ns > _SPLIT_NS:
        start = sum(g.cost_ns for g in shared) / workers
        if _makespan(chains, workers, start) <= 1.04 * total / workers:
            break
        shared.append(chains.pop(0))
    return chains, shared


def _makespan(chains: Sequence[Group], workers: int, start: float) -> float:
    loads = [start] * workers
    for group in chains:
        heapq.heapreplace(loads, loads[0] + group.cost_ns)
    return max(loads)


def _cohorts(shared: Sequence[Group]) -> list[Group]:
    """Join shared groups that follow one another in a class."""
    cohorts: list[Group] = []
    for group in sorted(shared, key=lambda g: (id(g.cls), g.start)):
        last = cohorts[-1] if cohorts else None
        if last and _follows(group, last):
            cohorts[-1] = Group(group.cls, last.start, group.stop, group.mixed, group.family)
        else:
            cohorts.append(group)
    return cohorts


def _follows(group: Group, last: Group) -> bool:
    """Tell whether a group goes on where another ends, in one family."""
    return last.cls is group.cls and last.stop == group.start and last.family == group.family


def _add_cohorts(
    cohorts: Sequence[Group],
    tables: dict[int, _StageTable],
    workers: int,
    tasks: list[np.ndarray],
    units: list[tuple[int, int]],
    waits: list[tuple[int, int]],
) -> int:
    """Append the tasks of all cohorts, stage after stage in turn; each is a unit of its own.

    Returns:
        The number of counters they use.
    """
    counters = 0
    before: dict[int, tuple[int, int]] = {}
    rows: list[tuple[int, ...]] = []
    depth = max((len(g.cls.binding.code.stages) for g in cohorts), default=0)
    for stage in range(depth):
        for number, group in enumerate(cohorts):
            if stage >= len(group.cls.binding.code.stages):
                continue
            cost = group.cls.binding.cost_ns[stage] * (group.stop - group.start)
            task_ns = min(_TASK_NS, max(_SMALL_TASK_NS, cost / (3 * workers)))
            own = tables[id(group.cls)].rows(group, stage, task_ns)
            if not own:
                continue
            wait = (0, 0)
            if number in before:
                wait = (len(waits), 1)
                waits.append(before[number])
            before[number] = (counters, len(own))
            sequential = group.cls.binding.code.stages[stage].sequential
            for row in own:
                if sequential and row[_LO2] > 0:
                    # It goes on where the task before it stopped.
                    first, count = units.pop()
                    units.append((first, count + 1))
                else:
                    units.append((len(rows), 1))
                rows.append((*row[:7], *wait, counters, *row[10:]))
            counters += 1
    if rows:
        tasks.append(words_of(rows, TASK))
    return counters


def _chain_blocks(
    chains: Sequence[Group], tables: dict[int, _StageTable]
) -> list[tuple[np.ndarray, int]]:
    """Give (rows, number of chains) per run of like chains; like ones are replicated at once."""
    blocks: list[tuple[np.ndarray, int]] = []
    i = 0
    while i < len(chains):
        group = chains[i]
        table = tables[id(group.cls)]
        stages = range(len(group.cls.binding.code.stages))
        rows = [row for stage in stages for row in table.rows(group, stage, _TASK_NS)]
        block = np.array(rows, dtype=np.int64).reshape(-1, _WORDS)
        j = i + 1
        while j < len(chains) and not group.mixed and _alike(group, chains[j]):
            j += 1
        starts = np.array([g.start for g in chains[i:j]], dtype=np.int64) - group.start
        many = np.broadcast_to(block, (len(starts), *block.shape)).copy()
        many[:, :, 2] += starts[:, None] * table.row_bytes
        many[:, :, 11] += starts[:, None]
        blocks.append((many.reshape(-1, _WORDS).view(TASK).ravel(), len(starts)))
        i = j
    return [b for b in blocks if len(b[0])]


def _alike(a: Group, b: Group) -> bool:
    return b.cls is a.cls and not b.mixed and b.stop - b.start == a.stop - a.start
