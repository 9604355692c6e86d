"""Blocks take what a log says launches took, by template and size."""

from __future__ import annotations

import pytest
from fusec_testing.sched import MS, ask, costs

from fusec.ir.errors import ConfigError
from fusec.runtime.drivers.run import Run
from fusec.runtime.drivers.virtual import Service, VirtualDriver
from fusec.runtime.policies.table import find_policy
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Request
from fusec.simulation.measured import as_served

PROFILE = costs({"short": [2], "long": {1: [4, 4], 4: [8, 8]}, "never": [3]}, cut=0.5)
SLOWER = {"short": 1.5, "long": 3.0}
REQUESTS = [
    ask(i, "long" if i % 3 == 0 else "short", 11 * i, rows=4 if i % 2 else 1, deadline=500)
    for i in range(60)
]


def run(profile: Profile, service: Service, requests: list[Request]) -> Run:
    driver = VirtualDriver(find_policy("slack"), profile, service=service, correct=True)
    return driver.run(requests)


def slower(template: str, block: int, rows: int) -> int:
    return round(PROFILE[template].span_ns(block, block + 1, rows) * SLOWER[template])


def test_a_simulation_by_the_log_of_another_ends_when_that_did() -> None:
    first = run(PROFILE, slower, REQUESTS)
    profile, service = as_served(PROFILE, first.decisions, seed=0)
    again = run(profile, service, REQUESTS)
    ends = {o.request.id: o.at_ns for o in first.outcomes}
    assert {o.request.id for o in again.outcomes} == ends.keys()
    for outcome in again.outcomes:
        assert abs(outcome.at_ns - ends[outcome.request.id]) <= MS // 100


def test_each_template_and_size_has_its_own_times_and_the_nearest_stands_in() -> None:
    def by_size(template: str, block: int, rows: int) -> int:
        return PROFILE[template].span_ns(block, block + 1, rows) * (2 if rows > 1 else 1)

    first = run(PROFILE, by_size, REQUESTS)
    profile, service = as_served(PROFILE, first.decisions, seed=0)
    assert profile == PROFILE
    assert service("short", 0, 1) == 2 * MS
    assert service("short", 0, 4) == 2 * 8 * MS
    assert service("short", 0, 200) == 2 * 400 * MS
    assert service("never", 0, 1) == 3 * MS


def test_a_few_disturbed_launches_of_a_size_do_not_speak_for_it() -> None:
    def disturbed(template: str, block: int, rows: int) -> int:
        return PROFILE[template].span_ns(block, block + 1, rows) * (9 if rows == 4 else 1)

    few = [ask(i, "short", 50 * i, rows=4 if i < 3 else 1) for i in range(30)]
    _, service = as_served(PROFILE, run(PROFILE, disturbed, few).decisions, seed=0)
    assert service("short", 0, 4) == 8 * MS


def test_the_same_seed_draws_the_same_times() -> None:
    times = iter(range(1, 1_000))
    first = run(PROFILE, lambda *_: next(times) * MS // 100, REQUESTS)

    def drawn(seed: int) -> list[int]:
        _, service = as_served(PROFILE, first.decisions, seed)
        return [service("short", 0, 1) for _ in range(9)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) > 1


def test_a_log_that_tells_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="serve for longer"):
        as_served(PROFILE, [], seed=0)
