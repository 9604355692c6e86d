"""After fusing: no dead stages, no unused buffers, and steps of axes of extent 1 that say more."""

from collections.abc import Sequence
from dataclasses import replace

from fusec.ir.stage import Buffer, BufferKind, Lowered, Stage, View
from fusec.passes.fuse.state import read_slots, substituted

__all__ = ["live_stages", "renumbered", "with_row_steps"]


def live_stages(stages: Sequence[Stage], buffers: Sequence[Buffer]) -> list[Stage]:
    """Drop stages that nothing reads, and what only they needed."""
    wanted = {i for i, b in enumerate(buffers) if b.kind is BufferKind.OUTPUT}
    kept: list[Stage] = []
    for stage in reversed(stages):
        if any(w.slot in wanted for w in stage.writes):
            wanted |= read_slots(stage)
            kept.append(stage)
    return kept[::-1]


def renumbered(lowered: Lowered) -> Lowered:
    """Drop arena buffers that no stage touches, and number slots without gaps."""
    used = {v.slot for s in lowered.stages for v in s.writes}
    used |= {slot for s in lowered.stages for slot in read_slots(s)}
    kept = [i for i, b in enumerate(lowered.buffers) if b.kind is not BufferKind.ARENA or i in used]
    slots = {old: new for new, old in enumerate(kept)}
    moved = {old: new for old, new in slots.items() if old != new}
    return replace(
        lowered,
        buffers=tuple(lowered.buffers[i] for i in kept),
        stages=tuple(substituted(s, moved) for s in lowered.stages) if moved else lowered.stages,
        inputs=tuple(slots[i] for i in lowered.inputs),
        outputs=tuple(slots[i] for i in lowered.outputs),
        weights=tuple(slots[i] for i in lowered.weights),
    )


def with_row_steps(stage: Stage, buffers: Sequence[Buffer]) -> Stage:
    """Let leading axes of extent 1 step to the next instance's copy of the buffer.

    Such an axis may step anyhow; this way one row of an instance is followed by one row of the
    next, and kernels may go on. Weights have no copies: there it does not step.
    """

    def view(v: View) -> View:
        strides = list(v.strides)
        buffer = buffers[v.slot]
        step = 0 if buffer.kind is BufferKind.WEIGHT else buffer.elements
        for i, extent in enumerate(v.shape[:-1]):
            if extent != 1:
                break
            strides[i] = step
        return View(v.slot, v.dtype, v.shape, tuple(strides), v.offset)

    point = stage.point
    if point is not None:
        operands = tuple(None if v is None else view(v) for v in point.operands)
        point = replace(point, operands=operands)
    return replace(
        stage,
        reads=tuple(map(view, stage.reads)),
        writes=tuple(map(view, stage.writes)),
        point=point,
    )
