"""Products of activations with a weight, all as `linear(x, w, b)`, w of shape [out, in].

mm, matmul, bmm of one matrix, addmm, baddbmm   ->  linear(x, permute(w), b)
alpha, beta                                     ->  into w and b
add(linear(x, w), b)                            ->  linear(x, w, b)
mul(linear(x, w, b), s)                         ->  linear(x, s * w, s * b)
linear(reshape(x), w), leading extents joined   ->  reshape(linear(x, w))
"""

from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.facts import (
    dtype_of,
    is_call,
    is_float,
    only_user,
    same,
    same_shape,
    shape_of,
    tensor_of,
)
from fusec.passes.canonicalise.rewrite import Answer, Edit, No, Rule
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.canonicalise.shapes import reshape
from fusec.passes.canonicalise.weights import exactly, may_scale, per_channel
from fusec.passes.report import Reason

__all__ = ["FOLDS", "RULES"]

aten = torch.ops.aten
LINEAR: Final = aten.linear.default


def _matmul(edit: Edit, node: fx.Node) -> Answer:
    """Spell x @ w with a weight on the right; w may carry leading extents of 1."""
    x, w = node.args[:2]
    if not _is_product(edit, x, w):
        return None
    assert isinstance(w, fx.Node)
    assert isinstance(x, fx.Node)
    matrix = _as_matrix(edit, w)
    if matrix is None or len(shape_of(x)) < len(shape_of(w)):
        return None
    turned = edit.emit(aten.permute.default, matrix, [1, 0])
    return _shaped(edit, edit.emit(LINEAR, x, turned), node)


def _is_product(edit: Edit, x: object, w: object) -> bool:
    return (
        edit.is_weight(w)
        and isinstance(x, fx.Node)
        and not edit.is_constant(x)
        and is_float(x)
        and dtype_of(x) == dtype_of(w)
    )


def _as_matrix(edit: Edit, w: fx.Node) -> fx.Node | None:
    """Drop leading extents of 1; None unless a matrix is left."""
    shape = shape_of(w)
    if len(shape) < 2 or any(d != 1 for d in shape[:-2]):
        return None
    return reshape(edit, w, shape[-2:])


def _shaped(edit: Edit, new: fx.Node, node: fx.Node) -> fx.Node | None:
    return reshape(edit, new, shape_of(node))


def _mv(edit: Edit, node: fx.Node) -> Answer:
    """Spell w @ x, x a vector, as a linear of one row."""
    w, x = node.args[:2]
    if not _is_product(edit, x, w):
        return None
    return edit.emit(LINEAR, x, w)


def _addmm(edit: Edit, node: fx.Node) -> Answer:
    """Spell beta * c + alpha * (x @ w) with a weight w."""
    given = arguments(node)
    c, alpha, beta = given["self"], given["alpha"], given["beta"]
    x, w = (given[k] for k in _FACTORS[node.target])
    if not _is_product(edit, x, w):
        return None
    matrix = _as_matrix(edit, w)
    if matrix is None:
        return None
    weight = edit.emit(aten.permute.default, _scaled(edit, matrix, alpha), [1, 0])
    out = shape_of(weight)[0]
    bias = _as_bias(edit, c, out) if beta != 0 else None
    product = _shaped_to(edit, edit.emit(LINEAR, x, weight, _biased(edit, bias, beta)), node)
    if beta == 0 or bias is not None or product is None:
        return product
    return edit.emit(aten.add.Tensor, product, _scaled(edit, c, beta))


def _shaped_to(edit: Edit, new: fx.Node, node: fx.Node) -> fx.Node | None:
    return reshape(edit, new, shape_of(node)) if len(shape_of(new)) == len(shape_of(node)) else new


_FACTORS: Final[dict[Any, tuple[str, str]]] = {
    aten.addmm.default: ("mat1", "mat2"),
    aten.baddbmm.default: ("batch1", "batch2"),
}


