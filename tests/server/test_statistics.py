"""Counters against numbers worked out by hand: what is a queue, a computation, an execution."""

import asyncio
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from fusec_testing.serving import DOUBLES, FakeStore
from hypothesis import given
from hypothesis import strategies as st

from fusec.runtime.serving.answer import Start
from fusec.server.datatypes import DATATYPES
from fusec.server.limits import Limits
from fusec.server.messages import InferRequest, Tensor
from fusec.server.metrics import render
from fusec.server.models import Model, Table, Version
from fusec.server.service import Service
from fusec.server.settings import Settings
from fusec.server.statistics import Phase, Statistics, Times


class Clock:
    """Reads what it was set to; each reading takes a nanosecond."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        self.ns += 1
        return self.ns


class Launching(FakeStore):
    """Answers when told, with the launch that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Future[dict[str, Any]], int]] = []

    def submit(self, key: str, inputs: tuple[Tensor, ...], **_: Any) -> "Future[dict[str, Any]]":
        future: Future[dict[str, Any]] = Future()
        self.asked.append((future, len(inputs[0].array)))
        return future

    def answer_all(self, start: Start | None) -> None:
        asked, self.asked = self.asked, []
        for future, rows in asked:
            future.start = start  # type: ignore[attr-defined]
            x = np.zeros((rows, 4), dtype=np.float32)
            future.set_result(self.answer({"x": x}))


def table_of(*names: str) -> Table:
    table = Table()
    for name in names:
        version = Version(1, name, DOUBLES, None)
        table.models[name] = Model(
            name=name,
            config={},
            settings=Settings(),
            versions={1: version},
            failed={},
            print=None,
        )
    return table


def asks(rows: int) -> InferRequest:
    x = Tensor("x", DATATYPES["FP32"], np.zeros((rows, 4), dtype=np.float32))
    return InferRequest(id="", parameters={}, inputs=(x,), outputs=(), binary=False)


def serve(clock: Clock, launches: list[tuple[int, int | None, list[tuple[str, int]]]]) -> Table:
    """Serve requests by launch: how long they wait, how long it takes (None: never ran), who."""
    table, store = table_of("a", "b"), Launching()
    service = Service(table, store, Limits(), clock)

    async def main() -> None:
        for waits, takes, who in launches:
            tasks = [asyncio.ensure_future(service.infer(n, None, asks(rows))) for n, rows in who]
            while len(store.asked) < len(who):
                await asyncio.sleep(0)
            start = None if takes is None else Start(clock.ns + waits)
            clock.ns += waits + (takes or 0)
            store.answer_all(start)
            await asyncio.gather(*tasks)

    asyncio.run(main())
    return table


def figures(table: Table, name: str) -> dict[str, Any]:
    return dict(table.models[name].newest.statistics.to_json())


def test_waiting_is_queue_and_running_is_computation() -> None:
    table = serve(Clock(), [(5_000_000, 2_000_000, [("a", 3)])])
    stats = figures(table, "a")
    spent = stats["inference_stats"]
    assert 5_000_000 <= spent["queue"]["ns"] <= 5_000_010
    assert 2_000_000 <= spent["compute_infer"]["ns"] <= 2_000_010
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert spent["success"]["ns"] == sum(spent[p]["ns"] for p in parts)
    assert {spent[p]["count"] for p in (*parts, "success")} == {1}
    assert (stats["inference_count"], stats["execution_count"]) == (3, 1)
    lines = render(table, {}).splitlines()
    assert 'nv_inference_queue_duration_us{model="a",version="1"} 5000' in lines
    assert 'nv_inference_compute_infer_duration_us{model="a",version="1"} 2000' in lines


def test_executions_are_launches_of_a_model_and_not_requests() -> None:
    together = [("a", 2), ("b", 1), ("a", 4), ("a", 1)]
    table = serve(Clock(), [(10, 1000, together), (10, 500, [("a", 3)])])
    a, b = figures(table, "a"), figures(table, "b")
    assert (a["inference_count"], a["execution_count"]) == (10, 2)
    assert (b["inference_count"], b["execution_count"]) == (1, 1)
    assert a["inference_stats"]["success"]["count"] == 4
    sizes = {row["batch_size"]: row["compute_infer"]["count"] for row in a["batch_stats"]}
    assert sizes == {7: 1, 3: 1}
    (large,) = [row for row in a["batch_stats"] if row["batch_size"] == 7]
    # Of the execution once, not of each request in it.
    assert 1000 <= large["compute_infer"]["ns"] < 1500
    assert a["inference_stats"]["compute_infer"]["ns"] >= 3 * 1000 + 500
    lines = render(table, {}).splitlines()
    assert 'nv_inference_exec_count{model="a",version="1"} 2' in lines
    assert 'nv_inference_count{model="a",version="1"} 10' in lines


def test_what_has_no_launch_waited_for_nothing_and_ran_alone() -> None:
    table = serve(Clock(), [(700, None, [("a", 2), ("a", 2)])])
    stats = figures(table, "a")
    assert stats["inference_stats"]["queue"]["ns"] == 0
    assert (stats["inference_count"], stats["execution_count"]) == (4, 2)


@pytest.mark.parametrize("at_ns", [-5, 1 << 60])
def test_a_launch_outside_of_the_request_makes_no_negative_time(at_ns: int) -> None:
    table, store, clock = table_of("a"), Launching(), Clock()
    service = Service(table, store, Limits(), clock)

    async def main() -> None:
        task = asyncio.ensure_future(service.infer("a", None, asks(1)))
        while not store.asked:
            await asyncio.sleep(0)
        clock.ns += 100
        store.answer_all(Start(at_ns))
        await task

    asyncio.run(main())
    spent = figures(table, "a")["inference_stats"]
    assert min(phase["ns"] for phase in spent.values()) >= 0
    assert spent["queue"]["ns"] <= spent["success"]["ns"] < 150


@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_answers_of_launches_in_any_order(launches: list[list[int]], draw: Any) -> None:
    stats = Statistics()
    answers = [(i, rows) for i, launch in enumerate(launches) for rows in launch]
    draw.shuffle(answers)
    marks = [Start(i) for i in range(len(launches))]
    for i, rows in answers:
        stats.answered(rows, Times(1, 2, 3, 4), 0, marks[i])
    assert stats.executions == len(launches)
    assert stats.inferences == sum(map(sum, launches))
    sizes = sorted(n for n, batch in stats.batches.items() for _ in range(batch[0]))
    assert sizes == sorted(map(sum, launches))
    assert sum(batch[2] for batch in stats.batches.values()) == 3 * len(launches)
    assert stats.ns[Phase.QUEUE] == 2 * len(answers)


def test_what_is_kept_of_executions_and_sizes_is_bounded() -> None:
    stats = Statistics()
    for rows in range(1, 5000):
        stats.answered(rows, Times(1, 1, 1, 1), 0, Start(rows))
    assert len(stats.batches) <= 257
    assert sum(batch[0] for batch in stats.batches.values()) == stats.executions == 4999
    assert len(stats._open) <= 16
