"""The runtime: one process, one plan, many tenants, and a policy that says who runs next.

with fusec.Runtime(plan) as rt:
    future = rt.submit("cat", x, tenant="ann", deadline_ms=20)
    answer = future.result()            # or await rt.infer("cat", x)
    tick = rt.submit_many({"cat": x, "dog": x})

submit (any thread) -> inbox -> a turn, by whoever brings news: policy -> lanes -> futures
"""

import itertools
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from time import monotonic_ns
from types import TracebackType
from typing import Any, Self

from fusec.ir.errors import ConfigError, FusecError, Rejected
from fusec.plan import Plan
from fusec.runtime.drivers.real import RealDriver
from fusec.runtime.drivers.work import Arrival, Event, Left
from fusec.runtime.lanes.cpu import CpuLane
from fusec.runtime.policies.table import find_policy
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Request, Result
from fusec.runtime.sched.view import NewCost
from fusec.runtime.serving.answer import Courier, awaited
from fusec.runtime.serving.inbox import Inbox
from fusec.runtime.serving.items import Item, Ticket
from fusec.runtime.serving.journal import Journal
from fusec.runtime.serving.limits import broke, deadline_after
from fusec.runtime.serving.reading import Reader
from fusec.runtime.serving.recording import Recording
from fusec.runtime.serving.stats import Stats
from fusec.runtime.serving.turns import Turns
from fusec.runtime.serving.watch import Watcher
from fusec.serving_setup import Setup, check_settings, set_up

__all__ = ["Runtime"]

_CLOSED = "the runtime was closed"


