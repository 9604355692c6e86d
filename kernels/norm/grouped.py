"""A norm stage for its grouped kernel.

0  rows that have statistics, elements of one, groups of a sample, extent of the inner axis
4  weight or 0, bias or 0, bits of epsilon
7  x and its strides, then words of the epilogue, in a frame of

    layer, rms   row, column
    group        sample, group, channel of the group, place      inner axis: places
    columns      sample, place, channel                          inner axis: channels of a group
"""

from collections.abc import Sequence
from math import gcd

from fusec.ir.extents import Extent
from fusec.ir.stage import Buffer, Stage, View
from fusec.kernels.encoded import is_flat
from fusec.kernels.grouped.program import along, epilogue
from fusec.kernels.grouped.rows import width
from fusec.kernels.grouped.stage import Grouped, address, alignment, whole
from fusec.kernels.pointwise.encode import float_bits
from fusec.kernels.reduce.rows import as_rows, point_is_flat

__all__ = ["grouped"]


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped:
    """Spell a norm stage for its grouped kernel.

    Args:
        stage: of op `norm`.
        buffers: of the lowered template.
    """
    x = stage.reads[0]
    kind, eps = stage.attr("kind"), stage.attr("eps")
    assert isinstance(kind, str) and isinstance(eps, float)
    axes = len(x.shape)
    groups, inner, n = _extents(stage)
    rows = x.shape[0] * groups
    weight, bias = _affine(stage)
    program, point = epilogue(stage, buffers, axes)
    words = (
        *(rows, n, groups, inner),
        *(address(weight), address(bias), float_bits(eps)),
        *(address(x), *along(x, buffers, axes)),
        *point,
    )
    flat = axes == 2 and point_is_flat(stage, buffers)
    if flat:
        views = [as_rows(v, buffers) for v in (x, stage.writes[0])]
        flat = is_flat(views, rows, buffers)
    return Grouped(
        kernel="norm",
        constants=(
            ("WORDS", len(words)),
            ("AXES", axes),
            ("KIND", kind),
            ("X_DTYPE", x.dtype),
            ("X_ALIGNED", alignment(x, buffers)),
            ("N_MULTIPLE", gcd(whole(n), 16)),
            ("WEIGHT", weight.dtype if weight else ""),
            ("BIAS", bias.dtype if bias else ""),
            ("POINT", program),
            ("WIDTH", width(n)),
        ),
        words=words,
        rows=rows,
        columns=1,
        joins=0 if flat else -1,
    )


def _extents(stage: Stage) -> tuple[Extent, Extent, Extent]:
    """Give groups of a sample, the inner axis, and elements of a group."""
    shape = stage.reads[0].shape
    match stage.attr("kind"):
        case "group":
            return shape[1], shape[3], shape[2] * shape[3]
        case "columns":
            groups, channels = stage.attr("groups"), shape[2]
            assert isinstance(groups, int) and isinstance(channels, int)
            return groups, channels // groups, shape[1] * (channels // groups)
    return 1, shape[1], shape[1]


def _affine(stage: Stage) -> tuple[View | None, View | None]:
    given = list(stage.reads[1:])
    weight = given.pop(0) if stage.attr("weight") else None
    return weight, given.pop(0) if stage.attr("bias") else None
