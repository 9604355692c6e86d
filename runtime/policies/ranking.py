"""What the policies that go by a rank share: a queue in order of rank, kept up to date.

A rank is a number that holds as long as a request waits: it depends on the request and on how far
it is, never on the time. So the order stands between decisions, and a decision costs what changed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from fusec.runtime.sched.order import Entry, Key, Order, first, insert, items, remove
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Action, Launch, Pack
from fusec.runtime.sched.view import View, Waiting

__all__ = [
    "Rank",
    "Ranked",
    "absorb",
    "head",
    "key_of",
    "left_ns",
    "less_memory",
    "needs_bytes",
    "next_that_fits",
    "one_by_one",
]

Rank: TypeAlias = Callable[[Waiting, Profile], int]


@dataclass(frozen=True, slots=True)
class Ranked:
    """The state of a policy that needs the order and nothing else."""

    order: Order = None


def left_ns(waiting: Waiting, profile: Profile) -> int:
    """Give the time that a request still needs if it runs alone."""
    request = waiting.request
    left = profile[request.template].left_ns(waiting.next_block, request.rows)
    return max(1, left - waiting.done_ns)


def key_of(waiting: Waiting, profile: Profile, rank: Rank) -> Key:
    """Give a request's place in the order, by stated costs."""
    request = waiting.request
    return (rank(waiting, profile.stated), -request.priority, request.arrival_ns, request.id)


def absorb(view: View, state: Ranked, rank: Rank) -> Ranked:
    """Bring the order up to date with what changed."""
    order = state.order
    for gone in view.change.gone:
        order = remove(order, key_of(gone, view.profile, rank))
    for request in view.change.arrived:
        order = _put(order, view, request.id, rank)
    for stopped in view.change.stopped:
        for pack in stopped.pack.parts:
            for number in pack.requests:
                order = _put(order, view, number, rank)
    return Ranked(order)


def head(view: View, order: Order) -> tuple[Entry | None, Order]:
    """Give who is first, and the order without what no longer waits before it.

    What left is removed when it leaves; but its rank may have changed with the profile.
    """
    while (entry := first(order)) is not None:
        if _waits(view, entry):
            return entry, order
        order = remove(order, entry.key)
    return None, None


def needs_bytes(view: View, waiting: Waiting) -> int:
    """Give the memory that starting a request takes: none if it has some from an earlier start."""
    if waiting.stops:
        return 0
    return view.profile[waiting.request.template].needs_bytes(waiting.request.rows)


def next_that_fits(view: View, order: Order) -> tuple[Entry | None, Order]:
    """Give who is first; if there is no memory for it, who is first of those that have theirs.

    Without that, what has begun and was stopped could wait for the memory that it holds itself.
    """
    entry, order = head(view, order)
    if entry is None or view.free_bytes is None:
        return entry, order
    if needs_bytes(view, view.waiting[entry.request]) <= view.free_bytes:
        return entry, order
    return next((e for e in items(order) if e.stops and _waits(view, e)), None), order


def less_memory(view: View, taken: Iterable[Waiting]) -> View:
    """Give the view without the memory that some requests take when they start."""
    if view.free_bytes is None:
        return view
    return replace(view, free_bytes=view.free_bytes - sum(needs_bytes(view, w) for w in taken))


def one_by_one(
    rank: Rank, *, whole: bool
) -> Callable[[View, Ranked], tuple[tuple[Action, ...], Ranked]]:
    """Make the policy that runs requests alone, by rank, on whatever lane is free.

    Args:
        rank: who goes first: the smallest.
        whole: never stop between blocks.
    """

    def decide(view: View, state: Ranked) -> tuple[tuple[Action, ...], Ranked]:
        order = absorb(view, state, rank).order
        actions: list[Action] = []
        for lane in view.lanes:
            if lane.pack is not None:
                continue
            entry, order = next_that_fits(view, order)
            if entry is None:
                break
            waiting = view.waiting[entry.request]
            request = waiting.request
            order = remove(order, entry.key)  # which may be of other costs than today's
            cost = view.profile[request.template]
            view = less_memory(view, (waiting,))
            until = cost.n_blocks if whole else waiting.next_block + 1
            pack = Pack(request.template, (request.id,), waiting.next_block)
            actions.append(Launch(pack, lane.index, until))
        return tuple(actions), Ranked(order)

    return decide


def _waits(view: View, entry: Entry) -> bool:
    waiting = view.waiting.get(entry.request)
    return waiting is not None and waiting.stops == entry.stops


def _put(order: Order, view: View, number: int, rank: Rank) -> Order:
    waiting = view.waiting.get(number)
    if waiting is None:  # it came and went between two decisions
        return order
    return insert(order, Entry(key_of(waiting, view.profile, rank), number, waiting.stops))
