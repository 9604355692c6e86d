"""Attention in NumPy, computed in float64."""

import numpy as np

from fusec.ir.stage import Stage
from fusec.kernels.memory import Memory

__all__ = ["run"]


def run(stage: Stage, memory: Memory) -> None:
    """Run an attention stage; see `encode` for its operands."""
    q, k, v = (memory.array(x).astype(np.float64) for x in stage.reads[:3])
    group, scale = stage.attr("group"), stage.attr("scale")
    assert isinstance(group, int) and isinstance(scale, float)
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    out = memory.array(stage.writes[0])
    if out.size == 0 or k.shape[2] == 0:
        out[...] = 0
        return
    with np.errstate(invalid="ignore"):
        scores = (q @ k.swapaxes(2, 3)) * scale
        if stage.attr("causal"):
            rows, columns = np.indices(scores.shape[2:])
            scores = np.where(columns <= rows, scores, -np.inf)
        if stage.attr("mask") != "none":
            mask = memory.array(stage.reads[3])
            scores = scores + (np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask)
        largest = scores.max(axis=3, keepdims=True)
        powers = np.exp(scores - largest)
        weights = powers / powers.sum(axis=3, keepdims=True)
        out[...] = np.where(largest == -np.inf, 0.0, weights) @ v
