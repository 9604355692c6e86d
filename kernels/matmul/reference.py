"""The plain matmul: float64 sums, rounded once."""

import numpy as np

from fusec.ir.stage import Stage
from fusec.kernels.memory import Memory
from fusec.kernels.pointwise.reference import apply

__all__ = ["run"]


def run(stage: Stage, memory: Memory) -> None:
    """Compute a matmul stage.

    Args:
        stage: of op `matmul`.
        memory: of one instance.
    """
    a, b = (memory.array(view).astype(np.float64) for view in stage.reads[:2])
    with np.errstate(all="ignore"):
        result = a @ b
        if len(stage.reads) > 2:
            result = result + memory.array(stage.reads[2])
        memory.array(stage.writes[0])[...] = result
    apply(stage, memory)
