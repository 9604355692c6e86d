"""Which axes a pointwise stage or a copy loops over: few, long, the last one contiguous.

Elementwise work may be done in any order, so axes are sorted by the steps of the first view, and
neighbours that lie as one in every view become one.
"""

from collections.abc import Sequence

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent
from fusec.ir.frozen import dataclass
from fusec.ir.stage import Buffer, BufferKind, View

__all__ = ["Frame", "frame_of", "guess"]

_SYMBOL = 64
"""What a symbol is taken for where only an order or a rough size is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A loop over outer axes, rows and columns, and each view's way through it."""

    outer: tuple[Extent, ...]
    rows: Extent
    columns: Extent
    steps: tuple[tuple[Extent, ...], ...]
    """Per view: bytes along the outer axes, rows and columns."""
    flat: bool
    """The rows of the next instance follow."""


def guess(extent: Extent) -> int:
    """Give about how large an extent is."""
    if isinstance(extent, int):
        return extent
    total = 0
    for monomial, coefficient in extent.terms:
        for _, power in monomial:
            coefficient *= _SYMBOL**power
        total += coefficient
    return total


def frame_of(shape: Sequence[Extent], views: Sequence[View], buffers: Sequence[Buffer]) -> Frame:
    """Arrange a loop over a shape.

    Args:
        shape: of every view, extents of 1 in front of it aside.
        views: the one whose memory order matters most first.
        buffers: of the lowered template.
    """
    sizes = [itemsize_bytes(v.dtype) for v in views]
    axes = _axes(shape, views, sizes)
    if len(axes) <= 1:
        return _line(axes, views, sizes, buffers)
    *outer, (rows, row_steps), (columns, column_steps) = axes
    flat = not outer and all(
        step == 0
        if buffers[v.slot].kind is BufferKind.WEIGHT
        else step * rows == buffers[v.slot].elements * size
        for v, step, size in zip(views, row_steps, sizes, strict=True)
    )
    steps = zip(*(steps for _, steps in outer), row_steps, column_steps, strict=True)
    return Frame(
        outer=tuple(extent for extent, _ in outer),
        rows=rows,
        columns=columns,
        steps=tuple(steps),
        flat=flat,
    )


_Axis = tuple[Extent, tuple[Extent, ...]]
"""Extent, and each view's step in bytes."""


def _axes(shape: Sequence[Extent], views: Sequence[View], sizes: Sequence[int]) -> list[_Axis]:
    found: list[_Axis] = []
    for axis, extent in enumerate(reversed(shape)):
        if extent == 1:
            continue
        steps = tuple(
            v.strides[-1 - axis] * size if axis < len(v.strides) else 0
            for v, size in zip(views, sizes, strict=True)
        )
        found.append((extent, steps))
    # The axis written with the smallest step last; what is equal keeps its order.
    found.sort(key=lambda axis: abs(guess(axis[1][0])) or 1 << 62)
    joined: list[_Axis] = []
    for extent, steps in found:
        if joined:
            inner, below = joined[-1]
            if all(s == b * inner for s, b in zip(steps, below, strict=True)):
                joined[-1] = (inner * extent, below)
                continue
        joined.append((extent, steps))
    joined.reverse()
    if len(joined) > 2 and len(views) > 1 and joined[-1][1][1] != sizes[1]:
        # Rows where the second view is contiguous, so that both can be walked in blocks.
        for at, (_, steps) in enumerate(joined[:-2]):
            if steps[1] == sizes[1]:
                joined.insert(-1, joined.pop(at))
                break
    return joined


def _line(
    axes: Sequence[_Axis], views: Sequence[View], sizes: Sequence[int], buffers: Sequence[Buffer]
) -> Frame:
    """Make elements rows, if they go on into the next instance; else one row of them."""
    extent, steps = axes[0] if axes else (1, (0,) * len(views))
    pitches = tuple(
        0 if buffers[v.slot].kind is BufferKind.WEIGHT else buffers[v.slot].elements * size
        for v, size in zip(views, sizes, strict=True)
    )
    if axes and all(s * extent == p for s, p in zip(steps, pitches, strict=True)):
        both = tuple((s, s) for s in steps)
        return Frame(outer=(), rows=extent, columns=1, steps=both, flat=True)
    both = tuple(zip(pitches, steps, strict=True))
    return Frame(outer=(), rows=1, columns=extent, steps=both, flat=True)
