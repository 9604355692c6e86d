"""The native engine: what workers compute is what the reference machine computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fusec_testing.tile_native import NativeProgram
from fusec_testing.tile_programs import ARENA_WORDS, Program, Work, programs
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.errors import VerifyError
from fusec.runtime.pool import pool, raise_retreat
from fusec.runtime.tile.engine import Job, Status, aligned_words
from fusec.runtime.tile.interpret import interpret
from fusec.runtime.tile.table import TASK, UNIT, WAIT, Table, words_of
from fusec.runtime.tile.validate import faults

PAUSES = st.lists(st.sampled_from([0, 0, 10, 100, 4000]), min_size=1, max_size=7)
"""4000 are long enough for who waits to fall asleep."""


def _expected(program: Program) -> list[int]:
    shared, arena = program.memory(), np.zeros(ARENA_WORDS, dtype=np.uint64)
    interpret(program.table(), lambda task, worker: program.run_task(task, shared, arena))
    words: list[int] = shared.tolist()
    return words


@given(programs(), st.integers(1, 4), PAUSES)
@settings(deadline=None)
def test_workers_compute_what_the_reference_machine_does(
    program: Program, workers: int, pauses: list[int]
) -> None:
    native, clean = NativeProgram(program, workers, pauses), program.memory()
    for iteration in range(1, 4):  # counters go on counting
        native.memory[:] = clean
        assert pool().run(native.job, workers) is Status.DONE
        assert native.memory.tolist() == _expected(program)
        assert native.job.iteration == iteration
        assert not native.job.unfinished


@given(programs(), st.integers(1, 4), PAUSES, st.data())
@settings(deadline=None)
def test_a_run_goes_on_where_it_retreated(
    program: Program, tables: int, pauses: list[int], data: st.DataObject
) -> None:
    """Tasks raise the flag; each time the run goes on with another number of workers."""
    raising = data.draw(st.sets(st.integers(0, len(program.works) - 1)))
    native = NativeProgram(program, tables, pauses, raising)
    for _ in range(2):
        native.memory[:] = program.memory()
        for _ in range(len(program.works) + 1):
            if pool().run(native.job, data.draw(st.integers(1, 4))) is Status.DONE:
                break
            assert native.job.unfinished
            native.lower()
        native.lower()  # the last task may have raised it
        assert native.memory.tolist() == _expected(program)


@given(programs(), st.integers(1, 4), st.data())
@settings(deadline=None)
def test_a_reset_job_starts_anew(program: Program, workers: int, data: st.DataObject) -> None:
    raising = data.draw(st.integers(0, len(program.works) - 1))
    native = NativeProgram(program, workers, raising={raising})
    pool().run(native.job, workers)
    native.job.reset()
    native.job.table.tasks["hi"] = 0
    native.lower()
    native.memory[:] = program.memory()
    assert pool().run(native.job, workers) is Status.DONE
    assert native.memory.tolist() == _expected(program)


def _chain(steps: int) -> Program:
    program = Program(spaces=[-1, -1], words=5)
    for _ in range(steps):
        program.add(Work([(0, 4)], [(0, 4)], [1, 1]), [], -1)
    program.units = [steps]
    return program


def _chains(units: int, steps: int) -> Program:
    """Units whose steps pass one word on in the arena of whoever runs them."""
    program = Program(spaces=[-1], words=4 + units)
    for unit in range(units):
        program.spaces += [unit, -1]
        private, out = 2 * unit + 1, 2 * unit + 2
        program.add(Work([(0, unit % 4)], [(1, 0)], [0, private]), [], -1)
        for _ in range(steps - 2):
            program.add(Work([(1, 0)], [(1, 0)], [private, private]), [], -1)
        program.add(Work([(1, 0)], [(0, 4 + unit)], [private, out]), [], -1)
        program.units.append(steps)
    return program


@pytest.mark.parametrize("unit", range(4))
def test_nobody_else_uses_the_arena_of_a_unit_that_waits_to_go_on(unit: int) -> None:
    """A unit retreats at each step; its worker has others to run, and must leave the arena."""
    program = _chains(8, 6)
    assert faults(program.table(), program.uses()) == ()
    native = NativeProgram(program, 2, [1000], raising=range(6 * unit, 6 * unit + 6))
    for _ in range(10):
        native.memory[:] = program.memory()
        while pool().run(native.job, 2) is Status.RETREATED:
            native.lower()
        native.lower()
        assert native.memory.tolist() == _expected(program)


def test_a_flag_that_is_up_lets_nothing_start() -> None:
    native = NativeProgram(_chain(3), 1)
    before = native.memory.tolist()
    raise_retreat(native.job.retreat_address)
    assert pool().run(native.job, 1) is Status.RETREATED
    assert native.memory.tolist() == before
    native.lower()
    assert pool().run(native.job, 1) is Status.DONE
    assert native.memory.tolist() == _expected(_chain(3))


def test_a_run_stops_behind_the_task_that_raises_the_flag() -> None:
    native = NativeProgram(_chain(5), 2, raising={2})
    assert pool().run(native.job, 2) is Status.RETREATED
    assert native.memory.tolist() == _expected(_chain(3))
    native.lower()
    assert pool().run(native.job, 1) is Status.DONE
    assert native.memory.tolist() == _expected(_chain(5))


def test_the_last_task_is_done_even_if_it_raises_the_flag() -> None:
    native = NativeProgram(_chain(3), 1, raising={2})
    assert pool().run(native.job, 1) is Status.DONE


def test_a_flag_elsewhere() -> None:
    flag = aligned_words(1)
    native = NativeProgram(_chain(3), 1)
    job = Job(native.job.table, tables=0, tables_stride=0, services=0, workers=1,
              retreat=flag.ctypes.data)  # fmt: skip
    raise_retreat(job.retreat_address)
    assert flag.tolist() == [1]
    assert pool().run(job, 1) is Status.RETREATED


def test_a_program_without_units() -> None:
    table = Table(
        tasks=words_of([], TASK), waits=words_of([], WAIT), units=words_of([], UNIT), counters=0
    )
    job = Job(table, tables=0, tables_stride=0, services=0, workers=3)
    assert [pool().run(job, 3) for _ in range(2)] == [Status.DONE] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trace_has_every_task(workers: int) -> None:
    program = Program(spaces=[-1] * 21, words=24)
    for i in range(20):
        program.add(Work([(0, 0)], [(0, 4 + i)], [0, 1 + i]), [], -1)
    program.units = [2] * 10
    native = NativeProgram(program, workers, pauses=[100])
    native.job.table.tasks["instance"] = 7
    assert len(native.job.stop_trace()) == 0
    native.job.start_trace(100)
    for _ in range(3):
        pool().run(native.job, workers)
    events = native.job.stop_trace()
    pool().run(native.job, workers)
    assert sorted(events["stage"]) == sorted(list(range(20)) * 3)
    assert set(events["instance"]) == {7}
    for worker in range(workers):
        own = events[events["worker"] == worker]
        assert (own["end_ns"] >= own["start_ns"]).all()
        assert (own["start_ns"][1:] >= own["end_ns"][:-1]).all()


def test_a_full_trace_keeps_the_first_events() -> None:
    native = NativeProgram(_chain(5), 1)
    native.job.start_trace(3)
    pool().run(native.job, 1)
    assert native.job.stop_trace()["stage"].tolist() == [0, 1, 2]


def test_what_is_not_laid_out_for_native_code_is_refused() -> None:
    native = NativeProgram(_chain(1), 1)
    table = native.job.table
    narrow = np.zeros(1, dtype=[("task", np.int32), ("tasks", np.int32)])
    for wrong in (
        replace(table, units=narrow),
        replace(table, tasks=np.zeros(4, dtype=TASK)[::2]),
        replace(table, waits=np.zeros((1, 1), dtype=WAIT)),
    ):
        with pytest.raises(VerifyError, match="of a tile table are not contiguous records"):
            Job(wrong, tables=0, tables_stride=0, services=0, workers=1)
    with pytest.raises(VerifyError, match="a job for 0 workers; 1 to 256 are possible"):
        Job(table, tables=0, tables_stride=0, services=0, workers=0)
