"""Means, sums and softmax in one spelling each.

div(sum(x, axes), n)                  ->  mean(x, axes)      n elements along the axes
reshape(mean(x, axes), kept extents)  ->  mean(x, axes, keepdim=True), and the other way
adaptive_avg_pool(x, 1)               ->  mean(x, spatial axes, keepdim=True)
avg_pool over the whole extent        ->  the same
exp(x - max(x)) / sum(exp(x - max))   ->  softmax(x)
softmax(x - c), c constant along it   ->  softmax(x)
log(softmax(x)),  x - logsumexp(x)    ->  log_softmax(x)
"""

import math
import operator
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.facts import (
    close,
    dtype_of,
    is_call,
    is_float,
    number,
    same,
    same_shape,
    shape_of,
)
from fusec.passes.canonicalise.rewrite import Answer, Edit, Rule
from fusec.passes.canonicalise.schema import arguments

__all__ = ["RULES"]

aten = torch.ops.aten

_REDUCTIONS: Final = (
    aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default,
    aten.var.correction, aten.logsumexp.default,
)  # fmt: skip
_POINTWISE: Final = (
    aten.mul.Tensor, aten.add.Tensor, aten.sub.Tensor, aten.div.Tensor, aten.relu.default,
    aten.clamp.default, aten.sqrt.default, aten.rsqrt.default, aten.reciprocal.default,
)  # fmt: skip
_DEPTH: Final = 6
_ADAPTIVE: Final = (
    aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default,
    aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool3d.default,
)  # fmt: skip
_POOLS: Final = (aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default)


def _mean_of_sum(edit: Edit, node: fx.Node) -> Answer:
    """Match sum / n and sum * (1 / n)."""
    total, factor = node.args[:2]
    if node.kwargs or not is_call(total, aten.sum.dim_IntList) or not is_float(node):
        return None
    value = number(edit, factor)
    given = arguments(total)
    shape = shape_of(given["self"])
    extents = [shape[d] for d in given["dim"]]
    if value is None or not all(isinstance(d, int) for d in extents) or given["dtype"] is not None:
        return None
    count = math.prod(extents)
    divides = node.target is aten.div.Tensor and value == count
    multiplies = node.target is aten.mul.Tensor and close(value * count, 1.0, dtype_of(node))
    if not (divides or multiplies) or dtype_of(given["self"]) != dtype_of(node):
        return None
    return edit.emit(aten.mean.dim, given["self"], given["dim"], given["keepdim"])


def _keepdim(edit: Edit, node: fx.Node) -> Answer:
    """Let a reduction keep or drop its axes itself, through arithmetic of reductions too."""
    source = node.args[0]
    if is_call(source, *_REDUCTIONS) and arguments(source)["keepdim"]:
        given = arguments(source)
        axes = [d % len(shape_of(given["self"])) for d in given["dim"]]
        dropped = [d for i, d in enumerate(shape_of(given["self"])) if i not in axes]
        if len(source.users) != 1 or not same_shape(shape_of(node), dropped):
            return None
        given["keepdim"] = False
        return edit.emit(source.target, **given)
    return _kept(edit, source, shape_of(node), _DEPTH)


def _kept(edit: Edit, node: Any, wanted: Sequence[Any], depth: int) -> fx.Node | None:
    """Give what reductions and arithmetic of them give, reduced axes kept; None if that fails."""
    if is_call(node, *_REDUCTIONS):
        given = arguments(node)
        before = shape_of(given["self"])
        axes = [d % max(len(before), 1) for d in given["dim"]]
        kept = [1 if i in axes else d for i, d in enumerate(before)]
        if given["keepdim"] or not same_shape(wanted, kept):
            return None
        given["keepdim"] = True
        return edit.emit(node.target, **given)
    if not is_call(node, *_POINTWISE) or node.kwargs or depth == 0:
        return None
    operands: list[Any] = []
    for operand in node.args:
        whole = isinstance(operand, fx.Node) and same_shape(shape_of(operand), shape_of(node))
        part = _kept(edit, operand, wanted, depth - 1) if whole else operand
        if part is None or (isinstance(operand, fx.Node) and not whole):
            return None
        operands.append(part)
    return edit.emit(node.target, *operands)


def _adaptive(edit: Edit, node: fx.Node) -> Answer:
    x, sizes = node.args[:2]
    spatial = list(sizes) if isinstance(sizes, list | tuple) else [sizes]
    if any(size != 1 for size in spatial):
        return None
    rank = len(shape_of(x))
    axes = list(range(rank - _spatial_axes(node), rank))
    return edit.emit(aten.mean.dim, x, axes, True)


