"""Attention of com.microsoft: Attention, QAttention, MultiHeadAttention, GroupQueryAttention."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops import attention
from fusec.importers.onnx.ops.contrib_quant import MICROSOFT, matmul_integer_to_float
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Value, is_traced, to_host, to_tensor


def _split(x: Tensor, heads: int) -> Tensor:
    """[B, S, N * D] -> [B, N, S, D]."""
    return x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    """[B, N, S, D] -> [B, S, N * D]."""
    return x.transpose(1, 2).flatten(2)


def _padding(call: Call, mask: Tensor, batch: Any, rows: Any, total: Any) -> Tensor:
    """Turn any form of mask into what is added to the scores [B, N, rows, total]."""
    keep = mask
    if mask.dim() == 1:
        columns = torch.arange(total)
        keep = columns < mask[:batch].unsqueeze(1)
        if mask.shape[0] != batch:
            keep = keep & (columns >= mask[batch : 2 * batch].unsqueeze(1))
    keep = cast_to(keep, torch.bool)
    if keep.dim() == 2:
        keep = keep[:, None, None, :]
    elif keep.dim() == 3:
        keep = keep[:, None]
    else:
        keep = keep[:, :, total - rows : total, :total]
    return torch.where(keep, 0.0, float(call.attr("mask_filter_value", -10000.0)))


def _attend(
    call: Call, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Attend with q [B, N, S, D] to k, v [B, N, T, D]; returns [B, S, N * D]."""
    rows, total = q.shape[2], k.shape[2]
    added = bias
    if mask is not None:
        padding = cast_to(_padding(call, mask, q.shape[0], rows, total), q.dtype)
        added = padding if added is None else added + padding
    if call.attr("unidirectional", 0):
        ahead = torch.arange(total) > torch.arange(rows).unsqueeze(1) + (total - rows)
        future = cast_to(torch.where(ahead, torch.finfo(q.dtype).min, 0.0), q.dtype)
        added = future if added is None else torch.where(ahead, future, added)
    scale = float(call.attr("scale", 0.0)) or None
    return _joined(F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=scale))


def _from_projection(
    call: Call, qkv: Tensor, mask: Tensor | None, past: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, ...]:
    """Attend with the projected q, k and v side by side: [B, S, 3 * N * D]."""
    heads = int(call.attr("num_heads"))
    sizes = [int(n) for n in call.attr("qkv_hidden_sizes", [])] or [qkv.shape[2] // 3] * 3
    q, k, v = (_split(part, heads) for part in torch.split(qkv, sizes, dim=2))
    if call.attr("do_rotary", 0):
        call.fail("do_rotary is not supported; export with a RotaryEmbedding node")
    if past is not None:
        k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
    y = _attend(call, q, k, v, mask, bias)
    return (y, torch.stack([k, v])) if call.wants(1) else (y,)


def _attention(
    call: Call,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_length: Tensor | None = None,
) -> tuple[Tensor, ...]:
    if call.attr("past_present_share_buffer", 0):
        call.fail("a shared past and present buffer is not supported")
    return _from_projection(call, F.linear(x, weights.t(), bias), mask, past, attention_bias)


def _quantised_attention(
    call: Call,
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    x_scale: Tensor,
    w_scale: Tensor,
    mask: Tensor | None = None,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
    past: Tensor | None = None,
) -> tuple[Tensor, ...]:
    qkv = matmul_integer_to_float(call, x, weights, x_scale, w_scale, x_zero, w_zero, bias)
    return _from_projection(call, qkv, mask, past, None)


def _multi_head(
    call: Call,
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    *others: Tensor | None,
) -> tuple[Tensor, ...]:
    if any(other is not None for other in others) or call.wants(3):
        call.fail("cache indirection and the attention scores are not supported")
    heads = int(call.attr("num_heads"))
    q, k, v = _heads_of(query, key, value, heads)
    if bias is not None:
        width = q.shape[1] * q.shape[3]
        q = q + _as_heads(bias[:width], heads)
        if key is None or key.dim() != 4:
            k = k + _as_heads(bias[width : 2 * width], heads)
            v = v + _as_heads(bias[2 * width :], heads)
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], dim=2), torch.cat([past_value, v], dim=2)
    y = _attend(call, q, k, v, mask, attention_bias)
    return (y, k, v) if call.wants(1) or call.wants(2) else (y,)


def _as_heads(bias: Tensor, heads: int) -> Tensor:
    return bias.reshape(1, heads, 1, -1)


