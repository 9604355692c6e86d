"""Requests that run together, or one alone, with all that decisions about them need."""

from collections.abc import Sequence
from dataclasses import dataclass

from fusec.runtime.sched.due import stand_in_ns, wanted_ns
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
    rank_ns: int
    key: Key
    """Its place in its queue: by deadline, or by rank if it has none."""
    due_ns: int
    """When it had better be done: the earliest of its requests. See `wanted_ns`."""
    promise_ns: int
    """The earliest deadline; a due time that stands in for one is no promise."""

    @property
    def promised(self) -> bool:
        """Whether any of its requests has a deadline."""
        return self.promise_ns < NEVER


def fresh_group(request: Request, profile: Profile, patience_ns: int = 0) -> Group:
    """Make a group of a request that never ran.

    Args:
        request: its rank is by its deadline, or by what it would be due without if that is earlier:
            nobody comes later for having named a deadline.
        profile: costs.
        patience_ns: added to the rank of a request without a deadline.
    """
    left = profile.stated[request.template].left_ns(0, request.rows)
    base, deadline = stand_in_ns(request, profile), request.deadline_ns
    base_ns = base + patience_ns if deadline is None else min(base, deadline)
    rank = base_ns + 3 * left // 10
    place = rank if deadline is None else deadline
    return Group(
        requests=(request.id,),
        template=request.template,
        rows=request.rows,
        base_ns=base_ns,
        rank_ns=rank,
        key=(place, -request.priority, request.arrival_ns, request.id),
        due_ns=wanted_ns(request, profile),
        promise_ns=NEVER if deadline is None else deadline,
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
        rank_ns=min([g.rank_ns for g in groups]),
        key=min([g.key for g in groups if g.promised] or [g.key for g in groups]),
        due_ns=min([g.due_ns for g in groups]),
        promise_ns=min([g.promise_ns for g in groups]),
    )


def packed(group: Group, beside: Sequence[Group] = ()) -> Pack:
    """Make the pack that runs a group, with others beside it."""
    return Pack(group.template, group.requests, group.block, tuple(packed(g) for g in beside))
