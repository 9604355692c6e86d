"""Weights of com.microsoft that are quantised in blocks and packed into bytes."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.narrow import widen
from fusec.importers.onnx.ops.contrib_quant import MICROSOFT
from fusec.importers.onnx.ops.quantised import dequantise, spread
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Value, elem_type, to_host, to_tensor

_UINT8 = 2


def unpacked(x: Tensor, bits: int) -> Tensor:
    """Split each byte of the last axis into 8 / bits values, the low bits first."""
    if bits == 8:
        return x
    shifts = torch.arange(0, 8, bits, dtype=torch.int32)
    parts = torch.bitwise_right_shift(cast_to(x, torch.int32).unsqueeze(-1), shifts)
    return cast_to(torch.bitwise_and(parts, (1 << bits) - 1), torch.uint8).flatten(-2)


def _matmul_blocks(
    call: Call,
    a: Tensor,
    b: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    group: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """MatMulNBits: a [..., K] times the transpose of b [N, blocks, bytes], unpacked to [N, K]."""
    rows, terms = int(call.attr("N")), int(call.attr("K"))
    bits, block = int(call.attr("bits", 4)), int(call.attr("block_size"))
    blocks = -(-terms // block)
    values = cast_to(unpacked(b.reshape(rows, blocks, -1), bits), torch.float32)
    zeros = _zeros(zero_points, rows, blocks, bits)
    scales = scales.reshape(rows, blocks)
    if group is not None:
        order = cast_to(group, torch.int64)[:terms]
        flat = values.reshape(rows, -1)[:, :terms]
        weight = (flat - (zeros if isinstance(zeros, float) else zeros[:, order])) * scales[
            :, order
        ]
    else:
        centred = values - (zeros if isinstance(zeros, float) else zeros.unsqueeze(2))
        weight = (centred * scales.unsqueeze(2)).reshape(rows, -1)[:, :terms]
    return F.linear(a, cast_to(weight, a.dtype), bias)


def _zeros(zero_points: Tensor | None, rows: int, blocks: int, bits: int) -> Tensor | float:
    if zero_points is None:
        return float(1 << (bits - 1))
    if zero_points.dtype != torch.uint8:
        return cast_to(zero_points.reshape(rows, blocks), torch.float32)
    return cast_to(unpacked(zero_points.reshape(rows, -1), bits)[:, :blocks], torch.float32)


def _gather_blocks(
    call: Call, data: Value, indices: Value, scales: Value, zero_points: Value = None
) -> Tensor:
    """GatherBlockQuantized: rows of a table that is dequantised block by block."""
    table, scale = widen(data), to_tensor(scales)
    zero = None if zero_points is None else widen(zero_points)
    packed = _code(data) == _UINT8 and int(call.attr("bits", 4)) < 8
    if packed:
        bits = int(call.attr("bits", 4))
        table = unpacked(table, bits)
        if zero is None:
            zero = torch.full((), 1 << (bits - 1), dtype=torch.uint8)
        else:
            zero = unpacked(zero, bits)[..., : scale.shape[-1]]
    axis, block = int(call.attr("quantize_axis", 1)), int(call.attr("block_size", 128))
    zero = None if zero is None else spread(zero, table, axis, block)
    rows = dequantise(table, spread(scale, table, axis, block), zero, scale.dtype)
    gather_axis = int(call.attr("gather_axis", 0)) % rows.dim()
    chosen = cast_to(to_tensor(indices), torch.int64)
    picked = torch.index_select(rows, gather_axis, chosen.reshape(-1))
    return picked.reshape(*rows.shape[:gather_axis], *chosen.shape, *rows.shape[gather_axis + 1 :])


def _code(value: Value) -> int:
    return elem_type(value.dtype if isinstance(value, Tensor) else to_host(value).dtype)


_TABLE: Mapping[str, Op] = {
    "MatMulNBits": Op(run=_matmul_blocks),
    "GatherBlockQuantized": Op(run=_gather_blocks, either=True),
}
DOMAIN_OPS: Mapping[tuple[str, str], Op] = {(MICROSOFT, k): op for k, op in _TABLE.items()}
