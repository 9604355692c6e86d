"""When to stop what runs in the middle of a block."""

from fusec.runtime.policies.slack.group import Group, left_ns
from fusec.runtime.policies.slack.pick import chosen
from fusec.runtime.policies.slack.state import State
from fusec.runtime.sched.records import Preempt
from fusec.runtime.sched.view import Lane, View

__all__ = ["preemption"]


def preemption(view: View, state: State) -> Preempt | None:
    """Stop a lane for who is first, if that saves it and costs nobody else a promise.

    Who would be done when it is due after the block that runs waits for it; who has a deadline and
    misses it even after a retreat gains nothing by it.
    """
    if not view.lanes or any(lane.pack is None or lane.stopping for lane in view.lanes):
        return None
    if all(lane.retreat_ns is None for lane in view.lanes):
        return None
    first, _ = chosen(view, state)
    if first is None:
        return None
    takes = left_ns(first, view.profile)
    if min(lane.block_end_ns for lane in view.lanes) + takes <= first.due_ns:
        return None
    able = [lane for lane in view.lanes if _yields(view, state, lane, takes, first)]
    if not able:
        return None
    return Preempt(max(able, key=lambda lane: lane.block_end_ns).index)


def _yields(view: View, state: State, lane: Lane, takes: int, first: Group) -> bool:
    """Say whether what runs on a lane can be stopped in time, and minds no more than `first`.

    What is promised yields to an earlier promise if its own is kept, or lost anyhow; to what is not
    promised only if it is still done half way to its deadline. What is not promised yields to any
    promise, and else to what is due before it.
    """
    if lane.retreat_ns is None or lane.pack is None or lane.pack.beside:
        return False
    old = state.running.get(lane.pack.requests[0])
    if old is None or view.now_ns + lane.retreat_ns + takes > first.promise_ns:
        return False
    if not old.promised:
        return first.promised or first.due_ns < min(lane.due_ns)
    cost = view.profile[old.template]
    after = min(lane.pack.next_block + 1, cost.n_blocks)
    end = lane.block_end_ns + cost.left_ns(after, old.rows)
    later = end + takes + lane.retreat_ns + cost.cut_ns
    if not first.promised:
        return first.due_ns < old.due_ns and later <= old.due_ns
    kept = later <= old.promise_ns or end > old.promise_ns
    return first.promise_ns < old.promise_ns and kept
