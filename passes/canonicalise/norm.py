"""Layer norm and RMS norm raised from the ways exporters write them.

    d = x - mean(x);  d / sqrt(mean(d * d) + eps) * g + b          PyTorch's ONNX exporter
    x * inv * g + (b - mean * inv * g), inv = rsqrt(var(x) + eps)  TensorFlow, Keras
    d * reciprocal(sqrt(...)) * g + b                              tf2onnx, Paddle
    x * rsqrt(mean(x * x) + eps) * g                               RMS norm

All are one sum of products over x, its mean and v ** -0.5; see `algebra`. Axes that are not the
last ones are moved there and back.
"""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.algebra import Powers, Term, expand
from fusec.passes.canonicalise.facts import (
    close,
    dtype_of,
    guarded_number,
    is_call,
    is_float,
    only_user,
    same_shape,
    shape_of,
    tensor_of,
)
from fusec.passes.canonicalise.rewrite import Answer, Edit, No, Rule
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.canonicalise.shapes import permute, reshape
from fusec.passes.canonicalise.weights import exactly
from fusec.passes.report import Reason

__all__ = ["RULES"]

aten = torch.ops.aten

_ARITHMETIC: Final = (
    aten.mul.Tensor, aten.div.Tensor, aten.add.Tensor, aten.sub.Tensor, aten.neg.default,
    aten.reciprocal.default, aten.rsub.Scalar,
)  # fmt: skip
_ROOTS: Final = (aten.sqrt.default, aten.rsqrt.default)
_DEPTH: Final = 6
"""How far below the last operation of a norm its square root may be."""


@dataclass(frozen=True, slots=True)
class _Statistics:
    """What stands under the square root: the mean square or the variance of x over some axes."""

    x: fx.Node
    mean: fx.Node | None
    """None for the mean square."""
    axes: tuple[int, ...]
    eps: float


@dataclass(frozen=True, slots=True)
class _Affine:
    """Constant factors and terms around a normalised value."""

    number: float
    gains: Powers
    shifts: tuple[Term, ...]


def _norm(edit: Edit, node: fx.Node) -> Answer:
    if edit.is_constant(node) or not is_float(node):
        return None
    for root in _roots(node, _DEPTH):
        radicand = root.args[0]
        assert isinstance(radicand, fx.Node)
        stats = _statistics(edit, radicand)
        if stats is None or not same_shape(shape_of(stats.x), shape_of(node)):
            continue
        affine = _affine(edit, node, radicand, stats)
        if affine is not None:
            return _raise(edit, node, stats, affine)
    return None


def _roots(node: fx.Node, depth: int) -> Iterator[fx.Node]:
    """Find square roots below a node, nearest first, through arithmetic only."""
    level, seen = [node], {node}
    for _ in range(depth):
        below = []
        for parent in level:
            for child in parent.all_input_nodes:
                if child in seen:
                    continue
                seen.add(child)
                if is_call(child, *_ROOTS):
                    yield child
                elif is_call(child, *_ARITHMETIC):
                    below.append(child)
        level = below


def _statistics(edit: Edit, radicand: fx.Node) -> _Statistics | None:
    mean: Any
    variance, eps = _plus_number(edit, radicand)
    if is_call(variance, aten.relu.default):
        # A variance computed as a difference may round below 0; it never is.
        variance = variance.args[0]
    if is_call(variance, aten.var.correction):
        given = arguments(variance)
        if given["correction"] != 0 or not given["keepdim"]:
            return None
        mean = _find_mean(given["self"], given["dim"])
        return _Statistics(given["self"], mean or given["self"], tuple(given["dim"]), eps)
    if is_call(variance, aten.sub.Tensor):
        return _difference_of_moments(variance, eps)
    squared = _mean_of_square(variance)
    if squared is None:
        return None
    inner, axes = squared
    if is_call(inner, aten.sub.Tensor) and not inner.kwargs:
        x, mean = inner.args[:2]
        if isinstance(x, fx.Node) and is_call(mean, aten.mean.dim) and mean.args[0] is x:
            return _Statistics(x, mean, axes, eps) if _mean_axes(mean) == axes else None
    return _Statistics(inner, None, axes, eps)


def _plus_number(edit: Edit, node: fx.Node) -> tuple[object, float]:
    """Split v + eps."""
    if is_call(node, aten.add.Tensor) and not node.kwargs:
        for v, other in (node.args[:2], node.args[1::-1]):
            eps = guarded_number(edit, other, "the epsilon of a norm")
            if eps is not None and eps >= 0:
                return v, float(eps)
    return node, 0.0


def _mean_of_square(node: object) -> tuple[fx.Node, tuple[int, ...]] | None:
    """Give (y, axes) of mean(y * y, axes, keepdim)."""
    if not is_call(node, aten.mean.dim):
        return None
    square, axes = node.args[0], _mean_axes(node)
    if axes is None or not is_call(square, aten.mul.Tensor) or square.args[0] is not square.args[1]:
        return None
    y = square.args[0]
    return (y, axes) if isinstance(y, fx.Node) else None


