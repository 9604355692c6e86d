"""Building tile programs: every item of every instance once, in an order that can run."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from fusec_testing.tiles import Step, chain
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.runtime.tile.bind import Binding
from fusec.runtime.tile.build import Program, build
from fusec.runtime.tile.layout import Part, arrange, groups_of, joins_of
from fusec.runtime.tile.tables import Tables

STEPS = st.builds(
    Step,
    rows=st.integers(0, 9),
    columns=st.integers(1, 7),
    grain=st.sampled_from([1, 2, 4]),
    grain2=st.sampled_from([1, 3]),
    flat=st.booleans(),
    weight=st.sampled_from([None, 0, 1]),
    flops=st.sampled_from([100, 1_000_000, 20_000_000]),
    sequential=st.booleans(),
)


@st.composite
def _parts(draw: st.DrawFn) -> list[Part]:
    bindings = [
        Binding(chain(draw(st.lists(STEPS, min_size=1, max_size=4)), [1000, 200_000]), {})
        for _ in range(draw(st.integers(1, 2)))
    ]
    return [
        Part(
            draw(st.sampled_from(bindings)),
            np.array([draw(st.sampled_from([64, 128, 192])) for _ in range(2)], dtype=np.int64),
            draw(st.integers(0, 5)),
        )
        for _ in range(draw(st.integers(1, 8)))
    ]


@given(_parts(), st.sampled_from([1, 2, 3]))
@settings(deadline=None)
def test_groups_cover_each_class_once(parts: list[Part], workers: int) -> None:
    arranged = arrange(parts)
    assert sorted(p for own in arranged.parts for p in own) == [
        i for i, p in enumerate(parts) if p.count
    ]
    for cls, weights in zip(arranged.classes, arranged.weights, strict=True):
        spans = [(g.start, g.stop) for g in groups_of(cls, workers)]
        assert [i for a, b in spans for i in range(a, b)] == list(range(cls.instances))
        for group in groups_of(cls, workers):
            if not group.mixed:
                first, last = cls.part_of(group.start), cls.part_of(group.stop - 1)
                assert (weights[first : last + 1] == weights[first]).all()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_large_groups_are_even_and_as_many_for_each_worker(workers: int) -> None:
    """64 rows of one model, of which 12 fit into an arena."""
    binding = Binding(chain([Step(rows=4, flops=20_000_000, weight=0)], [1 << 20]), {})
    binding.arena_bytes = (1 << 21) // 12
    (cls,) = arrange([Part(binding, np.array([64]), 64)]).classes
    sizes = [g.stop - g.start for g in groups_of(cls, workers)]
    assert sum(sizes) == 64
    assert max(sizes) <= 12
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == {1: 6, 2: 6, 3: 6}[workers]
    assert len(groups_of(arrange([Part(binding, np.array([64]), 13)]).classes[0], 3)) == 3


def _items(program: Program) -> Counter[tuple[int, int, int, int, int]]:
    """Count (class, stage, instance, item, column) over all tasks."""
    seen: Counter[tuple[int, int, int, int, int]] = Counter()
    tasks = program.table.tasks
    for unit in program.table.units:
        for task in tasks[unit["task"] : unit["task"] + unit["tasks"]]:
            number = int(np.searchsorted(program.row_starts, task["bufs"] // 8, side="right")) - 1
            binding = program.classes[number].binding
            stage = int(task["stage"]) - program.stage_starts[number]
            items = binding.items[stage]
            for item in range(task["lo"], task["hi"]):
                instance = int(task["instance"]) + item // items
                for column in range(task["lo2"], task["hi2"]):
                    seen[number, stage, instance, item % items, column] += 1
    return seen


@given(_parts(), st.sampled_from([1, 2, 3]))
@settings(deadline=None)
def test_every_item_is_computed_once(parts: list[Part], workers: int) -> None:
    program = build(arrange(parts).classes, workers, lambda name: 1)
    wanted = {
        (number, stage, instance, item, column)
        for number, cls in enumerate(program.classes)
        for stage in range(len(cls.binding.code.stages))
        for instance in range(cls.instances)
        for item in range(cls.binding.items[stage])
        for column in range(cls.binding.items2[stage])
    }
    assert _items(program) == dict.fromkeys(wanted, 1)


@given(_parts(), st.sampled_from([1, 2]))
@settings(deadline=None)
def test_steps_in_time_run_in_order_in_one_unit(parts: list[Part], workers: int) -> None:
    program = build(arrange(parts).classes, workers, lambda name: 1)
    for unit in program.table.units:
        at: dict[tuple[int, ...], int] = {}
        for task in program.table.tasks[unit["task"] : unit["task"] + unit["tasks"]]:
            number = int(np.searchsorted(program.row_starts, task["bufs"] // 8, side="right")) - 1
            stage = int(task["stage"]) - program.stage_starts[number]
            if program.classes[number].binding.code.stages[stage].sequential:
                key = (number, stage, *(int(task[n]) for n in ("instance", "lo", "hi")))
                assert task["lo2"] == at.get(key, 0)
                at[key] = int(task["hi2"])
        for (number, stage, *_), reached in at.items():
            assert reached == program.classes[number].binding.items2[stage]


@given(_parts(), st.sampled_from([1, 2]))
@settings(deadline=None)
def test_tasks_that_go_on_share_their_weights(parts: list[Part], workers: int) -> None:
    arranged = arrange(parts)
    program = build(arranged.classes, workers, lambda name: 1)
    for task in program.table.tasks:
        number = int(np.searchsorted(program.row_starts, task["bufs"] // 8, side="right")) - 1
        cls = program.classes[number]
        stage = int(task["stage"]) - program.stage_starts[number]
        last = int(task["instance"]) + (int(task["hi"]) - 1) // cls.binding.items[stage]
        columns = [slot - 1 for slot in cls.binding.code.weights[stage]]
        weights = arranged.weights[number]
        own = weights[cls.part_of(int(task["instance"])) : cls.part_of(last) + 1][:, columns]
        assert (own == own[0]).all()


@given(_parts(), st.sampled_from([1, 2]))
@settings(deadline=None)
def test_waits_are_for_whole_stages_of_earlier_units(parts: list[Part], workers: int) -> None:
    table = build(arrange(parts).classes, workers, lambda name: 1).table
    signals = table.signals()
    done: Counter[int] = Counter()
    for unit in table.units:
        own = table.tasks[unit["task"] : unit["task"] + unit["tasks"]]
        for task in own:
            for wait in table.waits[task["wait"] : task["wait"] + task["waits"]]:
                assert wait["threshold"] == signals[wait["counter"]] == done[int(wait["counter"])]
        done.update(int(s) for s in own["signal"] if s >= 0)


def test_small_models_stay_on_one_worker_and_a_large_one_is_shared() -> None:
    small = Binding(chain([Step(flops=100_000)] * 3), {})
    large = Binding(chain([Step(rows=64, flops=60_000_000)] * 3), {})
    none = np.zeros(0, dtype=np.int64)
    program = build(
        arrange([Part(small, none, 1)] * 3 + [Part(large, none, 1)]).classes, 2, lambda name: 1
    )
    assert [g.cls.binding for g, _ in program.cohorts] == [large]
    assert {g.cls.binding for g in program.chains} == {small}


@given(_parts(), st.sampled_from([1, 2]), st.integers(1, 3))
@settings(deadline=None)
def test_copies_of_a_buffer_follow_one_another(
    parts: list[Part], workers: int, region: int
) -> None:
    program = build(arrange(parts).classes, workers, lambda name: 1)
    tables = Tables(program)
    for group in [*program.chains, *(g for g, _ in program.cohorts)]:
        block = tables.block(group.cls)[:, group.start : group.stop]
        sizes = group.cls.binding.sizes
        for slot in group.cls.binding.arena_slots:
            steps = np.diff(block[:, :, slot], axis=1)
            assert (steps == sizes[slot]).all()
            assert (block[:, :, slot] + sizes[slot] <= tables.n_bytes).all()


@given(_parts(), st.sampled_from([1, 2]))
@settings(deadline=None)
def test_workers_and_cohorts_have_memory_of_their_own(parts: list[Part], workers: int) -> None:
    program = build(arrange(parts).classes, workers, lambda name: 1)
    tables = Tables(program)
    spans: list[tuple[int, int, object]] = []
    for group in program.chains:
        for worker in range(workers):
            spans += _spans(tables, group, worker, ("worker", worker))
    for group, _ in program.cohorts:
        spans += _spans(tables, group, 0, group)
    for worker in range(workers):
        at = tables.scratch_start + worker * tables.scratch_stride
        spans.append((at, at + tables.scratch_stride, ("scratch", worker)))
    for a in spans:
        for b in spans:
            if a[2] != b[2]:
                assert a[1] <= b[0] or b[1] <= a[0]


def _spans(
    tables: Tables, group: object, worker: int, owner: object
) -> list[tuple[int, int, object]]:
    block = tables.block(group.cls)[worker, group.start : group.stop]  # type: ignore[attr-defined]
    binding = group.cls.binding  # type: ignore[attr-defined]
    return [
        (int(row[slot]), int(row[slot] + binding.sizes[slot]), owner)
        for row in block
        for slot in binding.arena_slots
        if binding.sizes[slot]
    ]


@given(_parts(), st.sampled_from([1, 2, 3]), st.randoms())
@settings(deadline=None)
def test_a_program_depends_on_the_shape_of_a_list_only(
    parts: list[Part], workers: int, random: Random
) -> None:
    """Other members with other weights, in another order, but as alike: the same program."""
    moved = [replace(p, weights=p.weights + 4096) for p in parts]
    random.shuffle(moved)
    one, other = arrange(parts), arrange(moved)
    if one.shape != other.shape:
        return
    a, b = (build(x.classes, workers, lambda name: 1) for x in (one, other))
    assert a.table.tasks.tobytes() == b.table.tasks.tobytes()
    assert a.table.units.tobytes() == b.table.units.tobytes()


def test_lists_of_one_shape() -> None:
    binding = Binding(chain([Step(rows=4)]), {})
    weights = [np.array([64 * n, 128 * n], dtype=np.int64) for n in range(1, 5)]
    shapes = {arrange([Part(binding, w, 2) for w in weights[i : i + 2]]).shape for i in range(3)}
    assert len(shapes) == 1
    assert arrange([Part(binding, weights[0], 2)] * 2).shape not in shapes
    assert arrange([Part(binding, w, n) for n, w in enumerate(weights[:2], 1)]).shape not in shapes


@given(_parts(), st.sampled_from([1, 2, 3]))
@settings(deadline=None)
def test_joins_are_the_requests_of_groups_that_span_several(
    parts: list[Part], workers: int
) -> None:
    for cls in arrange(parts).classes:
        groups = groups_of(cls, workers)
        joins = joins_of(cls, groups)
        assert all(a < b for a, b in joins)
        assert all(end <= start for (_, end), (start, _) in pairwise(joins))
        for group in groups:
            first, last = cls.part_of(group.start), cls.part_of(group.stop - 1)
            within = [(a, b) for a, b in joins if a <= first and last < b]
            assert len(within) == 1 or first == last
