"""Futures whose client may leave at any time, and whose callbacks never hold up serving."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["Answer", "Courier", "Start", "awaited"]


class Start:
    """The launch in which requests began to run: who has the same one ran together."""

    __slots__ = ("at_ns",)

    def __init__(self, at_ns: int) -> None:
        """Take the time, on the monotonic clock."""
        self.at_ns = at_ns


class Courier:
    """A thread that calls clients' callbacks; there is none until the first of them.

    A callback that never returns holds up other callbacks, and no answer.
    """

    def __init__(self) -> None:
        """Make a courier without a thread."""
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = Lock()
        self._thread: Thread | None = None

    def send(self, call: Callable[[], None]) -> None:
        """Have something called soon."""
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._main, name="fusec-courier", daemon=True)
                self._thread.start()
        self._queue.put(call)

    def close(self) -> None:
        """End the thread, after what it has been sent."""
        if self._thread is not None:
            self._queue.put(None)

    def _main(self) -> None:
        while (call := self._queue.get()) is not None:
            call()


class Answer(Future[Any]):
    """The answer to one request. It can be cancelled until it is there, even while it is made."""

    def __init__(self, courier: Courier) -> None:
        """Make an open future.

        Args:
            courier: calls its callbacks.
        """
        super().__init__()
        self._courier = courier
        self.left: Callable[[], None] | None = None
        """Is told when the client cancels."""
        self.start: Start | None = None
        """When it began to run, and with whom; None before."""
        self.gone = False
        """Whether it was cancelled; `cancelled` says the same, and takes a lock."""
        self._told: Callable[[Answer], None] | None = None

    def cancel(self) -> bool:
        """Give up the answer; work on it stops at the end of the block that runs, if not before."""
        done = super().cancel()
        self.gone = done
        left, self.left = self.left, None
        if done and left is not None:
            left()
        return done

    def tell(self, done: Callable[["Answer"], None]) -> None:
        """Have one callback called at once, on whichever thread ends this: it must not take long.

        If it has ended already, it is called now.
        """
        with self._condition:
            if not self.done():
                self._told = done
                return
        done(self)

    def _invoke_callbacks(self) -> None:  # of the standard library: when the future is done
        told, self._told = self._told, None
        if told is not None:
            told(self)
        if self._done_callbacks:  # type: ignore[attr-defined]
            self._courier.send(super()._invoke_callbacks)  # type: ignore[misc]


class _Mailbox:
    """Answers for one event loop, which is woken once for all that come before it looks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make an empty one."""
        self._wake = loop.call_soon_threadsafe
        self._came: deque[Answer] = deque()
        self._lock = threading.Lock()
        self._woken = False
        self._waiters: dict[Answer, asyncio.Future[Any]] = {}

    def wait(self, answer: Answer, waiter: "asyncio.Future[Any]") -> None:
        """Have a future of the loop get what an answer gets."""
        self._waiters[answer] = waiter
        answer.tell(self._put)

    def forget(self, answer: Answer) -> None:
        """Wait no longer."""
        self._waiters.pop(answer, None)

    def _put(self, answer: Answer) -> None:
        self._came.append(answer)
        with self._lock:
            woken, self._woken = self._woken, True
        if not woken:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._wake(self._open)

    def _open(self) -> None:
        with self._lock:
            self._woken = False
        came = self._came
        while came:
            answer = came.popleft()
            waiter = self._waiters.pop(answer, None)
            if waiter is None or waiter.done():
                continue
            if answer.cancelled():
                waiter.cancel()
                continue
            error = answer.exception()
            if error is None:
                waiter.set_result(answer.result())
            else:
                waiter.set_exception(error)


_mailboxes: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Mailbox]" = WeakKeyDictionary()


async def awaited(future: "Future[Any]") -> Any:
    """Await an answer on an event loop; cancelling the task cancels it.

    As `asyncio.wrap_future`, but no thread of ours is woken for it.
    """
    if not isinstance(future, Answer):
        return await asyncio.wrap_future(future)
    loop = asyncio.get_running_loop()
    mailbox = _mailboxes.get(loop)
    if mailbox is None:
        mailbox = _mailboxes[loop] = _Mailbox(loop)
    waiter: asyncio.Future[Any] = loop.create_future()
    mailbox.wait(future, waiter)
    try:
        return await waiter
    except asyncio.CancelledError:
        mailbox.forget(future)
        future.cancel()
        raise
