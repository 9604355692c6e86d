"""Numbers as attributes: one-element constants become literals, arithmetic with them one form.

sub(x, 3)                ->  add(x, -3)              x - w  ->  x + (-w) for a weight w
sub(full(3), x)          ->  rsub(x, 3)
div(full(1), x)          ->  reciprocal(x)
div(x, 8)                ->  mul(x, 0.125)           only where 1/s is exact
mul(mul(x, a), b)        ->  mul(x, a * b)           also for weights a and b
add(add(x, a), b)        ->  add(x, a + b)
add(x, y, alpha=a)       ->  add(x, mul(y, a))
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.facts import (
    guarded_number,
    is_call,
    is_float,
    number,
    only_user,
    same_shape,
    shape_of,
    tensor_of,
)
from fusec.passes.canonicalise.rewrite import Answer, Edit, Rule
from fusec.passes.canonicalise.weights import exactly
from fusec.passes.verify import agree

__all__ = ["RULES"]

aten = torch.ops.aten

_LITERAL: Final[Mapping[Any, Any]] = {
    aten.add.Tensor: aten.add.Tensor,
    aten.sub.Tensor: aten.sub.Tensor,
    aten.mul.Tensor: aten.mul.Tensor,
    aten.div.Tensor: aten.div.Tensor,
    aten.pow.Tensor_Tensor: aten.pow.Tensor_Scalar,
    aten.gt.Tensor: aten.gt.Scalar,
    aten.ge.Tensor: aten.ge.Scalar,
    aten.lt.Tensor: aten.lt.Scalar,
    aten.le.Tensor: aten.le.Scalar,
    aten.eq.Tensor: aten.eq.Scalar,
    aten.ne.Tensor: aten.ne.Scalar,
}
"""Operators that take a number in place of their second tensor."""

_MIRRORED: Final[Mapping[Any, Any]] = {
    aten.add.Tensor: aten.add.Tensor,
    aten.mul.Tensor: aten.mul.Tensor,
    aten.sub.Tensor: aten.rsub.Scalar,
    aten.gt.Tensor: aten.lt.Scalar,
    aten.ge.Tensor: aten.le.Scalar,
    aten.lt.Tensor: aten.gt.Scalar,
    aten.le.Tensor: aten.ge.Scalar,
    aten.eq.Tensor: aten.eq.Scalar,
    aten.ne.Tensor: aten.ne.Scalar,
}
"""What the operator becomes when the number was its first tensor."""


def _literal(edit: Edit, node: fx.Node) -> Answer:
    """Put a number in place of a one-element constant operand."""
    first, second = node.args[:2]
    if node.kwargs:
        return None
    if isinstance(first, int | float) and isinstance(second, fx.Node):
        return _mirrored(edit, node, second, first)
    if isinstance(first, fx.Node) and isinstance(second, fx.Node):
        value = _uniform(edit, second)
        if value is not None:
            return _fitting(edit, node, _LITERAL[node.target], first, value)
        value = _uniform(edit, first)
        if value is not None:
            return _mirrored(edit, node, second, value)
    return None


def _uniform(edit: Edit, value: fx.Node) -> float | int | None:
    """Give the number that a constant holds everywhere."""
    if is_call(value, aten.full.default):
        filled = value.args[1]
        is_number = isinstance(filled, int | float) and not isinstance(filled, bool)
        return filled if is_number else None  # type: ignore[return-value]
    return number(edit, value)


def _mirrored(edit: Edit, node: fx.Node, other: fx.Node, value: float) -> Answer:
    if node.target is aten.div.Tensor and value == 1:
        return _fitting(edit, node, aten.reciprocal.default, other)
    target = _MIRRORED.get(node.target)
    return None if target is None else _fitting(edit, node, target, other, value)


def _fitting(edit: Edit, node: fx.Node, target: Any, *args: Any) -> Answer:
    """Emit a call if it promotes and broadcasts as the one it replaces."""
    new = edit.emit(target, *args)
    return new if agree(new.meta["val"], node.meta["val"]) else None


def _branch(edit: Edit, node: fx.Node) -> Answer:
    """Put numbers in place of one-element branches of a where."""
    condition, first, second = node.args
    a, b = (v if isinstance(v, int | float) else _uniform(edit, v) for v in (first, second))  # type: ignore[arg-type]
    if a is not None and b is not None:
        target: Any = aten.where.Scalar
    elif a is not None:
        target, b = aten.where.ScalarSelf, second  # type: ignore[assignment]
    elif b is not None:
        target, a = aten.where.ScalarOther, first  # type: ignore[assignment]
    else:
        return None
    return None if target is node.target else _fitting(edit, node, target, condition, a, b)


def _exponent(edit: Edit, node: fx.Node) -> Answer:
    """Put the exponent in place of a weight that holds it; no operator takes it per member."""
    base, exponent = node.args
    tensor = tensor_of(exponent)
    if tensor is None or not edit.is_weight(exponent) or tensor.numel() != 1 or not is_float(base):
        return None
    value = guarded_number(edit, exponent, "an exponent")
    return None if value is None else _fitting(edit, node, aten.pow.Tensor_Scalar, base, value)


def _extreme(edit: Edit, node: fx.Node) -> Answer:
    """Spell a maximum or minimum with a number as a clamp."""
    for x, other in (node.args[:2], node.args[1::-1]):
        value = number(edit, other)
        if value is not None and isinstance(x, fx.Node):
            bounds = (value, None) if node.target is aten.maximum.default else (None, value)
            return _fitting(edit, node, aten.clamp.default, x, *bounds)
    return None


def _no_alpha(edit: Edit, node: fx.Node) -> Answer:
    alpha = node.kwargs.get("alpha")
    if not isinstance(alpha, int | float):
        return None
    first, second = node.args
    scaled = (
        second * alpha
        if isinstance(second, int | float)
        else edit.emit(aten.mul.Tensor, second, alpha)
    )
    return _fitting(edit, node, node.target, first, scaled)


def _subtract(edit: Edit, node: fx.Node) -> Answer:
    """Spell the subtraction of a constant as the addition of its negative, which is exact."""
    first, second = node.args[:2]
    if node.kwargs or not is_float(node) or not isinstance(first, fx.Node):
        return None
    if isinstance(second, int | float):
        return edit.emit(aten.add.Tensor, first, -second)
    if edit.is_weight(second) and is_float(second) and not edit.is_constant(first):
        return edit.emit(aten.add.Tensor, first, edit.emit(aten.neg.default, second))
    return None


def _divide(edit: Edit, node: fx.Node) -> Answer:
    """Spell division by a power of two as a product, which is exact."""
    x, divisor = node.args[:2]
    if node.kwargs or not is_float(x) or not isinstance(divisor, int | float) or divisor == 0:
        return None
    exact = math.frexp(abs(divisor))[0] == 0.5 and 1e-30 < abs(divisor) < 1e30
    return edit.emit(aten.mul.Tensor, x, 1 / divisor) if exact else None


def _neutral(edit: Edit, node: fx.Node) -> Answer:
    """Drop x + 0, x * 1, x / 1."""
    x, other = node.args[:2]
    neutral = 0 if node.target is aten.add.Tensor else 1
    if isinstance(other, int | float) and other == neutral and isinstance(x, fx.Node):
        return x if agree(x.meta["val"], node.meta["val"]) else None
    return None


def _hoist(edit: Edit, node: fx.Node) -> Answer:
    """Multiply before a reshape or transposition rather than after it."""
    view, factor = node.args[:2]
    if node.kwargs or not isinstance(factor, int | float) or not is_float(node):
        return None
    if not is_call(view, aten.reshape.default, aten.permute.default) or not only_user(view, node):
        return None
    if not agree(view.meta["val"], node.meta["val"]):
        return None
    inner = edit.emit(node.target, view.args[0], factor)
    return edit.emit(view.target, inner, *view.args[1:])


def _chain(edit: Edit, node: fx.Node) -> Answer:
    """Join two products, or two sums, with constants into one."""
    outer = _split(edit, node)
    if outer is None or not isinstance(outer[0], fx.Node) or not is_call(outer[0], node.target):
        return None
    inner = _split(edit, outer[0])
    if inner is None or not only_user(outer[0], node) or not is_float(node):
        return None
    x, a, b = inner[0], inner[1], outer[1]
    if isinstance(a, int | float) and isinstance(b, int | float):
        joined: Any = a * b if node.target is aten.mul.Tensor else a + b
        return edit.emit(node.target, x, joined) if math.isfinite(joined) else None
    if not _keeps_shape(a, b, x):
        return None
    joined = exactly(edit, lambda p, q: edit.emit(node.target, p, q), (a, b), node)
    return _fitting(edit, node, node.target, x, joined)


def _keeps_shape(a: object, b: object, x: object) -> bool:
    """Tell whether joining a and b makes no constant larger than x's own extents."""
    shapes = [shape_of(v) for v in (a, b) if isinstance(v, fx.Node)]
    joined: tuple[int, ...] = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    return len(joined) <= len(shape_of(x)) and any(same_shape(joined, s) for s in shapes)


