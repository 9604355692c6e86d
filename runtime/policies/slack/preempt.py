"""When to stop what runs in the middle of a block."""

from fusec.runtime.policies.slack.group import left_ns
from fusec.runtime.policies.slack.pick import first_group
from fusec.runtime.policies.slack.state import State
from fusec.runtime.sched.records import Preempt
from fusec.runtime.sched.view import Lane, View

__all__ = ["preemption"]


def preemption(view: View, state: State) -> Preempt | None:
    """Stop a lane for who is first, if that saves it and costs nobody else a due time.

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
    able = [lane for lane in view.lanes if _yields(view, lane, takes, due, first.promise_ns)]
    if not able:
        return None
    return Preempt(max(able, key=lambda lane: lane.block_end_ns).index)


def _yields(view: View, lane: Lane, takes: int, due: int, by: int) -> bool:
    """Say whether what runs on a lane can be stopped in time, and is still in time itself.

    Args:
        view: as it is.
        lane: that runs something.
        takes: what the other takes.
        due: when it is due.
        by: when it is of no use any more.
    """
    if lane.retreat_ns is None or lane.pack is None or lane.pack.beside:
        return False
    if view.now_ns + lane.retreat_ns + takes > by:
        return False
    cost = view.profile[lane.pack.template]
    after = min(lane.pack.next_block + 1, cost.n_blocks)
    end = lane.block_end_ns + cost.left_ns(after, max(1, len(lane.pack.requests)))
    later = end + takes + lane.retreat_ns + cost.cut_ns
    return all(d > due and (later <= d or end > d) for d in lane.due_ns)
