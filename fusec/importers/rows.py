"""Rows of example batches: cut out, made up and joined."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Axes", "cut_row", "join_rows", "spoil", "vary"]

Axes = tuple[int | None, ...]
"""Batch axis per tensor, or None."""


def cut_row(tensors: Sequence[Tensor], axes: Axes, row: int = 0) -> tuple[Tensor, ...]:
    """Give one row of a batch; tensors without a batch axis are given whole."""
    return tuple(
        t if axis is None else t.narrow(axis, row, 1).contiguous()
        for t, axis in zip(tensors, axes, strict=True)
    )


def join_rows(rows: Sequence[Sequence[Tensor]], axes: Axes) -> tuple[Tensor, ...]:
    """Join rows into a batch; tensors without a batch axis are taken from the first row."""
    return tuple(
        rows[0][i] if axis is None else torch.cat([row[i] for row in rows], dim=axis)
        for i, axis in enumerate(axes)
    )


def vary(row: Sequence[Tensor], axes: Axes, seed: int, *, bold: bool = False) -> tuple[Tensor, ...]:
    """Make another row that the source should accept as well.

    Floats that look measured get noise of their own size. Everything else (indices, masks, flags)
    keeps its own set of values and only changes places, so that it stays valid.

    Args:
        row: one that the source accepts.
        axes: of the batch.
        seed: another one for each row.
        bold: change integers so that their sum and count differ too, which the source may refuse:
            one takes another's value; all take another one if they are equal.
    """
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        t if axis is None else _vary(t, generator, seed, bold)
        for t, axis in zip(row, axes, strict=True)
    )


def _vary(t: Tensor, generator: torch.Generator, seed: int, bold: bool) -> Tensor:
    if t.numel() == 0:
        return t
    if not t.is_floating_point() or _few_values(t):
        moved = t.flatten().roll(seed)
        if not bold or t.is_floating_point() or t.is_complex():
            return moved.reshape(t.shape)
        others = moved[moved != moved[0]]
        if not len(others):
            return _other_value(t, seed)
        moved[0] = others[0]
        return moved.reshape(t.shape)
    spread = t.float().std(correction=0)
    size = spread if bool(spread.isfinite()) and spread > 0 else torch.tensor(1.0)
    noise = torch.randn(t.shape, generator=generator, dtype=torch.float32)
    return (t.float() + noise * size).to(t.dtype)


def _other_value(t: Tensor, seed: int) -> Tensor:
    """Fill with a number near to the one there is, a smaller one where it is a count or index."""
    value = int(t.reshape(-1)[0])
    if t.dtype == torch.bool:
        return torch.full_like(t, bool((value + seed) % 2))
    return torch.full_like(t, value - seed if value >= seed else value + seed)


def _few_values(t: Tensor) -> bool:
    """Tell whether floats are rather flags: zeros and ones, or zeros and very negative numbers."""
    values = torch.unique(t.float())
    if len(values) != 2:
        return False
    low, high = values.tolist()
    return (low, high) == (0.0, 1.0) or (high == 0.0 and low < -1e3)


def spoil(row: Sequence[Tensor], axes: Axes) -> tuple[Tensor, ...] | None:
    """Fill the floats of a row with NaN; None if no input with a batch axis has floats."""
    spoiled = tuple(
        torch.full_like(t, torch.nan) if axis is not None and t.is_floating_point() else t
        for t, axis in zip(row, axes, strict=True)
    )
    if all(new is old for new, old in zip(spoiled, row, strict=True)):
        return None
    return spoiled
