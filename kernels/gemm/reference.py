"""The plain gemm: float64 sums over the unpacked weight, rounded once."""

import numpy as np

from fusec.ir.stage import Stage
from fusec.kernels.gemm.pack import matrices
from fusec.kernels.memory import Memory
from fusec.kernels.pointwise.reference import apply

__all__ = ["run"]


def run(stage: Stage, memory: Memory) -> None:
    """Compute a gemm stage.

    Args:
        stage: of op `gemm`.
        memory: of one instance.
    """
    a, b = (memory.array(view) for view in stage.reads[:2])
    k, n, nr = (memory.extent(int(str(stage.attr(name)))) for name in ("k", "n", "nr"))
    if stage.reads[1].dtype == "bfloat16":
        b = (b.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(all="ignore"):
        result = a.astype(np.float64) @ matrices(b, 1, k, n, nr)[0].astype(np.float64)
        if len(stage.reads) > 2:
            result = result + memory.array(stage.reads[2])
        memory.array(stage.writes[0])[...] = result
    apply(stage, memory)
