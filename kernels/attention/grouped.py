"""An attention stage for its grouped kernel.

 0  q, k, v, mask or 0      4  queries, keys, heads, heads of q per head of k, width of k, of v
10  bits of the scale      11  strides of q, of k, of v: sample, head, row
20  strides of the mask: sample, head, query, key
24  words of the result, frame (sample, head, query, column)
"""

from collections.abc import Sequence

from fusec.ir.extents import Extent
from fusec.ir.stage import Buffer, Stage, View
from fusec.kernels.grouped.program import stored
from fusec.kernels.grouped.stage import Grouped, address, alignment
from fusec.kernels.pointwise.encode import float_bits

__all__ = ["grouped"]

_MOST_COLUMNS = 256
"""Of a head: a tile keeps rows of k and v whole."""


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped | None:
    """Spell attention for its grouped kernel; None for heads too wide for it.

    Args:
        stage: of op `attention`.
        buffers: of the lowered template.
    """
    q, k, v = stage.reads[:3]
    mask = stage.reads[3] if len(stage.reads) > 3 else None
    samples, heads, s, d = q.shape
    t, e = v.shape[2:]
    group, scale = stage.attr("group"), stage.attr("scale")
    assert isinstance(group, int) and isinstance(scale, float)
    if not isinstance(d, int) or not isinstance(e, int) or max(d, e) > _MOST_COLUMNS:
        return None
    program, point = stored(stage.writes[0], buffers, 4)
    words = (
        *(address(q), address(k), address(v), address(mask)),
        *(s, t, heads, group, d, e, float_bits(scale)),
        *(step for view in (q, k, v) for step in view.strides[:3]),
        *_mask_strides(mask),
        *point,
    )
    return Grouped(
        kernel="attention",
        constants=(
            ("WORDS", len(words)),
            ("X_DTYPE", q.dtype),
            ("Q_ALIGNED", alignment(q, buffers)),
            ("K_ALIGNED", alignment(k, buffers)),
            ("V_ALIGNED", alignment(v, buffers)),
            ("MASK", "" if mask is None else mask.dtype),
            ("CAUSAL", int(bool(stage.attr("causal")))),
            ("POINT", program),
            ("BLOCK_D", _power(d)),
            ("BLOCK_E", _power(e)),
        ),
        words=words,
        rows=s,
        columns=1,
        layers=samples * heads,
    )


def _mask_strides(mask: View | None) -> tuple[Extent, ...]:
    return (0, 0, 0, 0) if mask is None else mask.strides


def _power(n: int) -> int:
    """Give the least power of two that a product can have, at least n."""
    return max(16, 1 << (n - 1).bit_length())
