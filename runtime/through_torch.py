"""Requests through the PyTorch executors: cut into instances, run, joined, given back as asked."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from fusec.runtime.arrays import Array
from fusec.runtime.instances import Instance, instances_of, join
from fusec.runtime.modes import no_autocast
from fusec.runtime.request import Request

__all__ = ["InstanceExecutor", "ThroughTorch"]


class InstanceExecutor(Protocol):
    """What runs instances: the isolated or the merged executor."""

    def run(self, instances: Sequence[Instance]) -> list[tuple[torch.Tensor, ...]]:
        """Answer each instance, in order."""


class ThroughTorch:
    """Runs whole requests."""

    def __init__(self, executor: InstanceExecutor, threads: int | None) -> None:
        """Take an executor.

        Args:
            executor: of instances.
            threads: of torch's pool while requests run; None leaves it as it is.
        """
        self._executor, self._threads = executor, threads

    def run(self, requests: Sequence[Request]) -> list[tuple[Array, ...]]:
        """Answer each request, in order: NumPy arrays or torch tensors, as it wants.

        Raises:
            RuntimeError: or another of Python's errors, where an operator refuses values.
        """
        parts = [instances_of(request) for request in requests]
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with no_autocast():
            answers = self._executor.run([i for part in parts for i in part])
        results = []
        start = 0
        for request, part in zip(requests, parts, strict=True):
            outputs = join(request, answers[start : start + len(part)])
            start += len(part)
            results.append(tuple(map(_to_numpy, outputs) if request.wants_numpy else outputs))
        return results


def _to_numpy(tensor: torch.Tensor) -> Any:
    if tensor.dtype == torch.bfloat16 or "float8" in str(tensor.dtype):
        # NumPy has no such dtype; every value of these is exact in float32.
        return tensor.float().numpy()
    return tensor.resolve_conj().numpy()
