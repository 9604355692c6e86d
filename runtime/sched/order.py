"""A sorted queue that is a value: inserting gives a new one, in time that grows with the logarithm.

A B-tree: nodes hold up to 48 entries, or as many nodes, and never change, so that an older queue
stays what it was. Each node knows, of all below it, the work, and, once somebody asks, the least
time that is left before a promise breaks if the work is done in order:

    least = min over entries i of (promise_i - work of all up to and with i)

Wide nodes, since copying a tuple of 48 costs less than making one small node of a binary tree.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import sub
from typing import Any, NamedTuple, TypeAlias

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
    "remove_all",
    "size",
    "total_work",
    "work_before",
]

NEVER = 1 << 62
"""Later than any time."""

Key: TypeAlias = tuple[int, int, int, int]
"""Rank, then minus the priority, arrival and number of the request: no two are equal."""

_MOST = 48
_FEWEST = 8
"""A smaller node is joined with the one beside it."""


class Entry(NamedTuple):
    """One request in a queue."""

    key: Key
    request: int
    stops: int = 0
    """Tells this entry from one that the request had before it ran and stopped again."""
    work_ns: int = 0
    promise_ns: int = NEVER
    what: Any = None
    """Whatever the owner of the queue wants to find again."""


class _Node:
    """Entries, or nodes of one height."""

    __slots__ = ("_least", "_size", "keys", "kids", "leaf", "work", "works")

    def __init__(
        self, keys: tuple[Key, ...], kids: tuple[Any, ...], works: tuple[int, ...], leaf: bool
    ) -> None:
        """Make a node.

        Args:
            keys: the smallest of each child.
            kids: entries or nodes.
            works: of each child.
            leaf: children are entries.
        """
        self.keys, self.kids, self.works, self.leaf = keys, kids, works, leaf
        self.work = sum(works)
        # Worked out when somebody asks: most nodes live and die unasked.
        self._least: int | None = None
        self._size: int | None = len(kids) if leaf else None

    @property
    def size(self) -> int:
        """Entries below."""
        if self._size is None:
            self._size = sum([kid.size for kid in self.kids])
        return self._size

    @property
    def least(self) -> int:
        """See the top of the file; as if nothing were before this node."""
        if self._least is None:
            self._least = min(NEVER, *_leasts(self, 0, 0))
        return self._least


Order: TypeAlias = _Node | None


def size(order: Order) -> int:
    """Count the entries."""
    return order.size if order else 0


def first(order: Order) -> Entry | None:
    """Give the entry of the smallest key."""
    if order is None:
        return None
    while not order.leaf:
        order = order.kids[0]
    entry: Entry = order.kids[0]
    return entry


def find(order: Order, key: Key) -> Entry | None:
    """Give the entry of a key."""
    while order is not None and not order.leaf:
        order = order.kids[max(0, bisect_right(order.keys, key) - 1)]
    if order is None:
        return None
    at = bisect_left(order.keys, key)
    return order.kids[at] if at < len(order.keys) and order.keys[at] == key else None


def items(order: Order) -> Iterator[Entry]:
    """Give the entries by key, lazily."""
    if order is None:
        return
    if order.leaf:
        yield from order.kids
        return
    for kid in order.kids:
        yield from items(kid)


def insert(order: Order, entry: Entry) -> Order:
    """Give the queue with one entry more."""
    if order is None:
        return _Node((entry.key,), (entry,), (entry.work_ns,), leaf=True)
    nodes = _inserted(order, entry)
    return nodes[0] if len(nodes) == 1 else _over(nodes)


def remove(order: Order, key: Key) -> Order:
    """Give the queue without the entry of a key, or the same queue if there is none."""
    return remove_all(order, (key,))


def remove_all(order: Order, keys: Sequence[Key]) -> Order:
    """Give the queue without the entries of some keys, in ascending order; some may not be there.

    Cost: that of removing one for each node that holds any.
    """
    made = None if order is None else _removed(order, keys)
    while made is not None and not made.leaf and len(made.kids) == 1:
        made = made.kids[0]
    return made


def total_work(order: Order) -> int:
    """Add up the work of all entries."""
    return order.work if order else 0


def work_before(order: Order, key: Key) -> int:
    """Add up the work of all entries with smaller keys."""
    work = 0
    while order is not None:
        if order.leaf:
            return work + sum(order.works[: bisect_left(order.keys, key)])
        at = max(0, bisect_right(order.keys, key) - 1)
        work += sum(order.works[:at])
        order = order.kids[at]
    return work


def least_after(order: Order, key: Key) -> int:
    """Give the time that is left before the first promise breaks of those with larger keys."""
    before, least = 0, NEVER
    while order is not None:
        at = bisect_right(order.keys, key)
        through = before + sum(order.works[:at])
        least = min(least, *_leasts(order, at, through), NEVER)
        if order.leaf or at == 0:
            break
        before += sum(order.works[: at - 1])
        order = order.kids[at - 1]
    return least


def _leasts(node: _Node, start: int, before: int) -> Iterable[int]:
    """Give the least of each child from one on.

    Args:
        node: whose.
        start: the first child.
        before: work of all before that child.
    """
    works = node.works[start:]
    if node.leaf:
        each = [kid.promise_ns for kid in node.kids[start:]]
        return map(sub, each, accumulate([before + works[0], *works[1:]] if works else ()))
    # What is below a node counts from its own start. A property costs more than looking first.
    known = [kid.least if kid._least is None else kid._least for kid in node.kids[start:]]
    return map(sub, known, accumulate((before, *works)))


def _inserted(node: _Node, entry: Entry) -> tuple[_Node, ...]:
    """Give the one or two nodes that a node becomes."""
    keys, kids, works = node.keys, node.kids, node.works
    if node.leaf:
        at = bisect_left(keys, entry.key)
        return _halved(
            (*keys[:at], entry.key, *keys[at:]),
            (*kids[:at], entry, *kids[at:]),
            (*works[:at], entry.work_ns, *works[at:]),
            leaf=True,
        )
    at = max(0, bisect_right(keys, entry.key) - 1)
    nodes, end = _inserted(kids[at], entry), at + 1
    if len(nodes) == 1:  # nearly always
        made = nodes[0]
        return (
            _Node(
                (*keys[:at], made.keys[0], *keys[end:]),
                (*kids[:at], made, *kids[end:]),
                (*works[:at], made.work, *works[end:]),
                leaf=False,
            ),
        )
    return _halved(
        keys[:at] + tuple([n.keys[0] for n in nodes]) + keys[end:],
        kids[:at] + nodes + kids[end:],
        works[:at] + tuple([n.work for n in nodes]) + works[end:],
        leaf=False,
    )


def _removed(node: _Node, keys: Sequence[Key]) -> Order:
    """Give what is left of a node: the same if none of the keys is there."""
    if node.leaf:
        return _without(node, keys)
    kids: list[_Node] = list(node.kids)
    at, small, changed = 0, False, False
    # From the end, so that places before stay what they are.
    stop = len(keys)
    while stop:
        at = max(0, bisect_right(node.keys, keys[stop - 1]) - 1)
        start = bisect_left(keys, node.keys[at], 0, stop) if at else 0
        kid = _removed(kids[at], keys[start:stop])
        stop = start
        if kid is kids[at]:
            continue
        changed = True
        if kid is None:
            del kids[at]
        else:
            kids[at] = kid
            small = small or len(kid.kids) < _FEWEST
    if not changed:
        return node
    return _over(_wide(kids) if small else kids) if kids else None


def _without(node: _Node, gone: Sequence[Key]) -> Order:
    """Give a node of entries without some of them."""
    keys, kids, works = list(node.keys), list(node.kids), list(node.works)
    for key in gone:
        at = bisect_left(keys, key)
        if at < len(keys) and keys[at] == key:
            del keys[at], kids[at], works[at]
    if len(keys) == len(node.keys):
        return node
    return _Node(tuple(keys), tuple(kids), tuple(works), leaf=True) if keys else None


def _wide(nodes: Sequence[_Node]) -> list[_Node]:
    """Join small nodes with those beside them."""
    made = [nodes[0]]
    for node in nodes[1:]:
        low = made[-1]
        if min(len(low.kids), len(node.kids)) >= _FEWEST:
            made.append(node)
            continue
        joined = (low.keys + node.keys, low.kids + node.kids, low.works + node.works)
        made[-1:] = _halved(*joined, leaf=node.leaf)
    return made


def _over(nodes: Sequence[_Node]) -> _Node:
    return _Node(
        tuple([n.keys[0] for n in nodes]), tuple(nodes), tuple([n.work for n in nodes]), leaf=False
    )


def _halved(
    keys: tuple[Key, ...], kids: tuple[Any, ...], works: tuple[int, ...], *, leaf: bool
) -> tuple[_Node, ...]:
    """Give the one or two nodes that hold so much."""
    if len(keys) <= _MOST:
        return (_Node(keys, kids, works, leaf),)
    half = len(keys) // 2
    return (
        _Node(keys[:half], kids[:half], works[:half], leaf),
        _Node(keys[half:], kids[half:], works[half:], leaf),
    )
