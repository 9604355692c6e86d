"""Fuse a lowered template: fewer stages, fewer buffers, the same numbers.

    producer -> pointwise      one stage (see `join`)
    x -> copy -> y             whoever makes x writes y
    dead stages, unused buffers  gone

A stage is joined only where the joined one computes the very same bytes: the same steps in the
same order, nothing read before it is written, no buffer both read and written.
"""

from dataclasses import replace

from fusec.ir.extents import product
from fusec.ir.stage import BufferKind, Lowered, Stage, TileOp
from fusec.passes.fuse.clean import live_stages, renumbered, with_row_steps
from fusec.passes.fuse.frame import same_steps
from fusec.passes.fuse.join import No, as_program, direct, join
from fusec.passes.fuse.report import FuseReport, Refusal
from fusec.passes.fuse.state import State

__all__ = ["FuseReport", "Refusal", "fuse"]


def fuse(lowered: Lowered) -> tuple[Lowered, FuseReport]:
    """Join stages of a lowered template.

    Cost: some milliseconds per hundred stages.
    """
    state = State(lowered)
    refused: dict[int, list[Refusal]] = {}
    renamed = joined = 0
    live = live_stages(lowered.stages, lowered.buffers)
    state = State(replace(lowered, stages=tuple(live)))
    for stage in live:
        taken = state.take(stage)
        if _rename(state, taken):
            renamed += 1
            continue
        position = state.append(taken)
        if as_program(taken) is not None:
            joined += _absorb(state, position, refused)
    stages = tuple(s for s in state.placed if s is not None)
    result = renumbered(replace(lowered, stages=stages))
    result = replace(result, stages=tuple(with_row_steps(s, result.buffers) for s in result.stages))
    report = FuseReport(
        before=len(lowered.stages),
        after=len(result.stages),
        joined=joined,
        renamed=renamed,
        dead=len(lowered.stages) - len(live),
        refused=tuple(r for at, some in refused.items() if _alone(state, at) for r in some),
    )
    return result, report


def _rename(state: State, stage: Stage) -> bool:
    """Let a whole buffer be the target of its copy, where both lie alike."""
    if stage.op is not TileOp.COPY or as_program(stage) is None:
        return False
    (read,), (write,) = stage.reads, stage.writes
    old, new = state.buffers[read.slot], state.buffers[write.slot]
    whole = (
        old.kind is BufferKind.ARENA
        and state.n_writers[write.slot] == 1
        and state.n_writers[read.slot] == len(state.writers.get(read.slot, ()))
        and read.offset == write.offset == 0
        and product(read.shape) == old.elements == new.elements
        and same_steps(read, write)
    )
    if whole:
        state.rename(read.slot, write.slot)
    return whole


def _absorb(state: State, position: int, refused: dict[int, list[Refusal]]) -> int:
    """Join a stage with its producers for as long as one of them can be; count them."""
    count = 0
    while True:
        stage = state.placed[position]
        assert stage is not None
        outcome = _join_one(state, position, stage)
        if not isinstance(outcome, int):
            refused[position] = outcome
            return count
        position, count = outcome, count + 1


def _alone(state: State, position: int) -> bool:
    """Tell whether a stage is a program of its own still."""
    stage = state.placed[position]
    return stage is not None and as_program(stage) is not None


def _join_one(state: State, position: int, stage: Stage) -> int | list[Refusal]:
    """Join a placed stage with its latest possible producer; give the new position."""
    program = as_program(stage) or stage.point
    slots = {v.slot for v in program.operands if v is not None} if program else set()
    producers = {p for slot in slots if (p := state.producer(slot)) is not None and p != position}
    refused = []
    for at in sorted(producers, reverse=True):
        outcome = _try(state, at, position, stage)
        if isinstance(outcome, int):
            return outcome
        producer = state.placed[at]
        assert producer is not None
        refused.append(Refusal(consumer=stage.rows, producer=producer.rows, reason=outcome.reason))
    return refused


def _try(state: State, at: int, position: int, stage: Stage) -> int | No:
    producer = state.placed[at]
    assert producer is not None
    joined = join(producer, stage, lambda slot: state.needed(slot, besides=position))
    if isinstance(joined, No) and _sole_copy(state, producer, position, stage):
        better = direct(producer, stage)
        joined = better if isinstance(better, Stage) or producer.point is None else joined
    if isinstance(joined, No):
        return joined
    state.remove(at)
    state.remove(position)
    if not (state.read_between(producer, at, position) or _crossed(state, producer, at, position)):
        state.put(position, joined)
        return position
    if state.ready_at(joined, at) and not state.written_after(stage, at):
        state.put(at, joined)
        return at
    state.put(at, producer)
    state.put(position, stage)
    return No("stages between the two need the one or give what the other needs")


def _sole_copy(state: State, producer: Stage, position: int, stage: Stage) -> bool:
    """Tell whether a stage is a plain copy of what nothing else reads, from a tile operation."""
    return (
        stage.op is TileOp.COPY
        and as_program(producer) is None
        and not state.needed(stage.reads[0].slot, besides=position)
    )


def _crossed(state: State, producer: Stage, at: int, position: int) -> bool:
    """Tell whether moving a producer would pass another writer of a buffer that it writes."""
    return any(at < p < position for w in producer.writes for p in state.writers.get(w.slot, ()))
