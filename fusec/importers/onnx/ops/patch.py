"""Convolutions by patches: DeformConv and Col2Im."""

import itertools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.sample import sample_linear
from fusec.importers.onnx.ops.support import product
from fusec.importers.onnx.ops.window import pad_spatial
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, ints

Tensor = torch.Tensor


def _deform_conv(
    call: Call,
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Convolve taps that are read at learned offsets from their places.

    x [B, C, ...], weight [M, C/group, ...], offset [B, groups * taps * rank, ...],
    mask [B, groups * taps, ...].
    """
    kernel = list(weight.shape[2:])
    rank, taps = len(kernel), int(np.prod(kernel))
    strides = call.attr("strides", None) or [1] * rank
    dilations = call.attr("dilations", None) or [1] * rank
    pads = call.attr("pads", None) or [0] * (2 * rank)
    groups, offset_groups = call.attr("group", 1), call.attr("offset_group", 1)
    batch, channels = x.shape[:2]
    out = list(offset.shape[2:])
    moves = offset.reshape(batch * offset_groups, taps, rank, *out)
    at = []
    for axis in range(rank):
        shape = [1] * rank
        shape[axis] = -1
        place = torch.arange(out[axis], dtype=x.dtype).reshape(shape) * strides[axis] - pads[axis]
        steps = torch.arange(kernel[axis], dtype=x.dtype) * dilations[axis]
        tap = steps.reshape(shape).expand(kernel).reshape(-1, *[1] * rank)
        at.append((moves[:, :, axis] + (place + tap)).flatten(1))
    images = x.reshape(batch * offset_groups, channels // offset_groups, *x.shape[2:])
    columns = sample_linear(images, at).reshape(
        batch, offset_groups, channels // offset_groups, taps, product(out)
    )
    if mask is not None:
        columns = columns * mask.reshape(batch, offset_groups, 1, taps, product(out))
    columns = columns.reshape(batch, groups, channels // groups * taps, product(out))
    rows = weight.reshape(groups, weight.shape[0] // groups, -1)
    y = torch.matmul(rows, columns).reshape(batch, weight.shape[0], *out)
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


def _col2im(call: Call, columns: Tensor, image: Array, block: Array) -> Tensor:
    """Add the blocks [B, C * taps, L] up into an image [B, C, ...]."""
    sizes: list[Any] = list(ints(image))
    kernel = [int(k) for k in ints(block)]
    rank = len(sizes)
    strides = call.attr("strides", None) or [1] * rank
    dilations = call.attr("dilations", None) or [1] * rank
    pads = call.attr("pads", None) or [0] * (2 * rank)
    if rank == 2 and pads[:2] == pads[2:]:
        geometry: tuple[Any, ...] = (sizes, kernel, dilations, pads[:2], strides)
        return F.fold(columns, *geometry)
    padded = [size + pads[i] + pads[i + rank] for i, size in enumerate(sizes)]
    steps = [
        (padded[i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(rank)
    ]
    channels = columns.shape[1] // int(np.prod(kernel))
    blocks = columns.reshape(columns.shape[0], channels, int(np.prod(kernel)), *steps)
    total = columns.new_zeros((columns.shape[0], channels, *padded))
    for tap, place in enumerate(itertools.product(*(range(k) for k in kernel))):
        spread = _spread(blocks[:, :, tap], strides)
        begin = [step * dilation for step, dilation in zip(place, dilations, strict=True)]
        end = [padded[i] - begin[i] - spread.shape[2 + i] for i in range(rank)]
        total = total + pad_spatial(spread, begin, end)
    return pad_spatial(total, [-p for p in pads[:rank]], [-p for p in pads[rank:]])


def _spread(x: Tensor, strides: list[int]) -> Tensor:
    """Put stride - 1 zeros between neighbours of every spatial axis."""
    for axis, stride in enumerate(strides, start=2):
        if stride > 1:
            zeros = x.unsqueeze(axis + 1)
            zeros = F.pad(zeros.movedim(axis + 1, -1), [0, stride - 1]).movedim(-1, axis + 1)
            x = zeros.flatten(axis, axis + 1)
            x = x.narrow(axis, 0, x.shape[axis] - stride + 1)
    return x


OPS: Final[Mapping[str, Op]] = {
    "Col2Im": Op(run=_col2im, host=frozenset({1, 2})),
    "DeformConv": Op(run=_deform_conv),
}
