"""Where models are and run: what the server needs of a plan and its runtime, and the real ones."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fusec.ir.dtypes import NO_NUMPY
from fusec.ir.errors import ConfigError
from fusec.runtime.arrays import array_of, is_tensor, tensor_of_array
from fusec.runtime.serving.recording import Stay
from fusec.schedule import named
from fusec.server.datatypes import BY_FUSEC
from fusec.server.messages import Tensor
from fusec.server.signature import Signature, signature_of

__all__ = ["PlanStore", "Recorded", "RuntimeLike", "Store", "wire_array"]


_BY_NUMPY = {d.numpy: d for d in BY_FUSEC.values() if d.fusec not in NO_NUMPY}


class RuntimeLike(Protocol):
    """What serves requests of a plan's models."""

    def submit(
        self,
        model: str,
        inputs: Any,
        *,
        tenant: str | None = None,
        deadline_ms: float | None = None,
        priority: int = 0,
    ) -> "Future[dict[str, Any]]":
        """Ask for an answer: output name -> array."""

    def stats(self) -> Any:
        """Give what was counted since the start."""

    def record(self) -> "Recorded":
        """Have launches written down."""

    def close(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Stop."""


class Recorded(Protocol):
    """What lanes run from now on, until it is closed."""

    def take(self) -> list[Stay]:
        """Give what ended since this was asked before."""

    def running(self) -> list[Stay]:
        """Give what runs now."""

    def close(self) -> None:
        """Stop writing."""


class Store(Protocol):
    """Models by key. Slow calls come from threads that may wait; submitting is quick."""

    def add(self, key: str, path: Path) -> Signature:
        """Make a model ready to run."""

    def there(self, key: str) -> Signature | None:
        """Describe a model that is there already."""

    def remove(self, key: str) -> None:
        """Let go of a model that nobody asks for any more."""

    def submit(
        self,
        key: str,
        inputs: tuple[Tensor, ...],
        *,
        tenant: str | None,
        deadline_ms: float | None,
        priority: int,
    ) -> "Future[dict[str, Any]]":
        """Ask for an answer: output name -> array, as `wire_array` takes it."""

    def stats(self) -> dict[str, Any]:
        """Give the runtime's figures."""

    def templates(self, key: str) -> Sequence[str]:
        """Name the templates of a model, as records of lanes do; none if it is not there."""

    def record(self) -> "Recorded | None":
        """Have launches written down; None as long as nothing can run."""

    def close(self) -> None:
        """Stop."""


class PlanStore:
    """A plan, and a runtime that starts with the first model."""

    def __init__(self, plan: Any, start: Any) -> None:
        """Take a plan.

        Args:
            plan: a `fusec.Plan`, perhaps without models.
            start: plan -> runtime.
        """
        self._plan, self._start = plan, start
        self._runtime: RuntimeLike | None = None
        self._lock = threading.Lock()

    def add(self, key: str, path: Path) -> Signature:
        """Import a model and have its native code ready.

        Raises:
            FusecError: it cannot be imported, or does not fit the protocol; it is not there then.
        """
        self._plan.add(key, path)
        try:
            signature = self._signature(key)
            self._plan.warm()
            self._running()
        except BaseException:
            self._plan.remove(key)
            raise
        return signature

    def there(self, key: str) -> Signature | None:
        """Describe a model that came with the plan."""
        if key not in self._plan.members:
            return None
        signature = self._signature(key)
        self._running()
        return signature

    def remove(self, key: str) -> None:
        """Remove a model from the plan."""
        self._plan.remove(key)

    def submit(
        self,
        key: str,
        inputs: tuple[Tensor, ...],
        *,
        tenant: str | None,
        deadline_ms: float | None,
        priority: int,
    ) -> "Future[dict[str, Any]]":
        """Ask the runtime."""
        given = {t.name: _given(t) for t in inputs}
        return self._running().submit(
            key, given, tenant=tenant, deadline_ms=deadline_ms, priority=priority
        )

    def stats(self) -> dict[str, Any]:
        """Give the runtime's figures; none before it runs."""
        figures: dict[str, Any] = {} if self._runtime is None else self._runtime.stats().to_json()
        return figures

    def templates(self, key: str) -> Sequence[str]:
        """Name the templates that a model's requests may take, the general one first."""
        registry, _, _ = self._plan.inside()
        try:
            choices = registry.target(key).choices
        except ConfigError:
            return ()
        return [named(choice.template.key) for choice in choices]

    def record(self) -> "Recorded | None":
        """Have launches written down, once the runtime runs."""
        return None if self._runtime is None else self._runtime.record()

    def close(self) -> None:
        """Stop the runtime."""
        if self._runtime is not None:
            self._runtime.close(drain=True, timeout=5.0)

    def _running(self) -> RuntimeLike:
        if self._runtime is None:
            with self._lock:
                if self._runtime is None:
                    self._runtime = self._start(self._plan)
        return self._runtime

    def _signature(self, key: str) -> Signature:
        registry, _, _ = self._plan.inside()
        return signature_of(registry.target(key))


def _given(tensor: Tensor) -> Any:
    """Give a tensor as the runtime takes it: bfloat16 exists only in PyTorch."""
    dtype = tensor.datatype.fusec or ""
    if dtype not in NO_NUMPY:
        return tensor.array
    # Bytes of a request cannot be written to, which PyTorch warns of.
    return tensor_of_array(np.array(tensor.array, dtype=np.uint16), dtype)


def wire_array(name: str, value: Any) -> Tensor:
    """Give an output as a tensor of the protocol."""
    if is_tensor(value):
        dtype = str(value.dtype).removeprefix("torch.")
        return Tensor(name, BY_FUSEC[dtype], array_of(value))
    # NumPy works the name of a dtype out each time.
    return Tensor(name, _BY_NUMPY.get(value.dtype) or BY_FUSEC[value.dtype.name], value)
