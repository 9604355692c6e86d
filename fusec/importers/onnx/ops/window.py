"""Geometry of sliding windows: strides, paddings and output sizes of convolutions and pools."""

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import Size, Sizes, sym_max, sym_min

Tensor = torch.Tensor
Sides = tuple[Size, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A sliding window over the spatial axes.

    Attributes:
        kernel: extent per axis, before dilation.
        strides: step per axis.
        dilations: distance of taps per axis.
        begin: padding before each axis.
        end: padding after each axis.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[Size, ...]
    end: tuple[Size, ...]

    @property
    def rank(self) -> int:
        """Return the number of spatial axes."""
        return len(self.kernel)

    @property
    def reach(self) -> tuple[int, ...]:
        """Return the extent per axis with dilation."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def symmetric(self) -> bool:
        """Say whether both sides of every axis are padded alike by a known amount."""
        return all(
            isinstance(b, int) and isinstance(e, int) and b == e
            for b, e in zip(self.begin, self.end, strict=True)
        )


def read_window(call: Call, kernel: Sequence[int], sizes: Sizes) -> Window:
    """Read strides, dilations and padding of a node.

    Args:
        call: the node.
        kernel: extent per spatial axis.
        sizes: input sizes of the spatial axes.
    """
    rank = len(kernel)
    strides = tuple(call.attr("strides", None) or (1,) * rank)
    dilations = tuple(call.attr("dilations", None) or (1,) * rank)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    begin, end = _padding(call, sizes, reach, strides)
    return Window(kernel=tuple(kernel), strides=strides, dilations=dilations, begin=begin, end=end)


def _padding(
    call: Call, sizes: Sizes, reach: Sequence[int], strides: Sequence[int]
) -> tuple[Sides, Sides]:
    mode = call.attr("auto_pad", "NOTSET")
    rank = len(reach)
    if mode in ("NOTSET", ""):
        pads = call.attr("pads", None) or [0] * (2 * rank)
        if len(pads) != 2 * rank:
            call.fail(f"wanted {2 * rank} pads for {rank} spatial axes, got {len(pads)}")
        return tuple(pads[:rank]), tuple(pads[rank:])
    if mode == "VALID":
        return (0,) * rank, (0,) * rank
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        call.fail(f"auto_pad is '{mode}'; known are NOTSET, VALID, SAME_UPPER, SAME_LOWER")
    totals = [same_total(n, k, s) for n, k, s in zip(sizes, reach, strides, strict=True)]
    return split_total(totals, upper=mode == "SAME_UPPER")


def same_total(size: Size, reach: int, stride: int) -> Size:
    """Return the padding of one axis that makes the output ceil(size / stride) long."""
    if stride == 1:
        return reach - 1
    steps = (size + stride - 1) // stride
    return sym_max((steps - 1) * stride + reach - size, 0)


def split_total(totals: Sequence[Size], *, upper: bool) -> tuple[Sides, Sides]:
    """Share out paddings; the odd one goes after the data if `upper`, before it otherwise."""
    small = tuple(total // 2 for total in totals)
    large = tuple(total - half for total, half in zip(totals, small, strict=True))
    return (small, large) if upper else (large, small)


def pad_spatial(x: Tensor, begin: Sizes, end: Sizes, value: float = 0.0) -> Tensor:
    """Pad (or, where negative, crop) the last axes of a tensor."""
    amounts: list[Size] = []
    for before, after in zip(reversed(begin), reversed(end), strict=True):
        amounts += [before, after]
    if all(isinstance(amount, int) and amount == 0 for amount in amounts):
        return x
    return F.pad(x, amounts, value=value)


def ceil_extra(window: Window, sizes: Sizes) -> tuple[Size, ...]:
    """Return the further padding after each axis that ceil_mode needs.

    A window that would start in the padding after the data is dropped, as ONNX and torch do.
    """
    extra: list[Size] = []
    for axis, size in enumerate(sizes):
        reach, stride = window.reach[axis], window.strides[axis]
        span = size + window.begin[axis] + window.end[axis] - reach
        steps = (span + stride - 1) // stride
        last = (size + window.begin[axis] - 1) // stride
        steps = sym_min(steps, last)
        extra.append(sym_max(steps * stride - span, 0))
    return tuple(extra)
