"""What the driver refuses to do for a policy, and what it does by itself."""

from __future__ import annotations

import pytest
from fusec_testing.sched import MS, ask, costs, drive, ended, policy_of

from fusec.ir.errors import ConfigError, VerifyError
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.records import Action, Launch, Pack, Preempt, Reject, Result, WakeAt
from fusec.runtime.sched.view import View

PROFILE = costs({"one": [2], "two": [3, 3], "batch": {1: [2, 2], 4: [3, 3]}}, bytes_each=10)


def always(*actions: Action) -> Policy[None]:
    return policy_of(lambda view: actions)


def launch(template: str, *numbers: int, block: int = 0, until: int = 1, lane: int = 0) -> Launch:
    return Launch(Pack(template, numbers, block), lane, until)


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        ([launch("one", 7)], "request 7 does not wait"),
        ([Reject(7, "no")], "request 7 does not wait"),
        ([launch("one", 0, lane=3)], "no such lane"),
        ([launch("one", 0, until=2)], "no part of the template"),
        ([launch("two", 1, block=1, until=2)], "is at block 0"),
        ([launch("two", 0)], "is of template 'one'"),
        ([launch("one", 0), launch("two", 1)], "is busy"),
        ([launch("one", 0, 4)], "2 rows together, 1 are allowed"),
        ([launch("one")], "without requests"),
        ([Preempt(0)], "nothing runs there"),
        ([WakeAt(0)], "wants to wake"),
        ([Launch(Pack("batch", (2, 3), 0, (Pack("two", (1,), 0),)), 0, 2)], "runs one block"),
        ([], "requests wait with nothing running"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_found(actions: list[Action], words: str) -> None:
    requests = [ask(0, "one"), ask(1, "two"), ask(2, "batch"), ask(3, "batch"), ask(4, "one")]
    with pytest.raises(VerifyError, match=words):
        drive(always(*actions), PROFILE, requests)


def test_a_launch_beyond_the_memory_is_found() -> None:
    with pytest.raises(VerifyError, match="needs 20 bytes and 15 are free"):
        drive(
            always(launch("batch", 0, 1)),
            PROFILE,
            [ask(0, "batch"), ask(1, "batch")],
            memory_bytes=15,
        )


def test_what_retreated_together_goes_on_together() -> None:
    def decide(view: View) -> tuple[Action, ...]:
        if view.lanes[0].pack is not None:
            return (Preempt(0),)
        if view.change.stopped:
            return (launch("batch", 0),)
        return (launch("batch", 0, 1),)

    requests = [ask(0, "batch"), ask(1, "batch"), ask(2, "one", 1)]
    with pytest.raises(VerifyError, match="must go on with them"):
        drive(policy_of(decide), PROFILE, requests, retreat_ns=MS // 10)


def test_a_full_queue_refuses_at_once() -> None:
    requests = [ask(i, "one") for i in range(5)]
    run = drive("fifo", PROFILE, requests, queue_limit=3)
    full = [o for o in run.outcomes if o.result is Result.FULL]
    assert [o.request.id for o in full] == [3, 4]
    assert {o.at_ns for o in full} == {0}
    assert "3 requests wait already" in full[0].reason


def test_a_request_larger_than_the_memory_is_refused_and_not_waited_for() -> None:
    run = drive("slack", PROFILE, [ask(0, "one", rows=2), ask(1, "one")], memory_bytes=15)
    assert {o.request.id: o.result for o in run.outcomes} == {0: Result.FULL, 1: Result.DONE}


@pytest.mark.parametrize("name", ["fifo", "edf", "split", "slack", "fair", "split_paper"])
def test_a_deadline_behind_a_long_job_rejects_at_that_moment_and_never_runs(name: str) -> None:
    profile = costs({"job": [500], "quick": [2]})
    requests = [ask(0, "job"), ask(1, "quick", 1, deadline=20), ask(2, "quick", 2)]
    run = drive(name, profile, requests)
    lost = next(o for o in run.outcomes if o.request.id == 1)
    assert lost.result in {Result.EXPIRED, Result.REJECTED}
    assert lost.at_ns <= 21 * MS
    assert all(1 not in s.pack.requests for s in run.spans)
    assert ended(run)[2] == 502


def test_who_comes_late_is_never_shown_to_a_policy() -> None:
    request = ask(0, "one", 5, deadline=0)
    run = drive("edf", PROFILE, [request, ask(1, "one")])
    assert next(o for o in run.outcomes if o.request.id == 0).result is Result.EXPIRED
    assert all(r.id for d in run.decisions for r in d.change.arrived)


def test_expired_between_blocks_stops_there() -> None:
    run = drive("edf", PROFILE, [ask(0, "two", deadline=2)])
    assert [o.result for o in run.outcomes] == [Result.EXPIRED]
    assert ended(run) == {0: 3}


def test_an_interruption_costs_a_cut_and_going_on_costs_nothing() -> None:
    profile = costs({"short": [1], "long": [5, 5, 5]}, cut=0.5)
    alone = drive("split", profile, [ask(0, "long")])
    assert ended(alone) == {0: 15}
    interrupted = drive("split", profile, [ask(0, "long"), ask(1, "short", 6)])
    assert ended(interrupted) == {1: 11, 0: 16.5}


def _newest_first(view: View) -> tuple[Action, ...]:
    running = view.lanes[0].pack
    first = max(view.waiting.values(), key=lambda w: w.request.id, default=None)
    if first is None:
        return ()
    if running is not None:
        return (Preempt(0),) if first.request.id > running.requests[0] else ()
    block, number = first.next_block, first.request.id
    return (launch(first.request.template, number, block=block, until=block + 1),)


def test_retreat_stops_at_the_next_granule_and_loses_no_work() -> None:
    requests = [ask(0, "two"), ask(1, "one", 1.25)]
    run = drive(policy_of(_newest_first), PROFILE, requests, retreat_ns=MS)
    assert [(s.start_ns / MS, s.end_ns / MS, s.preempted) for s in run.spans] == [
        (0, 2, True),
        (2, 4, False),
        (4, 5, False),
        (5, 8, False),
    ]


def test_what_retreats_twice_in_one_block_keeps_all_it_did() -> None:
    profile = costs({"job": [10], "one": [2]})
    requests = [ask(0, "job"), ask(1, "one", 1.25), ask(2, "one", 6.25)]
    run = drive(policy_of(_newest_first), profile, requests, retreat_ns=MS)
    assert ended(run) == {1: 4, 2: 9, 0: 14}


def test_a_pack_with_company_takes_the_percentage() -> None:
    profile = costs({"a": [4], "b": [6]}, together=70)
    both = Launch(Pack("a", (0,), 0, (Pack("b", (1,), 0),)), 0, 1)
    run = drive(
        policy_of(lambda v: (both,) if v.waiting else ()), profile, [ask(0, "a"), ask(1, "b")]
    )
    assert ended(run) == {0: 7, 1: 7}


def test_two_requests_of_one_number_are_refused() -> None:
    with pytest.raises(ConfigError, match="two requests have the number 0"):
        drive("fifo", PROFILE, [ask(0, "one"), ask(0, "one", 1)])


def test_an_unknown_template_and_senseless_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown template 'none'"):
        drive("fifo", PROFILE, [ask(0, "none")])
    with pytest.raises(ConfigError, match="wanted 1 or more"):
        drive("fifo", PROFILE, [], lanes=0)
    with pytest.raises(ConfigError, match="wanted 1\\+"):
        ask(0, "one", rows=0)
