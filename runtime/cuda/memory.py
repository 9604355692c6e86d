"""Memory of a card and of its host, freed only when no stream can still use it.

Whatever is enqueued names the memory it touches; addresses that a kernel finds in tables are named
by whoever launches it. Freeing never waits here: the card does, or `Context.reclaim` comes back.
"""

import ctypes
import weakref
from typing import TypeAlias

import numpy as np

from fusec.ir.errors import VerifyError
from fusec.runtime.cuda.context import Context
from fusec.runtime.cuda.stream import Stream, recorded

__all__ = ["DeviceMemory", "HostMemory", "Memory", "copy", "download", "fill", "upload"]

_PORTABLE = 1
"""Pinned for all contexts."""


class DeviceMemory:
    """A block of a card's memory, allocated and freed in the order of its own stream."""

    def __init__(self, stream: Stream, n_bytes: int) -> None:
        """Allocate memory; other streams may use it behind an event of its own.

        Raises:
            OutOfDeviceMemory: the card has not that much left.
            VerifyError: this thread captures.
        """
        stream.context.refuse_in_capture("memory is allocated")
        self.n_bytes = n_bytes
        self._home = stream
        self._users: set[Stream] = set()
        self._holders = 0
        self._address: int | None = stream.context.create(
            "cuMemAllocAsync", max(n_bytes, 1), stream.handle
        )
        stream.blocks += 1

    @property
    def address(self) -> int:
        """Where it begins.

        Raises:
            VerifyError: it is freed.
        """
        if self._address is None:
            raise VerifyError("freed memory of a card is used")
        return self._address

    def used_by(self, stream: Stream) -> None:
        """Note that work in a stream uses it, up to what is enqueued when it is freed.

        Raises:
            VerifyError: it is freed.
        """
        if self._address is None:
            raise VerifyError("freed memory of a card is used")
        if stream is not self._home:
            self._users.add(stream)

    def hold(self) -> None:
        """Keep it from being freed: a graph has its address."""
        self._holders += 1

    def release(self) -> None:
        """Undo one `hold`."""
        self._holders -= 1

    def free(self) -> None:
        """Free it behind all work that uses it; once.

        Raises:
            VerifyError: a graph holds it, or this thread captures.
        """
        if self._address is None:
            return
        context = self._home.context
        context.refuse_in_capture("memory is freed")
        if self._holders:
            raise VerifyError(f"memory is freed that {self._holders} graphs hold")
        for user in self._users:
            if not user.closed:
                event = recorded(user)
                try:
                    self._home.wait(event)
                finally:
                    event.close()
        address, self._address = self._address, None
        self._users.clear()
        context.call("cuMemFreeAsync", address, self._home.handle)
        self._home.blocks -= 1


class HostMemory:
    """Pinned memory of the host: copies to and from it do not hold up who enqueues them."""

    def __init__(self, context: Context, n_bytes: int) -> None:
        """Allocate memory; this takes long, so keep it.

        Raises:
            KernelError: there is not that much that can be pinned.
            VerifyError: this thread captures.
        """
        context.refuse_in_capture("host memory is allocated")
        self.n_bytes = n_bytes
        self._context = context
        self._users: set[Stream] = set()
        self._holders = 0
        self._address: int | None = context.create("cuMemHostAlloc", max(n_bytes, 1), _PORTABLE)
        self._view = self._look()

    @property
    def address(self) -> int:
        """Where it begins.

        Raises:
            VerifyError: it is freed.
        """
        if self._address is None:
            raise VerifyError("freed host memory is used")
        return self._address

    @property
    def view(self) -> memoryview:
        """Its bytes; arrays over them keep it from being freed."""
        return self._view

    def window(self) -> np.ndarray:
        """Give its bytes as an array that does not keep it: for who owns the memory.

        An error's traceback holds arrays longer than anybody needs them.
        """
        if not self.n_bytes:
            return np.empty(0, dtype=np.uint8)
        array = (ctypes.c_ubyte * self.n_bytes).from_address(self.address)
        return np.frombuffer(memoryview(array).cast("B"), dtype=np.uint8)

    def used_by(self, stream: Stream) -> None:
        """Note that work in a stream uses it, up to what is enqueued when it is freed."""
        if self._address is None:
            raise VerifyError("freed host memory is used")
        self._users.add(stream)

    def hold(self) -> None:
        """Keep it from being freed: a graph has its address."""
        self._holders += 1

    def release(self) -> None:
        """Undo one `hold`."""
        self._holders -= 1

    def free(self) -> None:
        """Free it once all work that uses it is done, which may be later; once.

        Raises:
            VerifyError: a graph holds it, arrays look at it, or this thread captures.
        """
        if self._address is None:
            return
        self._context.refuse_in_capture("host memory is freed")
        if self._holders:
            raise VerifyError(f"host memory is freed that {self._holders} graphs hold")
        self._view.release()
        if self._looked_at() is not None:
            self._view = self._look()
            raise VerifyError("host memory is freed that arrays look at")
        events = [recorded(user).handle for user in self._users if not user.closed]
        address, self._address = self._address, None
        self._users.clear()
        self._context.retire(tuple(events), lambda: self._context.call("cuMemFreeHost", address))

    def _look(self) -> memoryview:
        array = (ctypes.c_ubyte * self.n_bytes).from_address(self.address)
        # It lives as long as anybody looks: arrays keep it, and not the view they are made of.
        self._looked_at = weakref.ref(array)
        return memoryview(array).cast("B")


