"""What `slack` remembers: the order of what waits, the same by place, and when templates are asked.

The rank is the due time, plus 3/10 of the time that the request still needs: of two that are due at
about the same time the shorter goes first, and what has begun is pulled ahead as it gets done. To
what has no deadline, patience is added, once, when it comes:

    patience = 2 x work that is there already x solo / longest solo

So the longer the queue, the more short work goes first: where there is too much work everyone would
be late in the same measure of time, and long work minds that least. A rank is a fixed time, so
whoever waits gets to the front, however much short work keeps coming.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from fusec.runtime.policies.ranking import left_ns
from fusec.runtime.sched.due import due_ns
from fusec.runtime.sched.order import NEVER, Entry, Key, Order, find, insert, remove, total_work
from fusec.runtime.sched.records import Request
from fusec.runtime.sched.view import Lane, View, Waiting

__all__ = [
    "Place",
    "Rhythm",
    "State",
    "entry_of",
    "forget",
    "key_in",
    "place_of",
    "promise_ns",
    "put",
    "rest_ns",
    "take",
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
    known: Order = None
    """By number, all that has not ended: `work_ns` is the part of the rank that never changes,
    `promise_ns` the rank that it is in the order with."""
    rhythms: Mapping[str, Rhythm] = field(default_factory=dict)


def key_in(state: State, waiting: Waiting) -> Key:
    """Give the key of what waits and was put."""
    known = find(state.known, (waiting.request.id, 0, 0, 0))
    return _key(waiting.request, known.promise_ns if known else NEVER)


def _key(request: Request, rank: int) -> Key:
    return (rank, -request.priority, request.arrival_ns, request.id)


def _patience_ns(state: State, view: View, request: Request) -> int:
    """Give what is added to the due time of a request that has no deadline."""
    if request.deadline_ns is not None:
        return 0
    running = sum(rest_ns(view, lane) for lane in view.lanes) // max(1, len(view.lanes))
    solo, longest = view.profile[request.template].solo_ns, view.profile.longest_ns
    return 2 * (total_work(state.order) + running) * min(solo, longest) // longest


def rest_ns(view: View, lane: Lane) -> int:
    """Give the time that what runs on a lane still needs, blocks to come included."""
    if lane.pack is None:
        return 0
    rest = max(0, lane.block_end_ns - view.now_ns)
    for pack in lane.pack.parts:
        cost = view.profile[pack.template]
        rest += cost.left_ns(min(pack.next_block + 1, cost.n_blocks), len(pack.requests))
    return rest


def promise_ns(request: Request) -> int:
    """Give the time by which an answer was promised; a due time that stands in is no promise."""
    return NEVER if request.deadline_ns is None else request.deadline_ns


def place_of(waiting: Waiting) -> Place:
    """Give where a request is."""
    return (waiting.request.template, waiting.next_block, waiting.done_ns, waiting.group)


def entry_of(state: State, view: View, waiting: Waiting) -> tuple[Entry, int]:
    """Make a request's entry in the order, and the part of its rank that never changes.

    Its work is what it adds to a full batch.
    """
    request = waiting.request
    cost = view.profile[request.template]
    left = left_ns(waiting, view.profile)
    work = min(left, max(1, left * cost.share_ns // cost.solo_ns)) // max(1, len(view.lanes))
    known = find(state.known, (request.id, 0, 0, 0))
    if known is None:
        base = due_ns(request, view.profile) + _patience_ns(state, view, request)
    else:
        base = known.work_ns
    key = _key(request, base + 3 * left // 10)
    return Entry(key, request.id, waiting.stops, work, promise_ns(request)), base


def put(state: State, view: View, waiting: Waiting) -> State:
    """Add what waits."""
    entry, base = entry_of(state, view, waiting)
    place = place_of(waiting)
    places = {**state.places, place: insert(state.places.get(place), entry)}
    known = _known(remove(state.known, (waiting.request.id, 0, 0, 0)), entry, base)
    return replace(state, order=insert(state.order, entry), places=places, known=known)


def _known(known: Order, entry: Entry, base: int) -> Order:
    number = (entry.request, 0, 0, 0)
    return insert(known, Entry(number, entry.request, work_ns=base, promise_ns=entry.key[0]))


def take(state: State, gone: Iterable[Waiting]) -> State:
    """Remove from the order what is launched, or ends."""
    order, places = state.order, dict(state.places)
    for waiting in gone:
        key, place = key_in(state, waiting), place_of(waiting)
        order = remove(order, key)
        left = remove(places.pop(place, None), key)
        if left is not None:
            places[place] = left
    return replace(state, order=order, places=places)


def forget(state: State, numbers: Iterable[int]) -> State:
    """Remove what has ended from memory."""
    known = state.known
    for number in numbers:
        known = remove(known, (number, 0, 0, 0))
    return replace(state, known=known)


def update(state: State, view: View) -> State:
    """Bring the rest up to date with what changed; what arrived is not admitted yet."""
    gone = view.change.gone
    if gone or view.change.finished:
        ended = (*view.change.finished, *(w.request.id for w in gone))
        state = forget(take(state, gone) if gone else state, ended)
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
