"""Pooling over regions of interest: RoiAlign and MaxRoiPool."""

from collections.abc import Mapping
from typing import Final

import torch

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.sample import pick
from fusec.importers.onnx.table import Op

Tensor = torch.Tensor


def _roi_align(call: Call, x: Tensor, rois: Tensor, images: Tensor) -> Tensor:
    """Average (or take the greatest of) samples in every bin of every region."""
    ratio = call.attr("sampling_ratio", 0)
    images = images.to(torch.int64)
    edges = _edges(call, rois)
    if ratio > 0:
        return _align(call, x, edges, images, (ratio, ratio))
    # The number of samples depends on the size of each region, so this needs real data.
    rows = []
    for i in range(rois.shape[0]):
        _, _, height, width = (float(edge[i]) for edge in edges)
        counts = (max(_ceil(height), 1), max(_ceil(width), 1))
        rows.append(_align(call, x, [e[i : i + 1] for e in edges], images[i : i + 1], counts))
    shape = (0, x.shape[1], call.attr("output_height", 1), call.attr("output_width", 1))
    return torch.cat(rows) if rows else x.new_zeros(shape)


def _ceil(value: float) -> int:
    return -int(-value // 1)


def _edges(call: Call, rois: Tensor) -> list[Tensor]:
    """Return top, left, bin height and bin width of every region, [R] each."""
    default = "half_pixel" if call.opset >= 16 else "output_half_pixel"
    half = call.attr("coordinate_transformation_mode", default) == "half_pixel"
    scale = call.attr("spatial_scale", 1.0)
    left, top, right, bottom = (rois[:, i] * scale - (0.5 if half else 0.0) for i in range(4))
    width, height = right - left, bottom - top
    if not half:  # regions of opset 10 are at least one pixel
        width, height = width.clamp(min=1.0), height.clamp(min=1.0)
    return [
        top,
        left,
        height / call.attr("output_height", 1),
        width / call.attr("output_width", 1),
    ]


def _align(
    call: Call, x: Tensor, edges: list[Tensor], images: Tensor, counts: tuple[int, int]
) -> Tensor:
    top, left, height, width = edges
    tall, wide = call.attr("output_height", 1), call.attr("output_width", 1)
    ys = _positions(top, height, tall, counts[0])
    xs = _positions(left, width, wide, counts[1])
    rows, columns = ys.shape[1], xs.shape[1]
    at_y = ys[:, :, None].expand(-1, rows, columns).flatten(1)
    at_x = xs[:, None, :].expand(-1, rows, columns).flatten(1)
    source = x.index_select(0, images)
    maximum = call.attr("mode", "avg") == "max"
    samples = _corners(source, at_y, at_x, maximum=maximum)
    samples = samples.reshape(source.shape[0], -1, tall, counts[0], wide, counts[1])
    return samples.amax((3, 5)) if maximum else samples.mean((3, 5))


def _positions(start: Tensor, step: Tensor, bins: int, count: int) -> Tensor:
    """Return sample positions along one axis, [R, bins * count]."""
    at = torch.arange(bins, dtype=start.dtype)[:, None]
    inner = (torch.arange(count, dtype=start.dtype) + 0.5) / count
    return start[:, None] + step[:, None] * (at + inner[None, :]).reshape(1, -1)


def _corners(x: Tensor, at_y: Tensor, at_x: Tensor, *, maximum: bool) -> Tensor:
    """Mix the four pixels around each sample; ONNX's max takes their greatest weighted one."""
    height, width = x.shape[2], x.shape[3]
    outside = (at_y < -1) | (at_y > height) | (at_x < -1) | (at_x > width)
    at_y, at_x = at_y.clamp(min=0), at_x.clamp(min=0)
    y0 = torch.floor(at_y).clamp(max=height - 1)
    x0 = torch.floor(at_x).clamp(max=width - 1)
    y1, x1 = (y0 + 1).clamp(max=height - 1), (x0 + 1).clamp(max=width - 1)
    # At the last row or column both taps are the same pixel, with its whole weight on the first.
    ly = torch.where(y0 >= height - 1, 0.0, at_y - y0)
    lx = torch.where(x0 >= width - 1, 0.0, at_x - x0)
    parts = []
    for row, wy in ((y0, 1 - ly), (y1, ly)):
        for column, wx in ((x0, 1 - lx), (x1, lx)):
            pixels = pick(x, [row.to(torch.int64), column.to(torch.int64)])
            parts.append(pixels * (wy * wx).unsqueeze(1))
    stacked = torch.stack(parts)
    mixed = stacked.amax(0) if maximum else stacked.sum(0)
    return torch.where(outside.unsqueeze(1), 0.0, mixed)


def _max_roi_pool(call: Call, x: Tensor, rois: Tensor) -> Tensor:
    """Take the greatest pixel of every bin; rois are [R, 5]: image, x1, y1, x2, y2."""
    tall, wide = call.attr("pooled_shape")
    scale = call.attr("spatial_scale", 1.0)
    images = rois[:, 0].to(torch.int64)
    corners = torch.floor(rois[:, 1:] * scale + 0.5)
    left, top, right, bottom = corners.unbind(1)
    in_rows = _membership(top, bottom, tall, x.shape[2])
    in_columns = _membership(left, right, wide, x.shape[3])
    source = x.index_select(0, images)
    inside = in_rows[:, :, None, :, None] & in_columns[:, None, :, None, :]
    shown = source[:, :, None, None].masked_fill(~inside[:, None], -torch.inf).amax((-2, -1))
    empty = ~inside.flatten(3).any(-1)
    return shown.masked_fill(empty[:, None], 0.0)


def _membership(start: Tensor, end: Tensor, bins: int, size: int) -> Tensor:
    """Say which pixels of one axis belong to which bin, [R, bins, size]."""
    step = (end - start + 1).clamp(min=1) / bins
    number = torch.arange(bins, dtype=start.dtype)
    first = torch.floor(number * step[:, None]) + start[:, None]
    last = torch.ceil((number + 1) * step[:, None]) + start[:, None]
    at = torch.arange(size, dtype=start.dtype)
    first, last = first.clamp(0, size), last.clamp(0, size)
    return (at >= first[..., None]) & (at < last[..., None])


OPS: Final[Mapping[str, Op]] = {
    "MaxRoiPool": Op(run=_max_roi_pool),
    "RoiAlign": Op(run=_roi_align),
}
