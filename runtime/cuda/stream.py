"""Streams and events: what runs after what."""

from collections.abc import Iterable
from ctypes import byref, c_float
from typing import Protocol

from fusec.ir.errors import VerifyError
from fusec.runtime.cuda.context import Context

__all__ = ["Event", "Keeper", "Stream", "Used", "recorded"]

_NON_BLOCKING = 1
_NO_TIMING = 2


class Used(Protocol):
    """Memory or code that work in streams uses."""

    def used_by(self, stream: "Stream") -> None:
        """Note that work enqueued in a stream uses it."""

    def hold(self) -> None:
        """Keep it from being freed."""

    def release(self) -> None:
        """Undo one `hold`."""


class Keeper(Protocol):
    """A capture: it keeps what it records."""

    def keep(self, used: Used) -> None:
        """Hold something as long as what is captured may run."""


class Stream:
    """Work of a card that runs in order; never ordered with the default stream."""

    def __init__(self, context: Context, *, urgency: int = 0, share: int | None = None) -> None:
        """Create a stream.

        Args:
            context: of the card.
            urgency: 0 for the least urgent; each step is one of the card's priorities, and as many
                as it has count.
            share: green context whose multiprocessors it has; None has all.

        Raises:
            KernelError: the driver refuses.
        """
        self.context = context
        least, most = context.properties.priorities
        self.priority = max(most, least - max(urgency, 0))
        self.blocks = 0
        """Blocks of memory that are freed in this stream's order, and are not yet."""
        self.capture: Keeper | None = None
        """What records its work instead of running it, if anything does."""
        self._handle: int | None = (
            context.create("cuStreamCreateWithPriority", _NON_BLOCKING, self.priority)
            if share is None
            else context.create("cuGreenCtxStreamCreate", share, _NON_BLOCKING, self.priority)
        )

    @property
    def handle(self) -> int:
        """The driver's name for it.

        Raises:
            VerifyError: it is closed.
        """
        if self._handle is None:
            raise VerifyError("a closed stream is used")
        return self._handle

    @property
    def closed(self) -> bool:
        """Whether it is closed; all its work is then done."""
        return self._handle is None

    def touch(self, used: Iterable[Used]) -> None:
        """Note what work that is enqueued next uses.

        Raises:
            VerifyError: some of it is freed.
        """
        for one in used:
            one.used_by(self)
            if self.capture is not None:
                self.capture.keep(one)

    def wait(self, event: "Event") -> None:
        """Let all that comes later wait for an event, on the card."""
        self.context.call("cuStreamWaitEvent", self.handle, event.handle, 0)

    def done(self) -> bool:
        """Tell whether all work is done.

        Raises:
            KernelError: some of it has failed.
            VerifyError: this thread captures.
        """
        self.context.refuse_in_capture("a stream is asked")
        return self.context.ready("cuStreamQuery", self.handle)

    def synchronize(self) -> None:
        """Wait here until all work is done.

        Raises:
            KernelError: some of it has failed.
            VerifyError: this thread captures.
        """
        self.context.refuse_in_capture("waiting for a stream")
        self.context.call("cuStreamSynchronize", self.handle)

    def close(self) -> None:
        """Wait for all work, then destroy it; once.

        Raises:
            VerifyError: memory that it allocated is not freed.
        """
        if self._handle is None:
            return
        if self.blocks:
            raise VerifyError(f"a stream is closed that still owns {self.blocks} blocks of memory")
        self.synchronize()
        handle, self._handle = self._handle, None
        self.context.call("cuStreamDestroy_v2", handle)


class Event:
    """A point in a stream."""

    def __init__(self, context: Context, *, timed: bool = False) -> None:
        """Create an event; timed ones cost more."""
        self.context = context
        self._handle: int | None = context.create("cuEventCreate", 0 if timed else _NO_TIMING)

    @property
    def handle(self) -> int:
        """The driver's name for it.

        Raises:
            VerifyError: it is closed.
        """
        if self._handle is None:
            raise VerifyError("a closed event is used")
        return self._handle

    def record(self, stream: Stream) -> None:
        """Set it behind all work that a stream has by now."""
        self.context.call("cuEventRecord", self.handle, stream.handle)

    def done(self) -> bool:
        """Tell whether it has happened.

        Raises:
            KernelError: work before it has failed.
            VerifyError: this thread captures.
        """
        self.context.refuse_in_capture("an event is asked")
        return self.context.ready("cuEventQuery", self.handle)

    def synchronize(self) -> None:
        """Wait here until it has happened.

        Raises:
            KernelError: work before it has failed.
            VerifyError: this thread captures.
        """
        self.context.refuse_in_capture("waiting for an event")
        self.context.call("cuEventSynchronize", self.handle)

    def since_ns(self, earlier: "Event") -> int:
        """Give the time from another event to this one; both are timed and have happened."""
        ms = c_float()
        self.context.call("cuEventElapsedTime", byref(ms), earlier.handle, self.handle)
        return round(ms.value * 1e6)

    def close(self) -> None:
        """Destroy it; once. The driver keeps it for streams that wait for it."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        self.context.call("cuEventDestroy_v2", handle)


def recorded(stream: Stream) -> Event:
    """Give an event behind all work that a stream has by now.

    Raises:
        KernelError: the driver refuses; no event is left.
    """
    event = Event(stream.context)
    try:
        event.record(stream)
    except BaseException:
        event.close()
        raise
    return event
