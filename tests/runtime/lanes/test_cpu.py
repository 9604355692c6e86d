"""A lane of processors, with an engine that computes nothing."""

from __future__ import annotations

from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from fusec.runtime.cache import Uses
from fusec.runtime.drivers.work import Ended, Work
from fusec.runtime.lanes.cpu import CpuLane
from fusec.runtime.serving.answer import Answer, Courier
from fusec.runtime.serving.items import Ticket
from fusec.runtime.tile.engine import Status


class Shapes:
    """Counts programs that were built."""

    uses = Uses(0, 0)


class Engine:
    """Runs nothing, at once."""

    def __init__(self) -> None:
        self.shapes = Shapes()

    def gather(self, *_: Any) -> list[Any]:
        return []

    def step(self, *_: Any) -> tuple[Status, bool]:
        return Status.DONE, False


class Home:
    """Keeps what it is told."""

    def __init__(self, told: SimpleQueue[Ended]) -> None:
        self._told = told

    def ended(self, end: Ended, *, answered: bool) -> bool:
        self._told.put(end)
        return True

    def drive(self) -> None:
        raise AssertionError("all is done")


class Item:
    """An item that nobody runs."""

    def __init__(self, future: Answer) -> None:
        self.future, self.ticket, self.error = future, -1, None

    def settle(self) -> str:
        if not self.future.done():
            self.future.set_result(None)
        return "done"


def ticket(number: int, items: int = 1) -> Ticket:
    courier = Courier()
    made: Any = [Item(Answer(courier)) for _ in range(items)]
    return Ticket(number, made)


def test_requests_know_the_launch_in_which_they_began() -> None:
    ended: SimpleQueue[Ended] = SimpleQueue()
    engine: Any = Engine()
    lane = CpuLane(0, engine, None, 1, Home(ended))

    def launch(*tickets: Ticket) -> None:
        lane.start(Work([(tickets, 0)], 1, (1,), 1, False))
        ended.get(timeout=20)

    one, two, three = ticket(1, 2), ticket(2), ticket(3)
    try:
        launch(one, two)
        launch(two, three)  # the second goes on, the third begins
    finally:
        lane.close(20)
    for each in (one, two, three):
        each.settle()
    starts = [item.future.start for each in (one, two, three) for item in each.items]
    assert None not in starts
    assert starts[0] is starts[1] is starts[2]
    assert starts[3] is not starts[0]
    assert starts[3].at_ns >= starts[0].at_ns > 0  # type: ignore[union-attr]


def test_a_launch_that_had_to_build_a_program_says_so() -> None:
    ended: SimpleQueue[Ended] = SimpleQueue()
    engine: Any = Engine()
    lane = CpuLane(0, engine, None, 1, Home(ended))

    def gather(*_: Any) -> list[Any]:
        engine.shapes.uses = Uses(0, 1)
        return []

    engine.gather = gather
    try:
        for number, first in enumerate((True, False)):
            one = ticket(number)
            lane.start(Work([((one,), 0)], 1, (1,), 1, False))
            assert ended.get(timeout=20).first is first
            one.settle()
    finally:
        lane.close(20)


def test_what_never_ran_has_no_start() -> None:
    refused = ticket(1)
    refused.settle()
    future: Future[Any] = refused.items[0].future
    assert getattr(future, "start", 0) is None
