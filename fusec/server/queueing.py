"""Queues as a model's configuration has them: how many may wait, for how long, and what then.

A timeout is Triton's: for the time until a request begins to run. What has begun is answered. A
deadline (`slo_ms`, or a connection's) is for the answer, and the scheduler goes by it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeAlias

from fusec.ir.frozen import dataclass
from fusec.runtime.serving.answer import awaited
from fusec.server.errors import EXPIRED_TEXT, Fault, ServerError
from fusec.server.models import Model, Version
from fusec.server.parameters import Asks

__all__ = ["Place", "place_of"]

Answer: TypeAlias = dict[str, Any]
Submit: TypeAlias = "Callable[..., Future[Answer]]"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request waits."""

    priority: int
    """As the scheduler has it: the higher, the sooner."""
    timeout_s: float | None
    """Until it begins to run; None: for ever."""
    delay: bool
    """After that it goes behind all others; it is not refused."""
    deadline_ms: float | None
    """For its answer."""
    waiting: "set[Future[Answer]] | None" = None
    """Who waits there, where that is bounded."""

    async def answer(self, submit: Submit) -> "tuple[Future[Answer], Answer]":
        """Submit a request and await its answer; cancelling the task cancels it.

        Args:
            submit: takes a priority and gives a future; called again for a request that goes
                behind all others.

        Returns:
            The future, and what it gave.

        Raises:
            ServerError: it waited too long.
            CancelledError: the task, or the request, was cancelled.
        """
        waiting = self.waiting
        if waiting is None:
            return await self._answer(submit)
        own: list[Future[Answer]] = []

        def noted(*, priority: int) -> "Future[Answer]":
            own.append(submit(priority=priority))
            waiting.add(own[-1])
            return own[-1]

        try:
            return await self._answer(noted)
        finally:
            waiting.difference_update(own)

    async def _answer(self, submit: Submit) -> "tuple[Future[Answer], Answer]":
        future = submit(priority=self.priority)
        if self.timeout_s is None:
            return future, await awaited(future)
        late = False

        def check() -> None:
            nonlocal late
            late = not _runs(future) and future.cancel()

        timer = asyncio.get_running_loop().call_later(self.timeout_s, check)
        try:
            return future, await awaited(future)
        except asyncio.CancelledError as e:
            task = asyncio.current_task()
            if not late or task is None or task.cancelling():
                raise
            if not self.delay:
                raise ServerError(EXPIRED_TEXT, Fault.EXPIRED) from e
        finally:
            timer.cancel()
        future = submit(priority=-1)
        return future, await awaited(future)


def place_of(model: Model, version: Version, asks: Asks, connection_ms: float | None) -> Place:
    """Find a request's place in the queue; it has to be submitted before another is asked for.

    Args:
        model: that it is for.
        version: of the model.
        asks: what it asks of the scheduler.
        connection_ms: how long its connection waits for the answer.

    Raises:
        ServerError: so many requests of its version and level may not wait.

    Cost: 2 us; where the queue seems full, 30 ns for each in it.
    """
    settings = model.settings
    level = settings.level(asks.priority)
    policy = settings.policy(level)
    waiting = version.waiting.setdefault(level, set()) if policy.size else None
    if waiting is not None and len(waiting) >= policy.size:
        waiting.difference_update([future for future in waiting if _runs(future)])
        if len(waiting) >= policy.size:
            raise ServerError(f"{model.name!r}: exceeds maximum queue size", Fault.UNAVAILABLE)
    timeout_us = policy.timeout_us or None
    if asks.timeout_us is not None and (timeout_us is None or policy.override):
        # A request may wait for less than its model allows, not for longer.
        timeout_us = min(asks.timeout_us, timeout_us or asks.timeout_us)
    slo_ms = settings.slo_ms if asks.slo_ms is None else asks.slo_ms
    known = [t for t in (slo_ms, connection_ms) if t is not None]
    return Place(
        settings.levels - level,
        None if timeout_us is None else timeout_us / 1e6,
        policy.delay,
        min(known, default=None),
        waiting,
    )


def _runs(future: "Future[Answer]") -> bool:
    """Tell whether a request has begun to run; what was interrupted has, too."""
    return getattr(future, "start", None) is not None
