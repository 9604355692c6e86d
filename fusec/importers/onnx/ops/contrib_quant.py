"""Quantised operators of com.microsoft, as ONNX Runtime's quantisation tools write them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import fusec.kernels.rnn_quantised.op  # noqa: F401  (defines fusec::dynamic_quantize_lstm)
from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops import pool
from fusec.importers.onnx.ops.quant import (
    dequantize_linear,
    dynamic_parameters,
    integer_matmul,
    quantize_linear,
)
from fusec.importers.onnx.ops.quantised import as_float, dequantise, quantise
from fusec.importers.onnx.ops.support import axis_of, cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import elem_type
from fusec.kernels.rnn.activations import Gate, arguments, resolve

MICROSOFT = "com.microsoft"
_UINT8 = 2


def _real(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """Bring an 8-bit tensor to float32; scale and zero point hold one element."""
    zero = None if zero is None else zero.reshape(())
    return dequantise(x, scale.reshape(()), zero, torch.float32)


def _back(y: Tensor, scale: Tensor, zero: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Quantise float32 values to `dtype`."""
    zero = None if zero is None else zero.reshape(())
    return quantise(y, as_float(scale.reshape(())), zero, elem_type(dtype))


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Op:
    def run(
        call: Call,
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor | None,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor | None,
        y_scale: Tensor,
        y_zero: Tensor | None = None,
    ) -> Tensor:
        y = function(_real(a, a_scale, a_zero), _real(b, b_scale, b_zero))
        return _back(y, y_scale, y_zero, a.dtype)

    return Op(run=run)


def _unary(function: Callable[[Call, Tensor], Tensor]) -> Op:
    def run(
        call: Call,
        x: Tensor,
        x_scale: Tensor,
        x_zero: Tensor | None,
        y_scale: Tensor,
        y_zero: Tensor | None = None,
    ) -> Tensor:
        return _back(function(call, _real(x, x_scale, x_zero)), y_scale, y_zero, x.dtype)

    return Op(run=run)


def _leaky(call: Call, x: Tensor) -> Tensor:
    return F.leaky_relu(x, float(call.attr("alpha", 0.01)))


def _softmax(call: Call, x: Tensor) -> Tensor:
    axis = axis_of(call, int(call.attr("axis", -1)), x.dim())
    # The attribute names the opset whose Softmax is meant: before 13 all axes from `axis` on.
    if int(call.attr("opset", 13)) >= 13:
        return torch.softmax(x, dim=axis)
    return torch.softmax(x.flatten(axis), dim=axis).reshape(x.shape)


def _global_average(call: Call, x: Tensor) -> Tensor:
    last = bool(call.attr("channels_last", 0))
    axes = list(range(1, x.dim() - 1) if last else range(2, x.dim()))
    return torch.mean(x, dim=axes, keepdim=True)


def _average(call: Call, x: Tensor) -> Tensor:
    last = bool(call.attr("channels_last", 0))
    y: Any = pool.OPS["AveragePool"].run(call, x.movedim(-1, 1) if last else x)
    return torch.movedim(y, 1, -1) if last else torch.as_tensor(y)


def _reduce_mean(call: Call, x: Tensor) -> Tensor:
    axes = [int(a) for a in call.attr("axes", range(x.dim()))]
    return torch.mean(x, dim=axes, keepdim=bool(call.attr("keepdims", 1)))


def _concat(call: Call, y_scale: Tensor, y_zero: Tensor, *triples: Tensor) -> Tensor:
    parts = [_real(*triples[i : i + 3]) for i in range(0, len(triples), 3)]
    return _back(torch.cat(parts, dim=int(call.attr("axis"))), y_scale, y_zero, y_zero.dtype)


def _where(
    call: Call,
    condition: Tensor,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    y: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    z_scale: Tensor,
    z_zero: Tensor,
) -> Tensor:
    chosen = torch.where(condition, _real(x, x_scale, x_zero), _real(y, y_scale, y_zero))
    return _back(chosen, z_scale, z_zero, z_zero.dtype)


def _gemm(
    call: Call,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero: Tensor | None = None,
) -> Tensor:
    a = a.t() if call.attr("transA", 0) else a
    b = b.t() if call.attr("transB", 0) else b
    total = integer_matmul(a, b, a_zero.reshape(()), _columns(b_zero))
    total = total if c is None else total + c
    scale = float(call.attr("alpha", 1.0)) * a_scale.reshape(()) * _columns(b_scale)
    if y_scale is None:
        return as_float(total) * scale
    scaled = as_float(total) * (scale / y_scale.reshape(()))
    zero = torch.zeros((), dtype=a.dtype) if y_zero is None else y_zero.reshape(())
    return quantise(scaled, torch.ones(()), zero, elem_type(zero.dtype))


