"""The memory that runs share: arenas and scratch, grown to what was needed most, lent to one run.

| worker 0 arena | worker 1 arena | ... | worker 0 scratch | ... | shared arena |
"""

import threading

import numpy as np

from fusec.runtime.tile.arena import ALIGN_BYTES

__all__ = ["ArenaPool", "Region", "aligned"]


def aligned(n_bytes: int) -> int:
    """Round up to a multiple of 64."""
    return -(-n_bytes // ALIGN_BYTES) * ALIGN_BYTES


class Region:
    """One allocation, 64-byte aligned."""

    def __init__(self, n_bytes: int) -> None:
        """Allocate; pages are touched when they are first used."""
        self._memory = np.empty(n_bytes + ALIGN_BYTES, dtype=np.uint8)
        self.address = aligned(self._memory.ctypes.data)
        self.n_bytes = n_bytes

    def fill(self, byte: int) -> None:
        """Fill with a byte: 0xff makes NaN of every float, to find what is read before written."""
        self._memory.fill(byte)


class ArenaPool:
    """Regions that are not lent, the last one returned first."""

    def __init__(self) -> None:
        self._free: list[Region] = []
        self._lock = threading.Lock()

    def take(self, n_bytes: int) -> Region:
        """Lend a region of at least so many bytes; a smaller free one is dropped for it."""
        with self._lock:
            region = self._free.pop() if self._free else None
        if region is None or region.n_bytes < n_bytes:
            # A quarter more, so that slowly growing requests do not allocate each time.
            region = Region(n_bytes if region is None else n_bytes + n_bytes // 4)
        return region

    def give(self, region: Region) -> None:
        """Take a region back."""
        with self._lock:
            self._free.append(region)
