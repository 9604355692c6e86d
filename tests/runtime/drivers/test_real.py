"""The real driver under made-up time and made-up lanes: rules, outcomes, accounts, logs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.made_up_lanes import Job, World
from fusec_testing.sched import MS, ask, costs, policy_of, workloads
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.errors import ConfigError, VerifyError
from fusec.runtime.drivers.run import check_run
from fusec.runtime.drivers.work import Arrival, Ended, Left
from fusec.runtime.policies.table import POLICIES, find_policy
from fusec.runtime.sched.log import log_lines, read_log
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Launch, Pack, Request, Result
from fusec.runtime.sched.replay import replay
from fusec.runtime.sched.view import NewCost, View


@given(
    workload=workloads(),
    policy=st.sampled_from(sorted(POLICIES)),
    seed=st.integers(0, 1000),
    failures=st.sampled_from([0.0, 0.2]),
    cancels=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 23)), max_size=8),
)
@settings(max_examples=150, deadline=None)
def test_every_policy_keeps_the_rules_whatever_lanes_do(
    workload: tuple[Profile, list[Request], dict[str, Any]],
    policy: str,
    seed: int,
    failures: float,
    cancels: list[tuple[int, int]],
) -> None:
    profile, requests, options = workload
    world = World(policy, profile, seed=seed, failures=failures, **options)
    run = world.run(requests, [(at * MS, number) for at, number in cancels])
    check_run(run, requests)
    book = world.driver.book
    assert (book.queued, len(book.tasks), world.driver.running) == (0, 0, 0)
    assert book.free_bytes == options["memory_bytes"]
    for outcome in run.outcomes:
        job = world.jobs[outcome.request.id]
        if outcome.result is Result.DONE:
            assert not job.failed
        if outcome.result is Result.CANCELLED:
            assert job.cancelled
        if outcome.result is Result.FAILED:
            assert job.failed
    assert replay(world.policy, profile, run.decisions) is None


@given(workload=workloads(), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_log_is_replayed_from_its_file(
    workload: tuple[Profile, list[Request], dict[str, Any]],
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    profile, requests, options = workload
    world = World("slack", profile, seed=seed, **options)
    run = world.run(requests)
    path: Path = tmp_path_factory.mktemp("log") / "decisions.jsonl"
    path.write_text("\n".join(log_lines(run.policy, profile, run.decisions)))
    log = read_log(path)
    assert log.decisions == run.decisions
    assert replay(find_policy(log.policy), log.profile, log.decisions) is None


def test_expired_work_is_refused_at_that_moment_and_never_runs() -> None:
    world = World("fifo", costs({"long": [50.0]}))
    world.run([ask(1, "long"), ask(2, "long", at=1.0, deadline=0.2)])
    end = next(o for o in world.notes.outcomes if o.request.id == 2)
    assert (end.result, end.at_ns, end.start_ns) == (Result.EXPIRED, 1_200_000, None)


def test_what_runs_is_stopped_when_nobody_wants_it_any_more() -> None:
    world = World("fifo", costs({"long": [50.0] * 4}), retreat_ns=1000)
    world.turn(Arrival(ask(1, "long"), job := Job()))
    world.now = 10
    world.lanes[0].pass_to(10)
    job.cancelled = True
    world.turn(Left(1))
    assert world.lanes[0].at_ns <= 10 + 1001
    world.now = world.lanes[0].at_ns
    world.turn(world.lanes[0].ended(failed=False))
    assert [o.result for o in world.notes.outcomes] == [Result.CANCELLED]


def test_a_full_queue_refuses_at_once_and_counts_calls() -> None:
    world = World("fifo", costs({"long": [50.0]}), queue_limit=3)
    events = [Arrival(ask(n, "long"), Job(size=2)) for n in range(4)]
    world.turn(*events)
    ended = {o.request.id: o.result for o in world.notes.outcomes}
    assert ended == {2: Result.FULL, 3: Result.FULL}
    assert world.driver.book.queued == 2  # one of the two runs
    assert world.driver.book.full(1) and not world.driver.book.full(0)


def test_too_much_memory_is_refused_and_some_is_waited_for() -> None:
    profile = costs({"a": [5.0]}, bytes_each=10)
    world = World("fifo", profile, memory_bytes=25, lanes=3)
    run = world.run([ask(n, "a") for n in range(3)] + [ask(9, "a", rows=3)])
    results = Counter(o.result for o in run.outcomes)
    assert results == {Result.DONE: 3, Result.FULL: 1}
    check_run(run, [o.request for o in run.outcomes])


@pytest.mark.parametrize("policy", ["slack", "fair"])
def test_whoever_would_be_late_stops_what_runs_before_the_driver_hears_of_it(policy: str) -> None:
    profile = costs({"long": [100.0], "short": [1.0]})
    world = World(policy, profile, retreat_ns=200_000)
    world.turn(Arrival(ask(1, "long"), Job()))
    lane = world.lanes[0]
    lane._ends = [100 * MS]
    assert lane.at_ns == 100 * MS
    world.driver.nudge(ask(2, "short", deadline=3.0), 0)
    assert lane.at_ns <= 200_001


def test_what_has_no_deadline_is_better_late_than_later() -> None:
    world = World("slack", costs({"long": [100.0], "short": [1.0]}), retreat_ns=5 * MS)
    world.turn(Arrival(ask(1, "long"), Job()))
    lane = world.lanes[0]
    lane._ends = [100 * MS]
    assert world.driver.nudge(ask(2, "short"), 0)
    assert lane.at_ns <= 5 * MS + 1


@pytest.mark.parametrize(
    ("policy", "deadline", "long"),
    [
        ("slack", 250.0, None),  # in time anyway
        ("slack", 1.1, None),  # late even so
        ("slack", 3.0, 2.0),  # what runs is due before
        ("slack", 3.0, 100.5),  # what runs would be late for it
        ("fifo", 3.0, None),  # such a policy stops nothing
    ],
)
def test_nothing_is_stopped_without_need(policy: str, deadline: float, long: float | None) -> None:
    profile = costs({"long": [100.0], "short": [1.0]})
    world = World(policy_of_launch() if long else policy, profile, retreat_ns=200_000)
    if long:
        world.policy = find_policy(policy)
    world.turn(Arrival(ask(1, "long", deadline=long), Job()))
    lane = world.lanes[0]
    lane._ends = [100 * MS]
    world.driver.nudge(ask(2, "short", deadline=deadline), 0)
    assert lane.at_ns == 100 * MS


def policy_of_launch() -> Policy[None]:
    """Launch whatever came, whole; say that it preempts."""

    def decide(view: View) -> tuple[Any, ...]:
        return tuple(
            Launch(Pack(r.template, (r.id,)), 0, view.profile[r.template].n_blocks)
            for r in view.change.arrived
        )

    made = policy_of(decide)
    return Policy(made.name, made.start, made.decide, preempts=True)


def test_costs_of_a_new_template_reach_the_policy_and_the_log(tmp_path: Path) -> None:
    profile = costs({"old": [1.0]})
    later = costs({"new": [2.0, 3.0]})["new"]
    world = World("slack", profile)
    world.turn(Arrival(ask(1, "new"), Job(), (NewCost.of("new", "n", later),)))
    assert world.driver.profile["new"] == later
    run = world.run([ask(2, "new", at=40.0), ask(3, "old", at=41.0)])
    assert Counter(o.result for o in run.outcomes) == {Result.DONE: 3}
    path = tmp_path / "log"
    path.write_text("\n".join(log_lines("slack", profile, run.decisions)))
    log = read_log(path)
    assert replay(find_policy("slack"), log.profile, log.decisions) is None


def test_a_policy_that_breaks_a_rule_is_found_out() -> None:
    def twice(view: View) -> tuple[Any, ...]:
        return tuple(
            Launch(Pack(r.template, (r.id,)), 0, 1) for r in view.change.arrived for _ in range(2)
        )

    world = World(policy_of(twice), costs({"a": [1.0]}))
    with pytest.raises(VerifyError, match="does not wait"):
        world.turn(Arrival(ask(1, "a"), Job()))


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="no lanes"):
        World("fifo", costs({"a": [1.0]}), lanes=0)
    with pytest.raises(ConfigError, match="queue of 0"):
        World("fifo", costs({"a": [1.0]}), queue_limit=0)


def _retreated(policy: Policy[Any]) -> World:
    """Give a world in which two requests run together and have just stopped in mid-block."""
    world = World(policy, costs({"two": {1: [9.0], 2: [9.0]}}), retreat_ns=1000)
    world.turn(Arrival(ask(1, "two"), Job()), Arrival(ask(2, "two"), Job()))
    world.now = 4 * MS
    world.lanes[0].work = None
    world.turn(Ended(lane=0, blocks=0, took_ns=(4 * MS,), half_done=True))
    return world


def test_work_done_before_a_retreat_counts_and_who_did_it_goes_on_together() -> None:
    def both(view: View) -> tuple[Any, ...]:
        ready = tuple(view.waiting)
        return (Launch(Pack("two", ready), 0, 1),) if ready and not view.lanes[0].pack else ()

    world = _retreated(policy_of(both))
    (stopped,) = world.notes.decisions[-1].change.stopped
    assert (stopped.pack, stopped.done_ns) == (Pack("two", (1, 2)), 4 * MS)
    assert world.lanes[0].work is not None
    assert world.lanes[0].work.ends_ns == (9 * MS,)  # 5 of 9 are left

    def first(view: View) -> tuple[Any, ...]:
        ready = tuple(view.waiting)[:1]
        return (Launch(Pack("two", ready), 0, 1),) if ready and not view.lanes[0].pack else ()

    calls = iter((both, first))
    with pytest.raises(VerifyError, match="must go on with them"):
        _retreated(policy_of(lambda view: next(calls)(view)))


@pytest.mark.parametrize("failed", [False, True])
def test_what_fails_before_its_last_block_was_not_preempted(failed: bool) -> None:
    world = World("fifo", costs({"long": [50.0] * 4}))
    world.turn(Arrival(ask(1, "long"), Job()))
    world.lanes[0].work = None
    world.turn(Ended(lane=0, blocks=1, took_ns=(MS,), half_done=False, over=failed))
    assert [span.preempted for span in world.notes.spans] == [not failed]
