"""Servers under test: processes on ports of their own, ready once they answer, gone at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from closed_loop import Answer, ask_once
from wires import Wire

_PATIENCE_S = 240.0
"""Until a server answers: some start a process for each model."""


@dataclass(frozen=True, slots=True)
class Served:
    """Models as servers get them: files, and what is asked."""

    folder: Path
    """Holds NAME.onnx, each."""
    plan: Path
    inputs: Mapping[str, np.ndarray]
    truth: Mapping[str, np.ndarray]
    """Answers in float64."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to serve models."""

    name: str
    wire: Wire
    command: Callable[[Served, int, Path], Sequence[str]]
    """Models, port, an empty folder -> how to start it, which may prepare the folder."""
    environment: Mapping[str, str]
    note: str = ""


class Live:
    """A server that runs."""

    def __init__(self, kind: Kind, served: Served, folder: Path) -> None:
        """Start it and wait until its last model answers.

        Raises:
            RuntimeError: it ends or does not answer; with the last of what it says.
        """
        self.kind, self.port = kind, free_port()
        self.requests = [kind.wire.ask(name, x) for name, x in served.inputs.items()]
        self._log = folder / "log.txt"
        folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                list(kind.command(served, self.port, folder)),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **kind.environment},
                start_new_session=True,
            )
        try:
            self.difference = self._await(served)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    def wait(self, seconds: float) -> int:
        """Wait until it has ended, and give its exit code."""
        return self._process.wait(seconds)

    def close(self) -> None:
        """End it and all that it started."""
        started = descendants(self._process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        finally:
            for pid in (self._process.pid, *started):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()

    def _await(self, served: Served) -> float:
        """Wait for it; give the largest difference of its answers from the truth."""
        until = time.monotonic() + _PATIENCE_S
        worst = 0.0
        for request, (name, truth) in zip(self.requests, served.truth.items(), strict=True):
            while (answer := self._asked(request)) is None or answer.status != 200:
                if self._process.poll() is not None or time.monotonic() > until:
                    said = self._log.read_text(errors="replace").strip()[-400:]
                    told = "" if answer is None else f"{answer.status} {answer.body[:200]!r}"
                    raise RuntimeError(f"does not answer for {name}: {told} {said}")
                time.sleep(0.05)
            found = self.kind.wire.read(answer).astype(np.float64)
            worst = max(worst, float(np.abs(found - truth.ravel()).max()))
        return worst

    def _asked(self, request: bytes) -> Answer | None:
        try:
            return ask_once(self.port, request)
        except OSError:
            return None


@contextlib.contextmanager
def running(
    kinds: Sequence[Kind], served: Served, scratch: Path, say: Callable[[str], None]
) -> Iterator[tuple[dict[str, Live], dict[str, str]]]:
    """Start servers one after another; all run while the block does.

    Returns:
        Those that answer, and why the others do not.
    """
    live: dict[str, Live] = {}
    failed: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for kind in kinds:
            begin = time.monotonic()
            try:
                server = Live(kind, served, scratch / kind.name.replace(" ", "-"))
            except (OSError, RuntimeError) as error:
                failed[kind.name] = " ".join(str(error).split())[:300]
                say(f"{kind.name}: left out: {failed[kind.name]}")
                continue
            stack.callback(server.close)
            live[kind.name] = server
            took = time.monotonic() - begin
            say(f"{kind.name}: ready after {took:.1f} s, differs {server.difference:.1e}")
        yield live, failed


def descendants(pid: int) -> list[int]:
    """Give the processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        own = children.get(todo.pop(), [])
        found += own
        todo += own
    return found


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def fusec_command(
    plan: Path, port: int, threads: int, *more: str, grpc_port: int | None = None
) -> list[str]:
    """Give the command line of fusec's own server, on this machine only."""
    command = [sys.executable, "-m", "fusec", "serve", str(plan), "--http-address", "127.0.0.1"]
    command += ["--http-port", str(port), "--threads", str(threads), "--allow-metrics", "false"]
    grpc = ["--grpc-port", str(grpc_port)] if grpc_port else ["--allow-grpc", "false"]
    return [
        *command,
        *grpc,
        *([] if "--drain-seconds" in more else ["--drain-seconds", "0"]),
        *more,
    ]
