"""Tables cut into blocks: which tasks each has, in which units, and what they still wait for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from fusec_testing.tiles import Step, chain

from fusec.ir.errors import VerifyError
from fusec.ir.split import Block, Split
from fusec.runtime.tile.bind import Binding
from fusec.runtime.tile.build import Program, build
from fusec.runtime.tile.cut import cut_program, cut_table, parts_of
from fusec.runtime.tile.layout import Part, arrange

NONE = np.zeros(0, dtype=np.int64)


def _built(workers: int) -> Program:
    """Give five small instances of three stages and a large one of four."""
    small = Binding(chain([Step(rows=4)] * 3), {})
    large = Binding(chain([Step(rows=8, columns=16, flops=20_000_000)] * 4), {})
    program = build(
        arrange([Part(small, NONE, 5), Part(large, NONE, 1)]).classes, workers, lambda name: 1
    )
    assert bool(program.cohorts) == (workers > 1)
    return program


def _split(*stops: int, parts: tuple[int, ...] = (), inside: int = 0) -> Split:
    """Stop at these stages; the first time `inside` parts later."""
    ends = [(0, 0), *((stop, inside if i == 0 else 0) for i, stop in enumerate(stops))]
    blocks = [Block(a[0], b[0], 0, a[1], b[1]) for a, b in itertools.pairwise(ends)]
    return Split(blocks=tuple(blocks), parts=parts)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_block_has_the_tasks_of_its_stages(workers: int) -> None:
    whole = _built(workers)
    _, tables = cut_program(whole, [_split(2, 3), _split(1, 2, 4)])
    stages = [sorted(set(t.tasks["stage"].tolist())) for t in tables]
    assert stages == [[0, 1, 3], [2, 4], [5, 6]]
    columns = [n for n in whole.table.tasks.dtype.names or () if n not in ("wait", "waits")]
    for stage in range(7):
        (own,) = [t.tasks[t.tasks["stage"] == stage] for t in tables if stage in t.tasks["stage"]]
        kept = whole.table.tasks[whole.table.tasks["stage"] == stage]
        assert [own[c].tolist() for c in columns] == [kept[c].tolist() for c in columns]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_units_keep_their_order_and_waits_reach_into_no_other_block(workers: int) -> None:
    _, tables = cut_program(_built(workers), [_split(3), _split(2, 4)])
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
    program, _ = cut_program(_built(2), [_split(3), _split(4)])
    assert not program.chains
    assert program.worker_bytes == 0
    spans = sorted(
        (at, at + g.cls.binding.arena_bytes * (g.stop - g.start)) for g, at in program.cohorts
    )
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert spans[-1][1] == program.shared_bytes
    assert sum(g.stop - g.start for g, _ in program.cohorts) == 6


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_stage_is_cut_at_a_share_of_its_tasks(workers: int) -> None:
    whole = _built(workers)
    split = _split(1, 4, parts=(1, 4, 1, 1), inside=3)
    _, tables = cut_program(whole, [_split(3), split])
    counts = [np.bincount(t.tasks["stage"], minlength=7) for t in tables]
    n = int((whole.table.tasks["stage"] == 4).sum())
    assert n > 1
    assert counts[0].tolist()[3:] == [n, -(-3 * n // 4), 0, 0]
    assert counts[1].tolist()[3:] == [0, n - -(-3 * n // 4), n, n]
    assert counts[1].tolist()[:3] == [0, 0, 0]
    own = [t.tasks[t.tasks["stage"] == 4] for t in tables]
    kept = whole.table.tasks[whole.table.tasks["stage"] == 4]
    for column in ("lo", "hi", "lo2", "hi2", "instance"):
        assert [*own[0][column], *own[1][column]] == kept[column].tolist()
    for table in tables:
        signals = table.signals()
        for wait in table.waits:
            assert wait["threshold"] == signals[wait["counter"]] > 0


def test_parts_are_tasks_for_every_worker() -> None:
    """The small instances are in groups of 5, 3 or 2, one task each."""
    for workers, size in ((1, 5), (2, 3), (3, 2)):
        whole = _built(workers)
        small, large = parts_of(whole)
        counts = np.bincount(whole.table.tasks["stage"])[3:]
        assert small == (size,) * 3
        assert large == tuple((counts // workers).tolist())
        assert min(large) > 1


@pytest.mark.parametrize("stops", [(), (2,), (2, 4)])
def test_splits_of_other_templates_are_refused(stops: tuple[int, ...]) -> None:
    with pytest.raises(VerifyError, match="of 3 stages"):
        cut_program(_built(1), [_split(*stops), _split(4)])


def test_parts_of_other_templates_are_refused() -> None:
    with pytest.raises(VerifyError, match="of 3 stages"):
        cut_program(_built(1), [_split(2, 3, parts=(1, 2)), _split(4)])


def _blocks(*stages: int) -> np.ndarray:
    """Give the block of each task of the program for two workers, from those of the stages."""
    found: np.ndarray = np.array(stages)[_built(2).table.tasks["stage"]]
    return found


def test_waiting_for_a_later_block_is_refused() -> None:
    with pytest.raises(VerifyError, match="block 0 waits for a later one"):
        cut_table(_built(2).table, _blocks(0, 0, 0, 1, 0, 0, 0), 2)


def test_waiting_for_some_signals_only_is_refused() -> None:
    table = _built(2).table
    waits = table.waits.copy()
    waits["threshold"] -= 1
    with pytest.raises(VerifyError, match="some signals of a counter only"):
        cut_table(replace(table, waits=waits), _blocks(0, 0, 0, 0, 1, 1, 1), 2)


def test_nothing_to_cut() -> None:
    program = build((), 1, lambda name: 1)
    assert cut_program(program, [])[1] == ()
