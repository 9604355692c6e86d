"""Predictions corrected by what ran: bounds, order, company, replay."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.sched import MS, ask, costs, drive, workloads
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.errors import ArtifactError, ConfigError, VerifyError
from fusec.runtime.drivers.run import check_run
from fusec.runtime.policies.table import POLICIES, find_policy
from fusec.runtime.sched.corrected import Correction
from fusec.runtime.sched.decider import Decider
from fusec.runtime.sched.due import due_ns
from fusec.runtime.sched.log import log_lines, read_log
from fusec.runtime.sched.profile import Profile, TemplateCost
from fusec.runtime.sched.ran import Ran, RanPart
from fusec.runtime.sched.records import Pack, Reject, Request
from fusec.runtime.sched.replay import replay
from fusec.runtime.sched.view import Change, Lane, NewCost

PROFILE = costs({"a": {1: [2.0, 2.0], 4: [3.0, 4.0]}, "b": [5.0]}, together=80, cut=0.5)
TIMES = st.lists(st.integers(1, 100 * MS), min_size=1, max_size=40)


def ran(took_ns: float, template: str = "a", **options: Any) -> Ran:
    until = PROFILE[template].n_blocks
    return Ran((RanPart(template, 0, until, 1),), round(took_ns), **options)


def after(*launches: Ran) -> Correction:
    made = Correction.of(PROFILE)
    for launch in launches:
        made = made.after(launch)
    return made


def test_without_launches_nothing_is_corrected() -> None:
    made = Correction.of(PROFILE)
    assert made.profile(company=False) is PROFILE
    assert made.errors is None


def test_a_slower_machine_is_believed_after_two_launches() -> None:
    assert after(ran(6 * MS)).factor("a", company=False) == 1.25
    assert after(ran(6 * MS)).factor("a", 4, company=False) == 1.25
    profile = after(ran(6 * MS), ran(6 * MS)).profile(company=False)
    assert profile["a"].solo_ns == 6 * MS
    assert profile["a"].left_ns(1, 4) == 6 * MS
    assert profile["a"].left_ns(0, 8) == PROFILE["a"].left_ns(0, 8) * 3 // 2
    assert profile["a"].share_ns == PROFILE["a"].share_ns * 3 // 2
    assert profile["b"].solo_ns == 5 * MS
    assert profile["a"].n_blocks == 2


def test_what_must_not_move_is_stated() -> None:
    profile = after(*[ran(40 * MS)] * 5).profile(company=False)
    assert profile.stated is PROFILE
    request = ask(1, "a")
    assert due_ns(request, profile) == due_ns(request, PROFILE)
    assert (profile["a"].cut_ns, profile["a"].max_batch) == (MS // 2, 4)


def test_one_disturbed_launch_moves_nothing() -> None:
    steady = after(*[ran(4 * MS)] * 3, ran(400 * MS))
    assert steady.profile(company=False)["a"].solo_ns == 4 * MS


def test_old_launches_are_forgotten() -> None:
    made = after(*[ran(8 * MS)] * 20, *[ran(2 * MS)] * 15)
    assert made.factor("a", company=False) == 0.5


def test_company_has_a_window_of_its_own_and_stands_in_for_the_other() -> None:
    beside = after(*[ran(8 * MS, company=True)] * 3)
    assert beside.factor("a", company=True) == beside.factor("a", company=False) == 2.0
    both = beside.after(ran(4 * MS)).after(ran(4 * MS))
    assert both.factor("a", company=True) == 2.0
    assert both.profile(company=False)["a"].solo_ns == 4 * MS
    assert both.profile(company=True)["a"].solo_ns == 8 * MS


def test_batches_of_other_sizes_have_windows_of_their_own() -> None:
    """Four take 7 ms as stated, one takes 3 ms longer than stated."""
    four = Ran((RanPart("a", 0, 2, 4),), 7 * MS)
    profile = after(*[ran(7 * MS)] * 3, *[four] * 3).profile(company=False)
    assert profile["a"].left_ns(0, 1) == 7 * MS
    assert profile["a"].left_ns(0, 2) == PROFILE["a"].left_ns(0, 2) * 7 // 4  # as the nearest
    assert abs(profile["a"].left_ns(0, 4) - 7 * MS) < MS  # before them, 1.75 was believed
    more = after(*[ran(7 * MS)] * 3, *[four] * 15).profile(company=False)
    assert more["a"].left_ns(0, 4) == 7 * MS


def test_a_resumed_launch_has_paid_for_a_cut() -> None:
    made = after(*[ran(4.5 * MS, resumed=True)] * 3)
    assert made.factor("a", company=False) == 1.0


def test_super_kernels_correct_what_company_in_them_costs() -> None:
    parts = (RanPart("a", 0, 1, 1), RanPart("b", 0, 1, 1))
    made = after(*[Ran(parts, 7 * MS)] * 3)
    profile = made.profile(company=False)
    assert profile.together_percent == 100
    assert profile["b"].solo_ns == 5 * MS
    assert made.after(ran(4 * MS)).profile(company=True).together_percent == 100


def test_errors_are_of_the_prediction_before_the_launch() -> None:
    errors = after(*[ran(8 * MS)] * 10).errors
    assert errors is not None
    assert (errors.launches, errors.p50, errors.stated_p50) == (10, 0.0, 0.5)
    assert errors.stated_p90 == 0.5
    assert "10 launches" in str(errors)


def test_new_costs_of_a_template_forget_what_was_measured_of_it() -> None:
    made = after(*[ran(8 * MS)] * 5, *[ran(10 * MS, "b")] * 5)
    new = PROFILE.having({"a": TemplateCost(blocks_ns={1: (8 * MS,)})}, {})
    kept = made.having(new, {"a": new["a"]})
    assert kept.profile(company=False)["a"].solo_ns == 8 * MS
    assert kept.profile(company=True)["b"].solo_ns == 10 * MS
    assert kept.profile(company=True).stated is new


@given(
    times=TIMES,
    company=st.lists(st.booleans(), min_size=40, max_size=40),
    rows=st.lists(st.integers(1, 9), min_size=40, max_size=40),
)
def test_factors_are_bounded_and_order_is_kept(
    times: list[int], company: list[bool], rows: list[int]
) -> None:
    made = after(
        *(
            Ran((RanPart("a", 0, 2, n),), t, c)
            for t, c, n in zip(times, company, rows, strict=False)
        )
    )
    for beside in (False, True):
        assert 1 / 8 <= made.factor("a", company=beside) <= 8
        cost = made.profile(company=beside)["a"]
        for n in range(1, 7):
            left = [cost.left_ns(block, n) for block in range(3)]
            assert left == sorted(left, reverse=True)
            assert left[1] > left[2] == 0
            assert cost.span_ns(0, 1, n) == left[0] - left[1]
            assert left[0] // 9 <= PROFILE["a"].left_ns(0, n) <= 8 * left[0] + 8


@given(times=TIMES, more=st.integers(0, 50 * MS))
def test_slower_launches_never_predict_less(times: list[int], more: int) -> None:
    fast, slow = (after(*[ran(t + extra) for t in times]) for extra in (0, more))
    assert slow.factor("a", company=False) >= fast.factor("a", company=False)


@given(times=TIMES)
def test_it_is_a_value(times: list[int]) -> None:
    first = after(*map(ran, times))
    seen = first.profile(company=False)["a"].solo_ns
    assert first.after(ran(9 * MS)) is not first
    assert first.profile(company=False)["a"].solo_ns == seen
    assert after(*map(ran, times)) == first


@pytest.mark.parametrize(
    ("parts", "took"),
    [((), 1), ((("a", 0, 1, 1),), 0), ((("a", 1, 1, 1),), 1), ((("a", 0, 1, 0),), 1)],
)
def test_launches_that_cannot_have_been_are_refused(parts: Any, took: int) -> None:
    with pytest.raises(ConfigError, match="wanted"):
        Ran(tuple(RanPart(*p) for p in parts), took)


@pytest.mark.parametrize("part", [RanPart("nobody", 0, 1, 1), RanPart("a", 0, 3, 1)])
def test_launches_of_other_plans_are_refused(part: RanPart) -> None:
    with pytest.raises(VerifyError, match="no part of the profile"):
        after(Ran((part,), 5))


def test_a_stay_is_described_by_what_was_done_of_it() -> None:
    made = Ran.of(Pack("a", (1, 2), 1, (Pack("b", (3,)),)), 1, [2, 1], 77, company=True)
    assert made == Ran((RanPart("a", 1, 2, 2), RanPart("b", 0, 1, 1)), 77, True)


def test_a_slow_machine_is_not_promised_too_much() -> None:
    """Twice as slow as profiled; a deadline of three times the profiled time."""
    requests = [ask(i, "b", i * 13.0) for i in range(4)]
    late = [*requests, ask(9, "b", 51.0, deadline=8.0)]
    slow: dict[str, Any] = {"service": lambda t, b, n: 10 * MS, "correct": True}
    run = drive("slack", costs({"b": [5.0]}), late, **slow)
    refused = [a for d in run.decisions for a in d.actions if isinstance(a, Reject)]
    assert [r.request for r in refused] == [9]
    trusting = drive("slack", costs({"b": [5.0]}), late, **{**slow, "correct": False})
    assert not any(isinstance(a, Reject) for d in trusting.decisions for a in d.actions)


@pytest.mark.parametrize("name", [*POLICIES, "fair:edf"])
@settings(max_examples=25)
@given(
    work=workloads(),
    percents=st.lists(st.integers(20, 400), min_size=7, max_size=7),
)
def test_a_log_with_corrections_replays(
    name: str, work: tuple[Profile, list[Request], dict[str, Any]], percents: list[int]
) -> None:
    profile, requests, options = work

    def service(template: str, block: int, instances: int) -> int:
        percent = percents[(block + 3 * instances + len(template)) % 7]
        return max(1, profile[template].span_ns(block, block + 1, instances) * percent // 100)

    run = drive(name, profile, requests, service=service, correct=True, **options)
    check_run(run, requests)
    measured = [r for d in run.decisions for r in d.change.ran]
    assert measured or not any(not s.preempted for s in run.spans) or options["retreat_ns"]
    assert replay(find_policy(name), profile, run.decisions) is None
    # Whole numbers only: what was logged as text is what was decided by.
    lines = list(log_lines(name, profile, run.decisions))
    path = Path(f"{name}.log")
    assert json.loads(lines[0])["policy"] == path.stem.removesuffix(".log")
    decider = Decider(find_policy(name), profile)
    for decision in run.decisions:
        got = decider.decide(decision.at_ns, decision.change, decision.lanes, decision.free_bytes)
        assert got == decision
    assert decider.correction.launches == len(measured)


def test_launches_survive_the_log_and_bad_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    requests = [ask(i, "a", i * 1.0) for i in range(5)]
    run = drive("slack", PROFILE, requests, correct=True)
    path.write_text("\n".join(log_lines("slack", PROFILE, run.decisions)))
    log = read_log(path)
    assert log.decisions == run.decisions
    assert sum(len(d.change.ran) for d in log.decisions) == len(run.spans)
    assert replay(find_policy("slack"), log.profile, log.decisions) is None
    path.write_text(path.read_text().replace('"took_ns":', '"took_ns":-', 1))
    with pytest.raises(ArtifactError, match="line 4"):
        read_log(path)


def test_other_measurements_are_other_decisions() -> None:
    """So a replay without them would not be one."""
    requests = [*(ask(i, "b", i * 13.0) for i in range(4)), ask(9, "b", 51.0, deadline=8.0)]
    profile = costs({"b": [5.0]})
    run = drive("slack", profile, requests, service=lambda t, b, n: 10 * MS, correct=True)
    without = [replace(d, change=replace(d.change, ran=())) for d in run.decisions]
    assert replay(find_policy("slack"), profile, run.decisions) is None
    assert replay(find_policy("slack"), profile, without) is not None


def test_lanes_that_are_busy_choose_the_window() -> None:
    shown: list[int] = []

    def decide(view: Any, state: None) -> Any:
        shown.append(view.profile["b"].solo_ns)
        return (), state

    decider = Decider(replace(find_policy("fifo"), start=None, decide=decide), PROFILE)
    slow = tuple([ran(10 * MS, "b", company=True)] * 3)
    fast = tuple([ran(5 * MS, "b")] * 3)
    busy = Lane(1, Pack("a", (7,)), MS, MS)
    decider.decide(0, Change(ran=slow + fast), (Lane(0), Lane(1)), None)
    decider.decide(1, Change(), (Lane(0), busy), None)
    decider.decide(2, Change(), (replace(busy, index=0),), None)
    assert shown == [5 * MS, 10 * MS, 5 * MS]
    cost = NewCost.of("b", "b", TemplateCost(blocks_ns={1: (3 * MS,)}))
    decider.decide(3, Change(costs=(cost,)), (Lane(0), busy), None)
    assert shown[-1] == 3 * MS
    assert decider.profile["b"].solo_ns == 3 * MS
