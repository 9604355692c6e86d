"""Normalisations of com.microsoft, with the additions and embeddings fused into them.

`SimplifiedLayerNormalization` stands in the default domain: ONNX Runtime registers it there.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.contrib_quant import MICROSOFT
from fusec.importers.onnx.ops.support import axis_of, cast_to
from fusec.importers.onnx.table import Op


def _epsilon(call: Call) -> float:
    return float(call.attr("epsilon", 1e-12 if "Embed" in call.op or "Skip" in call.op else 1e-5))


def _layer_norm(call: Call, x: Tensor, gamma: Tensor, beta: Tensor | None) -> Tensor:
    return F.layer_norm(x, list(gamma.shape), gamma, beta, _epsilon(call))


def _rms_norm(call: Call, x: Tensor, gamma: Tensor) -> Tensor:
    return F.rms_norm(x, list(gamma.shape), gamma, _epsilon(call))


def _simplified(call: Call, x: Tensor, gamma: Tensor) -> tuple[Tensor, ...]:
    axis = axis_of(call, int(call.attr("axis", -1)), x.dim())
    axes = list(range(axis, x.dim()))
    y = F.rms_norm(x, list(x.shape[axis:]), gamma.expand(x.shape[axis:]), _epsilon(call))
    if not call.wants(1):
        return (y,)
    return y, torch.rsqrt(
        (cast_to(x, torch.float32) ** 2).mean(dim=axes, keepdim=True) + _epsilon(call)
    )


def _joined(x: Tensor, skip: Tensor, bias: Tensor | None) -> Tensor:
    # Input, bias, skip: ONNX Runtime adds in this order and hands out the sum.
    return x + skip if bias is None else x + skip + bias


def _skip_layer_norm(
    call: Call,
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    total = _joined(x, skip, bias)
    return _layer_norm(call, total, gamma, beta), None, None, total


def _skip_rms_norm(
    call: Call, x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    total = _joined(x, skip, bias)
    return _rms_norm(call, total, gamma), None, None, total


def _embed(
    call: Call,
    ids: Tensor,
    segments: Tensor | None,
    words: Tensor,
    positions: Tensor,
    segment_table: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    position_ids: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """EmbedLayerNormalization: ids [B, S] -> [B, S, D] and the lengths by the mask [B]."""
    total = F.embedding(cast_to(ids, torch.int64), words)
    if position_ids is None:
        total = total + positions[: ids.shape[1]]
    else:
        total = total + F.embedding(cast_to(position_ids, torch.int64), positions)
    if segments is not None and segment_table is not None:
        total = total + F.embedding(cast_to(segments, torch.int64), segment_table)
    if mask is None:
        lengths = torch.zeros_like(ids[:, 0], dtype=torch.int32)
    else:
        lengths = cast_to(mask.sum(dim=1), torch.int32)
    return _layer_norm(call, total, gamma, beta), lengths, total


def _group_norm(call: Call, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    last = bool(call.attr("channels_last", 1))
    planes = x.movedim(-1, 1) if last else x
    y = F.group_norm(planes, int(call.attr("groups")), gamma, beta, _epsilon(call))
    y = F.silu(y) if int(call.attr("activation")) == 1 else y
    return y.movedim(1, -1) if last else y


def _skip_group_norm(
    call: Call,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    skip: Tensor,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    if skip.dim() == 2:
        skip = skip[:, None, None, :]
    total = _joined(x, skip, bias)
    return _group_norm(call, total, gamma, beta), total


_TABLE: Mapping[str, Op] = {
    "SkipLayerNormalization": Op(run=_skip_layer_norm),
    "SkipSimplifiedLayerNormalization": Op(run=_skip_rms_norm),
    "EmbedLayerNormalization": Op(run=_embed),
    "GroupNorm": Op(run=_group_norm),
    "SkipGroupNorm": Op(run=_skip_group_norm),
    "SimplifiedLayerNormalization": Op(run=_simplified),
}
DOMAIN_OPS: Mapping[tuple[str, str], Op] = {
    ("" if k == "SimplifiedLayerNormalization" else MICROSOFT, k): op for k, op in _TABLE.items()
}
