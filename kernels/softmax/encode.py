"""Softmax stages for the native executor.

    reads   x [rows, n]
    writes  y [rows, n]
    attrs   log     bool: give logarithms

The last axes are contiguous. Order of the sum: see `reduce/micro.py`.
"""

from collections.abc import Sequence

from fusec.ir.stage import Buffer, Stage
from fusec.kernels.encoded import Encoded, is_flat
from fusec.kernels.reduce.rows import as_rows

__all__ = ["encode"]

_FLOPS = 30


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Encode a softmax.

    Args:
        stage: the stage.
        buffers: of the lowered template.
    """
    x, y = (as_rows(v, buffers) for v in (stage.reads[0], stage.writes[0]))
    rows, n = x.shape
    return Encoded(
        kernel="softmax_rows",
        words=(
            x.slot,
            x.offset * 4,
            x.strides[0] * 4,
            y.slot,
            y.offset * 4,
            y.strides[0] * 4,
            n,
            int(bool(stage.attr("log"))),
        ),
        items=rows,
        items2=1,
        grain=1,
        grain2=1,
        flat=is_flat((x, y), rows, buffers),
        flops=rows * n * _FLOPS,
        read_bytes=rows * n * 4,
        written_bytes=rows * n * 4,
        scratch_bytes=0,
    )
