"""A decision log: JSON lines, one header, then one line per decision, in order.

    {"fusec_log": 1, "policy": "slack", "profile": {...}}
    {"": "Decision", "sequence": 0, "at_ns": ..., "change": ..., "actions": [...]}

What is logged is all that a policy was shown, so that anyone can ask it again.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusec.ir.errors import ArtifactError, ConfigError, FusecError
from fusec.ir.records import from_json, to_json
from fusec.runtime.sched.decider import Decision
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.ran import Ran, RanPart
from fusec.runtime.sched.records import Launch, Pack, Preempt, Reject, Request, WakeAt
from fusec.runtime.sched.view import Change, Lane, NewCost, Stopped, Waiting

__all__ = ["Log", "decision_line", "log_lines", "read_log"]

_RECORDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        Change,
        Decision,
        Lane,
        Launch,
        NewCost,
        Pack,
        Preempt,
        Ran,
        RanPart,
        Reject,
        Request,
        Stopped,
        Waiting,
        WakeAt,
    )
}
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Log:
    """A log that was read."""

    policy: str
    profile: Profile
    decisions: tuple[Decision, ...]


def log_lines(policy: str, profile: Profile, decisions: Iterable[Decision]) -> Iterator[str]:
    """Give a log as lines without their ends."""
    header = {"fusec_log": _VERSION, "policy": policy, "profile": profile.to_json()}
    yield json.dumps(header, separators=(",", ":"))
    for decision in decisions:
        yield decision_line(decision)


def decision_line(decision: Decision) -> str:
    """Give the line of one decision."""
    return json.dumps(to_json(decision), separators=(",", ":"))


def read_log(path: Path) -> Log:
    """Read a log.

    Raises:
        ConfigError: the file cannot be read.
        ArtifactError: it is no decision log, or a damaged one; the message names the line.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}") from e
    if not lines:
        raise ArtifactError(f"{path}: empty; wanted a decision log")
    number = 1
    try:
        header = json.loads(lines[0])
        if not isinstance(header, dict) or header.get("fusec_log") != _VERSION:
            raise ArtifactError(f"wanted a decision log of version {_VERSION}")
        profile = Profile.from_json(header["profile"])
        decisions = []
        for number, line in enumerate(lines[1:], start=2):  # noqa: B007  # the error says it
            decisions.append(_decision(line))
    except (FusecError, KeyError, ValueError, RecursionError) as e:
        raise ArtifactError(f"{path}, line {number}: {e}") from e
    return Log(str(header["policy"]), profile, tuple(decisions))


def _decision(line: str) -> Decision:
    record = from_json(json.loads(line), _RECORDS)
    if not isinstance(record, Decision) or not isinstance(record.change, Change):
        raise ArtifactError("wanted a decision")
    return record
