"""Metrics as Prometheus reads them: names, kinds, labels and numbers."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fusec_testing.counted import Counted, counted, request
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fusec
from fusec.server.metrics import render
from fusec.server.models import Table

LINE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\S+)')


def read(text: str) -> dict[str, float]:
    """Read metrics as strictly as Prometheus does: each series once, below its family's kind."""
    found: dict[str, float] = {}
    kinds: dict[str, str] = {}
    told: list[str] = []
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            told.append(line.split(" ", 3)[2])
            assert line.split(" ", 3)[3]
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds and told[-1] == name
            kinds[name] = kind
            continue
        match = LINE.fullmatch(line)
        assert match, line
        name, series = match[1], line.rpartition(" ")[0]
        if kinds.get(told[-1]) == "histogram":
            name = re.sub("_(bucket|sum|count)$", "", name)
        assert name == told[-1] and series not in found
        found[series] = float(match[3])
    for name, kind in kinds.items():
        if name.startswith("fusec_"):
            assert name.endswith("_total") == (kind == "counter"), name
            assert not re.search("_(ns|us|ms)(_|$)", name), name
    return found


def test_numbers_are_as_worked_out_by_hand() -> None:
    found = read(render(Table(), counted().stats().to_json()))
    wanted = {
        "fusec_submitted_total": 6,
        "fusec_in_flight": 0,
        "fusec_queued": 0,
        "fusec_running_lanes": 0,
        'fusec_outcomes_total{result="done"}': 3,
        'fusec_outcomes_total{result="cancelled"}': 2,
        'fusec_outcomes_total{result="failed"}': 0,
        "fusec_attainment": 0.5,
        "fusec_promised_total": 3,
        "fusec_kept_total": 1,
        "fusec_batch_fill": 9 / 40,
        "fusec_preemptions_total": 1,
        "fusec_mean_pack": 4 / 3,
        "fusec_busy_seconds_total": 0.017,
        'fusec_tenant_seconds_total{tenant="ann"}': 0.01,
        'fusec_tenant_seconds_total{tenant="bob"}': 0.007,
        'fusec_cache_hits_total{cache="programs"}': 6,
        'fusec_cache_misses_total{cache="programs"}': 2,
        'fusec_slack_at_start_seconds_bucket{le="0.0005"}': 1,
        'fusec_slack_at_start_seconds_bucket{le="0.05"}': 1,
        'fusec_slack_at_start_seconds_bucket{le="0.1"}': 2,
        'fusec_slack_at_start_seconds_bucket{le="0.25"}': 2,
        'fusec_slack_at_start_seconds_bucket{le="0.5"}': 4,
        'fusec_slack_at_start_seconds_bucket{le="+Inf"}': 4,
        "fusec_slack_at_start_seconds_count": 4,
        "fusec_slack_at_start_seconds_sum": 0.6805,
    }
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)


def test_nothing_is_lost_before_anything_ran() -> None:
    assert "fusec_launches_total" not in read(render(Table(), {}))
    found = read(render(Table(), Counted().stats().to_json()))
    assert found["fusec_slack_at_start_seconds_count"] == found["fusec_launches_total"] == 0
    assert found['fusec_outcomes_total{result="rejected"}'] == 0


@given(st.lists(st.text(max_size=200), min_size=1, max_size=8, unique=True))
def test_tenants_may_be_called_anything(names: list[str]) -> None:
    made = Counted()
    for number, name in enumerate(names):
        made.ran(1, request(number, tenant=name), room=1)
    text = render(Table(), made.stats().to_json())
    found = read(text.encode().decode())
    times = [n for name, n in found.items() if name.startswith("fusec_tenant_seconds_total")]
    assert sum(times) == pytest.approx(0.001 * len(names))


def test_labels_are_short_printable_and_each_there_once() -> None:
    made = Counted()
    for number, name in enumerate(['a"b\\c\nd', "x\r\u2028y", "\ud800", "l" * 500, "l" * 400]):
        made.ran(1, request(number, tenant=name), room=1)
    text = render(Table(), made.stats().to_json())
    own = [line for line in text.split("\n") if line.startswith("fusec_tenant_seconds_total")]
    assert sorted(own) == [
        r'fusec_tenant_seconds_total{tenant="a\"b\\c\nd"} 0.001',
        f'fusec_tenant_seconds_total{{tenant="{"l" * 128}"}} 0.002',
        'fusec_tenant_seconds_total{tenant="x\ufffd\ufffdy"} 0.001',
        'fusec_tenant_seconds_total{tenant="\ufffd"} 0.001',
    ]


@pytest.fixture(scope="module")
def runtime() -> Iterator[fusec.Runtime]:
    models = {name: nn.Linear(6, 3) for name in ("cat", "dog")}
    plan = fusec.compile(models, examples={"*": np.ones((1, 6), np.float32)}, threads=1)
    with fusec.Runtime(plan, measure_s=0.01) as made:
        yield made


def metrics(runtime: fusec.Runtime) -> dict[str, float]:
    assert runtime.drain(30)
    return read(render(Table(), runtime.stats().to_json()))


def test_a_runtime_counts_each_request_once_and_is_still_afterwards(runtime: Any) -> None:
    before = metrics(runtime)
    x = np.ones((1, 6), np.float32)
    for n in range(20):
        runtime.submit("cat", x, tenant="ann", deadline_ms=30_000 if n % 2 else None).result(30)
    after = metrics(runtime)
    assert after == metrics(runtime)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more('fusec_outcomes_total{result="done"}') == more("fusec_submitted_total") == 20
    assert more("fusec_slack_at_start_seconds_count") == more("fusec_promised_total") == 10
    assert more('fusec_slack_at_start_seconds_bucket{le="10.0"}') == 0
    assert 10 * 15 < more("fusec_slack_at_start_seconds_sum") < 10 * 30
    programs = [
        more(f'fusec_cache_{kind}_total{{cache="programs"}}') for kind in ("hits", "misses")
    ]
    assert programs[0] + programs[1] == more("fusec_packs_total") == 20
    assert programs[1] <= 1
    assert more('fusec_tenant_seconds_total{tenant="ann"}') == pytest.approx(
        more("fusec_busy_seconds_total")
    )
    idle = ("fusec_in_flight", "fusec_queued", "fusec_running_lanes")
    assert [after[name] for name in idle] == [0, 0, 0]