def _mean_axes(node: fx.Node) -> tuple[int, ...] | None:
    given = arguments(node)
    rank = len(shape_of(given["self"]))
    if not given["keepdim"] or given["dtype"] is not None:
        return None
    return tuple(sorted(d % rank for d in given["dim"]))


def _difference_of_moments(node: fx.Node, eps: float) -> _Statistics | None:
    """Match mean(x * x) - mean(x) * mean(x)."""
    squared, second = _mean_of_square(node.args[0]), node.args[1]
    if squared is None or node.kwargs or not is_call(second, aten.mul.Tensor):
        return None
    x, axes = squared
    mean = second.args[0]
    if second.args[1] is not mean or not is_call(mean, aten.mean.dim):
        return None
    if mean.args[0] is not x or _mean_axes(mean) != axes:
        return None
    return _Statistics(x, mean, axes, eps)


def _find_mean(x: fx.Node, axes: Sequence[int]) -> fx.Node | None:
    wanted = tuple(sorted(axes))
    for user in x.users:
        if is_call(user, aten.mean.dim) and user.args[0] is x and _mean_axes(user) == wanted:
            return user
    return None


def _affine(edit: Edit, node: fx.Node, radicand: fx.Node, stats: _Statistics) -> _Affine | None:
    """Read a node as (x - mean) * radicand ** -0.5 * gains + shifts."""
    known = (stats.x, stats.mean, radicand)
    terms = expand(node, lambda n: n in known or edit.is_constant(n))
    if terms is None:
        return None
    constant = [t for t in terms if all(edit.is_constant(n) and p == 1 for n, p in t.powers)]
    moving = [t for t in terms if t not in constant]
    wanted = [stats.x] if stats.mean is None else [stats.x, stats.mean]
    if len(moving) != len(wanted):
        return None
    first = next((t for t in moving if t.power(stats.x) == 1 and t.power(radicand) == -0.5), None)
    if first is None:
        return None
    gains = first.without(stats.x, radicand)
    if any(not edit.is_constant(n) or p != 1 for n, p in gains):
        return None
    if stats.mean is not None and not _is_counterpart(moving, first, stats, radicand):
        return None
    return _Affine(first.number, gains, tuple(constant))


def _is_counterpart(moving: list[Term], first: Term, stats: _Statistics, radicand: fx.Node) -> bool:
    """Tell whether the other term is the mean times the same factors, subtracted."""
    assert stats.mean is not None
    (second,) = (t for t in moving if t is not first)
    return (
        second.power(stats.mean) == 1
        and second.power(radicand) == -0.5
        and close(second.number, -first.number, dtype_of(stats.x))
        and second.without(stats.mean, radicand) == first.without(stats.x, radicand)
    )


def _raise(edit: Edit, node: fx.Node, stats: _Statistics, affine: _Affine) -> Answer:
    shape = [shape_of(stats.x)[a] for a in stats.axes]
    if not all(isinstance(d, int) for d in shape):
        return No(Reason.SHAPE, f"the normalised extents {shape} vary between requests")
    if dtype_of(node) != dtype_of(stats.x):
        return No(Reason.DTYPE, f"{dtype_of(stats.x)} in, {dtype_of(node)} out")
    if affine.number != 1 and not affine.gains:
        return None
    gain = _gain(edit, affine, node)
    shift = _shift(edit, affine, node)
    moved = _moved(edit, stats.x, stats.axes)
    rank = len(shape_of(node))
    weight = _fit(edit, gain, stats.axes, rank, shape)
    bias = _fit(edit, shift, stats.axes, rank, shape)
    taken_bias = bias if stats.mean is not None and (gain is None or weight is not None) else None
    if stats.mean is None:
        core = edit.emit(aten.rms_norm.default, moved, shape, weight, stats.eps)
    else:
        core = edit.emit(aten.layer_norm.default, moved, shape, weight, taken_bias, stats.eps)
    result = _moved_back(edit, core, stats.axes)
    if gain is not None and weight is None:
        result = edit.emit(aten.mul.Tensor, result, gain)
    if shift is not None and taken_bias is None:
        result = edit.emit(aten.add.Tensor, result, shift)
    return result


def _gain(edit: Edit, affine: _Affine, like: fx.Node) -> Any:
    parts = [n for n, _ in affine.gains]
    if not parts:
        return None
    if len(parts) == 1 and affine.number == 1:
        return parts[0]

    def product(*wide: Any) -> fx.Node:
        total = wide[0]
        for part in wide[1:]:
            total = edit.emit(aten.mul.Tensor, total, part)
        return total if affine.number == 1 else edit.emit(aten.mul.Tensor, total, affine.number)

    return exactly(edit, product, parts, like)


