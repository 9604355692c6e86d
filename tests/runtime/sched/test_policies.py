"""What each policy is for, in a few requests each. Times are milliseconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fusec_testing.sched import MS, ask, costs, drive, ended

from fusec.ir.errors import ConfigError
from fusec.runtime.drivers.run import Run, check_run
from fusec.runtime.policies.fair import fair
from fusec.runtime.policies.fifo import FIFO
from fusec.runtime.policies.slack.batch import joins_at
from fusec.runtime.policies.slack.group import Group
from fusec.runtime.policies.slack.policy import SLACK
from fusec.runtime.policies.slack.state import State
from fusec.runtime.policies.table import POLICIES, find_policy
from fusec.runtime.sched.decider import Decider
from fusec.runtime.sched.due import due_ns
from fusec.runtime.sched.order import NEVER
from fusec.runtime.sched.profile import TemplateCost
from fusec.runtime.sched.records import Launch, Pack, Preempt, Request, Result, WakeAt
from fusec.runtime.sched.view import Change, Lane, NewCost, View, Waiting

PROFILE = costs({"short": [1], "mid": [3, 3], "long": [5, 5, 5, 5]})


def results(run: Run) -> dict[int, Result]:
    return {o.request.id: o.result for o in run.outcomes}


def test_due_is_the_deadline_or_follows_from_solo_times() -> None:
    assert due_ns(ask(0, "short", 2, deadline=7), PROFILE) == 9 * MS
    assert due_ns(ask(0, "short", 2), PROFILE) == 5 * MS
    assert due_ns(ask(0, "long"), PROFILE) == 28 * MS
    assert due_ns(ask(0, "short", rows=2), PROFILE) == 6 * MS


def test_fifo_keeps_the_order_of_arrival_and_never_stops() -> None:
    run = drive("fifo", PROFILE, [ask(0, "long"), ask(1, "short", 1), ask(2, "mid", 0.5)])
    assert ended(run) == {0: 20, 2: 26, 1: 27}
    assert len(run.spans) == 3


def test_edf_lets_the_tighter_deadline_pass_between_blocks() -> None:
    run = drive("edf", PROFILE, [ask(0, "long", deadline=90), ask(1, "mid", 1, deadline=20)])
    assert ended(run) == {1: 11, 0: 26}


def test_split_goes_by_remaining_times_solo() -> None:
    """At 5 the long one has 15 x 20 left, which is less than nobody's; at 15 it has 5 x 20."""
    profile = costs({"long": [5, 5, 5, 5], "mid": [8, 4]})
    late = drive("split", profile, [ask(0, "long"), ask(1, "mid", 12)])
    assert ended(late) == {0: 20, 1: 32}  # 5 x 20 against 12 x 12
    early = drive("split", profile, [ask(0, "long"), ask(1, "mid", 2)])
    assert ended(early) == {1: 17, 0: 32}  # 15 x 20 against 12 x 12


@pytest.mark.parametrize("name", ["split", "split_paper"])
def test_split_starves_long_work_and_slack_does_not(name: str) -> None:
    """Short work fills the lane for a second."""
    stream = [ask(i, "short", i * 1.0) for i in range(1, 1000)]
    requests = [ask(0, "long"), *stream]
    assert ended(drive(name, PROFILE, requests))[0] > 1000
    assert ended(drive("slack", PROFILE, requests))[0] < 250


def test_split_paper_runs_whole_models_while_every_model_waits() -> None:
    profile = costs({"short": [1], "long": [5, 5]})
    both = drive("split_paper", profile, [ask(0, "long"), ask(1, "long"), ask(2, "short")])
    assert ended(both) == {2: 1, 0: 11, 1: 21}
    whole = drive(
        "split_paper", costs({"mid": [3, 3], "long": [5, 5]}), [ask(0, "long"), ask(1, "mid")]
    )
    assert [s.blocks for s in whole.spans] == [2, 1, 1]
    alone = drive("split_paper", profile, [ask(0, "long"), ask(1, "short", 1)])
    assert ended(alone) == {1: 6, 0: 11}


def test_split_paper_keeps_a_model_in_order_and_agrees_with_the_closed_form() -> None:
    requests = [ask(i, ("long", "mid", "short")[i % 3], i * 2.5) for i in range(60)]
    closed = ended(drive("split", PROFILE, requests))
    assert ended(drive("split_paper", PROFILE, requests)) == closed


def test_slack_refuses_at_once_what_it_could_not_answer_in_time() -> None:
    run = drive("slack", PROFILE, [ask(0, "long"), ask(1, "mid", 1, deadline=8)])
    lost = next(o for o in run.outcomes if o.request.id == 1)
    assert (lost.result, lost.at_ns) == (Result.REJECTED, 1 * MS)
    assert "predicted to be answered 2.000 ms after its deadline" in lost.reason


