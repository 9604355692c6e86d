"""Gather stages for the native executor.

    reads   x, indices (int64 or int32)
    writes  y, dense
    attrs   form  "rows":   x [o, n, i], indices [j], y [o, j, i] = x[o, indices[j], i]; any dtype
                  "panels": x is a packed weight W[n, k] in panels, flat; y [1, j, k]
                  "along":  x [o, n, i], indices [o, j, i], y [o, j, i] = x[o, indices[o, j, i], i]
            wrap  bool: negative indices count from the end
            n, k, nr  of panels

Rows are contiguous in form "rows". An index out of range reads some row that is there and sets the
status of the run to `OUT_OF_RANGE`.
"""

from collections.abc import Sequence

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent
from fusec.ir.stage import Buffer, BufferKind, Stage, View
from fusec.kernels.encoded import Encoded

__all__ = ["OUT_OF_RANGE", "encode"]

OUT_OF_RANGE = 1
"""What a kernel stores in the run's status, whose address is word 1 of `services`."""


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Encode a gather.

    Args:
        stage: the stage.
        buffers: of the lowered template.
    """
    x, indices = stage.reads
    (y,) = stage.writes
    form = stage.attr("form")
    outer, count, inner = y.shape
    size, index_size = itemsize_bytes(y.dtype), itemsize_bytes(indices.dtype)
    tail: tuple[Extent, ...]
    if form == "panels":
        n, k, nr = (stage.attr(name) for name in ("n", "k", "nr"))
        assert isinstance(n, int) and isinstance(k, int) and isinstance(nr, int)
        head: tuple[Extent, ...] = (x.slot, x.offset * size, 0, 4 * nr, n)
        tail = (inner, nr)
    else:
        head = (x.slot, x.offset * size, x.strides[0] * size, x.strides[1] * size, x.shape[1])
        tail = (inner * size, 0)
    if form == "along":
        tail = (inner, size)
        spread = tuple(s * index_size for s in indices.strides)
        extra: tuple[Extent, ...] = (*spread, x.strides[2] * size)
    else:
        extra = (0, indices.strides[0] * index_size, 0, 0)
    flat = form != "along" and outer == 1 and _follows(stage, buffers)
    words = (
        *head,
        indices.slot, indices.offset * index_size, index_size, int(bool(stage.attr("wrap"))),
        y.slot, y.offset * size, y.strides[0] * size, y.strides[1] * size,
        0 if outer == 1 else count,
        *tail, *extra,
    )  # fmt: skip
    return Encoded(
        kernel=f"gather_{form}",
        words=words,
        items=outer * count,
        items2=1,
        grain=1,
        grain2=1,
        flat=flat,
        flops=outer * count * inner,
        read_bytes=outer * count * inner * size,
        written_bytes=outer * count * inner * size,
        scratch_bytes=0,
    )


def _follows(stage: Stage, buffers: Sequence[Buffer]) -> bool:
    """Tell whether further instances' indices and results follow, over one table."""
    x, indices = stage.reads
    (y,) = stage.writes

    def moves(view: View, rows: Extent, step: Extent) -> bool:
        buffer = buffers[view.slot]
        return buffer.kind is not BufferKind.WEIGHT and rows * step == buffer.elements

    return (
        buffers[x.slot].kind is BufferKind.WEIGHT
        and moves(indices, indices.shape[0], indices.strides[0])
        and moves(y, y.shape[1], y.strides[1])
    )
