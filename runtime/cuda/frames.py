"""Pages of weights in memory: of the host, pinned from their first upload on, and of a card."""

from collections.abc import Iterable, Sequence

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.runtime.cuda.memory import DeviceMemory, HostMemory, upload
from fusec.runtime.cuda.stream import Stream

__all__ = ["Frames", "PagedOut"]


@dataclass(frozen=True, slots=True, eq=False)
class PagedOut:
    """A page as the plan has it: pieces all over memory."""

    n_bytes: int
    parts: Sequence[tuple[int, memoryview]]
    """Offset in the page, and bytes."""


class Frames:
    """Pages by number. For one thread at a time."""

    def __init__(self, copies: Stream) -> None:
        """Have no pages.

        Args:
            copies: stream that uploads and frees.
        """
        self._copies = copies
        self._pages: list[PagedOut | None] = []
        self._hosts: dict[int, HostMemory] = {}
        self._devices: dict[int, DeviceMemory] = {}
        self.addresses = np.zeros(0, dtype=np.int64)
        """Of each page on the card; 0 where it is not."""
        self.n_bytes = 0
        """On the card."""

    def add(self, page: PagedOut) -> None:
        """Add a page; its number is the next one."""
        self._pages.append(page)
        self.addresses = np.append(self.addresses, np.int64(0))

    def resident(self) -> list[int]:
        """Give the pages that are on the card."""
        return list(self._devices)

    def memory(self, pages: Iterable[int]) -> list[DeviceMemory]:
        """Give the blocks of pages that are on the card."""
        return [self._devices[page] for page in pages]

    def upload(self, page: int) -> int:
        """Bring a page to the card, in the stream's order; give its bytes.

        Raises:
            OutOfDeviceMemory: there is not that much; nothing has changed.
            KernelError: the driver refuses; nothing has changed.
        """
        host = self._host(page)
        device = DeviceMemory(self._copies, host.n_bytes)
        try:
            upload(self._copies, device, host)
        except BaseException:
            device.free()
            raise
        self._devices[page] = device
        self.addresses[page] = device.address
        self.n_bytes += device.n_bytes
        return device.n_bytes

    def evict(self, page: int) -> None:
        """Free a page on the card behind all work that uses it."""
        device = self._devices[page]
        device.free()
        del self._devices[page]
        self.addresses[page] = 0
        self.n_bytes -= device.n_bytes

    def forget(self, page: int) -> None:
        """Free a page for good."""
        if page in self._devices:
            self.evict(page)
        if page in self._hosts:
            self._hosts[page].free()
            del self._hosts[page]
        self._pages[page] = None

    def close(self) -> None:
        """Free all."""
        for page in range(len(self._pages)):
            self.forget(page)

    def _host(self, page: int) -> HostMemory:
        host = self._hosts.get(page)
        if host is None:
            paged = self._pages[page]
            assert paged is not None
            host = HostMemory(self._copies.context, paged.n_bytes)
            target = host.window()
            for offset, data in paged.parts:
                target[offset : offset + data.nbytes] = np.frombuffer(data, dtype=np.uint8)
            self._hosts[page] = host
        return host
