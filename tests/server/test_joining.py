"""Answers over HTTP in one piece."""

from __future__ import annotations

import asyncio
from typing import Any

from fusec.server.joining import Joining


class Wire:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = len(self.written)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


def _written(*steps: bytes | None) -> list[bytes]:
    """Write pieces; at None the loop turns."""
    wire: Any = Wire()

    async def run() -> None:
        joined = Joining(wire)
        for step in steps:
            if step is None:
                await asyncio.sleep(0)
            else:
                joined.write(step)
        joined.close()

    asyncio.run(run())
    assert wire.closed == len(wire.written)
    return list(wire.written)


def test_head_and_body_are_one_piece() -> None:
    assert _written(HEAD, b"body", HEAD, b"more") == [HEAD + b"body", HEAD + b"more"]


def test_a_head_without_a_body_waits_for_no_longer_than_a_turn() -> None:
    assert _written(HEAD, None, b"body") == [HEAD, b"body"]
    assert _written(HEAD) == [HEAD]


def test_what_is_no_head_of_an_answer_and_what_is_long_goes_at_once() -> None:
    early, long = b"HTTP/1.1 100 Continue\r\n\r\n", bytes(1 << 17)
    assert _written(early, HEAD, long) == [early, HEAD, long]
