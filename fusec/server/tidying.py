"""Memory of models that are gone goes back to the system soon, and not when Python thinks of it.

What an importer leaves behind holds weights in cycles, which Python looks for after a quarter of a
million new objects; and the C library keeps freed memory for itself.

Looking through all objects stops the process for as long as there are many, and nearly all are
libraries': so what is there after the first models came is frozen, which is to say that it is not
looked through again, by Python itself neither. Whatever of it becomes garbage later, and holds
itself in a cycle, stays for ever; models that are there by then do not, they go with whoever holds
them last.
"""

import asyncio
import ctypes
import gc
from collections.abc import Callable

__all__ = ["Tidying", "give_back"]

_WAIT_S = 0.5
_MANY = 100_000
"""Objects that are worth freezing: PyTorch's and its importers' are 360,000."""


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

    Cost: 0.2 s when PyTorch has just been loaded, in which no Python runs; afterwards below 1 ms
        for a model.
    """
    gc.collect()
    if len(gc.get_objects()) > _MANY:
        gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
