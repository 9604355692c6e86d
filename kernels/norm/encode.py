"""Norm stages for the native executor.

    reads   x, then weight and bias where `weight` and `bias` say that they are there (dense)
    writes  y, of x's shape
    attrs   kind    "layer" or "rms": rows [rows, n], statistics over a row
                    "group": [samples, groups, a, b], statistics over the last two axes
            eps     float
            weight  bool
            bias    bool
            along   "n" for rows; for groups, the axis that weights follow: "a" or "b"

The last axis of x and y is contiguous. Order of sums: see `reduce/micro.py`; in groups, each run
of the last axis is summed in that order, by lane, and runs are added in order, 64 to a chunk.
"""

from collections.abc import Sequence

from fusec.ir.extents import Extent, product
from fusec.ir.stage import Buffer, Stage
from fusec.kernels.encoded import Encoded, is_flat
from fusec.kernels.pointwise.encode import POINT_SCRATCH_BYTES, float_bits, point_words
from fusec.kernels.reduce.rows import as_rows, point_is_flat

__all__ = ["GROUP_POINT", "ROW_POINT", "encode"]

ROW_POINT = 12
"""Where the point words of a row norm begin."""
GROUP_POINT = 20
"""Where the point words of a group norm begin."""
_FLOPS = 8


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Encode a norm.

    Args:
        stage: the stage.
        buffers: of the lowered template.
    """
    return (_groups if stage.attr("kind") == "group" else _rows)(stage, buffers)


def _rows(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    x, y = stage.reads[0], stage.writes[0]
    rows, n = x.shape
    x, y = (as_rows(v, buffers) for v in (x, y))
    words = (
        x.slot, x.offset * 4, x.strides[0] * 4,
        y.slot, y.offset * 4, y.strides[0] * 4,
        *_affine(stage),
        n, _head(stage),
    )  # fmt: skip
    flat = is_flat((x, y), rows, buffers) and point_is_flat(stage, buffers)
    return _encoded(stage, "norm_rows", words, rows, flat)


def _groups(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    x, y = stage.reads[0], stage.writes[0]
    samples, groups, a, b = x.shape
    strides = [s * 4 for v in (x, y) for s in v.strides[1:3]]
    words = (
        x.slot, x.offset * 4, x.strides[0] * 4,
        y.slot, y.offset * 4, y.strides[0] * 4,
        *_affine(stage),
        a, _head(stage), b, groups,
        *strides,
        int(stage.attr("along") == "a"), 0,
    )  # fmt: skip
    return _encoded(stage, "norm_groups", words, samples * groups, False)


def _affine(stage: Stage) -> tuple[Extent, ...]:
    """Give slot and byte offset of weight and bias; slot -1 for none."""
    given = list(stage.reads[1:])
    words: list[Extent] = []
    for name in ("weight", "bias"):
        view = given.pop(0) if stage.attr(name) else None
        words += (-1, 0) if view is None else (view.slot, view.offset * 4)
    return tuple(words)


def _head(stage: Stage) -> int:
    """Pack epsilon's bits and, above them, whether the mean is left where it is."""
    eps = stage.attr("eps")
    assert isinstance(eps, float)
    return float_bits(eps) | (int(stage.attr("kind") == "rms") << 32)


def _encoded(
    stage: Stage, kernel: str, words: tuple[Extent, ...], items: Extent, flat: bool
) -> Encoded:
    assert len(words) == (ROW_POINT if kernel == "norm_rows" else GROUP_POINT)
    elements = product(stage.reads[0].shape)
    return Encoded(
        kernel=kernel,
        words=(*words, *point_words(stage)),
        items=items,
        items2=1,
        grain=1,
        grain2=1,
        flat=flat,
        flops=elements * _FLOPS,
        read_bytes=elements * 4,
        written_bytes=elements * 4,
        scratch_bytes=POINT_SCRATCH_BYTES,
    )
