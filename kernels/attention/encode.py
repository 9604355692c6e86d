"""Attention stages for the native executor.

    reads   q [b, h, s, d], k [b, h / group, t, d], v [b, h / group, t, e], then the mask, if any,
            [b, h, s, t], boolean (true: look) or float32 (added to the scores)
    writes  y [b, h, s, e]
    attrs   scale   float
            causal  bool: query i sees keys 0 .. i
            mask    "none", "bool" or "float"
            group   queries' heads per head of k and v

The last axes are contiguous. A row that may look at nothing gives zeros. Order of sums: over d and
over t in chunks of 256, each one chain, chunks in order; the sum of powers by lane, lane t % 16,
in order. Rows are computed in blocks of 8 that begin at multiples of 8; under a causal mask a block
looks at the keys up to its last row's.
"""

from collections.abc import Sequence
from dataclasses import replace

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent
from fusec.ir.stage import Buffer, BufferKind, Stage, View
from fusec.kernels.encoded import Encoded
from fusec.kernels.pointwise.encode import float_bits

__all__ = ["BLOCK", "MASKS", "encode"]

BLOCK = 8
"""Query rows that are computed together."""
MASKS = {"none": 0, "bool": 1, "float": 2}
"""Kind of a mask -> its number in the kernel."""
_WORDS = 5


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Encode attention.

    Args:
        stage: the stage.
        buffers: of the lowered template.
    """
    q, k, v = (_samples(x, buffers) for x in stage.reads[:3])
    y = _samples(stage.writes[0], buffers)
    mask = _samples(stage.reads[3], buffers) if len(stage.reads) > 3 else None
    samples, heads, s, d = q.shape
    t, e = v.shape[2:]
    group, scale, kind = (stage.attr(name) for name in ("group", "scale", "mask"))
    assert isinstance(group, int) and isinstance(scale, float) and isinstance(kind, str)
    words: list[Extent] = []
    for view in (q, k, v, y):
        words += _place(view)
    words += _place(mask) if mask is not None else (0,) * _WORDS
    words += (s, t, d, e, heads, group, float_bits(scale), int(bool(stage.attr("causal"))))
    words.append(MASKS[kind])
    rows = samples * heads * s
    return Encoded(
        kernel="attention_rows",
        words=tuple(words),
        items=samples * heads,
        items2=s,
        grain=1,
        grain2=BLOCK,
        flat=samples == 1 and all(_moves(x, buffers) for x in (*stage.reads, *stage.writes)),
        flops=rows * t * (2 * d + 2 * e + 30),
        read_bytes=rows * d * 4 + samples * heads * t * (d + e) * 4,
        written_bytes=rows * e * 4,
        scratch_bytes=(16 + (t + 64) * d + 1024 + BLOCK * (t + 64)) * 4,
    )


def _samples(view: View, buffers: Sequence[Buffer]) -> View:
    """Let the samples' axis, where it has extent 1, step to the next instance's copy."""
    if view.shape[0] != 1 or not _moves(view, buffers):
        return view
    return replace(view, strides=(buffers[view.slot].elements, *view.strides[1:]))


def _moves(view: View, buffers: Sequence[Buffer]) -> bool:
    return buffers[view.slot].kind is not BufferKind.WEIGHT


def _place(view: View) -> tuple[Extent, ...]:
    """Spell slot, byte offset and byte strides of all axes but the last."""
    size = itemsize_bytes(view.dtype)
    return (view.slot, view.offset * size, *(stride * size for stride in view.strides[:3]))
