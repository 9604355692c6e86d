"""How a stage reaches its native kernel: words for the kernel, ranges and costs for the planner.

A kernel is a C function

    void kernel(desc, bufs, lo, hi, lo2, hi2, scratch, services)      all int64

    desc      address of the stage's words, bound to one instance's extents
    bufs      address of the instance's table: slot -> address of that buffer
    lo, hi    range of items (rows, images, heads, ...); lo2, hi2 a second one (columns), or 0, 1
    scratch   memory of this worker, `scratch_bytes` long at least, 64-byte aligned
    services  address of a table of addresses: word 0 is the pointwise machine

A task never depends on which other tasks its worker ran: scratch holds nothing between calls.
"""

from collections.abc import Sequence

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent
from fusec.ir.frozen import dataclass
from fusec.ir.stage import Buffer, BufferKind, Stage, View

__all__ = ["Encoded", "is_flat", "view_words", "weights_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A stage for the native executor."""

    kernel: str
    """Name in the kernel table."""
    words: tuple[Extent, ...]
    items: Extent
    items2: Extent
    grain: int
    """Tasks are cut at multiples of this many items."""
    grain2: int
    flat: bool
    """Rows of further instances with equal weights follow without a gap: one task may go on into
    them, and items add up."""
    flops: Extent
    read_bytes: Extent
    written_bytes: Extent
    scratch_bytes: Extent
    sequential: bool = False
    """Pieces of items2 (steps in time) run in order, all those of the same items in one unit."""


def view_words(view: View) -> tuple[Extent, ...]:
    """Spell a view for a kernel: slot, then byte offset, then a byte stride per axis."""
    size = itemsize_bytes(view.dtype)
    return (view.slot, view.offset * size, *(s * size for s in view.strides))


def is_flat(views: Sequence[View], rows: Extent, buffers: Sequence[Buffer]) -> bool:
    """Tell whether row `rows` of each view is row 0 of the next instance's copy of its buffer.

    Args:
        views: rank 2, rows first.
        rows: how many rows one instance has.
        buffers: of the lowered template; weights have no copies and must not move by row.
    """
    for view in views:
        if buffers[view.slot].kind is BufferKind.WEIGHT:
            if view.strides[0] != 0:
                return False
        elif view.strides[0] * rows != buffers[view.slot].elements:
            return False
    return True


def weights_of(stage: Stage, buffers: Sequence[Buffer]) -> frozenset[int]:
    """Give the slots of the weights that a stage reads, in its epilogue too."""
    views = [*stage.reads, *((stage.point.operands) if stage.point else ())]
    return frozenset(
        v.slot for v in views if v is not None and buffers[v.slot].kind is BufferKind.WEIGHT
    )
