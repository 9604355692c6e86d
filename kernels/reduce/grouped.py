"""A reduction stage for its grouped kernels.

    0  results of a line, elements of one sum, extent of the inner reduced axis, bits of correction
    4  x, its strides along: lines, both reduced axes, results of a line
    9  words of the epilogue; frame (result), or (line, result) in columns
       words of the second result, if there is one

In columns, results of a line are neighbours in memory and each line is a tile's own; otherwise
there is one line. A scan has no epilogue: its words are y's, frame (line, number, result).
"""

from collections.abc import Sequence

from fusec.ir.stage import Buffer, Stage
from fusec.kernels.encoded import is_flat
from fusec.kernels.grouped.program import along, epilogue, stored
from fusec.kernels.grouped.rows import width
from fusec.kernels.grouped.stage import Grouped, Word, address, alignment
from fusec.kernels.pointwise.encode import float_bits
from fusec.kernels.reduce.rows import as_rows

__all__ = ["POINT", "grouped"]

POINT = 9


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped | None:
    """Spell a reduction for its grouped kernel; None for those that sort, which have none.

    Args:
        stage: of op `reduce`.
        buffers: of the lowered template.
    """
    form, kind = stage.attr("form"), stage.attr("kind")
    correction = dict(stage.attrs).get("correction", 0.0)
    assert isinstance(form, str) and isinstance(kind, str) and isinstance(correction, float)
    if form == "sort":
        return None
    x = as_rows(stage.reads[0], buffers)
    if form == "scan":
        return _scan(stage, buffers)
    columns = form == "columns"
    strides = x.strides
    match form:
        case "rows" | "columns":
            outer, inner = x.shape[1:3]
            steps = (strides[0], strides[1], strides[2], strides[3] if columns else 0)
        case _:
            outer, inner = 1, x.shape[1]
            steps = (strides[0], 0, strides[1], 0)
    if not columns:
        steps = (0, *steps[1:3], strides[0])
    n = outer * inner
    results = x.shape[3] if columns else x.shape[0]
    program, point = epilogue(stage, buffers, 2 if columns else 1)
    second = ""
    more: tuple[Word, ...] = ()
    if len(stage.writes) > 1 and kind in ("max", "min"):
        program, point = stored(stage.writes[0], buffers, 1)
        second, more = stored(stage.writes[1], buffers, 1)
    words = (results, n, inner, float_bits(correction), address(x), *steps, *point, *more)
    writes = [as_rows(w, buffers) for w in stage.writes]
    flat = not columns and stage.point is None and is_flat((x, *writes), x.shape[0], buffers)
    return Grouped(
        kernel="reduce",
        constants=(
            ("WORDS", len(words)),
            ("KIND", kind),
            ("COLUMNS", int(columns)),
            ("FLAT", int(outer == 1)),
            ("NEAR", int(steps[2] == 1)),
            ("X_DTYPE", x.dtype),
            ("X_ALIGNED", alignment(x, buffers)),
            ("POINT", program),
            ("SECOND", second),
            ("SECOND_AT", POINT + len(point)),
            ("WIDTH", "columns" if columns else width(n)),
        ),
        words=words,
        rows=results,
        columns=x.shape[0] if columns else 1,
        joins=0 if flat else -1,
    )


def _scan(stage: Stage, buffers: Sequence[Buffer]) -> Grouped:
    x, y = stage.reads[0], stage.writes[0]
    program, point = stored(y, buffers, 3)
    words = (x.shape[2], x.shape[1], 0, 0, address(x), *along(x, buffers, 3), 0, *point)
    return Grouped(
        kernel="scan",
        constants=(("WORDS", len(words)), ("X_DTYPE", x.dtype), ("POINT", program)),
        words=words,
        rows=x.shape[2],
        columns=x.shape[0],
    )
