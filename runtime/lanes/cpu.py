"""A lane of processors: a thread that runs the blocks of launches on a team of workers.

It sleeps while there is nothing to run. What stops it in the middle of a block is a word in memory,
so whoever knows the lane stops it without a lock and without waiting.
"""

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from time import monotonic_ns
from typing import Protocol

from fusec.runtime.drivers.work import Ended, Work
from fusec.runtime.pool import Pool, raise_retreat
from fusec.runtime.serving.answer import Start
from fusec.runtime.serving.engine import Engine, Team
from fusec.runtime.serving.items import Ticket
from fusec.runtime.tile.engine import Status, aligned_words

__all__ = ["CpuLane"]

_RETREAT_NS = 300_000
"""How soon a team stops: a task takes some 200 us at most, and then its threads have to meet."""

_FEW = 16
_GIVES_WAY_S = 50e-6
"""How long to leave the interpreter to clients whose answers are there, if nobody else waits."""


class Home(Protocol):
    """Who is told when a lane is free again, on the lane's thread."""

    def ended(self, end: Ended, *, answered: bool) -> bool:
        """Hear of it, and whether all has its answers; say whether that was acted on."""

    def drive(self) -> None:
        """Act on what was heard."""


class CpuLane:
    """One lane. Its own thread runs everything; `start` and `stop` only say what."""

    def __init__(
        self,
        index: int,
        engine: Engine,
        pool: Pool | None,
        workers: int,
        home: Home,
    ) -> None:
        """Make a lane; its thread waits for work.

        Args:
            index: of the lane.
            engine: runs blocks.
            pool: of workers; None where PyTorch runs everything.
            workers: how many, the lane's own thread included.
            home: is told when the lane is free again.
        """
        self._index, self._engine, self._home = index, engine, home
        self._flag = aligned_words(8)
        self._team = Team(pool, workers, self._flag.ctypes.data, self._lower)
        self._stop = False
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._place = 0
        self._thread = threading.Thread(target=self._main, name=f"fusec-lane-{index}", daemon=True)
        self._thread.start()

    @property
    def retreat_ns(self) -> int | None:
        """How soon it stops in the middle of a block; None: it cannot."""
        return None if self._team.pool is None else _RETREAT_NS

    @property
    def place(self) -> int:
        """How many blocks of its work it has finished."""
        return self._place

    def start(self, work: Work) -> None:
        """Begin; the lane is free."""
        self._stop, self._place = False, 0
        self._lower()
        self._work.put(work)

    def stop(self, *, within_block: bool) -> None:
        """Leave as soon as that is possible: between tasks, or at the end of the block."""
        self._stop = True
        if within_block and self._team.pool is not None:
            raise_retreat(self._team.flag)

    def close(self, timeout_s: float | None = None) -> None:
        """End the thread, after what it runs."""
        self._work.put(None)
        self._thread.join(timeout_s)

    def _lower(self) -> None:
        self._flag[0] = 0

    def _main(self) -> None:
        work = self._work.get()
        while work is not None:
            end, answered = self._run(work)
            work = None  # else the last model would stay as long as nobody asks another
            work = self._following(self._home.ended(end, answered=answered))

    def _following(self, heard: bool) -> Work | None:
        """Wait for what is next; who waited for answers goes on first."""
        if not heard:
            try:
                return self._work.get(timeout=_GIVES_WAY_S)
            except Empty:
                self._home.drive()
        return self._work.get()

    def _run(self, work: Work) -> tuple[Ended, bool]:
        """Give how it ended, and whether all of it has its answers."""
        tickets = [_ticket(task) for tasks, _ in work.parts for task in tasks]
        start = Start(monotonic_ns())
        for ticket in tickets:
            ticket.began(start)
        took: list[int] = []
        blocks, half_done = 0, False
        built = self._engine.shapes.uses.misses
        try:
            segments = [
                segment
                for tasks, block in work.parts
                for segment in self._engine.gather([_ticket(t) for t in tasks], block, self._team)
            ]
            while blocks < work.blocks:
                begin = monotonic_ns()
                status, half_done = self._engine.step(segments, self._team)
                took.append(monotonic_ns() - begin)
                if status is Status.RETREATED:
                    break
                blocks += 1
                self._place = blocks
                if self._stop:
                    break
        except BaseException as e:  # noqa: BLE001  (whoever asked is told)
            self._engine.alone(tickets, e, self._team)
            return self._end(_settle(tickets), blocks, took, over=True)
        first = self._engine.shapes.uses.misses > built
        done = [t for t in tickets if t.segments and all(s.done for s in t.segments)]
        answered = _settle(done) and len(done) == len(tickets)
        return self._end(answered, blocks, took, half_done=half_done, first=first)

    def _end(
        self,
        answered: bool,
        blocks: int,
        took: Sequence[int],
        *,
        half_done: bool = False,
        over: bool = False,
        first: bool = False,
    ) -> tuple[Ended, bool]:
        end = Ended(
            lane=self._index,
            blocks=blocks,
            took_ns=tuple(took),
            half_done=half_done,
            over=over,
            first=first,
            at_ns=monotonic_ns(),
        )
        return end, answered


def _settle(tickets: Sequence[Ticket]) -> bool:
    """Give a few answers at once, which is sooner; many are left to who counts them.

    Returns:
        Whether they were given.
    """
    if sum(ticket.size for ticket in tickets) > _FEW:
        return False
    for ticket in tickets:
        ticket.settle()
    return True


def _ticket(task: object) -> Ticket:
    assert isinstance(task, Ticket)
    return task
