"""Plans: stages of some instances of a template, tied by waits, in an arena of their own.

A tile's past is all that is surely done when it starts: the tiles that it waits for, and their
pasts. A wait that the past has already is left out, and two buffers may share memory only if
everything that uses one is in the past of everything that uses the other: with fine policies,
stages overlap, and their order alone proves nothing.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import value
from fusec.ir.frozen import dataclass
from fusec.ir.stage import BufferKind, Lowered
from fusec.kernels.triton_table import Special
from fusec.runtime.persistent.cost import Rates, StageCost, cheapest, stage_cost
from fusec.runtime.persistent.needs import Need, needs_of, touched_slots
from fusec.runtime.persistent.policy import Policy, counters_of, name_of, waited, waited_part
from fusec.runtime.persistent.stages import Laid, Pick, lay
from fusec.runtime.tile.arena import plan_arena
from fusec.runtime.tile.code import Lifetime

__all__ = ["Pair", "Plan", "Settings", "plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a plan is made for."""

    rates: Rates
    programs: int
    """Of the super-kernel on the card at a time."""
    copies: int = 1
    """Groups of instances that are expected to run together."""
    policies: tuple[Policy, ...] = (Policy.NONE, Policy.ROW, Policy.TILE)
    """Allowed ones, the coarsest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two stages, one of which needs the other."""

    before: int
    after: int
    policy: Policy
    waits: int
    """Of all tiles together, those that others imply left out."""
    part: float
    """Of the tiles of the stage before: how many a tile waits for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """Stages of some instances with equal weights, relative to wherever they will be."""

    lowered: Lowered
    count: int
    """Instances."""
    laid: tuple[Laid, ...]
    starts: NDArray[np.int64]
    """First tile of each stage, and the end."""
    waits: NDArray[np.int64]
    """[waits, 4] counter, threshold, signals in a run, stage that signals."""
    wait_starts: NDArray[np.int64]
    """First wait of each tile, and the end."""
    signals: NDArray[np.int64]
    """Counter that each tile signals, or -1 if nobody waits."""
    counters: int
    pairs: tuple[Pair, ...]
    sizes: tuple[int, ...]
    """Bytes of each buffer of all instances; 0 for weights."""
    arena: Mapping[int, int]
    """Offset of each buffer in the arena."""
    arena_bytes: int
    costs: tuple[StageCost, ...]

    @property
    def specials(self) -> frozenset[Special]:
        """The branches that it needs."""
        return frozenset(laid.special for laid in self.laid)


def plan(
    lowered: Lowered, symbols: Mapping[str, int], count: int, pick: Pick, settings: Settings
) -> Plan:
    """Plan the stages of instances that have equal weights and lie one after another.

    Args:
        lowered: a template's stages.
        symbols: of the instances.
        count: how many.
        pick: chooses how tiles are run.
        settings: what for.

    Raises:
        UnsupportedError: a stage has no kernel for cards.

    Cost: milliseconds per stage; once per template, extents and count.
    """
    laid = lay(lowered, symbols, count, pick)
    needs = needs_of(lowered, symbols, count, laid)
    costs = tuple(_cost(stage, settings) for stage in laid)
    starts = np.concatenate([[0], np.cumsum([len(stage.tiles) for stage in laid])])
    ties = _Ties(laid, needs, costs, settings, starts.astype(np.int64))
    sizes = tuple(
        0
        if b.kind is BufferKind.WEIGHT
        else value(b.elements, symbols) * itemsize_bytes(b.dtype) * count
        for b in lowered.buffers
    )
    arena, arena_bytes = _arena(lowered, sizes, ties)
    return Plan(
        lowered=lowered,
        count=count,
        laid=laid,
        starts=ties.starts,
        waits=np.array(ties.waits, np.int64).reshape(-1, 4),
        wait_starts=np.array(ties.wait_starts, np.int64),
        signals=ties.signals,
        counters=ties.counters,
        pairs=tuple(ties.pairs),
        sizes=sizes,
        arena=arena,
        arena_bytes=arena_bytes,
        costs=costs,
    )


def _cost(stage: Laid, settings: Settings) -> StageCost:
    constants = dict(stage.special.constants)
    half = {constants.get("A_DTYPE"), constants.get("B_DTYPE"), constants.get("X_DTYPE")}
    return stage_cost(
        settings.rates,
        settings.programs,
        len(stage.tiles),
        stage.flops,
        stage.moved_bytes,
        not half & {"float32", "float64"},
    )


class _Ties:
    """Waits and signals of all stages, in order."""

    def __init__(
        self,
        laid: Sequence[Laid],
        needs: Sequence[Mapping[int, Need]],
        costs: Sequence[StageCost],
        settings: Settings,
        starts: NDArray[np.int64],
    ) -> None:
        self.starts = starts
        self.waits: list[tuple[int, int, int, int]] = []
        self.wait_starts = [0]
        self.signals = np.full(int(starts[-1]), -1, np.int64)
        self.counters = 0
        self.pairs: list[Pair] = []
        self.stage_past: list[int] = []
        """Of each stage: tiles that are done when any of its own starts, as bits."""
        self._past: list[int] = []
        self._first_counter: dict[int, int] = {}
        self._groups: list[NDArray[np.int64]] = []
        self._sizes: list[NDArray[np.int64]] = []
        """Of each stage: tiles that signal each of its counters."""
        self._policies: list[Policy] = []
        self._done: dict[tuple[int, int], tuple[int, int]] = {}
        for number, stage in enumerate(laid):
            readers = [(costs[c], need[number]) for c, need in enumerate(needs) if number in need]
            policy, _ = cheapest(
                stage.shape,
                costs[number],
                readers,
                copies=settings.copies,
                programs=settings.programs,
                rates=settings.rates,
                allowed=settings.policies,
            )
            self._policies.append(policy)
            self._groups.append(counters_of(policy, stage.shape))
            self._sizes.append(np.bincount(self._groups[-1]))
            self._tie(number, needs[number])

    def tiles(self, stages: set[int]) -> int:
        """Give all tiles of some stages, as bits."""
        total = 0
        for stage in stages:
            first, end = int(self.starts[stage]), int(self.starts[stage + 1])
            total |= ((1 << (end - first)) - 1) << first
        return total

    def _tie(self, number: int, needs: Mapping[int, Need]) -> None:
        first, end = int(self.starts[number]), int(self.starts[number + 1])
        # The nearest first: what they imply is not waited for again.
        before = [(p, waited(needs[p], self._groups[p])) for p in sorted(needs, reverse=True)]
        used = dict.fromkeys(needs, 0)
        known: dict[bytes, tuple[list[tuple[int, int]], int]] = {}
        for tile in range(end - first):
            key = b"".join(waits[tile].tobytes() for _, waits in before)
            if key not in known:
                known[key] = self._waits(
                    [(p, np.flatnonzero(waits[tile]).tolist()) for p, waits in before]
                )
            chosen, past = known[key]
            for producer, group in chosen:
                used[producer] += 1
                self.waits.append(self._wait(producer, group))
            self.wait_starts.append(len(self.waits))
            self._past.append(past)
        every = -1
        for past in set(self._past[first:end]):
            every &= past
        self.stage_past.append(every)
        self.pairs += [
            Pair(
                before=p,
                after=number,
                policy=name_of(self._policies[p], waits),
                waits=used[p],
                part=waited_part(waits, self._sizes[p]),
            )
            for p, waits in reversed(before)
        ]

    def _waits(
        self, wanted: Sequence[tuple[int, Sequence[int]]]
    ) -> tuple[list[tuple[int, int]], int]:
        chosen, past = [], 0
        for producer, groups in wanted:
            for group in groups:
                own, before = self._group(producer, group)
                if own & ~past:
                    chosen.append((producer, group))
                    past |= own | before
        return chosen, past

    def _group(self, producer: int, group: int) -> tuple[int, int]:
        """Give the tiles that signal a counter, and what is done when all have."""
        if (producer, group) not in self._done:
            first = int(self.starts[producer])
            own = before = 0
            for tile in np.flatnonzero(self._groups[producer] == group).tolist():
                own |= 1 << (first + tile)
                before |= self._past[first + tile]
            self._done[producer, group] = own, before
        return self._done[producer, group]

    def _wait(self, producer: int, group: int) -> tuple[int, int, int, int]:
        groups = self._groups[producer]
        if producer not in self._first_counter:
            self._first_counter[producer] = self.counters
            first, end = int(self.starts[producer]), int(self.starts[producer + 1])
            self.signals[first:end] = self.counters + groups
            self.counters += len(self._sizes[producer])
        size = int(self._sizes[producer][group])
        return self._first_counter[producer] + group, size, size, producer


def _arena(lowered: Lowered, sizes: Sequence[int], ties: _Ties) -> tuple[Mapping[int, int], int]:
    """Place the arena's buffers; two share bytes only if one is done with before the other."""
    users: dict[int, set[int]] = {}
    for number, stage in enumerate(lowered.stages):
        for slot in set().union(*touched_slots(stage)):
            if lowered.buffers[slot].kind is BufferKind.ARENA:
                users.setdefault(slot, set()).add(number)
    bits = {slot: ties.tiles(stages) for slot, stages in users.items()}
    past = {
        slot: _all(ties.stage_past[stage] for stage in stages) for slot, stages in users.items()
    }

    def conflict(one: int, other: int) -> bool:
        return bool(bits[one] & ~past[other]) and bool(bits[other] & ~past[one])

    lifetimes = [Lifetime(slot, min(stages), max(stages)) for slot, stages in users.items()]
    return plan_arena(lifetimes, sizes, conflict)


def _all(pasts: Iterable[int]) -> int:
    every = -1
    for past in pasts:
        every &= past
    return every
