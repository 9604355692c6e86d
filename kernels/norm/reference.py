"""Norms in NumPy, computed in float64."""

import numpy as np

from fusec.ir.stage import Stage
from fusec.kernels.memory import Memory
from fusec.kernels.pointwise.reference import apply

__all__ = ["run"]


def run(stage: Stage, memory: Memory) -> None:
    """Run a norm stage; see `encode` for its operands."""
    x = memory.array(stage.reads[0]).astype(np.float64)
    eps, kind = stage.attr("eps"), stage.attr("kind")
    assert isinstance(eps, float)
    shape = x.shape
    axes: tuple[int, ...] = (1,)
    if kind == "group":
        axes = (2, 3)
    elif kind == "columns":
        groups = stage.attr("groups")
        assert isinstance(groups, int)
        x, axes = x.reshape(*shape[:2], groups, -1), (1, 3)
    with np.errstate(invalid="ignore"):
        centred = x if kind == "rms" else x - x.mean(axes, keepdims=True)
        y = centred / np.sqrt((centred * centred).mean(axes, keepdims=True) + eps)
    y = y.reshape(shape)
    given = [memory.array(view) for view in stage.reads[1:]]
    if kind == "group":
        given = [weight.reshape(shape[1], shape[2], 1) for weight in given]
    if stage.attr("weight"):
        y = y * given.pop(0)
    if stage.attr("bias"):
        y = y + given.pop(0)
    memory.array(stage.writes[0])[...] = y
    apply(stage, memory)
