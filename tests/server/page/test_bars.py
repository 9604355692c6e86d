"""Joined launches lose nothing: time, requests and stops add up, and bars of a lane do not meet."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fusec.runtime.serving.recording import Stay
from fusec.server.page.bars import bars_of, bars_to_json

NOW = 10**12


ROWS = st.sampled_from([{"a": 1}, {"b": 7}, {"a": 2, "b": 1}, {"c": 3, "a": 5, "b": 1}])
RAN = st.tuples(
    st.integers(0, 3), st.integers(0, 5000), st.integers(0, 5000), ROWS, st.integers(1, 9)
)


def recorded(ran: list[tuple[int, int, int, dict[str, int], int]]) -> list[Stay]:
    """Give what some lanes ran, in order of ends."""
    ends, stays = [0] * 4, []
    for lane, idle, took, rows, calls in ran:
        start = ends[lane] + idle
        ends[lane] = start + took
        stays.append(
            Stay(
                lane=lane,
                start_ns=start,
                end_ns=ends[lane],
                rows=rows,
                model="m" * idle,
                calls=calls,
                stopped=calls == 1,
            )
        )
    return sorted(stays, key=lambda stay: (stay.end_ns or 0, stay.lane))


RECORDS = st.lists(RAN, max_size=40).map(recorded)


@given(RECORDS, st.integers(1, 20_000), st.integers(1, 40))
def test_nothing_is_lost(stays: list[Stay], grain: int, most: int) -> None:
    alone = [bars_of([stay], 1, 1, NOW)[0] for stay in stays]
    bars = bars_of(stays, grain, most, NOW)
    assert len(bars) <= max(most, len({stay.lane for stay in stays}))
    assert sum(bar.launches for bar in bars) == len(stays)
    assert sum(bar.calls for bar in bars) == sum(stay.calls for stay in stays)
    assert sum(bar.stopped for bar in bars) == sum(stay.stopped for stay in stays)
    busy, wanted = Counter[str](), Counter[str]()
    for bar in bars:
        busy.update(bar.busy_ns)
        assert sum(bar.busy_ns.values()) <= bar.end_ns - bar.start_ns
    for bar in alone:
        wanted.update(bar.busy_ns)
    assert +busy == +wanted
    for lane in range(4):
        own = [bar for bar in bars if bar.lane == lane]
        assert all(a.end_ns <= b.start_ns for a, b in pairwise(own))
        ran = [stay for stay in stays if stay.lane == lane]
        if ran:
            assert (own[0].start_ns, own[-1].end_ns) == (ran[0].start_ns, ran[-1].end_ns)


@given(RECORDS, st.integers(1, 20_000))
def test_bars_are_no_longer_than_the_grain_unless_a_launch_is(
    stays: list[Stay], grain: int
) -> None:
    for bar in bars_of(stays, grain, 1000, NOW):
        assert bar.launches == 1 or bar.end_ns - bar.start_ns <= grain


@given(RECORDS)
def test_rows_of_numbers_say_the_same(stays: list[Stay]) -> None:
    bars = bars_of(stays, 1, 1000, NOW)
    data = bars_to_json(bars, 0, {})
    for bar, row in zip(bars, data["rows"], strict=True):
        lane, start, end, launches, calls, stopped, parts, model = row
        assert (lane, launches, calls, stopped) == (
            bar.lane,
            bar.launches,
            bar.calls,
            bar.stopped,
        )
        assert (start, end) == (bar.start_ns // 1000, bar.end_ns // 1000)
        assert {data["templates"][i]: us for i, us in parts} == {
            name: ns // 1000 for name, ns in bar.busy_ns.items()
        }
        assert model == bar.model[:80]


def test_what_runs_lasts_until_now_and_has_the_name_that_clients_know() -> None:
    stay = Stay(
        lane=0, start_ns=5, end_ns=None, rows={"a": 1}, model="m/1#1", calls=1, stopped=False
    )
    bars = bars_of([stay], 1, 1, 2005)
    assert bars_to_json(bars, 5, {"m/1#1": "m"}) == {
        "templates": ["a"],
        "rows": [[0, 0, 2, 1, 1, 0, [[0, 2]], "m"]],
    }
