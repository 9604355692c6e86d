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
from fusec.server.models import Model
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
        future = submit(priority=self.priority)
        if self.timeout_s is None:
            return future, await awaited(future)
        late = False

        def check() -> None:
            nonlocal late
            late = getattr(future, "start", None) is None and future.cancel()

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


def place_of(model: Model, asks: Asks, connection_ms: float | None) -> Place:
    """Find a request's place in the queue.

    Args:
        model: that it is for.
        asks: what it asks of the scheduler.
        connection_ms: how long its connection waits for the answer.

    Raises:
        ServerError: so many requests of its model may not wait.
    """
    settings = model.settings
    level = settings.level(asks.priority)
    policy = settings.policy(level)
    pending = sum(v.statistics.pending for v in model.versions.values()) if policy.size else 0
    # Those that run count as well: what waits for what is the scheduler's own.
    if pending > policy.size:
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
    )
