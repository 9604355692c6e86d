"""What a driver and its lanes say to each other."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from fusec.ir.frozen import dataclass
from fusec.runtime.drivers.run import Span
from fusec.runtime.sched.decider import Decision
from fusec.runtime.sched.records import Outcome, Request
from fusec.runtime.sched.view import NewCost

__all__ = ["Arrival", "Ended", "Event", "LanePort", "Left", "Task", "Watch", "Work"]


class Task(Protocol):
    """What a request stands for. The driver asks no more of it."""

    @property
    def size(self) -> int:
        """How many calls it counts as where the queue is limited."""

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants any of its answers."""

    @property
    def failed(self) -> bool:
        """Whether it ran, and all that came out is errors."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """One launch, as a lane runs it."""

    parts: Sequence[tuple[Sequence[Task], int]]
    """The tasks of each pack, and its next block."""
    blocks: int
    """How many to run, from there on."""
    ends_ns: tuple[int, ...]
    """When each is expected to end."""
    least_due_ns: int
    """The first due time of all that runs."""
    can_retreat: bool
    """It can be stopped in the middle of a block."""


class LanePort(Protocol):
    """A lane, as a driver sees it."""

    @property
    def retreat_ns(self) -> int | None:
        """How soon it stops in the middle of a block; None: it cannot."""

    @property
    def place(self) -> int:
        """How many blocks of its work it has finished."""

    def start(self, work: Work) -> None:
        """Begin. When the lane is free again, an `Ended` comes."""

    def stop(self, *, within_block: bool) -> None:
        """Leave as soon as that is possible: between tasks, or at the end of the block."""


class Watch(Protocol):
    """Who is told what happens; on the driver's thread, so it must be quick."""

    def decided(self, decision: Decision) -> None:
        """Say that a policy was asked."""

    def ran(self, span: Span, requests: Sequence[Request], calls: int, room: int) -> None:
        """Say that a lane is free again; who ran, and how many rows could have."""

    def ended(self, outcome: Outcome, task: Task) -> None:
        """Say that a request ended. Where others wait, the lanes have their next work by then."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request came."""

    request: Request
    task: Task
    costs: tuple[NewCost, ...] = ()
    """Of its template, if nobody asked for it before."""


@dataclass(frozen=True, slots=True)
class Left:
    """Somebody who waited for a request's answers waits no longer."""

    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A lane is free again."""

    lane: int
    blocks: int
    """How many it finished."""
    took_ns: tuple[int, ...] = ()
    """What each took, by the lane's own clock; the last may be one that is not finished."""
    half_done: bool = False
    """It retreated, with work done in the next block."""
    over: bool = False
    """All of it is over, whatever is left: it failed, and each task knows what came out."""
    first: bool = False
    """A program was built for it, so that what it took says nothing of the next time."""
    at_ns: int | None = None
    """When that was; None: when the driver hears of it."""


Event: TypeAlias = Arrival | Left | Ended
