"""From entries of the order to groups that could run."""

from collections.abc import Iterable
from dataclasses import replace

from fusec.runtime.policies.slack.group import Group
from fusec.runtime.policies.slack.state import State, forgotten
from fusec.runtime.sched.order import Entry, Order, first, remove, total_work
from fusec.runtime.sched.view import View

__all__ = ["chosen", "group_of", "less_memory", "may_go_before", "short"]

_STARVED = 32
"""So many times the time in which it was due."""


def group_of(view: View, state: State, entry: Entry) -> Group | None:
    """Give the group of an entry; None if it waits no longer."""
    group: Group = entry.what
    if group.stopped:
        return group if state.packs.get(entry.request) is group else None
    waiting = view.waiting.get(entry.request)
    return None if waiting is None or waiting.stops else group


def chosen(view: View, state: State) -> tuple[Group | None, State]:
    """Give who runs next, and the state without what no longer waits before it.

    Who has the next deadline, unless the first of those without may go before. If there is no
    memory for it, who is first of those that have theirs: else what has begun and was stopped could
    wait for the memory that it holds itself.
    """
    head, state = _first(view, state, state.promised)
    group, state = _first(view, state, state.order)
    if group is None or (head is not None and not _goes_before(view, state, group, head)):
        group = head
    if group is not None and short(view, (group,)):
        group = min(state.packs.values(), key=lambda p: (not p.promised, p.key), default=None)
    return group, state


def may_go_before(view: View, state: State, group: Group, head: Group) -> bool:
    """Say whether what has no deadline may run a block before who has the next deadline.

    It may if all that is promised can still be done in a quarter of the time to that deadline; or
    if it has waited so long that this would starve it.
    """
    came = group.key[2]
    if view.now_ns - came > _STARVED * (group.due_ns - came):
        return True
    cost = view.profile[group.template]
    takes = cost.span_ns(group.block, group.block + 1, group.rows) - group.done_ns
    soon = (head.due_ns + head.key[2]) // 2
    return view.now_ns + max(1, takes) + total_work(state.promised) <= soon


def _goes_before(view: View, state: State, group: Group, head: Group) -> bool:
    return group.rank_ns < head.rank_ns and may_go_before(view, state, group, head)


def _first(view: View, state: State, queue: Order) -> tuple[Group | None, State]:
    """Give who is first in a queue, and the state without what waits there no longer."""
    while (entry := first(queue)) is not None:
        group = group_of(view, state, entry)
        if group is not None:
            return group, state
        state = forgotten(state, entry.what)
        queue = remove(queue, entry.key)
    return None, state


def needs_bytes(view: View, groups: Iterable[Group]) -> int:
    """Give the memory that starting groups takes: none where they have some from before."""
    return sum(view.profile[g.template].needs_bytes(g.rows) for g in groups if not g.stopped)


def short(view: View, groups: Iterable[Group]) -> bool:
    """Say whether there is too little memory for groups to start."""
    return view.free_bytes is not None and needs_bytes(view, groups) > view.free_bytes


def less_memory(view: View, groups: Iterable[Group]) -> View:
    """Give the view without the memory that groups take when they start."""
    if view.free_bytes is None:
        return view
    return replace(view, free_bytes=view.free_bytes - needs_bytes(view, groups))
