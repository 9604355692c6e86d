"""Join a producer and a consumer into one stage, or say why not. Nothing is edited here.

    pointwise -> pointwise    one program in the frame of either
    tile op   -> pointwise    the program becomes the tile operation's epilogue
    pointwise -> epilogue     the operand is computed where it is used

A plain copy is a pointwise program without steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from fusec.ir.extents import Extent
from fusec.ir.frozen import dataclass
from fusec.ir.stage import PointProgram, Stage, TileOp, View
from fusec.kernels.table import TILE_OPS
from fusec.passes.fuse.frame import axis_order, express, same_cells, same_steps
from fusec.passes.fuse.mixer import Mixer, Node
from fusec.passes.lower.builder import is_dense

__all__ = ["MAX_OPERANDS", "MAX_REGISTERS", "No", "as_program", "direct", "join"]

MAX_REGISTERS = 24
MAX_OPERANDS = 10
"""What a joined program may hold: beyond this its tiles no longer stay in the first cache."""

_RANK = 4
"""Of an epilogue's frame."""


@dataclass(frozen=True, slots=True)
class No:
    """Two stages that stay apart."""

    reason: str


Express = Callable[[View], View | None]
Needed = Callable[[int], bool]


def as_program(stage: Stage) -> PointProgram | None:
    """Give the program of a pointwise stage or of a plain copy."""
    if stage.op is TileOp.POINTWISE:
        return stage.point
    plain = (
        stage.op is TileOp.COPY
        and len(stage.reads) == len(stage.writes) == 1
        and not stage.attrs
        and stage.point is None
        and stage.reads[0].shape == stage.writes[0].shape
        and stage.reads[0].dtype == stage.writes[0].dtype
    )
    if not plain:
        return None
    (read,) = stage.reads
    return PointProgram(shape=read.shape, operands=(read,), steps=(), results=(0,))


def join(producer: Stage, consumer: Stage, needed: Needed) -> Stage | No:
    """Join two stages.

    Args:
        producer: writes what `consumer` reads.
        consumer: a pointwise stage or plain copy, or has an epilogue that reads it.
        needed: whether a buffer that `producer` writes is read by others than `consumer`.
    """
    second = as_program(consumer) or consumer.point
    if second is None:
        return No("the consumer has no pointwise program")
    first = as_program(producer)
    if first is None:
        if as_program(consumer) is None:
            return No("two tile operations")
        return _epilogue(producer, consumer, second, needed)
    if producer.op is TileOp.COPY:
        if needed(producer.writes[0].slot):
            return No("the copy is needed elsewhere")
        if first.shape and first.operands[0] is not None and not _by_column(first.operands[0]):
            return No("the copy turns columns")
    if as_program(consumer) is not None:
        moved = _mover(producer.writes, second, first.shape)
        if moved is not None:
            joined = _mix(producer, consumer, first, second, _same, moved, needed)
            if isinstance(joined, Stage):
                return joined
    moved = _backwards(producer.writes, second)
    if moved is None:
        return No("the consumer sees the result in another shape")
    return _mix(producer, consumer, first, second, moved, _same, needed)


def direct(producer: Stage, copy: Stage) -> Stage | No:
    """Let a stage that takes no epilogue write where a plain copy would put its result.

    Args:
        producer: its result is read by nothing but the copy.
        copy: a plain copy of all of it.
    """
    (read,), (target,) = copy.reads, copy.writes
    for i, write in enumerate(producer.writes):
        order = axis_order(read, write)
        if order is None:
            continue
        placed = express(target, order, write.shape)
        if placed is None:
            return No("the copy's target cannot be said in the producer's shape")
        if not _writes(producer.op, write, placed):
            return No(f"{producer.op} cannot write with these strides")
        if placed.slot in {v.slot for v in producer.reads}:
            return No("reads the buffer that it would write")
        writes = (*producer.writes[:i], placed, *producer.writes[i + 1 :])
        return replace(producer, writes=writes, rows=_rows(producer, copy))
    return No("the copy sees only a part, or in another order")


def _epilogue(producer: Stage, consumer: Stage, second: PointProgram, needed: Needed) -> Stage | No:
    folder = TILE_OPS.get(producer.op)
    if folder is None or not folder.epilogue:
        return No(f"{producer.op} takes no epilogue")
    if any(pair in producer.attrs for pair in folder.bare):
        return No(f"{producer.op} takes no epilogue in this form")
    raw = producer.writes[0]
    if len(raw.shape) > _RANK:
        return No(f"a frame of rank {len(raw.shape)}")
    first = producer.point
    if first is None:
        if len(producer.writes) != 1:
            return No("several results")
        first = PointProgram(shape=raw.shape, operands=(None,), steps=(), results=(0,))
    moved = _mover(producer.writes, second, first.shape)
    if moved is None:
        return No("the consumer sees the result in another shape")
    return _mix(producer, consumer, first, second, _same, moved, needed)


def _same(view: View) -> View | None:
    return view


def _mover(writes: Sequence[View], second: PointProgram, shape: Sequence[Extent]) -> Express | None:
    """Find how the consumer's views are said in the frame of the producer."""
    for write in writes:
        for operand in second.operands:
            if operand is not None and (order := axis_order(operand, write)) is not None:
                return lambda view, order=order: express(view, order, shape)  # type: ignore[misc]
    return None


