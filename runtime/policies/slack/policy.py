"""Due times, and the slack that they leave.

    admit    a request with a deadline is refused if its answer is predicted to be late
    choose   the smallest rank, anew at the end of each block; work that has begun stays if being
             stopped costs it more than the other gains, or its promise
    join     requests of the same template run together, those that come later catch up
    wait     for company, only if nothing else waits, and only as long as slack allows
    preempt  by retreat, if a tighter due time would be lost, and only if what runs meets its own

Each decision costs the logarithm of what waits, for each request that came or stopped.
"""

from fusec.runtime.policies.ranking import (
    head,
    left_ns,
    less_memory,
    next_that_fits,
)
from fusec.runtime.policies.slack.admit import admit
from fusec.runtime.policies.slack.batch import company, gather, joins_at, packed, waits_until
from fusec.runtime.policies.slack.preempt import preemption
from fusec.runtime.policies.slack.state import State, forget, key_in, take, update
from fusec.runtime.sched.order import find
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.records import Action, Launch, Reject, WakeAt
from fusec.runtime.sched.view import Lane, View, Waiting

__all__ = ["SLACK"]


def _decide(view: View, state: State) -> tuple[tuple[Action, ...], State]:
    state = update(state, view)
    refused, state = admit(view, state)
    actions: list[Action] = [*refused]
    for lane in view.lanes:
        if lane.pack is not None:
            continue
        action, state = _fill(view, state, lane, actions)
        if not isinstance(action, Launch):
            actions += [action] if action else []
            break
        actions.append(action)
        members = (n for part in action.pack.parts for n in part.requests)
        view = less_memory(view, [view.waiting[n] for n in members])
    first, _ = head(view, state.order)
    stop = preemption(view, first) if first is not None else None
    return tuple([*actions, stop] if stop else actions), state


def _fill(
    view: View, state: State, lane: Lane, actions: list[Action]
) -> tuple[Launch | WakeAt | None, State]:
    """Choose for one free lane; what cannot be answered in time any more is refused on the way."""
    while True:
        first, _ = next_that_fits(view, state.order)
        if first is None:
            return None, state
        deadline = first.request.deadline_ns
        if deadline is None or view.now_ns + left_ns(first, view.profile) <= deadline:
            break
        actions.append(Reject(first.request.id, "cannot be answered before its deadline any more"))
        state = forget(take(state, (first,)), (first.request.id,))
    first = _stays(view, state, first)
    until = first.next_block + 1
    pack = gather(view, state, first)
    newcomer = joins_at(view, state, pack)
    if newcomer is not None:
        pack, until = gather(view, state, newcomer, first.next_block), first.next_block
    else:
        later = waits_until(view, state, pack)
        if later is not None:
            return WakeAt(later), state
    state = take(state, pack)
    beside = (
        company(less_memory(view, pack), state, pack) if until == pack[0].next_block + 1 else []
    )
    for other in beside:
        state = take(state, other)
    return Launch(packed(pack, beside), lane.index, until), state


def _stays(view: View, state: State, first: Waiting) -> Waiting:
    """Give what runs next if `first` ranks first: itself, or what just stopped and had better stay.

    It stays if its rank is later by no more than a cut costs, or if being stopped would lose its
    promise, or if the other's promise is kept either way.
    """
    stopped = (view.waiting.get(n) for s in view.change.stopped for n in s.pack.requests)
    # What another lane took in this very decision is in the view still, but not in the order.
    just = [w for w in stopped if w is not None and find(state.order, key_in(state, w)) is not None]
    if not just or any(w.request.id == first.request.id for w in just):
        return first
    old = min(just, key=lambda w: key_in(state, w))
    cut = view.profile[old.request.template].cut_ns
    if key_in(state, old)[0] <= key_in(state, first)[0] + cut:
        return old
    promise, other = old.request.deadline_ns, first.request.deadline_ns
    rest, takes = left_ns(old, view.profile), left_ns(first, view.profile)
    kept = promise is not None and view.now_ns + rest <= promise
    lost = promise is not None and view.now_ns + takes + cut + rest > promise
    harmless = other is not None and view.now_ns + rest + takes <= other
    return old if kept and (lost or harmless) else first


SLACK = Policy("slack", State(), _decide)