Memory: TypeAlias = "DeviceMemory | HostMemory"


def upload(
    stream: Stream,
    target: DeviceMemory,
    source: HostMemory | memoryview,
    offset: int = 0,
    *,
    source_offset: int = 0,
    n_bytes: int | None = None,
) -> None:
    """Copy from the host to a card, in a stream's order.

    Args:
        stream: to enqueue in.
        target: where to.
        source: of a view all bytes are read before this returns.
        offset: in the target, in bytes.
        source_offset: in pinned memory, in bytes.
        n_bytes: of pinned memory; None is all that follows the offset.

    Raises:
        VerifyError: it does not fit.
    """
    if not isinstance(source, HostMemory):
        n_bytes = source.nbytes
    elif n_bytes is None:
        n_bytes = source.n_bytes - source_offset
    _check_range(target, offset, n_bytes)
    if isinstance(source, HostMemory):
        _check_range(source, source_offset, n_bytes)
    if not n_bytes:
        return
    if isinstance(source, HostMemory):
        address = source.address + source_offset
        stream.touch([source])
    else:
        # A capture would read the bytes again at each launch, long after they are gone.
        stream.context.refuse_in_capture("memory that is not pinned is copied")
        address = _address_of(source)
    stream.touch([target])
    stream.context.call(
        "cuMemcpyHtoDAsync_v2", target.address + offset, address, n_bytes, stream.handle
    )


def download(
    stream: Stream,
    target: HostMemory,
    source: DeviceMemory,
    offset: int = 0,
    *,
    target_offset: int = 0,
    n_bytes: int | None = None,
) -> None:
    """Copy from a card to the host's memory, in a stream's order.

    Args:
        stream: to enqueue in.
        target: where to.
        source: where from.
        offset: in the source, in bytes.
        target_offset: in the target, in bytes.
        n_bytes: None fills the target from its offset on.

    Raises:
        VerifyError: one of them is shorter.
    """
    if n_bytes is None:
        n_bytes = target.n_bytes - target_offset
    _check_range(source, offset, n_bytes)
    _check_range(target, target_offset, n_bytes)
    if n_bytes:
        stream.touch([source, target])
        stream.context.call(
            *("cuMemcpyDtoHAsync_v2", target.address + target_offset, source.address + offset),
            *(n_bytes, stream.handle),
        )


def copy(
    stream: Stream,
    target: DeviceMemory,
    source: DeviceMemory,
    n_bytes: int,
    *,
    target_offset: int = 0,
    source_offset: int = 0,
) -> None:
    """Copy within a card, in a stream's order.

    Raises:
        VerifyError: source or target is shorter.
    """
    _check_range(target, target_offset, n_bytes)
    _check_range(source, source_offset, n_bytes)
    if n_bytes:
        stream.touch([source, target])
        stream.context.call(
            *("cuMemcpyDtoDAsync_v2", target.address + target_offset),
            *(source.address + source_offset, n_bytes, stream.handle),
        )


def fill(stream: Stream, target: DeviceMemory, byte: int = 0) -> None:
    """Set all bytes of a block, in a stream's order."""
    if target.n_bytes:
        stream.touch([target])
        stream.context.call("cuMemsetD8Async", target.address, byte, target.n_bytes, stream.handle)


def _check_range(memory: Memory, offset: int, n_bytes: int) -> None:
    if offset < 0 or n_bytes < 0 or offset + n_bytes > memory.n_bytes:
        raise VerifyError(
            f"{n_bytes} bytes from {offset} are not inside a block of {memory.n_bytes}"
        )


def _address_of(view: memoryview) -> int:
    if not view.contiguous:
        raise VerifyError("memory that is copied to a card has gaps")
    return int(np.frombuffer(view, dtype=np.uint8).ctypes.data)
