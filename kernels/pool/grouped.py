"""A pooling or resizing stage for its grouped kernel: rows are output pixels.

 0  x        1  output pixels, channels, height, width, output height, output width
 7  kernel y, x; stride y, x; padding y, x; dilation y, x
15  divisor or 0, bits of the scales y, x (0: from the extents)
18  strides of x: image, y, x, channel
22  words of the result, frame (image, y, x, channel)
"""

import struct
from collections.abc import Sequence
from math import gcd

from fusec.ir.stage import Attr, Buffer, Stage
from fusec.kernels.grouped.program import stored
from fusec.kernels.grouped.stage import Grouped, address, whole

__all__ = ["grouped"]


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped:
    """Spell a pooling or resizing stage for its grouped kernel.

    Args:
        stage: of op `pool`.
        buffers: of the lowered template.
    """
    (x,), (y,) = stage.reads, stage.writes
    attrs = dict(stage.attrs)
    _, height, width, channels = x.shape
    images, out_height, out_width, _ = y.shape
    program, point = stored(y, buffers, 4)
    divisor = attrs.get("divisor")
    assert divisor is None or isinstance(divisor, int)
    words = (
        address(x),
        *(out_height * out_width, channels, height, width, out_height, out_width),
        *_pair(attrs.get("kernel"), 1),
        *_pair(attrs.get("stride"), 1),
        *_pair(attrs.get("padding"), 0),
        *_pair(attrs.get("dilation"), 1),
        *(divisor or 0, *_scales(attrs.get("scales"))),
        *x.strides,
        *point,
    )
    return Grouped(
        kernel="pool",
        constants=(
            ("WORDS", len(words)),
            ("MODE", str(attrs["mode"])),
            ("X_DTYPE", x.dtype),
            ("NEAR", int(x.strides[3] == 1)),
            ("N_MULTIPLE", gcd(whole(channels), 16)),
            ("INCLUDE_PAD", int(bool(attrs.get("include_pad")))),
            ("CORNERS", int(bool(attrs.get("align_corners")))),
            ("POINT", program),
        ),
        words=words,
        rows=out_height * out_width,
        columns=channels,
        layers=images,
    )


def _pair(value: Attr, default: int) -> tuple[int, int]:
    if value is None:
        return default, default
    assert isinstance(value, tuple)
    a, b = value
    assert isinstance(a, int) and isinstance(b, int)
    return a, b


def _scales(value: Attr) -> tuple[int, int]:
    if value is None:
        return 0, 0
    assert isinstance(value, tuple)
    a, b = value
    assert isinstance(a, float) and isinstance(b, float)
    first, second = struct.unpack("<2i", struct.pack("<2f", a, b))
    return int(first), int(second)
