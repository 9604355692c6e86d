"""Where a driver's events come in, from any thread."""

from queue import Empty, SimpleQueue
from threading import Lock
from time import monotonic_ns

from fusec.runtime.drivers.work import Arrival, Ended, Event

__all__ = ["Inbox"]

_PATIENCE_NS = 500_000
"""How long to wait for a request that what ran was stopped for; reading one takes less."""


class Inbox:
    """Events in the order in which they came. One thread at a time takes them."""

    def __init__(self) -> None:
        """Begin empty."""
        self._queue: SimpleQueue[Event] = SimpleQueue()
        self._lock = Lock()
        self._coming = 0
        self.put = self._queue.put
        self.size = self._queue.qsize
        self.ends = False
        """Whether a lane that has become free may be among them."""

    def expect(self, requests: int) -> None:
        """Say that requests are on their way for which something was stopped; less: that they came.

        Who hears that it has stopped had better wait for them before deciding what runs next.
        """
        with self._lock:
            self._coming += requests

    def take(self) -> list[Event]:
        """Take what is there."""
        self.ends = False
        events: list[Event] = []
        try:
            while True:
                events.append(self._queue.get_nowait())
        except Empty:
            pass
        if self._coming and any(isinstance(e, Ended) and e.half_done for e in events):
            self._wait_for_coming(events)
        return events

    def _wait_for_coming(self, events: list[Event]) -> None:
        until = monotonic_ns() + _PATIENCE_NS
        try:
            while self._coming and not any(isinstance(e, Arrival) for e in events):
                left = max(0, until - monotonic_ns())
                events.append(self._queue.get(timeout=left / 1e9))
        except Empty:
            pass
