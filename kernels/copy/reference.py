"""The plain copy."""

import numpy as np

from fusec.ir.stage import Stage
from fusec.kernels.memory import Memory

__all__ = ["run"]


def run(stage: Stage, memory: Memory) -> None:
    """Compute a copy stage.

    Args:
        stage: of op `copy`.
        memory: of one instance.
    """
    target = memory.array(stage.writes[0])
    if dict(stage.attrs).get("form") != "arange":
        source = memory.array(stage.reads[0])
        if source.nbytes or source.shape:
            source = source.copy()
        target[...] = source.reshape(target.shape)
        return
    start, step = stage.attr("start"), stage.attr("step")
    assert not isinstance(start, str | tuple) and start is not None
    assert not isinstance(step, str | tuple) and step is not None
    first, by = (v if isinstance(v, float) else memory.extent(v) for v in (start, step))
    target[...] = first + by * np.arange(target.shape[0])
