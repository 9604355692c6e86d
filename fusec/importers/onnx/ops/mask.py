"""What an Attention node lets each query see: its mask, causality, window and padding as one."""

from typing import Any

import torch
import torch.nn.functional as F

from fusec.importers.onnx.call import Call

Tensor = torch.Tensor


def attention_mask(
    call: Call,
    q: Tensor,
    k: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    offset: Any,
) -> Tensor | None:
    """Return what to give to attention: a boolean mask, an additive one, or None.

    Args:
        call: the node.
        q: [B, H, Tq, D] queries.
        k: [B, Hkv, Tk, D] keys, cached ones included.
        mask: the node's mask, boolean or additive; its last axis may be shorter than Tk.
        valid: [B] number of keys that are not padding.
        offset: position of the first query among the keys where nothing else says it.
    """
    steps, total = q.shape[2], k.shape[2]
    allowed = _allowed(call, steps, total, valid, offset)
    if mask is None:
        return allowed
    missing = total - mask.shape[-1]
    if not isinstance(missing, int) or missing > 0:
        closed = False if mask.dtype == torch.bool else -torch.inf
        mask = F.pad(mask, [0, missing], value=closed)
    if mask.dtype == torch.bool:
        joined = mask if allowed is None else mask & allowed
        return joined if joined.ndim > 1 else joined.unsqueeze(0)
    if allowed is None:
        return mask if mask.ndim > 1 else mask.unsqueeze(0)
    return torch.where(allowed, mask, -torch.inf)


def _allowed(
    call: Call, steps: Any, total: Any, valid: Tensor | None, offset: Any
) -> Tensor | None:
    """Return which keys causality, window and padding leave: [Tq, Tk] or [B, 1, Tq, Tk]."""
    at_query = torch.arange(steps).reshape(-1, 1)
    at_key = torch.arange(total).reshape(1, -1)
    if valid is not None:
        valid = valid.to(torch.int64).reshape(-1, 1, 1, 1)
    # With a cache kept outside, the queries are the last valid positions of each row.
    outside = valid is not None and offset is not None and isinstance(offset, int) and offset == 0
    position = at_query + (valid - steps if outside and valid is not None else offset)
    parts: list[Tensor] = []
    left, right = call.attr("left_window_size", -1), call.attr("right_window_size", -1)
    if call.attr("is_causal", 0):
        parts.append(at_key <= position)
    if left >= 0:
        parts.append(at_key >= position - left)
    if right >= 0:
        parts.append(at_key <= position + right)
    if valid is not None:
        parts.append(at_key < valid)
    if not parts:
        return None
    allowed = parts[0]
    for part in parts[1:]:
        allowed = allowed & part
    return allowed
