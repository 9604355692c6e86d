"""Lanes whose blocks take made-up times, and a real driver on them under made-up time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from fusec_testing.sched import MS

from fusec.runtime.drivers.real import RealDriver
from fusec.runtime.drivers.run import Run, Span
from fusec.runtime.drivers.work import Arrival, Ended, Event, Left, Task, Work
from fusec.runtime.policies.table import find_policy
from fusec.runtime.sched.decider import Decision
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Outcome, Request

__all__ = ["Job", "World"]

NEVER = 1 << 60


class Job:
    """What a request stands for."""

    def __init__(self, *, size: int = 1) -> None:
        self.size = size
        self.cancelled = self.failed = False


class Lane:
    """A lane whose blocks take made-up times."""

    def __init__(self, index: int, chance: random.Random, retreat_ns: int | None) -> None:
        self.index, self.retreat_ns = index, retreat_ns
        self._chance = chance
        self.clock = 0
        self.place = 0
        self.work: Work | None = None
        self._ends: list[int] = []
        self._stop: int | None = None

    def start(self, work: Work) -> None:
        """Begin."""
        assert self.work is None, "a lane runs one thing at a time"
        self.work, self.place, self._stop = work, 0, None
        at, self._ends = self.clock, []
        for _ in range(work.blocks):
            at += self._chance.choice([1, MS // 3, MS, 3 * MS, 7 * MS])
            self._ends.append(at)

    def stop(self, *, within_block: bool) -> None:
        """Leave soon."""
        end = next((e for e in self._ends if e > self.clock), self._ends[-1])
        if within_block and self.retreat_ns is not None:
            end = min(end, self.clock + 1 + self._chance.randrange(self.retreat_ns))
        self._stop = end if self._stop is None else min(self._stop, end)

    @property
    def at_ns(self) -> int:
        """When something happens on it."""
        if self.work is None:
            return NEVER
        return self._ends[-1] if self._stop is None else self._stop

    def ended(self, *, failed: bool) -> Ended:
        """Say how far it got."""
        work, end = self.work, self.at_ns
        assert work is not None
        blocks = sum(e <= end for e in self._ends)
        self.work = None
        if failed:
            for tasks, _ in work.parts:
                for task in tasks:
                    assert isinstance(task, Job)
                    task.failed = True
        half = blocks < work.blocks and self._chance.random() < 0.8 and end not in self._ends
        return Ended(
            lane=self.index, blocks=blocks, took_ns=(MS,) * work.blocks, half_done=half, over=failed
        )

    def pass_to(self, now: int) -> None:
        """Let time pass."""
        self.clock = now
        self.place = sum(e <= now for e in self._ends)


class Notes:
    """Keeps all that a driver says."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.spans: list[Span] = []
        self.outcomes: list[Outcome] = []
        self.calls = 0

    def decided(self, decision: Decision) -> None:
        """Note a decision."""
        self.decisions.append(decision)

    def ran(self, span: Span, requests: Sequence[Request], calls: int, room: int) -> None:
        """Note a stay on a lane."""
        assert calls >= len(requests) and room >= 1
        self.spans.append(span)

    def ended(self, outcome: Outcome, task: Task) -> None:
        """Note the end of a request."""
        self.outcomes.append(outcome)


class World:
    """A driver, its lanes and its time."""

    def __init__(
        self,
        policy: Policy[Any] | str,
        profile: Profile,
        *,
        seed: int = 0,
        lanes: int = 1,
        queue_limit: int = 1000,
        retreat_ns: int | None = None,
        memory_bytes: int | None = None,
        failures: float = 0.0,
    ) -> None:
        self.chance = random.Random(seed)
        self.policy = find_policy(policy) if isinstance(policy, str) else policy
        self.profile = profile
        self.lanes = [Lane(i, self.chance, retreat_ns) for i in range(lanes)]
        self.notes = Notes()
        self.jobs: dict[int, Job] = {}
        self.failures = failures
        self.driver = RealDriver(
            self.policy,
            profile,
            self.lanes,
            self.notes,
            queue_limit=queue_limit,
            memory_bytes=memory_bytes,
        )
        self.now = 0
        self.wake: int | None = None

    def turn(self, *events: Event) -> None:
        """Turn the driver at the present time."""
        self.wake = self.driver.turn(self.now, events)
        self.driver.settle()
        assert self.driver.unsettled == 0
        assert self.wake is None or self.wake > self.now

    def run(self, requests: Sequence[Request], cancels: Sequence[tuple[int, int]] = ()) -> Run:
        """Serve requests; give up some of them at certain times."""
        todo: list[tuple[int, Request | int]] = [
            *((r.arrival_ns, r) for r in requests),
            *cancels,
        ]
        todo.sort(key=lambda pair: pair[0])
        while True:
            times = [*(lane.at_ns for lane in self.lanes), *(at for at, _ in todo[:1])]
            at = min([*times, NEVER if self.wake is None else self.wake])
            if at >= NEVER:
                break
            self.now = max(self.now, at)
            events: list[Event] = []
            for lane in self.lanes:
                lane.pass_to(self.now)
                if lane.at_ns <= self.now:
                    events.append(lane.ended(failed=self.chance.random() < self.failures))
            while todo and todo[0][0] <= self.now:
                _, what = todo.pop(0)
                events.append(self._came(what) if isinstance(what, Request) else self._gone(what))
            self.turn(*events)
        return Run(
            policy=self.policy.name,
            lanes=len(self.lanes),
            outcomes=tuple(self.notes.outcomes),
            spans=tuple(self.notes.spans),
            decisions=tuple(self.notes.decisions),
        )

    def _came(self, request: Request) -> Event:
        self.jobs[request.id] = Job(size=self.chance.choice([1, 1, 3]))
        self.driver.nudge(request, self.now)
        return Arrival(request, self.jobs[request.id])

    def _gone(self, number: int) -> Event:
        if number in self.jobs:
            self.jobs[number].cancelled = True
        return Left(number)
