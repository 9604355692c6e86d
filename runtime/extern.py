"""Extern stages: a row of a template that PyTorch runs for one instance, on one thread.

Operands are contiguous copies in memory of torch's own, so that neither strides nor alignment can
change a bit. torch is imported when the first such stage runs.
"""

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from fusec.ir.errors import FusecError, KernelError
from fusec.ir.extents import Poly, value
from fusec.ir.stage import ExternCall, Operand, View

if TYPE_CHECKING:
    import torch

__all__ = ["run_extern"]


def run_extern(
    call: ExternCall,
    array_of: Callable[[View], np.ndarray],
    writes: Sequence[View],
    symbols: Mapping[str, int],
) -> None:
    """Run one row for one instance.

    Args:
        call: the row, and what its references stand for.
        array_of: view -> window on the instance's memory.
        writes: where the results go, tensors in the order of the row's results.
        symbols: value of every symbol.

    Raises:
        KernelError: the operator refuses the values.
        UnsupportedError: an operator outside the operator set.
    """
    import torch

    from fusec.kernels.interpret import run_row
    from fusec.runtime.modes import plain_tensors

    operands = {n: _operand(o, array_of, symbols) for n, o in call.operands}
    try:
        with _one_thread(), plain_tensors(), torch.no_grad():
            given = run_row(call.row, operands)
    except FusecError:
        raise
    except (RuntimeError, LookupError, TypeError, ValueError, ArithmeticError) as e:
        text = str(e).strip().partition("\n")[0]
        raise KernelError(f"{type(e).__name__}: {text} (in {call.row.op})") from e
    results = list(_tensors(given))
    if len(results) != len(writes):
        raise KernelError(f"{call.row.op} gave {len(results)} tensors, {len(writes)} are wanted")
    for result, view in zip(results, writes, strict=True):
        _store(call.row.op, result, view.dtype, array_of(view))


def _operand(
    operand: Operand, array_of: Callable[[View], np.ndarray], symbols: Mapping[str, int]
) -> object:
    if isinstance(operand, View):
        from fusec.runtime.arrays import tensor_of_array

        return tensor_of_array(np.array(array_of(operand), order="C"), operand.dtype).clone()
    if isinstance(operand, Poly):
        return value(operand, symbols)
    if isinstance(operand, tuple):
        return [_operand(o, array_of, symbols) for o in operand]
    return operand


def _tensors(given: object) -> "Iterator[torch.Tensor]":
    """Flatten what an operator gave; host numbers among it have no place to go to."""
    import torch

    if isinstance(given, torch.Tensor):
        yield given
    elif isinstance(given, tuple | list):
        for item in given:
            yield from _tensors(item)


def _store(op: str, result: "torch.Tensor", dtype: str, target: np.ndarray) -> None:
    from fusec.runtime.arrays import array_of, dtype_of

    if dtype_of(result) != dtype or tuple(result.shape) != target.shape:
        raise KernelError(
            f"{op} gave {dtype_of(result)}{list(result.shape)}, wanted {dtype}{list(target.shape)}"
        )
    target[...] = array_of(result)


class _Threads:
    """Sets torch to one thread while anybody is inside; then as it was."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 1

    @contextmanager
    def one(self) -> Iterator[None]:
        """Run inside on one thread."""
        import torch

        with self._lock:
            if not self._inside:
                self._before = torch.get_num_threads()
                if self._before != 1:
                    torch.set_num_threads(1)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside and self._before != 1:
                    torch.set_num_threads(self._before)


@functools.cache
def _threads() -> _Threads:
    return _Threads()


@contextmanager
def _one_thread() -> Iterator[None]:
    with _threads().one():
        yield
