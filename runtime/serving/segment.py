"""Segments: the part of a batch that began together, and has its memory in common until its end.

A pack is one segment as a rule. It is several where requests of other extents run in it, or where
one that came later caught up: each keeps its own arena, and from there on their blocks run as one.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fusec.runtime.arrays import Array
from fusec.runtime.request import Request
from fusec.runtime.serving.items import Item, Kind
from fusec.runtime.serving.shapes import Body, Piece
from fusec.runtime.tile.memory import ArenaPool, Region

if TYPE_CHECKING:
    from fusec.runtime.serving.step import Step

__all__ = ["NativeSegment", "Segment", "WholeSegment"]


class Segment:
    """What began together. For one thread at a time, except for `leave` while it does not run."""

    def __init__(self, kind: Kind, items: Sequence[Item], tickets: Sequence[int]) -> None:
        """Begin; nothing is computed yet.

        Args:
            kind: of all items.
            items: who runs.
            tickets: numbers of theirs.
        """
        self.kind, self.items = kind, items
        self.tickets = set(tickets)
        """Those that still want the answers."""
        self.block = 0
        """The next block, or the one that retreated."""
        self.step: Step | None = None
        """The step that retreated."""

    @property
    def done(self) -> bool:
        """Whether all blocks have run."""
        return self.block == self.kind.blocks

    def piece(self) -> Piece | None:
        """Give the tasks of the next block; None: `run_whole` does it."""
        return None

    def run_whole(self) -> None:
        """Run all of it."""

    def finish(self) -> None:
        """Give items their answers, after the last block."""

    def leave(self, ticket: int) -> None:
        """Note that a ticket wants nothing more; the last one gives the memory back."""
        self.tickets.discard(ticket)
        if not self.tickets:
            self.close()

    def close(self) -> None:
        """Give the memory back; closing twice is fine."""


class NativeSegment(Segment):
    """One that runs as native code."""

    def __init__(
        self,
        kind: Kind,
        items: Sequence[Item],
        tickets: Sequence[int],
        lent: tuple[Body, np.ndarray, Callable[[Body], None]],
        arenas: ArenaPool,
    ) -> None:
        """Begin.

        Args:
            kind: of all items.
            items: who runs, in the order of the body.
            tickets: numbers of theirs.
            lent: a body, the addresses of weights in its order, and what takes the body back.
            arenas: lends the memory.
        """
        super().__init__(kind, items, tickets)
        self._body, weights, self._give = lent
        self._arenas = arenas
        self._region: Region | None = arenas.take(self._body.n_bytes)
        self._body.enter(self._region, weights, items)

    def piece(self) -> Piece | None:
        """Give the tasks of the next block, of what is still wanted."""
        pieces = self._body.pieces
        if not pieces:
            return None
        gone = [item.future.gone or item.ticket not in self.tickets for item in self.items]
        piece = pieces[self.block]
        return self._body.without(piece, gone) if any(gone) and self.tickets else piece

    def finish(self) -> None:
        """Give items their answers."""
        for item, outputs in zip(self.items, self._body.leave(), strict=True):
            item.take(outputs)

    def close(self) -> None:
        """Give region and body back; a body that stopped half-way is not used again."""
        region, self._region = self._region, None
        if region is None:
            return
        self._arenas.give(region)
        if not self.done:
            self._body.leave()
        if self.step is None:
            self._give(self._body)


class WholeSegment(Segment):
    """One that PyTorch runs, in one block."""

    def __init__(
        self,
        kind: Kind,
        items: Sequence[Item],
        tickets: Sequence[int],
        run: Callable[[Sequence[Request]], list[tuple[Array, ...]]],
    ) -> None:
        """Begin; see `Segment`.

        Args:
            kind: of all items.
            items: who runs.
            tickets: numbers of theirs.
            run: answers requests in order.
        """
        super().__init__(kind, items, tickets)
        self._run = run
        self._answers: list[tuple[Array, ...]] = []

    def run_whole(self) -> None:
        """Run all of it."""
        self._answers = self._run([item.request for item in self.items])

    def finish(self) -> None:
        """Give items their answers."""
        for item, answer in zip(self.items, self._answers, strict=True):
            names = item.request.target.member.output_names
            item.value = dict(zip(names, answer, strict=True))
        self._answers = []
