"""Cut a tile program into blocks: the same tasks in the same order, a table per block.

    stages           0   1   2 | 3   4        blocks 0 .. 2 and 3 .. 4
    tasks, whole     a0  a1  a2  a3  a4   b0  b1  b2  b3  b4     units a and b
    block 0          a0  a1  a2   b0  b1  b2
    block 1          a3  a4   b3  b4          begins when all of block 0 is done

What a task waits for in an earlier block is done by then. Between blocks nobody holds a worker's
arena, so every group has an arena of its own.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusec.ir.errors import VerifyError
from fusec.runtime.tile.build import Program
from fusec.runtime.tile.table import UNIT, Table, words_of

__all__ = ["cut_program", "cut_table"]


def cut_program(
    program: Program, stops: Sequence[Sequence[int]]
) -> tuple[Program, tuple[Table, ...]]:
    """Cut a program's stages into blocks.

    Args:
        program: all stages, as built.
        stops: of each of its classes, the stages at which blocks stop, up to the last; where a
            class has fewer blocks than another, it is done earlier.

    Returns:
        The program with an arena for every group, and the table of each block.

    Raises:
        VerifyError: blocks do not cover a class's stages, or a task waits for a later block.
    """
    blocks = np.zeros(program.stage_starts[-1], dtype=np.int64)
    starts = program.stage_starts
    for own, first, end in zip(stops, starts[:-1], starts[1:], strict=True):
        edges = np.array([0, *own])
        if edges[-1] != end - first or (np.diff(edges) <= 0).any():
            raise VerifyError(f"blocks that stop at stages {list(own)} of {end - first}")
        blocks[first:end] = np.searchsorted(edges[1:], np.arange(end - first), side="right")
    return _placed(program), cut_table(program.table, blocks)


def cut_table(table: Table, blocks: NDArray[np.int64]) -> tuple[Table, ...]:
    """Cut a table by the stages of its tasks.

    Args:
        table: all tasks.
        blocks: of each stage, the block that it is in.

    Raises:
        VerifyError: a task waits for one in a later block, or for several blocks at once.
    """
    counts = table.units["tasks"]
    ends = np.cumsum(counts)
    shift = np.repeat(table.units["task"] - (ends - counts), counts)
    order = shift + np.arange(len(shift))  # tasks as the units have them
    unit_of = np.repeat(np.arange(len(counts)), counts)
    block_of = blocks[table.tasks["stage"][order]]
    produced = _signalled_in(table, blocks)
    number = int(blocks.max(initial=-1)) + 1
    return tuple(
        _block(table, b, order[block_of == b], unit_of[block_of == b], produced)
        for b in range(number)
    )


def _placed(program: Program) -> Program:
    """Give every group its arena in the memory that all workers share."""
    groups = [*(g for g, _ in program.cohorts), *program.chains]
    sizes = [g.cls.binding.arena_bytes * (g.stop - g.start) for g in groups]
    offsets = np.cumsum([0, *sizes]).tolist()
    return replace(
        program,
        chains=(),
        cohorts=tuple(zip(groups, offsets[:-1], strict=True)),
        worker_bytes=0,
        shared_bytes=offsets[-1],
    )


def _signalled_in(table: Table, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the block in which each counter is signalled; -1 where nobody does."""
    signals = table.tasks["signal"]
    by = blocks[table.tasks["stage"]]
    signalling = signals >= 0
    first = np.full(table.counters, np.iinfo(np.int64).max)
    last = np.full(table.counters, -1)
    np.minimum.at(first, signals[signalling], by[signalling])
    np.maximum.at(last, signals[signalling], by[signalling])
    if (first < last).any():
        raise VerifyError(f"counter {int(np.argmax(first < last))} is signalled in several blocks")
    return last


def _block(
    table: Table,
    block: int,
    picked: NDArray[np.int64],
    unit_of: NDArray[np.int64],
    produced: NDArray[np.int64],
) -> Table:
    tasks = table.tasks[picked]
    begins, ends = tasks["wait"], tasks["wait"] + tasks["waits"]
    within = produced[table.waits["counter"]]
    later = np.concatenate([[0], np.cumsum(within > block)])
    if (later[ends] > later[begins]).any():
        raise VerifyError(f"a task of block {block} waits for a later one")
    kept = np.concatenate([[0], np.cumsum(within == block)])
    tasks["wait"], tasks["waits"] = kept[begins], kept[ends] - kept[begins]
    _, counts = np.unique(unit_of, return_counts=True)
    units = np.stack([np.cumsum(counts) - counts, counts], axis=1)
    return Table(
        tasks=tasks,
        waits=table.waits[within == block],
        units=words_of(units, UNIT),
        counters=table.counters,
    )
