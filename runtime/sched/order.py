"""A sorted queue that is a value: inserting gives a new one, in time that grows with the logarithm.

A treap: a search tree by key that is a heap by a hash of the request's number. Nodes are tuples and
never change, so that an older queue stays what it was. Each node knows, of all below it, the work,
and the least time that is left before a promise breaks if the work is done in order:

    least = min over entries i of (promise_i - work of all up to and with i)
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

__all__ = [
    "NEVER",
    "Entry",
    "Key",
    "Order",
    "find",
    "first",
    "insert",
    "items",
    "least_after",
    "remove",
    "size",
    "total_work",
    "work_before",
]

NEVER = 1 << 62
"""Later than any time."""

Key: TypeAlias = tuple[int, int, int, int]
"""Rank, then minus the priority, arrival and number of the request: no two are equal."""


class Entry(NamedTuple):
    """One request in a queue."""

    key: Key
    request: int
    stops: int = 0
    """Tells this entry from one that the request had before it ran and stopped again."""
    work_ns: int = 0
    promise_ns: int = NEVER


class _Node(NamedTuple):
    entry: Entry
    heap: int
    left: "_Node | None"
    right: "_Node | None"
    size: int
    work: int
    least: int


Order: TypeAlias = _Node | None


def size(order: Order) -> int:
    """Count the entries."""
    return order.size if order else 0


def first(order: Order) -> Entry | None:
    """Give the entry of the smallest key."""
    if order is None:
        return None
    while order.left is not None:
        order = order.left
    return order.entry


def find(order: Order, key: Key) -> Entry | None:
    """Give the entry of a key."""
    while order is not None and key != order.entry.key:
        order = order.left if key < order.entry.key else order.right
    return None if order is None else order.entry


def items(order: Order) -> Iterator[Entry]:
    """Give the entries by key, lazily."""
    path: list[_Node] = []
    while path or order:
        while order:
            path.append(order)
            order = order.left
        node = path.pop()
        yield node.entry
        order = node.right


def insert(order: Order, entry: Entry) -> Order:
    """Give the queue with one entry more."""
    heap, key = _hash(entry.request), entry.key
    path: list[tuple[_Node, bool]] = []
    while order is not None and order.heap >= heap:
        before = key < order.entry.key
        path.append((order, before))
        order = order.left if before else order.right
    node: Order = _node(entry, heap, *_cut(order, key))
    return _rebuilt(path, node)


def remove(order: Order, key: Key) -> Order:
    """Give the queue without the entry of a key, or the same queue if there is none."""
    path: list[tuple[_Node, bool]] = []
    here = order
    while here is not None and here.entry.key != key:
        before = key < here.entry.key
        path.append((here, before))
        here = here.left if before else here.right
    return order if here is None else _rebuilt(path, _join(here.left, here.right))


def total_work(order: Order) -> int:
    """Add up the work of all entries."""
    return order.work if order else 0


def work_before(order: Order, key: Key) -> int:
    """Add up the work of all entries with smaller keys."""
    work = 0
    while order is not None:
        if key <= order.entry.key:
            order = order.left
        else:
            work += order.entry.work_ns + (order.left.work if order.left else 0)
            order = order.right
    return work


def least_after(order: Order, key: Key) -> int:
    """Give the time that is left before the first promise breaks of those with larger keys."""
    before, least = 0, NEVER
    while order is not None:
        through = before + order.entry.work_ns + (order.left.work if order.left else 0)
        if key < order.entry.key:
            least = min(least, order.entry.promise_ns - through)
            if order.right is not None:
                least = min(least, order.right.least - through)
            order = order.left
        else:
            before = through
            order = order.right
    return least


def _rebuilt(path: list[tuple[_Node, bool]], node: Order) -> Order:
    """Give the tree whose path, from the root, ends in another node."""
    for above, left in reversed(path):
        if left:
            node = _node(above.entry, above.heap, node, above.right)
        else:
            node = _node(above.entry, above.heap, above.left, node)
    return node


def _cut(order: Order, key: Key) -> tuple[Order, Order]:
    """Give what is before a key, and what is after it."""
    if order is None:
        return None, None
    if key < order.entry.key:
        low, high = _cut(order.left, key)
        return low, _node(order.entry, order.heap, high, order.right)
    low, high = _cut(order.right, key)
    return _node(order.entry, order.heap, order.left, low), high


def _join(low: Order, high: Order) -> Order:
    if low is None or high is None:
        return low or high
    if low.heap > high.heap:
        return _node(low.entry, low.heap, low.left, _join(low.right, high))
    return _node(high.entry, high.heap, _join(low, high.left), high.right)


def _node(entry: Entry, heap: int, left: Order, right: Order) -> _Node:
    n, through, least = 1, entry.work_ns, NEVER
    if left is not None:
        n += left.size
        through += left.work
        least = left.least
    own = entry.promise_ns - through
    if own < least:
        least = own
    total = through
    if right is not None:
        n += right.size
        total += right.work
        if right.least - through < least:
            least = right.least - through
    return tuple.__new__(_Node, (entry, heap, left, right, n, total, least))


def _hash(number: int) -> int:
    """Mix a number's bits, so that the tree is balanced whatever order requests come in."""
    mixed = (number * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed ^= mixed >> 32
    return (mixed * 0xD6E8FEB86659FD93) & 0xFFFFFFFFFFFFFFFF
