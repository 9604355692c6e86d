"""A run in figures: attainment, goodput and latency per model and tenant, and what lanes did."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from fusec.runtime.drivers.run import Run, Span
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Outcome, Result

__all__ = ["Group", "Summary", "quantile", "summarise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Figures of some requests. Latencies are of those that were answered."""

    name: str
    requests: int
    answered: int
    refused: int
    expired: int
    attainment: float
    """Share of all that was answered in time."""
    goodput_per_s: float
    p50_ns: int | None
    p99_ns: int | None
    p999_ns: int | None
    mean_ns: int | None
    mean_ratio: float | None
    """Latency over solo time."""
    max_ratio: float | None
    over_4: float | None
    """Share of the answered with a ratio above 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All figures of a run."""

    policy: str
    lanes: int
    total: Group
    models: tuple[Group, ...]
    tenants: tuple[Group, ...]
    utilisation: float
    """Share of lane time in which something ran."""
    overhead: float
    """Share of running time that going on after interruptions took."""
    preemptions: int
    """Stays that ended before the end of a model because something else ran next on the lane."""
    retreats: int
    """Of these, in the middle of a block."""
    launches: int
    decisions: int
    mean_batch: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Give the figures as JSON data."""
        return asdict(self)


def quantile(values: list[int], share: float) -> int:
    """Give the smallest value that a share of sorted values does not exceed."""
    return values[max(0, -(-len(values) * round(share * 10_000) // 10_000) - 1)]


def summarise(run: Run, profile: Profile) -> Summary:
    """Work out the figures of a run."""
    end = max((o.at_ns for o in run.outcomes), default=0)
    begin = min((o.request.arrival_ns for o in run.outcomes), default=0)
    took = max(1, end - begin)
    busy = sum(s.end_ns - s.start_ns for s in run.spans)

    def groups(key: Any) -> tuple[Group, ...]:
        named: dict[str, list[Outcome]] = {}
        for outcome in run.outcomes:
            named.setdefault(key(outcome), []).append(outcome)
        return tuple(_group(n, found, profile, took) for n, found in sorted(named.items()))

    parts = [p for s in run.spans for p in s.pack.parts]
    return Summary(
        policy=run.policy,
        lanes=run.lanes,
        total=_group("all", run.outcomes, profile, took),
        models=groups(lambda o: o.request.model),
        tenants=groups(lambda o: o.request.tenant),
        utilisation=busy / (took * run.lanes),
        overhead=sum(s.overhead_ns for s in run.spans) / max(1, busy),
        preemptions=_interrupted(run.spans, profile),
        retreats=sum(s.preempted for s in run.spans),
        launches=len(run.spans),
        decisions=len(run.decisions),
        mean_batch=sum(len(p.requests) for p in parts) / max(1, len(parts)),
        seconds=took / 1e9,
    )


def _interrupted(spans: Iterable[Span], profile: Profile) -> int:
    last: dict[int, Span] = {}
    n = 0
    for span in spans:
        before = last.get(span.lane)
        if before is not None:
            now = {r for p in span.pack.parts for r in p.requests}
            n += sum(
                p.next_block + before.blocks < profile[p.template].n_blocks
                and not set(p.requests) & now
                for p in before.pack.parts
            )
        last[span.lane] = span
    return n


def _group(name: str, outcomes: Iterable[Outcome], profile: Profile, took_ns: int) -> Group:
    found = tuple(outcomes)
    done = [o for o in found if o.result is Result.DONE]
    times = sorted(o.at_ns - o.request.arrival_ns for o in done)
    ratios = [(o.at_ns - o.request.arrival_ns) / profile[o.request.template].solo_ns for o in done]
    met = sum(o.met for o in found)
    return Group(
        name=name,
        requests=len(found),
        answered=len(done),
        refused=sum(o.result in (Result.REJECTED, Result.FULL) for o in found),
        expired=sum(o.result is Result.EXPIRED for o in found),
        attainment=met / max(1, len(found)),
        goodput_per_s=met * 1e9 / took_ns,
        p50_ns=quantile(times, 0.5) if times else None,
        p99_ns=quantile(times, 0.99) if times else None,
        p999_ns=quantile(times, 0.999) if times else None,
        mean_ns=sum(times) // len(times) if times else None,
        mean_ratio=sum(ratios) / len(ratios) if ratios else None,
        max_ratio=max(ratios, default=None),
        over_4=sum(r > 4 for r in ratios) / len(ratios) if ratios else None,
    )
