"""What follows from what a driver does: futures resolved, figures counted, decisions written."""

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from time import monotonic, perf_counter_ns
from typing import Any

from fusec.ir.errors import Rejected
from fusec.runtime.cache import Uses
from fusec.runtime.drivers.real import RealDriver
from fusec.runtime.drivers.run import Span
from fusec.runtime.drivers.work import Task
from fusec.runtime.sched.decider import Decision
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.records import Action, Outcome, Request, Result
from fusec.runtime.sched.view import View
from fusec.runtime.serving.items import Ticket
from fusec.runtime.serving.journal import Journal
from fusec.runtime.serving.recording import Recording
from fusec.runtime.serving.stats import Counts, Stats

__all__ = ["Watcher"]

STUCK_S = 30.0
"""When nothing ran or ended for so long, a policy is taken to let requests wait for ever."""
_REFUSED = (Result.REJECTED, Result.EXPIRED, Result.FULL)
_NUMBERS = re.compile(r"\d[\d.]*")


class Watcher:
    """Is told by the driver, on its thread; `submitted`, `refused` and the rest are for all."""

    def __init__(self, journal: Journal | None) -> None:
        """Begin with nothing in flight.

        Args:
            journal: takes the decisions.
        """
        self._journal = journal
        self._counts = Counts()
        self._submitted = self._in_flight = 0
        self._change = threading.Condition()
        self._recordings: tuple[Recording, ...] = ()

    def timed(self, policy: Policy[Any]) -> Policy[Any]:
        """Give a policy that counts how long it takes."""
        counts = self._counts

        def decide(view: View, state: Any) -> tuple[tuple[Action, ...], Any]:
            begin = perf_counter_ns()
            made = policy.decide(view, state)
            counts.decided_ns += perf_counter_ns() - begin
            counts.decisions += 1
            return made

        return Policy(policy.name, policy.start, decide, policy.preempts)

    def submitted(self, calls: int) -> None:
        """Count calls that are on their way."""
        with self._change:
            self._submitted += calls
            self._in_flight += calls

    def refused(self, calls: int, result: str, reason: str, deadline_ns: int | None) -> None:
        """Count calls that were refused before they got anywhere."""
        with self._change:
            self._submitted += calls
            self._counts.outcomes[result] += calls
            self._counts.reasons[reason] += calls
            self._counts.promised += 0 if deadline_ns is None else calls

    def decided(self, decision: Decision) -> None:
        """Write a decision down."""
        if self._journal is not None:
            self._journal.add(decision)

    def ran(self, span: Span, requests: Sequence[Request], calls: int, room: int) -> None:
        """Count a launch that left its lane."""
        with self._change:
            self._counts.ran(span, requests, calls, room)
        for recording in self._recordings:
            recording.add(span, requests, calls)

    def record(self, driver: RealDriver, limit: int) -> Recording:
        """Have launches written down until the recording is closed."""

        def closed(recording: Recording) -> None:
            with self._change:
                self._recordings = tuple(r for r in self._recordings if r is not recording)

        recording = Recording(driver, limit, closed)
        with self._change:
            self._recordings += (recording,)
        return recording

    def ended(self, outcome: Outcome, task: Task) -> None:
        """Resolve the futures of a ticket."""
        assert isinstance(task, Ticket)
        if outcome.result in _REFUSED:
            task.fail(Rejected(outcome.reason, str(outcome.result)))
        task.leave()
        task.counted = True
        refused = outcome.result in _REFUSED
        results = task.settle()
        if refused:
            results[outcome.result] += results.pop(Result.FAILED, 0)
        with self._change:
            self._counts.ended(outcome, results, _NUMBERS.sub("N", outcome.reason))
            self._less(task.size)

    def abandoned(self, tickets: Iterable[Ticket], error: BaseException) -> None:
        """End tickets that nobody serves any more; those that have ended are left alone."""
        for ticket in tickets:
            if ticket.counted:
                continue
            ticket.counted = True
            for item in ticket.items:
                if item.value is None and item.error is None:
                    item.error = error
            results = ticket.settle()
            with self._change:
                self._counts.outcomes.update({str(r): n for r, n in results.items()})
                self._counts.reasons[_NUMBERS.sub("N", str(error))] += ticket.size
                self._less(ticket.size)

    def wait_idle(self, timeout: float | None) -> bool:
        """Wait until nothing is in flight."""
        with self._change:
            return self._change.wait_for(lambda: self._in_flight == 0, timeout)

    def wait_end(self, timeout: float | None, running: Callable[[], int]) -> None:
        """Wait until nothing is in flight, or for so long, or until a policy lets all wait.

        Args:
            timeout: in seconds; None: as long as something runs or ends every `STUCK_S`.
            running: lanes that run something.
        """
        end = None if timeout is None else monotonic() + timeout
        while True:
            before = self._counts.launches, self._in_flight
            left = STUCK_S if end is None else min(STUCK_S, max(0.0, end - monotonic()))
            if self.wait_idle(left) or left < STUCK_S:
                return
            if not running() and before == (self._counts.launches, self._in_flight):
                return

    def stats(self, driver: RealDriver, caches: dict[str, Uses]) -> Stats:
        """Give all figures."""
        with self._change:
            counts = self._counts
            over = sum(counts.outcomes.values()) - counts.outcomes[str(Result.CANCELLED)]
            errors = driver.errors
            return Stats(
                submitted=self._submitted,
                in_flight=self._in_flight,
                queued=driver.book.queued,
                running_lanes=driver.running,
                lanes=driver.lanes,
                outcomes=dict(counts.outcomes),
                reasons=dict(counts.reasons),
                promised=counts.promised,
                kept=counts.kept,
                attainment=counts.met / over if over else None,
                slack=counts.slack.read(),
                launches=counts.launches,
                packs=counts.packs,
                packed=counts.calls,
                instances=counts.instances,
                room=counts.room,
                mean_batch=counts.calls / max(1, counts.packs),
                batch_fill=counts.instances / max(1, counts.room),
                mean_pack=counts.packs / max(1, counts.launches),
                preemptions=counts.preemptions,
                tenant_ns=dict(counts.tenant_ns),
                busy_ns=counts.busy_ns,
                prediction_error=None if errors is None else errors.p50,
                decisions=counts.decisions,
                decision_ns=counts.decided_ns // max(1, counts.decisions),
                caches=caches,
                free_bytes=driver.book.free_bytes,
                journal_problem=self._journal.problem if self._journal else "",
            )

    def _less(self, calls: int) -> None:
        self._in_flight -= calls
        if not self._in_flight:
            self._change.notify_all()
