"""What templates cost a running server: into which blocks they are cut, and what those take.

    template -> one run alone -> even blocks no longer than wanted -> blocks of 1, 4, 16, ... rows

Taken from the plan, if it was profiled for so many threads; else measured when a runtime starts, on
the team that will run them; where that is not possible, worked out roughly. Requests of other
extents count as so many instances of those that were measured.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fusec.ir.dtypes import NO_NUMPY
from fusec.ir.errors import FusecError
from fusec.ir.split import Block, Split
from fusec.ir.template import Template
from fusec.lowering import Stages
from fusec.passes.split import (
    cut_costs,
    in_stages,
    live_bytes,
    live_inside,
    parted,
    split_for_latency,
)
from fusec.probe import evictor, extents_near
from fusec.profiling import extents_of
from fusec.runtime.cache import LockedCache
from fusec.runtime.request import Choice, Request, Target
from fusec.runtime.sched.profile import Profile, TemplateCost
from fusec.runtime.serving.engine import Engine, Team
from fusec.runtime.serving.items import Kind
from fusec.runtime.tile.bind import Binding
from fusec.schedule import (
    LENGTHS,
    LONGEST_WORK,
    Schedule,
    TemplateSchedule,
    fit_fixed,
    grain_of,
    named,
)
from fusec.serving_runs import LAUNCH_NS, Runs

__all__ = ["Costs"]

_READ_BYTES_PER_NS = 6.0
_GUESSED_NS = 5_000_000
"""Of a request of a model that PyTorch runs, where nothing is known."""
_ROWS = (1, 4, 16, 64)
_LONGEST_BATCH = 8
"""A batch takes at most so many times what its template takes alone, or a block should."""


@dataclass(frozen=True, slots=True)
class _Known:
    """How a template is run, and what its extents change."""

    split: Split | None
    """None: PyTorch runs it whole."""
    base_ns: float
    """Rough cost of an instance at the extents that its costs are of."""
    fixed: float = 0.0
    """Share of the time that does not depend on extents."""


class Costs:
    """Kinds and costs of a plan's templates. Safe from many threads."""

    def __init__(
        self, engine: Engine | None, stages: Stages, team: Team, preempt_ns: int, max_batch: int
    ) -> None:
        """Make a table without templates.

        Args:
            engine: runs blocks; None where PyTorch runs everything.
            stages: what templates are lowered to.
            team: measures.
            preempt_ns: what a block of one instance should take at most.
            max_batch: instances that may run together.
        """
        self._engine, self._stages, self._team = engine, stages, team
        self._preempt_ns, self._max_batch = preempt_ns, max_batch
        self._known: dict[str, _Known] = {}
        self._kinds: LockedCache[Kind] = LockedCache(limit=256)
        self._new: dict[str, TemplateCost] = {}
        self._before: Callable[[], object] = _nothing
        """What is done before each measured run."""
        self._native: set[str] = set()
        """Names of those that run as native code."""

    def measure(
        self, members: Iterable[Target], seconds: float, schedule: Schedule | None
    ) -> Profile:
        """Give the costs of the templates of members; what is not known is measured.

        Args:
            members: all of a plan.
            seconds: for measuring, of all templates together, about.
            schedule: what was measured before and is in the plan.
        """
        by_template: dict[str, list[tuple[Target, Choice]]] = {}
        models = {}
        for target in members:
            for choice in reversed(target.choices):
                by_template.setdefault(choice.template.key, []).append((target, choice))
                models[target.name] = named(choice.template.key)
        known = {} if schedule is None else schedule.templates
        if len(by_template) > 1 and by_template.keys() - known.keys():
            # When served, others run in between: weights come from memory each time.
            self._before = evictor()
        each = seconds / max(1, len(by_template))
        templates = {
            named(key): self._stored(owners[0][1].template, known.get(key))
            or self._measured(owners, each)
            for key, owners in by_template.items()
        }
        self._before = _nothing
        if schedule is not None and known.keys() & by_template.keys():
            percent = schedule.together_percent
        else:
            percent = self._together(list(by_template.values()), templates)
        return Profile(templates=templates, models=models, together_percent=percent)

    def kind(self, request: Request) -> Kind:
        """Give the kind of a request; a template that is new is looked at, not measured.

        Raises:
            FusecError: it cannot be lowered for these extents.
        """
        template, extents = request.choice.template, request.extents
        key = (template.key, tuple(extents.items()))
        return self._kinds.get(key, lambda: self._kind(template, extents))

    def retreats(self, name: str) -> bool:
        """Tell whether a template can be stopped in the middle of a block."""
        return name in self._native

    def new(self, name: str) -> TemplateCost:
        """Give the costs of a template that was not measured at the start."""
        return self._new[name]

    def _kind(self, template: Template, extents: Mapping[str, int]) -> Kind:
        if template.key not in self._known:
            self._look_at(template)
        known = self._known[template.key]
        if known.split is None or self._engine is None:
            return _kind_of(template, None, None, 1.0)
        binding = self._engine.binding(template, extents)
        work = binding.instance_ns / known.base_ns
        units = known.fixed + (1 - known.fixed) * work
        return _kind_of(template, known.split, binding, units)

    def _stored(self, template: Template, schedule: TemplateSchedule | None) -> TemplateCost | None:
        """Take what was measured before, if it is of these stages."""
        if schedule is None or self._engine is None or not self._stages.has(template):
            return None
        try:
            schedule.split.stops(len(self._stages.of(template).stages))
            binding = self._engine.binding(template, schedule.extents)
        except FusecError:
            return None
        self._native.add(named(template.key))
        fixed = schedule.fixed_percent / 100
        self._known[template.key] = _Known(schedule.split, binding.instance_ns, fixed)
        cost = schedule.cost
        most = min(cost.max_batch, self._max_batch)
        table = {n: tuple([LAUNCH_NS + ns for ns in row]) for n, row in cost.blocks_ns.items()}
        return replace(cost, blocks_ns=table, max_batch=most, cut_ns=max(LAUNCH_NS, cost.cut_ns))

    def _look_at(self, template: Template) -> None:
        """Work out costs from a rough model of a core."""
        if self._engine is None or not self._stages.has(template):
            self._enter(template, None, 1.0, _whole_cost(_GUESSED_NS))
            return
        self._native.add(named(template.key))
        extents = extents_of(template)
        binding = self._engine.binding(template, extents)
        blocks = max(1, round(binding.instance_ns / self._preempt_ns))
        split = self._split(template, extents, [round(ns) for ns in binding.cost_ns], blocks > 1)
        each = tuple(LAUNCH_NS + b.cost_ns for b in split.blocks) or (LAUNCH_NS,)
        many = tuple(LAUNCH_NS + 8 * b.cost_ns for b in split.blocks) or (LAUNCH_NS,)
        cost = self._cost(template, extents, {1: each, 8: many}, 8)
        self._enter(template, split, binding.instance_ns, cost)

    def _enter(
        self, template: Template, split: Split | None, base_ns: float, cost: TemplateCost
    ) -> None:
        self._new.setdefault(named(template.key), cost)
        self._known.setdefault(template.key, _Known(split, base_ns))

    def _measured(self, owners: Sequence[tuple[Target, Choice]], seconds: float) -> TemplateCost:
        template = owners[0][1].template
        if self._engine is None or not self._stages.has(template):
            self._known[template.key] = _Known(None, 1.0)
            return _whole_cost(_GUESSED_NS)
        self._native.add(named(template.key))
        try:
            return self._timed(self._engine, template, owners, seconds)
        except FusecError:  # made-up inputs need not be what a model takes
            self._look_at(template)
            return self._new.pop(named(template.key))

    def _timed(
        self,
        engine: Engine,
        template: Template,
        owners: Sequence[tuple[Target, Choice]],
        seconds: float,
    ) -> TemplateCost:
        extents = extents_of(template)
        binding = engine.binding(template, extents)
        n = len(binding.code.stages)
        guessed = [round(ns) for ns in binding.cost_ns]
        whole = Split(blocks=(Block(0, n, sum(guessed)),) if n else ())
        run = Runs(engine, self._team, owners, extents, before=self._before)
        kind = _kind_of(template, whole, binding, 1.0)
        (solo,) = run.times(kind, 1, seconds / 8)
        split = whole
        if solo > self._preempt_ns:
            split = self._split(template, extents, run.stages(guessed, solo), True)
        kind = replace(kind, split=split)
        fixed, _ = fit_fixed(self._lengths(engine, owners, binding, solo, seconds / 8))
        self._known[template.key] = _Known(split, binding.instance_ns, fixed / 100)
        table: dict[int, tuple[int, ...]] = {}
        best = 1
        for rows in _ROWS:
            if rows > self._max_batch:
                break
            expected = sum(table[best]) * rows // best if table else solo
            if table and expected > _LONGEST_BATCH * max(sum(table[1]), self._preempt_ns):
                break
            table[rows] = run.times(kind, rows, seconds / 6)
            best = rows
        return self._cost(template, extents, table, best)

    def _lengths(
        self,
        engine: Engine,
        owners: Sequence[tuple[Target, Choice]],
        binding: Binding,
        solo_ns: int,
        seconds: float,
    ) -> list[tuple[float, float]]:
        """Give work and time at other extents, in those at the measured ones."""
        template = owners[0][1].template
        points: list[tuple[float, float]] = []
        for size in LENGTHS if template.symbols else ():
            extents = extents_near(template, size)
            try:
                own = engine.binding(template, extents)
                work = own.instance_ns / binding.instance_ns
                if work == 1 or work > LONGEST_WORK or work in dict(points):
                    continue
                whole = Split(blocks=(Block(0, len(own.code.stages), 0),))
                run = Runs(engine, self._team, owners, extents, before=self._before)
                (took,) = run.times(_kind_of(template, whole, own, work), 1, seconds / len(LENGTHS))
            except FusecError:  # made-up inputs need not fit every length
                continue
            points.append((work, took / solo_ns))
        return points

    def _together(
        self,
        owners: Sequence[Sequence[tuple[Target, Choice]]],
        costs: Mapping[str, TemplateCost],
    ) -> int:
        """Measure a block of two templates in one step, in percent of one after the other.

        Those in the middle by cost of the templates whose runs are one block.
        """
        kinds = []
        for own in owners:
            template = own[0][1].template
            cost = costs[named(template.key)]
            if named(template.key) in self._native and cost.n_blocks == 1:
                kinds.append((cost.solo_ns, named(template.key), own))
        kinds.sort(key=lambda kind: kind[:2])
        middle = max(0, len(kinds) // 2 - 1)
        pair = kinds[middle : middle + 2]
        if len(pair) < 2 or self._engine is None:
            return 100
        runs = [
            Runs(self._engine, self._team, own, extents_of(own[0][1].template)) for *_, own in pair
        ]
        try:
            kinds_of = [self._kind(run.template, run.extents) for run in runs]
            took = runs[0].with_other(runs[1], kinds_of)
        except FusecError:
            return 100
        return max(1, min(100, 100 * took // sum(ns for ns, *_ in pair)))

    def _split(
        self,
        template: Template,
        extents: Mapping[str, int],
        stage_ns: Sequence[int],
        cut: bool,
    ) -> Split:
        """Cut stages into blocks of what is wanted."""
        if not stage_ns:
            return Split(blocks=())
        if not cut:
            return Split(blocks=(Block(0, len(stage_ns), sum(stage_ns)),))
        assert self._engine is not None
        lowered = self._stages.of(template)
        between = cut_costs(live_bytes(lowered, extents), bytes_per_ns=_READ_BYTES_PER_NS)
        inside = cut_costs(
            live_inside(lowered, extents),
            bytes_per_ns=_READ_BYTES_PER_NS,
            forbidden=[i for i, stage in enumerate(lowered.stages) if stage.extern is not None],
        )
        parts = self._engine.parts(template, extents)
        made = parted(stage_ns, between, inside, max(1, self._preempt_ns // 8), most=parts)
        split = split_for_latency(made.part_ns, made.cut_ns, self._preempt_ns)
        return in_stages(split, made.parts)

    def _cost(
        self,
        template: Template,
        extents: Mapping[str, int],
        table: Mapping[int, tuple[int, ...]],
        max_batch: int,
    ) -> TemplateCost:
        assert self._engine is not None
        binding = self._engine.binding(template, extents)
        lowered = self._stages.of(template)
        live = max(live_bytes(lowered, extents), default=0)
        ends = [*lowered.inputs, *lowered.outputs]
        return TemplateCost(
            blocks_ns=table,
            cut_ns=LAUNCH_NS + round(live / _READ_BYTES_PER_NS),
            max_batch=max_batch,
            grain=grain_of(template),
            bytes_per_instance=binding.arena_bytes + int(binding.sizes[ends].sum()),
        )


def _kind_of(
    template: Template, split: Split | None, binding: Binding | None, units: float
) -> Kind:
    plain = not any(spec.dtype in NO_NUMPY for spec in template.outputs)
    return Kind(
        name=named(template.key),
        template=template,
        binding=binding,
        split=split,
        units=units,
        plain=plain,
    )


def _nothing() -> None:
    """Leave caches as they are."""


def _whole_cost(ns: int) -> TemplateCost:
    return TemplateCost(blocks_ns={1: (ns,), 8: (8 * ns,)}, max_batch=8)
