"""Futures whose client may leave at any time, and whose callbacks never hold up serving."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

__all__ = ["Answer", "Courier", "Start"]


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

    def cancel(self) -> bool:
        """Give up the answer; work on it stops at the end of the block that runs, if not before."""
        done = super().cancel()
        self.gone = done
        left, self.left = self.left, None
        if done and left is not None:
            left()
        return done

    def _invoke_callbacks(self) -> None:  # of the standard library: when the future is done
        if self._done_callbacks:  # type: ignore[attr-defined]
            self._courier.send(super()._invoke_callbacks)  # type: ignore[misc]
