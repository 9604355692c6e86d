"""What a driven run leaves behind, and the check that it kept every rule."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fusec.ir.errors import VerifyError
from fusec.runtime.sched.decider import Decision
from fusec.runtime.sched.records import Outcome, Pack, Request, Result

__all__ = ["Run", "Span", "check_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One stay of a pack on a lane."""

    lane: int
    start_ns: int
    end_ns: int
    pack: Pack
    blocks: int
    """How many it finished."""
    overhead_ns: int
    """What going on after an interruption cost."""
    preempted: bool
    """It had been told to stop, or left before its last block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that happened."""

    policy: str
    lanes: int
    outcomes: tuple[Outcome, ...]
    spans: tuple[Span, ...]
    decisions: tuple[Decision, ...]


def check_run(run: Run, requests: Iterable[Request]) -> None:
    """Check, from the records alone, that a run kept the rules.

    Each request ended once; nothing ran before it arrived, after its deadline had passed without a
    start, or twice at once; what was not answered did not run at its end; no two stays on a lane
    overlap.

    Raises:
        VerifyError: one did not.
    """
    given = {request.id: request for request in requests}
    ended = Counter(outcome.request.id for outcome in run.outcomes)
    wrong = [n for n in {*given, *ended} if ended[n] != 1 or n not in given]
    if wrong:
        raise VerifyError(f"requests {sorted(wrong)[:5]} did not end exactly once")
    last_end = dict.fromkeys(range(run.lanes), 0)
    busy_until: dict[int, int] = {}
    for span in sorted(run.spans, key=lambda s: (s.start_ns, s.end_ns)):
        if span.start_ns < last_end[span.lane] or span.end_ns <= span.start_ns:
            raise VerifyError(f"{span} overlaps another on its lane, or takes no time")
        last_end[span.lane] = span.end_ns
        for number in (n for part in span.pack.parts for n in part.requests):
            deadline = given[number].deadline_ns
            if span.start_ns < given[number].arrival_ns:
                raise VerifyError(f"request {number} ran before it arrived: {span}")
            if deadline is not None and span.start_ns >= deadline:
                raise VerifyError(f"request {number} was started after it expired: {span}")
            if span.start_ns < busy_until.get(number, 0):
                raise VerifyError(f"request {number} ran twice at once: {span}")
            busy_until[number] = span.end_ns
    for outcome in run.outcomes:
        ran = busy_until.get(outcome.request.id)
        if outcome.result is Result.DONE and ran != outcome.at_ns:
            raise VerifyError(f"{outcome} was answered at another time than its run ended")
        if ran is not None and ran > outcome.at_ns:
            raise VerifyError(f"{outcome} ran on after its end")
