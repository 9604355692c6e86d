"""A convolution stage for its grouped kernel: rows are output pixels, k counts (ky, kx, channel).

    0  x, B, bias or 0        3  output pixels, columns of a group, channels of a group, groups
    7  height, width, output width
   10  kernel y, x; stride y, x; padding y, x; dilation y, x
   18  strides of x: image, y, x, channel
   22  strides of B: group, panel, step of k; columns of a panel
   26  words of the epilogue, frame (image, y, x, channel)

A depthwise stage is one group whose columns are its channels; k counts taps. B is read as native
code packs it: in panels, or in rows, which are panels next to each other.
"""

from collections.abc import Sequence
from math import gcd

from fusec.ir.stage import Buffer, Stage
from fusec.kernels.conv.encode import numbers
from fusec.kernels.grouped.program import epilogue
from fusec.kernels.grouped.stage import Grouped, address, alignment

__all__ = ["grouped"]


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped:
    """Spell a convolution for its grouped kernel.

    Args:
        stage: of op `conv`.
        buffers: of the lowered template.
    """
    x, b, *rest = stage.reads
    y = stage.writes[0]
    parts, nr = stage.attr("groups"), stage.attr("nr")
    assert isinstance(parts, int) and isinstance(nr, int)
    depthwise, packed = bool(stage.attr("depthwise")), bool(stage.attr("packed"))
    kernel = numbers(stage, "kernel")
    _, height, width, channels = x.shape
    images, out_height, out_width, columns = y.shape
    assert isinstance(channels, int) and isinstance(columns, int)
    groups = 1 if depthwise else parts
    n = columns // groups
    c = channels if depthwise else channels // groups
    k = kernel[0] * kernel[1] * (1 if depthwise else c)
    panels = -(-n // nr)
    program, point = epilogue(stage, buffers, 4)
    pixels = out_height * out_width
    words = (
        *(address(x), address(b), address(rest[0] if rest else None)),
        *(pixels, n, c, groups, height, width, out_width),
        *kernel,
        *(v for name in ("stride", "padding", "dilation") for v in numbers(stage, name)),
        *x.strides,
        *((panels * k * nr, k * nr, nr, nr) if packed else (k * n, nr, n, nr)),
        *point,
    )
    aligned = packed and nr % 16 == 0
    return Grouped(
        kernel="depthwise" if depthwise else "conv",
        constants=(
            ("WORDS", len(words)),
            ("A_DTYPE", x.dtype),
            ("A_ALIGNED", alignment(x, buffers) if x.strides[3] == 1 else 1),
            ("B_DTYPE", b.dtype),
            ("B_COLUMNS", 16 if aligned else 1),
            ("C_MULTIPLE", gcd(c, 64)),
            ("NEAR", int(x.strides[3] == 1)),
            ("N_MULTIPLE", gcd(n, 16)),
            ("TRANSPOSED", int(bool(stage.attr("transposed")))),
            ("BIAS", rest[0].dtype if rest else ""),
            ("POINT", program),
        ),
        words=words,
        rows=pixels,
        columns=n,
        layers=images * groups,
    )
