"""Softmax, its logarithm and hardmax, with the flattening of opsets before 13."""

from collections.abc import Callable, Mapping
from typing import Final

import torch

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import axis_of, product
from fusec.importers.onnx.table import Op

Tensor = torch.Tensor


def _family(function: Callable[[Tensor, int], Tensor]) -> Op:
    def run(call: Call, x: Tensor) -> Tensor:
        old = call.opset < 13
        axis = axis_of(call, call.attr("axis", 1 if old else -1), x.ndim)
        if not old or axis == x.ndim - 1 or x.ndim == 0:
            return function(x, axis)
        # The flattened rows span all axes from `axis` on.
        rows = x.reshape(*x.shape[:axis], product(x.shape[axis:]))
        return function(rows, axis).reshape(x.shape)

    return Op(run=run)


def _hardmax(x: Tensor, axis: int) -> Tensor:
    first = x.argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, first, 1.0)


OPS: Final[Mapping[str, Op]] = {
    "Hardmax": _family(_hardmax),
    "LogSoftmax": _family(torch.log_softmax),
    "Softmax": _family(torch.softmax),
}
