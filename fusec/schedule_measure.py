"""Measure what a scheduler needs of a plan: blocks of batches, cuts, company, lengths.

    stages' times -> even split -> rounds over batches of 1, 2, 4, ... -> p20 of each block

Batches hold different members, as those of requests do. What is compared is run in turns, so that
whatever else the machine does hits all of it, and the 20th percentile counts: what is left of noise
only ever makes runs slower.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from fusec.ir.errors import FusecError
from fusec.ir.split import Block, Split
from fusec.lowering import Stages
from fusec.passes.split import (
    cut_costs,
    in_stages,
    live_bytes,
    live_inside,
    parted,
    split_for_latency,
)
from fusec.probe import evictor, extents_near, inputs_of_ones
from fusec.runtime.extern import run_extern
from fusec.runtime.request import Choice
from fusec.runtime.roofline import Machine
from fusec.runtime.sched.profile import TemplateCost
from fusec.runtime.tile.blocks import BlockExecutor
from fusec.runtime.tile.executor import Wanted
from fusec.schedule import LENGTHS, LONGEST_WORK, Schedule, TemplateSchedule, fit_fixed, grain_of

__all__ = ["low", "measure_schedule", "rising"]

_MOST_BATCH = 64
_LONGEST_BATCH = 8
"""A batch takes at most so many times what its template takes alone, or a block should."""
_ROUNDS: Final = (3, 40)
"""At least, whatever it takes, and at most."""
_CUT_ROUNDS = 5
_PAIRS = 3
_PAIR_ROUNDS: Final = (6, 100)
_PAIR_SECONDS = 0.2
_UNLIKE = 8
"""Of two templates, the longer takes at most so many times what the other takes."""


def measure_schedule(
    choices: Mapping[str, Sequence[Choice]],
    stage_ns: Mapping[str, Sequence[float]],
    stages: Stages,
    machine: Machine,
    *,
    threads: int,
    preempt_ns: int,
    seconds: float,
) -> Schedule:
    """Measure templates on so many threads.

    Args:
        choices: of each template, its members' weights; by template key.
        stage_ns: of each template, what its stages take: in proportion.
        stages: what templates are lowered to.
        machine: its memory.
        threads: of a run.
        preempt_ns: what a block of one instance should take at most.
        seconds: for each template, about.

    Raises:
        KernelError: a template fails on made-up inputs.
    """
    executor = BlockExecutor(stages.of, threads, run_extern)
    evict, others = evictor(), len(choices) > 1
    runs = {key: _Runs(executor, own, evict, others) for key, own in choices.items()}
    templates = {}
    for key, run in runs.items():
        run.split = _split(run, stage_ns[key], stages, machine, preempt_ns)
        templates[key] = _measured(run, stages, machine, preempt_ns, seconds)
    together = _together(executor, list(runs.values()))
    return Schedule(threads=threads, templates=templates, together_percent=together)


def low(times: Sequence[float]) -> float:
    """Give the 20th percentile, or what comes next above it."""
    return sorted(times)[len(times) // 5]


@dataclass(eq=False)
class _Runs:
    """Timed runs of one template, its members taking turns."""

    executor: BlockExecutor
    choices: Sequence[Choice]
    evict: Callable[[], object]
    """Leaves nothing of it in the caches."""
    others: bool
    """Other templates run in between when served: weights come from memory each time."""

    def __post_init__(self) -> None:
        """Choose extents and inputs."""
        self.template = self.choices[0].template
        self.extents = extents_near(self.template, 64)
        self.inputs = inputs_of_ones(self.template, self.extents)
        self.binding = self.executor.binding(self.template, self.extents)
        n = len(self.binding.code.stages)
        self.whole = Split(blocks=(Block(0, n, 0),) if n else ())
        self.split = self.whole

    def served(self, n: int) -> list[int]:
        """Give the time of each block of a batch as it is when served."""
        return self.once(n, self.split, (self.evict,) if self.others else ())

    def wanted(self, n: int) -> list[Wanted]:
        """Give a batch of as many members as there are."""
        of = self.choices
        return [Wanted(of[i % len(of)], 1, self.extents) for i in range(n)]

    def once(self, n: int, split: Split, before: Sequence[Callable[[], object]] = ()) -> list[int]:
        """Give the time of each block of a batch.

        Args:
            n: instances.
            split: into blocks.
            before: what to do, untimed, before each block; no more after the last of them.
        """
        for first in before[:1]:
            first()
        took, begin = [], time.perf_counter_ns()
        run = self.executor.begin(self.wanted(n), [split] * n, [self.inputs] * n)
        with run:
            for _ in range(run.blocks):
                run.step()
                if run.block == run.blocks:
                    run.answers()
                took.append(time.perf_counter_ns() - begin)
                if len(took) < len(before):
                    before[len(took)]()
                begin = time.perf_counter_ns()
        return took

    def solo_ns(self, extents: Mapping[str, int] | None = None) -> int:
        """Give the time of one instance, uncut."""
        chosen = self.extents if extents is None else extents
        inputs = self.inputs if extents is None else inputs_of_ones(self.template, extents)
        begin = time.perf_counter_ns()
        self.executor.prepare([Wanted(self.choices[0], 1, chosen)]).run([inputs])
        return time.perf_counter_ns() - begin


def _split(
    run: _Runs, stage_ns: Sequence[float], stages: Stages, machine: Machine, preempt_ns: int
) -> Split:
    """Cut a template's stages into even blocks, none longer than wanted."""
    if not run.whole.blocks:
        return run.whole
    solo = low([sum(run.once(1, run.whole)) for _ in range(6)][1:])
    scale = solo / max(1.0, sum(stage_ns))
    costs = [round(ns * scale) for ns in stage_ns]
    if solo <= preempt_ns:
        return Split(blocks=(Block(0, len(costs), sum(costs)),))
    lowered, speed = stages.of(run.template), machine.read_bytes_per_ns
    between = cut_costs(live_bytes(lowered, run.extents), bytes_per_ns=speed)
    extern = [i for i, stage in enumerate(lowered.stages) if stage.extern is not None]
    live = live_inside(lowered, run.extents)
    inside = cut_costs(live, bytes_per_ns=speed, forbidden=extern)
    (most,) = run.executor.parts(run.wanted(1))
    made = parted(costs, between, inside, max(1, preempt_ns // 8), most=most)
    split = in_stages(split_for_latency(made.part_ns, made.cut_ns, preempt_ns), made.parts)
    return replace(split, note="")


def _measured(
    run: _Runs, stages: Stages, machine: Machine, preempt_ns: int, seconds: float
) -> TemplateSchedule:
    lowered = stages.of(run.template)
    ends = [*lowered.inputs, *lowered.outputs]
    live = max(live_bytes(lowered, run.extents), default=0)
    table, spread = _batches(run, preempt_ns, seconds)
    fixed, off = fit_fixed(_lengths(run))
    return TemplateSchedule(
        extents=run.extents,
        split=run.split,
        cost=TemplateCost(
            blocks_ns=table,
            cut_ns=_cut_ns(run, live / machine.read_bytes_per_ns),
            max_batch=max(table),
            grain=grain_of(run.template),
            bytes_per_instance=run.binding.arena_bytes + int(run.binding.sizes[ends].sum()),
        ),
        fixed_percent=fixed,
        fit_percent=off,
        spread_percent=spread,
    )


def _batches(
    run: _Runs, preempt_ns: int, seconds: float
) -> tuple[dict[int, tuple[int, ...]], tuple[int, ...]]:
    """Give the time of each block by instances, and how runs of one spread."""
    found: dict[int, list[list[int]]] = {}
    n, limit = 1, 0.0
    while n <= _MOST_BATCH:
        run.once(n, run.split)  # plans, and meets cold memory
        found[n] = [run.served(n)]
        took = sum(found[n][0])
        limit = limit or _LONGEST_BATCH * max(took, preempt_ns)
        if 2 * took > limit:
            break
        n *= 2
    # Each batch has its share of the time: small ones, which are over in no time, run more often.
    share_ns = seconds * 1e9 / len(found)
    for rounds in range(_ROUNDS[1]):
        for instances, times in found.items():
            if rounds < _ROUNDS[0] or sum(map(sum, times)) < share_ns:
                times.append(run.served(instances))
    rows = {k: [round(low(b)) for b in zip(*times, strict=True)] for k, times in found.items()}
    return rising(rows), _spread([sum(times) for times in found[1]])


def rising(rows: Mapping[int, Sequence[int]]) -> dict[int, tuple[int, ...]]:
    """Give times of blocks by instances, more never taking less than few: that is noise.

    Args:
        rows: as measured; without blocks if there is nothing to run.
    """
    table: dict[int, tuple[int, ...]] = {}
    least: Sequence[int] = ()
    for instances in sorted(rows):
        row = rows[instances] or [1]
        least = tuple(max(1, *pair) for pair in zip(row, least or row, strict=True))
        table[instances] = least
    return table


def _spread(totals: Sequence[int]) -> tuple[int, ...]:
    """Give how far median, p80 and p95 are above the 20th percentile, in percent."""
    base, ordered = max(1.0, low(totals)), sorted(totals)
    picked = [ordered[len(ordered) * percent // 100] for percent in (50, 80, 95)]
    return tuple(min(10_000, round(100 * ns / base) - 100) for ns in picked)


def _cut_ns(run: _Runs, read_ns: float) -> int:
    """Give what going on costs after something else went through the caches.

    Weights are cold in both kinds of runs: what differs is what was alive at the cut.

    Args:
        run: the template.
        read_ns: what reading all that is alive at a cut takes.
    """
    blocks = len(run.split.blocks)
    if blocks < 2:
        return 0
    once, each = [], []
    for _ in range(_CUT_ROUNDS):
        once.append(sum(run.once(1, run.split, (run.evict,))))
        each.append(sum(run.once(1, run.split, (run.evict,) * blocks)))
    measured = (low(each) - low(once)) / (blocks - 1)
    # Noise of whole runs is divided among few cuts; memory read twice bounds what can be true.
    return round(max(0.0, min(measured, 2 * read_ns + 20_000)))


def _lengths(run: _Runs) -> list[tuple[float, float]]:
    """Give work and time at other extents, in those at the measured ones."""
    works: list[tuple[float, dict[str, int]]] = []
    for size in LENGTHS:
        extents = extents_near(run.template, size)
        if extents == run.extents or any(extents == known for _, known in works):
            continue
        try:
            work = run.executor.binding(run.template, extents).instance_ns
            work /= run.binding.instance_ns
            if work <= LONGEST_WORK:
                run.solo_ns(extents)
                works.append((work, extents))
        except FusecError:  # made-up inputs need not fit every length
            continue
    times: list[list[int]] = [[] for _ in range(1 + len(works))]
    for _ in range(_ROUNDS[0] if works else 0):
        for own, extents in zip(times, [run.extents, *(e for _, e in works)], strict=True):
            own.append(run.solo_ns(extents))
    return [
        (work, low(own) / low(times[0])) for (work, _), own in zip(works, times[1:], strict=True)
    ]


def _together(executor: BlockExecutor, runs: Sequence[_Runs]) -> int:
    """Give what first blocks of two templates in one program take, in percent of both alone.

    Only where neither is lost beside the other; without such a pair nothing is known to be saved.
    """
    near = sorted((r for r in runs if r.split.blocks), key=lambda r: r.split.blocks[0].cost_ns)
    percents = []
    for small, large in list(pairwise(near))[:: max(1, (len(near) - 1) // _PAIRS)]:
        ways = ((small,), (large,), (small, large))
        times: list[list[int]] = []
        begin = time.monotonic()
        while len(times) < _PAIR_ROUNDS[0] or (
            len(times) < _PAIR_ROUNDS[1] and time.monotonic() - begin < _PAIR_SECONDS
        ):
            times.append([_first_ns(executor, way) for way in ways])
        a, b, both = (low(own) for own in zip(*times[1:], strict=True))
        if max(a, b) <= _UNLIKE * min(a, b):
            # Nothing ends before the longer of them has: less is noise.
            percents.append(100 * max(both, a, b) / (a + b))
    return min(1000, round(statistics.median(percents))) if percents else 100


def _first_ns(executor: BlockExecutor, runs: Sequence[_Runs]) -> int:
    wanted = [run.wanted(1)[0] for run in runs]
    begin = time.perf_counter_ns()
    with executor.begin(wanted, [r.split for r in runs], [r.inputs for r in runs]) as run:
        run.step()
        return time.perf_counter_ns() - begin
