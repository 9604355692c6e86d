"""Batch norm with fixed statistics as a factor and a term per channel, which then fold.

batch_norm(x, g, b, mean, var, eps)  ->  add(mul(x, s), t)
s = g / sqrt(var + eps), t = b - mean * s, both computed in float64 on the weight side

Half-width x is widened to float32 before, and the sum rounded: as PyTorch does it. It does not fold
into a half-width layer, whose weights would be rounded once more.
"""

import operator
from typing import Any, Final

import torch
from torch import fx

from fusec.passes.canonicalise.facts import dtype_of, is_call, shape_of
from fusec.passes.canonicalise.rewrite import Answer, Edit, No, Rule
from fusec.passes.canonicalise.schema import arguments
from fusec.passes.canonicalise.weights import may_scale, narrow, widen
from fusec.passes.report import Reason

__all__ = ["RULES"]

aten = torch.ops.aten

_WHOLE: Final = (aten.batch_norm.default, aten.instance_norm.default)
_SEVERAL: Final = (
    aten._native_batch_norm_legit_no_training.default, aten.native_batch_norm.default,
    aten._batch_norm_no_update.default,
)  # fmt: skip


def _batch_norm(edit: Edit, node: fx.Node) -> Answer:
    return _spelled(edit, node, node)


def _first_result(edit: Edit, node: fx.Node) -> Answer:
    source, index = node.args
    return _spelled(edit, node, source) if index == 0 and is_call(source, *_SEVERAL) else None


def _spelled(edit: Edit, node: fx.Node, norm: fx.Node) -> Answer:
    given = arguments(norm)
    if given.get("training") or given.get("use_input_stats"):
        return None
    x, mean, var = given["input"], given["running_mean"], given["running_var"]
    parts = [p for p in (given["weight"], given["bias"], mean, var) if p is not None]
    if mean is None or var is None or not all(edit.is_weight(p) for p in parts):
        return No(Reason.NOT_A_WEIGHT, f"statistics or affine of {norm.name} depend on inputs")
    dtype = dtype_of(node)
    half = dtype in (torch.float16, torch.bfloat16)
    if not (may_scale(node) or half) or dtype_of(x) != dtype:
        return No(Reason.DTYPE, f"{norm.name} maps {dtype_of(x)} to {dtype}")
    wide = torch.float32 if half else dtype
    scale, shift = _scale_and_shift(edit, given)
    shape = [-1] + [1] * (len(shape_of(x)) - 2)

    def fitted(value: fx.Node) -> fx.Node:
        return edit.emit(aten.reshape.default, narrow(edit, value, wide), shape)

    if half:
        x = edit.emit(aten._to_copy.default, x, dtype=wide)
    product = edit.emit(aten.mul.Tensor, x, fitted(scale))
    result = edit.emit(aten.add.Tensor, product, fitted(shift))
    return edit.emit(aten._to_copy.default, result, dtype=dtype) if half else result


def _scale_and_shift(edit: Edit, given: dict[str, Any]) -> tuple[fx.Node, fx.Node]:
    mean, var, weight, bias = (
        None if given[k] is None else widen(edit, given[k])
        for k in ("running_mean", "running_var", "weight", "bias")
    )
    root = edit.emit(aten.sqrt.default, edit.emit(aten.add.Tensor, var, given["eps"]))
    scale = (
        edit.emit(aten.reciprocal.default, root)
        if weight is None
        else edit.emit(aten.div.Tensor, weight, root)
    )
    shift = edit.emit(aten.neg.default, edit.emit(aten.mul.Tensor, mean, scale))
    return scale, shift if bias is None else edit.emit(aten.add.Tensor, bias, shift)


RULES: Final = (
    Rule("batch_norm_to_affine", _WHOLE, _batch_norm),
    Rule("batch_norm_result_to_affine", (operator.getitem,), _first_result),
)
