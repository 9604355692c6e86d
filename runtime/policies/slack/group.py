"""Requests that run together, or one alone, with all that decisions about them need."""

from collections.abc import Sequence
from dataclasses import dataclass

from fusec.runtime.sched.due import due_ns
from fusec.runtime.sched.order import NEVER, Key
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Pack, Request

__all__ = ["Group", "fresh_group", "left_ns", "merged", "packed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Requests of one template at one place."""

    requests: tuple[int, ...]
    template: str
    block: int = 0
    done_ns: int = 0
    """Work of that block that was done before a retreat."""
    stopped: bool = False
    """It ran before."""
    rows: int
    base_ns: int
    """The part of the rank that never changes."""
    key: Key
    due_ns: int
    """The earliest of its requests."""
    promise_ns: int
    """The earliest deadline; a due time that stands in for one is no promise."""


def fresh_group(request: Request, base_ns: int, profile: Profile) -> Group:
    """Make a group of a request that never ran."""
    left = profile.stated[request.template].left_ns(0, request.rows)
    rank = base_ns + 3 * left // 10
    return Group(
        requests=(request.id,),
        template=request.template,
        rows=request.rows,
        base_ns=base_ns,
        key=(rank, -request.priority, request.arrival_ns, request.id),
        due_ns=due_ns(request, profile),
        promise_ns=NEVER if request.deadline_ns is None else request.deadline_ns,
    )


def left_ns(group: Group, profile: Profile) -> int:
    """Give the time that a group still needs."""
    return max(1, profile[group.template].left_ns(group.block, group.rows) - group.done_ns)


def merged(groups: Sequence[Group]) -> Group:
    """Give the group of several at one place."""
    first = groups[0]
    if len(groups) == 1:
        return first
    return Group(
        requests=tuple([n for g in groups for n in g.requests]),
        template=first.template,
        block=first.block,
        done_ns=first.done_ns,
        stopped=first.stopped,
        rows=sum([g.rows for g in groups]),
        base_ns=min([g.base_ns for g in groups]),
        key=min([g.key for g in groups]),
        due_ns=min([g.due_ns for g in groups]),
        promise_ns=min([g.promise_ns for g in groups]),
    )


def packed(group: Group, beside: Sequence[Group] = ()) -> Pack:
    """Make the pack that runs a group, with others beside it."""
    return Pack(group.template, group.requests, group.block, tuple(packed(g) for g in beside))
