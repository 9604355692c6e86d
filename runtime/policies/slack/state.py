"""What `slack` remembers: the order of what waits, the same by place, and when templates are asked.

The rank is the due time, plus 3/10 of the time that the request still needs. Of two that are due at
about the same time the shorter goes first, and what has begun is pulled ahead as it gets done. A
rank is a fixed time, so whoever waits gets to the front, however much short work keeps coming.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from fusec.runtime.policies.ranking import key_of, left_ns
from fusec.runtime.sched.due import due_ns
from fusec.runtime.sched.order import NEVER, Entry, Order, insert, remove
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Request
from fusec.runtime.sched.view import View, Waiting

__all__ = [
    "Place",
    "Rhythm",
    "State",
    "entry_of",
    "forget",
    "place_of",
    "promise_ns",
    "put",
    "rank",
    "update",
]

Place: TypeAlias = tuple[str, int, int, tuple[int, ...]]
"""Template, block, work done in it, and with whom: requests at one place can run together."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When a template was last asked for, and how long it usually takes until it is again."""

    last_ns: int
    gap_ns: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All that waits, in order, and by place. Maps are copied, never changed."""

    order: Order = None
    places: Mapping[Place, Order] = field(default_factory=dict)
    rhythms: Mapping[str, Rhythm] = field(default_factory=dict)


def rank(waiting: Waiting, profile: Profile) -> int:
    """Give the time that orders requests."""
    return due_ns(waiting.request, profile) + 3 * left_ns(waiting, profile) // 10


def promise_ns(request: Request) -> int:
    """Give the time by which an answer was promised; a due time that stands in is no promise."""
    return NEVER if request.deadline_ns is None else request.deadline_ns


def place_of(waiting: Waiting) -> Place:
    """Give where a request is."""
    return (waiting.request.template, waiting.next_block, waiting.done_ns, waiting.group)


def entry_of(waiting: Waiting, view: View) -> Entry:
    """Make a request's entry in the order; its work is what it adds to a full batch."""
    request = waiting.request
    cost = view.profile[request.template]
    left = left_ns(waiting, view.profile)
    work = min(left, max(1, left * cost.share_ns // cost.solo_ns)) // max(1, len(view.lanes))
    key = key_of(waiting, view.profile, rank)
    return Entry(key, request.id, waiting.stops, work, promise_ns(request))


def put(state: State, view: View, waiting: Waiting) -> State:
    """Add what waits."""
    entry, place = entry_of(waiting, view), place_of(waiting)
    places = {**state.places, place: insert(state.places.get(place), entry)}
    return replace(state, order=insert(state.order, entry), places=places)


def forget(state: State, view: View, gone: tuple[Waiting, ...]) -> State:
    """Remove what waits no longer."""
    order, places = state.order, dict(state.places)
    for waiting in gone:
        key, place = key_of(waiting, view.profile, rank), place_of(waiting)
        order = remove(order, key)
        left = remove(places.pop(place, None), key)
        if left is not None:
            places[place] = left
    return replace(state, order=order, places=places)


def update(state: State, view: View) -> State:
    """Bring the rest up to date with what changed; what arrived is not admitted yet."""
    state = forget(state, view, view.change.gone) if view.change.gone else state
    for stopped in view.change.stopped:
        for number in (n for pack in stopped.pack.parts for n in pack.requests):
            if number in view.waiting:
                state = put(state, view, view.waiting[number])
    if not view.change.arrived:
        return state
    rhythms = dict(state.rhythms)
    for request in view.change.arrived:
        rhythms[request.template] = _next(rhythms.get(request.template), request.arrival_ns)
    return replace(state, rhythms=rhythms)


def _next(before: Rhythm | None, at_ns: int) -> Rhythm:
    """Follow the gaps between requests, each new one counting for a quarter."""
    if before is None:
        return Rhythm(at_ns)
    gap = max(0, at_ns - before.last_ns)
    return Rhythm(at_ns, gap if before.gap_ns is None else (3 * before.gap_ns + gap) // 4)
