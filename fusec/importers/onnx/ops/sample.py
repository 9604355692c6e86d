"""Sampling of images at fractional positions, with zeros outside."""

import itertools
from collections.abc import Sequence

import torch

Tensor = torch.Tensor


def pick(x: Tensor, at: Sequence[Tensor]) -> Tensor:
    """Read pixels, zero where any coordinate is outside.

    Args:
        x: [B, C, D1, ..., Dr].
        at: r integer tensors [B, P], one per spatial axis.

    Returns:
        [B, C, P].
    """
    flat = torch.zeros_like(at[0])
    inside = torch.ones_like(at[0], dtype=torch.bool)
    for axis, coordinate in enumerate(at):
        size = x.shape[2 + axis]
        inside = inside & (coordinate >= 0) & (coordinate < size)
        flat = flat * size + coordinate.clamp(0, size - 1)
    pixels = x.flatten(2)
    index = flat.unsqueeze(1).expand(-1, x.shape[1], -1)
    return torch.where(inside.unsqueeze(1), pixels.gather(2, index), 0.0)


def sample_linear(x: Tensor, at: Sequence[Tensor]) -> Tensor:
    """Interpolate linearly between pixels; pixels outside are zeros.

    Args:
        x: [B, C, D1, ..., Dr].
        at: r fractional coordinates [B, P], one per spatial axis.

    Returns:
        [B, C, P].
    """
    below = [torch.floor(coordinate) for coordinate in at]
    parts = [coordinate - floor for coordinate, floor in zip(at, below, strict=True)]
    first = [floor.to(torch.int64) for floor in below]
    total: Tensor | None = None
    for corner in itertools.product((0, 1), repeat=len(at)):
        pixels = pick(x, [f + step for f, step in zip(first, corner, strict=True)])
        for part, step in zip(parts, corner, strict=True):
            pixels = pixels * (part if step else 1 - part).unsqueeze(1).to(x.dtype)
        total = pixels if total is None else total + pixels
    assert total is not None
    return total
