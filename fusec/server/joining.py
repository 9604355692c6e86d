"""Answers over HTTP in one piece: uvicorn writes head and body one by one, a system call each.

The head of an answer is held back until its body comes, or until the event loop turns.
"""

import asyncio
from typing import Any

__all__ = ["Joining", "joining"]

_MOST_BYTES = 1 << 16
"""Longer bodies are not copied once more: what another call costs is little beside theirs."""


class Joining:
    """A transport that writes the head of an answer with its body."""

    def __init__(self, transport: Any) -> None:
        """Take what writes."""
        self._transport = transport
        self._write = transport.write
        self._soon = asyncio.get_running_loop().call_soon
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write, or hold back what is a head."""
        if self._head:
            if len(data) < _MOST_BYTES:
                head, self._head = self._head, b""
                self._write(head + data)
                return
            self._flush()
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._head = data
            self._soon(self._flush)
            return
        self._write(data)

    def close(self) -> None:
        """Write what is held back, and close."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Be the transport in all else."""
        return getattr(self._transport, name)

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._write(head)


def joining(protocol: Any) -> Any:
    """Give a protocol of asyncio that writes answers in one piece."""

    class Joined(protocol):  # type: ignore[misc]
        """Sees a transport that joins."""

        def connection_made(self, transport: Any) -> None:
            """Begin."""
            super().connection_made(Joining(transport))

    return Joined
