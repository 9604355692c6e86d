"""The standard quantised operators."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.narrow import widen
from fusec.importers.onnx.ops.conv import convolve
from fusec.importers.onnx.ops.quantised import (
    as_float,
    as_int32,
    dequantise,
    integer_dtype,
    narrowed,
    quantise,
    shifted,
    spread,
)
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import TORCH, Value, elem_type, to_host

_UINT8 = 2


def _type_of(value: Value) -> int:
    """ONNX element type number of a value of either domain."""
    return elem_type(value.dtype if isinstance(value, Tensor) else to_host(value).dtype)


def quantize_linear(call: Call, x: Value, y_scale: Value, y_zero_point: Value = None) -> Value:
    """QuantizeLinear, per tensor, per axis or blocked, to every quantised type."""
    values, scale = widen(x), widen(y_scale)
    code = int(call.attr("output_dtype", 0))
    code = code or (_UINT8 if y_zero_point is None else _type_of(y_zero_point))
    precision = int(call.attr("precision", 0))
    work = TORCH[precision] if precision else _division(values, scale)
    axis, block = int(call.attr("axis", 1)), int(call.attr("block_size", 0))
    zero = None if y_zero_point is None else spread(widen(y_zero_point), values, axis, block)
    out = quantise(
        cast_to(values, work),
        cast_to(spread(scale, values, axis, block), work),
        _plain(zero),
        code,
        saturate=bool(call.attr("saturate", 1)),
    )
    return narrowed(out, code)


def _division(x: Tensor, scale: Tensor) -> torch.dtype:
    """The dtype of x / scale: the scale's, unless only `x` is a float of at least 16 bits."""
    usable = scale.dtype.is_floating_point and scale.element_size() > 1
    if usable and x.dtype.is_floating_point:
        return scale.dtype
    return torch.float32


def _plain(zero: Tensor | None) -> Tensor | None:
    """Float8 has no arithmetic in torch; bring a float8 zero point to float32."""
    if zero is None or not zero.dtype.is_floating_point or zero.element_size() > 1:
        return zero
    return as_float(zero)


def dequantize_linear(call: Call, x: Value, x_scale: Value, x_zero_point: Value = None) -> Tensor:
    """DequantizeLinear, per tensor, per axis or blocked, from every quantised type."""
    values, scale = widen(x), widen(x_scale)
    axis, block = int(call.attr("axis", 1)), int(call.attr("block_size", 0))
    code = int(call.attr("output_dtype", 0))
    zero = None if x_zero_point is None else spread(widen(x_zero_point), values, axis, block)
    dtype = TORCH[code] if code else scale.dtype
    return dequantise(values, spread(scale, values, axis, block), zero, dtype)


def dynamic_parameters(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale and zero point (float32, integral) that map the range of `x` to uint8."""
    low = torch.clamp(torch.amin(x), max=0.0)
    high = torch.clamp(torch.amax(x), min=0.0)
    scale = (high - low) / 255.0
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return scale, torch.round(torch.clamp(-low / scale, 0.0, 255.0))


def _dynamic_quantize(call: Call, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scale, zero = dynamic_parameters(x)
    return quantise(x, scale, zero, _UINT8), scale, cast_to(zero, torch.uint8)


def integer_matmul(a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None) -> Tensor:
    """Return (a - a_zero) @ (b - b_zero) as int32, exactly.

    Args:
        a: [..., M, K] 8-bit.
        b: [..., K, N] 8-bit.
        a_zero: one element, [M], or [..., M, 1].
        b_zero: one element, [N], or [..., 1, N].
    """
    terms = a.shape[-1]
    dtype = integer_dtype(terms)
    if a_zero is not None and a_zero.dim() == 1:
        a_zero = a_zero.unsqueeze(-1) if a_zero.shape[0] != 1 else a_zero.reshape(())
    product = torch.matmul(shifted(a, a_zero, dtype), shifted(b, b_zero, dtype))
    return as_int32(product, terms)


def _matmul_integer(
    call: Call, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    return integer_matmul(a, b, a_zero, b_zero)


def integer_conv(
    call: Call, x: Tensor, w: Tensor, x_zero: Tensor | None, w_zero: Tensor | None
) -> Tensor:
    """Return the convolution of (x - x_zero) and (w - w_zero) as int32, exactly.

    Args:
        call: gives pads, strides, dilations and group.
        x: [N, C, ...] 8-bit.
        w: [M, C/group, ...] 8-bit.
        x_zero: one element.
        w_zero: one element or [M].
    """
    terms = w[0].numel()
    dtype = integer_dtype(terms)
    x_zero = None if x_zero is None else x_zero.reshape(())
    w_zero = None if w_zero is None else spread(w_zero, w, 0)
    total = convolve(call, shifted(x, x_zero, dtype), shifted(w, w_zero, dtype), None)
    return as_int32(total, terms)


def _conv_integer(
    call: Call, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    return integer_conv(call, x, w, x_zero, w_zero)


def _qlinear_conv(
    call: Call,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    total = integer_conv(call, x, w, x_zero, w_zero)
    if bias is not None:
        total = total + spread(bias, total, 1)
    scale = x_scale.reshape(()) * w_scale / y_scale.reshape(())
    return _requantise(total, spread(scale, total, 1), y_zero.reshape(()))


def _qlinear_matmul(
    call: Call,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    total = integer_matmul(a, b, a_zero, b_zero)
    rows = a_scale.unsqueeze(-1) if a_scale.dim() == 1 and a_scale.shape[0] != 1 else a_scale
    columns = b_scale.reshape(()) if b_scale.numel() == 1 else b_scale
    rows = rows.reshape(()) if rows.numel() == 1 else rows
    return _requantise(
        total,
        as_float(rows) * as_float(columns) / as_float(y_scale),
        y_zero,
    )


def _requantise(total: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Scale an int32 sum to 8 bits; the sum is rounded to float32 first, as ONNX Runtime does."""
    low, high = (0, 255) if zero.dtype == torch.uint8 else (-128, 127)
    y = torch.round(as_float(total) * as_float(scale)) + cast_to(zero, torch.float32)
    return cast_to(torch.clamp(y, low, high), zero.dtype)


OPS: Mapping[str, Op] = {
    "QuantizeLinear": Op(run=quantize_linear, either=True),
    "DequantizeLinear": Op(run=dequantize_linear, either=True),
    "DynamicQuantizeLinear": Op(run=_dynamic_quantize),
    "MatMulInteger": Op(run=_matmul_integer),
    "ConvInteger": Op(run=_conv_integer),
    "QLinearConv": Op(run=_qlinear_conv),
    "QLinearMatMul": Op(run=_qlinear_matmul),
}