def _shift(edit: Edit, affine: _Affine, like: fx.Node) -> Any:
    terms = affine.shifts
    if not terms:
        return None
    if len(terms) == 1 and not terms[0].powers:
        return terms[0].number
    if len(terms) == 1 and terms[0].number == 1 and len(terms[0].powers) == 1:
        return terms[0].powers[0][0]

    def total(*_: Any) -> fx.Node:
        result: Any = None
        for term in terms:
            part: Any = term.number
            for node, _power in term.powers:
                wide = edit.emit(aten._to_copy.default, node, dtype=torch.float64)
                part = wide if part == 1 else edit.emit(aten.mul.Tensor, wide, part)
            result = part if result is None else edit.emit(aten.add.Tensor, part, result)
        assert isinstance(result, fx.Node)
        return result

    return exactly(edit, total, (), like)


def _fit(
    edit: Edit, value: Any, axes: Sequence[int], rank: int, shape: Sequence[int]
) -> fx.Node | None:
    """Give a constant in the normalised shape; None if it varies along other axes."""
    if tensor_of(value) is None or not edit.is_weight(value):
        return None
    extents = shape_of(value)
    full = [1] * (rank - len(extents)) + list(extents)
    if len(full) != rank or any(d != 1 for i, d in enumerate(full) if i not in axes):
        return None
    tight = [full[a] for a in axes]
    vector = reshape(edit, value, tight)
    assert vector is not None
    return vector if tight == list(shape) else edit.emit(aten.expand.default, vector, list(shape))


def _order(axes: Sequence[int], rank: int) -> list[int]:
    return [a for a in range(rank) if a not in axes] + list(axes)


def _moved(edit: Edit, x: fx.Node, axes: Sequence[int]) -> fx.Node:
    return permute(edit, x, _order(axes, len(shape_of(x))))


def _moved_back(edit: Edit, x: fx.Node, axes: Sequence[int]) -> fx.Node:
    order = _order(axes, len(shape_of(x)))
    return permute(edit, x, [order.index(a) for a in range(len(order))])


def _native(edit: Edit, node: fx.Node) -> Answer:
    """Spell the first result of native_layer_norm as layer_norm."""
    source, index = node.args
    if index != 0 or not is_call(source, aten.native_layer_norm.default):
        return None
    given = arguments(source)
    return edit.emit(aten.layer_norm.default, *list(given.values())[:5])


def _absorb(edit: Edit, node: fx.Node) -> Answer:
    """Take a constant factor, then a constant term, after a norm into the norm."""
    if node.kwargs:
        return None
    for source, constant in (node.args[:2], node.args[1::-1]):
        order: Any = None
        norm: Any = source
        if is_call(source, aten.permute.default):
            norm, order = source.args[:2]
        if is_call(norm, aten.layer_norm.default, aten.rms_norm.default) and edit.is_weight(
            constant
        ):
            return _absorbed(edit, node, norm, order, constant)
    return None


def _absorbed(
    edit: Edit, node: fx.Node, norm: fx.Node, order: Sequence[int] | None, constant: object
) -> Answer:
    given = arguments(norm)
    is_factor = node.target is aten.mul.Tensor
    taken = given["weight"] is not None or given.get("bias") is not None
    if (is_factor and taken) or (not is_factor and given.get("bias", norm) is not None):
        return None
    shape, rank = given["normalized_shape"], len(shape_of(norm))
    order = list(range(rank)) if order is None else order
    axes = [order.index(a) for a in range(rank - len(shape), rank)]
    fitted = _fit(edit, constant, axes, rank, shape)
    if fitted is None or dtype_of(fitted) != dtype_of(norm):
        return None
    if not same_shape(shape_of(node), [shape_of(norm)[a] for a in order]):
        return None
    between = next((n for n in node.all_input_nodes if norm in n.all_input_nodes), node)
    if not only_user(norm, between) or not (between is node or only_user(between, node)):
        return No(Reason.USED_ELSEWHERE, f"{norm.name} without affine is needed elsewhere")
    if norm.target is aten.rms_norm.default:
        new = edit.emit(norm.target, given["input"], shape, fitted, given["eps"])
    else:
        weight, bias = (fitted, None) if is_factor else (given["weight"], fitted)
        new = edit.emit(norm.target, given["input"], shape, weight, bias, given["eps"])
    return permute(edit, new, order)


RULES: Final = (
    Rule("native_layer_norm", (operator.getitem,), _native),
    Rule("raise_norm", (aten.mul.Tensor, aten.div.Tensor, aten.add.Tensor, aten.sub.Tensor),
         _norm),
    Rule("affine_into_norm", (aten.mul.Tensor, aten.add.Tensor), _absorb),
)  # fmt: skip