def _scaled(edit: Edit, value: fx.Node, factor: float) -> fx.Node:
    if factor == 1:
        return value
    if not edit.is_weight(value):
        return edit.emit(aten.mul.Tensor, value, factor)
    return exactly(edit, lambda v: edit.emit(aten.mul.Tensor, v, factor), (value,), value)


def _biased(edit: Edit, bias: fx.Node | None, beta: float) -> fx.Node | None:
    return None if bias is None else _scaled(edit, bias, beta)


def _as_bias(edit: Edit, value: object, out: int) -> fx.Node | None:
    """Give a weight as a vector [out]; None unless it says one number per output or one for all."""
    rank = max(len(shape_of(value)), 1) if isinstance(value, fx.Node) else 1
    vector = per_channel(edit, value, out, rank - 1, rank)
    return vector if isinstance(vector, fx.Node) else None


def _add_bias(edit: Edit, node: fx.Node) -> Answer:
    """Take the addition of a weight into the linear, through a reshape of leading extents."""
    found = _linear_and_constant(edit, node)
    if found is None:
        return None
    product, term = found
    given = arguments(product)
    out = shape_of(given["weight"])[0]
    if isinstance(term, int | float):
        return None
    bias = _as_bias(edit, term, out)
    if bias is None or dtype_of(bias) != dtype_of(node):
        return None
    if not only_user(product, node):
        return No(Reason.USED_ELSEWHERE, f"{product.name} without its bias is needed elsewhere")
    if not same_shape(shape_of(node), shape_of(product)):
        return None
    if given["bias"] is not None:
        bias = exactly(
            edit, lambda a, b: edit.emit(aten.add.Tensor, a, b), (given["bias"], bias), node
        )
    return edit.emit(LINEAR, given["input"], given["weight"], bias)


def _linear_and_constant(edit: Edit, node: fx.Node) -> tuple[fx.Node, Any] | None:
    if node.kwargs:
        return None
    for product, constant in (node.args[:2], node.args[1::-1]):
        usable = isinstance(constant, int | float) or edit.is_weight(constant)
        if is_call(product, LINEAR) and usable and dtype_of(product) == dtype_of(node):
            return product, constant
    return None


def _multiply(edit: Edit, node: fx.Node) -> Answer:
    """Take a factor per output, or one for all, into weight and bias."""
    found = _linear_and_constant(edit, node)
    if found is None or not may_scale(node):
        return None
    product, factor = found
    given = arguments(product)
    weight, bias = given["weight"], given["bias"]
    if not edit.is_weight(weight) or not (bias is None or edit.is_weight(bias)):
        return None
    scale = factor
    if isinstance(factor, fx.Node):
        scale = _as_bias(edit, factor, shape_of(weight)[0])
    if scale is None or not same_shape(shape_of(node), shape_of(product)):
        return None
    if not only_user(product, node):
        return No(Reason.USED_ELSEWHERE, f"{product.name} without its factor is needed elsewhere")
    return edit.emit(LINEAR, given["input"], *_times(edit, weight, bias, scale))


def _times(edit: Edit, weight: fx.Node, bias: fx.Node | None, scale: Any) -> list[Any]:
    def rows(w: Any, s: Any) -> fx.Node:
        column = edit.emit(aten.reshape.default, s, [-1, 1]) if isinstance(s, fx.Node) else s
        return edit.emit(aten.mul.Tensor, w, column)

    def each(b: Any, s: Any) -> fx.Node:
        return edit.emit(aten.mul.Tensor, b, s)

    scaled: list[Any] = [exactly(edit, rows, (weight, scale), weight)]
    return scaled if bias is None else [*scaled, exactly(edit, each, (bias, scale), bias)]


