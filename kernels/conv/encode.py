"""A convolution stage as words for its kernels; the order of words is `WORDS`.

Items are pieces of output rows: `(n * H' + y) * pieces + piece`, a piece has at most `PIECE`
pixels. Items2 are panels of output channels, groups one after another.
"""

from collections.abc import Sequence

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import divide, product
from fusec.ir.stage import Buffer, PointProgram, Stage
from fusec.kernels.encoded import Encoded, view_words
from fusec.kernels.pointwise.encode import POINT_SCRATCH_BYTES, point_words

__all__ = [
    "DEPTHWISE_SCRATCH_BYTES",
    "MOST_TAPS",
    "MOST_TRANSPOSED",
    "PIECE",
    "POINT",
    "TAPS_SCRATCH_BYTES",
    "WORDS",
    "encode",
    "numbers",
]

PIECE = 256
"""Pixels of an output row in one item, at most."""

WORDS = (
    "x_slot", "x_offset", "x_n", "x_y", "x_x", "x_c",
    "b_slot", "b_offset", "b_group", "b_panel", "b_step",
    "y_slot", "y_offset", "y_n", "y_y", "y_x",
    "bias_slot", "bias_offset",
    "height", "width", "out_height", "out_width", "pieces", "piece",
    "channels", "columns", "nr", "panels", "k",
    "kernel_y", "kernel_x", "stride_y", "stride_x", "padding_y", "padding_x",
    "dilation_y", "dilation_x", "transposed", "act",
)  # fmt: skip
"""Strides in bytes; channels, columns, panels of one group."""

POINT = len(WORDS)
"""Where the pointwise program starts."""

MOST_TAPS = 256
"""Of a depthwise kernel: one chain of sums."""

MOST_TRANSPOSED = 512
"""Kernel of a transposed convolution along an axis, at most."""

TAPS_SCRATCH_BYTES = 36 * 1024
"""Pixels, segments, addresses and zeros of `conv_f32`; see its layout there."""

DEPTHWISE_SCRATCH_BYTES = 24 * 1024
"""The same of `conv_depthwise_f32`, zeros per channel not counted."""

_MOST_FLOPS = 12_000_000
"""Of an item and a panel: about 100 us."""

_TASK_FLOPS = 2_000_000
"""About 20 us."""


def numbers(stage: Stage, name: str) -> tuple[int, ...]:
    """Give an attribute that is a tuple of integers.

    Raises:
        KeyError: the stage has no such attribute.
    """
    value = stage.attr(name)
    assert isinstance(value, tuple)
    return tuple(v for v in value if isinstance(v, int))


def _is_relu(point: PointProgram) -> bool:
    """Tell the one epilogue that the kernels have themselves."""
    steps = [(step.op, step.args) for step in point.steps]
    return point.operands == (None,) and point.results == (1,) and steps == [("relu_f32", (0,))]


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Spell a convolution for its kernel.

    Args:
        stage: of op `conv`.
        buffers: of the lowered template.
    """
    x, b, *rest = stage.reads
    (y, *_) = stage.writes
    groups, nr = stage.attr("groups"), stage.attr("nr")
    assert isinstance(groups, int) and isinstance(nr, int)
    depthwise, packed = bool(stage.attr("depthwise")), bool(stage.attr("packed"))
    kernel = numbers(stage, "kernel")
    _, height, width, channels = x.shape
    images, out_height, out_width, columns = y.shape
    assert isinstance(channels, int) and isinstance(columns, int)
    n = columns if depthwise else columns // groups
    c = 1 if depthwise else channels // groups
    k = kernel[0] * kernel[1] * c
    panels = -(-n // nr)
    parts = 1 if depthwise else groups
    pixel_flops = 2 * k * min(n, nr)
    piece = max(16, min(PIECE, _MOST_FLOPS // pixel_flops // 8 * 8))
    pieces = divide(out_width + (piece - 1), piece)
    size = itemsize_bytes(y.dtype)
    relu = stage.point is not None and _is_relu(stage.point)
    words = (
        *view_words(x),
        *view_words(b)[:2],
        *((panels * k * nr * size, k * nr * size, nr * size) if packed
          else (k * n * size, nr * size, n * size)),
        *view_words(y)[:5],
        *(view_words(rest[0])[:2] if rest else (-1, 0)),
        height, width, out_height, out_width, pieces, piece, c, n, nr, panels, k,
        *kernel,
        *numbers(stage, "stride"), *numbers(stage, "padding"), *numbers(stage, "dilation"),
        int(bool(stage.attr("transposed"))),
        int(relu),
        *((0,) if relu else point_words(stage)),
    )  # fmt: skip
    # Zeros, and a place for what is computed in vain.
    spare = 8 * columns if depthwise else 0
    scratch = DEPTHWISE_SCRATCH_BYTES + spare if depthwise else TAPS_SCRATCH_BYTES
    items = images * out_height * pieces
    wide = out_width if isinstance(out_width, int) else 64
    piece_flops = pixel_flops * min(piece, max(1, wide))
    grain2 = max(1, min(panels * parts, _TASK_FLOPS // piece_flops))
    return Encoded(
        kernel="conv_depthwise_f32" if depthwise else "conv_f32",
        words=words,
        items=items,
        items2=parts * panels,
        grain=max(1, _TASK_FLOPS // (piece_flops * grain2)),
        grain2=grain2,
        flat=False,
        flops=product((images, out_height, out_width, columns, 2 * k)),
        read_bytes=product(x.shape) * size + parts * panels * nr * k * size,
        written_bytes=product(y.shape) * size,
        scratch_bytes=scratch + POINT_SCRATCH_BYTES,
    )
