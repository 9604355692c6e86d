"""A copy stage as words for its kernel.

A copy:

    0  number of outer axes, rows, columns, 0
    4  target  slot, offset, row step, column step
    8  source  likewise
   12  extent of each outer axis, then steps of the target along them, then of the source

Items are rows, those of all outer axes one after another; items2 are columns. A row of numbers:

    0  slot, offset, step in bytes, first number, step

Offsets and steps of memory are bytes; floats are the bits of doubles.
"""

from collections.abc import Sequence

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent, product
from fusec.ir.stage import Buffer, Stage
from fusec.kernels.encoded import Encoded
from fusec.kernels.pointwise.encode import double_bits, grains
from fusec.kernels.pointwise.frame import frame_of

__all__ = ["encode"]

_CONTIGUOUS_NS, _STRIDED_NS = 0.07, 0.5
"""Per byte, and per element, about."""

_NUMBERS = {"int64": "copy_arange_i64", "int32": "copy_arange_i32", "float32": "copy_arange_f32"}


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Spell a copy stage for its kernel.

    Args:
        stage: of op `copy`.
        buffers: of the lowered template.
    """
    if dict(stage.attrs).get("form") == "arange":
        return _arange(stage)
    (source,), (target,) = stage.reads, stage.writes
    size = itemsize_bytes(target.dtype)
    frame = frame_of(target.shape, (target, source), buffers)
    to, of = frame.steps
    outer = len(frame.outer)
    straight = to[-1] == of[-1] == size or frame.columns == 1
    grain, grain2 = grains(frame, size * _CONTIGUOUS_NS if straight else _STRIDED_NS)
    elements = product(target.shape)
    return Encoded(
        kernel=f"copy_{8 * size}",
        words=(
            *(outer, frame.rows, frame.columns, 0),
            *(target.slot, target.offset * size, *to[-2:]),
            *(source.slot, source.offset * size, *of[-2:]),
            *frame.outer,
            *to[:outer],
            *of[:outer],
        ),
        items=product(frame.outer) * frame.rows,
        items2=frame.columns,
        grain=grain,
        grain2=grain2,
        flat=frame.flat,
        flops=0 if straight else elements * 30,
        read_bytes=elements * size,
        written_bytes=elements * size,
        scratch_bytes=0,
    )


def _arange(stage: Stage) -> Encoded:
    (target,) = stage.writes
    size = itemsize_bytes(target.dtype)
    (n,) = target.shape
    return Encoded(
        kernel=_NUMBERS[target.dtype],
        words=(
            *(target.slot, target.offset * size, target.strides[0] * size),
            *(_number(stage, name, target.dtype) for name in ("start", "step")),
        ),
        items=n,
        items2=1,
        grain=8192,
        grain2=1,
        flat=False,
        flops=n * 10,
        read_bytes=0,
        written_bytes=n * size,
        scratch_bytes=0,
    )


def _number(stage: Stage, name: str, dtype: str) -> Extent:
    value = stage.attr(name)
    assert value is not None and not isinstance(value, str | tuple)
    if dtype == "float32":
        assert isinstance(value, int | float)
        return double_bits(float(value))
    return int(value) if isinstance(value, float) else value
