"""Pooling over sliding windows and over whole planes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import Size, Sizes, lowest, product
from fusec.importers.onnx.ops.window import Window, ceil_extra, pad_spatial, read_window
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import ints

Tensor = torch.Tensor

_MAX: Final[Mapping[int, Callable[..., Any]]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: Final[Mapping[int, Callable[..., Tensor]]] = {
    1: F.avg_pool1d,
    2: F.avg_pool2d,
    3: F.avg_pool3d,
}


def _window(call: Call, x: Tensor) -> Window:
    window = read_window(call, call.attr("kernel_shape"), x.shape[2:])
    if window.rank not in _MAX:
        call.fail(f"{window.rank} spatial axes; supported are 1, 2 and 3")
    return window


def _fits_torch(window: Window) -> bool:
    """Say whether torch pads this window itself (alike on both sides, at most half of it)."""
    return window.symmetric and all(
        isinstance(amount, int) and 0 <= amount <= kernel // 2
        for amount, kernel in zip(window.begin, window.kernel, strict=True)
    )


def _padded(call: Call, window: Window, x: Tensor, value: float) -> Tensor:
    """Pad as the window says, and further where ceil_mode needs it."""
    end: Sequence[Size] = window.end
    if call.attr("ceil_mode", 0):
        more = ceil_extra(window, x.shape[2:])
        end = [after + extra for after, extra in zip(end, more, strict=True)]
    return pad_spatial(x, window.begin, end, value)


def _max_pool(call: Call, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    window = _window(call, x)
    if not x.dtype.is_floating_point:
        return _max_pool_integer(call, x)
    ceil = bool(call.attr("ceil_mode", 0))
    padding: Any = window.begin
    offset: Sequence[Size] = (0,) * window.rank
    source = x
    if not _fits_torch(window):
        source = _padded(call, window, x, lowest(x.dtype))
        offset, padding, ceil = window.begin, 0, False
    indices = call.wants(1)
    geometry: tuple[Any, ...] = (window.kernel, window.strides, padding, window.dilations, ceil)
    if not indices:
        pooled: Tensor = _MAX[window.rank](source, *geometry)
        return pooled
    y, found = _MAX[window.rank](source, *geometry, True)
    return y, _flat_indices(call, found, source.shape[2:], x.shape, offset)


def _max_pool_integer(call: Call, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """Pool integers in float64, which holds the 8-bit types that ONNX allows exactly."""
    result = _max_pool(call, x.to(torch.float64))
    if isinstance(result, tuple):
        return result[0].to(x.dtype), result[1]
    return result.to(x.dtype)


def _flat_indices(
    call: Call, found: Tensor, padded: Sizes, shape: Sizes, offset: Sequence[Size]
) -> Tensor:
    """Turn positions in a padded plane into positions in the whole tensor, as ONNX counts."""
    spatial = list(shape[2:])
    coordinates: list[Tensor] = []
    for size, before in zip(reversed(padded), reversed(offset), strict=True):
        coordinates.append(found % size - before)
        found = torch.div(found, size, rounding_mode="floor")
    coordinates.reverse()
    column_major = bool(call.attr("storage_order", 0))
    order = range(len(spatial)) if column_major else reversed(range(len(spatial)))
    flat, stride = torch.zeros_like(found), 1
    for axis in order:
        flat = flat + coordinates[axis] * stride
        stride = stride * spatial[axis]
    planes = torch.arange(shape[0] * shape[1]).reshape(shape[0], shape[1], *(1,) * len(spatial))
    return flat + planes * stride


def _average_pool(call: Call, x: Tensor) -> Tensor:
    window = _window(call, x)
    include = bool(call.attr("count_include_pad", 0))
    ceil = bool(call.attr("ceil_mode", 0))
    plain = all(dilation == 1 for dilation in window.dilations)
    if plain and _fits_torch(window):
        return _AVERAGE[window.rank](x, window.kernel, window.strides, window.begin, ceil, include)
    total = _window_sum(_padded(call, window, x, 0.0), window)
    ones = x.new_ones((1, 1, *x.shape[2:]))
    if include:
        ones = pad_spatial(ones, window.begin, window.end, 1.0)
        outside = Window(
            kernel=window.kernel,
            strides=window.strides,
            dilations=window.dilations,
            begin=(0,) * window.rank,
            end=(0,) * window.rank,
        )
        if ceil:
            more = ceil_extra(window, x.shape[2:])
            ones = pad_spatial(ones, outside.begin, more)
    else:
        ones = _padded(call, window, ones, 0.0)
    return total / _window_sum(ones, window)


def _window_sum(x: Tensor, window: Window) -> Tensor:
    """Sum the taps of every window, one axis after the other; `x` is padded already."""
    first = x.ndim - window.rank
    for i in range(window.rank):
        axis, size = first + i, x.shape[first + i]
        steps = (size - window.reach[i]) // window.strides[i]
        taps = [
            x.narrow(axis, tap * window.dilations[i], steps * window.strides[i] + 1)
            for tap in range(window.kernel[i])
        ]
        total = taps[0]
        for tap in taps[1:]:
            total = total + tap
        x = torch.ops.aten.slice(total, axis, 0, None, window.strides[i])
    return x


def _lp_pool(call: Call, x: Tensor) -> Tensor:
    window = _window(call, x)
    order = call.attr("p", 2)
    powers = x * x if order == 2 else x.abs() ** order
    total = _window_sum(_padded(call, window, powers, 0.0), window)
    return torch.sqrt(total) if order == 2 else total ** (1.0 / order)


def _planes(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


def _global_average(call: Call, x: Tensor) -> Tensor:
    return x.mean(_planes(x), keepdim=True) if x.ndim > 2 else x


def _global_max(call: Call, x: Tensor) -> Tensor:
    return x.amax(_planes(x), keepdim=True) if x.ndim > 2 else x


def _global_lp(call: Call, x: Tensor) -> Tensor:
    order = call.attr("p", 2)
    if x.ndim <= 2:
        return x.abs()
    if order == 2:
        return torch.sqrt((x * x).sum(_planes(x), keepdim=True))
    total: Tensor = (x.abs() ** order).sum(_planes(x), keepdim=True)
    root: Tensor = total ** (1.0 / order)
    return root


def _max_unpool(call: Call, x: Tensor, indices: Tensor, output_shape: Any = None) -> Tensor:
    sizes = x.shape[2:]
    kernel = call.attr("kernel_shape")
    rank = len(kernel)
    strides = call.attr("strides", None) or [1] * rank
    pads = call.attr("pads", None) or [0] * (2 * rank)
    spatial = [
        (size - 1) * strides[i] - pads[i] - pads[i + rank] + kernel[i]
        for i, size in enumerate(sizes)
    ]
    shape: list[Size] = [x.shape[0], x.shape[1], *spatial]
    wanted = shape if output_shape is None else ints(output_shape)
    # Indices count in the shape that the window implies; a given shape only adds room after it.
    flat = x.new_zeros((product(shape),)).scatter(0, indices.reshape(-1), x.reshape(-1))
    y = flat.reshape(shape)
    return pad_spatial(y, (0,) * x.ndim, [w - s for w, s in zip(wanted, shape, strict=True)])


OPS: Final[Mapping[str, Op]] = {
    "AveragePool": Op(run=_average_pool),
    "GlobalAveragePool": Op(run=_global_average),
    "GlobalLpPool": Op(run=_global_lp),
    "GlobalMaxPool": Op(run=_global_max),
    "LpPool": Op(run=_lp_pool),
    "MaxPool": Op(run=_max_pool),
    "MaxUnpool": Op(run=_max_unpool, host=frozenset({2})),
}
