"""Arithmetic on weights: done in float64 and cast back, so that folding never loses accuracy."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from fusec.passes.canonicalise.facts import dtype_of, tensor_of
from fusec.passes.canonicalise.rewrite import Edit

__all__ = ["exactly", "narrow", "widen"]

aten = torch.ops.aten


def widen(edit: Edit, value: Any) -> Any:
    """Cast a weight to float64; numbers stay."""
    if tensor_of(value) is None or dtype_of(value) == torch.float64:
        return value
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
