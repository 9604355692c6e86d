"""Where a driver's events come in, from any thread."""

from queue import Empty, SimpleQueue
from threading import Lock
from time import monotonic_ns

from fusec.runtime.drivers.work import Arrival, Ended, Event

__all__ = ["Inbox"]

_PATIENCE_NS = 500_000
"""How long to wait for a request that what ran was stopped for; reading one takes less."""


class Inbox:
    """Events in the order in which they came. One thread takes them."""

    def __init__(self) -> None:
        """Begin empty."""
        self._queue: SimpleQueue[Event | None] = SimpleQueue()
        self._lock = Lock()
        self._coming = 0
        self.put = self._queue.put
        self.size = self._queue.qsize

    def close(self) -> None:
        """Have whoever takes events know that no more are wanted."""
        self._queue.put(None)

    def expect(self, requests: int) -> None:
        """Say that requests are on their way for which something was stopped; less: that they came.

        Who hears that it has stopped had better wait for them before deciding what runs next.
        """
        with self._lock:
            self._coming += requests

    def take(self, until_ns: int | None) -> tuple[list[Event], bool]:
        """Wait for events.

        Args:
            until_ns: no longer than to this time; None waits for ever.

        Returns:
            What came, and whether it was closed.
        """
        events: list[Event] = []
        closed = False
        try:
            event = self._queue.get(timeout=_seconds(until_ns))
            while True:
                if event is None:
                    closed = True
                else:
                    events.append(event)
                event = self._queue.get_nowait()
        except Empty:
            pass
        if self._coming and any(isinstance(e, Ended) and e.half_done for e in events):
            self._wait_for_coming(events)
        return events, closed

    def rest(self) -> list[Event]:
        """Take what is there."""
        return self.take(0)[0]

    def _wait_for_coming(self, events: list[Event]) -> None:
        until = monotonic_ns() + _PATIENCE_NS
        try:
            while self._coming and not any(isinstance(e, Arrival) for e in events):
                event = self._queue.get(timeout=_seconds(until))
                if event is None:
                    self.close()  # for the next time
                    return
                events.append(event)
        except Empty:
            pass


def _seconds(until_ns: int | None) -> float | None:
    """Give the time that is left."""
    return None if until_ns is None else max(0.0, (until_ns - monotonic_ns()) / 1e9)
