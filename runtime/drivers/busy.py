"""What runs on real lanes: as a policy sees it, and which of it a newcomer would stop."""

from collections.abc import Mapping, Sequence

from fusec.runtime.drivers.work import LanePort, Task, Work
from fusec.runtime.sched.due import due_ns
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Launch, Pack
from fusec.runtime.sched.view import Lane, Waiting

__all__ = ["Busy", "LaneState", "lane_to_stop"]

Entries = tuple[tuple[Waiting, ...], ...]


class Busy:
    """One launch in progress."""

    __slots__ = (
        "dues", "entries", "finish_ns", "launch", "overhead_ns", "port", "promise_ns", "start_ns",
        "stopping", "work",
    )  # fmt: skip

    def __init__(
        self,
        port: LanePort,
        launch: Launch,
        entries: Entries,
        profile: Profile,
        *,
        now_ns: int,
        overhead_ns: int,
        tasks: Mapping[int, Task],
        can_retreat: bool,
    ) -> None:
        """Work out what a lane is to do.

        Args:
            port: the lane.
            launch: the action.
            entries: what waited, for each part of the pack.
            profile: costs.
            now_ns: the time.
            overhead_ns: what going on after an interruption costs.
            tasks: by request.
            can_retreat: whether the template can be stopped in the middle of a block.
        """
        self.port, self.launch, self.entries = port, launch, entries
        self.start_ns, self.overhead_ns = now_ns, overhead_ns
        self.dues = tuple([due_ns(e.request, profile) for part in entries for e in part])
        deadlines = [e.request.deadline_ns for part in entries for e in part]
        self.promise_ns = min((d for d in deadlines if d is not None), default=None)
        """The first deadline of all that runs."""
        self.stopping = False
        self.work = Work(
            [([tasks[n] for n in p.requests], p.next_block) for p in launch.pack.parts],
            launch.until_block - launch.pack.next_block,
            _ends(launch, entries, profile, now_ns + overhead_ns),
            min(self.dues),
            can_retreat and not launch.pack.beside,
        )
        rows, cost = sum(e.request.rows for e in entries[0]), profile[launch.pack.template]
        self.finish_ns = self.work.ends_ns[-1] + cost.left_ns(launch.until_block, rows)
        """When the pack is expected to be done, blocks to come included."""

    @property
    def place(self) -> int:
        """Give the position, in this launch, of the block that runs."""
        return min(self.port.place, self.work.blocks - 1)

    def stop(self) -> None:
        """Leave as soon as that is possible."""
        self.stopping = True
        self.port.stop(within_block=self.work.can_retreat)


class LaneState:
    """A lane and what runs on it."""

    __slots__ = ("busy", "last", "port")

    def __init__(self, port: LanePort) -> None:
        """Take a lane that is free."""
        self.port = port
        self.busy: Busy | None = None
        self.last: frozenset[int] = frozenset()
        """The requests that ran on it last."""

    def shown(self, index: int, now_ns: int) -> Lane:
        """Give what a policy sees."""
        busy, soon = self.busy, self.port.retreat_ns
        if busy is None:
            return Lane(index, retreat_ns=soon)
        ends, pack, place = busy.work.ends_ns, busy.launch.pack, busy.place
        here = Pack(pack.template, pack.requests, pack.next_block + place, pack.beside)
        block_end = max(now_ns, ends[place])
        end = block_end if busy.stopping else max(now_ns, ends[-1])
        soon = soon if busy.work.can_retreat else None
        return Lane(index, here, block_end, end, busy.dues, busy.stopping, soon)


def lane_to_stop(
    lanes: Sequence[Busy | None], takes_ns: int, due_ns: int, deadline_ns: int | None, now_ns: int
) -> LanePort | None:
    """Give the lane that had better stop in the middle of its block for a newcomer.

    Args:
        lanes: what runs on each.
        takes_ns: what the newcomer takes.
        due_ns: when it had better be done.
        deadline_ns: when it is of no use any more.
        now_ns: the time.

    Returns:
        Of those that can stop in time and run nothing that is due before or would miss a deadline
        for it, the one whose block ends last; None if one is free or will be in time, or has been
        told to stop already. What runs without a deadline yields to who has one.
    """
    best: LanePort | None = None
    best_end = 0
    for busy in lanes:
        if busy is None or busy.stopping:
            return None
        end = busy.work.ends_ns[busy.place]
        if max(end, now_ns) + takes_ns <= due_ns:
            return None
        soon = busy.port.retreat_ns if busy.work.can_retreat else None
        if soon is None or (deadline_ns is not None and now_ns + soon + takes_ns > deadline_ns):
            continue
        promise, finish = busy.promise_ns, busy.finish_ns
        harmless = promise is None or finish + takes_ns + soon <= promise or finish > promise
        if deadline_ns is None:
            tighter = due_ns < busy.work.least_due_ns
        else:
            tighter = promise is None or deadline_ns < promise
        if tighter and harmless and end >= best_end:
            best, best_end = busy.port, end
    return best


def _ends(launch: Launch, entries: Entries, profile: Profile, start_ns: int) -> tuple[int, ...]:
    """Work out when each block of a launch is expected to end."""
    at = start_ns - max(part[0].done_ns for part in entries)
    ends = []
    for step in range(launch.until_block - launch.pack.next_block):
        total = 0
        for pack, part in zip(launch.pack.parts, entries, strict=True):
            rows = sum(e.request.rows for e in part)
            block = pack.next_block + step
            total += profile[pack.template].span_ns(block, block + 1, rows)
        at += max(1, total * (profile.together_percent if launch.pack.beside else 100) // 100)
        ends.append(max(at, start_ns + 1))
    return tuple(ends)
