"""Group norm and instance norm as `group_norm`, from the ways exporters write them.

    instance_norm(x, g, b)                                  ->  group_norm(x, channels, g, b)
    reshape(group_norm(reshape(x, [n, k, -1]), k))          ->  group_norm(x, k)
    mul(group_norm(x, k), g), add(group_norm(x, k, g), b)   ->  group_norm(x, k, g, b)
    mul(layer_norm(x, spatial extents), g per channel)      ->  group_norm(x, channels, g)

The second is how PyTorch's ONNX exporter writes GroupNorm, with an affine of ones and zeros inside;
that they are ones and zeros is guarded.
"""

import operator
from typing import Any, Final

import torch
from torch import fx

from fusec.ir.template import Predicate
from fusec.passes.canonicalise.facts import (
    dtype_of,
    is_call,
    is_float,
    only_user,
    same,
    same_shape,
    shape_of,
)
from fusec.passes.canonicalise.rewrite import Answer, Edit, No, Rule
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.canonicalise.weights import per_channel
from fusec.passes.report import Reason

__all__ = ["RULES"]

aten = torch.ops.aten
GROUP: Final = aten.group_norm.default


def _instance_norm(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    if not given["use_input_stats"] or given["running_mean"] is not None:
        return None
    x, channels = given["input"], shape_of(given["input"])[1]
    if not isinstance(channels, int):
        return None
    return edit.emit(GROUP, x, channels, given["weight"], given["bias"], given["eps"])


def _native(edit: Edit, node: fx.Node) -> Answer:
    source, index = node.args
    if index != 0 or not is_call(source, aten.native_group_norm.default):
        return None
    given = arguments(source)
    return edit.emit(
        GROUP, given["input"], given["group"], given["weight"], given["bias"], given["eps"]
    )


def _through_reshape(edit: Edit, node: fx.Node) -> Answer:
    norm = node.args[0]
    if not is_call(norm, GROUP):
        return None
    given = arguments(norm)
    before = given["input"]
    if not is_call(before, aten.reshape.default):
        return None
    x, groups = before.args[0], given["num_groups"]
    inner, outer = shape_of(before), shape_of(x)
    if not same_shape(shape_of(node), outer) or len(outer) < 3 or not same(inner[0], outer[0]):
        return None
    whole = same(inner[1], groups) and isinstance(outer[1], int) and outer[1] % groups == 0
    if not whole or not _is_trivial(edit, given["weight"], 1) or not _is_trivial(
            edit, given["bias"], 0):  # fmt: skip
        return None
    return edit.emit(GROUP, x, groups, None, None, given["eps"])


def _is_trivial(edit: Edit, value: Any, wanted: float) -> bool:
    """Tell whether an affine is absent or does nothing; a weight gets a guard."""
    if value is None:
        return True
    if not edit.is_constant(value) or not bool((edit.value(value) == wanted).all()):
        return False
    edit.guard(value, Predicate.EQUALS, wanted, f"is {wanted:g} everywhere (a norm without affine)")
    return True


def _absorb(edit: Edit, node: fx.Node) -> Answer:
    """Take a constant per channel after a group norm into it."""
    if node.kwargs or not is_float(node):
        return None
    for norm, constant in (node.args[:2], node.args[1::-1]):
        if is_call(norm, GROUP):
            return _absorbed(edit, node, norm, constant)
        if is_call(norm, aten.layer_norm.default) and node.target is aten.mul.Tensor:
            return _instance(edit, node, norm, constant)
    return None


def _absorbed(edit: Edit, node: fx.Node, norm: fx.Node, constant: Any) -> Answer:
    given = arguments(norm)
    is_factor = node.target is aten.mul.Tensor
    if (given["bias"] is not None) or (is_factor and given["weight"] is not None):
        return None
    vector = _channels(edit, node, norm, constant)
    if vector is None:
        return None
    if not only_user(norm, node):
        return No(Reason.USED_ELSEWHERE, f"{norm.name} without affine is needed elsewhere")
    weight, bias = (vector, None) if is_factor else (given["weight"], vector)
    return edit.emit(GROUP, given["input"], given["num_groups"], weight, bias, given["eps"])


def _channels(edit: Edit, node: fx.Node, norm: fx.Node, constant: Any) -> fx.Node | None:
    shape = shape_of(norm)
    if len(shape) < 3 or not same_shape(shape, shape_of(node)):
        return None
    vector = per_channel(edit, constant, shape[1], 1, len(shape))
    return vector if isinstance(vector, fx.Node) and dtype_of(vector) == dtype_of(node) else None


def _instance(edit: Edit, node: fx.Node, norm: fx.Node, constant: Any) -> Answer:
    """Spell layer norm over the spatial axes with a factor per channel as instance norm."""
    given = arguments(norm)
    shape = shape_of(norm)
    plain = given["weight"] is None and given["bias"] is None
    if not plain or len(given["normalized_shape"]) != len(shape) - 2 or not only_user(norm, node):
        return None
    varies = isinstance(constant, fx.Node) and len(shape_of(constant)) >= len(shape) - 1
    vector = _channels(edit, node, norm, constant) if varies else None
    if vector is None or not isinstance(shape[1], int):
        return None
    return edit.emit(GROUP, given["input"], shape[1], vector, None, given["eps"])


RULES: Final = (
    Rule("instance_norm_to_group_norm", (aten.instance_norm.default,), _instance_norm),
    Rule("native_group_norm", (operator.getitem,), _native),
    Rule("group_norm_through_reshape", (aten.reshape.default,), _through_reshape),
    Rule("affine_into_group_norm", (aten.mul.Tensor, aten.add.Tensor), _absorb),
)