def _split(edit: Edit, node: fx.Node) -> tuple[object, Any] | None:
    """Give (x, constant) of a binary call with one constant operand."""
    if node.kwargs:
        return None
    x, c = node.args[:2]
    if isinstance(x, fx.Node) and edit.is_weight(x) and not edit.is_constant(c):
        x, c = c, x
    if not isinstance(x, fx.Node) or edit.is_constant(x) or tensor_of(x) is None:
        return None
    if isinstance(c, int | float) or (edit.is_weight(c) and is_float(c)):
        return x, c
    return None


RULES: Final = (
    Rule("number_as_literal", tuple(_LITERAL), _literal),
    Rule(
        "branch_as_literal",
        (aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther),
        _branch,
    ),
    Rule("exponent_as_literal", (aten.pow.Tensor_Tensor,), _exponent),
    Rule("extreme_to_clamp", (aten.maximum.default, aten.minimum.default), _extreme),
    Rule("no_alpha", (aten.add.Tensor, aten.sub.Tensor), _no_alpha),
    Rule("subtract_to_add", (aten.sub.Tensor,), _subtract),
    Rule("divide_to_multiply", (aten.div.Tensor,), _divide),
    Rule("neutral_number", (aten.add.Tensor, aten.mul.Tensor, aten.div.Tensor), _neutral),
    Rule("number_above_view", (aten.mul.Tensor, aten.div.Tensor), _hoist),
    Rule("join_constants", (aten.add.Tensor, aten.mul.Tensor), _chain),
)
