"""Figures of a runtime against numbers worked out by hand."""

from fusec_testing.counted import MS, Counted, counted, request
from hypothesis import given
from hypothesis import strategies as st

from fusec.runtime.cache import LockedCache, Uses
from fusec.runtime.serving.spread import BOUNDS_NS, Spreading
from fusec.runtime.serving.stats import OTHER


def test_figures_are_as_worked_out_by_hand() -> None:
    stats = counted().stats()
    assert (stats.submitted, stats.in_flight) == (6, 0)
    assert stats.outcomes == {"done": 3, "expired": 1, "cancelled": 2}
    assert (stats.promised, stats.kept) == (3, 1)
    assert stats.attainment == 2 / 4
    assert (stats.launches, stats.packs, stats.packed, stats.preemptions) == (3, 4, 5, 1)
    assert (stats.mean_pack, stats.mean_batch) == (4 / 3, 5 / 4)
    assert (stats.instances, stats.room, stats.batch_fill) == (9, 40, 9 / 40)
    assert stats.busy_ns == 17 * MS
    assert stats.tenant_ns == {"ann": 10 * MS, "bob": 7 * MS}


def test_slack_is_of_calls_that_began_to_run_and_had_named_a_deadline() -> None:
    slack = counted().stats().slack
    found = {BOUNDS_NS[i] / MS: n for i, n in enumerate(slack.counts[:-1]) if n}
    # 80 ms, 0.5 ms, which is a bound, and twice 300 ms.
    assert found == {100: 1, 0.5: 1, 500: 2}
    assert slack.counts[-1] == 0
    assert slack.sum_ns == round((80 + 0.5 + 2 * 300) * MS)


@given(st.lists(st.tuples(st.integers(0, 20_000 * MS), st.integers(1, 3))))
def test_each_time_is_below_its_bound_and_above_the_one_before(
    times: list[tuple[int, int]],
) -> None:
    spreading = Spreading()
    for took, n in times:
        spreading.add(took, n)
    every = [took for took, n in times for _ in range(n)]
    read = spreading.read()
    for i, bound in enumerate(BOUNDS_NS):
        assert sum(read.counts[: i + 1]) == sum(took <= bound for took in every)
    assert (sum(read.counts), read.sum_ns) == (len(every), sum(every))


def test_tenants_beyond_a_thousand_are_counted_together() -> None:
    made = Counted()
    for n in range(1500):
        made.ran(1, request(n, tenant=f"t{n}"), room=1)
    for n in (3, 1400, 1400):
        made.ran(1, request(n, tenant=f"t{n}"), room=1)
    found = made.stats().tenant_ns
    assert len(found) == 1001
    assert (found["t3"], found[OTHER]) == (2 * MS, 502 * MS)
    assert sum(found.values()) == made.stats().busy_ns


def test_a_cache_counts_what_was_there_and_what_was_made() -> None:
    cache: LockedCache[int] = LockedCache(limit=2)
    for key in (1, 1, 2, 3, 1, 3):
        cache.get(key, lambda: 0)
    assert cache.uses == Uses(hits=2, misses=4)
