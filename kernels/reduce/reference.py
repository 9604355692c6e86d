"""Reductions in NumPy, floats in float64."""

import numpy as np

from fusec.ir.stage import Stage
from fusec.kernels.memory import Memory
from fusec.kernels.pointwise.reference import apply

__all__ = ["run"]


def run(stage: Stage, memory: Memory) -> None:
    """Run a reduction stage; see `encode` for its operands."""
    x = memory.array(stage.reads[0])
    if x.dtype.kind == "f":
        x = x.astype(np.float64)
    writes = [memory.array(w) for w in stage.writes]
    form, kind = stage.attr("form"), stage.attr("kind")
    assert isinstance(kind, str)
    if writes[0].size == 0:
        return
    if form == "scan":
        writes[0][...] = np.cumsum(x, axis=1, dtype=x.dtype if x.dtype.kind == "f" else np.int64)
        return
    if form == "sort":
        _sort(x, writes, largest=bool(stage.attr("largest")))
        return
    if form == "columns":
        x = np.moveaxis(x, 3, 1)
    x = x.reshape(*writes[0].shape, -1)
    if kind in ("argmax", "argmin"):
        writes[0][...] = _where(x, kind)
    elif kind in ("max", "min"):
        writes[0][...] = _reduced(x, "a" + kind, 0.0)
        writes[1][...] = _where(x, kind)
    else:
        correction = dict(stage.attrs).get("correction", 0.0)
        assert isinstance(correction, float)
        writes[0][...] = _reduced(x, kind, correction)
    apply(stage, memory)


def _sort(x: np.ndarray, writes: list[np.ndarray], *, largest: bool) -> None:
    """Give the first values and their places; NaN is above all, equal values keep their order."""
    k = writes[0].shape[1]
    if largest:
        # Backwards, the last of equal values is first in the order that is turned round.
        order = x.shape[1] - 1 - np.argsort(x[:, ::-1], axis=1, kind="stable")[:, ::-1]
    else:
        order = np.argsort(x, axis=1, kind="stable")
    places = order[:, :k]
    writes[0][...] = np.take_along_axis(x, places, axis=1)
    writes[1][...] = places


def _where(x: np.ndarray, kind: str) -> np.ndarray:
    """Give the first position of the extreme; of the first NaN, if there is one."""
    return np.asarray(x.argmax(-1) if kind.endswith("max") else x.argmin(-1))


def _reduced(x: np.ndarray, kind: str, correction: float) -> np.ndarray:
    n = x.shape[-1]
    match kind:
        case "sum" | "prod" | "any" | "all":
            return np.asarray(getattr(np, kind)(x, axis=-1))
        case "amax" | "amin":
            return np.asarray(getattr(np, kind)(x, axis=-1))
        case "logsumexp":
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(np.logaddexp.reduce(x, axis=-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        match kind:
            case "mean":
                return np.asarray(x.sum(-1) / n)
            case "norm1":
                return np.asarray(abs(x).sum(-1))
            case "norm2":
                return np.asarray(np.sqrt((x * x).sum(-1)))
            case "norminf":
                return np.asarray(abs(x).max(-1))
        centred = x - (x.sum(-1, keepdims=True) / n)
        variance = (centred * centred).sum(-1) / max(n - correction, 0)
        return np.asarray(variance if kind == "var" else np.sqrt(variance))
