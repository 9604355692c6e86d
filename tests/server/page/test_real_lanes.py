"""With models that run: lanes, groups and figures speak of the same things."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fusec_testing.live_server import Live, live, stream, tell
from torch import nn

import fusec
from fusec.server.page.feed import figures_of
from fusec.server.running import Options
from fusec.server.store import PlanStore

NAMES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    pytest.importorskip("uvicorn")
    models = {name: nn.Linear(6, 4 if name == "owl" else 3) for name in NAMES}
    plan = fusec.compile(models, examples={"*": np.ones((1, 6), np.float32)}, threads=1)
    store = PlanStore(plan, lambda served: fusec.Runtime(served, lanes=2, measure_s=0.01))
    assert store.record() is None
    with live(Options(served=NAMES), store) as up:
        yield up
    store.close()


def test_what_ran_is_what_was_counted(server: Live) -> None:
    tensor = {"name": "input", "shape": [1, 6], "datatype": "FP32", "data": [1.0] * 6}
    with stream(server) as events:
        name, told = events.next()
        assert name == "whole"
        groups = [row[2] for row in told["roster"]["models"]]
        assert groups[0] == groups[1] != groups[2]
        templates = [group["templates"] for group in told["roster"]["groups"]]
        assert templates[0] != templates[1]
        events.until("bars")
        before = server.server.door.service.store.stats()
        for model in (*NAMES, *NAMES):
            body = {"inputs": [tensor], "parameters": {"slo_ms": 20_000.0}}
            assert tell(server, "POST", f"/v2/models/{model}/infer", body)[0] == 200
        bars: list[Any] = []
        ran, rows = set[str](), dict[int, list[int]]()
        while sum(bar[4] for bar in bars) < 6 or len(rows) < 3:
            _, told = events.next()
            bars += told["bars"]["rows"]
            ran.update(told["bars"]["templates"])
            rows |= {i: counts for i, *counts in told.get("rows", ()) if counts[0]}
        assert sum(bar[4] for bar in bars) == 6
        assert ran == {name for own in templates for name in own}
        assert {bar[7] for bar in bars} <= set(NAMES)
        assert [counts[0] for _, counts in sorted(rows.items())] == [2, 2, 2]
        after = server.server.door.service.store.stats()
        assert sum(bar[3] for bar in bars) == after["launches"] - before["launches"]
        assert told["stats"] == figures_of(after)
        assert after["kept"] == after["promised"] == 6
        assert (after["queued"], after["lanes"]) == (0, 2)


def test_a_model_that_is_not_there_has_no_templates(server: Live) -> None:
    store = server.server.door.service.store
    assert list(store.templates("cow")) == []
    assert store.templates("cat") == store.templates("dog") != store.templates("owl")
