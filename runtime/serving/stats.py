"""What a running server counts. One thread writes; whoever reads gets a copy."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fusec.runtime.cache import Uses
from fusec.runtime.drivers.run import Span
from fusec.runtime.sched.records import Outcome, Request, Result
from fusec.runtime.serving.spread import Spread, Spreading

__all__ = ["OTHER", "Counts", "Stats"]

OTHER = "other"
"""Who has the device time of tenants that are not told apart."""
_MOST_TENANTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Figures since the start. Calls, not tickets, where requests are counted."""

    submitted: int
    in_flight: int
    """Neither answered nor ended in another way."""
    queued: int
    running_lanes: int
    lanes: int
    outcomes: dict[str, int]
    """By result: done, rejected, expired, full, cancelled, failed."""
    reasons: dict[str, int]
    """Of those that were not answered."""
    promised: int
    """Calls that ended, cancelled ones apart, and had named a deadline."""
    kept: int
    """Of those, answered before it."""
    attainment: float | None
    """Share of all that ended, cancelled ones apart, that was answered in time."""
    slack: Spread
    """Of calls that ran and had named a deadline: how long before it they began to run."""
    launches: int
    packs: int
    """In launches."""
    packed: int
    """Calls in packs; one that was interrupted is in several."""
    instances: int
    """In packs."""
    room: int
    """Instances that those packs could have had."""
    mean_batch: float
    """Calls in a pack."""
    batch_fill: float
    """Of the instances that a pack may have."""
    mean_pack: float
    """Packs in a launch: more than one where templates ran side by side."""
    preemptions: int
    """Launches that left before their last block."""
    tenant_ns: dict[str, int]
    """Device time of each tenant, of the first thousand; that of others is `OTHER`'s."""
    busy_ns: int
    """Device time of all."""
    prediction_error: float | None
    """Median of |predicted / measured - 1| of the last launches that ran as planned."""
    decisions: int
    decision_ns: int
    """Mean time of one."""
    caches: dict[str, Uses]
    """By name: programs by shape, steps of several programs, bindings to extents, templates' code,
    and libraries of kernels."""
    free_bytes: int | None
    journal_problem: str
    """Why the decision log ended before its time."""

    def to_json(self) -> dict[str, Any]:
        """Give the figures as JSON data."""
        return {**asdict(self), "caches": {n: u._asdict() for n, u in self.caches.items()}}


class Counts:
    """The counters behind `Stats`."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.tenant_ns: Counter[str] = Counter()
        self.slack = Spreading()
        self.promised = self.kept = 0
        self.met = self.launches = self.packs = self.calls = self.preemptions = 0
        self.busy_ns = self.instances = self.room = self.decisions = self.decided_ns = 0

    def ended(self, outcome: Outcome, results: Counter[Result], reason: str) -> None:
        """Count the end of a ticket.

        Args:
            outcome: of it.
            results: of its calls.
            reason: why it was not answered, without figures.
        """
        for result, n in results.items():
            self.outcomes[str(result)] += n
        if reason:
            self.reasons[reason] += results[outcome.result]
        done = results.get(Result.DONE, 0) if outcome.met else 0
        self.met += done
        deadline = outcome.request.deadline_ns
        if deadline is not None:
            calls = sum(results.values())
            self.promised += calls - results.get(Result.CANCELLED, 0)
            self.kept += done
            if outcome.start_ns is not None:
                self.slack.add(deadline - outcome.start_ns, calls)

    def ran(self, span: Span, requests: Sequence[Request], calls: int, room: int) -> None:
        """Count a launch that left its lane.

        Args:
            span: of it.
            requests: who ran.
            calls: of theirs.
            room: instances that its packs could have had.
        """
        took, rows = span.end_ns - span.start_ns, sum(r.rows for r in requests)
        self.launches += 1
        self.packs += len(span.pack.parts)
        self.calls += calls
        self.instances += min(rows, room)
        self.room += room
        self.preemptions += span.preempted
        self.busy_ns += took
        for request in requests:
            tenant = request.tenant
            if tenant not in self.tenant_ns and len(self.tenant_ns) >= _MOST_TENANTS:
                tenant = OTHER
            self.tenant_ns[tenant] += took * request.rows // rows
