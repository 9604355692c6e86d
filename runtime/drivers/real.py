"""The real clock: the same policies, rules and records as under the virtual one, on lanes that run.

    events (arrivals, ends, clients that left) --turn--> outcomes, launches; when to turn next

A turn reads no clock and waits for nothing: whoever owns the thread says what time it is. At one
turn ends count first, then arrivals, then deadlines, then wake-ups; then the policy is asked once.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fusec.ir.errors import ConfigError, VerifyError
from fusec.runtime.drivers.book import Book, News
from fusec.runtime.drivers.busy import Busy, LaneState, lane_to_stop
from fusec.runtime.drivers.rules import check_groups, check_launch, need_bytes
from fusec.runtime.drivers.run import Span
from fusec.runtime.drivers.work import Arrival, Ended, Event, LanePort, Left, Task, Watch
from fusec.runtime.sched.corrected import Errors
from fusec.runtime.sched.decider import Decider
from fusec.runtime.sched.due import wanted_ns
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.ran import Ran
from fusec.runtime.sched.records import Launch, Pack, Preempt, Reject, Request, Result, WakeAt
from fusec.runtime.sched.view import Change, NewCost, Stopped

__all__ = ["RealDriver"]


class RealDriver:
    """Owns the queue and the lanes. One thread turns it; `nudge` and `full` are for all."""

    def __init__(
        self,
        policy: Policy[Any],
        profile: Profile,
        lanes: Sequence[LanePort],
        watch: Watch,
        *,
        queue_limit: int,
        memory_bytes: int | None = None,
        retreats: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Make a driver.

        Args:
            policy: who runs next.
            profile: costs at the start.
            lanes: what runs.
            watch: is told.
            queue_limit: calls that may wait; while so many do, one more is refused at once.
            memory_bytes: what all that has started may hold together.
            retreats: whether a template can be stopped in the middle of a block.

        Raises:
            ConfigError: a number makes no sense.
        """
        if not lanes:
            raise ConfigError("there are no lanes; wanted one or more")
        self._policy, self._watch, self._retreats = policy, watch, retreats
        self._decider = Decider(policy, profile)
        self._lanes = [LaneState(port) for port in lanes]
        self._book = Book(queue_limit, memory_bytes)
        self._wakes: list[int] = []
        self._news = News()
        """What the policy has yet to hear. That something ended can wait until somebody waits."""
        self._costs: dict[str, NewCost] = {}
        """That the next decision brings into the profile."""

    @property
    def book(self) -> Book:
        """The accounts, to read."""
        return self._book

    @property
    def running(self) -> int:
        """How many lanes run something."""
        return sum(lane.busy is not None for lane in self._lanes)

    @property
    def lanes(self) -> int:
        """How many there are."""
        return len(self._lanes)

    @property
    def busy(self) -> list[tuple[int, Busy]]:
        """What runs on which lane, to look at."""
        return [(i, busy) for i, lane in enumerate(self._lanes) if (busy := lane.busy) is not None]

    @property
    def profile(self) -> Profile:
        """The costs as they are known by now."""
        return self._decider.profile

    @property
    def errors(self) -> Errors | None:
        """How far predictions were off; None before the first launch."""
        return self._decider.correction.errors

    def nudge(self, request: Request, now_ns: int) -> bool:
        """Stop what runs, at once and in the caller's thread, if a request would be late behind it.

        Args:
            request: a new one, on its way here.
            now_ns: the time.

        Returns:
            Whether something was told to stop.
        """
        profile = self._decider.correction.profile(company=len(self._lanes) > 1)
        cost = profile.templates.get(request.template)
        if not self._policy.preempts or cost is None or not self.running:
            return False
        takes, due = cost.left_ns(0, request.rows), wanted_ns(request, profile)
        busy = [lane.busy for lane in self._lanes]
        port = lane_to_stop(busy, takes, due, request.deadline_ns, now_ns)
        if port is not None:
            port.stop(within_block=True)
        return port is not None

    def turn(self, now_ns: int, events: Iterable[Event]) -> int | None:
        """Take what happened, ask the policy, do what it says. Then `settle`.

        Args:
            now_ns: the time; never earlier than that of the turn before.
            events: since the last turn.

        Returns:
            When to turn again if nothing happens before; None: whenever something does.

        Raises:
            VerifyError: the policy broke a rule.
        """
        news, given = self._news, list(events)
        for end in (e for e in given if isinstance(e, Ended)):
            self._end(now_ns, end, news)
        for arrival in (e for e in given if isinstance(e, Arrival)):
            self._arrive(now_ns, arrival, news)
        for left in (e for e in given if isinstance(e, Left)):
            task = self._book.tasks.get(left.request)
            if task is not None and task.cancelled:
                self._drop(now_ns, left.request, news, Result.CANCELLED, "")
        for number in self._book.expired(now_ns):
            reason = "its deadline passed while it waited"
            self._drop(now_ns, number, news, Result.EXPIRED, reason)
        while self._wakes and self._wakes[0] <= now_ns:
            heapq.heappop(self._wakes)
            news.ask = True
        if news.ask or news.arrived or (news.finished and self._book.queued):
            self._news, costs, self._costs = News(), self._costs, {}
            self._decide(now_ns, news.change(costs.values()))
        times = [*self._wakes[:1], self._book.next_deadline_ns]
        return min((at for at in times if at is not None), default=None)

    @property
    def unsettled(self) -> int:
        """How many calls have ended whose watcher does not know it yet."""
        return self._book.unsettled

    def settle(self) -> None:
        """Tell the watcher who ended. To be done soon after each turn."""
        while (ended := self._book.next_ended()) is not None:
            self._watch.ended(*ended)

    def abandon(self) -> list[Task]:
        """Give all that has not ended, and what ended without the watcher knowing. To be the last.

        The lanes have to be idle.
        """
        left = list(self._book.tasks.values())
        while (ended := self._book.next_ended()) is not None:
            left.append(ended[1])
        return left

    def _arrive(self, now: int, arrival: Arrival, news: News) -> None:
        request = arrival.request
        for new in arrival.costs:
            if new.template not in self.profile.templates:
                self._costs.setdefault(new.template, new)
        known = self._costs.get(request.template)
        cost = self.profile[request.template] if known is None else known.cost
        need = cost.needs_bytes(request.rows)
        result, reason = self._book.enter(now, arrival, need)
        if result is None:
            news.arrived[request.id] = arrival
        else:
            self._book.finish(now, request, result, reason, self.profile)

    def _drop(self, now: int, number: int, news: News, result: Result, reason: str) -> None:
        """End what waits; stop what runs if nothing of it is wanted any more."""
        entry = self._decider.waiting(number)
        if number in news.arrived or entry is not None:
            self._book.leave(number)
            if entry is not None:
                request = entry.request
                news.gone.append(entry)
                news.ask = True
            else:
                request = news.arrived.pop(number).request
            self._book.finish(now, request, result, reason, self.profile)
            return
        for lane in self._lanes:
            busy = lane.busy
            if busy is None or busy.stopping:
                continue
            numbers = [n for part in busy.launch.pack.parts for n in part.requests]
            if number in numbers and all(self._is_over(n, now) for n in numbers):
                busy.stop()

    def _is_over(self, number: int, now: int) -> bool:
        deadline = self._decider.running(number).request.deadline_ns
        return self._book.tasks[number].cancelled or (deadline is not None and deadline <= now)

    def _end(self, now: int, end: Ended, news: News) -> None:
        lane = self._lanes[end.lane]
        busy, lane.busy = lane.busy, None
        if busy is None:
            raise VerifyError(f"{end}, but the lane was free")
        if end.at_ns is not None:
            now = max(busy.start_ns + 1, min(now, end.at_ns))
        self._tell(now, busy, end, news)
        for pack, part in zip(busy.launch.pack.parts, busy.entries, strict=True):
            place = pack.next_block + end.blocks
            cost = self.profile[pack.template]
            ended = place == cost.n_blocks
            stay: list[int] = []
            for request in (entry.request for entry in part):
                result, reason = self._book.result(request, now, ended=ended, failed=end.over)
                if result is None:
                    stay.append(request.id)
                    self._book.wait(request.id)
                else:
                    self._book.finish(now, request, result, reason, self.profile)
                    news.finished.append(request.id)
            if stay:
                done_ns = 0
                if end.half_done:
                    before = part[0].done_ns if end.blocks == 0 else 0
                    rows = sum(e.request.rows for e in part)
                    most = cost.span_ns(place, place + 1, rows) - 1
                    done_ns = max(1, min(before + end.took_ns[-1], most))
                news.ask = True
                news.stopped.append(Stopped(Pack(pack.template, tuple(stay), place), done_ns))

    def _tell(self, now: int, busy: Busy, end: Ended, news: News) -> None:
        """Say who ran, and what it took if that was whole blocks."""
        pack, took = busy.launch.pack, now - busy.start_ns
        whole = end.blocks and not (
            end.half_done or end.over or end.first or busy.entries[0][0].done_ns
        )
        if whole and took > 0:
            rows = [sum(e.request.rows for e in part) for part in busy.entries]
            company = any(other.busy is not None for other in self._lanes)
            resumed = busy.overhead_ns > 0
            news.ran.append(Ran.of(pack, end.blocks, rows, took, company=company, resumed=resumed))
        span = Span(
            lane=end.lane,
            start_ns=busy.start_ns,
            end_ns=now,
            pack=pack,
            blocks=end.blocks,
            overhead_ns=busy.overhead_ns,
            preempted=end.blocks < busy.work.blocks and not end.over,
        )
        requests = [entry.request for part in busy.entries for entry in part]
        calls = sum(task.size for tasks, _ in busy.work.parts for task in tasks)
        room = sum(self.profile[p.template].max_batch for p in pack.parts)
        self._watch.ran(span, requests, calls, room)

    def _decide(self, now: int, change: Change) -> None:
        lanes = [lane.shown(i, now) for i, lane in enumerate(self._lanes)]
        decision = self._decider.decide(now, change, lanes, self._book.free_bytes)
        self._watch.decided(decision)
        for action in decision.actions:
            if isinstance(action, Launch):
                self._launch(now, action)
            elif isinstance(action, Reject):
                request = self._decider.rejected(action.request).request
                self._book.leave(request.id)
                self._book.finish(now, request, Result.REJECTED, action.reason, self.profile)
            elif isinstance(action, Preempt):
                self._preempt(action.lane)
            else:
                self._wake(now, action)

    def _launch(self, now: int, launch: Launch) -> None:
        if not 0 <= launch.lane < len(self._lanes):
            raise VerifyError(f"{launch}: there is no such lane")
        lane, parts, profile = self._lanes[launch.lane], launch.pack.parts, self.profile
        entries = tuple(tuple(map(self._decider.running, p.requests)) for p in parts)
        check_launch(
            launch,
            entries,
            profile,
            now_ns=now,
            busy=lane.busy is not None,
            free_bytes=self._book.free_bytes,
        )
        check_groups(launch, entries, self._decider.waiting)
        numbers = frozenset(e.request.id for part in entries for e in part)
        self._book.start(now, numbers, need_bytes(launch.pack, entries, profile))
        overhead = 0
        if any(e.stops for part in entries for e in part) and not numbers <= lane.last:
            overhead = max(profile[p.template].cut_ns for p in parts)
        lane.last = numbers
        lane.busy = Busy(
            lane.port,
            launch,
            entries,
            profile,
            now_ns=now,
            overhead_ns=overhead,
            tasks=self._book.tasks,
            can_retreat=self._retreats(launch.pack.template),
        )
        lane.port.start(lane.busy.work)

    def _preempt(self, number: int) -> None:
        busy = self._lanes[number].busy if 0 <= number < len(self._lanes) else None
        if busy is None:
            raise VerifyError(
                f"policy {self._policy.name!r} preempts lane {number}: nothing runs there"
            )
        busy.stop()

    def _wake(self, now: int, action: WakeAt) -> None:
        if action.at_ns <= now:
            raise VerifyError(
                f"policy {self._policy.name!r} wants to wake at {action}, now is {now}"
            )
        heapq.heappush(self._wakes, action.at_ns)
