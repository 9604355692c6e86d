"""Attention over all keys: Attention (opset 23 on), FlexAttention and RotaryEmbedding."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.mask import attention_mask
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import to_tensor, torch_dtype

Tensor = torch.Tensor


def _heads(call: Call, x: Tensor, name: str) -> Tensor:
    """Return [B, H, T, D] from that or from [B, T, H * D]."""
    if x.ndim == 4:
        return x
    count = call.attr(name)
    return x.reshape(x.shape[0], x.shape[1], count, x.shape[2] // count).transpose(1, 2)


def _repeated(kv: Tensor, heads: int) -> Tensor:
    """Return keys or values with each head repeated for its group of query heads."""
    groups = heads // kv.shape[1]
    return kv if groups == 1 else kv.repeat_interleave(groups, dim=1)


def _attention(
    call: Call,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    valid: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    packed = query.ndim == 3
    q = _heads(call, query, "q_num_heads")
    k, v = (_heads(call, x, "kv_num_heads") for x in (key, value))
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    offset: Any = 0 if past_key is None else past_key.shape[2]
    scale = call.attr("scale", None)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    present = (k, v)
    shown: Tensor | None = None
    if _is_plain(call):
        windowed = max(call.attr("left_window_size", -1), call.attr("right_window_size", -1)) >= 0
        free = mask is None and valid is None and past_key is None and not windowed
        causal = bool(call.attr("is_causal", 0)) and free
        bias = None if free else attention_mask(call, q, k, mask, valid, offset)
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            bias,
            is_causal=causal,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
    else:
        bias = attention_mask(call, q, k, mask, valid, offset)
        k, v = _repeated(k, q.shape[1]), _repeated(v, q.shape[1])
        y, shown = _explicit(call, q, k, v, bias, scale)
    if packed:
        y = y.transpose(1, 2).flatten(2)
    return y, *present, shown


def _is_plain(call: Call) -> bool:
    """Say whether only the answer is wanted and torch's own attention can give it."""
    return not call.wants(3) and not call.attr("softcap", 0.0)


def _explicit(
    call: Call, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the answer and the scores at the stage that the node asks for."""
    mode = call.attr("qk_matmul_output_mode", 0)
    root = math.sqrt(scale)
    scores = torch.matmul(q * root, (k * root).transpose(-2, -1))
    shown = scores
    softcap = call.attr("softcap", 0.0)
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
        # The reference shows capped scores in mode 0 too; ONNX Runtime and the text do not.
        shown = scores if mode == 1 else shown
    dead: Tensor | None = None
    if bias is not None:
        if bias.dtype == torch.bool:
            bias = torch.where(bias, 0.0, -torch.inf).to(q.dtype)
        scores = scores + bias
        dead = (bias == -torch.inf).all(-1, keepdim=True)
    shown = scores if mode == 2 else shown
    code = call.attr("softmax_precision", None)
    wide = scores if code is None else cast_to(scores, torch_dtype(code))
    weights = torch.softmax(wide, -1)
    weights = weights if dead is None else torch.where(dead, 0.0, weights)
    weights = cast_to(weights, q.dtype)
    return torch.matmul(weights, v), weights if mode == 3 else shown


def _flex_attention(call: Call, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention whose scores and probabilities go through subgraphs of the node."""
    scale = call.attr("scale", None)
    root = math.sqrt(1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    k, v = _repeated(k, q.shape[1]), _repeated(v, q.shape[1])
    code = call.attr("softmax_precision", None)
    half = q.dtype in (torch.float16, torch.bfloat16)
    wide = torch_dtype(code) if code is not None else torch.float32 if half else q.dtype
    scores = torch.matmul(q * root, (k * root).transpose(-2, -1))
    scores = _modified(call, "score_mod", cast_to(scores, wide))
    weights = _modified(call, "prob_mod", torch.softmax(scores, -1))
    return cast_to(torch.matmul(weights, cast_to(v, wide)), v.dtype)


def _modified(call: Call, name: str, x: Tensor) -> Tensor:
    graph = call.attr(name, None)
    if graph is None:
        return x
    return cast_to(to_tensor(call.run(graph, [x])[0]), x.dtype)


def _rotary(
    call: Call, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None
) -> Tensor:
    """Rotate pairs of features by position; [B, H, T, D] or [B, T, H * D]."""
    shape: Sequence[Any] = x.shape
    if x.ndim == 3:
        heads = call.attr("num_heads")
        rows = x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads)
    else:
        rows = x.transpose(1, 2)
    size = call.attr("rotary_embedding_dim", 0) or rows.shape[-1]
    if positions is not None:
        at = cast_to(positions, torch.int64)
        cos, sin = (torch.ops.aten.index.Tensor(cache, [at]) for cache in (cos, sin))
    cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
    turned, rest = rows[..., :size], rows[..., size:]
    pairs = bool(call.attr("interleaved", 0))
    first, second = (turned[..., 0::2], turned[..., 1::2]) if pairs else turned.chunk(2, -1)
    real = cos * first - sin * second
    imaginary = sin * first + cos * second
    if pairs:
        turned = torch.stack([real, imaginary], -1).flatten(-2)
    else:
        turned = torch.cat([real, imaginary], -1)
    whole = isinstance(size, int) and size == rows.shape[-1]
    result = turned if whole else torch.cat([turned, rest], -1)
    return result.reshape(shape) if x.ndim == 3 else result.transpose(1, 2)


OPS: Final[Mapping[str, Op]] = {
    "Attention": Op(run=_attention),
    "RotaryEmbedding": Op(run=_rotary),
}
DOMAIN_OPS: Final[Mapping[tuple[str, str], Op]] = {
    ("ai.onnx.preview", "FlexAttention"): Op(run=_flex_attention),
}
