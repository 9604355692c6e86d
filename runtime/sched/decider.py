"""What every driver and the replay have in common: what waits, the policy's state, the log.

A driver tells what changed; the decider brings the view up to date, asks the policy, and keeps the
record. Replaying the records through another decider must give the same actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fusec.ir.errors import VerifyError
from fusec.runtime.sched.corrected import Correction
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Action, Launch, Reject
from fusec.runtime.sched.view import Change, Lane, Stopped, View, Waiting

__all__ = ["Decider", "Decision"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One call of a policy: all it was shown that was new, and what it said."""

    sequence: int
    at_ns: int
    change: Change
    lanes: tuple[Lane, ...]
    free_bytes: int | None
    actions: tuple[Action, ...]


class Decider:
    """Owns what waits. Not for several threads at once."""

    def __init__(self, policy: Policy[Any], profile: Profile) -> None:
        self._policy = policy
        self._correction = Correction.of(profile)
        self._state = policy.start
        self._known: dict[int, Waiting] = {}
        self._waiting: dict[int, Waiting] = {}
        self._rejected: dict[int, Waiting] = {}
        self._sequence = 0

    @property
    def n_waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def decide(
        self, now_ns: int, change: Change, lanes: Sequence[Lane], free_bytes: int | None
    ) -> Decision:
        """Ask the policy.

        Raises:
            VerifyError: it launched or rejected what does not wait.
        """
        self._rejected = {}
        self._absorb(change)
        shown = tuple(lanes)
        busy = len(shown) > 1 and any(lane.pack is not None for lane in shown)
        view = View(
            now_ns=now_ns,
            change=change,
            waiting=MappingProxyType(self._waiting),
            lanes=shown,
            free_bytes=free_bytes,
            profile=self._correction.profile(company=busy),
        )
        actions, self._state = self._policy.decide(view, self._state)
        self._follow(actions)
        self._sequence += 1
        return Decision(
            sequence=self._sequence - 1,
            at_ns=now_ns,
            change=change,
            lanes=shown,
            free_bytes=free_bytes,
            actions=actions,
        )

    def waiting(self, request: int) -> Waiting | None:
        """Give a waiting request."""
        return self._waiting.get(request)

    def running(self, request: int) -> Waiting:
        """Give what a running request was when it was launched."""
        return self._known[request]

    def rejected(self, request: int) -> Waiting:
        """Give what a request was that the last decision rejected."""
        return self._rejected[request]

    @property
    def profile(self) -> Profile:
        """The costs as they are known by now: stated ones, without corrections."""
        return self._correction.stated

    @property
    def correction(self) -> Correction:
        """What launches have shown of these costs."""
        return self._correction

    def _absorb(self, change: Change) -> None:
        if change.costs or change.ran:
            self._correction = self._correction.learned(change.costs, change.ran)
        for entry in change.gone:
            self._waiting.pop(entry.request.id, None)
        for number in change.finished:
            self._known.pop(number, None)
        for request in change.arrived:
            self._waiting[request.id] = Waiting(request)
        for stopped in change.stopped:
            for pack in stopped.pack.parts:
                self._put_back(pack.requests, pack.next_block, stopped)

    def _put_back(self, requests: tuple[int, ...], block: int, stopped: Stopped) -> None:
        known, waiting, done_ns = self._known, self._waiting, stopped.done_ns
        group = requests if done_ns else ()
        for number in requests:
            old = known.pop(number)
            waiting[number] = Waiting(old.request, block, done_ns, old.stops + 1, group)

    def _follow(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if isinstance(action, Launch):
                for pack in action.pack.parts:
                    for number in pack.requests:
                        self._known[number] = self._take(number, action)
            elif isinstance(action, Reject):
                self._rejected[action.request] = self._take(action.request, action)

    def _take(self, number: int, action: Action) -> Waiting:
        entry = self._waiting.pop(number, None)
        if entry is None:
            raise VerifyError(
                f"policy {self._policy.name!r} decided {action}, but request {number} does not wait"
            )
        return entry
