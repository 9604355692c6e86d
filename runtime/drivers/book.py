"""A real driver's accounts: what has not ended, what waits, who holds memory, who ended."""

import heapq
from collections import deque
from collections.abc import Iterable

from fusec.ir.errors import ConfigError
from fusec.runtime.drivers.work import Arrival, Task
from fusec.runtime.sched.due import due_ns
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.ran import Ran
from fusec.runtime.sched.records import Outcome, Request, Result
from fusec.runtime.sched.view import Change, NewCost, Stopped, Waiting

__all__ = ["Book", "News"]


class News:
    """What a turn finds out."""

    __slots__ = ("arrived", "ask", "finished", "gone", "ran", "stopped")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.arrived: dict[int, Arrival] = {}
        self.stopped: list[Stopped] = []
        self.gone: list[Waiting] = []
        self.finished: list[int] = []
        self.ran: list[Ran] = []
        self.ask = False
        """Whether the policy has to hear of it at once."""

    def change(self, costs: Iterable[NewCost]) -> Change:
        """Give all of it as the policy is told."""
        return Change(
            tuple([arrival.request for arrival in self.arrived.values()]),
            tuple(self.stopped),
            tuple(self.gone),
            tuple(self.finished),
            tuple(costs),
            tuple(self.ran),
        )


class Book:
    """Accounts. `full` and what is read are for all threads, the rest for the driver's."""

    def __init__(self, queue_limit: int, memory_bytes: int | None) -> None:
        """Open empty books.

        Args:
            queue_limit: calls that may wait.
            memory_bytes: what all that has started may hold together; None: anything.

        Raises:
            ConfigError: less than one.
        """
        if queue_limit < 1 or (memory_bytes is not None and memory_bytes < 1):
            raise ConfigError(f"queue of {queue_limit}, memory {memory_bytes}: wanted 1 or more")
        self.tasks: dict[int, Task] = {}
        """All that has not ended."""
        self.queued = 0
        """Calls that wait."""
        self.free_bytes = memory_bytes
        self._memory_bytes, self._queue_limit = memory_bytes, queue_limit
        self._starts: dict[int, int] = {}
        self._deadlines: list[tuple[int, int]] = []
        self._ended: deque[tuple[Outcome, Task]] = deque()

    def full(self, coming: int = 0) -> bool:
        """Tell whether one more is refused, with so many on their way here."""
        return self.queued + coming >= self._queue_limit

    def enter(self, now: int, arrival: Arrival, need_bytes: int) -> tuple[Result | None, str]:
        """Enter a request.

        Args:
            now: the time.
            arrival: the request.
            need_bytes: memory that it needs.

        Returns:
            None if it waits from now on; else how it is to end, and why.

        Raises:
            ConfigError: there is one of this number.
        """
        request, task = arrival.request, arrival.task
        if request.id in self.tasks:
            raise ConfigError(f"two requests have the number {request.id}")
        self.tasks[request.id] = task
        if task.cancelled:
            return Result.CANCELLED, ""
        if request.deadline_ns is not None and request.deadline_ns <= now:
            return Result.EXPIRED, "came after its deadline"
        if self._memory_bytes is not None and need_bytes > self._memory_bytes:
            return Result.FULL, f"needs {need_bytes} bytes, there are {self._memory_bytes}"
        if self.full():
            return Result.FULL, f"{self._queue_limit} requests wait already"
        self.wait(request.id)
        if request.deadline_ns is not None:
            heapq.heappush(self._deadlines, (request.deadline_ns, request.id))
        return None, ""

    def wait(self, number: int) -> None:
        """Note that a request waits."""
        self.queued += self.tasks[number].size

    def leave(self, number: int) -> None:
        """Note that a request waits no longer."""
        self.queued -= self.tasks[number].size

    def start(self, now: int, numbers: Iterable[int], need_bytes: int) -> None:
        """Note that requests run."""
        if self.free_bytes is not None:
            self.free_bytes -= need_bytes
        for number in numbers:
            self._starts.setdefault(number, now)
            self.leave(number)

    def expired(self, now: int) -> list[int]:
        """Give the requests whose deadline has passed since this was asked before."""
        numbers = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number = heapq.heappop(self._deadlines)
            if number in self.tasks:
                numbers.append(number)
        return numbers

    @property
    def next_deadline_ns(self) -> int | None:
        """The first deadline that has not passed."""
        return self._deadlines[0][0] if self._deadlines else None

    def result(
        self, request: Request, now: int, *, ended: bool, failed: bool
    ) -> tuple[Result | None, str]:
        """Say how a request that ran ends, None if it is to go on.

        Args:
            request: which.
            now: the time.
            ended: all blocks are done.
            failed: its run failed, and is over.
        """
        task = self.tasks[request.id]
        if task.cancelled:
            return Result.CANCELLED, ""
        if ended or failed:
            return (Result.FAILED, "") if task.failed else (Result.DONE, "")
        if request.deadline_ns is not None and request.deadline_ns <= now:
            return Result.EXPIRED, "its deadline passed while it ran"
        return None, ""

    def finish(
        self, now: int, request: Request, result: Result, reason: str, profile: Profile
    ) -> None:
        """End a request."""
        known = request.template in profile.templates
        outcome = Outcome(
            request=request,
            result=result,
            at_ns=now,
            due_ns=due_ns(request, profile) if known else request.arrival_ns,
            start_ns=self._starts.pop(request.id, None),
            reason=reason,
        )
        if outcome.start_ns is not None and self.free_bytes is not None:
            self.free_bytes += profile[request.template].needs_bytes(request.rows)
        self._ended.append((outcome, self.tasks.pop(request.id)))

    @property
    def unsettled(self) -> int:
        """How many calls have ended that `next_ended` has not given."""
        return sum([task.size for _, task in tuple(self._ended)])

    def next_ended(self) -> tuple[Outcome, Task] | None:
        """Give one that ended, each once, in order."""
        return self._ended.popleft() if self._ended else None
