"""Lanes of a card: a stream each, with memory that one run at a time has."""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from fusec.ir.errors import ConfigError, KernelError
from fusec.runtime.cuda.context import Context
from fusec.runtime.cuda.library import OutOfDeviceMemory
from fusec.runtime.cuda.memory import DeviceMemory, HostMemory
from fusec.runtime.cuda.recording import Recordings
from fusec.runtime.cuda.stream import Stream

__all__ = ["STATUS_BYTES", "Lane", "Lanes", "Pinned"]

STATUS_BYTES = 16


class Pinned:
    """Pinned memory of the host that grows."""

    def __init__(self, context: Context) -> None:
        """Have none."""
        self._context = context
        self._memory: HostMemory | None = None

    def take(self, n_bytes: int) -> HostMemory:
        """Give a block of so many bytes at least; what was in it may be gone.

        Raises:
            KernelError: there is not that much that can be pinned.
        """
        memory = self._memory
        if memory is None or memory.n_bytes < n_bytes:
            self.close()
            # A quarter more, so that slowly growing runs do not pin each time.
            memory = self._memory = HostMemory(self._context, n_bytes + n_bytes // 4)
        return memory

    def close(self) -> None:
        """Free it once copies are done."""
        if self._memory is not None:
            self._memory.free()
            self._memory = None


class Lane:
    """One lane. For one run at a time."""

    def __init__(
        self,
        index: int,
        stream: Stream,
        recordings: Callable[[Stream, DeviceMemory], Recordings],
    ) -> None:
        """Take a stream, and the little memory that is always needed.

        Args:
            index: of the lane.
            stream: its own.
            recordings: makes those of a stream, with a status word.
        """
        self.index, self.context, self.stream = index, stream.context, stream
        self.status = DeviceMemory(stream, STATUS_BYTES)
        self.recordings = recordings(stream, self.status)
        self.inbox, self.outbox, self.tables = (Pinned(stream.context) for _ in range(3))
        self.scratch = Pinned(stream.context)
        self._memory: DeviceMemory | None = None

    def memory(self, n_bytes: int, make_room: Callable[[], int]) -> DeviceMemory:
        """Give memory of so many bytes at least; another block than before if it has to be.

        Args:
            n_bytes: of inputs, outputs and arenas.
            make_room: frees what the card can do without, and says how much that was.

        Raises:
            OutOfDeviceMemory: there is not that much.
        """
        memory = self._memory
        if memory is not None and memory.n_bytes >= n_bytes:
            return memory
        if memory is not None:
            memory.free()
            self._memory = None
        wanted = n_bytes + n_bytes // 4 if memory is not None else n_bytes
        self._memory = self._allocate(wanted, n_bytes, make_room)
        return self._memory

    def recover(self) -> None:
        """After an error: wait for what runs, and forget what tables hold."""
        self.recordings.forget()
        try:
            self.stream.synchronize()
        except KernelError:
            return  # whoever asked is told the first error

    def close(self) -> None:
        """Free everything, when it is done."""
        self.stream.synchronize()
        self.recordings.close()
        for memory in (self._memory, self.status):
            if memory is not None:
                memory.free()
        for pinned in (self.inbox, self.outbox, self.tables, self.scratch):
            pinned.close()
        self.stream.close()

    def _allocate(self, wanted: int, least: int, make_room: Callable[[], int]) -> DeviceMemory:
        for n_bytes in dict.fromkeys((wanted, least)):
            try:
                return DeviceMemory(self.stream, n_bytes)
            except OutOfDeviceMemory:
                continue
        try:
            make_room()
            return DeviceMemory(self.stream, least)
        except OutOfDeviceMemory as e:
            raise OutOfDeviceMemory(
                f"this run takes {least:,} bytes on the card for inputs, outputs and what is "
                f"between them, and {self.context.free_memory_bytes():,} are free; run fewer "
                "models or rows at once, or give a smaller memory_budget"
            ) from e


class Landing(Protocol):
    """A run that has a lane."""

    def land(self) -> None:
        """Wait until it has run, and give the lane back."""


class Lanes:
    """Lends lanes. Safe from many threads."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        """Take lanes."""
        self._all = tuple(lanes)
        self._free = list(reversed(self._all))
        self._flying: dict[Lane, Landing] = {}
        """In the order of their starts."""
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._all)

    @property
    def graphs(self) -> int:
        """Graphs of all lanes."""
        return sum(len(lane.recordings) for lane in self._all)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def take(self, index: int | None = None) -> Lane:
        """Lend a lane; while none is free, wait until the first run that has one is over.

        Args:
            index: of the lane; None takes any.

        Raises:
            ConfigError: there is no such lane.
            KernelError: the card is closed.
        """
        if index is not None and not 0 <= index < len(self._all):
            raise ConfigError(f"there is no lane {index}: this plan has {len(self._all)} lanes")
        while True:
            with self._changed:
                if self._closed:
                    raise KernelError("the card was closed")
                fit = [lane for lane in self._free if index in (None, lane.index)]
                if fit:
                    self._free.remove(fit[-1])
                    return fit[-1]
                flying = next(
                    (f for n, f in self._flying.items() if index in (None, n.index)), None
                )
                if flying is None:
                    self._changed.wait()
            if flying is not None:
                # Whoever started it may be waiting here.
                flying.land()

    def fly(self, lane: Lane, landing: Landing) -> None:
        """Note what a lane runs; it gives the lane back."""
        with self._changed:
            self._flying[lane] = landing
            self._changed.notify_all()

    def give(self, lane: Lane) -> None:
        """Take a lane back."""
        with self._changed:
            self._flying.pop(lane, None)
            self._free.append(lane)
            self._changed.notify_all()

    def close(self) -> None:
        """Wait for all lanes and close them; once."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        while len(self._free) < len(self._all):
            with self._changed:
                flying = list(self._flying.values())
                if not flying and len(self._free) < len(self._all):
                    self._changed.wait()
            for landing in flying:
                landing.land()
        for lane in self._all:
            lane.close()
