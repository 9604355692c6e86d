"""Shapes: reading them, and operators that move elements without looking at them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import (
    Size,
    axes_of,
    axis_of,
    concrete,
    index_array,
    list_of,
    product,
    sizes_of,
    tidy,
)
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, Value, ints, to_tensor

Tensor = torch.Tensor


def _shape(call: Call, x: Value) -> Array:
    sizes = sizes_of(x)
    start, end = call.attr("start", 0), call.attr("end", None)
    return index_array(sizes[start:end])


def _size(call: Call, x: Value) -> Array:
    return index_array([product(sizes_of(x))]).reshape(())


def _target(call: Call, sizes: Sequence[Size], wanted: Sequence[Size]) -> list[Size]:
    """Return a Reshape target with copied sizes filled in."""
    if call.attr("allowzero", 0):
        return list(wanted)
    target: list[Size] = []
    for axis, size in enumerate(wanted):
        if isinstance(size, int) and size == 0:
            if axis >= len(sizes):
                call.fail(f"0 at axis {axis} copies a size, but the input has rank {len(sizes)}")
            size = sizes[axis]
        target.append(size)
    return target


def _wanted(call: Call, shape: Value) -> list[Size]:
    wanted = list_of(call, "shape", shape)
    return call.fail("has no target shape") if wanted is None else wanted


def _reshape(call: Call, x: Tensor, shape: Value = None) -> Tensor:
    target = _target(call, x.shape, _wanted(call, shape))
    unknown = [axis for axis, size in enumerate(target) if isinstance(size, int) and size == -1]
    if len(unknown) == 1 and concrete(x.shape) and x.numel() == 0:
        # torch refuses to infer a size of an empty tensor; ONNX divides and takes 0 / 0 as 0.
        rest = product([size for axis, size in enumerate(target) if axis != unknown[0]])
        target[unknown[0]] = 0 if rest == 0 else x.numel() // rest
    return x.reshape(target)


def _reshape_host(call: Call, x: Array, shape: Value = None) -> Value:
    target = _target(call, x.shape, _wanted(call, shape))
    if not concrete(target):
        return to_tensor(x).reshape(target)
    return x.reshape([int(size) for size in target])


def _flatten(call: Call, x: Value) -> Value:
    sizes = sizes_of(x)
    axis = call.attr("axis", 1)
    axis = axis + len(sizes) if axis < 0 else axis
    assert isinstance(x, (np.ndarray, torch.Tensor))
    if axis == 1 and len(sizes) > 1 and isinstance(x, torch.Tensor):
        return x.flatten(1)
    return x.reshape([product(sizes[:axis]), product(sizes[axis:])])


def _squeeze(call: Call, x: Value, axes: Value = None) -> Value:
    given = list_of(call, "axes", axes)
    sizes = sizes_of(x)
    if given is None:
        dropped = [axis for axis, size in enumerate(sizes) if size == 1]
    else:
        dropped = axes_of(call, given, len(sizes))
    if isinstance(x, torch.Tensor):
        return x.squeeze(dropped) if dropped else x
    assert isinstance(x, np.ndarray)
    return x.reshape([size for axis, size in enumerate(x.shape) if axis not in dropped])


def _unsqueeze(call: Call, x: Value, axes: Value = None) -> Value:
    given = list_of(call, "axes", axes) or []
    new = sorted(axes_of(call, given, len(sizes_of(x)) + len(given)))
    if isinstance(x, torch.Tensor):
        for axis in new:
            x = x.unsqueeze(axis)
        return x
    assert isinstance(x, np.ndarray)
    return np.expand_dims(x, tuple(new))


def _transpose(call: Call, x: Value) -> Value:
    rank = len(sizes_of(x))
    perm = call.attr("perm", None) or list(reversed(range(rank)))
    if isinstance(x, torch.Tensor):
        return x if perm == list(range(rank)) else x.permute(perm)
    assert isinstance(x, np.ndarray)
    return x.transpose(perm)


def _concat(call: Call, *parts: Tensor) -> Tensor:
    axis = axis_of(call, call.attr("axis"), parts[0].ndim)
    return torch.cat(parts, axis) if len(parts) > 1 else parts[0]


def _concat_host(call: Call, *parts: Array) -> Array:
    joined = np.concatenate(parts, axis=axis_of(call, call.attr("axis"), parts[0].ndim))
    return tidy(joined) if any(p.dtype.kind in "iu" for p in parts) else joined


def _split(call: Call, x: Value, split: Value = None) -> tuple[Value, ...]:
    sizes = sizes_of(x)
    axis = axis_of(call, call.attr("axis", 0), len(sizes))
    parts = list_of(call, "split", split)
    if parts is None:
        parts = _even_parts(call, sizes[axis])
    if isinstance(x, torch.Tensor):
        return tuple(torch.split(x, parts, axis))
    assert isinstance(x, np.ndarray)
    cuts = np.cumsum([int(part) for part in parts])[:-1]
    return tuple(np.split(x, cuts, axis))


def _even_parts(call: Call, size: Size) -> list[Size]:
    """Return equal parts; where they cannot be equal the last one is smaller."""
    count = call.attr("num_outputs", None) or call.n_outputs
    part = (size + count - 1) // count
    return [part] * (count - 1) + [size - part * (count - 1)]


def _expand(call: Call, x: Value, shape: Value) -> Value:
    wanted: list[Size] = [*ints(shape)]
    sizes = sizes_of(x)
    rank = max(len(sizes), len(wanted))
    sizes = [1] * (rank - len(sizes)) + sizes
    wanted = [1] * (rank - len(wanted)) + wanted
    target = [_joint(size, want) for size, want in zip(sizes, wanted, strict=True)]
    if isinstance(x, np.ndarray) and concrete(target):
        return np.broadcast_to(x, [int(size) for size in target])
    return to_tensor(x).expand(target)


def _joint(size: Size, wanted: Size) -> Size:
    """Return the broadcast size; only plain ones broadcast, symbols are sizes above one."""
    if isinstance(wanted, int) and wanted == 1:
        return size
    return wanted if isinstance(size, int) and size == 1 else size


def _tile(call: Call, x: Value, repeats: Value) -> Value:
    counts = ints(repeats)
    if isinstance(x, np.ndarray) and concrete(counts):
        return np.tile(x, [int(count) for count in counts])
    return to_tensor(x).repeat(counts)


def _where(call: Call, condition: Tensor, a: Any, b: Any) -> Tensor:
    return torch.where(condition, a, b)


def _where_host(call: Call, condition: Array, a: Array, b: Array) -> Array:
    return (
        tidy(np.where(condition, a, b))
        if object in (a.dtype, b.dtype)
        else np.where(condition, a, b)
    )


def _depth_to_space(call: Call, x: Tensor) -> Tensor:
    block = call.attr("blocksize")
    batch, channels, height, width = x.shape
    kept = channels // (block * block)
    if call.attr("mode", "DCR") == "DCR":
        split = x.reshape(batch, block, block, kept, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        split = x.reshape(batch, kept, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
    return split.reshape(batch, kept, height * block, width * block)


def _space_to_depth(call: Call, x: Tensor) -> Tensor:
    block = call.attr("blocksize")
    batch, channels, height, width = x.shape
    tall, wide = height // block, width // block
    split = x.reshape(batch, channels, tall, block, wide, block)
    if call.attr("mode", "DCR") == "DCR":
        split = split.permute(0, 3, 5, 1, 2, 4)
    else:
        split = split.permute(0, 1, 3, 5, 2, 4)
    return split.reshape(batch, channels * block * block, tall, wide)


OPS: Final[Mapping[str, Op]] = {
    "Concat": Op(run=_concat, numpy=_concat_host),
    "DepthToSpace": Op(run=_depth_to_space),
    "Expand": Op(run=_expand, host=frozenset({1}), either=True),
    "Flatten": Op(run=_flatten, either=True),
    "Reshape": Op(run=_reshape, host=frozenset({1}), numpy=_reshape_host),
    "Shape": Op(run=_shape, either=True),
    "Size": Op(run=_size, either=True),
    "SpaceToDepth": Op(run=_space_to_depth),
    "Split": Op(run=_split, host=frozenset({1}), either=True),
    "Squeeze": Op(run=_squeeze, host=frozenset({1}), either=True),
    "Tile": Op(run=_tile, host=frozenset({1}), either=True),
    "Transpose": Op(run=_transpose, either=True),
    "Unsqueeze": Op(run=_unsqueeze, host=frozenset({1}), either=True),
    "Where": Op(run=_where, numpy=_where_host),
}
