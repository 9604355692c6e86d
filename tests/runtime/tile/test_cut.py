"""Tables cut into blocks: which tasks each has, in which units, and what they still wait for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from fusec_testing.tiles import Step, chain

from fusec.ir.errors import VerifyError
from fusec.runtime.tile.bind import Binding
from fusec.runtime.tile.build import Program, build
from fusec.runtime.tile.cut import cut_program, cut_table
from fusec.runtime.tile.layout import Part

NONE = np.zeros(0, dtype=np.int64)


def _built(workers: int) -> Program:
    """Give five small instances of three stages and a large one of four."""
    small = Binding(chain([Step(rows=4)] * 3), {})
    large = Binding(chain([Step(rows=8, columns=16, flops=20_000_000)] * 4), {})
    program = build([Part(small, NONE, 5), Part(large, NONE, 1)], workers, lambda name: 1)
    assert bool(program.cohorts) == (workers > 1)
    return program


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_block_has_the_tasks_of_its_stages(workers: int) -> None:
    whole = _built(workers)
    _, tables = cut_program(whole, [(2, 3), (1, 2, 4)])
    stages = [sorted(set(t.tasks["stage"].tolist())) for t in tables]
    assert stages == [[0, 1, 3], [2, 4], [5, 6]]
    columns = [n for n in whole.table.tasks.dtype.names or () if n not in ("wait", "waits")]
    for stage in range(7):
        (own,) = [t.tasks[t.tasks["stage"] == stage] for t in tables if stage in t.tasks["stage"]]
        kept = whole.table.tasks[whole.table.tasks["stage"] == stage]
        assert [own[c].tolist() for c in columns] == [kept[c].tolist() for c in columns]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_units_keep_their_order_and_waits_reach_into_no_other_block(workers: int) -> None:
    _, tables = cut_program(_built(workers), [(3,), (2, 4)])
    waiting = [set(t.tasks["stage"][t.tasks["waits"] > 0].tolist()) for t in tables]
    assert waiting == ([set(), set()] if workers == 1 else [{4}, {6}])
    for table in tables:
        ends = table.units["task"] + table.units["tasks"]
        assert table.units["task"].tolist() == [0, *ends[:-1].tolist()]
        assert ends[-1] == len(table.tasks)
        signals = table.signals()
        for task in table.tasks[table.tasks["waits"] > 0]:
            wait = table.waits[task["wait"]]
            assert wait["threshold"] == signals[wait["counter"]] > 0


def test_every_group_has_memory_of_its_own() -> None:
    program, _ = cut_program(_built(2), [(3,), (4,)])
    assert not program.chains
    assert program.worker_bytes == 0
    spans = sorted(
        (at, at + g.cls.binding.arena_bytes * (g.stop - g.start)) for g, at in program.cohorts
    )
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert spans[-1][1] == program.shared_bytes
    assert sum(g.stop - g.start for g, _ in program.cohorts) == 6


@pytest.mark.parametrize("stops", [(), (2,), (2, 4), (2, 2, 3), (0, 3), (2, 1, 3)])
def test_blocks_that_do_not_fit_are_refused(stops: tuple[int, ...]) -> None:
    with pytest.raises(VerifyError, match="of 3"):
        cut_program(_built(1), [stops, (4,)])


def test_waiting_for_a_later_block_is_refused() -> None:
    table = _built(2).table
    with pytest.raises(VerifyError, match="block 0 waits for a later one"):
        cut_table(table, np.array([0, 0, 0, 1, 0, 0, 0]))


def test_a_counter_of_two_blocks_is_refused() -> None:
    table = _built(2).table
    signals = table.tasks["signal"]
    tasks = table.tasks.copy()
    tasks["signal"] = np.where(signals >= 0, 0, signals)
    with pytest.raises(VerifyError, match="counter 0 is signalled in several blocks"):
        cut_table(replace(table, tasks=tasks), np.array([0, 0, 0, 0, 1, 1, 1]))


def test_nothing_to_cut() -> None:
    program = build([], 1, lambda name: 1)
    assert cut_program(program, [])[1] == ()
