"""A softmax stage for its grouped kernel.

0  rows, n        2  x, strides of row and column        5  words of the result, same frame
"""

from collections.abc import Sequence
from math import gcd

from fusec.ir.stage import Buffer, Stage
from fusec.kernels.encoded import is_flat
from fusec.kernels.grouped.program import stored
from fusec.kernels.grouped.rows import width
from fusec.kernels.grouped.stage import Grouped, address, alignment, whole
from fusec.kernels.reduce.rows import as_rows

__all__ = ["grouped"]


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped:
    """Spell a softmax stage for its grouped kernel.

    Args:
        stage: of op `softmax`.
        buffers: of the lowered template.
    """
    x, y = (as_rows(v, buffers) for v in (stage.reads[0], stage.writes[0]))
    rows, n = x.shape
    program, point = stored(y, buffers, 2)
    words = (rows, n, address(x), x.strides[0], x.strides[1], *point)
    return Grouped(
        kernel="softmax",
        constants=(
            ("WORDS", len(words)),
            ("X_DTYPE", x.dtype),
            ("X_ALIGNED", alignment(x, buffers)),
            ("N_MULTIPLE", gcd(whole(n), 16)),
            ("LOG", int(bool(stage.attr("log")))),
            ("POINT", program),
            ("WIDTH", width(n)),
        ),
        words=words,
        rows=rows,
        columns=1,
        joins=0 if is_flat((x, y), rows, buffers) else -1,
    )
