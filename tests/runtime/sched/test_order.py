"""The persistent queue against a sorted list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fusec.runtime.sched.order import (
    NEVER,
    Entry,
    Order,
    find,
    first,
    insert,
    items,
    least_after,
    remove,
    remove_all,
    size,
    total_work,
    work_before,
)

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "remove"]),
        st.integers(0, 20),
        st.integers(1, 9),
        st.sampled_from([5, 30, NEVER]),
    ),
    max_size=60,
)


def entry(rank: int, number: int, work: int, promise: int) -> Entry:
    return Entry((rank, 0, 0, number), number, 0, work, promise)


def check(order: Order, plain: list[Entry]) -> None:
    assert list(items(order)) == plain
    assert size(order) == len(plain)
    assert first(order) == (plain[0] if plain else None)
    assert total_work(order) == sum(e.work_ns for e in plain)
    for rank in range(-1, 22):
        key = (rank, 0, 0, -1)
        before = [e for e in plain if e.key < key]
        assert work_before(order, key) == sum(e.work_ns for e in before)
        left, sums = NEVER, sum(e.work_ns for e in before)
        for later in plain[len(before) :]:
            sums += later.work_ns
            left = min(left, later.promise_ns - sums)
        assert least_after(order, key) == left


@given(STEPS)
def test_it_is_a_sorted_list_with_sums(steps: list[tuple[str, int, int, int]]) -> None:
    order: Order = None
    plain: list[Entry] = []
    for number, (what, rank, work, promise) in enumerate(steps):
        if what == "insert":
            new = entry(rank, number, work, promise)
            order, plain = insert(order, new), sorted([*plain, new])
        elif plain:
            gone = plain.pop(rank % len(plain))
            order = remove(order, gone.key)
    check(order, plain)


@given(STEPS)
def test_an_older_queue_stays_what_it_was(steps: list[tuple[str, int, int, int]]) -> None:
    versions: list[tuple[Order, list[Entry]]] = [(None, [])]
    for number, (what, rank, work, promise) in enumerate(steps):
        order, plain = versions[-1]
        if what == "insert":
            new = entry(rank, number, work, promise)
            versions.append((insert(order, new), sorted([*plain, new])))
        elif plain:
            gone = plain[rank % len(plain)]
            versions.append((remove(order, gone.key), [e for e in plain if e != gone]))
    for order, plain in versions:
        assert list(items(order)) == plain


def test_what_is_not_there_is_not_removed_nor_found() -> None:
    order = insert(None, entry(1, 1, 1, NEVER))
    assert remove(order, (2, 0, 0, 2)) is order
    assert find(order, (2, 0, 0, 2)) is None
    assert find(order, (1, 0, 0, 1)) == entry(1, 1, 1, NEVER)
    assert remove(None, (2, 0, 0, 2)) is None


def depth(order: Order) -> int:
    if order is None:
        return 0
    return 1 if order.leaf else 1 + max(map(depth, order.kids))


@given(
    st.lists(st.integers(0, 400), unique=True, max_size=300),
    st.lists(st.integers(0, 400), max_size=300),
)
def test_many_leave_at_once_as_if_one_after_another(there: list[int], gone: list[int]) -> None:
    entries = [entry(n, n, n % 7 + 1, 5 * n) for n in there]
    order: Order = None
    for new in entries:
        order = insert(order, new)
    keys = sorted((n, 0, 0, n) for n in gone)
    left = remove_all(order, keys)
    assert list(items(left)) == sorted(e for e in entries if e.request not in gone)
    assert size(left) == len([n for n in there if n not in gone])
    assert total_work(left) == sum(e.work_ns for e in items(left))
    sums, least = 0, NEVER
    for each in items(left):
        sums += each.work_ns
        least = min(least, each.promise_ns - sums)
    assert least_after(left, (-1, 0, 0, 0)) == least
    if not set(gone) & set(there):
        assert left is order


def test_it_stays_shallow_whatever_order_entries_come_in() -> None:
    for numbers in (range(4_000), range(4_000, 0, -1)):
        order: Order = None
        for number in numbers:
            order = insert(order, entry(number, number, 1, NEVER))
        assert depth(order) <= 4
        thin = remove_all(order, [e.key for e in items(order) if e.request % 40])
        assert (size(thin), depth(thin)) == (100, 2)
        for number in list(numbers)[:3_900]:
            order = remove(order, (number, 0, 0, number))
        assert depth(order) <= 2
        assert size(order) == 100
