"""A matmul stage as words for its kernel.

     0  A: slot, offset, strides of batch 0, batch 1, row
     5  B: slot, offset, strides of batch 0, batch 1, row, column
    11  C: slot, offset, strides of batch 0, batch 1, row
    16  bias: slot or -1, offset
    18  extent of batch 1, M, K, N
    22  pointwise program

Items are rows of C, those of all batches one after another; items2 are panels of columns. Without
batches the M of the words is boundless, so that rows of further instances can follow.
"""

from collections.abc import Sequence

from fusec.ir.extents import Extent, divide, product
from fusec.ir.stage import Buffer, BufferKind, Stage, View
from fusec.kernels.encoded import Encoded, is_flat, view_words
from fusec.kernels.gemm.encode import GROUP_ROWS, TABLE_BYTES, grain_of
from fusec.kernels.pointwise.encode import POINT_SCRATCH_BYTES, point_words

__all__ = ["BIAS", "BLOCK", "POINT", "SCRATCH_BYTES", "encode"]

BIAS = 16
POINT = 22

BLOCK = 512
"""Steps of k that are packed at a time: a multiple of the chunk of the sums."""

_VECTORS = 3
_BOUNDLESS = 1 << 40

_ROW_BYTES = 64 * _VECTORS
SCRATCH_BYTES = TABLE_BYTES + (GROUP_ROWS + BLOCK + 16) * _ROW_BYTES
"""Row addresses, sums of a panel cut at the last column, a packed panel."""

_USUAL = 64
"""Stands for a sum's length that is not known yet, when tasks are sized."""


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Spell a matmul stage for its kernel.

    Args:
        stage: of op `matmul`.
        buffers: of the lowered template.
    """
    a, b = stage.reads[:2]
    bias = stage.reads[2] if len(stage.reads) > 2 else None
    c = stage.writes[0]
    batches, m, k, n = c.shape[:-2], c.shape[-2], a.shape[-1], c.shape[-1]
    double = c.dtype == "float64"
    size, width = (8, 8 * _VECTORS) if double else (4, 16 * _VECTORS)
    panels = divide(n + (width - 1), width)
    rows = product(batches) * m
    return Encoded(
        kernel="matmul_f64" if double else "matmul_f32",
        words=(
            *_words(a)[:5],
            *_words(b),
            *_words(c)[:5],
            *(view_words(bias)[:2] if bias else (-1, 0)),
            *(batches[-1] if batches else 1, m if batches else _BOUNDLESS, k, n),
            *point_words(stage),
        ),
        items=rows,
        items2=panels,
        grain=_grain(m, k, width),
        grain2=1,
        flat=not batches and _flat(stage, buffers),
        flops=rows * k * n * 2,
        read_bytes=(rows * k + _distinct(b)) * size,
        written_bytes=rows * n * size,
        scratch_bytes=SCRATCH_BYTES + POINT_SCRATCH_BYTES,
    )


def _words(view: View) -> tuple[Extent, ...]:
    """Spell a view with both batch strides, 0 for what it lacks."""
    slot, offset, *strides = view_words(view)
    return (slot, offset, *([0] * (4 - len(strides))), *strides)


def _distinct(view: View) -> Extent:
    """Count elements that are not repeats of others."""
    return product([e for e, s in zip(view.shape, view.strides, strict=True) if s != 0])


def _grain(m: Extent, k: Extent, width: int) -> int:
    """Cut as gemm does, but whole batches where they are small, since each packs its B."""
    grain = grain_of(k if isinstance(k, int) else _USUAL, width)
    if not isinstance(m, int) or m <= 0 or m > GROUP_ROWS:
        return GROUP_ROWS
    return -(-grain // m) * m


def _flat(stage: Stage, buffers: Sequence[Buffer]) -> bool:
    """Tell whether rows of further instances meet the same B, bias and epilogue."""
    operands = stage.point.operands if stage.point else ()
    moving = [stage.reads[0], *stage.writes, *(v for v in operands if v is not None)]
    fixed = all(buffers[view.slot].kind is BufferKind.WEIGHT for view in stage.reads[1:])
    return fixed and is_flat(moving, stage.writes[0].shape[0], buffers)
