"""Timeouts of queues, as Triton has them: for the time until a request runs, and no longer."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from fusec_testing.serving import DOUBLES

from fusec.runtime.serving.answer import Start
from fusec.server.errors import Fault, ServerError
from fusec.server.models import Model, Version
from fusec.server.parameters import Asks
from fusec.server.queueing import Place, place_of
from fusec.server.settings import QueuePolicy, Settings

SHORT = QueuePolicy(timeout_us=100, override=True)
STRICT = QueuePolicy(timeout_us=100)


def model(**settings: Any) -> Model:
    made = Settings(levels=2, default_level=2, **settings)
    return Model(name="m", config={}, settings=made, versions={}, failed={}, print=None)


def version() -> Version:
    return Version(1, "m", DOUBLES, None)


class Submitted:
    """Futures that were asked for, with their priorities."""

    def __init__(self, begun: Callable[[int], bool] = lambda _: False) -> None:
        self.futures: list[Future[dict[str, Any]]] = []
        self.priorities: list[int] = []
        self._begun = begun

    def __call__(self, *, priority: int) -> "Future[dict[str, Any]]":
        future: Future[dict[str, Any]] = Future()
        begun = self._begun(len(self.futures))
        future.start = Start(1) if begun else None  # type: ignore[attr-defined]
        self.futures.append(future)
        self.priorities.append(priority)
        return future


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def place(*, delay: bool = False, timeout_s: float | None = 0.001) -> Place:
    return Place(3, timeout_s, delay, None)


def test_what_waits_too_long_is_refused_and_given_up() -> None:
    asked = Submitted()

    async def main() -> None:
        with pytest.raises(ServerError, match="Request timeout expired") as caught:
            await place().answer(asked)
        assert caught.value.fault is Fault.EXPIRED

    asyncio.run(main())
    assert asked.futures[0].cancelled()
    assert asked.priorities == [3]


def test_what_runs_by_then_is_answered_however_long_it_takes() -> None:
    asked = Submitted(lambda _: True)

    async def main() -> None:
        task = asyncio.ensure_future(place().answer(asked))
        await asyncio.sleep(0.02)
        asked.futures[0].set_result({"y": 1})
        assert await task == (asked.futures[0], {"y": 1})

    asyncio.run(main())


def test_what_may_only_be_delayed_goes_behind_all_others() -> None:
    asked = Submitted()

    async def main() -> None:
        task = asyncio.ensure_future(place(delay=True).answer(asked))
        await until(lambda: len(asked.futures) == 2)
        assert asked.futures[0].cancelled()
        await asyncio.sleep(0.01)  # no timeout holds for it any more
        asked.futures[1].set_result({"y": 2})
        assert await task == (asked.futures[1], {"y": 2})

    asyncio.run(main())
    assert asked.priorities == [3, -1]


@pytest.mark.parametrize("delay", [False, True])
def test_a_client_that_leaves_takes_its_request_along(delay: bool) -> None:
    asked = Submitted(lambda n: n == 1)

    async def main() -> None:
        task = asyncio.ensure_future(place(delay=delay, timeout_s=60).answer(asked))
        await until(lambda: asked.futures)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert asked.futures[0].cancelled()
    assert len(asked.futures) == 1


def test_what_somebody_else_cancels_is_no_timeout() -> None:
    asked = Submitted()

    async def main() -> None:
        task = asyncio.ensure_future(place(timeout_s=60).answer(asked))
        await until(lambda: asked.futures)
        asked.futures[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.parametrize(
    ("settings", "asks", "wanted"),
    [
        ({}, Asks(), (0, None, False, None)),
        ({}, Asks(priority=1), (1, None, False, None)),
        ({}, Asks(timeout_us=7), (0, 7e-6, False, None)),
        ({"queue": SHORT}, Asks(timeout_us=7), (0, 7e-6, False, None)),
        ({"queue": SHORT}, Asks(timeout_us=700), (0, 100e-6, False, None)),
        ({"queue": STRICT}, Asks(timeout_us=7), (0, 100e-6, False, None)),
        ({"queues": ((1, STRICT),)}, Asks(), (0, None, False, None)),
        ({"queues": ((1, STRICT),)}, Asks(priority=1), (1, 100e-6, False, None)),
        ({"queue": QueuePolicy(timeout_us=5, delay=True)}, Asks(), (0, 5e-6, True, None)),
        ({"slo_ms": 3.0}, Asks(), (0, None, False, 3.0)),
        ({"slo_ms": 3.0}, Asks(slo_ms=9.0), (0, None, False, 9.0)),
    ],
)
def test_where_a_request_waits(
    settings: dict[str, Any], asks: Asks, wanted: tuple[int, float | None, bool, float | None]
) -> None:
    assert place_of(model(**settings), version(), asks, None) == Place(*wanted)


def test_a_connection_that_ends_sooner_is_the_deadline() -> None:
    assert place_of(model(slo_ms=5.0), version(), Asks(), 2.0).deadline_ms == 2.0
    assert place_of(model(slo_ms=5.0), version(), Asks(), 9.0).deadline_ms == 5.0


def test_a_queue_is_as_long_as_those_that_wait_and_not_those_that_run() -> None:
    of, own = model(queue=QueuePolicy(size=2), queues=((1, QueuePolicy(size=1)),)), version()
    asked = Submitted()
    tasks: list[asyncio.Task[Any]] = []

    def come(level: int) -> None:
        tasks.append(
            asyncio.ensure_future(place_of(of, own, Asks(priority=level), None).answer(asked))
        )

    def full(level: int) -> bool:
        try:
            place_of(of, own, Asks(priority=level), None)
        except ServerError as e:
            assert e.fault is Fault.UNAVAILABLE and "exceeds maximum queue size" in str(e)
            return True
        return False

    async def main() -> None:
        for _ in range(2):
            assert not full(2)
            come(2)
            await asyncio.sleep(0)
        assert full(2) and not full(1)
        come(1)  # levels have queues of their own, and so have versions
        await asyncio.sleep(0)
        assert full(1) and full(2)
        assert place_of(of, version(), Asks(priority=2), None).waiting == set()
        asked.futures[0].start = Start(1)  # type: ignore[attr-defined]
        assert not full(2)
        come(2)
        await asyncio.sleep(0)
        assert full(2)
        tasks[1].cancel()  # a client that leaves does not wait any more
        await asyncio.sleep(0.001)
        assert not full(2)
        for future in asked.futures:
            if not future.cancelled():
                future.set_result({})
        await asyncio.gather(*tasks, return_exceptions=True)
        assert own.waiting == {1: set(), 2: set()}

    asyncio.run(main())
    assert sum(task.cancelled() for task in tasks) == 1