def _heads_of(
    query: Tensor, key: Tensor | None, value: Tensor | None, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Unpack the layouts of MultiHeadAttention to three [B, N, S, D]."""
    if query.dim() == 5:  # [B, S, N, 3, D]
        q, k, v = (part.transpose(1, 2) for part in query.unbind(3))
        return q, k, v
    q = _split(query, heads)
    if key is None:
        return q, q, q
    if key.dim() == 5:  # [B, L, N, 2, D]
        k, v = (part.transpose(1, 2) for part in key.unbind(3))
        return q, k, v
    if value is None:
        return q, _split(key, heads), _split(key, heads)
    if key.dim() == 4:
        return q, key, value
    return q, _split(key, heads), _split(value, heads)


def _rotate(call: Call, x: Tensor, cos: Tensor, sin: Tensor, at: Tensor, pairs: int) -> Tensor:
    """Rotate x [B, N, S, D] by positions [B, S] with the standard operator."""
    attributes = {"interleaved": pairs, "rotary_embedding_dim": 2 * cos.shape[1]}
    plain = dataclasses.replace(call, attributes=attributes)
    rotated: Any = attention.OPS["RotaryEmbedding"].run(plain, x, cos, sin, at)
    return torch.as_tensor(rotated)


def _rotary(call: Call, x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    if call.attr("is_packed_batching", 0):
        call.fail("is_packed_batching is not supported")
    heads = int(call.attr("num_heads", 0))
    if x.dim() == 3 and not heads:
        heads = x.shape[2] // (2 * cos.shape[1])
    rows = _split(x, heads) if x.dim() == 3 else x
    if positions.dim() == 1:
        positions = (positions + torch.arange(rows.shape[2])).unsqueeze(0)
    positions = positions.expand(rows.shape[0], rows.shape[2])
    y = _rotate(call, rows, cos, sin, positions, int(call.attr("interleaved", 0)))
    y = y * float(call.attr("scale", 1.0))
    return _joined(y) if x.dim() == 3 else y


def _grouped(
    call: Call,
    query: Value,
    key: Value,
    value: Value,
    past_key: Value,
    past_value: Value,
    lengths: Value,
    total: Value,
    cos: Value = None,
    sin: Value = None,
    positions: Value = None,
    bias: Value = None,
    *others: Value,
) -> tuple[Tensor, ...]:
    """GroupQueryAttention: each row's new keys follow its own past ones."""
    if any(other is not None for other in others) or call.attr("smooth_softmax", 0) == 1:
        call.fail("head sinks, key norms and quantised caches are not supported")
    heads, groups = int(call.attr("num_heads")), int(call.attr("kv_num_heads"))
    q, k, v = _grouped_heads(to_tensor(query), key, value, heads, groups)
    rows = q.shape[2]
    first = _past_lengths(past_key, to_tensor(lengths), rows)
    at = first.unsqueeze(1) + torch.arange(rows)
    if call.attr("do_rotary", 0):
        where = at if positions is None else cast_to(to_tensor(positions), torch.int64)
        pairs, tables = int(call.attr("rotary_interleaved", 0)), (to_tensor(cos), to_tensor(sin))
        q, k = (_rotate(call, part, *tables, where, pairs) for part in (q, k))
    if past_key is not None:
        k = _appended(to_tensor(past_key), k, at, total)
        v = _appended(to_tensor(past_value), v, at, total)
    columns = torch.arange(k.shape[2])
    hidden = columns > at.unsqueeze(2)
    window = int(call.attr("local_window_size", -1))
    if window >= 0:
        hidden = hidden | (columns <= at.unsqueeze(2) - window)
    wide_k, wide_v = (part.repeat_interleave(heads // groups, dim=1) for part in (k, v))
    added = None if bias is None else to_tensor(bias)
    y = _capped(call, q, wide_k, wide_v, hidden.unsqueeze(1), added)
    return y, k, v


def _grouped_heads(
    query: Tensor, key: Value, value: Value, heads: int, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    if key is not None:
        return (
            _split(query, heads),
            _split(to_tensor(key), groups),
            _split(to_tensor(value), groups),
        )
    size = query.shape[2] // (heads + 2 * groups)
    q, k, v = torch.split(query, [heads * size, groups * size, groups * size], dim=2)
    return _split(q, heads), _split(k, groups), _split(v, groups)


def _past_lengths(past: Value, lengths: Tensor, rows: Any) -> Tensor:
    """Return how many past keys each row has; `lengths` is each row's total less one."""
    if past is None or to_tensor(past).shape[2] == 0:
        return torch.zeros_like(cast_to(lengths.reshape(-1), torch.int64))
    return torch.clamp(cast_to(lengths.reshape(-1), torch.int64) + 1 - rows, min=0)


def _appended(past: Tensor, new: Tensor, at: Tensor, total: Value) -> Tensor:
    """Write new keys [B, N, S, D] at positions [B, S] behind the past ones."""
    length = past.shape[2] + new.shape[2]
    known = isinstance(total, Tensor) and not is_traced(total)
    if known and int(to_host(total).item()) <= past.shape[2]:
        length = past.shape[2]  # the cache is a buffer with room for them
    room = F.pad(past, (0, 0, 0, length - past.shape[2]))
    index = at[:, None, :, None].expand(new.shape)
    return room.scatter(2, index, new)


def _capped(
    call: Call, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor, bias: Tensor | None
) -> Tensor:
    scale, cap = float(call.attr("scale", 0.0)) or None, float(call.attr("softcap", 0.0))
    mask = cast_to(torch.where(hidden, -torch.inf, 0.0), q.dtype)
    mask = mask if bias is None else mask + bias
    if not cap:
        return _joined(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale))
    scores = (q @ k.transpose(-1, -2)) * (scale or q.shape[3] ** -0.5)
    scores = torch.tanh(scores / cap) * cap + mask
    return _joined(torch.softmax(scores, dim=-1) @ v)


_TABLE: Mapping[str, Op] = {
    "Attention": Op(run=_attention),
    "QAttention": Op(run=_quantised_attention),
    "MultiHeadAttention": Op(run=_multi_head),
    "GroupQueryAttention": Op(run=_grouped, either=True),
    "RotaryEmbedding": Op(run=_rotary),
}
DOMAIN_OPS: Mapping[tuple[str, str], Op] = {(MICROSOFT, k): op for k, op in _TABLE.items()}
