"""Server-sent events: how they are written, and a line of them for each who watches."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Viewer", "event"]

_MOST = 8
"""Events that wait for one viewer."""


def event(name: str, data: Any) -> bytes:
    """Write an event; JSON has no ends of lines, which would end it too early."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return f"event: {name}\ndata: {text}\n\n".encode()


class Viewer:
    """What one client has still to be sent; little, however slowly it takes it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._waiting: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._ended = False

    def offer(self, text: bytes, whole: Callable[[], bytes]) -> None:
        """Have an event sent.

        Args:
            text: the event: what changed.
            whole: gives one that says everything, for a client that fell behind.
        """
        if len(self._waiting) >= _MOST:
            self._waiting.clear()
            text = whole()
        self._waiting.append(text)
        self._news.set()

    def end(self, text: bytes = b"") -> None:
        """Send no more after this."""
        if text:
            self._waiting.append(text)
        self._ended = True
        self._news.set()

    async def next(self) -> bytes:
        """Give all that waits, once there is something; nothing if it is over."""
        while not self._waiting and not self._ended:
            self._news.clear()
            await self._news.wait()
        text = b"".join(self._waiting)
        self._waiting.clear()
        return text
