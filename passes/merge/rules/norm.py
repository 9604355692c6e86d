"""Normalisations: statistics per member by construction, affine parameters per member.

batch, group, instance norm   [g, B, C, ..] -> [B, g*C, ..], parameters [g*C]
layer, RMS norm               normalise without parameters, then weight and bias [g, 1.., D]
"""

import operator

import torch
from torch import fx

from fusec.passes.merge.builder import Builder
from fusec.passes.merge.operand import Call, Declined, Operand, Result
from fusec.passes.merge.rules.rule import MergeRule

__all__ = ["RULES"]

aten = torch.ops.aten


def _differ(*operands: Operand | None) -> bool:
    return any(operand is not None and operand.grouped for operand in operands)


def _flat(b: Builder, operand: Operand | None) -> fx.Node | None:
    return None if operand is None else b.flatten(b.full(operand), 0, 1)


LOW = (torch.float16, torch.bfloat16)
"""Dtypes in which the library's norms compute in float32 and round once; so do these here."""


def _raised(b: Builder, operand: Operand, node: fx.Node) -> fx.Node:
    return b.cast(node, operand.dtype, torch.float32) if operand.dtype in LOW else node


def _affine(
    b: Builder, node: fx.Node, x: Operand, weight: Operand | None, bias: Operand | None
) -> fx.Node:
    """Scale and shift normalised [g, *shape] by parameters of the trailing axes."""
    if not x.grouped:
        node = b.unsqueeze(node, 0)
    scale = None if weight is None else _raised(b, weight, b.aligned(weight, x.rank))
    shift = None if bias is None else _raised(b, bias, b.aligned(bias, x.rank))
    if scale is not None and shift is not None:
        node = b.call(aten.addcmul.default, shift, node, scale)
    elif scale is not None:
        node = b.call(aten.mul.Tensor, node, scale)
    elif shift is not None:
        node = b.call(aten.add.Tensor, node, shift)
    return b.call(aten._to_copy.default, node, dtype=x.dtype) if x.dtype in LOW else node


def _layer_norm(b: Builder, call: Call) -> Result:
    x, weight, bias = call.operand("input"), call.optional("weight"), call.optional("bias")
    if not _differ(weight, bias):
        return b.apply(call)
    plain = b.apply(call, input=_raised(b, x, x.node), weight=None, bias=None)
    return _affine(b, plain, x, weight, bias)


def _native_layer_norm(b: Builder, call: Call) -> Result:
    x, weight, bias = call.operand("input"), call.optional("weight"), call.optional("bias")
    if not _differ(weight, bias):
        whole = b.apply(call)
        return tuple(_item(b, whole, i) for i in range(3))
    whole = b.apply(call, input=_raised(b, x, x.node), weight=None, bias=None)
    normed = _affine(b, _item(b, whole, 0), x, weight, bias)
    assert isinstance(call.out, tuple | list)
    have = torch.float32 if x.dtype in LOW else x.dtype
    mean, scale = (b.cast(_item(b, whole, i), have, call.out[i].dtype) for i in (1, 2))
    if not x.grouped:
        mean, scale = (_repeated(b, node, x.rank) for node in (mean, scale))
    return normed, mean, scale


def _repeated(b: Builder, node: fx.Node, rank: int) -> fx.Node:
    lifted = b.unsqueeze(node, 0)
    return b.call(aten.expand.default, lifted, [b.g] + [-1] * rank)


def _item(b: Builder, node: fx.Node, index: int) -> fx.Node:
    return b.call(operator.getitem, node, index)


def _rms_norm(b: Builder, call: Call) -> Result:
    x, weight = call.operand("input"), call.optional("weight")
    if not _differ(weight):
        return b.apply(call)
    plain = b.apply(call, input=_raised(b, x, x.node), weight=None)
    return _affine(b, plain, x, weight, None)


BATCH_PARAMETERS = ("weight", "bias", "running_mean", "running_var")


def _batch_norm(b: Builder, call: Call) -> Result:
    if call.get("training") or call.optional("running_mean") is None:
        return Declined("statistics of the batch")
    return _over_channels(b, call, "input", BATCH_PARAMETERS)


def _native_batch_norm(b: Builder, call: Call) -> Result:
    """Inference: the saved statistics are empty."""
    x = call.operand("input")
    if call.arguments.get("training") or call.optional("running_mean") is None:
        return Declined("statistics of the batch")
    whole = _channel_call(b, call, "input", BATCH_PARAMETERS)
    empty = b.call(aten.new_zeros.default, x.node, [b.g, 0])
    return b.from_channels(_item(b, whole, 0)), empty, empty


def _instance_norm(b: Builder, call: Call) -> Result:
    return _over_channels(b, call, "input", BATCH_PARAMETERS)


def _group_norm(b: Builder, call: Call) -> Result:
    groups = call.integer("num_groups") * b.g
    return _over_channels(b, call, "input", ("weight", "bias"), num_groups=groups)


def _over_channels(
    b: Builder, call: Call, name: str, parameters: tuple[str, ...], **changes: object
) -> Result:
    if not _differ(*(call.optional(p) for p in parameters)):
        return b.unfold(b.apply(call, **{name: b.fold(call.operand(name))}))
    return b.from_channels(_channel_call(b, call, name, parameters, **changes))


def _channel_call(
    b: Builder, call: Call, name: str, parameters: tuple[str, ...], **changes: object
) -> fx.Node:
    given = {p: _flat(b, call.optional(p)) for p in parameters if p in call.arguments}
    return b.apply(call, **{name: b.to_channels(call.operand(name))}, **given, **changes)


def _native_group_norm(b: Builder, call: Call) -> Result:
    channels, groups = call.get("C"), call.integer("group")
    if not isinstance(channels, int):
        return Declined("number of channels is a symbol")
    whole = _channel_call(
        b, call, "input", ("weight", "bias"), C=channels * b.g, group=groups * b.g
    )
    return tuple(b.from_channels(_item(b, whole, i)) for i in range(3))


RULES = (
    MergeRule(name="layer_norm", targets=("layer_norm.default",), build=_layer_norm),
    MergeRule(
        name="native_layer_norm", targets=("native_layer_norm.default",), build=_native_layer_norm
    ),
    MergeRule(name="rms_norm", targets=("rms_norm.default",), build=_rms_norm),
    MergeRule(name="batch_norm", targets=("batch_norm.default",), build=_batch_norm),
    MergeRule(
        name="native_batch_norm",
        targets=("_native_batch_norm_legit_no_training.default", "native_batch_norm.default"),
        build=_native_batch_norm,
    ),
    MergeRule(name="instance_norm", targets=("instance_norm.default",), build=_instance_norm),
    MergeRule(name="group_norm", targets=("group_norm.default",), build=_group_norm),
    MergeRule(
        name="native_group_norm", targets=("native_group_norm.default",), build=_native_group_norm
    ),
)
