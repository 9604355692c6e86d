"""Operators that make tensors from sizes: ranges, one-hot rows, diagonals and triangles."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import Size, axis_of
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import (
    Array,
    Value,
    ints,
    is_symbolic,
    torch_dtype,
)

Tensor = torch.Tensor


def _range(call: Call, start: Array, limit: Array, delta: Array) -> Value:
    if any(is_symbolic(value) for value in (start, limit, delta)):
        first, last, step = (value.reshape(-1)[0] for value in (start, limit, delta))
        counted: Tensor = torch.arange(first, last, step)
        return counted
    dtype = limit.dtype if limit.dtype != object else np.dtype(np.int64)
    first, last, step = (value.reshape(-1)[0] for value in (start, limit, delta))
    if dtype.kind in "iu":
        return np.arange(int(first), int(last), int(step)).astype(dtype)
    count = max(int(np.ceil((float(last) - float(first)) / float(step))), 0)
    values: Array = (np.arange(count) * float(step) + float(first)).astype(dtype)
    return values


def _eye_like(call: Call, x: Tensor) -> Tensor:
    code = call.attr("dtype", None)
    dtype = x.dtype if code is None else torch_dtype(code)
    rows, columns = (torch.arange(size) for size in x.shape)
    on: Tensor = rows[:, None] + call.attr("k", 0) == columns[None, :]
    return on.to(dtype)


def _trilu(call: Call, x: Tensor, k: Value = None) -> Tensor:
    diagonal = 0 if k is None else int(ints(k)[0])
    if any(isinstance(size, int) and size == 0 for size in x.shape):
        return x
    return torch.triu(x, diagonal) if call.attr("upper", 1) else torch.tril(x, diagonal)


def _one_hot(call: Call, indices: Tensor, depth: Value, values: Tensor) -> Tensor:
    count: Size = ints(depth)[0]
    axis = call.attr("axis", -1)
    axis = axis_of(call, axis, indices.ndim + 1)
    at = indices.to(torch.int64)
    at = torch.where(at < 0, at + count, at).unsqueeze(axis)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = -1
    hit = at == torch.arange(count).reshape(shape)
    return torch.where(hit, values[1], values[0])


OPS: Final[Mapping[str, Op]] = {
    "EyeLike": Op(run=_eye_like),
    "OneHot": Op(run=_one_hot, host=frozenset({1})),
    "Range": Op(run=_range, host=frozenset({0, 1, 2})),
    "Trilu": Op(run=_trilu, host=frozenset({1})),
}
