"""Races and lifetimes: walk a program's accesses in queue order over the bytes they touch.

Queue order is one legal order, so any two accesses that "before" does not order that way are a
race. Each piece of memory remembers whose it is, who wrote it last and who has read it since:

    bytes     0        64            128
              [ a, by 1 ][ b, by 2    ]        task 5 reads 32 .. 96: 1 and 2 must be before 5
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["QueueOrder", "memory_faults"]


class QueueOrder(Protocol):
    """Where tasks are in the queue."""

    unit: list[int]
    position: list[int]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes start .. end; tasks are bits of integers."""

    start: int
    end: int
    buffer: int
    share: int
    writers: int
    """Who wrote it last: several if they share the work."""
    readers: int
    """Who has read that."""
    before: int
    """Who used the bytes before the writers did."""


class _Space:
    """Pieces of one memory, in order; they do not overlap."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._pieces: list[_Piece] = []

    def cut(self, start: int, end: int) -> list[_Piece]:
        """Take out what lies in start .. end; pieces are cut at its ends."""
        for at in (start, end):
            i = bisect.bisect_right(self._starts, at) - 1
            if i >= 0 and self._pieces[i].start < at < self._pieces[i].end:
                piece = self._pieces[i]
                self._pieces[i : i + 1] = [replace(piece, end=at), replace(piece, start=at)]
                self._starts.insert(i + 1, at)
        lo, hi = bisect.bisect_left(self._starts, start), bisect.bisect_left(self._starts, end)
        taken = self._pieces[lo:hi]
        del self._pieces[lo:hi], self._starts[lo:hi]
        return taken

    def put(self, pieces: Sequence[_Piece]) -> None:
        """Put in pieces that follow one another."""
        if pieces:
            at = bisect.bisect_left(self._starts, pieces[0].start)
            self._pieces[at:at] = pieces
            self._starts[at:at] = [p.start for p in pieces]


def memory_faults(
    accesses: NDArray[np.void],
    spaces: Sequence[int],
    given: Sequence[tuple[int, int, int]],
    order: QueueOrder,
    past: Sequence[int],
) -> Iterator[str]:
    """Describe accesses that are not in order.

    Args:
        accesses: dtype ACCESS.
        spaces: of each buffer: negative if shared, else the unit whose worker has it.
        given: buffer, start, end of bytes with contents before the run.
        order: the queue.
        past: of each task, the tasks that are surely done when it starts, as bits.
    """
    memory: dict[int, _Space] = {space: _Space() for space in spaces}
    for buffer, start, end in given:
        memory[spaces[buffer]].put([_Piece(start, end, buffer, -1, 0, 0, 0)])
    rows = sorted(accesses.tolist(), key=lambda row: order.position[row[0]])
    for task, buffer, start, end, writes, share in rows:
        space = spaces[buffer]
        if space >= 0 and order.unit[task] != space:
            yield (
                f"task {task} (unit {order.unit[task]}) uses buffer {buffer}, which lies in the "
                f"arena of whoever runs unit {space}"
            )
        elif start < end:
            access = _Access(task, buffer, start, end, share, past[task] | 1 << task)
            yield from (access.write if writes else access.read)(memory[space])


@dataclass(frozen=True, slots=True)
class _Access:
    task: int
    buffer: int
    start: int
    end: int
    share: int
    past: int

    def read(self, space: _Space) -> Iterator[str]:
        pieces, at = space.cut(self.start, self.end), self.start
        for i, piece in enumerate(pieces):
            if piece.start > at:
                yield self._unwritten(at, piece.start)
            at = piece.end
            where = f"task {self.task} reads bytes {piece.start} .. {piece.end}"
            own_stage = self.share >= 0 and piece.share == self.share
            if piece.buffer != self.buffer:
                yield (
                    f"{where} of buffer {self.buffer}, which are buffer {piece.buffer}'s by then: "
                    "lifetimes overlap"
                )
            elif not own_stage and piece.writers & ~self.past:
                yield (
                    f"{where} of buffer {self.buffer}, and nothing makes it wait for task "
                    f"{_first(piece.writers & ~self.past)}, which writes them"
                )
            if not own_stage:
                pieces[i] = replace(piece, readers=piece.readers | 1 << self.task)
        if at < self.end:
            yield self._unwritten(at, self.end)
        space.put(pieces)

    def _unwritten(self, start: int, end: int) -> str:
        return (
            f"task {self.task} reads bytes {start} .. {end} of buffer {self.buffer}, which no "
            "task before it has written"
        )

    def write(self, space: _Space) -> Iterator[str]:
        new: list[_Piece] = []
        at = self.start
        for piece in space.cut(self.start, self.end):
            if piece.start > at:
                new.append(self._fresh(at, piece.start, 0))
            at = piece.end
            joins = 0 <= self.share == piece.share and piece.buffer == self.buffer
            needed = piece.before | piece.readers if joins else piece.writers | piece.readers
            if missing := needed & ~self.past:
                yield self._conflict(piece, _first(missing))
            if joins:
                new.append(replace(piece, writers=piece.writers | 1 << self.task))
            else:
                new.append(self._fresh(piece.start, piece.end, needed))
        if at < self.end:
            new.append(self._fresh(at, self.end, 0))
        space.put(new)

    def _fresh(self, start: int, end: int, before: int) -> _Piece:
        return _Piece(start, end, self.buffer, self.share, 1 << self.task, 0, before)

    def _conflict(self, piece: _Piece, other: int) -> str:
        where = f"task {self.task} writes bytes {piece.start} .. {piece.end}"
        if piece.buffer != self.buffer:
            return (
                f"{where} of buffer {self.buffer} while task {other} may still use buffer "
                f"{piece.buffer} there: lifetimes overlap"
            )
        return f"{where} of buffer {self.buffer}, and nothing makes it wait for task {other}"


def _first(tasks: int) -> int:
    return (tasks & -tasks).bit_length() - 1
