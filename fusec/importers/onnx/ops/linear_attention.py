"""LinearAttention: recurrent attention over a matrix state, all steps of a request at once.

With G the running sum of the log decays, the state after step t is the decayed first state plus
the decayed outer products k_s u_s of all steps s <= t. Reading it needs one triangular matrix per
head. The delta rules write u_t = beta_t (v_t - what the state answers to k_t), which is a unit
lower triangular system for all steps together. Nothing depends on the number of steps, so a trace
keeps it as a symbol.
"""

import math
from collections.abc import Mapping
from typing import Final

import torch

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op

Tensor = torch.Tensor


def _unpack(x: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """Return [B, H, T, D] from [B, T, H * D]."""
    rows = x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads)
    return cast_to(rows.transpose(1, 2), dtype)


def _products(a: Tensor, b: Tensor, total: Tensor | None, *, strict: bool) -> Tensor:
    """Return a_t . decay(s -> t) . b_s for s <= t (s < t if strict), else 0: [B, H, T, T]."""
    steps = torch.arange(a.shape[2])
    distance = steps[:, None] - steps[None, :]
    seen = distance > 0 if strict else distance >= 0
    if total is None:
        return torch.where(seen, a @ b.transpose(-2, -1), 0.0)
    if total.shape[-1] == 1:
        change = torch.where(seen, total - total.transpose(-2, -1), -torch.inf)
        return torch.where(seen, a @ b.transpose(-2, -1), 0.0) * torch.exp(change)
    change = total[:, :, :, None, :] - total[:, :, None, :, :]
    change = torch.where(seen[..., None], change, -torch.inf)
    return (a[:, :, :, None, :] * b[:, :, None, :, :] * torch.exp(change)).sum(-1)


def _linear_attention(
    call: Call,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    rule = call.attr("update_rule", "gated_delta")
    if rule not in ("linear", "gated", "delta", "gated_delta"):
        call.fail(f"update_rule is '{rule}'; known are linear, gated, delta, gated_delta")
    if ("gated" in rule) != (decay is not None) or ("delta" in rule) != (beta is not None):
        call.fail(f"update_rule '{rule}' does not go with the decay and beta inputs given")
    heads, kv_heads = call.attr("q_num_heads"), call.attr("kv_num_heads")
    wide = torch.promote_types(torch.float32, query.dtype)
    q = _unpack(query, heads, wide)
    k, v = (_unpack(x, kv_heads, wide) for x in (key, value))
    total = None if decay is None else torch.cumsum(_unpack(decay, kv_heads, wide), 2)
    scale = call.attr("scale", 0.0) or 1 / math.sqrt(q.shape[-1])
    first = None if past is None else cast_to(past, wide)

    def decayed(x: Tensor) -> Tensor:
        return x if total is None else x * torch.exp(total)

    written = v
    if beta is not None:
        rate = cast_to(beta.transpose(1, 2).unsqueeze(-1), wide)
        known = v if first is None else v - decayed(k) @ first
        system = rate * _products(k, k, total, strict=True)
        written = torch.linalg.solve_triangular(
            system, rate * known, upper=False, unitriangular=True
        )
    groups = heads // kv_heads

    def shared(x: Tensor) -> Tensor:
        return x if groups == 1 else x.repeat_interleave(groups, dim=1)

    totals = None if total is None else shared(total)
    y = _products(q, shared(k), totals, strict=False) @ shared(written)
    if first is not None:
        reach = q if totals is None else q * torch.exp(totals)
        y = y + reach @ shared(first)
    left = k if total is None else k * torch.exp(total[:, :, -1:] - total)
    state = left.transpose(-2, -1) @ written
    if first is not None:
        kept = first if total is None else first * torch.exp(total[:, :, -1])[..., None]
        state = state + kept
    y = (y * scale).transpose(1, 2).flatten(2)
    return cast_to(y, query.dtype), cast_to(state, query.dtype if past is None else past.dtype)


OPS: Final[Mapping[str, Op]] = {"LinearAttention": Op(run=_linear_attention)}
