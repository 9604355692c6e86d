"""What `slack` remembers: what waits, in order, and when templates are asked for.

The rank is the due time, plus 3/10 of the time that the request still needs: of two that are due at
about the same time the shorter goes first, and what has begun is pulled ahead as it gets done. To
what has no deadline and no priority, patience is added, once, when it comes:

    patience = 2 x work that is there already x solo / longest solo

So the longer the queue, the more short work goes first: where there is too much work everyone would
be late in the same measure of time, and long work minds that least. A rank is a fixed time, so
whoever waits gets to the front, however much short work keeps coming.

All of it is by stated costs, not by corrected ones, which change while requests wait.

What has run together stays together: a pack that stopped is one entry in the order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fusec.runtime.policies.slack.group import Group, fresh_group, left_ns, merged
from fusec.runtime.sched.order import Entry, Order, insert, remove, remove_all, size, total_work
from fusec.runtime.sched.records import Request
from fusec.runtime.sched.view import View, Waiting

__all__ = [
    "Rhythm",
    "State",
    "admitted",
    "drop",
    "entry_of",
    "forgotten",
    "launched",
    "newcomer",
    "rest_of_running",
    "update",
    "waiting",
]


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When a template was last asked for, and how long it usually takes until it is again."""

    last_ns: int
    gap_ns: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All that `slack` knows. Maps are copied, never changed."""

    order: Order = None
    """An entry for each request that never ran, and for each pack that stopped, by rank."""
    promised: Order = None
    """The same for what has a deadline, by deadline."""
    fresh: Mapping[str, Order] = field(default_factory=dict)
    """The requests that never ran, by template."""
    packs: Mapping[int, Group] = field(default_factory=dict)
    """The packs that stopped, by their first request."""
    running: Mapping[int, Group] = field(default_factory=dict)
    """What runs, as it was launched, by its first request."""
    rhythms: Mapping[str, Rhythm] = field(default_factory=dict)


def waiting(state: State) -> int:
    """Count what waits."""
    return size(state.order) + size(state.promised)


def rest_of_running(view: View, state: State) -> Iterator[tuple[Group, int]]:
    """Give what runs, and the time that each still needs after the block that it is in."""
    for lane in view.lanes:
        for pack in () if lane.pack is None else lane.pack.parts:
            group = state.running.get(pack.requests[0])
            if group is not None:
                cost = view.profile[pack.template]
                yield group, cost.left_ns(min(pack.next_block + 1, cost.n_blocks), group.rows)


def newcomer(state: State, view: View, request: Request) -> Group:
    """Make a group of one that just came, with its rank."""
    if request.deadline_ns is not None or request.priority > 0:
        return fresh_group(request, view.profile)
    ends = [max(0, lane.block_end_ns - view.now_ns) for lane in view.lanes if lane.pack]
    rest = sum(ns for _, ns in rest_of_running(view, state))
    running = (sum(ends) + rest) // max(1, len(view.lanes))
    stated = view.profile.stated
    solo, longest = stated[request.template].solo_ns, stated.longest_ns
    waits = total_work(state.order) + total_work(state.promised)
    patience = 2 * (waits + running) * min(solo, longest) // longest
    return fresh_group(request, view.profile, patience)


def entry_of(group: Group, view: View) -> Entry:
    """Make a group's entry in the order; its work is what it adds to a full batch."""
    left = left_ns(group, view.profile)
    if group.block == 0 and len(group.requests) == 1:
        cost = view.profile[group.template]
        left = min(left, left * cost.share_ns // cost.solo_ns)
    work = max(1, left // max(1, len(view.lanes)))
    return Entry(group.key, group.requests[0], 0, work, group.promise_ns, group)


def admitted(state: State, view: View, group: Group) -> State:
    """Add a request that came."""
    entry = entry_of(group, view)
    fresh = {**state.fresh, group.template: insert(state.fresh.get(group.template), entry)}
    return replace(_entered(state, group, entry), fresh=fresh)


def launched(state: State, groups: Sequence[Group], pack: Group) -> State:
    """Move groups from what waits to what runs, together.

    Args:
        state: before.
        groups: of one template.
        pack: what they are together.
    """
    fresh, packs = state.fresh, state.packs
    keys = sorted([g.key for g in groups])
    new = keys if not packs else sorted([g.key for g in groups if not g.stopped])
    if new:
        fresh = {**fresh, pack.template: remove_all(fresh.get(pack.template), new)}
    if len(new) < len(keys):
        packs = {**packs}
        for group in groups:
            if group.stopped:
                packs.pop(group.requests[0], None)
    running = {**state.running, pack.requests[0]: pack}
    order, promised = state.order, state.promised
    if pack.promised:
        promised = remove_all(promised, sorted([g.key for g in groups if g.promised]))
        keys = sorted([g.key for g in groups if not g.promised])
    return State(
        remove_all(order, keys) if keys else order, promised, fresh, packs, running, state.rhythms
    )


def drop(state: State, view: View, waiting: Waiting) -> State:
    """Remove a request that ends without running again."""
    number = waiting.request.id
    old = next((p for p in state.packs.values() if number in p.requests), None)
    if old is None:
        # Only without a deadline is there patience in the rank; what is left then is skipped later.
        return forgotten(state, fresh_group(waiting.request, view.profile))
    packs = {k: p for k, p in state.packs.items() if p is not old}
    state = replace(_left(state, old), packs=packs)
    stay = tuple(n for n in old.requests if n != number and n in view.waiting)
    return _rest(state, view, stay, old) if stay else state


def forgotten(state: State, group: Group) -> State:
    """Remove what never ran, if it is there."""
    fresh = {**state.fresh, group.template: remove(state.fresh.get(group.template), group.key)}
    return replace(_left(state, group), fresh=fresh)


def update(state: State, view: View) -> State:
    """Bring everything up to date with what changed; what arrived is not admitted yet."""
    change = view.change
    for stopped in change.stopped:
        for pack in stopped.pack.parts:
            stay = tuple(n for n in pack.requests if n in view.waiting)
            if stay:
                state = _rest(state, view, stay, _ran(state, stay[0]))
    for gone in change.gone:
        state = drop(state, view, gone)
    if change.finished or change.stopped:
        ended = {*change.finished, *(n for s in change.stopped for n in s.pack.requests)}
        running = {k: g for k, g in state.running.items() if ended.isdisjoint(g.requests)}
        state = replace(state, running=running)
    if not change.arrived:
        return state
    rhythms = dict(state.rhythms)
    for request in change.arrived:
        rhythms[request.template] = _next(rhythms.get(request.template), request.arrival_ns)
    return replace(state, rhythms=rhythms)


def _entered(state: State, group: Group, entry: Entry) -> State:
    """Add a group to its queue."""
    order, promised = state.order, state.promised
    if group.promised:
        promised = insert(promised, entry)
    else:
        order = insert(order, entry)
    return State(order, promised, state.fresh, state.packs, state.running, state.rhythms)


def _left(state: State, group: Group) -> State:
    """Remove a group from its queue."""
    order, promised = state.order, state.promised
    if group.promised:
        promised = remove(promised, group.key)
    else:
        order = remove(order, group.key)
    return State(order, promised, state.fresh, state.packs, state.running, state.rhythms)


def _ran(state: State, number: int) -> Group:
    """Give what a request ran in."""
    return next(g for g in state.running.values() if number in g.requests)


def _rest(state: State, view: View, numbers: tuple[int, ...], was: Group) -> State:
    """Add a pack that stopped, less those of it that ended."""
    if numbers != was.requests:
        requests = [view.waiting[n].request for n in numbers]
        was = replace(merged([fresh_group(r, view.profile) for r in requests]), base_ns=was.base_ns)
    first = view.waiting[numbers[0]]
    left = view.profile.stated[was.template].left_ns(first.next_block, was.rows) - first.done_ns
    rank = was.base_ns + 3 * left // 10
    group = Group(
        requests=numbers,
        template=was.template,
        block=first.next_block,
        done_ns=first.done_ns,
        stopped=True,
        rows=was.rows,
        base_ns=was.base_ns,
        rank_ns=rank,
        key=was.key if was.promised else (rank, *was.key[1:]),
        due_ns=was.due_ns,
        promise_ns=was.promise_ns,
    )
    packs = {**state.packs, numbers[0]: group}
    return replace(_entered(state, group, entry_of(group, view)), packs=packs)


def _next(before: Rhythm | None, at_ns: int) -> Rhythm:
    """Follow the gaps between requests, each new one counting for a quarter."""
    if before is None:
        return Rhythm(at_ns)
    gap = max(0, at_ns - before.last_ns)
    return Rhythm(at_ns, gap if before.gap_ns is None else (3 * before.gap_ns + gap) // 4)
