"""A store of models for tests of the server: instant, deterministic, and it can be held up."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from fusec.ir.errors import ConfigError, ImportFailed
from fusec.runtime.serving.recording import Stay
from fusec.server.datatypes import DATATYPES
from fusec.server.messages import Tensor
from fusec.server.signature import Port, Signature

Answer = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]

DOUBLES = Signature(
    inputs=(Port("x", DATATYPES["FP32"], (-1, 4)),),
    outputs=(Port("y", DATATYPES["FP32"], (-1, 4)), Port("n", DATATYPES["INT64"], (-1,))),
    batches=True,
)


def doubled(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Answer as DOUBLES does."""
    x = given["x"]
    return {"y": x * np.float32(2), "n": np.arange(len(x), dtype=np.int64)}


class FakeRecording:
    """Has what a test says that lanes ran."""

    def __init__(self) -> None:
        self.ended: list[Stay] = []
        self.now: list[Stay] = []
        self.closed = False

    def take(self) -> list[Stay]:
        taken, self.ended = self.ended, []
        return taken

    def running(self) -> list[Stay]:
        return self.now

    def close(self) -> None:
        self.closed = True


class FakeStore:
    """Holds models whose file names say what they do: a file that holds "broken" is not loaded."""

    def __init__(self, signature: Signature = DOUBLES, answer: Answer = doubled) -> None:
        self.signature, self.answer = signature, answer
        self.keys: dict[str, str] = {}
        self.calls: list[dict[str, Any]] = []
        self.hold: threading.Event | None = None
        """While it is there and not set, answers wait."""
        self.error: Exception | None = None
        self.waiting: list[Future[dict[str, Any]]] = []
        self.closed = False
        self.recordings: list[FakeRecording] = []

    def add(self, key: str, path: Path) -> Signature:
        text = path.read_text()
        if "broken" in text:
            raise ImportFailed(f"{path}: is broken")
        self.keys[key] = text
        return self.signature

    def there(self, key: str) -> Signature | None:
        return self.signature if key in self.keys else None

    def remove(self, key: str) -> None:
        del self.keys[key]

    def submit(
        self,
        key: str,
        inputs: tuple[Tensor, ...],
        *,
        tenant: str | None,
        deadline_ms: float | None,
        priority: int,
    ) -> "Future[dict[str, Any]]":
        future: Future[dict[str, Any]] = Future()
        if key not in self.keys:
            future.set_exception(ConfigError(f"the plan has no model {key!r}"))
            return future
        arrays = {t.name: t.array for t in inputs}
        call = {"key": key, "tenant": tenant, "deadline_ms": deadline_ms, "priority": priority}
        self.calls.append({**call, "inputs": arrays})
        if self.error is not None and tenant != "warmup":
            future.set_exception(self.error)
        elif self.hold is None or tenant == "warmup":
            future.set_result(self.answer(arrays))
        else:
            self.waiting.append(future)
            held = self.hold, future, arrays
            threading.Thread(target=self._later, args=held, daemon=True).start()
        return future

    def stats(self) -> dict[str, Any]:
        return {"submitted": len(self.calls), "queued": 0, "outcomes": {"done": len(self.calls)}}

    def templates(self, key: str) -> list[str]:
        return [self.keys[key]] if key in self.keys else []

    def record(self) -> FakeRecording:
        self.recordings.append(FakeRecording())
        return self.recordings[-1]

    def close(self) -> None:
        self.closed = True

    def _later(
        self,
        hold: threading.Event,
        future: "Future[dict[str, Any]]",
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        hold.wait(30)
        if future.set_running_or_notify_cancel():
            future.set_result(self.answer(arrays))
