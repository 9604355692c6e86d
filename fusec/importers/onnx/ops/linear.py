"""Matrix products and determinants."""

from collections.abc import Mapping
from typing import Final

import torch
import torch.nn.functional as F

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import widened
from fusec.importers.onnx.table import Op

Tensor = torch.Tensor


def _matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    return widened(torch.matmul)(a, b)


def _gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    alpha, beta = call.attr("alpha", 1.0), call.attr("beta", 1.0)
    a = a.t() if call.attr("transA", 0) else a
    weight = b if call.attr("transB", 0) else b.t()
    if not a.dtype.is_floating_point:
        return _integer_gemm(a, weight.t(), c, alpha, beta)
    scaled = c if c is None or beta == 1.0 else c * beta
    bias = _row_bias(scaled, weight)
    if alpha == 1.0:
        product = F.linear(a, weight, bias)
    else:
        product = F.linear(a, weight) * alpha
        product = product if bias is None else product + bias
    return product if scaled is None or bias is not None else product + scaled


def _row_bias(c: Tensor | None, weight: Tensor) -> Tensor | None:
    """Return the bias as one row if it is one, whatever rank it is spelled with."""
    if c is None or c.ndim == 0 or c.shape[-1] != weight.shape[0]:
        return None
    if c.ndim == 1:
        return c
    return c.reshape(-1) if c.shape[0] == 1 else None


def _integer_gemm(a: Tensor, b: Tensor, c: Tensor | None, alpha: float, beta: float) -> Tensor:
    def scaled(value: Tensor, factor: float) -> Tensor:
        if factor == 1.0:
            return value
        return (value.to(torch.float64) * factor).to(value.dtype)

    product = scaled(widened(torch.matmul)(a, b), alpha)
    return product if c is None else widened(torch.add)(product, scaled(c, beta))


def _einsum(call: Call, *operands: Tensor) -> Tensor:
    equation = call.attr("equation").replace(" ", "")
    return widened(lambda *tensors: torch.einsum(equation, *tensors))(*operands)


def _det(call: Call, x: Tensor) -> Tensor:
    y: Tensor = torch.linalg.det(x)
    return y


OPS: Final[Mapping[str, Op]] = {
    "Det": Op(run=_det),
    "Einsum": Op(run=_einsum),
    "Gemm": Op(run=_gemm),
    "MatMul": Op(run=_matmul),
}
