"""`fusec serve` as a process of its own: what a signal, a crash or a leak would show in."""

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[1]


@dataclass
class Served:
    """A server that runs, by its ports."""

    process: "subprocess.Popen[str]"
    http: int
    grpc: int
    metrics: int
    """0: there are none."""
    said: str = ""
    """All that it said, once it has ended."""
    opened: list[http.client.HTTPConnection] = field(default_factory=list)

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        """Ask on a connection that stays."""
        if not self.opened:
            self.opened.append(http.client.HTTPConnection("127.0.0.1", self.http, timeout=30))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.opened[0].request("POST", path, body, named)
        answer = self.opened[0].getresponse()
        return answer.status, answer.read()

    def hang_up(self) -> None:
        """Close the connection that stays: a server closes what idles for some seconds."""
        while self.opened:
            self.opened.pop().close()

    def resident_bytes(self) -> int:
        """Give the memory that it has in use."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> int:
        """Tell it to end, wait until it has, and give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        _, self.said = self.process.communicate(timeout=60)
        return self.process.returncode


@contextlib.contextmanager
def serving(*arguments: object) -> Iterator[Served]:
    """Run the command on free ports while the block runs."""
    ports = ["--http-port", 0, "--grpc-port", 0, "--allow-metrics", "false"]
    with started("fusec", "serve", *arguments, *ports, "--http-address", "127.0.0.1") as server:
        yield server


@contextlib.contextmanager
def started(module: str, *arguments: object) -> Iterator[Served]:
    """Run a module that serves; skip where the server's libraries are not installed."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("grpc")
    command = [sys.executable, "-m", module, *map(str, arguments)]
    paths = os.pathsep.join([str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    served = None
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            found = re.match(r"ready: HTTP (\d+), gRPC (\d+), metrics (\d*)", line)
            if found:
                served = Served(process, *(int(port or 0) for port in found.groups()))
                break
        assert served is not None, "".join(lines)
        yield served
    finally:
        if served is not None:
            served.hang_up()
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
