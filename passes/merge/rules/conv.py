"""Convolutions: members become groups over joined channels, or stay apart where that is slower.

w shared            [g, B, C, ..] -> [g*B, C, ..], one convolution
x shared            one convolution with g*O output channels
both per member     grouped: [B, g*C, ..], groups*g
                    matmul:  patches [g, C*k*k, L], weight [g, O, C*k*k]
                    per member: g convolutions
"""

import math

import torch
from torch import fx

from fusec.passes.merge.builder import Builder
from fusec.passes.merge.conv_cost import ConvForm, ConvShape
from fusec.passes.merge.operand import Call, Operand, PerMember, Result
from fusec.passes.merge.rules.rule import MergeRule, defaults

__all__ = ["RULES"]

aten = torch.ops.aten

TYPICAL_EXTENT = 32
"""Stands for an extent that varies when the cost of a form is estimated."""


def _conv(b: Builder, call: Call) -> Result:
    x, weight, bias = call.operand("input"), call.operand("weight"), call.optional("bias")
    batched = x.rank == weight.rank
    if not batched:
        x = _with_batch(b, x)
    if not weight.grouped:
        result = _shared_weight(b, call, x, bias)
    elif not x.grouped and call.get("groups") == 1 and not _transposed(call):
        result = _shared_input(b, call, x, weight, bias)
    else:
        shape = _cost_shape(call, x, weight, b.g)
        form = b.ground.conv_cost.choose(shape)
        if form is ConvForm.PER_MEMBER:
            return PerMember("one convolution per member is estimated to be fastest")
        b.chose(form)
        build = _matmul if form is ConvForm.MATMUL else _grouped
        result = build(b, call, x, weight, bias)
    return result if batched else b.call(aten.squeeze.dim, result, 1)


def _with_batch(b: Builder, x: Operand) -> Operand:
    node = b.unsqueeze(x.node, 1 if x.grouped else 0)
    return Operand(node, x.grouped, x.value.unsqueeze(0))


def _transposed(call: Call) -> bool:
    return "transpose" in str(call.target) or bool(call.arguments.get("transposed"))


def _spread(b: Builder, bias: Operand, rank: int) -> fx.Node:
    """Give a bias [g, C] as [g, 1, C, 1..] for `rank` axes after the first."""
    return b.unsqueeze(bias.node, 1, *[-1] * (rank - 2))


def _shared_weight(b: Builder, call: Call, x: Operand, bias: Operand | None) -> fx.Node:
    apart = bias is not None and bias.grouped
    own = None if bias is None or apart else bias.node
    if x.grouped:
        result = b.unfold(b.apply(call, input=b.fold(x), bias=own))
    else:
        result = b.unsqueeze(b.apply(call, input=x.node, bias=own), 0)
    if bias is None or not apart:
        return result
    return b.call(aten.add.Tensor, result, _spread(b, bias, x.rank))


def _flat_bias(b: Builder, bias: Operand | None) -> fx.Node | None:
    return None if bias is None else b.flatten(b.full(bias), 0, 1)


def _shared_input(
    b: Builder, call: Call, x: Operand, weight: Operand, bias: Operand | None
) -> fx.Node:
    joined = b.flatten(weight.node, 0, 1)
    return b.from_channels(b.apply(call, input=x.node, weight=joined, bias=_flat_bias(b, bias)))


def _grouped(b: Builder, call: Call, x: Operand, weight: Operand, bias: Operand | None) -> fx.Node:
    groups = call.integer("groups") * b.g
    joined = b.flatten(b.full(weight), 0, 1)
    channels = b.to_channels(x)
    return b.from_channels(
        b.apply(call, input=channels, weight=joined, bias=_flat_bias(b, bias), groups=groups)
    )


def _matmul(b: Builder, call: Call, x: Operand, weight: Operand, bias: Operand | None) -> fx.Node:
    """Multiply patches by weights; the batch has one row here."""
    patches = _patches(b, call, x, weight)
    flat = b.flatten(weight.node, 2, weight.rank)
    if bias is None:
        product = b.call(aten.bmm.default, flat, patches)
    else:
        start = b.unsqueeze(b.lift(bias), -1)
        product = b.call(aten.baddbmm.default, start, flat, patches)
    places = [int(extent) for extent in call.tensor.shape[-(weight.rank - 2) :]]
    return b.unsqueeze(b.call(aten.unflatten.int, product, 2, places), 1)


def _patches(b: Builder, call: Call, x: Operand, weight: Operand) -> fx.Node:
    """Give [g, C*taps, L] of [g, 1, C, ..]."""
    axes = weight.rank - 2
    image = b.flatten(b.full(x), 0, 1)
    if _is_pointwise(call, weight):
        return b.flatten(image, 2, axes + 1)
    kernel = [int(extent) for extent in weight.shape[2:]]
    stride, padding, dilation = (
        _pair(call.integers(name), axes) for name in ("stride", "padding", "dilation")
    )
    if axes == 1:
        image = b.unsqueeze(image, 2)
        kernel, stride, dilation = [1, *kernel], [1, *stride], [1, *dilation]
        padding = [0, *padding]
    return b.call(aten.im2col.default, image, kernel, dilation, padding, stride)


def _pair(values: list[int], axes: int) -> list[int]:
    return values * axes if len(values) == 1 else values


def _is_pointwise(call: Call, weight: Operand) -> bool:
    if isinstance(call.get("padding"), str):
        return False
    ones = all(extent == 1 for extent in weight.shape[2:])
    steps = all(value == 1 for value in call.integers("stride"))
    return ones and steps and all(value == 0 for value in call.integers("padding"))


def _hint(extent: int | torch.SymInt) -> int:
    return extent if isinstance(extent, int) else TYPICAL_EXTENT


def _cost_shape(call: Call, x: Operand, weight: Operand, members: int) -> ConvShape:
    places = [_hint(extent) for extent in call.tensor.shape[-(weight.rank - 2) :]]
    groups = call.integer("groups")
    transposed = _transposed(call)
    pointwise = groups == 1 and not transposed and _is_pointwise(call, weight)
    regular = not isinstance(call.get("padding"), str) and weight.rank <= 4
    fixed = all(isinstance(extent, int) for extent in (*x.shape, *call.tensor.shape))
    return ConvShape(
        members=members,
        batch=_hint(x.shape[0]),
        in_channels=_hint(x.shape[1]),
        out_channels=_hint(call.tensor.shape[-(weight.rank - 1)]),
        groups=groups,
        taps=math.prod(_hint(extent) for extent in weight.shape[2:]),
        in_positions=math.prod(_hint(extent) for extent in x.shape[2:]),
        positions=math.prod(places),
        pointwise=pointwise,
        matmul=(pointwise or regular)
        and groups == 1
        and not transposed
        and fixed
        and x.shape[0] == 1
        and x.value.dtype.is_floating_point,
    )


CONVOLUTIONS = (
    "conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "conv3d.padding",
    "conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input", "convolution",
)  # fmt: skip

RULES = (MergeRule(name="conv", targets=defaults(CONVOLUTIONS), build=_conv),)
