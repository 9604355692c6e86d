"""Pointwise programs as text that a grouped kernel is compiled for, and their words.

    loads | steps | results

    load     dtype in memory : 1 if contiguous along the last axis, else 0 : alignment in bytes
             or "self" and a dtype, for what the stage itself computed
    step     operation : registers : immediate     such as mul_f32:2,1: or add_f32:0:f0.5
    result   as a load, and : register

Loads, registers and results are separated by commas, steps by semicolons. An immediate is "f" and a
float, "i" and an integer, or "w" and the number of a word: it depends on symbols. Words are, for
each load but "self" and then each result, its address and a stride for every axis of the frame;
then the immediates.
"""

from collections.abc import Sequence

from fusec.ir.extents import Extent, Poly, product
from fusec.ir.stage import Buffer, BufferKind, PointProgram, PointStep, Stage, View
from fusec.kernels.grouped.stage import Word, address, alignment

__all__ = ["along", "epilogue", "spelled", "stored"]


def epilogue(stage: Stage, buffers: Sequence[Buffer], axes: int) -> tuple[str, tuple[Word, ...]]:
    """Spell what a stage does with its result: its program, or to store it.

    Args:
        stage: of any op but `pointwise`.
        buffers: of the lowered template.
        axes: of the frame; those that a view lacks are in front.
    """
    if stage.point is None:
        return stored(stage.writes[0], buffers, axes)
    point = stage.point
    steps = [along(v, buffers, axes) for v in (*point.operands, *stage.writes) if v is not None]
    return spelled(point, stage.writes, buffers, steps)


def stored(write: View, buffers: Sequence[Buffer], axes: int) -> tuple[str, tuple[Word, ...]]:
    """Spell a program that stores what the stage itself computed."""
    point = PointProgram(shape=write.shape, operands=(None,), steps=(), results=(0,))
    return spelled(point, (write,), buffers, [along(write, buffers, axes)])


def spelled(
    point: PointProgram,
    writes: Sequence[View],
    buffers: Sequence[Buffer],
    strides: Sequence[Sequence[Extent]],
) -> tuple[str, tuple[Word, ...]]:
    """Spell a program: text, and words.

    Args:
        point: what to compute.
        writes: where results go.
        buffers: of the lowered template.
        strides: elements along the frame's axes, of every load that is one, then of every write.
    """
    views = [v for v in (*point.operands, *writes) if v is not None]
    spelt = [_memory(v, buffers, own) for v, own in zip(views, strides, strict=True)]
    rest = iter(spelt)
    loads = ",".join(f"self {writes[0].dtype}" if v is None else next(rest) for v in point.operands)
    symbolic: list[Extent] = []
    steps = ";".join(_step(step, symbolic) for step in point.steps)
    results = ",".join(f"{next(rest)}:{register}" for register in point.results)
    words: list[Word] = []
    for view, steps_of in zip(views, strides, strict=True):
        words += (address(view), *steps_of)
    return f"{loads}|{steps}|{results}", (*words, *symbolic)


def _memory(view: View, buffers: Sequence[Buffer], strides: Sequence[Extent]) -> str:
    contiguous = bool(strides) and strides[-1] == 1
    rows = View(view.slot, view.dtype, (), tuple(strides), view.offset)
    return f"{view.dtype}:{int(contiguous)}:{alignment(rows, buffers)}"


def _step(step: PointStep, symbolic: list[Extent]) -> str:
    value = ""
    if isinstance(step.value, Poly):
        value = f"w{len(symbolic)}"
        symbolic.append(step.value)
    elif step.value is not None:
        value = f"f{step.value!r}" if isinstance(step.value, float) else f"i{int(step.value)}"
    return f"{step.op}:{','.join(map(str, step.args))}:{value}"


def along(view: View, buffers: Sequence[Buffer], axes: int) -> tuple[Extent, ...]:
    """Give a view's strides in a frame; axes of extent 1 step to the next instance's copy.

    Args:
        view: with axes of extent 1 in front, if it has more than the frame.
        buffers: of the lowered template.
        axes: of the frame.
    """
    extra = max(0, len(view.strides) - axes)
    assert product(view.shape[:extra]) == 1, "the frame of an epilogue has fewer axes"
    own = list(view.strides[extra:])
    moves = buffers[view.slot].kind is not BufferKind.WEIGHT
    for axis, extent in enumerate(view.shape[extra:]):
        if extent == 1 and (axis + 1 < len(own) or axes == 1):
            own[axis] = buffers[view.slot].elements if moves else 0
    return (*[0] * (axes - len(own)), *own)