def test_slack_does_not_break_a_promise_to_make_another() -> None:
    requests = [
        ask(0, "mid", deadline=6.5),
        ask(1, "mid", 0.1, deadline=12.5),
        ask(2, "mid", 0.2, deadline=12.2),
    ]
    run = drive("slack", PROFILE, requests)
    assert results(run) == {0: Result.DONE, 1: Result.DONE, 2: Result.REJECTED}
    assert all(o.met for o in run.outcomes if o.result is Result.DONE)


def test_what_slack_admits_it_answers_in_time() -> None:
    """An overload of three, one lane, exact estimates."""
    requests = [ask(i, ("mid", "short", "long")[i % 3], i * 3.0, deadline=60) for i in range(300)]
    run = drive("slack", PROFILE, requests)
    kinds = list(results(run).values())
    assert kinds.count(Result.DONE) > 100
    assert kinds.count(Result.EXPIRED) == 0
    late = [o for o in run.outcomes if o.result is Result.DONE and not o.met]
    assert late == []


def test_slack_never_refuses_what_has_no_deadline() -> None:
    run = drive("slack", PROFILE, [ask(i, "long") for i in range(50)])
    assert set(results(run).values()) == {Result.DONE}


def test_priority_decides_between_requests_due_alike() -> None:
    requests = [ask(0, "short"), ask(1, "short"), ask(2, "short", priority=1)]
    assert ended(drive("slack", PROFILE, requests)) == {2: 1, 0: 2, 1: 3}


BATCHED = {1: [2.0, 2.0, 2.0], 4: [2.5, 2.5, 2.5]}


def test_slack_batches_what_waits() -> None:
    profile = costs({"b": BATCHED, "other": [4]})
    run = drive("slack", profile, [ask(0, "other"), *(ask(i, "b", i / 10) for i in range(1, 7))])
    assert sorted(len(s.pack.requests) for s in run.spans if s.pack.template == "b")[-1] == 4
    assert max(ended(run).values()) < 4 + 6 * 6


def test_slack_lets_a_latecomer_catch_up_and_join() -> None:
    profile = costs({"b": {1: [1.0, 6.0], 2: [1.1, 6.1]}})
    run = drive("slack", profile, [ask(0, "b"), ask(1, "b", 0.5)])
    assert [(s.pack.requests, s.pack.next_block) for s in run.spans] == [
        ((0,), 0),
        ((1,), 0),
        ((0, 1), 1),
    ]
    assert max(ended(run).values()) == pytest.approx(8.1)


def test_slack_does_not_join_where_that_saves_nothing() -> None:
    profile = costs({"b": {1: [6.0, 1.0], 2: [11.9, 1.1]}})
    requests = [ask(0, "b", deadline=100), ask(1, "b", 0.5, deadline=100)]
    assert ended(drive("slack", profile, requests))[0] == 7


def _waits(run: Run) -> int:
    return sum(isinstance(a, WakeAt) for d in run.decisions for a in d.actions)


def test_slack_waits_for_company_only_if_it_is_expected_and_there_is_time() -> None:
    profile = costs({"b": {1: [2.0], 8: [2.7]}})

    def driven(gap: float, deadline: float | None) -> Run:
        return drive("slack", profile, [ask(i, "b", i * gap, deadline=deadline) for i in range(40)])

    roomy = driven(1.5, 12)
    assert _waits(roomy) > 5
    assert len(roomy.spans) < 25
    assert all(o.met for o in roomy.outcomes)
    assert _waits(driven(1.5, 3.4)) == 0  # there is no time for it
    assert _waits(driven(5, 50)) == 0  # the next would come too late to save anything


def test_slack_does_promised_work_first_while_its_time_is_at_stake() -> None:
    profile = costs({"image": [8], "job": [15, 15], "word": [5]})
    images = [ask(2, "image"), ask(0, "image", 1.0)]
    tight = [*images, ask(1, "job", 2.0, deadline=80.0)]
    assert ended(drive("slack", profile, tight)) == {2: 8, 1: 38, 0: 46}
    roomy = [*images, ask(1, "job", 2.0, deadline=200.0)]  # three quarters are left at 46
    assert ended(drive("slack", profile, roomy)) == {2: 8, 0: 16, 1: 46}
    short = [*images, ask(1, "word", 2.0, deadline=200.0)]  # would go first without a deadline
    assert ended(drive("slack", profile, short)) == {2: 8, 1: 13, 0: 21}


def test_slack_starves_nobody_without_a_deadline() -> None:
    """Promised work alone would fill the lane more than twice."""
    profile = costs({"image": [4], "sentence": [3]})
    flood = [ask(i, "sentence", 1.4 * i, deadline=20.0) for i in range(1, 300)]
    done = ended(drive("slack", profile, [*flood, ask(0, "image", 30.0)]))[0]
    assert 200 < done < 30 + 32 * 5.6 + 10


