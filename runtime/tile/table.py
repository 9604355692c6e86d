"""The tile table: tasks, the waits between them, and the units that workers take.

A worker takes units in order from a shared ticket and runs each unit's tasks in order. A task may
wait for counters that tasks of earlier units signal, so a worker only ever waits for tasks that
are already taken: no deadlock, whatever the number of workers.

    units     0         1     2           3                    taken in this order
    tasks     0  1  2   3  4  5  6  7     8  9
    waits                              8: counter 0 >= 2       8 starts when both have signalled
    signals            4: counter 0    7: counter 0

All records are int64 words; native code reads them where NumPy keeps them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusec.ir.frozen import dataclass

__all__ = ["SOON_BYTES", "TASK", "UNIT", "WAIT", "Table", "words_of"]

TASK = np.dtype(
    [
        (name, np.int64)
        for name in (
            "kernel",  # address of the kernel
            "desc",  # address of the stage's words
            "bufs",  # byte offset of the instance's address table inside the worker's tables
            "lo", "hi", "lo2", "hi2",
            "wait", "waits",  # first wait and how many
            "signal",  # counter to add 1 to when done, or -1
            "stage", "instance",  # for traces and profiles only
            "soon",  # address of what to fetch ahead, see `fusec.runtime.tile.soon`, or 0
        )
    ]
)  # fmt: skip
"""One call of one kernel: 13 words."""

SOON_BYTES = 8 * TASK.names.index("soon") if TASK.names else 0
"""Where a task's field `soon` is."""

WAIT = np.dtype([("counter", np.int64), ("threshold", np.int64)])
"""Fulfilled when the counter has been signalled `threshold` times in this run."""

UNIT = np.dtype([("task", np.int64), ("tasks", np.int64)])
"""A run of tasks for one worker: the first and how many."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Table:
    """A tile program as native code reads it."""

    tasks: NDArray[np.void]
    """dtype TASK."""
    waits: NDArray[np.void]
    """dtype WAIT."""
    units: NDArray[np.void]
    """dtype UNIT, in the order in which they are taken."""
    counters: int
    """How many there are."""

    def signals(self) -> NDArray[np.int64]:
        """Count how often each counter is signalled in one run."""
        signal = self.tasks["signal"]
        return np.bincount(signal[signal >= 0], minlength=self.counters).astype(np.int64)


def words_of(records: NDArray[Any] | Sequence[Sequence[int]], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Give records of a table's dtype, from rows of integers or from records.

    Returns:
        A C-contiguous array; the argument itself where it is one already.
    """
    if isinstance(records, np.ndarray) and records.dtype == dtype:
        return np.ascontiguousarray(records)
    rows = np.ascontiguousarray(records, dtype=np.int64).reshape(-1, dtype.itemsize // 8)
    return rows.view(dtype).reshape(-1)
