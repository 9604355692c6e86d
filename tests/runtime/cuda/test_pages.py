"""Pages of weights: laid out without overlap, there when needed, never above the budget."""

from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fusec.ir.errors import ConfigError
from fusec.runtime.cuda.pages import (
    Page,
    PageTable,
    Residency,
    Run,
    Short,
    WeightUse,
    drop,
    finish,
    lay_out,
    pages_of,
    plan_run,
)

MEMBERS = ("ann", "bob", "cat")
WEIGHTS = st.lists(
    st.tuples(
        st.integers(0, 5000), st.frozensets(st.sampled_from(MEMBERS), min_size=1), st.integers(0, 4)
    ),
    max_size=20,
).map(
    lambda given: [
        WeightUse(key=f"w{i}", n_bytes=size, owners=owners, stage=stage)
        for i, (size, owners, stage) in enumerate(given)
    ]
)


@given(WEIGHTS, st.sampled_from([256, 1000, 4096, 1 << 20]))
def test_every_weight_has_a_place_of_its_own(weights: list[WeightUse], page_bytes: int) -> None:
    table = lay_out(weights, page_bytes)
    by_key = {w.key: w for w in weights}
    assert table.places.keys() == by_key.keys()
    assert sorted(k for page in table.pages for k in page.keys) == sorted(by_key)
    for number, page in enumerate(table.pages):
        end = 0
        for key in page.keys:
            place = table.places[key]
            assert place.page == number
            assert place.offset >= end
            assert place.offset % 256 == 0
            end = place.offset + by_key[key].n_bytes
        assert end == page.n_bytes
        assert page.n_bytes <= page_bytes or len(page.keys) == 1
        assert len({by_key[key].owners for key in page.keys}) == 1
    firsts = [min(by_key[key].stage for key in page.keys) for page in table.pages]
    assert firsts == sorted(firsts)


@given(WEIGHTS, st.randoms())
def test_places_do_not_depend_on_the_order_of_weights(
    weights: list[WeightUse], random: object
) -> None:
    shuffled = list(weights)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert lay_out(weights, 4096) == lay_out(shuffled, 4096)


def test_few_small_weights_are_one_page_and_shared_ones_another() -> None:
    own = [WeightUse(key=f"a{i}", n_bytes=100, owners=frozenset({"a"}), stage=i) for i in range(3)]
    both = WeightUse(key="s", n_bytes=100, owners=frozenset({"a", "b"}), stage=1)
    table = lay_out([*own, both])
    assert [page.keys for page in table.pages] == [("a0", "a1", "a2"), ("s",)]
    assert pages_of(table, [["a0"], ["s", "a1"], []]) == ({0}, {0, 1}, set())
    with pytest.raises(ConfigError, match="twice"):
        lay_out([both, both])


def table_of(sizes: Sequence[int]) -> PageTable:
    pages = tuple(Page(n_bytes=size, keys=(f"w{i}",)) for i, size in enumerate(sizes))
    return PageTable(pages=pages, places={})


RUNS = st.lists(
    st.tuples(
        st.lists(st.frozensets(st.integers(0, 6), max_size=3), max_size=5),
        st.booleans(),
    ),
    max_size=12,
)


def follow(
    table: PageTable, before: Residency, needed: list[frozenset[int]], run: Run, budget: int
) -> None:
    """Make the moves of a run and look at each step."""
    size = [page.n_bytes for page in table.pages]
    here = set(before.last_use)
    for wanted, moves in zip(needed, run.moves, strict=True):
        for page in moves.evict:
            assert not before.users.get(page)
            here.remove(page)
        for page in moves.upload:
            assert page not in here
            here.add(page)
        assert wanted <= here
        assert sum(size[page] for page in here) <= budget
    assert here == set(run.after.last_use)


@given(st.lists(st.integers(1, 100), min_size=7, max_size=7), RUNS, st.integers(1, 400))
def test_pages_are_there_when_needed_and_never_too_many(
    sizes: list[int], runs: list[tuple[list[frozenset[int]], bool]], budget: int
) -> None:
    table, residency = table_of(sizes), Residency.empty()
    going: list[Run] = []
    for needed, ends in runs:
        planned = plan_run(table, residency, needed, budget)
        if isinstance(planned, Short):
            most = max(sum(sizes[page] for page in wanted) for wanted in needed)
            assert planned.for_good == (planned.needed_bytes > budget)
            assert planned.needed_bytes <= most
            assert planned.needed_bytes > planned.room_bytes
            assert planned.for_good or going
        else:
            follow(table, residency, needed, planned, budget)
            residency = planned.after
            going.append(planned)
        if ends and going:
            residency = finish(residency, going.pop(0).pages)
    for run in going:
        residency = finish(residency, run.pages)
    assert not residency.users


