"""Slice, Pad and CenterCropPad."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import (
    Size,
    axes_of,
    bounded,
    concrete,
    list_of,
    sizes_of,
    sym_max,
)
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, Value, ints

Tensor = torch.Tensor


def _slice(
    call: Call,
    x: Value,
    starts: Value = None,
    ends: Value = None,
    axes: Value = None,
    steps: Value = None,
) -> Value:
    first, last = list_of(call, "starts", starts), list_of(call, "ends", ends)
    if first is None or last is None:
        call.fail("starts or ends are missing")
    rank = len(sizes_of(x))
    where = list_of(call, "axes", axes)
    where = list(range(len(first))) if where is None else axes_of(call, where, rank)
    stride = [1] * len(first) if steps is None else ints(steps)
    rows = list(zip(where, first, last, stride, strict=True))
    if isinstance(x, np.ndarray):
        cut: list[Any] = [slice(None)] * rank
        for axis, start, end, step in rows:
            cut[axis] = slice(*_python_bounds(x.shape[axis], int(start), int(end), int(step)))
        part: Array = x[tuple(cut)]
        return part
    assert isinstance(x, torch.Tensor)
    for axis, start, end, step in rows:
        x = _slice_axis(x, int(axis), start, end, int(step))
    return x


def _python_bounds(size: int, start: int, end: int, step: int) -> tuple[int, int | None, int]:
    begin, stop, step = slice(start, end, step).indices(size)
    return begin, None if stop < 0 else stop, step


def _slice_axis(x: Tensor, axis: int, start: Size, end: Size, step: int) -> Tensor:
    size = x.shape[axis]
    if step < 0:
        # Position i of the reversed axis is size - 1 - i of the data.
        x = x.flip(axis)
        start = bounded(0, size - 1 - start, size) if _at_least_zero(start) else -1 - start
        end = bounded(0, size - 1 - end, size) if _at_least_zero(end) else -1 - end
        step = -step
    if isinstance(start, int) and start == 0 and isinstance(end, int) and step == 1:
        whole = end >= size if isinstance(size, int) else end >= 2**31 - 1
        if whole:
            return x
    part: Tensor = torch.ops.aten.slice.Tensor(x, axis, start, end, step)
    return part


def _at_least_zero(value: Size) -> bool:
    return not isinstance(value, int) or value >= 0


def _pad(
    call: Call, x: Tensor, pads: Value = None, value: Value = None, axes: Value = None
) -> Tensor:
    amounts = list_of(call, "pads", pads)
    if amounts is None:
        call.fail("pads are missing")
    where = list(range(x.ndim)) if axes is None else axes_of(call, ints(axes), x.ndim)
    if len(amounts) != 2 * len(where):
        call.fail(f"wanted {2 * len(where)} pads, got {len(amounts)}")
    begin: list[Size] = [0] * x.ndim
    end: list[Size] = [0] * x.ndim
    for position, axis in enumerate(where):
        begin[axis], end[axis] = amounts[position], amounts[position + len(where)]
    mode = call.attr("mode", "constant")
    if mode == "constant":
        return _pad_constant(call, x, value, begin, end)
    if mode not in ("reflect", "edge", "wrap"):
        call.fail(f"mode is '{mode}'; known are constant, reflect, edge, wrap")
    if mode != "wrap" and _fits_torch(x, begin, end, reflect=mode == "reflect"):
        last = _amounts(begin, end)[: 2 * (x.ndim - 2)]
        return F.pad(x, last, mode="reflect" if mode == "reflect" else "replicate")
    for axis in range(x.ndim):
        x = _pad_axis(x, axis, begin[axis], end[axis], mode)
    return x


def _pad_constant(
    call: Call, x: Tensor, value: Value, begin: Sequence[Size], end: Sequence[Size]
) -> Tensor:
    number = call.attr("value", 0.0)
    if isinstance(value, np.ndarray):
        number = value.reshape(-1)[0].item() if value.size else 0
    if x.dtype == torch.bool:
        return F.pad(x.to(torch.uint8), _amounts(begin, end), value=int(number)).to(torch.bool)
    return F.pad(x, _amounts(begin, end), value=number)


def _amounts(begin: Sequence[Size], end: Sequence[Size]) -> list[Size]:
    """Return paddings as torch wants them: pairs from the last axis to the first."""
    amounts: list[Size] = []
    for before, after in zip(reversed(begin), reversed(end), strict=True):
        amounts += [before, after]
    while amounts and all(isinstance(a, int) and a == 0 for a in amounts[-2:]):
        amounts = amounts[:-2]
    return amounts or [0, 0]


def _fits_torch(x: Tensor, begin: Sequence[Size], end: Sequence[Size], *, reflect: bool) -> bool:
    """Say whether torch's own reflect or replicate padding of 3-D to 5-D tensors applies."""
    if x.ndim not in (3, 4, 5) or not x.is_floating_point():
        return False
    if not concrete([*begin, *end]) or any(begin[axis] or end[axis] for axis in (0, 1)):
        return False
    inner = zip(x.shape[2:], begin[2:], end[2:], strict=True)
    return all(
        b >= 0 and e >= 0 and (not reflect or not isinstance(n, int) or max(b, e) < n)
        for n, b, e in inner
    )


def _pad_axis(x: Tensor, axis: int, before: Size, after: Size, mode: str) -> Tensor:
    if concrete((before, after)) and before == 0 and after == 0:
        return x
    size = x.shape[axis]
    at = torch.arange(-before, size + after)
    if mode == "edge":
        at = at.clamp(0, size - 1)
    elif mode == "wrap":
        at = at % size
    else:
        period = sym_max(2 * (size - 1), 1)
        at = at % period
        at = torch.where(at >= size, period - at, at)
    return x.index_select(axis, at)


def _center_crop_pad(call: Call, x: Tensor, shape: Value) -> Tensor:
    wanted = ints(shape)
    axes = call.attr("axes", None)
    where = list(range(x.ndim)) if axes is None else axes_of(call, axes, x.ndim)
    begin: list[Size] = [0] * x.ndim
    end: list[Size] = [0] * x.ndim
    for axis, target in zip(where, wanted, strict=True):
        size = x.shape[axis]
        more, less = sym_max(target - size, 0), sym_max(size - target, 0)
        begin[axis] = more // 2 - less // 2
        end[axis] = (more - more // 2) - (less - less // 2)
    return F.pad(x, _amounts(begin, end))


def _pad_any(call: Call, x: Value, *rest: Value) -> Value:
    """Pad sizes with NumPy, which serves shape arithmetic."""
    assert isinstance(x, np.ndarray)
    pads = list_of(call, "pads", rest[0] if rest else None) or []
    plain = call.attr("mode", "constant") == "constant" and len(rest) < 3 and concrete(pads)
    if not plain or len(pads) != 2 * x.ndim or any(amount < 0 for amount in pads):
        return _pad(call, torch.from_numpy(np.ascontiguousarray(x)), *rest)
    value: Array | None = rest[1] if len(rest) > 1 and isinstance(rest[1], np.ndarray) else None
    fill = 0 if value is None or not value.size else value.reshape(-1)[0]
    widths = [(int(pads[i]), int(pads[i + x.ndim])) for i in range(x.ndim)]
    return np.pad(x, widths, constant_values=fill)


OPS: Final[Mapping[str, Op]] = {
    "CenterCropPad": Op(run=_center_crop_pad, host=frozenset({1})),
    "Pad": Op(run=_pad, host=frozenset({1, 2, 3}), numpy=_pad_any),
    "Slice": Op(run=_slice, host=frozenset({1, 2, 3, 4}), either=True),
}
