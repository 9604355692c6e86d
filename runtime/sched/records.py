"""What scheduling talks about. Times are integers, in nanoseconds, on the driver's clock.

Request --waits--> Pack --Launch--> lane --ends--> Outcome
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from fusec.ir.errors import ConfigError

__all__ = [
    "Action",
    "Launch",
    "Outcome",
    "Pack",
    "Preempt",
    "Reject",
    "Request",
    "Result",
    "WakeAt",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of one model."""

    id: int
    model: str
    template: str
    tenant: str = ""
    arrival_ns: int
    deadline_ns: int | None = None
    """When its answer is worth nothing any more; None: never. See `fusec.runtime.sched.due`."""
    rows: int = 1
    priority: int = 0
    """Of two requests that are due alike, the one of higher priority goes first."""

    def __post_init__(self) -> None:
        """Refuse what no driver could serve."""
        if self.rows < 1:
            raise ConfigError(
                f"request {self.id} of {self.model!r} has {self.rows} rows, wanted 1+"
            )


@dataclass(frozen=True, slots=True)
class Pack:
    """Requests of one template that run together, all of them from the same block on."""

    template: str
    requests: tuple[int, ...]
    next_block: int = 0
    beside: tuple["Pack", ...] = ()
    """Packs of other templates in the same super-kernel: it runs one block of each of them."""

    @property
    def parts(self) -> tuple["Pack", ...]:
        """The pack itself, and those beside it."""
        return (self, *self.beside)


@dataclass(frozen=True, slots=True)
class Launch:
    """Run a pack on a free lane up to, and without, `until_block`.

    A pack with others beside it runs one block: `until_block == pack.next_block + 1`.
    """

    pack: Pack
    lane: int
    until_block: int


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer a waiting request with a refusal."""

    request: int
    reason: str


@dataclass(frozen=True, slots=True)
class Preempt:
    """Stop what runs on a lane as soon as it can: between tasks, or at the end of its block."""

    lane: int


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Ask again at this time, if nothing happens before."""

    at_ns: int


Action: TypeAlias = Launch | Reject | Preempt | WakeAt


class Result(StrEnum):
    """How a request ended."""

    DONE = "done"
    REJECTED = "rejected"
    """By the policy, which says why."""
    EXPIRED = "expired"
    """Its deadline passed while it waited."""
    FULL = "full"
    """The queue was full when it came, or it needs more memory than there is."""
    CANCELLED = "cancelled"
    """Nobody wants the answer any more."""
    FAILED = "failed"
    """It ran, and what it ran refused the values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The one end of one request."""

    request: Request
    result: Result
    at_ns: int
    due_ns: int
    """Its deadline, or the time that stands in for one."""
    start_ns: int | None = None
    """When it first ran."""
    reason: str = ""

    @property
    def met(self) -> bool:
        """Whether it was answered in time."""
        return self.result is Result.DONE and self.at_ns <= self.due_ns
