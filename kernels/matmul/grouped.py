"""A matmul stage for its grouped kernel.

 0  A, B, bias or 0        3  rows of a matrix, k, n        6  extent of the inner batch axis
 7  strides of A: batches, row        10  of B: batches, step of k, column
14  words of the epilogue, frame (batch, batch, row, column)
"""

from collections.abc import Sequence
from math import gcd

from fusec.ir.extents import Extent, product
from fusec.ir.stage import Buffer, Stage, View
from fusec.kernels.grouped.program import epilogue
from fusec.kernels.grouped.stage import Grouped, address, alignment, whole

__all__ = ["grouped"]


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped:
    """Spell a matmul stage for its grouped kernel.

    Args:
        stage: of op `matmul`.
        buffers: of the lowered template.
    """
    a, b = stage.reads[:2]
    bias = stage.reads[2] if len(stage.reads) > 2 else None
    c = stage.writes[0]
    batches, m, k, n = c.shape[:-2], c.shape[-2], a.shape[-1], c.shape[-1]
    program, point = epilogue(stage, buffers, 4)
    b_strides = _strides(b)
    near = "column" if b_strides[3] == 1 else "k" if b_strides[2] == 1 else ""
    # What a thread loads at once lies along the contiguous axis: all others are rows to it.
    turned = View(b.slot, b.dtype, (), (*b_strides[:2], b_strides[3], b_strides[2]), b.offset)
    straight = View(b.slot, b.dtype, (), b_strides, b.offset)
    words = (
        *(address(a), address(b), address(bias), m, k, n),
        batches[-1] if batches else 1,
        *_strides(a)[:3],
        *b_strides,
        *point,
    )
    return Grouped(
        kernel="matmul",
        constants=(
            ("WORDS", len(words)),
            ("A_DTYPE", a.dtype),
            ("A_ALIGNED", alignment(a, buffers)),
            ("B_DTYPE", b.dtype),
            ("B_ALIGNED", alignment(turned if near == "k" else straight, buffers) if near else 1),
            ("B_NEAR", near),
            ("K_MULTIPLE", gcd(whole(k), 16)),
            ("N_MULTIPLE", gcd(whole(n), 16)),
            ("BIAS", "" if bias is None else bias.dtype),
            ("POINT", program),
        ),
        words=words,
        rows=m,
        columns=n,
        layers=product(batches),
    )


def _strides(view: View) -> tuple[Extent, ...]:
    return (*[0] * (4 - len(view.strides)), *view.strides)
