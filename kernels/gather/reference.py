"""Gathers in NumPy."""

import numpy as np

from fusec.ir.errors import KernelError
from fusec.ir.stage import Stage
from fusec.kernels.memory import Memory

__all__ = ["run"]


def run(stage: Stage, memory: Memory) -> None:
    """Run a gather stage; see `encode` for its operands.

    Raises:
        KernelError: an index is out of range.
    """
    x, indices = (memory.array(view) for view in stage.reads)
    y = memory.array(stage.writes[0])
    form = stage.attr("form")
    if form == "panels":
        n, k, nr = (stage.attr(name) for name in ("n", "k", "nr"))
        assert isinstance(n, int) and isinstance(k, int) and isinstance(nr, int)
        x = x.reshape(-1, k, nr).swapaxes(1, 2).reshape(-1, k)[None, :n]
    count = x.shape[1]
    low = -count if stage.attr("wrap") else 0
    if indices.size and (indices.min() < low or indices.max() >= count):
        raise KernelError("an index out of range")
    at = np.where(indices < 0, indices + count, indices)
    y[...] = np.take_along_axis(x, at, 1) if form == "along" else x[:, at]
