"""Who takes a driver's turns: whoever brings news, so that no thread has to be woken to decide.

    put -> inbox -> nobody takes a turn: take turns until the inbox is empty
                    somebody does: it takes these events next
    all lanes are busy: a request waits for the end of a block, or for a look of the scheduler's
    thread, which looks each millisecond then, and otherwise sleeps until a time that a turn names

A lane that has given all its answers gives way to whoever waited for them: the accounts are done
with the next request, or a little later.
"""

import _signal  # type: ignore[import-not-found]
import os
import threading
from collections.abc import Callable, Sequence
from enum import Enum, auto
from queue import Empty, SimpleQueue
from time import monotonic_ns, sleep
from types import FrameType
from typing import Any

from fusec.runtime.drivers.real import RealDriver
from fusec.runtime.drivers.work import Ended, Event
from fusec.runtime.serving.inbox import Inbox

__all__ = ["Turns"]

_MANY = 16
"""Answers whose clients take long enough to tell that lanes had better get going before."""
_LANE_STARTS_S = 50e-6
_PATIENCE_S = 0.05
_LOOK_NS = 1_000_000
"""How often the scheduler's thread looks whether somebody came while all lanes are busy."""


class _Call(Enum):
    """What the scheduler's thread is woken for."""

    LOOK = auto()
    SETTLE = auto()
    END = auto()


class Turns:
    """Takes turns of a driver, on any thread, one at a time."""

    def __init__(self, inbox: Inbox) -> None:
        """Make what lanes can be given; `start` has to come before the first event."""
        self._inbox = inbox
        self._driver: RealDriver
        self._end: Callable[[BaseException | None, Sequence[Event]], None]
        self._turning = threading.Lock()
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._wake: int | None = None
        """When to turn again if nothing happens before."""
        self._until: int | None = None
        """How long the scheduler's thread sleeps."""
        self._looking = False
        """Whether it looks for requests that came."""
        self._events: list[Event] = []
        """Of the turn that is taken."""
        self._fault: BaseException | None = None
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._main, name="fusec-scheduler", daemon=True)

    def start(
        self, driver: RealDriver, end: Callable[[BaseException | None, Sequence[Event]], None]
    ) -> None:
        """Begin.

        Args:
            driver: whose turns.
            end: is called once, on the scheduler's thread, when no turn is taken any more; with
                the exception that a turn raised, and with the events that no turn has taken.
        """
        self._driver, self._end = driver, end
        self._thread.start()

    def put(self, event: Event) -> None:
        """Bring news, and act on it at once; not in a process that was forked."""
        self._inbox.put(event)
        if os.getpid() == self._process:
            self.drive()

    def arrived(self) -> None:
        """Act on requests in the inbox: at once if a lane is free, and soon if none is."""
        if self._inbox.ends or self._driver.running < self._driver.lanes:
            self.drive()
        elif not self._looking:
            self._looking = True
            self._calls.put(_Call.LOOK)

    def ended(self, end: Ended, *, answered: bool) -> bool:
        """Say that a lane is free again, on its thread.

        Args:
            end: of its launch.
            answered: whether all of it has its answers.

        Returns:
            Whether that was acted on. If not, the lane calls `drive` after a while.
        """
        inbox = self._inbox
        inbox.ends = True
        inbox.put(end)
        if answered and inbox.size() == 1 and not self._driver.book.queued:
            return False
        self.drive()
        return True

    def drive(self) -> None:
        """Take turns while there is news, unless somebody does."""
        inbox = self._inbox
        if not inbox.size():
            return
        with _Uninterrupted() as calm:
            if not calm:
                self._calls.put(_Call.LOOK)
                return
            while inbox.size() and self._turning.acquire(blocking=False):
                if not self._turn():
                    return
                self._told()

    def close(self) -> None:
        """Take no more turns; comes back when `end` has."""
        self._calls.put(_Call.END)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _turn(self) -> bool:
        """Take a turn and open the lock; after a fault it stays shut, and no turn follows."""
        try:
            self._events = self._inbox.take()
            self._wake = self._driver.turn(monotonic_ns(), self._events)
        except BaseException as e:  # whoever waits is told
            self._fault = e
            self._calls.put(_Call.END)
            if not isinstance(e, Exception) and _on_main_thread():
                raise  # it is not ours: a signal's handler ends what this thread does
            return False
        self._events = []
        self._turning.release()
        return True

    def _told(self) -> None:
        """Do what follows a turn."""
        wake, until = self._wake, self._until
        if wake is not None and (until is None or wake < until):
            self._calls.put(_Call.LOOK)
        unsettled = self._driver.unsettled
        if unsettled > _MANY and self._driver.running:
            self._calls.put(_Call.SETTLE)
        elif unsettled:
            self._driver.settle()

    def _main(self) -> None:
        """Be the scheduler's thread."""
        while (call := self._next()) is not _Call.END:
            if call is _Call.SETTLE:
                sleep(_LANE_STARTS_S)
                self._driver.settle()
                continue
            wake = self._wake
            due = wake is not None and wake <= monotonic_ns()
            wanted = due or self._inbox.size()
            if wanted and self._turning.acquire(timeout=_PATIENCE_S) and self._turn():
                self._driver.settle()
            if self._looking and not self._driver.running:
                self._looking = False
            self.drive()  # for who came meanwhile
        self._finish()

    def _next(self) -> _Call:
        """Sleep until there is something to do."""
        while True:
            self._until = until = self._wake
            if until == self._wake:  # else a turn was taken that did not see how long we sleep
                break
        if self._looking:
            soon = monotonic_ns() + _LOOK_NS
            until = soon if until is None else min(until, soon)
        try:
            timeout = None if until is None else max(0, until - monotonic_ns()) / 1e9
            call = self._calls.get(timeout=timeout)
            if call is _Call.LOOK and self._looking:
                # Who came while all lanes are busy has a while.
                call = self._calls.get(timeout=_LOOK_NS / 1e9)
        except Empty:
            call = _Call.LOOK
        return call

    def _finish(self) -> None:
        """Take the last turn, and end."""
        self.drive()
        while self._fault is None and not self._turning.acquire(timeout=_PATIENCE_S):
            pass
        self._end(self._fault, tuple(self._events))


class _Uninterrupted:
    """Holds back Ctrl-C on the main thread: a turn that it breaks off could not be gone on with.

    Gives whether that is possible: a handler of alarms might raise an exception as well. What the
    module `signal` has around these functions takes ten times as long as they do.
    """

    __slots__ = ("_came", "_handler")

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._handler: Any = None
        self._came: FrameType | bool | None = False

    def __enter__(self) -> bool:
        if not _on_main_thread():
            return True
        if callable(_signal.getsignal(_signal.SIGALRM)):
            return False
        handler = _signal.getsignal(_signal.SIGINT)
        if callable(handler):
            _signal.signal(_signal.SIGINT, self._hold)
            self._handler = handler
        return True

    def __exit__(self, *_: object) -> None:
        handler, self._handler = self._handler, None
        if handler is None:
            return
        _signal.signal(_signal.SIGINT, handler)
        if self._came is not False:
            handler(_signal.SIGINT, self._came)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._came = frame


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