def _divide(edit: Edit, node: fx.Node) -> Answer:
    """Take a divisor into weight and bias, the quotient rounded once, as division does."""
    product, divisor = node.args[:2]
    if node.kwargs or not is_call(product, LINEAR) or not isinstance(divisor, int | float):
        return None
    if not may_scale(node):
        return None
    given = arguments(product)
    weight, bias = given["weight"], given["bias"]
    if not edit.is_weight(weight) or not (bias is None or edit.is_weight(bias)) or divisor == 0:
        return None
    if not only_user(product, node):
        return No(Reason.USED_ELSEWHERE, f"{product.name} undivided is needed elsewhere")
    parts = [
        exactly(edit, lambda v: edit.emit(aten.div.Tensor, v, divisor), (p,), p)
        for p in (weight, bias)
        if p is not None
    ]
    return edit.emit(LINEAR, given["input"], *parts)


def _sink_reshape(edit: Edit, node: fx.Node) -> Answer:
    """Let a reshape that leaves the last axis alone pass below the linear."""
    given = arguments(node)
    source = given["input"]
    if not is_call(source, aten.reshape.default) or edit.is_constant(source):
        return None
    inner = source.args[0]
    before, after = shape_of(inner), shape_of(source)
    if not before or not after or not same(before[-1], after[-1]):
        return None
    if not edit.is_weight(given["weight"]):
        return None
    product = edit.emit(LINEAR, inner, given["weight"], given["bias"])
    return reshape(edit, product, shape_of(node))


def _hoist_reshape(edit: Edit, node: fx.Node) -> Answer:
    """Let a reshape that leaves the last axis alone pass above the linear, into another reshape.

    The one above changes the last axis, so `_sink_reshape` leaves it where it is.
    """
    product = node.args[0]
    if not is_call(product, LINEAR) or not only_user(product, node):
        return None
    given = arguments(product)
    above = given["input"]
    after = shape_of(node)
    if not is_call(above, aten.reshape.default) or edit.is_constant(above) or not after:
        return None
    if not same(after[-1], shape_of(product)[-1]) or not edit.is_weight(given["weight"]):
        return None
    source: Any = above.args[0]
    if shape_of(source) and same(shape_of(source)[-1], shape_of(above)[-1]):
        return None
    new = reshape(edit, source, [*after[:-1], shape_of(above)[-1]])
    return None if new is None else edit.emit(LINEAR, new, given["weight"], given["bias"])


def _einsum(edit: Edit, node: fx.Node) -> Answer:
    """Spell '...k,nk->...n' and '...k,kn->...n' as linear."""
    equation, operands = node.args[0], node.args[1]
    if not isinstance(equation, str) or not isinstance(operands, list | tuple):
        return None
    if len(operands) != 2 or "->" not in equation or "." in equation:
        return None
    sides, result = equation.replace(" ", "").split("->")
    left, right = sides.split(",")
    x, w = operands
    if not _is_product(edit, x, w) or len(right) != 2 or tensor_of(x) is None:
        return None
    kept = left[:-1]
    if left[-1:] in right and not same(shape_of(x)[-1], shape_of(w)[right.index(left[-1])]):
        # An extent of 1 is repeated.
        return None
    if not left or len(set(left)) != len(left) or result[:-1] != kept:
        return None
    if right == result[-1:] + left[-1] and result[-1:] not in left:
        return edit.emit(LINEAR, x, w)
    if right == left[-1] + result[-1:] and result[-1:] not in left:
        return edit.emit(LINEAR, x, edit.emit(aten.permute.default, w, [1, 0]))
    return None


RULES: Final = (
    Rule("matmul_to_linear", (aten.mm.default, aten.matmul.default, aten.bmm.default), _matmul),
    Rule("mv_to_linear", (aten.mv.default,), _mv),
    Rule("addmm_to_linear", tuple(_FACTORS), _addmm),
    Rule("einsum_to_linear", (aten.einsum.default,), _einsum),
    Rule("sink_reshape", (LINEAR,), _sink_reshape),
    Rule("hoist_reshape", (aten.reshape.default,), _hoist_reshape),
    Rule("bias_into_linear", (aten.add.Tensor,), _add_bias),
)

FOLDS: Final = (
    Rule("factor_into_linear", (aten.mul.Tensor,), _multiply),
    Rule("divisor_into_linear", (aten.div.Tensor,), _divide),
)
"""Apply these after attention is raised, which wants to see its scale."""
