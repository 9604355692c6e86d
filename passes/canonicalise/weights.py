"""Arithmetic on weights: done in float64 and cast back, so that folding never loses accuracy."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from fusec.passes.canonicalise.facts import dtype_of, is_call, tensor_of
from fusec.passes.canonicalise.rewrite import Edit
from fusec.passes.canonicalise.shapes import reshape

__all__ = ["exactly", "may_scale", "narrow", "per_channel", "widen"]

aten = torch.ops.aten


def widen(edit: Edit, value: Any) -> Any:
    """Cast a weight to float64; numbers stay.

    What was rounded from float64 by an earlier fold gives its unrounded value: chains of folds
    round once.
    """
    if tensor_of(value) is None or dtype_of(value) == torch.float64:
        return value
    for view in (aten.reshape.default, aten.expand.default, aten.permute.default):
        if is_call(value, view):
            return edit.emit(view, widen(edit, value.args[0]), *value.args[1:])
    if is_call(value, aten._to_copy.default) and dtype_of(value.args[0]) == torch.float64:
        return value.args[0]
    return edit.emit(aten._to_copy.default, value, dtype=torch.float64)


def narrow(edit: Edit, value: fx.Node, dtype: torch.dtype) -> fx.Node:
    """Cast a weight back."""
    if dtype_of(value) == dtype:
        return value
    return edit.emit(aten._to_copy.default, value, dtype=dtype)


def exactly(
    edit: Edit, function: Callable[..., fx.Node], operands: Sequence[Any], like: fx.Node
) -> fx.Node:
    """Emit a function of weights computed in float64, its result in the dtype of `like`."""
    wide = function(*(widen(edit, operand) for operand in operands))
    return narrow(edit, wide, dtype_of(like))


def may_scale(node: fx.Node) -> bool:
    """Tell whether scaling weights of a node's dtype costs no accuracy.

    Products of half-width tensors are summed in float32: rounding scaled weights to half width
    would be the larger error.
    """
    return dtype_of(node) in (torch.float32, torch.float64)


def per_channel(
    edit: Edit, value: object, channels: int, axis: int, rank: int
) -> fx.Node | float | None:
    """Give a constant as a vector [channels], or as a number.

    Args:
        edit: the pass's program.
        value: a number, or a weight that broadcasts against a tensor of `rank`.
        channels: extent of the tensor along `axis`.
        axis: the axis along which the constant may vary.
        rank: of the tensor.

    Returns:
        None if the constant is no weight or varies along another axis.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    tensor = tensor_of(value)
    if tensor is None or not edit.is_weight(value) or tensor.dim() > rank:
        return None
    assert isinstance(value, fx.Node)
    extents = [1] * (rank - tensor.dim()) + list(tensor.shape)
    if any(d != 1 for i, d in enumerate(extents) if i != axis):
        return None
    if extents[axis] == channels:
        return reshape(edit, value, [channels])
    if extents[axis] != 1:
        return None
    one = reshape(edit, value, [1])
    assert one is not None
    return edit.emit(aten.expand.default, one, [channels])
