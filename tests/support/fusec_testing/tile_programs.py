"""Random tile programs over words of memory, right by construction, and what they compute.

Each task mixes the words that it reads into the words that it writes, so that a read that comes
too early, too late or from the wrong place changes the result.

    stages    buffers of blocks, one task per block; a task reads a window of the stage before
    chains    units that do all their steps in the arena of the worker that runs them
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from fusec.runtime.tile.table import TASK, UNIT, WAIT, Table, words_of
from fusec.runtime.tile.validate import ACCESS, SHARED, Uses

INPUT_WORDS = 4
ARENA_WORDS = 8
_MASK = (1 << 64) - 1
_FACTOR = 6364136223846793005


@dataclass
class Work:
    """What one task does: (slot, word) pairs; slot 0 is shared memory, 1 the worker's arena."""

    reads: list[tuple[int, int]]
    writes: list[tuple[int, int]]
    buffers: list[int]
    """Buffer of each read, then of each write."""


@dataclass
class Program:
    """A program before it has addresses."""

    works: list[Work] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)
    waits: list[list[tuple[int, int]]] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    """Tasks in each."""
    spaces: list[int] = field(default_factory=list)
    counters: int = 0
    words: int = INPUT_WORDS

    def add(self, work: Work, waits: list[tuple[int, int]], signal: int) -> None:
        self.works.append(work)
        self.waits.append(waits)
        self.signals.append(signal)

    def table(self) -> Table:
        """Give the table; kernels and descriptions are still 0."""
        tasks = np.zeros(len(self.works), dtype=TASK)
        waits: list[tuple[int, int]] = []
        for i, own in enumerate(self.waits):
            tasks[i]["wait"], tasks[i]["waits"] = len(waits), len(own)
            waits += own
        tasks["signal"] = self.signals
        tasks["stage"] = np.arange(len(tasks))
        ends = np.cumsum(self.units)
        units = [(end - n, n) for end, n in zip(ends.tolist(), self.units, strict=True)]
        return Table(
            tasks=tasks,
            waits=words_of(waits, WAIT),
            units=words_of(units, UNIT),
            counters=self.counters,
        )

    def uses(self) -> Uses:
        """Give what tasks read and write, in words."""
        rows = []
        for task, work in enumerate(self.works):
            words = [*work.reads, *work.writes]
            for i, ((_, word), buffer) in enumerate(zip(words, work.buffers, strict=True)):
                rows.append((task, buffer, word, word + 1, i >= len(work.reads), -1))
        return Uses(
            accesses=words_of(rows, ACCESS), spaces=self.spaces, given=[(0, 0, INPUT_WORDS)]
        )

    def descriptions(self) -> list[np.ndarray]:
        """Give each task's words for a native kernel: see `mix_words`."""
        return [mix_words(i, work) for i, work in enumerate(self.works)]

    def memory(self) -> np.ndarray:
        """Give shared memory before a run."""
        memory = np.zeros(self.words, dtype=np.uint64)
        memory[:INPUT_WORDS] = np.arange(1, INPUT_WORDS + 1)
        return memory

    def run_task(self, task: int, shared: np.ndarray, arena: np.ndarray) -> None:
        """Do what the native kernel does."""
        spaces, work, mixed = (shared, arena), self.works[task], task
        for slot, word in work.reads:
            mixed = (mixed * _FACTOR + int(spaces[slot][word]) + 1) & _MASK
        for slot, word in work.writes:
            mixed = (mixed + 1) & _MASK
            spaces[slot][word] = mixed


def mix_words(number: int, work: Work) -> np.ndarray:
    """Spell a task for the kernel: number, reads, (slot, byte) each, writes, (slot, byte) each."""
    words = [number, len(work.reads), *(x for s, w in work.reads for x in (s, 8 * w))]
    words += [len(work.writes), *(x for s, w in work.writes for x in (s, 8 * w))]
    return np.array(words, dtype=np.int64)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Draw a program of one to three layered graphs, interleaved, and some chains."""
    program = Program(spaces=[SHARED])
    for _ in range(draw(st.integers(0, 2))):
        _add_layers(draw, program)
    for _ in range(draw(st.integers(0 if program.works else 1, 3))):
        _add_chain(draw, program)
    return program


def _add_layers(draw: st.DrawFn, program: Program) -> None:
    before = [(0, w) for w in range(INPUT_WORDS)]  # words of the stage before
    buffer = 0
    wait_of: list[list[tuple[int, int]]] = [[] for _ in before]
    free: list[tuple[int, int]] = []  # words that a stage two before leaves
    for _ in range(draw(st.integers(1, 4))):
        blocks = draw(st.integers(1, 5))
        barrier = draw(st.booleans())
        # Bytes of the stage before last are free once all tasks of the last one are waited for.
        reuse = len(free) >= blocks and len(set(map(tuple, wait_of))) == 1 and draw(st.booleans())
        if reuse:
            own = free[:blocks]
        else:
            own = [(0, program.words + i) for i in range(blocks)]
            program.words += blocks
        program.spaces.append(SHARED)
        last, buffer = buffer, len(program.spaces) - 1
        counter, used = program.counters, set[int]()
        for block in range(blocks):
            at = block * len(before) // blocks
            window = list(range(max(0, at - 1), min(len(before), at + 2)))
            used |= set(window)
            waits = sorted({w for i in window for w in wait_of[i]})
            work = Work([before[i] for i in window], [own[block]], [last] * len(window) + [buffer])
            program.add(work, waits, counter if barrier else counter + block)
        program.counters += 1 if barrier else blocks
        waited = len(used) == len(before) or len(set(map(tuple, wait_of))) == 1
        free = before if last and waited else []
        before = own
        wait_of = [[(counter, blocks)] if barrier else [(counter + b, 1)] for b in range(blocks)]
        left = blocks
        while left:
            n = draw(st.integers(1, left))
            program.units.append(n)
            left -= n


def _add_chain(draw: st.DrawFn, program: Program) -> None:
    unit, steps = len(program.units), draw(st.integers(1, 6))
    private, out = len(program.spaces), len(program.spaces) + 1
    program.spaces += [unit, SHARED]
    written: list[tuple[int, int]] = []
    for _ in range(steps):
        source = draw(st.sampled_from([(0, 0), (0, INPUT_WORDS - 1), *written]))
        target = (1, draw(st.integers(0, ARENA_WORDS - 1)))
        work = Work([source], [target], [private if source[0] else 0, private])
        program.add(work, [], -1)
        written.append(target)
    program.add(Work([written[-1]], [(0, program.words)], [private, out]), [], -1)
    program.words += 1
    program.units.append(steps + 1)
