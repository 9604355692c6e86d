"""Comparisons, logic and bitwise operators."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.arithmetic import BOTH
from fusec.importers.onnx.ops.support import as_array, tidy, widened
from fusec.importers.onnx.ops.unsigned import ordered
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array

Tensor = torch.Tensor


def _compare(function: Callable[..., Tensor], numpy: Callable[[Array, Array], Any]) -> Op:
    def host(call: Call, a: Array, b: Array) -> Array:
        return np.asarray(numpy(a, b), dtype=np.bool_)

    def run(call: Call, a: Any, b: Any) -> Tensor:
        return widened(_tensor_first(function), ordered(function))(a, b)

    return Op(run=run, numpy=host, scalar=BOTH)


def _tensor_first(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let the first operand be a number, which torch's comparisons do not take."""

    def run(a: Any, b: Any) -> Tensor:
        return function(a if isinstance(a, Tensor) else torch.full((), a, dtype=b.dtype), b)

    return run


def _bits(function: Callable[..., Tensor], numpy: Callable[..., Any]) -> Op:
    return Op(
        run=lambda call, *inputs: widened(function)(*inputs),
        numpy=lambda call, *inputs: tidy(as_array(numpy(*inputs))),
    )


OPS: Final[Mapping[str, Op]] = {
    "And": _bits(torch.logical_and, np.logical_and),
    "BitwiseAnd": _bits(torch.bitwise_and, np.bitwise_and),
    "BitwiseNot": _bits(torch.bitwise_not, np.bitwise_not),
    "BitwiseOr": _bits(torch.bitwise_or, np.bitwise_or),
    "BitwiseXor": _bits(torch.bitwise_xor, np.bitwise_xor),
    "Equal": _compare(torch.eq, np.equal),
    "Greater": _compare(torch.gt, np.greater),
    "GreaterOrEqual": _compare(torch.ge, np.greater_equal),
    "Less": _compare(torch.lt, np.less),
    "LessOrEqual": _compare(torch.le, np.less_equal),
    "Not": _bits(torch.logical_not, np.logical_not),
    "Or": _bits(torch.logical_or, np.logical_or),
    "Xor": _bits(torch.logical_xor, np.logical_xor),
}
