"""Bodies of HTTP requests: received and unpacked within bounds."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from fusec.server.errors import Fault, ServerError
from fusec.server.limits import Limits

__all__ = ["Budget", "Gone", "Held", "Receive", "read_body"]

Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]

_WINDOWS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


class Gone(Exception):
    """The client left."""


class Budget:
    """Bytes of all bodies that the server holds. Touched by the event loop only."""

    def __init__(self, limit_bytes: int) -> None:
        """Take the limit."""
        self._limit_bytes, self.held_bytes = limit_bytes, 0

    def take(self, n_bytes: int) -> None:
        """Count bytes in.

        Raises:
            ServerError: there are too many.
        """
        if self.held_bytes + n_bytes > self._limit_bytes:
            raise ServerError("too many bytes of requests are being read", Fault.UNAVAILABLE)
        self.held_bytes += n_bytes

    def give(self, n_bytes: int) -> None:
        """Count them out."""
        self.held_bytes -= n_bytes


class Held:
    """What one request has taken of the budget, given back at the end of a `with` block."""

    def __init__(self, budget: Budget) -> None:
        """Begin with nothing."""
        self._budget, self._bytes = budget, 0

    def take(self, n_bytes: int) -> None:
        """Take more.

        Raises:
            ServerError: there is no more.
        """
        self._budget.take(n_bytes)
        self._bytes += n_bytes

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._bytes)


async def read_body(
    headers: Mapping[bytes, bytes], receive: Receive, limits: Limits, held: Held
) -> bytes:
    """Receive a body and unpack it.

    Args:
        headers: of the request, lower case.
        receive: of ASGI.
        limits: of its size.
        held: counts its bytes.

    Raises:
        ServerError: it is too long, comes too slowly, or is not packed as it says.
        Gone: the client left.
    """
    claimed = headers.get(b"content-length", b"")
    if claimed.isdigit() and (len(claimed) > 18 or int(claimed) > limits.body_bytes):
        raise _too_long(limits)
    try:
        async with asyncio.timeout(limits.body_s):
            body = await _received(receive, limits, held)
    except TimeoutError as e:
        raise ServerError(
            f"the body did not come within {limits.body_s} seconds", Fault.TIMEOUT
        ) from e
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding in (b"identity", b""):
        return body
    return _unpacked(body, encoding, limits, held)


async def _received(receive: Receive, limits: Limits, held: Held) -> bytes:
    chunks: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunk = message.get("body", b"")
        total += len(chunk)
        if total > limits.body_bytes:
            raise _too_long(limits)
        held.take(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            break
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _unpacked(body: bytes, encoding: bytes, limits: Limits, held: Held) -> bytes:
    window = _WINDOWS.get(encoding)
    if window is None:
        shown = encoding[:40].decode("latin-1")
        raise ServerError(f"Content-Encoding {shown!r} is not supported", Fault.ENCODING)
    stream = zlib.decompressobj(window)
    try:
        # One more than allowed, so that a body that is too long shows; it is never unpacked whole.
        plain = stream.decompress(body, limits.body_bytes + 1)
    except zlib.error as e:
        raise ServerError(f"the body is no {encoding.decode()}: {e}") from e
    if len(plain) > limits.body_bytes:
        raise _too_long(limits)
    if not stream.eof:
        raise ServerError(f"the body is no {encoding.decode()}: it ends too early")
    held.take(len(plain))
    return plain


def _too_long(limits: Limits) -> ServerError:
    return ServerError(
        f"the request has more than the {limits.body_bytes} bytes that are allowed", Fault.TOO_LARGE
    )
