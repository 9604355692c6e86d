"""Made-up and recorded arrivals."""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path

import pytest
from fusec_testing.sched import MS, costs, drive

from fusec.ir.errors import ConfigError
from fusec.runtime.arrivals import Mix, gamma, parse_arrivals
from fusec.runtime.drivers.virtual import VirtualDriver
from fusec.runtime.policies.table import find_policy
from fusec.runtime.traces import read_trace

MIX = Mix(models={"a": "t", "b": "u"}, tenants=("x", "y"), deadline_ns=5 * MS)
PROFILE = costs({"t": [1], "u": [2]})


@pytest.mark.parametrize("cv", [0.3, 1.0, 4.0])
def test_gaps_have_the_rate_and_the_variation_asked_for(cv: float) -> None:
    made = list(gamma(MIX, per_s=200, cv=cv, n=40_000, seed=1))
    times = [r.arrival_ns for r in made]
    gaps = [b - a for a, b in zip([0, *times], times, strict=False)]
    assert statistics.fmean(gaps) == pytest.approx(5 * MS, rel=0.08)
    assert statistics.pstdev(gaps) / statistics.fmean(gaps) == pytest.approx(cv, rel=0.08)
    assert {(r.model, r.template) for r in made} == {("a", "t"), ("b", "u")}
    assert {r.tenant for r in made} == {"x", "y"}
    assert all(r.deadline_ns == r.arrival_ns + 5 * MS for r in made)


def test_the_seed_decides() -> None:
    one, same, other = (parse_arrivals("poisson:100", MIX, n=50, seed=s) for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_closed_loop_asks_again_after_each_answer_and_thinks() -> None:
    came = parse_arrivals("closed:3:10", MIX, n=30, seed=0)
    assert came.loop is not None
    assert len(came.requests) == 3
    run = VirtualDriver(find_policy("fifo"), PROFILE).run(came.requests, came.loop.after)
    assert len(run.outcomes) == 30
    ends = sorted(o.at_ns for o in run.outcomes)
    later = sorted(o.request.arrival_ns for o in run.outcomes)[3:]
    assert later == [end + 10 * MS for end in ends[:27]]


def test_a_closed_loop_that_is_refused_does_not_stand_still() -> None:
    came = parse_arrivals("closed:5:0", MIX, n=200, seed=0)
    assert came.loop is not None
    driver = VirtualDriver(find_policy("fifo"), PROFILE, queue_limit=1)
    outcomes = driver.run(came.requests, came.loop.after).outcomes
    assert len(outcomes) == 200
    assert max(Counter(o.request.arrival_ns for o in outcomes).values()) <= 5


@pytest.mark.parametrize(
    "text", ["poisson", "poisson:x", "poisson:0", "gamma:5", "gamma:5:0", "closed:0:1", "burst:1"]
)
def test_what_is_no_process_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"wanted|could not convert"):
        parse_arrivals(text, MIX, n=5, seed=0)


OWN = "at_ms,model,tenant,deadline_ms\n5,b,z,2\n3.5,a,z,\n"
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n"
)
FUNCTIONS = "app,func,end_timestamp,duration\nq,ffffffffff,5.5,0.5\nq,gggggggggg,4.25,0.25\n"
MOONCAKE = (
    '{"timestamp": 27, "input_length": 5, "output_length": 1, "hash_ids": [1]}\n'
    '{"timestamp": 30, "input_length": 6, "output_length": 1, "hash_ids": [1]}\n'
)


@pytest.mark.parametrize(
    ("name", "text", "gap_ns"),
    [
        ("own.csv", OWN, 1.5 * MS),
        ("azure.csv", AZURE, 52 * MS),
        ("functions.csv", FUNCTIONS, 1000 * MS),
        ("mooncake.jsonl", MOONCAKE, 3 * MS),
    ],
)
def test_traces_are_told_apart_and_start_at_0(
    name: str, text: str, gap_ns: float, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text)
    requests = read_trace(path, MIX)
    assert [r.arrival_ns for r in requests] == [0, gap_ns]
    assert [r.id for r in requests] == [0, 1]
    assert requests == read_trace(path, MIX)
    assert [r.arrival_ns for r in read_trace(path, MIX, stretch=2)] == [0, 2 * gap_ns]
    assert len(read_trace(path, MIX, n=1)) == 1
    drive("slack", PROFILE, requests)


def test_a_trace_of_our_own_says_model_tenant_and_deadline(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(OWN)
    first, second = read_trace(path, MIX)
    assert (first.model, first.tenant, first.deadline_ns) == ("a", "z", 5 * MS)
    assert (second.model, second.deadline_ns) == ("b", 3.5 * MS)


def test_one_mix_of_several(tmp_path: Path) -> None:
    path = tmp_path / "mixes.csv"
    path.write_text("mix,at_ms,model\n0,0,a\n1,9,b\n1,11,a\n")
    assert [r.model for r in read_trace(path, MIX, which="1")] == ["b", "a"]
    with pytest.raises(ConfigError, match="no requests of mix '7'"):
        read_trace(path, MIX, which="7")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("at_ms,model\n1,c\n", "no model 'c' in the profile; it has a, b"),
        ("at_ms,model\nx,a\n", r"t\.csv, line 2"),
        ("one,two\n1,2\n", "unknown columns"),
        ("", "no requests"),
    ],
)
def test_what_is_no_trace_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_trace(path, MIX)
    with pytest.raises(ConfigError, match="stretch"):
        read_trace(path, MIX, stretch=0)
