"""Due times, and the slack that they leave.

    admit    a request with a deadline is refused if its answer is predicted to be late
    choose   the next deadline, anew at the end of each block; work without deadlines, by rank,
             while all promises can be kept with plenty of time left; work that has begun stays
             if being stopped costs it more than the other gains, or its promise
    join     requests of the same template run together, those that come later catch up
    wait     for company, only if nothing else waits, and only as long as slack allows
    preempt  by retreat, if a tighter due time would be lost, and only if what runs meets its own

Each decision costs the logarithm of what waits, for each request that came or starts.
"""

from fusec.runtime.policies.slack.admit import admit
from fusec.runtime.policies.slack.batch import company, gather, joins_at, waits_until
from fusec.runtime.policies.slack.group import Group, left_ns, merged, packed
from fusec.runtime.policies.slack.pick import chosen, less_memory, may_go_before
from fusec.runtime.policies.slack.preempt import preemption
from fusec.runtime.policies.slack.state import State, drop, launched, update, waiting
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.records import Action, Launch, Reject, WakeAt
from fusec.runtime.sched.view import Lane, View

__all__ = ["SLACK"]


def _decide(view: View, state: State) -> tuple[tuple[Action, ...], State]:
    state = update(state, view)
    actions: list[Action] = []
    if view.change.arrived:
        refused, state = admit(view, state)
        actions += refused
    for lane in view.lanes:
        if lane.pack is not None:
            continue
        view, state, action = _fill(view, state, lane, actions)
        actions += [action] if action else []
        if not isinstance(action, Launch):
            return tuple(actions), state
    stop = preemption(view, state) if waiting(state) else None
    return tuple([*actions, stop] if stop else actions), state


def _fill(
    view: View, state: State, lane: Lane, actions: list[Action]
) -> tuple[View, State, Launch | WakeAt | None]:
    """Choose for one free lane; what cannot be answered in time any more is refused on the way."""
    while True:
        first, state = chosen(view, state)
        if first is None:
            return view, state, None
        late = _late(view, first)
        if not late:
            break
        for number in late:
            actions.append(Reject(number, "cannot be answered before its deadline any more"))
            state = drop(state, view, view.waiting[number])
    first = _stays(view, state, first)
    until = first.block + 1
    groups = gather(view, state, first)
    pack = merged(groups)
    new = joins_at(view, state, pack)
    if new is not None:
        groups, until = gather(view, state, new, first.block), first.block
        pack = merged(groups)
    else:
        later = waits_until(view, state, pack)
        if later is not None:
            return view, state, WakeAt(later)
    view, state = less_memory(view, groups), launched(state, groups, pack)
    beside = company(view, state, pack) if until == pack.block + 1 else []
    packs = [merged(others) for others in beside]
    for others, together in zip(beside, packs, strict=True):
        view, state = less_memory(view, others), launched(state, others, together)
    return view, state, Launch(packed(pack, packs), lane.index, until)


def _late(view: View, group: Group) -> tuple[int, ...]:
    """Give the requests of a group whose promise is lost even if it runs now."""
    end = view.now_ns + left_ns(group, view.profile)
    if group.promise_ns >= end:
        return ()
    deadlines = ((n, view.waiting[n].request.deadline_ns) for n in group.requests)
    return tuple(n for n, deadline in deadlines if deadline is not None and deadline < end)


def _stays(view: View, state: State, first: Group) -> Group:
    """Give what runs next if `first` ranks first: itself, or what just stopped and had better stay.

    It stays if being stopped would lose its promise, or if it may go before a promise, or the
    promise is kept well either way, or if its place in the queue is later by no more than a cut
    costs.
    """
    numbers = (n for s in view.change.stopped for n in s.pack.requests)
    just = [state.packs[n] for n in numbers if n in state.packs]
    if not just or first in just:
        return first
    old = min(just, key=lambda group: group.key)
    cut = view.profile[old.template].cut_ns
    rest, takes = left_ns(old, view.profile), left_ns(first, view.profile)
    kept = old.promised and view.now_ns + rest <= old.promise_ns
    if kept and view.now_ns + takes + cut + rest > old.promise_ns:
        return old
    if first.promised and not old.promised:
        return old if may_go_before(view, state, old, first) else first
    if first.promised and kept and view.now_ns + rest + takes <= first.due_ns:
        return old
    last = first.key[0] if first.promised else first.rank_ns
    return old if (old.key[0] if first.promised else old.rank_ns) <= last + cut else first


SLACK = Policy("slack", State(), _decide, preempts=True)
