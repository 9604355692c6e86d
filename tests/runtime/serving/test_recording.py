"""What a recording says of lanes is what the runtime counts, and only from then on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from torch import nn

import fusec
from fusec import Rejected, Runtime
from fusec.schedule import named

X = np.ones((1, 6), np.float32)


@pytest.fixture(scope="module")
def plan() -> fusec.Plan:
    models = {"one": nn.Linear(6, 2), "two": nn.Linear(6, 2), "other": nn.Linear(6, 3)}
    return fusec.compile(models, examples={"*": X}, threads=1)


@pytest.fixture
def runtime(plan: fusec.Plan) -> Iterator[Runtime]:
    with Runtime(plan, lanes=2, measure_s=0.01) as running:
        yield running


def test_a_recording_has_all_launches_of_its_time(plan: fusec.Plan, runtime: Runtime) -> None:
    runtime.submit("one", X).result(20)
    assert runtime.drain(20)
    before = runtime.stats()
    recording = runtime.record()
    futures = [runtime.submit(name, X) for name in ("one", "two", "other") * 20]
    for future in futures:
        future.result(20)
    assert runtime.drain(20)
    stays, after = recording.take(), runtime.stats()
    assert len(stays) == after.launches - before.launches > 0
    assert sum(stay.calls for stay in stays) == 60
    assert sum(sum(stay.rows.values()) for stay in stays) == 60
    ran = sum((stay.end_ns or 0) - stay.start_ns for stay in stays)
    assert ran == after.busy_ns - before.busy_ns
    keys = {plan.inside()[0].target(name).choices[0].template.key for name in ("one", "other")}
    assert {name for stay in stays for name in stay.rows} == {named(key) for key in keys}
    assert {stay.lane for stay in stays} <= {0, 1}
    assert after.lanes == 2
    assert {stay.model for stay in stays} <= {"one", "two", "other"}
    assert recording.take() == []
    assert recording.running() == []


def test_recordings_do_not_know_of_each_other_and_end(runtime: Runtime) -> None:
    first, second = runtime.record(), runtime.record(limit=2)
    for _ in range(5):
        runtime.submit("one", X).result(20)
    assert runtime.drain(20)
    assert len(first.take()) == 5
    first.close()
    runtime.submit("two", X).result(20)
    assert runtime.drain(20)
    assert first.take() == []
    assert [stay.model for stay in second.take()] == ["one", "two"]
    second.close()


def test_deadlines_that_were_named_are_counted(plan: fusec.Plan) -> None:
    with Runtime(plan, measure_s=0.01) as runtime:
        runtime.submit("one", X).result(20)
        runtime.submit("one", X, deadline_ms=20_000).result(20)
        with pytest.raises(Rejected):
            runtime.submit("one", X, deadline_ms=1e-6).result(20)
        assert runtime.drain(20)
        stats = runtime.stats()
        assert (stats.promised, stats.kept) == (2, 1)
    with pytest.raises(Rejected):
        runtime.submit("one", X, deadline_ms=20_000).result(20)
    stats = runtime.stats()
    assert (stats.promised, stats.kept) == (3, 1)
