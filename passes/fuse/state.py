"""Stages placed so far, who writes and who reads each buffer, and where a joined stage may stand.

Every edit keeps the order that lowering gives: all writers of a buffer come before all its
readers, and writers of one buffer keep their order.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fusec.ir.stage import Buffer, BufferKind, ExternCall, Lowered, Operand, Stage, View

__all__ = ["State", "read_slots", "substituted"]


def _read_views(stage: Stage) -> Iterator[View]:
    yield from stage.reads
    if stage.point is not None:
        yield from (v for v in stage.point.operands if v is not None)


def read_slots(stage: Stage) -> frozenset[int]:
    """Give the buffers that a stage reads, in its epilogue too."""
    return frozenset(v.slot for v in _read_views(stage))


class State:
    """The stages of one fuse pass."""

    def __init__(self, lowered: Lowered) -> None:
        self.buffers: Sequence[Buffer] = lowered.buffers
        self.placed: list[Stage | None] = []
        self.writers: dict[int, list[int]] = {}
        """Slot -> positions of the placed stages that write it."""
        self.readers: dict[int, set[int]] = {}
        self.alias: dict[int, int] = {}
        """Slot -> slot that took its place."""
        self.pending: Counter[int] = Counter()
        """How many stages still to come read a slot."""
        self.n_writers: Counter[int] = Counter()
        """How many stages write a slot, those to come included."""
        for stage in lowered.stages:
            self.pending.update(read_slots(stage))
            self.n_writers.update({w.slot for w in stage.writes})

    def take(self, stage: Stage) -> Stage:
        """Begin with the next stage: it is pending no more, and sees buffers as they are now."""
        for slot in read_slots(stage):
            self.pending[self.alias.get(slot, slot)] -= 1
        return substituted(stage, self.alias) if self.alias else stage

    def needed(self, slot: int, *, besides: int = -1) -> bool:
        """Tell whether a placed stage other than `besides`, or one to come, reads a buffer."""
        if self.buffers[slot].kind is not BufferKind.ARENA or self.pending[slot]:
            return True
        return bool(self.readers.get(slot, set()) - {besides})

    def producer(self, slot: int) -> int | None:
        """Give the position of the one stage that writes an arena buffer."""
        positions = self.writers.get(slot, [])
        if self.buffers[slot].kind is not BufferKind.ARENA or self.n_writers[slot] != 1:
            return None
        return positions[0] if positions else None

    def append(self, stage: Stage) -> int:
        """Place a stage behind all others."""
        self.placed.append(None)
        self.put(len(self.placed) - 1, stage)
        return len(self.placed) - 1

    def put(self, position: int, stage: Stage) -> None:
        """Place a stage at an empty position."""
        assert self.placed[position] is None
        self.placed[position] = stage
        for slot in {w.slot for w in stage.writes}:
            self.writers.setdefault(slot, []).append(position)
        for slot in read_slots(stage):
            self.readers.setdefault(slot, set()).add(position)

    def remove(self, position: int) -> None:
        """Empty a position."""
        stage = self.placed[position]
        assert stage is not None
        self.placed[position] = None
        for slot in {w.slot for w in stage.writes}:
            self.writers[slot].remove(position)
        for slot in read_slots(stage):
            self.readers[slot].discard(position)

    def rename(self, old: int, new: int) -> None:
        """Let one buffer take the place of another, for stages placed and to come."""
        for position in sorted({*self.writers.get(old, ()), *self.readers.get(old, ())}):
            stage = self.placed[position]
            assert stage is not None
            self.remove(position)
            self.put(position, substituted(stage, {old: new}))
        self.alias = {k: new if v == old else v for k, v in self.alias.items()}
        self.alias[old] = new
        self.pending[new] += self.pending.pop(old, 0)
        self.n_writers[new] = self.n_writers.pop(old, 0)

    def ready_at(self, stage: Stage, position: int) -> bool:
        """Tell whether all that a stage reads is written before a position."""
        return all(
            self.n_writers[slot] == len(self.writers.get(slot, ()))
            and all(w < position for w in self.writers.get(slot, ()))
            for slot in read_slots(stage)
        )

    def read_between(self, stage: Stage, first: int, last: int) -> bool:
        """Tell whether a placed stage strictly between two positions reads what this one writes."""
        return any(first < r < last for w in stage.writes for r in self.readers.get(w.slot, ()))

    def written_after(self, stage: Stage, position: int) -> bool:
        """Tell whether a buffer that a stage writes has another writer behind a position."""
        return any(p > position for w in stage.writes for p in self.writers.get(w.slot, ()))


def substituted(stage: Stage, slots: dict[int, int]) -> Stage:
    """Let a stage see other buffers."""

    def view(v: View) -> View:
        new = slots.get(v.slot)
        return v if new is None else replace(v, slot=new)

    def operand(o: Operand) -> Operand:
        if isinstance(o, tuple):
            return tuple(map(operand, o))
        return view(o) if isinstance(o, View) else o

    touched = {v.slot for v in (*_read_views(stage), *stage.writes)}
    if touched.isdisjoint(slots):
        return stage
    point = stage.point
    if point is not None:
        operands = tuple(None if v is None else view(v) for v in point.operands)
        point = replace(point, operands=operands)
    extern = stage.extern
    if extern is not None:
        operands_ = tuple((n, operand(o)) for n, o in extern.operands)
        extern = ExternCall(row=extern.row, operands=operands_)
    return replace(
        stage,
        reads=tuple(map(view, stage.reads)),
        writes=tuple(map(view, stage.writes)),
        point=point,
        extern=extern,
    )
