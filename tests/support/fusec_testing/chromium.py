"""A headless Chromium that tests look at pages with, over the DevTools protocol and two pipes."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
_PATIENCE_S = 30.0


class Tab:
    """One page, and what it said and asked for."""

    def __init__(self, writer: int, reader: int) -> None:
        self._writer, self._reader = writer, reader
        self._rest, self._number, self._session = b"", 0, ""
        self.problems: list[str] = []
        """What went wrong in it: errors of scripts, of the console, of what may be loaded."""
        self.asked: list[str] = []
        """Addresses that it asked for."""
        (target,) = self.call("Target.createTarget", url="about:blank").values()
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have a command done."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def look(
        self, url: str, width: int, height: int, *, dark: bool = False, calm: bool = False
    ) -> None:
        """Open a page in a window of a size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {
            "name": "prefers-reduced-motion",
            "value": "reduce" if calm else "no-preference",
        }
        self.call("Emulation.setEmulatedMedia", features=[scheme, motion])
        self.call("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def value(self, script: str) -> Any:
        """Give what an expression in the page is worth."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait for an expression to be true."""
        end = time.monotonic() + _PATIENCE_S
        while not (found := self.value(script)):
            assert time.monotonic() < end, script
            time.sleep(0.05)
        return found

    def key(self, name: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def picture(self, path: Path) -> None:
        """Save what it looks like, all of it."""
        height = self.value("document.documentElement.scrollHeight")
        width = self.value("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reader], [], [], _PATIENCE_S)
            assert ready, "Chromium does not answer"
            data = os.read(self._reader, 1 << 20)
            assert data, "Chromium ended"
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._hear(message.get("method", ""), message.get("params", {}))
        return message

    def _hear(self, method: str, told: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            self.problems.append(json.dumps(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.problems.append(json.dumps(told["entry"]))


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Tab]:
    """Run a browser while the block runs; skip the test where there is none.

    Args:
        folder: empty, for its profile.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no Chromium here")
    heard, writer = os.pipe()
    reader, told = os.pipe()
    files = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    # It looks for numbers 3 and 4, which others of these pipes may have.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 5) for fd in (heard, told)]
    actions = [
        (os.POSIX_SPAWN_DUP2, copies[0], 3),
        (os.POSIX_SPAWN_DUP2, copies[1], 4),
        (os.POSIX_SPAWN_DUP2, files, 1),
        (os.POSIX_SPAWN_DUP2, files, 2),
    ]
    arguments = [program, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    pid = os.posix_spawn(program, arguments, os.environ, file_actions=actions, setpgroup=0)
    for fd in (heard, told, files, *copies):
        os.close(fd)
    try:
        yield Tab(writer, reader)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(writer)
        os.close(reader)