def _columns(value: Tensor) -> Tensor:
    """One element per tensor becomes a scalar; one per column stays."""
    return value.reshape(()) if value.numel() == 1 else value


def matmul_integer_to_float(
    call: Call,
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """MatMulIntegerToFloat."""
    a_zero = None if a_zero is None else a_zero.reshape(())
    b_zero = None if b_zero is None else _columns(b_zero)
    total = integer_matmul(a, b, a_zero, b_zero)
    y = cast_to(
        as_float(total) * (as_float(a_scale).reshape(()) * as_float(_columns(b_scale))),
        a_scale.dtype,
    )
    return y if bias is None else y + bias


def _dynamic_matmul(
    call: Call,
    a: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    scale, zero = dynamic_parameters(a)
    levels = quantise(a, scale, zero, _UINT8)
    return matmul_integer_to_float(call, levels, b, scale, b_scale, zero, b_zero, bias)


def _lstm(
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    peephole: Tensor | None,
    w_scale: Tensor,
    w_zero: Tensor,
    r_scale: Tensor,
    r_zero: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """DynamicQuantizeLSTM: x [T, B, I], w [D, I, 4H], r [D, H, 4H]; scales [D] or [D, 4H]."""
    runs = _directions(call)
    names = [str(n).lower() for n in call.attr("activations", [])] or [
        "sigmoid",
        "tanh",
        "tanh",
    ] * 2
    gates = resolve(names, call.attr("activation_alpha", []), call.attr("activation_beta", []))
    empty = x.new_zeros((len(runs), x.shape[1], r.shape[1]))
    h0, c0 = empty if h0 is None else h0, empty if c0 is None else c0
    clip = float(call.attr("clip", 0.0)) or None
    results = [
        torch.ops.fusec.dynamic_quantize_lstm(
            x,
            as_float(w[d]) - as_float(w_zero[d]),
            w_scale[d],
            as_float(r[d]) - as_float(r_zero[d]),
            r_scale[d],
            None if b is None else torch.add(*b[d].chunk(2)),
            h0[d],
            c0[d],
            None if peephole is None else peephole[d],
            None if lengths is None else cast_to(lengths, torch.int64),
            reverse=reverse,
            clip=clip,
            input_forget=bool(call.attr("input_forget", 0)),
            **_activations(gates[3 * d : 3 * d + 3]),
        )
        for d, reverse in enumerate(runs)
    ]
    ys, hs, cs = zip(*results, strict=True)
    return torch.stack(ys, dim=1), torch.stack(hs), torch.stack(cs)


def _activations(gates: Sequence[Gate]) -> dict[str, Any]:
    names, alpha, beta = arguments(gates)
    return {"activations": names, "alpha": alpha, "beta": beta}


def _directions(call: Call) -> Sequence[bool]:
    """Say for each direction whether it walks backwards."""
    table: Mapping[str, Sequence[bool]] = {
        "forward": (False,),
        "reverse": (True,),
        "bidirectional": (False, True),
    }
    name = str(call.attr("direction", "forward"))
    if name not in table:
        call.fail(f"direction is {name!r}, want one of {sorted(table)}")
    return table[name]


_TABLE: Mapping[str, Op] = {
    "QuantizeLinear": Op(run=quantize_linear, either=True),
    "DequantizeLinear": Op(run=dequantize_linear, either=True),
    "QLinearAdd": _binary(torch.add),
    "QLinearMul": _binary(torch.mul),
    "QLinearSigmoid": _unary(lambda call, x: torch.sigmoid(x)),
    "QLinearLeakyRelu": _unary(_leaky),
    "QLinearSoftmax": _unary(_softmax),
    "QLinearAveragePool": _unary(_average),
    "QLinearGlobalAveragePool": _unary(_global_average),
    "QLinearReduceMean": _unary(_reduce_mean),
    "QLinearConcat": Op(run=_concat),
    "QLinearWhere": Op(run=_where),
    "QGemm": Op(run=_gemm),
    "MatMulIntegerToFloat": Op(run=matmul_integer_to_float),
    "DynamicQuantizeMatMul": Op(run=_dynamic_matmul),
    "DynamicQuantizeLSTM": Op(run=_lstm),
}
DOMAIN_OPS: Mapping[tuple[str, str], Op] = {(MICROSOFT, k): op for k, op in _TABLE.items()}
