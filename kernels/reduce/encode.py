"""Reductions for the native executor.

    reads   x   form "rows":    [o, r1, r2], the last axis contiguous
                form "columns": [o, r1, r2, i], the last axis contiguous
                form "where":   [o, r], the last axis contiguous
                form "scalars": [o, r], integers or booleans, any strides
                form "scan", "sort": [o, n, i], any strides
    writes  y   [o]; for columns [o, i]; for a scan dense in x's shape
            sort: y and int64 places [o, k, i], any strides: the first k of each column
            where it is, int64 [o]: second for "max" and "min", first for "argmax" and "argmin"
    attrs   form, kind
            correction  float, taken off the number of elements in "var" and "std"
            largest     bool, of a sort: the largest first

Order of sums: in rows by lane, see `reduce/micro.py`, runs of r2 in order, 64 to a chunk; in
columns element r2 goes to accumulator r2 % 4, in chunks of 256; accumulators are added in pairs,
chunks in order.
"""

from collections.abc import Sequence

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent, product
from fusec.ir.stage import Buffer, Stage, View
from fusec.kernels.encoded import Encoded, is_flat
from fusec.kernels.pointwise.encode import POINT_SCRATCH_BYTES, float_bits, point_words
from fusec.kernels.reduce.rows import as_rows

__all__ = ["KINDS", "POINT", "encode"]

KINDS = {
    name: number
    for number, name in enumerate((
        "sum", "mean", "amax", "amin", "prod", "var", "std", "logsumexp", "norm1", "norm2",
        "norminf", "argmax", "argmin", "max", "min", "any", "all",
    ))
}  # fmt: skip
"""Name of a reduction -> its number in the kernels."""

POINT = 16
"""Where the point words begin."""


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Encode a reduction.

    Args:
        stage: the stage.
        buffers: of the lowered template.
    """
    form = stage.attr("form")
    if form == "columns":
        return _columns(stage, buffers)
    if form == "scan":
        return _scan(stage, buffers)
    if form == "sort":
        return _sort(stage, buffers)
    x = as_rows(stage.reads[0], buffers)
    writes = [as_rows(w, buffers) for w in stage.writes]
    size = itemsize_bytes(x.dtype)
    words = [
        *_place(x),
        *_place(writes[0]),
        *((-1, 0, 0) if len(writes) < 2 else _place(writes[1])),
    ]
    if form == "rows":
        words += [x.shape[1], x.strides[1] * size, x.shape[2], *_kind(stage, x)]
    else:
        words += [x.shape[1], x.strides[1] * size, size, *_kind(stage, x)]
    flat = is_flat((x, *writes), x.shape[0], buffers) and _point_is_flat(stage, buffers)
    return _encoded(stage, f"reduce_{form}", words, (x.shape[0], 1), 1, flat)


def _columns(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    x, y = (as_rows(v, buffers) for v in (stage.reads[0], stage.writes[0]))
    words = [*_place(x), *_place(y), x.shape[1], x.strides[1] * 4, x.shape[2], *_kind(stage, x)]
    words += [x.strides[2] * 4, 0, 0]
    flat = is_flat((x, y), x.shape[0], buffers) and _point_is_flat(stage, buffers)
    return _encoded(stage, "reduce_columns", words, (x.shape[0], x.shape[3]), 16, flat)


def _scan(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    x, y = (as_rows(v, buffers) for v in (stage.reads[0], stage.writes[0]))
    sizes = [itemsize_bytes(v.dtype) for v in (x, y)]
    words: list[Extent] = [*_place(x), *_place(y), x.shape[1]]
    words += [
        v.strides[axis] * size for v, size in zip((x, y), sizes, strict=True) for axis in (1, 2)
    ]
    words += [*sizes, 0, 0, 0]
    flat = is_flat((x, y), x.shape[0], buffers)
    return _encoded(stage, "reduce_scan", words, (x.shape[0], x.shape[2]), 16, flat)


def _sort(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    x, y, places = (as_rows(v, buffers) for v in (*stage.reads, *stage.writes))
    size = itemsize_bytes(x.dtype)
    n, k, inner = x.shape[1], y.shape[1], x.shape[2]
    words: list[Extent] = [*_place(x), *_place(y), *_place(places), n, k]
    for view in (x, y, places):
        words += [view.strides[axis] * itemsize_bytes(view.dtype) for axis in (1, 2)]
    # An integer's kind is its size; a float's is one more.
    words += [size + x.dtype.startswith("float"), int(bool(stage.attr("largest")))]
    return Encoded(
        kernel="reduce_sort",
        words=tuple(words),
        items=x.shape[0],
        items2=inner,
        grain=1,
        grain2=1,
        flat=is_flat((x, y, places), x.shape[0], buffers),
        flops=product(x.shape) * 30,
        read_bytes=product(x.shape) * size,
        written_bytes=product(y.shape) * (size + 8),
        scratch_bytes=n * 24,
    )


def _place(view: View) -> tuple[Extent, ...]:
    """Spell slot, byte offset and bytes from row to row."""
    size = itemsize_bytes(view.dtype)
    return (view.slot, view.offset * size, view.strides[0] * size)


def _kind(stage: Stage, x: View) -> tuple[Extent, ...]:
    """Spell the kind, what takes part, what divides a variance, and the second output's place."""
    kind = stage.attr("kind")
    correction = dict(stage.attrs).get("correction", 0.0)
    assert isinstance(kind, str) and isinstance(correction, float)
    return (KINDS[kind], float_bits(correction), itemsize_bytes(stage.writes[0].dtype), 0)


def _point_is_flat(stage: Stage, buffers: Sequence[Buffer]) -> bool:
    if stage.point is None:
        return True
    axis = -2 if stage.attr("form") == "columns" else -1
    views = [v for v in (*stage.point.operands, *stage.writes) if v is not None]
    for view in views:
        rank = len(view.shape)
        if rank < -axis or product(view.shape[: rank + axis]) != 1:
            return False
    flat = [View(v.slot, v.dtype, v.shape[axis:], v.strides[axis:], v.offset) for v in views]
    return is_flat(flat, stage.writes[0].shape[axis], buffers)


def _encoded(
    stage: Stage, kernel: str, words: list[Extent], items: tuple[Extent, Extent], grain2: int,
    flat: bool,
) -> Encoded:  # fmt: skip
    assert len(words) == POINT, len(words)
    read, written = product(stage.reads[0].shape), product(stage.writes[0].shape)
    return Encoded(
        kernel=kernel,
        words=(*words, *point_words(stage)),
        items=items[0],
        items2=items[1],
        grain=1,
        grain2=grain2,
        flat=flat,
        flops=read * (30 if stage.attr("kind") == "logsumexp" else 2),
        read_bytes=read * itemsize_bytes(stage.reads[0].dtype),
        written_bytes=written * itemsize_bytes(stage.writes[0].dtype),
        scratch_bytes=POINT_SCRATCH_BYTES,
    )