def _spatial_axes(node: fx.Node) -> int:
    name = str(node.target)
    return next(n for n in (1, 2, 3) if f"{n}d" in name)


def _whole_pool(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    shape = shape_of(given["self"])
    spatial = _spatial_axes(node)
    extents = list(shape[-spatial:])
    kernel = _repeated(given["kernel_size"], spatial)
    plain = not any(_repeated(given["padding"], spatial)) and not given.get("divisor_override")
    if not plain or not same_shape(kernel, extents):
        return None
    rank = len(shape)
    return edit.emit(aten.mean.dim, given["self"], list(range(rank - spatial, rank)), True)


def _repeated(value: Any, length: int) -> list[Any]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    return items * length if len(items) == 1 else items


def _softmax(edit: Edit, node: fx.Node) -> Answer:
    """Match exp(z) / sum(exp(z)), z being x or x minus its maximum."""
    top, total = node.args[:2]
    if node.kwargs or not is_call(top, aten.exp.default) or not is_float(node):
        return None
    if not is_call(total, aten.sum.dim_IntList) or total.args[0] is not top:
        return None
    given = arguments(total)
    if len(given["dim"]) != 1 or not given["keepdim"] or given["dtype"] is not None:
        return None
    (dim,) = given["dim"]
    return edit.emit(aten.softmax.int, _without_maximum(top.args[0], dim), dim)


def _without_maximum(z: Any, dim: int) -> Any:
    """Give x of x - max(x); subtracting anything constant along the axis changes no softmax."""
    if not is_call(z, aten.sub.Tensor) or z.kwargs:
        return z
    x, largest = z.args[:2]
    if is_call(largest, operator.getitem) and largest.args[1] == 0:
        largest = largest.args[0]
    if not is_call(largest, aten.amax.default, aten.max.dim) or largest.args[0] is not x:
        return z
    given = arguments(largest)
    dims = given["dim"] if isinstance(given["dim"], list | tuple) else [given["dim"]]
    rank = len(shape_of(x))
    return x if [d % rank for d in dims] == [dim % rank] and given["keepdim"] else z


def _shifted_softmax(edit: Edit, node: fx.Node) -> Answer:
    """Drop a term that is constant along the axis of a softmax."""
    given = arguments(node)
    shifted, dim = given["self"], given["dim"]
    if not is_call(shifted, aten.sub.Tensor, aten.add.Tensor) or shifted.kwargs:
        return None
    pairs = [
        shifted.args[:2],
        *([] if shifted.target is aten.sub.Tensor else [shifted.args[1::-1]]),
    ]
    for x, term in pairs:
        if not isinstance(x, fx.Node) or not same_shape(shape_of(x), shape_of(shifted)):
            continue
        if isinstance(term, int | float) or _is_flat(term, dim - len(shape_of(x))):
            return edit.emit(node.target, x, dim)
    return None


def _is_flat(term: Any, dim: int) -> bool:
    """Tell whether a tensor has extent 1 along an axis counted from the back."""
    shape = shape_of(term)
    return len(shape) < -dim or same(shape[dim], 1)


def _log_of_softmax(edit: Edit, node: fx.Node) -> Answer:
    inner = node.args[0]
    if not is_call(inner, aten.softmax.int) or not is_float(node):
        return None
    given = arguments(inner)
    return edit.emit(aten.log_softmax.int, given["self"], given["dim"])


def _minus_logsumexp(edit: Edit, node: fx.Node) -> Answer:
    x, total = node.args[:2]
    if node.kwargs or not is_call(total, aten.logsumexp.default) or total.args[0] is not x:
        return None
    given = arguments(total)
    if len(given["dim"]) != 1 or not given["keepdim"]:
        return None
    return edit.emit(aten.log_softmax.int, x, given["dim"][0])


RULES: Final = (
    Rule("sum_to_mean", (aten.div.Tensor, aten.mul.Tensor), _mean_of_sum),
    Rule("keepdim", (aten.reshape.default,), _keepdim),
    Rule("global_pool_to_mean", _ADAPTIVE, _adaptive),
    Rule("whole_pool_to_mean", _POOLS, _whole_pool),
    Rule("raise_softmax", (aten.div.Tensor,), _softmax),
    Rule("shifted_softmax", (aten.softmax.int, aten.log_softmax.int), _shifted_softmax),
    Rule("raise_log_softmax", (aten.log.default,), _log_of_softmax),
    Rule("raise_log_softmax_difference", (aten.sub.Tensor,), _minus_logsumexp),
)
