"""Any policy, any requests: the rules of driving, determinism, replay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.sched import MS, ask, costs, drive, surprises, workloads
from hypothesis import given, settings

from fusec.ir.errors import VerifyError
from fusec.runtime.drivers.run import Run, check_run
from fusec.runtime.policies.table import POLICIES, find_policy
from fusec.runtime.sched.log import log_lines, read_log
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Request, Result
from fusec.runtime.sched.replay import replay

Workload = tuple[Profile, list[Request], dict[str, Any]]
NAMES = [*POLICIES, "fair:fifo", "fair:split"]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60)
@given(work=surprises())
def test_each_request_ends_once_and_lanes_hold_one_pack(name: str, work: Workload) -> None:
    profile, requests, options = work
    run = drive(name, profile, requests, **options)
    check_run(run, requests)
    for outcome in run.outcomes:
        deadline = outcome.request.deadline_ns
        if outcome.result is Result.EXPIRED and outcome.start_ns is None:
            assert deadline == outcome.at_ns or deadline is not None
        if outcome.result is not Result.DONE:
            assert outcome.reason


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25)
@given(work=surprises())
def test_the_same_requests_give_the_same_log_and_it_replays(name: str, work: Workload) -> None:
    profile, requests, options = work
    first = drive(name, profile, requests, **options)
    again = drive(name, profile, requests, **options)
    lines = list(log_lines(name, profile, first.decisions))
    assert lines == list(log_lines(name, profile, again.decisions))
    assert first == again
    assert replay(find_policy(name), profile, first.decisions) is None


@settings(max_examples=40)
@given(work=workloads())
def test_nothing_idles_while_something_waits(work: Workload) -> None:
    """Of the policies that never wait on purpose; memory and lanes being there."""
    profile, requests, options = work
    options = {**options, "memory_bytes": None}
    for name in ("fifo", "edf", "split", "split_paper", "fair:edf"):
        run = drive(name, profile, requests, **options)
        for decision in run.decisions:
            started = sum(hasattr(a, "until_block") for a in decision.actions)
            free = sum(lane.pack is None for lane in decision.lanes)
            if started < free:
                assert _waiting_after(run, decision.sequence) == 0, (name, decision)


def _waiting_after(run: Run, sequence: int) -> int:
    waiting: set[int] = set()
    for decision in run.decisions[: sequence + 1]:
        change = decision.change
        waiting |= {r.id for r in change.arrived}
        waiting |= {n for s in change.stopped for n in s.pack.requests}
        waiting -= {w.request.id for w in change.gone}
        for action in decision.actions:
            pack = getattr(action, "pack", None)
            waiting -= {n for p in pack.parts for n in p.requests} if pack else set()
            waiting -= {getattr(action, "request", -1)}
    return len(waiting)


def test_a_log_survives_the_disk(tmp_path: Path) -> None:
    profile = costs({"a": [1, 1], "b": {1: [2], 4: [3]}}, cut=0.1)
    requests = [ask(i, "ab"[i % 2], i / 3, deadline=9) for i in range(30)]
    run = drive("slack", profile, requests, retreat_ns=MS // 10)
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(log_lines("slack", profile, run.decisions)))
    log = read_log(path)
    assert log.decisions == run.decisions
    assert log.profile == profile
    assert replay(find_policy(log.policy), log.profile, log.decisions) is None


@pytest.mark.parametrize("name", ["edf", "split", "slack", "fair"])
def test_replay_finds_a_changed_action(name: str) -> None:
    profile = costs({"short": [1], "long": [5, 5]})
    requests = [ask(0, "long"), ask(1, "short", 1), ask(2, "long", 2), ask(3, "short", 6)]
    decisions = list(drive(name, profile, requests).decisions)
    at = next(i for i, d in enumerate(decisions) if i > 1 and d.actions)
    decisions[at] = replace(decisions[at], actions=())
    difference = replay(find_policy(name), profile, decisions)
    assert difference is not None
    assert difference.sequence == at
    assert "logged    nothing" in str(difference)
    assert "Launch" in str(difference)


def test_replay_finds_another_policy_and_a_missing_decision() -> None:
    profile = costs({"short": [1], "long": [5, 5]})
    requests = [ask(0, "long"), ask(1, "short", 1)]
    decisions = drive("fifo", profile, requests).decisions
    assert replay(find_policy("split"), profile, decisions) is not None
    difference = replay(find_policy("fifo"), profile, decisions[1:])
    assert difference is not None
    assert "the log has decision 1 here" in str(difference)


def _run() -> tuple[Run, list[Request]]:
    profile = costs({"short": [1], "long": [5, 5]})
    requests = [ask(0, "long"), ask(1, "short", 1), ask(2, "short", 30, deadline=9)]
    return drive("edf", profile, requests), requests


def test_the_check_of_records_finds_what_is_wrong_in_them() -> None:
    """Each planted fault, one at a time, in records that pass without it."""
    run, requests = _run()
    check_run(run, requests)
    first, *others = run.spans
    last = run.spans[-1]
    faulty = {
        "exactly once": replace(run, outcomes=run.outcomes[1:]),
        "overlaps": replace(run, spans=(replace(first, end_ns=first.end_ns + 1), *others)),
        "takes no time": replace(run, spans=(replace(first, end_ns=0), *others)),
        "before it arrived": replace(
            run, spans=(*run.spans[:-1], replace(last, start_ns=29 * MS, end_ns=29 * MS + 1))
        ),
        "after it expired": replace(
            run, spans=(*run.spans[:-1], replace(last, start_ns=39 * MS, end_ns=40 * MS))
        ),
        "another time": replace(run, spans=run.spans[:-1]),
    }
    for words, broken in faulty.items():
        with pytest.raises(VerifyError, match=words):
            check_run(broken, requests)
    twice = replace(run, lanes=2, spans=(*run.spans, replace(first, lane=1)))
    with pytest.raises(VerifyError, match="twice at once"):
        check_run(twice, requests)
