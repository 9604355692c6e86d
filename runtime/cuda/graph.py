"""Graphs: work that is recorded once and enqueued as one.

    with capture(stream) as recording:
        function.launch(stream, ...)
    graph = recording.graph()
    graph.launch(stream)

Capturing is local to its thread, so that other threads may do as they like meanwhile, and one at a
time. What a graph uses is held until the graph is closed.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import byref, c_void_p

from fusec.ir.errors import FusecError, VerifyError
from fusec.runtime.cuda.context import Context
from fusec.runtime.cuda.stream import Event, Stream, Used, recorded

__all__ = ["Capture", "Graph", "capture"]

_THREAD_LOCAL = 1


class Capture:
    """What a stream records; users call `capture`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._kept: list[Used] = []
        self._events: list[Event] = []
        self._forks: list[Stream] = []
        self._recorded: int | None = None

    def keep(self, used: Used) -> None:
        """Hold what is used until the graph is closed; once, however often it is used."""
        if not any(used is one for one in self._kept):
            used.hold()
            self._kept.append(used)

    def fork(self, other: Stream) -> None:
        """Let another stream's work, from here on, be part of it, beside what comes next here.

        Raises:
            VerifyError: the other stream is being captured already.
        """
        if other.capture is not None:
            raise VerifyError("a stream is forked that is captured already")
        self._order(self._stream, other)
        other.capture = self
        self._forks.append(other)

    def join(self, other: Stream) -> None:
        """Let what comes next wait for a forked stream, which is its own again."""
        if other not in self._forks:
            raise VerifyError("a stream is joined that was not forked")
        self._order(other, self._stream)
        other.capture = None
        self._forks.remove(other)

    def graph(self) -> "Graph":
        """Make what was recorded ready to launch; once, after the `with` block.

        Raises:
            KernelError: the driver refuses.
            VerifyError: nothing was recorded, or it was made already.
        """
        if self._recorded is None:
            raise VerifyError("there is no capture to make a graph of")
        recorded, self._recorded = self._recorded, None
        context = self._stream.context
        try:
            handle = context.create("cuGraphInstantiateWithFlags", recorded, 0)
        except BaseException:
            self.drop()
            raise
        finally:
            context.call("cuGraphDestroy", recorded)
        kept, self._kept = self._kept, []
        return Graph(context, handle, kept)

    def drop(self) -> None:
        """Let go of what was recorded, if no graph was made of it."""
        recorded, self._recorded = self._recorded, None
        if recorded is not None:
            self._stream.context.call("cuGraphDestroy", recorded)
        kept, self._kept = self._kept, []
        for used in kept:
            used.release()

    def begin(self) -> None:
        """Start to record."""
        context = self._stream.context
        context.call("cuStreamBeginCapture_v2", self._stream.handle, _THREAD_LOCAL)
        self._stream.capture = self
        context.capturing = True

    def end(self) -> None:
        """Stop to record.

        Raises:
            KernelError: something broke the capture.
            VerifyError: a forked stream was not joined.
        """
        context = self._stream.context
        forks, self._forks = self._forks, []
        for stream in (*forks, self._stream):
            stream.capture = None
        context.capturing = False
        recorded = c_void_p()
        try:
            context.call("cuStreamEndCapture", self._stream.handle, byref(recorded))
        finally:
            for event in self._events:
                event.close()
            self._recorded = recorded.value
        if forks:
            raise VerifyError(f"{len(forks)} streams were forked and not joined")

    def _order(self, first: Stream, then: Stream) -> None:
        event = Event(self._stream.context)
        self._events.append(event)
        event.record(first)
        then.wait(event)


class Graph:
    """Recorded work, ready to launch."""

    def __init__(self, context: Context, handle: int, kept: list[Used]) -> None:
        """Users call `Capture.graph`."""
        self._context = context
        self._handle: int | None = handle
        self._kept = kept
        self._users: set[Stream] = set()

    def launch(self, stream: Stream) -> None:
        """Enqueue it all.

        Raises:
            VerifyError: it is closed, or the stream is being captured.
            KernelError: the driver refuses.
        """
        if self._handle is None:
            raise VerifyError("a closed graph is launched")
        if stream.capture is not None:
            raise VerifyError("a graph is launched into a capture")
        stream.touch(self._kept)
        self._users.add(stream)
        self._context.call("cuGraphLaunch", self._handle, stream.handle)

    def close(self) -> None:
        """Destroy it once its launches are done, which may be later; once.

        What it used can be freed from here on: launches count as uses of their streams.
        """
        if self._handle is None:
            return
        self._context.refuse_in_capture("a graph is destroyed")
        events = [recorded(stream).handle for stream in self._users if not stream.closed]
        handle, self._handle = self._handle, None
        kept, self._kept = self._kept, []
        for used in kept:
            used.release()
        destroy = self._context.call
        self._context.retire(tuple(events), lambda: destroy("cuGraphExecDestroy", handle))


@contextmanager
def capture(stream: Stream) -> Iterator[Capture]:
    """Record what is enqueued in a stream instead of running it.

    Yields:
        The recording; make it a graph after the block. If the block fails, it is dropped.

    Raises:
        VerifyError: this thread captures already.
        KernelError: the driver refuses, or something in the block broke the capture.
    """
    stream.context.refuse_in_capture("a capture begins")
    with stream.context.capture_lock:
        recording = Capture(stream)
        recording.begin()
        try:
            yield recording
        except BaseException:
            _abandon(recording)
            raise
        try:
            recording.end()
        except BaseException:
            recording.drop()
            raise


def _abandon(recording: Capture) -> None:
    """End a capture whose block failed; that error matters, not what ending says."""
    with suppress(FusecError):
        recording.end()
    with suppress(FusecError):
        recording.drop()
