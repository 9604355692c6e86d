"""Norm stages for the native executor.

    reads   x, then weight and bias where `weight` and `bias` say that they are there (dense)
    writes  y, of x's shape
    attrs   kind    "layer" or "rms": rows [rows, n], statistics over a row
                    "group": [samples, groups, channels of a group, space]
                    "columns": [samples, space, channels], statistics of groups of channels
            groups  int, of "columns"
            eps     float
            weight  bool
            bias    bool

The last axis of x and y is contiguous. Order of sums: rows as `reduce/micro.py` says; in groups,
each channel in that order, by lane, channels in order, 64 to a chunk; in columns, each channel as
in columns of `reduce/encode.py`, then the channels of a group in order.
"""

from collections.abc import Sequence
from dataclasses import replace

from fusec.ir.extents import Extent, product
from fusec.ir.stage import Buffer, Stage
from fusec.kernels.encoded import Encoded, is_flat
from fusec.kernels.pointwise.encode import POINT_SCRATCH_BYTES, float_bits, point_words
from fusec.kernels.reduce.rows import as_rows, point_is_flat

__all__ = ["GRAIN", "POINTS", "encode"]

POINTS = {"norm_rows": 12, "norm_groups": 20, "norm_columns": 16}
"""Kernel -> number of its words; the point words follow."""
_FLOPS = 8
GRAIN = 64
"""Channels that are normalised together, so that they are still near when they are written."""


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Encode a norm.

    Args:
        stage: the stage.
        buffers: of the lowered template.
    """
    kind = stage.attr("kind")
    if kind == "columns":
        return _columns(stage)
    return _groups(stage) if kind == "group" else _rows(stage, buffers)


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


def _groups(stage: Stage) -> Encoded:
    x, y = stage.reads[0], stage.writes[0]
    samples, groups, channels, space = x.shape
    strides = [s * 4 for v in (x, y) for s in v.strides[1:3]]
    words = (
        x.slot, x.offset * 4, x.strides[0] * 4,
        y.slot, y.offset * 4, y.strides[0] * 4,
        *_affine(stage),
        channels, _head(stage), space, groups,
        *strides,
        0, 0,
    )  # fmt: skip
    return _encoded(stage, "norm_groups", words, samples * groups, False)


def _columns(stage: Stage) -> Encoded:
    x, y = stage.reads[0], stage.writes[0]
    samples, space, channels = x.shape
    groups = stage.attr("groups")
    assert isinstance(groups, int) and isinstance(channels, int)
    each = channels // groups
    words = (
        x.slot, x.offset * 4, x.strides[0] * 4,
        y.slot, y.offset * 4, y.strides[0] * 4,
        *_affine(stage),
        space, _head(stage), each, groups,
        x.strides[1] * 4, y.strides[1] * 4,
    )  # fmt: skip
    encoded = _encoded(stage, "norm_columns", words, samples * groups, False)
    return replace(
        encoded,
        grain=max(1, GRAIN // each),
        scratch_bytes=POINT_SCRATCH_BYTES + 3 * 4 * (max(each, GRAIN) + 16),
    )


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
    assert len(words) == POINTS[kernel]
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
