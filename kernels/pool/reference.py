"""The plain pooling and resizing: one output pixel after another."""

import math
from typing import Any

import numpy as np

from fusec.ir.stage import Attr, Stage
from fusec.kernels.memory import Memory

__all__ = ["run"]


def run(stage: Stage, memory: Memory) -> None:
    """Compute a pooling or resizing stage.

    Args:
        stage: of op `pool`.
        memory: of one instance.
    """
    x, y = memory.array(stage.reads[0]), memory.array(stage.writes[0])
    attrs = dict(stage.attrs)
    resizing = attrs["mode"] in ("nearest", "nearest_exact", "bilinear")
    for row in range(y.shape[1]):
        for column in range(y.shape[2]):
            compute = _resized if resizing else _pooled
            y[:, row, column] = compute(attrs, x, y.shape[1:3], (row, column))


def _at(attrs: dict[str, Attr], name: str, axis: int, default: int) -> int:
    value = attrs.get(name)
    return int(str(value[axis])) if isinstance(value, tuple) else default


def _pooled(attrs: dict[str, Attr], x: Any, out: tuple[int, ...], at: tuple[int, int]) -> Any:
    mode = str(attrs["mode"])
    taps, padded = [], 1
    for axis in range(2):
        size, i = x.shape[1 + axis], at[axis]
        if mode.startswith("adaptive"):
            taken = range(i * size // out[axis], -(-(i + 1) * size // out[axis]))
            padded *= len(taken)
        else:
            kernel, padding = _at(attrs, "kernel", axis, 1), _at(attrs, "padding", axis, 0)
            step = _at(attrs, "dilation", axis, 1)
            first = i * _at(attrs, "stride", axis, 1) - padding
            padded *= min(first + kernel, size + padding) - first
            taken = range(first, first + kernel * step, step)
        taps.append([t for t in taken if 0 <= t < size])
    window = x[:, taps[0]][:, :, taps[1]]
    if mode.endswith("max"):
        return window.max(axis=(1, 2), initial=-np.inf)
    count = padded if attrs.get("include_pad") else len(taps[0]) * len(taps[1])
    divisor = attrs.get("divisor") or count
    return window.sum(axis=(1, 2), dtype=np.float64) / divisor


def _resized(attrs: dict[str, Attr], x: Any, out: tuple[int, ...], at: tuple[int, int]) -> Any:
    places = []
    for axis in range(2):
        size, i = x.shape[1 + axis], at[axis]
        scales = attrs.get("scales")
        scale = np.float32(str(scales[axis]) if isinstance(scales, tuple) else 0.0)
        if attrs.get("align_corners"):
            scale = np.float32((size - 1) / (out[axis] - 1) if out[axis] > 1 else 0.0)
        elif scale <= 0:
            scale = np.float32(size) / np.float32(out[axis])
        if attrs["mode"] == "bilinear":
            corners = attrs.get("align_corners")
            position = scale * np.float32(i) if corners else scale * np.float32(i + 0.5)
            position = position if corners else max(position - np.float32(0.5), np.float32(0))
        else:
            position = scale * np.float32(i + (0.5 if attrs["mode"] == "nearest_exact" else 0))
        first = min(math.floor(position), size - 1)
        weight = min(max(float(position) - first, 0.0), 1.0)
        places.append((first, min(first + 1, size - 1), weight))
    (top, bottom, down), (left, right, along) = places
    if attrs["mode"] != "bilinear":
        return x[:, top, left]
    wide = x.astype(np.float64)
    upper = wide[:, top, left] * (1 - along) + wide[:, top, right] * along
    lower = wide[:, bottom, left] * (1 - along) + wide[:, bottom, right] * along
    return upper * (1 - down) + lower * down
