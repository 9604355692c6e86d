"""What a policy is shown, time included."""

from collections.abc import Mapping
from dataclasses import dataclass

from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Pack, Request

__all__ = ["Change", "Lane", "Stopped", "View", "Waiting"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that is not running: new, or stopped."""

    request: Request
    next_block: int = 0
    done_ns: int = 0
    """Work done in that block already, by a run that retreated."""
    stops: int = 0
    """How often it was stopped."""
    group: tuple[int, ...] = ()
    """The requests that retreated with it: they go on together or, past the block, as they like."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A pack that left its lane with work to do."""

    pack: Pack
    done_ns: int = 0


@dataclass(frozen=True, slots=True)
class Lane:
    """What runs concurrently with other lanes, and what it runs now."""

    index: int
    pack: Pack | None = None
    """With `next_block` that of the block that runs; None: the lane is free."""
    block_end_ns: int = 0
    """When that block is expected to end."""
    end_ns: int = 0
    """When the launch is expected to end."""
    due_ns: tuple[int, ...] = ()
    """Of each request that runs."""
    stopping: bool = False
    retreat_ns: int | None = None
    """It can stop that soon; None: at the end of a block only."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happened since the last decision."""

    arrived: tuple[Request, ...] = ()
    stopped: tuple[Stopped, ...] = ()
    gone: tuple[Waiting, ...] = ()
    """What waited and ended without running again: expired, cancelled."""
    finished: tuple[int, ...] = ()
    """What ran to its end."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything that a policy may know. `waiting` may be read during the decision only."""

    now_ns: int
    change: Change
    waiting: Mapping[int, Waiting]
    """All that could be launched, those that just came included."""
    lanes: tuple[Lane, ...]
    free_bytes: int | None
    """For instances that start; None: enough."""
    profile: Profile
