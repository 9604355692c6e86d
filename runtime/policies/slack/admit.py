"""Who is let in: a promise is made only if it can be kept, and breaks no promise made before.

Only requests with deadlines can be refused. A newcomer's answer is predicted from what has earlier
deadlines: until a lane is free, the rest of what runs, the queue before it at what each adds to a
full batch, and its own time alone. Whatever else there is can wait.
"""

from fusec.runtime.policies.slack.group import Group, left_ns
from fusec.runtime.policies.slack.state import State, admitted, entry_of, newcomer, rest_of_running
from fusec.runtime.sched.order import NEVER, least_after, work_before
from fusec.runtime.sched.records import Reject
from fusec.runtime.sched.view import View

__all__ = ["admit"]

_DOUBT = 4
"""A queue may take longer than predicted, by so much of it: else one mistake makes all late."""


def admit(view: View, state: State) -> tuple[list[Reject], State]:
    """Let in what arrived, or refuse it."""
    refused: list[Reject] = []
    for request in view.change.arrived:
        if request.id not in view.waiting:
            continue
        group = newcomer(state, view, request)
        reason = None if request.deadline_ns is None else _problem(view, state, group)
        if reason is None:
            state = admitted(state, view, group)
        else:
            refused.append(Reject(request.id, reason))
    return refused, state


def _free_in_ns(view: View) -> int:
    """Give the time until some lane can start something else."""
    waits = [
        0 if lane.pack is None else _leaves_in(view, lane.block_end_ns, lane.retreat_ns)
        for lane in view.lanes
    ]
    return min(waits, default=0)


def _leaves_in(view: View, block_end_ns: int, retreat_ns: int | None) -> int:
    left = max(0, block_end_ns - view.now_ns)
    return left if retreat_ns is None else min(left, retreat_ns)


def _problem(view: View, state: State, group: Group) -> str | None:
    key = group.key
    running = rest_of_running(view, state)
    rest = sum(ns for other, ns in running if other.promise_ns <= group.promise_ns)
    start = view.now_ns + _free_in_ns(view) + rest // max(1, len(view.lanes))
    ahead = work_before(state.promised, key)
    finish = start + ahead + ahead // _DOUBT + left_ns(group, view.profile)
    if finish > group.promise_ns:
        late = finish - group.promise_ns
        return f"predicted to be answered {late / 1e6:.3f} ms after its deadline"
    least = least_after(state.promised, key)
    added = entry_of(group, view).work_ns
    if start <= least < start + added and least < NEVER // 2:
        return "would make a request that was admitted before miss its deadline"
    return None