def _backwards(writes: Sequence[View], second: PointProgram) -> Express | None:
    """Find how the producer's views are said in the frame of the consumer."""
    for operand in second.operands:
        for write in writes:
            if operand is not None and (order := axis_order(write, operand)) is not None:
                return lambda view, order=order: express(view, order, second.shape)  # type: ignore[misc]
    return None


def _mix(
    producer: Stage,
    consumer: Stage,
    first: PointProgram,
    second: PointProgram,
    move_first: Express,
    move_second: Express,
    needed: Needed,
) -> Stage | No:
    """Join programs, each moved into the common frame, which one of them is in already."""
    tile = next((s for s in (producer, consumer) if as_program(s) is None), None)
    mixer = Mixer()
    nodes: list[Node] = []
    for operand in first.operands:
        moved = None if operand is None else move_first(operand)
        if moved is None and operand is not None:
            return No("an operand of the producer does not fit the consumer's shape")
        nodes.append(mixer.leaf(moved))
    registers = mixer.add(first, nodes)
    pairs: list[tuple[View, Node]] = []
    for write, result in zip(producer.writes, first.results, strict=True):
        moved = move_first(write)
        if moved is None:
            return No("a result of the producer does not fit the consumer's shape")
        pairs.append((moved, registers[result]))
    raw = None if tile is None else tile.writes[0].dtype
    if any(mixer.dtype(node, raw or "") != write.dtype for write, node in pairs):
        return No("the result is stored in another dtype than it is computed in")
    nodes = []
    for operand in second.operands:
        moved = None if operand is None else move_second(operand)
        if moved is None and operand is not None:
            return No("an operand of the consumer does not fit the producer's shape")
        nodes.append(_bound(mixer, pairs, moved))
    registers = mixer.add(second, nodes)
    pairs = [pair for pair in pairs if needed(pair[0].slot)]
    for write, result in zip(consumer.writes, second.results, strict=True):
        moved = move_second(write)
        if moved is None:
            return No("a result of the consumer does not fit the producer's shape")
        pairs.append((moved, registers[result]))
    shape = first.shape if move_first is _same else second.shape
    return _stage(producer, consumer, tile, mixer, pairs, shape)


def _bound(mixer: Mixer, pairs: Sequence[tuple[View, Node]], view: View | None) -> Node:
    """Give the register that holds an operand, or load it."""
    for write, node in pairs:
        if view is not None and same_cells(write, view):
            return node
    return mixer.leaf(view)


def _stage(
    producer: Stage,
    consumer: Stage,
    tile: Stage | None,
    mixer: Mixer,
    pairs: list[tuple[View, Node]],
    shape: Sequence[Extent],
) -> Stage | No:
    """Check what the program became, and make the stage."""
    if tile is not None:
        raw = tile.writes[0]
        at = next(
            (
                i
                for i, (write, _) in enumerate(pairs)
                if write.dtype == raw.dtype and _writes(tile.op, raw, write)
            ),
            None,
        )
        if at is None:
            return No(f"{tile.op} cannot write where the result goes")
        pairs.insert(0, pairs.pop(at))
        views = [*(v for v in mixer.leaves if v is not None), *(w for w, _ in pairs)]
        if any(not _by_column(view) for view in views) and not _steps_like(views, raw):
            return No("an operand or a result does not run along columns")
    program = mixer.finish(shape, [node for _, node in pairs], epilogue=tile is not None)
    if len(program.operands) + len(program.steps) > MAX_REGISTERS:
        return No(f"more than {MAX_REGISTERS} registers")
    if len(program.operands) + len(pairs) > MAX_OPERANDS:
        return No(f"more than {MAX_OPERANDS} operands and results")
    writes = tuple(write for write, _ in pairs)
    reads = () if tile is None else tile.reads
    loaded = {v.slot for v in (*reads, *program.operands) if v is not None}
    if not loaded.isdisjoint(w.slot for w in writes):
        return No("reads the buffer that it would write")
    if not loaded.isdisjoint(w.slot for w in producer.writes):
        return No("the consumer sees the result in several ways")
    rows = _rows(producer, consumer)
    trivial = not program.steps and len(writes) == 1
    if tile is not None:
        point = None if trivial and program.results == (0,) else program
        return replace(tile, writes=writes, point=point, rows=rows)
    if trivial:
        (operand,) = program.operands
        assert operand is not None
        return Stage(
            op=TileOp.COPY, reads=(operand,), writes=writes, attrs=(), point=None, extern=None,
            rows=rows,
        )  # fmt: skip
    return Stage(
        op=TileOp.POINTWISE, reads=(), writes=writes, attrs=(), point=program, extern=None,
        rows=rows,
    )  # fmt: skip


def _by_column(view: View) -> bool:
    """Tell whether a view's last axis steps by one element, or not at all."""
    return not view.shape or view.shape[-1] == 1 or view.strides[-1] in (0, 1)


def _steps_like(views: Sequence[View], raw: View) -> bool:
    return bool(raw.shape) and all(_by_column(v) or v.strides[-1] == raw.strides[-1] for v in views)


def _writes(op: TileOp, old: View, new: View) -> bool:
    """Tell whether a kernel that writes `old` can write `new`, of the same shape."""
    if same_steps(old, new):
        return True
    if op is TileOp.EXTERN:
        return is_dense(new)
    strided = op in TILE_OPS and TILE_OPS[op].writes_strided
    return (
        strided and new.shape != () and (new.shape[-1] == 1 or new.strides[-1] == old.strides[-1])
    )


def _rows(a: Stage, b: Stage) -> tuple[int, ...]:
    return tuple(sorted({*a.rows, *b.rows}))
