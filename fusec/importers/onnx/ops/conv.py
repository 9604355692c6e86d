"""Convolutions."""

from collections.abc import Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import Size, Sizes, sym_max
from fusec.importers.onnx.ops.window import Window, pad_spatial, read_window, split_total
from fusec.importers.onnx.table import Op

Tensor = torch.Tensor
Sides = tuple[Size, ...]

_CONV: Final = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: Final = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _function(call: Call, table: Mapping[int, Any], rank: int) -> Any:
    if rank not in table:
        call.fail(f"{rank} spatial axes; supported are 1, 2 and 3")
    return table[rank]


def convolve(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Evaluate Conv: x [B, C, ...], weight [M, C/group, ...], bias [M]."""
    window = read_window(call, list(weight.shape[2:]), x.shape[2:])
    function = _function(call, _CONV, window.rank)
    padding: tuple[Size, ...] = window.begin
    if not window.symmetric or any(amount < 0 for amount in padding):
        x = pad_spatial(x, window.begin, window.end)
        padding = (0,) * window.rank
    group = call.attr("group", 1)
    y: Tensor = function(x, weight, bias, window.strides, padding, window.dilations, group)
    return y


def _conv_transpose(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    window, extra = _transposed_window(call, weight, x.shape[2:])
    function = _function(call, _TRANSPOSED, window.rank)
    group = call.attr("group", 1)
    direct = _direct_padding(window, extra)
    if direct is not None:
        padding, output_padding = direct
        geometry = (window.strides, padding, output_padding, group, window.dilations)
        whole: Tensor = function(x, weight, bias, *geometry)
        return whole
    begin = [-amount for amount in window.begin]
    end = [more - amount for amount, more in zip(window.end, extra, strict=True)]
    crops_only = all(isinstance(amount, int) and amount <= 0 for amount in [*begin, *end])
    zeros = (0,) * window.rank
    inner = bias if crops_only else None
    y = function(x, weight, inner, window.strides, zeros, zeros, group, window.dilations)
    y = pad_spatial(y, begin, end)
    if bias is None or crops_only:
        return y
    return y + bias.reshape(-1, *(1,) * window.rank)


def _direct_padding(
    window: Window, extra: Sizes
) -> tuple[tuple[Size, ...], tuple[Size, ...]] | None:
    """Return torch's padding and output_padding where they can say the same."""
    output_padding: list[Size] = []
    for axis in range(window.rank):
        begin, end = window.begin[axis], window.end[axis]
        if not isinstance(begin, int) or not isinstance(end, int):
            return None
        more = begin - end + extra[axis]
        limit = max(window.strides[axis], window.dilations[axis])
        if begin < 0 or not 0 <= more < limit:
            return None
        output_padding.append(more)
    return window.begin, tuple(output_padding)


def _transposed_window(call: Call, weight: Tensor, sizes: Sizes) -> tuple[Window, list[Size]]:
    """Return the window and the output padding of a ConvTranspose."""
    kernel = tuple(weight.shape[2:])
    rank = len(kernel)
    strides = tuple(call.attr("strides", None) or (1,) * rank)
    dilations = tuple(call.attr("dilations", None) or (1,) * rank)
    extra: list[Size] = list(call.attr("output_padding", None) or [0] * rank)
    mode = call.attr("auto_pad", "NOTSET")
    output_shape = call.attr("output_shape", None)
    if output_shape is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        output_shape = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    if output_shape is not None:
        output_shape = list(output_shape)[-rank:]
        totals = []
        for axis, size in enumerate(sizes):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            full = strides[axis] * (size - 1) + extra[axis] + reach
            totals.append(_total(full, output_shape[axis]))
            extra[axis] = sym_max(output_shape[axis] - full, 0) + extra[axis]
        begin, end = split_total(totals, upper=mode == "SAME_UPPER")
    elif mode == "VALID":
        begin = end = (0,) * rank
    else:
        pads = call.attr("pads", None) or [0] * (2 * rank)
        begin, end = tuple(pads[:rank]), tuple(pads[rank:])
    window = Window(kernel=kernel, strides=strides, dilations=dilations, begin=begin, end=end)
    return window, extra


def _total(full: Size, wanted: Size) -> Size:
    return sym_max(full - wanted, 0)


def _causal_conv(
    call: Call,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    past: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution [B, C, T] that carries the last k - 1 columns."""
    carried = weight.shape[-1] - 1
    joined = F.pad(x, (carried, 0)) if past is None else torch.cat([past, x], dim=-1)
    y = F.conv1d(joined, weight, bias, groups=weight.shape[0])
    activation = call.attr("activation", "none")
    if activation in ("silu", "swish"):
        y = F.silu(y)
    elif activation != "none":
        call.fail(f"activation is '{activation}'; known are silu, swish, none")
    return y, joined[..., joined.shape[-1] - carried :]


OPS: Final[Mapping[str, Op]] = {
    "CausalConvWithState": Op(run=_causal_conv),
    "Conv": Op(run=convolve),
    "ConvTranspose": Op(run=_conv_transpose),
}
