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
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fusec.ir.errors import VerifyError
from fusec.ir.split import Split
from fusec.runtime.tile.build import Program
from fusec.runtime.tile.table import UNIT, Table, words_of

__all__ = ["cut_program", "cut_table", "parts_of"]


def cut_program(program: Program, splits: Sequence[Split]) -> tuple[Program, tuple[Table, ...]]:
    """Cut a program's stages into blocks.

    Where a block stops inside a stage, a part of that stage is a share of its tasks.

    Args:
        program: all stages, as built.
        splits: of each of its classes; where one has fewer blocks than another, it is done earlier.

    Returns:
        The program with an arena for every group, and the table of each block.

    Raises:
        VerifyError: a split is not of the class's stages, or a task waits for a later block.
    """
    tasks = program.table.tasks
    share, of = _places(program.table)
    blocks = np.zeros(len(tasks), dtype=np.int64)
    starts = program.stage_starts
    for split, (first, end) in zip(splits, pairwise(starts), strict=True):
        stops = np.array(split.stops(end - first), dtype=np.int64)
        parts = np.array(split.parts or (1,) * (end - first), dtype=np.int64)
        own = np.flatnonzero((tasks["stage"] >= first) & (tasks["stage"] < end))
        stage = tasks["stage"][own] - first
        place = (np.cumsum(parts) - parts)[stage] + share[own] * parts[stage] // of[own]
        blocks[own] = np.searchsorted(stops, place, side="right")
    number = max((len(split.blocks) for split in splits), default=0)
    return _placed(program), cut_table(program.table, blocks, number)


def parts_of(program: Program) -> tuple[tuple[int, ...], ...]:
    """Give into how many parts each stage of each class can be cut.

    In a chain a part is a task at least, in a cohort a task for each worker.
    """
    tasks = program.table.tasks
    _, of = _places(program.table)
    usable = np.where(tasks["signal"] >= 0, of // program.workers, of)
    parts = np.ones(program.stage_starts[-1], dtype=np.int64)
    np.maximum.at(parts, tasks["stage"], usable)
    return tuple(tuple(parts[a:b].tolist()) for a, b in pairwise(program.stage_starts))


def cut_table(table: Table, blocks: NDArray[np.int64], number: int) -> tuple[Table, ...]:
    """Cut a table.

    Args:
        table: all tasks.
        blocks: of each task, the block that it is in; none before that of a task ahead in its unit.
        number: of blocks.

    Raises:
        VerifyError: a task waits for one in a later block, or does not wait for all.
    """
    order, unit_of = _in_units(table)
    block_of = blocks[order]
    signalling = table.tasks["signal"] >= 0
    signals = np.zeros((number, table.counters), dtype=np.int64)
    np.add.at(signals, (blocks[signalling], table.tasks["signal"][signalling]), 1)
    if (table.waits["threshold"] != signals.sum(axis=0)[table.waits["counter"]]).any():
        raise VerifyError("a task waits for some signals of a counter only")
    return tuple(
        _block(table, b, order[block_of == b], unit_of[block_of == b], signals)
        for b in range(number)
    )


def _in_units(table: Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the tasks as the units have them, and the unit of each."""
    counts = table.units["tasks"]
    ends = np.cumsum(counts)
    shift = np.repeat(table.units["task"] - (ends - counts), counts)
    return shift + np.arange(len(shift)), np.repeat(np.arange(len(counts)), counts)


def _places(table: Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the place of each task among those of the same stage and group, and their number.

    In a chain these are tasks of one unit, in a cohort those that signal one counter.
    """
    order, unit_of = _in_units(table)
    tasks = table.tasks[order]
    in_cohort = tasks["signal"] >= 0
    group = np.where(in_cohort, tasks["signal"], table.counters + unit_of)
    keys = np.stack([group, tasks["stage"]], axis=1)
    _, number, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    number = number.reshape(-1)
    by_group = np.argsort(number, kind="stable")
    share, of = np.empty_like(order), np.empty_like(order)
    places = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    share[order[by_group]] = places
    of[order] = counts[number]
    return share, of


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


def _block(
    table: Table,
    block: int,
    picked: NDArray[np.int64],
    unit_of: NDArray[np.int64],
    signals: NDArray[np.int64],
) -> Table:
    tasks = table.tasks[picked]
    begins, ends = tasks["wait"], tasks["wait"] + tasks["waits"]
    later = _sums(signals[block + 1 :, table.waits["counter"]].sum(axis=0) > 0)
    if (later[ends] > later[begins]).any():
        raise VerifyError(f"a task of block {block} waits for a later one")
    within = signals[block, table.waits["counter"]]  # those of earlier blocks are there by then
    kept = _sums(within > 0)
    tasks["wait"], tasks["waits"] = kept[begins], kept[ends] - kept[begins]
    waits = table.waits[within > 0]
    waits["threshold"] = within[within > 0]
    _, counts = np.unique(unit_of, return_counts=True)
    units = np.stack([np.cumsum(counts) - counts, counts], axis=1)
    return Table(
        tasks=tasks,
        waits=waits,
        units=words_of(units, UNIT),
        counters=table.counters,
    )


def _sums(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count how many are chosen before each place, and in all."""
    return np.concatenate([[0], np.cumsum(chosen)])
