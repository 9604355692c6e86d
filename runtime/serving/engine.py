"""From tickets to segments and steps: what a lane does with a launch."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from fusec.ir.errors import FusecError, KernelError, UnsupportedError, VerifyError
from fusec.ir.stage import Lowered
from fusec.ir.template import Template
from fusec.kernels.library import library_uses
from fusec.runtime.arrays import Array
from fusec.runtime.cache import Uses
from fusec.runtime.pool import Pool
from fusec.runtime.request import Request
from fusec.runtime.serving.items import Item, Kind, Ticket
from fusec.runtime.serving.segment import NativeSegment, Segment, WholeSegment
from fusec.runtime.serving.shapes import Shapes
from fusec.runtime.serving.step import Steps
from fusec.runtime.tile.build import build
from fusec.runtime.tile.cut import parts_of
from fusec.runtime.tile.engine import Status
from fusec.runtime.tile.executor import NativeExecutor
from fusec.runtime.tile.externs import RunExtern
from fusec.runtime.tile.layout import Class

__all__ = ["Engine", "Team"]

RunWhole = Callable[[Sequence[Request]], list[tuple[Array, ...]]]


class Team:
    """The workers of a lane, and the flag that stops them."""

    def __init__(self, pool: Pool | None, workers: int, flag: int, lower: Callable[[], None]):
        """Take a team.

        Args:
            pool: of workers; None where all is PyTorch's.
            workers: how many, the calling thread included.
            flag: address of the flag.
            lower: takes the flag down.
        """
        self.pool, self.workers, self.flag, self.lower = pool, workers, flag, lower


class Engine(NativeExecutor):
    """Runs blocks of tickets."""

    def __init__(
        self,
        lowered: Callable[[Template], Lowered],
        workers: int,
        run_extern: RunExtern,
        run_whole: RunWhole,
    ) -> None:
        """Make an engine.

        Args:
            lowered: template -> stages.
            workers: of a lane.
            run_extern: runs what has no kernel.
            run_whole: runs whole requests of what has no stages.
        """
        super().__init__(lowered, workers, run_extern)
        self.shapes = Shapes(workers, self._address, self._weights)
        self._steps = Steps(workers, self._address)
        self._run_whole = run_whole

    def caches(self) -> dict[str, Uses]:
        """Give how often each of the caches had what was asked for, by name."""
        return {
            "programs": self.shapes.uses,
            "steps": self._steps.uses,
            "bindings": self._bindings.uses,
            "templates": self._codes.uses,
            "libraries": Uses(*library_uses()),
        }

    def gather(self, tickets: Sequence[Ticket], block: int, team: Team) -> list[Segment]:
        """Give the segments of a pack, all of them before a block; those that begin are begun.

        Tickets whose segment holds others that are not in the pack leave it, and run again from
        the start up to here: no policy of ours asks for that.

        Raises:
            KernelError: on the way up to here, a kernel reports bad data.
        """
        numbers = {ticket.number for ticket in tickets}
        for ticket in tickets:
            if any(not segment.tickets <= numbers for segment in ticket.segments):
                ticket.leave()
        fresh = [ticket for ticket in tickets if not ticket.segments]
        begun = self.begin([(item, t) for t in fresh for item in t.wanted]) if fresh else []
        if begun and block:
            for _ in range(block):
                self._to_end(begun, team)
        segments = list(dict.fromkeys(s for ticket in tickets for s in ticket.segments))
        if any(segment.block != block for segment in segments):
            raise VerifyError(f"segments at other blocks than {block} run together")
        return segments

    def begin_alone(self, items: Sequence[Item]) -> list[Segment]:
        """Begin one segment of one kind that no ticket knows; the caller closes it."""
        return [self._segment(items[0].kind, items, ())]

    def parts(self, template: Template, extents: Mapping[str, int]) -> tuple[int, ...]:
        """Give into how many parts each stage of one instance can be cut."""
        binding = self.binding(template, extents)
        alone = Class(binding, (0, 1), np.zeros((0, len(template.weights)), dtype=bool))
        (parts,) = parts_of(build([alone], self._threads, self._address))
        return parts

    def begin(self, items: Iterable[tuple[Item, Ticket]]) -> list[Segment]:
        """Begin a segment for each kind of items."""
        by_kind: dict[Kind, tuple[list[Item], dict[int, Ticket]]] = {}
        for item, ticket in items:
            own, owners = by_kind.setdefault(item.kind, ([], {}))
            own.append(item)
            owners[ticket.number] = ticket
        segments = []
        for kind, (own, owners) in by_kind.items():
            segment = self._segment(kind, own, list(owners))
            for ticket in owners.values():
                ticket.segments.append(segment)
            segments.append(segment)
        return segments

    def step(self, segments: Sequence[Segment], team: Team) -> tuple[Status, bool]:
        """Run the next block of all segments as one, or go on with one that retreated.

        Returns:
            DONE, or RETREATED if the flag was up; and whether the block is half done.

        Raises:
            KernelError: bad data; which of them holds it is not known.
        """
        step = next((s.step for s in segments if s.step is not None), None)
        if step is None:
            pieces = [piece for s in segments if (piece := s.piece()) is not None]
            step = self._steps.of(pieces) if pieces else None
        elif any(s.step is not step for s in segments):
            raise VerifyError("what retreated together does not go on together")
        if step is not None:
            if team.pool is None:
                raise UnsupportedError("there are no workers to run native code")
            for segment in segments:
                segment.step = step
            status = step.run(team.pool, team.workers, team.flag, self._externs)
            for segment in segments:
                segment.step = step if step.begun else None
            if status is Status.RETREATED:
                return status, step.begun
        for segment in segments:
            segment.run_whole()
            segment.block += 1
            if segment.done:
                segment.finish()
        return Status.DONE, False

    def alone(self, tickets: Sequence[Ticket], error: BaseException, team: Team) -> None:
        """After a batch failed, run each of its items alone, so that only bad ones fail."""
        items = [(item, ticket) for ticket in tickets for item in ticket.wanted]
        for ticket in tickets:
            ticket.leave()
        if len(items) == 1:
            items[0][0].error = _named(items[0][0], error)
            return
        for item, ticket in items:
            try:
                segments = self.begin([(item, ticket)])
                for _ in range(item.kind.blocks):
                    self._to_end(segments, team)
            except BaseException as e:  # noqa: BLE001  (whoever asked is told)
                item.error = _named(item, e)
            finally:
                ticket.leave()

    def _to_end(self, segments: Sequence[Segment], team: Team) -> None:
        """Run one block, whatever the flag says."""
        while self.step(segments, team)[0] is Status.RETREATED:
            team.lower()

    def _segment(self, kind: Kind, items: Sequence[Item], tickets: Sequence[int]) -> Segment:
        if kind.binding is None:
            return WholeSegment(kind, items, tickets, self._run_whole)
        body, weights, ordered, give = self.shapes.lend(kind, items)
        return NativeSegment(kind, ordered, tickets, (body, weights, give), self._arenas)


def _named(item: Item, error: BaseException) -> BaseException:
    """Say whose error it is."""
    if isinstance(error, FusecError) and not isinstance(error, KernelError):
        return error
    name, text = item.request.target.name, str(error).strip().partition("\n")[0]
    kind = "" if isinstance(error, KernelError) else f"{type(error).__name__}: "
    named = KernelError(f"running {name} fails: {kind}{text}")
    named.__cause__ = error
    return named
