"""Reductions over axes."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import (
    as_array,
    axes_of,
    axis_of,
    cast_to,
    highest,
    list_of,
    lowest,
    tidy,
    widened,
)
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, Value

Tensor = torch.Tensor
Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _axes(call: Call, rank: int, axes: Value) -> list[int] | None:
    """Return the reduced axes, or None where the node reduces nothing."""
    given = list_of(call, "axes", axes)
    if given:
        return axes_of(call, given, rank)
    return None if call.attr("noop_with_empty_axes", 0) else list(range(rank))


def _reduction(
    function: Reduction,
    *,
    before: Callable[[Tensor], Tensor] | None = None,
    after: Callable[[Tensor], Tensor] | None = None,
    numpy: Callable[..., Any] | None = None,
) -> Op:
    """Return an operator that maps, reduces and maps again; without axes it only maps."""

    def run(call: Call, x: Tensor, axes: Value = None) -> Tensor:
        keep = bool(call.attr("keepdims", 1))
        reduced = _axes(call, x.ndim, axes)

        def whole(value: Tensor) -> Tensor:
            value = value if before is None else before(value)
            # A rank-0 tensor has no axis, but is reduced all the same (a sum of one element).
            value = value if reduced is None else function(value, reduced, keep)
            return value if after is None else after(value)

        return cast_to(widened(whole)(x), x.dtype)

    def host(call: Call, x: Array, axes: Value = None) -> Array:
        assert numpy is not None
        reduced = _axes(call, x.ndim, axes)
        if reduced is None:
            return x
        keep = bool(call.attr("keepdims", 1))
        result = as_array(numpy(x, axis=tuple(reduced), keepdims=keep))
        return tidy(result) if x.dtype == object else result.astype(x.dtype)

    return Op(run=run, host=frozenset({1}), numpy=host if numpy is not None else None)


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep) if axes else x


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if not axes:
        return x
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    count = 1
    for axis in axes:
        count = count * x.shape[axis]
    return torch.div(x.sum(axes, keepdim=keep), count, rounding_mode="trunc")


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _largest(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _extreme(torch.amax, lowest(x.dtype), x, axes, keep)


def _smallest(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _extreme(torch.amin, highest(x.dtype), x, axes, keep)


def _extreme(
    function: Callable[..., Tensor], empty: Any, x: Tensor, axes: list[int], keep: bool
) -> Tensor:
    if not axes:
        return x
    if any(isinstance(x.shape[axis], int) and x.shape[axis] == 0 for axis in axes):
        kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        shape = kept if keep else [n for axis, n in enumerate(x.shape) if axis not in axes]
        return x.new_full(shape, empty)
    return function(x, axes, keepdim=keep)


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(x, axes, keepdim=keep) if axes else x


def _in_float(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Compute in float64 for integers, whose result is truncated by the caller."""
    return lambda x: function(x if x.is_floating_point() else x.to(torch.float64))


def _log_sum_exp_any(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _in_float(lambda value: _log_sum_exp(value, axes, keep))(x)


def _arg(function: Callable[..., Tensor]) -> Op:
    def run(call: Call, x: Tensor) -> Tensor:
        axis = axis_of(call, call.attr("axis", 0), x.ndim)
        keep = bool(call.attr("keepdims", 1))
        if not call.attr("select_last_index", 0):
            return function(x, axis, keepdim=keep)
        last = function(x.flip(axis), axis, keepdim=keep)
        return x.shape[axis] - 1 - last

    return Op(run=run)


def _host_max(x: Array, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.max(x, axis=axis, keepdims=keepdims)


def _host_min(x: Array, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.min(x, axis=axis, keepdims=keepdims)


OPS: Final[Mapping[str, Op]] = {
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "ReduceL1": _reduction(_sum, before=torch.abs),
    "ReduceL2": _reduction(_sum, before=torch.square, after=_in_float(torch.sqrt)),
    "ReduceLogSum": _reduction(_sum, after=_in_float(torch.log)),
    "ReduceLogSumExp": _reduction(_log_sum_exp_any),
    "ReduceMax": _reduction(_largest, numpy=_host_max),
    "ReduceMean": _reduction(_mean),
    "ReduceMin": _reduction(_smallest, numpy=_host_min),
    "ReduceProd": _reduction(_prod, numpy=np.prod),
    "ReduceSum": _reduction(_sum, numpy=np.sum),
    "ReduceSumSquare": _reduction(_sum, before=torch.square),
}
