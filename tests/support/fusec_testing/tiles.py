"""Made-up templates for tests of the tile planner: chains of stages with chosen ranges."""

from collections.abc import Sequence
from dataclasses import dataclass

from fusec.ir.extents import Extent, of, product
from fusec.ir.stage import (
    Buffer,
    BufferKind,
    Layout,
    LayoutKind,
    Lowered,
    Stage,
    TileOp,
    View,
    dense,
)
from fusec.kernels.encoded import Encoded
from fusec.runtime.tile.code import TemplateCode

__all__ = ["Step", "chain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One stage of a made-up chain."""

    rows: Extent | str = 1
    columns: Extent | str = 1
    grain: int = 1
    grain2: int = 1
    flat: bool = False
    weight: int | None = None
    """Number of the weight that it reads."""
    flops: int = 1000
    sequential: bool = False


def chain(steps: Sequence[Step], weights: Sequence[int] = ()) -> TemplateCode:
    """Make a template of stages one after another, each reading the one before.

    Args:
        steps: the last one writes the output.
        weights: elements of each weight.
    """
    shapes = [(of(s.rows), of(s.columns)) for s in steps]
    buffers = [_buffer(BufferKind.INPUT, shapes[0], 0)]
    buffers += [_buffer(BufferKind.WEIGHT, (n,), i) for i, n in enumerate(weights)]
    first = len(buffers)
    for i, shape in enumerate(shapes):
        last = i == len(steps) - 1
        buffers.append(
            _buffer(BufferKind.OUTPUT if last else BufferKind.ARENA, shape, 0 if last else -1)
        )
    stages = []
    for i, step in enumerate(steps):
        reads = [_whole(0 if i == 0 else first + i - 1, buffers)]
        if step.weight is not None:
            reads.append(_whole(1 + step.weight, buffers))
        stages.append(
            Stage(
                op=TileOp.POINTWISE,
                reads=tuple(reads),
                writes=(_whole(first + i, buffers),),
                attrs=(),
                point=None,
                extern=None,
                rows=(i,),
            )
        )
    lowered = Lowered(
        buffers=tuple(buffers),
        stages=tuple(stages),
        inputs=(0,),
        outputs=(len(buffers) - 1,),
        output_shapes=((1, *shapes[-1]),),
        weights=tuple(range(1, first)),
        weight_shapes=tuple((n,) for n in weights),
        layouts=tuple(
            Layout(kind=LayoutKind.PLAIN, order=(0,), groups=1, k=1, n=n, nr=1) for n in weights
        ),
    )
    by_stage = dict(zip(map(id, stages), steps, strict=True))

    def encode(stage: Stage, _: Sequence[Buffer]) -> Encoded:
        step = by_stage[id(stage)]
        return Encoded(
            kernel="made_up",
            words=(of(step.rows), of(step.columns), 7),
            items=of(step.rows),
            items2=of(step.columns),
            grain=step.grain,
            grain2=step.grain2,
            flat=step.flat,
            flops=step.flops,
            read_bytes=0,
            written_bytes=0,
            scratch_bytes=0,
            sequential=step.sequential,
        )

    return TemplateCode(lowered, encode)


def _buffer(kind: BufferKind, shape: tuple[Extent, ...], index: int) -> Buffer:
    return Buffer(kind=kind, dtype="float32", elements=product(shape), index=index)


def _whole(slot: int, buffers: Sequence[Buffer]) -> View:
    return dense(slot, "float32", (buffers[slot].elements,))
