"""Operators that have several names, brought to one; operators that do nothing, dropped."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.facts import dtype_of, is_call, is_float, shape_of, tensor_of
from fusec.passes.canonicalise.rewrite import Answer, Edit, Rule
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.verify import agree

__all__ = ["RULES"]

aten = torch.ops.aten
Target = Callable[..., object]

_NOTHING: Final = (
    aten.clone.default, aten.contiguous.default, aten.detach.default, aten.alias.default,
    aten.lift_fresh_copy.default, aten.lift_fresh.default, aten.detach_copy.default,
    aten.resolve_conj.default, aten.resolve_neg.default, aten.alias_copy.default,
)  # fmt: skip
"""Copies: values never change, so a copy is the original."""

_CASTS: Final = (
    aten._to_copy.default, aten.to.dtype, aten.to.dtype_layout, aten.to.device, aten.to.other,
    aten.type_as.default,
)  # fmt: skip

_DROPOUTS: Final = (
    aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default, aten.native_dropout.default,
)  # fmt: skip

_RENAMED: Final[Mapping[Target, Target]] = {
    aten.mul.Scalar: aten.mul.Tensor,
    aten.div.Scalar: aten.div.Tensor,
    aten.true_divide.Tensor: aten.div.Tensor,
    aten.multiply.Tensor: aten.mul.Tensor,
    aten.special_expm1.default: aten.expm1.default,
    aten.special_expit.default: aten.sigmoid.default,
    aten.concatenate.default: aten.cat.default,
    aten.prelu.default: aten._prelu_kernel.default,
    aten.max.other: aten.maximum.default,
    aten.min.other: aten.minimum.default,
    aten.relu6.default: aten.hardtanh.default,
}
"""Same arguments, other name; prelu and relu6 are finished below."""


def _nothing(edit: Edit, node: fx.Node) -> Answer:
    source = node.args[0]
    return source if isinstance(source, fx.Node) else None


def _cast(edit: Edit, node: fx.Node) -> Answer:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    wanted = dtype_of(node)
    if dtype_of(source) == wanted:
        return source
    if node.target is aten._to_copy.default and list(node.kwargs) == ["dtype"]:
        return None
    return edit.emit(aten._to_copy.default, source, dtype=wanted)


def _dropout(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    source = given["input"]
    if node.target is aten.native_dropout.default or (given["train"] and given["p"] != 0):
        return None
    assert isinstance(source, fx.Node)
    return source


def _all_axes(dimmed: Target) -> Callable[[Edit, fx.Node], Answer]:
    """Spell a reduction over everything as one over all axes."""

    def rule(edit: Edit, node: fx.Node) -> Answer:
        given = arguments(node)
        source = given["self"]
        dim, keep = given.get("dim"), given.get("keepdim", False)
        rank = len(shape_of(source))
        if node.target is dimmed and dim is not None and (dim != [] or rank == 0):
            return None
        cast = {"dtype": given["dtype"]} if given.get("dtype") is not None else {}
        return edit.emit(dimmed, source, list(range(rank)), keep, **cast)

    return rule


def _softmax(plain: Target) -> Callable[[Edit, fx.Node], Answer]:
    def rule(edit: Edit, node: fx.Node) -> Answer:
        given = arguments(node)
        dtype = given.get("dtype")
        if dtype is not None and dtype != dtype_of(given["self"]):
            source = edit.emit(aten._to_copy.default, given["self"], dtype=dtype)
            return edit.emit(plain, source, given["dim"])
        if node.target is plain and dtype is None:
            return None
        if given.get("half_to_float"):
            source = edit.emit(aten._to_copy.default, given["self"], dtype=torch.float32)
            return edit.emit(plain, source, given["dim"])
        return edit.emit(plain, given["self"], given["dim"])

    return rule


def _variance(edit: Edit, node: fx.Node) -> Answer:
    """Spell var with its correction: 1.0 unbiased, 0.0 biased."""
    given = arguments(node)
    source, keep = given["self"], given.get("keepdim", False)
    dim = given.get("dim")
    axes = list(range(len(shape_of(source)))) if dim in (None, []) else dim
    if "unbiased" in given:
        correction = 1.0 if given["unbiased"] else 0.0
    else:
        correction = 1.0 if given["correction"] is None else float(given["correction"])
    new = edit.emit(aten.var.correction, source, axes, correction=correction, keepdim=keep)
    return None if (new.target, new.args, new.kwargs) == (
        node.target, node.args, node.kwargs) else new  # fmt: skip


def _rename(edit: Edit, node: fx.Node) -> Answer:
    assert callable(node.target)
    target = _RENAMED[node.target]
    if node.target is aten.relu6.default:
        return edit.emit(aten.clamp.default, node.args[0], 0.0, 6.0)
    if node.target is aten.prelu.default:
        return _prelu(edit, node)
    return edit.emit(target, *node.args, **node.kwargs)


def _prelu(edit: Edit, node: fx.Node) -> Answer:
    """Bring the slopes to the rank at which they broadcast against x."""
    x, slope = node.args
    rank = len(shape_of(x))
    shape = [1] * rank
    if rank > 1:
        shape[1] = shape_of(slope)[0]
    assert isinstance(slope, fx.Node)
    return edit.emit(aten._prelu_kernel.default, x, edit.emit(aten.reshape.default, slope, shape))


def _clamp(edit: Edit, node: fx.Node) -> Answer:
    """Spell relu, clamps of one side and hardtanh as relu or clamp(x, min, max)."""
    given = arguments(node)
    low = given.get("min", given.get("min_val"))
    high = given.get("max", given.get("max_val"))
    if any(isinstance(bound, fx.Node) for bound in (low, high)):
        return None
    low, high = (None if b == limit else b for b, limit in ((low, -math.inf), (high, math.inf)))
    if low is None and high is None:
        x: fx.Node = given["self"]
        return x if agree(x.meta["val"], node.meta["val"]) else None
    if low == 0 and high is None and is_float(node):
        return edit.emit(aten.relu.default, given["self"])
    new = edit.emit(aten.clamp.default, given["self"], low, high)
    return None if (new.target, new.args) == (node.target, node.args) else new


def _clamp_twice(edit: Edit, node: fx.Node) -> Answer:
    """Join clamp(clamp(x, a, b), c, d) into one, relu being clamp(x, 0)."""
    inner = node.args[0]
    if not is_call(inner, aten.clamp.default, aten.relu.default) or not is_float(node):
        return None
    (low, high), (below, above) = _bounds(node), _bounds(inner)
    given = [b for b in (low, high, below, above) if b is not None]
    if any(isinstance(b, fx.Node) for b in given):
        return None
    least = max((b for b in (low, below) if b is not None), default=None)
    most = min((b for b in (high, above) if b is not None), default=None)
    if least is not None and most is not None and least > most:
        return None
    return edit.emit(aten.clamp.default, inner.args[0], least, most)


def _bounds(node: fx.Node) -> tuple[Any, Any]:
    if node.target is aten.relu.default:
        return 0.0, None
    given = arguments(node)
    return given["min"], given["max"]


def _square(edit: Edit, node: fx.Node) -> Answer:
    """Spell small powers by what torch computes for them."""
    x, power = node.args[0], node.args[1] if len(node.args) > 1 else 2.0
    assert isinstance(x, fx.Node)
    if not is_float(x) or not isinstance(power, int | float):
        return None
    if power == 1:
        return x if agree(x.meta["val"], node.meta["val"]) else None
    if power == 2:
        return edit.emit(aten.mul.Tensor, x, x)
    unary = {0.5: aten.sqrt.default, -0.5: aten.rsqrt.default, -1: aten.reciprocal.default}
    return edit.emit(unary[power], x) if power in unary else None


def _reciprocal(edit: Edit, node: fx.Node) -> Answer:
    """Spell 1/sqrt(x) as rsqrt(x)."""
    inner = node.args[0]
    if isinstance(inner, fx.Node) and inner.target is aten.sqrt.default:
        return edit.emit(aten.rsqrt.default, inner.args[0])
    return None


def _mask(edit: Edit, node: fx.Node) -> Answer:
    """Spell masked_fill as where: value where the mask holds."""
    given = arguments(node)
    value = given["value"]
    if isinstance(value, fx.Node):
        return edit.emit(aten.where.self, given["mask"], value, given["self"])
    return edit.emit(aten.where.ScalarSelf, given["mask"], value, given["self"])


def _where_not(edit: Edit, node: fx.Node) -> Answer:
    """Swap the branches rather than negate the condition."""
    condition, first, second = node.args
    if not (isinstance(condition, fx.Node) and condition.target in (
            aten.logical_not.default, aten.bitwise_not.default)):  # fmt: skip
        return None
    inner = condition.args[0]
    tensor = tensor_of(inner)
    if tensor is None or tensor.dtype != torch.bool:
        return None
    swapped = {aten.where.ScalarSelf: aten.where.ScalarOther,
               aten.where.ScalarOther: aten.where.ScalarSelf}  # fmt: skip
    kind: Any = node.target
    target = swapped.get(kind, kind)
    return edit.emit(target, inner, second, first)


RULES: Final = (
    Rule("drop_copy", _NOTHING, _nothing),
    Rule("spell_cast", _CASTS, _cast),
    Rule("drop_dropout", _DROPOUTS, _dropout),
    Rule("rename", tuple(_RENAMED), _rename),
    Rule("mean_over_axes", (aten.mean.default, aten.mean.dim), _all_axes(aten.mean.dim)),
    Rule("sum_over_axes", (aten.sum.default, aten.sum.dim_IntList),
         _all_axes(aten.sum.dim_IntList)),
    Rule("spell_var", (aten.var.default, aten.var.dim, aten.var.correction), _variance),
    Rule("spell_softmax", (aten.softmax.int, aten._softmax.default), _softmax(aten.softmax.int)),
    Rule("spell_log_softmax", (aten.log_softmax.int, aten._log_softmax.default),
         _softmax(aten.log_softmax.int)),
    Rule("spell_clamp", (aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default,
                         aten.hardtanh.default), _clamp),
    Rule("clamp_twice", (aten.clamp.default, aten.relu.default), _clamp_twice),
    Rule("small_power", (aten.pow.Tensor_Scalar, aten.square.default), _square),
    Rule("rsqrt", (aten.reciprocal.default,), _reciprocal),
    Rule("mask_to_where", (aten.masked_fill.Scalar, aten.masked_fill.Tensor), _mask),
    Rule("where_not", (aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther),
         _where_not),
)  # fmt: skip
