"""A gather stage for its grouped kernel.

 0  x, indices        2  rows of a sample, columns, rows of x that can be picked
 5  strides of x: sample, row, column        8  of the indices: sample, row, column
11  step of k, columns of a panel (form "panels")
13  words of the result, frame (sample, row, column)
"""

from collections.abc import Sequence
from dataclasses import replace
from math import gcd

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent
from fusec.ir.stage import Buffer, Stage
from fusec.kernels.grouped.program import stored
from fusec.kernels.grouped.stage import Grouped, address, alignment, whole

__all__ = ["grouped"]

_BITS = {1: "int8", 2: "int16", 4: "int32", 8: "int64"}
"""Bytes of an element -> the dtype that moves them."""


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped | None:
    """Spell a gather stage for its grouped kernel; None for elements of 16 bytes.

    Args:
        stage: of op `gather`.
        buffers: of the lowered template.
    """
    x, indices = stage.reads
    y = stage.writes[0]
    dtype = _BITS.get(itemsize_bytes(y.dtype))
    if dtype is None:
        return None
    x, y = replace(x, dtype=dtype), replace(y, dtype=dtype)
    form = stage.attr("form")
    outer, count, inner = y.shape
    limit: Extent
    strides: tuple[Extent, ...]
    k, nr = 0, 1
    if form == "panels":
        n, k, nr = (int(str(stage.attr(name))) for name in ("n", "k", "nr"))
        limit, strides = n, (0, k * nr, nr)
        aligned = 1
    else:
        limit, strides = x.shape[1], x.strides
        aligned = alignment(x, buffers)
    program, point = stored(y, buffers, 3)
    spread = indices.strides if form == "along" else (0, indices.strides[0], 0)
    words = (
        *(address(x), address(indices), count, inner, limit),
        *(*strides, *spread, k, nr),
        *point,
    )
    return Grouped(
        kernel="gather",
        constants=(
            ("WORDS", len(words)),
            ("FORM", str(form)),
            ("X_DTYPE", dtype),
            ("X_ALIGNED", aligned),
            ("INDEX", indices.dtype),
            ("WRAP", int(bool(stage.attr("wrap")))),
            ("N_MULTIPLE", gcd(whole(inner), 16)),
            ("POINT", program),
        ),
        words=words,
        rows=count,
        columns=inner,
        layers=outer,
    )
