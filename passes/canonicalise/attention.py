"""Attention raised to one operator, its scale explicit.

    softmax(scale * q @ k^T + mask) @ v
        ->  scaled_dot_product_attention(q, k, v, mask, scale=scale)

The scale may stand on the scores, on q, on k, or on both; the mask may be added, or be a condition
under which a score is replaced by minus infinity. A constant mask that is causal becomes
`is_causal`, with a guard on the weight it came from. A scale of 1 / sqrt(head size), however it was
rounded on the way, is written as exactly that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import fx

from fusec.ir.template import Predicate
from fusec.passes.canonicalise.facts import (
    close,
    dtype_of,
    guarded_number,
    is_call,
    is_float,
    number,
    only_user,
    same,
    same_shape,
    shape_of,
    tensor_of,
)
from fusec.passes.canonicalise.rewrite import Answer, Edit, No, Rule
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.canonicalise.shapes import permute, reshape
from fusec.passes.report import Reason

__all__ = ["RULES"]

aten = torch.ops.aten
SDPA: Final = aten.scaled_dot_product_attention.default
_MATMULS: Final = (aten.matmul.default, aten.bmm.default)
_LARGE: Final = 1 << 22
"""Elements of a mask that are still looked at."""


@dataclass(frozen=True, slots=True)
class _Scores:
    """scale * query @ key^T + mask; `key` as it stands in the product, [..., size, keys]."""

    query: fx.Node
    key: fx.Node
    scale: float
    mask: fx.Node | None


def _attention(edit: Edit, node: fx.Node) -> Answer:
    weights, value = node.args[:2]
    weights = _unguarded(edit, weights)
    if not is_call(weights, aten.softmax.int) or not isinstance(value, fx.Node):
        return None
    shape = shape_of(weights)
    if len(shape) < 3 or arguments(weights)["dim"] != len(shape) - 1:
        return None
    scores = _scores(edit, weights.args[0])
    if scores is None or isinstance(scores, No):
        return scores
    query, key = scores.query, scores.key
    if not _fits(query, key, value, node):
        return No(Reason.SHAPE, f"leading extents of q, k, v of {node.name} are broadcast")
    mask = _fitting_mask(scores.mask, shape)
    if mask is None and scores.mask is not None:
        return None
    rank = len(shape)
    turned = permute(edit, key, [*range(rank - 2), rank - 1, rank - 2])
    scale = _scale(scores.scale, shape_of(query)[-1], dtype_of(query))
    return _emit(edit, query, turned, value, mask, scale)


def _unguarded(edit: Edit, node: Any) -> Any:
    """Give p of where(any(scores != -inf), p, 0), which the operator does as well."""
    if not is_call(node, aten.where.self, aten.where.ScalarOther):
        return node
    condition, inner, zero = node.args
    if not is_call(inner, aten.softmax.int) or not _is_zero(edit, zero):
        return node
    if not is_call(condition, aten.any.dim) or not is_call(
        condition.args[0], aten.logical_not.default
    ):
        return node
    hidden: Any = condition.args[0].args[0]
    if not is_call(hidden, aten.eq.Scalar) or hidden.args != (inner.args[0], -math.inf):
        return node
    return inner


def _is_zero(edit: Edit, value: Any) -> bool:
    if is_call(value, aten.full_like.default, aten.full.default):
        return bool(value.args[1] == 0)
    return number(edit, value) == 0


def _through_merge(edit: Edit, node: fx.Node) -> Answer:
    """Multiply before leading axes are joined rather than after."""
    for operand in node.args[:2]:
        if is_call(operand, aten.reshape.default):
            before, after = shape_of(operand.args[0]), shape_of(operand)
            if len(before) > 3 and same_shape(before[-2:], after[-2:]):
                return _apart(edit, node, before[:-2], shape_of(node))
    return None


def _through_split(edit: Edit, node: fx.Node) -> Answer:
    """Split leading axes before a product of matrices rather than after."""
    product = node.args[0]
    if not is_call(product, aten.bmm.default) or not only_user(product, node):
        return None
    after = shape_of(node)
    if len(after) < 4 or not same_shape(after[-2:], shape_of(product)[-2:]):
        return None
    return _apart(edit, product, after[:-2], after)


def _apart(
    edit: Edit, product: fx.Node, leading: Sequence[Any], shape: Sequence[Any]
) -> fx.Node | None:
    """Multiply operands whose leading axes are split, and give the result a shape."""
    apart: list[Any] = []
    for operand in product.args[:2]:
        assert isinstance(operand, fx.Node)
        apart.append(reshape(edit, operand, [*leading, *shape_of(operand)[-2:]]))
    if None in apart:
        return None
    return reshape(edit, edit.emit(aten.matmul.default, *apart), shape)


def _emit(
    edit: Edit, q: fx.Node, k: fx.Node, v: fx.Node, mask: fx.Node | None, scale: float
) -> fx.Node:
    if mask is not None and _masks_nothing(edit, mask):
        mask = None
    if mask is not None and _is_causal(edit, mask, shape_of(q)[-2], shape_of(k)[-2]):
        return edit.emit(SDPA, q, k, v, None, 0.0, True, scale=scale)
    return edit.emit(SDPA, q, k, v, mask, scale=scale)


def _scores(edit: Edit, node: Any) -> "_Scores | No | None":
    """Read scores from the outside in: mask, scale, product, scales of q and k."""
    mask: fx.Node | None = None
    if is_call(node, aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.self):
        return _masked(edit, node)
    if is_call(node, aten.add.Tensor) and not node.kwargs:
        for inner, other in (node.args[:2], node.args[1::-1]):
            if isinstance(other, fx.Node) and _product(edit, inner) is not None:
                node, mask = inner, other
                break
    found = _product(edit, node)
    return None if found is None else _Scores(*found, mask)


def _product(edit: Edit, node: Any) -> tuple[fx.Node, fx.Node, float] | None:
    """Read scale * (a * q) @ (b * k)."""
    inner, scale = _unscaled(edit, node)
    if not is_call(inner, *_MATMULS) or not is_float(inner):
        return None
    (q, a), (k, b) = (_unscaled(edit, operand) for operand in inner.args[:2])
    if not isinstance(q, fx.Node) or not isinstance(k, fx.Node):
        return None
    return q, k, scale * a * b


def _unscaled(edit: Edit, node: Any) -> tuple[Any, float]:
    """Take numbers off a value, looking through transpositions and reshapes."""
    scale, bare, views, inside = 1.0, node, list[fx.Node](), list[fx.Node]()
    while isinstance(node, fx.Node):
        if is_call(node, aten.permute.default, aten.reshape.default):
            views.append(node)
            node = node.args[0]
            continue
        found = _factor(edit, node)
        if found is None:
            break
        node, factor = found
        scale, bare, inside = scale * factor, node, list(views)
    for view in reversed(inside):
        bare = edit.emit(view.target, bare, *view.args[1:])
    return bare, scale


def _factor(edit: Edit, node: fx.Node) -> tuple[fx.Node, float] | None:
    """Split x * number or x / number."""
    if not is_call(node, aten.mul.Tensor, aten.div.Tensor) or node.kwargs:
        return None
    x, factor = node.args[:2]
    if node.target is aten.mul.Tensor and _scalar(edit, x) is not None:
        x, factor = factor, x
    value = _scalar(edit, factor)
    if value is None or value == 0 or not isinstance(x, fx.Node):
        return None
    return x, value if node.target is aten.mul.Tensor else 1 / value


def _scalar(edit: Edit, value: object) -> float | None:
    return guarded_number(edit, value, "a scale of attention")


def _masked(edit: Edit, node: fx.Node) -> "_Scores | No | None":
    """Read where(blocked, -inf, scores) and where(allowed, scores, -inf)."""
    condition, first, second = node.args
    for scores, value, allowed in ((second, first, False), (first, second, True)):
        found = _product(edit, scores)
        lowest = number(edit, value)
        if found is None or lowest is None or not isinstance(condition, fx.Node):
            continue
        if not edit.is_constant(condition):
            return No(Reason.NOT_A_WEIGHT, "a row may be masked as a whole, which this spelling "
                      "and scaled_dot_product_attention treat differently")  # fmt: skip
        if lowest > torch.finfo(dtype_of(node)).min:
            return No(Reason.VALUE, f"masked scores become {lowest:g}, not minus infinity")
        mask = condition if allowed else edit.emit(aten.logical_not.default, condition)
        if not _is_causal(edit, mask, *shape_of(node)[-2:]):
            return No(Reason.VALUE, "a row may be masked as a whole")
        return _Scores(*found, mask)
    return None


def _fits(query: fx.Node, key: fx.Node, value: fx.Node, node: fx.Node) -> bool:
    """Tell whether all leading extents are equal, so that nothing is broadcast."""
    leading = shape_of(node)[:-2]
    return all(same_shape(shape_of(n)[:-2], leading) for n in (query, key, value)) and all(
        dtype_of(n) == dtype_of(node) for n in (query, key, value)
    )


def _fitting_mask(mask: fx.Node | None, shape: tuple[Any, ...]) -> fx.Node | None:
    tensor = tensor_of(mask)
    if tensor is None or tensor.dim() > len(shape) or tensor.dim() < 2:
        return None
    tail = shape[len(shape) - tensor.dim() :]
    fits = all(same(m, 1) or same(m, s) for m, s in zip(tensor.shape, tail, strict=True))
    return mask if fits else None


def _scale(scale: float, size: Any, dtype: torch.dtype) -> float:
    if isinstance(size, int) and close(scale, size**-0.5, dtype):
        return float(size**-0.5)
    return scale


def _is_causal(edit: Edit, mask: fx.Node, queries: Any, keys: Any) -> bool:
    """Tell whether a constant mask lets each query see itself and what is before it."""
    tensor = tensor_of(mask)
    if tensor is None or not edit.is_constant(mask):
        return False
    if not isinstance(queries, int) or not isinstance(keys, int) or queries != keys:
        return False
    if queries < 2 or tensor.numel() != queries * keys:
        return False
    if tensor.numel() > _LARGE:
        return False
    found = edit.value(mask).reshape(queries, keys)
    lower = torch.ones(queries, keys, dtype=torch.bool).tril()
    if found.dtype == torch.bool:
        causal = bool((found == lower).all())
    else:
        limit = torch.finfo(found.dtype).min
        causal = bool((found[lower] == 0).all()) and bool((found[~lower] <= limit).all())
    if causal:
        edit.guard(mask, Predicate.CAUSAL_MASK, None, "is a causal mask")
    return causal


def _masks_nothing(edit: Edit, mask: fx.Node) -> bool:
    """Tell whether a constant mask is all true, or all 0."""
    tensor = tensor_of(mask)
    if tensor is None or not edit.is_constant(mask) or tensor.numel() > _LARGE:
        return False
    found = edit.value(mask)
    neutral = 1 if found.dtype == torch.bool else 0
    if not bool((found == neutral).all()):
        return False
    edit.guard(mask, Predicate.EQUALS, float(neutral), f"is {neutral} everywhere (masks nothing)")
    return True


def _spell(edit: Edit, node: fx.Node) -> Answer:
    """Write the scale out, and a causal mask as such."""
    given = arguments(node)
    query, key, mask = given["query"], given["key"], given["attn_mask"]
    size = shape_of(query)[-1]
    scale = given["scale"]
    if scale is None:
        if not isinstance(size, int):
            return None
        scale = size**-0.5
    causal = given["is_causal"]
    if mask is not None and _masks_nothing(edit, mask):
        mask = None
    if mask is not None and _is_causal(edit, mask, shape_of(query)[-2], shape_of(key)[-2]):
        mask, causal = None, True
    if (scale, mask, causal) == (given["scale"], given["attn_mask"], given["is_causal"]):
        return None
    return edit.emit(
        SDPA, query, key, given["value"], mask, given["dropout_p"], causal,
        scale=scale, enable_gqa=given["enable_gqa"],
    )  # fmt: skip


RULES: Final = (
    Rule("raise_attention", _MATMULS, _attention),
    Rule("bmm_through_merge", (aten.bmm.default,), _through_merge),
    Rule("bmm_through_split", (aten.reshape.default,), _through_split),
    Rule("spell_attention", (SDPA,), _spell),
)
