"""What lanes run, written down while somebody looks; while nobody does, it costs nothing."""

from collections import deque
from collections.abc import Callable, Sequence

from fusec.ir.frozen import dataclass
from fusec.runtime.drivers.real import RealDriver
from fusec.runtime.drivers.run import Span
from fusec.runtime.sched.records import Request

__all__ = ["Recording", "Stay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A launch on a lane."""

    lane: int
    start_ns: int
    end_ns: int | None
    """None: it runs."""
    rows: dict[str, int]
    """Of each template in it, by its name in profiles."""
    model: str
    """Whose request is the first in it."""
    calls: int
    stopped: bool
    """It left before its last block."""


class Recording:
    """The last launches that nobody took yet. `add` is the driver's; the rest is for one thread."""

    def __init__(
        self, driver: RealDriver, limit: int, closed: Callable[["Recording"], None]
    ) -> None:
        """Begin.

        Args:
            driver: whose lanes.
            limit: launches that are kept; of more than that, the oldest are forgotten.
            closed: is told when nobody looks any more.
        """
        self._driver, self._closed = driver, closed
        self._kept: deque[tuple[Span, Sequence[Request], int]] = deque(maxlen=limit)

    def add(self, span: Span, requests: Sequence[Request], calls: int) -> None:
        """Write down a launch that left its lane."""
        self._kept.append((span, requests, calls))

    def take(self) -> list[Stay]:
        """Give the launches that ended since this was asked before, in order of their ends."""
        taken = [self._kept.popleft() for _ in range(len(self._kept))]
        return [
            _stay(span.lane, span.start_ns, span.end_ns, requests, calls, span.preempted)
            for span, requests, calls in taken
        ]

    def running(self) -> list[Stay]:
        """Give what runs now."""
        return [
            _stay(
                lane,
                busy.start_ns,
                None,
                [entry.request for part in busy.entries for entry in part],
                sum(task.size for tasks, _ in busy.work.parts for task in tasks),
                busy.stopping,
            )
            for lane, busy in self._driver.busy
        ]

    def close(self) -> None:
        """Stop writing."""
        self._closed(self)


def _stay(
    lane: int,
    start_ns: int,
    end_ns: int | None,
    requests: Sequence[Request],
    calls: int,
    stopped: bool,
) -> Stay:
    rows: dict[str, int] = {}
    for request in requests:
        rows[request.template] = rows.get(request.template, 0) + request.rows
    return Stay(
        lane=lane,
        start_ns=start_ns,
        end_ns=end_ns,
        rows=rows,
        model=requests[0].model,
        calls=calls,
        stopped=stopped,
    )
