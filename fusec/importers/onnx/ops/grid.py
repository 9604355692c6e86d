"""GridSample: sampling along a field of normalised positions."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.sample import pick
from fusec.importers.onnx.table import Op

Tensor = torch.Tensor

# Names of opset 16 -> those of opset 20.
_MODES: Final = {"bilinear": "linear", "bicubic": "cubic"}


def _grid_sample(call: Call, x: Tensor, grid: Tensor) -> Tensor:
    mode = call.attr("mode", "linear")
    mode = _MODES.get(mode, mode)
    padding = call.attr("padding_mode", "zeros")
    corners = bool(call.attr("align_corners", 0))
    if mode not in ("linear", "nearest", "cubic") or padding not in _PADDINGS:
        call.fail(f"mode '{mode}' with padding_mode '{padding}' is unknown")
    if not x.is_floating_point():
        wide = _sample(x.to(torch.float32), grid, mode, padding, corners=corners)
        return wide.to(x.dtype)
    return _sample(x, grid.to(x.dtype), mode, padding, corners=corners)


def _sample(x: Tensor, grid: Tensor, mode: str, padding: str, *, corners: bool) -> Tensor:
    rank = x.ndim - 2
    if rank == 2 or (rank == 3 and mode != "cubic"):
        name = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
        return F.grid_sample(x, grid, mode=name, padding_mode=padding, align_corners=corners)
    sizes = list(x.shape[2:])
    shape = list(grid.shape[1:-1])
    # The last coordinate of the grid belongs to the first spatial axis.
    normal = [grid[..., rank - 1 - axis].flatten(1) for axis in range(rank)]
    at = [_pixels(c, size, corners=corners) for c, size in zip(normal, sizes, strict=True)]
    fold = _PADDINGS[padding]
    if mode != "cubic":
        at = [fold(c, size, corners) for c, size in zip(at, sizes, strict=True)]
    taps = [_TAPS[mode](c) for c in at]
    total: Tensor | None = None
    for combination in itertools.product(*taps):
        place = [
            fold(c, size, corners).to(torch.int64)
            for (c, _), size in zip(combination, sizes, strict=True)
        ]
        pixels = pick(x, place)
        for _, weight in combination:
            pixels = pixels * weight.unsqueeze(1)
        total = pixels if total is None else total + pixels
    assert total is not None
    return total.reshape(x.shape[0], x.shape[1], *shape)


def _pixels(normal: Tensor, size: Any, *, corners: bool) -> Tensor:
    """Turn -1 ... 1 into pixel coordinates."""
    at: Tensor = (normal + 1) / 2 * (size - 1) if corners else ((normal + 1) * size - 1) / 2
    return at


def _keep(at: Tensor, size: Any, corners: bool) -> Tensor:
    return at


def _border(at: Tensor, size: Any, corners: bool) -> Tensor:
    return at.clamp(0, size - 1)


def _reflect(at: Tensor, size: Any, corners: bool) -> Tensor:
    low, span = (0.0, size - 1) if corners else (-0.5, size)
    if isinstance(span, int) and span == 0:
        return torch.zeros_like(at)
    folded = (at - low) % (2 * span)
    folded = torch.where(folded > span, 2 * span - folded, folded) + low
    return folded.clamp(0, size - 1)


def _nearest_taps(at: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
    return [(torch.round(at), torch.ones_like(at))]


def _linear_taps(at: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
    below = torch.floor(at)
    t = at - below
    return [(below, 1 - t), (below + 1, t)]


def _cubic_taps(at: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
    below = torch.floor(at)
    t, a = at - below, -0.75

    def near(d: Tensor) -> Tensor:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Tensor) -> Tensor:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    weights = [far(t + 1), near(t), near(1 - t), far(2 - t)]
    return [(below + k - 1, weight) for k, weight in enumerate(weights)]


_PADDINGS: Final = {"zeros": _keep, "border": _border, "reflection": _reflect}
_TAPS: Final = {"nearest": _nearest_taps, "linear": _linear_taps, "cubic": _cubic_taps}

OPS: Final[Mapping[str, Op]] = {"GridSample": Op(run=_grid_sample)}
