"""The validator: right programs pass, each kind of fault is found, and what passes is right."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from fusec_testing.tile_programs import ARENA_WORDS, INPUT_WORDS, Program, Work, programs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fusec.ir.errors import VerifyError
from fusec.runtime.tile.interpret import interpret
from fusec.runtime.tile.table import TASK, UNIT, WAIT, Table, words_of
from fusec.runtime.tile.validate import ACCESS, SHARED, Uses, faults, validate


def _outcome(program: Program, workers: int, choose: random.Random | None) -> bytes:
    """Run a program; every worker has an arena of its own that begins with rubbish."""
    shared = program.memory()
    arenas = np.arange(workers * ARENA_WORDS, dtype=np.uint64).reshape(workers, -1) * 977
    interpret(
        program.table(),
        lambda task, worker: program.run_task(task, shared, arenas[worker]),
        workers=workers,
        choose=choose,
    )
    return shared.tobytes()


@given(programs(), st.randoms(use_true_random=False), st.integers(1, 8))
@settings(deadline=None)
def test_right_programs_pass_and_answer_alike_in_any_order(
    program: Program, choose: random.Random, workers: int
) -> None:
    assert faults(program.table(), program.uses()) == ()
    assert _outcome(program, workers, choose) == _outcome(program, 1, None)


@given(programs(), st.data())
@settings(deadline=None)
def test_what_passes_answers_alike_even_when_tampered_with(
    program: Program, data: st.DataObject
) -> None:
    """Drop or weaken any wait: either the validator objects, or no order shows a difference."""
    waiting = [i for i, own in enumerate(program.waits) if own]
    assume(waiting)
    task = data.draw(st.sampled_from(waiting))
    number = data.draw(st.integers(0, len(program.waits[task]) - 1))
    counter, threshold = program.waits[task].pop(number)
    if threshold > 1 and data.draw(st.booleans()):
        program.waits[task].append((counter, threshold - 1))
    if faults(program.table(), program.uses()):
        return
    seed = data.draw(st.integers(0, 1000))
    for i in range(10):
        choose = random.Random(seed + i)
        assert _outcome(program, 8, choose) == _outcome(program, 1, None)


def _pair() -> Program:
    """Task 0 and 1 make words 4 and 5; task 2 reads both; task 3 overwrites them (buffer 3)."""
    program = Program(spaces=[SHARED, SHARED, SHARED, SHARED], words=8, counters=2)
    program.add(Work([(0, 0)], [(0, 4)], [0, 1]), [], 0)
    program.add(Work([(0, 1)], [(0, 5)], [0, 1]), [], 0)
    program.add(Work([(0, 4), (0, 5)], [(0, 6)], [1, 1, 2]), [(0, 2)], 1)
    program.add(Work([(0, 6)], [(0, 4), (0, 5)], [2, 3, 3]), [(1, 1)], -1)
    program.units = [1, 1, 1, 1]
    return program


def _found(program: Program) -> str:
    return "\n".join(faults(program.table(), program.uses()))


def test_the_pair_is_right() -> None:
    assert _found(_pair()) == ""


def test_a_missing_wait_is_a_race() -> None:
    program = _pair()
    program.waits[2] = []
    assert "task 2 reads bytes 4 .. 5 of buffer 1, and nothing makes it wait for task 0" in _found(
        program
    )


def test_an_early_release_is_a_lifetime_fault() -> None:
    program = _pair()
    program.waits[3] = [(0, 2)]  # its operand too, but the point is the buffer that it takes over
    assert "task 3 writes bytes 4 .. 5 of buffer 3 while task 2 may still use buffer 1" in _found(
        program
    )


def test_bytes_that_another_buffer_took_over_are_not_read() -> None:
    program = _pair()
    program.add(Work([(0, 4)], [(0, 7)], [1, 2]), [(1, 1)], -1)
    program.units.append(1)
    assert "task 4 reads bytes 4 .. 5 of buffer 1, which are buffer 3's by then" in _found(program)


def test_two_writers_of_one_place_race() -> None:
    program = _pair()
    program.works[1] = replace(program.works[1], writes=[(0, 4)])
    assert "task 1 writes bytes 4 .. 5 of buffer 1, and nothing makes it wait for task 0" in _found(
        program
    )


def test_overwriting_what_is_still_read_races() -> None:
    program = _pair()
    program.works[3] = replace(program.works[3], buffers=[2, 1, 1])
    program.waits[3] = [(0, 2)]
    assert "task 3 writes bytes 4 .. 5 of buffer 1, and nothing makes it wait for task 2" in _found(
        program
    )


def test_what_nobody_writes_is_not_read() -> None:
    program = _pair()
    program.works[2] = replace(program.works[2], reads=[(0, 4), (0, 7)])
    assert "task 2 reads bytes 7 .. 8 of buffer 1, which no task before it has written" in _found(
        program
    )


@pytest.mark.parametrize("threshold", [0, 3, -1])
def test_a_threshold_that_is_never_or_always_reached(threshold: int) -> None:
    program = _pair()
    program.waits[2] = [(0, threshold)]
    assert f"task 2 (unit 2) waits for counter 0 >= {threshold}, which 2 tasks signal" in _found(
        program
    )


def test_several_producers_are_waited_for_in_full() -> None:
    program = _pair()
    program.waits[2] = [(0, 1)]
    assert "2 tasks of 2 units signal: nobody knows which" in _found(program)


def test_a_part_of_one_unit_may_be_waited_for() -> None:
    program = _pair()
    program.units = [2, 1, 1]
    program.works[2] = Work([(0, 4)], [(0, 6)], [1, 2])
    program.waits[2], program.waits[3] = [(0, 1)], [(0, 2), (1, 1)]
    assert _found(program) == ""
    program.waits[3] = [(0, 1), (1, 1)]
    assert "task 3 writes bytes 5 .. 6 of buffer 3 while task 1 may still use" in _found(program)


def test_a_cycle() -> None:
    program = _pair()
    program.waits[0] = [(1, 1)]
    assert "task 0 (unit 0) waits for counter 1, which task 2 (unit 2) signals later" in _found(
        program
    )
    with pytest.raises(VerifyError, match=r"all workers wait, before tasks \[0, "):
        _outcome(program, 4, None)


def test_a_unit_waits_only_for_earlier_ones() -> None:
    """Acyclic, and still one worker alone would wait for ever."""
    program = _pair()
    table = program.table()
    turned = replace(table, units=table.units[[2, 0, 1, 3]].copy())
    assert "(unit 0) waits for counter 0, which task 0 (unit 1) signals later" in "\n".join(
        faults(turned)
    )
    with pytest.raises(VerifyError, match="all workers wait"):
        interpret(turned, lambda task, worker: None)


def test_an_arena_belongs_to_one_unit() -> None:
    program = _pair()
    program.spaces[1] = 0
    assert "task 1 (unit 1) uses buffer 1, which lies in the arena of whoever runs unit 0" in (
        _found(program)
    )


def test_a_stage_may_share_the_writing_of_its_result() -> None:
    program = _pair()
    rows = [
        (0, 0, 0, 1, 0, -1), (0, 1, 4, 6, 1, 7), (1, 0, 1, 2, 0, -1), (1, 1, 4, 6, 1, 7),
        (2, 1, 4, 6, 0, -1),
    ]  # fmt: skip
    uses = Uses(accesses=words_of(rows, ACCESS), spaces=program.spaces, given=[(0, 0, INPUT_WORDS)])
    assert faults(program.table(), uses) == ()
    program.waits[2], program.signals[1] = [(0, 1)], -1
    assert "task 2 reads bytes 4 .. 6 of buffer 1, and nothing makes it wait for task 1" in (
        "\n".join(faults(program.table(), uses))
    )


def _table(units: list[tuple[int, int]], **task: int) -> Table:
    tasks = np.zeros(3, dtype=TASK)
    tasks["signal"] = -1
    for name, value in task.items():
        tasks[0][name] = value
    return Table(
        tasks=tasks, waits=np.zeros(1, dtype=WAIT), units=words_of(units, UNIT), counters=1
    )


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (_table([(0, 2)]), "task 2 is in 0 units"),
        (_table([(0, 2), (1, 2)]), "task 1 is in 2 units"),
        (_table([(0, 4)]), r"unit 0: tasks 0 \.\. 4, there are 3"),
        (_table([(0, 3), (0, 0)]), r"unit 1: tasks 0 \.\. 0"),
        (_table([(0, 3)], wait=1, waits=1), r"task 0: waits 1 \.\. 2, there are 1"),
        (_table([(0, 3)], signal=1), "task 0: signals counter 1, there are 1"),
        (replace(_table([(0, 3)]), waits=words_of([(5, 1)], WAIT)), "wait 0: counter 5"),
    ],
)
def test_records_that_point_nowhere(table: Table, text: str) -> None:
    with pytest.raises(VerifyError, match=text):
        validate(table)


def test_many_faults_are_cut_short() -> None:
    tasks = np.zeros(40, dtype=TASK)
    tasks["signal"] = 3
    table = Table(
        tasks=tasks, waits=words_of([], WAIT), units=words_of([(0, 40)], UNIT), counters=1
    )
    with pytest.raises(VerifyError, match=r"\.\.\. 30 more"):
        validate(table)