def test_slack_retreats_for_a_deadline_that_would_be_lost() -> None:
    profile = costs({"job": [500], "quick": [2]})
    requests = [ask(0, "job"), ask(1, "quick", 100.05, deadline=5)]
    run = drive("slack", profile, requests, retreat_ns=MS // 5)
    assert ended(run)[1] <= 102.5
    assert ended(run)[0] == 502
    lazy = [ask(0, "job"), ask(1, "quick", 100.05, deadline=900)]
    assert ended(drive("slack", profile, lazy, retreat_ns=MS // 5)) == {0: 500, 1: 502}


def test_slack_retreats_for_what_is_late_even_so_unless_it_is_of_no_use_then() -> None:
    profile = costs({"long": [500.0], "short": [2.0]})
    soft = [ask(0, "long"), ask(1, "short", 10.0)]
    assert ended(drive("slack", profile, soft, retreat_ns=8 * MS)) == {0: 502, 1: 18}
    hard = [ask(0, "long"), ask(1, "short", 10.0, deadline=6.0)]
    assert ended(drive("slack", profile, hard, retreat_ns=8 * MS))[0] == 500


def test_slack_does_not_retreat_if_the_running_work_would_lose_its_own() -> None:
    profile = costs({"job": [50], "quick": [2]})
    requests = [ask(0, "job", deadline=50.5), ask(1, "quick", 10, deadline=5)]
    run = drive("slack", profile, requests, retreat_ns=MS // 5)
    assert ended(run)[0] == 50
    assert not any(isinstance(a, Preempt) for d in run.decisions for a in d.actions)
    assert results(run)[1] is not Result.DONE


def test_slack_packs_templates_only_where_that_is_faster() -> None:
    table = {"a": [4.0], "b": [4.0], "c": [4.0]}
    requests = [ask(0, "a"), ask(1, "b"), ask(2, "c")]
    apart = drive("slack", costs(table), requests)
    assert all(not s.pack.beside for s in apart.spans)
    packed = drive("slack", costs(table, together=40), requests)
    assert len(packed.spans) == 1
    assert set(ended(packed).values()) == {4.8}
    tight = [ask(0, "a", deadline=4.5), ask(1, "b", deadline=9), ask(2, "c", deadline=20)]
    kept = drive("slack", costs(table, together=90), tight)
    assert all(o.met for o in kept.outcomes)


@pytest.mark.parametrize("base", ["fifo", "edf", "slack"])
def test_fair_bounds_the_wait_of_who_asks_once_behind_a_flood(base: str) -> None:
    flood = [ask(i, "mid", tenant="a") for i in range(1000)]
    requests = [*flood, ask(1000, "mid", 20, tenant="b")]
    run = drive(f"fair:{base}", PROFILE, requests)
    assert ended(run)[1000] - 20 <= 3 * 6
    assert ended(drive(base, PROFILE, requests))[1000] > 5000


def test_fair_shares_device_time_and_not_requests() -> None:
    """One asks for long work, one for short; the lane is never free."""
    requests: list[Request] = []
    for i in range(200):
        requests += [ask(2 * i, "long", tenant="a"), ask(2 * i + 1, "short", tenant="b")]
    run = drive("fair:fifo", PROFILE, requests)
    used = {"a": 0, "b": 0}
    for span in run.spans:
        if span.end_ns <= 200 * MS:
            number = span.pack.requests[0]
            used["ab"[number % 2]] += span.end_ns - span.start_ns
    assert abs(used["a"] - used["b"]) <= 20 * MS


def test_fair_weights_count_and_idling_earns_nothing() -> None:
    weighted = fair(FIFO, {"a": 3})
    requests = [ask(i, "short", tenant="ab"[i % 2]) for i in range(200)]
    early = [s.pack.requests[0] % 2 for s in drive(weighted, PROFILE, requests).spans[:40]]
    assert 28 <= early.count(0) <= 32
    busy = [ask(i, "short", tenant="a") for i in range(100)]
    back = [ask(100 + i, "short", 50, tenant="b") for i in range(100)]
    run = drive(fair(FIFO), PROFILE, [*busy, *back])
    after = [s.pack.requests[0] >= 100 for s in run.spans if 50 * MS <= s.start_ns < 90 * MS]
    assert 18 <= sum(after) <= 22


def test_an_unknown_policy_is_told_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no policy 'lifo'; there are edf, fair, fifo"):
        find_policy("lifo")
    with pytest.raises(ConfigError, match="no policy 'lifo'"):
        find_policy("fair:lifo")
    assert find_policy("fair:edf").name == "fair:edf"
    assert POLICIES["slack"] is SLACK


def test_started_work_gets_on_where_memory_is_short() -> None:
    """A stopped one holds the memory that the next in order wants."""
    profile = costs({"long": [5, 5], "short": [1]}, bytes_each=10)
    requests = [ask(0, "long"), ask(1, "short", 1), ask(2, "short", 2)]
    for name in POLICIES:
        run = drive(name, profile, requests, memory_bytes=10)
        check_run(run, requests)
        assert set(results(run).values()) == {Result.DONE}


def test_a_batch_grows_only_while_it_keeps_its_promises() -> None:
    profile = costs({"b": {1: [4], 2: [7]}})
    crowd = [ask(i, "b") for i in range(1, 9)]
    free = drive("slack", profile, [ask(0, "b"), *crowd])
    assert len(free.spans[0].pack.requests) == 2
    bound = drive("slack", profile, [ask(0, "b", deadline=5), *crowd])
    assert bound.spans[0].pack.requests == (0,)
    assert next(o for o in bound.outcomes if o.request.id == 0).met


def test_what_has_begun_stays_if_being_stopped_would_lose_its_promise() -> None:
    profile = costs({"long": [5, 5], "mid": [2, 2]})
    urgent = ask(1, "mid", 1, priority=1)
    assert ended(drive("slack", profile, [ask(0, "long"), urgent])) == {1: 9, 0: 14}
    run = drive("slack", profile, [ask(0, "long", deadline=13.5), urgent])
    assert ended(run) == {0: 10, 1: 14}


def test_what_has_begun_stays_if_the_ranks_differ_by_less_than_a_cut() -> None:
    table = {"long": [5, 5, 5], "mid": [3, 3]}
    requests = [ask(0, "long"), ask(1, "mid", 4, priority=1)]
    assert ended(drive("slack", costs(table), requests)) == {1: 11, 0: 21}
    assert ended(drive("slack", costs(table, cut=2), requests)) == {0: 15, 1: 21}


@pytest.mark.parametrize("name", ["slack", "fair"])
def test_what_ended_is_forgotten(name: str) -> None:
    policy = find_policy(name)
    sizes: list[int] = []

    def decide(view: View, state: Any) -> Any:
        actions, state = policy.decide(view, state)
        states = [t.state for t in state.tenants.values()] if name == "fair" else [state]
        sizes.append(sum(len(s.running) + len(s.packs) for s in states))
        return actions, state

    requests = [ask(i, "mid", i * 7.0, tenant=f"t{i % 3}") for i in range(60)]
    drive(replace(policy, decide=decide), PROFILE, requests)
    assert max(sizes) <= 2


@pytest.mark.parametrize("name", ["edf", "split", "slack", "fair"])
def test_new_costs_do_not_make_anybody_run_twice(name: str) -> None:
    """What waits was ranked by the old ones."""
    decider = Decider(find_policy(name), PROFILE)
    busy = tuple(Lane(i, Pack("long", (90 + i,)), 5 * MS, 20 * MS) for i in range(3))
    came = tuple(ask(i, "mid") for i in range(4))
    decider.decide(0, Change(came), busy, None)
    cheaper = TemplateCost(blocks_ns={1: (MS // 2, MS // 2)})
    change = Change(costs=(NewCost.of("mid", "mid", cheaper),))
    decision = decider.decide(1, change, tuple(Lane(i) for i in range(3)), None)
    started = [n for a in decision.actions if isinstance(a, Launch) for n in a.pack.requests]
    assert len(started) == len(set(started)) == 3


def test_who_left_stands_in_nobodys_way() -> None:
    """Cancelled requests without deadlines, which had patience in their rank."""
    states: list[State] = []

    def decide(view: View, state: State) -> Any:
        actions, state = SLACK.decide(view, state)
        states.append(state)
        return actions, state

    profile = costs({"batch": BATCHED, "long": [9.0]})
    decider = Decider(replace(SLACK, decide=decide), profile)
    busy = (Lane(0, Pack("long", (90,)), 9 * MS, 9 * MS),)
    decider.decide(0, Change(tuple(ask(i, "long") for i in range(9))), busy, None)
    decider.decide(1, Change((ask(10, "batch"), ask(11, "batch", 1.0))), busy, None)
    gone = decider.waiting(10)
    assert gone is not None
    running = Group(
        requests=(99,),
        template="batch",
        block=1,
        rows=1,
        rank_ns=0,
        base_ns=0,
        key=(0, 0, 0, 99),
        due_ns=10**12,
        promise_ns=NEVER,
    )
    decider.decide(2, Change(gone=(gone,)), busy, None)
    view = View(2, Change(), {11: Waiting(ask(11, "batch", 1.0))}, busy, None, profile)
    joins = joins_at(view, states[-1], running)
    assert joins is not None and joins.requests == (11,)
    for at in range(20):
        decider.decide(3 + at, Change(), (Lane(0),), None)
    assert states[-1].order is None
    assert not any(states[-1].fresh.values())
