"""When to stop what runs in the middle of a block."""

from fusec.runtime.policies.slack.group import Group, left_ns
from fusec.runtime.policies.slack.pick import first_group
from fusec.runtime.policies.slack.state import State
from fusec.runtime.sched.order import NEVER
from fusec.runtime.sched.records import Preempt
from fusec.runtime.sched.view import Lane, View

__all__ = ["preemption"]


def preemption(view: View, state: State) -> Preempt | None:
    """Stop a lane for who is first, if that saves it and costs nobody else a promise.

    Who would be in time after the block that runs waits for it; who has a deadline and misses it
    even after a retreat gains nothing by it.
    """
    if not view.lanes or any(lane.pack is None or lane.stopping for lane in view.lanes):
        return None
    if all(lane.retreat_ns is None for lane in view.lanes):
        return None
    first, _ = first_group(view, state)
    if first is None:
        return None
    takes, due = left_ns(first, view.profile), first.due_ns
    if min(lane.block_end_ns for lane in view.lanes) + takes <= due:
        return None
    able = [lane for lane in view.lanes if _yields(view, state, lane, takes, first)]
    if not able:
        return None
    return Preempt(max(able, key=lambda lane: lane.block_end_ns).index)


def _yields(view: View, state: State, lane: Lane, takes: int, first: Group) -> bool:
    """Say whether what runs on a lane can be stopped in time, and keeps its promise itself.

    Who is due first goes first; what is due without having a deadline minds no more than that.
    """
    if lane.retreat_ns is None or lane.pack is None or lane.pack.beside:
        return False
    soon = view.now_ns + lane.retreat_ns + takes
    if soon > first.promise_ns or any(due <= first.due_ns for due in lane.due_ns):
        return False
    old = state.running.get(lane.pack.requests[0])
    if old is None or old.promise_ns >= NEVER:
        return True
    cost = view.profile[lane.pack.template]
    after = min(lane.pack.next_block + 1, cost.n_blocks)
    end = lane.block_end_ns + cost.left_ns(after, old.rows)
    later = end + takes + lane.retreat_ns + cost.cut_ns
    return later <= old.promise_ns or end > old.promise_ns
