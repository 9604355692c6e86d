"""A gemm stage for its grouped kernel.

    0  A, B, bias or 0        3  rows of A, k, n        6  row stride of A, columns of a panel of B
    8  words of the epilogue, frame (row, column)

B is read in the panels that native code reads: columns of a panel are a multiple of 16, so a warp
still fetches whole sectors, and one packed copy serves both kinds of machine. A row-major matrix
whose rows are padded to 16 is one panel.
"""

from collections.abc import Sequence
from math import gcd

from fusec.ir.stage import Buffer, BufferKind, Stage, View
from fusec.kernels.encoded import is_flat
from fusec.kernels.grouped.program import epilogue
from fusec.kernels.grouped.stage import Grouped, address, alignment

__all__ = ["grouped"]

_ROWS = 3
_POINT = 8


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped:
    """Spell a gemm stage for its grouped kernel.

    Args:
        stage: of op `gemm`.
        buffers: of the lowered template.
    """
    a, b = stage.reads[:2]
    bias = stage.reads[2] if len(stage.reads) > 2 else None
    k, n, nr = (stage.attr(name) for name in ("k", "n", "nr"))
    assert isinstance(k, int) and isinstance(n, int) and isinstance(nr, int)
    assert nr % 16 == 0, "a panel has a multiple of 16 columns"
    program, point = epilogue(stage, buffers, 2)
    rows = a.shape[0]
    moving = [a, *stage.writes, *_operands(stage)]
    shared = bias is None or buffers[bias.slot].kind is BufferKind.WEIGHT
    words = (address(a), address(b), address(bias), rows, k, n, a.strides[0], nr, *point)
    return Grouped(
        kernel="gemm",
        constants=(
            ("WORDS", len(words)),
            ("A_DTYPE", a.dtype),
            ("A_ALIGNED", alignment(a, buffers)),
            ("B_DTYPE", b.dtype),
            ("K_MULTIPLE", gcd(k, 16)),
            ("N_MULTIPLE", gcd(n, 16)),
            ("BIAS", "" if bias is None else bias.dtype),
            ("POINT", program),
        ),
        words=words,
        rows=rows,
        columns=n,
        joins=_ROWS if shared and is_flat(moving, rows, buffers) else -1,
    )


def _operands(stage: Stage) -> list[View]:
    operands = stage.point.operands if stage.point else ()
    return [view for view in operands if view is not None]
