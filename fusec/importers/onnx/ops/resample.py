"""Interpolation along axes, one after the other, with every coordinate rule of Resize.

Coordinates are computed in float32, operation by operation as ONNX Runtime does, since the choice
of the nearest pixel depends on the last bit.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch

from fusec.ir.errors import ImportFailed

Tensor = torch.Tensor


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How output positions map to input ones, and how pixels are mixed.

    Attributes:
        mode: "nearest", "linear" or "cubic".
        transform: coordinate_transformation_mode.
        nearest: nearest_mode, or "simple" (floor when growing, ceil when shrinking).
        cubic: coefficient of the cubic kernel.
        exclude_outside: taps outside the input weigh nothing.
        extrapolation: value outside the crop of tf_crop_and_resize.
        antialias: stretch the kernel when shrinking.
    """

    mode: str
    transform: str
    nearest: str
    cubic: float = -0.75
    exclude_outside: bool = False
    extrapolation: float = 0.0
    antialias: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One resized axis: its index, extents before and after, scale, and crop."""

    index: int
    size: Any
    out: Any
    scale: Any
    start: float = 0.0
    end: float = 1.0

    @property
    def idle(self) -> bool:
        """Say whether resizing this axis is the identity."""
        same = isinstance(self.scale, float) and self.scale == 1.0
        return same and (self.start, self.end) == (0.0, 1.0)


def resample(x: Tensor, rule: Rule, axes: Sequence[Axis]) -> Tensor:
    """Resize the given axes of a tensor."""
    outside: list[Tensor] = []
    for axis in axes:
        at = _source(rule, axis)
        x = _along(x, rule, axis, at)
        if rule.transform == "tf_crop_and_resize":
            shape = [1] * x.ndim
            shape[axis.index] = -1
            outside.append(((at < 0) | (at > axis.size - 1)).reshape(shape))
    for beyond in outside:
        x = torch.where(beyond, rule.extrapolation, x)
    return x


def _source(rule: Rule, axis: Axis) -> Tensor:
    """Return the input coordinate of every output position, float32 [out]."""
    at = torch.arange(axis.out, dtype=torch.float32)
    size, out, scale = axis.size, axis.out, axis.scale
    single = isinstance(out, int) and out == 1
    found: Tensor
    match rule.transform:
        case "asymmetric":
            found = at / scale
        case "half_pixel":
            found = (at + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            found = at * 0 if single else (at + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            adjusted = size / 2 * (1 - out / (scale * size))
            found = adjusted + (at + 0.5) / scale - 0.5
        case "tf_half_pixel_for_nn":
            found = (at + 0.5) / scale
        case "align_corners":
            found = at * 0 if single else at * (size - 1) / (out - 1)
        case "tf_crop_and_resize":
            if single:
                found = at * 0 + 0.5 * (axis.start + axis.end) * (size - 1)
            else:
                step = (axis.end - axis.start) * (size - 1) / (out - 1)
                found = axis.start * (size - 1) + at * step
        case _:
            raise ImportFailed(
                f"coordinate_transformation_mode is '{rule.transform}'; known are asymmetric, "
                "align_corners, tf_crop_and_resize, tf_half_pixel_for_nn and *half_pixel*"
            )
    return found


def _along(x: Tensor, rule: Rule, axis: Axis, at: Tensor) -> Tensor:
    if rule.mode == "nearest":
        picked = _nearest(rule, axis, at).to(torch.int64).clamp(0, axis.size - 1)
        return x.index_select(axis.index, picked)
    shrinks = isinstance(axis.scale, torch.SymFloat) or axis.scale < 1
    if rule.antialias and shrinks:
        return _apply(x, axis, _stretched(rule, axis, at))
    first, weights = _taps(rule, at.clamp(0, axis.size - 1) if rule.mode == "linear" else at)
    shape = [1] * x.ndim
    shape[axis.index] = -1
    if rule.mode == "cubic" and rule.exclude_outside:
        inside = [((first + k >= 0) & (first + k < axis.size)) for k in range(len(weights))]
        weights = [torch.where(i, w, 0.0) for i, w in zip(inside, weights, strict=True)]
        total = torch.stack(weights).sum(0)
        weights = [w / total for w in weights]
    result: Tensor | None = None
    for k, weight in enumerate(weights):
        tap = x.index_select(axis.index, (first + k).clamp(0, axis.size - 1))
        part = tap * weight.to(x.dtype).reshape(shape)
        result = part if result is None else result + part
    assert result is not None
    return result


def _nearest(rule: Rule, axis: Axis, at: Tensor) -> Tensor:
    match rule.nearest:
        case "floor":
            return torch.floor(at)
        case "ceil":
            return torch.ceil(at)
        case "round_prefer_ceil":
            return torch.where(at - torch.floor(at) >= 0.5, torch.ceil(at), torch.floor(at))
        case "round_prefer_floor":
            return torch.where(at - torch.floor(at) > 0.5, torch.ceil(at), torch.floor(at))
        case "simple":
            shrinks = isinstance(axis.scale, float) and axis.scale < 1
            return torch.ceil(at) if shrinks else torch.floor(at)
    raise ImportFailed(
        f"nearest_mode is '{rule.nearest}'; known are floor, ceil, round_prefer_floor and "
        "round_prefer_ceil"
    )


def _taps(rule: Rule, at: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the first tap of every output position and the weight of each tap."""
    below = torch.floor(at)
    t = at - below
    first = below.to(torch.int64)
    if rule.mode == "linear":
        return first, [1 - t, t]
    a = rule.cubic
    near, far = _cubic_near(a, t), _cubic_near(a, 1 - t)
    return first - 1, [_cubic_far(a, t + 1), near, far, _cubic_far(a, 2 - t)]


def _cubic_near(a: float, d: Tensor) -> Tensor:
    """Weigh a tap at most one pixel away."""
    return ((a + 2) * d - (a + 3)) * d * d + 1


def _cubic_far(a: float, d: Tensor) -> Tensor:
    """Weigh a tap between one and two pixels away."""
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a


def _stretched(rule: Rule, axis: Axis, at: Tensor) -> Tensor:
    """Return weights [out, size] of a kernel stretched by 1 / scale; rows sum to one.

    Taps beyond an edge read the edge, so their weight goes there, unless they are excluded.
    """
    beyond = math.ceil((1 if rule.mode == "linear" else 2) / axis.scale) + 1
    beyond = 0 if rule.exclude_outside else beyond
    taps = torch.arange(-beyond, axis.size + beyond, dtype=torch.float32)
    distance: Tensor = ((taps[None, :] - at[:, None]) * axis.scale).abs()
    if rule.mode == "linear":
        weights = (1 - distance).clamp(min=0)
    else:
        near, far = _cubic_near(rule.cubic, distance), _cubic_far(rule.cubic, distance)
        weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    weights = weights / weights.sum(1, keepdim=True)
    if beyond == 0:
        return weights
    target = taps.to(torch.int64).clamp(0, axis.size - 1)
    folded = weights.new_zeros((weights.shape[0], axis.size))
    return folded.index_add(1, target, weights)


def _apply(x: Tensor, axis: Axis, weights: Tensor) -> Tensor:
    moved = x.movedim(axis.index, -1)
    return torch.matmul(moved, weights.to(x.dtype).t()).movedim(-1, axis.index)
