"""The virtual clock: a policy under made-up time, as fast as Python goes.

Events come in order of (time, phase, sequence): at one instant runs end first, then requests come,
then deadlines pass, then wake-ups ring. When all events of an instant are done, the policy is asked
once. Nothing here reads a clock, and nothing is random: the same requests give the same log.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Any, TypeAlias

from fusec.ir.errors import ConfigError, VerifyError
from fusec.runtime.drivers.lanes import Running
from fusec.runtime.drivers.rules import check_groups, check_launch, need_bytes
from fusec.runtime.drivers.run import Run, Span
from fusec.runtime.sched.decider import Decider, Decision
from fusec.runtime.sched.due import due_ns
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.ran import Ran
from fusec.runtime.sched.records import (
    Launch,
    Outcome,
    Pack,
    Preempt,
    Reject,
    Request,
    Result,
    WakeAt,
)
from fusec.runtime.sched.view import Change, Lane, Stopped, Waiting

__all__ = ["Follow", "Service", "VirtualDriver"]

Service: TypeAlias = Callable[[str, int, int], int]
"""Template, block, instances -> the time that the block really takes."""
Follow: TypeAlias = Callable[[Outcome], Request | None]
"""A closed loop: what the one that got this answer asks next."""


class _Phase(IntEnum):
    END = 0
    ARRIVAL = 1
    EXPIRY = 2
    WAKE = 3


class VirtualDriver:
    """Runs a policy over requests. Each instance is for one run."""

    def __init__(
        self,
        policy: Policy[Any],
        profile: Profile,
        *,
        lanes: int = 1,
        queue_limit: int = 100_000,
        retreat_ns: int | None = None,
        memory_bytes: int | None = None,
        service: Service | None = None,
        correct: bool = False,
    ) -> None:
        """Make a driver.

        Args:
            policy: who runs next.
            profile: costs, as the policy sees them.
            lanes: how many launches run at once, without slowing each other down.
            queue_limit: requests that may wait; one more is refused at once.
            retreat_ns: a run can be stopped after any multiple of this within a block; None: only
                where a block ends.
            memory_bytes: what all requests that have started may hold together.
            service: what blocks really take; the profile if None.
            correct: tell what launches took, so that predictions are corrected.

        Raises:
            ConfigError: a number makes no sense.
        """
        if lanes < 1 or queue_limit < 1 or (retreat_ns is not None and retreat_ns < 1):
            raise ConfigError(
                f"{lanes} lanes, queue of {queue_limit}, retreat {retreat_ns}: wanted 1 or more"
            )
        self._policy = policy
        self._profile = profile
        self._queue_limit = queue_limit
        self._retreat_ns = retreat_ns
        self._memory_bytes = memory_bytes
        self._free_bytes = memory_bytes
        self._correct = correct
        self._service = service or (lambda t, b, n: profile[t].span_ns(b, b + 1, n))
        self._decider = Decider(policy, profile)
        self._lanes: list[Running | None] = [None] * lanes
        self._last: list[frozenset[int]] = [frozenset()] * lanes
        self._events: list[tuple[int, _Phase, int, Any]] = []
        self._sequence = 0
        self._starts: dict[int, int] = {}
        self._seen: set[int] = set()
        self._outcomes: list[Outcome] = []
        self._spans: list[Span] = []
        self._decisions: list[Decision] = []
        self._follow: Follow | None = None

    def run(self, requests: Iterable[Request], follow: Follow | None = None) -> Run:
        """Serve requests until none is left.

        Raises:
            ConfigError: two requests with one number, or of an unknown template.
            VerifyError: the policy broke a rule, or let requests wait for ever.
        """
        self._follow = follow
        for request in requests:
            self._push(request.arrival_ns, _Phase.ARRIVAL, request)
        while self._events:
            self._instant()
        if self._decider.n_waiting:
            raise VerifyError(
                f"policy {self._policy.name!r} lets {self._decider.n_waiting} requests wait with "
                "nothing running and no wake-up"
            )
        return Run(
            policy=self._policy.name,
            lanes=len(self._lanes),
            outcomes=tuple(self._outcomes),
            spans=tuple(self._spans),
            decisions=tuple(self._decisions),
        )

    def _push(self, at_ns: int, phase: _Phase, what: Any) -> None:
        heapq.heappush(self._events, (at_ns, phase, self._sequence, what))
        self._sequence += 1

    def _instant(self) -> None:
        """Handle everything that happens at the next time, then ask the policy."""
        now = self._events[0][0]
        arrived: dict[int, Request] = {}
        stopped: list[Stopped] = []
        gone: list[Waiting] = []
        finished: list[int] = []
        ran: list[Ran] = []
        ask = False
        while self._events and self._events[0][0] == now:
            _, phase, _, what = heapq.heappop(self._events)
            if phase is _Phase.END:
                ask |= self._end(now, what, stopped, finished, ran)
            elif phase is _Phase.ARRIVAL:
                ask |= self._arrive(now, what, arrived)
            elif phase is _Phase.EXPIRY:
                ask |= self._expire(now, what, gone)
            else:
                ask = True
        if ask:
            self._decide(
                now,
                Change(
                    tuple(arrived.values()),
                    tuple(stopped),
                    tuple(gone),
                    tuple(finished),
                    ran=tuple(ran),
                ),
            )

    def _arrive(self, now: int, request: Request, arrived: dict[int, Request]) -> bool:
        if request.id in self._seen:
            raise ConfigError(f"two requests have the number {request.id}")
        if request.template not in self._profile.templates:
            raise ConfigError(f"request {request.id}: unknown template {request.template!r}")
        self._seen.add(request.id)
        if request.deadline_ns is not None and request.deadline_ns <= now:
            self._finish(now, request, Result.EXPIRED, "came after its deadline")
        elif self._memory_bytes is not None and (need := self._bytes(request)) > self._memory_bytes:
            reason = f"needs {need} bytes, there are {self._memory_bytes}"
            self._finish(now, request, Result.FULL, reason)
        elif self._decider.n_waiting + len(arrived) >= self._queue_limit:
            self._finish(now, request, Result.FULL, f"{self._queue_limit} requests wait already")
        else:
            arrived[request.id] = request
            if request.deadline_ns is not None:
                self._push(request.deadline_ns, _Phase.EXPIRY, request.id)
            return True
        return False

    def _expire(self, now: int, number: int, gone: list[Waiting]) -> bool:
        entry = self._decider.waiting(number)
        if entry is None:  # it runs, or has ended
            return False
        self._finish(now, entry.request, Result.EXPIRED, "its deadline passed while it waited")
        gone.append(entry)
        return True

    def _end(
        self,
        now: int,
        what: tuple[int, int],
        stopped: list[Stopped],
        finished: list[int],
        ran: list[Ran],
    ) -> bool:
        lane, version = what
        running = self._lanes[lane]
        if running is None or running.version != version or running.stop_ns != now:
            return False
        done, done_ns = running.left_at()
        launch = running.launch
        if self._correct and done and not done_ns and not running.before_ns:
            ran.append(self._ran(now, running, done))
        self._lanes[lane] = None
        for pack in launch.pack.parts:
            place = pack.next_block + done
            ended = place == self._profile[pack.template].n_blocks
            stay: list[int] = []
            for number in pack.requests:
                request = self._decider.running(number).request
                expired = request.deadline_ns is not None and request.deadline_ns <= now
                if ended or expired:
                    result = Result.DONE if ended else Result.EXPIRED
                    reason = "" if ended else "its deadline passed while it ran"
                    self._finish(now, request, result, reason)
                    finished.append(number)
                else:
                    stay.append(number)
            if stay:
                stopped.append(Stopped(Pack(pack.template, tuple(stay), place), done_ns))
        early = done < launch.until_block - launch.pack.next_block
        self._spans.append(
            Span(
                lane=lane,
                start_ns=running.start_ns,
                end_ns=now,
                pack=launch.pack,
                blocks=done,
                overhead_ns=running.overhead_ns,
                preempted=early,
            )
        )
        return True

    def _ran(self, now: int, running: Running, done: int) -> Ran:
        pack = running.launch.pack
        rows = [
            sum(self._decider.running(n).request.rows for n in part.requests) for part in pack.parts
        ]
        company = any(other is not None and other is not running for other in self._lanes)
        took = now - running.start_ns
        resumed = running.overhead_ns > 0
        return Ran.of(pack, done, rows, took, company=company, resumed=resumed)

    def _finish(self, now: int, request: Request, result: Result, reason: str) -> None:
        due = due_ns(request, self._profile)
        outcome = Outcome(
            request=request,
            result=result,
            at_ns=now,
            due_ns=due,
            start_ns=self._starts.pop(request.id, None),
            reason=reason,
        )
        if outcome.start_ns is not None and self._free_bytes is not None:
            self._free_bytes += self._bytes(request)
        self._outcomes.append(outcome)
        following = self._follow(outcome) if self._follow else None
        if following is not None:
            self._push(max(now, following.arrival_ns), _Phase.ARRIVAL, following)

    def _bytes(self, request: Request) -> int:
        return self._profile[request.template].needs_bytes(request.rows)

    def _shown(self, now: int) -> Sequence[Lane]:
        free = self._retreat_ns
        return [
            running.shown(i, now, free) if running else Lane(i, retreat_ns=free)
            for i, running in enumerate(self._lanes)
        ]

    def _decide(self, now: int, change: Change) -> None:
        decision = self._decider.decide(now, change, self._shown(now), self._free_bytes)
        self._decisions.append(decision)
        for action in decision.actions:
            if isinstance(action, Launch):
                self._launch(now, action)
            elif isinstance(action, Reject):
                request = self._decider.rejected(action.request).request
                self._finish(now, request, Result.REJECTED, action.reason)
            elif isinstance(action, Preempt):
                self._preempt(now, action.lane)
            else:
                self._wake(now, action)

    def _launch(self, now: int, launch: Launch) -> None:
        parts = launch.pack.parts
        entries = tuple(tuple(map(self._decider.running, p.requests)) for p in parts)
        if not 0 <= launch.lane < len(self._lanes):
            raise VerifyError(f"{launch}: there is no such lane")
        check_launch(
            launch,
            entries,
            self._profile,
            now_ns=now,
            busy=self._lanes[launch.lane] is not None,
            free_bytes=self._free_bytes,
        )
        check_groups(launch, entries, self._decider.waiting)
        if self._free_bytes is not None:
            self._free_bytes -= need_bytes(launch.pack, entries, self._profile)
        for entry in (e for part in entries for e in part):
            self._starts.setdefault(entry.request.id, now)
        running = self._started(now, launch, entries)
        self._lanes[launch.lane] = running
        self._last[launch.lane] = frozenset(e.request.id for part in entries for e in part)
        self._push(running.stop_ns, _Phase.END, (launch.lane, running.version))

    def _started(
        self, now: int, launch: Launch, entries: tuple[tuple[Waiting, ...], ...]
    ) -> Running:
        """Work out when a launch's blocks end: expected, and really."""
        numbers = {e.request.id for part in entries for e in part}
        resumes = any(e.stops for part in entries for e in part)
        overhead = 0
        if resumes and not numbers <= self._last[launch.lane]:
            overhead = max(self._profile[p.template].cut_ns for p in launch.pack.parts)
        before = max(part[0].done_ns for part in entries)
        expected, real = now + overhead - before, now + overhead - before
        expected_ns, ends_ns = [], []
        for step in range(launch.until_block - launch.pack.next_block):
            costs = [
                self._block(p, part, step)
                for p, part in zip(launch.pack.parts, entries, strict=True)
            ]
            percent = self._profile.together_percent if len(costs) > 1 else 100
            expected += max(1, sum(c[0] for c in costs) * percent // 100)
            real += max(1, sum(c[1] for c in costs) * percent // 100)
            expected_ns.append(max(expected, now + 1))
            ends_ns.append(max(real, now + 1))
        return Running(
            launch=launch,
            start_ns=now,
            ends_ns=tuple(ends_ns),
            expected_ns=tuple(expected_ns),
            before_ns=before,
            overhead_ns=overhead,
            stop_ns=ends_ns[-1],
            due_ns=tuple(due_ns(e.request, self._profile) for part in entries for e in part),
        )

    def _block(self, pack: Pack, part: tuple[Waiting, ...], step: int) -> tuple[int, int]:
        rows = sum(e.request.rows for e in part)
        block = pack.next_block + step
        expected = self._profile[pack.template].span_ns(block, block + 1, rows)
        return expected, max(1, self._service(pack.template, block, rows))

    def _preempt(self, now: int, lane: int) -> None:
        running = self._lanes[lane] if 0 <= lane < len(self._lanes) else None
        if running is None:
            raise VerifyError(
                f"policy {self._policy.name!r} preempts lane {lane}: nothing runs there"
            )
        version = running.version
        running.stop_soon(now, self._retreat_ns)
        if running.version != version:
            self._push(max(now, running.stop_ns), _Phase.END, (lane, running.version))

    def _wake(self, now: int, action: WakeAt) -> None:
        if action.at_ns <= now:
            raise VerifyError(
                f"policy {self._policy.name!r} wants to wake at {action}, now is {now}"
            )
        self._push(action.at_ns, _Phase.WAKE, None)
