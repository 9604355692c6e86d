"""A pointwise stage for its grouped kernel, and any strided move of elements.

0  rows, those of all outer axes one after another; columns
2  extents of all axes but the first and the last
   words of the program, in the frame of all axes
"""

from collections.abc import Sequence
from dataclasses import replace
from math import gcd

from fusec.ir.extents import Extent, product
from fusec.ir.stage import Buffer, BufferKind, PointProgram, Stage, View
from fusec.kernels.grouped.program import spelled
from fusec.kernels.grouped.stage import Grouped, whole
from fusec.kernels.pointwise.frame import frame_of

__all__ = ["grouped", "over_frame"]


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped:
    """Spell a pointwise stage for its grouped kernel.

    Args:
        stage: of op `pointwise`.
        buffers: of the lowered template.
    """
    assert stage.point is not None
    return over_frame(stage.point, stage.writes, buffers)


def over_frame(program: PointProgram, writes: Sequence[View], buffers: Sequence[Buffer]) -> Grouped:
    """Spell a program for the kernel.

    Args:
        program: an operand None is the column's number, int64.
        writes: where results go.
        buffers: of the lowered template.
    """
    loads = [v for v in program.operands if v is not None]
    views = [*writes, *loads]
    axes, steps, joins = _frame(program.shape, views, buffers)
    if len(loads) < len(program.operands):
        # Numbers of columns count in the first instance only.
        joins = -1
    text, words = spelled(program, writes, buffers, [*steps[len(writes) :], *steps[: len(writes)]])
    rows, columns = product(axes[:-1]), axes[-1]
    head = (rows, columns, *axes[1:-1])
    return Grouped(
        kernel="pointwise",
        constants=(
            ("WORDS", len(head) + len(words)),
            ("AXES", len(axes)),
            ("N_MULTIPLE", gcd(whole(columns), 16)),
            ("POINT", text),
        ),
        words=(*head, *words),
        rows=rows,
        columns=columns,
        joins=joins,
    )


_Axes = tuple[Extent, ...]


def _frame(
    shape: Sequence[Extent], views: Sequence[View], buffers: Sequence[Buffer]
) -> tuple[_Axes, list[_Axes], int]:
    """Give the extents of axes, each view's strides along them, and the word that joins."""
    # Steps count elements if each takes one byte.
    small = [replace(view, dtype="uint8") for view in views]
    frame = frame_of(shape, small, buffers)
    axes = (*frame.outer, frame.rows, frame.columns)
    steps = list(frame.steps)
    if not frame.outer and frame.columns == 1:
        # A line: its elements are columns, and each instance's line a row.
        axes = (1, frame.rows)
        steps = [
            (0 if buffers[v.slot].kind is BufferKind.WEIGHT else buffers[v.slot].elements, s[0])
            for v, s in zip(views, steps, strict=True)
        ]
    return axes, steps, 0 if frame.flat else -1
