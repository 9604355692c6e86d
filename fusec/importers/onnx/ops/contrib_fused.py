"""Products, convolutions and activations of com.microsoft that an optimiser has fused."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops import linear, pool
from fusec.importers.onnx.ops.contrib_quant import MICROSOFT
from fusec.importers.onnx.ops.conv import convolve
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, ints
from fusec.kernels.rnn.activations import FUNCTIONS


def _oriented(call: Call, x: Tensor, side: str) -> Tensor:
    """Apply trans and transBatch: the batch axes may stand before or after the row axis."""
    if x.dim() > 1 and call.attr(f"transBatch{side}", 0):
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if x.dim() > 1 and call.attr(f"trans{side}", 0) else x


def _matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    product = torch.matmul(_oriented(call, a, "A"), _oriented(call, b, "B"))
    alpha = float(call.attr("alpha", 1.0))
    return product if alpha == 1.0 else product * alpha


def _activate(call: Call, y: Tensor, alpha: float, beta: float) -> Tensor:
    name = str(call.attr("activation", "")).lower()
    if not name:
        return y
    if name == "clip":
        return torch.clamp(y, alpha, beta)
    if name == "hardswish":
        return F.hardswish(y)
    if name not in FUNCTIONS:
        call.fail(f"activation is {name!r}, want one of {sorted(FUNCTIONS)}")
    return FUNCTIONS[name](y, alpha, beta)


def _conv(
    call: Call, x: Tensor, w: Tensor, bias: Tensor | None = None, other: Tensor | None = None
) -> Tensor:
    y = convolve(call, x, w, bias)
    y = y if other is None else y + other
    alpha, beta = [*call.attr("activation_params", []), 0.0, 0.0][:2]
    return _activate(call, y, alpha, beta)


def _gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    y: Any = linear.OPS["Gemm"].run(call, a, b, c)
    alpha = float(call.attr("activation_alpha", 0.0))
    return _activate(call, y, alpha, float(call.attr("activation_beta", 0.0)))


def _gelu(call: Call, x: Tensor) -> Tensor:
    return F.gelu(x)


def _bias_gelu(call: Call, x: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(x + bias)


def _fast_gelu(call: Call, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


def _quick_gelu(call: Call, x: Tensor) -> Tensor:
    return x * torch.sigmoid(float(call.attr("alpha", 1.702)) * x)


def _bias_add(call: Call, x: Tensor, bias: Tensor, skip: Tensor) -> Tensor:
    return x + bias + skip


def _bias_split_gelu(call: Call, x: Tensor, bias: Tensor) -> Tensor:
    left, right = (x + bias).chunk(2, dim=-1)
    return left * F.gelu(right)


def _bias_softmax(call: Call, x: Tensor, bias: Tensor) -> Tensor:
    axis = int(call.attr("axis", 1)) % x.dim()
    if not call.attr("is_inner_broadcast"):
        # The bias stands for the outer axes; it repeats over those between them and `axis`.
        gap = [1] * (x.dim() - bias.dim())
        bias = bias.reshape(*bias.shape[: bias.dim() - (x.dim() - axis)], *gap, *x.shape[axis:])
    y = torch.softmax((x + bias).flatten(axis), dim=-1)
    return y.reshape(x.shape)


def _bias_dropout(
    call: Call,
    x: Tensor,
    bias: Tensor,
    residual: Tensor | None = None,
    ratio: Tensor | None = None,
    training: Tensor | None = None,
) -> tuple[Tensor, ...]:
    y = x + bias
    y = y if residual is None else y + residual
    return (y, torch.ones_like(y, dtype=torch.bool)) if call.wants(1) else (y,)


def _inverse(call: Call, x: Tensor) -> Tensor:
    inverse: Tensor = torch.linalg.inv(x)
    return inverse


def _distances(call: Call, a: Tensor, b: Tensor) -> Tensor:
    gap = a.unsqueeze(1) - b.unsqueeze(0)
    squares = (gap * gap).sum(dim=-1)
    metric = str(call.attr("metric", "sqeuclidean"))
    if metric not in ("euclidean", "sqeuclidean"):
        call.fail(f"metric is {metric!r}, want euclidean or sqeuclidean")
    return torch.sqrt(squares) if metric == "euclidean" else squares


def _expand_dims(call: Call, x: Tensor, axis: Array) -> Tensor:
    return x.unsqueeze(int(ints(axis)[0]))


def _trilu(call: Call, x: Tensor, k: Array | None = None) -> Tensor:
    diagonal = 0 if k is None else int(ints(k)[0])
    return torch.triu(x, diagonal) if call.attr("upper", 1) else torch.tril(x, diagonal)


def _complex_product(conjugate: bool) -> Op:
    def run(call: Call, a: Tensor, b: Tensor) -> Tensor:
        left, right = torch.view_as_complex(a), torch.view_as_complex(b)
        return torch.view_as_real(left * (right.conj() if conjugate else right))

    return Op(run=run)


def _signal_axes(call: Call) -> list[int]:
    return list(range(-int(call.attr("signal_ndim", 1)), 0))


def _rfft(call: Call, x: Tensor) -> Tensor:
    norm = "ortho" if call.attr("normalized", 0) else "backward"
    return torch.view_as_real(torch.fft.rfftn(x, dim=_signal_axes(call), norm=norm))


def _irfft(call: Call, x: Tensor) -> Tensor:
    norm = "ortho" if call.attr("normalized", 0) else "backward"
    signal = torch.view_as_complex(x.contiguous())
    wave: Tensor = torch.fft.irfftn(signal, dim=_signal_axes(call), norm=norm)
    return wave


def _nhwc_max_pool(call: Call, x: Tensor) -> Tensor:
    y: Any = pool.OPS["MaxPool"].run(call, x.movedim(-1, 1))
    return torch.movedim(y, 1, -1)


_TABLE: Mapping[str, Op] = {
    "FusedMatMul": Op(run=_matmul),
    "TransposeMatMul": Op(run=_matmul),
    "FusedConv": Op(run=_conv),
    "FusedGemm": Op(run=_gemm),
    "Gelu": Op(run=_gelu),
    "BiasGelu": Op(run=_bias_gelu),
    "FastGelu": Op(run=_fast_gelu),
    "QuickGelu": Op(run=_quick_gelu),
    "BiasAdd": Op(run=_bias_add),
    "BiasSplitGelu": Op(run=_bias_split_gelu),
    "BiasSoftmax": Op(run=_bias_softmax),
    "BiasDropout": Op(run=_bias_dropout),
    "Inverse": Op(run=_inverse),
    "CDist": Op(run=_distances),
    "ExpandDims": Op(run=_expand_dims, host=frozenset({1})),
    "Trilu": Op(run=_trilu, host=frozenset({1})),
    "ComplexMul": _complex_product(conjugate=False),
    "ComplexMulConj": _complex_product(conjugate=True),
    "Rfft": Op(run=_rfft),
    "Irfft": Op(run=_irfft),
    "NhwcMaxPool": Op(run=_nhwc_max_pool),
}
DOMAIN_OPS: Mapping[tuple[str, str], Op] = {(MICROSOFT, k): op for k, op in _TABLE.items()}