class Runtime:
    """Serves requests of a plan's models. Safe to use from any number of threads.

    Models may be added to the plan, replaced and removed meanwhile: each answer comes wholly from
    the weights that its model had when it was asked.
    """

    def __init__(
        self,
        plan: Plan,
        policy: str | Policy[Any] = "slack",
        *,
        lanes: int = 1,
        memory_budget: int | None = None,
        queue_limit: int = 10_000,
        preempt_ms: float = 10.0,
        max_batch: int = 64,
        measure_s: float = 0.5,
        log: str | os.PathLike[str] | None = None,
    ) -> None:
        """Start serving.

        Args:
            plan: whose models.
            policy: who runs next: "slack" (deadlines, batches, preemption), "fair" (the same under
                equal shares of device time for each tenant), or another of `fusec simulate`.
            lanes: how many launches run at once; they share the plan's threads.
            memory_budget: bytes that all requests that have started may hold together.
            queue_limit: requests that may wait; while so many do, others are refused at once.
            preempt_ms: how long a block of one request should take at most. What runs can be
                stopped within a block as well; blocks are where other requests may join.
            max_batch: rows of one template that may run together.
            measure_s: for measuring templates that the plan has no profile of for so many threads
                as a lane has; see `Plan.profile`.
            log: file for the decisions; `fusec replay` takes it.

        Raises:
            ConfigError: no such policy, a number that makes no sense, or no way to write the log.
        """
        chosen = find_policy(policy) if isinstance(policy, str) else policy
        check_settings(lanes, queue_limit, memory_budget, max_batch, preempt_ms)
        self._inbox = Inbox()
        self._turns = Turns(self._inbox)
        self._setup: Setup = set_up(
            plan,
            lanes=lanes,
            preempt_ns=round(preempt_ms * 1e6),
            max_batch=max_batch,
            measure_s=measure_s,
        )
        self._courier = Courier()
        self._reader = Reader(
            self._setup.target, self._setup.version, self._setup.costs.kind, self._courier
        )
        costs = self._setup.profile
        self._journal = None if log is None else Journal(Path(log), chosen.name, costs)
        self._watch = Watcher(self._journal)
        self._lanes = [
            CpuLane(i, self._setup.engine, pool, self._setup.workers, self._turns)
            for i, pool in enumerate(self._setup.pools)
        ]
        self._driver = RealDriver(
            self._watch.timed(chosen),
            costs,
            self._lanes,
            self._watch,
            queue_limit=queue_limit,
            memory_bytes=memory_budget,
            retreats=self._setup.costs.retreats,
        )
        self._numbers = itertools.count()
        self._hints: dict[str, Request] = {}
        """The last request of each model."""
        self._memory_budget = memory_budget
        self._lock = threading.Lock()
        self._closed = False
        self._broken: BaseException | None = None
        self._process = os.getpid()
        self._turns.start(self._driver, self._end)

    def submit(
        self,
        model: str,
        inputs: Any,
        *,
        tenant: str | None = None,
        deadline_ms: float | None = None,
        priority: int = 0,
    ) -> "Future[dict[str, Any]]":
        """Ask for one answer; comes back at once.

        Args:
            model: name of a model.
            inputs: as for `Plan.run`; they are copied.
            tenant: who asks; shares of device time are kept by it.
            deadline_ms: from now on; an answer after it is worth nothing. None: it is due at a few
                times what it takes, and never refused for being late.
            priority: of two that are due alike, the higher one goes first.

        Returns:
            A future of {output name: array}. Its `result` raises ConfigError for inputs that do not
            fit, KernelError for values that a model refuses, and Rejected, with the reason, for
            what was not served. `cancel` works until the answer is there.

        Raises:
            ConfigError: a deadline, tenant or priority that is none.
        """
        if not isinstance(model, str):
            raise ConfigError(f"a model's name is a string, got {model!r}")
        early = self._nudge(model, deadline_ms)
        try:
            return self._submit({model: inputs}, tenant, deadline_ms, priority, early)[model]
        finally:
            if early:
                self._inbox.expect(-1)

    def submit_many(
        self,
        requests: Mapping[str, Any],
        *,
        tenant: str | None = None,
        deadline_ms: float | None = None,
        priority: int = 0,
    ) -> "dict[str, Future[dict[str, Any]]]":
        """Ask for answers of many models that belong together, a tick; cheaper than one by one.

        Those of one template are scheduled as one request: they start together, and are refused
        together. A bad one fails alone.

        Args:
            requests: model name -> inputs.
            tenant: see `submit`.
            deadline_ms: of all of them.
            priority: see `submit`.

        Raises:
            ConfigError: see `submit`, or `requests` is no mapping.
        """
        return self._submit(requests, tenant, deadline_ms, priority, early=False)

    async def infer(
        self,
        model: str,
        inputs: Any,
        *,
        tenant: str | None = None,
        deadline_ms: float | None = None,
        priority: int = 0,
    ) -> dict[str, Any]:
        """Ask for one answer, as `submit` does, and await it; a cancelled task cancels it."""
        future = self.submit(
            model, inputs, tenant=tenant, deadline_ms=deadline_ms, priority=priority
        )
        answer: dict[str, Any] = await awaited(future)
        return answer

    def stats(self) -> Stats:
        """Give what was counted since the start."""
        if os.getpid() == self._process:
            self._turns.drive()
        return self._watch.stats(self._driver, self._setup.engine.caches())

    def record(self, limit: int = 8192) -> Recording:
        """Have launches written down, the last `limit` of them, until that is closed."""
        return self._watch.record(self._driver, limit)

    def profile(self) -> Profile:
        """Give the costs that the policy goes by, templates that joined later included."""
        return self._driver.profile

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all that was submitted has ended.

        Args:
            timeout: in seconds; None waits for ever.

        Returns:
            Whether it has.
        """
        return self._watch.wait_idle(timeout)

    def close(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Stop serving. Closing twice is fine.

        Args:
            drain: answer what was submitted before; else what waits is rejected, and what runs
                stops.
            timeout: in seconds, for draining; what is left then is rejected. None: as long as it
                goes on; a policy that starts nothing for half a minute is given up.
        """
        if os.getpid() != self._process:
            return
        with self._lock:
            self._closed = True
        if drain and self._broken is None:
            self._watch.wait_end(timeout, lambda: self._driver.running)
        self._turns.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(drain=error is None)

    def _submit(
        self,
        requests: Mapping[str, Any],
        tenant: str | None,
        deadline_ms: float | None,
        priority: int,
        early: bool,
    ) -> "dict[str, Future[dict[str, Any]]]":
        deadline_ns = deadline_after(monotonic_ns(), deadline_ms)
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise ConfigError(f"priority is {priority!r}, wanted a whole number")
        if tenant is not None and not isinstance(tenant, str):
            raise ConfigError(f"tenant is {tenant!r}, wanted a string")
        if not isinstance(requests, Mapping):
            raise ConfigError(
                f"submit_many takes a mapping from model name to inputs, got "
                f"{type(requests).__name__}"
            )
        futures, items = self._reader.read(requests)
        sent = [self._send(g, tenant or "", deadline_ns, priority, early=early) for g in items]
        if any(sent):
            self._turns.arrived()
        return futures

    def _nudge(self, model: str, deadline_ms: float | None) -> bool:
        """Stop what a request would be late behind, before it is even read.

        What it is likely to be is known from the last one of its model.
        """
        hint = self._hints.get(model) if self._driver.running else None
        if hint is None:
            return False
        now = monotonic_ns()
        request = Request(
            id=hint.id,
            model=model,
            template=hint.template,
            arrival_ns=now,
            deadline_ns=deadline_after(now, deadline_ms),
            rows=hint.rows,
        )
        stopped = self._driver.nudge(request, now)
        if stopped:
            self._inbox.expect(1)
        return stopped

    def _send(
        self,
        items: Sequence[Item],
        tenant: str,
        deadline_ns: int | None,
        priority: int,
        *,
        early: bool,
    ) -> bool:
        """Put the items of one template in the inbox, in as few tickets as memory allows.

        Returns:
            Whether any of it is there.
        """
        now, name = monotonic_ns(), items[0].kind.name
        known = self._driver.profile.templates.get(name)
        cost = known or self._setup.costs.new(name)
        step, taken = len(items), False
        if self._memory_budget is not None and cost.bytes_per_instance:
            step = max(1, self._memory_budget // (2 * cost.bytes_per_instance))
        for start in range(0, len(items), step):
            ticket = Ticket(next(self._numbers), items[start : start + step])
            request = Request(
                id=ticket.number,
                model=items[start].request.target.name,
                template=name,
                tenant=tenant,
                arrival_ns=now,
                deadline_ns=deadline_ns,
                rows=ticket.rows(cost),
                priority=priority,
            )
            told = () if known else (NewCost.of(name, request.model, cost),)
            if self._take(Arrival(request, ticket, told), ticket):
                taken = True
                self._hints[request.model] = request
                if not early:
                    self._driver.nudge(request, now)
        return taken

    def _take(self, arrival: Arrival, ticket: Ticket) -> bool:
        """Put a ticket in the inbox; or end it here where nobody serves it."""
        if os.getpid() != self._process:
            reason: FusecError = Rejected("this process was forked; make a Runtime in the child")
            ticket.fail(reason)
            ticket.settle()
            return False
        left = partial(self._turns.put, Left(ticket.number))
        for item in ticket.items:
            item.future.left = left
        with self._lock:
            if self._broken is not None:
                reason = broke(self._broken)
            elif self._closed:
                reason = Rejected(_CLOSED)
            elif self._driver.book.full(self._inbox.size()):
                reason = Rejected("too many requests wait already", str(Result.FULL))
            else:
                self._watch.submitted(ticket.size)
                self._inbox.put(arrival)
                return True
        result = reason.result if isinstance(reason, Rejected) else str(Result.FAILED)
        self._watch.refused(ticket.size, result, str(reason), arrival.request.deadline_ns)
        ticket.fail(reason)
        ticket.settle()
        return False

    def _end(self, problem: BaseException | None, came: Sequence[Event]) -> None:
        """End everything: nobody may wait for an answer that will not come."""
        reason = Rejected(_CLOSED) if problem is None else broke(problem)
        with self._lock:
            self._closed, self._broken = True, problem
        for lane in self._lanes:
            lane.stop(within_block=True)
        for lane in self._lanes:
            lane.close()
        left = [task for task in self._driver.abandon() if isinstance(task, Ticket)]
        came = (*came, *self._inbox.take())
        tasks = (event.task for event in came if isinstance(event, Arrival))
        left.extend(task for task in tasks if isinstance(task, Ticket))
        self._watch.abandoned(left, reason)
        self._courier.close()
        if self._journal is not None:
            self._journal.close()
        self._setup.close()
