"""Norms in NumPy, computed in float64."""

import numpy as np

from fusec.ir.stage import Stage
from fusec.kernels.memory import Memory
from fusec.kernels.pointwise.reference import apply

__all__ = ["run"]


def run(stage: Stage, memory: Memory) -> None:
    """Run a norm stage; see `encode` for its operands."""
    x = memory.array(stage.reads[0]).astype(np.float64)
    eps = stage.attr("eps")
    assert isinstance(eps, float)
    kind = stage.attr("kind")
    axes = (2, 3) if kind == "group" else (1,)
    centred = x if kind == "rms" else x - x.mean(axes, keepdims=True)
    y = centred / np.sqrt((centred * centred).mean(axes, keepdims=True) + eps)
    given = list(stage.reads[1:])
    if stage.attr("weight"):
        y = y * _spread(stage, memory.array(given.pop(0)))
    if stage.attr("bias"):
        y = y + _spread(stage, memory.array(given.pop(0)))
    memory.array(stage.writes[0])[...] = y
    apply(stage, memory)


def _spread(stage: Stage, weight: np.ndarray) -> np.ndarray:
    if stage.attr("kind") != "group":
        return weight
    groups = stage.reads[0].shape[1]
    assert isinstance(groups, int)
    by_group = weight.reshape(groups, -1)
    return by_group[:, :, None] if stage.attr("along") == "a" else by_group[:, None, :]
