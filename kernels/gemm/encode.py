"""A gemm stage as words for its kernel.

     0  A: slot, offset, row stride             8  bias: slot or -1, offset
     3  B: slot, offset                        10  k, n, nr
     5  C: slot, offset, row stride            13  pointwise program

Items are rows of C, items2 its panels of columns.
"""

from collections.abc import Sequence

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.stage import Buffer, BufferKind, Stage, View
from fusec.kernels.encoded import Encoded, is_flat, view_words
from fusec.kernels.pointwise.encode import POINT_SCRATCH_BYTES, point_words

__all__ = ["BIAS_SLOT", "GROUP_ROWS", "POINT", "SCRATCH_BYTES", "TABLE_BYTES", "encode", "grain_of"]

BIAS_SLOT = 8
POINT = 13

GROUP_ROWS = 96
"""Rows whose sums one call keeps unfinished, at most."""

TABLE_BYTES = GROUP_ROWS * 8 + 64
"""Addresses of the rows, and one segment."""

SCRATCH_BYTES = TABLE_BYTES + GROUP_ROWS * 64 * 4
"""The table, and sums of a panel that is cut at the last column."""

_KERNELS = {"float32": "gemm_f32", "bfloat16": "gemm_bf16", "float16": "gemm_f16"}
"""By how B is stored; of the last there are only those for cards."""

_SECOND_GFLOP = 110
"""What one thread does in a second, about: only for the size of tasks."""

_TASK_NS = 60_000
"""A task can be cut to this, if cutting at 8 rows and one panel does."""


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Spell a gemm stage for its kernel.

    Args:
        stage: of op `gemm`.
        buffers: of the lowered template.
    """
    a, b = stage.reads[:2]
    bias = stage.reads[2] if len(stage.reads) > 2 else None
    (c, *_) = stage.writes
    k, n, nr = (_int(stage, name) for name in ("k", "n", "nr"))
    m = c.shape[0]
    panels = -(-n // nr)
    size = itemsize_bytes(b.dtype)
    point = point_words(stage)
    rows = [a, *stage.writes, *_epilogue(stage)]
    return Encoded(
        kernel=_KERNELS[b.dtype],
        words=(
            *view_words(a)[:3],
            *view_words(b)[:2],
            *view_words(c)[:3],
            *(view_words(bias)[:2] if bias else (-1, 0)),
            *(k, n, nr),
            *point,
        ),
        items=m,
        items2=panels,
        grain=grain_of(k, nr),
        grain2=1,
        flat=is_flat(rows, m, buffers) and _shared(bias, buffers),
        flops=m * (2 * k * n),
        read_bytes=m * (4 * k) + panels * nr * k * size,
        written_bytes=m * (4 * n),
        scratch_bytes=SCRATCH_BYTES + POINT_SCRATCH_BYTES,
    )


def grain_of(k: int, width: int) -> int:
    """Choose at what multiple of rows tasks may be cut; columns are cut at any panel.

    Whole tiles, of 8 or 6 rows, unless a single panel takes long.

    Args:
        k: length of a sum.
        width: columns of a panel.
    """
    row_ns = max(2 * k * width / _SECOND_GFLOP, 1)
    return 8 * max(1, min(3, int(_TASK_NS / (8 * row_ns))))


def _int(stage: Stage, name: str) -> int:
    value = stage.attr(name)
    assert isinstance(value, int)
    return value


def _epilogue(stage: Stage) -> list[View]:
    operands = stage.point.operands if stage.point else ()
    return [view for view in operands if view is not None]


def _shared(bias: View | None, buffers: Sequence[Buffer]) -> bool:
    """Tell whether rows of further instances take the same bias."""
    return bias is None or buffers[bias.slot].kind is BufferKind.WEIGHT
