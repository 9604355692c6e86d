"""Gathering and scattering by index."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import (
    Size,
    as_array,
    axis_of,
    cast_to,
    product,
    tidy,
    wrap_negative,
)
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, Value, ints, is_symbolic, to_tensor

Tensor = torch.Tensor

_REDUCE: Final = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _gather(call: Call, data: Value, indices: Value) -> Value:
    if isinstance(data, np.ndarray) and isinstance(indices, np.ndarray):
        axis = axis_of(call, call.attr("axis", 0), data.ndim)
        taken = as_array(np.take(data, indices.astype(np.int64), axis))
        return tidy(taken) if is_symbolic(data) else taken
    table = to_tensor(data)
    axis = axis_of(call, call.attr("axis", 0), table.ndim)
    if isinstance(indices, np.ndarray) and not is_symbolic(indices):
        return _gather_known(table, axis, indices)
    at = to_tensor(indices)
    # Indexing counts negative indices from the end, as ONNX does; embedding would not.
    picked: Tensor = torch.ops.aten.index.Tensor(table, [*[None] * axis, cast_to(at, torch.int64)])
    return picked


def _gather_known(table: Tensor, axis: int, indices: Array) -> Tensor:
    if indices.ndim == 0:
        return table.select(axis, int(indices))
    size: Size = table.shape[axis]
    flat = indices.reshape(-1).astype(np.int64)
    if not isinstance(size, int) and (flat < 0).any():
        at = wrap_negative(torch.from_numpy(flat), size)
        return _restore(table.index_select(axis, at), table, axis, indices)
    flat = np.where(flat < 0, flat + size, flat) if (flat < 0).any() else flat
    run = len(flat) > 0 and np.array_equal(flat, np.arange(flat[0], flat[0] + len(flat)))
    if run and int(flat[0]) >= 0:
        picked = table.narrow(axis, int(flat[0]), len(flat))
    else:
        picked = table.index_select(axis, torch.from_numpy(flat))
    return _restore(picked, table, axis, indices)


def _restore(picked: Tensor, table: Tensor, axis: int, indices: Array) -> Tensor:
    if indices.ndim == 1:
        return picked
    return picked.reshape(*table.shape[:axis], *indices.shape, *table.shape[axis + 1 :])


def _gather_elements(call: Call, data: Tensor, indices: Tensor) -> Tensor:
    axis = axis_of(call, call.attr("axis", 0), data.ndim)
    return torch.gather(data, axis, wrap_negative(indices, data.shape[axis]))


def _scatter_elements(call: Call, data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis = axis_of(call, call.attr("axis", 0), data.ndim)
    at = wrap_negative(indices, data.shape[axis])
    reduction = call.attr("reduction", "none")
    if reduction == "none":
        return torch.scatter(data, axis, at, updates)
    if reduction not in _REDUCE:
        call.fail(f"reduction is '{reduction}'; known are none, {', '.join(_REDUCE)}")
    return torch.scatter_reduce(data, axis, at, updates, _REDUCE[reduction])


def _gather_nd(call: Call, data: Tensor, indices: Tensor) -> Tensor:
    batch = call.attr("batch_dims", 0)
    depth = indices.shape[-1]
    parts: list[Tensor] = []
    for axis in range(batch):
        shape = [1] * (indices.ndim - 1)
        shape[axis] = -1
        parts.append(torch.arange(data.shape[axis]).reshape(shape))
    parts += [cast_to(indices[..., k], torch.int64) for k in range(depth)]
    picked: Tensor = torch.ops.aten.index.Tensor(data, parts)
    return picked


def _scatter_nd(call: Call, data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    depth = indices.shape[-1]
    reduction = call.attr("reduction", "none")
    parts = [cast_to(indices[..., k], torch.int64) for k in range(depth)]
    if reduction in ("none", "add"):
        return torch.index_put(data, tuple(parts), updates, accumulate=reduction == "add")
    if reduction not in _REDUCE:
        call.fail(f"reduction is '{reduction}'; known are none, {', '.join(_REDUCE)}")
    rows = product(data.shape[:depth])
    flat = data.reshape(rows, -1)
    linear = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for k, part in enumerate(parts):
        linear = linear * data.shape[k] + wrap_negative(part, data.shape[k])
    values = updates.reshape(-1, flat.shape[1])
    at = linear.reshape(-1, 1).expand(-1, flat.shape[1])
    return torch.scatter_reduce(flat, 0, at, values, _REDUCE[reduction]).reshape(data.shape)


def _scatter_nd_host(call: Call, data: Array, indices: Array, updates: Array) -> Value:
    if call.attr("reduction", "none") != "none":
        return _scatter_nd(call, to_tensor(data), to_tensor(indices), to_tensor(updates))
    symbolic = object in (data.dtype, updates.dtype)
    result = data.astype(object) if symbolic else data.copy()
    result[tuple(np.moveaxis(indices, -1, 0))] = updates
    return tidy(result)


def _tensor_scatter(
    call: Call, cache: Tensor, update: Tensor, write_indices: Tensor | None = None
) -> Tensor:
    """Write `update` into `cache` along one axis, at a start of its own per sample."""
    axis = axis_of(call, call.attr("axis", -2), cache.ndim)
    steps = torch.arange(update.shape[axis])
    shape = [1] * cache.ndim
    shape[axis] = -1
    at = steps.reshape(shape)
    if write_indices is not None:
        at = at + write_indices.to(torch.int64).reshape(-1, *[1] * (cache.ndim - 1))
    if call.attr("mode", "linear") == "circular":
        at = at % cache.shape[axis]
    return torch.scatter(cache, axis, at.expand(update.shape), update)


def _nonzero(call: Call, x: Value) -> Value:
    if isinstance(x, np.ndarray):
        return np.stack(np.nonzero(x)) if x.ndim else np.zeros((0, int(bool(x))), dtype=np.int64)
    assert isinstance(x, torch.Tensor)
    return torch.nonzero(x).t()


def _compress(call: Call, data: Tensor, condition: Value) -> Tensor:
    axis = call.attr("axis", None)
    if axis is None:
        data, axis = data.reshape(-1), 0
    axis = axis_of(call, axis, data.ndim)
    if isinstance(condition, np.ndarray):
        at = torch.from_numpy(np.flatnonzero(condition))
    else:
        at = torch.nonzero(to_tensor(condition)).reshape(-1)
    return data.index_select(axis, at)


def _compress_any(call: Call, data: Value, condition: Value) -> Tensor:
    return _compress(call, to_tensor(data), condition)


def _unique(call: Call, x: Tensor) -> tuple[Tensor, ...]:
    axis = call.attr("axis", None)
    flat = x.reshape(-1) if axis is None else x
    along = 0 if axis is None else axis_of(call, axis, x.ndim)
    values, inverse, counts = torch.unique(
        flat, sorted=True, return_inverse=True, return_counts=True, dim=along
    )
    inverse = inverse.reshape(-1)
    n = inverse.shape[0]
    first = torch.full((counts.shape[0],), n, dtype=torch.int64)
    first = first.scatter_reduce(0, inverse, torch.arange(n), "amin")
    if not call.attr("sorted", 1):
        order = torch.argsort(first)
        rank = torch.argsort(order)
        values, counts, first = values.index_select(along, order), counts[order], first[order]
        inverse = rank[inverse]
    return values, first, inverse, counts


def _reverse_sequence(call: Call, x: Tensor, lengths: Tensor) -> Tensor:
    time, batch = call.attr("time_axis", 0), call.attr("batch_axis", 1)
    shape = [1] * x.ndim
    shape[time] = -1
    step = torch.arange(x.shape[time]).reshape(shape)
    shape = [1] * x.ndim
    shape[batch] = -1
    length = lengths.to(torch.int64).reshape(shape)
    at = torch.where(step < length, length - 1 - step, step)
    return torch.gather(x, time, at.expand(x.shape))


def _top_k(call: Call, x: Tensor, k: Value = None) -> tuple[Tensor, Tensor]:
    """Return the k extremes; of equal ones the lower index comes first, as ONNX says."""
    axis = axis_of(call, call.attr("axis", -1), x.ndim)
    count = ints(k)[0] if k is not None else call.attr("k")
    largest = bool(call.attr("largest", 1))
    wide = x if x.dtype not in (torch.uint16, torch.uint32, torch.uint64) else x.to(torch.int64)
    values, indices = torch.sort(wide, dim=axis, descending=largest, stable=True)
    return cast_to(values.narrow(axis, 0, count), x.dtype), indices.narrow(axis, 0, count)


def _scan(function: Any, neutral: int, call: Call, x: Tensor, axis: Value) -> Tensor:
    along = axis_of(call, ints(axis)[0], x.ndim)
    reverse, exclusive = call.attr("reverse", 0), call.attr("exclusive", 0)
    x = x.flip(along) if reverse else x
    if exclusive:
        pad = torch.full_like(x.narrow(along, 0, 1), neutral)
        x = torch.cat([pad, x.narrow(along, 0, x.shape[along] - 1)], along)
    y = cast_to(function(x, along), x.dtype)
    return y.flip(along) if reverse else y


OPS: Final[Mapping[str, Op]] = {
    "Compress": Op(run=_compress_any, either=True),
    "CumProd": Op(
        run=lambda call, x, axis: _scan(torch.cumprod, 1, call, x, axis), host=frozenset({1})
    ),
    "CumSum": Op(
        run=lambda call, x, axis: _scan(torch.cumsum, 0, call, x, axis), host=frozenset({1})
    ),
    "Gather": Op(run=_gather, either=True),
    "GatherElements": Op(run=_gather_elements),
    "GatherND": Op(run=_gather_nd),
    "NonZero": Op(run=_nonzero, either=True),
    "ReverseSequence": Op(run=_reverse_sequence),
    "Scatter": Op(run=_scatter_elements),
    "ScatterElements": Op(run=_scatter_elements),
    "ScatterND": Op(run=_scatter_nd, numpy=_scatter_nd_host),
    "TensorScatter": Op(run=_tensor_scatter),
    "TopK": Op(run=_top_k, host=frozenset({1})),
    "Unique": Op(run=_unique),
}
