"""A card and its context: what it is, current wherever it is called, what waits to be freed.

The primary context is used, the one that PyTorch has too, so that both share memory and order.
"""

import ctypes
import threading
from collections.abc import Callable, Iterable
from ctypes import byref, c_int, c_size_t, c_void_p
from enum import IntEnum
from types import TracebackType
from typing import Any

from fusec.ir.errors import ConfigError, VerifyError
from fusec.ir.frozen import dataclass
from fusec.runtime.cuda.library import Driver

__all__ = ["Context", "Properties", "open_context"]

_NAME_BYTES = 128
_BLOCKED_BY = "a stream is being captured in this thread"


class _Attribute(IntEnum):
    """Numbers of a card's attributes."""

    MULTIPROCESSORS = 16
    L2_BYTES = 38
    MAJOR = 75
    MINOR = 76
    MULTIPROCESSOR_SHARED_BYTES = 81
    BLOCK_SHARED_BYTES = 97
    MEMORY_POOLS = 115


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """What a card is."""

    name: str
    capability: tuple[int, int]
    """Such as (9, 0)."""
    multiprocessors: int
    memory_bytes: int
    l2_bytes: int
    block_shared_bytes: int
    multiprocessor_shared_bytes: int
    priorities: tuple[int, int]
    """Of streams: the least and the most urgent; lower numbers are more urgent."""


@dataclass(frozen=True, slots=True, eq=False)
class _Retired:
    """Something to free when some events have happened."""

    events: tuple[int, ...]
    free: Callable[[], None]


class Context:
    """A card, ready to use from any thread."""

    def __init__(self, driver: Driver, device: int) -> None:
        """Retain a device's primary context; users call `open_context`."""
        self._driver = driver
        self.device = device
        """The driver's number of it."""
        handle = c_void_p()
        driver.call("cuDevicePrimaryCtxRetain", byref(handle), device)
        self._handle: c_void_p | None = handle
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._retired: list[_Retired] = []
        self.capture_lock = threading.Lock()
        """Held while a stream is captured: one at a time."""
        self.properties = self._read()

    def call(self, name: str, *arguments: Any) -> None:
        """Call the driver with this context current in the calling thread.

        Raises:
            KernelError: the call fails.
            VerifyError: the context is closed.
        """
        self._enter()
        self._driver.call(name, *arguments)

    def lacks(self, names: Iterable[str]) -> list[str]:
        """Give those of some functions that the driver does not have."""
        return self._driver.lacks(names)

    def ready(self, name: str, handle: Any) -> bool:
        """Ask the driver whether something has finished.

        Raises:
            KernelError: what was to finish has failed.
            VerifyError: the context is closed.
        """
        self._enter()
        return self._driver.ready(name, handle)

    def create(self, name: str, *arguments: Any) -> int:
        """Call a function whose first argument takes a new handle or address; give that."""
        handle = c_void_p() if name != "cuMemAllocAsync" else ctypes.c_uint64()
        self.call(name, byref(handle), *arguments)
        return handle.value or 0

    def free_memory_bytes(self) -> int:
        """Ask how much memory is free on the card."""
        free, total = c_size_t(), c_size_t()
        self.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value

    @property
    def capturing(self) -> bool:
        """Whether this thread captures a stream."""
        return getattr(self._thread, "capturing", False)

    @capturing.setter
    def capturing(self, value: bool) -> None:
        self._thread.capturing = value

    def refuse_in_capture(self, what: str) -> None:
        """Refuse what would break a capture or become part of it unasked.

        Raises:
            VerifyError: this thread captures.
        """
        if self.capturing:
            raise VerifyError(f"{what} while {_BLOCKED_BY}")

    def retire(self, events: tuple[int, ...], free: Callable[[], None]) -> None:
        """Free something when events have happened; they are then destroyed.

        Looked at whenever something else is retired, in `reclaim`, and waited for in `close`.
        """
        with self._lock:
            self._retired.append(_Retired(events, free))
        self.reclaim()

    def reclaim(self) -> int:
        """Free what is ready to be freed; give how much is not. In a capture nothing is asked."""
        if self.capturing:
            return len(self._retired)
        with self._lock:
            mine, self._retired = self._retired, []
        kept = []
        try:
            while mine:
                retired = mine[0]
                if all(self.ready("cuEventQuery", event) for event in retired.events):
                    mine.pop(0)
                    self._free(retired)
                else:
                    kept.append(mine.pop(0))
        finally:
            with self._lock:
                self._retired += kept + mine
                left = len(self._retired)
        return left

    def close(self) -> None:
        """Wait for what is to be freed, free it, and let go of the card; once."""
        if self._handle is None:
            return
        self.refuse_in_capture("closing a context")
        with self._lock:
            retired, self._retired = self._retired, []
        try:
            for one in retired:
                for event in one.events:
                    self.call("cuEventSynchronize", event)
                self._free(one)
        finally:
            self._handle = None
            self._driver.call("cuDevicePrimaryCtxRelease_v2", self.device)

    def __enter__(self) -> "Context":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _free(self, retired: _Retired) -> None:
        retired.free()
        for event in retired.events:
            self.call("cuEventDestroy_v2", event)

    def _enter(self) -> None:
        if self._handle is None:
            raise VerifyError("a closed context is used")
        # Another library may have made its own current meanwhile: setting it is 50 ns.
        self._driver.call("cuCtxSetCurrent", self._handle)

    def _read(self) -> Properties:
        name = ctypes.create_string_buffer(_NAME_BYTES)
        memory = c_size_t()
        least, most = c_int(), c_int()
        self.call("cuDeviceGetName", name, _NAME_BYTES, self.device)
        self.call("cuDeviceTotalMem_v2", byref(memory), self.device)
        self.call("cuCtxGetStreamPriorityRange", byref(least), byref(most))
        return Properties(
            name=name.value.decode(errors="replace"),
            capability=(self._ask(_Attribute.MAJOR), self._ask(_Attribute.MINOR)),
            multiprocessors=self._ask(_Attribute.MULTIPROCESSORS),
            memory_bytes=memory.value,
            l2_bytes=self._ask(_Attribute.L2_BYTES),
            block_shared_bytes=self._ask(_Attribute.BLOCK_SHARED_BYTES),
            multiprocessor_shared_bytes=self._ask(_Attribute.MULTIPROCESSOR_SHARED_BYTES),
            priorities=(least.value, most.value),
        )

    def _ask(self, attribute: _Attribute) -> int:
        value = c_int()
        self.call("cuDeviceGetAttribute", byref(value), int(attribute), self.device)
        return value.value


def open_context(driver: Driver, number: int = 0) -> Context:
    """Open a card.

    Args:
        driver: of this machine, see `load_driver`.
        number: of the card, from 0.

    Raises:
        ConfigError: there is no such card, or it has no memory pools.
        KernelError: the driver refuses.
    """
    count = c_int()
    driver.call("cuDeviceGetCount", byref(count))
    if not 0 <= number < count.value:
        raise ConfigError(f"there is no card {number}: this machine has {count.value}")
    device = c_int()
    driver.call("cuDeviceGet", byref(device), number)
    pools = c_int()
    driver.call("cuDeviceGetAttribute", byref(pools), int(_Attribute.MEMORY_POOLS), device.value)
    if not pools.value:
        raise ConfigError(f"card {number} has no memory pools; it, or its driver, is too old")
    return Context(driver, device.value)
