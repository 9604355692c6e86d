"""A pooling or resizing stage as words for its kernels; the order of words is `WORDS`.

Items are pieces of output rows, as a convolution's; items2 are blocks of `BLOCK` channels.
"""

import struct
from collections.abc import Sequence

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent, divide, product
from fusec.ir.stage import Attr, Buffer, Stage
from fusec.kernels.encoded import Encoded, view_words

__all__ = ["BLOCK", "MODES", "PIECE", "WORDS", "encode"]

PIECE = 256
"""Pixels of an output row in one item, at most."""

BLOCK = 64
"""Channels of one item."""

MODES = ("max", "avg", "adaptive_max", "adaptive_avg", "nearest", "nearest_exact", "bilinear")

WORDS = (
    "x_slot", "x_offset", "x_n", "x_y", "x_x", "y_slot", "y_offset", "y_n", "y_y", "y_x",
    "height", "width", "out_height", "out_width", "pieces", "channels", "mode",
    "kernel_y", "kernel_x", "stride_y", "stride_x", "padding_y", "padding_x",
    "dilation_y", "dilation_x", "include_pad", "divisor", "align_corners", "scale_y", "scale_x",
)  # fmt: skip
"""Strides in bytes; scales are bits of float32."""

_TASK_LOADS = 16_000
"""Vectors read in a task: about 10 us."""


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Spell a pooling or resizing stage for its kernel.

    Args:
        stage: of op `pool`.
        buffers: of the lowered template.
    """
    (x,), (y,) = stage.reads, stage.writes
    attrs = dict(stage.attrs)
    mode = attrs["mode"]
    assert isinstance(mode, str)
    _, height, width, channels = x.shape
    images, out_height, out_width, _ = y.shape
    pieces = divide(out_width + (PIECE - 1), PIECE)
    kernel = _pair(attrs.get("kernel"), 1)
    resizing = mode in MODES[4:]
    words: tuple[Extent, ...] = (
        *view_words(x)[:5], *view_words(y)[:5],
        height, width, out_height, out_width, pieces, channels, MODES.index(mode),
        *kernel, *_pair(attrs.get("stride"), 1), *_pair(attrs.get("padding"), 0),
        *_pair(attrs.get("dilation"), 1), int(bool(attrs.get("include_pad"))),
        _number(attrs.get("divisor")), int(bool(attrs.get("align_corners"))),
        *_scales(attrs.get("scales")),
    )  # fmt: skip
    taps: Extent = kernel[0] * kernel[1]
    if mode.startswith("adaptive"):
        taps = divide(height, out_height) * divide(width, out_width)
    wide = min(PIECE, out_width) if isinstance(out_width, int) else 64
    loads = max(1, wide * (BLOCK // 16) * (taps if isinstance(taps, int) else 16))
    size = itemsize_bytes(y.dtype)
    return Encoded(
        kernel="pool_resize_f32" if resizing else "pool_window_f32",
        words=words,
        items=images * out_height * pieces,
        items2=divide(channels + (BLOCK - 1), BLOCK),
        grain=max(1, _TASK_LOADS // loads),
        grain2=1,
        flat=False,
        flops=product(y.shape) * taps,
        read_bytes=product(x.shape) * size,
        written_bytes=product(y.shape) * size,
        scratch_bytes=0,
    )


def _pair(value: Attr, default: int) -> tuple[int, int]:
    if value is None:
        return default, default
    assert isinstance(value, tuple)
    a, b = value
    assert isinstance(a, int) and isinstance(b, int)
    return a, b


def _number(value: Attr) -> int:
    assert value is None or isinstance(value, int)
    return value or 0


def _scales(value: Attr) -> tuple[int, int]:
    if value is None:
        return 0, 0
    assert isinstance(value, tuple)
    a, b = value
    assert isinstance(a, float) and isinstance(b, float)
    first, second = struct.unpack("<2i", struct.pack("<2f", a, b))
    return int(first), int(second)
