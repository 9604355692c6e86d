"""Costs: interpolation, sums, JSON, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusec.ir.errors import ConfigError
from fusec.runtime.sched.profile import Profile, TemplateCost

COST = TemplateCost(blocks_ns={1: (100, 50), 4: (160, 80), 8: (320, 160)}, max_batch=8, cut_ns=3)


def test_times_between_profiled_instances_are_linear_and_go_on_beyond() -> None:
    assert [COST.span_ns(0, 1, n) for n in (1, 2, 4, 6, 8, 12)] == [100, 120, 160, 240, 320, 480]
    assert COST.left_ns(0, 2) == 120 + 60
    assert COST.left_ns(1, 8) == 160
    assert COST.left_ns(2, 8) == 0
    assert (COST.solo_ns, COST.share_ns, COST.n_blocks) == (150, 60, 2)


def test_one_profiled_number_of_instances_costs_each() -> None:
    cost = TemplateCost(blocks_ns={1: (7,)}, max_batch=3)
    assert [cost.left_ns(0, n) for n in (1, 2, 3, 5)] == [7, 14, 21, 35]


def test_rows_may_be_less_than_an_instance() -> None:
    cost = replace(COST, grain=10, bytes_per_instance=50)
    assert [cost.span_ns(0, 1, n) for n in (1, 5, 10, 25, 40)] == [10, 50, 100, 130, 160]
    assert (cost.solo_ns, cost.share_ns, cost.max_rows) == (150, 60, 80)
    assert (cost.needs_bytes(10), cost.needs_bytes(3)) == (50, 15)
    assert cost.left_ns(0, 120) == 480 + 240  # one request of more than runs together


def test_one_large_request_takes_as_long_as_it_does_not_as_so_many_small_ones() -> None:
    cost = replace(COST, grain=10)  # 150 alone, 240 for four, 480 for eight
    assert [cost.rows_of(units) for units in (0.01, 0.5, 1.0)] == [1, 5, 10]
    for units in (1.2, 1.6, 3.0, 4.0):
        rows = cost.rows_of(units)
        assert cost.left_ns(0, rows - 1) < units * 150 <= cost.left_ns(0, rows) + 3 * rows
    assert cost.left_ns(0, cost.rows_of(1.6)) == 240
    assert cost.rows_of(6.4) == 160


def test_it_survives_json() -> None:
    fine = replace(COST, grain=16)
    profile = Profile(templates={"t": COST, "u": fine}, models={"a": "t"}, together_percent=90)
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile
    assert profile.longest_ns == 150


def test_a_person_may_leave_out_what_has_a_default(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"templates": {"t": {"blocks_ns": {"1": [5], "4": [8]}}}}')
    read = Profile.read(path)
    assert read.models == {"t": "t"}
    assert read["t"].max_batch == 4


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "not a profile"),
        ([], "not a profile"),
        ({"templates": {}}, "has no models"),
        ({"templates": {"t": {"blocks_ns": {"1": [1.5]}}}}, "not a whole number"),
        ({"templates": {"t": {"blocks_ns": {"1": [True]}}}}, "not a whole number"),
        ({"templates": {"t": {"blocks_ns": {"2": [5]}}}}, "wanted one instance"),
        ({"templates": {"t": {"blocks_ns": {"1": [5], "2": [5, 5]}}}}, "same number of blocks"),
        ({"templates": {"t": {"blocks_ns": {"1": []}}}}, "at least one"),
        ({"templates": {"t": {"blocks_ns": {"1": [0]}}}}, "takes no time"),
        ({"templates": {"t": {"blocks_ns": {"1": [5]}, "max_batch": 0}}}, "max_batch 0"),
        ({"templates": {"t": {"blocks_ns": {"1": [5]}, "cut_ns": -1}}}, "nothing negative"),
        ({"templates": {"t": {"blocks_ns": {"1": [5]}, "grain": 0}}}, "grain 0"),
        ({"templates": {"t": {"blocks_ns": {"1": [5]}}}, "models": {"m": "u"}}, "without costs"),
        ({"templates": {"t": {"blocks_ns": {"1": [5]}}}, "together_percent": 0}, "together_p"),
    ],
)
def test_nonsense_is_refused_with_a_reason(data: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=words) as error:
        Profile.read(path)
    assert "bad.json" in str(error.value)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read"):
        Profile.read(tmp_path / "none.json")
