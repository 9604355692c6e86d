"""From entries of the order to groups that could run."""

from collections.abc import Iterable
from dataclasses import replace

from fusec.runtime.policies.slack.group import Group
from fusec.runtime.policies.slack.state import State
from fusec.runtime.sched.order import Entry, first, remove
from fusec.runtime.sched.view import View

__all__ = ["first_group", "group_of", "less_memory", "short"]


def group_of(view: View, state: State, entry: Entry) -> Group | None:
    """Give the group of an entry; None if it waits no longer."""
    pack = state.packs.get(entry.request)
    if pack is not None and pack.key == entry.key:
        return pack
    waiting = view.waiting.get(entry.request)
    if waiting is None or waiting.stops:
        return None
    group: Group = entry.what
    return None if group.stopped else group


def first_group(view: View, state: State) -> tuple[Group | None, State]:
    """Give who is first, and the state without what no longer waits before it.

    If there is no memory for it, who is first of those that have theirs: else what has begun and
    was stopped could wait for the memory that it holds itself.
    """
    while (entry := first(state.order)) is not None:
        group = group_of(view, state, entry)
        if group is None:
            state = _without(state, entry)
            continue
        if short(view, (group,)):
            group = min(state.packs.values(), key=lambda p: p.key, default=None)
        return group, state
    return None, state


def _without(state: State, entry: Entry) -> State:
    """Remove what waits no longer, and could not be found when it left."""
    template = entry.what.template
    fresh = {**state.fresh, template: remove(state.fresh.get(template), entry.key)}
    return replace(state, order=remove(state.order, entry.key), fresh=fresh)


def needs_bytes(view: View, groups: Iterable[Group]) -> int:
    """Give the memory that starting groups takes: none where they have some from before."""
    return sum(
        view.profile[g.template].bytes_per_instance * g.rows for g in groups if not g.stopped
    )


def short(view: View, groups: Iterable[Group]) -> bool:
    """Say whether there is too little memory for groups to start."""
    return view.free_bytes is not None and needs_bytes(view, groups) > view.free_bytes


def less_memory(view: View, groups: Iterable[Group]) -> View:
    """Give the view without the memory that groups take when they start."""
    if view.free_bytes is None:
        return view
    return replace(view, free_bytes=view.free_bytes - needs_bytes(view, groups))
