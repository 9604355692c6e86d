"""Small profiles, requests and policies for tests of scheduling. Times are milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from fusec.runtime.drivers.run import Run
from fusec.runtime.drivers.virtual import VirtualDriver
from fusec.runtime.policies.table import find_policy
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.profile import Profile, TemplateCost
from fusec.runtime.sched.records import Action, Request
from fusec.runtime.sched.view import View

__all__ = [
    "MS",
    "ask",
    "costs",
    "drive",
    "ended",
    "policy_of",
    "requests_of",
    "surprises",
    "workloads",
]

MS = 1_000_000


def costs(
    templates: Mapping[str, Sequence[float] | Mapping[int, Sequence[float]]],
    *,
    cut: float = 0.0,
    together: int = 100,
    bytes_each: int = 0,
) -> Profile:
    """Make a profile: template -> block times, of one instance or by instances."""
    made = {}
    for name, given in templates.items():
        table = given if isinstance(given, Mapping) else {1: given}
        rows = {n: tuple(round(ms * MS) for ms in row) for n, row in table.items()}
        made[name] = TemplateCost(
            blocks_ns=rows,
            cut_ns=round(cut * MS),
            max_batch=max(rows),
            bytes_per_instance=bytes_each,
        )
    return Profile(templates=made, models={n: n for n in made}, together_percent=together)


def ask(
    number: int,
    template: str,
    at: float = 0.0,
    *,
    deadline: float | None = None,
    tenant: str = "",
    rows: int = 1,
    priority: int = 0,
) -> Request:
    """Make a request; the deadline is after its arrival."""
    arrival = round(at * MS)
    return Request(
        id=number,
        model=template,
        template=template,
        tenant=tenant,
        arrival_ns=arrival,
        deadline_ns=None if deadline is None else arrival + round(deadline * MS),
        rows=rows,
        priority=priority,
    )


def drive(
    policy: str | Policy[Any], profile: Profile, requests: Sequence[Request], **options: Any
) -> Run:
    """Run requests under a policy."""
    chosen = find_policy(policy) if isinstance(policy, str) else policy
    return VirtualDriver(chosen, profile, **options).run(requests)


def ended(run: Run) -> dict[int, float]:
    """Give when each request ended, whatever way."""
    return {o.request.id: o.at_ns / MS for o in run.outcomes}


def policy_of(decide: Callable[[View], tuple[Action, ...]]) -> Policy[None]:
    """Make a policy without a state."""
    return Policy("made up", None, lambda view, state: (decide(view), state))


_BATCHED = {1: [2.0, 2.0], 4: [3.0, 3.0]}
TABLE = {"short": [1.0], "halves": [3.0, 3.0], "long": [5.0, 5.0, 5.0], "batch": _BATCHED}


@st.composite
def requests_of(draw: st.DrawFn) -> list[Request]:
    """Draw requests for `workloads`' profile; some come together, some have deadlines."""
    gaps = draw(st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, 7.0, 40.0]), max_size=24))
    at, made = 0.0, []
    for number, gap in enumerate(gaps):
        at += gap
        made.append(
            ask(
                number,
                draw(st.sampled_from(sorted(TABLE))),
                at,
                deadline=draw(st.sampled_from([None, None, 0.5, 6.0, 12.0, 30.0])),
                tenant=draw(st.sampled_from(["a", "b", "c"])),
                rows=draw(st.sampled_from([1, 1, 1, 2, 6])),
                priority=draw(st.integers(0, 1)),
            )
        )
    return made


@st.composite
def workloads(draw: st.DrawFn) -> tuple[Profile, list[Request], dict[str, Any]]:
    """Draw a profile, requests, and options of the driver."""
    profile = costs(
        TABLE,
        cut=draw(st.sampled_from([0.0, 0.3])),
        together=draw(st.sampled_from([60, 100])),
        bytes_each=10,
    )
    options = {
        "lanes": draw(st.sampled_from([1, 1, 2, 3, 8])),
        "queue_limit": draw(st.sampled_from([2, 1000])),
        "retreat_ns": draw(st.sampled_from([None, MS // 5])),
        "memory_bytes": draw(st.sampled_from([None, 50, 65])),
    }
    return profile, draw(requests_of()), options


@st.composite
def surprises(draw: st.DrawFn) -> tuple[Profile, list[Request], dict[str, Any]]:
    """Draw a workload whose blocks take other times than the profile says, told or not."""
    profile, requests, options = draw(workloads())
    factors = [{}, {"halves": 3}, {"short": 2, "long": 4, "batch": 0.5}]
    factor: dict[str, float] = draw(st.sampled_from(factors))

    def service(template: str, block: int, rows: int) -> int:
        return round(profile[template].span_ns(block, block + 1, rows) * factor.get(template, 1))

    return profile, requests, {**options, "service": service, "correct": draw(st.booleans())}