@given(st.lists(st.integers(1, 50), min_size=7, max_size=7), RUNS)
def test_with_room_for_all_each_page_comes_once_and_none_leaves(
    sizes: list[int], runs: list[tuple[list[frozenset[int]], bool]]
) -> None:
    table, residency = table_of(sizes), Residency.empty()
    uploads: list[int] = []
    for needed, _ in runs:
        run = plan_run(table, residency, needed, sum(sizes))
        assert isinstance(run, Run)
        assert not any(moves.evict for moves in run.moves)
        # In the order of stages: as late as they may, so that the first stage waits for its own.
        seen: set[int] = set(residency.last_use)
        for wanted, moves in zip(needed, run.moves, strict=True):
            assert set(moves.upload) == wanted - seen
            seen |= wanted
        uploads += [page for moves in run.moves for page in moves.upload]
        residency = run.after
    assert len(uploads) == len(set(uploads))


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=1), min_size=3, max_size=20),
    st.integers(1, 6),
)
def test_the_least_recently_used_leaves(runs: list[list[int]], room: int) -> None:
    """Against the textbook: pages of one size, runs of one page."""
    table, residency, textbook = table_of([10] * 7), Residency.empty(), list[int]()
    for (page,) in runs:
        run = plan_run(table, residency, [frozenset({page})], room * 10)
        assert isinstance(run, Run)
        evicted = [textbook.pop(0)] if page not in textbook and len(textbook) == room else []
        textbook = [*(p for p in textbook if p != page), page]
        assert [p for moves in run.moves for p in moves.evict] == evicted
        residency = finish(run.after, run.pages)


def test_a_run_larger_than_the_budget_makes_room_behind_itself() -> None:
    table = table_of([10] * 5)
    needed = [frozenset({n}) for n in range(5)]
    run = plan_run(table, Residency.empty(), needed, 20)
    assert isinstance(run, Run)
    assert [moves.upload for moves in run.moves] == [(0,), (1,), (2,), (3,), (4,)]
    assert [moves.evict for moves in run.moves] == [(), (), (0,), (1,), (2,)]
    assert run.pages == (3, 4)
    over = finish(run.after, run.pages)
    again = plan_run(table, over, needed, 20)
    assert isinstance(again, Run)
    follow(table, over, needed, again, 20)


def test_pages_that_come_back_are_those_needed_latest() -> None:
    table = table_of([10] * 4)
    before = Residency(last_use={0: 0, 1: 0}, users={}, runs=1)
    needed = [frozenset({2}), frozenset({0}), frozenset({1})]
    run = plan_run(table, before, needed, 20)
    assert isinstance(run, Run)
    assert run.moves[0].evict == (1,)


def test_a_page_that_the_stage_needs_stays_though_it_is_the_last_to_need_it() -> None:
    needed = [frozenset({0, 2}), frozenset({0, 1}), frozenset({2})]
    run = plan_run(table_of([10] * 3), Residency.empty(), needed, 20)
    assert isinstance(run, Run)
    assert [moves.evict for moves in run.moves] == [(), (2,), (0,)]


def test_pages_of_runs_that_go_on_stay() -> None:
    table = table_of([10] * 3)
    first = plan_run(table, Residency.empty(), [frozenset({0, 1})], 20)
    assert isinstance(first, Run)
    assert plan_run(table, first.after, [frozenset({2})], 20) == Short(
        needed_bytes=10, room_bytes=0, for_good=False
    )
    shared = plan_run(table, first.after, [frozenset({0})], 20)
    assert isinstance(shared, Run)
    once = finish(shared.after, first.pages)
    assert once.users == {0: 1}
    later = plan_run(table, once, [frozenset({2})], 20)
    assert isinstance(later, Run)
    assert later.moves[0].evict == (1,)
    assert drop(once, [0, 1]).last_use.keys() == {0}


@given(st.lists(st.integers(1, 100), min_size=7, max_size=7), st.frozensets(st.integers(0, 6)))
def test_what_does_not_fit_an_empty_card_is_short_for_good(
    sizes: list[int], wanted: frozenset[int]
) -> None:
    needs = sum(sizes[page] for page in wanted)
    assume(needs > 1)
    planned = plan_run(table_of(sizes), Residency.empty(), [wanted], needs - 1)
    assert planned == Short(needed_bytes=needs, room_bytes=needs - 1, for_good=True)
