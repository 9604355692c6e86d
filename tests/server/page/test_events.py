"""Events are framed so that nothing in them ends them; who is slow gets less, not later."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from fusec.server.page.events import Viewer, event


def heard(text: bytes) -> list[tuple[str, Any]]:
    """Read events as a browser does."""
    found = []
    for block in text.decode().split("\n\n")[:-1]:
        fields = [line.partition(": ") for line in block.splitlines()]
        assert [key for key, _, _ in fields] == ["event", "data"]
        found.append((fields[0][2], json.loads(fields[1][2])))
    return found


@given(st.lists(st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text())))
@example(["a\n\nevent: end\ndata: 1\n\n", "\r", "\u2028", "\x85", ":", "\ud800"])
def test_whatever_is_in_them(values: list[Any]) -> None:
    text = b"".join(event("tick", value) for value in values)
    assert heard(text) == [("tick", value) for value in values]


async def _next(viewer: Viewer) -> bytes:
    async with asyncio.timeout(10):
        return await viewer.next()


def test_a_viewer_gets_what_it_was_offered_in_order() -> None:
    async def main() -> None:
        viewer = Viewer()
        waiting = asyncio.ensure_future(_next(viewer))
        await asyncio.sleep(0)
        viewer.offer(b"a", bytes)
        assert await waiting == b"a"
        viewer.offer(b"b", bytes)
        viewer.offer(b"c", bytes)
        viewer.end(b"d")
        assert await _next(viewer) == b"bcd"
        assert await _next(viewer) == b""

    asyncio.run(main())


def test_a_viewer_that_takes_nothing_holds_little_and_is_told_everything_later() -> None:
    async def main() -> None:
        viewer = Viewer()
        for i in range(1000):
            viewer.offer(b"%d " % i, lambda: b"whole ")
        text = await _next(viewer)
        assert len(text.split()) <= 8
        assert text.split()[0] == b"whole"
        assert text.split()[-1] == b"999"

    asyncio.run(main())
