"""Processes that benches start: of their own for a cold start or memory, and busy neighbours."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from harness import Impl, Outputs

CHILD = Path(__file__).with_name("child.py")


@cache
def scratch(name: str) -> Path:
    """Return a new empty folder for files that children read; the system's to remove."""
    return Path(mkdtemp(prefix=f"fusec-bench-{name}-"))


def ask(way: str, where: Path, data: Path, threads: int) -> tuple[np.ndarray, float]:
    """Start a child and wait for it.

    Returns:
        Answers of all members, sorted by name, and its resident bytes.

    Raises:
        RuntimeError: it fails; with the last line of what it says.
    """
    call = [sys.executable, str(CHILD), way, str(where), str(data), str(threads)]
    done = subprocess.run(call, capture_output=True)
    told = done.stderr.decode().strip().splitlines()
    if done.returncode != 0:
        raise RuntimeError(told[-1] if told else f"exit code {done.returncode}")
    return np.load(io.BytesIO(done.stdout)), float(told[-1])


def child(way: str, where: Callable[[], Path], data: Path, threads: int, names: list[str]) -> Impl:
    """Time a child from its start to its end, each time anew."""

    def build() -> Callable[[], object]:
        if way != "fusec":
            # A peer that is not there says so, rather than a child of it.
            importlib.import_module(way)
        path = where()
        return lambda: ask(way, path, data, threads)[0]

    def answers(result: object) -> Outputs:
        assert isinstance(result, np.ndarray)
        return dict(zip(sorted(names), result, strict=True))

    return Impl(build, answers)


def files(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Write members as files and return the folder."""
    for name, content in contents.items():
        (folder / f"{name}.onnx").write_bytes(content)
    return folder


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """Keep a busy process on every core while the block runs."""
    cores = sorted(os.sched_getaffinity(0))
    call = [sys.executable, str(CHILD), "busy"]
    neighbours = [subprocess.Popen([*call, str(core)]) for core in cores]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
