"""Traces: they parse, every task has an event, and a worker does one thing at a time."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from fusec_testing.tile_native import NativeProgram
from fusec_testing.tile_programs import Program, Work

from fusec.runtime.pool import pool
from fusec.runtime.tile.engine import EVENT
from fusec.runtime.trace import chrome_trace, write_trace


def _traced(workers: int) -> np.ndarray:
    program = Program(spaces=[-1] * 31, words=34)
    for i in range(30):
        program.add(Work([(0, 0)], [(0, 4 + i)], [0, 1 + i]), [], -1)
    program.units = [3] * 10
    native = NativeProgram(program, workers, pauses=[200])
    native.job.start_trace(100)
    pool().run(native.job, workers)
    return native.job.stop_trace()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_written_trace_has_one_track_per_worker(workers: int, tmp_path: Path) -> None:
    names = [f"stage {i}" for i in range(30)]
    write_trace(tmp_path / "run.json", _traced(workers), names)
    rows = json.loads((tmp_path / "run.json").read_text())["traceEvents"]
    tasks = [r for r in rows if r["ph"] == "X"]
    tracks = {r["tid"]: r["args"]["name"] for r in rows if r["ph"] == "M"}
    assert sorted(r["name"] for r in tasks) == sorted(names)
    assert all(r["name"] == names[r["args"]["stage"]] for r in tasks)
    assert tracks == {r["tid"]: f"worker {r['tid']}" for r in tasks}
    assert min(r["ts"] for r in tasks) == 0
    for worker in tracks:
        own = sorted((r["ts"], r["ts"] + r["dur"]) for r in tasks if r["tid"] == worker)
        # Microseconds in floating point: what is equal in nanoseconds may differ in the last bit.
        assert all(a[1] <= b[0] + 1e-6 for a, b in itertools.pairwise(own))


def test_an_empty_trace() -> None:
    assert chrome_trace(np.empty(0, dtype=EVENT), [])["traceEvents"] == []


def test_times_are_microseconds_since_the_first_event() -> None:
    events = np.array([(1, 0, 5, 2_000, 3_500), (0, 1, 6, 1_000, 1_001)], dtype=EVENT)
    rows = chrome_trace(events, ["a", "b"])["traceEvents"]
    assert [(r["name"], r["tid"], r["ts"], r["dur"]) for r in rows if r["ph"] == "X"] == [
        ("a", 1, 1.0, 1.5),
        ("b", 0, 0.0, 0.001),
    ]
    assert rows[-1]["args"] == {"stage": 1, "instance": 6}
