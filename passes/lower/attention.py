"""Scaled dot product attention."""

from collections.abc import Mapping
from dataclasses import replace

from fusec.ir.extents import Extent
from fusec.ir.stage import TileOp, View
from fusec.ir.template import Row
from fusec.passes.lower.arguments import flag, given, moved, need, shape_of, unit
from fusec.passes.lower.builder import Lowering, Refused, Value
from fusec.passes.lower.rule import Rule
from fusec.passes.lower.views import broadcast

__all__ = ["RULES"]


def _attention(low: Lowering, row: Row) -> Value:
    q, k, v = (_lined(low, low.view(arg)) for arg in row.args[:3])
    shape = shape_of(low, row)
    need(len(q.shape) == len(k.shape) == len(v.shape) == len(shape), "ranks differ")
    need(given(row, 4, "dropout_p", 0.0) == 0, "dropout")
    causal = flag(row, 5, "is_causal")
    q, k, v = (_rank4(x) for x in (q, k, v))
    group = _group(q, k, v, flag(row, 7, "enable_gqa"))
    samples, heads, s, d = q.shape
    kv_heads, t = k.shape[1:3]
    need(k.shape[3] == d and v.shape[2] == t, "extents of q, k, v do not fit")
    k, v = (broadcast(x, (samples, kv_heads, t, x.shape[3])) for x in (k, v))
    e = v.shape[3]
    reads = [q, k, v]
    kind = "none"
    mask = given(row, 3, "attn_mask")
    if mask is not None:
        need(not causal, "a mask beside is_causal")
        seen = _mask(low, low.view(mask), (samples, heads, s, t))
        reads.append(seen)
        kind = "bool" if seen.dtype == "bool" else "float"
    y = moved(low.new("float32", (samples, s, heads, e)), (0, 2, 1, 3))
    low.emit(
        TileOp.ATTENTION, reads, [y], scale=_scale(row, d), causal=causal, mask=kind, group=group
    )
    return low.reshaped(y, shape) if len(shape) != 4 else y


def _lined(low: Lowering, view: View) -> View:
    """Have columns lie one after another."""
    need(view.dtype == "float32" and len(view.shape) in (3, 4), f"attention of {view.dtype}")
    return view if unit(view) else low.contiguous(view)


def _rank4(view: View) -> View:
    if len(view.shape) == 4:
        return view
    return replace(view, shape=(1, *view.shape), strides=(0, *view.strides))


def _group(q: View, k: View, v: View, grouped: bool) -> int:
    """Count the heads of q per head of k and v."""
    heads, kv_heads = q.shape[1], k.shape[1]
    need(v.shape[1] == kv_heads, "k and v have different heads")
    if heads == kv_heads:
        return 1
    if not (isinstance(heads, int) and isinstance(kv_heads, int) and kv_heads > 0):
        raise Refused("heads are not known")
    need(heads % kv_heads == 0 and (grouped or kv_heads == 1), "heads do not fit")
    return heads // kv_heads


def _mask(low: Lowering, mask: View, shape: tuple[Extent, ...]) -> View:
    need(mask.dtype in ("bool", "float32"), f"a mask of {mask.dtype}")
    need(1 <= len(mask.shape) <= 4, "a mask of another rank")
    lines = broadcast(mask, (*mask.shape[:-1], shape[-1]))
    if not unit(lines):
        lines = low.contiguous(lines)
    return broadcast(lines, shape)


def _scale(row: Row, d: Extent) -> float:
    scale = given(row, 6, "scale")
    if scale is None and isinstance(d, int) and d > 0:
        return float(d**-0.5)
    if not isinstance(scale, int | float):
        raise Refused(f"scale {scale!r}")
    return float(scale)


RULES: Mapping[str, Rule] = {"aten.scaled_dot_product_attention.default": _attention}
