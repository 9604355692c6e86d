"""What a policy is shown, time included."""

from collections.abc import Mapping
from dataclasses import dataclass

from fusec.runtime.sched.profile import Profile, TemplateCost
from fusec.runtime.sched.ran import Ran
from fusec.runtime.sched.records import Pack, Request

__all__ = ["Change", "Lane", "NewCost", "Stopped", "View", "Waiting"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCost:
    """Costs of a template from now on: of a new one, or measured better."""

    template: str
    model: str
    blocks_ns: tuple[tuple[int, tuple[int, ...]], ...]
    """Instances, and the time of each block."""
    cut_ns: int = 0
    max_batch: int = 1
    bytes_per_instance: int = 0
    grain: int = 1

    @classmethod
    def of(cls, template: str, model: str, cost: TemplateCost) -> "NewCost":
        """Write costs down."""
        return cls(
            template=template,
            model=model,
            blocks_ns=tuple(sorted(cost.blocks_ns.items())),
            cut_ns=cost.cut_ns,
            max_batch=cost.max_batch,
            bytes_per_instance=cost.bytes_per_instance,
            grain=cost.grain,
        )

    @property
    def cost(self) -> TemplateCost:
        """The costs."""
        return TemplateCost(
            blocks_ns=dict(self.blocks_ns),
            cut_ns=self.cut_ns,
            max_batch=self.max_batch,
            bytes_per_instance=self.bytes_per_instance,
            grain=self.grain,
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What happened since the last decision."""

    arrived: tuple[Request, ...] = ()
    stopped: tuple[Stopped, ...] = ()
    gone: tuple[Waiting, ...] = ()
    """What waited and ended without running again: expired, cancelled."""
    finished: tuple[int, ...] = ()
    """What ran to its end."""
    costs: tuple[NewCost, ...] = ()
    """What the profile says from this decision on."""
    ran: tuple[Ran, ...] = ()
    """What launches took that ended; predictions are corrected by it. See `corrected`."""


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
    """Predictions, corrected by what ran."""
