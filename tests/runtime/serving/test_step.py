"""Tables of several pieces put together: nobody waits for what is taken later, nothing is lost."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.runtime.serving.shapes import Piece
from fusec.runtime.serving.step import joined
from fusec.runtime.tile.table import TASK, UNIT, WAIT, Table, words_of


@st.composite
def pieces(draw: st.DrawFn) -> list[Piece]:
    """Draw pieces in which each stage waits for all of the stage before it; some are empty."""
    made = []
    for number in range(draw(st.integers(1, 4))):
        stages = draw(st.lists(st.integers(1, 4), max_size=4))
        tasks, waits, units = [], [], []
        for stage, count in enumerate(stages):
            wait = (len(waits), 1) if stage else (0, 0)
            if stage:
                waits.append((stage - 1, stages[stage - 1]))
            for _ in range(count):
                units.append((len(tasks), 1))
                tasks.append((number, stage, 0, 0, 0, 0, 0, *wait, stage, stage, 0, 0))
        table = Table(
            tasks=words_of(tasks, TASK) if tasks else np.zeros(0, TASK),
            waits=words_of(waits, WAIT) if waits else np.zeros(0, WAIT),
            units=words_of(units, UNIT) if units else np.zeros(0, UNIT),
            counters=len(stages),
        )
        made.append(Piece(table, draw(st.integers(0, 9)), 0, []))
    return made


@given(drawn=pieces())
@settings(deadline=None)
def test_waits_are_fulfilled_by_what_was_taken_before(drawn: list[Piece]) -> None:
    table = joined(drawn)
    assert len(table.units) == sum(len(p.table.units) for p in drawn)
    counts = np.zeros(table.counters, dtype=int)
    seen: dict[int, list[int]] = {}
    for first, n in table.units.tolist():
        for task in table.tasks[first : first + n]:
            for w in range(int(task["wait"]), int(task["wait"] + task["waits"])):
                wait = table.waits[w]
                assert counts[wait["counter"]] >= wait["threshold"]
            counts[task["signal"]] += 1
            seen.setdefault(int(task["kernel"]), []).append(int(task["desc"]))
    for number, piece in enumerate(drawn):
        assert seen.get(number, []) == piece.table.tasks["desc"].tolist()
    assert counts.tolist() == table.signals().tolist()


def test_who_has_more_left_goes_first() -> None:
    def piece(number: int, units: int, cost: int) -> Piece:
        tasks = [(number, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0) for _ in range(units)]
        table = Table(
            tasks=words_of(tasks, TASK),
            waits=np.zeros(0, WAIT),
            units=words_of([(i, 1) for i in range(units)], UNIT),
            counters=0,
        )
        return Piece(table, cost, 0, [])

    table = joined([piece(0, 2, 50), piece(1, 4, 100)])
    order = table.tasks["kernel"][table.units["task"]].tolist()
    assert order == [1, 1, 0, 1, 0, 1]
