"""Ask a policy again what it was asked, and compare what it says."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fusec.ir.errors import VerifyError
from fusec.runtime.sched.corrected import Correction, Errors
from fusec.runtime.sched.decider import Decider, Decision
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Action

__all__ = ["Difference", "prediction_errors", "replay"]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first decision that came out otherwise."""

    sequence: int
    at_ns: int
    logged: tuple[Action, ...]
    replayed: tuple[Action, ...]
    problem: str = ""
    """What the replay could not even ask, or do."""

    def __str__(self) -> str:
        lines = [f"decision {self.sequence}, at {self.at_ns} ns:"]
        lines += [f"  logged    {action}" for action in self.logged] or ["  logged    nothing"]
        lines += [f"  replayed  {action}" for action in self.replayed] or ["  replayed  nothing"]
        return "\n".join([*lines, f"  {self.problem}"] if self.problem else lines)


def replay(
    policy: Policy[Any], profile: Profile, decisions: Iterable[Decision]
) -> Difference | None:
    """Replay decisions; give the first difference, or None if there is none."""
    decider = Decider(policy, profile)
    for expected, logged in enumerate(decisions):
        at = (expected, logged.at_ns, logged.actions)
        if logged.sequence != expected:
            return Difference(*at, (), f"the log has decision {logged.sequence} here")
        try:
            got = decider.decide(logged.at_ns, logged.change, logged.lanes, logged.free_bytes)
        except (KeyError, VerifyError) as e:
            return Difference(*at, (), f"cannot be replayed: {e}")
        if got.actions != logged.actions:
            return Difference(*at, got.actions)
    return None


def prediction_errors(profile: Profile, decisions: Iterable[Decision]) -> Errors | None:
    """Say how far predictions were from what launches took; None if no launch was measured.

    Raises:
        VerifyError: a launch is of another plan.
    """
    correction = Correction.of(profile)
    for change in (decision.change for decision in decisions):
        correction = correction.learned(change.costs, change.ran)
    return correction.errors
