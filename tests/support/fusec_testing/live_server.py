"""A server on ports of its own in a thread, for tests that speak to it as clients do."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.serving import FakeStore

from fusec.server.running import Options, Running, running
from fusec.server.store import Store


@dataclass(frozen=True)
class Live:
    """A running server, its loop, and what it said."""

    server: Running
    loop: asyncio.AbstractEventLoop
    said: list[str]

    @property
    def http(self) -> str:
        return f"127.0.0.1:{self.server.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.server.grpc_port}"

    def call(self, coroutine: Any) -> Any:
        """Run something on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)


@contextlib.contextmanager
def live(options: Options, store: Store | None = None) -> Iterator[Live]:
    """Run a server while the block runs; skip the test where its libraries are not installed."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("grpc")
    options = replace(options, http_port=0, grpc_port=0, metrics_port=0, exit_s=5.0)
    started = threading.Event()
    found: list[Live] = []
    failed: list[BaseException] = []
    end = asyncio.Event()
    said: list[str] = []

    async def main() -> None:
        async with running(options, store or FakeStore(), said.append) as server:
            found.append(Live(server, asyncio.get_running_loop(), said))
            started.set()
            await end.wait()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as e:  # noqa: BLE001
            failed.append(e)
        finally:
            started.set()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(30)
    if failed:
        thread.join()
        raise failed[0]
    try:
        yield found[0]
    finally:
        found[0].loop.call_soon_threadsafe(end.set)
        thread.join(30)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


def model(
    repository: Path, name: str, version: int = 1, text: str = "fine", config: str = ""
) -> None:
    """Write a model of a fake store."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_text(text)
    if config:
        (repository / name / "config.pbtxt").write_text(config)


def ask(
    server: Live, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(server.http, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def tell(server: Live, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    status, _, text = ask(server, method, path, None if body is None else json.dumps(body).encode())
    return status, json.loads(text) if text else None


def request(rows: int = 1, **more: Any) -> dict[str, Any]:
    data = [float(i) for i in range(rows * 4)]
    tensor = {"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": data}
    return {"inputs": [tensor], **more}


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def begin(server: Live, name: str) -> socket.socket:
    """Send a request and do not wait for its answer."""
    host, _, port = server.http.partition(":")
    client = socket.create_connection((host, int(port)), timeout=20)
    body = json.dumps(request()).encode()
    head = (
        f"POST /v2/models/{name}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    client.sendall(head.encode() + body)
    return client


def finish(client: socket.socket) -> tuple[int, bytes]:
    """Read the answer to a request that `begin` sent: its status and body."""
    answer = http.client.HTTPResponse(client)
    try:
        answer.begin()
        return answer.status, answer.read()
    finally:
        answer.close()
        client.close()


class Stream:
    """Events of the page, as a client hears them."""

    def __init__(self, server: Live) -> None:
        self.left = 100
        self.connection = http.client.HTTPConnection(server.http, timeout=20)
        self.connection.request("GET", "/page/events")
        self.answer = self.connection.getresponse()

    def next(self) -> tuple[str, dict[str, Any]]:
        self.left -= 1
        assert self.left, "what was waited for does not come"
        lines = [self.answer.readline().decode() for _ in range(3)]
        assert lines[2] == "\n", lines
        return lines[0].removeprefix("event: ").strip(), json.loads(lines[1].removeprefix("data: "))

    def until(self, key: str) -> dict[str, Any]:
        """Give the next event that has something."""
        while not (found := self.next()[1]).get(key):
            pass
        return found

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


@contextlib.contextmanager
def stream(server: Live) -> Iterator[Stream]:
    opened = Stream(server)
    try:
        yield opened
    finally:
        opened.close()
