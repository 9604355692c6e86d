"""What rules ask about nodes: shapes, dtypes, numbers, and how close two numbers are."""

import re
from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

from fusec.ir.template import Predicate
from fusec.passes.canonicalise.rewrite import Edit

__all__ = [
    "close",
    "dtype_of",
    "guarded_number",
    "is_call",
    "is_float",
    "is_lifted",
    "number",
    "only_user",
    "same",
    "same_shape",
    "shape_of",
    "tensor_of",
]

_LIFTED = re.compile(r"(.*\.)?(lifted_tensor|_tensor_constant)_?\d+")
"""Names that torch.export gives to tensors made in a forward."""

_TINY = 4
"""Constants agree when they differ by at most this many units of the dtype's precision."""


def tensor_of(value: object) -> torch.Tensor | None:
    """Give the fake tensor of a node; None for anything else."""
    found = value.meta.get("val") if isinstance(value, fx.Node) else None
    return found if isinstance(found, torch.Tensor) else None


def shape_of(node: object) -> tuple[Any, ...]:
    """Give a node's extents: integers or symbolic."""
    tensor = tensor_of(node)
    assert tensor is not None, f"{node} is no tensor"
    return tuple(tensor.shape)


def dtype_of(node: object) -> torch.dtype:
    """Give a node's dtype."""
    tensor = tensor_of(node)
    assert tensor is not None, f"{node} is no tensor"
    return tensor.dtype


def is_float(node: object) -> bool:
    """Tell whether a node is a real floating-point tensor."""
    tensor = tensor_of(node)
    return tensor is not None and tensor.dtype.is_floating_point


def is_call(value: object, *targets: object) -> TypeGuard[fx.Node]:
    """Tell whether a value is a call of one of some operators."""
    return isinstance(value, fx.Node) and value.op == "call_function" and value.target in targets


def same(a: object, b: object) -> bool:
    """Tell whether two extents are known to be equal, without adding a guard."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return bool(statically_known_true(a == b))


def same_shape(a: Sequence[object], b: Sequence[object]) -> bool:
    """Tell whether two shapes are known to be equal."""
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def only_user(node: fx.Node, user: fx.Node) -> bool:
    """Tell whether nobody but `user` needs a node."""
    return all(u is user for u in node.users)


def number(edit: Edit, value: object) -> float | int | None:
    """Give a literal, or the value of a one-element constant.

    A constant made of literals needs no guard; a number that tracing lifted out of the source's
    code (`torch.tensor(6.0)` in a forward) gets one, as it is among the member's weights.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    tensor = tensor_of(value)
    if tensor is None or tensor.numel() != 1:
        return None
    if edit.is_free(value):
        return _item(edit, value)
    lifted = tensor.dim() == 0 and is_lifted(edit.weight_name(value) or "")
    return guarded_number(edit, value, "a number in the source's code") if lifted else None


def is_lifted(name: str) -> bool:
    """Tell whether a weight's name says that tracing lifted it out of the source's code."""
    return _LIFTED.fullmatch(name) is not None


def guarded_number(edit: Edit, value: object, name: str) -> float | int | None:
    """Give a literal or the value of a one-element weight; a weight gets a guard.

    For numbers that an operator takes as an attribute only: an epsilon, an exponent.

    Args:
        edit: the pass's program.
        value: a literal or a node.
        name: what the number is, for the guard's text.
    """
    tensor = tensor_of(value)
    if tensor is None or not edit.is_weight(value) or tensor.numel() != 1:
        return number(edit, value)
    assert isinstance(value, fx.Node)
    found = _item(edit, value)
    if found is not None:
        edit.guard(value, Predicate.EQUALS, float(found), f"is {found:g} ({name})")
    return found


def _item(edit: Edit, value: object) -> float | int | None:
    assert isinstance(value, fx.Node)
    found = edit.value(value).item()
    if found != found:
        # A NaN equals nothing, so no guard could hold it; it stays a tensor.
        return None
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def close(a: float, b: float, dtype: torch.dtype) -> bool:
    """Tell whether two numbers are one constant at the precision of a dtype."""
    if not dtype.is_floating_point:
        return a == b
    return abs(a - b) <= _TINY * torch.finfo(dtype).eps * max(abs(a), abs(b))
