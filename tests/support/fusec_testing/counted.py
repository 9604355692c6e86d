"""What a runtime counted, of requests and launches that a test makes up."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

from fusec.runtime.cache import Uses
from fusec.runtime.drivers.run import Span
from fusec.runtime.sched.records import Outcome, Pack, Request, Result
from fusec.runtime.serving.stats import Stats
from fusec.runtime.serving.watch import Watcher

MS = 1_000_000


def request(number: int, *, deadline_ms: float | None = None, **more: Any) -> Request:
    """Make a request that comes at 0."""
    deadline = None if deadline_ms is None else round(deadline_ms * MS)
    made = {"id": number, "model": "m", "template": "t", "arrival_ns": 0, **more}
    return Request(deadline_ns=deadline, **made)


class Counted:
    """A watcher that was told."""

    def __init__(self) -> None:
        self.watcher = Watcher(None)

    def ended(
        self,
        asked: Request,
        start_ms: float | None,
        end_ms: float,
        result: Result = Result.DONE,
        *,
        calls: int = 1,
    ) -> None:
        """Count the end of a ticket of so many calls."""
        due = 10 * MS if asked.deadline_ns is None else asked.deadline_ns
        outcome = Outcome(
            request=asked,
            result=result,
            at_ns=round(end_ms * MS),
            due_ns=due,
            start_ns=None if start_ms is None else round(start_ms * MS),
        )
        self.watcher.submitted(calls)
        with self.watcher._change:
            self.watcher._counts.ended(outcome, Counter({result: calls}), "")
            self.watcher._less(calls)

    def ran(
        self, took_ms: float, *asked: Request, room: int, packs: int = 1, stopped: bool = False
    ) -> None:
        """Count a launch."""
        beside = tuple(Pack(f"t{n}", ()) for n in range(1, packs))
        span = Span(
            lane=0,
            start_ns=5,
            end_ns=5 + round(took_ms * MS),
            pack=Pack("t", tuple(each.id for each in asked), 0, beside),
            blocks=1,
            overhead_ns=0,
            preempted=stopped,
        )
        self.watcher.ran(span, asked, len(asked), room)

    def stats(self) -> Stats:
        """Give the figures."""
        driver: Any = SimpleNamespace(
            book=SimpleNamespace(queued=0, free_bytes=None),
            running=0,
            lanes=2,
            errors=SimpleNamespace(p50=0.25),
        )
        caches = {"programs": Uses(6, 2), "steps": Uses(0, 1)}
        return self.watcher.stats(driver, caches)


def counted() -> Counted:
    """Count five requests of two tenants, in three launches that take 17 ms."""
    made = Counted()
    ann, bob = {"tenant": "ann"}, {"tenant": "bob"}
    first = request(0, deadline_ms=100, rows=3, **ann)
    late = request(1, deadline_ms=30, **bob)
    free = request(2, **bob)
    made.ran(8, first, late, room=16, stopped=True)
    made.ran(4, first, room=8)
    made.ran(5, late, free, room=16, packs=2)
    made.ended(first, 20, 50)
    made.ended(late, 29.5, 40)
    made.ended(free, 1, 6)
    made.ended(request(3, deadline_ms=7), None, 7, Result.EXPIRED)
    made.ended(request(4, deadline_ms=400), 100, 200, Result.CANCELLED, calls=2)
    return made
