"""What a super-kernel costs, by a rule that is stated: policies, and whether it is used at all.

With S programs on the card, a stage of n tiles in c copies, and t the time of a tile:

    idle    c n / S waves, and while the last one is not full, programs that must wait for all of
            it have nothing to do: (ceil(x) - x) t each, x = c n / S. Other copies fill the gap if
            (c - 1) n >= S, and tiles of one wave end together, so that there is nothing to gain.
            A policy that needs a part f of a stage's tiles waits for f of that.
    polls   every wait is at least one poll on the way of a tile: ceil(c m / S) w p, for m tiles
            that wait for w counters each, p a poll's time

The policy of a stage is the one with the least sum of both over all that read it; equal costs take
the coarser one. Published gains are reproduced in kind: most where waves are 1 to 4 and the last is
nearly empty, none at few tiles or many waves (cuSync: -24 % to +24 %).

    launches    per stage, launch + ceil(waves) t, with the programs of the stage's own kernel
    one kernel  launch + all tiles' time / S', + u for each task of a program, + idle and polls,
                and at least the longest chain of stages; S' counts programs of the super-kernel,
                which has the registers and the shared memory of its greediest branch

Measured times stand in for both sums where there are any.

Numbers of cards: NVIDIA's data sheets (A100 SXM, A10, L4, H100 SXM), half of the peak rate as what
tiles reach; p and u: a load and an atomic that go to the second-level cache and back.
"""

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.runtime.persistent.needs import Need
from fusec.runtime.persistent.policy import Policy, Shape, counters_of, waited, waited_part

__all__ = ["RATES", "Rates", "StageCost", "Way", "cheapest", "choose", "idle_ns", "stage_cost"]

_REACHED = 0.5
_MARGIN = 0.95
"""A super-kernel has to be this much better by estimate: what it cannot do, launches can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a card does in a nanosecond."""

    multiprocessors: int
    single_flops: float
    half_flops: float
    bytes: float
    poll_ns: float = 700.0
    task_ns: float = 2_500.0
    """Ticket, flag in the host's memory, words of the task and the signal."""
    launch_ns: float = 3_000.0
    """From the last tile of a kernel to the first products of the next one, in a graph: 1.3 us for
    the launch, the rest for a grid that drains and one that starts."""


RATES: Mapping[int, Rates] = {
    80: Rates(multiprocessors=108, single_flops=19_500, half_flops=312_000, bytes=2_039),
    86: Rates(multiprocessors=72, single_flops=31_200, half_flops=125_000, bytes=600),
    89: Rates(multiprocessors=58, single_flops=30_300, half_flops=121_000, bytes=300),
    90: Rates(multiprocessors=132, single_flops=67_000, half_flops=989_000, bytes=3_350),
}
"""By architecture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """What a stage's tiles take."""

    tiles: int
    tile_ns: float
    """Of one, while programs on all multiprocessors share the card's rates."""


def stage_cost(
    rates: Rates, programs: int, tiles: int, flops: float, moved_bytes: float, half: bool
) -> StageCost:
    """Estimate a stage's tiles.

    Args:
        rates: of the card.
        programs: on it at a time.
        tiles: of the stage.
        flops: of all of them.
        moved_bytes: of all of them.
        half: whether products are of half width.
    """
    if not tiles:
        return StageCost(tiles=0, tile_ns=0.0)
    peak = rates.half_flops if half else rates.single_flops
    whole_ns = max(flops / (peak * _REACHED), moved_bytes / (rates.bytes * _REACHED))
    return StageCost(tiles=tiles, tile_ns=max(1.0, whole_ns * programs / tiles))


def idle_ns(stage: StageCost, copies: int, programs: int) -> float:
    """Estimate how long each program has nothing to do at the end of a stage that all wait for."""
    waves = copies * stage.tiles / programs
    if waves <= 1 or (copies - 1) * stage.tiles >= programs:
        return 0.0
    return (ceil(waves) - waves) * stage.tile_ns


def cheapest(
    shape: Shape,
    stage: StageCost,
    readers: Sequence[tuple[StageCost, Need]],
    *,
    copies: int,
    programs: int,
    rates: Rates,
    allowed: Sequence[Policy],
) -> tuple[Policy, float]:
    """Choose a stage's policy.

    Args:
        shape: of its tiles.
        stage: what they take.
        readers: stages that need it, and which of its tiles.
        copies: how often the stage is in a program.
        programs: on the card at a time.
        rates: of the card.
        allowed: policies, the coarsest first; `Policy.NONE` is one of them.

    Returns:
        The policy, and what it costs.
    """
    best: tuple[Policy, float] | None = None
    for policy in allowed:
        counters = counters_of(policy, shape)
        total = 0.0
        for reader, need in readers:
            waits = waited(need, counters)
            part = waited_part(waits, np.bincount(counters))
            total += idle_ns(stage, copies, programs) * part
            polls = float(waits.sum(axis=1).mean()) if len(waits) else 0.0
            total += ceil(copies * reader.tiles / programs) * polls * rates.poll_ns
        if best is None or total < best[1]:
            best = (policy, total)
    assert best is not None, "no policy is allowed"
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How stages are run, with what either way is thought to take."""

    persistent: bool
    persistent_ns: float
    launches_ns: float
    measured: bool
    """Both times are measured ones."""


def choose(
    persistent_ns: float, launches_ns: float, measured: tuple[float, float] | None = None
) -> Way:
    """Choose between one super-kernel and a launch for each stage.

    Args:
        persistent_ns: estimate.
        launches_ns: estimate.
        measured: both, in the same order, where the card has run both.
    """
    if measured is not None:
        persistent_ns, launches_ns = measured
    margin = 1.0 if measured else _MARGIN
    return Way(
        persistent=persistent_ns < launches_ns * margin,
        persistent_ns=persistent_ns,
        launches_ns=launches_ns,
        measured=measured is not None,
    )
