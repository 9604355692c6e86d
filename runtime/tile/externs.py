"""Extern stages inside a native run: a callback that looks like a kernel and calls PyTorch.

A worker that comes to such a task calls back into Python, for one instance, and goes on when that
returns. What it raises is kept until the run is over.
"""

import ctypes
import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar, overload

import numpy as np

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.stage import ExternCall, View
from fusec.kernels.memory import Memory
from fusec.runtime.tile.bind import Binding

__all__ = ["KERNEL_TYPE", "Externs", "RunExtern"]

T = TypeVar("T")
RunExtern = Callable[
    [ExternCall, Callable[[View], np.ndarray], Sequence[View], Mapping[str, int]], None
]
"""Run a row through PyTorch: (call, view -> its array, views to write, symbols)."""

KERNEL_TYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)
"""The type of a kernel, and of the callback that stands for extern stages."""


class Served(Protocol):
    """What runs as one: extern stages know it by its table of services."""

    @property
    def services(self) -> int:
        """Address of the table."""


class Externs:
    """The callback of one executor, and what it has to know."""

    def __init__(self, run: RunExtern) -> None:
        """Make the callback."""
        self._run = run
        self._numbers = itertools.count()
        self._bound: weakref.WeakValueDictionary[int, Binding] = weakref.WeakValueDictionary()
        self._errors: dict[int, BaseException] = {}
        self._callback = KERNEL_TYPE(self._called)
        self.address = ctypes.cast(self._callback, ctypes.c_void_p).value or 0
        """What a task has as its kernel."""

    def enter(self, binding: Binding) -> None:
        """Write into a binding's words how the callback finds its extern stages."""
        if not binding.code.externs:
            return
        number = next(self._numbers)
        self._bound[number] = binding
        for stage in binding.code.externs:
            start = int(binding.code.word_starts[stage])
            binding.words[start : start + 2] = number, stage

    def guard(self, call: Served, run: Callable[[], T]) -> T:
        """Run, then raise what an extern stage raised meanwhile."""
        try:
            answers = run()
        finally:
            error = self._errors.pop(call.services, None)
        if error is not None:
            raise error
        return answers

    def _called(self, desc: int, bufs: int, *rest: int) -> None:
        services = rest[-1]
        if services in self._errors:
            return
        try:
            number, stage = _memory(desc, 16, "int64").tolist()
            binding = self._bound[number]
            lowered = binding.code.lowered
            extern = lowered.stages[stage].extern
            assert extern is not None
            addresses = _memory(bufs, 8 * len(lowered.buffers), "int64").tolist()
            memory = Memory(_Buffers(binding, addresses), binding.symbols)
            self._run(extern, memory.array, lowered.stages[stage].writes, binding.symbols)
        except BaseException as e:  # noqa: BLE001  (raised again by `guard`)
            self._errors[services] = e


class _Buffers(Sequence[np.ndarray]):
    """An instance's buffers as flat arrays."""

    def __init__(self, binding: Binding, addresses: Sequence[int]) -> None:
        self._binding, self._addresses = binding, addresses

    def __len__(self) -> int:
        return len(self._addresses)

    @overload
    def __getitem__(self, slot: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, slot: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, slot: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(slot, slice):
            return [self[i] for i in range(*slot.indices(len(self)))]
        buffer = self._binding.code.lowered.buffers[slot]
        return _memory(self._addresses[slot], int(self._binding.sizes[slot]), buffer.dtype)


def _memory(address: int, n_bytes: int, dtype: str) -> np.ndarray:
    if not n_bytes:
        return np.empty(0, dtype=numpy_dtype(dtype))
    window = memoryview((ctypes.c_char * n_bytes).from_address(address)).cast("B")
    return np.frombuffer(window, dtype=numpy_dtype(dtype))
