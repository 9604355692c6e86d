"""How stages over rows go on into further instances; light, for `encode` modules."""

from collections.abc import Sequence
from dataclasses import replace

from fusec.ir.extents import product
from fusec.ir.stage import Buffer, BufferKind, Stage, View
from fusec.kernels.encoded import is_flat

__all__ = ["as_rows", "point_is_flat"]


def as_rows(view: View, buffers: Sequence[Buffer]) -> View:
    """Let the first axis, where it has extent 1, step to the next instance's copy."""
    buffer = buffers[view.slot]
    if view.shape[0] != 1:
        return view
    step = 0 if buffer.kind is BufferKind.WEIGHT else buffer.elements
    return replace(view, strides=(step, *view.strides[1:]))


def point_is_flat(stage: Stage, buffers: Sequence[Buffer]) -> bool:
    """Tell whether the epilogue's operands and results go on into further instances by row."""
    if stage.point is None:
        return True
    views = [v for v in (*stage.point.operands, *stage.writes) if v is not None]
    if any(len(v.shape) < 2 or product(v.shape[:-2]) != 1 for v in views):
        return False
    rows = stage.writes[0].shape[-2]
    flat = [View(v.slot, v.dtype, v.shape[-2:], v.strides[-2:], v.offset) for v in views]
    return is_flat(flat, rows, buffers)
