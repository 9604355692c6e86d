"""Memory of models that are gone goes back to the system soon, and not when Python thinks of it.

What an importer leaves behind holds weights in cycles, which Python looks for after a quarter of a
million new objects; and the C library keeps freed memory for itself.
"""

import asyncio
import ctypes
import gc
from collections.abc import Callable

__all__ = ["Tidying", "give_back"]

_WAIT_S = 0.5


class Tidying:
    """Tidies up once for all that comes and goes together. Runs on the event loop."""

    def __init__(self, tidy: "Callable[[], None] | None" = None, wait_s: float = _WAIT_S) -> None:
        """Take what to do.

        Args:
            tidy: called in a thread; `give_back` if absent.
            wait_s: for others that come or go.
        """
        self._tidy, self._wait_s = tidy or give_back, wait_s
        self._timer: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """Say that models came or went."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._wait_s, self._begin)

    def _begin(self) -> None:
        self._timer = None
        asyncio.get_running_loop().run_in_executor(None, self._tidy)


def give_back() -> None:
    """Free what only cycles hold, and give free memory back to the system.

    Cost: 0.1 to 0.3 s with PyTorch loaded, in which no Python runs.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
