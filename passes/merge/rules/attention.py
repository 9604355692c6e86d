"""Scaled dot-product attention: g joins the batch, masks per member or shared."""

import torch
from torch import fx

from fusec.passes.merge.builder import Builder
from fusec.passes.merge.operand import Call, Declined, Operand, PerMember, Result
from fusec.passes.merge.rules.rule import MergeRule, defaults

__all__ = ["RULES"]

aten = torch.ops.aten


def _attention(b: Builder, call: Call) -> Result:
    if call.get("dropout_p"):
        return PerMember("dropout is random")
    query, key, value = (call.operand(name) for name in ("query", "key", "value"))
    mask = call.optional("attn_mask")
    if not query.rank == key.rank == value.rank:
        return Declined("ranks of query, key and value differ")
    if query.rank == 2:
        lifted = {name: b.full(call.operand(name)) for name in ("query", "key", "value")}
        return b.apply(call, **lifted, attn_mask=None if mask is None else b.aligned(mask, 2))
    if any(x.shape[0] != query.shape[0] for x in (key, value)):
        return Declined("batches of query, key and value differ")
    folded = {name: b.fold(call.operand(name)) for name in ("query", "key", "value")}
    return b.unfold(b.apply(call, **folded, attn_mask=_mask(b, mask, query)))


def _mask(b: Builder, mask: Operand | None, query: Operand) -> fx.Node | None:
    """Give what broadcasts against [g*B, ..]."""
    if mask is None:
        return None
    shared = not mask.grouped
    if shared and (mask.rank < query.rank or mask.shape[0] == 1):
        return mask.node
    if mask.grouped and query.shape[0] == 1:
        return b.flatten(b.pad_rank(mask, query.rank), 0, 1)
    lifted = b.lift(mask, query.rank)
    keep = [-1] * (query.rank - 1)
    whole = b.call(aten.expand.default, lifted, [b.g, b.extent(query, 0), *keep])
    return b.flatten(whole, 0, 1)


RULES = (
    MergeRule(
        name="attention", targets=defaults(("scaled_dot_product_attention",)), build=_attention
    ),
)
