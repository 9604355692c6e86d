"""Programs that the planner builds are proved right; planted faults are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fusec_testing.tiles import Step, chain
from hypothesis import given
from hypothesis import strategies as st

from fusec.ir.errors import VerifyError
from fusec.runtime.tile.bind import Binding
from fusec.runtime.tile.build import Program, build
from fusec.runtime.tile.layout import Part, arrange
from fusec.runtime.tile.table import Table
from fusec.runtime.tile.tables import Tables
from fusec.runtime.tile.uses import uses_of
from fusec.runtime.tile.validate import faults, validate

STEPS = st.builds(
    Step,
    rows=st.integers(0, 9),
    columns=st.integers(1, 7),
    grain=st.sampled_from([1, 2, 4]),
    flat=st.booleans(),
    weight=st.sampled_from([None, 0]),
    flops=st.sampled_from([100, 1_000_000, 20_000_000]),
)


@st.composite
def _parts(draw: st.DrawFn) -> list[Part]:
    binding = Binding(chain(draw(st.lists(STEPS, min_size=1, max_size=5)), [1000]), {})
    return [
        Part(binding, np.array([draw(st.sampled_from([64, 128]))], dtype=np.int64),
             draw(st.integers(1, 4)))
        for _ in range(draw(st.integers(1, 4)))
    ]  # fmt: skip


@given(_parts(), st.sampled_from([1, 2, 3]))
def test_built_programs_are_right(parts: list[Part], workers: int) -> None:
    program = build(arrange(parts).classes, workers, lambda name: 1)
    validate(program.table, uses_of(program, Tables(program)))


def _shared() -> tuple[Program, list[Part]]:
    """Give a program of one large model, cut up for two workers."""
    step = Step(rows=8, columns=16, flops=20_000_000)
    parts = [Part(Binding(chain([step] * 4), {}), np.zeros(0, dtype=np.int64), 1)]
    program = build(arrange(parts).classes, 2, lambda name: 1)
    assert program.cohorts
    return program, parts


def _faults(program: Program, parts: list[Part], table: Table) -> str:
    return "\n".join(faults(table, uses_of(program, Tables(program))))


def test_a_dropped_wait_is_found() -> None:
    program, parts = _shared()
    tasks = program.table.tasks.copy()
    waiting = np.flatnonzero(tasks["waits"])
    assert len(waiting) > 3
    for task in waiting:
        tasks = program.table.tasks.copy()
        tasks[task]["waits"] = 0
        text = _faults(program, parts, replace(program.table, tasks=tasks))
        assert f"task {task} reads" in text
        assert "nothing makes it wait for" in text


@pytest.mark.parametrize("workers", [1, 2])
def test_arenas_that_overlap_are_found(workers: int) -> None:
    _, parts = _shared()
    binding = parts[0].binding
    assert len(set(binding.arena_offsets.tolist())) > 1
    binding.arena_offsets = np.zeros_like(binding.arena_offsets)
    program = build(arrange(parts).classes, workers, lambda name: 1)
    with pytest.raises(VerifyError, match=r"are buffer \d+'s by then: lifetimes overlap|still use"):
        validate(program.table, uses_of(program, Tables(program)))
