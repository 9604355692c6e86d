"""The page and its events over HTTP. It needs nothing but the server: all it asks for is here."""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any, TypeAlias

import fusec
from fusec.pages.files import json_in_html, style, text_of
from fusec.server.errors import Fault, ServerError
from fusec.server.frontdoor import FrontDoor
from fusec.server.httpbody import Receive
from fusec.server.page.events import Viewer
from fusec.server.page.feed import Feed
from fusec.server.page.shell import shell

__all__ = ["Page"]

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

_SCRIPTS = ("figures", "models", "lanes", "main")
_MOST_VIEWERS = 32
_PATIENCE_S = 15.0
"""Until a client has to have taken what it is sent."""
_ALWAYS: Headers = (
    (b"cache-control", b"no-store, no-transform"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Page:
    """Shows a server to people. All of it runs on the event loop."""

    def __init__(self, door: FrontDoor) -> None:
        """Take the server."""
        self.feed = Feed(door)

    def html(self) -> tuple[bytes, Headers]:
        """Give the page, with what there is to show, and its headers."""
        css, script, policy = self._parts
        data = json_in_html(self.feed.whole())
        text = shell(css, script, data, fusec.__version__)
        return text.encode(), (*_ALWAYS, (b"content-security-policy", policy))

    async def stream(self, method: str, receive: Receive, send: Send) -> None:
        """Send events until the client leaves, takes nothing for long, or the server ends.

        Raises:
            ServerError: too many watch.
        """
        if self.feed.viewers >= _MOST_VIEWERS:
            raise ServerError("too many watch the page already", Fault.UNAVAILABLE)
        headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        start = {"type": "http.response.start", "status": 200, "headers": [*headers, *_ALWAYS]}
        await send(start)
        if method != "HEAD":
            viewer = Viewer()
            gone = asyncio.ensure_future(_until_gone(receive, viewer))
            self.feed.join(viewer)
            try:
                with contextlib.suppress(TimeoutError):
                    await _tell(viewer, send)
            finally:
                self.feed.leave(viewer)
                gone.cancel()
        await send({"type": "http.response.body", "body": b""})

    @cached_property
    def _parts(self) -> tuple[str, str, bytes]:
        """Style, script, and the rule that nothing else runs or is asked for."""
        css = style("fusec.server.page", "page.css")
        parts = [text_of("fusec.server.page", f"{name}.js") for name in _SCRIPTS]
        script = "\n".join(['"use strict";\n{', *parts, "}"])
        policy = (
            f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(css)}'; "
            "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        return css, script, policy.encode()


async def _tell(viewer: Viewer, send: Send) -> None:
    """Send what there is to tell.

    Raises:
        TimeoutError: the client does not take it.
    """
    while text := await viewer.next():
        async with asyncio.timeout(_PATIENCE_S):
            await send({"type": "http.response.body", "body": text, "more_body": True})


async def _until_gone(receive: Receive, viewer: Viewer) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    viewer.end()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
