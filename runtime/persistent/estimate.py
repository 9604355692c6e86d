"""What a program takes as one super-kernel and as a launch for each stage; see `cost`."""

from collections.abc import Mapping, Sequence
from math import ceil

from fusec.ir.device import Constants
from fusec.ir.frozen import dataclass
from fusec.runtime.persistent.cost import Rates, StageCost, idle_ns
from fusec.runtime.persistent.plan import Plan

__all__ = ["Estimate", "estimate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Both ways, in nanoseconds."""

    persistent_ns: float
    launches_ns: float


def estimate(
    plans: Sequence[tuple[Plan, int]],
    rates: Rates,
    programs: int,
    launch_programs: Mapping[str, int] | None = None,
) -> Estimate:
    """Estimate a program.

    Args:
        plans: with how many members each has.
        rates: of the card.
        programs: of the super-kernel on the card at a time; what the plans were made for.
        launch_programs: function of a grouped kernel -> programs of it at a time; the
            super-kernel's where it is not said, though few kernels are as greedy.
    """
    work = wait = longest = 0.0
    by_launch: dict[tuple[int, str, Constants], list[tuple[StageCost, int, int]]] = {}
    for plan, members in plans:
        chain = 0.0
        for number, (laid, cost) in enumerate(zip(plan.laid, plan.costs, strict=True)):
            if not cost.tiles:
                continue
            work += members * cost.tiles * (cost.tile_ns + rates.task_ns)
            chain += cost.tile_ns + rates.task_ns + rates.poll_ns
            function = laid.special.kernel.function
            of = (launch_programs or {}).get(function, programs)
            # Stages of one number and one kernel are one launch, whoever's they are.
            key = (number, function, laid.special.constants)
            by_launch.setdefault(key, []).append((cost, members, of))
        for pair in plan.pairs:
            before, after = plan.costs[pair.before], plan.costs[pair.after]
            wait += idle_ns(before, members, programs) * pair.part
            per_tile = pair.waits / max(1, after.tiles)
            wait += ceil(members * after.tiles / programs) * per_tile * rates.poll_ns
        longest = max(longest, chain)
    launches = 0.0
    for stages in by_launch.values():
        tiles = sum(cost.tiles * members for cost, members, _ in stages)
        of = min(of for _, _, of in stages)
        mean = sum(cost.tile_ns * cost.tiles * members for cost, members, _ in stages) / tiles
        # A tile is as fast as its share of the card: with more programs each has less of it.
        launches += rates.launch_ns + ceil(tiles / of) * mean * of / programs
    return Estimate(
        persistent_ns=rates.launch_ns + max(work / programs + wait, longest),
        launches_ns=launches,
    )
