"""Softmax in NumPy, computed in float64."""

import numpy as np

from fusec.ir.stage import Stage
from fusec.kernels.memory import Memory

__all__ = ["run"]


def run(stage: Stage, memory: Memory) -> None:
    """Run a softmax stage; see `encode` for its operands."""
    x = memory.array(stage.reads[0]).astype(np.float64)
    if x.size == 0:
        return
    with np.errstate(invalid="ignore"):
        shifted = x - x.max(axis=1, keepdims=True)
        powers = np.exp(shifted)
        total = powers.sum(axis=1, keepdims=True)
        result = shifted - np.log(total) if stage.attr("log") else powers / total
    memory.array(stage.writes[0])[...] = result
