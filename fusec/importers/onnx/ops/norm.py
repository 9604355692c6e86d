"""Normalisations."""

import math
from collections.abc import Mapping
from typing import Final

import torch
import torch.nn.functional as F

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import axes_of, axis_of, cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import torch_dtype

Tensor = torch.Tensor


def _batch_norm(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> Tensor | tuple[Tensor, ...]:
    epsilon = call.attr("epsilon", 1e-5)
    if call.attr("training_mode", 0):
        return _training_batch_norm(call, x, scale, bias, mean, var)
    if scale.ndim != 1:  # spatial=0 of opsets before 9: statistics per position
        return (x - mean) / torch.sqrt(var + epsilon) * scale + bias
    if scale.dtype == x.dtype == mean.dtype:
        return F.batch_norm(x, mean, var, scale, bias, False, 0.0, epsilon)
    wide = torch.promote_types(torch.promote_types(x.dtype, scale.dtype), mean.dtype)
    mean, var, scale, bias = (cast_to(value, wide) for value in (mean, var, scale, bias))
    y = F.batch_norm(cast_to(x, wide), mean, var, scale, bias, False, 0.0, epsilon)
    return cast_to(y, x.dtype)


def _training_batch_norm(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> tuple[Tensor, ...]:
    """Normalise by the batch's own statistics and return the moved running ones."""
    momentum = call.attr("momentum", 0.9)
    axes = [axis for axis in range(x.ndim) if axis != 1]
    batch_mean = x.mean(axes)
    batch_var = x.var(axes, unbiased=False)
    y = F.batch_norm(x, batch_mean, batch_var, scale, bias, False, 0.0, call.attr("epsilon", 1e-5))
    moved = [
        (old * momentum + new.to(old.dtype) * (1 - momentum))
        for old, new in ((mean, batch_mean), (var, batch_var))
    ]
    return y, *moved


def _stash(call: Call, x: Tensor) -> torch.dtype:
    """Return the type in which statistics are computed."""
    code = call.attr("stash_type", 1)
    # The stash type is a floor: a double is never narrowed to float.
    return torch.promote_types(torch_dtype(code), x.dtype) if x.is_floating_point() else x.dtype


def _layer_norm(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> Tensor | tuple[Tensor, ...]:
    axis = axis_of(call, call.attr("axis", -1), x.ndim)
    epsilon = call.attr("epsilon", 1e-5)
    shape = list(x.shape[axis:])
    whole = list(scale.shape) == shape and (bias is None or list(bias.shape) == shape)
    if whole and scale.dtype == x.dtype:
        y = F.layer_norm(x, shape, scale, bias, epsilon)
    else:
        wide = F.layer_norm(x.to(_stash(call, x)), shape, None, None, epsilon)
        y = wide.to(x.dtype) * scale
        y = y if bias is None else y + bias
    if not (call.wants(1) or call.wants(2)):
        return y
    axes = list(range(axis, x.ndim))
    wide = x.to(_stash(call, x))
    mean = wide.mean(axes, keepdim=True)
    variance = ((wide - mean) ** 2).mean(axes, keepdim=True)
    return y, mean, torch.rsqrt(variance + epsilon)


def _rms_norm(call: Call, x: Tensor, scale: Tensor) -> Tensor:
    axis = axis_of(call, call.attr("axis", -1), x.ndim)
    epsilon = call.attr("epsilon", 1e-5)
    shape = list(x.shape[axis:])
    if list(scale.shape) == shape and scale.dtype == x.dtype:
        return F.rms_norm(x, shape, scale, epsilon)
    return F.rms_norm(x.to(_stash(call, x)), shape, None, epsilon).to(x.dtype) * scale


def _group_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = call.attr("num_groups")
    epsilon = call.attr("epsilon", 1e-5)
    if call.opset < 21 and scale.shape[0] != x.shape[1]:
        scale, bias = (value.repeat_interleave(x.shape[1] // groups) for value in (scale, bias))
    return torch.group_norm(x, groups, scale, bias, epsilon)


def _instance_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return torch.group_norm(x, x.shape[1], scale, bias, call.attr("epsilon", 1e-5))


def _lp_normalization(call: Call, x: Tensor) -> Tensor:
    axis = axis_of(call, call.attr("axis", -1), x.ndim)
    if call.attr("p", 2) == 1:
        length = x.abs().sum(axis, keepdim=True)
    else:
        length = torch.sqrt((x * x).sum(axis, keepdim=True))
    return torch.where(length == 0, 0.0, x / length)


def _mean_variance(call: Call, x: Tensor) -> Tensor:
    axes = axes_of(call, call.attr("axes", None) or [0, 2, 3], x.ndim)
    centred = x - x.mean(axes, keepdim=True)
    deviation = torch.sqrt((centred * centred).mean(axes, keepdim=True))
    return centred / (deviation + 1e-9)


def _local_response(call: Call, x: Tensor) -> Tensor:
    """Divide by a sum of squares over neighbouring channels, axis 1."""
    size = call.attr("size")
    before = math.floor((size - 1) / 2)
    square = F.pad(x * x, [0, 0] * (x.ndim - 2) + [before, size - 1 - before])
    taps = [square.narrow(1, tap, x.shape[1]) for tap in range(size)]
    total = taps[0]
    for tap in taps[1:]:
        total = total + tap
    factor = total * (call.attr("alpha", 1e-4) / size) + call.attr("bias", 1.0)
    y: Tensor = x / factor ** call.attr("beta", 0.75)
    return y


OPS: Final[Mapping[str, Op]] = {
    "BatchNormalization": Op(run=_batch_norm),
    "GroupNormalization": Op(run=_group_norm),
    "InstanceNormalization": Op(run=_instance_norm),
    "LRN": Op(run=_local_response),
    "LayerNormalization": Op(run=_layer_norm),
    "LpNormalization": Op(run=_lp_normalization),
    "MeanVarianceNormalization": Op(run=_mean_variance),
    "RMSNormalization": Op(run=_rms_norm),
}
